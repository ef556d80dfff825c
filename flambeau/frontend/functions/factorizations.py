"""Factors of matrices under the names of `fb.linalg`: LU, QR, eigenvalues, singular values.

All take batches: matrices over the last two dims, in f32 or f64. Derivatives are those of the ops."""
from __future__ import annotations

from typing import Any, NamedTuple

from flambeau.errors import LinAlgError, ShapeError, UnsupportedError
from flambeau.frontend.active import active
from flambeau.frontend.functions.calls import public
from flambeau.frontend.functions.coerce import broadcast_shapes, expanded, one_tensor, reshaped, user_line
from flambeau.frontend.functions.creation import empty, eye
from flambeau.frontend.functions.elementwise import add, mul, sub
from flambeau.frontend.functions.linear_algebra import (
    beside,
    dispatched,
    matrices,
    square_matrices,
    transposed,
)
from flambeau.frontend.functions.products import matmul
from flambeau.frontend.functions.views import diag_embed, narrow, tril, triu
from flambeau.frontend.tape.dispatch import dispatch
from flambeau.frontend.tensor.tensor import Tensor
from flambeau.ir import dtypes as dt
from flambeau.ir import ops

# -- LU ---------------------------------------------------------------------------------------------------------------


class LuFactor(NamedTuple):
    """L below the diagonal and U in one matrix, and which row each was exchanged for, counted from 1."""

    LU: Tensor
    pivots: Tensor


class LuAttempt(NamedTuple):
    """The same, and for each matrix 0 or the i32 number of the first zero on U's diagonal, counted from 1."""

    LU: Tensor
    pivots: Tensor
    info: Tensor


class LuFactors(NamedTuple):
    """P @ L @ U is the matrix."""

    P: Tensor
    L: Tensor
    U: Tensor


def lu_factor_ex(A: Tensor, *, pivot: bool = True, check_errors: bool = False) -> LuAttempt:
    """(LU, pivots, info) of A: [..., m, n]; fails on nothing, unless check_errors: then LinAlgError for a matrix whose U
    has a zero on its diagonal. Raises UnsupportedError for pivot=False."""
    a = _pivoted("linalg.lu_factor_ex", A, pivot)
    found = LuAttempt(*dispatch(ops.Lu(), a))
    if check_errors:
        _require_no_zero("linalg.lu_factor_ex", found.info)
    return found


def lu_factor(A: Tensor, *, pivot: bool = True) -> LuFactor:
    """(LU, pivots) of A: [..., m, n]: L without its unit diagonal below U, and i32 pivots [..., min(m, n)]: row i was
    exchanged for row pivots[i] - 1. `fb.linalg.lu_solve` and `fb.lu_unpack` take them."""
    a = _pivoted("linalg.lu_factor", A, pivot)
    return LuFactor(*dispatch(ops.Lu(), a)[:2])


def lu(A: Tensor, *, pivot: bool = True) -> LuFactors:
    """(P, L, U) with P @ L @ U = A: [..., m, n]; P is a permutation [..., m, m], L unit lower triangular [..., m, k], U
    upper triangular [..., k, n], k = min(m, n)."""
    return unpacked(*dispatch(ops.Lu(), _pivoted("linalg.lu", A, pivot))[:2])


def lu_solve(LU: Tensor, pivots: Tensor, B: Tensor, *, left: bool = True, adjoint: bool = False) -> Tensor:
    """x with A @ x = B (x @ A = B where not left; with A's transpose if adjoint), by the factors of A that `lu_factor`
    gives. B: [..., n, k] (not left: [..., k, n]); batches broadcast."""
    name = "linalg.lu_solve"
    factors = square_matrices(name, LU)
    b, places = beside(name, factors, B), _pivots_of(name, factors, pivots)
    size, sides = factors._type.static_shape, b._type.static_shape
    if len(sides) < 2 or sides[-2 if left else -1] != size[-1]:
        raise ShapeError(f"{name}: shapes don't fit: LU {factors._type}, B {b._type}", where=user_line())
    if not left:
        b = transposed(b)
    batch = broadcast_shapes(size[:-2], sides[:-2], name=name)
    factors, b = (expanded(t, (*batch, *t._type.static_shape[-2:])) for t in (factors, b))
    places = expanded(places, (*batch, size[-1]))
    lower, upper = ops.SolveTriangular(upper=False, unit=True), ops.SolveTriangular(upper=True)
    if bool(left) is not bool(adjoint):                     # P L U x = b
        found = dispatch(upper, factors, dispatch(lower, factors, dispatch(ops.RowSwaps(inverse=False), b, places)))
    else:                                                   # U^T L^T P^T x = b
        turned = transposed(factors)
        lower, upper = ops.SolveTriangular(upper=False), ops.SolveTriangular(upper=True, unit=True)
        found = dispatch(ops.RowSwaps(inverse=True), dispatch(upper, turned, dispatch(lower, turned, b)), places)
    return found if left else transposed(found)


def unpacked(factors: Tensor, pivots: Tensor) -> LuFactors:
    """P, L and U of what `lu_factor` gives."""
    *batch, rows, columns = factors._type.static_shape
    k = min(rows, columns)
    lower = add(tril(narrow(factors, -1, 0, k), -1), eye(rows, k, dtype=factors.dtype, device=factors.device))
    start = expanded(eye(rows, dtype=factors.dtype, device=factors.device), (*batch, rows, rows))
    return LuFactors(dispatch(ops.RowSwaps(inverse=True), start, pivots), lower, triu(narrow(factors, -2, 0, k)))


def _pivoted(name: str, A: Tensor, pivot: bool) -> Tensor:
    if not pivot:
        raise UnsupportedError(f"{name}: LU factors without exchanges of rows are not implemented on the CPU",
                               where=user_line())
    return matrices(name, A)


def _pivots_of(name: str, factors: Tensor, pivots: Tensor) -> Tensor:
    places = one_tensor(name, pivots)
    if places.dtype is not dt.i32:
        raise RuntimeError(f"{name}: pivots are int32, got {places._type}")
    if places._type.static_shape != (*factors._type.static_shape[:-2], min(factors._type.static_shape[-2:])):
        raise ShapeError(f"{name}: pivots {places._type} are not those of LU {factors._type}", where=user_line())
    return places


def _require_no_zero(name: str, info: Tensor) -> None:
    if active.hides(info):
        raise UnsupportedError(f"{name}: check_errors=True inside {active.hider}", where=user_line(),
                               hint="return info and look at it outside")
    found = info._data()
    if found.any():
        which = "the matrix" if not found.ndim else f"matrix {int((found.reshape(-1) != 0).argmax())} of the batch"
        raise LinAlgError(f"{name}: {which} is singular: U has a zero on its diagonal")


# -- QR ---------------------------------------------------------------------------------------------------------------


class QrFactors(NamedTuple):
    """Q @ R is the matrix."""

    Q: Tensor
    R: Tensor


def qr(A: Tensor, mode: str = "reduced") -> QrFactors:
    """(Q, R) with Q @ R = A: [..., m, n], the columns of Q orthonormal and R upper triangular. mode: "reduced" gives Q
    [..., m, k] and R [..., k, n], k = min(m, n); "complete" Q [..., m, m] and R [..., m, n], without a derivative where
    m > n; "r" an empty Q, and no derivative."""
    a = matrices("linalg.qr", A)
    if mode not in ("reduced", "complete", "r"):
        raise RuntimeError(f"linalg.qr: mode must be 'reduced', 'complete' or 'r', got {mode!r}")
    q, r = dispatch(ops.Qr(mode == "complete"), a)
    if mode == "r":
        return QrFactors(empty(0, dtype=a.dtype, device=a.device), dispatch(ops.stop_gradient, r))
    return QrFactors(q, r)


class Reflections(NamedTuple):
    """R and the reflections whose product is Q, packed into one matrix, and their factors."""

    a: Tensor
    tau: Tensor


def geqrf(input: Tensor) -> Reflections:
    """(a, tau): R in the upper triangle of a, and below it the vectors of reflections I - tau v v^T, each with a 1 on the
    diagonal, whose product is the Q of input: [..., m, n]. It has no derivative."""
    return Reflections(*dispatch(ops.Geqrf(), matrices("geqrf", input)))


def householder_product(A: Tensor, tau: Tensor) -> Tensor:
    """The first n columns of the product of k reflections I - tau[i] v v^T, whose vectors v lie below the diagonal of the
    columns of A: [..., m, n], with a 1 on it; tau: [..., k], k <= n <= m."""
    name = "linalg.householder_product"
    a, t = _reflections(name, A, tau)
    rows, columns = a._type.static_shape[-2:]
    if rows < columns or t._type.static_shape[-1] > columns:
        raise ShapeError(f"{name}: takes k <= n <= m, got A {a._type} and tau {t._type}", where=user_line())
    return reflected(a, t, eye(rows, columns, dtype=a.dtype, device=a.device))


def ormqr(input: Tensor, tau: Tensor, other: Tensor, left: bool = True, transpose: bool = False) -> Tensor:
    """Q @ other (other @ Q where not left; with Q's transpose if so), Q: [..., m, m] the product of the reflections in
    input: [..., m, k] and tau: [..., k]."""
    a, t = _reflections("ormqr", input, tau)
    c = beside("ormqr", a, other)
    rows = a._type.static_shape[-2]
    if c.ndim < 2 or c._type.static_shape[-2 if left else -1] != rows:
        raise ShapeError(f"ormqr: other {c._type} does not fit reflections of {rows} rows", where=user_line())
    if left:
        return reflected(a, t, c, transpose)
    return transposed(reflected(a, t, transposed(c), not transpose))


def reflected(a: Tensor, tau: Tensor, x: Tensor, transpose: bool = False) -> Tensor:
    """The product of reflections (or its transpose) times x: x - V T V^T x with T = (I + D triu(V^T V, 1))^-1 D, D their
    factors: C. Puglisi, "Modification of the Householder method based on the compact WY representation", 1992."""
    rows, k = a._type.static_shape[-2], tau._type.static_shape[-1]
    v = add(tril(narrow(a, -1, 0, k), -1), eye(rows, k, dtype=a.dtype, device=a.device))
    scaled = mul(reshaped(tau, (*tau._type.static_shape, 1)), matmul(transposed(v), v))
    op = ops.SolveTriangular(upper=True, unit=True)
    t = dispatch(op, scaled, diag_embed(tau))
    return sub(x, matmul(v, matmul(transposed(t) if transpose else t, matmul(transposed(v), x))))


def _reflections(name: str, value: Tensor, tau: Tensor) -> tuple[Tensor, Tensor]:
    a, t = matrices(name, value), one_tensor(name, tau)
    if t.dtype is not a.dtype or t._type.static_shape[:-1] != a._type.static_shape[:-2] or not t.ndim \
            or t._type.static_shape[-1] > a._type.static_shape[-1]:
        raise ShapeError(f"{name}: tau {t._type} does not fit the reflections {a._type}", where=user_line())
    return a, t


# -- eigenvalues of symmetric matrices --------------------------------------------------------------------------------


class Eigen(NamedTuple):
    """Eigenvalues, and eigenvectors in columns."""

    eigenvalues: Tensor
    eigenvectors: Tensor


def eigh(A: Tensor, UPLO: str = "L") -> Eigen:
    """(eigenvalues [..., n] in order, orthonormal eigenvectors [..., n, n] in columns) of symmetric A: [..., n, n], of
    which the lower triangle (upper for UPLO="U") is looked at. The gradient is symmetric, and infinite or NaN through
    vectors of equal eigenvalues. Raises LinAlgError where they are not found."""
    return Eigen(*dispatched(ops.Eigh(), _triangle("linalg.eigh", A, UPLO)))


def eigvalsh(A: Tensor, UPLO: str = "L") -> Tensor:
    """The eigenvalues that `eigh` gives, which costs more."""
    return dispatched(ops.Eigvalsh(), _triangle("linalg.eigvalsh", A, UPLO))


def _triangle(name: str, A: Tensor, uplo: str) -> Tensor:
    a = square_matrices(name, A)
    if not isinstance(uplo, str) or uplo.upper() not in ("L", "U"):
        raise RuntimeError(f"{name}: UPLO must be 'L' or 'U', got {uplo!r}")
    return a if uplo.upper() == "L" else transposed(a)


# -- singular values --------------------------------------------------------------------------------------------------


class SvdFactors(NamedTuple):
    """U @ diag(S) @ Vh is the matrix."""

    U: Tensor
    S: Tensor
    Vh: Tensor


def svd(A: Tensor, full_matrices: bool = True, *, driver: Any = None) -> SvdFactors:
    """(U, S, Vh) with U @ diag(S) @ Vh = A: [..., m, n], singular values S [..., k] from the greatest, k = min(m, n). U is
    [..., m, m] and Vh [..., n, n], or [..., m, k] and [..., k, n] where not full_matrices; gradients through columns and
    rows beyond k are ignored. Raises LinAlgError where they are not found."""
    a = _without_driver("linalg.svd", A, driver)
    return SvdFactors(*dispatched(ops.Svd(bool(full_matrices)), a))


def svdvals(A: Tensor, *, driver: Any = None) -> Tensor:
    """The singular values that `svd` gives, which costs more."""
    return dispatched(ops.Svdvals(), _without_driver("linalg.svdvals", A, driver))


def _without_driver(name: str, A: Tensor, driver: Any) -> Tensor:
    if driver is not None:
        raise RuntimeError(f"{name}: argument 'driver' is for CUDA devices")
    return matrices(name, A)


__all__ = ["eigh", "eigvalsh", "householder_product", "lu", "lu_factor", "lu_factor_ex", "lu_solve", "qr", "svd", "svdvals"]
public(globals(), (*__all__, "geqrf", "ormqr"))
