"""What both directions are made of: products of a strided matrix and a panel of vectors, and panels packed and unpacked.

A panel is a matrix [count][width] in memory of its own, a few vectors wide. `product` gives sum_k a[r, k] * panel[k, :] for
rows r: elements of a are broadcast from wherever they lie, by any strides, so that neither keys nor values are copied.
"""
from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import cached_property
from typing import Literal

import llvmlite.ir as ll

from flambeau.codegen.cpu import vmath
from flambeau.codegen.cpu.llvm.emitter import (
    I64,
    PTR,
    Emitter,
    compute_type,
    constant,
    storage_bytes,
    vector_type,
)
from flambeau.codegen.cpu.llvm.lltypes import lane_order
from flambeau.ir.kernel import Address
from flambeau.ir.kernel.attention_kernel import AttentionKernel, AttentionSchedule
from flambeau.ir.target import Target

__all__ = ["Tiles", "remainders", "unflatten"]

Keep = Literal["set", "add", "scale"]


def unflatten(b: Emitter, flat: ll.Value, extents: Sequence[int]) -> list[ll.Value]:
    """Row-major coordinates of position `flat` in a box."""
    found: list[ll.Value] = []
    for extent in reversed(extents):
        found.append(b.urem(flat, b.index(extent)))
        flat = b.udiv(flat, b.index(extent))
    return found[::-1]


def remainders(counts: Iterable[int], step: int) -> list[int]:
    """What is left of each count after whole steps, where anything is."""
    return sorted({count % step for count in counts} - {0})


class Tiles:
    """One kernel's functions. `width`: elements of a panel's row."""

    def __init__(self, kernel: AttentionKernel, module: ll.Module, symbol: str, target: Target) -> None:
        assert isinstance(kernel.schedule, AttentionSchedule), f"{kernel.name} is not scheduled"
        self.kernel, self.module, self.symbol, self.target = kernel, module, symbol, target
        self.schedule = kernel.schedule
        self.dtype = kernel.dtype.name
        self.lanes = target.lanes(storage_bytes(self.dtype))
        self.width = self.schedule.rows
        self.vectors = self.width // self.lanes
        self.rows, self.columns, self.size, self.value = kernel.sizes_of_rows
        self._functions: dict[object, ll.Function] = {}

    @cached_property
    def element(self) -> ll.Type:
        return compute_type(self.dtype)

    @cached_property
    def vector(self) -> ll.Type:
        return vector_type(self.element, self.lanes)

    def number(self, value: float) -> ll.Value:
        return constant(self.element, value, self.lanes)

    def op(self, b: Emitter, name: str, *values: ll.Value) -> ll.Value:
        return vmath.emit(b, name, self.dtype, self.lanes, values)

    # -- memory -----------------------------------------------------------------------------------------------------

    def strides(self, name: str) -> tuple[int, int]:
        """Of an operand's last two dims: its rows, and what is in one."""
        address, dims = getattr(self.kernel, name), self.kernel.dims_of(name)
        return address.stride_of(dims[-2]), address.stride_of(dims[-1])

    def start(self, b: Emitter, name: str, point: Sequence[ll.Value]) -> ll.Value:
        """Where an operand or result begins at a point of the batch."""
        address: Address = getattr(self.kernel, name)
        offset = b.index(address.offset)
        for dim, coordinate in enumerate(point):
            offset = b.add(offset, b.mul(coordinate, b.index(address.stride_of(dim))))
        return b.element(b.buffer(address.buffer), offset, self.kernel.params[address.buffer].dtype.name)

    def at(self, b: Emitter, base: ll.Value, offset: ll.Value | int) -> ll.Value:
        return b.element(base, offset, self.dtype)

    def load(self, b: Emitter, base: ll.Value, offset: ll.Value | int, active: int | None = None) -> ll.Value:
        return b.load_vector(base, offset, self.dtype, self.lanes, active)

    def store(self, b: Emitter, value: ll.Value, base: ll.Value, offset: ll.Value | int, active: int | None = None) -> None:
        b.store_vector(value, base, offset, self.dtype, active)

    def broadcast(self, b: Emitter, base: ll.Value, offset: ll.Value | int) -> ll.Value:
        return b.splat(b.load_scalar(base, offset, self.dtype), self.lanes)

    def fill(self, b: Emitter, base: ll.Value, count: int, value: float = 0.0) -> None:
        """A panel or two of one number; count is whole vectors."""
        b.loop(0, count, self.lanes, lambda i: self.store(b, self.number(value), base, i), name="fill")

    def function(self, key: object, arguments: Sequence[ll.Type], body: Callable[..., None]) -> ll.Function:
        """`void f(arguments)`, internal, out of line so that it has all registers to itself, written once for a key."""
        if key not in self._functions:
            name = f"{self.symbol}_{len(self._functions)}"
            made = ll.Function(self.module, ll.FunctionType(ll.VoidType(), list(arguments)), name)
            made.linkage, made.calling_convention = "internal", "fastcc"
            for attribute in ("noinline", "nounwind"):
                made.attributes.add(attribute)
            b = Emitter(made.append_basic_block("entry"), self.target)
            body(b, *made.args)
            b.ret_void()
            self._functions[key] = made
        return self._functions[key]

    # -- products ---------------------------------------------------------------------------------------------------

    def rows_at_once(self, vectors: int) -> int:
        """Rows of a tile of registers that is so many vectors wide: what is left holds a row of the panel and a factor."""
        most = 24 if self.target.n_vector_registers >= 32 else 12
        return max(1, min(8, most // vectors))

    def product(self, b: Emitter, keep: Keep, a: ll.Value, by_row: int, by_k: int, panel: ll.Value, panel_width: int,
                c: ll.Value, rows: ll.Value | int, counts: Iterable[int], k: ll.Value, factors: ll.Value | None = None,
                vectors: int | None = None) -> None:
        """c[r, :] = (0, c[r, :], or c[r, :] * factors) + sum over k of a[r * by_row + k * by_k] * panel[k, :], r < rows.
        counts: the numbers that rows may be. c is as wide as the panel; vectors: of it, those to work on."""
        vectors = vectors or self.vectors
        at_once = self.rows_at_once(vectors)
        counts = list(counts)
        rows = b.index(rows)
        nothing = ll.Constant(PTR, None) if factors is None else factors

        def call(first: ll.Value, height: int) -> None:
            tile = self._tile(keep, height, vectors, by_row, by_k, panel_width)
            b.call(tile, [self.at(b, a, b.mul(first, b.index(by_row))), panel,
                          self.at(b, c, b.mul(first, b.index(panel_width))), k, nothing], cconv="fastcc")

        whole = b.mul(b.udiv(rows, b.index(at_once)), b.index(at_once))
        if max(counts, default=0) >= at_once:
            b.loop(0, whole, at_once, lambda first: call(first, at_once), name="rows")
        left = b.sub(rows, whole)
        for height in remainders(counts, at_once):
            with b.if_then(b.icmp_signed("==", left, b.index(height))):
                call(whole, height)

    def _tile(self, keep: Keep, height: int, vectors: int, by_row: int, by_k: int, panel_width: int) -> ll.Function:
        def body(b: Emitter, a: ll.Value, panel: ll.Value, c: ll.Value, k: ll.Value, factors: ll.Value) -> None:
            spots = [(r, v) for r in range(height) for v in range(vectors)]
            sums = [self.number(0.0) for _ in spots]
            if keep != "set":
                sums = [self.load(b, c, r * panel_width + v * self.lanes) for r, v in spots]
            if keep == "scale":
                scales = [self.load(b, factors, v * self.lanes) for v in range(vectors)]
                sums = [b.fmul(s, scales[v]) for s, (_, v) in zip(sums, spots, strict=True)]

            def step(at: ll.Value, *sums: ll.Value) -> list[ll.Value]:
                row = self.at(b, panel, b.mul(at, b.index(panel_width)))
                column = self.at(b, a, b.mul(at, b.index(by_k)))
                panels = [self.load(b, row, v * self.lanes) for v in range(vectors)]
                found = list(sums)
                for r in range(height):
                    factor = self.broadcast(b, column, r * by_row)
                    for v in range(vectors):
                        found[r * vectors + v] = b.fma(factor, panels[v], found[r * vectors + v])
                return found

            sums = b.loop(0, k, 1, step, sums, name="k")
            for s, (r, v) in zip(sums, spots, strict=True):
                self.store(b, s, c, r * panel_width + v * self.lanes)

        return self.function(("product", keep, height, vectors, by_row, by_k, panel_width), [PTR, PTR, PTR, I64, PTR], body)

    # -- panels -----------------------------------------------------------------------------------------------------

    def transposed(self, b: Emitter, vectors: list[ll.Value]) -> list[ll.Value]:
        """As many vectors as one has lanes: column n of them becomes vector n."""
        lanes, half = self.lanes, self.lanes // 2
        low = lane_order(tuple(x for i in range(half) for x in (i, lanes + i)))
        high = lane_order(tuple(x for i in range(half, lanes) for x in (i, lanes + i)))
        for _ in range(lanes.bit_length() - 1):
            pairs = [(vectors[n], vectors[n + half]) for n in range(half)]
            vectors = [b.shuffle_vector(x, y, order) for x, y in pairs for order in (low, high)]
        return vectors

    def pack(self, b: Emitter, source: ll.Value, strides: tuple[int, int], valid: ll.Value, length: int,
             panel: ll.Value, factor: float = 1.0) -> None:
        """Rows of a matrix side by side: panel[n][r] = source[r, n] * factor for n < length; from `valid` rows on, the last
        of them again."""
        b.call(self._packing(strides, length), [source, valid, panel, constant(self.element, factor)], cconv="fastcc")

    def _packing(self, strides: tuple[int, int], length: int) -> ll.Function:
        by_row, by_element = strides
        lanes = self.lanes

        def body(b: Emitter, source: ll.Value, valid: ll.Value, panel: ll.Value, factor: ll.Value) -> None:
            last, factors = b.sub(valid, b.index(1)), b.splat(factor, lanes)

            def group(first: ll.Value) -> None:
                rows = [b.mul(b.overloaded("smin", b.add(first, b.index(r)), last), b.index(by_row)) for r in range(lanes)]

                def some(at: ll.Value, count: int) -> None:
                    place = b.mul(at, b.index(by_element))
                    if by_element == 1 and lanes > 1:
                        active = None if count == lanes else count
                        loaded = [self.load(b, source, b.add(row, place), active) for row in rows]
                        columns = self.transposed(b, loaded)
                    else:
                        columns = [b.from_lanes([b.load_scalar(source, b.add(b.add(row, place), b.index(n * by_element)),
                                                               self.dtype) for row in rows]) for n in range(count)]
                    for n in range(count):
                        target = b.add(b.mul(b.add(at, b.index(n)), b.index(self.width)), first)
                        self.store(b, b.fmul(columns[n], factors), panel, target)

                step = lanes if by_element == 1 else 1
                whole = length // step * step
                if whole:
                    b.loop(0, whole, step, lambda at: some(at, step), name="at")
                if whole < length:
                    some(b.index(whole), length - whole)

            b.loop(0, self.width, lanes, group, name="group")

        return self.function(("pack", strides, length), [PTR, I64, PTR, self.element], body)

    def pack_mask(self, b: Emitter, source: ll.Value, valid: ll.Value, count: ll.Value, panel: ll.Value) -> None:
        """Rows of the mask side by side, as `pack` does it, as they are in memory; count: of columns."""
        b.call(self._mask_packing(), [source, valid, count, panel], cconv="fastcc")

    def _mask_packing(self) -> ll.Function:
        by_row, by_column = self.strides("mask")
        lanes, raw = self.lanes, self.mask_dtype

        def body(b: Emitter, source: ll.Value, valid: ll.Value, count: ll.Value, panel: ll.Value) -> None:
            last = b.sub(valid, b.index(1))

            def group(first: ll.Value) -> None:
                rows = [b.mul(b.overloaded("smin", b.add(first, b.index(r)), last), b.index(by_row)) for r in range(lanes)]

                def store(column: ll.Value, at: ll.Value) -> None:
                    b.store_vector(column, panel, b.add(b.mul(at, b.index(self.width)), first), raw)

                def several(at: ll.Value) -> None:
                    loaded = [b.load_vector(source, b.add(row, at), raw, lanes) for row in rows]
                    for n, column in enumerate(self.transposed(b, loaded)):
                        store(column, b.add(at, b.index(n)))

                def one(at: ll.Value) -> None:
                    place = b.mul(at, b.index(by_column))
                    store(b.from_lanes([b.load_scalar(source, b.add(row, place), raw) for row in rows]), at)

                whole = b.index(0)
                if by_column == 1 and lanes > 1:
                    whole = b.mul(b.udiv(count, b.index(lanes)), b.index(lanes))
                    b.loop(0, whole, lanes, several, name="several")
                b.loop(whole, count, 1, one, name="one")

            b.loop(0, self.width, lanes, group, name="group")

        return self.function(("mask",), [PTR, I64, I64, PTR], body)

    @cached_property
    def mask_dtype(self) -> str:
        """The dtype that elements of the mask are moved as."""
        assert self.kernel.mask is not None
        dtype = self.kernel.params[self.kernel.mask.buffer].dtype.name
        return "i8" if dtype == "bool" else dtype

    def unpack(self, b: Emitter, panel: ll.Value, length: int, valid: ll.Value, target: ll.Value) -> None:
        """The inverse, into rows of `length` one after another: target[r][n] = panel[n][r] for r < valid."""
        b.call(self._unpacking(length), [panel, valid, target], cconv="fastcc")

    def _unpacking(self, length: int) -> ll.Function:
        lanes = self.lanes

        def body(b: Emitter, panel: ll.Value, valid: ll.Value, target: ll.Value) -> None:
            def group(first: ll.Value) -> None:
                def some(at: ll.Value, count: int) -> None:
                    here = self.at(b, panel, b.add(b.mul(at, b.index(self.width)), first))
                    columns = [self.load(b, here, n * self.width) if n < count else self.number(0.0) for n in range(lanes)]
                    for r, row in enumerate(self.transposed(b, columns)):
                        number = b.add(first, b.index(r))
                        with b.if_then(b.icmp_signed("<", number, valid)):
                            place = b.add(b.mul(number, b.index(length)), at)
                            self.store(b, row, target, place, None if count == lanes else count)

                whole = length // lanes * lanes
                if whole:
                    b.loop(0, whole, lanes, lambda at: some(at, lanes), name="at")
                if whole < length:
                    some(b.index(whole), length - whole)

            b.loop(0, self.width, lanes, group, name="group")

        return self.function(("unpack", length), [PTR, I64, PTR], body)
