"""Padding layers over [n, channels, *sizes] (or without n): padding is an int, or (left, right, top, bottom, ...)."""
from __future__ import annotations

from typing import ClassVar

from flambeau.frontend.functions.padding import pad
from flambeau.frontend.nn.module import Module
from flambeau.frontend.tensor.tensor import Tensor

Amounts = int | tuple[int, ...]


class _Pad(Module):
    """What all share: `rank` padded dims."""

    rank: ClassVar[int]
    mode: ClassVar[str]

    def __init__(self, padding: Amounts):
        super().__init__()
        self.padding = tuple(padding) if isinstance(padding, (tuple, list)) else (padding,) * (2 * self.rank)

    def forward(self, input: Tensor) -> Tensor:
        return pad(input, self.padding, self.mode)

    def extra_repr(self) -> str:
        return f"{self.padding}"


class _ReflectionPad(_Pad):
    mode = "reflect"


class ReflectionPad1d(_ReflectionPad):
    """The input turned round at its edges, along the last dim."""

    rank = 1


class ReflectionPad2d(_ReflectionPad):
    """The input turned round at its edges, along the last 2 dims."""

    rank = 2


class ReflectionPad3d(_ReflectionPad):
    """The input turned round at its edges, along the last 3 dims."""

    rank = 3


class _ReplicationPad(_Pad):
    mode = "replicate"


class ReplicationPad1d(_ReplicationPad):
    """The edges repeated, along the last dim."""

    rank = 1


class ReplicationPad2d(_ReplicationPad):
    """The edges repeated, along the last 2 dims."""

    rank = 2


class ReplicationPad3d(_ReplicationPad):
    """The edges repeated, along the last 3 dims."""

    rank = 3


class _CircularPad(_Pad):
    mode = "circular"

    def forward(self, input: Tensor) -> Tensor:
        if input.ndim not in (self.rank + 1, self.rank + 2):
            raise ValueError(f"expected {self.rank + 1}D or {self.rank + 2}D input (got {input.ndim}D input)")
        return super().forward(input)


class CircularPad1d(_CircularPad):
    """The input's other end, along the last dim. Raises ValueError for other than 2 or 3 dims."""

    rank = 1


class CircularPad2d(_CircularPad):
    """The input's other ends, along the last 2 dims. Raises ValueError for other than 3 or 4 dims."""

    rank = 2


class CircularPad3d(_CircularPad):
    """The input's other ends, along the last 3 dims. Raises ValueError for other than 4 or 5 dims."""

    rank = 3


class _ConstantPad(_Pad):
    mode = "constant"
    value: float

    def __init__(self, padding: Amounts, value: float):
        super().__init__(padding)
        self.value = value

    def forward(self, input: Tensor) -> Tensor:
        return pad(input, self.padding, self.mode, self.value)

    def extra_repr(self) -> str:
        return f"padding={self.padding}, value={self.value}"


class ConstantPad1d(_ConstantPad):
    """`value` around the last dim."""

    rank = 1


class ConstantPad2d(_ConstantPad):
    """`value` around the last 2 dims."""

    rank = 2


class ConstantPad3d(_ConstantPad):
    """`value` around the last 3 dims."""

    rank = 3


class _ZeroPad(_ConstantPad):
    def __init__(self, padding: Amounts):
        super().__init__(padding, 0.0)

    def extra_repr(self) -> str:
        return f"{self.padding}"


class ZeroPad1d(_ZeroPad, ConstantPad1d):
    """Zeros around the last dim."""


class ZeroPad2d(_ZeroPad, ConstantPad2d):
    """Zeros around the last 2 dims."""


class ZeroPad3d(_ZeroPad, ConstantPad3d):
    """Zeros around the last 3 dims."""


__all__ = ["CircularPad1d", "CircularPad2d", "CircularPad3d", "ConstantPad1d", "ConstantPad2d", "ConstantPad3d",
           "ReflectionPad1d", "ReflectionPad2d", "ReflectionPad3d", "ReplicationPad1d", "ReplicationPad2d",
           "ReplicationPad3d", "ZeroPad1d", "ZeroPad2d", "ZeroPad3d"]
