"""Kernel -> text, and through `parse_kernel` back: `parse_kernel(print_kernel(k)) == k`, every bit of it.

    loop @gather {
      in index: i64[4]
      in x: f32[18]
      out y: f32[12]
      parallel %i0 = 4, %i1 = 3
      stage () {
        %0 = load index[%i0] : i64
        %1 = const 0 : i64
        %2 = ge %0, %1 : bool
        %3 = load x[%i1 + %0*3] if %2 : f32
        store %3 to y[%i0*3 + %i1]
      }
      schedule vector_dim=1, unroll=1, block=1, grain=1, parallel=true
      loc "train.py:7: h = table[index]"
    }

`%i0` is an iteration dim, `%0` a value, `x[...]` an element of a param; `reduce`, `store` and `accumulate` (a store
that adds) end a stage. A contraction says its dims, the role of each, and what it sums:

    contraction @matmul {
      in lhs: f32[30]
      in rhs: f32[20]
      out out: f32[24]
      dims %i0 = 2, %i1 = 3, %i2 = 4, %i3 = 5
      batch %i0
      m %i1
      n %i2
      k %i3
      sum lhs[%i0*15 + %i1*5 + %i3] * rhs[%i2 + %i3*4] : f32
      epilogue () {
        %0 = acc : f32
        store %0 to out[%i0*12 + %i1*4 + %i2]
      }
    }

Floats are Python's shortest ones that read back the same; a NaN other than the usual one shows its bits,
`nan(0xfff8000000000000)`. Names that are not identifiers are quoted as in JSON. `//` starts a comment. Names of runtime
numbers (see `numbers`) stand where numbers do, those of consts in quotes: `in x: f32[18] from r0`, `%0 = const "r1" : f32`.
"""
from __future__ import annotations

import json
import math
import re
import struct
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import fields
from typing import Final

from flambeau.ir.kernel.base import Kernel
from flambeau.ir.kernel.grammar import Address, Extent, Instr, Param, Stage, Store
from flambeau.ir.kernel.parser import parse_kernel, parse_kernels
from flambeau.ir.tokens import CANONICAL_NAN_BITS

__all__ = ["Printer", "parse_kernel", "parse_kernels", "print_kernel", "print_kernels"]

_IDENTIFIER: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_.]*\Z")


def print_kernels(kernels: Iterable[Kernel]) -> str:
    """The text of several kernels, an empty line between two."""
    return "\n".join(print_kernel(kernel) for kernel in kernels)


def print_kernel(kernel: Kernel) -> str:
    """The text of `kernel`, ending in a newline. An invalid kernel prints too, so that errors can show it."""
    lines = [f"{kernel.keyword} @{_name(kernel.name)} {{", *(_param(p) for p in kernel.params)]
    lines += kernel.lines(Printer(kernel.params))
    if kernel.residues:
        lines.append("  residues " + ", ".join(f"{_name(name)} = {rest} mod {of}" for name, of, rest in kernel.residues))
    if kernel.schedule is not None:
        lines.append(_schedule(kernel))
    lines += [f"  loc {json.dumps(location)}" for location in kernel.locations]
    return "\n".join([*lines, "}"]) + "\n"


class Printer:
    """The parts of a kernel's text; params are named, or numbered where a name is not unique."""

    def __init__(self, params: Sequence[Param]) -> None:
        times = Counter(p.name for p in params)
        self.buffers = [_name(p.name) if times[p.name] == 1 else f"#{i}" for i, p in enumerate(params)]

    def extents(self, extents: Iterable[Extent]) -> list[str]:
        """`%i0 = 4` for each."""
        return [f"%i{d} = {_extent(extent)}" for d, extent in enumerate(extents)]

    def dims(self, dims: Iterable[int]) -> str:
        return ", ".join(f"%i{d}" for d in dims)

    def param(self, number: int) -> str:
        """The name of a param; nothing for the address of no buffer."""
        if number == -1:
            return ""
        return self.buffers[number] if 0 <= number < len(self.buffers) else f"#{number}"

    def stage(self, keyword: str, stage: Stage) -> Iterator[str]:
        yield f"  {keyword} ({self.dims(stage.dims)}) {{"
        yield from (f"    {self.instr(instr)}" for instr in stage.body)
        for r in stage.reductions:
            yield f"    %{r.id} = reduce {r.combiner} %{r.value} : {r.dtype}"
        yield from (f"    {self.store(store)}" for store in stage.stores)
        yield "  }"

    def instr(self, instr: Instr) -> str:
        operands = [f"%{value}" for value in instr.operands]
        if isinstance(instr.attr, Address):
            operands.append(self.address(instr.attr))
        elif instr.op == "index" and type(instr.attr) is int:
            operands.append(f"%i{instr.attr}")
        elif instr.attr is not None:
            operands.append(_literal(instr.attr))
        return " ".join([f"%{instr.id} = {instr.op}", *filter(None, [", ".join(operands)]), f": {instr.dtype}"])

    def store(self, store: Store) -> str:
        verb = "store" if store.combine == "set" else "accumulate"
        return f"{verb} %{store.value} to {self.address(store.address)}"

    def address(self, address: Address) -> str:
        terms: list[tuple[str, Extent]] = [(f"%i{dim}", stride) for dim, stride in address.strides]
        terms += [(f"%{value}", stride) for value, stride in address.dynamic]
        guard = "" if address.guard is None else f" if %{address.guard}"
        return f"{self.param(address.buffer)}[{_linear(terms, address.offset)}]{guard}"


def _linear(terms: list[tuple[str, Extent]], offset: int) -> str:
    """`%i0*128 - %i1 + %7*4 + 3`: unit strides and a zero offset are left out."""
    scaled = [(False, f"{name}*{_name(stride)}") if isinstance(stride, str) else
              (stride < 0, name if abs(stride) == 1 else f"{name}*{abs(stride)}") for name, stride in terms]
    if offset or not terms:
        scaled.append((offset < 0, str(abs(offset))))
    (first_negative, first), rest = scaled[0], scaled[1:]
    return ("-" if first_negative else "") + first + "".join(f" {'-' if neg else '+'} {term}" for neg, term in rest)


def _param(param: Param) -> str:
    start = "" if param.first == 0 else f" from {_extent(param.first)}"
    return f"  {param.role} {_name(param.name)}: {param.dtype}[{_extent(param.elements)}]{start}"


def _extent(extent: Extent) -> str:
    return _name(extent) if isinstance(extent, str) else str(extent)


def _name(name: str) -> str:
    return name if _IDENTIFIER.match(name) else json.dumps(name)


def _schedule(kernel: Kernel) -> str:
    """Fields in order; rows only where there are some."""
    schedule = kernel.schedule
    keyword = next((word for word, kind in kernel.schedules.items() if isinstance(schedule, kind)), "")
    assert keyword, f"{type(kernel).__name__} has no {type(schedule).__name__} among its schedules"
    left_out = [name for name in ("k_loops", "last_vectors") if not getattr(schedule, name, True)]
    left_out += ["group"] if getattr(schedule, "group", 0) == 1 else []
    left_out += ["row_dim", "rows"] if getattr(schedule, "row_dim", 0) is None else []
    shown = [f.name for f in fields(schedule) if f.name not in left_out]
    return f"  {keyword} " + ", ".join(f"{name}={_literal(getattr(schedule, name))}" for name in shown)


def _literal(value: object) -> str:
    match value:
        case None:
            return "none"
        case bool():                                # before int, which it also is
            return "true" if value else "false"
        case int():
            return str(value)
        case float():
            return _float(value)
        case str():
            return json.dumps(value)
        case tuple():
            return "(" + ", ".join(_literal(part) for part in value) + ")"
        case _:
            raise AssertionError(f"the text form has no way to write {value!r}")


def _float(value: float) -> str:
    if not math.isnan(value):
        return repr(float(value))          # a NumPy float would show its type
    bits = struct.unpack("<Q", struct.pack("<d", value))[0]
    return "nan" if bits == CANONICAL_NAN_BITS else f"nan({bits:#018x})"
