"""`fb.special`: functions of mathematics. Written by tests/frontend/generated.py; see ir.ops.surface."""
# ruff: noqa: E501

from flambeau.frontend.functions.coerce import Dims, TensorLike
from flambeau.frontend.tensor.tensor import Tensor
from flambeau.ir.dtypes import DType

_float = float
_int = int
_bool = bool

def airy_ai(x: Tensor) -> Tensor:
    """Airy's function Ai, element by element; integers are taken to the default float dtype."""
def bessel_j0(input: Tensor) -> Tensor:
    """The Bessel function J of order 0, element by element; integers are taken to the default float dtype."""
def bessel_j1(input: Tensor) -> Tensor:
    """The Bessel function J of order 1, element by element; integers are taken to the default float dtype."""
def bessel_y0(input: Tensor) -> Tensor:
    """The Bessel function Y of order 0: -inf at 0, NaN below, element by element; integers are taken to the default float dtype."""
def bessel_y1(input: Tensor) -> Tensor:
    """The Bessel function Y of order 1: -inf at 0, NaN below, element by element; integers are taken to the default float dtype."""
def chebyshev_polynomial_t(input: TensorLike, n: TensorLike) -> Tensor:
    """Chebyshev's polynomials of the first kind, of degree n: cos(n arccos(x))."""
def chebyshev_polynomial_u(input: TensorLike, n: TensorLike) -> Tensor:
    """Chebyshev's polynomials of the second kind, of degree n."""
def chebyshev_polynomial_v(input: TensorLike, n: TensorLike) -> Tensor:
    """Chebyshev's polynomials of the third kind, of degree n."""
def chebyshev_polynomial_w(input: TensorLike, n: TensorLike) -> Tensor:
    """Chebyshev's polynomials of the fourth kind, of degree n."""
def digamma(input: Tensor) -> Tensor:
    """The derivative of lgamma(x), element by element; integers are taken to the default float dtype."""
def entr(input: Tensor) -> Tensor:
    """-x * log(x): 0 at 0, -inf below, element by element; integers are taken to the default float dtype."""
def erf(input: Tensor) -> Tensor:
    """Error function, element by element; integers are taken to the default float dtype."""
def erfc(input: Tensor) -> Tensor:
    """1 - erf(x), element by element; integers are taken to the default float dtype."""
def erfcx(input: Tensor) -> Tensor:
    """exp(x**2) * erfc(x), which does not underflow, element by element; integers are taken to the default float dtype."""
def erfinv(input: Tensor) -> Tensor:
    """The number whose error function is x: NaN outside [-1, 1], element by element; integers are taken to the default float dtype."""
def exp2(input: Tensor) -> Tensor:
    """2**x, element by element; integers are taken to the default float dtype."""
def expit(input: Tensor) -> Tensor:
    """1 / (1 + e**-x), element by element; integers are taken to the default float dtype."""
def expm1(input: Tensor) -> Tensor:
    """e**x - 1, accurate near 0, element by element; integers are taken to the default float dtype."""
def gammainc(input: TensorLike, other: TensorLike) -> Tensor:
    """The lower incomplete gamma integral up to `other`, as a part of all of gamma(input), element by element; integers are taken to the default float dtype."""
def gammaincc(input: TensorLike, other: TensorLike) -> Tensor:
    """The upper incomplete gamma integral from `other` on, as a part of all of gamma(input), element by element; integers are taken to the default float dtype."""
def gammaln(input: Tensor) -> Tensor:
    """The logarithm of |gamma(x)|, element by element; integers are taken to the default float dtype."""
def hermite_polynomial_h(input: TensorLike, n: TensorLike) -> Tensor:
    """The physicist's Hermite polynomials of degree n."""
def hermite_polynomial_he(input: TensorLike, n: TensorLike) -> Tensor:
    """The probabilist's Hermite polynomials of degree n."""
def i0(input: Tensor) -> Tensor:
    """The modified Bessel function I of order 0, element by element; integers are taken to the default float dtype."""
def i0e(input: Tensor) -> Tensor:
    """exp(-|x|) * i0(x), element by element; integers are taken to the default float dtype."""
def i1(input: Tensor) -> Tensor:
    """The modified Bessel function I of order 1, element by element; integers are taken to the default float dtype."""
def i1e(input: Tensor) -> Tensor:
    """exp(-|x|) * i1(x), element by element; integers are taken to the default float dtype."""
def laguerre_polynomial_l(input: TensorLike, n: TensorLike) -> Tensor:
    """Laguerre's polynomials of degree n."""
def legendre_polynomial_p(input: TensorLike, n: TensorLike) -> Tensor:
    """Legendre's polynomials of degree n."""
def log1p(input: Tensor) -> Tensor:
    """log(1 + x), accurate near 0, element by element; integers are taken to the default float dtype."""
def log_ndtr(input: Tensor) -> Tensor:
    """The logarithm of ndtr(x), element by element; integers are taken to the default float dtype."""
def log_softmax(input: Tensor, dim: _int, dtype: DType | None = ...) -> Tensor:
    """log(softmax(x)) along `dim`, exact where softmax itself is 0."""
def logit(input: Tensor, eps: _float | None = ...) -> Tensor:
    """log(x / (1 - x)), the inverse of the sigmoid: NaN outside [0, 1], unless eps keeps x within [eps, 1 - eps]."""
def logsumexp(input: Tensor, dim: Dims, keepdim: _bool = ...) -> Tensor:
    """log(sum(exp(x))) over `dim`, without overflow on the way."""
def modified_bessel_i0(input: Tensor) -> Tensor:
    """The modified Bessel function I of order 0, element by element; integers are taken to the default float dtype."""
def modified_bessel_i1(input: Tensor) -> Tensor:
    """The modified Bessel function I of order 1, element by element; integers are taken to the default float dtype."""
def modified_bessel_k0(input: Tensor) -> Tensor:
    """The modified Bessel function K of order 0, element by element; integers are taken to the default float dtype."""
def modified_bessel_k1(input: Tensor) -> Tensor:
    """The modified Bessel function K of order 1, element by element; integers are taken to the default float dtype."""
def multigammaln(a: Tensor, p: _int) -> Tensor:
    """mvlgamma()."""
def ndtr(input: Tensor) -> Tensor:
    """The normal distribution function, element by element; integers are taken to the default float dtype."""
def ndtri(input: Tensor) -> Tensor:
    """The number below which a normal variable lies with probability x, element by element; integers are taken to the default float dtype."""
def polygamma(n: _int, input: Tensor) -> Tensor:
    """The n-th derivative of digamma(input). Raises RuntimeError for a negative n.

    (-1)**(n+1) n! zeta(n + 1, x) for n > 0 (DLMF 25.11.12)."""
def psi(input: Tensor) -> Tensor:
    """The derivative of lgamma(x), element by element; integers are taken to the default float dtype."""
def round(input: Tensor, *, decimals: _int = ...) -> Tensor:
    """To the nearest integer, halves to the even one; to `decimals` places when given."""
def scaled_modified_bessel_k0(x: Tensor) -> Tensor:
    """exp(x) * modified_bessel_k0(x), element by element; integers are taken to the default float dtype."""
def scaled_modified_bessel_k1(x: Tensor) -> Tensor:
    """exp(x) * modified_bessel_k1(x), element by element; integers are taken to the default float dtype."""
def shifted_chebyshev_polynomial_t(input: TensorLike, n: TensorLike) -> Tensor:
    """chebyshev_polynomial_t(2 * input - 1, n)."""
def shifted_chebyshev_polynomial_u(input: TensorLike, n: TensorLike) -> Tensor:
    """chebyshev_polynomial_u(2 * input - 1, n)."""
def shifted_chebyshev_polynomial_v(input: TensorLike, n: TensorLike) -> Tensor:
    """chebyshev_polynomial_v(2 * input - 1, n)."""
def shifted_chebyshev_polynomial_w(input: TensorLike, n: TensorLike) -> Tensor:
    """chebyshev_polynomial_w(2 * input - 1, n)."""
def sinc(input: Tensor) -> Tensor:
    """sin(pi * x) / (pi * x), and 1 at 0, element by element; integers are taken to the default float dtype."""
def softmax(input: Tensor, dim: _int, dtype: DType | None = ...) -> Tensor:
    """exp(x) / sum(exp(x)) along `dim`. dtype: what to convert to first."""
def spherical_bessel_j0(x: Tensor) -> Tensor:
    """sin(x) / x, and 1 at 0, element by element; integers are taken to the default float dtype."""
def xlog1py(input: TensorLike, other: TensorLike) -> Tensor:
    """input * log1p(other), and 0 where input is 0 (unless other is NaN), element by element; integers are taken to the default float dtype."""
def xlogy(input: TensorLike, other: TensorLike) -> Tensor:
    """input * log(other), and 0 where input is 0 (unless other is NaN), element by element; integers are taken to the default float dtype."""
def zeta(input: TensorLike, other: TensorLike) -> Tensor:
    """The sum of (other + i)**-input over i >= 0: Hurwitz's zeta function, element by element; integers are taken to the default float dtype."""
