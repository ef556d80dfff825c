"""Pooling layers over one to three dims behind [n, channels] (or [channels])."""
from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

from flambeau.frontend.functions import adaptive_pooling, pooling, unpooling
from flambeau.frontend.functions.pooling import sizes
from flambeau.frontend.nn.module import Module
from flambeau.frontend.tensor.tensor import Tensor

# -- maximum ----------------------------------------------------------------------------------------------------------


class _MaxPool(Module):
    """The maximum of each window; stride defaults to kernel_size, padding counts as -inf."""

    _function: ClassVar[Callable[..., Any]]

    def __init__(self, kernel_size: Any, stride: Any = None, padding: Any = 0, dilation: Any = 1,
                 return_indices: bool = False, ceil_mode: bool = False):
        super().__init__()
        self.kernel_size, self.stride = kernel_size, kernel_size if stride is None else stride
        self.padding, self.dilation, self.return_indices, self.ceil_mode = padding, dilation, return_indices, ceil_mode

    def forward(self, input: Tensor) -> Any:
        return type(self)._function(input, self.kernel_size, self.stride, self.padding, self.dilation,
                                    ceil_mode=self.ceil_mode, return_indices=self.return_indices)

    def extra_repr(self) -> str:
        return (f"kernel_size={self.kernel_size}, stride={self.stride}, padding={self.padding}, "
                f"dilation={self.dilation}, ceil_mode={self.ceil_mode}")


class MaxPool1d(_MaxPool):
    """The maximum of each window of [n, channels, length]."""

    _function = staticmethod(pooling.max_pool1d)


class MaxPool2d(_MaxPool):
    """The maximum of each window of [n, channels, height, width]."""

    _function = staticmethod(pooling.max_pool2d)


class MaxPool3d(_MaxPool):
    """The maximum of each window of [n, channels, depth, height, width]."""

    _function = staticmethod(pooling.max_pool3d)


class _MaxUnpool(Module):
    """Zeros, with the input's elements at the places where a maximum pooling found them."""

    _function: ClassVar[Callable[..., Any]]
    _dims: ClassVar[int]

    def __init__(self, kernel_size: Any, stride: Any = None, padding: Any = 0):
        super().__init__()
        name = type(self).__name__
        self.kernel_size = sizes(kernel_size, self._dims, f"{name}: kernel_size")
        self.stride = self.kernel_size if stride is None else sizes(stride, self._dims, f"{name}: stride")
        self.padding = sizes(padding, self._dims, f"{name}: padding")

    def forward(self, input: Tensor, indices: Tensor, output_size: Any = None) -> Tensor:
        return type(self)._function(input, indices, self.kernel_size, self.stride, self.padding, output_size)

    def extra_repr(self) -> str:
        return f"kernel_size={self.kernel_size}, stride={self.stride}, padding={self.padding}"


class MaxUnpool1d(_MaxUnpool):
    """max_unpool1d."""

    _function, _dims = staticmethod(unpooling.max_unpool1d), 1


class MaxUnpool2d(_MaxUnpool):
    """max_unpool2d."""

    _function, _dims = staticmethod(unpooling.max_unpool2d), 2


class MaxUnpool3d(_MaxUnpool):
    """max_unpool3d."""

    _function, _dims = staticmethod(unpooling.max_unpool3d), 3


class _FractionalMaxPool(Module):
    """The maximum of each of output_size windows (or output_ratio of the sizes) that stand where chance puts them."""

    _function: ClassVar[Callable[..., Any]]
    _dims: ClassVar[int]

    def __init__(self, kernel_size: Any, output_size: Any = None, output_ratio: Any = None,
                 return_indices: bool = False, _random_samples: Tensor | None = None):
        super().__init__()
        name, dims = type(self).__name__, self._dims
        if (output_size is None) == (output_ratio is None):
            raise ValueError(f"{name}: pass either output_size or output_ratio")
        self.kernel_size, self.return_indices = sizes(kernel_size, dims, f"{name}: kernel_size"), return_indices
        self.output_size = None if output_size is None else sizes(output_size, dims, f"{name}: output_size")
        self.output_ratio = None
        if output_ratio is not None:
            ratios = tuple(output_ratio) if isinstance(output_ratio, (tuple, list)) else (output_ratio,) * dims
            if not all(0 < ratio < 1 for ratio in ratios):
                raise ValueError(f"{name}: output_ratio must be between 0 and 1, got {output_ratio}")
            self.output_ratio = ratios
        self.register_buffer("_random_samples", _random_samples)

    def forward(self, input: Tensor) -> Any:
        return type(self)._function(input, self.kernel_size, self.output_size, self.output_ratio, self.return_indices,
                                    _random_samples=self._random_samples)


class FractionalMaxPool2d(_FractionalMaxPool):
    """fractional_max_pool2d."""

    _function, _dims = staticmethod(adaptive_pooling.fractional_max_pool2d), 2


class FractionalMaxPool3d(_FractionalMaxPool):
    """fractional_max_pool3d."""

    _function, _dims = staticmethod(adaptive_pooling.fractional_max_pool3d), 3


# -- average and p-norm -----------------------------------------------------------------------------------------------


class AvgPool1d(Module):
    """The mean of each window of [n, channels, length]; stride defaults to kernel_size, zero padding counts unless
    count_include_pad=False."""

    def __init__(self, kernel_size: Any, stride: Any = None, padding: Any = 0, ceil_mode: bool = False,
                 count_include_pad: bool = True):
        super().__init__()
        self.kernel_size = sizes(kernel_size, 1, "AvgPool1d: kernel_size")
        self.stride = self.kernel_size if stride is None else sizes(stride, 1, "AvgPool1d: stride")
        self.padding, self.ceil_mode = sizes(padding, 1, "AvgPool1d: padding"), ceil_mode
        self.count_include_pad = count_include_pad

    def forward(self, input: Tensor) -> Tensor:
        return pooling.avg_pool1d(input, self.kernel_size, self.stride, self.padding, self.ceil_mode,
                                  self.count_include_pad)

    def extra_repr(self) -> str:
        return f"kernel_size={self.kernel_size}, stride={self.stride}, padding={self.padding}"


class _AvgPool(Module):
    """The mean of each window; stride defaults to kernel_size, zero padding counts unless count_include_pad=False."""

    _function: ClassVar[Callable[..., Any]]

    def __init__(self, kernel_size: Any, stride: Any = None, padding: Any = 0, ceil_mode: bool = False,
                 count_include_pad: bool = True, divisor_override: int | None = None):
        super().__init__()
        self.kernel_size, self.stride = kernel_size, kernel_size if stride is None else stride
        self.padding, self.ceil_mode = padding, ceil_mode
        self.count_include_pad, self.divisor_override = count_include_pad, divisor_override

    def forward(self, input: Tensor) -> Tensor:
        return type(self)._function(input, self.kernel_size, self.stride, self.padding, self.ceil_mode,
                                    self.count_include_pad, self.divisor_override)

    def extra_repr(self) -> str:
        return f"kernel_size={self.kernel_size}, stride={self.stride}, padding={self.padding}"


class AvgPool2d(_AvgPool):
    """The mean of each window of [n, channels, height, width]."""

    _function = staticmethod(pooling.avg_pool2d)


class AvgPool3d(_AvgPool):
    """The mean of each window of [n, channels, depth, height, width]."""

    _function = staticmethod(pooling.avg_pool3d)


class _LPPool(Module):
    """(sum of x ** norm_type) ** (1 / norm_type) over each window; stride defaults to kernel_size."""

    _function: ClassVar[Callable[..., Any]]

    def __init__(self, norm_type: float, kernel_size: Any, stride: Any = None, ceil_mode: bool = False):
        super().__init__()
        self.norm_type, self.kernel_size, self.stride, self.ceil_mode = norm_type, kernel_size, stride, ceil_mode

    def forward(self, input: Tensor) -> Tensor:
        return type(self)._function(input, float(self.norm_type), self.kernel_size, self.stride, self.ceil_mode)

    def extra_repr(self) -> str:
        return (f"norm_type={self.norm_type}, kernel_size={self.kernel_size}, stride={self.stride}, "
                f"ceil_mode={self.ceil_mode}")


class LPPool1d(_LPPool):
    """lp_pool1d."""

    _function = staticmethod(pooling.lp_pool1d)


class LPPool2d(_LPPool):
    """lp_pool2d."""

    _function = staticmethod(pooling.lp_pool2d)


class LPPool3d(_LPPool):
    """lp_pool3d."""

    _function = staticmethod(pooling.lp_pool3d)


# -- to a size --------------------------------------------------------------------------------------------------------


class _AdaptivePool(Module):
    """Windows that cover the image; output_size: an int for all dims or one for each, None keeps a dim's size."""

    _function: ClassVar[Callable[..., Any]]

    def __init__(self, output_size: Any):
        super().__init__()
        self.output_size = output_size

    def forward(self, input: Tensor) -> Any:
        return type(self)._function(input, self.output_size)

    def extra_repr(self) -> str:
        return f"output_size={self.output_size}"


class AdaptiveAvgPool1d(_AdaptivePool):
    """The mean of each of output_size windows that cover the line."""

    _function = staticmethod(adaptive_pooling.adaptive_avg_pool1d)


class AdaptiveAvgPool2d(_AdaptivePool):
    """The mean of output_size x output_size windows that cover the plane; None keeps a dim's size."""

    _function = staticmethod(adaptive_pooling.adaptive_avg_pool2d)


class AdaptiveAvgPool3d(_AdaptivePool):
    """The mean of each of the windows that cover the room; None keeps a dim's size."""

    _function = staticmethod(adaptive_pooling.adaptive_avg_pool3d)


class _AdaptiveMaxPool(_AdaptivePool):
    """The maximum of each window, and where it is when asked for."""

    def __init__(self, output_size: Any, return_indices: bool = False):
        super().__init__(output_size)
        self.return_indices = return_indices

    def forward(self, input: Tensor) -> Any:
        return type(self)._function(input, self.output_size, self.return_indices)


class AdaptiveMaxPool1d(_AdaptiveMaxPool):
    """adaptive_max_pool1d."""

    _function = staticmethod(adaptive_pooling.adaptive_max_pool1d)


class AdaptiveMaxPool2d(_AdaptiveMaxPool):
    """adaptive_max_pool2d."""

    _function = staticmethod(adaptive_pooling.adaptive_max_pool2d)


class AdaptiveMaxPool3d(_AdaptiveMaxPool):
    """adaptive_max_pool3d."""

    _function = staticmethod(adaptive_pooling.adaptive_max_pool3d)


__all__ = [
    "AdaptiveAvgPool1d", "AdaptiveAvgPool2d", "AdaptiveAvgPool3d", "AdaptiveMaxPool1d", "AdaptiveMaxPool2d",
    "AdaptiveMaxPool3d", "AvgPool1d", "AvgPool2d", "AvgPool3d", "FractionalMaxPool2d", "FractionalMaxPool3d", "LPPool1d",
    "LPPool2d", "LPPool3d", "MaxPool1d", "MaxPool2d", "MaxPool3d", "MaxUnpool1d", "MaxUnpool2d", "MaxUnpool3d",
]
