"""Linear algebra under the older names, `fb.qr` and `x.qr()`, with their own arguments where PyTorch has such."""
from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from flambeau.frontend.functions import factorizations, matrix_functions
from flambeau.frontend.functions.calls import public
from flambeau.frontend.functions.coerce import one_tensor
from flambeau.frontend.functions.creation import zeros
from flambeau.frontend.functions.distributions import randn
from flambeau.frontend.functions.elementwise import choose, sub
from flambeau.frontend.functions.factorizations import LuFactors, QrFactors, Reflections
from flambeau.frontend.functions.linear_algebra import matrices, solve_triangular, transposed
from flambeau.frontend.functions.marks import method
from flambeau.frontend.functions.matrix_functions import SignAndLog
from flambeau.frontend.functions.pointwise import eq
from flambeau.frontend.functions.products import matmul
from flambeau.frontend.functions.reductions import mean
from flambeau.frontend.functions.views import clone
from flambeau.frontend.tensor.tensor import Tensor
from flambeau.ir import dtypes as dt


@method
def det(input: Tensor) -> Tensor:
    """`fb.linalg.det`: the determinant of each matrix."""
    return matrix_functions.det(input)


@method
def slogdet(input: Tensor) -> SignAndLog:
    """`fb.linalg.slogdet`: sign, and logarithm of the size, of each determinant."""
    return matrix_functions.slogdet(input)


@method
def logdet(input: Tensor) -> Tensor:
    """The logarithm of each determinant: -inf where it is 0, NaN where it is negative."""
    sign, size = matrix_functions.slogdet(input)
    return choose(eq(sign, -1), zeros((), dtype=size.dtype, device=size.device) / 0, size)


@method
def pinverse(input: Tensor, rcond: float = 1e-15) -> Tensor:
    """`fb.linalg.pinv`: the pseudoinverse, in which singular values up to rcond times the greatest are zeros."""
    return matrix_functions.pinv(input, rtol=rcond)


@method
def matrix_power(input: Tensor, n: int) -> Tensor:
    """`fb.linalg.matrix_power`: each matrix to the n."""
    return matrix_functions.matrix_power(input, n)


@method
def matrix_exp(input: Tensor) -> Tensor:
    """`fb.linalg.matrix_exp`: the exponential of each matrix."""
    return matrix_functions.matrix_exp(input)


@method
def qr(input: Tensor, some: bool = True) -> QrFactors:
    """(Q, R) as `fb.linalg.qr` gives them: reduced, or complete where not `some`."""
    return factorizations.qr(input, "reduced" if some else "complete")


class Svd(NamedTuple):
    """U @ diag(S) @ V.mT is the matrix."""

    U: Tensor
    S: Tensor
    V: Tensor


@method
def svd(input: Tensor, some: bool = True, compute_uv: bool = True) -> Svd:
    """(U, S, V) with U @ diag(S) @ V.mT = input; reduced if `some`, U and V zeros where not compute_uv."""
    a = matrices("svd", input)
    if not compute_uv:
        *batch, m, n = a._type.static_shape
        u, v = (zeros((*batch, size, size), dtype=a.dtype, device=a.device) for size in (m, n))
        return Svd(u, factorizations.svdvals(a), v)
    u, s, vh = factorizations.svd(a, not some)
    return Svd(u, s, transposed(vh))


class TriangularSolution(NamedTuple):
    """What solves the equations, and a copy of their matrix."""

    solution: Tensor
    cloned_coefficient: Tensor


@method
def triangular_solve(b: Tensor, A: Tensor, upper: bool = True, transpose: bool = False,
                     unitriangular: bool = False) -> TriangularSolution:
    """(x, a copy of A) with A @ x = b, or A.mT @ x = b, by a triangle of A; `fb.linalg.solve_triangular`."""
    a = matrices("triangular_solve", A)
    turned = transposed(a) if transpose else a
    found = solve_triangular(turned, b, upper=bool(upper) is not bool(transpose), unitriangular=unitriangular)
    return TriangularSolution(found, clone(a))


@method
def lu(input: Tensor, pivot: bool = True, get_infos: bool = False) -> tuple[Tensor, ...]:
    """(LU, pivots), and info if get_infos, as `fb.linalg.lu_factor_ex` gives them."""
    found = factorizations.lu_factor_ex(input, pivot=pivot)
    return tuple(found) if get_infos else tuple(found[:2])


@method
def lu_solve(b: Tensor, LU_data: Tensor, LU_pivots: Tensor) -> Tensor:
    """x with A @ x = b, by the factors of A: `fb.linalg.lu_solve`."""
    return factorizations.lu_solve(LU_data, LU_pivots, b)


def lu_unpack(LU_data: Tensor, LU_pivots: Tensor, unpack_data: bool = True, unpack_pivots: bool = True) -> LuFactors:
    """(P, L, U) of what `fb.linalg.lu_factor` gives; empty what is not asked for."""
    factors = matrices("lu_unpack", LU_data)
    pivots = one_tensor("lu_unpack", LU_pivots)
    if pivots.dtype is not dt.i32:
        raise RuntimeError(f"lu_unpack: LU_pivots are int32, got {pivots._type}")
    found = factorizations.unpacked(factors, pivots)
    none = zeros(0, dtype=factors.dtype, device=factors.device)
    return LuFactors(found.P if unpack_pivots else none, found.L if unpack_data else none,
                     found.U if unpack_data else none)


@method
def geqrf(input: Tensor) -> Reflections:
    """(a, tau): R and the reflections whose product is Q, packed; see `fb.orgqr`. It has no derivative."""
    return factorizations.geqrf(input)


@method
def orgqr(input: Tensor, input2: Tensor) -> Tensor:
    """`fb.linalg.householder_product`: the first columns of the product of reflections."""
    return factorizations.householder_product(input, input2)


@method
def ormqr(input: Tensor, input2: Tensor, input3: Tensor, left: bool = True, transpose: bool = False) -> Tensor:
    """Q @ input3, or input3 @ Q where not left, Q the product of the reflections that input and input2 hold."""
    return factorizations.ormqr(input, input2, input3, left, transpose)


def svd_lowrank(A: Tensor, q: int | None = 6, niter: int | None = 2, M: Tensor | None = None) -> Svd:
    """(U, S, V): the q greatest singular values of A - M, nearly, from its action on random vectors: N. Halko, P.-G.
    Martinsson, J. Tropp, "Finding structure with randomness", 2011, algorithms 4.4 and 5.1. A: [..., m, n]."""
    a = matrices("svd_lowrank", A)
    if M is not None:
        a = sub(a, M)
    m, n = a._type.static_shape[-2:]
    q = 6 if q is None else q
    if not 0 <= q <= min(m, n):
        raise ValueError(f"svd_lowrank: q must lie between 0 and {min(m, n)}, got {q}")
    turned = a if m >= n else transposed(a)
    basis = factorizations.qr(matmul(turned, randn(turned._type.static_shape[-1], q, dtype=a.dtype, device=a.device))).Q
    for _ in range(niter or 0):
        other = factorizations.qr(matmul(transposed(turned), basis)).Q
        basis = factorizations.qr(matmul(turned, other)).Q
    u, s, vh = factorizations.svd(matmul(transposed(basis), turned), full_matrices=False)
    u, v = matmul(basis, u), transposed(vh)
    return Svd(u, s, v) if m >= n else Svd(v, s, u)


def pca_lowrank(A: Tensor, q: int | None = None, center: bool = True, niter: int = 2) -> Svd:
    """`svd_lowrank` of A: [..., m, n] less the mean of each column, if `center`; q is min(6, m, n) by default."""
    a = matrices("pca_lowrank", A)
    m, n = a._type.static_shape[-2:]
    q = min(6, m, n) if q is None else q
    if not 0 <= q <= min(m, n):
        raise ValueError(f"pca_lowrank: q must lie between 0 and {min(m, n)}, got {q}")
    return svd_lowrank(sub(a, mean(a, -2, True)) if center else a, q, niter)


def _removed(name: str, instead: str) -> Callable[..., Any]:
    def function(*args: Any, **kwargs: Any) -> Any:
        raise RuntimeError(f"{name}: PyTorch removed it; use fb.linalg.{instead}")

    function.__name__ = name
    function.__doc__ = f"Raises RuntimeError: PyTorch removed it; use `fb.linalg.{instead}`."
    return function


eig = method(_removed("eig", "eig"))
lstsq = method(_removed("lstsq", "lstsq"))
matrix_rank = _removed("matrix_rank", "matrix_rank")
solve = method(_removed("solve", "solve"))
symeig = method(_removed("symeig", "eigh"))

__all__ = ["det", "eig", "geqrf", "logdet", "lstsq", "lu", "lu_solve", "lu_unpack", "matrix_exp", "matrix_power",
           "matrix_rank", "orgqr", "ormqr", "pca_lowrank", "pinverse", "qr", "slogdet", "solve", "svd", "svd_lowrank",
           "symeig", "triangular_solve"]
public(globals(), __all__)
