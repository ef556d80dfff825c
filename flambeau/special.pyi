"""`fb.special`: functions of mathematics. Written by tests/frontend/generated.py; see ir.ops.surface."""
# ruff: noqa: E501

from flambeau.frontend.functions.coerce import TensorLike
from flambeau.frontend.tensor.tensor import Tensor

def entr(input: Tensor) -> Tensor:
    """-x * log(x): 0 at 0, -inf below, element by element; integers are taken to the default float dtype."""
def erf(input: Tensor) -> Tensor:
    """Error function, element by element; integers are taken to the default float dtype."""
def erfc(input: Tensor) -> Tensor:
    """1 - erf(x), element by element; integers are taken to the default float dtype."""
def erfinv(input: Tensor) -> Tensor:
    """The number whose error function is x: NaN outside [-1, 1], element by element; integers are taken to the default float dtype."""
def exp2(input: Tensor) -> Tensor:
    """2**x, element by element; integers are taken to the default float dtype."""
def expit(input: Tensor) -> Tensor:
    """1 / (1 + e**-x), element by element; integers are taken to the default float dtype."""
def expm1(input: Tensor) -> Tensor:
    """e**x - 1, accurate near 0, element by element; integers are taken to the default float dtype."""
def log1p(input: Tensor) -> Tensor:
    """log(1 + x), accurate near 0, element by element; integers are taken to the default float dtype."""
def ndtr(input: Tensor) -> Tensor:
    """The normal distribution function, element by element; integers are taken to the default float dtype."""
def sinc(input: Tensor) -> Tensor:
    """sin(pi * x) / (pi * x), and 1 at 0, element by element; integers are taken to the default float dtype."""
def xlog1py(input: TensorLike, other: TensorLike) -> Tensor:
    """input * log1p(other), and 0 where input is 0 (unless other is NaN), element by element; integers are taken to the default float dtype."""
def xlogy(input: TensorLike, other: TensorLike) -> Tensor:
    """input * log(other), and 0 where input is 0 (unless other is NaN), element by element; integers are taken to the default float dtype."""
