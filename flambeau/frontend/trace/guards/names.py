"""Nodes of what code reaches by a bare name: globals, closure variables, functions."""
from __future__ import annotations

import types
from collections.abc import Callable, Iterable, Mapping, Set
from typing import TYPE_CHECKING, Any

from flambeau.frontend.trace.guards.node import Open, Parts, put, set_attribute
from flambeau.frontend.trace.guards.values import MISSING

if TYPE_CHECKING:
    from flambeau.frontend.trace.guards.heap import Scope

class Namespace(Open):
    """A dict of globals, or of a module's attributes."""

    __slots__ = ()

    def there(self) -> Mapping[str, Any]:
        return self.object

    def concerns(self, name: str, value: Any) -> bool:
        assert self.scope is not None
        if was_loaded(self.object, name, value):
            return False
        if id(self.object) in self.scope.opened:
            return not name.startswith("__")
        return id(self.object) in self.scope.modules and super().concerns(name, value)

    def read(self, key: str) -> Any:
        return self.object.get(key, MISSING)

    def write(self, key: str, value: Any) -> None:
        put(self.object, key, value)

    def keys(self, scope: Scope, names: Set[str]) -> Iterable[str]:
        self.meet(scope)
        return scope.names_in(self.object, names)

    def step(self, key: str) -> str:
        return f".{key}" if self.path[0] else f"global {key!r}"

    def test(self, name: Callable[[Any], str]) -> list[str]:
        space = name(self.object)
        absent = tuple([key for key, then in self.held.items() if then is MISSING])      # built-ins that nothing hides
        lines = [f"if {space}.get({key!r}, MISSING) is not {name(then)}: return False" for key, then in self.held.items()
                 if then is not MISSING]
        hidden = " or ".join(f"{key!r} in {space}" for key in absent)
        lines += [f"if {hidden}: return False"] * bool(absent)
        if self.scope is not None and id(self.object) in self.scope.opened:
            lines.append(f"if len({space}) != {len(self.fields)}: return False")
        elif self.scope is not None and id(self.object) in self.scope.modules and self.absent():
            lines.append(f"if not {space}.keys().isdisjoint({name(self.absent())}): return False")
        return lines


def was_loaded(namespace: Mapping[str, Any], name: str, value: Any) -> bool:
    """True for a module, and for what a module of the framework's loads when it is first asked for."""
    return isinstance(value, types.ModuleType) or name in namespace.get("_LAZY", ()) and (
        namespace["__name__"].partition(".")[0] == "flambeau")


class Cell(Parts):
    """A closure variable."""

    __slots__ = ()

    def read(self, key: str) -> Any:
        try:
            return self.object.cell_contents
        except ValueError:
            return MISSING

    def write(self, key: str, value: Any) -> None:
        if value is MISSING:
            del self.object.cell_contents
        else:
            self.object.cell_contents = value

    def keys(self, scope: Scope, names: Set[str]) -> Iterable[str]:
        return ("",)

    def step(self, key: str) -> str:
        return ""

    def test(self, name: Callable[[Any], str]) -> list[str]:
        if not self.held:
            return []
        then = self.held[""]
        if then is MISSING:
            return super().test(name)
        return ["try:", f"    if {name(self.object)}.cell_contents is not {name(then)}: return False",
                "except ValueError: return False"]


class Variable(Parts):
    """A ContextVar."""

    __slots__ = ()

    def read(self, key: str) -> Any:
        return self.object.get(MISSING)

    def write(self, key: str, value: Any) -> None:
        if value is not MISSING:
            self.object.set(value)

    def keys(self, scope: Scope, names: Set[str]) -> Iterable[str]:
        return ("get",)

    def changed(self) -> list[tuple[Any, Any, Any]]:
        return []


class Function(Open):
    """A function of the user's: its code, its defaults, and attributes set on it. Cells are nodes of their own."""

    __slots__ = ()

    def there(self) -> Mapping[str, Any]:
        return self.object.__dict__

    def read(self, key: str) -> Any:
        return getattr(self.object, key, MISSING)

    def write(self, key: str, value: Any) -> None:
        set_attribute(self.object, key, value)

    def keys(self, scope: Scope, names: Set[str]) -> Iterable[str]:
        self.meet(scope)
        if id(self.object.__code__) in scope.ran:
            yield "__code__"
            yield from [name for name in ("__defaults__", "__kwdefaults__") if getattr(self.object, name) is not None]
        yield from names & (vars(self.object).keys() | _FUNCTION_FIELDS)

    def step(self, key: str) -> str:
        return " in its code" if key == "__code__" else f".{key}"

    def test(self, name: Callable[[Any], str]) -> list[str]:
        function = name(self.object)
        lines = [f"if {function}.{key} is not {name(then)}: return False" if key.startswith("__") else
                 f"if {function}.__dict__.get({key!r}) is not {name(then)}: return False"
                 for key, then in self.held.items()]
        if not self.absent():
            return lines
        if not self.fields:
            return [*lines, f"if {function}.__dict__: return False"]
        return [*lines, f"if not {function}.__dict__.keys().isdisjoint({name(self.absent())}): return False"]


_FUNCTION_FIELDS = frozenset(["__name__", "__qualname__", "__doc__", "__module__"])
