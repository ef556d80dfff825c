"""Eigenvalues of symmetric matrices, and singular values of any, with and without vectors."""
from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from flambeau.ir.op import Sample, register
from flambeau.ir.ops.batching import Stacked
from flambeau.ir.ops.families import check_arity
from flambeau.ir.ops.matrices import (
    NO_EIGENVALUES,
    NO_SINGULAR_VALUES,
    NOT_DIAGONALIZED,
    by_columns,
    by_rows,
    compared,
    error_of_values,
    failure,
    first_failing,
    identity,
    kept,
    matrices,
    part,
    spread_out,
    square,
    unbounded,
    with_diagonal,
)
from flambeau.ir.ops.sampling import given
from flambeau.ir.records import dataclass
from flambeau.ir.types import TensorType

if TYPE_CHECKING:
    from flambeau.ir.builder import Builder
    from flambeau.ir.graph import Value


@register("eigh")
@dataclass(frozen=True)
class Eigh(Stacked):
    """a: [B..., N, N] -> eigenvalues [B..., N], in order, and orthonormal eigenvectors [B..., N, N] in columns. Only the
    lower triangle of a is looked at; the derivative is that of symmetric a, and symmetric."""

    kernel_kind = "library"

    def infer(self, *operands: TensorType) -> tuple[TensorType, ...]:
        check_arity(self, operands, 1)
        a = square(self, operands[0])
        return a.with_shape(a.shape[:-1]), a

    def evaluate(self, *operands: np.ndarray) -> tuple[np.ndarray, ...]:
        return tuple(_solved(np.linalg.eigh, operands[0], NO_EIGENVALUES, values=0))

    def errors(self, types: Sequence[TensorType], operands: Sequence[np.ndarray], errors: Sequence[np.ndarray | None],
               results: Sequence[np.ndarray]) -> Sequence[np.ndarray | None]:
        return error_of_values(types[0], operands[0], errors[0], results[0]), *unbounded(results[1:])

    def vjp(self, b: Builder, operands: Sequence[Value], results: Sequence[Value],
            cotangents: Sequence[Value | None]) -> Sequence[Value | None]:
        """V (F * skew(V^T dV) + diag(dw)) V^T with F_ij = 1 / (w_j - w_i) and 0 on the diagonal: M. Giles, "Collected
        matrix derivative results for forward and reverse mode algorithmic differentiation", 2008, section 3.1."""
        (w, v), (gw, gv) = results, cotangents
        if gv is None:
            assert gw is not None, "one of them is given"
            return (_of_values(b, v, gw),)
        product = b.matmul(b.transpose(v), gv)
        middle = b.mul(_skewed(b, product), _gaps(b, w, product))
        if gw is not None:
            middle = with_diagonal(b, middle, gw)
        return (b.matmul(b.matmul(v, middle), b.transpose(v)),)

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        for a in ("f64[3,3]", "f64[1,1]", "f64[2,4,4]", "f32[5,5]", "f64[20,20]", "f64[0,0]", "f64[0,2,2]", "f64[3,0,0]"):
            yield given(cls(), _symmetric(a))               # only symmetric directions have a derivative


@register("eigvalsh")
@dataclass(frozen=True)
class Eigvalsh(Stacked):
    """The eigenvalues of `Eigh`, which costs more."""

    kernel_kind = "library"

    def infer(self, *operands: TensorType) -> tuple[TensorType, ...]:
        return Eigh.infer(self, *operands)[:1]              # type: ignore[arg-type]

    def evaluate(self, *operands: np.ndarray) -> np.ndarray:
        found: np.ndarray = _solved(np.linalg.eigvalsh, operands[0], NO_EIGENVALUES)
        return found

    def errors(self, types: Sequence[TensorType], operands: Sequence[np.ndarray], errors: Sequence[np.ndarray | None],
               results: Sequence[np.ndarray]) -> Sequence[np.ndarray | None]:
        return (error_of_values(types[0], operands[0], errors[0], results[0]),)

    def vjp(self, b: Builder, operands: Sequence[Value], results: Sequence[Value],
            cotangents: Sequence[Value | None]) -> Sequence[Value | None]:
        (g,) = cotangents
        assert g is not None, "there is one result"
        _, v = b.emit(Eigh(), operands[0])
        return (_of_values(b, v, g),)

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        for a in ("f64[3,3]", "f64[2,4,4]", "f32[5,5]", "f64[0,0]", "f64[0,2,2]", "f64[3,0,0]"):
            yield given(cls(), _symmetric(a))


def _of_values(b: Builder, v: Value, g: Value) -> Value:
    found: Value = b.matmul(by_columns(b, v, g), b.transpose(v))
    return found


def _symmetric(type: str) -> np.ndarray:
    a = spread_out(type)
    return (a + np.swapaxes(a, -1, -2)) / a.dtype.type(2)


def _solved(solve: Callable[[np.ndarray], Any], a: np.ndarray, status: int, values: int | None = None) -> Any:
    """What NumPy's routine gives, an array or several of which one has the values. LinAlgError names the first matrix that
    has none, be it by NumPy's word or by a NaN among them."""
    try:
        found = solve(a)
    except np.linalg.LinAlgError:
        raise failure(status, a.shape, first_failing(solve, a)) from None
    is_nan = np.isnan(found if values is None else found[values])
    if is_nan.any():
        raise failure(status, a.shape, int(is_nan.reshape(-1, is_nan.shape[-1]).any(-1).argmax()))
    return found


@register("eig")
@dataclass(frozen=True)
class Eig(Stacked):
    """The real and the imaginary parts of matrices, [B..., N, N] each -> those of eigenvalues, [B..., N] each, and those of
    eigenvectors of length 1 in columns, [B..., N, N] each. What differentiates it works with complex numbers, and so is no
    rule of ops (`frontend/functions/complex_eigen.py`)."""

    kernel_kind = "library"

    def infer(self, *operands: TensorType) -> tuple[TensorType, ...]:
        check_arity(self, operands, 2)
        a = square(self, operands[0])
        if operands[1] != a:
            raise self.fail(f"parts differ in type: {a} and {operands[1]}")
        values = a.with_shape(a.shape[:-1])
        return values, values, a, a

    def evaluate(self, *operands: np.ndarray) -> tuple[np.ndarray, ...]:
        real, imag = operands
        a = real + 1j * imag if imag.any() else real        # pairs of conjugates are exactly that
        try:
            values, vectors = np.linalg.eig(a)
        except np.linalg.LinAlgError:
            raise failure(NOT_DIAGONALIZED, a.shape, first_failing(np.linalg.eig, a)) from None
        return tuple(np.asarray(part, real.dtype) for x in (values, vectors) for part in (x.real, x.imag))

    def errors(self, types: Sequence[TensorType], operands: Sequence[np.ndarray], errors: Sequence[np.ndarray | None],
               results: Sequence[np.ndarray]) -> Sequence[np.ndarray | None]:
        return unbounded(results)

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        for a in ("f64[3,3]", "f64[1,1]", "f64[2,4,4]", "f32[3,3]", "f64[0,0]", "f64[0,2,2]", "f64[3,0,0]"):
            real = spread_out(a)
            yield given(cls(), real, np.zeros_like(real))
            yield given(cls(), real, spread_out(a, seed=1) / 4)


@register("svd")
@dataclass(frozen=True)
class Svd(Stacked):
    """a: [B..., M, N] -> u, s, vh with u @ diag(s) @ vh = a: singular values s [B..., K] from the greatest, K = min(M, N);
    orthonormal columns of u [B..., M, K] and rows of vh [B..., K, N]; with `full` as many as there is room for,
    [B..., M, M] and [B..., N, N], of which the further ones have no derivative."""

    kernel_kind = "library"

    full: bool

    def infer(self, *operands: TensorType) -> tuple[TensorType, ...]:
        check_arity(self, operands, 1)
        a = matrices(self, operands[0])
        *batch, m, n = a.static_shape
        k = min(m, n)
        u, vh = (*batch, m, m if self.full else k), (*batch, n if self.full else k, n)
        return a.with_shape(u), a.with_shape((*batch, k)), a.with_shape(vh)

    def evaluate(self, *operands: np.ndarray) -> tuple[np.ndarray, ...]:
        solve = functools.partial(np.linalg.svd, full_matrices=self.full)
        return tuple(_solved(solve, operands[0], NO_SINGULAR_VALUES, values=1))

    def decompose(self, b: Builder, operands: Sequence[Value]) -> Sequence[Value] | None:
        """Of matrices without elements: nothing is to be computed."""
        (a,) = operands
        if a.type.numel:
            return None
        u, s, vh = self.infer(a.type)
        return (identity(b, a, *u.static_shape[-2:]), b.zeros(s), identity(b, a, *vh.static_shape[-2:]))

    def errors(self, types: Sequence[TensorType], operands: Sequence[np.ndarray], errors: Sequence[np.ndarray | None],
               results: Sequence[np.ndarray]) -> Sequence[np.ndarray | None]:
        u, s, vh = results
        return (*unbounded([u]), error_of_values(types[0], operands[0], errors[0], s), *unbounded([vh]))

    def vjp(self, b: Builder, operands: Sequence[Value], results: Sequence[Value],
            cotangents: Sequence[Value | None]) -> Sequence[Value | None]:
        """U [(F * skew(U^T dU)) S + S (F * skew(V^T dV)) + diag(ds)] V^T, and what of dU and dV lies beside U and V
        divided by S, with F_ij = 1 / (s_j^2 - s_i^2): J. Townsend, "Differentiating the singular value decomposition",
        2016."""
        (u, s, vh), (gu, gs, gvh) = results, cotangents
        m, n = operands[0].type.static_shape[-2:]
        k, everything = min(m, n), slice(None)
        first = slice(0, k)
        u, vh = part(b, u, everything, first), part(b, vh, first, everything)
        gu = None if gu is None else part(b, gu, everything, first)
        gvh = None if gvh is None else part(b, gvh, first, everything)
        if gu is None and gvh is None:
            assert gs is not None, "one of them is given"
            return (b.matmul(by_columns(b, u, gs), vh),)
        parts, middle = [], None
        inverse = b.div(b.full(s.type, 1.0), s)
        if gu is not None:
            product = b.matmul(b.transpose(u), gu)
            turned = b.mul(_doubly_skewed(b, product), _gaps(b, b.mul(s, s), product))
            middle = by_columns(b, turned, s)
            if m > k:
                beside = b.sub(gu, b.matmul(u, product))
                parts.append(b.matmul(by_columns(b, beside, inverse), vh))
        if gvh is not None:
            product = b.matmul(vh, b.transpose(gvh))
            turned = by_rows(b, b.mul(_doubly_skewed(b, product), _gaps(b, b.mul(s, s), product)), s)
            middle = turned if middle is None else b.add(middle, turned)
            if n > k:
                beside = b.sub(gvh, b.matmul(b.transpose(product), vh))
                parts.append(b.matmul(u, by_rows(b, beside, inverse)))
        assert middle is not None, "one of them is given"
        if gs is not None:
            middle = with_diagonal(b, middle, gs)
        found = b.matmul(b.matmul(u, middle), vh)
        for each in parts:
            found = b.add(found, each)
        return (found,)

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        for full in (False, True):
            for a in ("f64[3,3]", "f64[2,4,4]", "f32[3,3]"):
                yield given(cls(full), spread_out(a), differentiable=True)
            for a in ("f64[1,1]", "f64[20,20]", "f64[0,0]", "f64[3,0]", "f64[0,3]", "f64[0,2,2]", "f64[2,0,2]"):
                yield given(cls(full), spread_out(a))
        for a in ("f64[4,2]", "f64[2,4]", "f64[2,3,2]"):
            yield given(cls(full=False), spread_out(a), differentiable=True)
            yield given(cls(full=True), spread_out(a))


@register("svdvals")
@dataclass(frozen=True)
class Svdvals(Stacked):
    """The singular values of `Svd`, which costs more."""

    kernel_kind = "library"

    def infer(self, *operands: TensorType) -> tuple[TensorType, ...]:
        check_arity(self, operands, 1)
        return (Svd(full=False).infer(*operands)[1],)

    def evaluate(self, *operands: np.ndarray) -> np.ndarray:
        solve = functools.partial(np.linalg.svd, compute_uv=False)
        found: np.ndarray = _solved(solve, operands[0], NO_SINGULAR_VALUES)
        return found

    def errors(self, types: Sequence[TensorType], operands: Sequence[np.ndarray], errors: Sequence[np.ndarray | None],
               results: Sequence[np.ndarray]) -> Sequence[np.ndarray | None]:
        return (error_of_values(types[0], operands[0], errors[0], results[0]),)

    def vjp(self, b: Builder, operands: Sequence[Value], results: Sequence[Value],
            cotangents: Sequence[Value | None]) -> Sequence[Value | None]:
        (g,) = cotangents
        assert g is not None, "there is one result"
        u, _, vh = b.emit(Svd(full=False), operands[0])
        return (b.matmul(by_columns(b, u, g), vh),)

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        for a in ("f64[3,3]", "f64[4,2]", "f64[2,2,4]", "f32[3,3]"):
            yield given(cls(), spread_out(a), differentiable=True)
        for a in ("f64[0,0]", "f64[3,0]", "f64[0,2,2]"):
            yield given(cls(), spread_out(a))


# -- derivatives ------------------------------------------------------------------------------------------------------


def _gaps(b: Builder, values: Value, like: Value) -> Value:
    """1 / (values_j - values_i) at row i, column j; 0 on the diagonal. Infinite where two are equal."""
    rank = len(like.shape)
    of_columns = b.broadcast(values, like.shape, (*range(rank - 2), rank - 1))
    of_rows = b.broadcast(values, like.shape, tuple(range(rank - 1)))
    on_diagonal, one = compared(b, like, "eq"), b.scalar(1.0, like)
    gaps = b.where(on_diagonal, one, b.sub(of_columns, of_rows))
    return kept(b, b.div(b.full(like.type, 1.0), gaps), "ne")


def _skewed(b: Builder, x: Value) -> Value:
    """(x - x^T) / 2."""
    doubled = _doubly_skewed(b, x)
    found: Value = b.mul(doubled, b.scalar(0.5, doubled))
    return found


def _doubly_skewed(b: Builder, x: Value) -> Value:
    found: Value = b.sub(x, b.transpose(x))
    return found


__all__ = ["Eig", "Eigh", "Eigvalsh", "Svd", "Svdvals"]
