"""Activations and dropout: functions of one number at a time, softmax apart."""
from __future__ import annotations

import math
from collections.abc import Callable

from flambeau.errors import TypeInferenceError
from flambeau.frontend.functions.calls import public
from flambeau.frontend.functions.coerce import (
    Number,
    cast,
    floating_one,
    one_tensor,
    reshaped,
    spread,
    stored,
    user_line,
    wrap_dim,
)
from flambeau.frontend.functions.creation import full_like
from flambeau.frontend.functions.marks import in_place, method
from flambeau.frontend.functions.pointwise import sigmoid, tanh
from flambeau.frontend.functions.reductions import softened
from flambeau.frontend.functions.views import chunk
from flambeau.frontend.scalars import Scalar
from flambeau.frontend.tape.dispatch import dispatch
from flambeau.frontend.tape.writes import before, update_
from flambeau.frontend.tensor.tensor import Tensor
from flambeau.ir import dtypes as dt
from flambeau.ir import ops
from flambeau.ir.dtypes import DType


def applied(function: Callable[[Tensor], Tensor], input: Tensor, inplace: bool) -> Tensor:
    """function(input), written over `input` when it was asked for in place."""
    return update_(input, function(before(input))) if inplace else function(input)


def _const(value: float, x: Tensor) -> Tensor:
    return stored("an activation's constant", value, x._type.dtype)


def _is_one(number: Number) -> bool:
    """Whether a factor can be left out. A runtime number can't: asking it would freeze its value."""
    return not _is_runtime(number) and number == 1


def _is_runtime(*numbers: Number) -> bool:
    return any(isinstance(n, Scalar) for n in numbers)


def _positive(x: Tensor) -> Tensor:
    return dispatch(ops.gt, x, _const(0, x))


def floats(name: str, input: Tensor) -> Tensor:
    """input itself. Raises TypeInferenceError for integers."""
    if not one_tensor(name, input)._type.dtype.is_floating_point:
        raise TypeInferenceError(f"{name}: takes floating-point tensors, got {input._type}", where=user_line(),
                                 hint="pass x.float()")
    return input


def _rounded_once(x: Tensor, function: Callable[[Tensor], Tensor]) -> Tensor:
    """`function` of a floating-point tensor, 16-bit floats taken to float32 on the way, as PyTorch does."""
    dtype = x._type.dtype
    return cast(function(cast(x, dt.f32)), dtype) if dtype.itemsize == 2 else function(x)


@method
@in_place
def relu(input: Tensor, inplace: bool = False) -> Tensor:
    """max(x, 0); NaN stays NaN."""
    return applied(_relu, one_tensor("relu", input), inplace)


def _relu(x: Tensor) -> Tensor:
    return dispatch(ops.relu, x) if x._type.dtype.is_floating_point else dispatch(ops.maximum, x, _const(0, x))


def gelu(input: Tensor, approximate: str = "none") -> Tensor:
    """x times the normal distribution function of x; approximate="tanh" by a tanh."""
    if approximate not in ("none", "tanh"):
        raise RuntimeError(f"gelu: approximate must be 'none' or 'tanh', got {approximate!r}")
    return dispatch(ops.gelu if approximate == "none" else ops.gelu_tanh, one_tensor("gelu", input))


def silu(input: Tensor, inplace: bool = False) -> Tensor:
    """x * sigmoid(x)."""
    return applied(lambda x: dispatch(ops.silu, x), one_tensor("silu", input), inplace)


def _log1p_exp_of_minus_abs(x: Tensor) -> Tensor:
    return dispatch(ops.log1p, dispatch(ops.exp, dispatch(ops.neg, dispatch(ops.abs, x))))


def softplus_one(x: Tensor) -> Tensor:
    """log(1 + exp(x)), without overflow. At 0 maximum halves the gradient and abs has none: sigmoid(0), as due."""
    return dispatch(ops.add, dispatch(ops.maximum, x, _const(0, x)), _log1p_exp_of_minus_abs(x))


def softplus(input: Tensor, beta: float = 1, threshold: float = 20) -> Tensor:
    """log(1 + exp(beta * x)) / beta, and x itself where beta * x > threshold."""
    return _rounded_once(floats("softplus", input), lambda x: _softplus(x, beta, threshold))


def _softplus(x: Tensor, beta: float, threshold: float) -> Tensor:
    scaled = x if _is_one(beta) else dispatch(ops.mul, x, _const(beta, x))
    y = softplus_one(scaled)
    y = y if _is_one(beta) else dispatch(ops.div, y, _const(beta, x))
    return dispatch(ops.where, dispatch(ops.gt, scaled, _const(threshold, x)), x, y)


def logsigmoid(input: Tensor) -> Tensor:
    """log(sigmoid(x)), without underflow."""
    x = one_tensor("logsigmoid", input)
    return dispatch(ops.sub, dispatch(ops.minimum, x, _const(0, x)), _log1p_exp_of_minus_abs(x))


def _exponential_below_0(x: Tensor, alpha: float, inner: float, scale: float) -> Tensor:
    """scale * (alpha * (exp(inner * x) - 1) if x <= 0 else x); exp only sees what is not positive, or its overflow
    would turn the gradient of the other branch into NaN."""
    below = dispatch(ops.le, x, _const(0, x))
    safe = dispatch(ops.where, below, x, _const(0, x))
    if not _is_one(inner):
        safe = dispatch(ops.mul, safe, _const(inner, x))
    curve = dispatch(ops.expm1, safe)
    if not _is_one(alpha * scale):
        curve = dispatch(ops.mul, curve, _const(alpha * scale, x))
    line = x if scale == 1 else dispatch(ops.mul, x, _const(scale, x))
    return dispatch(ops.where, below, curve, line)


@in_place
def elu(input: Tensor, alpha: float = 1.0, inplace: bool = False) -> Tensor:
    """x above 0, alpha * (exp(x) - 1) below."""
    return applied(lambda x: _rounded_once(x, lambda x: _exponential_below_0(x, alpha, 1.0, 1.0)),
                   floats("elu", input), inplace)


@in_place
def celu(input: Tensor, alpha: float = 1.0, inplace: bool = False) -> Tensor:
    """x above 0, alpha * (exp(x / alpha) - 1) below."""
    if alpha == 0:
        raise RuntimeError("celu: alpha must not be 0")
    return applied(lambda x: _rounded_once(x, lambda x: _exponential_below_0(x, alpha, 1 / alpha, 1.0)),
                   floats("celu", input), inplace)


@in_place
def selu(input: Tensor, inplace: bool = False) -> Tensor:
    """scale * elu(x, alpha) with the two constants that keep mean 0 and variance 1."""
    return applied(lambda x: _rounded_once(x, lambda x: _exponential_below_0(
        x, 1.6732632423543772, 1.0, 1.0507009873554805)), floats("selu", input), inplace)


@in_place
def leaky_relu(input: Tensor, negative_slope: float = 0.01, inplace: bool = False) -> Tensor:
    """x above 0, negative_slope * x below."""
    return applied(lambda x: _rounded_once(x, lambda x: dispatch(
        ops.where, _positive(x), x, dispatch(ops.mul, x, _const(negative_slope, x)))),
        floats("leaky_relu", input), inplace)


@method
def prelu(input: Tensor, weight: Tensor) -> Tensor:
    """x above 0, weight * x below; weight: one number, or one for each channel (dim 1)."""
    x = one_tensor("prelu", input)
    if weight.numel() == 1:
        slope = reshaped(weight, ())
    elif x.ndim > 1 and weight._type.shape == (x._type.shape[1],):
        slope = spread(weight, x._type.static_shape, (1,))
    else:
        raise RuntimeError(f"prelu: weight {weight._type} has neither 1 element nor one per channel of {x._type}")
    return dispatch(ops.where, _positive(x), x, dispatch(ops.mul, x, slope))


@in_place
def threshold(input: Tensor, threshold: float, value: float, inplace: bool = False) -> Tensor:
    """x where x > threshold, else value."""
    def function(x: Tensor) -> Tensor:
        wide = cast(x, dt.f32) if x.dtype.is_floating_point and x.dtype.itemsize == 2 else x
        below = dispatch(ops.le, wide, stored("threshold", threshold, wide.dtype))              # NaN stays
        return dispatch(ops.where, below, stored("threshold value", value, x.dtype), x)

    return applied(function, one_tensor("threshold", input), inplace)


@in_place
def hardtanh(input: Tensor, min_val: float = -1.0, max_val: float = 1.0, inplace: bool = False) -> Tensor:
    """x kept in [min_val, max_val]; no gradient at the bounds."""
    if not _is_runtime(min_val, max_val) and min_val > max_val:
        raise ValueError(f"hardtanh: min_val {min_val} is greater than max_val {max_val}")
    if one_tensor("hardtanh", input).dtype.kind == "uint" and min_val < 0:
        raise TypeInferenceError(f"hardtanh: {input._type} has no negative limit such as {min_val}", where=user_line())

    def function(x: Tensor) -> Tensor:
        if not _is_runtime(min_val, max_val) and (min_val != min_val or max_val != max_val):
            return full_like(x, math.nan)
        low, high = stored("hardtanh min_val", min_val, x.dtype), stored("hardtanh max_val", max_val, x.dtype)
        return dispatch(ops.hardtanh, x, low, high)

    return applied(function, one_tensor("hardtanh", input), inplace)


@in_place
def relu6(input: Tensor, inplace: bool = False) -> Tensor:
    """x kept in [0, 6]."""
    return hardtanh(input, 0.0, 6.0, inplace)


def hardsigmoid(input: Tensor, inplace: bool = False) -> Tensor:
    """relu6(x + 3) / 6."""
    return applied(_hardsigmoid, one_tensor("hardsigmoid", input), inplace)


def _hardsigmoid(x: Tensor) -> Tensor:
    return dispatch(ops.mul, relu6(dispatch(ops.add, x, _const(3, x))), _const(1 / 6, x))


def hardswish(input: Tensor, inplace: bool = False) -> Tensor:
    """x * relu6(x + 3) / 6."""
    return applied(lambda x: dispatch(ops.mul, x, _hardsigmoid(x)), one_tensor("hardswish", input), inplace)


@method
def hardshrink(input: Tensor, lambd: float = 0.5) -> Tensor:
    """x, and 0 where |x| <= lambd."""
    x = floats("hardshrink", input)
    return dispatch(ops.where, dispatch(ops.le, dispatch(ops.abs, x), _const(lambd, x)), _const(0, x), x)


def softshrink(input: Tensor, lambd: float = 0.5) -> Tensor:
    """x moved by lambd toward 0, and 0 where |x| <= lambd."""
    if not 0 <= lambd < math.inf:
        raise RuntimeError(f"softshrink: lambd must be >= 0 and finite, got {lambd}")
    stored("softshrink lambd", lambd, floats("softshrink", input).dtype)
    return _rounded_once(input, lambda x: _softshrink(x, lambd))


def _softshrink(x: Tensor, lambd: float) -> Tensor:
    moved = dispatch(ops.sub, x, dispatch(ops.mul, dispatch(ops.sign, x), _const(lambd, x)))
    small = dispatch(ops.le, dispatch(ops.abs, x), _const(lambd, x))
    return dispatch(ops.where, small, dispatch(ops.mul, x, _const(0, x)), moved)


def tanhshrink(input: Tensor) -> Tensor:
    """x - tanh(x)."""
    x = floating_one("tanhshrink", input)
    return dispatch(ops.sub, x, tanh(x))


def softsign(input: Tensor) -> Tensor:
    """x / (1 + |x|)."""
    x = floating_one("softsign", input)
    return dispatch(ops.div, x, dispatch(ops.add, dispatch(ops.abs, x), _const(1, x)))


def mish(input: Tensor, inplace: bool = False) -> Tensor:
    """x * tanh(softplus(x))."""
    return applied(lambda x: dispatch(ops.mul, x, dispatch(ops.tanh, softplus_one(x))), one_tensor("mish", input),
                   inplace)


def glu(input: Tensor, dim: int = -1) -> Tensor:
    """a * sigmoid(b) for the halves a and b of the input along dim. Raises RuntimeError for an odd size."""
    x = one_tensor("glu", input)
    dim = wrap_dim(dim, x.ndim, "glu")
    if not x.ndim or x._type.static_shape[dim] % 2:
        raise RuntimeError(f"glu: dim {dim} of {x._type} must have an even size")
    a, b = chunk(x, 2, dim)
    return dispatch(ops.mul, a, dispatch(ops.sigmoid, b))


# -- along a dim ------------------------------------------------------------------------------------------------------


def _implicit(input: Tensor, dim: int | None) -> int:
    """PyTorch's old choice where no dim is given."""
    return (0 if input.ndim in (0, 1, 3) else 1) if dim is None else dim


def softmax(input: Tensor, dim: int | None = None, _stacklevel: int = 3, dtype: DType | None = None) -> Tensor:
    """exp(x) / sum(exp(x)) along `dim` (None: dim 0 for 0, 1 and 3 dims, else dim 1). dtype: what to convert to
    first."""
    return softened(ops.Softmax, "softmax", input, _implicit(input, dim), dtype)


def log_softmax(input: Tensor, dim: int | None = None, _stacklevel: int = 3, dtype: DType | None = None) -> Tensor:
    """log(softmax(x)) along `dim`, exact where softmax itself is 0; otherwise as softmax."""
    return softened(ops.LogSoftmax, "log_softmax", input, _implicit(input, dim), dtype)


def softmin(input: Tensor, dim: int | None = None, _stacklevel: int = 3, dtype: DType | None = None) -> Tensor:
    """softmax(-x)."""
    return softened(ops.Softmax, "softmin", dispatch(ops.neg, input), _implicit(input, dim), dtype)


__all__ = ["celu", "elu", "gelu", "glu", "hardshrink", "hardsigmoid", "hardswish", "hardtanh", "leaky_relu",
           "log_softmax", "logsigmoid", "mish", "prelu", "relu", "relu6", "selu", "sigmoid", "silu", "softmax",
           "softmin", "softplus", "softshrink", "softsign", "tanh", "tanhshrink", "threshold"]
public(globals(), __all__)
