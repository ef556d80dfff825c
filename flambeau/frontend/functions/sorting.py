"""Orders: sort, topk, medians, quantiles, mode, unique.

Equal elements always keep their order, whether `stable` is asked for or not, and NaN is greatest. Values have gradients;
which elements were chosen has none."""
from __future__ import annotations

from typing import Any, Final

import numpy as np

from flambeau.errors import TraceError
from flambeau.frontend.active import active
from flambeau.frontend.functions.calls import public
from flambeau.frontend.functions.coerce import (
    Number,
    cast,
    expanded,
    full_of,
    is_number,
    kind_of,
    one_tensor,
    own_dim,
    permuted,
    reshaped,
    spread,
    tensor_of,
    user_line,
    wrap_dim,
)
from flambeau.frontend.functions.creation import holding
from flambeau.frontend.functions.elementwise import lerp, mul, sub
from flambeau.frontend.functions.elementwise import round as round_
from flambeau.frontend.functions.gathering import index_copy
from flambeau.frontend.functions.pointwise import ceil, floor
from flambeau.frontend.functions.reductions import ValuesAndIndices, over
from flambeau.frontend.functions.views import sliced
from flambeau.frontend.scalars import Scalar
from flambeau.frontend.tape.dispatch import dispatch
from flambeau.frontend.tensor.tensor import Tensor
from flambeau.ir import dtypes as dt
from flambeau.ir import ops
from flambeau.ir.dims import as_size


def _ordered(name: str, x: Tensor, dim: int, descending: bool = False, keep: int | None = None) -> ValuesAndIndices:
    """The first `keep` in order along dim; a 0-d tensor is a vector of one."""
    if not x.ndim:
        return ValuesAndIndices(*[reshaped(t, ()) for t in dispatch(ops.Sort(0), reshaped(x, (1,)))])
    return ValuesAndIndices(*dispatch(ops.Sort(dim, descending, keep), x))


def sort(input: Tensor, dim: int = -1, descending: bool = False, *, stable: bool = False) -> ValuesAndIndices:
    """(values, i64 indices) in order along dim, equal ones as they stand; NaN is greatest."""
    x = one_tensor("sort", input)
    return _ordered("sort", x, wrap_dim(dim, x.ndim, "sort"), bool(descending))


def argsort(input: Tensor, dim: int = -1, descending: bool = False, *, stable: bool = False) -> Tensor:
    """i64 positions that put the elements along dim in order, equal ones as they stand; NaN is greatest."""
    x = one_tensor("argsort", input)
    return _ordered("argsort", x, wrap_dim(dim, x.ndim, "argsort"), bool(descending)).indices


def msort(input: Tensor) -> Tensor:
    """The values in order along dim 0."""
    return _ordered("msort", one_tensor("msort", input), 0).values


def topk(input: Tensor, k: int, dim: int = -1, largest: bool = True, sorted: bool = True) -> ValuesAndIndices:
    """(values, i64 indices) of the k greatest (or least) along dim, in order; of equal ones the first.

    Raises RuntimeError if k is out of range."""
    x = one_tensor("topk", input)
    dim, k = wrap_dim(dim, x.ndim, "topk"), as_size(k)
    size = x._type.static_shape[dim] if x.ndim else 1
    if not 0 <= k <= size:
        raise RuntimeError(f"topk: k {k} is out of range for size {size} of dim {dim}")
    return _ordered("topk", x, dim, bool(largest), k)


# -- one element along a dim ------------------------------------------------------------------------------------------


def _chosen(x: Tensor, dim: int, indices: Tensor, keepdim: bool) -> ValuesAndIndices:
    """The elements at `indices`, one for each row along dim."""
    values = dispatch(ops.TakeAlong(dim), x, indices)
    if keepdim:
        return ValuesAndIndices(values, indices)
    shape = x._type.static_shape
    left = (*shape[:dim], *shape[dim + 1:])
    return ValuesAndIndices(reshaped(values, left), reshaped(indices, left))


def _rows(name: str, x: Tensor, dim: int) -> tuple[Tensor, int]:
    """x and a dim of it that has elements, a 0-d tensor as a vector. Raises IndexError for a dim of none."""
    dim = wrap_dim(dim, x.ndim, name)
    if not x.ndim:
        return reshaped(x, (1,)), 0
    if x._type.static_shape[dim] == 0:
        raise IndexError(f"{name}: {x._type} has no elements along dim {dim}")
    return x, dim


def kthvalue(input: Tensor, k: int, dim: int = -1, keepdim: bool = False) -> ValuesAndIndices:
    """(value, i64 index) of the k-th least along dim, counted from 1; equal ones count as they stand.

    Raises RuntimeError if k is out of range, IndexError for a dim without elements."""
    x, dim = _rows("kthvalue", one_tensor("kthvalue", input), dim)
    k, size = as_size(k), x._type.static_shape[dim]
    if not 1 <= k <= size:
        raise RuntimeError(f"kthvalue: k {k} is out of range for size {size} of dim {dim}")
    indices = sliced(_ordered("kthvalue", x, dim, keep=k).indices, dim, k - 1, k)
    return _chosen(x, dim, indices, keepdim and input.ndim > 0)


def median(input: Tensor, dim: int | None = None, keepdim: bool = False) -> Any:
    """The median (the lower of two), NaN if there is one: of all elements, equal ones sharing its gradient, or (values,
    indices) along dim. Raises IndexError for a dim without elements, TypeError for keepdim without a dim."""
    return _median("median", input, dim, keepdim, ignore_nan=False)


def nanmedian(input: Tensor, dim: int | None = None, keepdim: bool = False) -> Any:
    """The median (the lower of two) of the elements that are not NaN: of all of them, equal ones sharing its gradient, or
    (values, indices) along dim. NaN where there are none. Raises IndexError for a dim without elements."""
    return _median("nanmedian", input, dim, keepdim, ignore_nan=True)


def _median(name: str, input: Tensor, dim: int | None, keepdim: bool, ignore_nan: bool) -> Any:
    x = one_tensor(name, input)
    if dim is None:
        if keepdim:
            raise TypeError(f"{name}: keepdim needs a dim: the median of all elements has none to keep")
        if not x.numel() and x.dtype.is_floating_point:
            return holding(dt.to_storage(np.array(np.nan, x.dtype.compute), x.dtype), x.dtype, x)
        flat, _ = _rows(name, reshaped(x, (x.numel(),)), 0)
        return dispatch(ops.Median(ignore_nan), flat)
    x, dim = _rows(name, x, dim)
    is_float, middle = x.dtype.is_floating_point, (x._type.static_shape[dim] - 1) // 2
    if is_float and ignore_nan:
        order = _ordered(name, x, dim).indices
        indices = dispatch(ops.TakeAlong(dim), order, _middle_number(x, dim))
    else:
        indices = sliced(_ordered(name, x, dim, keep=middle + 1).indices, dim, middle, middle + 1)
    if is_float and not ignore_nan:
        first = _kept(dispatch(ops.ArgMax(dim), x), indices)            # a NaN is greatest
        is_nan = dispatch(ops.isnan, dispatch(ops.TakeAlong(dim), x, first))
        indices = dispatch(ops.where, is_nan, first, indices)
    return _chosen(x, dim, indices, keepdim and input.ndim > 0)


def _middle_number(x: Tensor, dim: int) -> Tensor:
    """Where the median of the numbers stands in the order of each row, NaN being last."""
    is_number = dispatch(ops.logical_not, dispatch(ops.isnan, x))
    count = dispatch(ops.Sum((dim,)), cast(is_number, dt.i64))
    last = dispatch(ops.maximum, dispatch(ops.sub, count, tensor_of(1, dt.i64)), tensor_of(0, dt.i64))
    return _unsqueezed(dispatch(ops.floor_divide, last, tensor_of(2, dt.i64)), dim)


def _unsqueezed(x: Tensor, dim: int) -> Tensor:
    shape = x._type.static_shape
    return reshaped(x, (*shape[:dim], 1, *shape[dim:]))


def _kept(x: Tensor, like: Tensor) -> Tensor:
    return reshaped(x, like._type.static_shape)


def mode(input: Tensor, dim: int = -1, keepdim: bool = False) -> ValuesAndIndices:
    """(value, i64 index) of the most frequent along dim: the least of several, the last place of it. A NaN equals nothing.

    Raises IndexError for a dim without elements."""
    x, dim = _rows("mode", one_tensor("mode", input), dim)
    shape = x._type.static_shape
    values, order = _ordered("mode", x, dim)
    run = _runs(values, dim)
    ones = spread(tensor_of(1, dt.i64), shape, ())
    counts = dispatch(ops.ScatterAlongAdd(shape[dim], dim), run, ones)
    longest = over(dispatch(ops.ArgMax(dim), counts), x, (dim,))
    places = spread(dispatch(ops.Iota(shape[dim], dt.i64)), shape, (dim,))
    inside = dispatch(ops.where, dispatch(ops.eq, run, longest), places, tensor_of(0, dt.i64))
    last = _unsqueezed(dispatch(ops.AMax((dim,)), inside), dim)
    return _chosen(x, dim, dispatch(ops.TakeAlong(dim), order, last), keepdim and input.ndim > 0)


def _runs(values: Tensor, dim: int) -> Tensor:
    """The i64 number, from 0, of the run of equal elements that each element of ordered rows is in."""
    size = values._type.static_shape[dim]
    is_new = dispatch(ops.ne, sliced(values, dim, 1, size), sliced(values, dim, 0, size - 1))
    rank = values.ndim
    steps = dispatch(ops.Pad(tuple([int(d == dim) for d in range(rank)]), (0,) * rank, (0,) * rank), cast(is_new, dt.i64))
    return dispatch(ops.Cumsum(dim), steps)


# -- quantiles --------------------------------------------------------------------------------------------------------

_INTERPOLATIONS: Final = ("linear", "lower", "higher", "midpoint", "nearest")


def quantile(input: Tensor, q: Any, dim: int | None = None, keepdim: bool = False, *,
             interpolation: str = "linear") -> Tensor:
    """The q-quantiles along dim (of all elements by default), NaN in rows that hold one. q: a number from 0 to 1, or a
    tensor of the input's dtype, 0-d or a vector, which becomes the result's first dim.

    Raises RuntimeError for other inputs than float32 and float64, for none, and for q out of range (KernelError in a
    compiled function, which finds it as it runs)."""
    return _quantile("quantile", input, q, dim, keepdim, interpolation, ignore_nan=False)


def nanquantile(input: Tensor, q: Any, dim: int | None = None, keepdim: bool = False, *,
                interpolation: str = "linear") -> Tensor:
    """The q-quantiles of the elements that are not NaN, as `quantile`; NaN where there are none."""
    return _quantile("nanquantile", input, q, dim, keepdim, interpolation, ignore_nan=True)


def _quantile(name: str, input: Tensor, q: Any, dim: int | None, keepdim: bool, interpolation: str,
              ignore_nan: bool) -> Tensor:
    x = one_tensor(name, input)
    if x.dtype not in (dt.f32, dt.f64) or not x.numel():
        raise RuntimeError(f"{name}: takes float32 or float64 tensors with elements, got {x._type}")
    if interpolation not in _INTERPOLATIONS:
        raise RuntimeError(f"{name}: interpolation must be one of {', '.join(_INTERPOLATIONS)}, got {interpolation!r}")
    at = _fractions(name, q, x)
    along = None if dim is None else wrap_dim(dim, x.ndim, name)
    rows = reshaped(x, (x.numel(),)) if along is None or not x.ndim else _moved_last(x, along)
    found = _interpolated(_ordered(name, rows, rows.ndim - 1).values, at, interpolation, ignore_nan)
    lead = found._type.static_shape[:-1]
    if keepdim:
        lead = (1,) * x.ndim if along is None else (*lead[:along], 1, *lead[along:]) if x.ndim else ()
    if not (isinstance(q, Tensor) and q.ndim):
        return reshaped(found, lead)
    first = permuted(found, (found.ndim - 1, *range(found.ndim - 1)))
    return reshaped(first, (first._type.static_shape[0], *lead))


def _moved_last(x: Tensor, dim: int) -> Tensor:
    return permuted(x, (*[d for d in range(x.ndim) if d != dim], dim))


def _fractions(name: str, q: Any, x: Tensor) -> Tensor:
    """q as a vector of x's dtype. Raises RuntimeError where one is not in [0, 1], as far as that is known."""
    if not isinstance(q, Tensor):
        if not is_number(q):
            raise TypeError(f"{name}: q must be a number or a Tensor, got {kind_of(q)}")
        if not isinstance(q, Scalar) and not 0 <= q <= 1:
            raise RuntimeError(f"{name}: q must be in [0, 1], got {q}")
        return reshaped(tensor_of(q, x.dtype), (1,))
    if q.dtype is not x.dtype or q.ndim > 1:
        raise RuntimeError(f"{name}: q must be a number, or a 0-d tensor or vector of {x.dtype}, got {q._type}")
    if active.tracer is None and not ((q._data() >= 0) & (q._data() <= 1)).all():
        raise RuntimeError(f"{name}: every q must be in [0, 1]")
    return reshaped(q, (q.numel(),))


def _interpolated(rows: Tensor, at: Tensor, interpolation: str, ignore_nan: bool) -> Tensor:
    """What ordered rows [..., n] hold at the fractions `at` [k] of their length: [..., k]."""
    last, size = rows.ndim - 1, rows._type.static_shape[-1]
    shape = (*rows._type.static_shape[:-1], at.numel())
    is_nan = dispatch(ops.isnan, rows)
    if ignore_nan:
        count = dispatch(ops.Sum((last,)), cast(dispatch(ops.logical_not, is_nan), rows.dtype))
        most = dispatch(ops.maximum, sub(count, 1), tensor_of(0, rows.dtype))
        ranks = mul(expanded(at, shape), expanded(_unsqueezed(most, last), shape))
    else:
        ranks = expanded(mul(at, size - 1), shape)
        ranks = dispatch(ops.where, expanded(sliced(is_nan, last, size - 1, size), shape), tensor_of(size - 1, rows.dtype),
                         ranks)
    if interpolation in ("higher", "nearest"):
        return _looked_up(rows, ceil(ranks) if interpolation == "higher" else round_(ranks))
    below = floor(ranks)
    if interpolation == "lower":
        return _looked_up(rows, below)
    weights: Any = 0.5 if interpolation == "midpoint" else sub(ranks, below)
    return lerp(_looked_up(rows, below), _looked_up(rows, ceil(ranks)), weights)


def _looked_up(rows: Tensor, places: Tensor) -> Tensor:
    return dispatch(ops.TakeAlong(rows.ndim - 1), rows, cast(places, dt.i64))


# -- what differs -----------------------------------------------------------------------------------------------------


def unique(input: Tensor, sorted: bool = True, return_inverse: bool = False, return_counts: bool = False,
           dim: int | None = None, *, size: int | None = None, fill_value: Number | None = None) -> Any:
    """The different values in order; with their places (return_inverse) and how often they occur (return_counts). A NaN
    equals nothing. dim: slices along it are compared instead (and there, as in NumPy, NaN equals NaN).

    size: the first so many values, then fill_value (None: the least value) with the count 0; the places of values that
    are left out are `size`. Without it a compiled function raises TraceError: how many there are depends on data."""
    x = one_tensor("unique", input)
    if size is not None:
        return _first_values(x, dim, return_inverse, return_counts, as_size(size), fill_value)
    if active.hides(x):
        raise TraceError(f"unique() gives a tensor whose size depends on data, which {active.hider} can't have",
                         where=user_line(), hint="say how many values there are at most, unique(x, size=...), or do it "
                         "outside the function")
    if dim is not None:
        return _unique_slices(x, own_dim(x, dim, "unique"), return_inverse, return_counts)
    shape, flat = x._type.static_shape, reshaped(x.detach(), (x.numel(),))
    values, order = _ordered("unique", flat, 0)
    run = _runs(values, 0) if x.numel() else order
    number = run._data()
    starts = np.flatnonzero(np.diff(number, prepend=-1))
    found = dispatch(ops.Take(0), values, holding(starts, dt.i64))
    extra = []
    if return_inverse:
        extra.append(reshaped(dispatch(ops.ScatterAlongAdd(x.numel(), 0), order, run), shape))
    if return_counts:
        extra.append(holding(np.diff(starts, append=x.numel()), dt.i64, x))
    return (found, *extra) if extra else found


def _first_values(x: Tensor, dim: int | None, return_inverse: bool, return_counts: bool, size: int,
                  fill_value: Number | None) -> Any:
    """unique() of a known size, without looking at the data."""
    if dim is not None or size < 0:
        raise RuntimeError(f"unique: size must not be negative, and goes with dim=None, got size={size} and dim={dim}")
    shape, count, dtype = x._type.static_shape, x.numel(), x._type.dtype
    if not count:
        raise RuntimeError(f"unique: size={size} of a tensor without elements")
    values, order = _ordered("unique", reshaped(x.detach(), (count,)), 0)
    beyond = tensor_of(size, dt.i64)
    place = dispatch(ops.minimum, _runs(values, 0), beyond)
    before = dispatch(ops.Pad((1,), (0,), (0,)), sliced(place, 0, 0, count - 1))
    is_first = dispatch(ops.logical_or, dispatch(ops.ne, place, before), dispatch(ops.eq, dispatch(ops.Iota(count, dt.i64)),
                                                                                  tensor_of(0, dt.i64)))
    least = sliced(values, 0, 0, 1) if fill_value is None else reshaped(tensor_of(fill_value, dtype, "unique"), (1,))
    filled = index_copy(expanded(least, (size + 1,)), 0, dispatch(ops.where, is_first, place, beyond), values)
    found = [sliced(filled, 0, 0, size)]
    if return_inverse:
        found.append(reshaped(dispatch(ops.ScatterAlongAdd(count, 0), order, place), shape))
    if return_counts:
        found.append(sliced(dispatch(ops.ScatterAdd(size + 1, 0), place, full_of((count,), 1, dt.i64, like=x)), 0, 0, size))
    return tuple(found) if len(found) > 1 else found[0]


def _unique_slices(x: Tensor, dim: int, return_inverse: bool, return_counts: bool) -> Any:
    found, inverse, counts = np.unique(dt.to_compute(x._data(), x.dtype), return_inverse=True, return_counts=True,
                                       axis=dim)
    values = holding(np.ascontiguousarray(dt.to_storage(found, x.dtype)), x.dtype, x)
    extra = [holding(np.ascontiguousarray(a.reshape(-1)), dt.i64, x)
             for a, wanted in ((inverse, return_inverse), (counts, return_counts)) if wanted]
    return (values, *extra) if extra else values


__all__ = ["argsort", "kthvalue", "median", "mode", "msort", "nanmedian", "nanquantile", "quantile", "sort", "topk",
           "unique"]
public(globals(), __all__)
