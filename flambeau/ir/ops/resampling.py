"""Elements along a dim as weighted sums of a few others: adaptive average pooling, bilinear interpolation.

A matrix product would do, but for its zeros: times an infinity or a NaN they spread it over the whole dim.
"""
from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from flambeau.ir import dtypes
from flambeau.ir.literal import Literal, literal
from flambeau.ir.op import Sample, register
from flambeau.ir.ops.families import Linear, check_arity, check_dtypes
from flambeau.ir.ops.indexing import Take
from flambeau.ir.ops.normalization import widened
from flambeau.ir.ops.sampling import drawn
from flambeau.ir.types import TensorType

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
    size: int
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

    def evaluate(self, *operands: np.ndarray) -> np.ndarray:
        (x,), sources = operands, self.sources.array
        along: tuple[Any, ...] = (slice(None),) * self.dim
        total = np.zeros((*x.shape[:self.dim], len(sources), *x.shape[self.dim + 1:]))
        for source, weight in zip(sources.T, self.weights.array.T, strict=True):
            there = np.flatnonzero(source != NOTHING)
            shape = (len(there), *(1,) * (x.ndim - self.dim - 1))
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
        """A gather of all terms, and their sum."""
        (x,), sources = operands, self.sources.array
        present = sources != NOTHING
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


def weighted_sums(dim: int, size: int, terms: Sequence[Sequence[tuple[int, float]]]) -> Resample:
    """The op whose element i along dim is the sum of weight * x[source] over the pairs (source, weight) terms[i]."""
    width = max([len(row) for row in terms], default=0)
    sources, weights = np.full((len(terms), width), NOTHING, np.int64), np.zeros((len(terms), width))
    for i, row in enumerate(terms):
        for k, (source, weight) in enumerate(row):
            sources[i, k], weights[i, k] = source, weight
    return Resample(dim, size, literal(sources, dtypes.i64), literal(weights, dtypes.f64))
