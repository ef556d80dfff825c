"""Kernel -> a key that is equal for two kernels exactly when the same machine code serves both.

Names (of the kernel, its params, values and runtime sizes) and source locations do not count; order, types,
constants, addresses, extents and the schedule do. The kernel is walked once into bytes in which every leaf
carries its type, because Python's equality merges what machine code must not (-0.0 == 0.0, 1 == True) and
separates what it may share (NaN != NaN).
"""
from __future__ import annotations

import hashlib
import struct
from dataclasses import fields
from functools import cache
from typing import Final

from flambeau.ir.dtypes import DType
from flambeau.ir.kernel import Kernel, LoopKernel, Stage

__all__ = ["kernel_key"]

_VERSION: Final = b"flambeau kernel 1"      # changes whenever the encoding, or the meaning of a kernel, does
_UNCOUNTED: Final = frozenset({"name", "locations"})
_VALUE_FIELDS: Final = frozenset({"id", "operands", "guard", "value"})      # hold value ids
_SIZE_FIELDS: Final = frozenset({"extents", "elements"})                    # hold ints and names of runtime sizes


def kernel_key(kernel: Kernel) -> str:
    """64 hex digits: sha256 of the kernel's structure. `kernel` must be valid: see `verify_kernel`."""
    encoder = _Encoder(kernel)
    encoder.encode(kernel)
    return hashlib.sha256(b"".join(encoder.out)).hexdigest()


def _defined(stage: Stage) -> list[int]:
    return [instr.id for instr in stage.body] + [reduction.id for reduction in stage.reductions]


@cache
def _counted_fields(kind: type) -> tuple[str, ...]:
    return tuple(f.name for f in fields(kind) if f.name not in _UNCOUNTED)


class _Encoder:
    """Collects in `out` the bytes of a kernel, values and runtime sizes numbered in the order of definition."""

    def __init__(self, kernel: Kernel) -> None:
        stages: tuple[Stage, ...] = kernel.stages if isinstance(kernel, LoopKernel) else (kernel.epilogue,)
        defined = [value for stage in stages for value in _defined(stage)]
        self.number_of_value: dict[object, int] = {value: number for number, value in enumerate(defined)}
        sizes = (*kernel.sizes, *(p.elements for p in kernel.params if isinstance(p.elements, str)))
        self.number_of_size: dict[object, int] = {s: number for number, s in enumerate(dict.fromkeys(sizes))}
        self.out: list[bytes] = [_VERSION]

    def encode(self, item: object) -> None:
        match item:
            case None:
                self.out.append(b"N")
            case bool():                                # before int, which it also is
                self.out.append(b"T" if item else b"F")
            case int():
                self.out.append(b"i%d;" % item)
            case float():
                self.out.append(b"f" + struct.pack("<d", item))
            case str():
                self.out.append(b"s%d;" % len(item.encode()) + item.encode())
            case DType():
                self.out.append(b"d%s;" % item.name.encode())
            case tuple():
                self.out.append(b"(")
                for part in item:
                    self.encode(part)
                self.out.append(b")")
            case _:
                self.encode_fields(item)

    def encode_fields(self, item: object) -> None:
        kind: type = type(item)
        self.out.append(b"<%s;" % kind.__name__.encode())
        for name in _counted_fields(kind):
            value = getattr(item, name)
            if name in _VALUE_FIELDS:
                value = self.renamed(value)
            elif name == "dynamic":
                value = tuple((self.number_of_value[v], stride) for v, stride in value)
            elif name in _SIZE_FIELDS:
                value = self.resized(value)
            self.encode(value)
        self.out.append(b">")

    def renamed(self, value: object) -> object:
        if isinstance(value, tuple):
            return tuple(self.number_of_value[v] for v in value)
        return None if value is None else self.number_of_value[value]

    def resized(self, value: object) -> object:
        if isinstance(value, tuple):
            return tuple(self.resized(extent) for extent in value)
        return ("size", self.number_of_size[value]) if isinstance(value, str) else value
