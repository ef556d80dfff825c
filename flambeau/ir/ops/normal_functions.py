"""The normal distribution's tails, its quantiles, odds, and the error function with its decay taken out."""
from __future__ import annotations

import math
from typing import Any, Final

from flambeau.ir.ops.families import scaled, square
from flambeau.ir.ops.formulas import formula, plus, polynomial, times
from flambeau.ir.ops.surface import Surface

# exp(x**2) erfc(x) (1 + 2 x) in q = (x - 3.75) / (x + 3.75), for all x >= 0 (Shepherd and Laframboise,
# Math. Comp. 36, 1981).
_ERFCX: Final = (
    1.2375126308378275, -0.14024059858554702, 0.003585415485463656, 0.08227673849015103, -0.10880393014170556,
    0.09230432116019804, -0.05869339859058929, 0.028362277421519668, -0.009746579547145438, 0.0017556258323895534,
    0.000293713591593492, -0.0002901539791322486, 5.1649421745236465e-05, 2.2383911531916976e-05,
    -1.144508983794941e-05, -9.728484952656482e-07, 1.7535246298697825e-06, -5.826439766695699e-08,
    -2.6125820988901525e-07, 2.429131177189471e-08, 4.107398937332565e-08, -4.390251943140879e-09,
    -6.606829477916605e-09, 5.460657473630792e-10, 9.234867707529155e-10, -3.7587308035623257e-11,
    -7.666209795998097e-11,
)  # fmt: skip

_PLACE: Final = 3.75


def _erfcx_positive(e: Any, x: Any) -> Any:
    q = e("div", plus(e, x, -_PLACE), plus(e, x, _PLACE))
    q = e("select", e.test("isinf", x), e.const(1.0), q)
    return e("div", polynomial(e, q, _ERFCX), plus(e, times(e, x, 2.0), 1.0))


def _exp_of_square(e: Any, x: Any) -> Any:
    """exp(x * x); the square of what x has in sixteenths is exact, and the rest is small."""
    high = times(e, e("round", times(e, x, 16.0)), 1 / 16)
    rest = e("mul", e("sub", x, high), e("add", x, high))
    return e("mul", e("exp", e("mul", high, high)), e("exp", e("select", e.test("isnan", rest), e.const(0.0), rest)))


def _erfcx(e: Any, x: Any) -> Any:
    size = e("abs", x)
    positive = _erfcx_positive(e, size)
    bounded = e("min", size, e.const(27.0))                 # exp(27**2) is infinite
    negative = e("sub", times(e, _exp_of_square(e, bounded), 2.0), positive)
    return e("select", e.test("lt", x, e.const(0.0)), negative, positive)


erfcx = formula("erfcx", 1, _erfcx,
                lambda b, g, y, x: b.mul(g, b.sub(b.mul(scaled(b, x, 2.0), y), b.scalar(2 / math.sqrt(math.pi), x))),
                tolerance=4.0, surface=Surface("exp(x**2) * erfc(x), which does not underflow", is_special=True))


def _log_ndtr(e: Any, x: Any) -> Any:
    """Below -1 by erfcx; above by what is missing from 1."""
    t = times(e, x, -math.sqrt(0.5))
    low = e("sub", e("log", times(e, _erfcx_positive(e, e("max", t, e.const(0.0))), 0.5)), e("mul", t, t))
    high = e("log1p", times(e, e("erfc", e("neg", t)), -0.5))
    found = e("select", e.test("lt", x, e.const(-1.0)), low, high)
    return e("select", e.test("isnan", x), x, found)


log_ndtr = formula("log_ndtr", 1, _log_ndtr,
                   lambda b, g, y, x: b.div(scaled(b, g, math.sqrt(2 / math.pi)), b.erfcx(scaled(b, x, -math.sqrt(0.5)))),
                   tolerance=4.0, surface=Surface("The logarithm of ndtr(x)", is_special=True))

# Wichura, algorithm AS 241, Applied Statistics 37 (1988): quotients in 0.425**2 - (p - 0.5)**2, and in
# sqrt(-log(min(p, 1 - p))), less 1.6 up to 5 and less 5 beyond.
_MIDDLE: Final = (
    3.3871328727963665, 133.14166789178438, 1971.5909503065513, 13731.69376550946, 45921.95393154987, 67265.7709270087,
    33430.57558358813, 2509.0809287301227,
)  # fmt: skip
_UNDER_MIDDLE: Final = (
    1.0, 42.31333070160091, 687.1870074920579, 5394.196021424751, 21213.794301586597, 39307.89580009271,
    28729.085735721943, 5226.495278852854,
)  # fmt: skip
_TAIL: Final = (
    1.4234371107496835, 4.630337846156546, 5.769497221460691, 3.6478483247632045, 1.2704582524523684,
    0.2417807251774506, 0.022723844989269184, 0.0007745450142783414,
)  # fmt: skip
_UNDER_TAIL: Final = (
    1.0, 2.053191626637759, 1.6763848301838038, 0.6897673349851, 0.14810397642748008, 0.015198666563616457,
    0.0005475938084995345, 1.0507500716444169e-09,
)  # fmt: skip
_FAR: Final = (
    6.657904643501103, 5.463784911164114, 1.7848265399172913, 0.29656057182850487, 0.026532189526576124,
    0.0012426609473880784, 2.7115555687434876e-05, 2.0103343992922881e-07,
)  # fmt: skip
_UNDER_FAR: Final = (
    1.0, 0.599832206555888, 0.1369298809227358, 0.014875361290850615, 0.0007868691311456133, 1.8463183175100548e-05,
    1.421511758316446e-07, 2.0442631033899397e-15,
)  # fmt: skip


def _ndtri(e: Any, p: Any) -> Any:
    zero, one, inf = e.const(0.0), e.const(1.0), e.const(math.inf)
    q = plus(e, p, -0.5)
    r = e("sub", e.const(0.180625), e("mul", q, q))
    middle = e("div", e("mul", q, polynomial(e, r, _MIDDLE)), polynomial(e, r, _UNDER_MIDDLE))
    rest = e("select", e.test("lt", q, zero), p, e("sub", one, p))
    root = e("sqrt", e("neg", e("log", rest)))
    near, far = plus(e, root, -1.6), plus(e, root, -5.0)
    tail = e("select", e.test("le", root, e.const(5.0)),
             e("div", polynomial(e, near, _TAIL), polynomial(e, near, _UNDER_TAIL)),
             e("div", polynomial(e, far, _FAR), polynomial(e, far, _UNDER_FAR)))
    found = e("select", e.test("le", e("abs", q), e.const(0.425)), middle, e("copysign", tail, q))
    found = e("select", e.test("eq", p, zero), e("neg", inf), e("select", e.test("eq", p, one), inf, found))
    is_inside = e.test("and", e.test("ge", p, zero), e.test("le", p, one))
    return e("select", is_inside, found, e.const(math.nan))


ndtri = formula("ndtri", 1, _ndtri,
                lambda b, g, y, p: b.mul(g, scaled(b, b.exp(scaled(b, square(b, y), 0.5)), math.sqrt(2 * math.pi))),
                within=[((0.05, 0.95),)], tolerance=4.0,
                surface=Surface("The number below which a normal variable lies with probability x", is_special=True))

logit = formula("logit", 1, lambda e, x: e("log", e("div", x, e("sub", e.const(1.0), x))),
                lambda b, g, y, x: b.where(b.isnan(y), y, b.div(g, b.mul(x, b.sub(b.scalar(1.0, x), x)))),
                within=[((0.1, 0.9),)], tolerance=4.0)

__all__ = ["erfcx", "log_ndtr", "logit", "ndtri"]
