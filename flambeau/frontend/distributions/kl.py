"""kl_divergence(p, q), and the registry of pairs that have one."""
from __future__ import annotations

from collections.abc import Callable
from typing import Any

from flambeau.frontend.distributions.distribution import Distribution
from flambeau.frontend.tensor.tensor import Tensor

_registry: dict[tuple[type, type], Callable[[Any, Any], Tensor]] = {}


def register_kl(type_p: type, type_q: type) -> Callable[[Any], Any]:
    """A decorator: the function gives kl_divergence for this pair of classes and their subclasses."""
    for kind in (type_p, type_q):
        if not (isinstance(kind, type) and issubclass(kind, Distribution)):
            raise TypeError(f"register_kl: expected classes of distributions, got {kind!r}")

    def register(function: Callable[[Any, Any], Tensor]) -> Callable[[Any, Any], Tensor]:
        _registry[type_p, type_q] = function
        return function

    return register


def _found(type_p: type, type_q: type) -> Callable[[Any, Any], Tensor] | None:
    """The function of the nearest pair of classes: by p's class first, then by q's."""
    pairs = ((a, b) for a in type_p.__mro__ for b in type_q.__mro__)
    return next((_registry[pair] for pair in pairs if pair in _registry), None)


def kl_divergence(p: Distribution, q: Distribution) -> Tensor:
    """The integral of p (log p - log q): [batch_shape]. Raises NotImplementedError for a pair that is not registered."""
    function = _found(type(p), type(q))
    if function is None:
        raise NotImplementedError(f"no kl_divergence of a {type(p).__name__} from a {type(q).__name__} is registered")
    return function(p, q)


__all__ = ["kl_divergence", "register_kl"]
