"""How a tensor's elements lie in its storage: strides, followed through view ops without looking at any data.

Eager and traced tensors answer alike, so that `reshape` shares memory in a compiled function exactly where it does
in eager mode.
"""
from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from flambeau.ir import ops
from flambeau.ir.op import Op

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
        found = strides_through(op, shape, strides)
        assert found is not None, f"{op.name} in a chain of views does not share memory"
        strides = found
        shape = _shape_after(op, shape)
    return strides


def row_major(shape: Sequence[int]) -> Strides:
    """Strides of a tensor without gaps, last dim fastest."""
    strides, step = [], 1
    for size in reversed(shape):
        strides.append(step)
        step *= max(size, 1)
    return tuple(reversed(strides))


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


def strides_through(op: Op, shape: Sequence[int], strides: Strides) -> Strides | None:
    """The strides of `op` applied to a view of that shape; None when it can't share memory (some reshapes)."""
    match op:
        case ops.Permute(dims=dims):
            return tuple([strides[d] for d in dims])
        case ops.Slice(strides=steps):
            return tuple([s * step for s, step in zip(strides, steps, strict=True)])
        case ops.Broadcast(shape=wide, dims=dims):
            spread = [0] * len(wide)
            for size, stride, d in zip(shape, strides, dims, strict=True):
                spread[d] = stride if size == wide[d] else 0
            return tuple(spread)
        case ops.Diagonal():
            return (*strides[:-2], strides[-2] + strides[-1])
        case ops.Reshape(shape=new):
            return regrouped(shape, strides, new)  # type: ignore[arg-type]
    return None


def regrouped(shape: Sequence[int], strides: Sequence[int], new: Sequence[int]) -> Strides | None:
    """Strides that give the same elements in row-major order under the shape `new`, or None if there are none.

    Dims merge into runs that are evenly spaced; each run must be cut by whole new dims."""
    if 0 in shape or 0 in new:
        return row_major(new)
    found: list[int] = []
    position = len(new) - 1
    kept = [d for d in range(len(shape)) if shape[d] != 1]
    while kept:
        d = kept.pop()
        step, run = strides[d], shape[d]
        while kept and strides[kept[-1]] == strides[d] * shape[d]:
            d = kept.pop()
            run *= shape[d]
        filled = 1
        while position >= 0 and (filled < run or new[position] == 1):
            found.append(step * filled)
            filled *= new[position]
            position -= 1
        if filled != run:
            return None
    found += [1] * (position + 1)           # what is left has size 1
    return tuple(reversed(found))


def _shape_after(op: Op, shape: Sequence[int]) -> tuple[int, ...]:
    match op:
        case ops.Permute(dims=dims):
            return tuple([shape[d] for d in dims])
        case ops.Slice(starts=starts, limits=limits, strides=steps):
            return tuple([-(-(int(stop) - start) // step)  # type: ignore[arg-type]
                          for start, stop, step in zip(starts, limits, steps, strict=True)])
        case ops.Diagonal():
            return tuple(shape[:-1])
        case ops.Broadcast(shape=new) | ops.Reshape(shape=new):
            return tuple(new)  # type: ignore[arg-type]
    raise AssertionError(f"{op.name} is no view op")
