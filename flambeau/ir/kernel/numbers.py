"""Runtime numbers: kernels that differ by a number are one kernel, and its number an argument of each call.

    %1 = const 7.0 : f32                            %1 = const "r0" : f32
    %2 = load x[%i0*64 + 128] : f32     ->          in x: f32[4096] from r1;  %2 = load x[%i0*r2] : f32

The element that addresses of a param count from, strides along dims, extents, elements of params, the points or tiles that
a task takes and consts may be names of runtime numbers; `Kernel.residues` tells what they leave over. All come as words of
64 bits in the order of `Kernel.sizes`, a const as the bits of its compute type. Such a kernel means what it means with its
numbers bound, and everything that is proved of kernels is proved of those.
"""
from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TypeVar

import numpy as np

from flambeau.ir.dtypes import DType
from flambeau.ir.kernel.base import Kernel
from flambeau.ir.kernel.grammar import Address, Extent, Instr
from flambeau.ir.kernel.scalar import constant

__all__ = ["bound", "const_of", "word_of"]

K = TypeVar("K", bound=Kernel)


def word_of(value: float | int | bool, dtype: DType) -> int:
    """The word that brings a const: the bits of `value` as `dtype` holds it, in its compute type, as a signed number."""
    held = constant(value, dtype).astype(_compute(dtype))
    return int.from_bytes(held.tobytes().ljust(8, b"\0"), "little", signed=True)


def const_of(word: int, dtype: DType) -> float | int:
    """The inverse of `word_of`."""
    value: float | int = np.frombuffer(word.to_bytes(8, "little", signed=True), _compute(dtype))[0].item()
    return value


def _compute(dtype: DType) -> np.dtype:
    return np.dtype(np.float32) if dtype.kind == "float" and dtype.itemsize == 2 else dtype.compute


def bound(kernel: K, numbers: Mapping[str, int]) -> K:
    """The kernel with each name replaced by its number."""

    def known(extent: Extent) -> int:
        return numbers[extent] if isinstance(extent, str) else extent

    def instr(old: Instr) -> Instr:
        named = old.op == "const" and isinstance(old.attr, str)
        return replace(old, attr=const_of(numbers[str(old.attr)], old.dtype)) if named else old

    first = [known(param.first) for param in kernel.params]

    def address(old: Address) -> Address:
        strides = tuple([(dim, known(stride)) for dim, stride in old.strides])
        return replace(old, offset=old.offset + (first[old.buffer] if old.buffer >= 0 else 0), strides=strides)

    kernel = kernel.map(address=address)
    kernel = kernel.with_code([replace(stage, body=tuple([instr(i) for i in stage.body])) for stage in kernel.code])
    params = tuple([replace(param, elements=known(param.elements), first=0) for param in kernel.params])
    schedule = kernel.schedule
    for block in ("block", "m_block", "n_block"):
        if isinstance(name := getattr(schedule, block, None), str):
            schedule = replace(schedule, **{block: known(name)})
    if getattr(schedule, "k_loops", ()) or getattr(schedule, "last_vectors", 0):
        schedule = replace(schedule, k_loops=(), last_vectors=0)
    extents = tuple([known(extent) for extent in kernel.extents])
    return replace(kernel, params=params, extents=extents, schedule=schedule, residues=())
