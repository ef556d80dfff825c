"""Functions of matrices: inverse, pseudoinverse, determinant, exponential."""
from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Final

import numpy as np

from flambeau.errors import LinAlgError
from flambeau.ir import dtypes
from flambeau.ir.op import Sample, register
from flambeau.ir.ops.batching import Stacked
from flambeau.ir.ops.factorizations import Lu, RowSwaps
from flambeau.ir.ops.families import check_arity
from flambeau.ir.ops.linear_algebra import Solve, SolveTriangular, equations, error_of_solution
from flambeau.ir.ops.matrices import (
    NO_INVERSE,
    by_columns,
    diagonal,
    failure,
    first_failing,
    identity,
    matrices,
    part,
    skewed,
    spread_out,
    square,
    unbounded,
    with_diagonal,
)
from flambeau.ir.ops.reductions import Prod
from flambeau.ir.ops.sampling import draw, given
from flambeau.ir.ops.slices import Concat
from flambeau.ir.ops.spectra import Eigh, Svd
from flambeau.ir.records import dataclass
from flambeau.ir.types import TensorType, parse_type

if TYPE_CHECKING:
    from flambeau.ir.builder import Builder
    from flambeau.ir.graph import Value


@register("inverse")
@dataclass(frozen=True)
class Inverse(Stacked):
    """a: [B..., N, N] -> its inverse."""

    kernel_kind = "library"

    def infer(self, *operands: TensorType) -> tuple[TensorType, ...]:
        check_arity(self, operands, 1)
        return (square(self, operands[0]),)

    def evaluate(self, *operands: np.ndarray) -> np.ndarray:
        (a,) = operands
        if not a.size:
            return np.zeros_like(a)
        try:
            return np.linalg.inv(a)
        except np.linalg.LinAlgError:
            raise failure(NO_INVERSE, a.shape, first_failing(np.linalg.inv, a)) from None

    def errors(self, types: Sequence[TensorType], operands: Sequence[np.ndarray], errors: Sequence[np.ndarray | None],
               results: Sequence[np.ndarray]) -> Sequence[np.ndarray | None]:
        size = np.abs(operands[0]).max(axis=(-2, -1), keepdims=True, initial=0.0)
        return (error_of_solution(types[0], operands[0], np.broadcast_to(size, operands[0].shape), (errors[0], None),
                                  results[0]),)

    def vjp(self, b: Builder, operands: Sequence[Value], results: Sequence[Value],
            cotangents: Sequence[Value | None]) -> Sequence[Value | None]:
        """-X^T dX X^T."""
        (x,), (g,) = results, cotangents
        assert g is not None, "there is one result"
        turned = b.transpose(x)
        return (b.neg(b.matmul(turned, b.matmul(g, turned))),)

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        for a in ("f64[3,3]", "f64[1,1]", "f64[2,4,4]", "f32[5,5]", "f64[20,20]", "f64[0,0]", "f64[0,2,2]", "f64[3,0,0]"):
            yield given(cls(), skewed(a), differentiable=True)


@register("solve_ex")
@dataclass(frozen=True)
class SolveEx(Stacked):
    """`Solve` that never fails: x, and for each matrix 0 or the i32 number of the pivot that is zero, counted from 1; x is
    NaN there."""

    kernel_kind = "library"

    def infer(self, *operands: TensorType) -> tuple[TensorType, ...]:
        x = equations(self, operands)
        return x, x.with_shape(x.shape[:-2]).with_dtype(dtypes.i32)

    def evaluate(self, *operands: np.ndarray) -> tuple[np.ndarray, ...]:
        a, b = operands
        try:
            return np.asarray(Solve().evaluate(a, b)), np.zeros(a.shape[:-2], np.int32)
        except LinAlgError:
            info = np.asarray(Lu().evaluate(a)[2])
            fine = np.where(info[..., None, None] == 0, a, np.eye(a.shape[-1], dtype=a.dtype))
            for at in np.ndindex(*info.shape):              # another elimination may see its pivot as zero, or not
                if not info[at]:
                    try:
                        np.linalg.solve(a[at], b[at])
                    except np.linalg.LinAlgError:
                        info[at], fine[at] = a.shape[-1], np.eye(a.shape[-1], dtype=a.dtype)
            return np.where(info[..., None, None] == 0, np.linalg.solve(fine, b), np.nan).astype(a.dtype), info

    def errors(self, types: Sequence[TensorType], operands: Sequence[np.ndarray], errors: Sequence[np.ndarray | None],
               results: Sequence[np.ndarray]) -> Sequence[np.ndarray | None]:
        return *Solve().errors(types, operands, errors, results), *unbounded(results[1:])

    def vjp(self, b: Builder, operands: Sequence[Value], results: Sequence[Value],
            cotangents: Sequence[Value | None]) -> Sequence[Value | None]:
        (a, _), (x, _), g = operands, results, cotangents[0]
        if g is None:
            return None, None
        by_rhs, _ = b.emit(SolveEx(), b.transpose(a), g)
        return b.neg(b.matmul(by_rhs, b.transpose(x))) if b.wants(0) else None, by_rhs

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        for a, b in (("f64[3,3]", "f64[3,2]"), ("f64[2,4,4]", "f64[2,4,1]"), ("f32[5,5]", "f32[5,3]"),
                     ("f64[0,0]", "f64[0,2]"), ("f64[0,3,3]", "f64[0,3,2]")):
            yield given(cls(), skewed(a), draw(parse_type(b)), differentiable=True)
        singular = np.array([[[1.0, 2.0], [2.0, 4.0]], [[1.0, 2.0], [3.0, 4.0]], [[0.0, 0.0], [0.0, 0.0]]])
        yield given(cls(), singular, np.ones((3, 2, 1)))


@register("det")
@dataclass(frozen=True)
class Det(Stacked):
    """a: [B..., N, N] -> its determinant [B...]."""

    def infer(self, *operands: TensorType) -> tuple[TensorType, ...]:
        check_arity(self, operands, 1)
        a = square(self, operands[0])
        return (a.with_shape(a.shape[:-2]),)

    def evaluate(self, *operands: np.ndarray) -> np.ndarray:
        return np.asarray(np.linalg.det(operands[0]))

    def errors(self, types: Sequence[TensorType], operands: Sequence[np.ndarray], errors: Sequence[np.ndarray | None],
               results: Sequence[np.ndarray]) -> Sequence[np.ndarray | None]:
        return unbounded(results)

    def decompose(self, b: Builder, operands: Sequence[Value]) -> Sequence[Value]:
        lu, pivots, _ = b.emit(Lu(), operands[0])
        return (b.mul(_product(b, diagonal(b, lu)), _sign(b, pivots, lu)),)

    def vjp(self, b: Builder, operands: Sequence[Value], results: Sequence[Value],
            cotangents: Sequence[Value | None]) -> Sequence[Value | None]:
        """det(a) a^-T, by the factors of a. A zero on U's diagonal is replaced by what is nothing beside a: the products
        det(a) a^-T, which are minors of a, move by as little."""
        (a,), (g,) = operands, cotangents
        assert g is not None, "there is one result"
        lu, pivots, _ = b.emit(Lu(), a)
        u = diagonal(b, lu)
        rank = len(a.shape)
        size = b.amax(b.abs(a), (rank - 2, rank - 1)) if a.shape[-1] else b.zeros(g.type)
        limits = np.finfo(a.dtype.storage)
        tiny = b.add(b.mul(size, b.scalar(float(limits.eps) ** 2, size)), b.scalar(float(limits.tiny), size))
        u = b.where(b.eq(u, b.zeros(u.type)), b.broadcast(tiny, u.shape, tuple(range(rank - 2))), u)
        factor = b.mul(g, b.mul(_product(b, u), _sign(b, pivots, lu)))
        sides = by_columns(b, identity(b, a, a.shape[-1], a.shape[-1]), b.broadcast(
            factor, u.shape, tuple(range(rank - 2))))
        turned = b.transpose(with_diagonal(b, lu, u))       # a^T = U^T L^T P^T
        once = b.emit(SolveTriangular(upper=False), turned, sides)
        return (b.emit(RowSwaps(inverse=True), b.emit(SolveTriangular(upper=True, unit=True), turned, once), pivots),)

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        for a in ("f64[3,3]", "f64[1,1]", "f64[2,2,2]", "f32[3,3]"):
            yield given(cls(), spread_out(a)[..., ::-1].copy() / 2, differentiable=True)
        for a in ("f64[0,0]", "f64[0,2,2]", "f64[3,0,0]"):
            yield given(cls(), draw(parse_type(a)))
        yield given(cls(), np.array([[[0.0, 1.0], [2.0, 3.0]], [[1.0, 2.0], [2.0, 4.0]], [[0.0, 0.0], [0.0, 0.0]]]))


@register("slogdet")
@dataclass(frozen=True)
class Slogdet(Stacked):
    """a: [B..., N, N] -> the sign of its determinant [B...], and the logarithm of the size [B...]: 0 and -inf where it is
    singular. The sign has no derivative."""

    def infer(self, *operands: TensorType) -> tuple[TensorType, ...]:
        (found,) = Det.infer(self, *operands)               # type: ignore[arg-type]
        return found, found

    def evaluate(self, *operands: np.ndarray) -> tuple[np.ndarray, ...]:
        sign, size = np.linalg.slogdet(operands[0])
        return np.asarray(sign), np.asarray(size)

    def errors(self, types: Sequence[TensorType], operands: Sequence[np.ndarray], errors: Sequence[np.ndarray | None],
               results: Sequence[np.ndarray]) -> Sequence[np.ndarray | None]:
        return unbounded(results)

    def decompose(self, b: Builder, operands: Sequence[Value]) -> Sequence[Value]:
        lu, pivots, _ = b.emit(Lu(), operands[0])
        u = diagonal(b, lu)
        sign = b.mul(_product(b, b.sign(u)), _sign(b, pivots, lu))
        return sign, b.sum(b.log(b.abs(u)), (len(u.shape) - 1,))

    def vjp(self, b: Builder, operands: Sequence[Value], results: Sequence[Value],
            cotangents: Sequence[Value | None]) -> Sequence[Value | None]:
        """a^-T."""
        (a,), g = operands, cotangents[1]
        if g is None:
            return (None,)
        n, rank = a.shape[-1], len(a.shape)
        factor = b.broadcast(g, a.shape[:-1], tuple(range(rank - 2)))
        found, _ = b.emit(SolveEx(), b.transpose(a), by_columns(b, identity(b, a, n, n), factor))
        return (found,)

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        for a in ("f64[3,3]", "f64[1,1]", "f64[2,4,4]", "f32[3,3]"):
            yield given(cls(), spread_out(a)[..., ::-1].copy(), differentiable=True)
        for a in ("f64[0,0]", "f64[0,2,2]", "f64[3,0,0]"):
            yield given(cls(), draw(parse_type(a)))


def _product(b: Builder, x: Value) -> Value:
    found: Value = b.emit(Prod((len(x.shape) - 1,)), x)
    return found


def _sign(b: Builder, pivots: Value, like: Value) -> Value:
    """Of the permutation: -1 for each exchange of two rows."""
    own = b.broadcast(b.iota(pivots.shape[-1], dtypes.i32), pivots.shape, (len(pivots.shape) - 1,))
    stays = b.eq(pivots, b.add(own, b.scalar(1, own)))
    return _product(b, b.where(stays, b.scalar(1.0, like), b.scalar(-1.0, like)))


@register("pinv")
@dataclass(frozen=True)
class Pinv(Stacked):
    """a: [B..., M, N], atol: [B...], rtol: [B...] -> the pseudoinverse [B..., N, M], which takes singular values up to the
    greater of atol and rtol times the greatest for zeros; symmetric: eigenvalues, of the lower triangle. The derivative is
    that among matrices of one rank."""

    symmetric: bool = False

    def infer(self, *operands: TensorType) -> tuple[TensorType, ...]:
        check_arity(self, operands, 3)
        a = square(self, operands[0]) if self.symmetric else matrices(self, operands[0])
        for limit in operands[1:]:
            if limit.dtype is not a.dtype or limit.shape != a.shape[:-2]:
                raise self.fail(f"a tolerance for {a} is of its batch and dtype, found {limit}")
        return (a.with_shape((*a.shape[:-2], a.shape[-1], a.shape[-2])),)

    def evaluate(self, *operands: np.ndarray) -> np.ndarray:
        a, atol, rtol = operands
        if self.symmetric:
            s, u = Eigh().evaluate(a)
            vh = np.swapaxes(u, -1, -2)
        else:
            u, s, vh = Svd(full=False).evaluate(a)
        limit = np.maximum(atol, rtol * np.abs(s).max(axis=-1, initial=0.0))
        with np.errstate(all="ignore"):
            inverse = np.where(np.abs(s) > limit[..., None], 1 / s, 0).astype(a.dtype)
        return np.asarray(np.swapaxes(vh, -1, -2) @ (inverse[..., None] * np.swapaxes(u, -1, -2)))

    def errors(self, types: Sequence[TensorType], operands: Sequence[np.ndarray], errors: Sequence[np.ndarray | None],
               results: Sequence[np.ndarray]) -> Sequence[np.ndarray | None]:
        return unbounded(results)

    def decompose(self, b: Builder, operands: Sequence[Value]) -> Sequence[Value]:
        a, atol, rtol = operands
        if not a.type.numel:
            return (b.zeros(self.infer(a.type, atol.type, rtol.type)[0]),)
        if self.symmetric:
            s, u = b.emit(Eigh(), a)
            vh = b.transpose(u)
        else:
            u, s, vh = b.emit(Svd(full=False), a)
        rank, size = len(s.shape), b.abs(s)
        limit = b.maximum(atol, b.mul(rtol, b.amax(size, (rank - 1,))))
        counts = b.gt(size, b.broadcast(limit, s.shape, tuple(range(rank - 1))))
        inverse = b.where(counts, b.div(b.full(s.type, 1.0), s), b.scalar(0.0, s))
        return (b.matmul(by_columns(b, b.transpose(vh), inverse), b.transpose(u)),)

    def vjp(self, b: Builder, operands: Sequence[Value], results: Sequence[Value],
            cotangents: Sequence[Value | None]) -> Sequence[Value | None]:
        """-P^T g P^T + (I - a P) g^T P P^T + P^T P g^T (I - P a): G. Golub, V. Pereyra, "The differentiation of
        pseudo-inverses and nonlinear least squares problems whose variables separate", 1973, section 4."""
        a, p = operands[0], results[0]
        g = cotangents[0]
        assert g is not None, "there is one result"
        pt, gt = b.transpose(p), b.transpose(g)
        found = b.neg(b.matmul(b.matmul(pt, g), pt))
        right = b.matmul(b.matmul(gt, p), pt)
        found = b.add(found, b.sub(right, b.matmul(a, b.matmul(p, right))))
        left = b.matmul(b.matmul(pt, p), gt)
        return b.add(found, b.sub(left, b.matmul(b.matmul(left, p), a))), None, None

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        for a in ("f64[3,3]", "f64[4,2]", "f64[2,2,3]", "f64[2,4]", "f32[3,2]", "f64[0,0]", "f64[3,0]", "f64[0,2,3]"):
            batch = parse_type(a).static_shape[:-2]
            numbers = [np.full(batch, limit, parse_type(a).dtype.storage) for limit in (0.0, 1e-6)]
            sample = given(cls(), spread_out(a), *numbers)
            yield Sample(sample.op, sample.operands, sample.types, (True, False, False))
        yield given(cls(), np.ones((2, 3)), np.array(0.0), np.array(1e-6))
        for x in (np.array([[2.0, 9.0], [1.0, -3.0]]), np.ones((2, 3, 3)), np.zeros((0, 0))):
            yield given(cls(symmetric=True), x, *[np.full(x.shape[:-2], limit) for limit in (0.0, 1e-6)])


@register("matrix_exp")
@dataclass(frozen=True)
class MatrixExp(Stacked):
    """a: [B..., N, N] -> its exponential."""

    kernel_kind = "library"

    def infer(self, *operands: TensorType) -> tuple[TensorType, ...]:
        check_arity(self, operands, 1)
        return (square(self, operands[0]),)

    def evaluate(self, *operands: np.ndarray) -> np.ndarray:
        """Padé's approximant of a / 2^k, squared k times; computed in f64."""
        a = operands[0].astype(np.float64)
        norm = np.abs(a).sum(axis=-2).max(initial=0.0)
        if not np.isfinite(norm):
            return self._one_by_one(a)
        times = max(0, math.ceil(math.log2(norm / _WITHIN))) if norm > _WITHIN else 0
        found = _pade(a / 2.0**times)
        for _ in range(times):
            found = found @ found
        return found

    def _one_by_one(self, a: np.ndarray) -> np.ndarray:
        found = np.full_like(a, np.nan)
        for at in np.ndindex(*a.shape[:-2]):
            if np.isfinite(a[at]).all():
                found[at] = self.evaluate(a[at])
        return found

    def errors(self, types: Sequence[TensorType], operands: Sequence[np.ndarray], errors: Sequence[np.ndarray | None],
               results: Sequence[np.ndarray]) -> Sequence[np.ndarray | None]:
        return unbounded(results)

    def vjp(self, b: Builder, operands: Sequence[Value], results: Sequence[Value],
            cotangents: Sequence[Value | None]) -> Sequence[Value | None]:
        """exp([[a^T, g], [0, a^T]]) holds it beside the diagonal: N. Higham, "Functions of matrices", 2008, (10.17)."""
        (a,), (g,) = operands, cotangents
        assert g is not None, "there is one result"
        n, rank, turned = a.shape[-1], len(a.shape), b.transpose(a)
        above = b.emit(Concat(rank - 1), turned, g)
        below = b.emit(Concat(rank - 1), b.zeros(a.type), turned)
        both = b.emit(MatrixExp(), b.emit(Concat(rank - 2), above, below))
        return (part(b, both, slice(0, n), slice(n, None)),)

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        for a in ("f64[3,3]", "f64[1,1]", "f64[2,4,4]", "f32[3,3]"):
            yield given(cls(), draw(parse_type(a)) / 2, differentiable=True)
        for a in ("f64[0,0]", "f64[0,2,2]", "f64[3,0,0]", "f64[6,6]"):
            yield given(cls(), draw(parse_type(a)))
        yield given(cls(), np.diag([1.0, -20.0, 9.0]))


# Table 2.3 and (2.3) of N. Higham, "The scaling and squaring method for the matrix exponential revisited", 2005
_WITHIN: Final = 5.371920351148152
_PADE: Final = (64764752532480000.0, 32382376266240000.0, 7771770303897600.0, 1187353796428800.0, 129060195264000.0,
                10559470521600.0, 670442572800.0, 33522128640.0, 1323241920.0, 40840800.0, 960960.0, 16380.0, 182.0, 1.0)


def _pade(a: np.ndarray) -> np.ndarray:
    """[13/13] at matrices whose norm is at most _WITHIN."""
    c, one = _PADE, np.eye(a.shape[-1])
    a2 = a @ a
    a4, a6 = a2 @ a2, a2 @ a2 @ a2
    odd = a @ (a6 @ (c[13] * a6 + c[11] * a4 + c[9] * a2) + c[7] * a6 + c[5] * a4 + c[3] * a2 + c[1] * one)
    even = a6 @ (c[12] * a6 + c[10] * a4 + c[8] * a2) + c[6] * a6 + c[4] * a4 + c[2] * a2 + c[0] * one
    return np.asarray(np.linalg.solve(even - odd, even + odd))


__all__ = ["Det", "Inverse", "MatrixExp", "Pinv", "Slogdet", "SolveEx"]
