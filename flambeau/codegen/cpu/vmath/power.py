"""pow with C's special cases, and rsqrt.

|x|^y = 2^(y log2 |x|). f32 does this in f64; f64 keeps log2 as a sum of two doubles, good to 2^-65, because the
exponent's absolute error becomes the result's relative error. Bounds: 1 ulp (f32), 2 (f64).
"""

from __future__ import annotations

import math

from flambeau.codegen.cpu.llvm.emitter import F32, F64
from flambeau.codegen.cpu.vmath.exponential import EXP2_F64, EXP2_MID, round_to_exponent, scale
from flambeau.codegen.cpu.vmath.logarithm import log_short, split_any_float, split_float
from flambeau.codegen.cpu.vmath.rounding import trunc
from flambeau.codegen.cpu.vmath.vec import (
    Vec,
    clamp,
    fma,
    known_number,
    magnitude,
    polynomial,
    product_error,
    square_root,
    where,
    with_sign_of,
)

LOG2_E = (float.fromhex("0x1.71547652b82fep+0"), float.fromhex("0x1.777d0ffda0d24p-56"))
TWO_THIRDS = (float.fromhex("0x1.5555555555555p-1"), float.fromhex("0x1.5555555555555p-55"))
# (2 atanh(s) - 2s - 2/3 s^3) / s^5 in z = s^2: the terms after the two that need double-double, 2^-65 of log(m).
ATANH_TAIL = (
    0.3999999999999998, 0.28571428571445207, 0.2222222221751361, 0.18181818873144548, 0.15384556675908206,
    0.13336325001271948, 0.1167466314073982, 0.11990318212529756,
)  # fmt: skip


def rsqrt(x: Vec) -> Vec:
    """1 / sqrt(x), both correctly rounded: 1 ulp. inf at 0, NaN below."""
    return 1.0 / square_root(x)


def pow_(x: Vec, y: Vec) -> Vec:
    """x^y with every special case of C's pow: x^0 = 1^y = 1 even for NaN, signs for odd y, NaN for x < 0 otherwise."""
    known = known_number(y)
    if known is not None and known in _EXACT_POWERS:
        return _EXACT_POWERS[known](x)
    a = magnitude(x)
    size = _power64(a, y) if x.is_f64 else _power32(a, y)
    size = where(a.equals(1.0) & y.equals(y), 1.0, size)
    is_whole = trunc(y).equals(y)
    half = y * 0.5
    is_odd = is_whole & trunc(half).differs(half)
    result = where(is_odd, with_sign_of(size, x), size)
    undefined = (x < 0.0) & (x > -math.inf) & ~is_whole & y.equals(y)
    result = where(undefined, math.nan, result)
    return where(x.equals(1.0) | y.equals(0.0), 1.0, result)


_EXACT_POWERS = {
    0.0: lambda x: x.constant(1.0),
    1.0: lambda x: x,
    2.0: lambda x: x * x,
    3.0: lambda x: x * x * x,
    -1.0: lambda x: 1.0 / x,
    # Unlike sqrt, pow sends -0 to +0 and -inf to inf.
    0.5: lambda x: where(x.equals(-math.inf), math.inf, square_root(x) + 0.0),
}


def _power32(a: Vec, y: Vec) -> Vec:
    """a^y for a >= 0 in f64 arithmetic: log2 to 2^-43 and 2^t to 2^-45."""
    wide = a.to(F64)
    e, f = split_float(wide)
    exponent = fma(log_short(f), LOG2_E[0], e)
    exponent = where(wide < math.inf, exponent, wide)
    exponent = where(wide.equals(0.0), -math.inf, exponent)
    t = clamp(exponent * y.to(F64), -400.0, 400.0)
    n = round_to_exponent(t)
    r = t - n.number
    return scale(fma(r, polynomial(r, EXP2_MID), 1.0), n).to(F32)


def _power64(a: Vec, y: Vec) -> Vec:
    """a^y for a >= 0."""
    high, low = _log2_parts(a)
    high = where(a < math.inf, high, a)
    high = where(a.equals(0.0), -math.inf, high)
    product = high * y
    t = clamp(product, -1100.0, 1100.0)
    rest = product_error(high, y, product) + low * y
    rest = where(t.equals(product), rest, 0.0)  # past the clamp the small part is inf - inf
    n = round_to_exponent(t)
    r = t - n.number
    whole = r + rest
    left = (r - whole) + rest
    return scale(fma(whole, polynomial(whole, EXP2_F64), left * math.log(2.0) + 1.0), n)


def _log2_parts(a: Vec) -> tuple[Vec, Vec]:
    """log2(a) = high + low for positive finite a, to 2^-65 of itself."""
    e, f = split_any_float(a)
    log_high, log_low = _log1p_parts(f)
    product = log_high * LOG2_E[0]
    lost = product_error(log_high, log_high.constant(LOG2_E[0]), product)
    lost = lost + (log_high * LOG2_E[1] + log_low * LOG2_E[0])
    total = e + product
    # e is 0 or larger than the product, so this recovers the sum's error exactly.
    lost = lost + ((e - total) + product)
    lost = where(e.equals(0.0), lost - ((e - total) + product), lost)
    return _normalised(total, lost)


def _normalised(high: Vec, low: Vec) -> tuple[Vec, Vec]:
    total = high + low
    return total, (high - total) + low


def _log1p_parts(f: Vec) -> tuple[Vec, Vec]:
    """log(1 + f) = high + low by 2 atanh(s), s = f/(2 + f), leading terms in double-double."""
    base = f + 2.0
    base_lost = f - (base - 2.0)
    s = f / base
    product = s * base
    s_low = (((f - product) - product_error(s, base, product)) - s * base_lost) / base
    z = s * s
    z_low = product_error(s, s, z) + s * s_low * 2.0
    # p = z (2/3 + z tail), high + low
    tail = z * polynomial(z, ATANH_TAIL)
    bracket, bracket_low = _normalised(tail.constant(TWO_THIRDS[0]), tail)
    bracket_low = bracket_low + TWO_THIRDS[1]
    p = z * bracket
    p_low = product_error(z, bracket, p) + (z_low * bracket + z * bracket_low)
    # log = 2s + s p
    q = s * p
    q_low = product_error(s, p, q) + (s * p_low + s_low * p)
    high, low = _normalised(s * 2.0, q)
    return _normalised(high, low + (q_low + s_low * 2.0))
