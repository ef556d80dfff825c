"""Kernel -> a key that is equal for two kernels exactly when the same machine code serves both.

Names (of the kernel, its params, values and runtime sizes) and source locations do not count; order, types,
constants, addresses, extents and the schedule do. The kernel is walked once into nested tuples whose repr tells
every leaf's type, with floats as their bits, because Python's equality merges what machine code must not
(-0.0 == 0.0, 1 == True) and separates what it may share (NaN != NaN).
"""
from __future__ import annotations

import hashlib
import struct
from dataclasses import fields
from functools import cache
from typing import Final, cast

from flambeau.ir.dtypes import DType
from flambeau.ir.kernel.base import Kernel
from flambeau.ir.kernel.grammar import Address, Instr, Reduction, Stage, Store

__all__ = ["kernel_key"]

_VERSION: Final = "flambeau kernel 4"      # changes whenever the encoding, or the meaning of a kernel, does
_UNCOUNTED: Final = frozenset({"name", "locations"})
_SCALAR_CODE: Final = frozenset({Instr, Reduction, Store, Address})
_VALUE_FIELDS: Final = frozenset({"id", "operands", "guard", "value"})      # of those: hold value ids
_SIZE_FIELDS: Final = frozenset({"extents", "elements"})                    # hold ints and names of runtime sizes
_PLAIN: Final = frozenset({int, bool, str, type(None)})     # whose repr tells type and value


def kernel_key(kernel: Kernel) -> str:
    """64 hex digits: sha256 of the kernel's structure, worked out once. `kernel` must be valid: see `verify_kernel`."""
    known: str | None = kernel.__dict__.get("_key")
    if known is None:
        structure = repr((_VERSION, kernel.keyword, _Canonical(kernel).form(kernel)))
        known = kernel.__dict__["_key"] = hashlib.sha256(structure.encode()).hexdigest()
    return known


@cache
def _counted_fields(kind: type) -> tuple[tuple[str, str], ...]:
    """(name, what it holds: "values", "dynamic", "sizes" or "") of each field that counts."""
    holds = dict.fromkeys(_SIZE_FIELDS, "sizes")
    if kind in _SCALAR_CODE:
        holds |= {**dict.fromkeys(_VALUE_FIELDS, "values"), "dynamic": "dynamic"}
    return tuple((f.name, holds.get(f.name, "")) for f in fields(kind) if f.name not in _UNCOUNTED)


class _Canonical:
    """Numbers the values and the runtime sizes of a kernel in the order of definition."""

    def __init__(self, kernel: Kernel) -> None:
        defined = [value for stage in kernel.code for value in _defined(stage)]
        self.number_of_value: dict[object, int] = {value: number for number, value in enumerate(defined)}
        sizes = (*kernel.sizes, *(p.elements for p in kernel.params if isinstance(p.elements, str)))
        self.number_of_size: dict[object, int] = {s: number for number, s in enumerate(dict.fromkeys(sizes))}

    def form(self, item: object) -> object:
        """`item` as nested tuples of int, bool, str, None and bytes (of floats)."""
        kind: type = type(item)
        if kind in _PLAIN:
            return item
        if kind is tuple:
            return tuple([self.form(part) for part in cast(tuple[object, ...], item)])
        if isinstance(item, DType):
            return item.name
        if isinstance(item, float):
            return struct.pack("<d", item)
        return (kind.__name__, *[self.field_form(holds, getattr(item, name)) for name, holds in _counted_fields(kind)])

    def field_form(self, holds: str, value: object) -> object:
        if holds == "values":
            return self.renumbered(value)
        if holds == "dynamic":
            return tuple([(self.number_of_value[v], stride) for v, stride in cast(tuple[tuple[int, int], ...], value)])
        return self.resized(value) if holds == "sizes" else self.form(value)

    def renumbered(self, value: object) -> object:
        if isinstance(value, tuple):
            return tuple([self.number_of_value[v] for v in value])
        return None if value is None else self.number_of_value[value]

    def resized(self, value: object) -> object:
        if isinstance(value, tuple):
            return tuple([self.resized(extent) for extent in value])
        return ("size", self.number_of_size[value]) if isinstance(value, str) else value


def _defined(stage: Stage) -> list[int]:
    return [instr.id for instr in stage.body] + [reduction.id for reduction in stage.reductions]
