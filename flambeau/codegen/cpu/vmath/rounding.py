"""Rounding to integers, extremes, signs and float division with a remainder."""

from __future__ import annotations

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
    wins = a > b if name == "maximum" else a < b
    chosen = where(wins, a, b)  # picks b when either is NaN: the x86 instruction's own rule
    # A known number (NaN is never one, being unequal to itself) leaves nothing more to check.
    return chosen if known_number(a) is not None else where(a.is_nan(), a, chosen)


def minimum(a: Vec, b: Vec) -> Vec:
    """The smaller, NaN if either is. Exact; which zero wins between -0 and +0 is open."""
    return _extreme(a, b, "minimum")


def maximum(a: Vec, b: Vec) -> Vec:
    """The larger, NaN if either is. Exact; which zero wins between -0 and +0 is open."""
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
