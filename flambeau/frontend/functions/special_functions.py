"""Functions of mathematics that are no single row: of an order or a degree, and what `fb.special` shares with `fb`."""
from __future__ import annotations

import math
import operator
from collections.abc import Callable
from typing import Any, Final

from flambeau.frontend.control import while_loop
from flambeau.frontend.functions.arithmetic import logit
from flambeau.frontend.functions.calls import public
from flambeau.frontend.functions.coerce import (
    TensorLike,
    broadcast_shapes,
    cast,
    check_operands,
    expanded,
    floating_one,
    is_number,
    result_type,
    tensor_of,
)
from flambeau.frontend.functions.elementwise import add, mul, sub
from flambeau.frontend.functions.elementwise import round as round_
from flambeau.frontend.functions.elementwise import where as where_
from flambeau.frontend.functions.marks import in_place, method
from flambeau.frontend.functions.reductions import log_softmax, logsumexp, softmax
from flambeau.frontend.scalars import Scalar
from flambeau.frontend.tape.dispatch import dispatch
from flambeau.frontend.tensor.promotion import get_default_dtype
from flambeau.frontend.tensor.tensor import Tensor
from flambeau.ir import ops

# -- gamma ------------------------------------------------------------------------------------------------------------


def polygamma(n: int, input: Tensor) -> Tensor:
    """The n-th derivative of digamma(input). Raises RuntimeError for a negative n.

    (-1)**(n+1) n! zeta(n + 1, x) for n > 0 (DLMF 25.11.12)."""
    x, n = floating_one("polygamma", input), operator.index(n)
    if n < 0:
        raise RuntimeError(f"polygamma: the order must not be negative, got {n}")
    if n == 0:
        return dispatch(ops.digamma, x)
    sums = dispatch(ops.zeta, tensor_of(float(n + 1), x.dtype), x)
    return mul(sums, float((-1) ** (n + 1) * math.factorial(n)))


def polygamma_of(self: Tensor, n: int) -> Tensor:
    """The n-th derivative of digamma() of the tensor."""
    return polygamma(n, self)


@method
@in_place
def mvlgamma(input: Tensor, p: int) -> Tensor:
    """The logarithm of the multivariate gamma function of dimension p: p (p - 1) / 4 log(pi) and the sum of
    lgamma(input - i / 2) over i < p."""
    x, p = floating_one("mvlgamma", input), operator.index(p)
    if p < 1:
        raise RuntimeError(f"mvlgamma: p must be positive, got {p}")
    found = dispatch(ops.lgamma, x)
    for i in range(1, p):
        found = add(found, dispatch(ops.lgamma, sub(x, i / 2)))
    return add(found, p * (p - 1) / 4 * math.log(math.pi)) if p > 1 else found


def multigammaln(a: Tensor, p: int) -> Tensor:
    """mvlgamma()."""
    return mvlgamma(a, p)


# -- polynomials of a degree ------------------------------------------------------------------------------------------

Step = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]
"""(degree k, x, the polynomials of degree k and k - 1) -> that of degree k + 1."""


def _polynomial(name: str, input: TensorLike, n: TensorLike, first: Callable[[Tensor], Tensor], step: Step) -> Tensor:
    """Polynomials of the degrees n, 0 for negative ones: by their recurrence, up to the greatest degree. A degree that is a
    number of Python's is counted in Python, so that what is compiled has no loop."""
    check_operands(name, (input, n))
    dtype = result_type(input, n)
    dtype = dtype if dtype.is_floating_point else get_default_dtype()
    x = cast(input, dtype) if isinstance(input, Tensor) else tensor_of(input, dtype)
    zero, one = tensor_of(0.0, dtype), tensor_of(1.0, dtype)
    if is_number(n) and not isinstance(n, Scalar):
        degree = int(n)
        before, here = where_(dispatch(ops.eq, x, x), one, x), first(x)
        if degree < 1:
            return mul(before, 1.0 if degree == 0 else 0.0)
        for k in range(1, degree):
            before, here = here, step(tensor_of(float(k), dtype), x, here, before)
        return here
    degrees = dispatch(ops.trunc, cast(n, dtype) if isinstance(n, Tensor) else tensor_of(n, dtype))
    shape = broadcast_shapes(x._type.static_shape, degrees._type.static_shape, name=name)
    x, degrees = expanded(x, shape), expanded(degrees, shape)
    start = where_(dispatch(ops.eq, x, x), one, x)
    found = where_(dispatch(ops.lt, degrees, one), start, first(x))
    found = where_(dispatch(ops.lt, degrees, zero), mul(start, 0.0), found)
    if not x.numel():
        return found

    def goes_on(k: Tensor, *_: Tensor) -> Tensor:
        return dispatch(ops.Any(tuple(range(x.ndim))), dispatch(ops.gt, degrees, k))

    def next_one(k: Tensor, here: Tensor, before: Tensor, found: Tensor) -> tuple[Tensor, ...]:
        after = step(k, x, here, before)
        k = add(k, 1.0)
        return k, after, here, where_(dispatch(ops.ge, degrees, k), after, found)

    return while_loop(goes_on, next_one, (one, first(x), start, found))[-1]


def _twice(k: Tensor, x: Tensor, here: Tensor, before: Tensor) -> Tensor:
    """2 x p - q: of all of Chebyshev's polynomials, and of Hermite's with a factor."""
    return sub(mul(mul(x, 2.0), here), before)


def chebyshev_polynomial_t(input: TensorLike, n: TensorLike) -> Tensor:
    """Chebyshev's polynomials of the first kind, of degree n: cos(n arccos(x))."""
    return _polynomial("chebyshev_polynomial_t", input, n, lambda x: x, _twice)


def chebyshev_polynomial_u(input: TensorLike, n: TensorLike) -> Tensor:
    """Chebyshev's polynomials of the second kind, of degree n."""
    return _polynomial("chebyshev_polynomial_u", input, n, lambda x: mul(x, 2.0), _twice)


def chebyshev_polynomial_v(input: TensorLike, n: TensorLike) -> Tensor:
    """Chebyshev's polynomials of the third kind, of degree n."""
    return _polynomial("chebyshev_polynomial_v", input, n, lambda x: sub(mul(x, 2.0), 1.0), _twice)


def chebyshev_polynomial_w(input: TensorLike, n: TensorLike) -> Tensor:
    """Chebyshev's polynomials of the fourth kind, of degree n."""
    return _polynomial("chebyshev_polynomial_w", input, n, lambda x: add(mul(x, 2.0), 1.0), _twice)


def _shifted(input: TensorLike) -> TensorLike:
    return sub(mul(input, 2), 1) if isinstance(input, Tensor) else 2 * input - 1


def shifted_chebyshev_polynomial_t(input: TensorLike, n: TensorLike) -> Tensor:
    """chebyshev_polynomial_t(2 * input - 1, n)."""
    return chebyshev_polynomial_t(_shifted(input), n)


def shifted_chebyshev_polynomial_u(input: TensorLike, n: TensorLike) -> Tensor:
    """chebyshev_polynomial_u(2 * input - 1, n)."""
    return chebyshev_polynomial_u(_shifted(input), n)


def shifted_chebyshev_polynomial_v(input: TensorLike, n: TensorLike) -> Tensor:
    """chebyshev_polynomial_v(2 * input - 1, n)."""
    return chebyshev_polynomial_v(_shifted(input), n)


def shifted_chebyshev_polynomial_w(input: TensorLike, n: TensorLike) -> Tensor:
    """chebyshev_polynomial_w(2 * input - 1, n)."""
    return chebyshev_polynomial_w(_shifted(input), n)


def hermite_polynomial_h(input: TensorLike, n: TensorLike) -> Tensor:
    """The physicist's Hermite polynomials of degree n."""
    return _polynomial("hermite_polynomial_h", input, n, lambda x: mul(x, 2.0),
                       lambda k, x, here, before: mul(sub(mul(x, here), mul(k, before)), 2.0))


def hermite_polynomial_he(input: TensorLike, n: TensorLike) -> Tensor:
    """The probabilist's Hermite polynomials of degree n."""
    return _polynomial("hermite_polynomial_he", input, n, lambda x: x,
                       lambda k, x, here, before: sub(mul(x, here), mul(k, before)))


def laguerre_polynomial_l(input: TensorLike, n: TensorLike) -> Tensor:
    """Laguerre's polynomials of degree n."""
    return _polynomial("laguerre_polynomial_l", input, n, lambda x: sub(1.0, x), lambda k, x, here, before: dispatch(
        ops.div, sub(mul(sub(add(mul(k, 2.0), 1.0), x), here), mul(k, before)), add(k, 1.0)))


def legendre_polynomial_p(input: TensorLike, n: TensorLike) -> Tensor:
    """Legendre's polynomials of degree n."""
    return _polynomial("legendre_polynomial_p", input, n, lambda x: x, lambda k, x, here, before: dispatch(
        ops.div, sub(mul(mul(add(mul(k, 2.0), 1.0), x), here), mul(k, before)), add(k, 1.0)))


__all__ = ["mvlgamma", "polygamma"]
_POLYNOMIALS: Final = (
    "chebyshev_polynomial_t", "chebyshev_polynomial_u", "chebyshev_polynomial_v", "chebyshev_polynomial_w",
    "hermite_polynomial_h", "hermite_polynomial_he", "laguerre_polynomial_l", "legendre_polynomial_p",
    "shifted_chebyshev_polynomial_t", "shifted_chebyshev_polynomial_u", "shifted_chebyshev_polynomial_v",
    "shifted_chebyshev_polynomial_w")
public(globals(), [*__all__, *_POLYNOMIALS, "multigammaln", "polygamma_of"])
SPECIAL: Final[dict[str, Any]] = {
    "log_softmax": log_softmax, "logit": logit, "logsumexp": logsumexp, "multigammaln": multigammaln,
    "polygamma": polygamma, "round": round_, "softmax": softmax} | {name: globals()[name] for name in _POLYNOMIALS}
"""What `fb.special` has beside its rows."""
