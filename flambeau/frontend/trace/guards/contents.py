"""Nodes of what containers hold."""
from __future__ import annotations

import copy
import types
from collections import OrderedDict, defaultdict, deque
from collections.abc import Callable, Iterable, Set
from typing import TYPE_CHECKING, Any

import numpy as np

from flambeau.frontend.epoch import Noticed
from flambeau.frontend.trace.guards.node import Node
from flambeau.frontend.trace.guards.values import (
    BY_VALUE,
    MISSING,
    Step,
    Way,
    all_are,
    is_same,
    is_value,
    picture,
)

if TYPE_CHECKING:
    from flambeau.frontend.trace.guards.heap import Scope

LARGEST_ARRAY = 1 << 24             # bytes; larger NumPy arrays are compared by identity


WHOLE: Any = type("Whole", (), {"__repr__": lambda self: "all", "__slots__": ()})()     # all parts of a container


class Items(Node):
    """The contents of a list, tuple, deque or dict. Its parts are numbered."""

    __slots__ = ("factory", "items", "keys")

    def __init__(self, object: Any, path: tuple[str, Way]):
        super().__init__(object, path)
        self.items: list[Any] | None = None
        self.keys: list[Any] | None = None
        self.factory = object.default_factory if isinstance(object, defaultdict) else None

    def extend(self, scope: Scope, names: Set[str]) -> Iterable[Step]:
        if self.items is not None:
            return ()
        self.keys, self.items = _contents(self.object)
        if self.free:
            self.release(self.free)
        if self.keys is None:
            return [(f"[{n}]", value) for n, value in enumerate(self.items)]
        return [(self.label(key), value) for key, value in zip(self.keys, self.items, strict=True)] + \
            [(" in a key", key) for key in self.keys if type(key) not in BY_VALUE] + \
            [(".default_factory", self.factory)] * (self.factory is not None)

    def label(self, key: Any) -> str:
        return f"[{key!r}]" if type(key) in BY_VALUE else "[...]"

    def differing(self) -> tuple[str, Any, Any] | None:
        assert self.items is not None
        keys, items = _contents(self.object)
        if self.factory is not None and self.object.default_factory is not self.factory:
            return ".default_factory", self.factory, self.object.default_factory
        if len(items) != len(self.items):
            return "", Length(len(self.items)), Length(len(items))
        if keys is not None and self.keys is not None and not all_are(keys, self.keys):
            for then, now in zip(self.keys, keys, strict=True):
                if then is not now and not is_same(then, now):
                    return " in a key", then, now
        if all_are(items, self.items):
            return None
        for n, (then, now) in enumerate(zip(self.items, items, strict=True)):
            if then is not now and n not in self.free:
                return self.label(n if keys is None else keys[n]), then, now
        return None

    def changed(self) -> list[tuple[Any, Any, Any]]:
        if not isinstance(self.object, _CHANGEABLE):
            return []
        keys, items = _contents(self.object)
        assert self.items is not None
        if len(items) != len(self.items) or keys is not None and not all_are(keys, self.keys or ()):
            return [(WHOLE, _together(self.keys, self.items), _together(keys, items))]
        return [(n, then, now) for n, (then, now) in enumerate(zip(self.items, items, strict=True)) if then is not now]

    def get(self, part: Any) -> Any:
        keys, items = _contents(self.object)
        if part is WHOLE:
            return _together(keys, items)
        if self.keys is not None:           # whose order may be another
            return dict.get(self.object, self.keys[part], MISSING)
        return items[part] if part < len(items) else MISSING

    def put(self, part: Any, value: Any) -> None:
        if part is WHOLE:
            refill(self.object, value)
        else:
            self.object[part if self.keys is None else self.keys[part]] = value

    def bare(self) -> Node:
        made = copy.copy(self)
        made.items = None
        return made

    def label_of(self, part: Any) -> str:
        return "" if part is WHOLE else self.label(part if self.keys is None else self.keys[part])

    def release(self, parts: frozenset[Any]) -> None:
        super().release(parts)
        assert self.items is not None
        self.items = [MISSING if n in parts else value for n, value in enumerate(self.items)]

    def pairs(self, other: Any) -> list[tuple[Any, Any]] | None:
        assert self.items is not None
        keys, items = _contents(other)
        if self.is_pinned and other is not self.object:
            return None
        if type(other) is not type(self.object) or len(items) != len(self.items):
            return None
        found = [(then, now) for n, (then, now) in enumerate(zip(self.items, items, strict=True)) if n not in self.free]
        if self.factory is not None:
            found.append((self.factory, other.default_factory))
        return found if keys is None or self.keys is None else [*zip(self.keys, keys, strict=True), *found]

    def restore(self) -> None:
        assert self.items is not None
        if isinstance(self.object, (tuple, types.MappingProxyType)) or self.differing() is None:
            return
        if isinstance(self.object, np.ndarray):
            self.object.flat[:] = self.items
            return
        if self.factory is not None:
            self.object.default_factory = self.factory
        refill(self.object, _together(self.keys, self.items))

    def test(self, name: Callable[[Any], str]) -> list[str]:
        assert self.items is not None
        if isinstance(self.object, tuple):
            return []
        if type(self.object) not in _PLAIN_CONTAINERS or self.free:
            return super().test(name)
        it, count = name(self.object), len(self.items)
        if not count:
            return [f"if {it}: return False"]
        values = f"{it}.values()" if self.keys is not None else it
        lines = [f"if len({it}) != {count} or not all(map(is_, {values}, {name(self.items)})): return False"]
        if self.keys is not None:
            lines.append(f"if not all(map(is_, {it}, {name(self.keys)})): return False")
        return lines


class Length:
    """The length of something that changed in length, for messages."""

    def __init__(self, value: int):
        self.value = value


_PLAIN_CONTAINERS = (list, dict, deque, OrderedDict, Noticed)
_CHANGEABLE = (list, dict, deque)


def refill(container: Any, contents: Any) -> None:
    """Make a list, deque or dict hold these items, and no others."""
    container.clear()
    if isinstance(contents, dict):
        for key, value in contents.items():
            container[key] = value
    else:
        container.extend(contents)


def _together(keys: list[Any] | None, items: list[Any]) -> list[Any] | dict[Any, Any]:
    return items if keys is None else dict(zip(keys, items, strict=True))


def _contents(value: Any) -> tuple[list[Any] | None, list[Any]]:
    if isinstance(value, OrderedDict):                  # has an order of its own
        return list(OrderedDict.keys(value)), list(OrderedDict.values(value))
    if isinstance(value, dict):                         # of a subclass too: what it really holds
        return list(dict.keys(value)), list(dict.values(value))
    if isinstance(value, types.MappingProxyType):
        return list(value), list(value.values())
    if isinstance(value, np.ndarray):
        return None, list(value.flat)
    return None, list(tuple.__iter__(value) if isinstance(value, tuple) else
                      list.__iter__(value) if isinstance(value, list) else value)


class StableItems(Items):
    """The registries of a Module, which bump the epoch when they change."""

    __slots__ = ()
    stable = True

    def label(self, key: Any) -> str:
        return f".{key}" if isinstance(key, str) else super().label(key)


class Bits(Node):
    """A set, bytearray or array, compared as a whole."""

    __slots__ = ("copy", "picture")

    def extend(self, scope: Scope, names: Set[str]) -> Iterable[Step]:
        if hasattr(self, "picture"):
            return ()
        self.copy = self.object.copy() if isinstance(self.object, (set, frozenset, np.ndarray)) else self.object[:]
        self.picture = picture(self.object)
        return [("", v) for v in self.object if not is_value(v)] if isinstance(self.object, (set, frozenset)) else ()

    def differing(self) -> tuple[str, Any, Any] | None:
        return None if picture(self.object) == self.picture else ("", self.copy, self.object)

    def pairs(self, other: Any) -> list[tuple[Any, Any]] | None:
        return [] if picture(other) == self.picture else None

    def restore(self) -> None:
        if self.differing() is None or isinstance(self.object, frozenset):
            return
        if isinstance(self.object, set):
            self.object.clear()
            self.object.update(self.copy)
        else:
            self.object[...  if isinstance(self.object, np.ndarray) else slice(None)] = self.copy
