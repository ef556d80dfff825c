"""Where values lie: searched in ordered boundaries, looked up among others, positions that are true."""
from __future__ import annotations

from typing import Any

import numpy as np

from flambeau.errors import TraceError
from flambeau.frontend.active import active
from flambeau.frontend.functions.calls import public
from flambeau.frontend.functions.coerce import (
    TensorLike,
    as_bool,
    cast,
    check_operands,
    one_tensor,
    own_dim,
    reshaped,
    result_type,
    spread,
    tensor_of,
    user_line,
)
from flambeau.frontend.functions.creation import holding
from flambeau.frontend.functions.gathering import gather, lifted
from flambeau.frontend.functions.indexing import nonzero_positions
from flambeau.frontend.functions.joining import stack
from flambeau.frontend.functions.marks import method
from flambeau.frontend.functions.views import movedim, reshape, sliced
from flambeau.frontend.tape.dispatch import dispatch
from flambeau.frontend.tape.moves import place_like, placed
from flambeau.frontend.tensor.promotion import promote_types
from flambeau.frontend.tensor.tensor import Tensor
from flambeau.ir import dtypes as dt
from flambeau.ir import ops
from flambeau.ir.dims import as_size

# -- in order ---------------------------------------------------------------------------------------------------------


def searchsorted(sorted_sequence: Tensor, input: TensorLike, *, out_int32: bool = False, right: bool = False,
                 side: str | None = None, sorter: Tensor | None = None) -> Tensor:
    """Where each value of input would go into the ordered rows of sorted_sequence: before equal ones, or after them
    (right, or side="right"). i64, or i32 for out_int32.

    sorted_sequence: a vector, or rows [..., n] for an input [..., m]. sorter: i64 positions that put it in order.
    Values of another dtype are compared in the common one. Raises RuntimeError for shapes that don't fit."""
    rows = one_tensor("searchsorted", sorted_sequence)
    if side not in (None, "left", "right"):
        raise RuntimeError(f"searchsorted: side must be 'left' or 'right', got {side!r}")
    if side == "left" and right:
        raise RuntimeError("searchsorted: side 'left' and right=True contradict each other")
    values = _values("searchsorted", rows, input)
    if not rows.ndim:
        raise RuntimeError("searchsorted: sorted_sequence needs a dim, got a 0-d tensor")
    if rows.ndim > 1 and rows._type.static_shape[:-1] != values._type.static_shape[:-1]:
        raise RuntimeError(f"searchsorted: {rows._type} and {values._type} may differ in the last dim only, unless the "
                           "first is a vector")
    if sorter is not None:
        if sorter.dtype is not dt.i64 or sorter._type.static_shape != rows._type.static_shape:
            raise RuntimeError(f"searchsorted: sorter must be i64 of the shape of {rows._type}, got {sorter._type}")
        rows = gather(rows, -1, sorter)
    found = _places(rows, values, right or side == "right")
    return cast(found, dt.i32) if out_int32 else found


def bucketize(input: TensorLike, boundaries: Tensor, *, out_int32: bool = False, right: bool = False) -> Tensor:
    """Which of the buckets between ordered boundaries (a vector) each value falls into: boundaries[i-1] < x <=
    boundaries[i], or boundaries[i-1] <= x < boundaries[i] if right."""
    edges = one_tensor("bucketize", boundaries)
    if edges.ndim != 1:
        raise RuntimeError(f"bucketize: boundaries must be a vector, got {edges._type}")
    found = _places(edges, _values("bucketize", edges, input), right)
    return cast(found, dt.i32) if out_int32 else found


def _values(name: str, rows: Tensor, input: TensorLike) -> Tensor:
    check_operands(name, (input,))
    if not isinstance(input, Tensor):
        return tensor_of(input, result_type(rows, input), name)
    return input


def _places(rows: Tensor, values: Tensor, right: bool) -> Tensor:
    """By halving: the count of elements before each value grows by the powers of 2 that fit, the greatest first."""
    size = rows._type.static_shape[-1]
    rows, values = (dispatch(ops.stop_gradient, t) for t in (rows, values))
    if rows.dtype is not values.dtype:
        dtype = promote_types(rows.dtype, values.dtype)
        rows, values = cast(rows, dtype), cast(values, dtype)
    if rows.dtype is dt.bool_:
        rows, values = cast(rows, dt.u8), cast(values, dt.u8)
    shape, take = values._type.static_shape, ops.Take(0) if rows.ndim == 1 else ops.TakeAlong(rows.ndim - 1)
    count = spread(placed(tensor_of(0, dt.i64), place_like(rows)), shape, ())
    step = 1 << max(size.bit_length() - 1, 0)
    while step and size:
        reached = dispatch(ops.add, count, tensor_of(step, dt.i64))
        fits = dispatch(ops.le, reached, tensor_of(size, dt.i64))
        last = dispatch(ops.sub, dispatch(ops.minimum, reached, tensor_of(size, dt.i64)), tensor_of(1, dt.i64))
        there = dispatch(take, rows, last)
        beyond = dispatch(ops.logical_not, dispatch(ops.gt if right else ops.ge, there, values))    # NaN goes last
        count = dispatch(ops.where, dispatch(ops.logical_and, fits, beyond), reached, count)
        step >>= 1
    return dispatch(ops.Reshape(shape), count)


def isin(elements: TensorLike, test_elements: TensorLike, *, assume_unique: bool = False, invert: bool = False) -> Tensor:
    """Whether each element is among test_elements (is not, if invert). A NaN equals nothing."""
    check_operands("isin", (elements, test_elements))
    if not isinstance(elements, Tensor) and not isinstance(test_elements, Tensor):
        raise TypeError("isin: elements or test_elements must be a Tensor, got two numbers")
    dtype = result_type(elements, test_elements)
    x, among = ((cast(v, dtype) if isinstance(v, Tensor) else tensor_of(v, dtype, "isin"))
                for v in (elements, test_elements))
    if dtype is dt.bool_:
        x, among = cast(x, dt.u8), cast(among, dt.u8)
    count = among.numel()
    if not count:
        return spread_bool(x, invert)
    x = dispatch(ops.stop_gradient, x)
    ordered, _ = dispatch(ops.Sort(0), reshaped(dispatch(ops.stop_gradient, among), (count,)))
    place = dispatch(ops.minimum, _places(ordered, x, False), tensor_of(count - 1, dt.i64))
    there = dispatch(ops.Take(0), ordered, place)
    return dispatch(ops.ne if invert else ops.eq, there, x)


def spread_bool(like: Tensor, value: bool) -> Tensor:
    """`value` in the shape of a tensor."""
    return dispatch(ops.Broadcast(like._type.static_shape, ()), placed(tensor_of(value, dt.bool_), place_like(like)))


# -- positions --------------------------------------------------------------------------------------------------------


@method
def nonzero(input: Tensor, *, as_tuple: bool = False, size: int | None = None, fill_value: int = -1) -> Any:
    """Positions of the elements that differ from 0: [count, dims], or one tensor for each dim.

    size: those of the first so many, then fill_value. Without it a compiled function raises TraceError: how many there are
    depends on data."""
    x = one_tensor("nonzero", input)
    if size is not None:
        first = nonzero_static(x, size=size, fill_value=fill_value)
        return tuple([reshaped(sliced(first, 1, n, n + 1), (size,)) for n in range(x.ndim)]) if as_tuple else first
    found = nonzero_positions(lifted(x) if as_tuple else x, "nonzero()")
    if as_tuple:
        return found
    return holding(np.stack([f._data() for f in found], 1) if found else
                   np.zeros((int(bool(input._data())), 0), np.int64), dt.i64, x)


@method
def argwhere(input: Tensor, *, size: int | None = None, fill_value: int = -1) -> Tensor:
    """[count, dims]: positions of the elements that differ from 0; size as in nonzero()."""
    found: Tensor = nonzero(input, size=size, fill_value=fill_value)
    return found


@method
def nonzero_static(input: Tensor, *, size: int, fill_value: int = -1) -> Tensor:
    """[size, dims]: positions of the first `size` elements that differ from 0, then rows of fill_value. The size is
    known, so it can be compiled."""
    x, size = one_tensor("nonzero_static", input), as_size(size)
    if size < 0:
        raise RuntimeError(f"nonzero_static: size must not be negative, got {size}")
    shape, total = x._type.static_shape, x.numel()
    if not x.ndim:
        return holding(np.empty((size, 0), np.int64), dt.i64, x)
    is_zero = dispatch(ops.logical_not, reshaped(as_bool(x), (total,)))
    kept = min(size, total)
    zero, order = dispatch(ops.Sort(0, False, kept), cast(is_zero, dt.u8))
    columns, rest = [], order
    for length in reversed(shape):
        by = tensor_of(max(length, 1), dt.i64)
        columns.append(dispatch(ops.remainder, rest, by))
        rest = dispatch(ops.floor_divide, rest, by)
    found = stack(columns[::-1], 1)
    missing = spread(as_bool(zero), (kept, x.ndim), (0,))
    found = dispatch(ops.where, missing, tensor_of(fill_value, dt.i64, "nonzero_static"), found)
    if kept == size:
        return found
    filler = spread(tensor_of(fill_value, dt.i64, "nonzero_static"), (size - kept, x.ndim), ())
    return dispatch(ops.Concat(0), found, filler)


@method
def unique_consecutive(input: Tensor, return_inverse: bool = False, return_counts: bool = False,
                       dim: int | None = None) -> Any:
    """The elements without those that equal the one before (slices along dim); with the place of each in the result
    (return_inverse), and how often each is repeated (return_counts).

    Raises TraceError in a compiled function: how many there are depends on data."""
    x = one_tensor("unique_consecutive", input)
    if active.hides(x):
        raise TraceError("unique_consecutive() gives a tensor whose size depends on data, which "
                         f"{active.hider} can't have", where=user_line(), hint="do it outside the function")
    if dim is None:
        rows, shape, along = reshaped(x, (x.numel(), 1)), x._type.static_shape, 0
    else:
        along = own_dim(x, dim, "unique_consecutive")
        rows = movedim(x, along, 0)
        size = rows._type.static_shape[0]
        shape, rows = (size,), reshape(rows, (size, max(x.numel() // max(size, 1), 0)))
    size, data = rows._type.static_shape[0], dt.to_compute(rows._data(), x.dtype)
    is_new = np.ones(size, np.bool_)
    is_new[1:] = (data[1:] != data[:-1]).any(1)
    starts = np.flatnonzero(is_new)
    source = x if dim is not None else reshaped(x, (x.numel(),))
    found = [dispatch(ops.Take(along), source, holding(starts, dt.i64))]
    if return_inverse:
        found.append(holding((np.cumsum(is_new) - 1).reshape(shape), dt.i64, x))
    if return_counts:
        found.append(holding(np.diff(starts, append=size), dt.i64, x))
    return tuple(found) if len(found) > 1 else found[0]


__all__ = ["argwhere", "bucketize", "isin", "nonzero", "nonzero_static", "searchsorted", "unique_consecutive"]
public(globals(), __all__)
