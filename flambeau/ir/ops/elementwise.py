"""Ops of one number from one number of each operand, one row each: meaning, scalar expression, partials.

The meaning (NumPy) and the scalar expression (what is compiled) are written apart on purpose: each checks the other.
Where NumPy and PyTorch differ, PyTorch's answer is the meaning: sign(NaN) = 0, maximum(x, x) halves the cotangent.
Where neither says which of two zeros wins, +0 is the greater.
"""
from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

import numpy as np

from flambeau.errors import KernelError
from flambeau.ir import dtypes
from flambeau.ir.op import OPS
from flambeau.ir.ops.families import (
    INT_DIVISION,
    Elementwise,
    ScalarExpression,
    map_float,
    plus,
    scaled,
    square,
)
from flambeau.ir.ops.families import declare as _declare
from flambeau.ir.ops.normalization import widened
from flambeau.ir.ops.sampling import ANYWHERE, AWAY_FROM_ZERO, BETWEEN_STEPS, POSITIVE
from flambeau.ir.ops.surface import Surface

if TYPE_CHECKING:
    from flambeau.ir.builder import Builder
    from flambeau.ir.graph import Value

_SQRT_HALF, _SQRT_2_OVER_PI, _TWO_OVER_SQRT_PI = math.sqrt(0.5), math.sqrt(2 / math.pi), 2 / math.sqrt(math.pi)
_INVERSE_SQRT_2_PI, _GELU_CUBIC = 1 / math.sqrt(2 * math.pi), 0.044715


def _one_minus(b: Builder, x: Value) -> Value:
    return b.sub(b.scalar(1.0, x), x)


def _level(b: Builder, g: Value, y: Value, *operands: Value) -> Value:
    """The derivative of steps: 0, which is a gradient, where no derivative at all would be none."""
    return b.zeros(g.type)


_np_erf, _np_erfc = map_float(math.erf), map_float(math.erfc)

# -- arithmetic of one operand ----------------------------------------------------------------------------------------

neg = _declare("neg", 1, np.negative, "neg", lambda b, g, y, x: b.neg(g), domain="number", exact=True,
               surface=Surface("-x", aliases=("negative",)))
abs = _declare("abs", 1, np.abs, "abs", lambda b, g, y, x: b.mul(g, b.sign(x)), domain="number",
               within=[AWAY_FROM_ZERO], exact=True, surface=Surface("|x|", aliases=("absolute",)))
sign = _declare("sign", 1, lambda x: np.subtract(x > 0, x < 0, dtype=np.int8).astype(x.dtype),
                lambda e, x: (e("select", e.test("isnan", x), e.const(0), e("sign", x))
                              if e.dtype.is_floating_point else e("sign", x)), _level,
                domain="number", within=[AWAY_FROM_ZERO], exact=True,
                surface=Surface("-1, 0 or 1; 0 for NaN, as PyTorch has it; a bool is its own", elsewhere="stop_gradient",
                                aliases=("sgn",)))
reciprocal = _declare("reciprocal", 1, np.reciprocal, lambda e, x: e("div", e.const(1.0), x),
                      lambda b, g, y, x: b.neg(b.mul(g, square(b, y))), within=[AWAY_FROM_ZERO], exact=True,
                      surface=Surface("1 / x"))
sqrt = _declare("sqrt", 1, np.sqrt, "sqrt", lambda b, g, y, x: b.div(scaled(b, g, 0.5), y), within=[POSITIVE],
                exact=True, surface=Surface("Square root, NaN below 0"))
rsqrt = _declare("rsqrt", 1, lambda x: 1 / np.sqrt(x), "rsqrt",
                 lambda b, g, y, x: b.mul(scaled(b, g, -0.5), b.mul(y, square(b, y))), within=[POSITIVE],
                 surface=Surface("1 / sqrt(x)"))
floor = _declare("floor", 1, np.floor, "floor", _level, within=[BETWEEN_STEPS], exact=True,
                 surface=Surface("Greatest integer <= x", elsewhere="stop_gradient"))
ceil = _declare("ceil", 1, np.ceil, "ceil", _level, within=[BETWEEN_STEPS], exact=True,
                surface=Surface("Least integer >= x", elsewhere="stop_gradient"))
trunc = _declare("trunc", 1, np.trunc, "trunc", _level, within=[BETWEEN_STEPS], exact=True,
                 surface=Surface("x without its fraction", elsewhere="stop_gradient", aliases=("fix",)))
round = _declare("round", 1, np.rint, "round", _level, within=[BETWEEN_STEPS], exact=True)

deg2rad = _declare("deg2rad", 1, np.deg2rad, lambda e, x: e("mul", x, e.const(math.pi / 180)),
                   lambda b, g, y, x: scaled(b, g, math.pi / 180), surface=Surface("Degrees as radians"))
rad2deg = _declare("rad2deg", 1, np.rad2deg, lambda e, x: e("mul", x, e.const(180 / math.pi)),
                   lambda b, g, y, x: scaled(b, g, 180 / math.pi), surface=Surface("Radians as degrees"))
angle = _declare("angle", 1, lambda x: np.where(x < 0, math.pi, np.where(x >= 0, 0.0, x)),
                 lambda e, x: e("select", e.test("lt", x, e.const(0.0)), e.const(math.pi),
                                e("select", e.test("isnan", x), x, e.const(0.0))), _level, within=[AWAY_FROM_ZERO],
                 surface=Surface("The angle of a real number: pi below 0, else 0; NaN of NaN", is_in_place=False))

# -- exponentials and logarithms --------------------------------------------------------------------------------------

exp = _declare("exp", 1, np.exp, "exp", lambda b, g, y, x: b.mul(g, y), surface=Surface("e**x"))
exp2 = _declare("exp2", 1, np.exp2, "exp2", lambda b, g, y, x: b.mul(scaled(b, g, math.log(2)), y),
                surface=Surface("2**x", special=("exp2",)))
expm1 = _declare("expm1", 1, np.expm1, "expm1", lambda b, g, y, x: b.mul(g, plus(b, y, 1.0)),
                 surface=Surface("e**x - 1, accurate near 0", special=("expm1",)))
log = _declare("log", 1, np.log, "log", lambda b, g, y, x: b.div(g, x), within=[POSITIVE],
               surface=Surface("Natural logarithm"))
log2 = _declare("log2", 1, np.log2, "log2", lambda b, g, y, x: b.div(scaled(b, g, 1 / math.log(2)), x),
                within=[POSITIVE], surface=Surface("Logarithm to base 2"))
log10 = _declare("log10", 1, np.log10, "log10", lambda b, g, y, x: b.div(scaled(b, g, 1 / math.log(10)), x),
                 within=[POSITIVE], surface=Surface("Logarithm to base 10"))
log1p = _declare("log1p", 1, np.log1p, "log1p", lambda b, g, y, x: b.div(g, plus(b, x, 1.0)), within=[POSITIVE],
                 surface=Surface("log(1 + x), accurate near 0", special=("log1p",)))

# -- trigonometric and hyperbolic -------------------------------------------------------------------------------------

_INSIDE_ONE: Final = ((-0.9, 0.9),)
sin = _declare("sin", 1, np.sin, "sin", lambda b, g, y, x: b.mul(g, b.cos(x)), surface=Surface("Sine"))
cos = _declare("cos", 1, np.cos, "cos", lambda b, g, y, x: b.neg(b.mul(g, b.sin(x))), surface=Surface("Cosine"))
tan = _declare("tan", 1, np.tan, "tan", lambda b, g, y, x: b.mul(g, plus(b, square(b, y), 1.0)),
               within=[((-1.2, 1.2),)], tolerance=4.0, surface=Surface("Tangent"))
asin = _declare("asin", 1, np.arcsin, "asin",
                lambda b, g, y, x: b.mul(g, b.rsqrt(_one_minus(b, square(b, x)))), within=[_INSIDE_ONE],
                surface=Surface("Inverse sine", aliases=("arcsin",)))
acos = _declare("acos", 1, np.arccos, "acos",
                lambda b, g, y, x: b.neg(b.mul(g, b.rsqrt(_one_minus(b, square(b, x))))), within=[_INSIDE_ONE],
                surface=Surface("Inverse cosine", aliases=("arccos",)))
atan = _declare("atan", 1, np.arctan, "atan", lambda b, g, y, x: b.div(g, plus(b, square(b, x), 1.0)),
                surface=Surface("Inverse tangent", aliases=("arctan",)))
sinh = _declare("sinh", 1, np.sinh, "sinh", lambda b, g, y, x: b.mul(g, b.cosh(x)), surface=Surface("Hyperbolic sine"))
cosh = _declare("cosh", 1, np.cosh, "cosh", lambda b, g, y, x: b.mul(g, b.sinh(x)),
                surface=Surface("Hyperbolic cosine"))
tanh = _declare("tanh", 1, np.tanh, "tanh", lambda b, g, y, x: b.mul(g, _one_minus(b, square(b, y))),
                surface=Surface("Hyperbolic tangent"))
asinh = _declare("asinh", 1, np.arcsinh, "asinh",
                 lambda b, g, y, x: b.mul(g, b.rsqrt(plus(b, square(b, x), 1.0))),
                 surface=Surface("Inverse hyperbolic sine", aliases=("arcsinh",)))
acosh = _declare("acosh", 1, np.arccosh, "acosh",
                 lambda b, g, y, x: b.mul(g, b.rsqrt(b.mul(plus(b, x, -1.0), plus(b, x, 1.0)))),
                 within=[((1.2, 3.0),)], surface=Surface("Inverse hyperbolic cosine", aliases=("arccosh",)))
atanh = _declare("atanh", 1, np.arctanh, "atanh", lambda b, g, y, x: b.div(g, _one_minus(b, square(b, x))),
                 within=[_INSIDE_ONE], surface=Surface("Inverse hyperbolic tangent", aliases=("arctanh",)))

# -- the error function and activations -------------------------------------------------------------------------------


def _gaussian(b: Builder, x: Value, factor: float, exponent: float) -> Value:
    """factor * exp(exponent * x*x)"""
    return scaled(b, b.exp(scaled(b, square(b, x), exponent)), factor)


def _np_sigmoid(x: np.ndarray) -> np.ndarray:
    small = np.exp(-np.abs(x))              # at most 1, so neither branch overflows
    return np.where(x < 0, small, 1.0) / (1.0 + small)


def _gelu_partial(b: Builder, g: Value, y: Value, x: Value) -> Value:
    """d/dx (x * cdf(x)) = cdf(x) + x * pdf(x)"""
    cdf = scaled(b, plus(b, b.erf(scaled(b, x, _SQRT_HALF)), 1.0), 0.5)
    return b.mul(g, b.add(cdf, b.mul(x, _gaussian(b, x, _INVERSE_SQRT_2_PI, -0.5))))


def _gelu_tanh_partial(b: Builder, g: Value, y: Value, x: Value) -> Value:
    """With t = tanh(u(x)): 0.5*(1 + t) + 0.5*x*(1 - t*t)*u'(x)"""
    dtype, g, x = x.dtype, widened(b, g), widened(b, x)           # u' is beyond f16 from x = 700 on
    x2 = square(b, x)
    u = b.mul(scaled(b, x, _SQRT_2_OVER_PI), plus(b, scaled(b, x2, _GELU_CUBIC), 1.0))
    slope = scaled(b, plus(b, scaled(b, x2, 3 * _GELU_CUBIC), 1.0), _SQRT_2_OVER_PI)
    t = b.tanh(u)
    curved = b.mul(b.mul(x, _one_minus(b, square(b, t))), slope)
    return b.cast(b.mul(g, scaled(b, b.add(plus(b, t, 1.0), curved), 0.5)), dtype)


def _silu_partial(b: Builder, g: Value, y: Value, x: Value) -> Value:
    s = b.sigmoid(x)
    return b.mul(g, b.mul(s, plus(b, b.mul(x, _one_minus(b, s)), 1.0)))


def _gelu_tanh_expression(e: ScalarExpression, x: int) -> int:
    cubic = e("add", e.const(1.0), e("mul", e.const(_GELU_CUBIC), e("mul", x, x)))
    t = e("tanh", e("mul", e("mul", e.const(_SQRT_2_OVER_PI), x), cubic))
    return e("mul", e("mul", e.const(0.5), x), e("add", e.const(1.0), t))


erf = _declare("erf", 1, _np_erf, "erf", lambda b, g, y, x: b.mul(g, _gaussian(b, x, _TWO_OVER_SQRT_PI, -1.0)),
               surface=Surface("Error function", special=("erf",)))
erfc = _declare("erfc", 1, _np_erfc, "erfc", lambda b, g, y, x: b.mul(g, _gaussian(b, x, -_TWO_OVER_SQRT_PI, -1.0)),
                surface=Surface("1 - erf(x)", special=("erfc",)))
sigmoid = _declare("sigmoid", 1, _np_sigmoid, "sigmoid", lambda b, g, y, x: b.mul(g, b.mul(y, _one_minus(b, y))),
                   surface=Surface("1 / (1 + e**-x)", special=("expit",)))
relu = _declare("relu", 1, lambda x: np.where(x < 0, np.zeros_like(x), x),
                lambda e, x: e("select", e.test("lt", x, e.const(0.0)), e.const(0.0), x),
                lambda b, g, y, x: b.where(b.le(y, b.scalar(0.0, y)), b.scalar(0.0, g), g), within=[AWAY_FROM_ZERO],
                exact=True)
gelu = _declare("gelu", 1, lambda x: 0.5 * x * _np_erfc(-x * _SQRT_HALF),
                lambda e, x: e("mul", e("mul", e.const(0.5), x),
                               e("add", e.const(1.0), e("erf", e("mul", x, e.const(_SQRT_HALF))))),
                _gelu_partial, tolerance=4.0)
gelu_tanh = _declare("gelu_tanh", 1,
                     lambda x: 0.5 * x * (1 + np.tanh(_SQRT_2_OVER_PI * (x + _GELU_CUBIC * x**3))),
                     _gelu_tanh_expression, _gelu_tanh_partial, tolerance=4.0)
silu = _declare("silu", 1, lambda x: x * _np_sigmoid(x), lambda e, x: e("mul", x, e("sigmoid", x)), _silu_partial,
                tolerance=2.0)

# -- arithmetic of two operands ---------------------------------------------------------------------------------------


def _no_zero_divisor(divide: Callable[..., np.ndarray]) -> Callable[..., np.ndarray]:
    """`divide`, where an integer divisor of 0 raises KernelError as a kernel reports it."""

    def checked(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        if y.dtype.kind in "iu" and not np.all(y):
            raise KernelError("integer division by zero", status=INT_DIVISION)
        return divide(x, y)

    return checked


def _np_remainder(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """np.remainder, but a zero has the sign of x, as in PyTorch."""
    found = np.remainder(x, y)
    return np.where(found == 0, np.copysign(found, x), found) if found.dtype.kind == "f" else found


def _np_trunc_divide(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """x / y, rounded once (16-bit floats in f32), cut toward 0."""
    if x.dtype.kind == "f":
        return np.trunc(x / y if x.dtype.itemsize > 2 else x.astype(np.float32) / y.astype(np.float32))
    return ((x - np.fmod(x, y)) // y).astype(x.dtype)


def _np_maximum(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    found = np.maximum(x, y)
    if found.dtype.kind != "f" or found.all():
        return found
    return np.where((x == 0) & (y == 0), x + y, found)


def _np_minimum(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    found = np.minimum(x, y)
    if found.dtype.kind != "f" or found.all():
        return found
    return np.where((x == 0) & (y == 0), -(-x - y), found)


def _float_power(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """C's pow. Where all exponents are one 0.5 in memory NumPy takes a root: not the same of -0 and -inf."""
    found = np.power(x, y)
    is_root = y.size > 0 and y.item(0) == 0.5 and (not y.ndim or 0 in y.strides)
    return np.where((x == 0) | np.isinf(x), np.abs(x), found) if is_root else found


def _np_pow(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Ints wrap, and a negative power of an int is 1/x**-y cut to an int: not 0 for x = 1 and -1 only."""
    if x.dtype.kind == "f":
        return _float_power(x, y)
    if x.dtype.kind == "u":
        return np.power(x, y)
    of_unit = np.where((x == -1) & (y % 2 != 0), -1, (np.abs(x) == 1).astype(x.dtype))
    return np.where(y >= 0, np.power(x, np.where(y >= 0, y, 0)), of_unit).astype(x.dtype)


def _pow_base(b: Builder, g: Value, z: Value, x: Value, y: Value) -> Value:
    """g * y * x**(y-1). Where y = 0 the power is taken as x**0, so that 0**-1 never meets the factor 0."""
    safe = b.where(b.eq(y, b.scalar(0.0, y)), b.scalar(1.0, y), y)
    return b.mul(g, b.mul(y, b.pow(x, plus(b, safe, -1.0))))


def _pow_exponent(b: Builder, g: Value, z: Value, x: Value, y: Value) -> Value:
    """g * z * log(x), and 0 where 0 is raised to y >= 0."""
    zero = b.scalar(0.0, x)
    flat = b.logical_and(b.eq(x, zero), b.ge(y, zero))
    return b.mul(g, b.mul(z, b.log(b.where(flat, b.scalar(1.0, x), x))))


def _extremum_partial(loses: str, mine: int) -> Callable[..., Value]:
    """The winner takes g, a tie halves it. `loses` is the comparison that holds when this operand is not chosen."""

    def partial(b: Builder, g: Value, z: Value, x: Value, y: Value) -> Value:
        own, other = (x, y) if mine == 0 else (y, x)
        shared = b.where(b.eq(own, other), scaled(b, g, 0.5), g)
        return b.where(b.emit(OPS[loses], own, other), b.scalar(0.0, g), shared)  # type: ignore[arg-type]

    return partial


def _quotient_partial(rounded: Callable[[Builder, Value, Value], Value]) -> Callable[..., Value]:
    return lambda b, g, z, x, y: b.neg(b.mul(g, rounded(b, x, y)))


def _over_square_length(b: Builder, numerator: Value, x: Value, y: Value) -> Value:
    """numerator / (x*x + y*y), and 0 at the origin."""
    length, zero = b.add(square(b, x), square(b, y)), b.scalar(0.0, x)
    return b.where(b.eq(length, zero), zero, b.div(numerator, length))


add = _declare("add", 2, np.add, "add", lambda b, g, z, x, y: g, lambda b, g, z, x, y: g, domain="number", exact=True)
sub = _declare("sub", 2, np.subtract, "sub", lambda b, g, z, x, y: g, lambda b, g, z, x, y: b.neg(g), domain="number",
               exact=True)
mul = _declare("mul", 2, np.multiply, "mul", lambda b, g, z, x, y: b.mul(g, y), lambda b, g, z, x, y: b.mul(g, x),
               domain="number", exact=True)
div = _declare("div", 2, np.divide, "div", lambda b, g, z, x, y: b.div(g, y),
               # not z, which may be changed in place, as PyTorch lets it be
               lambda b, g, z, x, y: b.neg(b.mul(b.div(g, y), b.div(x, y))), within=[ANYWHERE, AWAY_FROM_ZERO], exact=True)
floor_divide = _declare("floor_divide", 2, _no_zero_divisor(np.floor_divide), "floordiv", _level, _level,
                        domain="number", within=[ANYWHERE, AWAY_FROM_ZERO])
trunc_divide = _declare("trunc_divide", 2, _no_zero_divisor(_np_trunc_divide), lambda e, x, y: e("truncdiv", x, y),
                        _level, _level, domain="number", within=[ANYWHERE, AWAY_FROM_ZERO], exact=True)
remainder = _declare("remainder", 2, _no_zero_divisor(_np_remainder), "mod", lambda b, g, z, x, y: g,
                     _quotient_partial(lambda b, x, y: b.floor_divide(x, y)), domain="number",
                     within=[ANYWHERE, AWAY_FROM_ZERO],
                     surface=Surface("input - floor(input / other) * other: Python's %, with the sign of `other`"))
fmod = _declare("fmod", 2, _no_zero_divisor(np.fmod), "fmod", lambda b, g, z, x, y: g,
                _quotient_partial(lambda b, x, y: b.trunc(b.div(x, y))), domain="number",
                within=[ANYWHERE, AWAY_FROM_ZERO], surface=Surface("C's fmod, with the sign of `input`"))
pow = _declare("pow", 2, _np_pow, "pow", _pow_base, _pow_exponent, domain="number", within=[POSITIVE, ANYWHERE],
               tolerance=4.0)
maximum = _declare("maximum", 2, _np_maximum, "max", _extremum_partial("lt", 0), _extremum_partial("lt", 1),
                   domain="number", exact=True,
                   surface=Surface("The greater of the two; NaN if either is", elsewhere="logical_or", is_in_place=False))
minimum = _declare("minimum", 2, _np_minimum, "min", _extremum_partial("gt", 0), _extremum_partial("gt", 1),
                   domain="number", exact=True,
                   surface=Surface("The lesser of the two; NaN if either is", elsewhere="logical_and", is_in_place=False))
atan2 = _declare("atan2", 2, np.arctan2, "atan2",
                 lambda b, g, z, x, y: b.mul(g, _over_square_length(b, y, x, y)),
                 lambda b, g, z, x, y: b.neg(b.mul(g, _over_square_length(b, x, x, y))),
                 within=[AWAY_FROM_ZERO, POSITIVE],
                 surface=Surface("The angle of the point (other, input), in (-pi, pi]", aliases=("arctan2",)))


def _heaviside_expression(e: ScalarExpression, x: int, at_zero: int) -> int:
    zero = e.const(False if e.dtype is dtypes.bool_ else 0)
    step = e("cast", e.test("gt", x, zero))
    return e("select", e.test("eq", x, zero), at_zero, step)


heaviside = _declare("heaviside", 2, lambda x, at_zero: np.where(x == 0, at_zero, (x > 0).astype(x.dtype)),
                     _heaviside_expression, _level, _level, domain="any", within=[AWAY_FROM_ZERO, ANYWHERE], exact=True,
                     surface=Surface("0 below 0 (and of NaN), 1 above, `values` at 0", parameters=("input", "values")))
copysign = _declare("copysign", 2, np.copysign, "copysign",
                    lambda b, g, z, x, y: b.mul(g, b.where(b.eq(x, b.scalar(0.0, x)), b.scalar(0.0, x), b.div(z, x))),
                    _level, within=[AWAY_FROM_ZERO, AWAY_FROM_ZERO], exact=True,
                    surface=Surface("|input| with the sign of `other`"))

# -- tests, logic, bits -----------------------------------------------------------------------------------------------

eq = _declare("eq", 2, np.equal, "eq", domain="any", result="bool", exact=True, surface=Surface("input == other"))
ne = _declare("ne", 2, np.not_equal, "ne", domain="any", result="bool", exact=True,
              surface=Surface("input != other", aliases=("not_equal",)))
lt = _declare("lt", 2, np.less, "lt", domain="number", result="bool", exact=True,
              surface=Surface("input < other", elsewhere="u8", aliases=("less",)))
le = _declare("le", 2, np.less_equal, "le", domain="number", result="bool", exact=True,
              surface=Surface("input <= other", elsewhere="u8", aliases=("less_equal",)))
gt = _declare("gt", 2, np.greater, "gt", domain="number", result="bool", exact=True,
              surface=Surface("input > other", elsewhere="u8", aliases=("greater",)))
ge = _declare("ge", 2, np.greater_equal, "ge", domain="number", result="bool", exact=True,
              surface=Surface("input >= other", elsewhere="u8", aliases=("greater_equal",)))
isnan = _declare("isnan", 1, np.isnan, "isnan", result="bool", exact=True,
                 surface=Surface("Whether each element is NaN", elsewhere=False, is_in_place=False))
isinf = _declare("isinf", 1, np.isinf, "isinf", result="bool", exact=True,
                 surface=Surface("Whether each element is an infinity", elsewhere=False, is_in_place=False))
isfinite = _declare("isfinite", 1, np.isfinite, "isfinite", result="bool", exact=True,
                    surface=Surface("Whether each element is neither NaN nor an infinity", elsewhere=True,
                                    is_in_place=False))
isposinf = _declare("isposinf", 1, np.isposinf, lambda e, x: e.test("eq", x, e.const(math.inf)), result="bool",
                    exact=True, surface=Surface("Whether each element is inf", elsewhere=False, is_in_place=False))
isneginf = _declare("isneginf", 1, np.isneginf, lambda e, x: e.test("eq", x, e.const(-math.inf)), result="bool",
                    exact=True, surface=Surface("Whether each element is -inf", elsewhere=False, is_in_place=False))
isreal = _declare("isreal", 1, lambda x: np.ones(x.shape, np.bool_), lambda e, x: e.ctx.const(True, dtypes.bool_),
                  domain="any", result="bool", exact=True,
                  surface=Surface("Whether each element is a real number: they all are", is_in_place=False))
signbit = _declare("signbit", 1, lambda x: np.signbit(x) if x.dtype.kind == "f" else x < 0,
                   lambda e, x: e.test("lt", e("copysign", e.const(1.0), x) if e.dtype.is_floating_point else x,
                                       e.const(0)), domain="number", result="bool", exact=True,
                   surface=Surface("Whether the sign is negative, that of -0.0 and NaN too", elsewhere=False,
                                   is_in_place=False))
logical_not = _declare("logical_not", 1, np.logical_not, "not", domain="bool", exact=True, surface=Surface("x == 0"))
logical_and = _declare("logical_and", 2, np.logical_and, "and", domain="bool", exact=True, surface=Surface("Both hold"))
logical_or = _declare("logical_or", 2, np.logical_or, "or", domain="bool", exact=True,
                      surface=Surface("One or both hold"))
logical_xor = _declare("logical_xor", 2, np.logical_xor, "xor", domain="bool", exact=True,
                       surface=Surface("Exactly one holds"))
bitwise_not = _declare("bitwise_not", 1, np.invert, "not", domain="int|bool",
                       surface=Surface("Every bit flipped; `not` for bools"))
bitwise_and = _declare("bitwise_and", 2, np.bitwise_and, "and", domain="int|bool", surface=Surface("Bits set in both"))
bitwise_or = _declare("bitwise_or", 2, np.bitwise_or, "or", domain="int|bool", surface=Surface("Bits set in either"))
bitwise_xor = _declare("bitwise_xor", 2, np.bitwise_xor, "xor", domain="int|bool",
                       surface=Surface("Bits set in one only"))
shift_left = _declare("shift_left", 2, np.left_shift, "shl", domain="int",
                      surface=Surface("Bits moved up", name="bitwise_left_shift"))
shift_right = _declare("shift_right", 2, np.right_shift, "shr", domain="int",
                       surface=Surface("Bits moved down, keeping the sign", name="bitwise_right_shift"))

# -- what derivatives do not see --------------------------------------------------------------------------------------

stop_gradient = _declare("stop_gradient", 1, lambda x: x, lambda e, x: x, domain="any", exact=True)

# -- what is computed again -------------------------------------------------------------------------------------------

# x, once `token` is known: what is computed of it again is not what was computed before, and waits for the token.
after = _declare("after", 2, lambda x, token: np.broadcast_arrays(x, token)[0],
                 lambda e, x, token: x, lambda b, g, y, x, token: g, None, domain="any", exact=True)

if not TYPE_CHECKING:                       # `from elementwise import *` gives the rows, not what they are made with
    __all__ = [name for name, value in globals().items() if isinstance(value, Elementwise)]
