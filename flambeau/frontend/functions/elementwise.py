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
    floating_one,
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
from flambeau.frontend.scalars import Scalar, forced, plain
from flambeau.frontend.tape.dispatch import dispatch
from flambeau.frontend.tensor.tensor import Tensor
from flambeau.ir import dtypes as dt
from flambeau.ir import ops
from flambeau.ir.dtypes import DType
from flambeau.ir.op import Op

Unary = Callable[[Tensor], Tensor]


def _unary(op: Op, meaning: str, *, keeps_integers: bool = False) -> Unary:
    """The function of one tensor that applies `op`. Integers become floats first, or are returned as they are."""
    name = op.name

    def function(input: Tensor) -> Tensor:
        x = one_tensor(name, input)
        if keeps_integers and not x._type.dtype.is_floating_point:
            return dispatch(ops.stop_gradient, x)
        return dispatch(op, floating_one(name, x))

    function.__name__ = function.__qualname__ = name
    kept = "integers unchanged" if keeps_integers else "integers are taken to the default float dtype"
    function.__doc__ = f"{meaning}, element by element; {kept}."
    return function


exp = _unary(ops.exp, "e**x")
exp2 = _unary(ops.exp2, "2**x")
expm1 = _unary(ops.expm1, "e**x - 1, accurate near 0")
log = _unary(ops.log, "Natural logarithm")
log2 = _unary(ops.log2, "Logarithm to base 2")
log10 = _unary(ops.log10, "Logarithm to base 10")
log1p = _unary(ops.log1p, "log(1 + x), accurate near 0")
sqrt = _unary(ops.sqrt, "Square root, NaN below 0")
rsqrt = _unary(ops.rsqrt, "1 / sqrt(x)")
reciprocal = _unary(ops.reciprocal, "1 / x")
sin = _unary(ops.sin, "Sine")
cos = _unary(ops.cos, "Cosine")
tan = _unary(ops.tan, "Tangent")
asin = _unary(ops.asin, "Inverse sine")
acos = _unary(ops.acos, "Inverse cosine")
atan = _unary(ops.atan, "Inverse tangent")
sinh = _unary(ops.sinh, "Hyperbolic sine")
cosh = _unary(ops.cosh, "Hyperbolic cosine")
tanh = _unary(ops.tanh, "Hyperbolic tangent")
asinh = _unary(ops.asinh, "Inverse hyperbolic sine")
acosh = _unary(ops.acosh, "Inverse hyperbolic cosine")
atanh = _unary(ops.atanh, "Inverse hyperbolic tangent")
erf = _unary(ops.erf, "Error function")
erfc = _unary(ops.erfc, "1 - erf(x)")
sigmoid = _unary(ops.sigmoid, "1 / (1 + e**-x)")
floor = _unary(ops.floor, "Greatest integer <= x", keeps_integers=True)
ceil = _unary(ops.ceil, "Least integer >= x", keeps_integers=True)
trunc = _unary(ops.trunc, "x without its fraction", keeps_integers=True)
arcsin, arccos, arctan, arcsinh, arccosh, arctanh, fix = asin, acos, atan, asinh, acosh, atanh, trunc


def neg(input: Tensor) -> Tensor:
    """-x. Raises RuntimeError for bool."""
    return dispatch(ops.neg, one_tensor("neg", input))


def positive(input: Tensor) -> Tensor:
    """x itself. Raises RuntimeError for bool."""
    if one_tensor("positive", input)._type.dtype is dt.bool_:
        raise TypeInferenceError("positive: takes numbers, got a bool tensor")
    return input


def abs(input: Tensor) -> Tensor:
    """|x|."""
    return dispatch(ops.abs, one_tensor("abs", input))


def sign(input: Tensor) -> Tensor:
    """-1, 0 or 1; 0 for NaN, as PyTorch has it. A bool is its own."""
    x = one_tensor("sign", input)
    return dispatch(ops.stop_gradient if x._type.dtype is dt.bool_ else ops.sign, x)


def square(input: Tensor) -> Tensor:
    """x * x; of bools in int64."""
    x = one_tensor("square", input)
    x = cast(x, dt.i64) if x._type.dtype is dt.bool_ else x
    return dispatch(ops.mul, x, x)


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


def frac(input: Tensor) -> Tensor:
    """x - trunc(x)."""
    return sub(input, trunc(input))


negative, absolute, sgn = neg, abs, sign


# -- two operands -----------------------------------------------------------------------------------------------------


def add(input: TensorLike, other: TensorLike, *, alpha: Number = 1) -> Tensor:
    """input + alpha * other; bools add up as `or`. Raises RuntimeError for an alpha that the result's dtype lacks."""
    x, y = promoted("add", input, other)
    if not _is_one(alpha):
        return _plus_scaled("add", x, y, alpha)
    return dispatch(ops.logical_or if x._type.dtype is dt.bool_ else ops.add, x, y)


def sub(input: TensorLike, other: TensorLike, *, alpha: Number = 1) -> Tensor:
    """input - alpha * other. Raises RuntimeError for bools, and for an alpha that the result's dtype lacks."""
    if _is_bool(input) or _is_bool(other):
        raise TypeInferenceError("sub: bools have no difference", where=user_line(), hint="use ^ or logical_xor()")
    x, y = promoted("sub", input, other)
    if not _is_one(alpha):
        return _plus_scaled("sub", x, y, alpha)
    return dispatch(ops.sub, x, y)


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


def mul(input: TensorLike, other: TensorLike) -> Tensor:
    """input * other; bools multiply as `and`."""
    x, y = promoted("mul", input, other)
    if keeps_digits(other, x._type.dtype):
        return _by_number(ops.mul, x, other)
    return dispatch(ops.logical_and if x._type.dtype is dt.bool_ else ops.mul, x, y)


def _by_number(op: Op, x: Tensor, number: TensorLike) -> Tensor:
    """`op` of 16-bit floats and a number of more digits: computed in float32."""
    y = cast(number, dt.f32) if isinstance(number, Tensor) else tensor_of(number, dt.f32)
    return cast(dispatch(op, cast(x, dt.f32), y), x._type.dtype)


def div(input: TensorLike, other: TensorLike, *, rounding_mode: str | None = None) -> Tensor:
    """input / other, integers as floats. rounding_mode: None, "trunc" (toward 0) or "floor" (integers stay
    integers, and their division by zero raises)."""
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


def floor_divide(input: TensorLike, other: TensorLike) -> Tensor:
    """floor(input / other). Raises KernelError for an integer divided by zero."""
    x, y = promoted("floor_divide", input, other)
    if keeps_digits(other, x._type.dtype):
        return _by_number(ops.floor_divide, x, other)
    return dispatch(ops.floor_divide, x, y)


def remainder(input: TensorLike, other: TensorLike) -> Tensor:
    """input - floor(input / other) * other: Python's %, with the sign of `other`."""
    return dispatch(ops.remainder, *promoted("remainder", input, other))


def fmod(input: TensorLike, other: TensorLike) -> Tensor:
    """C's fmod, with the sign of `input`."""
    return dispatch(ops.fmod, *promoted("fmod", input, other))


def pow(input: TensorLike, exponent: TensorLike) -> Tensor:
    """input ** exponent. Raises RuntimeError for an integer tensor to a negative number, and for an exponent that the
    result's dtype does not hold."""
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


def float_power(input: TensorLike, exponent: TensorLike) -> Tensor:
    """input ** exponent in float64."""
    return dispatch(ops.pow, *promoted("float_power", input, exponent, dtype=dt.f64))


def maximum(input: Tensor, other: TensorLike) -> Tensor:
    """The greater of the two; NaN if either is."""
    x, y = promoted("maximum", input, other)
    return dispatch(ops.logical_or if x._type.dtype is dt.bool_ else ops.maximum, x, y)


def minimum(input: Tensor, other: TensorLike) -> Tensor:
    """The lesser of the two; NaN if either is."""
    x, y = promoted("minimum", input, other)
    return dispatch(ops.logical_and if x._type.dtype is dt.bool_ else ops.minimum, x, y)


def fmax(input: Tensor, other: Tensor) -> Tensor:
    """The greater of the two, and the other one beside a NaN."""
    x, y = promoted("fmax", input, other)
    chosen = dispatch(ops.ge, x, y)
    if x._type.dtype.is_floating_point:
        chosen = dispatch(ops.logical_or, chosen, dispatch(ops.isnan, y))
    return dispatch(ops.where, chosen, x, y)


def fmin(input: Tensor, other: Tensor) -> Tensor:
    """The lesser of the two, and the other one beside a NaN."""
    x, y = promoted("fmin", input, other)
    chosen = dispatch(ops.le, x, y)
    if x._type.dtype.is_floating_point:
        chosen = dispatch(ops.logical_or, chosen, dispatch(ops.isnan, y))
    return dispatch(ops.where, chosen, x, y)


def atan2(input: Tensor, other: Tensor) -> Tensor:
    """The angle of the point (other, input), in (-pi, pi]."""
    return dispatch(ops.atan2, *floating("atan2", input, other))


def hypot(input: Tensor, other: Tensor) -> Tensor:
    """sqrt(input**2 + other**2), without overflow on the way."""
    return dispatch(ops.hypot, *floating("hypot", input, other))


def logaddexp(input: Tensor, other: Tensor) -> Tensor:
    """log(exp(input) + exp(other)), without overflow on the way."""
    x, y = floating("logaddexp", input, other)
    gap = dispatch(ops.neg, dispatch(ops.abs, dispatch(ops.sub, x, y)))
    # Equal infinities have the gap NaN; their sum is themselves.
    gap = dispatch(ops.where, dispatch(ops.eq, x, y), tensor_of(0, gap.dtype), gap)
    return dispatch(ops.add, dispatch(ops.maximum, x, y), dispatch(ops.log1p, dispatch(ops.exp, gap)))


def xlogy(input: TensorLike, other: TensorLike) -> Tensor:
    """input * log(other), and 0 where input is 0 (unless other is NaN)."""
    return dispatch(ops.xlogy, *floating("xlogy", input, other))


def eq_zero(x: Tensor) -> Tensor:
    """x == 0."""
    return dispatch(ops.eq, x, tensor_of(0, x.dtype))


# -- three operands ---------------------------------------------------------------------------------------------------


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


def clamp_min(input: Tensor, min: TensorLike) -> Tensor:
    """Nothing below `min`."""
    return clamp(input, min=min)


def clamp_max(input: Tensor, max: TensorLike) -> Tensor:
    """Nothing above `max`."""
    return clamp(input, max=max)


def where(condition: Tensor, input: Any = None, other: Any = None) -> Tensor:
    """input where the condition holds, else other, broadcast and promoted."""
    if not isinstance(condition, Tensor):
        raise TypeError(f"where: the condition must be a bool Tensor, got {type(condition).__name__}")
    if input is None and other is None:
        raise TypeError("where: pass input and other; for the indices of true elements use "
                        "nonzero(condition, as_tuple=True)")
    check_operands("where", (input, other))
    dtype = result_type(input, other)
    return choose(condition, *[_alternative(v, dtype) for v in (input, other)])


def _alternative(value: TensorLike, dtype: DType) -> Tensor:
    """An operand of `where` in the result's dtype."""
    return cast(value, dtype) if isinstance(value, Tensor) else stored("where", value, dtype, may_overflow=True)


def choose(condition: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """x where the condition holds, else y: two tensors of one dtype, broadcast with the condition."""
    return dispatch(ops.where, *matched("where", [as_bool(condition), x, y]))


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


def addcmul(input: Tensor, tensor1: Tensor, tensor2: Tensor, *, value: Number = 1) -> Tensor:
    """input + value * tensor1 * tensor2."""
    operands = _with_factor("addcmul", input, tensor1, tensor2, value)
    return _rounded_once(lambda x, a, b, factor: dispatch(
        ops.add, x, dispatch(ops.mul, dispatch(ops.mul, a, factor), b)), *operands)


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


def logical_not(input: Tensor) -> Tensor:
    """x == 0."""
    return dispatch(ops.logical_not, as_bool(one_tensor("logical_not", input)))


def _logical(op: Op, meaning: str) -> Callable[[Tensor, Tensor], Tensor]:
    def function(input: Tensor, other: Tensor) -> Tensor:
        check_operands(op.name, (input, other))
        return dispatch(op, *promoted(op.name, input, other, dtype=dt.bool_))

    function.__name__ = function.__qualname__ = op.name
    function.__doc__ = f"{meaning}, of whether the elements differ from 0."
    return function


logical_and = _logical(ops.logical_and, "Both hold")
logical_or = _logical(ops.logical_or, "One or both hold")
logical_xor = _logical(ops.logical_xor, "Exactly one holds")


def bitwise_not(input: Tensor) -> Tensor:
    """Every bit flipped; `not` for bools."""
    return dispatch(ops.bitwise_not, one_tensor("bitwise_not", input))


def _bitwise(op: Op, name: str, meaning: str) -> Callable[[TensorLike, TensorLike], Tensor]:
    def function(input: TensorLike, other: TensorLike) -> Tensor:
        return dispatch(op, *promoted(name, input, other))

    function.__name__ = function.__qualname__ = name
    function.__doc__ = f"{meaning}. Raises RuntimeError for floats."
    return function


bitwise_and = _bitwise(ops.bitwise_and, "bitwise_and", "Bits set in both")
bitwise_or = _bitwise(ops.bitwise_or, "bitwise_or", "Bits set in either")
bitwise_xor = _bitwise(ops.bitwise_xor, "bitwise_xor", "Bits set in one only")
bitwise_left_shift = _bitwise(ops.shift_left, "bitwise_left_shift", "Bits moved up")
bitwise_right_shift = _bitwise(ops.shift_right, "bitwise_right_shift", "Bits moved down, keeping the sign")


def number_or_tensor(value: object) -> bool:
    """Whether an operator takes this operand (else Python asks the other side). Raises TypeError for arrays, tensors of
    other frameworks and complex numbers, which would meet a comparison with False."""
    if isinstance(value, Tensor) or is_number(value):
        return True
    if isinstance(value, (complex, np.complexfloating, np.ndarray)) or hasattr(type(value), "__dlpack__"):
        raise TypeError(f"an operator beside a Tensor takes tensors and numbers, got {kind_of(value)}")
    return False


__all__ = [
    "abs",
    "absolute",
    "acos",
    "acosh",
    "add",
    "addcdiv",
    "addcmul",
    "arccos",
    "arccosh",
    "arcsin",
    "arcsinh",
    "arctan",
    "arctanh",
    "asin",
    "asinh",
    "atan",
    "atan2",
    "atanh",
    "bitwise_and",
    "bitwise_left_shift",
    "bitwise_not",
    "bitwise_or",
    "bitwise_right_shift",
    "bitwise_xor",
    "ceil",
    "clamp",
    "clamp_max",
    "clamp_min",
    "clip",
    "cos",
    "cosh",
    "div",
    "erf",
    "erfc",
    "exp",
    "exp2",
    "expm1",
    "fix",
    "float_power",
    "floor",
    "floor_divide",
    "fmax",
    "fmin",
    "fmod",
    "frac",
    "hypot",
    "lerp",
    "log",
    "log1p",
    "log2",
    "log10",
    "logaddexp",
    "logical_and",
    "logical_not",
    "logical_or",
    "logical_xor",
    "maximum",
    "minimum",
    "mul",
    "nan_to_num",
    "neg",
    "negative",
    "positive",
    "pow",
    "reciprocal",
    "remainder",
    "round",
    "rsqrt",
    "rsub",
    "sgn",
    "sigmoid",
    "sign",
    "sin",
    "sinh",
    "sqrt",
    "square",
    "sub",
    "tan",
    "tanh",
    "trunc",
    "where",
    "xlogy",
]
public(globals(), ["addcdiv", "addcmul", "clamp", "lerp", "nan_to_num", "round", "where"])
