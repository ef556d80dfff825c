"""Bessel functions that swing (J and Y), the spherical one, and Airy's."""
from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Final

from flambeau.ir.ops.formulas import fitted, formula, times
from flambeau.ir.ops.sampling import AWAY_FROM_ZERO, POSITIVE
from flambeau.ir.ops.surface import Surface

if TYPE_CHECKING:
    from flambeau.ir.builder import Builder
    from flambeau.ir.graph import Value

# In x**2 up to x = 8: J0, J1 / x, and what is regular of Y: Y0 - 2/pi log(x) J0, (Y1 - 2/pi (log(x) J1 - 1/x)) / x.
_J0: Final = (
    0.04582966485981377, 0.9303012472958572, -0.6484692830871837, -0.808088807669687, 1.0383794611437211,
    -0.507468045847102, 0.14598884856759264, -0.028472718610869575, 0.004058078989140991, -0.00044354592247271616,
    3.8473197855944406e-05, -2.7177491450348606e-06, 1.595610910454382e-07, -7.91540772613074e-09,
    3.363447579149498e-10, -1.238464418210802e-11, 4.003763198544757e-13, -1.1380595432215676e-14,
)  # fmt: skip
_J1: Final = (
    -0.05814382795599107, 0.08105866038589796, 0.15151665143806634, -0.2595948652859303, 0.15858376432721938,
    -0.05474581821284722, 0.012456814392255438, -0.0020290394945705996, 0.00024949458139090494, -2.4045748659686983e-05,
    1.8684525372057272e-06, -1.1967081867872172e-07, 6.431268785753088e-09, -2.943013798390916e-10,
    1.1610597914042965e-11, -4.004572738786147e-13, 1.2093613396338289e-14,
)  # fmt: skip
_Y0: Final = (
    -0.382250654459425, -0.8284358903604587, 1.6470964788745466, 0.14412632369302442, -1.0775477338215995,
    0.6721770783431723, -0.2189574709617165, 0.0463670476813471, -0.007025741057269826, 0.0008061586060550644,
    -7.279541882784614e-05, 5.321318633735118e-06, -3.2185077885089357e-07, 1.6391065268257768e-08,
    -7.130516933709929e-10, 2.6818221380030414e-11, -8.810528980336584e-13, 2.558039399850299e-14,
    -6.574025715773563e-16,
)  # fmt: skip
_Y1: Final = (
    0.07075985882118005, -0.24337743079193114, 0.023367571720993584, 0.23507209206669755, -0.19639839859930425,
    0.07854786922242545, -0.019628756833099423, 0.0034224907399180455, -0.00044381734351149876, 4.4674330129143775e-05,
    -3.6009998743578177e-06, 2.3804929913727272e-07, -1.3153322551124148e-08, 6.16974260611845e-10,
    -2.488750990528334e-11, 8.728814257439169e-13, -2.6951389107285232e-14, 7.338090945282559e-16,
)  # fmt: skip
# Beyond, in (8 / x)**2: P and (x / 8) Q of Hankel's expansions (DLMF 10.17.3).
_P0: Final = (
    0.9994572757882519, -0.0005363673192130031, 6.137416080162966e-06, -2.0527448162213505e-07, 1.2803760585321308e-08,
    -1.2121175693853139e-09, 1.55010787734737e-10, -2.488573779233352e-11, 4.772331023925661e-12,
    -1.056269548216839e-12, 2.668257878241629e-13, -7.387418663158929e-14, 1.775248983600068e-14,
    -5.330584781994501e-15, 4.469105427097274e-15, -1.7248444298109113e-15,
)  # fmt: skip
_Q0: Final = (
    -0.015555113879513518, 6.833149099343896e-05, -1.4771388326499655e-06, 7.10621485915512e-08, -5.668716049240259e-09,
    6.432781987478788e-10, -9.47041158664035e-11, 1.7032949455437694e-11, -3.5884456577405732e-12,
    8.602315982558679e-13, -2.341397180046064e-13, 6.900332036608468e-14, -1.64697103261025e-14, 5.106678984026469e-15,
    -5.05803415691077e-15, 2.0327835201955902e-15,
)  # fmt: skip
_P1: Final = (
    1.0009070262780821, 0.0008988049416705562, -7.959694698494747e-06, 2.4536766228894186e-07, -1.4708512088166258e-08,
    1.3603051333068624e-09, -1.713161670692846e-10, 2.7207265565791943e-11, -5.17567672866935e-12,
    1.1384103301309482e-12, -2.8606315288389805e-13, 7.88696401478986e-14, -1.8942692840813685e-14,
    5.674955772868603e-15, -4.717929599255695e-15, 1.816970270156969e-15,
)  # fmt: skip
_Q1: Final = (
    0.04677687402744898, -9.621458822054437e-05, 1.8212018512312627e-06, -8.291960708636421e-08, 6.420132498992037e-09,
    -7.151105706516684e-10, 1.0395095079650433e-10, -1.8524498571424332e-11, 3.875502362183683e-12,
    -9.239443579427935e-13, 2.502727082192215e-13, -7.34784527018454e-14, 1.754535000314622e-14, -5.430000658130871e-15,
    5.3301669514931285e-15, -2.1379173806760675e-15,
)  # fmt: skip
# Airy's function on [-4, -1] and [-1, 2]; with zeta = 2/3 |x|**1.5 beyond 2 in (2/3 * 2**1.5) / zeta, and below -4 in the
# square of (2/3 * 4**1.5) / zeta (DLMF 9.7.5, 9.7.9).
_AIRY_LEFT: Final = (
    -0.11232506769296609, 1.0182791013971915, 0.31591425288646735, -1.0178195081371606, 0.13830619122741664,
    0.3395722668381689, -0.14043710552034896, -0.03436453822792939, 0.03457169855376282, -0.003898259772011412,
    -0.003449401330951481, 0.0012600653973902204, 4.732007530405526e-05, -0.0001200615174434757, 2.1904199743044694e-05,
    3.976425120275903e-06, -2.2019109260822923e-06, 1.895713651258735e-07, 8.450822808131077e-08,
    -2.4863199059469286e-08, 3.165623889397396e-10, 1.0225903741996145e-09, -1.4076049521305261e-10,
    -1.32617419633928e-11,
)  # fmt: skip
_AIRY_RIGHT: Final = (
    0.23169360648083348, -0.33736579899702585, 0.13032765364546922, 0.06707156633352643, -0.08266591343866593,
    0.02576556715893652, 0.004445579458808177, -0.005952647495320821, 0.0016421440347615412, 0.00011537642035575076,
    -0.00020269747181236782, 5.1563949242256664e-05, 1.2224043384880748e-06, -4.0134218517909595e-06,
    9.638036684846953e-07, -1.8632555443959703e-09, -5.1978520271178575e-08, 1.1961529626231976e-08,
    -1.6870358263378238e-10, -4.812530668454087e-10, 8.763601062422677e-11, 5.776166066048264e-13,
)  # fmt: skip
_AIRY_FAR: Final = (
    0.983679282828043, -0.014613458724023249, 0.0014132014717017454, -0.00022785221368774484, 4.846334059160086e-05,
    -1.2354390788588664e-05, 3.5878318906972488e-06, -1.1510246631885352e-06, 3.9971919548465126e-07,
    -1.4813223990949042e-07, 5.7961210756394545e-08, -2.376358645738101e-08, 1.0197902864995009e-08,
    -4.519306650184218e-09, 1.9111063677174768e-09, -8.781361310256964e-10, 7.251137398138905e-10,
    -3.874124274521793e-10, -2.1759543389891374e-10, 1.4286446028646038e-10, 3.0554782840129076e-10,
    -1.8282471208261877e-10, -1.2738393330982088e-10, 7.747807129974057e-11, 3.526198929950861e-11,
    -2.1086797348882255e-11,
)  # fmt: skip
_AIRY_F: Final = (
    0.999363720981151, -0.0006209941418020288, 1.4258707704483742e-05, -9.054529679493404e-07, 1.004214109950617e-07,
    -1.5925189090064185e-08, 3.2416228322590946e-09, -7.934853971678731e-10, 2.2378557273652639e-10,
    -7.065712357468644e-11, 2.4754170956743067e-11, -9.313465120510308e-12, 3.0642516605732893e-12,
    -1.1896959313910688e-12, 1.4305076280222883e-12, -7.59533814270435e-13, -3.973885824900644e-13,
    2.4932475400628977e-13, 2.276562777882856e-13, -1.3092807589006896e-13,
)  # fmt: skip
_AIRY_G: Final = (
    0.012901607658122698, -0.0001138371909162974, 4.87708632760595e-06, -4.358813868052693e-07, 6.05576053108533e-08,
    -1.1306567103226818e-08, 2.6096686705382516e-09, -7.066156468293379e-10, 2.1659761846880517e-10,
    -7.340068122242438e-11, 2.7532954758642563e-11, -1.096440370221621e-11, 3.4405123443071948e-12,
    -1.3407044832060789e-12, 2.212527476527643e-12, -1.2273215519829482e-12, -7.359696295176049e-13,
    4.652070984766452e-13, 3.8218841643318964e-13, -2.2545838668644549e-13,
)  # fmt: skip


def _far(e: Any, x: Any, order: int, is_second: bool) -> Any:
    """For x >= 8: sqrt(2 / (pi x)) (P cos - Q sin) of x - (2 n + 1) pi / 4, the shift taken out by sums of sin and cos."""
    ratio = e("div", e.const(8.0), x)
    z = e("mul", ratio, ratio)
    p = fitted(e, z, 0.0, 1.0, (_P0, _P1)[order])
    q = e("mul", ratio, fitted(e, z, 0.0, 1.0, (_Q0, _Q1)[order]))
    sine, cosine = e("sin", x), e("cos", x)
    both, gap = e("add", sine, cosine), e("sub", sine, cosine)
    c, s = (both, gap) if order == 0 else (gap, e("neg", both))         # sqrt(2) times cos and sin of the shifted x
    wave = e("add", e("mul", p, s), e("mul", q, c)) if is_second else e("sub", e("mul", p, c), e("mul", q, s))
    found = e("div", wave, times(e, e("sqrt", x), math.sqrt(math.pi)))
    return e("select", e.test("isinf", x), e.const(0.0), found)


def _j_near(e: Any, x: Any, order: int) -> Any:
    found = fitted(e, e("mul", x, x), 0.0, 64.0, (_J0, _J1)[order])
    return e("mul", x, found) if order else found


def _j(order: int) -> Any:
    def expression(e: Any, x: Any) -> Any:
        eight, size = e.const(8.0), e("abs", x)
        is_near = e.test("le", size, eight)
        near = _j_near(e, e("select", is_near, size, eight), order)
        found = e("select", is_near, near, _far(e, e("select", is_near, eight, size), order, False))
        return e("mul", found, e("copysign", e.const(1.0), x)) if order else found

    return expression


def _y(order: int) -> Any:
    def expression(e: Any, x: Any) -> Any:
        zero, eight = e.const(0.0), e.const(8.0)
        is_near = e.test("le", x, eight)
        small = e("select", is_near, x, eight)
        regular = fitted(e, e("mul", small, small), 0.0, 64.0, (_Y0, _Y1)[order])
        log = e("mul", e("log", small), _j_near(e, small, order))
        if order:
            pole = e("sub", log, e("div", e.const(1.0), small))
            near = e("add", e("mul", small, regular), times(e, pole, 2 / math.pi))
        else:
            near = e("add", regular, times(e, log, 2 / math.pi))
        found = e("select", is_near, near, _far(e, e("select", is_near, eight, x), order, True))
        found = e("select", e.test("eq", x, zero), e.const(-math.inf), found)
        return e("select", e.test("lt", x, zero), e.const(math.nan), found)

    return expression


def _j1_partial(b: Builder, g: Value, y: Value, x: Value) -> Value:
    """g * (J0(x) - J1(x) / x), and g / 2 at 0."""
    at_zero = b.eq(x, b.scalar(0.0, x))
    slope = b.sub(b.bessel_j0(x), b.div(y, b.where(at_zero, b.scalar(1.0, x), x)))
    return b.mul(g, b.where(at_zero, b.scalar(0.5, x), slope))


j0 = formula("bessel_j0", 1, _j(0), lambda b, g, y, x: b.neg(b.mul(g, b.bessel_j1(x))), tolerance=4.0,
             surface=Surface("The Bessel function J of order 0", is_special=True))
j1 = formula("bessel_j1", 1, _j(1), _j1_partial, within=[AWAY_FROM_ZERO], tolerance=4.0,
             surface=Surface("The Bessel function J of order 1", is_special=True))
y0 = formula("bessel_y0", 1, _y(0), lambda b, g, y, x: b.neg(b.mul(g, b.bessel_y1(x))), within=[POSITIVE], tolerance=4.0,
             surface=Surface("The Bessel function Y of order 0: -inf at 0, NaN below", is_special=True))
y1 = formula("bessel_y1", 1, _y(1), lambda b, g, y, x: b.mul(g, b.sub(b.bessel_y0(x), b.div(y, x))), within=[POSITIVE],
             tolerance=4.0, surface=Surface("The Bessel function Y of order 1: -inf at 0, NaN below", is_special=True))


def _spherical_j0(e: Any, x: Any) -> Any:
    """sin(x) / x; near 0 its series."""
    square = e("mul", x, x)
    near = e.const(1.0)
    for k in (9, 7, 5, 3):
        near = e("sub", e.const(1.0), times(e, e("mul", square, near), 1 / (k * (k - 1))))
    is_near = e.test("lt", e("abs", x), e.const(0.1))
    found = e("select", is_near, near, e("div", e("sin", x), e("select", is_near, e.const(1.0), x)))
    return e("select", e.test("isinf", x), e.const(0.0), found)


def _spherical_partial(b: Builder, g: Value, y: Value, x: Value) -> Value:
    """g * (cos(x) - y) / x, and 0 at 0."""
    at_zero = b.eq(x, b.scalar(0.0, x))
    slope = b.div(b.sub(b.cos(x), y), b.where(at_zero, b.scalar(1.0, x), x))
    return b.mul(g, b.where(at_zero, b.scalar(0.0, x), slope))


spherical_j0 = formula("spherical_bessel_j0", 1, _spherical_j0, _spherical_partial, within=[AWAY_FROM_ZERO],
                       tolerance=4.0, surface=Surface("sin(x) / x, and 1 at 0", is_special=True, parameters=("x", "")))


def _airy(e: Any, x: Any) -> Any:
    zero, one, two = e.const(0.0), e.const(1.0), e.const(2.0)
    size = e("abs", x)
    is_above, is_below = e.test("gt", x, two), e.test("lt", x, e.const(-4.0))
    is_outside = e.test("or", is_above, is_below)
    safe = e("select", is_outside, size, e.const(4.0))
    root = e("sqrt", safe)
    zeta, height = times(e, e("mul", safe, root), 2 / 3), times(e, e("sqrt", root), math.sqrt(math.pi))
    decayed = fitted(e, e("div", e.const(2 / 3 * 2**1.5), zeta), 0.0, 1.0, _AIRY_FAR)
    above = e("div", times(e, e("mul", e("exp", e("neg", zeta)), decayed), 0.5), height)
    ratio = e("div", e.const(2 / 3 * 4**1.5), zeta)
    u = e("mul", ratio, ratio)
    sine, cosine = e("sin", zeta), e("cos", zeta)
    f, g = fitted(e, u, 0.0, 1.0, _AIRY_F), e("mul", ratio, fitted(e, u, 0.0, 1.0, _AIRY_G))
    wave = e("sub", e("mul", e("add", sine, cosine), f), e("mul", e("sub", cosine, sine), g))
    below = e("div", times(e, wave, math.sqrt(0.5)), height)
    inside = e("select", is_outside, zero, x)
    middle = e("select", e.test("lt", x, e("neg", one)),
               fitted(e, e("min", inside, e("neg", one)), -4.0, -1.0, _AIRY_LEFT),
               fitted(e, e("max", inside, e("neg", one)), -1.0, 2.0, _AIRY_RIGHT))
    found = e("select", is_above, above, e("select", is_below, below, middle))
    return e("select", e.test("or", e.test("isinf", x), e.test("isnan", x)), e.const(math.nan), found)


airy_ai = formula("airy_ai", 1, _airy, tolerance=4.0, surface=Surface("Airy's function Ai", is_special=True,
                                                                      parameters=("x", "")))

__all__ = ["airy_ai", "j0", "j1", "spherical_j0", "y0", "y1"]
