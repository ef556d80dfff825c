"""2-d average pooling and its gradient, each the other's transpose.

padding: ((top, bottom), (left, right)), zeros. A window's sum is divided by `divisor_override`, or by its number of
elements: with count_include_pad those of the padding too (as far as it was asked for), else the real ones only.
"""
from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from flambeau.ir import dtypes
from flambeau.ir.index_maps import Index
from flambeau.ir.op import Sample, ScalarContext, register
from flambeau.ir.ops.families import Linear, check_arity, check_dtypes
from flambeau.ir.ops.normalization import wide, widened
from flambeau.ir.ops.pooling import (
    Pooling,
    are_few,
    covering,
    is_global,
    replaced,
    sample_cases,
)
from flambeau.ir.ops.sampling import drawn
from flambeau.ir.ops.windows import (
    Axis,
    Padding,
    Pair,
    Sizes,
    cropped,
    from_nhwc,
    padded,
    spatial,
    spatial_dims,
    to_nhwc,
    with_spatial,
)
from flambeau.ir.records import dataclass
from flambeau.ir.types import TensorType

if TYPE_CHECKING:
    from flambeau.ir.builder import Builder
    from flambeau.ir.graph import Value

_NO_PADDING = (0, 0)


class _AveragePooling(Pooling, Linear):
    """What the two share. Attributes: those of Pooling, count_include_pad, divisor_override."""

    count_include_pad: bool
    divisor_override: int | None
    dilation = (1, 1)

    @property
    def geometry(self) -> tuple[Pair, Pair, Padding, bool, bool, int | None, str]:
        return (self.kernel, self.stride, self.padding, self.ceil_mode, self.count_include_pad,
                self.divisor_override, self.layout)

    def divisors(self, rows: Axis, columns: Axis) -> np.ndarray:
        """f64[OH, OW, 1]"""
        if self.divisor_override is not None:
            return np.full((rows.count, columns.count, 1), float(self.divisor_override))
        high, wide_ = (axis.covered(with_padding=self.count_include_pad) for axis in (rows, columns))
        return np.outer(high, wide_)[:, :, None].astype(np.float64)

    def along(self, side: int, divisor: int | None) -> tuple[Pair, Pair, Padding, bool, bool, int | None, str]:
        """The geometry of pooling along height (0) or width (1) alone."""
        if side == 0:
            kernel, stride, padding = (self.kernel[0], 1), (self.stride[0], 1), (self.padding[0], _NO_PADDING)
        else:
            kernel, stride, padding = (1, self.kernel[1]), (1, self.stride[1]), (_NO_PADDING, self.padding[1])
        return (kernel, stride, padding, self.ceil_mode, self.count_include_pad, divisor, self.layout)

    @property
    def row_divisor(self) -> int | None:
        """What pooling along height divides by, if pooling along width is to divide by divisor_override."""
        return None if self.divisor_override is None else 1

    def average(self, ctx: ScalarContext, total: int, rows: Axis, columns: Axis, oh: Index, ow: Index,
                dtype: dtypes.DType) -> int:
        """total / the divisor of window (oh, ow)."""
        if self.divisor_override is not None:
            return ctx.emit("div", dtype, total, ctx.const(float(self.divisor_override), dtype))
        constant, counts = 1.0, []
        for axis, o in ((rows, oh), (columns, ow)):
            cover = axis.cover(with_padding=self.count_include_pad)
            if cover is not None:
                constant *= float(cover)
            else:
                counts.append(ctx.emit("cast", dtype, self._count(ctx, axis, o)))
        divisor = ctx.const(constant, dtype)
        for count in counts:
            divisor = ctx.emit("mul", dtype, divisor, count)
        return ctx.emit("div", dtype, total, divisor)

    def _count(self, ctx: ScalarContext, axis: Axis, o: Index) -> int:
        """i64: elements of window o along an axis; 1 for a window that isn't there, so that its guarded 0 stays 0."""
        start = o * axis.stride - axis.low
        limit = axis.size + (axis.high if self.count_include_pad else 0)
        stop = ctx.emit("min", dtypes.i64, ctx.value_of(start + axis.span), ctx.const(limit, dtypes.i64))
        first = ctx.value_of(start)
        if not self.count_include_pad:
            first = ctx.emit("max", dtypes.i64, first, ctx.const(0, dtypes.i64))
        return ctx.emit("max", dtypes.i64, ctx.emit("sub", dtypes.i64, stop, first), ctx.const(1, dtypes.i64))

    @property
    def _area(self) -> float:
        """What a window without padding is divided by."""
        return float(self.divisor_override if self.divisor_override is not None else self.kernel[0] * self.kernel[1])

    def check_divisor(self) -> None:
        if self.divisor_override == 0:
            raise self.fail("divisor_override is 0")


@register("avg_pool2d")
@dataclass(frozen=True)
class AvgPool2d(_AveragePooling):
    """x -> the average of each window."""

    kernel: Pair
    stride: Pair
    padding: Padding
    ceil_mode: bool
    count_include_pad: bool
    divisor_override: int | None
    layout: str

    def infer(self, *operands: TensorType) -> tuple[TensorType, ...]:
        check_arity(self, operands, 1)
        check_dtypes(self, operands, "float")
        self.check_divisor()
        rows, columns = self.axes_of(operands[0])
        return (with_spatial(operands[0], self.layout, (rows.count, columns.count)),)

    def evaluate(self, *operands: np.ndarray) -> np.ndarray:
        x = to_nhwc(operands[0].astype(np.float64), self.layout)
        rows, columns = self.axes(x.shape[1:3])
        images = padded(x, rows, columns)
        total = np.zeros((x.shape[0], rows.count, columns.count, x.shape[3]))
        for r, s in np.ndindex(*self.kernel):
            total += images[:, rows.places(r), columns.places(s)]
        if operands[0].dtype != np.float64:
            total = total.astype(np.float32)       # which a sum of a compiled kernel may overflow too
        return from_nhwc(total / self.divisors(rows, columns), self.layout)

    def transpose(self, b: Builder, operands: Sequence[Value], cotangent: Value) -> Sequence[Value | None]:
        size = spatial(self, operands[0].type, self.layout)
        return (b.emit(AvgPool2dGrad(size, *self.geometry), cotangent),)

    @property
    def is_pointwise(self) -> bool:
        """Few enough taps to write them out."""
        return self.is_small

    def scalar(self, ctx: ScalarContext, index: tuple[Index, ...], operands: tuple[TensorType, ...],
               result: TensorType) -> int:
        dims, (rows, columns) = spatial_dims(self, self.layout), self.axes_of(operands[0])
        oh, ow, dtype = index[dims[0]], index[dims[1]], wide(result.dtype)
        total = ctx.const(0.0, dtype)
        for r, s in np.ndindex(*self.kernel):
            h, w = oh * rows.stride + rows.first(r), ow * columns.stride + columns.first(s)
            guard = ctx.both(ctx.within(h, 0, rows.size), ctx.within(w, 0, columns.size))
            tap = ctx.operand(0, replaced(index, dims, h, w), guard)
            tap = tap if dtype is result.dtype else ctx.emit("cast", dtype, tap)
            total = ctx.emit("add", dtype, total, tap)
        mean = self.average(ctx, total, rows, columns, oh, ow, dtype)
        return mean if dtype is result.dtype else ctx.emit("cast", result.dtype, mean)

    def decompose(self, b: Builder, operands: Sequence[Value]) -> Sequence[Value] | None:
        """The whole plane: a sum. Many taps: rows and columns one after the other."""
        (x,) = operands
        rows, columns = self.axes_of(x.type)
        if is_global(rows, columns):
            wide_x, shape = widened(b, x), self.infer(x.type)[0].shape
            total = b.reshape(b.sum(wide_x, spatial_dims(self, self.layout)), shape)
            return (b.cast(b.mul(total, b.scalar(1.0 / self._area, total)), x.dtype),)
        if self.is_pointwise:
            return None
        value = widened(b, x)
        value = b.emit(AvgPool2d(*self.along(0, self.row_divisor)), value)
        value = b.emit(AvgPool2d(*self.along(1, self.divisor_override)), value)
        return (b.cast(value, x.dtype),)

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        for x, geometry in _sample_cases():
            yield drawn(cls(*geometry), x)


@register("avg_pool2d_grad")
@dataclass(frozen=True)
class AvgPool2dGrad(_AveragePooling):
    """ct -> each ct, divided as its window was, added to every element (of `input_size`) that the window covers."""

    input_size: Sizes
    kernel: Pair
    stride: Pair
    padding: Padding
    ceil_mode: bool
    count_include_pad: bool
    divisor_override: int | None
    layout: str

    def infer(self, *operands: TensorType) -> tuple[TensorType, ...]:
        check_arity(self, operands, 1)
        check_dtypes(self, operands, "float")
        self.check_divisor()
        self.check_grad(operands[0], self.input_size)
        return (with_spatial(operands[0], self.layout, self.input_size),)

    def evaluate(self, *operands: np.ndarray) -> np.ndarray:
        ct = to_nhwc(operands[0].astype(np.float64), self.layout)
        rows, columns = self.axes(self.input_size)
        total = padded(np.zeros((ct.shape[0], *self.input_size, ct.shape[3])), rows, columns)
        share = ct / self.divisors(rows, columns)
        for r, s in np.ndindex(*self.kernel):
            total[:, rows.places(r), columns.places(s)] += share
        return from_nhwc(cropped(total, rows, columns), self.layout)

    def transpose(self, b: Builder, operands: Sequence[Value], cotangent: Value) -> Sequence[Value | None]:
        return (b.emit(AvgPool2d(*self.geometry), cotangent),)

    @property
    def is_pointwise(self) -> bool:
        """Few windows cover an element."""
        rows, columns = self.axes(self.input_size)
        return 1 in self.kernel or are_few(rows, columns)

    def scalar(self, ctx: ScalarContext, index: tuple[Index, ...], operands: tuple[TensorType, ...],
               result: TensorType) -> int:
        dims, (rows, columns) = spatial_dims(self, self.layout), self.axes(self.input_size)
        h, w, dtype, total = index[dims[0]], index[dims[1]], wide(result.dtype), -1
        for oh, has_row in _covering(ctx, rows, h):
            for ow, has_column in _covering(ctx, columns, w):
                ct = ctx.operand(0, replaced(index, dims, oh, ow), ctx.both(has_row, has_column))
                ct = ct if dtype is result.dtype else ctx.emit("cast", dtype, ct)
                part = self.average(ctx, ct, rows, columns, oh, ow, dtype)
                total = part if total < 0 else ctx.emit("add", dtype, total, part)
        return total if dtype is result.dtype else ctx.emit("cast", result.dtype, total)

    def decompose(self, b: Builder, operands: Sequence[Value]) -> Sequence[Value] | None:
        """The whole plane: a broadcast. Many windows over an element: columns and rows one after the other."""
        (ct,) = operands
        rows, columns = self.axes(self.input_size)
        if is_global(rows, columns):
            share, shape = widened(b, ct), self.infer(ct.type)[0].shape
            share = b.mul(share, b.scalar(1.0 / self._area, share))
            return (b.broadcast(b.cast(share, ct.dtype), shape, (0, 1, 2, 3)),)
        if self.is_pointwise:
            return None
        value = widened(b, ct)
        value = b.emit(AvgPool2dGrad((rows.count, self.input_size[1]), *self.along(1, self.divisor_override)), value)
        value = b.emit(AvgPool2dGrad(self.input_size, *self.along(0, self.row_divisor)), value)
        return (b.cast(value, ct.dtype),)

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        for x, geometry in _sample_cases():
            pool = AvgPool2d(*geometry)
            (y,) = pool.infer(x)
            yield drawn(cls(spatial(pool, x, pool.layout), *geometry), y)


def _covering(ctx: ScalarContext, axis: Axis, position: Index) -> list[tuple[Index, int | None]]:
    """As `covering`, the guard saying also that the window reaches the position."""
    return [(o, ctx.both(guard, ctx.within(position + axis.low - o * axis.stride, 0, axis.span)))
            for o, guard in covering(ctx, axis, position)]


def _sample_cases() -> Iterator[tuple[TensorType, tuple]]:
    """(x, geometry) in both layouts, over all ways to count."""
    counts = ((True, None), (False, None), (True, 3), (False, 7))
    for number, (x, (kernel, stride, padding, dilation, layout, ceil_mode)) in enumerate(sample_cases()):
        include, divisor = counts[number // 2 % 4]
        if dilation == (1, 1):
            yield x, (kernel, stride, padding, ceil_mode, include, divisor, layout)
