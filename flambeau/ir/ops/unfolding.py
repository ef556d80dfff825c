"""Windows along a dim laid out as a dim of their own, and the sum that puts them back: each the other's transpose."""
from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from flambeau.ir import dtypes
from flambeau.ir.dims import Size
from flambeau.ir.index_maps import Index
from flambeau.ir.op import Op, Sample, ScalarContext, register
from flambeau.ir.ops.families import Linear, View, check_arity, check_dtypes
from flambeau.ir.ops.indexing import ScatterAdd
from flambeau.ir.ops.normalization import wide, widened
from flambeau.ir.ops.pooling import are_few, covering
from flambeau.ir.ops.sampling import drawn
from flambeau.ir.ops.slices import Slice, UpdateSlice, strided_position
from flambeau.ir.ops.windows import Axis
from flambeau.ir.records import dataclass
from flambeau.ir.types import TensorType

if TYPE_CHECKING:
    from flambeau.ir.builder import Builder
    from flambeau.ir.graph import Value


class _Unfolding(Op):
    """Attributes that both share. Element t of window o stands at o*step + t*dilation."""

    dim: int
    taps: int
    step: int
    dilation: int

    def axis(self, size: Size) -> Axis:
        """The windows along `size` elements. Raises TypeInferenceError if there are none."""
        if min(self.taps, self.step, self.dilation) < 1:
            raise self.fail(f"taps {self.taps}, step {self.step} and dilation {self.dilation} must be positive")
        axis = Axis(size, self.taps, self.step, dilation=self.dilation)
        if axis.count < 1:
            raise self.fail(f"a window of {axis.span} elements does not fit into {size}")
        return axis

    def check_dim(self, x: TensorType, rank: int) -> None:
        if not 0 <= self.dim < rank:
            raise self.fail(f"dim {self.dim} is not a dim of {x} that holds windows")


@register("windows")
@dataclass(frozen=True)
class Windows(_Unfolding, View):
    """Dim `dim` becomes the windows along it, whose elements are a new last dim: y[..., o, ..., t] is
    x[..., o*step + t*dilation, ...]. Windows may overlap."""

    dim: int
    taps: int
    step: int
    dilation: int
    keeps_all = False

    def infer(self, *operands: TensorType) -> tuple[TensorType, ...]:
        check_arity(self, operands, 1)
        (x,) = operands
        self.check_dim(x, x.rank)
        return (x.with_shape(self.shape_after(x.static_shape)),)

    @property
    def overlaps(self) -> bool:
        """Whether an element can be in two windows."""
        return self.step < Axis(1, self.taps, dilation=self.dilation).span

    def evaluate(self, *operands: np.ndarray) -> np.ndarray:
        (x,) = operands
        strides = (*x.strides[:self.dim], x.strides[self.dim] * self.step, *x.strides[self.dim + 1:],
                   x.strides[self.dim] * self.dilation)
        return np.lib.stride_tricks.as_strided(x, self.shape_after(x.shape), strides, writeable=not self.overlaps)

    def transpose(self, b: Builder, operands: Sequence[Value], cotangent: Value) -> Sequence[Value | None]:
        size = operands[0].shape[self.dim]
        return (b.emit(WindowsSum(size, self.dim, self.taps, self.step, self.dilation), cotangent),)

    def scalar(self, ctx: ScalarContext, index: tuple[Index, ...], operands: tuple[TensorType, ...],
               result: TensorType) -> int:
        at = index[self.dim] * self.step + index[-1] * self.dilation
        return ctx.operand(0, (*index[:self.dim], at, *index[self.dim + 1:-1]))

    def strides_through(self, shape: Sequence[int], strides: tuple[int, ...]) -> tuple[int, ...] | None:
        own = strides[self.dim]
        return (*strides[:self.dim], own * self.step, *strides[self.dim + 1:], own * self.dilation)

    def on_batch(self, size: int) -> Windows:
        return Windows(self.dim + 1, self.taps, self.step, self.dilation)

    def shape_after(self, shape: Sequence[int]) -> tuple[int, ...]:
        return (*shape[:self.dim], self.axis(shape[self.dim]).count, *shape[self.dim + 1:], self.taps)

    def replaced(self, b: Builder, around: Any, value: Any) -> Any:
        if self.overlaps:
            return super().replaced(b, around, value)
        shape = tuple(value.shape)
        count, rank = shape[self.dim], len(shape)
        by_tap = self.taps <= count         # one update for each tap, or for each window
        along = rank - 1 if by_tap else self.dim
        for i in range(shape[along]):
            starts, limits = [0] * rank, list(shape)
            starts[along], limits[along] = i, i + 1
            part = b.emit(Slice(tuple(starts), tuple(limits), (1,) * rank), value)
            places, strides = [0] * (rank - 1), [1] * (rank - 1)
            if by_tap:
                places[self.dim], strides[self.dim] = i * self.dilation, self.step
                part = b.reshape(part, shape[:-1])
            else:
                places[self.dim], strides[self.dim] = i * self.step, self.dilation
                order = (*range(self.dim), rank - 1, *range(self.dim, rank - 1))
                kept = (*shape[:self.dim], self.taps, *shape[self.dim + 1:-1])
                part = b.reshape(b.permute(part, order), kept)
            around = b.emit(UpdateSlice(tuple(places), tuple(strides)), around, part)
        return around

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        for x, op in _cases():
            yield drawn(cls(*op), x)
        yield drawn(cls(0, 2, 2, 1), "bool[5]")
        yield drawn(cls(1, 2, 1, 1), "i64[2,4]")


@register("windows_sum")
@dataclass(frozen=True)
class WindowsSum(_Unfolding, Linear):
    """Windows [..., o, ..., t] added up where they stand along dim `dim`, of `size` elements."""

    size: Size
    dim: int
    taps: int
    step: int
    dilation: int

    def infer(self, *operands: TensorType) -> tuple[TensorType, ...]:
        check_arity(self, operands, 1)
        check_dtypes(self, operands, "number")
        (x,) = operands
        self.check_dim(x, x.rank - 1)
        count = self.axis(self.size).count
        if x.shape[self.dim] != count or x.shape[-1] != self.taps:
            raise self.fail(f"takes {count} windows of {self.taps} along dim {self.dim}, found {x}")
        return (x.with_shape((*x.shape[:self.dim], self.size, *x.shape[self.dim + 1:-1])),)

    def evaluate(self, *operands: np.ndarray) -> np.ndarray:
        (x,), axis = operands, self.axis(self.size)
        dtype = np.float64 if x.dtype.kind == "f" else x.dtype
        total = np.zeros((*x.shape[:self.dim], self.size, *x.shape[self.dim + 1:-1]), dtype)
        along: tuple[Any, ...] = (slice(None),) * self.dim
        for tap in range(self.taps):
            total[(*along, axis.places(tap))] += x[..., tap]
        return total

    def transpose(self, b: Builder, operands: Sequence[Value], cotangent: Value) -> Sequence[Value | None]:
        return (b.emit(Windows(self.dim, self.taps, self.step, self.dilation), cotangent),)

    @property
    def is_pointwise(self) -> bool:
        """Few windows cover an element."""
        return are_few(self.axis(self.size))

    def scalar(self, ctx: ScalarContext, index: tuple[Index, ...], operands: tuple[TensorType, ...],
               result: TensorType) -> int:
        axis, dtype, total = self.axis(self.size), wide(result.dtype), -1
        place = index[self.dim]
        for window, is_there in covering(ctx, axis, place):
            tap, is_tap = strided_position(ctx, place - window * self.step, 0, self.dilation, self.taps)
            found = (*index[:self.dim], window, *index[self.dim + 1:], tap)
            part = ctx.operand(0, found, ctx.both(is_there, is_tap))
            part = part if dtype is result.dtype else ctx.emit("cast", dtype, part)
            total = part if total < 0 else ctx.emit("add", dtype, total, part)
        return total if dtype is result.dtype else ctx.emit("cast", result.dtype, total)

    def decompose(self, b: Builder, operands: Sequence[Value]) -> Sequence[Value] | None:
        """Many windows over an element: a scattered sum."""
        if self.is_pointwise:
            return None
        (x,), axis = operands, self.axis(self.size)
        rank = len(x.shape)
        ordered = b.permute(widened(b, x), (*range(self.dim + 1), rank - 1, *range(self.dim + 1, rank - 1)))
        shape = (axis.count, self.taps)
        first, tap = (b.mul(b.iota(count, dtypes.i64), b.scalar(step, dtypes.i64))
                      for count, step in zip(shape, (self.step, self.dilation), strict=True))
        places = b.add(b.broadcast(first, shape, (0,)), b.broadcast(tap, shape, (1,)))
        sums = b.emit(ScatterAdd(self.size, self.dim), places, ordered)
        return (b.cast(sums, x.dtype),)

    def batched(self, b: Builder, operands: Sequence[Value], mapped: Sequence[bool], size: int) -> Sequence[Value]:
        return (b.emit(WindowsSum(self.size, self.dim + 1, self.taps, self.step, self.dilation), *operands),)

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        for x, (dim, *rest) in _cases():
            size = int(x[x.index("[") + 1:-1].split(",")[dim])
            op = Windows(dim, *rest)
            yield drawn(cls(size, dim, *rest), _windows_type(op, x))
        yield drawn(cls(4, 1, 2, 1, 1), "i64[2,3,2]")


def _windows_type(op: Windows, x: str) -> str:
    dtype, _, sizes = x[:-1].partition("[")
    shape = op.shape_after([int(size) for size in sizes.split(",")])
    return f"{dtype}[{','.join(map(str, shape))}]"


def _cases() -> Iterator[tuple[str, tuple[int, int, int, int]]]:
    """(x, (dim, taps, step, dilation))"""
    yield "f32[7]", (0, 3, 1, 1)
    yield "f32[2,7,3]", (1, 2, 2, 1)
    yield "f32[2,9]", (1, 3, 2, 2)
    yield "f64[3,8]", (0, 1, 2, 1)
    yield "f32[2,5]", (1, 5, 3, 1)
    yield "bf16[6,2]", (0, 2, 3, 1)
    yield "f32[0,5]", (1, 2, 1, 1)
    yield "f32[40]", (0, 20, 1, 1)
