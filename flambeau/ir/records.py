"""`dataclass`: the standard library's, made in one piece.

Before Python 3.13 every method of a dataclass is compiled by itself, six of a frozen one, which was half of the work of
`import flambeau` beside NumPy's: it makes 100 such classes, the compiler 130 more. Here __init__, __eq__ and __hash__ are
compiled at once, and what can be is shared by all classes: 770 M instructions for the import where it was 954, of which
NumPy's are 397. Given up: every option but three, `InitVar`, fields outside of __init__ (docs/decisions/036-records.md).
"""
from __future__ import annotations

import dataclasses
import functools
import sys
from collections.abc import Callable
from reprlib import recursive_repr
from types import CodeType
from typing import TYPE_CHECKING, Any

__all__ = ["dataclass"]

if TYPE_CHECKING or sys.version_info >= (3, 13):
    from dataclasses import dataclass
else:
    def dataclass(cls: type | None = None, /, **options: bool) -> Any:
        """As `dataclasses.dataclass`, with its options `frozen`, `eq` and `slots`; TypeError for others. All fields are
        parameters of __init__."""
        return _made(cls) if cls is not None else lambda cls: _made(cls, **options)


class _Factory:
    """The default of a parameter whose value is made anew for each object."""

    def __repr__(self) -> str:
        return "<factory>"


_FACTORY = _Factory()


def _made(cls: Any, frozen: bool = False, eq: bool = True, slots: bool = False) -> Any:
    if any(dataclasses.is_dataclass(base) for base in cls.__mro__[1:]):     # whose own methods say how it is inherited
        return dataclasses.dataclass(frozen=frozen, eq=eq, slots=slots)(cls)
    own = set(vars(cls))
    if cls.__doc__ is None:
        cls.__doc__ = cls.__name__                          # or a signature is worked out and written here
    made: Any = dataclasses.dataclass(init=False, repr=False, eq=False, slots=slots)(cls)
    fields = dataclasses.fields(made)
    assert all(field.init for field in fields), f"{cls.__qualname__} has a field outside of __init__"
    methods = _compiled(made, fields, frozen, eq)
    methods["__repr__"] = _repr
    if eq and not frozen:
        methods["__hash__"] = None
    if frozen:
        made.__dataclass_params__.frozen = True             # for classes that derive from it
        methods |= _refusals(made, frozenset(field.name for field in fields))
        if slots:
            methods |= {"__getstate__": _getstate, "__setstate__": _setstate}
    for name, method in methods.items():
        if name not in own or (name == "__hash__" and "__eq__" in own and vars(cls)[name] is None):
            setattr(made, name, method)
    return made


def _compiled(cls: type, fields: tuple[dataclasses.Field[Any], ...], frozen: bool, eq: bool) -> dict[str, Any]:
    """__init__, and where `eq` says so __eq__ and __hash__, of that class."""
    known: dict[str, Any] = {"_set": object.__setattr__, "_FACTORY": _FACTORY}
    parameters, keywords, lines = ["self"], list[str](), list[str]()
    for field in fields:
        name = value = field.name
        parameter = name
        if field.default is not dataclasses.MISSING:
            known[f"_default_{name}"] = field.default
            parameter = f"{name}=_default_{name}"
        elif field.default_factory is not dataclasses.MISSING:
            known[f"_factory_{name}"] = field.default_factory
            parameter = f"{name}=_FACTORY"
            value = f"_factory_{name}() if {name} is _FACTORY else {name}"
        (keywords if field.kw_only else parameters).append(parameter)
        lines.append(f"_set(self, {name!r}, {value})" if frozen else f"self.{name} = {value}")
    if hasattr(cls, "__post_init__"):
        lines.append("self.__post_init__()")
    if keywords:
        parameters += ["*", *keywords]
    text = [f" def __init__({', '.join(parameters)}):", *(f"  {line}" for line in lines or ["pass"])]
    names = ["__init__"]
    if eq:
        mine, theirs = (f"({''.join(f'{one}.{field.name}, ' for field in fields if field.compare)})"
                        for one in ("self", "other"))
        text += [" def __eq__(self, other):",
                 f"  return {mine} == {theirs} if other.__class__ is self.__class__ else NotImplemented"]
        names.append("__eq__")
        if frozen:
            text += [" def __hash__(self):", f"  return hash({mine})"]
            names.append("__hash__")
    scope: dict[str, Any] = {}
    text = [f"def make({', '.join(known)}):", *text, f" return {', '.join(names)},"]
    exec(_code("\n".join(text)), vars(sys.modules[cls.__module__]), scope)
    methods = dict(zip(names, scope["make"](**known), strict=True))
    for name, method in methods.items():
        method.__qualname__ = f"{cls.__qualname__}.{name}"
    methods["__init__"].__annotations__ = {field.name: field.type for field in fields} | {"return": None}
    return methods


@functools.cache
def _code(text: str) -> CodeType:
    """Classes of the same fields share it, those without any for one."""
    return compile(text, "<string>", "exec")


def _refusals(cls: Any, names: frozenset[str]) -> dict[str, Callable[..., None]]:
    """No field is written, and nothing at all on instances of the class itself."""
    def __setattr__(self: Any, name: str, value: Any) -> None:
        if type(self) is cls or name in names:
            raise dataclasses.FrozenInstanceError(f"cannot assign to field {name!r}")
        super(cls, self).__setattr__(name, value)

    def __delattr__(self: Any, name: str) -> None:
        if type(self) is cls or name in names:
            raise dataclasses.FrozenInstanceError(f"cannot delete field {name!r}")
        super(cls, self).__delattr__(name)

    return {"__setattr__": __setattr__, "__delattr__": __delattr__}


@recursive_repr()
def _repr(self: Any) -> str:
    shown = (f"{field.name}={getattr(self, field.name)!r}" for field in dataclasses.fields(self) if field.repr)
    return f"{type(self).__qualname__}({', '.join(shown)})"


def _getstate(self: Any) -> list[Any]:
    return [getattr(self, field.name) for field in dataclasses.fields(self)]


def _setstate(self: Any, state: list[Any]) -> None:
    for field, value in zip(dataclasses.fields(self), state, strict=True):
        object.__setattr__(self, field.name, value)
