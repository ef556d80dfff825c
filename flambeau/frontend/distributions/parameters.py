"""Parameters of distributions: numbers and tensors made alike, and those that follow from others."""
from __future__ import annotations

from collections.abc import Callable
from typing import Any

from flambeau.frontend.active import active
from flambeau.frontend.functions.activations import softplus
from flambeau.frontend.functions.creation import full
from flambeau.frontend.functions.dtypes import finfo
from flambeau.frontend.functions.pointwise import log, log1p
from flambeau.frontend.functions.reductions import logsumexp, softmax
from flambeau.frontend.functions.views import broadcast_tensors
from flambeau.frontend.tensor.promotion import get_default_dtype
from flambeau.frontend.tensor.tensor import Tensor

EULER = 0.57721566490153286060


class derived:
    """A parameter computed from others each time it is read; one that was given stands in its place as an attribute.
    Nothing is kept, so that a distribution from outside a compiled function is not changed by it."""

    def __init__(self, function: Callable[[Any], Tensor]) -> None:
        self.function = function
        self.__doc__ = function.__doc__

    def __get__(self, instance: Any, owner: type) -> Any:
        return self if instance is None else self.function(instance)


def values_are_known() -> bool:
    """Whether Python can look at the numbers in tensors: not while a function is traced or transformed."""
    return active.tracer is None or not active.tracer.hides_values


def broadcast_all(*values: Any) -> tuple[Tensor, ...]:
    """Numbers and tensors -> tensors of one shape. Numbers take the dtype of the first tensor, or the default one."""
    dtype = next((value.dtype for value in values if isinstance(value, Tensor)), get_default_dtype())
    return broadcast_tensors(*[v if isinstance(v, Tensor) else full((), v, dtype=dtype) for v in values])


def clamp_probs(probs: Tensor) -> Tensor:
    """Probabilities of finite logits: in [eps, 1 - eps]."""
    eps = finfo(probs.dtype).eps
    return probs.clamp(eps, 1 - eps)


def probs_to_logits(probs: Tensor, is_binary: bool = False) -> Tensor:
    """log(p), or log(p / (1 - p)), of clamped probabilities."""
    inside = clamp_probs(probs)
    return log(inside) - log1p(-inside) if is_binary else log(inside)


def logits_to_probs(logits: Tensor, is_binary: bool = False) -> Tensor:
    """Softmax over the last dim, or sigmoid."""
    return logits.sigmoid() if is_binary else softmax(logits, dim=-1)


def normalized(logits: Tensor) -> Tensor:
    """Logits whose exponentials add up to 1 along the last dim."""
    return logits - logsumexp(logits, dim=-1, keepdim=True)


def one_of(name: str, **given: Any) -> str:
    """The name of the one argument that was given. Raises ValueError unless it is exactly one."""
    names = [key for key, value in given.items() if value is not None]
    if len(names) != 1:
        raise ValueError(f"{name}: give exactly one of {', '.join(given)}, got {' and '.join(names) or 'none'}")
    return names[0]


def sum_rightmost(value: Tensor, dims: int) -> Tensor:
    """The sum over the last `dims` dims."""
    return value.sum(tuple(range(-dims, 0))) if dims else value


def binary_cross_entropy(logits: Tensor, value: Tensor) -> Tensor:
    """-log of the probability that a coin with these logits shows `value`, elementwise."""
    return softplus(logits) - logits * value
