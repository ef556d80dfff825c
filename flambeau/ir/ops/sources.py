"""Ops that make numbers from no numbers: constants, counting, random bits."""
from __future__ import annotations

import operator
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Final

import numpy as np

from flambeau.ir import dtypes
from flambeau.ir.dims import Size
from flambeau.ir.dtypes import DType, to_compute
from flambeau.ir.index_maps import Index, linearize
from flambeau.ir.literal import Literal, literal
from flambeau.ir.op import Op, Sample, ScalarContext, register
from flambeau.ir.ops.families import check_arity, check_sizes
from flambeau.ir.ops.sampling import drawn, given
from flambeau.ir.philox import philox_4x32
from flambeau.ir.records import dataclass
from flambeau.ir.types import TensorType

if TYPE_CHECKING:
    from flambeau.ir.builder import Builder
    from flambeau.ir.graph import Value


@register("constant")
@dataclass(frozen=True)
class Constant(Op):
    """An array written in the program."""

    value: Literal

    def infer(self, *operands: TensorType) -> tuple[TensorType, ...]:
        check_arity(self, operands, 0)
        return (self.value.type,)

    def evaluate(self, *operands: np.ndarray) -> np.ndarray:
        return to_compute(self.value.array, self.value.dtype)

    @property
    def is_pointwise(self) -> bool:
        """One number is written into the code; an array is read from memory."""
        return self.value.array.size == 1

    def scalar(self, ctx: ScalarContext, index: tuple[Index, ...], operands: tuple[TensorType, ...],
               result: TensorType) -> int:
        return ctx.const(self.value.item(), self.value.dtype)

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        for value, dtype in ((1.5, dtypes.f32), (float("nan"), dtypes.bf16), (-0.0, dtypes.f64), (True, dtypes.bool_),
                             (-7, dtypes.i8), ([[1, 2, 3], [4, 5, 6]], dtypes.f32), ([], dtypes.f32)):
            yield Sample(cls(literal(value, dtype)), (), ())


@register("count")
@dataclass(frozen=True)
class Count(Op):
    """A size as a number, i64: what a program computes with where sizes have names."""

    size: Size

    def infer(self, *operands: TensorType) -> tuple[TensorType, ...]:
        check_arity(self, operands, 0)
        return (TensorType((), dtypes.i64),)

    def evaluate(self, *operands: np.ndarray) -> np.ndarray:
        return np.array(operator.index(self.size), np.int64)

    @property
    def is_pointwise(self) -> bool:
        """It is written into the code, once it is known."""
        return True

    def scalar(self, ctx: ScalarContext, index: tuple[Index, ...], operands: tuple[TensorType, ...],
               result: TensorType) -> int:
        assert isinstance(self.size, int), f"the number of the symbolic size {self.size}"
        return ctx.const(self.size, dtypes.i64)

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        for size in (0, 7, 1 << 40):
            yield Sample(cls(size), (), ())


@register("iota")
@dataclass(frozen=True)
class Iota(Op):
    """0, 1, ... size-1 in `dtype`."""

    size: Size
    dtype: DType

    def infer(self, *operands: TensorType) -> tuple[TensorType, ...]:
        check_arity(self, operands, 0)
        if self.dtype is dtypes.bool_ or self.size < 0:
            raise self.fail(f"counts from 0 to a size in a number dtype, asked for {self.size} in {self.dtype}")
        result = TensorType((self.size,), self.dtype)
        check_sizes(self, result)
        return (result,)

    def evaluate(self, *operands: np.ndarray) -> np.ndarray:
        return np.arange(operator.index(self.size)).astype(self.dtype.compute)

    def scalar(self, ctx: ScalarContext, index: tuple[Index, ...], operands: tuple[TensorType, ...],
               result: TensorType) -> int:
        position = ctx.value_of(index[0])
        return position if self.dtype is dtypes.i64 else ctx.emit("cast", self.dtype, position)

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        for size, dtype in ((5, dtypes.i64), (0, dtypes.i64), (1, dtypes.f32), (300, dtypes.bf16), (300, dtypes.u8)):
            yield Sample(cls(size, dtype), (), ())


_IN_CACHE: Final = 8192                     # numbers made at a time


@register("random_bits")
@dataclass(frozen=True)
class RandomBits(Op):
    """Uniform bits of Philox-4x32-10. key: i64[2] = (seed, offset) -> `dtype` (u32 or u64) of `shape`.

    Element i in row-major order is word 0 (u32), or word 0 | word 1 << 32 (u64), of the block with counter
    (i, offset) under key `seed`: a pure function, so it folds into its consumer and never depends on threads.
    """

    shape: tuple[Size, ...]
    dtype: DType

    def infer(self, *operands: TensorType) -> tuple[TensorType, ...]:
        check_arity(self, operands, 1)
        (key,) = operands
        if key.dtype is not dtypes.i64 or key.shape != (2,):
            raise self.fail(f"takes the key (seed, offset) as i64[2], found {key}")
        if self.dtype not in (dtypes.u32, dtypes.u64):
            raise self.fail(f"gives u32 or u64, asked for {self.dtype}")
        result = TensorType(self.shape, self.dtype, key.device)
        check_sizes(self, result)
        return (result,)

    def evaluate(self, *operands: np.ndarray) -> np.ndarray:
        seed, offset = (int(k) % 2**64 for k in operands[0])
        count = int(np.prod(np.array(self.shape, np.int64)))
        bits = np.empty(count, self.dtype.storage)
        for start in range(0, count, _IN_CACHE):
            counter = np.arange(start, min(start + _IN_CACHE, count), dtype=np.uint64)
            low, high, _, _ = philox_4x32(counter, offset, seed)
            found = low if self.dtype is dtypes.u32 else low | high.astype(np.uint64) << np.uint64(32)
            bits[start:start + _IN_CACHE] = found
        return bits.reshape(self.shape)

    def vjp(self, b: Builder, operands: Sequence[Value], results: Sequence[Value],
            cotangents: Sequence[Value | None]) -> Sequence[Value | None]:
        return (None,)

    def scalar(self, ctx: ScalarContext, index: tuple[Index, ...], operands: tuple[TensorType, ...],
               result: TensorType) -> int:
        seed, offset = (ctx.emit("cast", dtypes.u64, ctx.operand(0, (Index(k),))) for k in (0, 1))
        position = ctx.emit("cast", dtypes.u64, ctx.value_of(linearize(index, result.static_shape)))
        low = ctx.emit("philox", dtypes.u32, position, offset, seed, attr=0)
        if self.dtype is dtypes.u32:
            return low
        high = ctx.emit("philox", dtypes.u32, position, offset, seed, attr=1)
        low, high = (ctx.emit("cast", dtypes.u64, word) for word in (low, high))
        return ctx.emit("or", dtypes.u64, low, ctx.emit("shl", dtypes.u64, high, ctx.const(32, dtypes.u64)))

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        yield given(cls((2, 3), dtypes.u32), np.array([0, 0]))
        yield given(cls((7,), dtypes.u64), np.array([-1, 2**62]))
        yield given(cls((), dtypes.u32), np.array([12345, 6]))
        yield drawn(cls((0, 4), dtypes.u64), "i64[2]")
