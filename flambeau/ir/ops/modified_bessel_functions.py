"""Bessel functions that grow and decay (modified: I and K), with and without their exponentials."""
from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Final

from flambeau.ir.ops.formulas import fitted, formula, times
from flambeau.ir.ops.sampling import AWAY_FROM_ZERO, POSITIVE
from flambeau.ir.ops.surface import Surface

if TYPE_CHECKING:
    from flambeau.ir.builder import Builder
    from flambeau.ir.graph import Value

# exp(-x) I0(x) and exp(-x) I1(x) / x on [0, 6]; sqrt(x) exp(-x) I(x) in 6 / x beyond.
_I0_NEAR: Final = (
    0.2430003541618254, -0.13852092259357363, 0.12032269783476965, -0.11307914366902522, 0.1040247009618432,
    -0.08931630107121262, 0.07012432109826817, -0.05003602818387763, 0.0324719650334425, -0.01923942799334688,
    0.010458361808319208, -0.005242640846771835, 0.002435583649712608, -0.0010534862425622665, 0.0004260568186864433,
    -0.00016173097984009126, 5.782614272725554e-05, -1.953630798462539e-05, 6.254896694362582e-06,
    -1.902595523866983e-06, 5.508014626260413e-07, -1.523350761411759e-07, 4.0608236896150275e-08,
    -1.0274206152116779e-08, 2.324449452480689e-09, -5.489477736058897e-10, 1.7947052027334787e-10,
    -3.8142976324724925e-11,
)  # fmt: skip
_I0_FAR: Final = (
    0.40331226094986455, 0.004607090507675262, 0.0002639629656826379, 3.209416407705376e-05, 6.943027807707882e-06,
    2.560016483082528e-06, 1.2868096217584616e-06, 3.6209395568789063e-07, -5.179995851314128e-07,
    -7.429637469505333e-07, -3.174007814445525e-08, 5.961162583603385e-07, 1.3482711316590327e-07,
    -4.987492116331229e-07, -7.487328212304346e-08, 4.37106762052049e-07, -2.6443353342626012e-08,
    -3.4768463242501786e-07, 9.659032977042818e-08, 2.2051813241084718e-07, -1.0027971397427147e-07,
    -9.990958727147208e-08, 5.8940866681476204e-08, 2.816167326929041e-08, -1.950297372792276e-08,
    -3.6736506982901017e-09, 2.8333211155943016e-09,
)  # fmt: skip
_I1_NEAR: Final = (
    0.06560890443243361, -0.08504416800034269, 0.08745868605559083, -0.07891853351777937, 0.06397326657660919,
    -0.04699581953486018, 0.03145368242459653, -0.019268389566817444, 0.010852949917978987, -0.005645690577753,
    0.002724139034433781, -0.0012242410886219854, 0.0005143999540712507, -0.00020280710052436896, 7.527441301724409e-05,
    -2.63823804157019e-05, 8.755823336578158e-06, -2.758769457597265e-06, 8.271981859755735e-07, -2.365359728593887e-07,
    6.460572952955822e-08, -1.6904230153805246e-08, 4.266652394729609e-09, -1.0271981399265355e-09,
    2.2445834961670768e-10, -5.05292855365481e-11, 1.528122952303543e-11, -3.1217320449990722e-12,
)  # fmt: skip
_I1_FAR: Final = (
    0.386123659201314, -0.013201391381950622, -0.000418933000950942, -4.25968016608719e-05, -8.40242036449924e-06,
    -2.9270475811307766e-06, -1.4382051078473968e-06, -4.269650931789146e-07, 5.254387340311268e-07,
    7.942727765186816e-07, 6.247069205015114e-08, -6.19503116844654e-07, -1.6424436286386433e-07, 5.133916634184048e-07,
    9.802093338032375e-08, -4.503367584302814e-07, 9.92370255736035e-09, 3.595934129676065e-07, -8.656087677479222e-08,
    -2.2892940170308928e-07, 9.552760319237795e-08, 1.0403466891207354e-07, -5.7345220113759713e-08,
    -2.9393279660117413e-08, 1.9172465423151403e-08, 3.841303789586805e-09, -2.8021458050732114e-09,
)  # fmt: skip
# K0(x) + log(x) I0(x) and (K1(x) - log(x) I1(x) - 1 / x) / x in x**2 up to x = 2; sqrt(x) exp(x) K(x) in 2 / x beyond.
_K0_NEAR: Final = (
    0.7819051943679178, 0.7812430851107339, 0.12278562011464675, 0.00777646646981443, 0.00026585892882551336,
    5.68865584835544e-06, 8.336543759122932e-08, 8.891855792457129e-10, 7.213074766934886e-12, 4.5993422748786554e-14,
)  # fmt: skip
_K0_FAR: Final = (
    1.2185953385133905, -0.031071461824889558, 0.0030328918102738114, -0.0004797690567621869, 9.956054749222072e-05,
    -2.4735204685849812e-05, 7.002244303330549e-06, -2.191176013502258e-06, 7.427930662849315e-07,
    -2.6892080372518763e-07, 1.0288069483966884e-07, -4.126918522291483e-08, 1.7312995045968196e-08,
    -7.512457819393254e-09, 3.1783612286634933e-09, -1.4404758651443358e-09, 1.0450469654372086e-09,
    -5.418134445780214e-10, -2.296305052830524e-10, 1.5340126238605654e-10, 3.796424611822554e-10,
    -2.2303328496385004e-10, -1.5419231423351582e-10, 9.239492719735017e-11, 4.390754852709943e-11,
    -2.582452501563754e-11,
)  # fmt: skip
_K1_NEAR: Final = (
    -0.49820162023255865, -0.21068184102943455, -0.02142386442877562, -0.001004688143150579, -2.7280508484375018e-05,
    -4.84173892113077e-07, -6.061898739489613e-09, -5.6437779880696256e-11, -4.0618864176957495e-13,
    -2.327580074555332e-15,
)  # fmt: skip
_K1_FAR: Final = (
    1.363151890371342, 0.10334973775386527, -0.005566729880072949, 0.000735724154903766, -0.0001395902196408485,
    3.284386569308467e-05, -8.961205929611785e-06, 2.730039509989776e-06, -9.067228220802146e-07, 3.229965620159241e-07,
    -1.21951894454213e-07, 4.838602136498907e-08, -2.0105919367047817e-08, 8.654462540906392e-09,
    -3.6475900600687235e-09, 1.644089713355689e-09, -1.166820125045468e-09, 6.014360573864588e-10,
    2.420762534801533e-10, -1.6272853347015717e-10, -4.1258147760560677e-10, 2.4182967169209887e-10,
    1.6685782786246503e-10, -9.982856117524016e-11, -4.7692737490629826e-11, 2.7995703082404277e-11,
)  # fmt: skip


def _i_scaled(e: Any, size: Any, order: int) -> Any:
    """exp(-x) I(x) for x >= 0."""
    near = fitted(e, e("min", size, e.const(6.0)), 0.0, 6.0, (_I0_NEAR, _I1_NEAR)[order])
    near = e("mul", size, near) if order else near
    safe = e("max", size, e.const(6.0))
    far = e("div", fitted(e, e("div", e.const(6.0), safe), 0.0, 1.0, (_I0_FAR, _I1_FAR)[order]), e("sqrt", safe))
    found = e("select", e.test("le", size, e.const(6.0)), near, far)
    return e("select", e.test("isnan", size), size, found)


def _i(order: int, is_scaled: bool) -> Any:
    def expression(e: Any, x: Any) -> Any:
        size = e("abs", x)
        found = _i_scaled(e, size, order)
        if not is_scaled:                   # in two halves: exp(x) is infinite where I(x) is not yet
            half = e("exp", times(e, size, 0.5))
            found = e("select", e.test("isinf", size), size, e("mul", e("mul", found, half), half))
        return e("select", e.test("lt", x, e.const(0.0)), e("neg", found), found) if order else found

    return expression


def _k(order: int, is_scaled: bool) -> Any:
    def expression(e: Any, x: Any) -> Any:
        """Below 2 by the logarithm and I, above by a decaying exponential."""
        zero, two = e.const(0.0), e.const(2.0)
        is_near = e.test("le", x, two)
        small = e("select", is_near, x, two)
        i = e("mul", _i_scaled(e, e("abs", small), order), e("exp", e("abs", small)))
        regular = fitted(e, e("mul", small, small), 0.0, 4.0, (_K0_NEAR, _K1_NEAR)[order])
        log = e("mul", e("log", small), i)
        if order:
            near = e("add", e("add", log, e("mul", small, regular)), e("div", e.const(1.0), small))
        else:
            near = e("sub", regular, log)
        large = e("max", x, two)
        far = e("div", fitted(e, e("div", two, large), 0.0, 1.0, (_K0_FAR, _K1_FAR)[order]), e("sqrt", large))
        if is_scaled:
            near = e("mul", near, e("exp", small))
        else:
            far = e("mul", far, e("exp", e("neg", large)))
        found = e("select", is_near, near, far)
        found = e("select", e.test("eq", x, zero), e.const(math.inf), found)
        return e("select", e.test("lt", x, zero), e.const(math.nan), e("select", e.test("isnan", x), x, found))

    return expression


def _i1_partial(b: Builder, g: Value, y: Value, x: Value) -> Value:
    """g * (I0(x) - I1(x) / x), and g / 2 at 0."""
    at_zero = b.eq(x, b.scalar(0.0, x))
    slope = b.sub(b.i0(x), b.div(y, b.where(at_zero, b.scalar(1.0, x), x)))
    return b.mul(g, b.where(at_zero, b.scalar(0.5, x), slope))


def _i1e_partial(b: Builder, g: Value, y: Value, x: Value) -> Value:
    """g * (I0e(x) - I1e(x) (sign(x) + 1 / x)), and g / 2 at 0."""
    at_zero = b.eq(x, b.scalar(0.0, x))
    safe = b.where(at_zero, b.scalar(1.0, x), x)
    slope = b.sub(b.i0e(x), b.mul(y, b.add(b.sign(x), b.reciprocal(safe))))
    return b.mul(g, b.where(at_zero, b.scalar(0.5, x), slope))


i0 = formula("i0", 1, _i(0, False), lambda b, g, y, x: b.mul(g, b.i1(x)), tolerance=4.0,
             surface=Surface("The modified Bessel function I of order 0", special=("i0", "modified_bessel_i0")))
i0e = formula("i0e", 1, _i(0, True), lambda b, g, y, x: b.mul(g, b.sub(b.i1e(x), b.mul(b.sign(x), y))),
              within=[AWAY_FROM_ZERO], surface=Surface("exp(-|x|) * i0(x)", is_special=True))
i1 = formula("i1", 1, _i(1, False), _i1_partial, within=[AWAY_FROM_ZERO], tolerance=4.0,
             surface=Surface("The modified Bessel function I of order 1", is_special=True, special=("modified_bessel_i1",)))
i1e = formula("i1e", 1, _i(1, True), _i1e_partial, within=[AWAY_FROM_ZERO],
              surface=Surface("exp(-|x|) * i1(x)", is_special=True))

k0 = formula("modified_bessel_k0", 1, _k(0, False), lambda b, g, y, x: b.neg(b.mul(g, b.modified_bessel_k1(x))),
             within=[POSITIVE], tolerance=4.0,
             surface=Surface("The modified Bessel function K of order 0", is_special=True))
k1 = formula("modified_bessel_k1", 1, _k(1, False),
             lambda b, g, y, x: b.neg(b.mul(g, b.add(b.modified_bessel_k0(x), b.div(y, x)))),
             within=[POSITIVE], tolerance=4.0,
             surface=Surface("The modified Bessel function K of order 1", is_special=True))
k0e = formula("scaled_modified_bessel_k0", 1, _k(0, True),
              lambda b, g, y, x: b.mul(g, b.sub(y, b.scaled_modified_bessel_k1(x))), within=[POSITIVE], tolerance=4.0,
              surface=Surface("exp(x) * modified_bessel_k0(x)", is_special=True, parameters=("x", "")))
k1e = formula("scaled_modified_bessel_k1", 1, _k(1, True),
              lambda b, g, y, x: b.mul(g, b.sub(b.sub(y, b.scaled_modified_bessel_k0(x)), b.div(y, x))),
              within=[POSITIVE], tolerance=4.0,
              surface=Surface("exp(x) * modified_bessel_k1(x)", is_special=True, parameters=("x", "")))

__all__ = ["i0", "i0e", "i1", "i1e", "k0", "k0e", "k1", "k1e"]
