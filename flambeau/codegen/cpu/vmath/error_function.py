"""erf and erfc.

Near 0, erf(x) = x + x P(x^2). Beyond, f32 takes 1 - exp(P(|x|)), with P fitted to log erfc; everything else goes
through erfc(a) = exp(-a^2) G(a), where G(a) (1 + 2a) is a polynomial in q = (a - K)/(a + K) (Shepherd and
Laframboise, Math. Comp. 36, 1981). Bounds: erf 2 ulp (f32), 3 (f64); erfc 2 (f32), 5 (f64).
"""

from __future__ import annotations

from flambeau.codegen.cpu.llvm.emitter import F32, F64
from flambeau.codegen.cpu.vmath.exponential import exp, exp_parts, scale
from flambeau.codegen.cpu.vmath.vec import (
    Vec,
    clamp,
    fma,
    magnitude,
    polynomial,
    square_error,
    where,
    with_sign_of,
)

# erf(x)/x - 1 in z = x^2 on |x| <= 0.93 (2^-25.6) and |x| <= 1 (2^-56).
ERF_F32 = (0.128379151, -0.376124889, 0.11281734, -0.0267630611, 0.00498747407, -0.000596012746)
ERF_F64 = (
    0.1283791670955126, -0.3761263890318375, 0.11283791670954862, -0.026866170645073576, 0.005223977624786278,
    -0.0008548326979008027, 0.00012055331045441764, -1.492559369154384e-05, 1.646097552227389e-06,
    -1.6350051717316622e-07, 1.4658045956165912e-08, -1.1366268797687306e-09, 5.946224813748066e-11,
)  # fmt: skip
# log erfc(t) on [0.9, 3.95], weighted so that 1 - exp is good to 2^-27.6.
LOG_ERFC_F32 = (
    -0.000166252605, -1.12779808, -0.636974692, -0.104114883, 0.0223157797, -0.003065628, 0.000198233131,
)  # fmt: skip
# exp(a^2) erfc(a) (1 + 2a) in q: K = 4 up to a = 28 (2^-54), and K = 3 up to a = 10.5 for f32 results (2^-34.5).
ERFCX_F64 = (
    1.2329951186255526, -0.1396211168405629, 0.015379652102619762, 0.06809705425473657, -0.10103906603630121,
    0.09373283499682411, -0.06633036581256221, 0.03716751556185066, -0.0161977340484441, 0.005031969763573362,
    -0.0007577734047370794, -0.00019925556123218897, 0.000150622471105252, -2.4402941774947427e-05,
    -1.1225281997868008e-05, 5.717296121348395e-06, 3.019550822778751e-07, -8.3424188508291e-07,
    6.2389865942463e-08, 1.1456259988946832e-07, -7.778878510062105e-09, -1.338671990616961e-08,
    -1.7177738249063046e-09,
)  # fmt: skip
ERFCX_MID = (
    1.2530080582694996, -0.13562110701945163, -0.04756229449739607, 0.12964520622038164, -0.11927363537061146,
    0.0683073156244983, -0.023771242261790657, 0.0025336624978603978, 0.0018950730827370988,
    -0.0007896345567714665, -0.00012775608279543598, 0.00012544449835395416, 3.268408575075181e-05,
)  # fmt: skip


def erf(x: Vec) -> Vec:
    """Error function; -0 for -0. 2 ulp (f32), 3 (f64)."""
    a = magnitude(x)
    near = _erf_near(x)
    if x.is_f64:
        beyond, edge = 1.0 - _erfc_positive(clamp(a, None, 6.5), ERFCX_F64, 4.0), 1.0
    else:
        beyond, edge = 1.0 - exp(polynomial(clamp(a, None, 4.0), LOG_ERFC_F32)), 0.92
    return where(a > edge, with_sign_of(beyond, x), near)


def _erf_near(x: Vec) -> Vec:
    """erf(x) for |x| <= 0.93 (f32) or 1 (f64)."""
    return fma(x, polynomial(x * x, ERF_F64 if x.is_f64 else ERF_F32), x)


def erfc(x: Vec) -> Vec:
    """1 - erf(x) without cancellation, subnormal tail included. 2 ulp (f32), 5 (f64)."""
    if not x.is_f64:
        return _erfc(x.to(F64), ERFCX_MID, 3.0, 10.5).to(F32)
    return _erfc(x, ERFCX_F64, 4.0, 28.0)


def _erfc(x: Vec, coefficients: tuple[float, ...], centre: float, limit: float) -> Vec:
    a = magnitude(x)
    y = _erfc_positive(clamp(a, None, limit), coefficients, centre)
    far = where(x < 0.0, 2.0 - y, y)
    return where(a < 0.5, 1.0 - _erf_near(x), far)


def _erfc_positive(a: Vec, coefficients: tuple[float, ...], centre: float) -> Vec:
    """erfc(a) for a >= 0."""
    g = polynomial((a - centre) / (a + centre), coefficients) / fma(a, 2.0, 1.0)
    square = a * a
    lost = square_error(a, square)
    # exp(-(square + lost)) = exp(-square) (1 - lost), lost < 2^-44. Scaling comes last, so underflow rounds once.
    y, n = exp_parts(-square)
    return scale(y * fma(g, -lost, g), n)
