"""Python state as a trace read it: one Node per object, which remembers what the object held, tells whether it still
does, and can put it back.

Nodes are made by `heap.Heap`, which walks from one to the next. A node compares its parts by identity first (quick),
and a part that was replaced by an equal one (another list with the same contents) by structure.
"""
from __future__ import annotations

import abc
import array
import contextvars
import dataclasses
import datetime
import decimal
import enum
import fractions
import functools
import gc
import math
import operator
import pathlib
import types
import weakref
from collections import OrderedDict, defaultdict, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Set
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from flambeau.frontend.epoch import Noticed, epoch
from flambeau.frontend.reads import is_user_class, unwatched_names
from flambeau.frontend.tensor import Tensor
from flambeau.ir.dtypes import DType
from flambeau.ir.types import TensorType

if TYPE_CHECKING:
    from flambeau.frontend.heap import Scope

MISSING: Any = type("Missing", (), {"__repr__": lambda self: "nothing", "__slots__": ()})()
LARGEST_ARRAY = 1 << 24             # bytes; larger NumPy arrays are compared by identity
BY_VALUE = (int, float, complex, str, bytes, bool, type(None))
_IMMUTABLE = (range, TensorType, DType, np.dtype, decimal.Decimal, fractions.Fraction, datetime.date,
              datetime.timedelta, datetime.time, pathlib.PurePath)

# -- comparing values -------------------------------------------------------------------------------------------------


def exact(number: float) -> Any:
    """A float as something that == tells apart where the number is another: NaN equals itself, -0.0 is not 0.0."""
    if number != number:
        return "nan"
    return number if number or math.copysign(1.0, number) > 0 else "-0.0"


def typed(value: Any) -> Any:
    """A hashable picture of a number, string or other immutable value, equal for equal values of the same type."""
    kind = type(value)
    if kind is float:
        return (kind, exact(value))
    if kind is complex:
        return (kind, exact(value.real), exact(value.imag))
    if isinstance(value, np.generic):
        return (kind, value.tobytes())
    return (kind, value)


def is_value(value: Any) -> bool:
    """True for what is compared by value and can't change: numbers, strings, None, types of tensors, dates."""
    kind = type(value)
    return kind in BY_VALUE or isinstance(value, (np.generic, *_IMMUTABLE)) and not isinstance(value, enum.Enum)


def is_same(then: Any, now: Any) -> bool | None:
    """True or False where that is plain; None for two structures of one type, whose parts decide."""
    if then is now:
        return True
    kind = type(then)
    if kind is not type(now):
        return False
    if kind in BY_VALUE or is_value(then):
        return bool(typed(then) == typed(now))
    if kind is frozenset:
        return bool(_picture(then) == _picture(now))
    return None if isinstance(then, _STRUCTURAL) or dataclasses.is_dataclass(then) else False


_STRUCTURAL = (list, tuple, dict, set, frozenset, deque, bytearray, array.array, np.ndarray, types.MethodType,
               functools.partial, types.MappingProxyType)
Way = str | tuple[Any, str]             # "", or (the way up to there, a step): spelled out only for messages
Step = tuple[str, Any]                  # where a part is found below its object (".scale", "[3]"), and the part


def spelled(way: Way) -> str:
    """`.model.layers[3]`; the middle of a very long way is left out."""
    steps = []
    while isinstance(way, tuple):
        way, step = way
        steps.append(step)
    steps.reverse()
    return "".join(steps if len(steps) <= 24 else [*steps[:12], " ... ", *steps[-12:]])


def all_are(now: Iterable[Any], then: Iterable[Any]) -> bool:
    return all(map(operator.is_, now, then))


# -- nodes ------------------------------------------------------------------------------------------------------------


class Node:
    """An object and what it held. `path`: how the user's code gets to it, for messages."""

    __slots__ = ("object", "path")
    stable: ClassVar[bool] = False          # it bumps the epoch when it changes

    def __init__(self, object: Any, path: tuple[str, Way]):
        self.object, self.path = object, path

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

    def appeared(self) -> str | None:
        """A part that code may read and that was not there."""
        return None

    def extend(self, scope: Scope, names: Set[str]) -> Iterable[Step]:
        found = []
        for key in self.keys(scope, names):
            if key not in self.held:
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

    def appeared(self) -> str | None:
        now = self.there()
        if now.keys() != self.fields and self.scope is not None:
            for name in now.keys() - self.fields:
                if self.concerns(name, now[name]):
                    return name
        return None

    def concerns(self, name: str, value: Any) -> bool:
        """Code may read a part that is there now under this name."""
        assert self.scope is not None
        return name in self.names and self.scope.may_read(name, value)

    def absent(self) -> frozenset[str]:
        """Names that code may read and that are not there."""
        return frozenset(self.names - self.fields)


class Namespace(Open):
    """A dict of globals, or of a module's attributes."""

    __slots__ = ()

    def there(self) -> Mapping[str, Any]:
        return self.object

    def concerns(self, name: str, value: Any) -> bool:
        assert self.scope is not None
        if isinstance(value, types.ModuleType):
            return False                    # that was loaded
        if id(self.object) in self.scope.opened:
            return not name.startswith("__")
        return id(self.object) in self.scope.modules and super().concerns(name, value)

    def read(self, key: str) -> Any:
        return self.object.get(key, MISSING)

    def write(self, key: str, value: Any) -> None:
        _put(self.object, key, value)

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


def _put(namespace: Any, key: str, value: Any) -> None:
    if value is MISSING:
        namespace.pop(key, None)
    else:
        namespace[key] = value


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


class Function(Open):
    """A function of the user's: its code, its defaults, and attributes set on it. Cells are nodes of their own."""

    __slots__ = ()

    def there(self) -> Mapping[str, Any]:
        return self.object.__dict__

    def read(self, key: str) -> Any:
        return getattr(self.object, key, MISSING)

    def write(self, key: str, value: Any) -> None:
        _set(self.object, key, value)

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
        if not self.fields:
            return [*lines, f"if {function}.__dict__: return False"]
        return [*lines, f"if not {function}.__dict__.keys().isdisjoint({name(self.absent())}): return False"]


def _set(owner: Any, key: str, value: Any) -> None:
    if value is MISSING:
        delattr(owner, key)
    else:
        setattr(owner, key, value)


_FUNCTION_FIELDS = frozenset(["__name__", "__qualname__", "__doc__", "__module__"])


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
            _set(self.object, key, value)

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

    def appeared(self) -> str | None:
        return next((name for _, name in self._appeared()), None)

    def _appeared(self) -> Iterator[tuple[type, str]]:
        for base, fields in self.bases:
            if base.__dict__.keys() != fields:
                for name in base.__dict__.keys() - fields:
                    if name not in self._NEVER and (
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
        self.slots = {name: member for base in type(object).__mro__ for name, member in base.__dict__.items()
                      if isinstance(member, types.MemberDescriptorType) and is_user_class(base)}

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
            _put(_fields(self.object), key, value)
        elif value is MISSING:
            member.__delete__(self.object)
        else:
            member.__set__(self.object, value)

    def there(self) -> Mapping[str, Any]:
        return _fields(self.object)

    def keys(self, scope: Scope, names: Set[str]) -> Iterable[str]:
        fields, unwatched = _fields(self.object), frozenset[str]()
        if self.meet(scope):
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
        return super().absent() | (unwatched_names(self.kind) - self.fields)

    def differing(self) -> tuple[str, Any, Any] | None:
        if type(self.object) is not self.kind:
            return ".__class__", self.kind, type(self.object)
        return super().differing()

    def pairs(self, other: Any) -> list[tuple[Any, Any]] | None:
        if type(self.object) is not self.kind or other is not self.object and not dataclasses.is_dataclass(other):
            return None
        beside = self if other is self.object else type(self)(other, self.path)
        if beside is not self:
            beside.of_all, beside.scope, beside.names, beside.fields = self.of_all, self.scope, self.names, self.fields
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


class Attributed:
    """Mixed into classes that bump the epoch when an attribute changes (Module)."""


class Stated:
    """Mixed into classes that say themselves what is guarded of them (Optimizer)."""

    def _state_node(self, path: tuple[str, Way]) -> Node:
        raise NotImplementedError("Stated: define _state_node")


class CompiledMarker:
    """Base of compiled functions: their own caches are no user state."""


class NoticedAttributes(Instance):
    """The attributes of a Module. Parameters, buffers, submodules and hooks lie in dicts of their own."""

    __slots__ = ()
    stable = True

    def keys(self, scope: Scope, names: Set[str]) -> Iterable[str]:
        if self.scope is None:
            yield from _MODULE_FIELDS & _fields(self.object).keys()
        yield from super().keys(scope, names)

    def step(self, key: str) -> str:
        return "" if key in _MODULE_FIELDS and key != "training" else super().step(key)

    def restore(self) -> None:
        super().restore()
        epoch.bump()


_MODULE_FIELDS = frozenset(["training", "_parameters", "_buffers", "_modules", "_forward_hooks", "_forward_pre_hooks"])


class TensorFacts(Parts):
    """What Python can see of a tensor without computing; its data is captured, not guarded."""

    __slots__ = ()
    stable = True
    _FIELDS = ("_type", "_requires_grad", "_storage", "_base", "_chain", "_array")
    _COMPARED = ("_type", "_requires_grad", "_hooks")

    def read(self, key: str) -> Any:
        return getattr(self.object, key)

    def write(self, key: str, value: Any) -> None:
        setattr(self.object, key, value)
        epoch.bump()

    def keys(self, scope: Scope, names: Set[str]) -> Iterable[str]:
        return (*self._FIELDS, "_hooks")

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


class Items(Node):
    """The contents of a list, tuple, deque or dict."""

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
        at = next(n for n, (a, b) in enumerate(zip(items, self.items, strict=True)) if a is not b)
        return self.label(at if keys is None else keys[at]), self.items[at], items[at]

    def pairs(self, other: Any) -> list[tuple[Any, Any]] | None:
        assert self.items is not None
        keys, items = _contents(other)
        if type(other) is not type(self.object) or len(items) != len(self.items):
            return None
        found = list(zip(self.items, items, strict=True))
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
        self.object.clear()
        if self.keys is None:
            self.object.extend(self.items)
        else:
            for key, value in zip(self.keys, self.items, strict=True):
                self.object[key] = value

    def test(self, name: Callable[[Any], str]) -> list[str]:
        assert self.items is not None
        if isinstance(self.object, tuple):
            return []
        if type(self.object) not in _PLAIN_CONTAINERS:
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
        self.picture = _picture(self.object)
        return [("", v) for v in self.object if not is_value(v)] if isinstance(self.object, (set, frozenset)) else ()

    def differing(self) -> tuple[str, Any, Any] | None:
        return None if _picture(self.object) == self.picture else ("", self.copy, self.object)

    def pairs(self, other: Any) -> list[tuple[Any, Any]] | None:
        return [] if _picture(other) == self.picture else None

    def restore(self) -> None:
        if self.differing() is None or isinstance(self.object, frozenset):
            return
        if isinstance(self.object, set):
            self.object.clear()
            self.object.update(self.copy)
        else:
            self.object[...  if isinstance(self.object, np.ndarray) else slice(None)] = self.copy


def _picture(value: Any) -> Any:
    if isinstance(value, (set, frozenset)):
        return frozenset(typed(v) if is_value(v) else (id(v), "by identity") for v in value)
    if isinstance(value, np.ndarray):
        return value.dtype.str, value.shape, value.tobytes()
    return bytes(value)


__all__ = ["BY_VALUE", "LARGEST_ARRAY", "MISSING", "Node", "exact", "is_same", "is_value", "typed"]


_WRAPPERS = (types.MethodType, functools.partial, property, staticmethod, classmethod, weakref.ref)


def node_of(value: Any) -> type[Node] | None:
    """The kind of node that an object of no special kind gets; None: nothing in it can change or be reached."""
    if isinstance(value, _WRAPPERS):
        return Plain
    if isinstance(value, dict):
        return Items
    if isinstance(value, (list, tuple, deque, types.MappingProxyType)):
        return Items
    if isinstance(value, (set, frozenset, bytearray, array.array)):
        return Bits
    if isinstance(value, np.ndarray):
        return Items if value.dtype == object else Bits if value.nbytes <= LARGEST_ARRAY else Plain
    if isinstance(value, Tensor):
        return TensorFacts
    if isinstance(value, types.CellType):
        return Cell
    if isinstance(value, contextvars.ContextVar):
        return Variable
    return None


def steps_through(value: Any) -> Iterator[Any]:
    """What a wrapper function of the framework or of a package closes over."""
    for cell in value.__closure__ or ():
        try:
            held = cell.cell_contents
        except ValueError:
            continue
        if not isinstance(held, weakref.WeakKeyDictionary):     # what it keeps to be faster
            yield held
    wrapped = getattr(value, "__wrapped__", None)
    if wrapped is not None:
        yield wrapped
