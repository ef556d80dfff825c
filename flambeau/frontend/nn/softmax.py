"""Softmax and its relatives, as modules."""
from __future__ import annotations

from flambeau.frontend.functions import activations as F
from flambeau.frontend.nn.module import Module
from flambeau.frontend.tensor.tensor import Tensor


class _Along(Module):
    """dim None: dim 0 for 0, 1 and 3 dims, else dim 1, as in PyTorch."""

    def __init__(self, dim: int | None = None):
        super().__init__()
        self.dim = dim

    def extra_repr(self) -> str:
        return f"dim={self.dim}"


class Softmax(_Along):
    """exp(x) / sum(exp(x)) along dim."""

    def forward(self, input: Tensor) -> Tensor:
        return F.softmax(input, self.dim)


class Softmin(_Along):
    """softmax(-x) along dim."""

    def forward(self, input: Tensor) -> Tensor:
        return F.softmin(input, self.dim)


class LogSoftmax(_Along):
    """log(softmax(x)) along dim."""

    def forward(self, input: Tensor) -> Tensor:
        return F.log_softmax(input, self.dim)


class Softmax2d(Module):
    """softmax over the channels of [N, C, H, W] or [C, H, W]. Raises ValueError for another number of dims."""

    def forward(self, input: Tensor) -> Tensor:
        if input.ndim not in (3, 4):
            raise ValueError(f"Softmax2d: expected input to be 3D or 4D, got {input.ndim}D instead")
        return F.softmax(input, -3)


__all__ = ["LogSoftmax", "Softmax", "Softmax2d", "Softmin"]
