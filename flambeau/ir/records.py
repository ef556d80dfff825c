"""`dataclass`: the standard library's, whose methods are compiled when they are first looked up.

Before Python 3.13 every method of a dataclass is compiled by itself, six of a frozen one, which was half of the work of
`import flambeau` beside NumPy's: it makes 100 such classes, `fb.compile` 80 more, the compiler 60, and a program uses a
third of them. Here __init__, __eq__ and __hash__ are compiled at once, when the first object is made or compared, for all
classes of as many fields: their code differs by names. Given up: options but three, `InitVar`, fields outside of __init__,
annotations that are not text (docs/decisions/036-records.md).
"""
from __future__ import annotations

import copy
import dataclasses
import functools
import sys
from collections.abc import Callable, Mapping
from reprlib import recursive_repr
from types import CellType, CodeType, FunctionType, MemberDescriptorType
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
_FIELD, _CLASS_VARIABLE = dataclasses._FIELD, dataclasses._FIELD_CLASSVAR       # type: ignore[attr-defined]


class _Later:
    """A method of a class that is compiled, with its siblings, when it is first looked up."""

    __slots__ = ("cls", "name", "names")

    def __init__(self, cls: type, name: str, names: tuple[str, ...]):
        self.cls, self.name, self.names = cls, name, names

    def __get__(self, instance: object, owner: type | None = None) -> Any:
        for name, method in _compiled(self.cls, self.names).items():
            setattr(self.cls, name, method)
        return vars(self.cls)[self.name].__get__(instance, owner)


def _made(cls: Any, frozen: bool = False, eq: bool = True, slots: bool = False) -> Any:
    own = set(vars(cls))
    if cls.__doc__ is None:
        cls.__doc__ = cls.__name__                          # or a signature is worked out and written here
    fields = _fields(cls, frozen)
    cls.__dataclass_fields__, cls.__dataclass_params__ = fields, _FROZEN if frozen else _THAWED
    in_order = tuple([field.name for field in fields.values() if field._field_type is _FIELD and not field.kw_only])
    cls.__match_args__ = in_order       # type: ignore[misc]
    if slots:
        cls = dataclasses._add_slots(cls, False, False)     # type: ignore[attr-defined]
    if "__eq__" in own and vars(cls)["__hash__"] is None:
        own.discard("__hash__")                             # Python wrote that
    compiled = ("__init__", "__eq__", "__hash__") if eq and frozen else ("__init__", "__eq__") if eq else ("__init__",)
    later = tuple([name for name in compiled if name not in own])
    methods: dict[str, Any] = {"__repr__": _repr} | {name: _Later(cls, name, later) for name in later}
    if eq and not frozen:
        methods["__hash__"] = None
    if frozen:
        methods |= _refusals(cls, frozenset([name for name, field in fields.items() if field._field_type is _FIELD]))
        if slots:
            methods |= {"__getstate__": _getstate, "__setstate__": _setstate}
    for name, method in methods.items():
        if name not in own:
            setattr(cls, name, method)
    return cls


def _fields(cls: type, frozen: bool) -> dict[str, Any]:
    """By name, those of its bases first, and those that are no fields too, as the standard library keeps them."""
    fields: dict[str, Any] = {}
    frozen_bases = set[bool]()
    for base in cls.__mro__[-1:0:-1]:
        inherited = getattr(base, "__dataclass_fields__", None)
        if inherited is not None:
            fields |= inherited
            frozen_bases.add(base.__dataclass_params__.frozen)      # type: ignore[attr-defined]
    if frozen_bases and frozen is not any(frozen_bases):
        names = ("frozen", "non-frozen") if frozen else ("non-frozen", "frozen")
        raise TypeError(f"cannot inherit {names[0]} dataclass from a {names[1]} one")
    for name, type in vars(cls).get("__annotations__", {}).items():
        assert isinstance(type, str), f"{cls.__qualname__}: import annotations from __future__"
        default = getattr(cls, name, dataclasses.MISSING)
        is_described = isinstance(default, dataclasses.Field)
        field: Any = default if is_described else dataclasses.field(
            default=dataclasses.MISSING if isinstance(default, MemberDescriptorType) else default)
        field.name, field.type = name, type
        field._field_type = _CLASS_VARIABLE if type.startswith("ClassVar") else _FIELD
        if field._field_type is _FIELD:
            assert field.init, f"{cls.__qualname__} has a field outside of __init__"
            assert field.default.__class__.__hash__, f"{cls.__qualname__}.{name}: all objects would have the same"
            if field.kw_only is dataclasses.MISSING:
                field.kw_only = False
        fields[name] = field
        if is_described:
            if field.default is dataclasses.MISSING:
                delattr(cls, name)
            else:
                setattr(cls, name, field.default)
    return fields


def _compiled(cls: type, names: tuple[str, ...]) -> dict[str, Any]:
    """Those of __init__, __eq__ and __hash__."""
    fields = dataclasses.fields(cls)
    frozen = cls.__dataclass_params__.frozen    # type: ignore[attr-defined]
    makes = [field.default_factory is not dataclasses.MISSING for field in fields]
    codes = _codes(frozen, tuple(makes), tuple([field.kw_only for field in fields]),
                   tuple([field.compare for field in fields]), hasattr(cls, "__post_init__"))
    cells = {"_set": CellType(object.__setattr__), "_FACTORY": CellType(_FACTORY)}
    cells |= {f"_factory_{number}": CellType(field.default_factory) for number, field in enumerate(fields) if makes[number]}
    name_of = {f"_{number}": field.name for number, field in enumerate(fields)}
    methods: dict[str, Any] = {}
    for name in names:
        code = _renamed(codes[name], name_of)
        methods[name] = FunctionType(code, vars(sys.modules[cls.__module__]), name, None,
                                     tuple([cells[free] for free in code.co_freevars]))
        methods[name].__qualname__ = f"{cls.__qualname__}.{name}"
    if "__init__" in names:
        defaults = {field.name: _FACTORY if made else field.default for field, made in zip(fields, makes, strict=True)
                    if made or field.default is not dataclasses.MISSING}
        positional = [field.name for field in fields if not field.kw_only]
        given = [name for name in positional if name in defaults]
        if given != positional[len(positional) - len(given):]:
            raise TypeError(f"{cls.__qualname__}: an argument without a default follows {given[0]!r}, which has one")
        methods["__init__"].__defaults__ = tuple([defaults[name] for name in given]) or None
        methods["__init__"].__kwdefaults__ = {name: value for name, value in defaults.items() if name not in given} or None
        methods["__init__"].__annotations__ = {field.name: field.type for field in fields} | {"return": None}
    return methods


@functools.cache
def _codes(frozen: bool, makes: tuple[bool, ...], keywords: tuple[bool, ...], compared: tuple[bool, ...],
           is_followed: bool) -> dict[str, CodeType]:
    """The three for fields called _0, _1 and so on, which classes that differ by names, types and defaults share: compiling
    them for each was a fifth of what the first call of a small function took. makes: which defaults are made anew;
    is_followed: __post_init__ comes after."""
    lines = []
    for number, made in enumerate(makes):
        value = f"_factory_{number}() if _{number} is _FACTORY else _{number}" if made else f"_{number}"
        lines.append(f"_set(self, '_{number}', {value})" if frozen else f"self._{number} = {value}")
    if is_followed:
        lines.append("self.__post_init__()")
    parameters = ["self", *[f"_{number}" for number, later in enumerate(keywords) if not later]]
    if any(keywords):
        parameters += ["*", *[f"_{number}" for number, later in enumerate(keywords) if later]]
    mine, theirs = (f"({''.join(f'{one}._{number}, ' for number, counts in enumerate(compared) if counts)})"
                    for one in ("self", "other"))
    text = [f"def make({', '.join(['_set', '_FACTORY', *[f'_factory_{number}' for number in range(len(makes))]])}):",
            f" def __init__({', '.join(parameters)}):", *(f"  {line}" for line in lines or ["pass"]),
            " def __eq__(self, other):",
            f"  return {mine} == {theirs} if other.__class__ is self.__class__ else NotImplemented",
            " def __hash__(self):", f"  return hash({mine})"]
    (make,) = [const for const in compile("\n".join(text), "<string>", "exec").co_consts if isinstance(const, CodeType)]
    return {const.co_name: const for const in make.co_consts if isinstance(const, CodeType)}


def _renamed(code: CodeType, name_of: Mapping[str, str]) -> CodeType:
    """The same with other names for arguments, attributes, and strings."""
    names, variables = ([name_of.get(name, name) for name in found] for found in (code.co_names, code.co_varnames))
    consts = [name_of.get(const, const) if isinstance(const, str) else const for const in code.co_consts]
    return code.replace(co_names=tuple(names), co_varnames=tuple(variables), co_consts=tuple(consts))


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


@dataclasses.dataclass(init=False, repr=False, eq=False)
class _Sample:
    """Shows what the standard library says of a class."""


_THAWED: Any = _Sample.__dataclass_params__         # type: ignore[attr-defined]
_FROZEN: Any = copy.copy(_THAWED)
_FROZEN.frozen = True
