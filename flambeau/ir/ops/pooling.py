"""What maximum and average pooling share: attributes, window geometry, the windows over an element, samples."""
from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from flambeau.ir import dtypes
from flambeau.ir.dims import same
from flambeau.ir.index_maps import Index
from flambeau.ir.op import Op, Sample, ScalarContext
from flambeau.ir.ops.batching import folded
from flambeau.ir.ops.views import divmod_index
from flambeau.ir.ops.windows import Axis, Padding, Pair, Sizes, check_geometry, spatial, with_spatial
from flambeau.ir.types import TensorType

if TYPE_CHECKING:
    from flambeau.ir.builder import Builder
    from flambeau.ir.graph import Value

MAX_UNROLLED = 16                           # taps, or covering windows, that are written out one by one


class Pooling(Op):
    """Attributes that all pooling ops share: kernel, stride, padding, layout, ceil_mode."""

    kernel: Pair
    stride: Pair
    padding: Padding
    layout: str
    ceil_mode: bool
    dilation: Pair

    def axes(self, size: Sizes) -> tuple[Axis, Axis]:
        """The windows along height and along width."""
        check_geometry(self, self.kernel, self.stride, self.padding, self.dilation)
        rows, columns = (Axis(size[i], self.kernel[i], self.stride[i], *self.padding[i], self.dilation[i],
                              self.ceil_mode) for i in (0, 1))
        return rows, columns

    def axes_of(self, x: TensorType) -> tuple[Axis, Axis]:
        """The windows on x, after checking that each holds an element."""
        rows, columns = self.axes(spatial(self, x, self.layout))
        for axis in (rows, columns):
            if axis.count < 1:
                raise self.fail(f"kernel {self.kernel} (dilation {self.dilation}) is larger than {x} with padding "
                                f"{self.padding}")
            if not axis.is_covering:
                raise self.fail(f"padding {self.padding} leaves a window of {self.kernel} on {x} without an element",
                                "pad at most half the kernel size")
        return rows, columns

    def check_grad(self, ct: TensorType, input_size: Sizes) -> None:
        """Raise TypeInferenceError unless ct has the shape that pooling of `input_size` gives."""
        spatial(self, ct, self.layout)
        expected = tuple(axis.count for axis in self.axes_of(with_spatial(ct, self.layout, input_size)))
        if spatial(self, ct, self.layout) != expected:
            raise self.fail(f"ct is {ct}, but pooling of {input_size} gives {expected}")

    def batched(self, b: Builder, operands: Sequence[Value], mapped: Sequence[bool], size: int) -> Sequence[Value]:
        return folded(self, b, operands, mapped, size)

    @property
    def is_small(self) -> bool:
        """Few enough taps to write them out."""
        return self.kernel[0] * self.kernel[1] <= MAX_UNROLLED or 1 in self.kernel


def is_global(rows: Axis, columns: Axis) -> bool:
    """One window, which is the whole plane."""
    return all(same(axis.kernel, axis.size) and not axis.low and axis.dilation == 1 and axis.count == 1
               and not axis.overhang for axis in (rows, columns))


def covering(ctx: ScalarContext, axis: Axis, position: Index) -> list[tuple[Index, int | None]]:
    """The windows that may cover an input position, each with the guard that says it exists."""
    if reach(axis) == axis.count:
        return [(Index(window), None) for window in range(axis.count)]
    last, _ = divmod_index(ctx, position + axis.low, axis.stride)
    windows = [last - back for back in range(reach(axis))]
    return [(window, ctx.within(window, 0, axis.count)) for window in windows]


def reach(axis: Axis) -> int:
    """How many windows may cover one position."""
    most: int = -(-axis.span // axis.stride)
    return min(axis.count, most)


def are_few(*axes: Axis) -> bool:
    """Whether those that may cover one position can be written out."""
    most = math.prod([-(-axis.span // axis.stride) for axis in axes])
    return most <= MAX_UNROLLED or math.prod([reach(axis) for axis in axes]) <= MAX_UNROLLED


def replaced(index: Sequence[Index], dims: Pair, h: Index, w: Index) -> tuple[Index, ...]:
    """`index` with other spatial positions."""
    found = list(index)
    found[dims[0]], found[dims[1]] = h, w
    return tuple(found)


def compute(sample: Sample) -> list[np.ndarray]:
    """A sample's operands as `evaluate` takes them."""
    return [dtypes.to_compute(a, t.dtype) for a, t in zip(sample.operands, sample.types, strict=True)]


_CASES = (
    # N, C, H, W; kernel, stride, padding, dilation, ceil_mode
    ((2, 3, 6, 4), (2, 2), (2, 2), ((0, 0), (0, 0)), (1, 1), False),
    ((1, 2, 7, 5), (3, 3), (2, 2), ((1, 1), (1, 1)), (1, 1), False),
    ((1, 2, 5, 6), (3, 2), (1, 3), ((1, 0), (0, 1)), (1, 1), True),
    ((1, 1, 9, 8), (2, 3), (1, 2), ((1, 1), (0, 0)), (2, 2), False),
    ((1, 2, 3, 4), (3, 4), (1, 1), ((0, 0), (0, 0)), (1, 1), False),
    ((1, 1, 9, 9), (5, 5), (2, 1), ((2, 2), (2, 2)), (1, 1), False),
    ((0, 2, 4, 4), (2, 2), (2, 2), ((0, 0), (0, 0)), (1, 1), False),
)


def sample_cases() -> Iterator[tuple[TensorType, tuple]]:
    """(x, geometry) in both layouts."""
    for number, ((n, c, h, w), kernel, stride, padding, dilation, ceil_mode) in enumerate(_CASES):
        dtype = dtypes.bf16 if number == 3 else dtypes.f64 if number == 2 else dtypes.f32
        for layout, shape in (("NCHW", (n, c, h, w)), ("NHWC", (n, h, w, c))):
            yield TensorType(shape, dtype), (kernel, stride, padding, dilation, layout, ceil_mode)
