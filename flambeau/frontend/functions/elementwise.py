"""Arithmetic of one number from each operand: dtypes promoted, shapes broadcast, by PyTorch's rules."""
from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from flambeau.errors import TypeInferenceError
from flambeau.frontend.functions.calls import public
from flambeau.frontend.functions.coerce import (
    GREATEST,
    Number,
    TensorLike,
    as_bool,
    cast,
    check_operands,
    floating,
    is_number,
    keeps_digits,
    kind_of,
    matched,
    one_tensor,
    promoted,
    result_type,
    stored,
    tensor_of,
    user_line,
)
from flambeau.frontend.functions.marks import in_place, method
from flambeau.frontend.functions.pointwise import maximum, minimum, trunc
from flambeau.frontend.functions.stumbles import STUMBLES, complex_instead
from flambeau.frontend.scalars import Scalar, forced, plain
from flambeau.frontend.tape.dispatch import dispatch
from flambeau.frontend.tensor.tensor import Tensor
from flambeau.ir import dtypes as dt
from flambeau.ir import ops
from flambeau.ir.dtypes import DType
from flambeau.ir.op import Op


@method
def positive(input: Tensor) -> Tensor:
    """x itself. Raises RuntimeError for bool."""
    try:
        if one_tensor("positive", input)._type.dtype is dt.bool_:
            raise TypeInferenceError("positive: takes numbers, got a bool tensor")
        return input
    except STUMBLES as error:
        return complex_instead(error, "positive", input)


    x = one_tensor("sign", input)
    return dispatch(ops.stop_gradient if x._type.dtype is dt.bool_ else ops.sign, x)


@method
@in_place
def square(input: Tensor) -> Tensor:
    """x * x; of bools in int64."""
    try:
        x = one_tensor("square", input)
        x = cast(x, dt.i64) if x._type.dtype is dt.bool_ else x
        return dispatch(ops.mul, x, x)
    except STUMBLES as error:
        return complex_instead(error, "square", input)


@method
@in_place
def round(input: Tensor, *, decimals: int = 0) -> Tensor:
    """To the nearest integer, halves to the even one; to `decimals` places when given."""
    x = one_tensor("round", input)
    if not x._type.dtype.is_floating_point:
        return dispatch(ops.stop_gradient, x)
    if decimals == 0:
        return dispatch(ops.round, x)
    factor = 10.0 ** -decimals if decimals < 0 else 10.0 ** decimals
    scaled = div(x, factor) if decimals < 0 else mul(x, factor)
    rounded = dispatch(ops.round, scaled)
    return mul(rounded, factor) if decimals < 0 else div(rounded, factor)


@method
@in_place
def frac(input: Tensor) -> Tensor:
    """x - trunc(x)."""
    return sub(input, trunc(input))




# -- two operands -----------------------------------------------------------------------------------------------------


@method
@in_place
def add(input: TensorLike, other: TensorLike, *, alpha: Number = 1) -> Tensor:
    """input + alpha * other; bools add up as `or`. Raises RuntimeError for an alpha that the result's dtype lacks."""
    try:
        x, y = promoted("add", input, other)
        if not _is_one(alpha):
            return _plus_scaled("add", x, y, alpha)
        return dispatch(ops.logical_or if x._type.dtype is dt.bool_ else ops.add, x, y)
    except STUMBLES as error:
        return complex_instead(error, "add", input, other, alpha=alpha)


@method
@in_place
def sub(input: TensorLike, other: TensorLike, *, alpha: Number = 1) -> Tensor:
    """input - alpha * other. Raises RuntimeError for bools, and for an alpha that the result's dtype lacks."""
    try:
        if _is_bool(input) or _is_bool(other):
            raise TypeInferenceError("sub: bools have no difference", where=user_line(), hint="use ^ or logical_xor()")
        x, y = promoted("sub", input, other)
        if not _is_one(alpha):
            return _plus_scaled("sub", x, y, alpha)
        return dispatch(ops.sub, x, y)
    except STUMBLES as error:
        return complex_instead(error, "sub", input, other, alpha=alpha)


def _is_bool(value: TensorLike) -> bool:
    return value._type.dtype is dt.bool_ if isinstance(value, Tensor) else isinstance(value, (bool, np.bool_))


def _is_one(alpha: Number) -> bool:
    """Whether a factor can be left out. A runtime scalar can't: asking it would freeze its value."""
    return type(alpha) is int and alpha == 1


def _plus_scaled(name: str, x: Tensor, y: Tensor, alpha: Number) -> Tensor:
    """x + alpha * y or x - alpha * y; alpha has no part in promotion."""
    dtype, alpha = x._type.dtype, plain(alpha)
    if isinstance(alpha, bool) and dtype is not dt.bool_:
        raise TypeInferenceError(f"{name}: a bool alpha goes with bool results only, this one is {dtype}",
                                 where=user_line())
    if not dtype.is_floating_point and not isinstance(alpha, int):
        raise TypeInferenceError(f"{name}: alpha must be an integer for results of {dtype}, got {alpha!r}",
                                 where=user_line())
    scale = stored(f"{name} alpha", -alpha if name == "sub" else alpha, dtype)
    if dtype is dt.bool_:
        return dispatch(ops.logical_or, x, dispatch(ops.logical_and, y, scale))
    return dispatch(ops.add, x, dispatch(ops.mul, y, scale))


def _rounded_once(function: Callable[..., Tensor], *operands: Tensor) -> Tensor:
    """`function` of operands promoted to one dtype (16-bit floats as float32), in that dtype."""
    dtype = operands[0]._type.dtype
    if dtype.kind == "float" and dtype.itemsize == 2:
        return cast(function(*[cast(t, dt.f32) for t in operands]), dtype)
    return function(*operands)


def rsub(input: TensorLike, other: TensorLike, *, alpha: Number = 1) -> Tensor:
    """other - alpha * input."""
    return sub(other, input, alpha=alpha)


@method
@in_place
def mul(input: TensorLike, other: TensorLike) -> Tensor:
    """input * other; bools multiply as `and`."""
    try:
        x, y = promoted("mul", input, other)
        if keeps_digits(other, x._type.dtype):
            return _by_number(ops.mul, x, other)
        return dispatch(ops.logical_and if x._type.dtype is dt.bool_ else ops.mul, x, y)
    except STUMBLES as error:
        return complex_instead(error, "mul", input, other)


def _by_number(op: Op, x: Tensor, number: TensorLike) -> Tensor:
    """`op` of 16-bit floats and a number of more digits: computed in float32."""
    y = cast(number, dt.f32) if isinstance(number, Tensor) else tensor_of(number, dt.f32)
    return cast(dispatch(op, cast(x, dt.f32), y), x._type.dtype)


@method
@in_place
def div(input: TensorLike, other: TensorLike, *, rounding_mode: str | None = None) -> Tensor:
    """input / other, integers as floats. rounding_mode: None, "trunc" (toward 0) or "floor" (integers stay
    integers, and their division by zero raises)."""
    try:
        if rounding_mode is None:
            x, y = floating("div", input, other)
            return _by_number(ops.div, x, other) if keeps_digits(other, x._type.dtype) else dispatch(ops.div, x, y)
        if not isinstance(rounding_mode, str) or rounding_mode not in ("trunc", "floor"):
            raise RuntimeError(f"div: rounding_mode must be None, 'trunc' or 'floor', got {rounding_mode!r}")
        if rounding_mode == "floor":
            return floor_divide(input, other)
        x, y = promoted("div", input, other)
        if x._type.dtype.is_floating_point:
            if keeps_digits(other, x._type.dtype):
                y = cast(other, dt.f32) if isinstance(other, Tensor) else tensor_of(other, dt.f32)
            return _rounded_once(lambda x, y: dispatch(ops.trunc_divide, x, y), x, y)
        return dispatch(ops.trunc_divide, x, y)
    except STUMBLES as error:
        return complex_instead(error, "div", input, other, rounding_mode=rounding_mode)


multiply, divide, subtract = mul, div, sub
true_divide = div


@method
@in_place
def floor_divide(input: TensorLike, other: TensorLike) -> Tensor:
    """floor(input / other). Raises KernelError for an integer divided by zero."""
    x, y = promoted("floor_divide", input, other)
    if keeps_digits(other, x._type.dtype):
        return _by_number(ops.floor_divide, x, other)
    return dispatch(ops.floor_divide, x, y)


@method
@in_place
def pow(input: TensorLike, exponent: TensorLike) -> Tensor:
    """input ** exponent. Raises RuntimeError for an integer tensor to a negative number, and for an exponent that the
    result's dtype does not hold."""
    try:
        check_operands("pow", (input, exponent))
        exponent = plain(exponent)
        if isinstance(input, Tensor) and not input._type.dtype.is_floating_point:
            exponent = forced(exponent)
        if not isinstance(input, Tensor) or isinstance(exponent, Tensor):
            return dispatch(ops.pow, *promoted("pow", input, exponent))
        simple = _simple_power(input, exponent)
        if simple is not None:
            return simple
        dtype = result_type(input, exponent)
        if dtype in (dt.f32, dt.f64):           # PyTorch's exception: here an exponent may become infinite
            return dispatch(ops.pow, cast(input, dtype), tensor_of(exponent, dtype))
        return dispatch(ops.pow, cast(input, dtype), stored("pow exponent", exponent, dtype))
    except STUMBLES as error:
        return complex_instead(error, "pow", input, exponent)


def _simple_power(x: Tensor, exponent: Number) -> Tensor | None:
    """Powers that need no logarithm; None for others."""
    if x._type.dtype is dt.bool_ and isinstance(exponent, bool):
        return dispatch(ops.logical_or, x, tensor_of(not exponent, dt.bool_))
    if not x._type.dtype.is_floating_point:
        if isinstance(exponent, int) and exponent < 0:
            raise RuntimeError("pow: integers to negative integer powers are not allowed")
        return None
    if isinstance(exponent, Scalar):
        return None
    match exponent:
        case 2:
            return dispatch(ops.mul, x, x)
        case 3:
            return dispatch(ops.mul, dispatch(ops.mul, x, x), x)
        case 1:
            return dispatch(ops.mul, x, tensor_of(1, x._type.dtype))
        case 0.5:
            return dispatch(ops.sqrt, x)
        case -1:
            return dispatch(ops.reciprocal, x)
        case -0.5:
            return dispatch(ops.rsqrt, x)
    return None


@method
def float_power(input: TensorLike, exponent: TensorLike) -> Tensor:
    """input ** exponent in float64."""
    return dispatch(ops.pow, *promoted("float_power", input, exponent, dtype=dt.f64))


@method
def fmax(input: Tensor, other: Tensor) -> Tensor:
    """The greater of the two, and the other one beside a NaN."""
    x, y = promoted("fmax", input, other)
    if not x._type.dtype.is_floating_point:
        return maximum(x, y)
    return dispatch(ops.where, dispatch(ops.logical_or, dispatch(ops.ge, x, y), dispatch(ops.isnan, y)), x, y)


@method
def fmin(input: Tensor, other: Tensor) -> Tensor:
    """The lesser of the two, and the other one beside a NaN."""
    x, y = promoted("fmin", input, other)
    if not x._type.dtype.is_floating_point:
        return minimum(x, y)
    return dispatch(ops.where, dispatch(ops.logical_or, dispatch(ops.le, x, y), dispatch(ops.isnan, y)), x, y)


@method
def logaddexp(input: Tensor, other: Tensor) -> Tensor:
    """log(exp(input) + exp(other)), without overflow on the way."""
    x, y = floating("logaddexp", input, other)
    gap = dispatch(ops.neg, dispatch(ops.abs, dispatch(ops.sub, x, y)))
    # Equal infinities have the gap NaN; their sum is themselves.
    gap = dispatch(ops.where, dispatch(ops.eq, x, y), tensor_of(0, gap.dtype), gap)
    return dispatch(ops.add, dispatch(ops.maximum, x, y), dispatch(ops.log1p, dispatch(ops.exp, gap)))


# -- three operands ---------------------------------------------------------------------------------------------------


@method
@in_place
def clamp(input: Tensor, min: TensorLike | None = None, max: TensorLike | None = None) -> Tensor:
    """input kept within [min, max]; max wins where min > max, and a NaN always. The gradient passes inside and at the
    bounds. Raises RuntimeError when both are None."""
    bounds = [b for b in (min, max) if b is not None]
    if not bounds:
        raise RuntimeError("clamp: at least one of 'min' or 'max' must not be None")
    check_operands("clamp", (input, *bounds))
    dtype = result_type(input, *bounds)
    if dtype is dt.bool_ and not all(isinstance(b, Tensor) for b in bounds):
        raise TypeInferenceError("clamp: a bool is no bound of bools", where=user_line(), hint="pass 0 or 1")
    x, *limits = matched("clamp", [cast(one_tensor("clamp", input), dtype),
                                   *[cast(b, dtype) if isinstance(b, Tensor) else stored("clamp", b, dtype)
                                     for b in bounds]])
    if min is not None:
        x = dispatch(ops.logical_or if dtype is dt.bool_ else ops.clamp_min, x, limits.pop(0))
    if max is not None:
        x = dispatch(ops.logical_and if dtype is dt.bool_ else ops.clamp_max, x, limits.pop(0))
    return x


clip = clamp


@method
@in_place
def clamp_min(input: Tensor, min: TensorLike) -> Tensor:
    """Nothing below `min`."""
    return clamp(input, min=min)


@method
@in_place
def clamp_max(input: Tensor, max: TensorLike) -> Tensor:
    """Nothing above `max`."""
    return clamp(input, max=max)


def where(condition: Tensor, input: Any = None, other: Any = None) -> Any:
    """input where the condition holds, else other, broadcast and promoted. The condition alone: nonzero(condition,
    as_tuple=True)."""
    if not isinstance(condition, Tensor):
        raise TypeError(f"where: the condition must be a bool Tensor, got {type(condition).__name__}")
    if input is None and other is None:
        return condition.nonzero(as_tuple=True)
    check_operands("where", (input, other))
    dtype = result_type(input, other)
    return choose(condition, *[_alternative(v, dtype) for v in (input, other)])


def _alternative(value: TensorLike, dtype: DType) -> Tensor:
    """An operand of `where` in the result's dtype."""
    return cast(value, dtype) if isinstance(value, Tensor) else stored("where", value, dtype, may_overflow=True)


def choose(condition: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """x where the condition holds, else y: two tensors of one dtype, broadcast with the condition."""
    return dispatch(ops.where, *matched("where", [as_bool(condition), x, y]))


@method
@in_place
def lerp(input: Tensor, end: Tensor, weight: TensorLike) -> Tensor:
    """input + weight * (end - input), counted from `end` where |weight| >= 0.5, so that both ends are met exactly.

    Raises RuntimeError unless all tensors have one floating-point dtype; a 0-d weight is converted."""
    x, y = one_tensor("lerp", input), one_tensor("lerp", end)
    dtype = x._type.dtype
    shaped = [x, y, weight] if isinstance(weight, Tensor) and weight.ndim else [x, y]
    if not dtype.is_floating_point or any(t._type.dtype is not dtype for t in shaped):
        raise TypeInferenceError(f"lerp: takes tensors of one floating-point dtype, got "
                                 f"{', '.join(str(t._type) for t in shaped)}", where=user_line())
    check_operands("lerp", (x, y, weight))
    wide = dt.f32 if dtype.itemsize == 2 else dtype
    by = cast(weight, dtype) if isinstance(weight, Tensor) else stored("lerp weight", weight, wide)
    return _rounded_once(lambda *operands: dispatch(ops.lerp, *operands), *matched("lerp", [x, y, by]))


@method
@in_place
def addcmul(input: Tensor, tensor1: Tensor, tensor2: Tensor, *, value: Number = 1) -> Tensor:
    """input + value * tensor1 * tensor2."""
    operands = _with_factor("addcmul", input, tensor1, tensor2, value)
    return _rounded_once(lambda x, a, b, factor: dispatch(
        ops.add, x, dispatch(ops.mul, dispatch(ops.mul, a, factor), b)), *operands)


@method
@in_place
def addcdiv(input: Tensor, tensor1: Tensor, tensor2: Tensor, *, value: Number = 1) -> Tensor:
    """input + value * tensor1 / tensor2. Raises RuntimeError when both are integers."""
    if not any(isinstance(t, Tensor) and t._type.dtype.is_floating_point for t in (tensor1, tensor2)):
        raise TypeInferenceError("addcdiv: tensor1 and tensor2 are both integers", where=user_line(),
                                 hint="pass tensor1.float()")
    operands = _with_factor("addcdiv", input, tensor1, tensor2, value)
    return _rounded_once(lambda x, a, b, factor: dispatch(
        ops.add, x, dispatch(ops.div, dispatch(ops.mul, a, factor), b)), *operands)


def _with_factor(name: str, input: Tensor, tensor1: Tensor, tensor2: Tensor, value: Number) -> list[Tensor]:
    """The three tensors in their common dtype and shape, and the factor, which has no part in promotion and keeps its
    digits beside 16-bit floats."""
    tensors = promoted(name, *[one_tensor(name, t) for t in (input, tensor1, tensor2)])
    dtype = tensors[0]._type.dtype
    return [*tensors, stored(f"{name} value", value, dt.f32 if dtype.kind == "float" and dtype.itemsize == 2 else dtype)]


@method
@in_place
def nan_to_num(input: Tensor, nan: float = 0.0, posinf: float | None = None, neginf: float | None = None) -> Tensor:
    """NaN and infinities replaced; by default by 0 and by the dtype's greatest and least finite numbers."""
    x = one_tensor("nan_to_num", input)
    if not x._type.dtype.is_floating_point:
        return dispatch(ops.stop_gradient, x)
    greatest = GREATEST[x._type.dtype]
    x = choose(dispatch(ops.isnan, x), tensor_of(nan, x.dtype), x)
    high, low = (greatest if posinf is None else posinf), (-greatest if neginf is None else neginf)
    x = choose(dispatch(ops.eq, x, tensor_of(float("inf"), x.dtype)), tensor_of(high, x.dtype), x)
    return choose(dispatch(ops.eq, x, tensor_of(float("-inf"), x.dtype)), tensor_of(low, x.dtype), x)


# -- logic and bits ---------------------------------------------------------------------------------------------------






def number_or_tensor(value: object, or_array: bool = False) -> bool:
    """Whether an operator takes this operand (else Python asks the other side). Raises TypeError for arrays, unless the
    caller has a way with them, and tensors of other frameworks, which would meet a comparison with False."""
    if isinstance(value, Tensor) or is_number(value) or isinstance(value, (complex, np.complexfloating)):
        return True
    if or_array and isinstance(value, np.ndarray):
        return False
    if hasattr(type(value), "__dlpack__"):
        raise TypeError(f"an operator beside a Tensor takes tensors and numbers, got {kind_of(value)}")
    return False


__all__ = [
    "add",
    "addcdiv",
    "addcmul",
    "clamp",
    "clamp_max",
    "clamp_min",
    "clip",
    "div",
    "divide",
    "float_power",
    "floor_divide",
    "fmax",
    "fmin",
    "frac",
    "lerp",
    "logaddexp",
    "mul",
    "multiply",
    "nan_to_num",
    "positive",
    "pow",
    "round",
    "rsub",
    "square",
    "sub",
    "subtract",
    "true_divide",
    "where",
]
public(globals(), ["addcdiv", "addcmul", "clamp", "lerp", "nan_to_num", "round", "where"])
