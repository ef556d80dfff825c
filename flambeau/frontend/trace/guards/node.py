"""Python state as a trace read it: one Node per object, which remembers what the object held, tells whether it still
does, and can put it back.

A node compares its parts by identity first (quick), and a part that was replaced by an equal one (another list with
the same contents) by structure.
"""
from __future__ import annotations

import copy
import functools
import gc
import types
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping, Set
from typing import TYPE_CHECKING, Any, ClassVar

from flambeau.frontend.trace.guards.values import MISSING, Step, Way, is_same

if TYPE_CHECKING:
    from flambeau.frontend.trace.guards.heap import Scope

class Node:
    """An object and what it held. `path`: how the user's code gets to it, for messages. free: parts that may be anything,
    or whose guard is another's; is_pinned: no equal object can take its place, for calls change it."""

    __slots__ = ("free", "is_pinned", "object", "path")
    stable: ClassVar[bool] = False          # it bumps the epoch when it changes

    def __init__(self, object: Any, path: tuple[str, Way]):
        self.object, self.path = object, path
        self.free: frozenset[Any] = frozenset()
        self.is_pinned = False

    def extend(self, scope: Scope, names: Set[str]) -> Iterable[Step]:
        """Remember what code may read, now that it may read `names`, and give what is new of it."""
        raise NotImplementedError

    def differing(self) -> tuple[str, Any, Any] | None:
        """(step, then, now) of a part that is another object; None where all are the same."""
        raise NotImplementedError

    def pairs(self, other: Any) -> list[tuple[Any, Any]] | None:
        """The parts remembered beside those of `other` now; None when they can't be the same."""
        raise NotImplementedError

    def restore(self) -> None:
        """Put back what the object held."""
        raise NotImplementedError

    def changed(self) -> list[tuple[Any, Any, Any]]:
        """(part, then, now) of every part that is another object. Empty for nodes whose parts can't be put."""
        return []

    def get(self, part: Any) -> Any:
        """A part now, or MISSING."""
        raise NotImplementedError

    def put(self, part: Any, value: Any) -> None:
        """Put another object in the place of a part."""
        raise NotImplementedError

    def label_of(self, part: Any) -> str:
        """How messages call a part: `.scale`, `[3]`."""
        raise NotImplementedError

    def bare(self) -> Node:
        """The same without what it remembers, to get and put parts."""
        raise NotImplementedError

    def release(self, parts: frozenset[Any]) -> None:
        """Compare these parts no more: calls change the object."""
        self.free |= parts
        self.is_pinned = True

    def settle(self) -> None:
        """The trace has ended well: adopt what may have been added."""

    def test(self, name: Callable[[Any], str]) -> list[str]:
        """Lines of Python that return False when a part is another object; `name` makes a constant."""
        return [f"if {name(self)}.differing() is not None: return False"]


class Plain(Node):
    """An object of which only the parts matter that never change (bound methods, properties, unknown objects of C)."""

    __slots__ = ("parts",)

    def extend(self, scope: Scope, names: Set[str]) -> Iterable[Step]:
        self.parts = _fixed_parts(self.object)
        return [("", part) for part in self.parts]

    def differing(self) -> tuple[str, Any, Any] | None:
        return None

    def pairs(self, other: Any) -> list[tuple[Any, Any]] | None:
        now = _fixed_parts(other)
        return list(zip(self.parts, now, strict=True)) if len(now) == len(self.parts) else None

    def restore(self) -> None:
        pass

    def test(self, name: Callable[[Any], str]) -> list[str]:
        return []


def _fixed_parts(value: Any) -> list[Any]:
    if isinstance(value, types.MethodType):
        return [value.__self__, value.__func__]
    if isinstance(value, property):
        return [value.fget, value.fset]
    if isinstance(value, functools.partial):
        return [value.func, value.args, value.keywords, *getattr(value, "__dict__", {}).values()]
    if isinstance(value, weakref.ref):
        return [value()]
    if isinstance(value, (staticmethod, classmethod, functools.cached_property, functools.partialmethod)):
        return [getattr(value, "__func__", None) or value.func]     # type: ignore[union-attr]
    wrapped = getattr(value, "__wrapped__", None)                   # lru_cache
    return [wrapped] if wrapped is not None else [p for p in gc.get_referents(value) if p is not type(value)]


class Parts(Node):
    """Parts under names: attributes of an object, globals, attributes of a class or module."""

    __slots__ = ("held",)

    def __init__(self, object: Any, path: tuple[str, Way]):
        super().__init__(object, path)
        self.held: dict[str, Any] = {}

    def read(self, key: str) -> Any:
        """The part now, or MISSING."""
        raise NotImplementedError

    def write(self, key: str, value: Any) -> None:
        """Put a part back."""
        raise NotImplementedError

    def keys(self, scope: Scope, names: Set[str]) -> Iterable[str]:
        """The parts that code may read."""
        raise NotImplementedError

    def step(self, key: str) -> str:
        return f".{key}"

    def all_appeared(self) -> Iterator[str]:
        """The parts that code may read and that were not there."""
        return iter(())

    def appeared(self) -> str | None:
        """One of them."""
        return next(self.all_appeared(), None)

    def changed(self) -> list[tuple[Any, Any, Any]]:
        found = [(key, then, now) for key, then in self.held.items() if (now := self.read(key)) is not then]
        return found + [(key, MISSING, self.read(key)) for key in self.all_appeared()]

    def get(self, part: str) -> Any:
        return self.read(part)

    def put(self, part: str, value: Any) -> None:
        self.write(part, value)

    def bare(self) -> Node:
        made = copy.copy(self)
        made.held = {}
        return made

    def label_of(self, part: str) -> str:
        return self.step(part)

    def release(self, parts: frozenset[Any]) -> None:
        super().release(parts)
        self.held = {key: then for key, then in self.held.items() if key not in parts}

    def extend(self, scope: Scope, names: Set[str]) -> Iterable[Step]:
        found = []
        for key in self.keys(scope, names):
            if key not in self.held and key not in self.free:
                value = self.held[key] = self.read(key)
                if value is not MISSING:
                    found.append((self.step(key), value))
        return found

    def differing(self) -> tuple[str, Any, Any] | None:
        for key, then in self.held.items():
            now = self.read(key)
            if now is not then:
                return self.step(key), then, now
        appeared = self.appeared()
        return None if appeared is None else (self.step(appeared), MISSING, self.read(appeared))

    def pairs(self, other: Any) -> list[tuple[Any, Any]] | None:
        if other is not self.object or self.appeared() is not None:
            return None
        return [(then, self.read(key)) for key, then in self.held.items()]

    def restore(self) -> None:
        for key, then in self.held.items():
            if not is_same(then, self.read(key)):
                self.write(key, then)
        while (appeared := self.appeared()) is not None:
            self.write(appeared, MISSING)


class Open(Parts):
    """Parts that may come under any name. names: those that code may read, growing; fields: what was there when the
    object was met."""

    __slots__ = ("fields", "names", "scope")

    def __init__(self, object: Any, path: tuple[str, Way]):
        super().__init__(object, path)
        self.scope: Scope | None = None
        self.names: Set[str] = frozenset()
        self.fields: frozenset[str] = frozenset()

    def there(self) -> Mapping[str, Any]:
        """Everything that is there now, by name."""
        raise NotImplementedError

    def meet(self, scope: Scope) -> bool:
        """Take down what is there; True the first time."""
        if self.scope is not None:
            return False
        self.scope, self.names, self.fields = scope, scope.attributes, frozenset(self.there())
        return True

    def all_appeared(self) -> Iterator[str]:
        now = self.there()
        if now.keys() != self.fields and self.scope is not None:
            for name in list(now.keys() - self.fields - self.free):
                if self.concerns(name, now[name]):
                    yield name

    def concerns(self, name: str, value: Any) -> bool:
        """Code may read a part that is there now under this name."""
        assert self.scope is not None
        return name in self.names and self.scope.may_read(name, value)

    def absent(self) -> frozenset[str]:
        """Names that code may read and that are not there."""
        return frozenset(self.names - self.fields - self.free)


def put(namespace: Any, key: str, value: Any) -> None:
    if value is MISSING:
        namespace.pop(key, None)
    else:
        namespace[key] = value


def set_attribute(owner: Any, key: str, value: Any) -> None:
    if value is MISSING:
        delattr(owner, key)
    else:
        setattr(owner, key, value)


WRAPPERS = (types.MethodType, functools.partial, property, staticmethod, classmethod, weakref.ref)
