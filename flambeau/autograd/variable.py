"""`autograd.Variable`, as PyTorch's programs once wrapped tensors."""
from __future__ import annotations

from typing import Any

from flambeau.frontend.tensor.tensor import Tensor


class _Kind(type):
    def __call__(cls, data: Tensor, requires_grad: bool = False, volatile: Any = False) -> Tensor:
        found = data.detach()
        return found.requires_grad_() if requires_grad else found

    def __instancecheck__(cls, instance: object) -> bool:
        return isinstance(instance, Tensor)


class Variable(metaclass=_Kind):
    """The data of a tensor as a leaf. Every tensor is one."""
