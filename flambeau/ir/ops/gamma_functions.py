"""The gamma function's family: its logarithm, the derivatives of that, Hurwitz's zeta, incomplete integrals."""
from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Final

from flambeau.ir.ops.families import plus as plus_
from flambeau.ir.ops.families import scaled
from flambeau.ir.ops.formulas import fitted, formula, off_integer, plus, polynomial, product_of, sum_of, times
from flambeau.ir.ops.sampling import POSITIVE
from flambeau.ir.ops.surface import Surface

if TYPE_CHECKING:
    from flambeau.ir.builder import Builder
    from flambeau.ir.graph import Value

# -- log |gamma| ------------------------------------------------------------------------------------------------------

# log gamma(y) / ((y - 1) (y - 2)) on [1.5, 2.5].
_LOG_GAMMA: Final = (
    0.42278433509846713, -0.050158650837176966, 0.008241250155288959, -0.0015480240241709335, 0.0003124150727934668,
    -6.587908856948172e-05, 1.430276441219686e-05, -3.169588976392627e-06, 7.130962303634812e-07,
    -1.6229545557682996e-07, 3.7274374879083245e-08, -8.62314160999568e-09, 2.0071970014794e-09, -4.707414073873874e-10,
    1.1062065421231002e-10, -2.5051841561037664e-11, 5.926129300171418e-12, -1.9267924064320764e-12,
    4.59095297373529e-13,
)  # fmt: skip
# Stirling's series in 1 / x**2: B[2k] / (2k (2k - 1)), k = 1, 2, ... (DLMF 5.11.1), and digamma's: B[2k] / 2k (5.11.2).
_STIRLING: Final = (1 / 12, -1 / 360, 1 / 1260, -1 / 1680, 1 / 1188, -691 / 360360, 1 / 156, -3617 / 122400)
_DIGAMMA: Final = (1 / 12, -1 / 120, 1 / 252, -1 / 240, 1 / 132, -691 / 32760, 1 / 12, -3617 / 8160)


def _stirling_rest(e: Any, x: Any) -> Any:
    """log gamma(x) - ((x - 1/2) log x - x + log(2 pi) / 2), for x >= 8."""
    inverse = e("div", e.const(1.0), x)
    return e("mul", inverse, polynomial(e, e("mul", inverse, inverse), _STIRLING))


def _log_gamma_positive(e: Any, x: Any) -> Any:
    """By the polynomial around 2, to which x is moved by factors; by Stirling's series from 8 on."""
    one, is_tiny, is_small = e.const(1.0), e.test("lt", x, e.const(0.5)), e.test("lt", x, e.const(1.5))
    is_far = e.test("ge", x, e.const(8.0))
    y = e("select", is_tiny, plus(e, x, 2.0), e("select", is_small, plus(e, x, 1.0), x))
    product = one
    for _ in range(6):
        is_above, less = e.test("ge", y, e.const(2.5)), plus(e, y, -1.0)
        product = e("select", is_above, e("mul", product, less), product)
        y = e("select", is_above, less, y)
    moved = e("select", is_tiny, e("mul", x, plus(e, x, 1.0)), e("select", is_small, x, product))
    log = e("log", e("select", is_far, x, moved))
    around = product_of(e, plus(e, y, -1.0), plus(e, y, -2.0), fitted(e, y, 1.5, 2.5, _LOG_GAMMA))
    near = e("add", around, e("select", is_small, e("neg", log), log))
    far = sum_of(e, e("mul", plus(e, x, -0.5), plus(e, log, -1.0)), e.const(math.log(2 * math.pi) / 2 - 0.5),
                 _stirling_rest(e, x))
    return e("select", is_far, far, near)


def _log_gamma_after(e: Any, a: Any) -> Any:
    """log gamma(1 + a) for a > 0, however small."""
    little = e("min", a, e.const(0.5))
    around = product_of(e, little, plus(e, little, 1.0), polynomial(e, times(e, little, 2.0), _LOG_GAMMA))
    near = e("sub", around, e("log1p", little))
    return e("select", e.test("lt", a, e.const(0.5)), near, _log_gamma_positive(e, plus(e, a, 1.0)))


def _log_gamma(e: Any, x: Any) -> Any:
    """Below 0 by reflection (DLMF 5.5.3): |gamma(-a) gamma(a)| = pi / (a |sin(pi a)|)."""
    size = e("abs", x)
    positive = _log_gamma_positive(e, size)
    sine = times(e, e("abs", e("sin", times(e, off_integer(e, size), math.pi))), 1 / math.pi)
    negative = e("neg", sum_of(e, e("log", sine), e("log", size), positive))
    found = e("select", e.test("lt", x, e.const(0.0)), negative, positive)
    is_pole = e.test("and", e.test("lt", x, e.const(0.0)), e.test("eq", x, e("floor", x)))
    return e("select", e.test("or", is_pole, e.test("isinf", x)), e.const(math.inf), found)


lgamma = formula("lgamma", 1, _log_gamma, lambda b, g, y, x: b.mul(g, b.digamma(x)), within=[POSITIVE],
                 surface=Surface("The logarithm of |gamma(x)|", special=("gammaln",)))


def _digamma(e: Any, x: Any) -> Any:
    """Moved up to 10 and more, then the asymptotic series; below 0 by reflection (DLMF 5.5.2, 5.5.4)."""
    zero, one = e.const(0.0), e.const(1.0)
    is_negative = e.test("lt", x, zero)
    y, moved = e("select", is_negative, e("sub", one, x), x), zero
    for _ in range(10):
        is_below = e.test("lt", y, e.const(10.0))
        moved = e("select", is_below, e("add", moved, e("div", one, y)), moved)
        y = e("select", is_below, plus(e, y, 1.0), y)
    inverse = e("div", one, y)
    square = e("mul", inverse, inverse)
    found = e("sub", e("sub", e("log", y), times(e, inverse, 0.5)), e("mul", square, polynomial(e, square, _DIGAMMA)))
    found = e("sub", found, moved)
    angle = times(e, off_integer(e, x), math.pi)
    reflected = e("sub", found, times(e, e("div", e("cos", angle), e("sin", angle)), math.pi))
    is_pole = e.test("and", is_negative, e.test("eq", x, e("floor", x)))
    found = e("select", is_negative, e("select", is_pole, e.const(math.nan), reflected), found)
    return e("select", e.test("eq", x, zero), e("copysign", e.const(math.inf), e("neg", x)), found)


def _trigamma(b: Builder, g: Value, y: Value, x: Value) -> Value:
    """g * zeta(2, x); below 0 by reflection (DLMF 5.15.6): pi**2 / sin(pi x)**2 - zeta(2, 1 - x)."""
    is_negative = b.lt(x, b.scalar(0.0, x))
    above = b.where(is_negative, b.sub(b.scalar(1.0, x), x), x)
    found = b.zeta_positive(b.scalar(2.0, x), above)
    sine = b.sin(scaled(b, b.sub(x, b.round(x)), math.pi))
    reflected = b.sub(b.div(b.scalar(math.pi**2, x), b.mul(sine, sine)), found)
    return b.mul(g, b.where(is_negative, reflected, found))


digamma = formula("digamma", 1, _digamma, _trigamma, within=[POSITIVE],
                  surface=Surface("The derivative of lgamma(x)", special=("digamma", "psi")))

# -- zeta -------------------------------------------------------------------------------------------------------------

# B[2k] / (2k)!, k = 1, 2, ...: Euler and Maclaurin's corrections (DLMF 25.11.28).
_BERNOULLI: Final = (
    1 / 12, -1 / 720, 1 / 30240, -1 / 1209600, 1 / 47900160, -691 / 1307674368000, 1 / 74724249600,
    -3617 / 10670622842880000, 43867 / 5109094217170944000, -174611 / 802857662698291200000,
    77683 / 14101100039391805440000)


def _zeta_positive(e: Any, s: Any, q: Any) -> Any:
    """The sum of (q + i)**-s for q > 0: nine terms, then Euler and Maclaurin's formula."""
    minus, total = e("neg", s), e.const(0.0)
    for _ in range(9):
        total = e("add", total, e("pow", q, minus))
        q = plus(e, q, 1.0)
    inverse = e("div", e.const(1.0), q)
    corrections, factor = e.const(0.5), e("mul", s, inverse)
    for i, c in enumerate(_BERNOULLI):
        corrections = e("add", corrections, times(e, factor, c))
        steps = e("mul", plus(e, s, 2.0 * i + 1), plus(e, s, 2.0 * i + 2))
        factor = product_of(e, factor, e("mul", steps, inverse), inverse)
    rest = e("add", e("div", q, plus(e, s, -1.0)), corrections)
    power = e("pow", q, minus)
    return e("add", total, e("select", e.test("eq", power, e.const(0.0)), power, e("mul", power, rest)))


def _zeta(e: Any, s: Any, q: Any) -> Any:
    """For q < 0 and whole s the terms below 0 are those of two positive sums, up to the sign of their powers."""
    zero, one, nan = e.const(0.0), e.const(1.0), e.const(math.nan)
    is_negative, is_whole = e.test("lt", q, zero), e.test("eq", s, e("floor", s))
    above = e("sub", q, e("floor", q))
    found = _zeta_positive(e, s, e("select", is_negative, above, q))
    below = e("sub", _zeta_positive(e, s, e("select", is_negative, e("sub", one, above), one)),
              _zeta_positive(e, s, e("select", is_negative, e("sub", one, q), one)))
    half = times(e, s, 0.5)
    sign = e("select", e.test("eq", half, e("floor", half)), one, e.const(-1.0))
    found = e("select", is_negative, e("select", is_whole, e("add", found, e("mul", sign, below)), nan), found)
    is_pole = e.test("and", e.test("le", q, zero), e.test("eq", q, e("floor", q)))
    found = e("select", is_pole, e.const(math.inf), found)
    found = e("select", e.test("eq", s, one), e.const(math.inf), e("select", e.test("lt", s, one), nan, found))
    return e("select", e.test("isnan", e("add", s, q)), nan, found)


def _zeta_slope(name: str) -> Any:
    """g * -s * zeta(s + 1, q)"""
    return lambda b, g, y, s, q: b.neg(b.mul(g, b.mul(s, getattr(b, name)(plus_(b, s, 1.0), q))))


zeta_positive = formula("zeta_positive", 2, _zeta_positive, None, _zeta_slope("zeta_positive"),
                        within=[((1.5, 4.0),), POSITIVE], tolerance=4.0)
"""zeta for input > 1 and other > 0, and a third of the code."""
zeta = formula("zeta", 2, _zeta, None, _zeta_slope("zeta"),
               within=[((1.5, 4.0),), POSITIVE], tolerance=4.0,
               surface=Surface("The sum of (other + i)**-input over i >= 0: Hurwitz's zeta function", is_special=True))

# -- incomplete integrals ---------------------------------------------------------------------------------------------

# Temme's correction sqrt(2 pi a) exp(a eta**2 / 2) (Q(a, x) - erfc(eta sqrt(a / 2)) / 2), a polynomial in eta / 0.36, one
# for each power of 40 / a - 1 (N. M. Temme, "The asymptotic expansion of the incomplete gamma functions", 1979; DLMF 8.12).
_TEMME: Final = (
    (
        -0.3333770363233762, 0.02996814810212791, -0.0019113670363168037, 5.28452536444206e-05, 6.009824917875399e-06,
        -1.0807248583052335e-06, 8.431202916553298e-08, -1.5628191700342304e-09, -5.343462525825095e-10,
        8.425844213341262e-11, -6.176756759527237e-12, 4.695577758064276e-14,
    ),
    (
        -4.110021906910009e-05, -3.245228539533109e-05, 8.693519487219495e-06, -1.1542978676582775e-06,
        8.408807874302811e-08, 3.3881750126816415e-10, -1.0184662521171342e-09, 1.4968044129257537e-10,
        -1.0872120259223262e-11, -6.80870335435908e-14, 1.3612686596056604e-13, -1.8832154074790417e-14,
    ),
    (
        2.6118899491332944e-06, -5.987679648302001e-07, 5.9562462586908384e-08, 6.430323360261489e-10,
        -1.1839057131358202e-09, 1.993759184746249e-10, -1.61749388635633e-11, -1.910675944799839e-13,
        2.597409892010969e-13, -3.979382570329744e-14, 2.8148398150434748e-15, 6.774381514181585e-17,
    ),
    (
        8.770478761625403e-09, 1.7283164237272017e-09, -1.0069996708731153e-09, 1.9415635589699305e-10,
        -1.7997745921130953e-11, -3.9583188134348783e-13, 4.125638416342171e-13, -6.887551956085723e-14,
        5.471375415457708e-15, 1.4045520992849493e-16, -1.1206000210894865e-16, 1.6292429032209158e-17,
    ),
    (
        -3.5110821326394394e-10, 1.0825627970494697e-10, -1.3267180149701458e-11, -4.778428364627162e-13,
        4.861211113899233e-13, -9.245495365553707e-14, 8.095833421117903e-15, 3.0383294632872473e-16,
        -2.1472157949217131e-16, 3.461928392710912e-17, -2.3955799959770308e-18, -1.4397108932413014e-19,
    ),
    (
        -2.4702889447814865e-12, -5.516501323092491e-13, 3.957870208467005e-13, -8.89634404681224e-14,
        8.920703140339823e-15, 4.971807281359177e-16, -3.3810668079397395e-16, 5.940708228997043e-17,
        -4.6946775839853925e-18, -2.9541375872148556e-19, 1.529752680551727e-19, -2.2231451796028314e-20,
    ),
    (
        1.4127655080483793e-13, -4.990711327559228e-14, 6.495233618427844e-15, 5.583426491257032e-16,
        -3.989317884020231e-16, 7.937001341058492e-17, -6.782056669653446e-18, -5.942114547654253e-19,
        2.93430975776292e-19, -4.732867149614954e-20, 2.843463499433021e-21, 3.865435839074488e-22,
    ),
)  # fmt: skip
# (x - log(1 + x)) / x**2 on [-0.3, 0.4].
_LOG_REST: Final = (
    0.4839343322271988, -0.10841398451411617, 0.02723572628710837, -0.00728653176610035, 0.00202875789166141,
    -0.0005806609400729946, 0.0001695906354541544, -5.0304025434372515e-05, 1.5104726390997705e-05,
    -4.580609771243875e-06, 1.4005100127124683e-06, -4.3115998240581184e-07, 1.3353571021871703e-07,
    -4.15617341936132e-08, 1.2958013669837677e-08, -4.0663523747473195e-09, 1.3222174356083674e-09,
    -4.1783066330868826e-10, 1.0127901751701029e-10, -3.207818936840862e-11, 2.3287156817216234e-11,
    -7.441778792452798e-12,
)  # fmt: skip
_TERMS: Final = 80


def _log_rest(e: Any, x: Any) -> Any:
    """x - log(1 + x) for x in [-0.3, 0.4], where the two are nearly the same."""
    return product_of(e, x, x, fitted(e, x, -0.3, 0.4, _LOG_REST))


def _front(e: Any, a: Any, x: Any) -> Any:
    """x**a e**-x / gamma(a + 1): for a >= 8 by how far x is from a, so that no digits cancel."""
    b = e("max", a, e.const(8.0))
    gap = e("div", e("sub", x, b), b)
    is_near = e.test("and", e.test("gt", gap, e.const(-0.3)), e.test("lt", gap, e.const(0.4)))
    far = e("sub", gap, e("log", e("div", x, b)))
    power = e("neg", e("mul", b, e("select", is_near, _log_rest(e, e("select", is_near, gap, e.const(0.0))), far)))
    large = e("div", e("exp", e("sub", power, _stirling_rest(e, b))), e("sqrt", times(e, b, 2 * math.pi)))
    small = e("exp", e("sub", e("sub", e("mul", a, e("log", x)), x), _log_gamma_positive(e, plus(e, a, 1.0))))
    return e("select", e.test("lt", a, e.const(8.0)), small, large)


def _series(e: Any, a: Any, x: Any) -> Any:
    """1 + x/(a+1) (1 + x/(a+2) (1 + ...)): DLMF 8.7.1."""
    total = e.const(1.0)
    for k in range(_TERMS, 0, -1):
        total = plus(e, e("mul", e("div", x, plus(e, a, float(k))), total), 1.0)
    return total


def _fraction(e: Any, a: Any, x: Any) -> Any:
    """Gamma(a, x) / (x**a e**-x) as Legendre's continued fraction, from the far end: DLMF 8.9.2."""
    base = e("sub", plus(e, x, 1.0), a)
    value = plus(e, base, 2.0 * _TERMS)
    for k in range(_TERMS, 0, -1):
        step = e("div", times(e, plus(e, times(e, a, -1.0), float(k)), float(k)), value)
        value = e("sub", plus(e, base, 2.0 * (k - 1)), step)
    return e("div", e.const(1.0), value)


def _small_rest(e: Any, a: Any, x: Any) -> Any:
    """Q for small a and x, where 1 - P cancels: 1 - x**a / gamma(a + 1) less the rest of the series (DLMF 8.7.3)."""
    total = e.const(0.0)
    for k in range(24, 0, -1):
        c = (-1) ** k / math.factorial(k)
        total = e("add", e("mul", total, x) if k < 24 else total, e("div", e.const(c), plus(e, a, float(k))))
    log = e("sub", e("mul", a, e("log", x)), _log_gamma_after(e, a))
    return e("sub", e("neg", e("expm1", log)), product_of(e, e("exp", log), a, x, total))


def _temme(e: Any, a: Any, x: Any) -> tuple[Any, Any]:
    """(P, Q) for a >= 20 and x within -30 and 40 percent of it."""
    gap = e("div", e("sub", x, a), a)
    square = times(e, _log_rest(e, gap), 2.0)
    eta = e("copysign", e("sqrt", square), gap)
    t, u = times(e, eta, 1 / 0.36), plus(e, e("div", e.const(40.0), a), -1.0)
    total = polynomial(e, t, _TEMME[-1])
    for row in reversed(_TEMME[:-1]):
        total = e("add", e("mul", total, u), polynomial(e, t, row))
    weight = e("exp", e("neg", product_of(e, e.const(0.5), a, square)))
    rest = e("div", e("mul", weight, total), e("sqrt", times(e, a, 2 * math.pi)))
    root = e("mul", eta, e("sqrt", times(e, a, 0.5)))
    return (e("sub", times(e, e("erfc", e("neg", root)), 0.5), rest), e("add", times(e, e("erfc", root), 0.5), rest))


def _incomplete(e: Any, a: Any, x: Any) -> tuple[Any, Any]:
    """(P, Q), each by what is accurate there and the other as what is left of 1."""
    zero, one, inf, nan = e.const(0.0), e.const(1.0), e.const(math.inf), e.const(math.nan)
    is_inside = e.test("and", e.test("and", e.test("gt", a, zero), e.test("gt", x, zero)),
                       e.test("and", e.test("lt", a, inf), e.test("lt", x, inf)))
    a_, x_ = e("select", is_inside, a, one), e("select", is_inside, x, one)
    is_like = e.test("and", e.test("ge", a_, e.const(20.0)), e.test("and", e.test("gt", x_, times(e, a_, 0.7)),
                                                                   e.test("lt", x_, times(e, a_, 1.4))))
    near_p, near_q = _temme(e, e("select", is_like, a_, e.const(20.0)), e("select", is_like, x_, e.const(20.0)))
    has_fraction = e.test("and", e.test("gt", x_, e.const(1.1)), e.test("gt", x_, a_))
    has_rest = e.test("and", e.test("le", x_, e.const(1.1)), e.test("lt", a_, e("select", e.test("le", x_, e.const(0.5)), e(
        "div", e.const(-0.4), e("log", e("min", x_, e.const(0.5)))), times(e, x_, 1.1))))
    front = _front(e, a_, x_)
    p = e("mul", front, _series(e, a_, e("select", has_fraction, zero, x_)))
    other = e("select", has_fraction, one, zero)
    q = product_of(e, front, a_, _fraction(e, e("mul", a_, other), e("select", has_fraction, x_, e.const(2.0))))
    q = e("select", has_rest, _small_rest(e, e("select", has_rest, a_, one), e("select", has_rest, x_, one)), q)
    has_q = e.test("or", has_fraction, has_rest)
    p, q = e("select", has_q, e("sub", one, q), p), e("select", has_q, q, e("sub", one, p))
    p, q = e("select", is_like, near_p, p), e("select", is_like, near_q, q)
    is_all = e.test("or", e.test("and", e.test("eq", a, zero), e.test("gt", x, zero)),
                    e.test("and", e.test("eq", x, inf), e.test("lt", a, inf)))
    is_none = e.test("or", e.test("and", e.test("eq", x, zero), e.test("gt", a, zero)),
                     e.test("and", e.test("eq", a, inf), e.test("lt", x, inf)))
    is_wrong = e.test("or", e.test("or", e.test("lt", a, zero), e.test("lt", x, zero)),
                      e.test("isnan", e("add", a, x)))
    outside_p = e("select", is_wrong, nan, e("select", is_none, zero, e("select", is_all, one, nan)))
    outside_q = e("select", is_wrong, nan, e("select", is_none, one, e("select", is_all, zero, nan)))
    return e("select", is_inside, p, outside_p), e("select", is_inside, q, outside_q)


def _density(b: Builder, g: Value, a: Value, x: Value) -> Value:
    """g * x**(a - 1) e**-x / gamma(a)"""
    return b.mul(g, b.exp(b.sub(b.sub(b.mul(plus_(b, a, -1.0), b.log(x)), x), b.lgamma(a))))


igamma = formula("igamma", 2, lambda e, a, x: _incomplete(e, a, x)[0], None, lambda b, g, z, a, x: _density(b, g, a, x),
                 within=[POSITIVE, POSITIVE], tolerance=8.0,
                 surface=Surface("The lower incomplete gamma integral up to `other`, as a part of all of gamma(input)",
                                 special=("gammainc",)))
igammac = formula("igammac", 2, lambda e, a, x: _incomplete(e, a, x)[1], None,
                  lambda b, g, z, a, x: b.neg(_density(b, g, a, x)), within=[POSITIVE, POSITIVE], tolerance=8.0,
                  surface=Surface("The upper incomplete gamma integral from `other` on, as a part of all of gamma(input)",
                                  special=("gammaincc",)))

__all__ = ["digamma", "igamma", "igammac", "lgamma", "zeta", "zeta_positive"]
