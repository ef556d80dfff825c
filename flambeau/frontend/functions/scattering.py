"""Values written, or folded, into places of a tensor: by index, by mask, or into a view of it."""
from __future__ import annotations

import math
from typing import Any, Final

from flambeau.errors import ShapeError
from flambeau.frontend.active import active
from flambeau.frontend.functions.arithmetic import carrying
from flambeau.frontend.functions.calls import public
from flambeau.frontend.functions.coerce import (
    cast,
    expanded,
    one_tensor,
    reshaped,
    spread,
    stored,
    tensor_of,
    user_line,
    wrap_dim,
)
from flambeau.frontend.functions.elementwise import clamp_min, div, floor_divide, mul
from flambeau.frontend.functions.elementwise import where as where_
from flambeau.frontend.functions.gathering import (
    grown,
    index_tensor,
    lifted,
    products_along,
    source_of,
    sum_with,
)
from flambeau.frontend.functions.indexing import getitem, put_rows, unwritten, wrapped
from flambeau.frontend.functions.marks import in_place, method
from flambeau.frontend.functions.pointwise import eq, gt
from flambeau.frontend.functions.reductions import norm
from flambeau.frontend.functions.running import diff
from flambeau.frontend.functions.searching import searchsorted
from flambeau.frontend.functions.views import clone, diagonal, select
from flambeau.frontend.tape.dispatch import dispatch
from flambeau.frontend.tape.writes import assign_
from flambeau.frontend.tensor.tensor import Tensor
from flambeau.ir import dtypes as dt
from flambeau.ir import ops

# -- folded by index --------------------------------------------------------------------------------------------------

_REDUCTIONS: Final = ("sum", "prod", "mean", "amax", "amin")


@method
@in_place
def scatter_reduce(input: Tensor, dim: int, index: Tensor, src: Tensor, reduce: str, *,
                   include_self: bool = True) -> Tensor:
    """input, where x[i, p, k] has become the sum, prod, mean, amax or amin of the src[i, j, k] with index[i, j, k] = p
    for dim 1, and of what was there (unless include_self is false and there is one).

    Raises RuntimeError for another reduce, and shapes and dtypes that don't fit."""
    x = one_tensor("scatter_reduce", input)
    if reduce not in _REDUCTIONS:
        raise RuntimeError(f"scatter_reduce: reduce must be one of {', '.join(_REDUCTIONS)}, got {reduce!r}")
    dim = wrap_dim(dim, x.ndim, "scatter_reduce")
    updates = source_of(x, index, src, dim, "scatter_reduce")
    found = _folded(lifted(x), dim, cast(lifted(index), dt.i64), updates, reduce, include_self)
    return reshaped(found, x._type.static_shape)


@method
@in_place
def index_reduce(input: Tensor, dim: int, index: Tensor, source: Tensor, reduce: str, *,
                 include_self: bool = True) -> Tensor:
    """input, whose slices at `index` (a vector) along dim have become the prod, mean, amax or amin of themselves
    (unless include_self is false) and those of source."""
    x, source = one_tensor("index_reduce", input), one_tensor("index_reduce", source)
    if reduce not in _REDUCTIONS[1:]:
        raise RuntimeError(f"index_reduce: reduce must be one of {', '.join(_REDUCTIONS[1:])}, got {reduce!r}")
    dim = wrap_dim(dim, x.ndim, "index_reduce")
    at, rows, wide = lifted(index_tensor(index, "index_reduce")), lifted(source), lifted(x)
    sizes = wide._type.static_shape
    if source.dtype is not x.dtype or at.ndim != 1 \
            or rows._type.static_shape != (*sizes[:dim], at.numel(), *sizes[dim + 1:]):
        raise RuntimeError(f"index_reduce: index {index._type} and source {source._type} don't fit dim {dim} of {x._type}")
    places = spread(cast(at, dt.i64), rows._type.static_shape, (dim,))
    return reshaped(_folded(wide, dim, places, rows, reduce, include_self), x._type.static_shape)


_SEGMENTS: Final = {"sum": ("sum", 0.0), "mean": ("sum", 0.0), "prod": ("prod", 1.0), "max": ("amax", -math.inf),
                    "min": ("amin", math.inf)}


def segment_reduce(data: Tensor, reduce: str, *, lengths: Tensor | None = None, indices: Tensor | None = None,
                   offsets: Tensor | None = None, axis: int = 0, unsafe: bool = False, initial: Any = None) -> Tensor:
    """The sum, mean, prod, max or min of neighbours along axis, in segments of `lengths` [..., n], or between `offsets`
    [..., n + 1], whose leading dims are those of data before axis. initial: what each starts with, and what an empty
    segment gives (by default 0, NaN, 1, -inf, inf).

    Raises RuntimeError for integers and another reduce, and where lengths don't add up, as far as it is known."""
    x = one_tensor("segment_reduce", data)
    if reduce not in _SEGMENTS or not x.dtype.is_floating_point or (lengths is None) == (offsets is None):
        raise RuntimeError(f"segment_reduce: takes floats, one of {', '.join(_SEGMENTS)}, and lengths or offsets, got "
                           f"{x._type} and {reduce!r}")
    axis, how = wrap_dim(axis, x.ndim, "segment_reduce"), _SEGMENTS[reduce][0]
    shape = x._type.static_shape
    given = lengths if offsets is None else offsets
    assert given is not None, "one of the two was given"
    counts = cast(index_tensor(given, "segment_reduce"), dt.i64)
    counts = counts if offsets is None else diff(counts)
    if counts._type.static_shape[:-1] != shape[:axis] or counts.ndim != axis + 1:
        raise RuntimeError(f"segment_reduce: segments {counts._type} don't fit dim {axis} of {x._type}")
    ends = dispatch(ops.Cumsum(axis), counts)
    count = counts._type.static_shape[-1]
    if active.tracer is None and not unsafe and ends.numel() and (ends._data()[..., -1] != shape[axis]).any():
        raise RuntimeError(f"segment_reduce: segments must add up to {shape[axis]}, the size of dim {axis}")
    places = spread(dispatch(ops.Iota(shape[axis], dt.i64)), shape[:axis + 1], (axis,))
    index = spread(searchsorted(ends, places, right=True), shape, range(axis + 1))
    start = tensor_of(_SEGMENTS[reduce][1] if initial is None else initial, x.dtype)
    found = _folded(spread(start, (*shape[:axis], count, *shape[axis + 1:]), ()), axis, index, x, how, True)
    if reduce != "mean":
        return found
    sizes = spread(cast(counts, x.dtype), found._type.static_shape, range(axis + 1))
    mean = div(found, sizes)
    return mean if initial is None else where_(eq(sizes, 0), start, mean)


def _folded(x: Tensor, dim: int, index: Tensor, updates: Tensor, reduce: str, include_self: bool) -> Tensor:
    """All of x's rank; index and updates of one shape."""
    if not index.numel():
        return unwritten(x, updates)
    size = x._type.static_shape[dim]
    ones = spread(tensor_of(1, dt.i64), index._type.static_shape, ())
    counts = grown(dispatch(ops.ScatterAlongAdd(size, dim), index, ones), x)
    is_hit = gt(counts, 0)
    if reduce in ("amax", "amin"):
        found, hits = _extreme(x, dim, index, updates, reduce == "amax")
        if not include_self:
            return where_(is_hit, found, x)
        return where_(is_hit, _with_own(x, found, hits, reduce == "amax"), x)
    start = x if include_self else where_(is_hit, tensor_of(int(reduce == "prod"), x.dtype), x)
    if reduce == "prod":
        found = grown(products_along(size, dim, index, updates), x, 1)
        if x.dtype is dt.bool_:
            return dispatch(ops.logical_and, start, found)
        return mul(start, found)
    total = sum_with(start, ops.ScatterAlongAdd(size, dim), index, updates)
    if reduce == "sum":
        return total
    terms = counts if not include_self else dispatch(ops.add, counts, tensor_of(1, dt.i64))
    terms = clamp_min(terms, 1)
    return div(total, cast(terms, x.dtype)) if x.dtype.is_floating_point else cast(floor_divide(total, terms), x.dtype)


def _extreme(x: Tensor, dim: int, index: Tensor, updates: Tensor, greatest: bool
             ) -> tuple[Tensor, Tensor | None]:
    """(The greatest or least update to each place, how many equal it), anything where there is none, in x's shape. Equal
    ones share the gradient; None: there is none.

    In the order of the updates, the last one to reach a place is its greatest."""
    size, last = x._type.static_shape[dim], tensor_of(0, dt.i64)
    bare = cast(updates, dt.u8) if updates.dtype is dt.bool_ else dispatch(ops.stop_gradient, updates)
    key, is_nan = bare, None
    if bare.dtype.is_floating_point:
        is_nan = dispatch(ops.isnan, bare)
        if not greatest:                    # where it decides nothing, NaN must not come first
            key = where_(is_nan, tensor_of(float("-inf"), bare.dtype), bare)
    _, order = dispatch(ops.Sort(dim, not greatest), key)
    reached = dispatch(ops.LastAlong(size, dim), dispatch(ops.TakeAlong(dim), index, order))
    chosen = dispatch(ops.TakeAlong(dim), order, dispatch(ops.maximum, reached, last))
    best = dispatch(ops.TakeAlong(dim), bare, chosen)
    if is_nan is not None and not greatest:
        nans = dispatch(ops.ScatterAlongAdd(size, dim), index, cast(is_nan, dt.i64))
        best = where_(gt(nans, 0), tensor_of(float("nan"), best.dtype), best)
    if not (active.differentiates(updates) or active.differentiates(x)):
        return grown(cast(best, updates.dtype), x), None
    there = dispatch(ops.TakeAlong(dim), best, index)
    is_best = dispatch(ops.logical_or, eq(bare, there),
                       dispatch(ops.logical_and, dispatch(ops.isnan, bare), dispatch(ops.isnan, there)))
    hits = dispatch(ops.ScatterAlongAdd(size, dim), index, cast(is_best, updates.dtype))
    shares = dispatch(ops.ScatterAlongAdd(size, dim), index, where_(is_best, updates, tensor_of(0, updates.dtype)))
    return grown(carrying(best, div(shares, clamp_min(hits, 1))), x), grown(hits, x)


def _with_own(x: Tensor, found: Tensor, hits: Tensor | None, greatest: bool) -> Tensor:
    """The greater (lesser) of what was there and what came, which share the gradient by their numbers."""
    if x.dtype is dt.bool_:
        return dispatch(ops.logical_or if greatest else ops.logical_and, x, found)
    if hits is None:
        return dispatch(ops.maximum if greatest else ops.minimum, x, found)
    best = dispatch(ops.maximum if greatest else ops.minimum, *[dispatch(ops.stop_gradient, t) for t in (x, found)])
    own, came = (cast(dispatch(ops.eq, dispatch(ops.stop_gradient, t), best), x.dtype) for t in (x, found))
    came = mul(came, hits)
    total = clamp_min(dispatch(ops.add, own, came), 1)
    zero = tensor_of(0, x.dtype)
    parts = [div(mul(where_(gt(weight, 0), t, zero), weight), total) for t, weight in ((x, own), (found, came))]
    return carrying(best, dispatch(ops.add, *parts))


# -- by mask and by place ---------------------------------------------------------------------------------------------


@method
@in_place
def masked_scatter(input: Tensor, mask: Tensor, source: Tensor) -> Tensor:
    """input with the elements where the mask holds replaced by those of source, one after another.

    Raises RuntimeError for another dtype, and for fewer elements in source than the mask holds (KernelError in a
    compiled function, which finds it as it runs)."""
    x, source = one_tensor("masked_scatter", input), one_tensor("masked_scatter", source)
    if one_tensor("masked_scatter", mask).dtype is not dt.bool_ or source.dtype is not x.dtype:
        raise RuntimeError(f"masked_scatter: takes a bool mask and a source of input's dtype, got {mask._type} and "
                           f"{source._type} for {x._type}")
    shape = _common(x, mask)
    x, mask = expanded(x, shape), expanded(mask, shape)
    number = dispatch(ops.Cumsum(0), cast(reshaped(mask, (mask.numel(),)), dt.i64))
    if not x.numel():
        return clone(x)
    place = dispatch(ops.sub, number, tensor_of(1, dt.i64))
    if active.tracer is None and int(number._data()[-1]) > source.numel():
        raise RuntimeError(f"masked_scatter: the mask holds {int(number._data()[-1])} times, source has "
                           f"{source.numel()} elements")
    if not source.numel():
        return unwritten(x, source)
    place = where_(reshaped(mask, (mask.numel(),)), place, tensor_of(0, dt.i64))
    values = dispatch(ops.Take(0), reshaped(source, (source.numel(),)), place)
    return where_(mask, reshaped(values, shape), x)


def _common(x: Tensor, mask: Tensor) -> tuple[int, ...]:
    shape = [max(a, b) if 0 not in (a, b) else 0 for a, b in zip(
        *[(1,) * (max(x.ndim, mask.ndim) - t.ndim) + t._type.static_shape for t in (x, mask)], strict=True)]
    return tuple(shape)


@method
@in_place
def put(input: Tensor, index: Tensor, source: Tensor, accumulate: bool = False) -> Tensor:
    """input with its flattened elements at `index` replaced by source's, or increased by them; of equal indices the last
    wins. Raises IndexError out of range."""
    x, source = one_tensor("put", input), one_tensor("put", source)
    if source.dtype is not x.dtype or index_tensor(index, "put").numel() != source.numel():
        raise RuntimeError(f"put: takes a source of input's dtype with an element for each index, got {source._type} and "
                           f"{index._type} for {x._type}")
    flat = reshaped(x, (x.numel(),))
    at = wrapped(reshaped(index, (index.numel(),)), x.numel(), 0)
    values = reshaped(source, (source.numel(),))
    if not accumulate:
        found = put_rows(flat, 0, at, values)
    else:
        found = sum_with(flat, ops.ScatterAdd(x.numel(), 0), at, values) if values.numel() else unwritten(flat, values)
    return reshaped(found, x._type.static_shape)


# -- into a view ------------------------------------------------------------------------------------------------------


def _written(name: str, x: Tensor, src: Tensor, view: Any) -> Tensor:
    """A copy of x whose `view` holds src."""
    copy = clone(x)
    target = view(copy)
    if one_tensor(name, src)._type.shape != target._type.shape:
        raise ShapeError(f"{name}: src must be {tuple(target.shape)}, got {src._type}", where=user_line())
    assign_(target, cast(src, x.dtype))
    return copy


@method
def select_scatter(input: Tensor, src: Tensor, dim: int, index: int) -> Tensor:
    """A copy of input with src as its slice at `index` along dim."""
    return _written("select_scatter", one_tensor("select_scatter", input), src, lambda x: select(x, dim, index))


@method
def slice_scatter(input: Tensor, src: Tensor, dim: int = 0, start: int | None = None, end: int | None = None,
                  step: int = 1) -> Tensor:
    """A copy of input with src as its part [start:end:step] along dim."""
    x = one_tensor("slice_scatter", input)
    at = wrap_dim(dim, x.ndim, "slice_scatter")
    return _written("slice_scatter", x, src,
                    lambda x: getitem(x, (*[slice(None)] * at, slice(start, end, step))))


@method
def diagonal_scatter(input: Tensor, src: Tensor, offset: int = 0, dim1: int = 0, dim2: int = 1) -> Tensor:
    """A copy of input with src as the diagonal of dim1 and dim2, moved up by `offset`."""
    return _written("diagonal_scatter", one_tensor("diagonal_scatter", input), src,
                    lambda x: diagonal(x, offset, dim1, dim2))


def filled_diagonal(input: Tensor, fill_value: Any, wrap: bool = False) -> Tensor:
    """input with its main diagonal filled; wrap: in a tall matrix it begins again after each row left out below it.

    Raises RuntimeError for fewer than 2 dims, and more than 2 of different sizes."""
    x = one_tensor("fill_diagonal_", input)
    sizes = x._type.static_shape
    if x.ndim < 2 or x.ndim > 2 and len(set(sizes)) > 1:
        raise RuntimeError(f"fill_diagonal_: takes 2 dims or more, of one size beyond 2, got {x._type}")
    step = sum(math.prod(sizes[d + 1:]) for d in range(x.ndim))
    last = x.numel() if wrap and x.ndim == 2 else min(sizes) * step
    place = dispatch(ops.Iota(x.numel(), dt.i64))
    is_on = dispatch(ops.eq, dispatch(ops.remainder, place, tensor_of(max(step, 1), dt.i64)), tensor_of(0, dt.i64))
    is_on = dispatch(ops.logical_and, is_on, dispatch(ops.lt, place, tensor_of(last, dt.i64)))
    return where_(reshaped(is_on, sizes), stored("fill_diagonal_", fill_value, x.dtype), x)


# -- norms within a bound ---------------------------------------------------------------------------------------------


@method
@in_place
def renorm(input: Tensor, p: float, dim: int, maxnorm: float) -> Tensor:
    """input with its slices along dim scaled down to a p-norm of maxnorm where theirs is greater.

    Raises RuntimeError for integers, fewer than 2 dims, p <= 0 and maxnorm < 0."""
    x = one_tensor("renorm", input)
    if not x.dtype.is_floating_point or x.ndim < 2 or not p > 0 or maxnorm < 0:
        raise RuntimeError(f"renorm: takes floats of 2 dims or more, p > 0 and maxnorm >= 0, got {x._type}, {p} and "
                           f"{maxnorm}")
    dim = wrap_dim(dim, x.ndim, "renorm")
    wide = cast(x, dt.f32) if x.dtype.itemsize == 2 else x
    length = norm(wide, p, tuple([d for d in range(x.ndim) if d != dim]), True)
    factor = div(maxnorm, dispatch(ops.add, length, tensor_of(1e-7, length.dtype)))
    factor = where_(gt(length, maxnorm), factor, tensor_of(1, length.dtype))
    return cast(mul(wide, factor), x.dtype)


__all__ = ["diagonal_scatter", "index_reduce", "masked_scatter", "put", "renorm", "scatter_reduce", "segment_reduce",
           "select_scatter", "slice_scatter"]
public(globals(), __all__)
