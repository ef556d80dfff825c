"""Factors of matrices that need not be square: LU with row exchanges, and QR by Householder reflections."""
from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Final

import numpy as np

from flambeau.errors import UnsupportedError
from flambeau.ir import dtypes
from flambeau.ir.op import Sample, register
from flambeau.ir.ops.batching import Stacked
from flambeau.ir.ops.families import check_arity
from flambeau.ir.ops.linear_algebra import SolveTriangular, substituted
from flambeau.ir.ops.matrices import (
    identity,
    kept,
    matrices,
    part,
    skewed,
    spread_out,
    unbounded,
    with_diagonal,
)
from flambeau.ir.ops.sampling import draw, given
from flambeau.ir.ops.slices import Concat
from flambeau.ir.records import dataclass
from flambeau.ir.types import TensorType, parse_type

if TYPE_CHECKING:
    from flambeau.ir.builder import Builder
    from flambeau.ir.graph import Value

_FEW_COLUMNS: Final = 16        # eliminated one by one; more are halved, so that most of the work is matrix products


@register("lu")
@dataclass(frozen=True)
class Lu(Stacked):
    """a: [B..., M, N] -> lu [B..., M, N], i32 pivots [B..., min(M, N)], i32 info [B...]. Below its diagonal lu holds the
    unit lower triangular L, else U, with P @ L @ U = a, where P undoes the exchanges of row i with row pivots[i] - 1.
    info: 0, or the number of the first zero on U's diagonal, counted from 1. Fails on nothing."""

    kernel_kind = "library"

    def infer(self, *operands: TensorType) -> tuple[TensorType, ...]:
        check_arity(self, operands, 1)
        a = matrices(self, operands[0])
        batch = a.shape[:-2]
        pivots = a.with_shape((*batch, min(a.static_shape[-2:])))
        return a, pivots.with_dtype(dtypes.i32), a.with_shape(batch).with_dtype(dtypes.i32)

    def evaluate(self, *operands: np.ndarray) -> tuple[np.ndarray, ...]:
        lu = np.array(operands[0])
        pivots = np.zeros((*lu.shape[:-2], min(lu.shape[-2:])), np.int64)
        with np.errstate(all="ignore"):
            _eliminate(lu, pivots)
        is_zero = np.diagonal(lu, axis1=-2, axis2=-1) == 0
        info = np.zeros(lu.shape[:-2], np.int32)
        if is_zero.shape[-1]:
            info = np.where(is_zero.any(-1), is_zero.argmax(-1) + 1, 0).astype(np.int32)
        return lu, (pivots + 1).astype(np.int32), info

    def errors(self, types: Sequence[TensorType], operands: Sequence[np.ndarray], errors: Sequence[np.ndarray | None],
               results: Sequence[np.ndarray]) -> Sequence[np.ndarray | None]:
        return unbounded(results)                           # another pivot may be chosen

    def vjp(self, b: Builder, operands: Sequence[Value], results: Sequence[Value],
            cotangents: Sequence[Value | None]) -> Sequence[Value | None]:
        """Of the square part: P L^-T [tril(L^T dL, -1) + triu(dU U^T)] U^-T, from dA = P (dL U + L dU), where L^-1 dL is
        strictly lower and dU U^-1 upper triangular. The rest of L is A2 U^-1, of U is L^-1 A2: what is asked of it goes
        to A2 and to the square part. F. de Hoog, R. Anderssen, M. Lukas, "Differentiation of matrix functionals using
        triangular factorization", 2011."""
        (lu, pivots, _), g = results, cotangents[0]
        if g is None:
            return (None,)
        rows, columns = lu.type.static_shape[-2:]
        k = min(rows, columns)
        first, rest = slice(0, k), slice(k, None)
        square, g_square = part(b, lu, first, first), part(b, g, first, first)
        parts = []
        if rows > k:
            below, g_below = part(b, lu, rest, first), part(b, g, rest, first)
            by_u = b.transpose(b.emit(SolveTriangular(upper=True), square, b.transpose(g_below)))
            g_square = b.sub(g_square, kept(b, b.matmul(b.transpose(below), by_u), "le"))
            parts = [by_u]
        elif columns > k:
            beside, g_beside = part(b, lu, first, rest), part(b, g, first, rest)
            by_l = b.emit(SolveTriangular(upper=True, unit=True), b.transpose(square), g_beside)
            g_square = b.sub(g_square, kept(b, b.matmul(by_l, b.transpose(beside)), "gt"))
            parts = [by_l]
        lower = with_diagonal(b, kept(b, square, "gt"), b.full(_diagonal_type(square), 1.0))
        upper = kept(b, square, "le")
        middle = b.add(kept(b, b.matmul(b.transpose(lower), kept(b, g_square, "gt")), "gt"),
                       kept(b, b.matmul(kept(b, g_square, "le"), b.transpose(upper)), "le"))
        once = b.emit(SolveTriangular(upper=True, unit=True), b.transpose(square), middle)
        found = b.transpose(b.emit(SolveTriangular(upper=True), upper, b.transpose(once)))
        if parts:
            dim = len(lu.shape) - (2 if rows > k else 1)
            found = b.emit(Concat(dim), found, *parts)
        return (b.emit(RowSwaps(inverse=True), found, pivots),)

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        for a in ("f64[3,3]", "f64[1,1]", "f64[2,4,4]", "f32[5,5]", "f64[5,3]", "f64[3,5]", "f64[2,2,3,2]", "f64[0,0]",
                  "f64[0,3,2]", "f64[3,0]", "f64[2,0,3]"):
            yield given(cls(), spread_out(a)[..., ::-1].copy() if "0" not in a else draw(parse_type(a)),
                        differentiable=True)
        yield given(cls(), draw(parse_type("f64[40,40]")))
        yield given(cls(), np.array([[[0.0, 1.0], [2.0, 3.0]], [[1.0, 2.0], [2.0, 4.0]], [[0.0, 0.0], [0.0, 0.0]]]))


def _diagonal_type(x: Value) -> TensorType:
    return x.type.with_shape(x.shape[:-1])


@register("row_swaps")
@dataclass(frozen=True)
class RowSwaps(Stacked):
    """x: [B..., M, N], i32 pivots: [B..., K] -> x with row i exchanged for row pivots[i] - 1, for i from 0 to K - 1; with
    `inverse` from K - 1 to 0, which undoes that."""

    kernel_kind = "library"

    inverse: bool

    def infer(self, *operands: TensorType) -> tuple[TensorType, ...]:
        check_arity(self, operands, 2)
        x, pivots = operands
        matrices(self, x)
        if pivots.dtype is not dtypes.i32 or pivots.rank != x.rank - 1 or pivots.shape[:-1] != x.shape[:-2]:
            raise self.fail(f"pivots for {x} are i32 of its batch, found {pivots}")
        if pivots.static_shape[-1] > x.static_shape[-2]:
            raise self.fail(f"{x} has fewer rows than {pivots} has exchanges")
        return (x,)

    def evaluate(self, *operands: np.ndarray) -> np.ndarray:
        x, pivots = np.array(operands[0]), operands[1].astype(np.int64) - 1
        steps = range(pivots.shape[-1])
        for step in reversed(steps) if self.inverse else steps:
            _exchange(x, step, pivots[..., step])
        return x

    def errors(self, types: Sequence[TensorType], operands: Sequence[np.ndarray], errors: Sequence[np.ndarray | None],
               results: Sequence[np.ndarray]) -> Sequence[np.ndarray | None]:
        return (None if errors[0] is None else self.evaluate(errors[0], operands[1]),)

    def vjp(self, b: Builder, operands: Sequence[Value], results: Sequence[Value],
            cotangents: Sequence[Value | None]) -> Sequence[Value | None]:
        (g,) = cotangents
        assert g is not None, "there is one result"
        return b.emit(RowSwaps(not self.inverse), g, operands[1]), None

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        for inverse in (False, True):
            for x, pivots in (("f64[4,2]", [3, 2, 4]), ("f32[3,3]", [3, 3, 3]), ("f64[2,2,1]", [[2, 2], [1, 2]]),
                              ("f64[3,0]", [2]), ("f64[0,2]", []), ("f64[2,3,2]", [[], []])):
                yield given(cls(inverse), draw(parse_type(x)), np.array(pivots, np.int32), differentiable=True)


@register("geqrf")
@dataclass(frozen=True)
class Geqrf(Stacked):
    """a: [B..., M, N] -> packed [B..., M, N], tau [B..., min(M, N)]. The upper triangle of packed is R; what lies below
    in column i, with a 1 above it, is the vector v of the reflection I - tau[i] v v^T; their product is Q."""

    kernel_kind = "library"

    def infer(self, *operands: TensorType) -> tuple[TensorType, ...]:
        check_arity(self, operands, 1)
        a = matrices(self, operands[0])
        return a, a.with_shape((*a.shape[:-2], min(a.static_shape[-2:])))

    def evaluate(self, *operands: np.ndarray) -> tuple[np.ndarray, ...]:
        (a,) = operands
        if not a.size:
            return np.zeros_like(a), np.zeros((*a.shape[:-2], min(a.shape[-2:])), a.dtype)
        packed, tau = np.linalg.qr(a, mode="raw")
        return np.swapaxes(packed, -1, -2), tau

    def errors(self, types: Sequence[TensorType], operands: Sequence[np.ndarray], errors: Sequence[np.ndarray | None],
               results: Sequence[np.ndarray]) -> Sequence[np.ndarray | None]:
        return unbounded(results)

    def vjp(self, b: Builder, operands: Sequence[Value], results: Sequence[Value],
            cotangents: Sequence[Value | None]) -> Sequence[Value | None]:
        raise UnsupportedError("geqrf: the derivative of packed reflections is not implemented", hint="use fb.linalg.qr")

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        for a in ("f64[3,3]", "f64[4,2]", "f32[2,2,4]", "f64[0,0]", "f64[3,0]", "f64[0,2,2]"):
            yield given(cls(), draw(parse_type(a)))


@register("qr")
@dataclass(frozen=True)
class Qr(Stacked):
    """a: [B..., M, N] -> q [B..., M, C], r [B..., C, N] with q @ r = a, columns of q orthonormal and r upper triangular; C
    is M if complete, else min(M, N)."""

    complete: bool

    def _columns(self, a: TensorType) -> int:
        rows, columns = a.static_shape[-2:]
        return rows if self.complete else min(rows, columns)

    def infer(self, *operands: TensorType) -> tuple[TensorType, ...]:
        check_arity(self, operands, 1)
        a = matrices(self, operands[0])
        *batch, rows, columns = a.shape
        c = self._columns(a)
        return a.with_shape((*batch, rows, c)), a.with_shape((*batch, c, columns))

    def evaluate(self, *operands: np.ndarray) -> tuple[np.ndarray, ...]:
        (a,) = operands
        found = np.linalg.qr(a, mode="complete" if self.complete else "reduced")
        return found.Q, found.R

    def errors(self, types: Sequence[TensorType], operands: Sequence[np.ndarray], errors: Sequence[np.ndarray | None],
               results: Sequence[np.ndarray]) -> Sequence[np.ndarray | None]:
        return unbounded(results)

    def decompose(self, b: Builder, operands: Sequence[Value]) -> Sequence[Value]:
        """R lies in the packed reflections, whose product is I - V T V^T with T = (I + D triu(V^T V, 1))^-1 D, D their
        factors: C. Puglisi, "Modification of the Householder method based on the compact WY representation", 1992."""
        (a,) = operands
        rows, columns = a.type.static_shape[-2:]
        c, k = self._columns(a.type), min(rows, columns)
        packed, tau = b.emit(Geqrf(), a)
        r = kept(b, part(b, packed, slice(0, c), slice(None)), "le")
        v = part(b, packed, slice(None), slice(0, k))
        v = b.add(kept(b, v, "gt"), identity(b, v, rows, k))
        products = b.matmul(b.transpose(v), v)
        rank = len(products.shape)
        scaled = b.mul(products, b.broadcast(tau, products.shape, tuple(range(rank - 1))))
        factors = with_diagonal(b, b.zeros(products.type), tau)
        t = b.emit(SolveTriangular(upper=True, unit=True), scaled, factors)
        first = part(b, b.transpose(v), slice(None), slice(0, c))
        return b.sub(identity(b, v, rows, c), b.matmul(v, b.matmul(t, first))), r

    def vjp(self, b: Builder, operands: Sequence[Value], results: Sequence[Value],
            cotangents: Sequence[Value | None]) -> Sequence[Value | None]:
        """(dQ + Q sym(R dR^T - dQ^T Q)) R^-T, where sym makes the lower triangle symmetric; where there are more columns
        than rows, of the square part, to which Q^T makes the rest: M. Roberts, S. Roberts, "QR and LQ decomposition
        matrix backpropagation algorithms for square, wide, and deep matrices", 2020."""
        (a,), (q, r), (gq, gr) = operands, results, cotangents
        rows, columns = a.type.static_shape[-2:]
        if self.complete and rows > columns:
            raise UnsupportedError("linalg.qr: has no derivative with mode='complete' where there are more rows than "
                                   f"columns, as in {a.type}", hint="use mode='reduced'")
        gq = b.zeros(q.type) if gq is None else gq
        gr = b.zeros(r.type) if gr is None else gr
        if columns <= rows:
            return (_of_tall(b, q, r, gq, gr),)
        first, rest = slice(0, rows), slice(rows, None)
        g_beside = part(b, gr, slice(None), rest)
        gq = b.add(gq, b.matmul(part(b, a, slice(None), rest), b.transpose(g_beside)))
        square = _of_tall(b, q, part(b, r, slice(None), first), gq, part(b, gr, slice(None), first))
        return (b.emit(Concat(len(a.shape) - 1), square, b.matmul(q, g_beside)),)

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        for complete in (False, True):
            for a in ("f64[3,3]", "f64[2,4,4]", "f64[2,3]", "f32[3,3]"):
                yield given(cls(complete), _tall(a), differentiable=True)
            for a in ("f64[0,0]", "f64[3,0]", "f64[0,2]", "f64[0,2,2]", "f64[20,20]"):
                yield given(cls(complete), _tall(a))
        for a in ("f64[5,3]", "f64[2,2,3,2]", "f64[4,1]"):
            yield given(cls(complete=False), _tall(a), differentiable=True)
            yield given(cls(complete=True), _tall(a))


def _tall(type: str) -> np.ndarray:
    rows, columns = parse_type(type).static_shape[-2:]
    return skewed(type) if rows == columns else spread_out(type)


def _of_tall(b: Builder, q: Value, r: Value, gq: Value, gr: Value) -> Value:
    product = b.sub(b.matmul(r, b.transpose(gr)), b.matmul(b.transpose(gq), q))
    symmetric = b.add(kept(b, product, "ge"), b.transpose(kept(b, product, "gt")))
    whole = b.add(gq, b.matmul(q, symmetric))
    return b.transpose(b.emit(SolveTriangular(upper=True), r, b.transpose(whole)))


# -- meaning ----------------------------------------------------------------------------------------------------------


def _exchange(a: np.ndarray, row: int, other: np.ndarray) -> None:
    """Exchange row `row` of each matrix, in place, for its row `other`."""
    place, moved = other[..., None, None], a[..., row, :].copy()
    a[..., row, :] = np.take_along_axis(a, place, -2)[..., 0, :]
    np.put_along_axis(a, place, moved[..., None, :], -2)


def _eliminate(a: np.ndarray, pivots: np.ndarray) -> None:
    """a -> its factors, in place; pivots: filled with rows, counted from 0."""
    rows, columns = a.shape[-2:]
    if columns > _FEW_COLUMNS:
        half = min(rows, columns // 2)
        left, right = a[..., :half], a[..., half:]
        _eliminate(left, pivots[..., :half])
        for step in range(half):
            _exchange(right, step, pivots[..., step])
        right[..., :half, :] = substituted(left[..., :half, :], right[..., :half, :], upper=False, unit=True)
        if half == rows:
            return
        right[..., half:, :] -= left[..., half:, :] @ right[..., :half, :]
        later = pivots[..., half:]
        _eliminate(right[..., half:, :], later)
        for step in range(later.shape[-1]):
            _exchange(left[..., half:, :], step, later[..., step])
        later += half
        return
    for step in range(min(rows, columns)):
        pivots[..., step] = step + np.abs(a[..., step:, step]).argmax(-1)
        _exchange(a, step, pivots[..., step])
        pivot = a[..., step, step, None]
        a[..., step + 1:, step] /= np.where(pivot == 0, 1, pivot)
        a[..., step + 1:, step + 1:] -= a[..., step + 1:, step, None] * a[..., None, step, step + 1:]
