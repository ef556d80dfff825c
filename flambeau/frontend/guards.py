"""Guards: which Python state a trace depends on, and whether it still holds.

Guarded: globals and closure cells of the user functions that ran, arguments, attributes of Modules, optimizers and of
objects passed in, plain containers and dataclasses up to 1,000 leaves. Modules bump `epoch` when they change, so
their (many) attributes are compared again only then. Everything else is a constant of the trace.
"""
from __future__ import annotations

import array
import dataclasses
import functools
import math
import operator
import sys
import types
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from flambeau.errors import CaptureError
from flambeau.frontend.epoch import epoch
from flambeau.frontend.scalars import Scalar
from flambeau.frontend.tensor import Tensor
from flambeau.frontend.where import is_internal

MAX_LEAVES = 1000
MISSING = object()
_BY_VALUE = (int, float, complex, str, bytes, bool, type(None))
_BY_IDENTITY = (Tensor, type, types.FunctionType, types.BuiltinFunctionType, types.ModuleType, types.MethodType)


class Attributed:
    """Mixed into classes whose attributes are guarded and which bump the epoch when one changes (Module)."""

    def _guarded_state(self) -> Iterable[tuple[str, Any]]:
        """(name, value) of everything a trace may read."""
        raise NotImplementedError("Attributed: define _guarded_state")

    def _mutable_state(self) -> Iterable[tuple[str, Any]]:
        """(name, value) of those attributes that can change in place, which bumps no epoch (`may_change`)."""
        return ()


class Volatile(Attributed):
    """Attributed, but changes without notice (optimizers: their param_groups are plain dicts)."""

    def _quick_state(self) -> list[Any] | None:
        """Objects that, all being the same ones again, prove that the guarded state is the same. None: no such."""
        return None


class Identities:
    """Objects compared by identity, as one leaf: the quick picture of many tensors. growing: additional objects
    (state that an optimizer's first step creates) are adopted, not taken for a change."""

    __slots__ = ("growing", "objects")

    def __init__(self, objects: Iterable[Any], growing: bool = False):
        self.objects, self.growing = tuple(objects), growing

    def __eq__(self, other: object) -> bool:
        """self is what is found now, other what was expected."""
        if not isinstance(other, Identities):
            return NotImplemented
        now, before = self.objects, other.objects
        if len(now) == len(before) and all(map(operator.is_, now, before)):
            return True
        if not self.growing or not {id(o) for o in before} <= {id(o) for o in now}:
            return False
        other.objects = now
        return True

    def __hash__(self) -> int:
        return 0

    def __repr__(self) -> str:
        return f"<{len(self.objects)} objects>"


class Exactly:
    """A value compared by ==, as one leaf."""

    __slots__ = ("value",)

    def __init__(self, value: Any):
        self.value = value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Exactly) and bool(self.value == other.value)

    def __hash__(self) -> int:
        return 0

    def __repr__(self) -> str:
        return repr(self.value)


def signature(value: Any, budget: list[int] | None = None, depth: int = 0) -> Any:
    """A comparable picture of `value`: equal pictures mean the trace may be used again.

    Values compare with their type (1, 1.0 and True differ); objects outside the guarded list by identity."""
    budget = [MAX_LEAVES] if budget is None else budget
    budget[0] -= 1
    if budget[0] < 0:
        return ("too large",)
    kind = type(value)
    if kind in _BY_VALUE:
        return (kind, exact(value) if kind is float else value)
    if kind is Identities or kind is Exactly:
        return value
    if isinstance(value, _BY_IDENTITY) or depth > 20:
        return _Identity(value)
    if isinstance(value, (list, tuple, deque)):
        return (kind, tuple([signature(v, budget, depth + 1) for v in value]))
    if isinstance(value, np.generic):
        return (kind, value.tobytes())
    if isinstance(value, np.ndarray):
        return _array_signature(value)
    if isinstance(value, (bytearray, array.array)):
        return (kind, bytes(value))
    if isinstance(value, functools.partial):
        return (_Identity(value), tuple([signature(v, budget, depth + 1) for v in _parts_of(value)]))
    if isinstance(value, dict):
        return (kind, tuple([(_key(k), signature(v, budget, depth + 1)) for k, v in value.items()]))
    if isinstance(value, (set, frozenset)):
        return (kind, frozenset(_key(v) for v in value))
    if isinstance(value, Attributed):       # a budget of its own: the thousandth layer is guarded like the first
        own = [MAX_LEAVES]
        return (_Identity(value),
                tuple([(name, signature(v, own, depth + 1)) for name, v in value._guarded_state()]))
    if dataclasses.is_dataclass(value):
        return (_Identity(kind), tuple([(n, signature(v, budget, depth + 1)) for n, v in _attributes(value)]))
    if depth <= 2 and _is_user_object(value):
        return (_Identity(value), tuple([(n, signature(v, budget, depth + 1)) for n, v in _attributes(value)]))
    return _Identity(value)


def exact(number: float) -> Any:
    """A float as something that == tells apart where the number is another: NaN equals itself, -0.0 is not 0.0."""
    if number != number:
        return "nan"
    return number if number or math.copysign(1.0, number) > 0 else "-0.0"


def _array_signature(value: np.ndarray) -> Any:
    """The contents of a small array; a large one by identity, as documented."""
    if value.size > MAX_LEAVES or value.dtype.hasobject:
        return _Identity(value)
    return (np.ndarray, value.dtype.str, value.shape, value.tobytes())


def _parts_of(value: functools.partial[Any]) -> tuple[Any, ...]:
    return value.func, value.args, value.keywords


def _attributes(value: Any) -> Iterator[tuple[str, Any]]:
    """(name, value) of what is set on an object, in its __dict__ or in slots."""
    yield from getattr(value, "__dict__", {}).items()
    for kind in type(value).__mro__:
        names = kind.__dict__.get("__slots__", ())
        for name in (names,) if isinstance(names, str) else names:
            if name not in ("__dict__", "__weakref__") and hasattr(value, name):
                yield name, getattr(value, name)


def may_change(value: Any, depth: int = 0) -> bool:
    """True when the signature of this object can become another without notice: lists, dicts, sets, objects of the
    user's, and whatever holds one."""
    if type(value) in _BY_VALUE or isinstance(value, _BY_IDENTITY) or depth > 20:
        return False
    if isinstance(value, (list, dict, set, deque, bytearray, array.array, functools.partial, Volatile)):
        return True
    if isinstance(value, np.ndarray):
        return value.size <= MAX_LEAVES
    if isinstance(value, (tuple, frozenset)):
        return any(may_change(v, depth + 1) for v in value)
    if dataclasses.is_dataclass(value):
        frozen = getattr(value, "__dataclass_params__").frozen  # noqa: B009 (typeshed hides it)
        return not frozen or any(
            may_change(getattr(value, f.name, None), depth + 1) for f in dataclasses.fields(value))
    return depth <= 2 and not isinstance(value, Attributed) and _is_user_object(value)


def _key(key: Any) -> Any:
    return (type(key), key) if type(key) in _BY_VALUE else _Identity(key)


def _is_user_object(value: Any) -> bool:
    """An instance of a class written in Python outside the framework and the standard library, or a namespace."""
    kind = type(value)
    if kind is types.SimpleNamespace or (kind.__module__, kind.__name__) == ("argparse", "Namespace"):
        return True
    return ((hasattr(value, "__dict__") or hasattr(kind, "__slots__")) and not isinstance(value, CompiledMarker)
            and _is_user_module(kind.__module__))


def _is_user_module(name: str) -> bool:
    """True for modules outside the framework, the standard library and installed packages."""
    filename = getattr(sys.modules.get(name), "__file__", None) or ""
    return (name.partition(".")[0] not in sys.stdlib_module_names - {"__main__"} and not is_internal(filename)
            and "site-packages" not in filename and not filename.startswith(sys.base_prefix))


class CompiledMarker:
    """Base of compiled functions: their own caches are no user state."""


class _Identity:
    """Compares by identity and keeps the object alive, so that its id is not reused."""

    __slots__ = ("value",)

    def __init__(self, value: Any):
        self.value = value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Identity) and self.value is other.value

    def __hash__(self) -> int:
        return id(self.value)

    def __repr__(self) -> str:
        return f"<{type(self.value).__name__}>"


@dataclass(slots=True)
class Guard:
    """One piece of state: how to read it and what it was. `stable`: it bumps the epoch when it changes.
    identity: comparing with `is` is enough."""

    name: str
    read: Callable[[], Any]
    expected: Any
    value: Any
    identity: bool
    stable: bool
    where: str | None = None
    place: tuple[Any, Any] | None = field(default=None, repr=False)
    """(namespace, name) or (cell, None): where generated code reads it"""
    quick: list[Any] | None = field(default=None, repr=False)           # `_quick_state()` when it last held

    def holds(self) -> bool:
        value = self.read()
        if self.identity:
            return value is self.value
        quick = value._quick_state() if isinstance(value, Volatile) and value is self.value else None
        if quick is not None and self.quick is not None and len(quick) == len(self.quick) \
                and all(map(operator.is_, quick, self.quick)):
            return True
        if signature(value) != self.expected:
            return False
        self.quick = quick
        return True

    def difference(self) -> str:
        """In words: what changed."""
        return f"{self.name} changed{_delta(self.expected, signature(self.read()))}"


def _delta(old: Any, new: Any, path: str = "") -> str:
    if isinstance(old, tuple) and isinstance(new, tuple) and len(old) == len(new) == 2:
        if old[0] in _BY_VALUE and new[0] in _BY_VALUE:
            return f"{path and ' at ' + path} from {old[1]!r} to {new[1]!r}"
        if isinstance(old[1], tuple) and isinstance(new[1], tuple) and old[0] == new[0]:
            if len(old[1]) != len(new[1]):
                return f"{path and ' at ' + path} in length from {len(old[1])} to {len(new[1])}"
            for position, (a, b) in enumerate(zip(old[1], new[1], strict=True)):
                if a != b:
                    named = isinstance(a, tuple) and len(a) == 2 and isinstance(a[0], str)
                    if named and isinstance(b, tuple) and a[0] == b[0]:
                        return _delta(a[1], b[1], f"{path}.{a[0]}")
                    return _delta(a, b, f"{path}[{position}]")
    return path and f" at {path}"


class Watch:
    """Collects guards while user code is traced: `with Watch(function) as watch: function(...)`.

    Each user function's globals are pictured when it is first called, before its body runs; `verify` compares all
    pictures again at the end, so that a change made by the traced code itself is found."""

    def __init__(self, function: Callable[..., Any]):
        self.guards: dict[Any, Guard] = {}
        self._seen_codes: set[tuple[types.CodeType, type]] = set()
        self._searched: dict[int, Any] = {}         # what was looked through for functions, by id
        self._function = function
        self._previous: Any = None
        self.hook: Any = None           # what the framework's own entry points switch off and restore

    def __enter__(self) -> Watch:
        self._watch_function(self._function)
        self._previous = sys.getprofile()
        self.hook = self._profile
        sys.setprofile(self.hook)
        return self

    def __exit__(self, *exc: object) -> None:
        self.hook = None
        sys.setprofile(None)
        if callable(self._previous):
            sys.setprofile(self._previous)
        elif hasattr(self._previous, "enable"):         # cProfile hooks in below Python and can't be handed back
            self._previous.enable()

    def add(self, key: Any, name: str, read: Callable[[], Any], where: str | None = None,
            place: tuple[Any, Any] | None = None) -> None:
        """Guard what `read()` gives. `key` says which thing it is, so that it is guarded once."""
        if key in self.guards:
            return
        value = read()
        if isinstance(value, Scalar):
            return
        identity = isinstance(value, _BY_IDENTITY) or value is MISSING
        stable = isinstance(value, Attributed) and not isinstance(value, Volatile)
        self.guards[key] = Guard(name, read, None if identity else signature(value), value, identity, stable, where,
                                 place)
        self._watch_functions_in(value, name)
        if stable:
            for inner, mutable in value._mutable_state():
                self.add(("mutable", id(mutable)), f"{name}.{inner}", _constant_reader(mutable), where)

    def _profile(self, frame: types.FrameType, event: str, argument: Any) -> None:
        if event != "call":
            return
        code = frame.f_code
        if is_internal(code.co_filename) or not _is_user_file(code.co_filename):
            return
        first = frame.f_locals.get(code.co_varnames[0]) if code.co_argcount else None
        kind = first if isinstance(first, type) else type(first)
        if (code, kind) not in self._seen_codes:
            self._seen_codes.add((code, kind))
            self._watch_globals(code, frame.f_globals)
            if _is_user_module(kind.__module__):
                self._watch_method(code, kind)

    def _watch_function(self, function: Callable[..., Any]) -> None:
        owner = getattr(function, "__self__", None)
        if owner is not None:               # a bound method reads its object, which is no argument of the call
            self.add(("object", id(owner)), type(owner).__name__, _constant_reader(owner))
        function = getattr(function, "__func__", function)
        if not isinstance(function, types.FunctionType):        # a partial, or an object with __call__
            self.add(("object", id(function)), type(function).__name__, _constant_reader(function))
        self._watch_functions_in(function, "the compiled function")

    def _watch_functions_in(self, value: Any, name: str, depth: int = 0) -> None:
        """Guard what the user functions in `value` (a function, or something that holds some) close over."""
        if type(value) in _BY_VALUE or isinstance(value, (Tensor, types.ModuleType, type)) or depth > 20 \
                or id(value) in self._searched or len(self._searched) > 100 * MAX_LEAVES:
            return
        self._searched[id(value)] = value
        if isinstance(value, types.FunctionType):
            if not is_internal(value.__code__.co_filename):
                self._watch_closure(value)
                self._watch_defaults(value)
            return
        inner: Iterable[Any] = ()
        if isinstance(value, types.MethodType):
            self.add(("object", id(value.__self__)), name, _constant_reader(value.__self__))
            inner = (value.__func__,)
        elif isinstance(value, CompiledMarker):
            inner = [getattr(value, name, None) for name in ("function", "__wrapped__")]
            owner = getattr(value, "instance", None)
            if owner is not None:
                self.add(("object", id(owner)), type(owner).__name__, _constant_reader(owner))
        elif isinstance(value, functools.partial):
            inner = _parts_of(value)
        elif isinstance(value, dict):
            inner = value.values()
        elif isinstance(value, (list, tuple, set, frozenset, deque)):
            inner = value
        elif isinstance(value, Attributed):
            inner = [v for _, v in value._guarded_state()]
        elif depth <= 2 and _is_user_object(value):
            inner = [v for _, v in _attributes(value)]
        for part in list(inner):
            self._watch_functions_in(part, name, depth + 1)

    def _watch_closure(self, function: types.FunctionType) -> None:
        for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=False):
            where = f"{function.__code__.co_filename}:{function.__code__.co_firstlineno}"
            self.add(("cell", id(cell)), f"closure variable {name!r}", _cell_reader(cell), where, (cell, None))
            self._watch_attributes(function.__code__, _cell_reader(cell)(), name)

    def _watch_defaults(self, function: types.FunctionType) -> None:
        """Default arguments that can change in place."""
        for default in (*(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values()):
            if may_change(default) or callable(default):
                where = f"{function.__code__.co_filename}:{function.__code__.co_firstlineno}"
                self.add(("object", id(default)), f"a default argument of {function.__name__}",
                         _constant_reader(default), where)

    def _watch_method(self, code: types.CodeType, kind: type) -> None:
        """The function that a class runs as `code`, and the class attributes that it names."""
        for base in kind.__mro__:
            found = base.__dict__.get(code.co_name)
            found = getattr(found, "fget", None) or getattr(found, "__func__", found)
            if getattr(found, "__code__", None) is code:
                self._watch_functions_in(found, code.co_name)
        self._watch_attributes(code, kind, kind.__name__)

    def _watch_attributes(self, code: types.CodeType, owner: Any, label: str) -> None:
        """Attributes that `code` names of a class or module of the user's: data, and a module's functions."""
        is_class = isinstance(owner, type)
        if not is_class and not isinstance(owner, types.ModuleType) or not _is_user_module(
                owner.__module__ if is_class else owner.__name__):
            return
        for name in code.co_names:
            value = _static(owner, name)
            if value is MISSING or is_class and (hasattr(type(value), "__get__") or isinstance(value, type)):
                continue
            holder = next(h for h in (owner.__mro__ if is_class else (owner,)) if name in h.__dict__)
            self.add(("attribute", id(owner), name), f"{label}.{name}", _static_reader(owner, name),
                     f"{code.co_filename}:{code.co_firstlineno}", (holder.__dict__, name))

    def _watch_globals(self, code: types.CodeType, namespace: dict[str, Any]) -> None:
        for name in code.co_names:
            if name in namespace:
                self.add(("global", id(namespace), name), f"global {name!r}", _item_reader(namespace, name),
                         f"{code.co_filename}:{code.co_firstlineno}", (namespace, name))
                self._watch_attributes(code, namespace[name], name)

    def verify(self) -> None:
        """Raise CaptureError for state that the traced code itself changed."""
        for guard in self.guards.values():
            if not guard.holds():
                raise CaptureError(
                    f"{guard.difference()} while it was traced: a compiled function can't repeat such a side effect",
                    where=guard.where,
                    hint="move it out of the compiled function, or keep the number in a tensor and change it in place")


def _is_user_file(filename: str) -> bool:
    return not filename.startswith((sys.base_prefix, "<frozen")) and "site-packages" not in filename


def _cell_reader(cell: types.CellType) -> Callable[[], Any]:
    def read() -> Any:
        try:
            return cell.cell_contents
        except ValueError:
            return MISSING
    return read


def _constant_reader(value: Any) -> Callable[[], Any]:
    return lambda: value


def _static(owner: Any, name: str) -> Any:
    """What a class (bases too) or module holds under a name, no descriptor run."""
    for place in owner.__mro__ if isinstance(owner, type) else (owner,):
        if name in place.__dict__:
            return place.__dict__[name]
    return MISSING


def _static_reader(owner: Any, name: str) -> Callable[[], Any]:
    return lambda: _static(owner, name)


def _item_reader(namespace: dict[str, Any], name: str) -> Callable[[], Any]:
    return lambda: namespace.get(name, MISSING)


class GuardSet:
    """All guards of one compiled signature; `holds()` is the per-call check."""

    def __init__(self, guards: Iterable[Guard]):
        self.guards = list(guards)
        self._stable = [g for g in self.guards if g.stable]
        self._volatile = [g for g in self.guards if not g.stable and not _is_constant(g)]
        self._epoch = epoch.value

    def holds(self) -> bool:
        for guard in self._volatile:
            if not guard.holds():
                return False
        if self._epoch != epoch.value:
            for guard in self._stable:
                if guard.read() is not guard.value or not guard.holds():
                    return False
            self._epoch = epoch.value
        else:
            for guard in self._stable:
                if guard.read() is not guard.value:
                    return False
        return True

    @property
    def has_volatile(self) -> bool:
        """True when some guard must be compared value by value at every call."""
        return any(not g.identity or g.value is MISSING for g in self._volatile)

    @property
    def named(self) -> list[Guard]:
        """Guards whose name must still mean the same object (all there is to check while the epoch stands still and
        nothing is volatile)."""
        return [g for g in self.guards if not _is_constant(g) and g.place is not None]

    def broken(self) -> str | None:
        """The first guard that does not hold, in words."""
        for guard in self.guards:
            if not guard.holds():
                return guard.difference()
        return None


def _is_constant(guard: Guard) -> bool:
    """Guards that are never checked again: modules imported under a global name."""
    return guard.identity and isinstance(guard.value, types.ModuleType)
