"""Convolution layers."""
from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from flambeau.frontend.functions import convolution as F
from flambeau.frontend.functions.padding import pad
from flambeau.frontend.nn.init import default_weights_
from flambeau.frontend.nn.module import Module
from flambeau.frontend.nn.parameter import Parameter, empty_parameter
from flambeau.frontend.tensor.tensor import Tensor
from flambeau.ir.dtypes import DType

Sizes = int | tuple[int, ...]
_PADDING_MODES = ("zeros", "reflect", "replicate", "circular")


class _ConvNd(Module):
    """What convolutions and transposed ones share; `rank` spatial dims."""

    rank: ClassVar[int]
    transposed: ClassVar[bool]
    bias: Parameter | None

    def _set_up(self, in_channels: int, out_channels: int, kernel_size: Sizes, stride: Sizes, padding: Sizes | str,
                dilation: Sizes, output_padding: Sizes, groups: int, bias: bool, padding_mode: str, device: Any,
                dtype: DType | None) -> None:
        if groups <= 0:
            raise ValueError("groups must be a positive integer")
        if in_channels % groups:
            raise ValueError(f"in_channels must be divisible by groups, got {in_channels} and {groups}")
        if out_channels % groups:
            raise ValueError(f"out_channels must be divisible by groups, got {out_channels} and {groups}")
        self.in_channels, self.out_channels, self.groups = in_channels, out_channels, groups
        self.kernel_size, self.stride = self._per_dim(kernel_size), self._per_dim(stride)
        self.dilation, self.output_padding = self._per_dim(dilation), self._per_dim(output_padding)
        self.padding = self._checked_padding(padding)
        if padding_mode not in _PADDING_MODES:
            raise ValueError(f"padding_mode must be one of {_PADDING_MODES}, but got padding_mode={padding_mode!r}")
        self.padding_mode = padding_mode
        self.weight = empty_parameter(self._weight_shape(), dtype, device)
        self.register_parameter("bias", empty_parameter((out_channels,), dtype, device) if bias else None)
        self.reset_parameters()

    def _weight_shape(self) -> tuple[int, ...]:
        first, second = self.out_channels, self.in_channels
        if self.transposed:
            first, second = second, first
        return (first, second // self.groups, *self.kernel_size)

    def _per_dim(self, sizes: Sizes) -> tuple[int, ...]:
        given = tuple(sizes) if isinstance(sizes, (tuple, list)) else (sizes,) * self.rank
        if len(given) != self.rank:
            raise ValueError(f"{self._get_name()}: expected one number or {self.rank}, got {sizes}")
        return given

    def _checked_padding(self, padding: Sizes | str) -> tuple[int, ...] | str:
        if not isinstance(padding, str):
            return self._per_dim(padding)
        if padding not in ("same", "valid"):
            raise ValueError(f"Invalid padding string '{padding}', should be one of {{'valid', 'same'}}")
        if padding == "same" and any(s != 1 for s in self.stride):
            raise ValueError("padding='same' is not supported for strided convolutions")
        return padding

    def reset_parameters(self) -> None:
        """Draw weight and bias anew, uniform within 1 / sqrt(fan_in)."""
        default_weights_(self.weight, self.bias)

    def extra_repr(self) -> str:
        facts = [f"{self.in_channels}", f"{self.out_channels}", f"kernel_size={self.kernel_size}",
                 f"stride={self.stride}"]
        if self.padding != (0,) * self.rank:
            facts.append(f"padding={self.padding}")
        if self.dilation != (1,) * self.rank:
            facts.append(f"dilation={self.dilation}")
        if self.output_padding != (0,) * self.rank:
            facts.append(f"output_padding={self.output_padding}")
        if self.groups != 1:
            facts.append(f"groups={self.groups}")
        if self.bias is None:
            facts.append("bias=False")
        if self.padding_mode != "zeros":
            facts.append(f"padding_mode={self.padding_mode}")
        return ", ".join(facts)


class _Plain(_ConvNd):
    """weight: [out_channels, in_channels / groups, *kernel_size]."""

    transposed = False

    def __init__(self, in_channels: int, out_channels: int, kernel_size: Sizes, stride: Sizes = 1,
                 padding: Sizes | str = 0, dilation: Sizes = 1, groups: int = 1, bias: bool = True,
                 padding_mode: str = "zeros", device: Any = None, dtype: DType | None = None):
        super().__init__()
        self._set_up(in_channels, out_channels, kernel_size, stride, padding, dilation, 0, groups, bias, padding_mode,
                     device, dtype)

    def _padded(self, input: Tensor) -> tuple[Tensor, tuple[int, ...] | str]:
        """The input with borders that are not zeros put around it, and the padding left to do."""
        if self.padding_mode == "zeros":
            return input, self.padding
        return pad(input, self._reversed_padding_repeated_twice, self.padding_mode), (0,) * self.rank

    @property
    def _reversed_padding_repeated_twice(self) -> list[int]:
        """The padding as `pad` takes it, under the name that PyTorch's subclasses know."""
        around: list[int] = []
        for dim in reversed(range(self.rank)):          # pad() counts dims from the last
            total = self.dilation[dim] * (self.kernel_size[dim] - 1) if self.padding == "same" else 0
            before, after = total // 2, total - total // 2
            if not isinstance(self.padding, str):
                before = after = self.padding[dim]
            around += [before, after]
        return around


class Conv1d(_Plain):
    """input: [n, in_channels, length] (or without n) -> [n, out_channels, new length]."""

    rank = 1

    def forward(self, input: Tensor) -> Tensor:
        return self._conv_forward(input, self.weight, self.bias)

    def _conv_forward(self, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        x, padding = self._padded(input)
        return F.conv1d(x, weight, bias, self.stride, padding, self.dilation, self.groups)


class Conv2d(_Plain):
    """input: [n, in_channels, height, width] (or without n) -> [n, out_channels, new height, new width]."""

    rank = 2

    def forward(self, input: Tensor) -> Tensor:
        return self._conv_forward(input, self.weight, self.bias)

    def _conv_forward(self, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        x, padding = self._padded(input)
        return F.conv2d(x, weight, bias, self.stride, padding, self.dilation, self.groups)


class Conv3d(_Plain):
    """input: [n, in_channels, depth, height, width] (or without n) -> [n, out_channels, new depth, height and width]."""

    rank = 3

    def forward(self, input: Tensor) -> Tensor:
        return self._conv_forward(input, self.weight, self.bias)

    def _conv_forward(self, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        x, padding = self._padded(input)
        return F.conv3d(x, weight, bias, self.stride, padding, self.dilation, self.groups)


class _ConvTransposeNd(_ConvNd):
    """weight: [in_channels, out_channels / groups, *kernel_size]."""

    transposed = True

    def __init__(self, in_channels: int, out_channels: int, kernel_size: Sizes, stride: Sizes = 1, padding: Sizes = 0,
                 output_padding: Sizes = 0, groups: int = 1, bias: bool = True, dilation: Sizes = 1,
                 padding_mode: str = "zeros", device: Any = None, dtype: DType | None = None):
        super().__init__()
        if padding_mode != "zeros":
            raise ValueError(f'Only "zeros" padding mode is supported for {self._get_name()}')
        self._set_up(in_channels, out_channels, kernel_size, stride, padding, dilation, output_padding, groups, bias,
                     padding_mode, device, dtype)

    def _extra(self, input: Tensor, output_size: Sequence[int] | None) -> tuple[int, ...]:
        """The output padding that makes the output so large. Raises ValueError for a size that none makes."""
        if output_size is None:
            return self.output_padding
        wanted = tuple(output_size)
        if len(wanted) == input.ndim:
            wanted = wanted[input.ndim - self.rank:]
        if len(wanted) != self.rank:
            raise ValueError(f"{self._get_name()}: for {input.ndim}D input, output_size must have {self.rank} or "
                             f"{input.ndim} elements (got {len(output_size)})")
        assert isinstance(self.padding, tuple)
        sizes = input.shape[input.ndim - self.rank:]
        least = [(size - 1) * stride - 2 * padding + dilation * (kernel - 1) + 1 for size, stride, padding, dilation, kernel
                 in zip(sizes, self.stride, self.padding, self.dilation, self.kernel_size, strict=True)]
        most = [low + stride - 1 for low, stride in zip(least, self.stride, strict=True)]
        if any(not low <= size <= high for low, size, high in zip(least, wanted, most, strict=True)):
            raise ValueError(f"{self._get_name()}: output_size {wanted} does not lie between {tuple(least)} and "
                             f"{tuple(most)}, which input sizes {tuple(sizes)} can give")
        return tuple([size - low for size, low in zip(wanted, least, strict=True)])


class ConvTranspose1d(_ConvTransposeNd):
    """input: [n, in_channels, length] (or without n) -> [n, out_channels, new length].

    output_size: which of the lengths that a stride leaves open. Raises ValueError for one that can't be."""

    rank = 1

    def forward(self, input: Tensor, output_size: Sequence[int] | None = None) -> Tensor:
        return F.conv_transpose1d(input, self.weight, self.bias, self.stride, self.padding,
                                  self._extra(input, output_size), self.groups, self.dilation)


class ConvTranspose2d(_ConvTransposeNd):
    """input: [n, in_channels, height, width] (or without n) -> [n, out_channels, new height, new width].

    output_size: which of the sizes that strides leave open. Raises ValueError for one that can't be."""

    rank = 2

    def forward(self, input: Tensor, output_size: Sequence[int] | None = None) -> Tensor:
        return F.conv_transpose2d(input, self.weight, self.bias, self.stride, self.padding,
                                  self._extra(input, output_size), self.groups, self.dilation)


class ConvTranspose3d(_ConvTransposeNd):
    """input: [n, in_channels, depth, height, width] (or without n) -> [n, out_channels, new depth, height and width].

    output_size: which of the sizes that strides leave open. Raises ValueError for one that can't be."""

    rank = 3

    def forward(self, input: Tensor, output_size: Sequence[int] | None = None) -> Tensor:
        return F.conv_transpose3d(input, self.weight, self.bias, self.stride, self.padding,
                                  self._extra(input, output_size), self.groups, self.dilation)


__all__ = ["Conv1d", "Conv2d", "Conv3d", "ConvTranspose1d", "ConvTranspose2d", "ConvTranspose3d"]
