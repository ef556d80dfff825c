"""Dropout."""
from __future__ import annotations

from flambeau.frontend.functions.layers import dropout
from flambeau.frontend.nn.module import Module
from flambeau.frontend.tensor.tensor import Tensor


class Dropout(Module):
    """In training each element is zeroed with probability p and the others are divided by 1 - p."""

    def __init__(self, p: float = 0.5, inplace: bool = False):
        super().__init__()
        if not 0 <= p <= 1:
            raise ValueError(f"dropout probability has to be between 0 and 1, but got {p}")
        self.p, self.inplace = p, inplace

    def forward(self, input: Tensor) -> Tensor:
        return dropout(input, self.p, self.training, self.inplace)

    def extra_repr(self) -> str:
        return f"p={self.p}, inplace={self.inplace}"


__all__ = ["Dropout"]
