"""Rows of a table by index, and sums, means or maxima of bags of them."""
from __future__ import annotations

from typing import Any, Final

from flambeau.errors import ShapeError
from flambeau.frontend.active import active
from flambeau.frontend.functions.calls import public
from flambeau.frontend.functions.coerce import (
    cast,
    full_of,
    one_tensor,
    reshaped,
    spread,
    tensor_of,
    user_line,
)
from flambeau.frontend.functions.indexing import put_rows
from flambeau.frontend.functions.reductions import norm
from flambeau.frontend.functions.views import sliced
from flambeau.frontend.tape.autograd import set_grad_enabled
from flambeau.frontend.tape.custom import Function
from flambeau.frontend.tape.dispatch import dispatch
from flambeau.frontend.tape.writes import assign_
from flambeau.frontend.tensor.tensor import Tensor
from flambeau.ir import dtypes as dt
from flambeau.ir import ops


def embedding(input: Tensor, weight: Tensor, padding_idx: int | None = None, max_norm: float | None = None,
              norm_type: float = 2.0, scale_grad_by_freq: bool = False, sparse: bool = False) -> Tensor:
    """weight's rows at integer indices: input.shape + [dim]. Rows at padding_idx get no gradient.

    max_norm: rows that are read are first shortened in place to that norm_type-norm. scale_grad_by_freq: a row's
    gradient is divided by how often input names it. sparse: taken, and gradients are dense all the same.
    Raises IndexError for an index out of range, RuntimeError for indices that are no integers."""
    if not one_tensor("embedding", input)._type.dtype.is_integer:
        raise RuntimeError(f"embedding: indices must be integers, got {input._type}; pass input.long()")
    if one_tensor("embedding", weight).ndim != 2:
        raise ShapeError(f"embedding: weight must be [num, dim], got {weight._type}", where=user_line())
    padding = None if padding_idx is None else _row_of("embedding", padding_idx, weight)
    if max_norm is not None:
        embedding_renorm_(weight, input, max_norm, norm_type)
    rows = dispatch(ops.Take(0), weight, input)
    if not active.differentiates(weight, tangents=False):
        return rows
    if scale_grad_by_freq:
        rows = _by_frequency(rows, input, weight)
    if padding is None:
        return rows
    wide = spread(_equal(input, padding), rows._type.static_shape, range(input.ndim))
    return dispatch(ops.where, wide, dispatch(ops.stop_gradient, rows), rows)


def _row_of(name: str, padding_idx: int, weight: Tensor) -> int:
    count = weight._type.static_shape[0]
    if not -count <= padding_idx < count:
        raise ValueError(f"{name}: padding_idx {padding_idx} must be within the {count} rows of weight")
    return padding_idx % count


def _equal(index: Tensor, row: int) -> Tensor:
    return dispatch(ops.eq, index, tensor_of(row, index.dtype))


def embedding_renorm_(weight: Tensor, indices: Tensor, max_norm: float, norm_type: float = 2.0) -> Tensor:
    """Shorten the rows at `indices` to norm max_norm where they are longer, in place and off the tape."""
    with set_grad_enabled(False):
        index = reshaped(indices, (indices.numel(),))
        rows = dispatch(ops.Take(0), weight, index)
        lengths = norm(rows, norm_type, 1, True)
        shorter = dispatch(ops.div, tensor_of(max_norm, rows.dtype),
                           dispatch(ops.add, lengths, tensor_of(1e-7, rows.dtype)))
        is_long = dispatch(ops.gt, lengths, tensor_of(max_norm, rows.dtype))
        factor = dispatch(ops.where, is_long, shorter, tensor_of(1, rows.dtype))
        wide = spread(reshaped(factor, index._type.static_shape), rows._type.static_shape, (0,))
        return assign_(weight, put_rows(weight, 0, index, dispatch(ops.mul, rows, wide)))


def _by_frequency(rows: Tensor, input: Tensor, weight: Tensor) -> Tensor:
    """rows, whose gradients will be divided by how often each is named."""
    index = reshaped(input, (input.numel(),))
    ones = full_of(index._type.static_shape, 1, weight.dtype, like=weight)
    counts = dispatch(ops.ScatterAdd(weight._type.static_shape[0], 0), index, ones)
    return _GradientOver.apply(rows, spread(dispatch(ops.Take(0), counts, input), rows._type.static_shape,
                                            range(input.ndim)))


class _GradientOver(Function):
    """x, whose gradient is divided by `counts`."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, counts: Tensor) -> Tensor:
        return x

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        ctx.save_for_backward(inputs[1])

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return dispatch(ops.div, gradients[0], ctx.saved_tensors[0]), None


# -- bags -------------------------------------------------------------------------------------------------------------

MODES: Final = ("sum", "mean", "max")


def embedding_bag(input: Tensor, weight: Tensor, offsets: Tensor | None = None, max_norm: float | None = None,
                  norm_type: float = 2, scale_grad_by_freq: bool = False, mode: str = "mean", sparse: bool = False,
                  per_sample_weights: Tensor | None = None, include_last_offset: bool = False,
                  padding_idx: int | None = None) -> Tensor:
    """[bags, dim]: weight's rows of each bag of indices folded by `mode` ("sum", "mean" or "max"); an empty bag is 0.

    input: [bags, n], or [n] cut into bags that start at `offsets` (with include_last_offset the last of these is the
    end). per_sample_weights: factors in input's shape, for "sum". Indices equal to padding_idx count for nothing.
    max_norm, scale_grad_by_freq and sparse are embedding's. Raises ValueError for what does not go together."""
    x, table = one_tensor("embedding_bag", input), one_tensor("embedding_bag", weight)
    if mode not in MODES:
        raise ValueError("embedding_bag: mode has to be one of sum, mean or max")
    if per_sample_weights is not None and per_sample_weights._type.shape != x._type.shape:
        raise ValueError(f"embedding_bag: per_sample_weights {per_sample_weights._type} must have the shape of input "
                         f"{x._type}")
    if per_sample_weights is not None and mode != "sum":
        raise NotImplementedError(f"embedding_bag: per_sample_weights go with mode 'sum' only, got {mode!r}")
    if mode == "max" and scale_grad_by_freq:
        raise ValueError("embedding_bag: mode 'max' does not scale gradients by frequency")
    if x.ndim == 2:
        if offsets is not None:
            raise ValueError("embedding_bag: offsets has to be None for input of 2 dims, whose rows are the bags")
        bags, size = x._type.static_shape
        places = dispatch(ops.Iota(bags, dt.i64))
        bag_of = reshaped(spread(places, (bags, size), (0,)), (bags * size,))
        x = reshaped(x, (bags * size,))
        if per_sample_weights is not None:
            per_sample_weights = reshaped(per_sample_weights, (bags * size,))
    elif x.ndim == 1:
        if offsets is None or offsets.ndim != 1:
            raise ValueError(f"embedding_bag: offsets has to be a 1D Tensor for input of 1 dim, got {offsets!r}")
        bag_of, bags = from_offsets(x, offsets, include_last_offset)
    else:
        raise ValueError(f"embedding_bag: input has to be a 1D or 2D Tensor, got {x._type}")
    if not x._type.dtype.is_integer:
        raise RuntimeError(f"embedding_bag: indices must be integers, got {x._type}; pass input.long()")
    if max_norm is not None:
        embedding_renorm_(table, x, max_norm, norm_type)
    return folded(x, table, bag_of, bags, mode, scale_grad_by_freq, per_sample_weights, padding_idx)[0]


def from_offsets(x: Tensor, offsets: Tensor, include_last: bool) -> tuple[Tensor, int]:
    """(the bag of each index, the number of bags): how many bags have started by then. Raises RuntimeError for
    offsets that don't start at 0 or reach beyond the end, where they can be looked at."""
    count, n = offsets._type.static_shape[0], x._type.static_shape[0]
    if include_last and not count:
        raise RuntimeError("embedding_bag: include_last_offset: offsets needs at least 1 element")
    if active.tracer is None and count:
        found = offsets._data()
        if found[0] != 0:
            raise RuntimeError(f"embedding_bag: offsets[0] has to be 0, got {found[0]}")
        if found[-1] > n:
            raise RuntimeError(f"embedding_bag: offsets[-1] can't be greater than input's length {n}, got {found[-1]}")
    bags = count - include_last
    starts = cast(sliced(offsets, 0, 0, bags), dt.i64)
    begun = dispatch(ops.ScatterAdd(n + 1, 0), starts, full_of((bags,), 1, dt.i64, like=starts))
    counted = sliced(dispatch(ops.Cumsum(0), begun), 0, 0, n)
    return dispatch(ops.sub, counted, tensor_of(1, dt.i64)), bags


def folded(x: Tensor, weight: Tensor, bag_of: Tensor, bags: int, mode: str, scale_grad_by_freq: bool,
           per_sample_weights: Tensor | None, padding_idx: int | None) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """(folded rows, bag_of, i64 number of indices in each bag, for "max" the indices that gave the maxima and else the
    numbers again)."""
    n, dim = x._type.static_shape[0], weight._type.static_shape[1]
    rows = dispatch(ops.Take(0), weight, x)
    if scale_grad_by_freq and active.differentiates(weight, tangents=False):
        rows = _by_frequency(rows, x, weight)
    if per_sample_weights is not None:
        rows = dispatch(ops.mul, rows, spread(cast(per_sample_weights, rows.dtype), (n, dim), (0,)))
    counts_for = full_of((n,), True, dt.bool_)
    if padding_idx is not None:
        counts_for = dispatch(ops.logical_not, _equal(x, _row_of("embedding_bag", padding_idx, weight)))
        rows = dispatch(ops.where, spread(counts_for, (n, dim), (0,)), rows, tensor_of(0, rows.dtype))
    if not bags:
        nothing = full_of((0, dim), 0, dt.i64, like=rows)
        return cast(nothing, rows.dtype), bag_of, full_of((0,), 0, dt.i64, like=rows), nothing
    sizes = dispatch(ops.ScatterAdd(bags, 0), bag_of, cast(counts_for, dt.i64))
    if mode == "max" and n:
        return _maxima(x, rows, bag_of, counts_for, sizes)
    sums = dispatch(ops.ScatterAdd(bags, 0), bag_of, rows)
    if mode == "mean":
        divisors = dispatch(ops.maximum, cast(sizes, rows.dtype), tensor_of(1, rows.dtype))
        sums = dispatch(ops.div, sums, spread(divisors, (bags, dim), (0,)))
    return sums, bag_of, sizes, sizes


def _maxima(x: Tensor, rows: Tensor, bag_of: Tensor, counts_for: Tensor,
            sizes: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The greatest of each bag and column; the first of equal ones has the gradient."""
    (n, dim), bags = rows._type.static_shape, sizes._type.static_shape[0]
    wide = (bags, n, dim)
    bag = spread(dispatch(ops.Iota(bags, dt.i64)), wide, (0,))
    is_member = dispatch(ops.logical_and, dispatch(ops.eq, spread(bag_of, wide, (1,)), bag),
                         spread(counts_for, wide, (1,)))
    there = dispatch(ops.stop_gradient, rows)
    among = dispatch(ops.where, is_member, spread(there, wide, (1, 2)), tensor_of(float("-inf"), rows.dtype))
    at = dispatch(ops.ArgMax(1), among)
    has_any = spread(dispatch(ops.gt, sizes, tensor_of(0, dt.i64)), (bags, dim), (0,))
    greatest = dispatch(ops.where, has_any, dispatch(ops.TakeAlong(0), rows, at), tensor_of(0, rows.dtype))
    index = dispatch(ops.Take(0), cast(x, dt.i64), at)
    return greatest, bag_of, sizes, dispatch(ops.where, has_any, index, tensor_of(0, dt.i64))


__all__ = ["embedding", "embedding_bag"]
public(globals(), [*__all__, "embedding_renorm_"])
