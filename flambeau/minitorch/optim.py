"""Module 1: gradient descent on parameters that hold scalars or tensors."""
from __future__ import annotations

from collections.abc import Sequence

from flambeau.minitorch.module import Parameter
from flambeau.minitorch.scalar import Scalar


class Optimizer:
    """Holds the parameters."""

    def __init__(self, parameters: Sequence[Parameter]):
        self.parameters = parameters


class SGD(Optimizer):
    """Each step takes lr times the derivative off every parameter that has one."""

    def __init__(self, parameters: Sequence[Parameter], lr: float = 1.0):
        super().__init__(parameters)
        self.lr = lr

    def zero_grad(self) -> None:
        """Forget all derivatives."""
        for p in self.parameters:
            if hasattr(p.value, "value"):
                p.value.value.grad = None

    def step(self) -> None:
        """Update the parameters."""
        for p in self.parameters:
            v = p.value
            if isinstance(v, Scalar):
                if v.value.grad is not None:
                    p.update(Scalar.around(v.value.detach() - v.value.grad * self.lr))
            elif getattr(v, "grad", None) is not None:
                p.update(v.detach() - v.grad * self.lr)


__all__ = ["SGD", "Optimizer"]
