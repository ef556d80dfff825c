"""2-d convolution and its two gradients: three bilinear ops, each the others' transpose.

y[n, oh, ow, o] = sum over r, s, i of x[n, oh*stride - top + r*dilation, ow*..., i] * w[r, s, i, o], zeros outside.
layout "NCHW": x[N, C, H, W], w[O, I/groups, R, S], y[N, O, OH, OW]; "NHWC": x[N, H, W, C], w[R, S, I/groups, O],
y[N, OH, OW, O]. padding: ((top, bottom), (left, right)). The batch size may be symbolic.
"""
from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from flambeau.ir import dtypes
from flambeau.ir.op import Sample, register
from flambeau.ir.ops import patches
from flambeau.ir.ops.families import Bilinear, accumulating, check_arity, check_dtypes, check_sizes
from flambeau.ir.ops.sampling import drawn
from flambeau.ir.ops.windows import (
    Axis,
    Padding,
    Pair,
    check_geometry,
    from_nhwc,
    spatial,
    to_nhwc,
    with_spatial,
)
from flambeau.ir.types import TensorType

if TYPE_CHECKING:
    from flambeau.ir.builder import Builder
    from flambeau.ir.graph import Value

_CASES = (
    # (x shape N, C, H, W; out channels, kernel; stride, padding, dilation, groups)
    ((2, 3, 5, 6), 4, (3, 2), (1, 1), ((0, 0), (0, 0)), (1, 1), 1),
    ((1, 2, 7, 5), 3, (3, 3), (2, 2), ((1, 1), (1, 1)), (1, 1), 1),
    ((1, 4, 6, 6), 6, (3, 3), (1, 2), ((2, 0), (1, 2)), (2, 1), 2),
    ((2, 3, 4, 4), 3, (3, 3), (1, 1), ((1, 1), (1, 1)), (1, 1), 3),
    ((1, 5, 3, 3), 2, (1, 1), (1, 1), ((0, 0), (0, 0)), (1, 1), 1),
    ((0, 2, 3, 3), 2, (2, 2), (1, 1), ((0, 0), (0, 0)), (1, 1), 1),
    ((1, 1, 8, 1), 1, (2, 1), (3, 1), ((0, 0), (0, 0)), (2, 1), 1),
)


class _Convolution(Bilinear):
    """What the three share. Attributes: stride, padding, dilation, groups, layout."""

    kernel_kind = "contraction"
    stride: Pair
    padding: Padding
    dilation: Pair
    groups: int
    layout: str

    @property
    def geometry(self) -> tuple[Pair, Padding, Pair, int, str]:
        return self.stride, self.padding, self.dilation, self.groups, self.layout

    def axes(self, size: Pair, kernel: Pair) -> tuple[Axis, Axis]:
        """The windows along height and along width."""
        rows, columns = (Axis(*both[:3], *both[3], both[4]) for both in
                         zip(size, kernel, self.stride, self.padding, self.dilation, strict=True))
        return rows, columns

    def kernel_of(self, w: TensorType) -> Pair:
        """(R, S) of a weight."""
        if w.rank != 4 or not w.is_static:
            raise self.fail(f"takes a weight of rank 4 with sizes that are numbers, found {w}")
        return w.static_shape[2:] if self.layout == "NCHW" else w.static_shape[:2]  # type: ignore[return-value]

    def channels_of(self, w: TensorType) -> Pair:
        """(input channels of a group, output channels) of a weight."""
        shape = w.static_shape
        return (shape[1], shape[0]) if self.layout == "NCHW" else (shape[2], shape[3])

    @property
    def channel_dim(self) -> int:
        return 1 if self.layout == "NCHW" else 3

    def checked(self, size: Pair, kernel: Pair, x: TensorType) -> Pair:
        """(OH, OW), after checking the geometry."""
        check_geometry(self, kernel, self.stride, self.padding, self.dilation)
        rows, columns = self.axes(size, kernel)
        if rows.count < 1 or columns.count < 1:
            raise self.fail(f"kernel {kernel} (dilation {self.dilation}) is larger than {x} with padding "
                            f"{self.padding}")
        return rows.count, columns.count

    def check_channels(self, channels: int, outputs: int, per_group: int | None = None) -> None:
        if self.groups < 1 or channels % self.groups or outputs % self.groups:
            raise self.fail(f"groups {self.groups} does not divide {channels} input and {outputs} output channels")
        if per_group is not None and channels != per_group * self.groups:
            raise self.fail(f"x has {channels} channels, w takes {per_group} for each of {self.groups} groups")

    # The NumPy meaning takes every array in NHWC / RSIO form.

    def weight_in(self, w: np.ndarray) -> np.ndarray:
        return w.transpose(2, 3, 1, 0) if self.layout == "NCHW" else w

    def weight_out(self, w: np.ndarray) -> np.ndarray:
        return w.transpose(3, 2, 0, 1) if self.layout == "NCHW" else w


@register("conv2d")
@dataclass(frozen=True)
class Conv2d(_Convolution):
    """(x, w) -> y."""

    stride: Pair
    padding: Padding
    dilation: Pair
    groups: int
    layout: str

    def infer(self, *operands: TensorType) -> tuple[TensorType, ...]:
        check_arity(self, operands, 2)
        check_dtypes(self, operands, "float")
        x, w = operands
        size, kernel = spatial(self, x, self.layout), self.kernel_of(w)
        per_group, outputs = self.channels_of(w)
        self.check_channels(x.shape[self.channel_dim], outputs, per_group)  # type: ignore[arg-type]
        shape = list(with_spatial(x, self.layout, self.checked(size, kernel, x)).shape)
        shape[self.channel_dim] = outputs
        result = x.with_shape(tuple(shape))
        check_sizes(self, result)
        return (result,)

    def evaluate(self, *operands: np.ndarray) -> np.ndarray:
        x, w = to_nhwc(accumulating(operands[0]), self.layout), self.weight_in(accumulating(operands[1]))
        axes = self.axes(x.shape[1:3], w.shape[:2])
        return from_nhwc(patches.convolved(x, w, *axes, self.groups), self.layout)

    def transpose_lhs(self, b: Builder, cotangent: Value, lhs: Value, rhs: Value) -> Value:
        return b.emit(Conv2dInputGrad(spatial(self, lhs.type, self.layout), *self.geometry), cotangent, rhs)

    def transpose_rhs(self, b: Builder, cotangent: Value, lhs: Value, rhs: Value) -> Value:
        return b.emit(Conv2dWeightGrad(self.kernel_of(rhs.type), *self.geometry), lhs, cotangent)

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        for x, w, _, (_, _, geometry) in _sample_types():
            yield drawn(cls(*geometry), x, w)


@register("conv2d_input_grad")
@dataclass(frozen=True)
class Conv2dInputGrad(_Convolution):
    """(ct, w) -> the cotangent of x, whose height and width are `input_shape`."""

    input_shape: Pair
    stride: Pair
    padding: Padding
    dilation: Pair
    groups: int
    layout: str

    def infer(self, *operands: TensorType) -> tuple[TensorType, ...]:
        check_arity(self, operands, 2)
        check_dtypes(self, operands, "float")
        ct, w = operands
        found, kernel = spatial(self, ct, self.layout), self.kernel_of(w)
        per_group, outputs = self.channels_of(w)
        if ct.shape[self.channel_dim] != outputs:
            raise self.fail(f"ct {ct} has {ct.shape[self.channel_dim]} channels, w {w} gives {outputs}")
        self.check_channels(per_group * self.groups, outputs)
        expected = self.checked(self.input_shape, kernel, ct)
        if found != expected:
            raise self.fail(f"ct {ct} is {found} high and wide, convolution of {self.input_shape} gives {expected}")
        shape = list(with_spatial(ct, self.layout, self.input_shape).shape)
        shape[self.channel_dim] = per_group * self.groups
        return (ct.with_shape(tuple(shape)),)

    def evaluate(self, *operands: np.ndarray) -> np.ndarray:
        ct, w = to_nhwc(accumulating(operands[0]), self.layout), self.weight_in(accumulating(operands[1]))
        axes = self.axes(self.input_shape, w.shape[:2])
        return from_nhwc(patches.input_grad(ct, w, *axes, self.groups), self.layout)

    def transpose_lhs(self, b: Builder, cotangent: Value, lhs: Value, rhs: Value) -> Value:
        return b.emit(Conv2d(*self.geometry), cotangent, rhs)

    def transpose_rhs(self, b: Builder, cotangent: Value, lhs: Value, rhs: Value) -> Value:
        return b.emit(Conv2dWeightGrad(self.kernel_of(rhs.type), *self.geometry), cotangent, lhs)

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        for _, w, y, (size, _, geometry) in _sample_types():
            yield drawn(cls(size, *geometry), y, w)


@register("conv2d_weight_grad")
@dataclass(frozen=True)
class Conv2dWeightGrad(_Convolution):
    """(x, ct) -> the cotangent of w, whose height and width are `kernel_shape`."""

    kernel_shape: Pair
    stride: Pair
    padding: Padding
    dilation: Pair
    groups: int
    layout: str

    def infer(self, *operands: TensorType) -> tuple[TensorType, ...]:
        check_arity(self, operands, 2)
        check_dtypes(self, operands, "float")
        x, ct = operands
        size, found = spatial(self, x, self.layout), spatial(self, ct, self.layout)
        channels, outputs = x.shape[self.channel_dim], ct.shape[self.channel_dim]
        assert isinstance(channels, int) and isinstance(outputs, int), "spatial() lets only the batch be symbolic"
        self.check_channels(channels, outputs)
        expected = self.checked(size, self.kernel_shape, x)
        if found != expected or x.shape[0] != ct.shape[0]:
            raise self.fail(f"ct {ct} is {found} high and wide, convolution of {x} gives {expected}")
        per_group = channels // self.groups
        shape = ((outputs, per_group, *self.kernel_shape) if self.layout == "NCHW"
                 else (*self.kernel_shape, per_group, outputs))
        return (x.with_shape(shape),)

    def evaluate(self, *operands: np.ndarray) -> np.ndarray:
        x, ct = (to_nhwc(accumulating(a), self.layout) for a in operands)
        axes = self.axes(x.shape[1:3], self.kernel_shape)
        return self.weight_out(patches.weight_grad(x, ct, *axes, self.groups))

    def transpose_lhs(self, b: Builder, cotangent: Value, lhs: Value, rhs: Value) -> Value:
        return b.emit(Conv2dInputGrad(spatial(self, lhs.type, self.layout), *self.geometry), rhs, cotangent)

    def transpose_rhs(self, b: Builder, cotangent: Value, lhs: Value, rhs: Value) -> Value:
        return b.emit(Conv2d(*self.geometry), lhs, cotangent)

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        for x, _, y, (_, kernel, geometry) in _sample_types():
            yield drawn(cls(kernel, *geometry), x, y)


def _sample_types() -> Iterator[tuple[TensorType, TensorType, TensorType, tuple[Pair, Pair, tuple]]]:
    """(x, w, y, (input size, kernel, geometry)) of every case, in both layouts."""
    from_nchw = {"NCHW": (0, 1, 2, 3), "NHWC": (0, 2, 3, 1)}
    for number, ((n, c, h, w), outputs, kernel, stride, padding, dilation, groups) in enumerate(_CASES):
        dtype = dtypes.bf16 if number == 4 else dtypes.f64 if number == 2 else dtypes.f32
        for layout, order in from_nchw.items():
            x_shape, w_shape = (n, c, h, w), (outputs, c // groups, *kernel)
            weight = w_shape if layout == "NCHW" else (*kernel, c // groups, outputs)
            x = TensorType(tuple(x_shape[d] for d in order), dtype)
            geometry = (stride, padding, dilation, groups, layout)
            (y,) = Conv2d(*geometry).infer(x, TensorType(weight, dtype))
            yield x, TensorType(weight, dtype), y, ((h, w), kernel, geometry)
