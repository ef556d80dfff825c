"""Rounding to integers, extremes, signs and float division with a remainder."""

from __future__ import annotations

import math

from flambeau.codegen.cpu.vmath.vec import (
    Vec,
    float_layout,
    intrinsic,
    known_number,
    magnitude,
    where,
    with_sign_of,
)


def _rounds_in_hardware(x: Vec) -> bool:
    target = x.emitter.target
    return target.is_aarch64 or target.has_feature("sse4.1") or target.has_feature("avx")


def round_half_even(x: Vec) -> Vec:
    """Nearest integer, ties to even; sign kept, so -0.4 gives -0. Exact."""
    if _rounds_in_hardware(x):
        return intrinsic("roundeven", x)
    # Without the instruction LLVM would call libm: adding 2^mantissa rounds at the unit.
    limit = 2.0 ** float_layout(x.is_f64)[0]
    a = magnitude(x)
    return where(a < limit, with_sign_of((a + limit) - limit, x), x)


def floor(x: Vec) -> Vec:
    """Largest integer not above x. Exact."""
    if _rounds_in_hardware(x):
        return intrinsic("floor", x)
    nearest = round_half_even(x)
    return with_sign_of(where(nearest > x, nearest - 1.0, nearest), x)


def ceil(x: Vec) -> Vec:
    """Smallest integer not below x. Exact."""
    if _rounds_in_hardware(x):
        return intrinsic("ceil", x)
    nearest = round_half_even(x)
    return with_sign_of(where(nearest < x, nearest + 1.0, nearest), x)


def trunc(x: Vec) -> Vec:
    """Toward zero. Exact."""
    if _rounds_in_hardware(x):
        return intrinsic("trunc", x)
    return with_sign_of(floor(magnitude(x)), x)


def _extreme(a: Vec, b: Vec, name: str) -> Vec:
    if a.emitter.target.is_aarch64:
        return intrinsic(name, a, b)
    if known_number(b) is not None:
        a, b = b, a
    number, is_maximum = known_number(a), name == "maximum"
    if number is not None:  # NaN is never one, being unequal to itself
        takes_zeros = number == 0 and (math.copysign(1.0, number) > 0) == is_maximum
        wins = (a >= b if takes_zeros else a > b) if is_maximum else (a <= b if takes_zeros else a < b)
        return where(wins, a, b)  # picks b when that is NaN
    # Each picks its second operand of two zeros: the bits of both give the right one.
    first = where(a > b if is_maximum else a < b, a, b)
    second = where(b > a if is_maximum else b < a, b, a)
    both = (first.bits() & second.bits() if is_maximum else first.bits() | second.bits()).as_float()
    return where(a.is_unordered(b), a + b, both)


def minimum(a: Vec, b: Vec) -> Vec:
    """The smaller, NaN if either is; -0 is smaller than +0. Exact."""
    return _extreme(a, b, "minimum")


def maximum(a: Vec, b: Vec) -> Vec:
    """The larger, NaN if either is; +0 is larger than -0. Exact."""
    return _extreme(a, b, "maximum")


def sign(x: Vec) -> Vec:
    """-1, 0 or 1; +0 for either zero; NaN stays NaN."""
    nonzero = with_sign_of(x.constant(1.0), x)
    return where(x.is_nan(), x, where(x.equals(0.0), 0.0, nonzero))


def is_infinite(x: Vec) -> Vec:
    """True at +-inf."""
    return magnitude(x).equals(float("inf"))


def is_finite(x: Vec) -> Vec:
    """False at +-inf and NaN."""
    return magnitude(x) < float("inf")
