"""Graphs whose sizes have names: what the names are in a call, and the same graph with other sizes for them."""
from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from flambeau.ir.attributes import attribute_names
from flambeau.ir.dims import Dim, Size, substituted
from flambeau.ir.graph.structure import Graph, clone
from flambeau.ir.types import TensorType

__all__ = ["record_with_sizes", "sizes_of", "type_with_sizes", "with_sizes"]


def with_sizes(graph: Graph, sizes: Mapping[str, Size]) -> Graph:
    """A copy of `graph`, node for node, with the named sizes replaced in types and attributes, in regions too. Where every
    name is a number nothing need be known of them."""
    copy, _ = clone(graph)
    facts = copy.facts
    if facts is not None and all(name in facts.values or isinstance(sizes.get(name), int) for name in facts.sizes):
        copy.facts = None
    pending = [copy]
    while pending:
        current = pending.pop()
        for node in current._node:
            pending += node.regions
            node.op = record_with_sizes(node.op, sizes)
            for value in node.results:
                value.type = type_with_sizes(value.type, sizes)
    return copy


def type_with_sizes(type: TensorType, sizes: Mapping[str, Size]) -> TensorType:
    """The type with named sizes replaced."""
    return type if type.is_static else type.with_shape(tuple([substituted(size, sizes) for size in type.shape]))


R = TypeVar("R")


def record_with_sizes(record: R, sizes: Mapping[str, Size]) -> R:
    """An op, or any other frozen dataclass, with named sizes replaced in its attributes; the same object if it has none."""
    changed = {}
    for name in attribute_names(type(record)):
        old = getattr(record, name)
        new = _replaced(old, sizes)
        if new is not old:
            changed[name] = new
    return dataclasses.replace(record, **changed) if changed else record            # type: ignore[type-var]


def _replaced(value: Any, sizes: Mapping[str, Size]) -> Any:
    kind = type(value)
    if kind is Dim:
        return value.substituted(sizes)
    if kind is TensorType:
        return type_with_sizes(value, sizes)
    if kind is tuple:
        parts = [_replaced(part, sizes) for part in value]
        return value if all(new is old for new, old in zip(parts, value, strict=True)) else tuple(parts)
    return value


def sizes_of(types: Sequence[TensorType], shapes: Sequence[tuple[int, ...]]) -> dict[str, int] | None:
    """What the names are, for inputs of these shapes: a name is that of the first dim which it is alone. None where ranks
    or other dims do not fit."""
    sizes: dict[str, int] = {}
    for wanted, shape in zip(types, shapes, strict=True):
        if len(shape) != wanted.rank:
            return None
        for size, number in zip(wanted.shape, shape, strict=True):
            if isinstance(size, Dim) and size.terms[0][1] == 1 and size.names == {str(size)}:
                sizes.setdefault(str(size), number)
    for wanted, shape in zip(types, shapes, strict=True):
        if any(substituted(size, sizes) != number for size, number in zip(wanted.shape, shape, strict=True)):
            return None
    return sizes
