"""Nodes of attributes: of classes, objects, Modules and tensors."""
from __future__ import annotations

import abc
import dataclasses
import functools
import types
from collections.abc import Callable, Iterable, Iterator, Mapping, Set
from typing import TYPE_CHECKING, Any

from flambeau.frontend.epoch import epoch
from flambeau.frontend.trace.guards.node import Open, Parts, put, set_attribute
from flambeau.frontend.trace.guards.reads import is_user_class, unwatched_names
from flambeau.frontend.trace.guards.values import MISSING, Step, Way, is_value

if TYPE_CHECKING:
    from flambeau.frontend.trace.guards.heap import Scope

class Class(Parts):
    """What names mean on a class, its bases included; no descriptor is run. of_all: for objects whose every
    attribute may be read."""

    __slots__ = ("bases", "mro", "names", "of_all")
    _NEVER = frozenset(["__dict__", "__weakref__", "__doc__", "__module__", "__annotations__", "__qualname__",
                        "__abstractmethods__", "_abc_impl", "__firstlineno__", "__static_attributes__",
                        "__annotate__", "__annotate_func__", "__annotations_cache__", "__slotnames__"])

    def __init__(self, object: Any, path: tuple[str, Way]):
        super().__init__(object, path)
        self.of_all = False
        self.names: Set[str] = frozenset()
        self.mro: tuple[type, ...] = object.__mro__
        self.bases: list[tuple[type, frozenset[str]]] = []         # of the user's, and what names they had

    def read(self, key: str) -> Any:
        if key in ("__subclasses__", "register"):
            now: Any = tuple(self.object.__subclasses__()) if key != "register" else abc.get_cache_token()
            then = self.held.get(key)
            return then if then == now else now
        for base in self.object.__mro__:
            if key in base.__dict__:
                return base.__dict__[key]
        return MISSING

    def write(self, key: str, value: Any) -> None:
        if key in vars(self.object) or value is not MISSING:
            set_attribute(self.object, key, value)

    def keys(self, scope: Scope, names: Set[str]) -> Iterable[str]:
        first, self.names = not self.bases, scope.attributes
        yield from names & {"__subclasses__"}
        if first and isinstance(self.object, abc.ABCMeta):
            yield "register"
        derives = any(not is_user_class(base) for base in self.mro[:-1])
        for base in self.object.__mro__:
            fields = base.__dict__
            if is_user_class(base):
                if first:
                    self.bases.append((base, frozenset(fields)))
                    yield from [n for n in fields if n.startswith("__") and n.endswith("__") and n not in self._NEVER]
                    if derives:             # what the framework or a package may call
                        yield from [n for n, value in fields.items() if _is_method(value)]
                yield from [n for n in fields if n not in self._NEVER] if self.of_all else names & fields.keys()
            elif base is not object and "forward" in fields:
                yield "forward"                 # replaced on a layer's class

    def differing(self) -> tuple[str, Any, Any] | None:
        if self.object.__mro__ is not self.mro:
            return ".__bases__", self.mro, self.object.__mro__
        return super().differing()

    def all_appeared(self) -> Iterator[str]:
        return (name for _, name in self._appeared())

    def changed(self) -> list[tuple[Any, Any, Any]]:
        found = super().changed()
        return found if all(key in vars(self.object) for key, _, _ in found) else []       # what a base has is the base's

    def _appeared(self) -> Iterator[tuple[type, str]]:
        for base, fields in self.bases:
            if base.__dict__.keys() != fields:
                for name in base.__dict__.keys() - fields:
                    if name not in self._NEVER and name not in self.free and (
                            self.of_all or name in self.names or name.startswith("__") and name.endswith("__")):
                        yield base, name

    def restore(self) -> None:
        for base, name in list(self._appeared()):
            delattr(base, name)
        super().restore()

    def pairs(self, other: Any) -> list[tuple[Any, Any]] | None:
        return None if self.object.__mro__ is not self.mro else super().pairs(other)

    def test(self, name: Callable[[Any], str]) -> list[str]:
        lines = []
        for base, fields in self.bases:
            lines.append(f"d = {name(base)}.__dict__")
            lines.append(f"if len(d) != {len(fields)}: return False")
            absent = frozenset(self.names - fields)
            if absent:
                lines.append(f"if not d.keys().isdisjoint({name(absent)}): return False")
        if self.bases:
            lines.append(f"if {name(self.object)}.__mro__ is not {name(self.mro)}: return False")
        for key, then in self.held.items():
            holder = next((base for base in self.object.__mro__ if key in base.__dict__), None)
            if holder is None:
                return super().test(name)
            lines.append(f"if {name(holder)}.__dict__.get({key!r}) is not {name(then)}: return False")
        return lines


def _is_method(value: Any) -> bool:
    return isinstance(value, (types.FunctionType, staticmethod, classmethod, property))


class Instance(Open):
    """An object's attributes, in its __dict__ or in slots. of_all: every one may be read, not only those that code
    names."""

    __slots__ = ("kind", "of_all", "slots")

    def __init__(self, object: Any, path: tuple[str, Way]):
        super().__init__(object, path)
        self.kind, self.of_all = type(object), False
        self.slots = {name: member for base in type(object).__mro__ if is_user_class(base)
                      for name, member in base.__dict__.items() if isinstance(member, types.MemberDescriptorType)}

    def read(self, key: str) -> Any:
        member = self.slots.get(key)
        if member is None:
            return _fields(self.object).get(key, MISSING)
        try:
            return member.__get__(self.object)
        except AttributeError:
            return MISSING

    def write(self, key: str, value: Any) -> None:
        member = self.slots.get(key)
        if member is None:
            put(_fields(self.object), key, value)
        elif value is MISSING:
            member.__delete__(self.object)
        else:
            member.__set__(self.object, value)

    def there(self) -> Mapping[str, Any]:
        return _fields(self.object)

    def keys(self, scope: Scope, names: Set[str]) -> Iterable[str]:
        fields, unwatched = _fields(self.object), frozenset[str]()
        if self.meet(scope) and (fields or self.slots):
            unwatched = unwatched_names(self.kind)
        if self.of_all:
            return [*fields, *self.slots]
        return [*unwatched & fields.keys(), *unwatched & self.slots.keys(), *names & self.slots.keys(),
                *[name for name in names & fields.keys() if scope.may_read(name, fields[name])]]

    def concerns(self, name: str, value: Any) -> bool:
        """What a cached_property kept is as good as not there."""
        return (self.of_all or name in unwatched_names(self.kind) or super().concerns(name, value)) and not (
            isinstance(getattr(self.kind, name, None), functools.cached_property) and _is_settled(value))

    def absent(self) -> frozenset[str]:
        return super().absent() | (unwatched_names(self.kind) - self.fields - self.free)

    def differing(self) -> tuple[str, Any, Any] | None:
        if type(self.object) is not self.kind:
            return ".__class__", self.kind, type(self.object)
        return super().differing()

    def pairs(self, other: Any) -> list[tuple[Any, Any]] | None:
        if type(self.object) is not self.kind or other is not self.object and (
                self.is_pinned or not dataclasses.is_dataclass(other)):
            return None
        beside = self if other is self.object else type(self)(other, self.path)
        if beside is not self:
            beside.of_all, beside.scope, beside.names, beside.fields = self.of_all, self.scope, self.names, self.fields
            beside.free = self.free
        if beside.appeared() is not None:
            return None
        return [(then, beside.read(key)) for key, then in self.held.items()]

    def restore(self) -> None:
        if type(self.object) is not self.kind:
            self.object.__class__ = self.kind
        super().restore()

    def test(self, name: Callable[[Any], str]) -> list[str]:
        it = name(self.object)
        if self.slots:
            return super().test(name)
        if not isinstance(getattr(self.object, "__dict__", None), dict):
            return [f"if type({it}) is not {name(self.kind)}: return False"]
        lines = [f"if type({it}) is not {name(self.kind)}: return False", f"d = {it}.__dict__"]
        if self.of_all:
            lines.append(f"if len(d) != {len(self.fields)}: return False")
        elif self.absent():
            lines.append(f"if not d.keys().isdisjoint({name(self.absent())}): return False")
        return lines + [f"if d.get({key!r}, MISSING) is not {name(then)}: return False"
                        for key, then in self.held.items()]


def _is_settled(value: Any) -> bool:
    """True for values and containers of values."""
    if isinstance(value, dict):
        return all(_is_settled(part) for part in value.values())
    return is_value(value) or isinstance(value, (list, tuple, set, frozenset)) and all(map(_is_settled, value))


def _fields(value: Any) -> dict[str, Any]:
    found = getattr(value, "__dict__", None)
    return found if isinstance(found, dict) else {}         # a class may call anything by that name


class StableInstance(Instance):
    """The attributes of an object that bumps the epoch when one of them changes."""

    __slots__ = ()
    stable = True

    def restore(self) -> None:
        super().restore()
        epoch.bump()


class NoticedAttributes(StableInstance):
    """The attributes of a Module. Parameters, buffers, submodules and hooks lie in dicts of their own."""

    __slots__ = ()

    def keys(self, scope: Scope, names: Set[str]) -> Iterable[str]:
        if self.scope is None:
            yield from _MODULE_FIELDS & _fields(self.object).keys()
            yield "hooks_of_all"
        yield from super().keys(scope, names)

    def read(self, key: str) -> Any:
        return self.kind.hooks_of_all if key == "hooks_of_all" else super().read(key)

    def write(self, key: str, value: Any) -> None:
        if key != "hooks_of_all":               # its own node puts back what it held
            super().write(key, value)

    def concerns(self, name: str, value: Any) -> bool:
        return name in _MODULE_FIELDS or super().concerns(name, value)

    def step(self, key: str) -> str:
        return "" if key in _MODULE_FIELDS and key != "training" or key == "hooks_of_all" else super().step(key)


_MODULE_FIELDS = frozenset(["training", "_parameters", "_buffers", "_modules", "_forward_hooks", "_forward_pre_hooks",
                            "_backward_hooks", "_backward_pre_hooks"])


class ComplexFacts(Parts):
    """A complex tensor: the pair that holds its parts."""

    __slots__ = ()

    def read(self, key: str) -> Any:
        return getattr(self.object, key)

    def write(self, key: str, value: Any) -> None:
        setattr(self.object, key, value)

    def keys(self, scope: Scope, names: Set[str]) -> Iterable[str]:
        return ("_pair",)


class TensorFacts(Parts):
    """What Python can see of a tensor without computing; its data is captured, not guarded."""

    __slots__ = ()
    stable = True
    _FIELDS = ("_type", "_requires_grad", "_storage", "_base", "_chain")
    _COMPARED = ("_type", "_requires_grad", "_hooks")

    def read(self, key: str) -> Any:
        return getattr(self.object, key)

    def write(self, key: str, value: Any) -> None:
        setattr(self.object, key, value)
        if key == "_storage":
            self.object._array = None       # looked up again: to hold it is to share it
        epoch.bump()

    def keys(self, scope: Scope, names: Set[str]) -> Iterable[str]:
        return (*self._FIELDS, "_hooks")

    def changed(self) -> list[tuple[Any, Any, Any]]:
        return []

    def extend(self, scope: Scope, names: Set[str]) -> Iterable[Step]:
        super().extend(scope, names)
        hooks = self.held["_hooks"]
        return [("", hooks)] if hooks is not None else []

    def differing(self) -> tuple[str, Any, Any] | None:
        for key in self._COMPARED:
            then, now = self.held[key], self.read(key)
            if then is not now and not (key == "_type" and then == now) and (then or now):
                return f".{key[1:]}", then, now
        return None

    def pairs(self, other: Any) -> list[tuple[Any, Any]] | None:
        return [(self.held[key], self.read(key)) for key in self._COMPARED]
