"""A function for each elementwise op. Written by tests/frontend/generated.py; see ir.ops.surface."""
# ruff: noqa: E501

from flambeau.frontend.functions.coerce import TensorLike
from flambeau.frontend.tensor.tensor import Tensor

def abs(input: Tensor) -> Tensor:
    """|x|, element by element."""
def absolute(input: Tensor) -> Tensor:
    """|x|, element by element."""
def acos(input: Tensor) -> Tensor:
    """Inverse cosine, element by element; integers are taken to the default float dtype."""
def acosh(input: Tensor) -> Tensor:
    """Inverse hyperbolic cosine, element by element; integers are taken to the default float dtype."""
def angle(input: Tensor) -> Tensor:
    """The angle of a real number: pi below 0, else 0; NaN of NaN, element by element; integers are taken to the default float dtype."""
def arccos(input: Tensor) -> Tensor:
    """Inverse cosine, element by element; integers are taken to the default float dtype."""
def arccosh(input: Tensor) -> Tensor:
    """Inverse hyperbolic cosine, element by element; integers are taken to the default float dtype."""
def arcsin(input: Tensor) -> Tensor:
    """Inverse sine, element by element; integers are taken to the default float dtype."""
def arcsinh(input: Tensor) -> Tensor:
    """Inverse hyperbolic sine, element by element; integers are taken to the default float dtype."""
def arctan(input: Tensor) -> Tensor:
    """Inverse tangent, element by element; integers are taken to the default float dtype."""
def arctan2(input: TensorLike, other: TensorLike) -> Tensor:
    """The angle of the point (other, input), in (-pi, pi], element by element; integers are taken to the default float dtype."""
def arctanh(input: Tensor) -> Tensor:
    """Inverse hyperbolic tangent, element by element; integers are taken to the default float dtype."""
def asin(input: Tensor) -> Tensor:
    """Inverse sine, element by element; integers are taken to the default float dtype."""
def asinh(input: Tensor) -> Tensor:
    """Inverse hyperbolic sine, element by element; integers are taken to the default float dtype."""
def atan(input: Tensor) -> Tensor:
    """Inverse tangent, element by element; integers are taken to the default float dtype."""
def atan2(input: TensorLike, other: TensorLike) -> Tensor:
    """The angle of the point (other, input), in (-pi, pi], element by element; integers are taken to the default float dtype."""
def atanh(input: Tensor) -> Tensor:
    """Inverse hyperbolic tangent, element by element; integers are taken to the default float dtype."""
def bitwise_and(input: TensorLike, other: TensorLike) -> Tensor:
    """Bits set in both, element by element. Raises RuntimeError for floats."""
def bitwise_left_shift(input: TensorLike, other: TensorLike) -> Tensor:
    """Bits moved up, element by element. Raises RuntimeError for floats and bools."""
def bitwise_not(input: Tensor) -> Tensor:
    """Every bit flipped; `not` for bools, element by element. Raises RuntimeError for floats."""
def bitwise_or(input: TensorLike, other: TensorLike) -> Tensor:
    """Bits set in either, element by element. Raises RuntimeError for floats."""
def bitwise_right_shift(input: TensorLike, other: TensorLike) -> Tensor:
    """Bits moved down, keeping the sign, element by element. Raises RuntimeError for floats and bools."""
def bitwise_xor(input: TensorLike, other: TensorLike) -> Tensor:
    """Bits set in one only, element by element. Raises RuntimeError for floats."""
def ceil(input: Tensor) -> Tensor:
    """Least integer >= x, element by element; integers unchanged."""
def copysign(input: TensorLike, other: TensorLike) -> Tensor:
    """|input| with the sign of `other`, element by element; integers are taken to the default float dtype."""
def cos(input: Tensor) -> Tensor:
    """Cosine, element by element; integers are taken to the default float dtype."""
def cosh(input: Tensor) -> Tensor:
    """Hyperbolic cosine, element by element; integers are taken to the default float dtype."""
def deg2rad(input: Tensor) -> Tensor:
    """Degrees as radians, element by element; integers are taken to the default float dtype."""
def digamma(input: Tensor) -> Tensor:
    """The derivative of lgamma(x), element by element; integers are taken to the default float dtype."""
def eq(input: TensorLike, other: TensorLike) -> Tensor:
    """input == other, element by element, as bools."""
def erf(input: Tensor) -> Tensor:
    """Error function, element by element; integers are taken to the default float dtype."""
def erfc(input: Tensor) -> Tensor:
    """1 - erf(x), element by element; integers are taken to the default float dtype."""
def erfinv(input: Tensor) -> Tensor:
    """The number whose error function is x: NaN outside [-1, 1], element by element; integers are taken to the default float dtype."""
def exp(input: Tensor) -> Tensor:
    """e**x, element by element; integers are taken to the default float dtype."""
def exp2(input: Tensor) -> Tensor:
    """2**x, element by element; integers are taken to the default float dtype."""
def expm1(input: Tensor) -> Tensor:
    """e**x - 1, accurate near 0, element by element; integers are taken to the default float dtype."""
def fix(input: Tensor) -> Tensor:
    """x without its fraction, element by element; integers unchanged."""
def floor(input: Tensor) -> Tensor:
    """Greatest integer <= x, element by element; integers unchanged."""
def fmod(input: TensorLike, other: TensorLike) -> Tensor:
    """C's fmod, with the sign of `input`, element by element."""
def ge(input: TensorLike, other: TensorLike) -> Tensor:
    """input >= other, element by element, as bools."""
def greater(input: TensorLike, other: TensorLike) -> Tensor:
    """input > other, element by element, as bools."""
def greater_equal(input: TensorLike, other: TensorLike) -> Tensor:
    """input >= other, element by element, as bools."""
def gt(input: TensorLike, other: TensorLike) -> Tensor:
    """input > other, element by element, as bools."""
def heaviside(input: TensorLike, values: TensorLike) -> Tensor:
    """0 below 0 (and of NaN), 1 above, `values` at 0, element by element."""
def hypot(input: TensorLike, other: TensorLike) -> Tensor:
    """sqrt(input**2 + other**2), without overflow on the way, element by element; integers are taken to the default float dtype."""
def i0(input: Tensor) -> Tensor:
    """The modified Bessel function I of order 0, element by element; integers are taken to the default float dtype."""
def igamma(input: TensorLike, other: TensorLike) -> Tensor:
    """The lower incomplete gamma integral up to `other`, as a part of all of gamma(input), element by element; integers are taken to the default float dtype."""
def igammac(input: TensorLike, other: TensorLike) -> Tensor:
    """The upper incomplete gamma integral from `other` on, as a part of all of gamma(input), element by element; integers are taken to the default float dtype."""
def isfinite(input: Tensor) -> Tensor:
    """Whether each element is neither NaN nor an infinity, element by element, as bools."""
def isinf(input: Tensor) -> Tensor:
    """Whether each element is an infinity, element by element, as bools."""
def isnan(input: Tensor) -> Tensor:
    """Whether each element is NaN, element by element, as bools."""
def isneginf(input: Tensor) -> Tensor:
    """Whether each element is -inf, element by element, as bools."""
def isposinf(input: Tensor) -> Tensor:
    """Whether each element is inf, element by element, as bools."""
def isreal(input: Tensor) -> Tensor:
    """Whether each element is a real number: they all are, element by element, as bools."""
def le(input: TensorLike, other: TensorLike) -> Tensor:
    """input <= other, element by element, as bools."""
def less(input: TensorLike, other: TensorLike) -> Tensor:
    """input < other, element by element, as bools."""
def less_equal(input: TensorLike, other: TensorLike) -> Tensor:
    """input <= other, element by element, as bools."""
def lgamma(input: Tensor) -> Tensor:
    """The logarithm of |gamma(x)|, element by element; integers are taken to the default float dtype."""
def log(input: Tensor) -> Tensor:
    """Natural logarithm, element by element; integers are taken to the default float dtype."""
def log10(input: Tensor) -> Tensor:
    """Logarithm to base 10, element by element; integers are taken to the default float dtype."""
def log1p(input: Tensor) -> Tensor:
    """log(1 + x), accurate near 0, element by element; integers are taken to the default float dtype."""
def log2(input: Tensor) -> Tensor:
    """Logarithm to base 2, element by element; integers are taken to the default float dtype."""
def logaddexp2(input: TensorLike, other: TensorLike) -> Tensor:
    """log2(2**input + 2**other), without overflow on the way, element by element; integers are taken to the default float dtype."""
def logical_and(input: TensorLike, other: TensorLike) -> Tensor:
    """Both hold, element by element; of whether the elements differ from 0."""
def logical_not(input: Tensor) -> Tensor:
    """x == 0, element by element; of whether the elements differ from 0."""
def logical_or(input: TensorLike, other: TensorLike) -> Tensor:
    """One or both hold, element by element; of whether the elements differ from 0."""
def logical_xor(input: TensorLike, other: TensorLike) -> Tensor:
    """Exactly one holds, element by element; of whether the elements differ from 0."""
def lt(input: TensorLike, other: TensorLike) -> Tensor:
    """input < other, element by element, as bools."""
def maximum(input: TensorLike, other: TensorLike) -> Tensor:
    """The greater of the two; NaN if either is, element by element."""
def minimum(input: TensorLike, other: TensorLike) -> Tensor:
    """The lesser of the two; NaN if either is, element by element."""
def ne(input: TensorLike, other: TensorLike) -> Tensor:
    """input != other, element by element, as bools."""
def neg(input: Tensor) -> Tensor:
    """-x, element by element."""
def negative(input: Tensor) -> Tensor:
    """-x, element by element."""
def not_equal(input: TensorLike, other: TensorLike) -> Tensor:
    """input != other, element by element, as bools."""
def rad2deg(input: Tensor) -> Tensor:
    """Radians as degrees, element by element; integers are taken to the default float dtype."""
def reciprocal(input: Tensor) -> Tensor:
    """1 / x, element by element; integers are taken to the default float dtype."""
def remainder(input: TensorLike, other: TensorLike) -> Tensor:
    """input - floor(input / other) * other: Python's %, with the sign of `other`, element by element."""
def rsqrt(input: Tensor) -> Tensor:
    """1 / sqrt(x), element by element; integers are taken to the default float dtype."""
def sgn(input: Tensor) -> Tensor:
    """-1, 0 or 1; 0 for NaN, as PyTorch has it; a bool is its own, element by element; bools unchanged."""
def sigmoid(input: Tensor) -> Tensor:
    """1 / (1 + e**-x), element by element; integers are taken to the default float dtype."""
def sign(input: Tensor) -> Tensor:
    """-1, 0 or 1; 0 for NaN, as PyTorch has it; a bool is its own, element by element; bools unchanged."""
def signbit(input: Tensor) -> Tensor:
    """Whether the sign is negative, that of -0.0 and NaN too, element by element, as bools."""
def sin(input: Tensor) -> Tensor:
    """Sine, element by element; integers are taken to the default float dtype."""
def sinc(input: Tensor) -> Tensor:
    """sin(pi * x) / (pi * x), and 1 at 0, element by element; integers are taken to the default float dtype."""
def sinh(input: Tensor) -> Tensor:
    """Hyperbolic sine, element by element; integers are taken to the default float dtype."""
def sqrt(input: Tensor) -> Tensor:
    """Square root, NaN below 0, element by element; integers are taken to the default float dtype."""
def tan(input: Tensor) -> Tensor:
    """Tangent, element by element; integers are taken to the default float dtype."""
def tanh(input: Tensor) -> Tensor:
    """Hyperbolic tangent, element by element; integers are taken to the default float dtype."""
def trunc(input: Tensor) -> Tensor:
    """x without its fraction, element by element; integers unchanged."""
def xlogy(input: TensorLike, other: TensorLike) -> Tensor:
    """input * log(other), and 0 where input is 0 (unless other is NaN), element by element; integers are taken to the default float dtype."""
