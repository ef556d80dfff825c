"""The attributes of an op, by name, and the keys under which two attribute values are one.

Python's equality merges what a compiler must not (1 == True == 1.0, -0.0 == 0.0) and separates what it may share
(NaN != NaN), so keys hold ints and strings as they are and everything else as tagged bytes. A key compares and hashes
in one process, and its repr is the same in every process.
"""
from __future__ import annotations

import struct
import sys
import types
import typing
from collections.abc import Hashable, Iterator
from dataclasses import MISSING, fields, is_dataclass
from functools import cache
from typing import Any

import numpy as np

from flambeau.ir.dims import Dim
from flambeau.ir.dtypes import DType
from flambeau.ir.literal import Literal
from flambeau.ir.types import TensorType

__all__ = [
    "attribute_key",
    "attribute_names",
    "attributes_of",
    "has_type",
    "op_key",
    "required_attributes",
    "spelt_attributes",
    "type_of_attribute",
]


_fields_of: dict[type, tuple[tuple[str, ...], dict[str, Any]]] = {}


def _fields(kind: type) -> tuple[tuple[str, ...], dict[str, Any]]:
    """(names, default by name) of the attributes of an op class."""
    found = _fields_of.get(kind)
    if found is None:
        declared = fields(kind) if is_dataclass(kind) else ()
        defaults = {f.name: f.default for f in declared if f.default is not MISSING}
        found = _fields_of[kind] = (tuple(f.name for f in declared), defaults)
    return found


def attribute_names(kind: type) -> tuple[str, ...]:
    """The attributes of an op class, in the order of declaration; () for a family of attribute-less instances."""
    return _fields(kind)[0]


def required_attributes(kind: type) -> frozenset[str]:
    """Those without a default."""
    names, defaults = _fields(kind)
    return frozenset(names) - defaults.keys()


def attributes_of(op: object) -> Iterator[tuple[str, Any]]:
    """(name, value) of each attribute of an op."""
    for name in attribute_names(type(op)):
        yield name, getattr(op, name)


def spelt_attributes(op: object) -> Iterator[tuple[str, Any]]:
    """(name, value) of each attribute that differs from its default: those that text shows."""
    names, defaults = _fields(type(op))
    for name in names:
        value = getattr(op, name)
        if name not in defaults or attribute_key(value) != attribute_key(defaults[name]):
            yield name, value


@cache
def type_of_attribute(kind: type, name: str) -> Any:
    """What a class with attributes declares the attribute `name` to be: `int`, `tuple[int, ...]`, `DType | None`."""
    owner = next(c for c in kind.__mro__ if name in vars(c).get("__annotations__", {}))
    declared = owner.__annotations__[name]
    return eval(declared, vars(sys.modules[owner.__module__])) if isinstance(declared, str) else declared


def has_type(value: Any, wanted: Any) -> bool:
    """Whether `value` is of a declared type. A bool is no int; an int will do for a float."""
    origin, parts = typing.get_origin(wanted), typing.get_args(wanted)
    if origin in (typing.Union, types.UnionType):
        return any(has_type(value, part) for part in parts)
    if origin is typing.Literal:
        return any(type(value) is type(part) and value == part for part in parts)
    if origin is tuple:
        if not isinstance(value, tuple):
            return False
        if len(parts) == 2 and parts[1] is Ellipsis:
            return all(has_type(part, parts[0]) for part in value)
        return len(value) == len(parts) and all(has_type(v, part) for v, part in zip(value, parts, strict=True))
    if wanted is Any or wanted is None or wanted is type(None):
        return wanted is Any or value is None
    if isinstance(value, bool):
        return wanted is bool
    return isinstance(value, (int, float) if wanted is float else wanted)


def op_key(op: Any) -> Hashable:
    """Equal for two ops exactly when they are the same op with the same attributes."""
    names = attribute_names(type(op))
    if not names:
        return op.name
    key = op.__dict__.get("_key")           # ops don't change
    if key is None:
        key = op.__dict__["_key"] = (op.name, *[attribute_key(getattr(op, name)) for name in names])
    return key


def attribute_key(value: Any) -> Hashable:
    """The key of one attribute value. Raises TypeError for a kind that is no attribute."""
    kind = type(value)
    if kind is int or kind is str or value is None:
        return value
    if kind is tuple:
        return tuple([attribute_key(part) for part in value])
    if kind is bool:
        return b"true" if value else b"false"
    if kind is float:
        return b"f" + struct.pack("<d", value)
    return _tagged(value)


def _tagged(value: Any) -> Hashable:
    match value:
        case DType():
            return b"dtype " + value.name.encode()
        case Dim():
            return b"dim " + str(value).encode()
        case TensorType():
            return b"type " + str(value).encode()
        case Literal():
            return b"literal " + value.digest.encode()
        case np.generic():
            return attribute_key(value.item())
    raise TypeError(f"{value!r} of type {type(value).__name__} can't be an attribute of an op")
