"""sin, cos, tan and their inverses.

Bounds: sin, cos 2 ulp for every finite argument, tan 4, acos, atan 2, asin 2.5, atan2 3.
"""

from __future__ import annotations

import math

from flambeau.codegen.cpu.vmath.angle import Angle, reduce_angle
from flambeau.codegen.cpu.vmath.vec import Vec, fma, magnitude, polynomial, square_root, where, with_sign_of

# (sin(r)/r - 1) / r^2 and (cos(r) - 1 + r^2/2) / r^4 in z = r^2 on |r| <= pi/4. f32: 2^-28, 2^-33; f64: 2^-57, 2^-60.
SIN_F32 = (-0.166666552, 0.00833218917, -0.000195182729)
COS_F32 = (0.0416666456, -0.00138873013, 2.44305629e-05)
SIN_F64 = (
    -0.16666666666666666, 0.008333333333333323, -0.0001984126984125497, 2.755731921413713e-06,
    -2.5052104897458772e-08, 1.6058364809321296e-10, -7.578607123055584e-13,
)  # fmt: skip
COS_F64 = (
    0.0416666666666666, -0.0013888888888874014, 2.4801587289406707e-05, -2.755731432887123e-07,
    2.087571988642622e-09, -1.1359463142842067e-11,
)  # fmt: skip
# (atan(t)/t - 1) / t^2 in z = t^2 on [0, 1]: 2^-27.4 and 2^-56.
ATAN_F32 = (
    -0.333333284, 0.199997216, -0.142804608, 0.110622145, -0.0882571489, 0.0677432865, -0.0451446287, 0.0229223929,
    -0.00749642635, 0.0011492233,
)  # fmt: skip
ATAN_F64 = (
    -0.3333333333333329, 0.19999999999991244, -0.1428571428508676, 0.11111111088062713, -0.09090908578643205,
    0.07692300115572946, -0.06666587373219916, 0.058817403003101495, -0.05259554001719723, 0.047453855847942504,
    -0.04287757456236392, 0.03824195503072272, -0.03284404449450182, 0.026236446645106874, -0.018710127413328982,
    0.011401539889842337, -0.005667918640286789, 0.0021784735330235925, -0.0006018695717730385,
    0.00010571831864133468, -8.83050491808296e-06,
)  # fmt: skip
# (asin(t)/t - 1) / t^2 in z = t^2 on [0, 1/4]: 2^-31.6 and 2^-58.6.
ASIN_F32 = (0.166666597, 0.0750052258, 0.0445131809, 0.0318407975, 0.0143084694, 0.0377055295)
ASIN_F64 = (
    0.16666666666666763, 0.07499999999970261, 0.04464285717512764, 0.03038194268324517, 0.02237221567038641,
    0.017351599921301624, 0.013980963412265622, 0.011397760148854677, 0.010786619075855644,
    0.0036826901634579344, 0.0217643962944468, -0.021078632123615996, 0.03267777648969226,
)  # fmt: skip

PI = math.pi
PI_LOW = {True: 1.2246467991473532e-16, False: -8.742277657347586e-08}  # pi - float(pi), for f64 and f32


def _sin_kernel(r: Angle) -> Vec:
    """sin(high + low) for |high| <= pi/4."""
    z = r.high * r.high
    if not r.high.is_f64:
        return fma(r.high * z, polynomial(z, SIN_F32), r.high)
    head, tail = SIN_F64[0], polynomial(z, SIN_F64[1:])
    cube = r.high * z
    # The low part enters as low * cos(high), cos ~ 1 - z/2.
    return r.high + (cube * head + (cube * z * tail + r.low * (1.0 - z * 0.5)))


def _cos_kernel(r: Angle) -> Vec:
    """cos(high + low) for |high| <= pi/4."""
    z = r.high * r.high
    half = z * 0.5
    whole = 1.0 - half
    lost = (1.0 - whole) - half
    tail = z * z * polynomial(z, COS_F64 if r.high.is_f64 else COS_F32)
    return whole + (lost + (tail - r.high * r.low))


def _odd(quadrant: Vec) -> Vec:
    return (quadrant & 1).differs(0)


def _negate_where(mask_bit: Vec, y: Vec) -> Vec:
    """-y where bit 1 of mask_bit is set."""
    return ((mask_bit << (y.bit_width - 2)) & y.bits().constant(1 << (y.bit_width - 1)) ^ y.bits()).as_float()


def sin(x: Vec) -> Vec:
    """Sine of radians; -0 for -0, NaN at +-inf. 2 ulp."""
    r = reduce_angle(x)
    y = where(_odd(r.quadrant), _cos_kernel(r), _sin_kernel(r))
    return where(x.equals(0.0), x, _negate_where(r.quadrant, y))


def cos(x: Vec) -> Vec:
    """Cosine of radians; NaN at +-inf. 2 ulp."""
    r = reduce_angle(x)
    y = where(_odd(r.quadrant), _sin_kernel(r), _cos_kernel(r))
    return _negate_where(r.quadrant + 1, y)


def tan(x: Vec) -> Vec:
    """Tangent of radians; -0 for -0, NaN at +-inf. 4 ulp."""
    r = reduce_angle(x)
    sine, cosine, flips = _sin_kernel(r), _cos_kernel(r), _odd(r.quadrant)
    y = where(flips, -cosine, sine) / where(flips, sine, cosine)
    return where(x.equals(0.0), x, y)


def _atan_kernel(t: Vec) -> Vec:
    """atan(t) for t in [0, 1]."""
    z = t * t
    return fma(t * z, polynomial(z, ATAN_F64 if t.is_f64 else ATAN_F32), t)


def _from_constant(head: float, tail: float, y: Vec) -> Vec:
    """(head + tail) - y with both parts of the constant."""
    return (y.constant(head) - y) + tail


def atan(x: Vec) -> Vec:
    """Arc tangent in [-pi/2, pi/2]; -0 for -0. 2 ulp."""
    a = magnitude(x)
    outside = a > 1.0
    y = _atan_kernel(where(outside, 1.0 / a, a))
    return with_sign_of(where(outside, _from_constant(PI / 2, PI_LOW[x.is_f64] / 2, y), y), x)


def atan2(y: Vec, x: Vec) -> Vec:
    """The angle of (x, y) in [-pi, pi], quadrants, signed zeros and infinities as C's. 3 ulp."""
    rise, run = magnitude(y), magnitude(x)
    steep = rise > run
    smaller, larger = where(steep, run, rise), where(steep, rise, run)
    t = where(smaller.equals(larger), 1.0, smaller / larger)  # also inf/inf
    t = where(larger.equals(0.0), 0.0, t)
    angle = _atan_kernel(t)
    low = PI_LOW[x.is_f64]
    angle = where(steep, _from_constant(PI / 2, low / 2, angle), angle)
    angle = where(x.bits() < 0, _from_constant(PI, low, angle), angle)
    unordered = x.of(x.emitter.fcmp_unordered("uno", x.value, y.value))
    return where(unordered, x + y, with_sign_of(angle, y))


def _asin_kernel(t: Vec) -> Vec:
    """asin(t) for t in [0, 1/2]."""
    z = t * t
    return fma(t * z, polynomial(z, ASIN_F64 if t.is_f64 else ASIN_F32), t)


def _half_angle(a: Vec) -> tuple[Vec, Vec]:
    """asin(min-sized t) and whether it stands for half the angle from 1: t = sqrt((1-a)/2) past a = 1/2."""
    steep = a > 0.5
    return _asin_kernel(where(steep, square_root((1.0 - a) * 0.5), a)), steep


def asin(x: Vec) -> Vec:
    """Arc sine; NaN outside [-1, 1], -0 for -0. 2.5 ulp."""
    y, steep = _half_angle(magnitude(x))
    return with_sign_of(where(steep, _from_constant(PI / 2, PI_LOW[x.is_f64] / 2, y * 2.0), y), x)


def acos(x: Vec) -> Vec:
    """Arc cosine; NaN outside [-1, 1]. 2 ulp."""
    y, steep = _half_angle(magnitude(x))
    low, negative = PI_LOW[x.is_f64], x < 0.0
    near_one = where(negative, _from_constant(PI, low, y * 2.0), y * 2.0)
    near_zero = _from_constant(PI / 2, low / 2, where(negative, -y, y))
    return where(steep, near_one, near_zero)
