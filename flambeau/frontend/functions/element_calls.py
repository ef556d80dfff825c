"""Python called with each element: `x.apply_` and `x.map_`, which are slow, and read what a compiled function has not."""
from __future__ import annotations

from collections.abc import Callable
from typing import Any

from flambeau.frontend.functions.coerce import one_tensor
from flambeau.frontend.functions.creation import tensor
from flambeau.frontend.functions.inplace import copy_
from flambeau.frontend.functions.views import expand_as
from flambeau.frontend.tensor.tensor import Tensor


def apply_(self: Tensor, callable: Callable[[Any], Any]) -> Tensor:
    """Each element becomes callable(element). Raises RuntimeError for a tensor that requires grad."""
    return _called(self, "apply_", callable, self)


def map_(self: Tensor, tensor: Tensor, callable: Callable[[Any, Any], Any]) -> Tensor:
    """Each element becomes callable(element, tensor's element), broadcast to this shape. Raises RuntimeError where one
    requires grad, TypeError for a tensor of another dtype."""
    other = one_tensor("map_", tensor)
    if other.dtype is not self.dtype:
        raise TypeError(f"map_: expected a tensor of {self.dtype!r} (got {other.dtype!r})")
    return _called(self, "map_", callable, self, expand_as(other, self))


def _called(x: Tensor, name: str, callable: Callable[..., Any], *operands: Tensor) -> Tensor:
    if any(t.requires_grad for t in operands):
        raise RuntimeError(f"{name}: can't be called on a tensor that requires grad; use x.detach().{name}()")
    found = map(callable, *[t.reshape(-1).tolist() for t in operands])
    return copy_(x, tensor(list(found), dtype=x.dtype).reshape(x.shape))


__all__ = ["apply_", "map_"]
