"""Elements along a dim as weighted sums of a few others: adaptive average pooling, bilinear interpolation.

A matrix product would do, but for its zeros: times an infinity or a NaN they spread it over the whole dim.
"""
from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from flambeau.ir import dtypes
from flambeau.ir.dims import Size
from flambeau.ir.index_maps import Index
from flambeau.ir.literal import Literal, literal
from flambeau.ir.op import Op, Sample, ScalarContext, register
from flambeau.ir.ops.families import Linear, check_arity, check_dtypes
from flambeau.ir.ops.indexing import ScatterAdd, Take
from flambeau.ir.ops.normalization import wide, widened
from flambeau.ir.ops.pooling import MAX_UNROLLED
from flambeau.ir.ops.sampling import drawn
from flambeau.ir.records import dataclass
from flambeau.ir.types import TensorType, parse_type

if TYPE_CHECKING:
    from flambeau.ir.builder import Builder
    from flambeau.ir.graph import Value

NOTHING: Final = -1                         # in place of a source: this term is left out


@register("resample")
@dataclass(frozen=True)
class Resample(Linear):
    """y[..., i, ...] = sum over k of weights[i, k] * x[..., sources[i, k], ...] along `dim`, whose size was `size`.
    sources: i64[n, k], NOTHING where a row has fewer terms; weights: f64[n, k]."""

    dim: int
    size: Size
    sources: Literal
    weights: Literal

    def infer(self, *operands: TensorType) -> tuple[TensorType, ...]:
        check_arity(self, operands, 1)
        check_dtypes(self, operands, "float")
        (x,) = operands
        if not 0 <= self.dim < x.rank or x.shape[self.dim] != self.size:
            raise self.fail(f"dim {self.dim} of {x} is not one of size {self.size}")
        if self.sources.type.shape != self.weights.type.shape or self.sources.type.rank != 2:
            raise self.fail(f"takes sources and weights [n, k], found {self.sources.type} and {self.weights.type}")
        if self.sources.array.size and not NOTHING <= self.sources.array.min() <= self.sources.array.max() < self.size:
            raise self.fail(f"a source lies outside dim {self.dim} of {x}")
        return (x.with_shape((*x.shape[:self.dim], self.sources.array.shape[0], *x.shape[self.dim + 1:])),)

    @property
    def is_written_out(self) -> bool:
        """Few terms, no row empty: added to one another, so that those of -0 make -0; else to a 0, as in `sum`."""
        sources = self.sources.array
        return 1 <= sources.shape[1] <= MAX_UNROLLED and bool((sources != NOTHING).any(1).all())

    def evaluate(self, *operands: np.ndarray) -> np.ndarray:
        (x,), sources = operands, self.sources.array
        along: tuple[Any, ...] = (slice(None),) * self.dim
        results = (*x.shape[:self.dim], len(sources), *x.shape[self.dim + 1:])
        total = np.full(results, -0.0 if self.is_written_out else 0.0)
        for source, weight in zip(sources.T, self.weights.array.T, strict=True):
            there: Any = np.flatnonzero(source != NOTHING)
            if len(there) == len(source):
                there = slice(None)         # in place, and a third of the time
            shape = (-1, *(1,) * (x.ndim - self.dim - 1))
            total[(*along, there)] += np.take(x, source[there], self.dim) * weight[there].reshape(shape)
        return total

    def transpose(self, b: Builder, operands: Sequence[Value], cotangent: Value) -> Sequence[Value | None]:
        rows, columns = np.nonzero(self.sources.array != NOTHING)
        terms: list[list[tuple[int, float]]] = [[] for _ in range(self.size)]
        for row, column in zip(rows.tolist(), columns.tolist(), strict=True):
            source = self.sources.array[row, column]
            terms[source].append((row, float(self.weights.array[row, column])))
        return (b.emit(weighted_sums(self.dim, self.sources.array.shape[0], terms), cotangent),)

    def batched(self, b: Builder, operands: Sequence[Value], mapped: Sequence[bool], size: int) -> Sequence[Value]:
        return (b.emit(replace(self, dim=self.dim + 1), *operands),)

    def decompose(self, b: Builder, operands: Sequence[Value]) -> Sequence[Value] | None:
        """Few terms: written out. Many: a gather of all of them, and their sum."""
        (x,), sources = operands, self.sources.array
        present = sources != NOTHING
        if self.is_written_out:
            places, shares = _filled(sources, self.weights.array)
            dtype = wide(x.dtype)
            return (b.emit(WeightedTaps(self.dim), x, b.constant(places.T.copy(), dtypes.i64),
                           b.constant(shares.T.astype(dtype.storage), dtype)),)
        taken = widened(b, b.emit(Take(self.dim), x, b.constant(np.where(present, sources, 0), dtypes.i64)))
        own = (self.dim, self.dim + 1)
        weights = b.cast(b.constant(self.weights.array, dtypes.f64), taken.dtype)
        terms = b.mul(taken, b.broadcast(weights, taken.shape, own))
        if not present.all():
            kept = b.broadcast(b.constant(present, dtypes.bool_), taken.shape, own)
            terms = b.where(kept, terms, b.scalar(0.0, terms))
        return (b.cast(b.sum(terms, (self.dim + 1,)), x.dtype),)

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        terms = [[(0, 0.5), (1, 0.5)], [(2, 1.0)], [(1, 0.25), (2, 0.5), (3, 0.25)], []]
        for dim, shape in ((0, "f32[4]"), (1, "f32[2,4]"), (1, "f32[2,4,3]"), (0, "bf16[4,2]"), (1, "f64[3,4]"),
                           (0, "f32[4,0]")):
            yield drawn(weighted_sums(dim, 4, terms), shape)
        yield drawn(weighted_sums(0, 2, [[(1, 2.0)], [(0, 3.0)], [(1, 1.0)]]), "f32[2]")
        yield drawn(weighted_sums(0, 2, []), "f32[2]")


def _filled(sources: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Every row with as many terms as the longest: its last one stands there again, and its weight is halved and halved
    again. A term of weight 0 would make NaN of an infinity."""
    places, shares = sources.copy(), weights.copy()
    for k in range(1, places.shape[1]):
        missing = places[:, k] == NOTHING
        shares[missing, k - 1] /= 2
        places[missing, k], shares[missing, k] = places[missing, k - 1], shares[missing, k - 1]
    return places, shares


@register("weighted_taps")
@dataclass(frozen=True)
class WeightedTaps(Op):
    """What becomes of `resample`: (x, sources i64[k, n], weights[k, n]) -> y with y[..., i, ...] = sum over k of
    weights[k, i] * x[..., sources[k, i], ...] along `dim`. The sources are known to lie in it."""

    dim: int
    reads_memory = True

    def infer(self, *operands: TensorType) -> tuple[TensorType, ...]:
        check_arity(self, operands, 3)
        x, sources, weights = operands
        check_dtypes(self, (x,), "float")
        if not 0 <= self.dim < x.rank:
            raise self.fail(f"dim {self.dim} is not a dim of {x}")
        if sources.dtype is not dtypes.i64 or sources.rank != 2 or sources.shape[0] == 0 or \
                weights.dtype is not wide(x.dtype) or weights.shape != sources.shape:
            raise self.fail(f"takes i64 sources [k, n] and as many weights {wide(x.dtype)}, found {sources} and {weights}")
        return (x.with_shape((*x.shape[:self.dim], sources.shape[1], *x.shape[self.dim + 1:])),)

    def evaluate(self, *operands: np.ndarray) -> np.ndarray:
        x, sources, weights = operands
        total = np.full((*x.shape[:self.dim], sources.shape[1], *x.shape[self.dim + 1:]), -0.0)
        for source, weight in zip(sources, weights, strict=True):
            total += np.take(x, source, self.dim) * weight.reshape(-1, *(1,) * (x.ndim - self.dim - 1))
        return total

    def vjp(self, b: Builder, operands: Sequence[Value], results: Sequence[Value],
            cotangents: Sequence[Value | None]) -> Sequence[Value | None]:
        (x, sources, weights), (ct,) = operands, cotangents
        assert ct is not None, "there is one result"
        taken = b.emit(Take(self.dim), x, sources)
        own = (self.dim, self.dim + 1)
        others = tuple([d for d in range(len(taken.shape)) if d not in own])
        spread = widened(b, b.broadcast(ct, taken.shape, tuple([d for d in range(len(taken.shape)) if d != self.dim])))
        shares = b.mul(spread, b.broadcast(weights, taken.shape, own))
        return (b.cast(b.emit(ScatterAdd(x.shape[self.dim], self.dim), sources, shares), x.dtype), None,
                b.sum(b.mul(spread, widened(b, taken)), others))

    def scalar(self, ctx: ScalarContext, index: tuple[Index, ...], operands: tuple[TensorType, ...],
               result: TensorType) -> int:
        x, sources, dtype, total = operands[0], operands[1], wide(result.dtype), -1
        for k in range(sources.static_shape[0]):
            own = (Index(k), index[self.dim])
            place = ctx.index_of(ctx.operand(1, own), x.static_shape[self.dim])
            tap = ctx.operand(0, (*index[:self.dim], place, *index[self.dim + 1:]))
            tap = tap if dtype is result.dtype else ctx.emit("cast", dtype, tap)
            part = ctx.emit("mul", dtype, tap, ctx.operand(2, own))
            total = part if total < 0 else ctx.emit("add", dtype, total, part)
        return total if dtype is result.dtype else ctx.emit("cast", result.dtype, total)

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        for dim, x, k, n in ((0, "f32[4]", 2, 3), (1, "f32[2,4,3]", 3, 5), (1, "bf16[2,3]", 1, 2), (2, "f64[2,1,3]", 2, 4),
                             (0, "f32[4,0]", 2, 2)):
            sample = drawn(cls(dim), x, f"i64[{k},{n}]", f"{wide(parse_type(x).dtype)}[{k},{n}]")
            size = sample.types[0].static_shape[dim]
            yield Sample(sample.op, (sample.operands[0], sample.operands[1] % size, sample.operands[2]), sample.types)


def weighted_sums(dim: int, size: int, terms: Sequence[Sequence[tuple[int, float]]]) -> Resample:
    """The op whose element i along dim is the sum of weight * x[source] over the pairs (source, weight) terms[i]."""
    width = max([len(row) for row in terms], default=0)
    sources, weights = np.full((len(terms), width), NOTHING, np.int64), np.zeros((len(terms), width))
    for i, row in enumerate(terms):
        for k, (source, weight) in enumerate(row):
            sources[i, k], weights[i, k] = source, weight
    return Resample(dim, size, literal(sources, dtypes.i64), literal(weights, dtypes.f64))
