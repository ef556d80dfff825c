"""exp and its family: exp, exp2, expm1, sigmoid, sinh, cosh, tanh.

All split x = n ln2 + r with |r| <= ln2/2, take a minimax polynomial in r, and scale by 2^n in two steps, so that
overflow and gradual underflow round once.
Bounds: exp, exp2 1.5 ulp; expm1, cosh 2; sigmoid, sinh, tanh 3.
"""

from __future__ import annotations

from typing import NamedTuple

from flambeau.codegen.cpu.llvm.emitter import I8, I16, I32, constant
from flambeau.codegen.cpu.vmath.vec import (
    Vec,
    clamp,
    fma,
    magnitude,
    polynomial,
    power_of_two,
    where,
    with_sign_of,
)

LOG2_E = 1.4426950408889634
# ln2 = high + low; high has few enough bits that n * high is exact for every exponent n.
LN2_F32 = (0.693145751953125, 1.4286068203094173e-06)
LN2_F64 = (float.fromhex("0x1.62e42fefa3800p-1"), float.fromhex("0x1.ef35793c76730p-45"))

# (e^r - 1 - r) / r^2 on [-ln2/2, ln2/2]. Relative error of e^r - 1: 2^-28.1 (f32), 2^-59.8 (f64).
EXPM1_F32 = (0.5, 0.166666359, 0.0416665114, 0.00834163837, 0.00139303913, 0.000149049767)
EXPM1_F64 = (
    0.5, 0.16666666666666677, 0.041666666666666505, 0.008333333333321678, 0.001388888888896479,
    0.00019841269885999561, 2.4801587168066225e-05, 2.7557244339811675e-06, 2.755740618894343e-07,
    2.5108991176778953e-08, 2.0874315842958232e-09,
)  # fmt: skip
# The same where only e^r matters: 2^-28.2 of e^r.
EXP_F32 = (0.49999994, 0.166665167, 0.0416681282, 0.00836914405, 0.00138361647)

# (2^r - 1) / r on [-1/2, 1/2]: 2^-29 and 2^-56; MID, for f32 results computed in f64, 2^-46.
EXP2_F32 = (0.693147182, 0.240226507, 0.0555040389, 0.00961800851, 0.00133392215, 0.000154752866, 1.39551212e-05)
EXP2_F64 = (
    0.6931471805599453, 0.24022650695910072, 0.0555041086648217, 0.009618129107628496, 0.0013333558146390479,
    0.000154035303933411, 1.5252733856194875e-05, 1.3215486833059725e-06, 1.0178051228259452e-07,
    7.054888248995268e-09, 4.4566706185279674e-10, 2.5741812011089302e-11,
)  # fmt: skip
EXP2_MID = (
    0.6931471805599518, 0.24022650695717587, 0.05550410866429835, 0.009618129182538663, 0.0013333558254442625,
    0.00015403439899224435, 1.5252643576571837e-05, 1.3258545118815245e-06, 1.0211199441543087e-07,
)  # fmt: skip


class Exponent(NamedTuple):
    """n as a float and as an integer of the same width."""

    number: Vec
    integer: Vec

    def minus(self, k: int) -> Exponent:
        """n - k."""
        return Exponent(self.number - float(k), self.integer - k)


def round_to_exponent(x: Vec) -> Exponent:
    """The integer nearest to x (|x| < 2^20). Adding 1.5 * 2^mantissa leaves it in the low bits.

    Unlike a float -> int conversion this gives an arbitrary number, not poison, where x is NaN.
    """
    magic = 1.5 * 2.0 ** (52 if x.is_f64 else 23)
    shifted = x + magic
    return Exponent(shifted - magic, shifted.bits() - x.constant(magic).bits())


def scale(y: Vec, n: Exponent) -> Vec:
    """y * 2^n for |n| up to twice the exponent range, rounded once."""
    if y.emitter.target.has_feature("avx512f") and y.lanes * y.bit_width == 512:
        return _scale_by_instruction(y, n.number)
    half = n.integer >> 1
    return y * power_of_two(half) * power_of_two(n.integer - half)


def _scale_by_instruction(y: Vec, n: Vec) -> Vec:
    """vscalefps/pd: y * 2^floor(n) with IEEE rounding, overflow and subnormals."""
    suffix, mask = ("pd", constant(I8, -1)) if y.is_f64 else ("ps", constant(I16, -1))
    current_rounding = constant(I32, 4)
    arguments = [y.value, n.value, y.constant(0.0).value, mask, current_rounding]
    return y.of(y.emitter.intrinsic(f"llvm.x86.avx512.mask.scalef.{suffix}.512", y.value.type, arguments))


def reduce_exponential(x: Vec) -> tuple[Exponent, Vec]:
    """x = n ln2 + r. Requires |x| < 2^20 or NaN."""
    high, low = LN2_F64 if x.is_f64 else LN2_F32
    n = round_to_exponent(x * LOG2_E)
    return n, fma(n.number, -low, fma(n.number, -high, x))


def exp_parts(x: Vec) -> tuple[Vec, Exponent]:
    """exp(x) = y * 2^n, with x first clamped past overflow and underflow to zero."""
    x = clamp(x, -750.0, 720.0) if x.is_f64 else clamp(x, -106.0, 90.0)
    n, r = reduce_exponential(x)
    y = fma(r * r, polynomial(r, EXPM1_F64 if x.is_f64 else EXP_F32), r) + 1.0
    return y, n


def exp(x: Vec) -> Vec:
    """e^x. 1.5 ulp."""
    y, n = exp_parts(x)
    return scale(_zero_where_lost(y, n), n)


def _zero_where_lost(y: Vec, n: Exponent) -> Vec:
    """y, or 0 where y * 2^n is less than half the least subnormal, for y < 1.4143. Rounding such a product to 0 takes
    x86 a microcode assist, 150 cycles a vector: softmax of f32[4096,64], half of it -inf, 3.7 ms; like this 0.25."""
    return where(n.number < (-1075.5 if y.is_f64 else -150.5), 0.0, y)


def exp2(x: Vec) -> Vec:
    """2^x; exact for integers. 1.5 ulp."""
    x = clamp(x, -1080.0, 1030.0) if x.is_f64 else clamp(x, -152.0, 130.0)
    n = round_to_exponent(x)
    r = x - n.number
    y = fma(r, polynomial(r, EXP2_F64 if x.is_f64 else EXP2_F32), 1.0)
    return scale(_zero_where_lost(y, n), n)


def expm1(x: Vec) -> Vec:
    """e^x - 1 without cancellation; -0 for -0. 2 ulp."""
    # The upper limits overflow, with n still at most one past the largest exponent.
    clamped = clamp(x, -40.0, 710.0) if x.is_f64 else clamp(x, -20.0, 89.0)
    n, r = reduce_exponential(clamped)
    fraction = fma(r * r, polynomial(r, EXPM1_F64 if x.is_f64 else EXPM1_F32), r)
    # 2^n (e^r - 1) + (2^n - 1), at half scale because 2^n itself overflows one step before the result does.
    unit = power_of_two(n.integer - 1)
    return where(x.equals(0.0), x, fma(unit, fraction, unit - 0.5) * 2.0)


def sigmoid(x: Vec) -> Vec:
    """1 / (1 + e^-x), accurate in both tails, subnormals included. 3 ulp."""
    e = exp(-magnitude(x))
    return where(x < 0.0, e, 1.0) / (e + 1.0)


def tanh(x: Vec) -> Vec:
    """expm1(2|x|) / (expm1(2|x|) + 2) with the sign of x. 3 ulp."""
    q = expm1(clamp(magnitude(x), None, 22.0 if x.is_f64 else 10.0) * 2.0)
    return with_sign_of(q / (q + 2.0), x)


def half_exp(a: Vec) -> Vec:
    """e^a / 2, which overflows only where sinh and cosh do."""
    y, n = exp_parts(a)
    return scale(y, n.minus(1))


def sinh(x: Vec) -> Vec:
    """Hyperbolic sine; -0 for -0. 3 ulp."""
    a = magnitude(x)
    q = expm1(clamp(a, None, 2.0))
    small = (q + q / (q + 1.0)) * 0.5
    h = half_exp(a)
    return with_sign_of(where(a < 1.0, small, h - 0.25 / h), x)


def cosh(x: Vec) -> Vec:
    """Hyperbolic cosine. 2 ulp."""
    h = half_exp(magnitude(x))
    return h + 0.25 / h
