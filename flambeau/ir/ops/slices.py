"""Cutting out, padding, joining and overwriting: index maps whose pieces come from several places (or are zero).

Slice and pad are each other's transpose; concat's is a slice for each operand.
"""
from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from flambeau.ir.dims import Size, same
from flambeau.ir.index_maps import Index
from flambeau.ir.op import Op, Sample, ScalarContext, register
from flambeau.ir.ops.batching import results_of, spread_all
from flambeau.ir.ops.families import Linear, View, check_arity, check_dtypes, check_sizes
from flambeau.ir.ops.sampling import drawn
from flambeau.ir.ops.views import divmod_index
from flambeau.ir.records import dataclass
from flambeau.ir.types import Shape, TensorType

if TYPE_CHECKING:
    from flambeau.ir.builder import Builder
    from flambeau.ir.graph import Value


@register("slice")
@dataclass(frozen=True)
class Slice(View):
    """x[starts[0]:limits[0]:strides[0], ...], with 0 <= start <= limit <= size and stride >= 1."""

    starts: Shape
    limits: Shape
    strides: tuple[int, ...]
    keeps_all = False

    def infer(self, *operands: TensorType) -> tuple[TensorType, ...]:
        check_arity(self, operands, 1)
        (x,) = operands
        if not len(self.starts) == len(self.limits) == len(self.strides) == x.rank:
            raise self.fail(f"needs a start, a limit and a stride for each of the {x.rank} dims of {x}, "
                            f"got {self.starts}, {self.limits}, {self.strides}")
        shape = tuple(self._size(x, d) for d in range(x.rank))
        return (x.with_shape(shape),)

    def _size(self, x: TensorType, d: int) -> Size:
        start, limit, stride, size = self.starts[d], self.limits[d], self.strides[d], x.shape[d]
        if stride == 1 and same(start, 0) and same(limit, size):
            return size
        if not (stride >= 1 and 0 <= start <= limit <= size):
            raise self.fail(f"{start}:{limit}:{stride} does not lie in dim {d} of {x}")
        return (limit - start + stride - 1) // stride

    def evaluate(self, *operands: np.ndarray) -> np.ndarray:
        places: tuple[Any, ...] = (*map(slice, self.starts, self.limits, self.strides), ...)
        return operands[0][places]          # with the ellipsis rank 0 is an array, not a number

    def transpose(self, b: Builder, operands: Sequence[Value], cotangent: Value) -> Sequence[Value | None]:
        low, high = [], []
        for size, taken, start, stride in zip(operands[0].shape, cotangent.shape, self.starts, self.strides,
                                              strict=True):
            low.append(start)
            span = taken if stride == 1 else (taken - 1) * stride + 1 if taken else 0
            high.append(0 if same(size, taken) else size - start - span)
        return (b.emit(Pad(tuple(low), tuple(high), tuple(s - 1 for s in self.strides)), cotangent),)

    def scalar(self, ctx: ScalarContext, index: tuple[Index, ...], operands: tuple[TensorType, ...],
               result: TensorType) -> int:
        return ctx.operand(0, tuple(i * stride + start for i, start, stride
                                    in zip(index, self.starts, self.strides, strict=True)))

    def strides_through(self, shape: Sequence[int], strides: tuple[int, ...]) -> tuple[int, ...] | None:
        return tuple([s * step for s, step in zip(strides, self.strides, strict=True)])

    def shape_after(self, shape: Sequence[int]) -> tuple[int, ...]:
        return tuple([(stop - start + step - 1) // step
                      for start, stop, step in zip(self.starts, self.limits, self.strides, strict=True)])

    def replaced(self, b: Builder, around: Any, value: Any) -> Any:
        return b.emit(UpdateSlice(self.starts, self.strides), around, value)

    def on_batch(self, size: int) -> Slice:
        return Slice((0, *self.starts), (size, *self.limits), (1, *self.strides))

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        yield drawn(cls((1,), (4,), (1,)), "f32[5]")
        yield drawn(cls((1, 0), (6, 3), (2, 1)), "f32[7,3]")
        yield drawn(cls((0, 1), (5, 2), (3, 1)), "f32[5,2]")
        yield drawn(cls((2,), (2,), (1,)), "f32[5]")
        yield drawn(cls((), (), ()), "f32[]")
        yield drawn(cls((0, 0), (0, 2), (1, 1)), "f32[0,2]")
        yield drawn(cls((1,), (5,), (3,)), "bf16[6]")
        yield drawn(cls((0,), (3,), (2,)), "bool[3]")


@register("pad")
@dataclass(frozen=True)
class Pad(Linear):
    """Zeros around and between: low[d] before, high[d] after, interior[d] between neighbours. None is negative."""

    low: Shape
    high: Shape
    interior: tuple[int, ...]

    def infer(self, *operands: TensorType) -> tuple[TensorType, ...]:
        check_arity(self, operands, 1)
        (x,) = operands
        if not len(self.low) == len(self.high) == len(self.interior) == x.rank:
            raise self.fail(f"needs low, high and interior for each of the {x.rank} dims of {x}, "
                            f"got {self.low}, {self.high}, {self.interior}")
        if any(n < 0 for n in (*self.low, *self.high, *self.interior)):
            raise self.fail(f"low {self.low}, high {self.high}, interior {self.interior}: none may be negative",
                            "use slice to crop")
        result = x.with_shape(tuple(low + self._span(x, d) + high
                                    for d, (low, high) in enumerate(zip(self.low, self.high, strict=True))))
        check_sizes(self, result)
        return (result,)

    def _span(self, x: TensorType, d: int) -> Size:
        size, gap = x.shape[d], self.interior[d]
        return size + max(size - 1, 0) * gap if gap else size

    def _places(self, shape: Sequence[int]) -> tuple[slice, ...]:
        return tuple(slice(low, low + max(0, (size - 1) * (gap + 1) + 1) if size else low, gap + 1)
                     for low, size, gap in zip(self.low, shape, self.interior, strict=True))

    def evaluate(self, *operands: np.ndarray) -> np.ndarray:
        (x,) = operands
        shape = [low + size + max(size - 1, 0) * gap + high for low, size, gap, high
                 in zip(self.low, x.shape, self.interior, self.high, strict=True)]
        padded = np.zeros(shape, x.dtype)
        padded[self._places(x.shape)] = x
        return padded

    def transpose(self, b: Builder, operands: Sequence[Value], cotangent: Value) -> Sequence[Value | None]:
        x = operands[0].type
        limits = tuple(low + self._span(x, d) for d, low in enumerate(self.low))
        return (b.emit(Slice(self.low, limits, tuple(gap + 1 for gap in self.interior)), cotangent),)

    def batched(self, b: Builder, operands: Sequence[Value], mapped: Sequence[bool], size: int) -> Sequence[Value]:
        return (b.emit(Pad((0, *self.low), (0, *self.high), (0, *self.interior)), *operands),)

    def scalar(self, ctx: ScalarContext, index: tuple[Index, ...], operands: tuple[TensorType, ...],
               result: TensorType) -> int:
        (x,) = operands
        if x.numel == 0:
            return ctx.const(0, x.dtype)
        guard, found = None, []
        for i, low, gap, size in zip(index, self.low, self.interior, x.static_shape, strict=True):
            position, is_inside = strided_position(ctx, i, low, gap + 1, size)
            found.append(position)
            guard = ctx.both(guard, is_inside)
        return ctx.operand(0, tuple(found), guard)

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        yield drawn(cls((1,), (2,), (0,)), "f32[3]")
        yield drawn(cls((0, 1), (1, 0), (2, 0)), "f32[3,2]")
        yield drawn(cls((1, 2), (0, 1), (1, 3)), "f32[2,3]")
        yield drawn(cls((2,), (1,), (1,)), "f32[0]")
        yield drawn(cls((0, 0), (0, 0), (0, 1)), "f32[0,3]")
        yield drawn(cls((), (), ()), "f32[]")
        yield drawn(cls((1,), (1,), (1,)), "bool[3]")
        yield drawn(cls((1,), (1,), (0,)), "bf16[2]")


def strided_position(ctx: ScalarContext, index: Index, start: Any, stride: int, size: int) -> tuple[Index, int | None]:
    """(p, guard) with p = (index - start) / stride; the guard says that p is whole and in [0, size)."""
    offset = index - start
    guard = ctx.within(offset, 0, (size - 1) * stride + 1)
    if stride == 1:
        return offset, guard
    quotient, remainder = divmod_index(ctx, offset, stride)
    return quotient, ctx.both(guard, ctx.within(remainder, 0, 1))


@register("concat")
@dataclass(frozen=True)
class Concat(Linear):
    """Any number of operands, one after another along `dim`. by_parts: its kernel walks them one after another, where a
    loop over the result asks of each of its points which part it lies in."""

    dim: int
    by_parts: bool = False

    @property
    def is_pointwise(self) -> bool:
        return not self.by_parts

    @property
    def kernel_kind(self) -> str | None:
        return "join" if self.by_parts else "loop"

    def infer(self, *operands: TensorType) -> tuple[TensorType, ...]:
        if not operands:
            raise self.fail("takes at least one operand, got 0")
        check_dtypes(self, operands, "any")
        first = operands[0]
        if not 0 <= self.dim < first.rank:
            raise self.fail(f"dim {self.dim} is not a dim of {first}")
        along: Size = 0
        for position, t in enumerate(operands):
            if t.rank != first.rank or any(a != b for d, (a, b) in enumerate(zip(t.shape, first.shape, strict=True))
                                           if d != self.dim):
                raise self.fail(f"operand {position} is {t}, operand 0 is {first}: they may differ in dim "
                                f"{self.dim} only")
            along = t.shape[self.dim] + along
        return (first.with_shape((*first.shape[:self.dim], along, *first.shape[self.dim + 1:])),)

    def evaluate(self, *operands: np.ndarray) -> np.ndarray:
        return np.concatenate(operands, self.dim)

    def transpose(self, b: Builder, operands: Sequence[Value], cotangent: Value) -> Sequence[Value | None]:
        found: list[Value | None] = []
        start = 0
        for x in operands:
            starts, limits = [0] * len(x.shape), list(x.shape)
            starts[self.dim], limits[self.dim] = start, start + x.shape[self.dim]
            found.append(b.emit(Slice(tuple(starts), tuple(limits), (1,) * len(starts)), cotangent))
            start += x.shape[self.dim]
        return found

    def batched(self, b: Builder, operands: Sequence[Value], mapped: Sequence[bool], size: int) -> Sequence[Value]:
        return (b.emit(replace(self, dim=self.dim + 1), *spread_all(b, operands, mapped, size)),)

    def scalar(self, ctx: ScalarContext, index: tuple[Index, ...], operands: tuple[TensorType, ...],
               result: TensorType) -> int:
        ends = np.cumsum([t.static_shape[self.dim] for t in operands]).tolist()
        chosen = -1
        for position in reversed(range(len(operands))):
            size = operands[position].static_shape[self.dim]
            start, along = ends[position] - size, index[self.dim]
            if size == 0:
                continue
            inside = ctx.within(along, start, ends[position])
            there = (*index[:self.dim], along - start, *index[self.dim + 1:])
            value = ctx.operand(position, there, inside)
            if chosen < 0 or inside is None:
                chosen = value
            else:
                chosen = ctx.emit("select", result.dtype, inside, value, chosen)
        return chosen if chosen >= 0 else ctx.const(0, result.dtype)

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        yield drawn(cls(0), "f32[2]", "f32[3]")
        yield drawn(cls(1), "f32[2,1]", "f32[2,3]", "f32[2,2]")
        yield drawn(cls(0), "f32[0,2]", "f32[3,2]", "f32[0,2]")
        yield drawn(cls(0), "f32[3]")
        yield drawn(cls(0), "f32[0]", "f32[0]")
        yield drawn(cls(0), "i64[1]", "i64[2]")
        yield drawn(cls(1), "bf16[1,2]", "bf16[1,1]")
        yield drawn(cls(1, by_parts=True), "f32[2,1]", "f32[2,3]", "f32[2,0]", "f32[2,2]")
        yield drawn(cls(0, by_parts=True), "f32[2,1,3]", "f32[2,1,3]")
        yield drawn(cls(0, by_parts=True), "f32[0]", "f32[0]")


@register("split")
@dataclass(frozen=True)
class Split(Op):
    """x -> its parts along `dim`, of the given sizes: concat undone. Beside one slice for each part, its derivative is one
    concat and no sum of padded parts, whose work would grow with the square of their number."""

    dim: int
    sizes: Shape

    def infer(self, *operands: TensorType) -> tuple[TensorType, ...]:
        check_arity(self, operands, 1)
        (x,) = operands
        if not self.sizes or not 0 <= self.dim < x.rank:
            raise self.fail(f"needs parts, and a dim of {x}; got sizes {self.sizes} of dim {self.dim}")
        if any(size < 0 for size in self.sizes) or sum(self.sizes) != x.shape[self.dim]:
            raise self.fail(f"sizes {self.sizes} do not add up to dim {self.dim} of {x}")
        return tuple([x.with_shape((*x.shape[:self.dim], size, *x.shape[self.dim + 1:])) for size in self.sizes])

    def evaluate(self, *operands: np.ndarray) -> tuple[np.ndarray, ...]:
        (x,), lead = operands, (slice(None),) * self.dim
        ends = np.cumsum(np.array(self.sizes, np.int64)).tolist()
        return tuple([x[(*lead, slice(end - size, end))] for end, size in zip(ends, self.sizes, strict=True)])

    def vjp(self, b: Builder, operands: Sequence[Value], results: Sequence[Value],
            cotangents: Sequence[Value | None]) -> Sequence[Value | None]:
        parts = [b.zeros(part.type) if ct is None else ct for part, ct in zip(results, cotangents, strict=True)]
        return (b.emit(Concat(self.dim), *parts),)

    def jvp(self, b: Builder, operands: Sequence[Value], results: Sequence[Value],
            tangents: Sequence[Value | None]) -> Sequence[Value | None]:
        return results_of(b.emit(self, *tangents))              # type: ignore[arg-type]

    def batched(self, b: Builder, operands: Sequence[Value], mapped: Sequence[bool], size: int) -> Sequence[Value]:
        return results_of(b.emit(Split(self.dim + 1, self.sizes), *operands))

    def decompose(self, b: Builder, operands: Sequence[Value]) -> Sequence[Value]:
        (x,), found, start = operands, [], 0
        for size in self.sizes:
            starts, limits = [0] * len(x.shape), list(x.shape)
            starts[self.dim], limits[self.dim] = start, start + size
            found.append(b.emit(Slice(tuple(starts), tuple(limits), (1,) * len(starts)), x))
            start += size
        return found

    def errors(self, types: Sequence[TensorType], operands: Sequence[np.ndarray], errors: Sequence[np.ndarray | None],
               results: Sequence[np.ndarray]) -> Sequence[np.ndarray | None]:
        return [None] * len(self.sizes) if errors[0] is None else self.evaluate(errors[0])

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        yield drawn(cls(0, (2, 1)), "f32[3]")
        yield drawn(cls(1, (1, 3, 0, 2)), "f32[2,6]")
        yield drawn(cls(0, (3,)), "f64[3,2]")
        yield drawn(cls(0, (0,)), "f32[0,2]")
        yield drawn(cls(1, (2, 2)), "i64[1,4]")
        yield drawn(cls(0, (1, 1)), "bf16[2,2]")
        yield drawn(cls(0, (1, 2)), "bool[3]")


@register("update_slice")
@dataclass(frozen=True)
class UpdateSlice(Linear):
    """(x, update) -> x with the elements at starts[d] + i*strides[d] replaced by the update's."""

    starts: Shape
    strides: tuple[int, ...]

    def infer(self, *operands: TensorType) -> tuple[TensorType, ...]:
        check_arity(self, operands, 2)
        check_dtypes(self, operands, "any")
        x, update = operands
        if not len(self.starts) == len(self.strides) == x.rank == update.rank:
            raise self.fail(f"needs a start and a stride for each dim of {x}, which an update of the same rank; got "
                            f"{self.starts}, {self.strides} and {update}")
        for d, (start, stride) in enumerate(zip(self.starts, self.strides, strict=True)):
            size, count = x.shape[d], update.shape[d]
            if stride == 1 and same(start, 0) and same(size, count):
                continue
            if stride < 1 or start < 0 or not (start + (count - 1) * stride < size or count == 0):
                raise self.fail(f"{count} elements from {start} by {stride} do not fit in dim {d} of {x}")
        return (x,)

    def _places(self, update: Sequence[int]) -> tuple[slice, ...]:
        return tuple(slice(start, self._limit(start, count, stride), stride)
                     for start, count, stride in zip(self.starts, update, self.strides, strict=True))

    @staticmethod
    def _limit(start: Size, count: Size, stride: int) -> Size:
        if stride == 1:
            return start + count
        return start + (count - 1) * stride + 1 if count else start

    def evaluate(self, *operands: np.ndarray) -> np.ndarray:
        x, update = operands
        result = np.array(x)
        result[self._places(update.shape)] = update
        return result

    def transpose(self, b: Builder, operands: Sequence[Value], cotangent: Value) -> Sequence[Value | None]:
        update = operands[1]
        limits = tuple(self._limit(*part) for part in zip(self.starts, update.shape, self.strides, strict=True))
        return (b.emit(self, cotangent, b.zeros(update.type)),
                b.emit(Slice(self.starts, limits, self.strides), cotangent))

    def batched(self, b: Builder, operands: Sequence[Value], mapped: Sequence[bool], size: int) -> Sequence[Value]:
        return (b.emit(UpdateSlice((0, *self.starts), (1, *self.strides)), *spread_all(b, operands, mapped, size)),)

    def scalar(self, ctx: ScalarContext, index: tuple[Index, ...], operands: tuple[TensorType, ...],
               result: TensorType) -> int:
        update = operands[1]
        if update.numel == 0:
            return ctx.operand(0, index)
        guard, found = None, []
        for i, start, stride, count in zip(index, self.starts, self.strides, update.static_shape, strict=True):
            position, is_inside = strided_position(ctx, i, start, stride, count)
            found.append(position)
            guard = ctx.both(guard, is_inside)
        new = ctx.operand(1, tuple(found), guard)
        return new if guard is None else ctx.emit("select", result.dtype, guard, new, ctx.operand(0, index))

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        yield drawn(cls((1,), (1,)), "f32[5]", "f32[3]")
        yield drawn(cls((0, 1), (2, 1)), "f32[5,3]", "f32[3,2]")
        yield drawn(cls((0, 0), (1, 1)), "f32[2,2]", "f32[2,2]")
        yield drawn(cls((4,), (1,)), "f32[4]", "f32[0]")
        yield drawn(cls((), ()), "f32[]", "f32[]")
        yield drawn(cls((1,), (3,)), "i64[6]", "i64[2]")
        yield drawn(cls((1,), (1,)), "bf16[3]", "bf16[2]")
