"""Convolution of images and of volumes, and its two gradients: three bilinear ops, each the others' transpose.

y[n, oh, ow, o] = sum over r, s, i of x[n, oh*stride - top + r*dilation, ow*..., i] * w[r, s, i, o], zeros outside.
layout "NCHW": x[N, C, H, W], w[O, I/groups, R, S], y[N, O, OH, OW]; "NHWC": x[N, H, W, C], w[R, S, I/groups, O],
y[N, OH, OW, O]. padding: ((top, bottom), (left, right)). Volumes ("NCDHW", "NDHWC") have a depth before the height, in
every attribute too.
"""
from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar, Final, NamedTuple

import numpy as np

from flambeau.ir import dtypes
from flambeau.ir.dims import Size
from flambeau.ir.op import Sample, register
from flambeau.ir.ops import patches
from flambeau.ir.ops.batching import merged, parted, spread_all
from flambeau.ir.ops.families import Bilinear, accumulating, check_arity, check_dtypes, check_sizes
from flambeau.ir.ops.sampling import drawn
from flambeau.ir.ops.windows import (
    IMAGES,
    VOLUMES,
    Axis,
    Numbers,
    Padding,
    Pair,
    Sizes,
    check_geometry,
    from_nhwc,
    spatial,
    to_nhwc,
    with_spatial,
)
from flambeau.ir.records import dataclass
from flambeau.ir.types import TensorType

if TYPE_CHECKING:
    from flambeau.ir.builder import Builder
    from flambeau.ir.graph import Value

_IMAGE_CASES = (
    # (x shape N, C, H, W; out channels, kernel; stride, padding, dilation, groups)
    ((2, 3, 5, 6), 4, (3, 2), (1, 1), ((0, 0), (0, 0)), (1, 1), 1),
    ((1, 2, 7, 5), 3, (3, 3), (2, 2), ((1, 1), (1, 1)), (1, 1), 1),
    ((1, 4, 6, 6), 6, (3, 3), (1, 2), ((2, 0), (1, 2)), (2, 1), 2),
    ((2, 3, 4, 4), 3, (3, 3), (1, 1), ((1, 1), (1, 1)), (1, 1), 3),
    ((1, 5, 3, 3), 2, (1, 1), (1, 1), ((0, 0), (0, 0)), (1, 1), 1),
    ((0, 2, 3, 3), 2, (2, 2), (1, 1), ((0, 0), (0, 0)), (1, 1), 1),
    ((1, 1, 8, 1), 1, (2, 1), (3, 1), ((0, 0), (0, 0)), (2, 1), 1),
)
_NOT_PADDED = ((0, 0), (0, 0), (0, 0))
_VOLUME_CASES = (
    ((2, 3, 3, 4, 5), 4, (2, 3, 2), (1, 1, 1), _NOT_PADDED, (1, 1, 1), 1),
    ((1, 2, 4, 5, 4), 3, (3, 3, 3), (2, 2, 2), ((1, 1), (1, 1), (1, 1)), (1, 1, 1), 1),
    ((1, 4, 5, 4, 5), 6, (2, 3, 2), (1, 2, 3), ((0, 1), (2, 0), (1, 2)), (2, 1, 3), 2),
    ((0, 2, 3, 3, 3), 2, (2, 2, 2), (1, 1, 1), _NOT_PADDED, (1, 1, 1), 1),
    ((1, 3, 2, 3, 3), 3, (1, 1, 1), (1, 1, 1), _NOT_PADDED, (1, 1, 1), 3),
)


class _Convolution(Bilinear):
    """What all share. Attributes: stride, padding, dilation, groups, layout."""

    kernel_kind = "contraction"
    layouts: ClassVar[tuple[str, str]]
    stride: Numbers
    padding: Padding
    dilation: Numbers
    groups: Size
    layout: str

    @property
    def geometry(self) -> tuple[Numbers, Padding, Numbers, Size, str]:
        return self.stride, self.padding, self.dilation, self.groups, self.layout

    @property
    def is_plain(self) -> bool:
        """Channels last and without padding, as lowering knows it."""
        return not self.channels_first and not any(map(any, self.padding))

    def spatial(self, x: TensorType) -> Sizes:
        """(H, W), or (D, H, W)."""
        found: Sizes = spatial(self, x, self.layout, self.layouts)
        return found

    def axes(self, size: Sizes, kernel: Sizes) -> tuple[Axis, ...]:
        """The windows along each spatial dim."""
        return tuple([Axis(*both[:3], *both[3], both[4]) for both in
                      zip(size, kernel, self.stride, self.padding, self.dilation, strict=True)])

    def kernel_of(self, w: TensorType) -> Sizes:
        """(R, S) of a weight."""
        if w.rank != len(self.layout):
            raise self.fail(f"takes a weight of rank {len(self.layout)}, found {w}")
        return w.shape[2:] if self.channels_first else w.shape[:-2]

    def channels_of(self, w: TensorType) -> Pair:
        """(input channels of a group, output channels) of a weight."""
        shape = w.static_shape
        return (shape[1], shape[0]) if self.channels_first else (shape[-2], shape[-1])

    @property
    def channels_first(self) -> bool:
        return self.layout == self.layouts[0]

    @property
    def channel_dim(self) -> int:
        return 1 if self.channels_first else len(self.layout) - 1

    def checked(self, size: Sizes, kernel: Sizes, x: TensorType) -> Sizes:
        """(OH, OW), after checking the geometry."""
        check_geometry(self, kernel, self.stride, self.padding, self.dilation, len(self.layout) - 2)
        counts = tuple([axis.count for axis in self.axes(size, kernel)])
        if any(count < 1 for count in counts):
            raise self.fail(f"kernel {kernel} (dilation {self.dilation}) is larger than {x} with padding "
                            f"{self.padding}")
        return counts

    def check_channels(self, channels: Size, outputs: Size, per_group: Size | None = None) -> None:
        if self.groups < 1 or channels % self.groups or outputs % self.groups:
            raise self.fail(f"groups {self.groups} does not divide {channels} input and {outputs} output channels")
        if per_group is not None and channels != per_group * self.groups:
            raise self.fail(f"x has {channels} channels, w takes {per_group} for each of {self.groups} groups")

    # Examples count as images where all share the weight, else as groups of channels.

    @property
    def output_dim(self) -> int:
        """The dim of a weight that holds its output channels."""
        return 0 if self.channels_first else len(self.layout) - 1

    def batched(self, b: Builder, operands: Sequence[Value], mapped: Sequence[bool], size: int) -> Sequence[Value]:
        takes_weight, gives_weight = not isinstance(self, _WeightGrad), isinstance(self, _WeightGrad)
        rhs = self.output_dim if takes_weight else self.channel_dim
        result = self.output_dim if gives_weight else self.channel_dim
        if takes_weight and not mapped[1]:
            return (parted(b, b.emit(self, merged(b, operands[0], 0), operands[1]), 0, size),)
        if self.groups == 1 and not mapped[0] and not isinstance(self, _InputGrad):         # more outputs of one image
            return (parted(b, b.emit(self, operands[0], merged(b, operands[1], rhs)), result, size),)
        x, y = spread_all(b, operands, mapped, size)
        op = replace(self, groups=self.groups * size)           # type: ignore[type-var]
        return (parted(b, b.emit(op, merged(b, x, self.channel_dim), merged(b, y, rhs)), result, size),)

    # The NumPy meaning takes every array with its channels last.

    def weight_in(self, w: np.ndarray) -> np.ndarray:
        return np.moveaxis(w, (0, 1), (-1, -2)) if self.channels_first else w

    def weight_out(self, w: np.ndarray) -> np.ndarray:
        return np.moveaxis(w, (-1, -2), (0, 1)) if self.channels_first else w


@dataclass(frozen=True)
class _Forward(_Convolution):
    """(x, w) -> y."""

    stride: Numbers
    padding: Padding
    dilation: Numbers
    groups: Size
    layout: str

    def infer(self, *operands: TensorType) -> tuple[TensorType, ...]:
        check_arity(self, operands, 2)
        check_dtypes(self, operands, "float")
        x, w = operands
        size, kernel = self.spatial(x), self.kernel_of(w)
        per_group, outputs = self.channels_of(w)
        self.check_channels(x.shape[self.channel_dim], outputs, per_group)
        shape = list(with_spatial(x, self.layout, self.checked(size, kernel, x)).shape)
        shape[self.channel_dim] = outputs
        result = x.with_shape(tuple(shape))
        check_sizes(self, result)
        return (result,)

    def evaluate(self, *operands: np.ndarray) -> np.ndarray:
        x, w = to_nhwc(accumulating(operands[0]), self.layout), self.weight_in(accumulating(operands[1]))
        axes = self.axes(x.shape[1:-1], w.shape[:-2])
        return from_nhwc(patches.convolved(x, w, axes, int(self.groups)), self.layout)

    def transpose_lhs(self, b: Builder, cotangent: Value, lhs: Value, rhs: Value) -> Value:
        return b.emit(_OPS[self.layouts].input_grad(self.spatial(lhs.type), *self.geometry), cotangent, rhs)

    def transpose_rhs(self, b: Builder, cotangent: Value, lhs: Value, rhs: Value) -> Value:
        return b.emit(_OPS[self.layouts].weight_grad(self.kernel_of(rhs.type), *self.geometry), lhs, cotangent)

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        for x, w, _, (_, _, geometry) in _sample_types(cls.layouts):
            yield drawn(cls(*geometry), x, w)


@dataclass(frozen=True)
class _InputGrad(_Convolution):
    """(ct, w) -> the cotangent of x, whose height and width are `input_shape`."""

    input_shape: Sizes
    stride: Numbers
    padding: Padding
    dilation: Numbers
    groups: Size
    layout: str

    def infer(self, *operands: TensorType) -> tuple[TensorType, ...]:
        check_arity(self, operands, 2)
        check_dtypes(self, operands, "float")
        ct, w = operands
        found, kernel = self.spatial(ct), self.kernel_of(w)
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
        axes = self.axes(self.input_shape, w.shape[:-2])
        return from_nhwc(patches.input_grad(ct, w, axes, int(self.groups)), self.layout)

    def transpose_lhs(self, b: Builder, cotangent: Value, lhs: Value, rhs: Value) -> Value:
        return b.emit(_OPS[self.layouts].forward(*self.geometry), cotangent, rhs)

    def transpose_rhs(self, b: Builder, cotangent: Value, lhs: Value, rhs: Value) -> Value:
        return b.emit(_OPS[self.layouts].weight_grad(self.kernel_of(rhs.type), *self.geometry), cotangent, lhs)

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        for _, w, y, (size, _, geometry) in _sample_types(cls.layouts):
            yield drawn(cls(size, *geometry), y, w)


@dataclass(frozen=True)
class _WeightGrad(_Convolution):
    """(x, ct) -> the cotangent of w, whose height and width are `kernel_shape`."""

    kernel_shape: Sizes
    stride: Numbers
    padding: Padding
    dilation: Numbers
    groups: Size
    layout: str

    def infer(self, *operands: TensorType) -> tuple[TensorType, ...]:
        check_arity(self, operands, 2)
        check_dtypes(self, operands, "float")
        x, ct = operands
        size, found = self.spatial(x), self.spatial(ct)
        channels, outputs = x.shape[self.channel_dim], ct.shape[self.channel_dim]
        self.check_channels(channels, outputs)
        expected = self.checked(size, self.kernel_shape, x)
        if found != expected or x.shape[0] != ct.shape[0]:
            raise self.fail(f"ct {ct} is {found} high and wide, convolution of {x} gives {expected}")
        per_group = channels // self.groups
        shape = ((outputs, per_group, *self.kernel_shape) if self.channels_first
                 else (*self.kernel_shape, per_group, outputs))
        return (x.with_shape(shape),)

    def evaluate(self, *operands: np.ndarray) -> np.ndarray:
        x, ct = (to_nhwc(accumulating(a), self.layout) for a in operands)
        axes = self.axes(x.shape[1:-1], self.kernel_shape)
        return self.weight_out(patches.weight_grad(x, ct, axes, int(self.groups)))

    def transpose_lhs(self, b: Builder, cotangent: Value, lhs: Value, rhs: Value) -> Value:
        return b.emit(_OPS[self.layouts].input_grad(self.spatial(lhs.type), *self.geometry), rhs, cotangent)

    def transpose_rhs(self, b: Builder, cotangent: Value, lhs: Value, rhs: Value) -> Value:
        return b.emit(_OPS[self.layouts].forward(*self.geometry), lhs, cotangent)

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        for x, _, y, (_, kernel, geometry) in _sample_types(cls.layouts):
            yield drawn(cls(kernel, *geometry), x, y)


@register("conv2d")
@dataclass(frozen=True)
class Conv2d(_Forward):
    """(x, w) -> y, of images."""

    layouts = IMAGES


@register("conv2d_input_grad")
@dataclass(frozen=True)
class Conv2dInputGrad(_InputGrad):
    """(ct, w) -> the cotangent of images."""

    layouts = IMAGES


@register("conv2d_weight_grad")
@dataclass(frozen=True)
class Conv2dWeightGrad(_WeightGrad):
    """(x, ct) -> the cotangent of the weight of conv2d."""

    layouts = IMAGES


@register("conv3d")
@dataclass(frozen=True)
class Conv3d(_Forward):
    """(x, w) -> y, of volumes."""

    layouts = VOLUMES


@register("conv3d_input_grad")
@dataclass(frozen=True)
class Conv3dInputGrad(_InputGrad):
    """(ct, w) -> the cotangent of volumes."""

    layouts = VOLUMES


@register("conv3d_weight_grad")
@dataclass(frozen=True)
class Conv3dWeightGrad(_WeightGrad):
    """(x, ct) -> the cotangent of the weight of conv3d."""

    layouts = VOLUMES


class _Three(NamedTuple):
    """The ops of one number of spatial dims."""

    forward: type[_Forward]
    input_grad: type[_InputGrad]
    weight_grad: type[_WeightGrad]


_OPS: Final = {IMAGES: _Three(Conv2d, Conv2dInputGrad, Conv2dWeightGrad),
               VOLUMES: _Three(Conv3d, Conv3dInputGrad, Conv3dWeightGrad)}


def _sample_types(layouts: tuple[str, str]) -> Iterator[tuple[TensorType, TensorType, TensorType,
                                                              tuple[Sizes, Sizes, tuple]]]:
    """(x, w, y, (input size, kernel, geometry)) of every case, in both layouts."""
    cases: tuple = _IMAGE_CASES if layouts == IMAGES else _VOLUME_CASES
    for number, ((n, c, *size), outputs, kernel, stride, padding, dilation, groups) in enumerate(cases):
        dtype = dtypes.bf16 if number == 4 else dtypes.f64 if number == 2 else dtypes.f32
        for layout in layouts:
            x_shape, w_shape = (n, c, *size), (outputs, c // groups, *kernel)
            if layout == layouts[1]:
                x_shape, w_shape = (n, *size, c), (*kernel, c // groups, outputs)
            x, w = TensorType(x_shape, dtype), TensorType(w_shape, dtype)
            geometry = (stride, padding, dilation, groups, layout)
            (y,) = _OPS[layouts].forward(*geometry).infer(x, w)
            yield x, w, y, (tuple(size), kernel, geometry)
