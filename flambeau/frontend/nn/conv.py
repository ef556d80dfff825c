"""Convolution layers."""
from __future__ import annotations

from typing import Any

from flambeau.frontend.functions import convolution as F
from flambeau.frontend.functions.padding import pad
from flambeau.frontend.nn.init import default_weights_
from flambeau.frontend.nn.module import Module
from flambeau.frontend.nn.parameter import Parameter, empty_parameter
from flambeau.frontend.tensor.tensor import Tensor
from flambeau.ir.dtypes import DType

Sizes = int | tuple[int, ...]
_PADDING_MODES = ("zeros", "reflect", "replicate", "circular")


class _Conv(Module):
    """What Conv1d and Conv2d share; `rank` spatial dims. weight: [out_channels, in_channels / groups, *kernel_size]."""

    rank: int
    bias: Parameter | None

    def __init__(self, in_channels: int, out_channels: int, kernel_size: Sizes, stride: Sizes = 1,
                 padding: Sizes | str = 0, dilation: Sizes = 1, groups: int = 1, bias: bool = True,
                 padding_mode: str = "zeros", device: Any = None, dtype: DType | None = None):
        super().__init__()
        if groups <= 0:
            raise ValueError("groups must be a positive integer")
        if in_channels % groups:
            raise ValueError("in_channels must be divisible by groups")
        if out_channels % groups:
            raise ValueError("out_channels must be divisible by groups")
        self.in_channels, self.out_channels, self.groups = in_channels, out_channels, groups
        self.kernel_size, self.stride = self._per_dim(kernel_size), self._per_dim(stride)
        self.dilation = self._per_dim(dilation)
        self.padding = self._checked_padding(padding)
        if padding_mode not in _PADDING_MODES:
            raise ValueError(f"padding_mode must be one of {_PADDING_MODES}, but got padding_mode={padding_mode!r}")
        self.padding_mode = padding_mode
        self.weight = empty_parameter((out_channels, in_channels // groups, *self.kernel_size), dtype, device)
        self.register_parameter("bias", empty_parameter((out_channels,), dtype, device) if bias else None)
        self.reset_parameters()

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

    def _padded(self, input: Tensor) -> tuple[Tensor, tuple[int, ...] | str]:
        """The input with borders that are not zeros put around it, and the padding left to do."""
        if self.padding_mode == "zeros":
            return input, self.padding
        around: list[int] = []
        for dim in reversed(range(self.rank)):          # pad() counts dims from the last
            total = self.dilation[dim] * (self.kernel_size[dim] - 1) if self.padding == "same" else 0
            before, after = total // 2, total - total // 2
            if not isinstance(self.padding, str):
                before = after = self.padding[dim]
            around += [before, after]
        return pad(input, around, self.padding_mode), (0,) * self.rank

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
        if self.groups != 1:
            facts.append(f"groups={self.groups}")
        if self.bias is None:
            facts.append("bias=False")
        if self.padding_mode != "zeros":
            facts.append(f"padding_mode={self.padding_mode}")
        return ", ".join(facts)


class Conv1d(_Conv):
    """input: [n, in_channels, length] (or without n) -> [n, out_channels, new length]."""

    rank = 1

    def forward(self, input: Tensor) -> Tensor:
        x, padding = self._padded(input)
        return F.conv1d(x, self.weight, self.bias, self.stride, padding, self.dilation, self.groups)


class Conv2d(_Conv):
    """input: [n, in_channels, height, width] (or without n) -> [n, out_channels, new height, new width]."""

    rank = 2

    def forward(self, input: Tensor) -> Tensor:
        x, padding = self._padded(input)
        return F.conv2d(x, self.weight, self.bias, self.stride, padding, self.dilation, self.groups)


__all__ = ["Conv1d", "Conv2d"]
