"""log and its family: log, log2, log10, log1p, asinh, acosh, atanh.

x = 2^e m with m in [sqrt(1/2), sqrt(2)), so log(x) = e ln2 + log(1 + f), f = m - 1 exact.
Bounds: log 1 ulp, log1p 2, log2 and log10 1 (f32) and 2 (f64), asinh, acosh, atanh 4.
"""

from __future__ import annotations

import math

from flambeau.codegen.cpu.llvm.emitter import F32, F64
from flambeau.codegen.cpu.vmath.exponential import LN2_F32, LN2_F64
from flambeau.codegen.cpu.vmath.vec import (
    Vec,
    float_layout,
    fma,
    magnitude,
    polynomial,
    square_root,
    where,
    with_sign_of,
)

INFINITY = math.inf
# (log(1+f) - f + f^2/2) / f^3 on [sqrt(1/2)-1, sqrt(2)-1]: 2^-29.2 of log(1+f).
LOG_F32 = (
    0.333333135, -0.250001609, 0.200022236, -0.166597232, 0.142098546, -0.125436917, 0.121008664, -0.109481364,
    0.0539406836,
)  # fmt: skip
# (2 atanh(s) - 2s) / s^3 in z = s^2, s = f/(2+f): 2^-60.5; MID, for f32 results computed in f64, 2^-43.9.
ATANH_F64 = (
    0.6666666666666666, 0.40000000000006297, 0.28571428569068547, 0.22222222649435236, 0.1818177545549963,
    0.15387099847360486, 0.13249915443877527, 0.1325315260253268,
)  # fmt: skip
ATANH_MID = (0.6666666667583524, 0.3999999560326498, 0.28572111516160437, 0.22176079413737793, 0.19585841753738645)

_SQRT_HALF = {True: 0x3FE6A09E_667F3BCD, False: 0x3F3504F3}


def split_float(x: Vec) -> tuple[Vec, Vec]:
    """x = 2^e (1 + f), e an integer-valued float, f in [sqrt(1/2)-1, sqrt(2)-1). For positive normal x."""
    mantissa_bits, _ = float_layout(x.is_f64)
    bits = x.bits()
    exponent = (bits - _SQRT_HALF[x.is_f64]) >> mantissa_bits
    m = (bits - (exponent << mantissa_bits)).as_float()
    return exponent.to_float(), m - 1.0


def split_any_float(x: Vec) -> tuple[Vec, Vec]:
    """`split_float` for subnormals too."""
    tiny, lift = (2.0**-1022, 54) if x.is_f64 else (2.0**-126, 25)
    is_tiny = x < tiny
    e, f = split_float(where(is_tiny, x * 2.0**lift, x))
    return where(is_tiny, e - float(lift), e), f


def with_log_limits(x: Vec, result: Vec) -> Vec:
    """The result, or -inf at 0, NaN below, inf at inf, NaN at NaN."""
    result = where(x < INFINITY, result, x)  # NaN fails the compare and stays
    result = where(x.equals(0.0), -INFINITY, result)
    return where(x < 0.0, math.nan, result)


def log_near_one(f: Vec) -> Vec:
    """log(1 + f) - f for f in [sqrt(1/2)-1, sqrt(2)-1)."""
    half_square = f * f * 0.5
    if not f.is_f64:
        return fma(f * f * f, polynomial(f, LOG_F32), -half_square)
    s = f / (f + 2.0)
    z = s * s
    return s * fma(z, polynomial(z, ATANH_F64), half_square) - half_square


def combine_log(e: Vec, f: Vec, correction: Vec | float = 0.0) -> Vec:
    """e ln2 + log(1 + f) + correction, small parts first."""
    high, low = LN2_F64 if f.is_f64 else LN2_F32
    tail = log_near_one(f) + fma(e, low, correction)
    return fma(e, high, f + tail)


def log(x: Vec) -> Vec:
    """Natural logarithm. 1 ulp."""
    e, f = split_any_float(x)
    return with_log_limits(x, combine_log(e, f))


def log_short(f: Vec) -> Vec:
    """log(1 + f) in f64 arithmetic to 2^-43, enough for f32 results."""
    s = f / (f + 2.0)
    z = s * s
    return fma(s * z, polynomial(z, ATANH_MID), s * 2.0)


def log2(x: Vec) -> Vec:
    """Base-2 logarithm; exact for powers of two. 1 ulp (f32), 2 (f64)."""
    if not x.is_f64:
        e, f = split_float(x.to(F64))
        return with_log_limits(x, fma(log_short(f), 1.0 / math.log(2.0), e).to(F32))
    e, f = split_any_float(x)
    return with_log_limits(x, e + _times(f, LOG2_E_PARTS))


def log10(x: Vec) -> Vec:
    """Base-10 logarithm. 1 ulp (f32), 2 (f64)."""
    if not x.is_f64:
        e, f = split_float(x.to(F64))
        return with_log_limits(x, fma(log_short(f), 1.0 / math.log(10.0), e * math.log10(2.0)).to(F32))
    e, f = split_any_float(x)
    high, low = LOG10_2_PARTS
    return with_log_limits(x, fma(e, high, fma(e, low, _times(f, LOG10_E_PARTS))))


# 1/ln2 and 1/ln10 as a 32-bit head and the rest; log10(2) as a 42-bit head, exact times an exponent, and the rest.
LOG2_E_PARTS = (float.fromhex("0x1.71547652p+0"), float.fromhex("0x1.705fc2eefa200p-33"))
LOG10_E_PARTS = (float.fromhex("0x1.bcb7b152p-2"), float.fromhex("0x1.b9438ca9aadd5p-36"))
LOG10_2_PARTS = (float.fromhex("0x1.34413509f7800p-2"), float.fromhex("0x1.fef311f12b358p-46"))


def _times(f: Vec, parts: tuple[float, float]) -> Vec:
    """log(1 + f) * (high + low), with the leading product's rounding error kept out of the sum."""
    tail = log_near_one(f)
    whole = f + tail
    head = (whole.bits() & -(1 << 32)).as_float()
    rest = (f - head) + tail
    return head * parts[0] + (rest * parts[0] + whole * parts[1])


def log1p(x: Vec) -> Vec:
    """log(1 + x) without cancellation; -0 for -0. 2 ulp."""
    u = x + 1.0
    # What rounding 1 + x lost, each form exact where it is used, relative to u.
    lost = where(x < 1.0, x - (u - 1.0), 1.0 - (u - x)) / u
    e, f = split_float(u)
    unreduced = e.equals(0.0)
    f = where(unreduced, x, f)
    result = combine_log(e, f, where(unreduced, 0.0, lost))
    return where(x.equals(0.0), x, with_log_limits(u, result))


def asinh(x: Vec) -> Vec:
    """Inverse hyperbolic sine. 4 ulp."""
    a = magnitude(x)
    large = a > 2.0 ** (28 if x.is_f64 else 14)
    b = where(large, 1.0, a)
    near = b + b * b / (square_root(fma(b, b, 1.0)) + 1.0)
    result = where(large, a - 1.0, near)
    return with_sign_of(_plus_ln2_where(large, log1p(result)), x)


def acosh(x: Vec) -> Vec:
    """Inverse hyperbolic cosine; NaN below 1. 4 ulp."""
    large = x > 2.0 ** (28 if x.is_f64 else 14)
    t = where(large, 1.0, x) - 1.0
    near = t + square_root(t * (t + 2.0))
    y = _plus_ln2_where(large, log1p(where(large, x - 1.0, near)))
    return where(x < 1.0, math.nan, y)


def _plus_ln2_where(large: Vec, y: Vec) -> Vec:
    return where(large, y + math.log(2.0), y)


def atanh(x: Vec) -> Vec:
    """Inverse hyperbolic tangent; +-inf at +-1, NaN outside. 4 ulp."""
    a = magnitude(x)
    return with_sign_of(log1p((a + a) / (1.0 - a)) * 0.5, x)
