"""2-d maximum pooling, its gradient, and the gradient's transpose.

Attributes as in convolution: padding is ((top, bottom), (left, right)) and never wins. `indices` are i32 flat
positions h*W + w in the input plane; the first maximum of a window wins, and a NaN is a maximum.
"""
from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from flambeau.ir import dtypes
from flambeau.ir.dims import Size, same
from flambeau.ir.index_maps import Index
from flambeau.ir.op import Sample, ScalarContext, register
from flambeau.ir.ops.families import Linear, check_arity, check_dtypes
from flambeau.ir.ops.indexing import ScatterAlongAdd, checked_index
from flambeau.ir.ops.normalization import wide
from flambeau.ir.ops.pooling import (
    Pooling,
    are_few,
    compute,
    covering,
    is_global,
    replaced,
    sample_cases,
)
from flambeau.ir.ops.reductions import AMax, ArgMax
from flambeau.ir.ops.sampling import draw, drawn, given
from flambeau.ir.ops.slices import Pad, Slice
from flambeau.ir.ops.views import divmod_index
from flambeau.ir.ops.windows import (
    Axis,
    Padding,
    Pair,
    Sizes,
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

@register("max_pool2d")
@dataclass(frozen=True)
class MaxPool2d(Pooling):
    """x -> (values, indices)."""

    kernel: Pair
    stride: Pair
    padding: Padding
    dilation: Pair
    layout: str
    ceil_mode: bool

    @property
    def geometry(self) -> tuple[Pair, Pair, Padding, Pair, str, bool]:
        return self.kernel, self.stride, self.padding, self.dilation, self.layout, self.ceil_mode

    def infer(self, *operands: TensorType) -> tuple[TensorType, ...]:
        check_arity(self, operands, 1)
        check_dtypes(self, operands, "number")
        rows, columns = self.axes_of(operands[0])
        y = with_spatial(operands[0], self.layout, (rows.count, columns.count))
        return (y, y.with_dtype(dtypes.i32))

    def evaluate(self, *operands: np.ndarray) -> tuple[np.ndarray, ...]:
        x = to_nhwc(operands[0], self.layout)
        rows, columns = self.axes(x.shape[1:3])
        images = padded(x, rows, columns)
        best = np.zeros((x.shape[0], rows.count, columns.count, x.shape[3]), x.dtype)
        indices = np.full(best.shape, -1, np.int32)
        for r, s in np.ndindex(*self.kernel):
            tap = images[:, rows.places(r), columns.places(s)]
            inside = np.outer(rows.is_inside(r), columns.is_inside(s))[:, :, None]
            better = inside & ((indices < 0) | ((best == best) & ~(tap <= best)))
            h = np.arange(rows.count) * rows.stride + rows.first(r)
            w = np.arange(columns.count) * columns.stride + columns.first(s)
            here = (h[:, None] * columns.size + w)[:, :, None]
            best, indices = np.where(better, tap, best), np.where(better, here, indices).astype(np.int32)
        if is_global(rows, columns):
            best = AMax((1, 2)).evaluate(x)[:, None, None]          # the greater of two zeros
        return from_nhwc(best, self.layout), from_nhwc(indices, self.layout)

    def vjp(self, b: Builder, operands: Sequence[Value], results: Sequence[Value],
            cotangents: Sequence[Value | None]) -> Sequence[Value | None]:
        g = cotangents[0]
        if g is None:
            return (None,)
        size = spatial(self, operands[0].type, self.layout)
        return (b.emit(MaxPool2dGrad(size, *self.geometry), g, results[1]),)

    def jvp(self, b: Builder, operands: Sequence[Value], results: Sequence[Value],
            tangents: Sequence[Value | None]) -> Sequence[Value | None]:
        (t,) = tangents
        assert t is not None, "there is one operand"
        return b.emit(MaxPool2dTake(*self.geometry), t, results[1]), None

    def decompose(self, b: Builder, operands: Sequence[Value]) -> Sequence[Value] | None:
        """Few taps: a running maximum over strided slices. Many: columns first, then rows. The whole plane: a
        reduction."""
        (x,) = operands
        rows, columns = self.axes(spatial(self, x.type, self.layout))
        if is_global(rows, columns):
            return self._reduced(b, x)
        if self.is_small:
            return self._running_maximum(b, x, rows, columns)
        (kh, kw), (sh, sw), (ph, pw), (dh, dw) = self.kernel, self.stride, self.padding, self.dilation
        along_w = MaxPool2d((1, kw), (1, sw), ((0, 0), pw), (1, dw), self.layout, self.ceil_mode)
        along_h = MaxPool2d((kh, 1), (sh, 1), (ph, (0, 0)), (dh, 1), self.layout, self.ceil_mode)
        row_best, row_indices = b.emit(along_w, x)
        values, chosen = b.emit(along_h, row_best)
        return (values, b.emit(MaxPool2dTake(*along_h.geometry), row_indices, chosen))

    def _reduced(self, b: Builder, x: Value) -> Sequence[Value]:
        to_nchw = (0, 1, 2, 3) if self.layout == "NCHW" else (0, 3, 1, 2)
        (_, indices_type), (h, w) = self.infer(x.type), spatial_dims(self, self.layout)
        plane = b.permute(x, to_nchw)
        plane = b.reshape(plane, (*plane.shape[:2], plane.shape[2] * plane.shape[3]))
        values = b.emit(AMax((h, w)), x)
        indices = b.cast(b.emit(ArgMax(2), plane), dtypes.i32)
        return (b.reshape(values, indices_type.shape), b.reshape(indices, indices_type.shape))

    def _running_maximum(self, b: Builder, x: Value, rows: Axis, columns: Axis) -> Sequence[Value]:
        windows = _TapWriter(b, x, rows, columns, spatial_dims(self, self.layout))
        best = indices = None
        for r, s in np.ndindex(*self.kernel):
            tap, here, inside = windows.tap(r, s), windows.position(r, s), windows.is_inside(r, s)
            if best is None or indices is None:
                best = tap
                indices = here if inside is None else b.where(inside, here, b.scalar(-1, dtypes.i32))
                continue
            better = b.logical_and(b.eq(best, best), b.logical_not(b.le(tap, best)))
            if windows.has_padding:
                better = b.logical_or(better, b.lt(indices, b.scalar(0, dtypes.i32)))
            if inside is not None:
                better = b.logical_and(better, inside)
            best, indices = b.where(better, tap, best), b.where(better, here, indices)
        assert best is not None and indices is not None, "a kernel has a tap"
        return (best, indices)

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        for x, geometry in sample_cases():
            yield drawn(cls(*geometry), x)
        yield drawn(cls((2, 2), (2, 2), ((0, 0), (0, 0)), (1, 1), "NCHW", False), "i32[1,2,4,4]")
        corner = np.array([[np.nan, 1, 2, np.nan], [3, -np.inf, -np.inf, 4], [5, -np.inf, 7, 7], [0.0, -0.0, 7, 7]])
        for padding in ((0, 0), (1, 1)):
            yield given(cls((2, 2), (1, 1), (padding, padding), (1, 1), "NCHW", False),
                        corner.astype(np.float32)[None, None])


class _TapWriter:
    """The taps of every window as values of the pooled shape."""

    def __init__(self, b: Builder, x: Value, rows: Axis, columns: Axis, dims: Pair):
        self.b, self.axes, self.dims = b, (rows, columns), dims
        shape = list(x.shape)
        shape[dims[0]], shape[dims[1]] = rows.count, columns.count
        self.shape = tuple(shape)
        self.has_padding = any(axis.low or axis.overhang for axis in self.axes)
        self.padded = x
        if self.has_padding:
            low, high = [0] * 4, [0] * 4
            for d, axis in zip(dims, self.axes, strict=True):
                low[d], high[d] = axis.low, axis.overhang
            self.padded = b.emit(Pad(tuple(low), tuple(high), (0,) * 4), x)
        self.base = b.add(self._along(0, self._counted(0, rows.stride * columns.size)),
                          self._along(1, self._counted(1, columns.stride)))

    def _counted(self, side: int, step: Size) -> Value:
        return self.b.mul(self.b.iota(self.axes[side].count, dtypes.i32), self.b.number(step, dtypes.i32))

    def _along(self, side: int, line: Value) -> Value:
        return self.b.broadcast(line, self.shape, (self.dims[side],))

    def tap(self, r: int, s: int) -> Value:
        """The element under the tap, zero on padding."""
        starts, limits, strides = [0] * 4, list(self.padded.shape), [1] * 4
        for d, axis, t in zip(self.dims, self.axes, (r, s), strict=True):
            place = axis.places(t)
            starts[d], limits[d], strides[d] = place.start, place.stop, place.step
        return self.b.emit(Slice(tuple(starts), tuple(limits), tuple(strides)), self.padded)

    def position(self, r: int, s: int) -> Value:
        """i32 flat position of the tap in the plane."""
        offset = self.axes[0].first(r) * self.axes[1].size + self.axes[1].first(s)
        return self.base if same(offset, 0) else self.b.add(self.base, self.b.number(offset, dtypes.i32))

    def is_inside(self, r: int, s: int) -> Value | None:
        """Whether the tap stands on a real element; None if it does in every window."""
        b, found = self.b, None
        for side, tap in enumerate((r, s)):
            axis = self.axes[side]
            if axis.is_always_inside(tap):
                continue
            place = b.add(self._counted(side, axis.stride), b.scalar(axis.first(tap), dtypes.i32))
            inside = b.logical_and(b.ge(place, b.scalar(0, dtypes.i32)), b.lt(place, b.number(axis.size, dtypes.i32)))
            inside = self._along(side, inside)
            found = inside if found is None else b.logical_and(found, inside)
        return found


@register("max_pool2d_grad")
@dataclass(frozen=True)
class MaxPool2dGrad(Pooling, Linear):
    """(ct, indices) -> zeros of height and width `input_size`, to which each ct is added at its index. Each index
    lies in its own window, as max_pool2d gives it."""

    input_size: Sizes
    kernel: Pair
    stride: Pair
    padding: Padding
    dilation: Pair
    layout: str
    ceil_mode: bool

    @property
    def geometry(self) -> tuple[Pair, Pair, Padding, Pair, str, bool]:
        return self.kernel, self.stride, self.padding, self.dilation, self.layout, self.ceil_mode

    def infer(self, *operands: TensorType) -> tuple[TensorType, ...]:
        check_arity(self, operands, 2)
        ct, indices = operands
        if ct.shape != indices.shape or indices.dtype is not dtypes.i32:
            raise self.fail(f"takes a cotangent and i32 indices of one shape, found {ct}, {indices}")
        self.check_grad(ct, self.input_size)
        return (with_spatial(ct, self.layout, self.input_size),)

    def evaluate(self, *operands: np.ndarray) -> np.ndarray:
        ct, indices = (to_nhwc(a, self.layout) for a in operands)
        n, _, _, c = ct.shape
        size = self.input_size[0] * self.input_size[1]
        image, channel = np.arange(n)[:, None, None, None], np.arange(c)
        place = (image * size + indices) * c + channel
        total = np.bincount(place.ravel(), ct.ravel(), n * size * c).astype(np.float64, copy=False)
        return from_nhwc(total.reshape(n, *self.input_size, c), self.layout)

    def transpose(self, b: Builder, operands: Sequence[Value], cotangent: Value) -> Sequence[Value | None]:
        return (b.emit(MaxPool2dTake(*self.geometry), cotangent, operands[1]), None)

    @property
    def is_pointwise(self) -> bool:
        """Few windows cover an element."""
        rows, columns = self.axes(self.input_size)
        return are_few(rows, columns)

    def scalar(self, ctx: ScalarContext, index: tuple[Index, ...], operands: tuple[TensorType, ...],
               result: TensorType) -> int:
        dims, (rows, columns) = spatial_dims(self, self.layout), self.axes(self.input_size)
        h, w, dtype = index[dims[0]], index[dims[1]], wide(result.dtype)
        here = ctx.emit("cast", dtypes.i32, ctx.value_of(h * columns.size + w))
        total, zero = -1, ctx.const(0, dtype)
        for oh, has_row in covering(ctx, rows, h):
            for ow, has_column in covering(ctx, columns, w):
                guard, window = ctx.both(has_row, has_column), replaced(index, dims, oh, ow)
                is_chosen = ctx.emit("eq", dtypes.bool_, ctx.operand(1, window, guard), here)
                ct = ctx.operand(0, window, guard)      # 0 where the guard fails, whatever the index compares to
                ct = ct if dtype is result.dtype else ctx.emit("cast", dtype, ct)
                part = ctx.emit("select", dtype, is_chosen, ct, zero)
                total = part if total < 0 else ctx.emit("add", dtype, total, part)
        return total if dtype is result.dtype else ctx.emit("cast", result.dtype, total)

    def decompose(self, b: Builder, operands: Sequence[Value]) -> Sequence[Value] | None:
        """Many windows cover an element: a scattered sum over the planes."""
        if self.is_pointwise:
            return None
        to_nchw, back = (((0, 1, 2, 3), (0, 1, 2, 3)) if self.layout == "NCHW" else ((0, 3, 1, 2), (0, 2, 3, 1)))
        ct, indices = (b.permute(x, to_nchw) for x in operands)
        n, c, oh, ow = ct.shape
        flat = (n, c, oh * ow)
        scatter = ScatterAlongAdd(self.input_size[0] * self.input_size[1], 2)
        planes = b.emit(scatter, b.reshape(indices, flat), b.reshape(ct, flat))
        return (b.permute(b.reshape(planes, (n, c, *self.input_size)), back),)

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        for x, geometry in sample_cases():
            pool, size = MaxPool2d(*geometry), spatial(MaxPool2d(*geometry), x, geometry[4])
            sample = drawn(pool, x)
            y, indices = pool.infer(x)
            operands = (draw(y), pool.evaluate(*compute(sample))[1])
            yield Sample(cls(size, *geometry), operands, (y, indices))


@register("max_pool2d_take")
@dataclass(frozen=True)
class MaxPool2dTake(Pooling, Linear):
    """(x, indices) -> x's elements at the flat plane positions that max_pool2d gave: the transpose of its gradient."""

    kernel: Pair
    stride: Pair
    padding: Padding
    dilation: Pair
    layout: str
    ceil_mode: bool

    def infer(self, *operands: TensorType) -> tuple[TensorType, ...]:
        check_arity(self, operands, 2)
        x, indices = operands
        rows, columns = self.axes_of(x)
        y = with_spatial(x, self.layout, (rows.count, columns.count))
        if indices.shape != y.shape or indices.dtype is not dtypes.i32:
            raise self.fail(f"takes indices {y.with_dtype(dtypes.i32)} for {x}, found {indices}")
        return (y,)

    def evaluate(self, *operands: np.ndarray) -> np.ndarray:
        x, indices = (to_nhwc(a, self.layout) for a in operands)
        planes = x.reshape(x.shape[0], x.shape[1] * x.shape[2], x.shape[3])
        image, channel = np.arange(x.shape[0])[:, None, None, None], np.arange(x.shape[3])
        return from_nhwc(planes[image, indices, channel], self.layout)

    def transpose(self, b: Builder, operands: Sequence[Value], cotangent: Value) -> Sequence[Value | None]:
        x, indices = operands
        geometry = (self.kernel, self.stride, self.padding, self.dilation, self.layout, self.ceil_mode)
        grad = MaxPool2dGrad(spatial(self, x.type, self.layout), *geometry)
        return (b.emit(grad, cotangent, indices), None)

    def scalar(self, ctx: ScalarContext, index: tuple[Index, ...], operands: tuple[TensorType, ...],
               result: TensorType) -> int:
        (height, width), dims = spatial(self, operands[0], self.layout), spatial_dims(self, self.layout)
        place = checked_index(ctx, ctx.operand(1, index), dtypes.i32, height * width)
        return ctx.operand(0, replaced(index, dims, *divmod_index(ctx, place, width)))

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        for x, geometry in sample_cases():
            pool = MaxPool2d(*geometry)
            sample = drawn(pool, x)
            _, indices = pool.infer(x)
            yield Sample(cls(*geometry), (draw(x, seed=1), pool.evaluate(*compute(sample))[1]), (x, indices))
