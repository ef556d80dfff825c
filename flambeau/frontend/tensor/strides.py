"""How a tensor's elements lie in its storage: strides, followed through view ops without looking at any data.

Eager and traced tensors answer alike, so that `reshape` shares memory in a compiled function exactly where it does
in eager mode.
"""
from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from flambeau.ir.ops.views import row_major

if TYPE_CHECKING:
    from flambeau.frontend.tensor.tensor import Tensor

Strides = tuple[int, ...]


def strides_of(t: Tensor) -> Strides:
    """The step between neighbours along each dim, in elements."""
    base = t if t._base is None else t._base
    storage = base._storage
    if storage.trace is not None:
        strides = storage.trace.strides_in(storage) or row_major(base._type.static_shape)
    else:
        itemsize = base._type.dtype.itemsize
        array = base._array if base._array is not None else storage.array
        strides = tuple([s // itemsize for s in array.strides])
    shape = base._type.static_shape
    for op in t._chain:
        found = op.strides_through(shape, strides)
        assert found is not None, f"{op.name} in a chain of views does not share memory"
        strides = found
        shape = op.shape_after(shape)
    return strides


def is_row_major(shape: Sequence[int], strides: Sequence[int]) -> bool:
    """True when the elements follow each other in row-major order without gaps."""
    if 0 in shape:
        return True
    step = 1
    for size, stride in zip(reversed(shape), reversed(strides), strict=True):
        if size != 1 and stride != step:
            return False
        step *= size
    return True
