"""Nested containers as (leaves, structure): tuples, lists, dicts, dataclasses, namedtuples. Everything else is a leaf."""
from __future__ import annotations

import dataclasses
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Sequence
from typing import Any

from flambeau.errors import UnsupportedError, VerificationError
from flambeau.ir.dtypes import DType
from flambeau.ir.records import dataclass

LEAF = None
DEEPEST = 100           # containers within containers; one that contains itself is deeper than any number


@dataclass(frozen=True, slots=True)
class Structure:
    """How leaves nest. kind: the container's class; keys: dict keys or field names; children: one per entry, None
    for a leaf, then one per attribute set on a tuple or dict of a subclass. Equal structures flatten to leaves in the
    same order."""

    kind: type
    keys: tuple[Any, ...]
    children: tuple[Structure | None, ...]
    factory: Any = None                     # of a defaultdict
    key_kinds: tuple[type, ...] = ()        # 1, 1.0 and True are equal
    attributes: tuple[str, ...] = ()


Entries = tuple[tuple[Any, ...], Sequence[Any], Sequence[str]]


def flatten(tree: Any, path: str = "", entries: Callable[[Any], Entries | None] | None = None
            ) -> tuple[list[Any], list[str], Structure | None]:
    """(leaves, their paths such as `[0].weight`, structure). entries: what a container holds, as `entries_of`. Raises
    UnsupportedError for containers that nest deeper than DEEPEST or contain themselves."""
    leaves: list[Any] = []
    paths: list[str] = []
    return leaves, paths, _flatten(tree, path, leaves, paths, DEEPEST, entries or entries_of)


def _flatten(tree: Any, path: str, leaves: list[Any], paths: list[str], room: int,
             entries: Callable[[Any], Entries | None]) -> Structure | None:
    found = entries(tree)
    if found is None:
        leaves.append(tree)
        paths.append(path)
        return LEAF
    if not room:
        raise UnsupportedError(f"a {type(tree).__name__} among the arguments or results of a compiled function contains "
                               f"itself, or nests more than {DEEPEST} deep",
                               hint="pass the tensors it holds in a flat container")
    keys, values, steps = found
    kind = type(tree)
    attributes: tuple[str, ...] = ()
    if kind not in _PLAIN and isinstance(tree, (tuple, dict)) and getattr(tree, "__dict__", None):
        attributes = tuple(tree.__dict__)
        values, steps = [*values, *tree.__dict__.values()], [*steps, *(f".{name}" for name in attributes)]
    children = tuple([_flatten(v, path + step, leaves, paths, room - 1, entries)
                      for v, step in zip(values, steps, strict=True)])
    return Structure(kind, keys, children, tree.default_factory if isinstance(tree, defaultdict) else None,
                     tuple(map(type, keys)), attributes)


def entries_of(tree: Any) -> Entries | None:
    """(keys, values, path steps) of a container; None for a leaf."""
    kind = type(tree)
    if kind in (tuple, list) or isinstance(tree, tuple):
        return (), tree, [f"[{i}]" for i in range(len(tree))]
    if isinstance(tree, dict):
        keys = tuple(tree)
        return keys, list(tree.values()), [f"[{k!r}]" for k in keys]
    if dataclasses.is_dataclass(tree) and not isinstance(tree, (type, DType)):      # there is one object of each dtype
        names = (*(f.name for f in dataclasses.fields(tree) if hasattr(tree, f.name)),
                 *(n for n in getattr(tree, "__dict__", {}) if n not in tree.__dataclass_fields__))
        return names, [getattr(tree, n) for n in names], [f".{n}" for n in names]
    return None


def unflatten(structure: Structure | None, leaves: Sequence[Any]) -> Any:
    """Inverse of flatten."""
    remaining = iter(leaves)
    tree = _unflatten(structure, remaining)
    if next(remaining, _END) is not _END:
        raise VerificationError("more leaves than the structure holds")
    return tree


_END = object()
_PLAIN = (tuple, list, dict)


def _unflatten(structure: Structure | None, leaves: Any) -> Any:
    if structure is None:
        return next(leaves)
    values = [_unflatten(child, leaves) for child in structure.children]
    kind = structure.kind
    if kind in (tuple, list):
        return kind(values)
    if issubclass(kind, (tuple, dict)):
        count = len(values) - len(structure.attributes)
        made: Any = _remade(kind, structure, values[:count])
        if structure.attributes:
            made.__dict__.update(zip(structure.attributes, values[count:], strict=True))
        return made
    record: Any = object.__new__(kind)              # __init__ would compute fields anew, or refuse them
    for name, value in zip(structure.keys, values, strict=True):
        object.__setattr__(record, name, value)
    return record


def with_keys(structure: Structure | None, function: Callable[[Any], Any]) -> Structure | None:
    """The same structure with `function` applied to the keys of dicts."""
    if structure is None:
        return None
    keys = tuple(map(function, structure.keys))
    return dataclasses.replace(structure, keys=keys, key_kinds=tuple(map(type, keys)),
                               children=tuple([with_keys(child, function) for child in structure.children]))


def _remade(kind: type, structure: Structure, values: list[Any]) -> Any:
    if issubclass(kind, tuple):
        return tuple.__new__(kind, values)          # a namedtuple, or a Size
    made: Any = kind.__new__(kind)                  # a dict; its __init__ may want other arguments
    if structure.factory is not None:
        made.default_factory = structure.factory
    put = OrderedDict.__setitem__ if isinstance(made, OrderedDict) else dict.__setitem__       # not the subclass's own
    for key, value in zip(structure.keys, values, strict=True):
        put(made, key, value)
    return made
