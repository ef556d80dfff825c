"""Systems of linear equations and factorizations of matrices; `fb.linalg` has them under PyTorch's names.

All take batches: matrices over the last two dims. f32 and f64 only. A matrix that is singular or not positive-definite
raises `fb.linalg.LinAlgError`, in a compiled function too."""
from __future__ import annotations

import math
from typing import NamedTuple

from flambeau.errors import LinAlgError, ShapeError, TypeInferenceError
from flambeau.frontend.functions.calls import public
from flambeau.frontend.functions.coerce import (
    broadcast_shapes,
    expanded,
    one_tensor,
    permuted,
    reshaped,
    user_line,
)
from flambeau.frontend.functions.creation import eye, zeros
from flambeau.frontend.tape.dispatch import dispatch
from flambeau.frontend.tensor.tensor import Tensor
from flambeau.frontend.where import describe, user_location
from flambeau.ir import dtypes as dt
from flambeau.ir import ops
from flambeau.ir.op import Op


def solve(A: Tensor, B: Tensor, *, left: bool = True) -> Tensor:
    """x with A @ x = B, or x @ A = B where not `left`. A: [..., n, n]; B: [..., n, k] (not left: [..., k, n]), or vectors:
    [n], or [..., n] with the batch of A; batches broadcast.

    Raises LinAlgError for a singular A, ShapeError for shapes that don't fit, TypeInferenceError for dtypes."""
    a = square_matrices("linalg.solve", A)
    b = beside("linalg.solve", a, B)
    size, sides = a._type.static_shape, b._type.static_shape
    if len(sides) == 1 or len(sides) == len(size) - 1 and sides == size[:-1]:
        if not left:
            raise ShapeError(f"linalg.solve: a vector B has no left=False: A {a._type}, B {b._type}", where=user_line(),
                             hint="B[None] is a row")
        found = solved("linalg.solve", ops.Solve(), a, reshaped(b, (*sides, 1)))
        return reshaped(found, found._type.static_shape[:-1])
    return solved("linalg.solve", ops.Solve(), a, b, left)


def solve_triangular(A: Tensor, B: Tensor, *, upper: bool, left: bool = True, unitriangular: bool = False) -> Tensor:
    """x with A @ x = B, or x @ A = B where not `left`, by a triangle of A: [..., n, n]; the other is not looked at.
    unitriangular: take the diagonal as ones. B: [..., n, k] (not left: [..., k, n]); batches broadcast.

    Zeros on the diagonal give infinities and NaN. Raises ShapeError, TypeInferenceError for what doesn't fit."""
    a = square_matrices("linalg.solve_triangular", A)
    b = beside("linalg.solve_triangular", a, B)
    op = ops.SolveTriangular(bool(upper) is bool(left), bool(unitriangular))
    return solved("linalg.solve_triangular", op, a, b, left)


class Solution(NamedTuple):
    """What solves the equations, and for each matrix 0 or the i32 number of the pivot that is zero, counted from 1."""

    result: Tensor
    info: Tensor


def solve_ex(A: Tensor, B: Tensor, *, left: bool = True, check_errors: bool = False) -> Solution:
    """`fb.linalg.solve` that fails on nothing (unless check_errors): (result, info), where info is 0 for each matrix that
    has an inverse, else the number of the pivot that is zero, counted from 1, and the result is NaN."""
    if check_errors:
        found = solve(A, B, left=left)
        return Solution(found, zeros(A._type.static_shape[:-2], dtype=dt.i32, device=A.device))
    a = square_matrices("linalg.solve_ex", A)
    b = beside("linalg.solve_ex", a, B)
    size, sides = a._type.static_shape, b._type.static_shape
    is_vector = len(sides) == 1 or len(sides) == len(size) - 1 and sides == size[:-1]
    if is_vector and not left:
        raise ShapeError(f"linalg.solve_ex: a vector B has no left=False: A {a._type}, B {b._type}", where=user_line(),
                         hint="B[None] is a row")
    wide = reshaped(b, (*sides, 1)) if is_vector else b
    if wide.ndim < 2 or wide._type.static_shape[-2 if left else -1] != size[-1]:
        raise ShapeError(f"linalg.solve_ex: shapes don't fit {'A @ x' if left else 'x @ A'} = B: A {a._type}, B {b._type}",
                         where=user_line())
    if not left:
        a, wide = transposed(a), transposed(wide)
    batch = broadcast_shapes(size[:-2], wide._type.static_shape[:-2], name="linalg.solve_ex")
    found, info = dispatch(ops.SolveEx(), *[expanded(t, (*batch, *t._type.static_shape[-2:])) for t in (a, wide)])
    if not left:
        return Solution(transposed(found), info)
    return Solution(reshaped(found, found._type.static_shape[:-1]) if is_vector else found, info)


class InverseAttempt(NamedTuple):
    """An inverse, and for each matrix 0 or the i32 number of the pivot that is zero, counted from 1."""

    inverse: Tensor
    info: Tensor


def inv_ex(A: Tensor, *, check_errors: bool = False) -> InverseAttempt:
    """`fb.linalg.inv` that fails on nothing (unless check_errors): (inverse, info), where info is 0 for each matrix that
    has an inverse, else the number of the pivot that is zero, counted from 1, and the inverse is NaN."""
    a = square_matrices("linalg.inv_ex", A)
    shape = a._type.static_shape
    if check_errors:
        return InverseAttempt(inverse(a), zeros(shape[:-2], dtype=dt.i32, device=a.device))
    found, info = dispatch(ops.SolveEx(), a, expanded(eye(shape[-1], dtype=a.dtype, device=a.device), shape))
    return InverseAttempt(found, info)


def cholesky(input: Tensor, upper: bool = False) -> Tensor:
    """The lower triangular L with L @ L.mT = input, or the upper triangular U with U.mT @ U = input. input: [..., n, n],
    symmetric and positive-definite; only that triangle of it is looked at. Its gradient is symmetric.

    Raises LinAlgError, which names the matrix and the order of its first leading minor that is not positive-definite."""
    a = square_matrices("linalg.cholesky", input)
    if upper:
        return transposed(dispatched(ops.Cholesky(), transposed(a)))
    return dispatched(ops.Cholesky(), a)


class Attempt(NamedTuple):
    """A factor, and for each matrix 0 or the i32 order of its first leading minor that is not positive-definite."""

    L: Tensor
    info: Tensor


def cholesky_ex(A: Tensor, *, upper: bool = False, check_errors: bool = False) -> Attempt:
    """`fb.linalg.cholesky` that fails on nothing (unless check_errors): (L, info), where info is 0 for each matrix that
    has a factor, else the order of its first leading minor that is not positive-definite, and the factor is NaN."""
    a = square_matrices("linalg.cholesky_ex", A)
    if check_errors:
        factor = cholesky(a, upper)
        return Attempt(factor, zeros(a._type.static_shape[:-2], dtype=dt.i32, device=a.device))
    factor, info = dispatch(ops.CholeskyEx(), transposed(a) if upper else a)
    return Attempt(transposed(factor) if upper else factor, info)


def cholesky_solve(B: Tensor, L: Tensor, upper: bool = False) -> Tensor:
    """x with L @ L.mT @ x = B (or with U.mT @ U, for an upper triangular L). L: [..., n, n], B: [..., n, k]; batches
    broadcast."""
    factor = square_matrices("cholesky_solve", L)
    b = beside("cholesky_solve", factor, B)
    if upper:
        factor = transposed(factor)
    once = solved("cholesky_solve", ops.SolveTriangular(upper=False), factor, b)
    return solved("cholesky_solve", ops.SolveTriangular(upper=True), transposed(factor), once)


def cholesky_inverse(L: Tensor, upper: bool = False) -> Tensor:
    """The inverse of L @ L.mT (or of U.mT @ U, for an upper triangular L). L: [..., n, n]."""
    factor = square_matrices("cholesky_inverse", L)
    return cholesky_solve(eye(factor._type.static_shape[-1], dtype=factor.dtype, device=factor.device), factor, upper)


def inverse(input: Tensor) -> Tensor:
    """The inverse of each matrix; `solve` is faster and more accurate where the inverse is multiplied by something.
    Raises LinAlgError for a singular one."""
    return dispatched(ops.Inverse(), square_matrices("linalg.inv", input))


# -- operands ---------------------------------------------------------------------------------------------------------


def square_matrices(name: str, value: Tensor) -> Tensor:
    """A batch of square matrices."""
    a = one_tensor(name, value)
    if a.dtype not in (dt.f32, dt.f64):
        raise TypeInferenceError(f"{name}: takes f32 or f64, got {a._type}", where=user_line())
    shape = a._type.static_shape
    if len(shape) < 2 or shape[-1] != shape[-2]:
        raise ShapeError(f"{name}: takes square matrices, got {a._type}", where=user_line())
    return a


def matrices(name: str, value: Tensor) -> Tensor:
    """A batch of matrices. Raises ShapeError, TypeInferenceError."""
    a = one_tensor(name, value)
    if a.dtype not in (dt.f32, dt.f64):
        raise TypeInferenceError(f"{name}: takes f32 or f64, got {a._type}", where=user_line())
    if a.ndim < 2:
        raise ShapeError(f"{name}: takes matrices, got {a._type}", where=user_line())
    return a


def beside(name: str, a: Tensor, value: Tensor) -> Tensor:
    """Right-hand sides for a."""
    b = one_tensor(name, value)
    if b.dtype is not a.dtype:
        raise TypeInferenceError(f"{name}: operands must have one dtype, got A {a._type} and B {b._type}",
                                 where=user_line())
    if not b.ndim:
        raise ShapeError(f"{name}: B is a number: A {a._type}, B {b._type}", where=user_line())
    return b


def solved(name: str, op: Op, a: Tensor, b: Tensor, left: bool = True) -> Tensor:
    """`op` on batches that broadcast. x @ a = b is a.mT @ x.mT = b.mT."""
    if b.ndim < 2 or b._type.static_shape[-2 if left else -1] != a._type.static_shape[-1]:
        raise ShapeError(f"{name}: shapes don't fit {'A @ x' if left else 'x @ A'} = B: A {a._type}, B {b._type}",
                         where=user_line())
    if not left:
        return transposed(solved(name, op, transposed(a), transposed(b)))
    if a.ndim == 2 and b.ndim > 2:
        return _by_one(op, a, b)
    batch = broadcast_shapes(a._type.static_shape[:-2], b._type.static_shape[:-2], name=name)
    return dispatched(op, *[expanded(t, (*batch, *t._type.static_shape[-2:])) for t in (a, b)])


def _by_one(op: Op, a: Tensor, b: Tensor) -> Tensor:
    """One matrix for a whole batch, whose right-hand sides stand side by side."""
    *batch, rows, columns = b._type.static_shape
    rank = len(batch)
    wide = reshaped(permuted(b, (rank, *range(rank), rank + 1)), (rows, math.prod(batch) * columns))
    found = reshaped(dispatched(op, a, wide), (rows, *batch, columns))
    return permuted(found, (*range(1, rank + 1), 0, rank + 1))


def transposed(x: Tensor) -> Tensor:
    rank = x.ndim
    return permuted(x, (*range(rank - 2), rank - 1, rank - 2))


def dispatched(op: Op, *operands: Tensor) -> Tensor:
    try:
        found: Tensor = dispatch(op, *operands)
    except LinAlgError as error:
        error.where = error.where or describe(user_location())     # eager ones too: it may be one of many alike
        raise
    return found


__all__ = ["cholesky", "cholesky_inverse", "cholesky_solve", "inverse"]
public(globals(), ("cholesky_ex", "inv_ex", "solve", "solve_ex", "solve_triangular"))       # which are names of `fb.linalg`
public(globals(), __all__)
