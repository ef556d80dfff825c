"""How a tensor's elements lie in its storage: strides, followed through view ops without looking at any data.

Eager and traced tensors answer alike, so that `reshape` shares memory in a compiled function exactly where it does
in eager mode.
"""
from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from flambeau.ir.answers import known
from flambeau.ir.dims import hint, same_shape
from flambeau.ir.ops import View
from flambeau.ir.ops.views import row_major
from flambeau.ir.types import TensorType

if TYPE_CHECKING:
    from flambeau.frontend.tensor.tensor import Tensor

_ALIGNED = 16                               # bytes that a kernel's widest load takes at once
Strides = tuple[int, ...]


def strides_of(t: Tensor) -> Strides:
    """The step between neighbours along each dim, in elements."""
    base = t if t._base is None else t._base
    storage = base._storage
    if storage.is_elsewhere:
        return place_in(storage.base, t._chain)[1]              # type: ignore[attr-defined]
    if storage.trace is not None:
        strides = storage.trace.strides_in(storage) or row_major(base._type.static_shape)
    else:
        itemsize = base._type.dtype.itemsize
        array = base._array if base._array is not None else storage.array
        # what NumPy says of no elements follows how they were made
        strides = tuple([s // itemsize for s in array.strides]) if array.size else row_major(array.shape)
    shape = base._type.static_shape
    for op in t._chain:
        found = op.strides_through(shape, strides)
        assert found is not None, f"{op.name} in a chain of views does not share memory"
        strides = found
        shape = op.shape_after(shape)
    return strides


def as_traced(sizes: Sequence[int]) -> tuple[int, ...]:
    """What sizes, or strides, are in the traced call. No condition comes of it."""
    return tuple([hint(size) for size in sizes])


def is_row_major(shape: Sequence[int], strides: Sequence[int]) -> bool:
    """True when the elements follow each other in row-major order without gaps."""
    if known() is not None and same_shape(tuple(strides), row_major(shape)):
        return True
    if 0 in shape:
        return True
    step = 1
    for size, stride in zip(reversed(shape), reversed(strides), strict=True):
        if size != 1 and stride != step:
            return False
        step *= size
    return True


@functools.lru_cache(maxsize=4096)
def place_in(base: TensorType, chain: tuple[View, ...]) -> tuple[int, Strides]:
    """Where a view lies in a row-major base: how many elements from its start, and its strides. Found by following the
    chain over memory that is never looked at."""
    itemsize, shape = base.dtype.itemsize, base.static_shape
    origin = array = np.lib.stride_tricks.as_strided(np.empty(1, base.dtype.storage), shape,
                                                     [step * itemsize for step in row_major(shape)])
    for op in chain:
        array = op.evaluate(array)              # type: ignore[assignment]
    start, first = (a.__array_interface__["data"][0] for a in (origin, array))
    return (first - start) // itemsize, tuple([step // itemsize for step in array.strides])


def aligned_address(t: Tensor) -> int | None:
    """Of a tensor of a device that lies row-major in one piece, from where the widest loads of kernels may start; None for
    one that lies otherwise."""
    place = plain_place(t)
    if place is None:
        return None
    address = t._storage.pointer + place * t._type.dtype.itemsize
    return address if address % _ALIGNED == 0 else None


def plain_place(t: Tensor) -> int | None:
    """How many elements from the start of its storage a tensor of a device lies row-major in one piece; None where it lies
    otherwise."""
    if t._base is None or 0 in t._type.shape:
        return 0
    offset, strides = place_in(t._storage.base, t._chain)       # type: ignore[attr-defined]
    return offset if is_row_major(t._type.static_shape, strides) else None
