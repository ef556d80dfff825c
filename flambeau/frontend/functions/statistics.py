"""Means without NaN, covariances and histograms."""
from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

from flambeau.frontend.active import active
from flambeau.frontend.functions.calls import public
from flambeau.frontend.functions.coerce import (
    Dims,
    cast,
    floating_one,
    one_tensor,
    reshaped,
    tensor_of,
)
from flambeau.frontend.functions.creation import linspace
from flambeau.frontend.functions.elementwise import clamp, div, mul, sub
from flambeau.frontend.functions.marks import method
from flambeau.frontend.functions.products import matmul
from flambeau.frontend.functions.reductions import amax, amin, nansum
from flambeau.frontend.functions.reductions import sum as sum_
from flambeau.frontend.functions.running import diff
from flambeau.frontend.functions.searching import searchsorted
from flambeau.frontend.functions.views import diagonal, matrix_transposed, reshape, select, squeeze, unsqueeze
from flambeau.frontend.tape.dispatch import dispatch
from flambeau.frontend.tape.moves import place_like, placed
from flambeau.frontend.tensor.tensor import Tensor
from flambeau.ir import dtypes as dt
from flambeau.ir import ops
from flambeau.ir.dtypes import DType
from flambeau.warned import warn


@method
def nanmean(input: Tensor, dim: Dims = None, keepdim: bool = False, *, dtype: DType | None = None) -> Tensor:
    """The mean over `dim` of the elements that are not NaN; NaN where there are none. Raises RuntimeError for integers."""
    x = one_tensor("nanmean", input)
    if not x.dtype.is_floating_point:
        raise RuntimeError(f"nanmean: takes floating-point tensors, got {x._type}; pass x.float()")
    numbers = sum_(dispatch(ops.logical_not, dispatch(ops.isnan, x)), dim, keepdim)
    return div(nansum(x, dim, keepdim, dtype=dtype), numbers)


# -- covariances ------------------------------------------------------------------------------------------------------


@method
def cov(input: Tensor, *, correction: int = 1, fweights: Tensor | None = None, aweights: Tensor | None = None) -> Tensor:
    """The covariances of variables, one a row of input, from observations, one a column: [rows, rows], or a number for
    a vector. Divides by their number less `correction`.

    fweights: how often each observation counts (integers); aweights: how much. Raises RuntimeError for more than 2
    dims, and weights that don't fit."""
    x = one_tensor("cov", input)
    if x.ndim > 2 or x.dtype is dt.bool_:
        raise RuntimeError(f"cov: takes numbers of at most 2 dims, got {x._type}")
    x = floating_one("cov", x if x.ndim == 2 else reshaped(x, (1, x.numel())))
    observations = x._type.static_shape[1]
    weights = _weights(x, fweights, aweights)
    if weights is None:
        total: Any = observations
        average = div(sum_(x, 1, True), observations)
    else:
        total = sum_(weights)
        average = div(sum_(mul(x, weights), 1, True), total)
    divisor = _divisor(total, correction, weights, aweights)
    centred = sub(x, average)
    weighted = centred if weights is None else mul(centred, weights)
    return squeeze(div(matmul(centred, matrix_transposed(weighted)), divisor))


def _weights(x: Tensor, fweights: Tensor | None, aweights: Tensor | None) -> Tensor | None:
    """How much each observation counts, in x's dtype; None: all the same."""
    for name, given, fits in (("fweights", fweights, lambda t: t.dtype.is_integer),
                              ("aweights", aweights, lambda t: t.dtype.is_floating_point)):
        if given is None:
            continue
        kind = "integers" if name == "fweights" else "floats"
        if given.ndim > 1 or given.numel() != x._type.static_shape[1] or not fits(given):
            raise RuntimeError(f"cov: {name} must be a vector of {x._type.static_shape[1]} {kind}, got {given._type}")
        if active.tracer is None and (dt.to_compute(given._data(), given.dtype) < 0).any():
            raise RuntimeError(f"cov: {name} must not be negative")
    if fweights is None or aweights is None:
        weights = aweights if fweights is None else fweights
    else:
        weights = mul(fweights, aweights)
    return None if weights is None else cast(weights, x.dtype)


def _divisor(total: Any, correction: int, weights: Tensor | None, aweights: Tensor | None) -> Any:
    """What the sums of products are divided by: not less than 0, with a warning where that is known."""
    if weights is None:
        if total <= correction:
            warn("FB016", "cov: no degrees of freedom are left", stacklevel=3)
        return max(total - correction, 0)
    if aweights is None or not correction:
        return clamp(sub(total, correction), min=0)
    return clamp(sub(total, div(mul(sum_(mul(weights, aweights)), correction), total)), min=0)


@method
def corrcoef(input: Tensor) -> Tensor:
    """The correlations of variables, one a row of input: their covariances over both standard deviations."""
    found = cov(one_tensor("corrcoef", input))
    if not found.ndim:
        return div(found, found)
    deviation = dispatch(ops.sqrt, diagonal(found))
    return clamp(div(div(found, unsqueeze(deviation, 1)), unsqueeze(deviation, 0)), -1, 1)


# -- histograms -------------------------------------------------------------------------------------------------------


class Histogram(NamedTuple):
    """What histogram() gives: what falls into each bin, and the edges between them."""

    hist: Tensor
    bin_edges: Tensor


class HistogramOfRows(NamedTuple):
    """What histogramdd() gives: what falls into each bin, and the edges along each dim."""

    hist: Tensor
    bin_edges: tuple[Tensor, ...]


@method
def histc(input: Tensor, bins: int = 100, min: float = 0, max: float = 0) -> Tensor:
    """How many elements fall into each of `bins` equal bins from min to max (of the data, when both are 0), in the
    dtype of input. Elements outside and NaN don't count. Raises RuntimeError for bins < 1 and min > max."""
    x = _samples("histc", input)
    if bins < 1 or min > max:
        raise RuntimeError(f"histc: takes bins >= 1 and min <= max, got {bins} bins from {min} to {max}")
    flat = dispatch(ops.stop_gradient, reshaped(x, (x.numel(),)))
    low, high = _range("histc", flat, None if min == max else (min, max), (min, max), 1.0)
    place = div(mul(sub(flat, low), bins), sub(high, low))
    whole = cast(dispatch(ops.floor, place), dt.i64)
    inside = dispatch(ops.logical_and, dispatch(ops.ge, flat, low), dispatch(ops.le, flat, high))
    whole = dispatch(ops.minimum, whole, tensor_of(bins - 1, dt.i64))
    return cast(_counted(dispatch(ops.where, inside, whole, tensor_of(bins, dt.i64)), None, bins), x.dtype)


def _samples(name: str, input: Tensor) -> Tensor:
    x = one_tensor(name, input)
    if x.dtype not in (dt.f32, dt.f64):
        raise RuntimeError(f"{name}: takes float32 or float64 tensors, got {x._type}")
    return x


def _range(name: str, flat: Tensor, given: Sequence[float] | None, around: Sequence[float] | None, margin: float
           ) -> tuple[Tensor, Tensor]:
    """The ends of the bins as 0-d tensors: those given, or the data's least and greatest; not the same. around: the ends
    where there is no data."""
    if given is not None:
        low, high = (float(v) for v in given)
        if not (math.isfinite(low) and math.isfinite(high) and low <= high):
            raise RuntimeError(f"{name}: the range [{low}, {high}] is not finite or leads backwards")
        if low == high:
            low, high = low - margin, high + margin
        return _end(low, flat), _end(high, flat)
    if not flat.numel():
        low, high = around or (0.0, 1.0)
        return _end(low - (margin if around else 0), flat), _end(high + (margin if around else 0), flat)
    least, greatest = amin(flat), amax(flat)
    if active.tracer is None and not (math.isfinite(least.item()) and math.isfinite(greatest.item())):
        raise RuntimeError(f"{name}: the range [{least.item()}, {greatest.item()}] of the data is not finite")
    widening = mul(cast(dispatch(ops.eq, least, greatest), flat.dtype), margin)
    return sub(least, widening), dispatch(ops.add, greatest, widening)


def _end(number: float, like: Tensor) -> Tensor:
    return placed(tensor_of(number, like.dtype), place_like(like))


def _counted(place: Tensor, weight: Tensor | None, bins: int) -> Tensor:
    """What falls into each bin; what falls into bin `bins` counts nowhere."""
    amounts = weight if weight is not None else dispatch(ops.Broadcast(place._type.static_shape, ()),
                                                         tensor_of(1, dt.i64))
    return dispatch(ops.Slice((0,), (bins,), (1,)), dispatch(ops.ScatterAdd(bins + 1, 0), place, amounts))


def _placed(x: Tensor, edges: Tensor) -> Tensor:
    """The bin of each element of a vector, the last one with its right edge; as many as there are bins where outside."""
    bins = edges.numel() - 1
    place = sub(searchsorted(edges, x, right=True), 1)
    last = select(edges, 0, bins)
    place = dispatch(ops.where, dispatch(ops.eq, x, last), tensor_of(bins - 1, dt.i64), place)
    outside = dispatch(ops.logical_or, dispatch(ops.lt, place, tensor_of(0, dt.i64)),
                       dispatch(ops.logical_not, dispatch(ops.le, x, last)))
    return dispatch(ops.where, outside, tensor_of(bins, dt.i64), place)


def _edges(low: Tensor, high: Tensor, bins: int) -> Tensor:
    """bins + 1 evenly spaced numbers, counted from the nearer end as linspace() does."""
    places = linspace(0, bins, bins + 1, dtype=low.dtype, device=low.device)
    step = div(sub(high, low), bins)
    from_low = dispatch(ops.add, mul(places, step), low)
    from_high = sub(high, mul(sub(float(bins), places), step))
    is_low = dispatch(ops.lt, places, tensor_of((bins + 1) // 2, low.dtype))
    return dispatch(ops.where, is_low, from_low, from_high)


@method
def histogram(input: Tensor, bins: int | Tensor, *, range: Sequence[float] | None = None, weight: Tensor | None = None,
              density: bool = False) -> Histogram:
    """(what falls into each bin, the edges): `bins` equal ones over a range (by default that of the data), or between
    the ordered edges of a vector. weight: what each element counts; density: the area is 1."""
    x = _samples("histogram", input)
    if isinstance(bins, Tensor):
        if range is not None:
            raise TypeError("histogram: edges have their range; pass a number of bins with range=")
        if bins.ndim != 1 or bins.dtype is not x.dtype or not bins.numel():
            raise RuntimeError(f"histogram: edges must be a vector of {x.dtype}, got {bins._type}")
    found, edges = _histogram("histogram", reshape(x, (x.numel(), 1)), [bins], range, weight, density)
    return Histogram(found, edges[0])


def histogramdd(input: Tensor, bins: Any, *, range: Sequence[float] | None = None, weight: Tensor | None = None,
                density: bool = False) -> HistogramOfRows:
    """(what falls into each bin, the edges along each dim) of points, the last dim of input. bins: their number (for
    each dim), or the edges along each; range: the ends of all dims, one after another."""
    x = _samples("histogramdd", input)
    if x.ndim < 2:
        raise RuntimeError(f"histogramdd: takes 2 dims or more, got {x._type}")
    dims = x._type.static_shape[-1]
    each = list(bins) if isinstance(bins, (tuple, list)) else [bins] * dims
    if not dims or len(each) != dims or range is not None and len(range) != 2 * dims:
        raise RuntimeError(f"histogramdd: expected bins (and 2 ends of a range) for each of {dims} dims, got {len(each)}"
                           f"{f' and {len(range)} ends' if range is not None else ''}")
    rows = x.numel() // dims if dims else 0
    found, edges = _histogram("histogramdd", reshape(x, (rows, dims)), each, range, weight, density)
    return HistogramOfRows(found, tuple(edges))


def _histogram(name: str, rows: Tensor, bins: Sequence[int | Tensor], range: Sequence[float] | None,
               weight: Tensor | None, density: bool) -> tuple[Tensor, list[Tensor]]:
    rows = dispatch(ops.stop_gradient, rows)
    edges: list[Tensor] = []
    flat: Tensor | None = None
    outside: Tensor | None = None
    for d, wanted in enumerate(bins):
        column = select(rows, 1, d)
        if isinstance(wanted, Tensor):
            edge = dispatch(ops.stop_gradient, wanted)
        else:
            if not isinstance(wanted, int) or wanted < 1:
                raise RuntimeError(f"{name}: the number of bins must be a positive int, got {wanted!r}")
            ends = None if range is None else (range[2 * d], range[2 * d + 1])
            edge = _edges(*_range(name, column, ends, None, 0.5), wanted)
        edges.append(edge)
        place, size = _placed(column, edge), edge.numel() - 1
        is_out = dispatch(ops.eq, place, tensor_of(size, dt.i64))
        outside = is_out if outside is None else dispatch(ops.logical_or, outside, is_out)
        flat = place if flat is None else dispatch(ops.add, mul(flat, size), place)
    assert flat is not None and outside is not None, "a histogram has a dim"
    shape = tuple([edge.numel() - 1 for edge in edges])
    total = math.prod(shape)
    if weight is not None and (weight.dtype is not rows.dtype or weight.numel() != rows._type.static_shape[0]):
        raise RuntimeError(f"{name}: weight must hold a {rows.dtype} for each of {rows._type.static_shape[0]} points, got "
                           f"{weight._type}")
    amounts = None if weight is None else dispatch(ops.stop_gradient, reshaped(weight, (weight.numel(),)))
    found = _counted(dispatch(ops.where, outside, tensor_of(total, dt.i64), flat), amounts, total)
    found = reshaped(cast(found, rows.dtype), shape)
    if density:
        found = div(found, sum_(found))
        for d, edge in enumerate(edges):
            sizes = tuple([shape[d] if i == d else 1 for i, _ in enumerate(shape)])
            found = div(found, reshaped(diff(edge), sizes))
    return found, edges


__all__ = ["corrcoef", "cov", "histc", "histogram", "histogramdd", "nanmean"]
public(globals(), __all__)
