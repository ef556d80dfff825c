"""Softmax and normalization: one op each, so that their derivatives stay compact, decomposed before lowering.

f16 and bf16 operands are widened to f32 inside, and only results are rounded.
"""
from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from flambeau.ir import dtypes
from flambeau.ir.dims import Dim
from flambeau.ir.dtypes import DType
from flambeau.ir.op import Op, Sample, register
from flambeau.ir.ops.families import check_arity, check_dims, check_dtypes
from flambeau.ir.ops.sampling import drawn, given
from flambeau.ir.ops.views import product
from flambeau.ir.records import dataclass
from flambeau.ir.types import TensorType

if TYPE_CHECKING:
    from flambeau.ir.builder import Builder
    from flambeau.ir.graph import Value


def wide(dtype: DType) -> DType:
    """The dtype that an op with several steps computes in: f32 for f16 and bf16."""
    return dtypes.f32 if dtype.is_floating_point and dtype.itemsize == 2 else dtype


def widened(b: Builder, x: Value) -> Value:
    """x in the dtype that steps are computed in."""
    return b.cast(x, wide(x.dtype))


class _AlongDim(Op):
    """Same type out as in, computed along `dim` of a floating-point operand."""

    dim: int

    def infer(self, *operands: TensorType) -> tuple[TensorType, ...]:
        check_arity(self, operands, 1)
        check_dtypes(self, operands, "float")
        if not 0 <= self.dim < operands[0].rank:
            raise self.fail(f"dim {self.dim} is not a dim of {operands[0]}")
        return operands

    def batched(self, b: Builder, operands: Sequence[Value], mapped: Sequence[bool], size: int) -> Sequence[Value]:
        return (b.emit(type(self)(self.dim + 1), *operands),)       # type: ignore[call-arg]

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        for dim, shape in ((1, "f32[3,5]"), (0, "f32[4,2]"), (0, "f32[1]"), (1, "f32[0,3]"), (1, "f32[3,0]"),
                           (1, "f64[2,7]"), (1, "bf16[2,9]"), (2, "f16[2,1,5]"), (1, "f32[2,3,4]")):
            yield drawn(cls(dim), shape, tolerance=2.0)  # type: ignore[call-arg]
        rows = [[1e4, -1e4, 9.99e3], [-np.inf, 0.0, 1.0], [-np.inf] * 3, [np.nan, 0.0, 1.0], [np.inf, 0.0, 1.0]]
        yield given(cls(1), np.array(rows, np.float32))  # type: ignore[call-arg]


def _shifted(b: Builder, x: Value, dim: int) -> Value:
    """x minus its greatest element along dim, so that exp never overflows."""
    return b.sub(x, b.expand_reduced(b.amax(x, (dim,)), x.shape, (dim,)))


def _np_shifted(x: np.ndarray, dim: int) -> np.ndarray:
    wide_x = x.astype(np.float64)
    return wide_x - np.max(wide_x, dim, keepdims=True) if x.size else wide_x


@register("softmax")
@dataclass(frozen=True)
class Softmax(_AlongDim):
    """exp(x) / sum(exp(x)) along dim. Subtracts the greatest element first, so exp never overflows."""

    dim: int

    def evaluate(self, *operands: np.ndarray) -> np.ndarray:
        e = np.exp(_np_shifted(operands[0], self.dim))
        return np.asarray(e / np.sum(e, self.dim, keepdims=True))

    def vjp(self, b: Builder, operands: Sequence[Value], results: Sequence[Value],
            cotangents: Sequence[Value | None]) -> Sequence[Value | None]:
        """y * (g - sum(g * y))"""
        (g,), (x,) = cotangents, operands
        assert g is not None
        g, y = widened(b, g), widened(b, results[0])
        dot = b.sum(b.mul(g, y), (self.dim,))
        return (b.cast(b.mul(y, b.sub(g, b.expand_reduced(dot, y.shape, (self.dim,)))), x.dtype),)

    def jvp(self, b: Builder, operands: Sequence[Value], results: Sequence[Value],
            tangents: Sequence[Value | None]) -> Sequence[Value | None]:
        """The derivative is symmetric."""
        return self.vjp(b, operands, results, tangents)

    def decompose(self, b: Builder, operands: Sequence[Value]) -> Sequence[Value] | None:
        (x,) = operands
        if x.shape[self.dim] == 0:
            return (x,)
        e = b.exp(_shifted(b, widened(b, x), self.dim))
        total = b.sum(e, (self.dim,))
        return (b.cast(b.div(e, b.expand_reduced(total, x.shape, (self.dim,))), x.dtype),)


@register("safe_softmax")
@dataclass(frozen=True)
class SafeSoftmax(Softmax):
    """softmax along dim, and 0 where every element along it is -inf: nothing to attend to."""

    dim: int

    def evaluate(self, *operands: np.ndarray) -> np.ndarray:
        x = operands[0].astype(np.float64)
        return np.where(np.all(x == -np.inf, self.dim, keepdims=True), 0.0, super().evaluate(x))

    def decompose(self, b: Builder, operands: Sequence[Value]) -> Sequence[Value] | None:
        (x,) = operands
        if x.shape[self.dim] == 0:
            return (x,)
        wide_x = widened(b, x)
        top = b.amax(wide_x, (self.dim,))
        is_empty = b.eq(top, b.scalar(float("-inf"), top))
        top = b.where(is_empty, b.scalar(0.0, top), top)
        e = b.exp(b.sub(wide_x, b.expand_reduced(top, x.shape, (self.dim,))))
        total = b.sum(e, (self.dim,))
        total = b.where(is_empty, b.scalar(1.0, total), total)
        return (b.cast(b.div(e, b.expand_reduced(total, x.shape, (self.dim,))), x.dtype),)


@register("log_softmax")
@dataclass(frozen=True)
class LogSoftmax(_AlongDim):
    """x - log(sum(exp(x))) along dim, exact where softmax itself would be 0."""

    dim: int

    def evaluate(self, *operands: np.ndarray) -> np.ndarray:
        shifted = _np_shifted(operands[0], self.dim)
        return np.asarray(shifted - np.log(np.sum(np.exp(shifted), self.dim, keepdims=True)))

    def vjp(self, b: Builder, operands: Sequence[Value], results: Sequence[Value],
            cotangents: Sequence[Value | None]) -> Sequence[Value | None]:
        """g - exp(y) * sum(g)"""
        (g,), (x,) = cotangents, operands
        assert g is not None
        g, y = widened(b, g), widened(b, results[0])
        total = b.expand_reduced(b.sum(g, (self.dim,)), y.shape, (self.dim,))
        return (b.cast(b.sub(g, b.mul(b.exp(y), total)), x.dtype),)

    def jvp(self, b: Builder, operands: Sequence[Value], results: Sequence[Value],
            tangents: Sequence[Value | None]) -> Sequence[Value | None]:
        """t - sum(t * exp(y))"""
        (t,), (x,) = tangents, operands
        assert t is not None
        t, y = widened(b, t), widened(b, results[0])
        mean = b.expand_reduced(b.sum(b.mul(t, b.exp(y)), (self.dim,)), y.shape, (self.dim,))
        return (b.cast(b.sub(t, mean), x.dtype),)

    def decompose(self, b: Builder, operands: Sequence[Value]) -> Sequence[Value] | None:
        (x,) = operands
        if x.shape[self.dim] == 0:
            return (x,)
        shifted = _shifted(b, widened(b, x), self.dim)
        log_total = b.log(b.sum(b.exp(shifted), (self.dim,)))
        return (b.cast(b.sub(shifted, b.expand_reduced(log_total, x.shape, (self.dim,))), x.dtype),)


@register("normalize")
@dataclass(frozen=True)
class Normalize(Op):
    """x -> (y, mean, var): y = (x - mean) * rsqrt(var + eps), with mean and (biased) variance over `dims`.

    mean and var lose the dims; they are f32 for f16 and bf16 operands, else of x's dtype."""

    dims: tuple[int, ...]
    eps: float

    def infer(self, *operands: TensorType) -> tuple[TensorType, ...]:
        check_arity(self, operands, 1)
        check_dtypes(self, operands, "float")
        (x,) = operands
        check_dims(self, self.dims, x.rank, x)
        moment = x.with_shape(tuple(size for d, size in enumerate(x.shape) if d not in self.dims))
        moment = moment.with_dtype(wide(x.dtype))
        return (x, moment, moment)

    def evaluate(self, *operands: np.ndarray) -> tuple[np.ndarray, ...]:
        x, sums = operands[0].astype(np.float64), np.float64 if operands[0].dtype == np.float64 else np.float32
        mean = x.sum(self.dims, keepdims=True).astype(sums) / self._count(x.shape)
        x -= mean
        var = np.square(x).sum(self.dims, keepdims=True).astype(sums) / self._count(x.shape)
        x *= 1 / np.sqrt(var + self.eps)
        return x, np.squeeze(mean, self.dims), np.squeeze(var, self.dims)

    def _count(self, shape: Sequence[int]) -> np.float64:
        return np.float64(np.prod([shape[d] for d in self.dims], dtype=np.int64))

    def vjp(self, b: Builder, operands: Sequence[Value], results: Sequence[Value],
            cotangents: Sequence[Value | None]) -> Sequence[Value | None]:
        """With r = rsqrt(var + eps) and x - mean = y / r:
        r * (g - mean(g) - y * mean(g*y)) + (g_mean + 2 * g_var * (x - mean)) / n"""
        (x,), (y, _, var), (g, g_mean, g_var) = operands, results, cotangents
        y = widened(b, y)
        variance = b.add(var, b.scalar(self.eps, var))
        parts: list[Value] = []
        if g is not None:
            g = widened(b, g)
            along_y = b.mul(y, self._spread(b, self._mean(b, b.mul(g, y)), y))
            centred = b.sub(b.sub(g, self._spread(b, self._mean(b, g), y)), along_y)
            parts.append(b.mul(centred, self._spread(b, b.rsqrt(variance), y)))
        if g_mean is not None:
            parts.append(self._spread(b, self._share(b, g_mean, y), y))
        if g_var is not None:
            scale = b.mul(b.mul(g_var, b.scalar(2.0, g_var)), b.sqrt(variance))
            parts.append(b.mul(y, self._spread(b, self._share(b, scale, y), y)))
        total = parts[0]
        for part in parts[1:]:
            total = b.add(total, part)
        return (b.cast(total, x.dtype),)

    def jvp(self, b: Builder, operands: Sequence[Value], results: Sequence[Value],
            tangents: Sequence[Value | None]) -> Sequence[Value | None]:
        """With r = rsqrt(var + eps): r * (t - mean(t) - y * mean(t*y)), mean(t), 2 * mean(t*y) / r"""
        (x,), (y, _, var), (t,) = operands, results, tangents
        assert t is not None
        y, t = widened(b, y), widened(b, t)
        variance = b.add(var, b.scalar(self.eps, var))
        mean, along_y = self._mean(b, t), self._mean(b, b.mul(t, y))
        centred = b.sub(b.sub(t, self._spread(b, mean, y)), b.mul(y, self._spread(b, along_y, y)))
        scale = b.mul(b.mul(along_y, b.scalar(2.0, along_y)), b.sqrt(variance))
        return b.cast(b.mul(centred, self._spread(b, b.rsqrt(variance), y)), x.dtype), mean, scale

    def batched(self, b: Builder, operands: Sequence[Value], mapped: Sequence[bool], size: int) -> Sequence[Value]:
        y, mean, var = b.emit(Normalize(tuple(d + 1 for d in self.dims), self.eps), *operands)
        return y, mean, var

    def decompose(self, b: Builder, operands: Sequence[Value]) -> Sequence[Value] | None:
        (x,) = operands
        wide_x = widened(b, x)
        mean = self._mean(b, wide_x)
        centred = b.sub(wide_x, self._spread(b, mean, x))
        var = self._mean(b, b.mul(centred, centred))
        r = b.rsqrt(b.add(var, b.scalar(self.eps, var)))
        return (b.cast(b.mul(centred, self._spread(b, r, x)), x.dtype), mean, var)

    def _spread(self, b: Builder, moment: Value, x: Value) -> Value:
        return b.expand_reduced(moment, x.shape, self.dims)

    def _mean(self, b: Builder, x: Value) -> Value:
        return self._share(b, b.sum(x, self.dims), x)

    def _share(self, b: Builder, total: Value, x: Value) -> Value:
        """total / number of elements of x along the dims."""
        count = product([x.shape[d] for d in self.dims])
        if isinstance(count, Dim):
            return b.mul(total, b.reciprocal(b.number(count, total.dtype)))
        return b.mul(total, b.scalar(1.0 / count if count else float("nan"), total))

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        for dims, eps, shape in (((1,), 1e-5, "f32[3,7]"), ((0, 2), 1e-3, "f32[3,2,4]"), ((0,), 1e-5, "f32[5]"),
                                 ((1,), 1e-5, "f64[2,6]"), ((1, 2), 1e-6, "f32[2,3,3]"), ((1,), 1e-5, "f32[0,4]"),
                                 ((1,), 1e-5, "bf16[2,16]"), ((0,), 1e-5, "f16[9,2]")):
            yield drawn(cls(dims, eps), shape, tolerance=4.0)
        yield given(cls((1,), 1e-5), np.zeros((2, 0), np.float32))
        yield drawn(cls((1,), 0.1), "f32[3,1]")
