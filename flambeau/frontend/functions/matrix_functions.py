"""Functions of matrices under the names of `fb.linalg`: determinants, inverses of all kinds, powers, the exponential.

All take batches: matrices over the last two dims, in f32 or f64 where nothing else is said."""
from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

from flambeau.errors import ShapeError
from flambeau.frontend.active import active
from flambeau.frontend.functions.calls import public
from flambeau.frontend.functions.coerce import (
    Shape,
    cast,
    expanded,
    is_number,
    one_tensor,
    permuted,
    reshaped,
    tensor_of,
    user_line,
    wrap_dim,
)
from flambeau.frontend.functions.creation import empty, eye
from flambeau.frontend.functions.elementwise import choose, div, mul, sub
from flambeau.frontend.functions.factorizations import eigvalsh
from flambeau.frontend.functions.linear_algebra import (
    beside,
    dispatched,
    inv_ex,
    inverse,
    matrices,
    solve,
    square_matrices,
)
from flambeau.frontend.functions.norms import matrix_norm
from flambeau.frontend.functions.pointwise import abs as abs_
from flambeau.frontend.functions.pointwise import gt, maximum
from flambeau.frontend.functions.products import matmul
from flambeau.frontend.functions.reductions import amax
from flambeau.frontend.functions.reductions import sum as sum_
from flambeau.frontend.functions.views import clone, narrow, select
from flambeau.frontend.tape.dispatch import dispatch
from flambeau.frontend.tensor.tensor import Tensor
from flambeau.ir import dtypes as dt
from flambeau.ir import ops

# -- determinants -----------------------------------------------------------------------------------------------------


def det(A: Tensor) -> Tensor:
    """The determinant of each matrix: [..., n, n] -> [...]. Singular matrices have a gradient too."""
    return dispatch(ops.Det(), square_matrices("linalg.det", A))


class SignAndLog(NamedTuple):
    """A determinant as sign * exp(logabsdet)."""

    sign: Tensor
    logabsdet: Tensor


def slogdet(A: Tensor) -> SignAndLog:
    """(sign, logarithm of the size) of each determinant; 0 and -inf for a singular matrix, whose gradient is NaN."""
    return SignAndLog(*dispatch(ops.Slogdet(), square_matrices("linalg.slogdet", A)))


# -- rank and pseudoinverse -------------------------------------------------------------------------------------------


def pinv(A: Tensor, rcond: Any = None, hermitian: bool = False, *, atol: Any = None, rtol: Any = None) -> Tensor:
    """The pseudoinverse: [..., m, n] -> [..., n, m]. Singular values up to max(atol, rtol * the greatest) are taken for
    zeros; rtol is max(m, n) * eps by default, or 0 where atol is given. hermitian: A is symmetric, and eigenvalues are
    taken for it."""
    name = "linalg.pinv"
    a = square_matrices(name, A) if hermitian else matrices(name, A)
    absolute, relative = _tolerances(name, a, atol, rtol if rcond is None else rcond)
    return dispatched(ops.Pinv(bool(hermitian)), a, absolute, relative)


def matrix_rank(A: Tensor, tol: Any = None, hermitian: bool = False, *, atol: Any = None, rtol: Any = None) -> Tensor:
    """How many singular values (sizes of eigenvalues where A is `hermitian`) are greater than max(atol, rtol * the
    greatest): i64 [...]. rtol is max(m, n) * eps by default, or 0 where atol is given. tol: an atol."""
    name = "linalg.matrix_rank"
    a = square_matrices(name, A) if hermitian else matrices(name, A)
    absolute, relative = _tolerances(name, a, atol if tol is None else tol, 0.0 if tol is not None else rtol)
    found = abs_(eigvalsh(a)) if hermitian else dispatched(ops.Svdvals(), a)
    return sum_(gt(found, _limit(found, absolute, relative)), -1)


def _limit(values: Tensor, atol: Tensor, rtol: Tensor) -> Tensor:
    """What values must be greater than, beside them."""
    if values._type.static_shape[-1]:
        atol = maximum(atol, mul(rtol, amax(values, -1)))
    return reshaped(atol, (*atol._type.static_shape, 1))


def _tolerances(name: str, a: Tensor, atol: Any, rtol: Any) -> tuple[Tensor, Tensor]:
    """Both, in the batch of a."""
    eps = 2.0**-23 if a.dtype is dt.f32 else 2.0**-52
    usual = eps * max(a._type.static_shape[-2:])
    if rtol is None and isinstance(atol, Tensor):
        rtol = choose(gt(atol, 0), tensor_of(0, a.dtype), tensor_of(usual, a.dtype))
    elif rtol is None:
        rtol = 0.0 if atol is not None and atol > 0 else usual
    return _in_batch(name, a, 0.0 if atol is None else atol), _in_batch(name, a, rtol)


def _in_batch(name: str, a: Tensor, limit: Any) -> Tensor:
    if not isinstance(limit, Tensor) and not is_number(limit):
        raise TypeError(f"{name}: a tolerance is a number or a Tensor, got {type(limit).__name__}")
    t = cast(limit, a.dtype) if isinstance(limit, Tensor) else tensor_of(limit, a.dtype)
    return expanded(dispatch(ops.stop_gradient, t), a._type.static_shape[:-2])


class LeastSquares(NamedTuple):
    """The solution, and what was found on the way: see `lstsq`."""

    solution: Tensor
    residuals: Tensor
    rank: Tensor
    singular_values: Tensor


def lstsq(A: Tensor, B: Tensor, rcond: float | None = None, *, driver: str | None = None) -> LeastSquares:
    """(solution, residuals, rank, singular_values): the x of least norm for which A @ x is nearest to B. A: [..., m, n]; B:
    [..., m, k], or [..., m] with the batch of A. Singular values up to rcond times the greatest (max(m, n) * eps by
    default) are taken for zeros. driver: "gelsy", the usual one, or "gels", "gelsd", "gelss", by which PyTorch tells how to
    solve; here they differ in what else is given. residuals: [..., k] sums of squares, for m > n; empty for "gelsy", and
    for "gelsd" and "gelss" unless every matrix has full rank (a compiled function gives them all the same). rank: i64,
    empty for "gels". singular_values: for "gelsd" and "gelss", else empty."""
    name = "linalg.lstsq"
    if driver not in (None, "gels", "gelsy", "gelsd", "gelss"):
        raise RuntimeError(f"{name}: driver must be 'gels', 'gelsy', 'gelsd' or 'gelss', got {driver!r}")
    a = matrices(name, A)
    b = beside(name, a, B)
    *batch, rows, columns = a._type.static_shape
    is_vector = b.ndim == len(batch) + 1 and b._type.static_shape == (*batch, rows)
    b = reshaped(b, (*batch, rows, 1)) if is_vector else b
    if b.ndim < 2 or b._type.static_shape[-2] != rows:
        raise ShapeError(f"{name}: shapes don't fit A @ x = B: A {a._type}, B {b._type}", where=user_line())
    solution = matmul(pinv(a, rtol=rcond), b)
    none, no_rank = narrow(reshaped(solution, (solution.numel(),)), 0, 0, 0), empty(0, dtype=dt.i64, device=a.device)
    rank = no_rank if driver == "gels" else matrix_rank(a, rtol=rcond)
    residuals = none
    if rows > columns and (driver == "gels" or driver in ("gelsd", "gelss") and (
            active.tracer is not None or bool((rank._data() == columns).all()))):
        beyond = sub(matmul(a, solution), b)
        residuals = sum_(mul(beyond, beyond), -2)
    values = dispatched(ops.Svdvals(), dispatch(ops.stop_gradient, a)) if driver in ("gelsd", "gelss") else \
        empty(0, dtype=a.dtype, device=a.device)
    if is_vector:
        solution = reshaped(solution, (*batch, columns))
    return LeastSquares(solution, residuals, rank, values)


def cond(A: Tensor, p: Any = None) -> Tensor:
    """The condition number: norm(A) * norm(A's inverse). p: None or 2 and -2 by singular values, which need no square
    matrices; "fro", "nuc", inf, -inf, 1, -1 by that norm, infinite for a singular matrix."""
    name = "linalg.cond"
    if p in (None, 2, -2):
        a = matrices(name, A)
        values = dispatched(ops.Svdvals(), a)
        if not values._type.static_shape[-1]:
            raise RuntimeError(f"{name}: takes matrices with elements, got {a._type}")
        greatest, least = select(values, -1, 0), select(values, -1, -1)
        return div(least, greatest) if p == -2 else div(greatest, least)
    if isinstance(p, str) and p not in ("fro", "nuc") or not isinstance(p, str) and p not in (1, -1, math.inf, -math.inf):
        raise RuntimeError(f"{name}: p must be None, 2, -2, 1, -1, inf, -inf, 'fro' or 'nuc', got {p!r}")
    a = square_matrices(name, A)
    if not a.numel():
        return mul(sum_(sum_(a, -1), -1), tensor_of(0, a.dtype))
    inverses, info = inv_ex(a)
    fine = reshaped(dispatch(ops.eq, info, tensor_of(0, dt.i32)), (*info._type.static_shape, 1, 1))
    size = matrix_norm(choose(fine, inverses, tensor_of(0, a.dtype)), p)
    return choose(reshaped(fine, info._type.static_shape), mul(matrix_norm(a, p), size), tensor_of(math.inf, a.dtype))


# -- powers -----------------------------------------------------------------------------------------------------------


def matrix_power(A: Tensor, n: int) -> Tensor:
    """A @ ... @ A, n times, by squaring; of the inverse where n < 0, and the identity where n is 0. Any dtype that
    `matmul` takes; f32 or f64 where n < 0."""
    name = "linalg.matrix_power"
    a = one_tensor(name, A)
    shape = a._type.static_shape
    if len(shape) < 2 or shape[-1] != shape[-2]:
        raise ShapeError(f"{name}: takes square matrices, got {a._type}", where=user_line())
    if isinstance(n, bool) or not isinstance(n, int):
        raise TypeError(f"{name}: n must be an int, got {type(n).__name__}")
    if n == 0:
        ones = eye(shape[-1], dtype=a.dtype, device=a.device)
        return choose(tensor_of(True, dt.bool_), ones, a)       # on the tape, as in PyTorch
    if n < 0:
        a, n = inverse(square_matrices(name, a)), -n
    found = None
    while n:
        if n & 1:
            found = a if found is None else matmul(found, a)
        n >>= 1
        a = matmul(a, a) if n else a
    assert found is not None, "n has a bit"
    return clone(found) if found is A else found


def matrix_exp(A: Tensor) -> Tensor:
    """The sum of A^k / k! over all k, by Padé's approximant of A / 2^j, squared j times: N. Higham, "The scaling and
    squaring method for the matrix exponential revisited", 2005."""
    return dispatch(ops.MatrixExp(), square_matrices("linalg.matrix_exp", A))


# -- tensors as matrices ----------------------------------------------------------------------------------------------


def tensorinv(A: Tensor, ind: int = 2) -> Tensor:
    """The inverse of A as a matrix from its last dims to the first `ind`: shape A.shape[ind:] + A.shape[:ind], with
    tensordot(tensorinv(A, ind), B, ind) = tensorsolve(A, B)."""
    a = one_tensor("linalg.tensorinv", A)
    shape = a._type.static_shape
    if ind < 1:
        raise RuntimeError(f"linalg.tensorinv: ind must be positive, got {ind}")
    rows, columns = math.prod(shape[:ind]), math.prod(shape[ind:])
    if rows != columns:
        raise ShapeError(f"linalg.tensorinv: the first {ind} dims of {a._type} have {rows} elements, the others {columns}",
                         where=user_line())
    return reshaped(inverse(reshaped(a, (rows, columns))), (*shape[ind:], *shape[:ind]))


def tensorsolve(A: Tensor, B: Tensor, dims: Sequence[int] | None = None) -> Tensor:
    """x with tensordot(A, x, x.ndim) = B, A being a matrix from its last dims to those of B; dims: of A, moved to its end
    first."""
    name = "linalg.tensorsolve"
    a, b = one_tensor(name, A), one_tensor(name, B)
    if dims is not None:
        moved = [wrap_dim(d, a.ndim, name) for d in dims]
        a = permuted(a, (*[d for d in range(a.ndim) if d not in moved], *moved))
    shape: Shape = a._type.static_shape
    inner = shape[b.ndim:]
    if math.prod(inner) != b.numel() or math.prod(shape[:b.ndim]) != b.numel():
        raise ShapeError(f"{name}: A {A._type} is no square matrix for B {b._type}", where=user_line())
    found = solve(reshaped(a, (b.numel(), b.numel())), reshaped(b, (b.numel(),)))
    return reshaped(found, inner)


__all__ = ["cond", "det", "lstsq", "matrix_exp", "matrix_power", "matrix_rank", "pinv", "slogdet", "tensorinv",
           "tensorsolve"]
public(globals(), __all__)
