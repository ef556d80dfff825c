"""Module 0: a tree of modules, whose parameters hold anything."""
from __future__ import annotations

from collections.abc import Iterator
from typing import Any


class Parameter:
    """A named value. One that can require gradients is asked to."""

    def __init__(self, x: Any, name: str | None = None):
        self.name = name
        self.update(x)

    def update(self, x: Any) -> None:
        """Put x in its place."""
        self.value = x
        if hasattr(x, "requires_grad_"):
            x.requires_grad_(True)
            if self.name:
                x.name = self.name

    def __repr__(self) -> str:
        return repr(self.value)


class Module:
    """Parameters and modules assigned to its attributes are its own; calling it calls `forward`."""

    _modules: dict[str, Module]
    _parameters: dict[str, Parameter]
    training: bool

    def __init__(self) -> None:
        self._modules, self._parameters, self.training = {}, {}, True

    def modules(self) -> list[Module]:
        """The direct children."""
        return list(self._modules.values())

    @property
    def mode(self) -> str:
        """"train" or "eval"."""
        return "train" if self.training else "eval"

    def train(self) -> None:
        """Training mode, for this module and all below it."""
        for module in self._all():
            module.training = True

    def eval(self) -> None:
        """Evaluation mode, for this module and all below it."""
        for module in self._all():
            module.training = False

    def _all(self) -> Iterator[Module]:
        yield self
        for module in self._modules.values():
            yield from module._all()

    def named_parameters(self) -> list[tuple[str, Parameter]]:
        """The parameters of this module and of all below it, by their paths ("layer.bias")."""
        own = list(self._parameters.items())
        return own + [(f"{child}.{name}", parameter) for child, module in self._modules.items()
                      for name, parameter in module.named_parameters()]

    def parameters(self) -> list[Parameter]:
        """The parameters of this module and of all below it."""
        return [parameter for _, parameter in self.named_parameters()]

    def add_parameter(self, k: str, v: Any) -> Parameter:
        """A new parameter of that name and value."""
        made = self._parameters[k] = Parameter(v, k)
        return made

    def __setattr__(self, key: str, val: Any) -> None:
        if isinstance(val, Parameter):
            self._parameters[key] = val
        elif isinstance(val, Module):
            self._modules[key] = val
        else:
            super().__setattr__(key, val)

    def __getattr__(self, key: str) -> Any:
        for found in (self.__dict__.get("_parameters", {}), self.__dict__.get("_modules", {})):
            if key in found:
                return found[key]
        raise AttributeError(f"{type(self).__name__} has no attribute {key!r}")

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        raise NotImplementedError(f"{type(self).__name__} defines no forward()")

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.forward(*args, **kwargs)

    def __repr__(self) -> str:
        children = [f"  ({name}): " + repr(module).replace("\n", "\n  ") for name, module in self._modules.items()]
        return f"{type(self).__name__}(" + "".join(f"\n{child}" for child in children) + ("\n)" if children else ")")


__all__ = ["Module", "Parameter"]
