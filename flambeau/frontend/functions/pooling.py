"""Pooling of windows: maximum, average and p-norm, over 1 to 3 dims behind [N, C] (or [C], for a single image).

Everything is made of the 2-d ops: one dim is an image of height 1, and three are pooled within their planes first, then
from plane to plane.
"""
from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from flambeau.errors import ShapeError
from flambeau.frontend.functions.activations import relu
from flambeau.frontend.functions.calls import public
from flambeau.frontend.functions.coerce import cast, expanded, one_tensor, reshaped, tensor_of, user_line
from flambeau.frontend.functions.creation import holding
from flambeau.frontend.functions.elementwise import mul, pow
from flambeau.frontend.functions.pointwise import abs, sign
from flambeau.frontend.tape.dispatch import dispatch
from flambeau.frontend.tensor.tensor import Tensor
from flambeau.ir import dtypes as dt
from flambeau.ir import ops
from flambeau.ir.dims import as_size
from flambeau.ir.ops.windows import Axis
from flambeau.ir.records import dataclass

Sizes = tuple[int, ...]
_LAYOUT = "NCHW"


# -- arguments --------------------------------------------------------------------------------------------------------


def sizes(value: Any, dims: int, name: str) -> Sizes:
    """An int for all dims, or one for each. Raises TypeError, RuntimeError for others."""
    found = tuple(value) if isinstance(value, (tuple, list)) else (value,)
    if any(isinstance(v, float) or not hasattr(type(v), "__index__") for v in found):
        raise TypeError(f"{name} must be an int or {dims} ints, got {value!r}")
    if len(found) not in (1, dims):
        raise RuntimeError(f"{name} must be an int or {dims} ints, got {value!r}")
    return tuple([as_size(v) for v in found]) * (1 if len(found) == dims else dims)


def images(x: Tensor, dims: int, name: str) -> tuple[Tensor, bool]:
    """x as a batch of images of at least two dims, and whether it was a single one. Raises ShapeError for another number
    of dims, or images without elements."""
    if one_tensor(name, x).ndim not in (dims + 1, dims + 2):
        sizes = "".join([f", {size}" for size in ("D", "H", "W")[3 - dims:]]) if dims > 1 else ", L"
        raise ShapeError(f"{name}: takes [N, C{sizes}] or [C{sizes}], got {x._type}", where=user_line())
    single, shape = x.ndim == dims + 1, x._type.static_shape
    if 0 in shape[-1 - dims:]:
        raise ShapeError(f"{name}: only the batch size may be 0, got {x._type}", where=user_line())
    lead = (1, shape[0]) if single else shape[:2]
    return reshaped(x, (*lead, *(1,) * (dims == 1), *shape[-dims:])), single


def as_given(y: Tensor, dims: int, single: bool) -> Tensor:
    """The result of images: without the dims that `images` added."""
    shape = y._type.static_shape
    return reshaped(y, (*shape[single:2], *shape[-dims:]))


@dataclass(frozen=True)
class Windows:
    """Where the windows of each dim stand."""

    kernel: Sizes
    stride: Sizes
    padding: Sizes
    dilation: Sizes
    ceil: bool

    @staticmethod
    def of(dims: int, kernel_size: Any, stride: Any, padding: Any, dilation: Any, ceil_mode: bool,
           name: str) -> Windows:
        """What a pooling function was given. Raises RuntimeError for sizes that make no windows."""
        kernel = sizes(kernel_size, dims, f"{name}: kernel_size")
        is_left_out = stride is None or isinstance(stride, (tuple, list)) and not stride
        steps = kernel if is_left_out else sizes(stride, dims, f"{name}: stride")
        pads, gaps = sizes(padding, dims, f"{name}: padding"), sizes(dilation, dims, f"{name}: dilation")
        for what, found in (("kernel_size", kernel), ("stride", steps), ("dilation", gaps)):
            if min(found) < 1:
                raise RuntimeError(f"{name}: {what} must be greater than zero, got {found}")
        if any(not 0 <= p <= ((k - 1) * d + 1) // 2 for p, k, d in zip(pads, kernel, gaps, strict=True)):
            raise RuntimeError(f"{name}: padding {pads} must be at least 0 and at most half of kernel size {kernel}")
        lead = (1,) * (dims == 1)
        return Windows(lead + kernel, lead + steps, (0,) * (dims == 1) + pads, lead + gaps, bool(ceil_mode))

    def within_planes(self) -> Windows:
        """Of three dims the last two."""
        return Windows(self.kernel[1:], self.stride[1:], self.padding[1:], self.dilation[1:], self.ceil)

    def across_planes(self) -> Windows:
        """Of three dims the first, for planes whose elements lie along one dim."""
        return Windows((self.kernel[0], 1), (self.stride[0], 1), (self.padding[0], 0), (self.dilation[0], 1), self.ceil)

    def axes(self, size: Sequence[int]) -> list[Axis]:
        """The windows along each dim."""
        given = zip(size, self.kernel, self.stride, self.padding, self.dilation, strict=True)
        return [Axis(n, k, s, p, p, d, self.ceil) for n, k, s, p, d in given]

    def of_plane(self) -> Any:
        """(kernel, stride, padding, dilation) of two dims, as ops take them."""
        return self.kernel, self.stride, tuple([(p, p) for p in self.padding]), self.dilation


# -- maximum ----------------------------------------------------------------------------------------------------------


def _max_pool(name: str, dims: int, input: Tensor, kernel_size: Any, stride: Any, padding: Any, dilation: Any,
              ceil_mode: bool, return_indices: bool) -> Any:
    x, single = images(input, dims, name)
    windows = Windows.of(dims, kernel_size, stride, padding, dilation, ceil_mode, name)
    values, indices = max_of_windows(x, windows)
    if return_indices:
        return as_given(values, dims, single), as_given(cast(indices, dt.i64), dims, single)
    return as_given(values, dims, single)


def max_of_windows(x: Tensor, windows: Windows) -> tuple[Tensor, Tensor]:
    """(values, flat positions in the image) of [N, C, H, W] or [N, C, D, H, W]."""
    if x.ndim == 4:
        kernel, stride, padding, dilation = windows.of_plane()
        return dispatch(ops.MaxPool2d(kernel, stride, padding, dilation, _LAYOUT, windows.ceil), x)
    n, c, d, h, w = x._type.static_shape
    best, inside = max_of_windows(reshaped(x, (n, c * d, h, w)), windows.within_planes())
    oh, ow = best._type.static_shape[2:]
    best, at = max_of_windows(reshaped(best, (n, c, d, oh * ow)), windows.across_planes())
    shape = (n, c, best._type.static_shape[2], oh, ow)
    flat, at = reshaped(inside, (n, c, d * oh * ow)), reshaped(at, (n, c, math.prod(shape[2:])))
    plane = dispatch(ops.floor_divide, at, tensor_of(max(oh * ow, 1), dt.i32))
    found = dispatch(ops.add, dispatch(ops.mul, plane, tensor_of(h * w, dt.i32)), dispatch(ops.TakeAlong(2), flat, at))
    return reshaped(best, shape), reshaped(found, shape)


def max_pool1d(input: Tensor, kernel_size: Any, stride: Any = None, padding: Any = 0, dilation: Any = 1,
               ceil_mode: bool = False, return_indices: bool = False) -> Any:
    """max_pool2d along the last dim of [N, C, L] or [C, L]."""
    return _max_pool("max_pool1d", 1, input, kernel_size, stride, padding, dilation, ceil_mode, return_indices)


def max_pool2d(input: Tensor, kernel_size: Any, stride: Any = None, padding: Any = 0, dilation: Any = 1,
               ceil_mode: bool = False, return_indices: bool = False) -> Any:
    """The greatest element of each window (stride: the kernel by default); NaN if there is one.

    return_indices: also where it is, i64 positions h * W + w in the plane."""
    return _max_pool("max_pool2d", 2, input, kernel_size, stride, padding, dilation, ceil_mode, return_indices)


def max_pool3d(input: Tensor, kernel_size: Any, stride: Any = None, padding: Any = 0, dilation: Any = 1,
               ceil_mode: bool = False, return_indices: bool = False) -> Any:
    """max_pool2d over the last three dims of [N, C, D, H, W] or [C, D, H, W]."""
    return _max_pool("max_pool3d", 3, input, kernel_size, stride, padding, dilation, ceil_mode, return_indices)


def max_pool1d_with_indices(input: Tensor, kernel_size: Any, stride: Any = None, padding: Any = 0, dilation: Any = 1,
                            ceil_mode: bool = False, return_indices: bool = False) -> tuple[Tensor, Tensor]:
    """max_pool1d, values and indices."""
    return _max_pool("max_pool1d", 1, input, kernel_size, stride, padding, dilation, ceil_mode, True)


def max_pool2d_with_indices(input: Tensor, kernel_size: Any, stride: Any = None, padding: Any = 0, dilation: Any = 1,
                            ceil_mode: bool = False, return_indices: bool = False) -> tuple[Tensor, Tensor]:
    """max_pool2d, values and indices."""
    return _max_pool("max_pool2d", 2, input, kernel_size, stride, padding, dilation, ceil_mode, True)


def max_pool3d_with_indices(input: Tensor, kernel_size: Any, stride: Any = None, padding: Any = 0, dilation: Any = 1,
                            ceil_mode: bool = False, return_indices: bool = False) -> tuple[Tensor, Tensor]:
    """max_pool3d, values and indices."""
    return _max_pool("max_pool3d", 3, input, kernel_size, stride, padding, dilation, ceil_mode, True)


# -- average ----------------------------------------------------------------------------------------------------------


def _avg_pool(name: str, dims: int, input: Tensor, kernel_size: Any, stride: Any, padding: Any, ceil_mode: bool,
              count_include_pad: bool, divisor_override: int | None) -> Tensor:
    x, single = images(input, dims, name)
    windows = Windows.of(dims, kernel_size, stride, padding, 1, ceil_mode, name)
    if divisor_override == 0:
        raise RuntimeError(f"{name}: divisor must be not zero")
    if dims == 3 and any(n < k for n, k in zip(x._type.static_shape[2:], windows.kernel, strict=True)):
        raise ShapeError(f"{name}: {input._type} is smaller than the kernel {windows.kernel}", where=user_line())
    return as_given(_averages(x, windows, bool(count_include_pad), divisor_override), dims, single)


def _averages(x: Tensor, windows: Windows, include_pad: bool, divisor: int | None) -> Tensor:
    """Of [N, C, H, W] or [N, C, D, H, W]; int64 is cut toward 0."""
    dtype = x._type.dtype
    if dtype is dt.i64:
        x = cast(x, dt.f64)
    if x.ndim == 4:
        return cast(_averages_2d(x, windows, include_pad, divisor), dtype)
    n, c, d, h, w = x._type.static_shape
    wide = cast(x, dt.f32) if dtype.is_floating_point and dtype.itemsize == 2 else x
    whole = dtype is dt.i64                 # two divisions might end just below the integer that one gives
    first = 1 if whole or divisor is not None else None
    y = _averages_2d(reshaped(wide, (n, c * d, h, w)), windows.within_planes(), include_pad, first)
    oh, ow = y._type.static_shape[2:]
    y = _averages_2d(reshaped(y, (n, c, d, oh * ow)), windows.across_planes(), include_pad, 1 if whole else divisor)
    y = reshaped(y, (*y._type.static_shape[:3], oh, ow))
    if whole:
        counts = [axis.covered(with_padding=include_pad) for axis in windows.axes((d, h, w))]
        every = np.einsum("i,j,k->ijk", *counts) if divisor is None else np.full(y._type.static_shape[2:], divisor)
        y = dispatch(ops.div, y, expanded(holding(every.astype(np.float64), dt.f64), y._type.static_shape))
    return cast(y, dtype)


def _averages_2d(x: Tensor, windows: Windows, include_pad: bool, divisor: int | None) -> Tensor:
    kernel, stride, padding, _ = windows.of_plane()
    return dispatch(ops.AvgPool2d(kernel, stride, padding, windows.ceil, include_pad, divisor, _LAYOUT), x)


def avg_pool1d(input: Tensor, kernel_size: Any, stride: Any = None, padding: Any = 0, ceil_mode: bool = False,
               count_include_pad: bool = True) -> Tensor:
    """avg_pool2d along the last dim of [N, C, L] or [C, L]."""
    return _avg_pool("avg_pool1d", 1, input, kernel_size, stride, padding, ceil_mode, count_include_pad, None)


def avg_pool2d(input: Tensor, kernel_size: Any, stride: Any = None, padding: Any = 0, ceil_mode: bool = False,
               count_include_pad: bool = True, divisor_override: int | None = None) -> Tensor:
    """The average of each window (stride: the kernel by default); of int64 cut toward 0.

    Zeros around count as elements, unless count_include_pad is false. divisor_override: what to divide sums by instead.
    """
    return _avg_pool("avg_pool2d", 2, input, kernel_size, stride, padding, ceil_mode, count_include_pad,
                     divisor_override)


def avg_pool3d(input: Tensor, kernel_size: Any, stride: Any = None, padding: Any = 0, ceil_mode: bool = False,
               count_include_pad: bool = True, divisor_override: int | None = None) -> Tensor:
    """avg_pool2d over the last three dims of [N, C, D, H, W] or [C, D, H, W]."""
    return _avg_pool("avg_pool3d", 3, input, kernel_size, stride, padding, ceil_mode, count_include_pad,
                     divisor_override)


# -- p-norm -----------------------------------------------------------------------------------------------------------


def _lp_pool(name: str, dims: int, input: Tensor, norm_type: float, kernel_size: Any, stride: Any,
             ceil_mode: bool) -> Tensor:
    """A sum as an average times the kernel's elements, as PyTorch has it: a window that overhangs weighs as a whole one.
    """
    p, count = float(norm_type), math.prod(sizes(kernel_size, dims, f"{name}: kernel_size"))
    mean = _avg_pool(name, dims, pow(input, p), kernel_size, stride, 0, ceil_mode, True, None)
    return pow(mul(mul(sign(mean), relu(abs(mean))), count), 1.0 / p)


def lp_pool1d(input: Tensor, norm_type: float, kernel_size: Any, stride: Any = None, ceil_mode: bool = False) -> Tensor:
    """lp_pool2d along the last dim of [N, C, L] or [C, L]."""
    return _lp_pool("lp_pool1d", 1, input, norm_type, kernel_size, stride, ceil_mode)


def lp_pool2d(input: Tensor, norm_type: float, kernel_size: Any, stride: Any = None, ceil_mode: bool = False) -> Tensor:
    """(sum of x ** norm_type) ** (1 / norm_type) over each window."""
    return _lp_pool("lp_pool2d", 2, input, norm_type, kernel_size, stride, ceil_mode)


def lp_pool3d(input: Tensor, norm_type: float, kernel_size: Any, stride: Any = None, ceil_mode: bool = False) -> Tensor:
    """lp_pool2d over the last three dims of [N, C, D, H, W] or [C, D, H, W]."""
    return _lp_pool("lp_pool3d", 3, input, norm_type, kernel_size, stride, ceil_mode)


__all__ = ["avg_pool1d", "avg_pool2d", "avg_pool3d", "lp_pool1d", "lp_pool2d", "lp_pool3d", "max_pool1d",
           "max_pool1d_with_indices", "max_pool2d", "max_pool2d_with_indices", "max_pool3d", "max_pool3d_with_indices"]
public(globals(), __all__)
