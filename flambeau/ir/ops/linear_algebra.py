"""Systems of linear equations and factorizations, over the last two dims. Ops of one matrix or of a batch of them.

What can't be done with the numbers given, because a matrix is singular or not positive-definite, is a `LinAlgError`, from
the meaning as from whatever library computes the op in a compiled program.
"""
from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Final

import numpy as np

from flambeau.errors import LinAlgError
from flambeau.ir import dtypes
from flambeau.ir.op import Op, Sample, register
from flambeau.ir.ops.batching import Stacked
from flambeau.ir.ops.families import check_arity
from flambeau.ir.ops.matrices import (
    NOT_POSITIVE_DEFINITE,
    SINGULAR,
    compared,
    failure,
    skewed,
    square,
    well_conditioned,
)
from flambeau.ir.ops.sampling import draw, given
from flambeau.ir.records import dataclass
from flambeau.ir.types import TensorType, parse_type

if TYPE_CHECKING:
    from flambeau.ir.builder import Builder
    from flambeau.ir.graph import Value

_FEW_ROWS: Final = 16           # solved row by row; more are halved, so that most of the work is matrix products


@register("solve")
@dataclass(frozen=True)
class Solve(Stacked):
    """a: [B..., N, N], b: [B..., N, K] -> x with a @ x = b."""

    kernel_kind = "library"

    def infer(self, *operands: TensorType) -> tuple[TensorType, ...]:
        return (equations(self, operands),)

    def evaluate(self, *operands: np.ndarray) -> np.ndarray:
        a, b = operands
        if not b.size:
            return np.zeros_like(b)
        try:
            return np.linalg.solve(a, b)
        except np.linalg.LinAlgError:
            raise failure(SINGULAR, a.shape, first_singular(a)) from None

    def errors(self, types: Sequence[TensorType], operands: Sequence[np.ndarray], errors: Sequence[np.ndarray | None],
               results: Sequence[np.ndarray]) -> Sequence[np.ndarray | None]:
        """LU factors with row exchanges are those of a matrix near a, whose elements differ by what is small beside the
        greatest of a: N. Higham, "Accuracy and Stability of Numerical Algorithms", 2002, theorem 9.5."""
        size = np.abs(operands[0]).max(axis=(-2, -1), keepdims=True, initial=0.0)
        return (error_of_solution(types[0], operands[0], np.broadcast_to(size, operands[0].shape), errors, results[0]),)

    def vjp(self, b: Builder, operands: Sequence[Value], results: Sequence[Value],
            cotangents: Sequence[Value | None]) -> Sequence[Value | None]:
        (a, _), (x,), (g,) = operands, results, cotangents
        assert g is not None, "there is one result"
        by_rhs = b.emit(Solve(), b.transpose(a), g)
        return b.neg(b.matmul(by_rhs, b.transpose(x))) if b.wants(0) else None, by_rhs

    def jvp(self, b: Builder, operands: Sequence[Value], results: Sequence[Value],
            tangents: Sequence[Value | None]) -> Sequence[Value | None]:
        """x' = a^-1 (b' - a' x)"""
        (a, _), (x,), (by_a, by_b) = operands, results, tangents
        change = by_b
        if by_a is not None:
            moved = b.matmul(by_a, x)
            change = b.neg(moved) if by_b is None else b.sub(by_b, moved)
        assert change is not None, "one tangent at least is given"
        return (b.emit(self, a, change),)

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        for a, b in (("f64[3,3]", "f64[3,2]"), ("f64[1,1]", "f64[1,1]"), ("f64[2,4,4]", "f64[2,4,1]"),
                     ("f64[2,3,2,2]", "f64[2,3,2,5]"), ("f32[5,5]", "f32[5,3]"), ("f32[3,6,6]", "f32[3,6,2]"),
                     ("f64[20,20]", "f64[20,3]"), ("f64[0,0]", "f64[0,2]"), ("f32[3,3]", "f32[3,0]"),
                     ("f64[0,3,3]", "f64[0,3,2]"), ("f64[2,0,0]", "f64[2,0,3]")):
            yield given(cls(), skewed(a), draw(parse_type(b)), differentiable=True)


@register("solve_triangular")
@dataclass(frozen=True)
class SolveTriangular(Stacked):
    """a: [B..., N, N], b: [B..., N, K] -> x with tri(a) @ x = b, where tri keeps the triangle that is solved by, and with
    `unit` has ones on the diagonal. Zeros there give infinities and NaN: nothing fails."""

    kernel_kind = "library"

    upper: bool
    unit: bool = False

    def infer(self, *operands: TensorType) -> tuple[TensorType, ...]:
        return (equations(self, operands),)

    def evaluate(self, *operands: np.ndarray) -> np.ndarray:
        a, b = operands
        return substituted(a, b, self.upper, self.unit) if b.size else np.zeros_like(b)

    def errors(self, types: Sequence[TensorType], operands: Sequence[np.ndarray], errors: Sequence[np.ndarray | None],
               results: Sequence[np.ndarray]) -> Sequence[np.ndarray | None]:
        """Substitution solves for a matrix whose elements are near those of a, each beside itself: theorem 8.5 there."""
        keep = np.triu if self.upper else np.tril
        a, moved = keep(operands[0]), errors[0]
        if moved is not None:
            moved = keep(moved)
        if self.unit:
            n = a.shape[-1]
            a = a * (1 - np.eye(n)) + np.eye(n)
            moved = None if moved is None else moved * (1 - np.eye(n))
        return (error_of_solution(types[0], a, np.abs(a), (moved, errors[1]), results[0]),)

    def vjp(self, b: Builder, operands: Sequence[Value], results: Sequence[Value],
            cotangents: Sequence[Value | None]) -> Sequence[Value | None]:
        (a, _), (x,), (g,) = operands, results, cotangents
        assert g is not None, "there is one result"
        by_rhs = b.emit(SolveTriangular(not self.upper, self.unit), b.transpose(a), g)
        if not b.wants(0):
            return None, by_rhs
        full = b.neg(b.matmul(by_rhs, b.transpose(x)))
        keeps = ("lt" if self.unit else "le") if self.upper else ("gt" if self.unit else "ge")
        return b.where(compared(b, full, keeps), full, b.scalar(0.0, full)), by_rhs

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        for upper in (False, True):
            for unit in (False, True):
                for a, b in (("f64[3,3]", "f64[3,2]"), ("f64[2,4,4]", "f64[2,4,3]"), ("f32[5,5]", "f32[5,1]"),
                             ("f64[0,0]", "f64[0,1]"), ("f64[2,3,3]", "f64[2,3,0]")):
                    yield given(cls(upper, unit), skewed(a), draw(parse_type(b)), differentiable=True)
            yield given(cls(upper), skewed("f64[40,40]"), draw(parse_type("f64[40,3]")), differentiable=True)


@register("cholesky")
@dataclass(frozen=True)
class Cholesky(Stacked):
    """a: [B..., N, N] -> the lower triangular l with l @ l.mT = a, zeros above its diagonal. Only the lower triangle of a
    is looked at. The derivative is that of symmetric a, and symmetric."""

    kernel_kind = "library"

    def infer(self, *operands: TensorType) -> tuple[TensorType, ...]:
        check_arity(self, operands, 1)
        return (square(self, operands[0]),)

    def evaluate(self, *operands: np.ndarray) -> np.ndarray:
        (a,) = operands
        if not a.size:
            return np.zeros_like(a)
        try:
            found = np.linalg.cholesky(a)
        except np.linalg.LinAlgError:
            found = None
        if found is None or np.isnan(np.diagonal(found, axis1=-2, axis2=-1)).any():
            raise failure(NOT_POSITIVE_DEFINITE, a.shape, *_first_not_positive_definite(a))
        return found

    def errors(self, types: Sequence[TensorType], operands: Sequence[np.ndarray], errors: Sequence[np.ndarray | None],
               results: Sequence[np.ndarray]) -> Sequence[np.ndarray | None]:
        return _error_of_factor(types[0], results[0], errors[0])[:1]

    def vjp(self, b: Builder, operands: Sequence[Value], results: Sequence[Value],
            cotangents: Sequence[Value | None]) -> Sequence[Value | None]:
        (g,) = cotangents
        assert g is not None, "there is one result"
        return (_of_factored(b, results[0], g),)

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        for a in ("f64[3,3]", "f64[1,1]", "f64[2,4,4]", "f32[5,5]", "f32[2,2,3,3]", "f64[20,20]", "f64[0,0]",
                  "f64[0,2,2]", "f64[3,0,0]"):
            yield given(cls(), well_conditioned(a))         # only symmetric directions have a derivative


@register("cholesky_ex")
@dataclass(frozen=True)
class CholeskyEx(Stacked):
    """`Cholesky` that never fails: l, and for each matrix 0 or the i32 order of its first leading minor that is not
    positive-definite; the lower triangle of l is NaN there."""

    kernel_kind = "library"

    def infer(self, *operands: TensorType) -> tuple[TensorType, ...]:
        check_arity(self, operands, 1)
        a = square(self, operands[0])
        return a, a.with_shape(a.shape[:-2]).with_dtype(dtypes.i32)

    def evaluate(self, *operands: np.ndarray) -> tuple[np.ndarray, ...]:
        (a,) = operands
        orders = np.zeros(a.shape[:-2], np.int32)
        factors = np.tril(np.full_like(a, np.nan))
        try:
            return np.asarray(Cholesky().evaluate(a)), orders
        except LinAlgError:
            for at in np.ndindex(*orders.shape):
                try:
                    factors[at] = Cholesky().evaluate(a[at])
                except LinAlgError as error:
                    orders[at] = error.details[1]
        return factors, orders

    def errors(self, types: Sequence[TensorType], operands: Sequence[np.ndarray], errors: Sequence[np.ndarray | None],
               results: Sequence[np.ndarray]) -> Sequence[np.ndarray | None]:
        return _error_of_factor(types[0], results[0], errors[0])

    def vjp(self, b: Builder, operands: Sequence[Value], results: Sequence[Value],
            cotangents: Sequence[Value | None]) -> Sequence[Value | None]:
        g = cotangents[0]
        return (None if g is None else _of_factored(b, results[0], g),)

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        for a in ("f64[3,3]", "f32[2,4,4]", "f64[0,0]", "f64[0,2,2]", "f64[3,0,0]"):
            yield given(cls(), well_conditioned(a))
        for dtype in (np.float32, np.float64):
            signs = np.array([[1, 1, 1], [1, -1, 1], [-1, 1, 1], [1, 1, 0], [1, np.nan, 1]], dtype)
            yield given(cls(), signs[:, :, None] * np.eye(3, dtype=dtype))


# -- types ------------------------------------------------------------------------------------------------------------


def equations(op: Op, operands: Sequence[TensorType]) -> TensorType:
    check_arity(op, operands, 2)
    a, b = operands
    square(op, a)
    if b.dtype is not a.dtype:
        raise op.fail(f"operands must have one dtype, found {a} and {b}")
    if b.rank != a.rank or b.shape[:-2] != a.shape[:-2]:
        raise op.fail(f"batch dims differ: {a} and {b}", "broadcast them to one shape first")
    if b.shape[-2] != a.shape[-1]:
        raise op.fail(f"{a} takes right-hand sides of {a.shape[-1]} rows, found {b}")
    return b


# -- meaning ----------------------------------------------------------------------------------------------------------


def substituted(a: np.ndarray, b: np.ndarray, upper: bool, unit: bool) -> np.ndarray:
    """Forward or back substitution."""
    n = a.shape[-1]
    if n > _FEW_ROWS:
        half = n // 2
        first, last = (slice(half, n), slice(0, half)) if upper else (slice(0, half), slice(half, n))
        known = substituted(a[..., first, first], b[..., first, :], upper, unit)
        rest = substituted(a[..., last, last], b[..., last, :] - a[..., last, first] @ known, upper, unit)
        return np.concatenate([rest, known] if upper else [known, rest], axis=-2)
    x = np.zeros_like(b)
    for row in reversed(range(n)) if upper else range(n):
        done = slice(row + 1, n) if upper else slice(0, row)
        x[..., row, :] = b[..., row, :] - (a[..., row:row + 1, done] @ x[..., done, :])[..., 0, :]
        if not unit:
            x[..., row, :] /= a[..., row, row, None]
    return x


def first_singular(a: np.ndarray) -> int:
    """The number of the first singular matrix of a batch."""
    for number, matrix in enumerate(a.reshape(-1, *a.shape[-2:])):
        try:
            np.linalg.solve(matrix, matrix)
        except np.linalg.LinAlgError:
            return number
    raise AssertionError("one of them was singular")


def _first_not_positive_definite(a: np.ndarray) -> tuple[int, int]:
    """(the number of the first such matrix, the order of its first leading minor that is not positive-definite)."""
    for number, matrix in enumerate(a.reshape(-1, *a.shape[-2:])):
        if not _is_positive_definite(matrix):
            most, least = len(matrix), 0                    # leading minors of order `least` are fine, of `most` not
            while most - least > 1:
                order = (most + least) // 2
                least, most = (order, most) if _is_positive_definite(matrix[:order, :order]) else (least, order)
            return number, most
    raise AssertionError("one of them was not positive-definite")


def _is_positive_definite(a: np.ndarray) -> bool:
    try:
        return not np.isnan(np.diagonal(np.linalg.cholesky(a))).any()
    except np.linalg.LinAlgError:
        return False


# -- rounding ---------------------------------------------------------------------------------------------------------


def grown(a: TensorType) -> float:
    """What n-term sums of products come to, in roundings, beside the sum of their sizes."""
    return float(np.finfo(a.dtype.storage).eps) * (4.0 + 2.0 * math.sqrt(a.static_shape[-1]))


def _size_of_inverse(a: np.ndarray) -> np.ndarray:
    """|a^-1|; infinities where there is none."""
    try:
        return np.abs(np.linalg.inv(a))
    except np.linalg.LinAlgError:
        return np.full(a.shape, np.inf)


def _is_large(relative: np.ndarray) -> np.ndarray:
    """Whether a matrix moved by so much may be singular, and its solutions anything."""
    return ~(relative.sum(axis=-1, keepdims=True).max(axis=-2, keepdims=True, initial=0.0) < 0.5)


def error_of_solution(type: TensorType, a: np.ndarray, size: np.ndarray, errors: Sequence[np.ndarray | None],
                       x: np.ndarray) -> np.ndarray:
    """|dx| <= |a^-1| (|da| |x| + |db|), where a is off by its error and by roundings of `size`."""
    off = grown(type) * size + (0.0 if errors[0] is None else errors[0])
    inverse = _size_of_inverse(a)
    right = off @ np.abs(x) + (0.0 if errors[1] is None else errors[1])
    return np.where(_is_large(inverse @ off), np.inf, inverse @ right)


def _error_of_factor(type: TensorType, lower: np.ndarray, error: np.ndarray | None) -> list[np.ndarray]:
    """Of l, and of the order that is not positive-definite. l is the factor of a matrix that is off by e, and so moves by
    l @ tril(l^-1 e l^-T): Higham there, 10.1."""
    size = np.abs(lower)
    off = grown(type) * (size @ np.swapaxes(size, -1, -2))
    if error is not None:
        moved = np.tril(error)
        off = off + np.maximum(moved, np.swapaxes(moved, -1, -2))
    inverse = _size_of_inverse(lower)
    relative = inverse @ off @ np.swapaxes(inverse, -1, -2)
    may_fail = _is_large(relative)
    return [np.where(may_fail, np.inf, size @ np.tril(relative)), np.where(may_fail[..., 0, 0], np.inf, 0.0)]


# -- derivatives ------------------------------------------------------------------------------------------------------


def _of_factored(b: Builder, lower: Value, g: Value) -> Value:
    """Of the matrix: l^-T sym(l^T g) l^-1 / 2, where sym makes the lower triangle symmetric. I. Murray, "Differentiation of
    the Cholesky decomposition", 2016, section 3.1."""
    upper = b.transpose(lower)
    product = b.matmul(upper, g)
    symmetric = b.where(compared(b, product, "ge"), product, b.transpose(product))
    once = b.emit(SolveTriangular(upper=True), upper, symmetric)
    twice = b.emit(SolveTriangular(upper=True), upper, b.transpose(once))
    return b.mul(twice, b.scalar(0.5, twice))
