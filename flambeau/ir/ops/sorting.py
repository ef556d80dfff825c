"""Orders. Equal elements stay as they stand, and NaN is greatest, whatever its sign; zeros of both signs are equal."""
from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Final

import numpy as np

from flambeau.ir import dtypes
from flambeau.ir.dims import Size
from flambeau.ir.op import Op, Sample, register
from flambeau.ir.ops.families import check_arity, check_dims
from flambeau.ir.ops.indexing import ScatterAlongAdd, TakeAlong
from flambeau.ir.ops.sampling import SPECIAL, drawn, given
from flambeau.ir.ops.slices import Slice
from flambeau.ir.records import dataclass
from flambeau.ir.types import TensorType

if TYPE_CHECKING:
    from flambeau.ir.builder import Builder
    from flambeau.ir.graph import Value

_NEAR: Final = 4.0                  # errors of a value, within which it may be: second-order terms


@register("sort")
@dataclass(frozen=True)
class Sort(Op):
    """x -> its elements in order along dim, and their i64 positions there. keep: only the first so many; None: all."""

    kernel_kind = "sort"
    dim: int
    descending: bool = False
    keep: Size | None = None

    def infer(self, *operands: TensorType) -> tuple[TensorType, ...]:
        check_arity(self, operands, 1)
        (x,) = operands
        check_dims(self, (self.dim,), x.rank, x)
        if self.keep is None:
            return x, x.with_dtype(dtypes.i64)
        size = x.shape[self.dim]
        if self.keep < 0 or self.keep > size:
            raise self.fail(f"can't keep {self.keep} elements along dim {self.dim} of {x}")
        kept = x.with_shape((*x.shape[:self.dim], self.keep, *x.shape[self.dim + 1:]))
        return kept, kept.with_dtype(dtypes.i64)

    def evaluate(self, *operands: np.ndarray) -> tuple[np.ndarray, ...]:
        (x,) = operands
        size = x.shape[self.dim]
        if self.descending:                     # from the back, so that equal elements keep their order
            order = size - 1 - np.flip(np.argsort(np.flip(x, self.dim), self.dim, kind="stable"), self.dim)
        else:
            order = np.argsort(x, self.dim, kind="stable")
        if self.keep is not None:
            order = np.take(order, np.arange(int(self.keep)), self.dim)
        return np.take_along_axis(x, order, self.dim), np.ascontiguousarray(order, np.int64)

    def vjp(self, b: Builder, operands: Sequence[Value], results: Sequence[Value],
            cotangents: Sequence[Value | None]) -> Sequence[Value | None]:
        g, size = cotangents[0], operands[0].shape[self.dim]
        return (None if g is None else b.emit(ScatterAlongAdd(size, self.dim), results[1], g),)

    def jvp(self, b: Builder, operands: Sequence[Value], results: Sequence[Value],
            tangents: Sequence[Value | None]) -> Sequence[Value | None]:
        (t,) = tangents
        assert t is not None, "there is one operand"
        return b.emit(TakeAlong(self.dim), t, results[1]), None

    def batched(self, b: Builder, operands: Sequence[Value], mapped: Sequence[bool], size: int) -> Sequence[Value]:
        values, places = b.emit(Sort(self.dim + 1, self.descending, self.keep), *operands)
        return values, places

    def errors(self, types: Sequence[TensorType], operands: Sequence[np.ndarray], errors: Sequence[np.ndarray | None],
               results: Sequence[np.ndarray]) -> Sequence[np.ndarray | None]:
        """The r-th value moves no further than to the r-th of the least, or the greatest, that all may be. Its position may
        be any where the next value is near."""
        (value,), (error,), dim = operands, errors, self.dim
        if error is None:
            return None, None
        whole = Sort(dim, self.descending)
        base, least, greatest = [whole.evaluate(v)[0] for v in (value, value - error, value + error)]
        steps = [np.where((v == base) | (np.isnan(v) & np.isnan(base)), 0.0, np.abs(v - base)) for v in (least, greatest)]
        gap = np.abs(np.diff(base.astype(np.float64), axis=dim))
        reach = 2 * _NEAR * error.max(axis=dim, keepdims=True, initial=0.0)
        is_near = (reach > 0) & ~(gap > reach)
        edges = [(int(d == dim),) * 2 for d in range(value.ndim)]           # nothing is near before the first
        is_near, kept = np.pad(is_near, edges), np.arange(value.shape[dim] if self.keep is None else int(self.keep))
        may_swap = np.take(is_near, kept, dim) | np.take(is_near, kept + 1, dim)
        return np.take(np.maximum(*steps), kept, dim), np.where(may_swap, np.inf, 0.0)

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        for dim, shape in ((0, "f32[5]"), (1, "f32[2,7]"), (0, "f32[3,2]"), (1, "f32[2,3,4]"), (0, "f32[0,2]"),
                           (1, "f32[0,2]"), (0, "f32[1]"), (0, "f64[9]"), (0, "bf16[6]"), (1, "f16[2,4]"),
                           (0, "i64[12]"), (1, "i32[3,5]"), (0, "i16[7]"), (0, "i8[6]"), (0, "u8[9]"), (0, "bool[5]"),
                           (0, "u32[4]"), (0, "u64[4]"), (1, "f32[2,150]"), (1, "i64[2,130]")):
            yield drawn(cls(dim), shape)
            yield drawn(cls(dim, descending=True), shape)
        for dim, keep, shape in ((0, 2, "f32[5]"), (1, 3, "f32[2,7,2]"), (0, 0, "f32[3]"), (1, 4, "i64[2,200]"),
                                 (1, 3, "f32[2,700]")):
            yield drawn(cls(dim, keep=keep), shape)
            yield drawn(cls(dim, True, keep), shape)
        for dtype in (np.float16, np.float32, np.float64):
            specials = np.array([*SPECIAL[:-1], -np.nan, 0.0, -0.0, np.inf], np.float64).astype(dtype)
            yield given(cls(0), specials)
            yield given(cls(0, descending=True), specials)
        for limits in (np.iinfo(np.int64), np.iinfo(np.uint64), np.iinfo(np.int8)):
            extremes = np.array([0, limits.max, limits.min, 1, limits.max, limits.max - 1], limits.dtype)
            yield given(cls(0), extremes)
            yield given(cls(0, True, 3), extremes)


@register("median")
@dataclass(frozen=True)
class Median(Op):
    """The lower middle of a vector: NaN if it holds one, or, to ignore_nan, of the elements that are none. Elements
    equal to it share its derivative."""

    ignore_nan: bool = False

    def infer(self, *operands: TensorType) -> tuple[TensorType, ...]:
        check_arity(self, operands, 1)
        (x,) = operands
        if x.rank != 1 or x.shape[0] == 0:
            raise self.fail(f"takes a vector with elements, found {x}")
        return (x.with_shape(()),)

    def evaluate(self, *operands: np.ndarray) -> np.ndarray:
        (x,) = operands
        is_nan = x != x
        if is_nan.all() or (is_nan.any() and not self.ignore_nan):
            return np.asarray(x[is_nan][0])
        numbers = x[~is_nan]
        return np.asarray(numbers[np.argsort(numbers, kind="stable")[(len(numbers) - 1) // 2]])

    def decompose(self, b: Builder, operands: Sequence[Value]) -> Sequence[Value] | None:
        (x,) = operands
        size = x.shape[0]
        if not x.dtype.is_floating_point:
            return (_element(b, b.emit(Sort(0, keep=(size + 1) // 2), x)[0], (size + 1) // 2 - 1),)
        values, _ = b.emit(Sort(0), x)
        if not self.ignore_nan:
            last = _element(b, values, size - 1)
            return (b.where(b.isnan(last), last, _element(b, values, (size - 1) // 2)),)
        numbers = b.sum(b.cast(b.logical_not(b.isnan(x)), dtypes.i64), (0,))
        most = b.maximum(b.sub(numbers, b.scalar(1, numbers)), b.scalar(0, numbers))
        middle = b.reshape(b.floor_divide(most, b.scalar(2, most)), (1,))
        return (b.reshape(b.emit(TakeAlong(0), values, middle), ()),)

    def vjp(self, b: Builder, operands: Sequence[Value], results: Sequence[Value],
            cotangents: Sequence[Value | None]) -> Sequence[Value | None]:
        (x,), (y,), (g,) = operands, results, cotangents
        is_middle = b.logical_or(b.eq(x, y), b.logical_and(b.isnan(x), b.isnan(y)))
        share = b.div(g, b.sum(b.cast(is_middle, x.dtype), (0,)))
        return (b.where(is_middle, share, b.scalar(0.0, x)),)

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        for ignore_nan in (False, True):
            for shape in ("f32[5]", "f32[6]", "f32[1]", "f64[9]", "bf16[4]", "f16[7]", "i64[8]", "u8[5]", "bool[4]"):
                yield drawn(cls(ignore_nan), shape)
            for row in ([np.nan, 1.0, 3.0, 2.0], [np.nan] * 3, [-0.0, 0.0, -0.0], [-np.inf, -np.inf, 1.0]):
                yield given(cls(ignore_nan), np.array(row, np.float32))


def _element(b: Builder, x: Value, place: Size) -> Value:
    """x[place] of a vector, of rank 0."""
    return b.reshape(b.emit(Slice((place,), (place + 1,), (1,)), x), ())
