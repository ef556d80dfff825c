"""Attention as one kernel, which never has its whole matrix of weights; or the derivative, which makes them again.

    attention @k0 {
      in in0: f32[49152]
      out out0: f32[16384]
      out out1: f32[512]
      batch %i0 = 2, %i1 = 4
      rows %i2 = 64
      columns %i3 = 64
      size %i4 = 32
      value %i5 = 32
      softmax 0.125 causal safe
      q in0[%i0*24576 + %i1*32 + %i2*384 + %i4]
      k in0[128 + %i0*24576 + %i1*32 + %i3*384 + %i4]
      v in0[256 + %i0*24576 + %i1*32 + %i3*384 + %i5]
      out out0[%i0*8192 + %i1*2048 + %i2*32 + %i5]
      lse out1[%i0*256 + %i1*64 + %i2]
      schedule rows=32, columns=64, parts=1, parallel=true
    }

With `g`, the cotangent of out, it is the derivative: out and lse are read, and dq, dk and dv stored, those that are named.
"""
from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from math import prod
from typing import TYPE_CHECKING, Any, ClassVar, Final, Self

from flambeau.ir import dtypes
from flambeau.ir.kernel.base import Kernel, map_address
from flambeau.ir.kernel.grammar import Address
from flambeau.ir.ops.attention import Attention, AttentionBackward
from flambeau.ir.records import dataclass

if TYPE_CHECKING:
    from flambeau.ir.kernel.interpreter import Machine
    from flambeau.ir.kernel.parser import Parser
    from flambeau.ir.kernel.text import Printer
    from flambeau.ir.kernel.verifier import Checker

__all__ = ["AttentionKernel", "AttentionSchedule", "BlockTiles"]

_PLACES: Final = {"q": "re", "k": "ce", "v": "cv", "mask": "rc", "out": "rv", "lse": "r", "g": "rv", "dq": "re", "dk": "ce",
                  "dv": "cv"}                   # which of rows, columns, size and value each walks


@dataclass(frozen=True, slots=True)
class AttentionSchedule:
    """rows: of q (forward) or k (backward) in a tile, side by side in vectors. columns: how many of the others a block has.
    parts: tasks that share the tiles of one point of the batch, backward. parallel: worth more than one thread."""

    rows: int
    columns: int
    parts: int = 1
    parallel: bool = True


@dataclass(frozen=True, slots=True)
class BlockTiles:
    """On a GPU: rows and columns of the tiles in shared memory, and the threads of a block."""

    rows: int
    columns: int
    threads: int


@dataclass(frozen=True)
class AttentionKernel(Kernel):
    """`extents` are those of the batch, then rows (of q), columns (rows of k and v), size (of rows of q and k) and value
    (of rows of v). Every address walks the batch and its own two of those."""

    keyword = "attention"
    schedules: ClassVar[dict[str, type]] = {"schedule": AttentionSchedule, "tiles": BlockTiles}

    scale: float
    causal: bool
    safe: bool
    q: Address
    k: Address
    v: Address
    mask: Address | None = None
    out: Address | None = None
    lse: Address | None = None
    g: Address | None = None
    dq: Address | None = None
    dk: Address | None = None
    dv: Address | None = None

    @property
    def is_backward(self) -> bool:
        return self.g is not None

    @property
    def batch(self) -> tuple[int, ...]:
        return tuple(int(e) for e in self.extents[:-4])

    @property
    def sizes_of_rows(self) -> tuple[int, int, int, int]:
        """rows, columns, size, value"""
        rows, columns, size, value = (int(e) for e in self.extents[-4:])
        return rows, columns, size, value

    @property
    def dtype(self) -> dtypes.DType:
        return self.params[self.q.buffer].dtype

    def places(self) -> Iterator[tuple[str, Address]]:
        for name in _PLACES:
            address = getattr(self, name)
            if address is not None:
                yield name, address

    def dims_of(self, name: str) -> tuple[int, ...]:
        """The dims that operand or result `name` walks, the batch first."""
        first = len(self.extents) - 4
        return (*range(first), *[first + "rcev".index(letter) for letter in _PLACES[name]])

    def results(self) -> tuple[str, ...]:
        return ("dq", "dk", "dv") if self.is_backward else ("out", "lse")

    @property
    def product_flops(self) -> int:
        rows, columns, size, value = self.sizes_of_rows
        weights = prod(self.batch) * (rows * (rows + 1) // 2 if self.causal and rows == columns else rows * columns)
        products = 3 * size + 2 * value if self.is_backward else size + value       # scores again, dq, dk; dv, dp
        return weights * (2 * products + 4)                                         # and scale, shift, exp, sum

    def addresses(self) -> Iterator[Address]:
        yield from (address for _, address in self.places())

    def may_share(self, read: int, written: int) -> bool:
        return False

    def map(self, *, address: Callable[[Address], Address] | None = None, value: Callable[[int], int] | None = None,
            dim: Callable[[int], int | None] | None = None) -> Self:
        moved: dict[str, Any] = {name: map_address(old, address=address, value=value, dim=dim)
                                 for name, old in self.places()}
        return replace(self, **moved)

    def lines(self, printer: Printer) -> Iterator[str]:
        *batch, rows, columns, size, value = printer.extents(self.extents)
        if batch:
            yield f"  batch {', '.join(batch)}"
        for name, extent in (("rows", rows), ("columns", columns), ("size", size), ("value", value)):
            yield f"  {name} {extent}"
        yield f"  softmax {self.scale!r}{' causal' if self.causal else ''}{' safe' if self.safe else ''}"
        yield from (f"  {name} {printer.address(address)}" for name, address in self.places())

    @classmethod
    def read(cls, parser: Parser, name: str) -> Self:
        cursor = parser.cursor
        extents = parser.extents(0, static=True) if cursor.accept("batch") else ()
        for word in ("rows", "columns", "size", "value"):
            cursor.require(word)
            start, found = cursor.token, parser.extents(len(extents), static=True)
            if len(found) != 1:
                cursor.fail("one dim", start)
            extents += found
        cursor.require("softmax")
        scale, causal, safe = float(cursor.number()), cursor.accept("causal"), cursor.accept("safe")
        places: dict[str, Any] = {place: parser.address() for place in _PLACES if cursor.accept(place)}
        for place in "qkv":
            if place not in places:
                cursor.fail(f"a place for {place}")
        return cls(name, tuple(parser.params), extents, scale, causal, safe, **places)

    def check(self, checker: Checker) -> None:
        checker.reads_nothing = 0 in self.extents
        if not self.dtype.is_floating_point:
            checker.fail(f"works on floats, not {self.dtype}")
        if self.is_backward and (self.out is None or self.lse is None):
            checker.fail("a derivative reads out and lse")
        wide = dtypes.f32 if self.dtype.itemsize == 2 else self.dtype
        for name, address in self.places():
            param = self.params[address.buffer]
            checker.check_address(address, set(self.dims_of(name)), name)
            if address.dynamic or address.guard is not None:
                checker.fail("its addresses have neither gathered parts nor guards", name)
            allowed = [wide] if name == "lse" else [dtypes.bool_, wide, self.dtype] if name == "mask" else [self.dtype]
            if param.dtype not in allowed:
                checker.fail(f"param {param.name} is {param.dtype}, {name} is {allowed[-1]}", name)
            if name in self.results():
                if param.role != "out" or address.buffer in checker.stored:
                    checker.fail(f"param {param.name} is no result of its own", name)
                checker.stored.add(address.buffer)
            elif name in ("dq", "dk", "dv"):
                checker.fail("there is no derivative without g", name)
            else:
                checker.check_read(address.buffer, name)
        if isinstance(self.schedule, AttentionSchedule):
            checker.require_positive(self.schedule, ("rows", "columns", "parts"))
        if isinstance(self.schedule, BlockTiles):
            checker.require_positive(self.schedule, ("rows", "columns", "threads"))

    def storing_mistake(self, number: int) -> str:
        """Results lie row-major, and fill their buffer."""
        for name in self.results():
            address = getattr(self, name)
            if address is None or address.buffer != number:
                continue
            step, wanted = 1, []
            for dim in reversed(self.dims_of(name)):
                if self.extents[dim] != 1:
                    wanted.append((dim, step))
                step *= int(self.extents[dim])
            if step != self.params[number].elements or address.offset:
                return "its elements are not stored once each"
            if step and sorted(wanted) != [s for s in address.strides if self.extents[s[0]] != 1]:
                return "its elements do not lie in their order"
        return ""

    def run(self, machine: Machine) -> None:
        given = {name: machine.loaded(address, self.dims_of(name)) for name, address in self.places()
                 if name not in self.results()}
        operands = [given[name] for name in ("q", "k", "v", "mask", "out", "lse", "g") if name in given]
        op = (AttentionBackward if self.is_backward else Attention)(self.scale, self.causal, self.safe, tiled=True)
        for name, found in zip(self.results(), op.evaluate(*operands), strict=True):
            address = getattr(self, name)
            if address is not None:
                machine.store(address.buffer, found)
