"""Folding dims away: sums, moments, extremes, norms, running sums."""
from __future__ import annotations

import builtins
import math
from collections.abc import Callable
from typing import Any, NamedTuple

from flambeau.frontend.functions.calls import public
from flambeau.frontend.functions.coerce import (
    Dims,
    Number,
    as_bool,
    cast,
    floating_one,
    full_of,
    is_number,
    one_tensor,
    permuted,
    reshaped,
    spread,
    tensor_of,
    wrap_dim,
    wrap_dims,
)
from flambeau.frontend.functions.elementwise import sub
from flambeau.frontend.functions.pointwise import abs as abs_
from flambeau.frontend.functions.pointwise import maximum, minimum
from flambeau.frontend.functions.views import clone
from flambeau.frontend.tape.dispatch import constant, dispatch
from flambeau.frontend.tape.moves import place_like, placed
from flambeau.frontend.tensor.promotion import as_dtype
from flambeau.frontend.tensor.tensor import Tensor
from flambeau.ir import dtypes as dt
from flambeau.ir import ops
from flambeau.ir.dims import same
from flambeau.ir.dtypes import DType
from flambeau.ir.op import Op


class ValuesAndIndices(NamedTuple):
    """What an extreme along a dim gives: the values, and their i64 positions along that dim."""

    values: Tensor
    indices: Tensor


class LeastAndGreatest(NamedTuple):
    """What aminmax gives."""

    min: Tensor
    max: Tensor


def kept(reduced: Tensor, x: Tensor, dims: tuple[int, ...], keepdim: bool) -> Tensor:
    """The reduced tensor, with its folded dims put back as 1 if asked."""
    if not keepdim or not dims:
        return reduced
    shape = tuple([1 if d in dims else size for d, size in enumerate(x._type.static_shape)])
    return reshaped(reduced, shape)


def over(reduced: Tensor, x: Tensor, dims: tuple[int, ...]) -> Tensor:
    """A reduced tensor spread over x's shape again."""
    left = [d for d in range(len(x._type.shape)) if d not in dims]
    return spread(reduced, x._type.static_shape, left) if left and dims else reduced


def count(x: Tensor, dims: tuple[int, ...]) -> int:
    """Elements folded into each result."""
    return math.prod([x._type.static_shape[d] for d in dims])


def _summable(x: Tensor, dtype: DType | None) -> Tensor:
    if dtype is not None:
        return cast(x, dtype)
    return x if x._type.dtype.is_floating_point else cast(x, dt.i64)


def sum(input: Tensor, dim: Dims = None, keepdim: bool = False, *, dtype: DType | None = None) -> Tensor:
    """The sum over `dim` (all dims by default); bools and integers add up in int64."""
    if dtype is dt.bool_:
        return any(input, dim, keepdim)
    x = _summable(one_tensor("sum", input), dtype)
    if x._type.dtype is dt.bool_:
        return any(x, dim, keepdim)
    dims = wrap_dims(dim, x.ndim, "sum")
    return kept(dispatch(ops.Sum(dims), x), x, dims, keepdim)


def nansum(input: Tensor, dim: Dims = None, keepdim: bool = False, *, dtype: DType | None = None) -> Tensor:
    """The sum with NaN as 0."""
    x = one_tensor("nansum", input)
    if x._type.dtype.is_floating_point:
        x = dispatch(ops.where, dispatch(ops.isnan, x), tensor_of(0, x.dtype), x)
    return sum(x, dim, keepdim, dtype=dtype)


def mean(input: Tensor, dim: Dims = None, keepdim: bool = False, *, dtype: DType | None = None) -> Tensor:
    """The mean over `dim`; 16-bit floats add up in float32. Raises RuntimeError for integers (give a dtype)."""
    x = one_tensor("mean", input)
    x = x if dtype is None else cast(x, dtype)
    _check_float(x, "mean")
    dims = wrap_dims(dim, x.ndim, "mean")
    return kept(_mean(x, dims), x, dims, keepdim)


def _check_float(x: Tensor, name: str) -> None:
    if not x._type.dtype.is_floating_point:
        raise RuntimeError(f"{name}: takes floating-point tensors, got {x._type}; pass x.float()")


def _mean(x: Tensor, dims: tuple[int, ...]) -> Tensor:
    wide = _wide(x)
    total = dispatch(ops.Sum(dims), wide)
    n = count(x, dims)
    return cast(dispatch(ops.div, total, tensor_of(n, wide._type.dtype)), x._type.dtype)


def _wide(x: Tensor) -> Tensor:
    """x as float32 when it is a 16-bit float, so that sums keep their digits."""
    return cast(x, dt.f32) if x._type.dtype.itemsize == 2 else x


def prod(input: Tensor, dim: int | None = None, keepdim: bool = False, *, dtype: DType | None = None) -> Tensor:
    """The product over `dim` (all dims by default); integers multiply in int64."""
    if dtype is dt.bool_:
        return all(input, dim, keepdim)
    x = _summable(one_tensor("prod", input), dtype)
    if x._type.dtype is dt.bool_:
        return all(x, dim, keepdim)
    dims = wrap_dims(dim, x.ndim, "prod")
    return kept(dispatch(ops.Prod(dims), x), x, dims, keepdim)


# -- moments ----------------------------------------------------------------------------------------------------------


def _moments(input: Tensor, dim: Any, unbiased: bool | None, correction: int | float | None, name: str
             ) -> tuple[Tensor, Tensor, Tensor, tuple[int, ...]]:
    """(x, variance, mean, dims): the moments of x over `dim`, float32 for 16-bit floats."""
    if isinstance(dim, bool):               # var(x, False) is var(x, unbiased=False)
        dim, unbiased = None, dim
    if correction is None:
        correction = 1 if unbiased is None or unbiased else 0
    x = one_tensor(name, input)
    _check_float(x, name)
    dims = wrap_dims(dim, x.ndim, name)
    wide = _wide(x)
    average = _mean(wide, dims)
    centred = dispatch(ops.sub, wide, over(average, x, dims))
    squares = dispatch(ops.Sum(dims), dispatch(ops.mul, centred, centred))
    if type(correction) is float and correction.is_integer():
        correction = int(correction)
    divisor = builtins.max(count(x, dims) - correction, 0)
    return x, dispatch(ops.div, squares, tensor_of(divisor, wide._type.dtype)), average, dims


def var_mean(input: Tensor, dim: Any = None, unbiased: bool | None = None, keepdim: bool = False, *,
             correction: int | float | None = None) -> tuple[Tensor, Tensor]:
    """(variance, mean) over `dim`; the variance divides by n - correction (1 by default: unbiased)."""
    x, variance, average, dims = _moments(input, dim, unbiased, correction, "var")
    dtype = x._type.dtype
    return kept(cast(variance, dtype), x, dims, keepdim), kept(cast(average, dtype), x, dims, keepdim)


def var(input: Tensor, dim: Any = None, unbiased: bool | None = None, keepdim: bool = False, *,
        correction: int | float | None = None) -> Tensor:
    """The variance over `dim`, divided by n - correction (1 by default)."""
    return var_mean(input, dim, unbiased, keepdim, correction=correction)[0]


def std(input: Tensor, dim: Any = None, unbiased: bool | None = None, keepdim: bool = False, *,
        correction: int | float | None = None) -> Tensor:
    """The square root of the variance. The gradient of a constant is 0."""
    return std_mean(input, dim, unbiased, keepdim, correction=correction)[0]


def std_mean(input: Tensor, dim: Any = None, unbiased: bool | None = None, keepdim: bool = False, *,
             correction: int | float | None = None) -> tuple[Tensor, Tensor]:
    """(standard deviation, mean) over `dim`."""
    x, variance, average, dims = _moments(input, dim, unbiased, correction, "std")
    deviation, dtype = dispatch(ops.root, variance), x._type.dtype      # a variance may be beyond f16 where its root is not
    return kept(cast(deviation, dtype), x, dims, keepdim), kept(cast(average, dtype), x, dims, keepdim)


# -- extremes ---------------------------------------------------------------------------------------------------------


def _extreme(op: Any, input: Tensor, dim: Dims, keepdim: bool, name: str) -> Tensor:
    x = one_tensor(name, input)
    dims = wrap_dims(dim, x.ndim, name)
    if x._type.dtype is dt.bool_:
        op = {ops.AMax: ops.Any, ops.AMin: ops.All}[op]
    if count(x, dims) == 0:
        raise IndexError(f"{name}: {x._type} has no elements along dims {dims}")
    return kept(dispatch(op(dims), x), x, dims, keepdim)


def amax(input: Tensor, dim: Dims = (), keepdim: bool = False) -> Tensor:
    """The greatest element over `dim`; equal ones share the gradient."""
    return _extreme(ops.AMax, input, dim, keepdim, "amax")


def amin(input: Tensor, dim: Dims = (), keepdim: bool = False) -> Tensor:
    """The least element over `dim`; equal ones share the gradient."""
    return _extreme(ops.AMin, input, dim, keepdim, "amin")


def aminmax(input: Tensor, *, dim: int | None = None, keepdim: bool = False) -> LeastAndGreatest:
    """(min, max) over `dim`, or of all."""
    return LeastAndGreatest(amin(input, dim, keepdim), amax(input, dim, keepdim))


def max(input: Tensor, dim: Any = None, keepdim: bool = False, *, other: Tensor | None = None) -> Any:
    """max(x): the greatest element. max(x, dim): (values, indices) along it. max(x, y): `maximum`."""
    if isinstance(dim, Tensor) or other is not None:
        return maximum(input, dim if other is None else other)
    return amax(input) if dim is None else _along(ops.ArgMax, input, dim, keepdim, "max")


def min(input: Tensor, dim: Any = None, keepdim: bool = False, *, other: Tensor | None = None) -> Any:
    """min(x): the least element. min(x, dim): (values, indices) along it. min(x, y): `minimum`."""
    if isinstance(dim, Tensor) or other is not None:
        return minimum(input, dim if other is None else other)
    return amin(input) if dim is None else _along(ops.ArgMin, input, dim, keepdim, "min")


def _along(op: Any, input: Tensor, dim: int, keepdim: bool, name: str) -> ValuesAndIndices:
    x = one_tensor(name, input)
    dim = wrap_dim(dim, x.ndim, name)
    if not x._type.shape:
        return ValuesAndIndices(dispatch(ops.Reshape(()), x), placed(constant(0, dt.i64), place_like(x)))
    indices = _arg(op, x, dim, name)
    there = kept(indices, x, (dim,), True)
    values = dispatch(ops.TakeAlong(dim), x, there)
    if keepdim:
        return ValuesAndIndices(values, there)
    return ValuesAndIndices(reshaped(values, indices._type.static_shape), indices)


def _arg(op: Any, x: Tensor, dim: int, name: str) -> Tensor:
    if x._type.static_shape[dim] == 0:
        raise IndexError(f"{name}: {x._type} has no elements along dim {dim}")
    return dispatch(op(dim), cast(x, dt.u8) if x._type.dtype is dt.bool_ else x)


def _position(op: Any, input: Tensor, dim: int | None, keepdim: bool, name: str) -> Tensor:
    x = one_tensor(name, input)
    if dim is None:
        found = _arg(op, reshaped(x, (x.numel(),)), 0, name)
        return kept(found, x, tuple(range(x.ndim)), keepdim)
    dim = wrap_dim(dim, x.ndim, name)
    if not x._type.shape:
        return placed(constant(0, dt.i64), place_like(x))
    return kept(_arg(op, x, dim, name), x, (dim,), keepdim)


def argmax(input: Tensor, dim: int | None = None, keepdim: bool = False) -> Tensor:
    """i64 position of the first greatest element along `dim`, or in the flattened tensor; a NaN is greatest."""
    return _position(ops.ArgMax, input, dim, keepdim, "argmax")


def argmin(input: Tensor, dim: int | None = None, keepdim: bool = False) -> Tensor:
    """i64 position of the first least element along `dim`, or in the flattened tensor; a NaN is least."""
    return _position(ops.ArgMin, input, dim, keepdim, "argmin")


# -- logic and counting -----------------------------------------------------------------------------------------------


def any(input: Tensor, dim: Dims = None, keepdim: bool = False) -> Tensor:
    """Whether some element over `dim` differs from 0."""
    return _logical(ops.Any, input, dim, keepdim, "any")


def all(input: Tensor, dim: Dims = None, keepdim: bool = False) -> Tensor:
    """Whether every element over `dim` differs from 0."""
    return _logical(ops.All, input, dim, keepdim, "all")


def _logical(op: Any, input: Tensor, dim: Dims, keepdim: bool, name: str) -> Tensor:
    x = as_bool(one_tensor(name, input))
    dims = wrap_dims(dim, x.ndim, name)
    found = kept(dispatch(op(dims), x), x, dims, keepdim)
    return cast(found, dt.u8) if input._type.dtype is dt.u8 else found      # PyTorch's exception


def count_nonzero(input: Tensor, dim: Dims = None) -> Tensor:
    """How many elements over `dim` differ from 0."""
    return sum(as_bool(one_tensor("count_nonzero", input)), dim)


# -- norms and exponentials -------------------------------------------------------------------------------------------


def norm(input: Tensor, p: Any = "fro", dim: Dims = None, keepdim: bool = False, *,
         dtype: DType | None = None) -> Tensor:
    """The p-norm of the elements over `dim`: p a number, an infinity, or "fro" (2); "nuc" the sum of the singular values of
    matrices over two dims."""
    x = one_tensor("norm", input)
    x = x if dtype is None else cast(x, dtype)
    _check_float(x, "norm")
    if isinstance(p, str) and p == "nuc":
        return _nuclear(x, dim, keepdim)
    p = 2 if p is None or isinstance(p, str) and p == "fro" else p
    if not is_number(p):
        raise RuntimeError(f"norm: p must be a number, an infinity, 'fro' or 'nuc', got {p!r}")
    if p == math.inf:
        return amax(abs_(x), dim, keepdim)
    if p == -math.inf:
        return amin(abs_(x), dim, keepdim)
    if p == 1:
        return sum(abs_(x), dim, keepdim)
    if p == 0:                              # a count, whose derivative is 0
        ones = dispatch(ops.sign, abs_(x))
        return sum(dispatch(ops.where, dispatch(ops.isnan, x), tensor_of(1, x._type.dtype), ones), dim, keepdim)
    dims = wrap_dims(dim, x.ndim, "norm")
    wide = _wide(x)
    if p == 2:
        squares = dispatch(ops.Sum(dims), dispatch(ops.mul, wide, wide))
        found = squares if same(x.numel(), 0) else dispatch(ops.root, squares)       # whose derivatives are of nothing
    else:
        powers = dispatch(ops.Sum(dims), _power_from_0(abs_(wide), float(p)))
        found = _power_from_0(powers, 1 / p)
    return kept(cast(found, x._type.dtype), x, dims, keepdim)


def _nuclear(x: Tensor, dim: Dims, keepdim: bool) -> Tensor:
    dims = wrap_dims(dim, x.ndim, "norm")
    if len(dims) != 2:
        raise RuntimeError(f"norm: p='nuc' takes matrices over two dims, got {x._type} over {dims}")
    others = [d for d in range(x.ndim) if d not in dims]
    values = dispatch(ops.Svdvals(), permuted(x, (*others, *dims)))
    return kept(dispatch(ops.Sum((len(others),)), values), x, dims, keepdim)


def _power_from_0(x: Tensor, exponent: float) -> Tensor:
    """x ** exponent for x >= 0. The gradient at 0 is 0, whatever the slope is there."""
    zero, one = tensor_of(0, x._type.dtype), tensor_of(1, x._type.dtype)
    is_zero = dispatch(ops.eq, x, zero)
    power = dispatch(ops.pow, dispatch(ops.where, is_zero, one, x), tensor_of(exponent, x._type.dtype))
    return dispatch(ops.where, is_zero, zero if exponent > 0 else tensor_of(math.inf, x._type.dtype), power)


def logsumexp(input: Tensor, dim: Dims, keepdim: bool = False) -> Tensor:
    """log(sum(exp(x))) over `dim`, without overflow on the way."""
    x = floating_one("logsumexp", input)
    dims = wrap_dims(dim, x.ndim, "logsumexp")
    wide = _wide(x)
    if count(x, dims) == 0:
        return kept(dispatch(ops.log, dispatch(ops.Sum(dims), x)), x, dims, keepdim)
    top = dispatch(ops.stop_gradient, dispatch(ops.AMax(dims), wide))
    top = dispatch(ops.where, dispatch(ops.isinf, top), tensor_of(0, wide.dtype), top)
    shifted = dispatch(ops.exp, dispatch(ops.sub, wide, over(top, x, dims)))
    found = dispatch(ops.add, dispatch(ops.log, dispatch(ops.Sum(dims), shifted)), top)
    return kept(cast(found, x._type.dtype), x, dims, keepdim)


def softmax(input: Tensor, dim: int, dtype: DType | None = None) -> Tensor:
    """exp(x) / sum(exp(x)) along `dim`. dtype: what to convert to first."""
    return softened(ops.Softmax, "softmax", input, dim, dtype)


def log_softmax(input: Tensor, dim: int, dtype: DType | None = None) -> Tensor:
    """log(softmax(x)) along `dim`, exact where softmax itself is 0."""
    return softened(ops.LogSoftmax, "log_softmax", input, dim, dtype)


def softened(op: Callable[[int], Op], name: str, input: Tensor, dim: int, dtype: DType | None) -> Tensor:
    """A softmax along a dim, in `dtype`; a 0-d tensor counts as one element along it."""
    x, dtype = one_tensor(name, input), as_dtype(dtype, name)
    x = x if dtype is None else cast(x, dtype)
    _check_float(x, name)
    along = op(wrap_dim(dim, x.ndim, name))
    return dispatch(along, x) if x._type.shape else reshaped(dispatch(along, reshaped(x, (1,))), ())


# -- running ----------------------------------------------------------------------------------------------------------


def cumsum(input: Tensor, dim: int, *, dtype: DType | None = None) -> Tensor:
    """y[i] = x[0] + ... + x[i] along `dim`; integers add up in int64."""
    x = _summable(one_tensor("cumsum", input), dtype)
    dim = wrap_dim(dim, x.ndim, "cumsum")
    return dispatch(ops.Cumsum(dim), x) if x._type.shape else clone(x)


def cumprod(input: Tensor, dim: int, *, dtype: DType | None = None) -> Tensor:
    """y[i] = x[0] * ... * x[i] along `dim`: after step k each element holds the product of 2**k elements."""
    x = _summable(one_tensor("cumprod", input), dtype)
    dim = wrap_dim(dim, x.ndim, "cumprod")
    reach, size = 1, x._type.static_shape[dim] if x._type.shape else 1
    while reach < size:
        x = dispatch(ops.mul, x, _moved_up(x, dim, reach))
        reach *= 2
    return x if size > 1 else clone(x)


def _moved_up(x: Tensor, dim: int, by: int) -> Tensor:
    """x moved `by` places up `dim`, ones moving in."""
    shape = x._type.static_shape
    limits = tuple([size - by if d == dim else size for d, size in enumerate(shape)])
    kept_part = dispatch(ops.Slice((0,) * len(shape), limits, (1,) * len(shape)), x)
    ones = full_of(tuple([by if d == dim else size for d, size in enumerate(shape)]), 1, x.dtype, like=x)
    return dispatch(ops.Concat(dim), ones, kept_part)


def dist(input: Tensor, other: Tensor, p: Number = 2) -> Tensor:
    """The p-norm of input - other."""
    return norm(sub(input, other), p)


__all__ = ["all", "amax", "amin", "aminmax", "any", "argmax", "argmin", "count_nonzero", "cumprod", "cumsum", "dist",
           "log_softmax", "logsumexp", "max", "mean", "min", "nansum", "norm", "prod", "softmax", "std", "std_mean",
           "sum", "var", "var_mean"]
public(globals(), __all__)
