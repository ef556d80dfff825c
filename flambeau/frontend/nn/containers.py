"""Containers of modules. Members are registered under their index or key."""
from __future__ import annotations

import operator
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, TypeVar, overload

from flambeau.frontend.epoch import epoch
from flambeau.frontend.nn.module import Module, checked_module

S = TypeVar("S", bound="_Indexed")


class _Indexed(Module):
    """Modules under "0", "1", ...: what Sequential and ModuleList share."""

    def _position(self, index: int) -> str:
        position, count = operator.index(index), len(self)
        if not -count <= position < count:
            raise IndexError(f"index {position} is out of range for {self._get_name()} of {count} modules")
        return list(self._modules)[position]

    @overload
    def __getitem__(self: S, index: slice) -> S: ...

    @overload
    def __getitem__(self, index: int) -> Any: ...

    def __getitem__(self: S, index: int | slice) -> Any:
        if isinstance(index, slice):
            return self._like(list(self._modules.items())[index])
        return self._modules[self._position(index)]

    def _like(self: S, members: list[tuple[str, Any]]) -> S:
        return type(self)([module for _, module in members])

    def __setitem__(self, index: int, module: Module) -> None:
        setattr(self, self._position(index), module)

    def __delitem__(self, index: int | slice) -> None:
        names = list(self._modules)
        gone = names[index] if isinstance(index, slice) else [self._position(index)]
        self._renumber([self._modules[name] for name in names if name not in gone])

    def _renumber(self, modules: Iterable[Module]) -> None:
        modules = list(modules)
        self._modules.clear()
        self._modules.update({str(n): module for n, module in enumerate(modules)})
        epoch.bump()

    def __len__(self) -> int:
        return len(self._modules)

    def __iter__(self) -> Iterator[Any]:
        return iter(list(self._modules.values()))

    def append(self: S, module: Module) -> S:
        """Add a module at the end."""
        self.register_module(str(len(self)), module)
        return self

    def extend(self: S, modules: Iterable[Module]) -> S:
        """Add modules at the end."""
        for module in list(modules):
            self.append(module)
        return self

    def insert(self: S, index: int, module: Module) -> S:
        """Put a module before position `index`. Raises IndexError beyond the ends, TypeError for what is no module."""
        modules, place = list(self), operator.index(index)
        if not -len(modules) <= place <= len(modules):
            raise IndexError(f"Index out of range: {place}")
        modules.insert(place, checked_module(module))
        self._renumber(modules)
        return self

    def pop(self, index: int = -1) -> Any:
        """Take a module out and give it."""
        module = self[index]
        del self[index]
        return module

    def __dir__(self) -> list[str]:
        return [name for name in super().__dir__() if not name.isdigit()]


class Sequential(_Indexed):
    """Each module's output is the next one's input: `Sequential(a, b)` or `Sequential(OrderedDict(first=a, ...))`.

    `+` joins two of them, `* n` repeats the modules (the same ones) n times."""

    def __init__(self, *args: Any):
        super().__init__()
        members: Iterable[tuple[str, Any]] = ((str(n), module) for n, module in enumerate(args))
        if len(args) == 1 and isinstance(args[0], dict):
            members = args[0].items()
        for name, module in members:
            self.register_module(name, module)

    def _like(self: S, members: list[tuple[str, Any]]) -> S:
        return type(self)(dict(members))

    def forward(self, input: Any) -> Any:
        for module in self._modules.values():
            input = module(input)
        return input

    def __add__(self, other: Sequential) -> Sequential:
        _check_sequential(other)
        return Sequential(*self, *other)

    def __iadd__(self, other: Sequential) -> Sequential:
        _check_sequential(other)
        return self.extend(other)

    def __mul__(self, other: int) -> Sequential:
        return Sequential(*list(self) * _times(other))

    __rmul__ = __mul__

    def __imul__(self, other: int) -> Sequential:
        return self.extend(list(self) * (_times(other) - 1))


def _check_sequential(other: object) -> None:
    if not isinstance(other, Sequential):
        raise ValueError(f"a Sequential can be joined with another Sequential only, got {type(other).__name__}")


def _times(factor: object) -> int:
    if not isinstance(factor, int):
        raise TypeError(f"a Sequential can be repeated an int of times, got {type(factor).__name__}")
    if factor < 1:
        raise ValueError(f"a Sequential can be repeated a positive number of times, got {factor}")
    return factor


class ModuleList(_Indexed):
    """A list of modules that are registered; it has no forward of its own."""

    def __init__(self, modules: Iterable[Module] | None = None):
        super().__init__()
        self.extend(modules or ())

    def __add__(self, other: Iterable[Module]) -> ModuleList:
        return ModuleList([*self, *other])

    def __iadd__(self, modules: Iterable[Module]) -> ModuleList:
        return self.extend(modules)

    def insert(self, index: int, module: Module) -> None:               # type: ignore[override]
        """Put a module before position `index`."""
        super().insert(index, module)

    def __repr__(self) -> str:
        """Equal neighbours are one line: `(0-2): 3 x Linear(...)`."""
        runs: list[tuple[int, int, str]] = []
        for n, module in enumerate(self):
            text = repr(module)
            if runs and runs[-1][2] == text:
                runs[-1] = (runs[-1][0], n, text)
            else:
                runs.append((n, n, text))
        lines = []
        for first, last, text in runs:
            label = f"({first})" if first == last else f"({first}-{last}): {last - first + 1} x"
            lines.append(f"{label}{': ' if first == last else ' '}{text}".replace("\n", "\n  "))
        return f"{self._get_name()}(" + (("\n  " + "\n  ".join(lines) + "\n") if lines else "") + ")"


class Container(Module):
    """PyTorch's old base of modules: `Container(name=module, ...)`."""

    def __init__(self, **kwargs: Module):
        super().__init__()
        for name, module in kwargs.items():
            self.register_module(name, module)


class ModuleDict(Module):
    """A dict of modules that are registered, in order of insertion."""

    def __init__(self, modules: Mapping[str, Module] | ModuleDict | Iterable[tuple[str, Module]] | None = None):
        super().__init__()
        if modules is not None:
            self.update(modules)

    def update(self, modules: Mapping[str, Module] | ModuleDict | Iterable[tuple[str, Module]]) -> None:
        """Add or replace modules by key."""
        for pair in modules.items() if isinstance(modules, (Mapping, ModuleDict)) else modules:
            if not isinstance(pair, (tuple, list, str)):
                raise TypeError(f"ModuleDict takes a dict, or pairs of a name and a module, got {pair!r}")
            if len(pair) != 2:
                raise ValueError(f"ModuleDict takes pairs of a name and a module, got {len(pair)} values: {pair!r}")
            self[pair[0]] = pair[1]

    def __getitem__(self, key: str) -> Any:
        return self._modules[key]

    def __setitem__(self, key: str, module: Module) -> None:
        self.register_module(key, module)

    def __delitem__(self, key: str) -> None:
        del self._modules[key]
        epoch.bump()

    def __len__(self) -> int:
        return len(self._modules)

    def __iter__(self) -> Iterator[str]:
        return iter(self._modules)

    def __contains__(self, key: str) -> bool:
        return key in self._modules

    def keys(self) -> Iterable[str]:
        return self._modules.keys()

    def values(self) -> Iterable[Any]:
        return self._modules.values()

    def items(self) -> Iterable[tuple[str, Any]]:
        return self._modules.items()

    def pop(self, key: str) -> Any:
        """Take a module out and give it."""
        module = self[key]
        del self[key]
        return module

    def clear(self) -> None:
        """Take all modules out."""
        self._modules.clear()
        epoch.bump()


class DataParallel(Module):
    """A module under the name "module", called as it is: there is one device. `state_dict` keys begin with "module."."""

    def __init__(self, module: Module, device_ids: Any = None, output_device: Any = None, dim: int = 0):
        super().__init__()
        self.module = module

    def forward(self, *inputs: Any, **kwargs: Any) -> Any:
        return self.module(*inputs, **kwargs)


__all__ = ["Container", "DataParallel", "ModuleDict", "ModuleList", "Sequential"]
