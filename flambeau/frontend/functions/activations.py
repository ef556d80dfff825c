"""Activations and dropout: functions of one number at a time, softmax apart."""
from __future__ import annotations

from collections.abc import Callable

from flambeau.frontend.dispatch import dispatch
from flambeau.frontend.functions.coerce import (
    floating_one,
    one_tensor,
    reshaped,
    spread,
    tensor_of,
    wrap_dim,
)
from flambeau.frontend.functions.elementwise import sigmoid, tanh
from flambeau.frontend.functions.reductions import log_softmax, softmax
from flambeau.frontend.functions.views import chunk
from flambeau.frontend.inplace import before, update_
from flambeau.frontend.tensor import Tensor
from flambeau.ir import ops


def applied(function: Callable[[Tensor], Tensor], input: Tensor, inplace: bool) -> Tensor:
    """function(input), written over `input` when it was asked for in place."""
    return update_(input, function(before(input))) if inplace else function(input)


def _const(value: float, x: Tensor) -> Tensor:
    return tensor_of(value, x._type.dtype)


def _positive(x: Tensor) -> Tensor:
    return dispatch(ops.gt, x, _const(0, x))


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
    x = one_tensor("softplus", input)
    scaled = x if beta == 1 else dispatch(ops.mul, x, _const(beta, x))
    y = softplus_one(scaled)
    y = y if beta == 1 else dispatch(ops.div, y, _const(beta, x))
    return dispatch(ops.where, dispatch(ops.gt, scaled, _const(threshold, x)), x, y)


def logsigmoid(input: Tensor) -> Tensor:
    """log(sigmoid(x)), without underflow."""
    x = one_tensor("logsigmoid", input)
    return dispatch(ops.sub, dispatch(ops.minimum, x, _const(0, x)), _log1p_exp_of_minus_abs(x))


def _exponential_below_0(x: Tensor, alpha: float, inner: float, scale: float) -> Tensor:
    """scale * (x if x > 0 else alpha * (exp(inner * x) - 1)); exp only sees what is not positive, or its overflow
    would turn the gradient of the other branch into NaN."""
    positive = _positive(x)
    safe = dispatch(ops.where, positive, _const(0, x), x)
    if inner != 1:
        safe = dispatch(ops.mul, safe, _const(inner, x))
    curve = dispatch(ops.expm1, safe)
    if alpha * scale != 1:
        curve = dispatch(ops.mul, curve, _const(alpha * scale, x))
    line = x if scale == 1 else dispatch(ops.mul, x, _const(scale, x))
    return dispatch(ops.where, positive, line, curve)


def elu(input: Tensor, alpha: float = 1.0, inplace: bool = False) -> Tensor:
    """x above 0, alpha * (exp(x) - 1) below."""
    return applied(lambda x: _exponential_below_0(x, alpha, 1.0, 1.0), one_tensor("elu", input), inplace)


def celu(input: Tensor, alpha: float = 1.0, inplace: bool = False) -> Tensor:
    """x above 0, alpha * (exp(x / alpha) - 1) below."""
    return applied(lambda x: _exponential_below_0(x, alpha, 1 / alpha, 1.0), one_tensor("celu", input), inplace)


def selu(input: Tensor, inplace: bool = False) -> Tensor:
    """scale * elu(x, alpha) with the two constants that keep mean 0 and variance 1."""
    return applied(lambda x: _exponential_below_0(x, 1.6732632423543772, 1.0, 1.0507009873554805),
                   one_tensor("selu", input), inplace)


def leaky_relu(input: Tensor, negative_slope: float = 0.01, inplace: bool = False) -> Tensor:
    """x above 0, negative_slope * x below."""
    def function(x: Tensor) -> Tensor:
        return dispatch(ops.where, _positive(x), x, dispatch(ops.mul, x, _const(negative_slope, x)))

    return applied(function, one_tensor("leaky_relu", input), inplace)


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


def threshold(input: Tensor, threshold: float, value: float, inplace: bool = False) -> Tensor:
    """x where x > threshold, else value."""
    def function(x: Tensor) -> Tensor:
        return dispatch(ops.where, dispatch(ops.gt, x, _const(threshold, x)), x, _const(value, x))

    return applied(function, one_tensor("threshold", input), inplace)


def hardtanh(input: Tensor, min_val: float = -1.0, max_val: float = 1.0, inplace: bool = False) -> Tensor:
    """x kept in [min_val, max_val]; no gradient at the bounds."""
    def function(x: Tensor) -> Tensor:
        low, high = _const(min_val, x), _const(max_val, x)
        y = dispatch(ops.where, dispatch(ops.le, x, low), low, x)
        return dispatch(ops.where, dispatch(ops.ge, x, high), high, y)

    return applied(function, one_tensor("hardtanh", input), inplace)


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


def hardshrink(input: Tensor, lambd: float = 0.5) -> Tensor:
    """x, and 0 where |x| <= lambd."""
    x = one_tensor("hardshrink", input)
    return dispatch(ops.where, dispatch(ops.le, dispatch(ops.abs, x), _const(lambd, x)), _const(0, x), x)


def softshrink(input: Tensor, lambd: float = 0.5) -> Tensor:
    """x moved by lambd toward 0, and 0 where |x| <= lambd."""
    x = one_tensor("softshrink", input)
    moved = dispatch(ops.sub, x, dispatch(ops.mul, dispatch(ops.sign, x), _const(lambd, x)))
    return dispatch(ops.where, dispatch(ops.le, dispatch(ops.abs, x), _const(lambd, x)), _const(0, x), moved)


def tanhshrink(input: Tensor) -> Tensor:
    """x - tanh(x)."""
    return dispatch(ops.sub, input, tanh(input))


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


def softmin(input: Tensor, dim: int) -> Tensor:
    """softmax(-x)."""
    return softmax(dispatch(ops.neg, input), dim)


__all__ = ["celu", "elu", "gelu", "glu", "hardshrink", "hardsigmoid", "hardswish", "hardtanh", "leaky_relu",
           "log_softmax", "logsigmoid", "mish", "prelu", "relu", "relu6", "selu", "sigmoid", "silu", "softmax",
           "softmin", "softplus", "softshrink", "softsign", "tanh", "tanhshrink", "threshold"]
