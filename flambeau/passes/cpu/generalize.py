"""Scheduled kernel -> the kernel that code is made of, and its runtime numbers: what differs between kernels and costs no
speed as an argument is one. Decided number by number, never by what other kernels there are, so that programs and
processes share code.

    %0 = load x[%i0 + 128] : f32           in x: f32[4096] from r0
    %1 = const 7.0 : f32             ->    %0 = load x[%i0] : f32                      r0 = 128, r1 = bits of 7.0
    %2 = add %0, %1 : f32                  %1 = const "r1" : f32
                                           %2 = add %0, %1 : f32

What is asked about a kernel (its rules, its memory, its meaning) is asked of the kernel as it was; see `ir.kernel.numbers`.
"""
from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Final, TypeVar

from flambeau.ir.kernel import Address, Instr, Kernel
from flambeau.ir.kernel.numbers import word_of

__all__ = ["generalized"]

K = TypeVar("K", bound=Kernel)

_PLAIN: Final = frozenset({-1, 0, 1, 2, 0.5})           # LLVM has shorter code for these, and everyone uses them
_ANY_INTEGER: Final = frozenset({"add", "sub", "min", "max", "eq", "ne", "lt", "le", "gt", "ge", "select"})
_LARGEST: Final = (1 << 63) - 1                         # of words; -1 - _LARGEST is none


def generalized(kernel: K) -> tuple[K, tuple[int, ...]]:
    """(the kernel with names for what may be any number, the numbers in the order of its `sizes`, after its own sizes)."""
    names = _Names()
    made = _with_consts(_with_origins(kernel, names), names)
    own = {extent for extent in kernel.extents if isinstance(extent, str)}
    return made, tuple([names.numbers[name] for name in made.sizes if name not in own])


class _Names:
    """Names of runtime numbers. Equal numbers of one role have one, so that code computes with them once."""

    def __init__(self) -> None:
        self.numbers: dict[str, int] = {}
        self._name_of: dict[tuple[object, int], str] = {}

    def of(self, role: object, number: int) -> str:
        name = self._name_of.setdefault((role, number), f"r{len(self._name_of)}")
        self.numbers[name] = number
        return name


def _with_origins(kernel: K, names: _Names) -> K:
    """x[... + 128], x[... + 130] -> x from 128: x[...], x[... + 2]."""
    first: dict[int, int] = {}
    for address in kernel.addresses():
        first[address.buffer] = min(address.offset, first.get(address.buffer, address.offset))
    first = {number: offset for number, offset in first.items() if offset}
    if not first:
        return kernel

    def moved(address: Address) -> Address:
        return replace(address, offset=address.offset - first.get(address.buffer, 0))

    params = [replace(param, first=names.of(("first", number), first[number])) if number in first else param
              for number, param in enumerate(kernel.params)]
    return replace(kernel.map(address=moved), params=tuple(params))


def _with_consts(kernel: K, names: _Names) -> K:
    """const 7.0 -> const "r0", where what reads it has the same code for any number."""
    users = _users(kernel)

    def named(instr: Instr) -> Instr:
        word = word_of(instr.attr, instr.dtype) if _may_vary(instr, users) else None    # type: ignore[arg-type]
        if word is None or not -_LARGEST <= word <= _LARGEST:
            return instr
        return replace(instr, attr=names.of(instr.dtype, word))

    return kernel.with_code([replace(stage, body=tuple([named(i) for i in stage.body])) for stage in kernel.code])


def _users(kernel: Kernel) -> Mapping[int, set[str]]:
    """The ops that read each value; "store" and the like for what else does."""
    found: dict[int, set[str]] = {}
    for stage in kernel.code:
        for instr in stage.body:
            for value in instr.operands:
                found.setdefault(value, set()).add(instr.op)
            if isinstance(instr.attr, Address):
                for value, _ in instr.attr.dynamic:
                    found.setdefault(value, set()).add("address")
        for store in stage.stores:
            found.setdefault(store.value, set()).add("store")
            for value, _ in store.address.dynamic:
                found.setdefault(value, set()).add("address")
        for reduction in stage.reductions:
            found.setdefault(reduction.value, set()).add("reduce")
    return found


def _may_vary(instr: Instr, users: Mapping[int, set[str]]) -> bool:
    if instr.op != "const" or isinstance(instr.attr, bool) or instr.attr in _PLAIN:
        return False
    readers = users.get(instr.id, set())
    if instr.dtype.kind == "float":
        return isinstance(instr.attr, float) and abs(instr.attr) < float("inf") and "cast" not in readers
    return readers <= _ANY_INTEGER

