"""Discrete Fourier transforms of the last dim, whose complex numbers are pairs: real and imaginary parts in a dim of 2.

None is scaled: the backward transform of the forward one is n times what it began with. Each is linear, and its
derivative is one of the others."""
from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from flambeau.ir import dtypes
from flambeau.ir.dims import Dim, Size
from flambeau.ir.op import Op, Sample, register
from flambeau.ir.ops.batching import Stacked
from flambeau.ir.ops.families import Linear, check_arity
from flambeau.ir.ops.sampling import draw, given
from flambeau.ir.records import dataclass
from flambeau.ir.types import TensorType, parse_type

if TYPE_CHECKING:
    from flambeau.ir.builder import Builder
    from flambeau.ir.graph import Value


@register("fft")
@dataclass(frozen=True)
class Fft(Stacked, Linear):
    """x: [B..., N, 2] -> y: [B..., N, 2] with y_k = sum over j of x_j exp(-2 pi i j k / N), or with +2 if `inverse`."""

    kernel_kind = "library"

    inverse: bool

    def infer(self, *operands: TensorType) -> tuple[TensorType, ...]:
        check_arity(self, operands, 1)
        return (_pairs(self, operands[0]),)

    def evaluate(self, *operands: np.ndarray) -> np.ndarray:
        (x,) = operands
        if not x.size:
            return np.zeros_like(x)
        numbers = _numbers(x)
        return _parts(np.fft.ifft(numbers, norm="forward") if self.inverse else np.fft.fft(numbers))

    def errors(self, types: Sequence[TensorType], operands: Sequence[np.ndarray], errors: Sequence[np.ndarray | None],
               results: Sequence[np.ndarray]) -> Sequence[np.ndarray | None]:
        return (_spread(types[0], operands[0], errors[0], results[0], (-2, -1)),)

    def vjp(self, b: Builder, operands: Sequence[Value], results: Sequence[Value],
            cotangents: Sequence[Value | None]) -> Sequence[Value | None]:
        (g,) = cotangents
        assert g is not None, "there is one result"
        return (b.emit(Fft(not self.inverse), g),)

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        for inverse in (False, True):
            for x in ("f64[4,2]", "f64[2,3,2]", "f32[5,2]", "f64[1,2]", "f64[2,2,8,2]", "f64[0,3,2]", "f64[3,0,2]"):
                yield given(cls(inverse), draw(parse_type(x)), differentiable=True)


@register("rfft")
@dataclass(frozen=True)
class Rfft(Stacked, Linear):
    """x: [B..., N], real -> the first N // 2 + 1 of what `Fft` gives, [B..., N // 2 + 1, 2]: the others are conjugates."""

    kernel_kind = "library"

    def infer(self, *operands: TensorType) -> tuple[TensorType, ...]:
        check_arity(self, operands, 1)
        (x,) = operands
        if x.dtype not in (dtypes.f32, dtypes.f64) or not x.rank:
            raise self.fail(f"takes f32 or f64 with a dim, found {x}")
        return (x.with_shape((*x.shape[:-1], x.static_shape[-1] // 2 + 1, 2)),)

    def evaluate(self, *operands: np.ndarray) -> np.ndarray:
        (x,) = operands
        if not x.size:
            return np.zeros((*x.shape[:-1], x.shape[-1] // 2 + 1, 2), x.dtype)
        return _parts(np.fft.rfft(x))

    def errors(self, types: Sequence[TensorType], operands: Sequence[np.ndarray], errors: Sequence[np.ndarray | None],
               results: Sequence[np.ndarray]) -> Sequence[np.ndarray | None]:
        return (_spread(types[0], operands[0], errors[0], results[0], (-1,)),)

    def vjp(self, b: Builder, operands: Sequence[Value], results: Sequence[Value],
            cotangents: Sequence[Value | None]) -> Sequence[Value | None]:
        """The real part of the sum over the half that there is: `Irfft` counts all but the first, and the last of an even
        N, twice."""
        (x,), (g,) = operands, cotangents
        assert g is not None, "there is one result"
        n = x.type.static_shape[-1]
        if not n:
            return (b.zeros(x.type),)
        return (b.emit(Irfft(bool(n % 2)), _weighted(b, g, n, 0.5)),)

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        for x in ("f64[4]", "f64[2,3]", "f32[5]", "f64[1]", "f64[2,2,8]", "f64[0,3]", "f64[2]"):
            yield given(cls(), draw(parse_type(x)), differentiable=True)


@register("irfft")
@dataclass(frozen=True)
class Irfft(Stacked, Linear):
    """x: [B..., M, 2] -> y: [B..., N], N = 2 M - 2, or 2 M - 1 if `odd`: the real backward transform of the numbers of
    which x has the first M, the others being conjugates. Of x_0, and of the last of an even N, the real part counts."""

    kernel_kind = "library"

    odd: bool

    def infer(self, *operands: TensorType) -> tuple[TensorType, ...]:
        check_arity(self, operands, 1)
        x = _pairs(self, operands[0])
        n = 2 * x.static_shape[-2] - (1 if self.odd else 2)
        if n < 1:
            raise self.fail(f"gives one number at least, found {x}")
        return (x.with_shape((*x.shape[:-2], n)),)

    def evaluate(self, *operands: np.ndarray) -> np.ndarray:
        (x,) = operands
        n = 2 * x.shape[-2] - (1 if self.odd else 2)
        if not x.size:
            return np.zeros((*x.shape[:-2], n), x.dtype)
        return np.asarray(np.fft.irfft(_numbers(x), n, norm="forward"))

    def errors(self, types: Sequence[TensorType], operands: Sequence[np.ndarray], errors: Sequence[np.ndarray | None],
               results: Sequence[np.ndarray]) -> Sequence[np.ndarray | None]:
        return (_spread(types[0], 2.0 * operands[0], None if errors[0] is None else 2.0 * errors[0], results[0], (-2, -1)),)

    def vjp(self, b: Builder, operands: Sequence[Value], results: Sequence[Value],
            cotangents: Sequence[Value | None]) -> Sequence[Value | None]:
        (y,), (g,) = results, cotangents
        assert g is not None, "there is one result"
        return (_weighted(b, b.emit(Rfft(), g), y.type.static_shape[-1], 2.0),)

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        for odd in (False, True):
            for x in ("f64[3,2]", "f64[2,4,2]", "f32[5,2]", "f64[2,2]", "f64[2,2,3,2]", "f64[0,3,2]"):
                yield given(cls(odd), draw(parse_type(x)), differentiable=True)
        yield given(cls(odd=True), draw(parse_type("f64[1,2]")), differentiable=True)


def _pairs(op: Op, x: TensorType) -> TensorType:
    if x.dtype not in (dtypes.f32, dtypes.f64):
        raise op.fail(f"takes f32 or f64, found {x}")
    if x.rank < 2 or x.shape[-1] != 2:
        raise op.fail(f"takes pairs, a last dim of 2 after another, found {x}")
    return x


def _numbers(x: np.ndarray) -> np.ndarray:
    return np.asarray(np.ascontiguousarray(x).view(np.complex64 if x.dtype == np.float32 else np.complex128)[..., 0])


def _parts(numbers: np.ndarray) -> np.ndarray:
    return np.stack([numbers.real, numbers.imag], -1)


def _weighted(b: Builder, x: Value, n: Size, weight: float) -> Value:
    """[..., n // 2 + 1, 2] with all times `weight` but the first, and the last where n is even."""
    count = n // 2 + 1
    if isinstance(count, Dim):
        places = b.iota(count, dtypes.i64)
        is_once = b.eq(places, b.scalar(0, places))
        if n % 2 == 0:
            is_once = b.logical_or(is_once, b.eq(places, b.number(count - 1, dtypes.i64)))
        weights = b.where(is_once, b.scalar(1.0, x), b.full(TensorType((count,), x.dtype), weight))
    else:
        numbers = np.full(count, weight, x.dtype.storage)
        numbers[0] = 1.0
        if n % 2 == 0:
            numbers[-1] = 1.0
        weights = b.constant(numbers, x.dtype)
    found: Value = b.mul(x, b.broadcast(weights, x.shape, (len(x.shape) - 2,)))
    return found


def _spread(type: TensorType, x: np.ndarray, error: np.ndarray | None, result: np.ndarray,
            dims: tuple[int, ...]) -> np.ndarray:
    """Each result is a sum of all numbers times ones of size 1, over log2(n) levels of sums: P. Schatzman, "Accuracy of the
    discrete Fourier transform and the fast Fourier transform", 1996."""
    n = max(2, x.size // max(1, math.prod(x.shape[:dims[0]])))
    eps = float(np.finfo(type.dtype.storage).eps)
    off = eps * (8.0 + 8.0 * math.log2(n)) * np.abs(x).sum(axis=dims)
    if error is not None:
        off = off + np.abs(error).sum(axis=dims)
    return np.broadcast_to(off.reshape(*off.shape, *[1] * (result.ndim - off.ndim)), result.shape)


__all__ = ["Fft", "Irfft", "Rfft"]
