"""Float division with a remainder: fmod, Python's mod and floor division, and their truncating forms. All exact
in the remainder, whatever the quotient's size.
"""

from __future__ import annotations

import math

from flambeau.codegen.cpu.llvm.emitter import F32, F64
from flambeau.codegen.cpu.vmath.rounding import floor, is_finite, trunc
from flambeau.codegen.cpu.vmath.vec import (
    Vec,
    float_layout,
    magnitude,
    power_of_two,
    product_error,
    where,
    while_any,
    with_sign_of,
)


def fmod(x: Vec, y: Vec) -> Vec:
    """C's fmod: x - trunc(x/y) y with the sign of x, exact. NaN for y = 0, x infinite or a NaN."""
    if not x.is_f64:  # exact in f32 too, being smaller than y and a multiple of both units
        return fmod(x.to(F64), y.to(F64)).to(F32)
    divisor = magnitude(y)
    usable = is_finite(x) & (divisor > 0.0)
    divisor = where(usable, divisor, 1.0)
    (rest,) = while_any(
        [where(usable, magnitude(x), 0.0)],
        lambda rest: rest >= divisor,
        lambda rest: [_division_step(rest, divisor)],
    )
    return where(usable, with_sign_of(rest, x), math.nan)


def _division_step(rest: Vec, divisor: Vec) -> Vec:
    """Long division: rest - q divisor 2^k >= 0 for the largest k that keeps q short enough for exact products.

    One step serves quotients below 2^48 (2^24 without FMA). Lanes with rest < divisor are left alone.
    """
    quotient_bits = 48 if rest.emitter.target.has_fma else 24
    shift = _exponent(rest) - _exponent(divisor) - quotient_bits
    shift = where(shift < 0, 0, shift)
    quarter = shift >> 2  # 2^shift, and even its root, may be infinite
    factor = power_of_two(quarter)
    scaled = divisor * factor * factor * factor * power_of_two(shift - quarter * 3)
    quotient = trunc(rest / scaled)
    product = quotient * scaled
    left = (rest - product) - product_error(quotient, scaled, product)
    left = where(left < 0.0, left + scaled, left)  # the quotient may have been rounded up to the next integer
    return where(rest >= divisor, left, rest)


def _exponent(x: Vec) -> Vec:
    """floor(log2 x) of positive x, subnormals included."""
    mantissa_bits, bias = float_layout(x.is_f64)
    tiny = x < 2.0 ** (1 - bias)
    exponent = (where(tiny, x * 2.0**54, x).bits() >> mantissa_bits) - bias
    return where(tiny, exponent - 54, exponent)


def mod(x: Vec, y: Vec) -> Vec:
    """Python's x % y: the remainder with the sign of y, though a zero has x's, as in PyTorch. NaN where fmod is."""
    rest = fmod(x, y)
    wrong_side = rest.differs(0.0) & ((rest < 0.0) ^ (y < 0.0))
    return where(wrong_side, rest + y, rest)


def floordiv(x: Vec, y: Vec) -> Vec:
    """Python's x // y as NumPy has it: floor of the exact quotient; x / y for y = 0."""
    rest = fmod(x, y)
    quotient = (x - rest) / y  # an integer up to one rounding
    crosses = rest.differs(0.0) & ((rest < 0.0) ^ (y < 0.0))
    quotient = where(crosses, quotient - 1.0, quotient)
    whole = floor(quotient)
    whole = where(quotient - whole > 0.5, whole + 1.0, whole)
    plain = x / y
    whole = where(quotient.equals(0.0), with_sign_of(quotient, plain), whole)
    return where(y.equals(0.0), plain, whole)


def truncdiv(x: Vec, y: Vec) -> Vec:
    """trunc(x / y), the quotient rounded once before it is cut, as PyTorch has it."""
    return trunc(x / y)
