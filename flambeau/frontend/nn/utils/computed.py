"""Attributes of a Module that are computed from its parameters whenever they are read: `module.weight` of a module whose
weight is parametrized, normalized or pruned.

Such a module gets a class of its own, with a property for each attribute. Classes are never changed, only replaced, so that
copies may share them; a compiled function traces what a property computes and sees the class as part of the module.
"""
from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from flambeau.frontend.nn.module import Module
from flambeau.frontend.nn.parameter import Parameter
from flambeau.frontend.tensor.tensor import Tensor


class Source(Protocol):
    """What an attribute is computed by. It is pickled with the module."""

    def get(self, module: Any) -> Any:
        """The attribute's value now."""

    def set(self, module: Any, value: Any) -> None:
        """What assigning to the attribute does."""


def sources_of(module: Module) -> dict[str, Source]:
    """What computes which attribute."""
    return dict(type(module).__dict__.get("_sources", {}))


def plain_class(module: Module) -> type:
    """The class without computed attributes."""
    kind = type(module)
    found: type = kind.__bases__[0] if "_sources" in kind.__dict__ else kind
    return found


def compute(module: Module, name: str, source: Source, prefix: str = "") -> None:
    """From now on `module.name` is what `source` gives. prefix: what the class's name begins with then."""
    plain = plain_class(module)
    named = type(module).__name__ if not prefix or type(module).__name__.startswith(prefix) else prefix + plain.__name__
    module.__class__ = _class_of(plain, named, {**sources_of(module), name: source})


def compute_no_more(module: Module, name: str) -> None:
    """`module.name` is an attribute like others again."""
    plain, sources = plain_class(module), sources_of(module)
    del sources[name]
    module.__class__ = _class_of(plain, type(module).__name__, sources) if sources else plain


def _class_of(plain: type, name: str, sources: Mapping[str, Source]) -> type:
    def reduced(self: Any, protocol: Any) -> Any:
        return _unpickled, (plain, name, dict(sources)), self.__getstate__()

    properties = {key: property(source.get, source.set) for key, source in sources.items()}
    return type(name, (plain,), {"_sources": dict(sources), "__module__": plain.__module__, "__doc__": plain.__doc__,
                                 "__reduce_ex__": reduced, **properties})


def _unpickled(plain: type, name: str, sources: Mapping[str, Source]) -> Any:
    return object.__new__(_class_of(plain, name, sources))


def register(module: Module, name: str, tensor: Tensor) -> None:
    """As a parameter if it is one, else as a buffer."""
    if isinstance(tensor, Parameter):
        module.register_parameter(name, tensor)
    else:
        module.register_buffer(name, tensor)


__all__ = ["Source", "compute", "compute_no_more", "plain_class", "register", "sources_of"]
