"""The derivative. A task is some tiles of keys of one point of the batch, side by side in vectors; rows of q and of the
cotangent of out pass by in blocks. With lse from before, weights are made again block by block (Dao et al., 2022).

dk and dv of a tile are summed where it is; dq is summed over tiles in scratch memory, as large as itself for each part.
"""
from __future__ import annotations

from collections.abc import Sequence
from math import prod

import llvmlite.ir as ll

from flambeau.codegen.artifact import Phase
from flambeau.codegen.cpu.attention.tiles import Tiles, unflatten
from flambeau.codegen.cpu.llvm.emitter import (
    I1,
    I64,
    Emitter,
    constant,
    element_of,
    new_kernel,
    storage_bytes,
)
from flambeau.ir.kernel.attention_kernel import AttentionKernel
from flambeau.ir.target import Target

__all__ = ["emit_backward"]

_NONE = float("-inf")


def emit_backward(kernel: AttentionKernel, module: ll.Module, symbol: str,
                  target: Target) -> tuple[list[Phase], Sequence[int]]:
    """A phase over points and parts, and where there are parts one more, which adds them up."""
    t = Tiles(kernel, module, symbol, target)
    points, parts = prod(kernel.batch), kernel.schedule.parts
    tasks = points * parts
    if not tasks:
        return [], ()
    b = new_kernel(module, symbol, target)
    derivative = _Derivative(t, b)
    b.loop(b.kernel.begin, b.kernel.end, 1, derivative.task, name="task")
    b.succeed()
    params = tuple(range(len(kernel.params) + 2))
    itemsize = storage_bytes(t.dtype)
    scratch = [max(64, -(-tasks * elements * itemsize // 64) * 64) for elements in (t.rows * derivative.padded, 2 * t.rows)]
    phases = [Phase(symbol, tasks, params, parallel=kernel.schedule.parallel)]
    if parts > 1 and kernel.dq is not None and t.rows:
        name = f"{symbol}_sum"
        _emit_sum(t, name, derivative.padded)
        phases.append(Phase(name, points, params, parallel=kernel.schedule.parallel))
    return phases, scratch


class _Derivative:
    """The panels of one tile, on the stack: k, v, dk, dv [size or value][width]; weights and their derivative
    [rows of a block][width]; keys as rows [width][padded], scaled, for dq."""

    def __init__(self, t: Tiles, b: Emitter) -> None:
        self.t, self.b = t, b
        self.block_rows = t.schedule.columns
        self.padded = -(-t.size // t.lanes) * t.lanes
        self.k, self.dk = (b.stack(t.dtype, max(1, t.size * t.width)) for _ in range(2))
        self.v, self.dv = (b.stack(t.dtype, max(1, t.value * t.width)) for _ in range(2))
        self.weights, self.by_scores = (b.stack(t.dtype, self.block_rows * t.width) for _ in range(2))
        self.keys = b.stack(t.dtype, max(1, self.padded * t.width))

    def task(self, number: ll.Value) -> None:
        t, b, kernel = self.t, self.b, self.t.kernel
        parts = t.schedule.parts
        *self.point, part = unflatten(b, number, [*kernel.batch, parts])
        self.dq = t.at(b, b.buffer(len(kernel.params)), b.mul(number, b.index(t.rows * self.padded)))
        self.lse = t.at(b, b.buffer(len(kernel.params) + 1), b.mul(number, b.index(2 * t.rows)))
        self.dots = t.at(b, self.lse, t.rows)
        self.prepare()
        if kernel.dq is not None:
            t.fill(b, self.dq, t.rows * self.padded)
        first = b.mul(part, b.index(t.width))
        b.loop(first, t.columns, parts * t.width, self.tile, name="tile")
        if kernel.dq is not None and parts == 1:
            _store_rows(t, b, self.dq, t.start(b, "dq", self.point), self.padded)

    def prepare(self) -> None:
        """For each row: lse (if safe 0 in the place of -inf, so that exp(-inf - it) is 0), and the product of out and its
        cotangent."""
        t, b = self.t, self.b
        out, g, lse = (t.start(b, name, self.point) for name in ("out", "g", "lse"))
        (out_row, out_element), (g_row, g_element) = t.strides("out"), t.strides("g")
        assert t.kernel.lse is not None
        lse_row = t.kernel.lse.stride_of(t.kernel.dims_of("lse")[-1])
        plain = out_element == g_element == 1 or t.value == 1
        whole = t.value // t.lanes * t.lanes if plain else 0

        def row(number: ll.Value) -> None:
            x, y = (t.at(b, base, b.mul(number, b.index(by_row))) for base, by_row in ((out, out_row), (g, g_row)))
            (sums,) = b.loop(0, whole, t.lanes, lambda at, s: b.fma(t.load(b, x, at), t.load(b, y, at), s), [t.number(0.0)],
                             name="dot")
            scalar = b.reduce("fadd", sums)

            def rest(at: ll.Value, s: ll.Value) -> ll.Value:
                left, right = (b.load_scalar(base, b.mul(at, b.index(by)), t.dtype)
                               for base, by in ((x, out_element), (y, g_element)))
                return b.fma(left, right, s)

            (scalar,) = b.loop(whole, t.value, 1, rest, [scalar], name="rest")
            b.store_vector(scalar, self.dots, number, t.dtype)
            found = b.load_scalar(lse, b.mul(number, b.index(lse_row)), t.dtype)
            if t.kernel.safe:
                is_none = b.fcmp_ordered("==", found, constant(t.element, _NONE))
                found = b.select(is_none, constant(t.element, 0.0), found)
            b.store_vector(found, self.lse, number, t.dtype)

        b.loop(0, t.rows, 1, row, name="row")

    def tile(self, first: ll.Value) -> None:
        t, b, kernel = self.t, self.b, self.t.kernel
        self.first = first
        self.valid = b.overloaded("smin", b.sub(b.index(t.columns), first), b.index(t.width))
        k, v = (t.at(b, t.start(b, name, self.point), b.mul(first, b.index(t.strides(name)[0]))) for name in "kv")
        t.pack(b, k, t.strides("k"), self.valid, t.size, self.k, kernel.scale)
        t.pack(b, v, t.strides("v"), self.valid, t.value, self.v)
        if kernel.dq is not None:
            self.copy_keys(k)
        for panel, length, place in ((self.dk, t.size, kernel.dk), (self.dv, t.value, kernel.dv)):
            if place is not None:
                t.fill(b, panel, length * t.width)
        start = first if kernel.causal else b.index(0)          # rows before it see none of the tile
        b.loop(start, t.rows, self.block_rows, self.block, name="block")
        for name, panel, length in (("dk", self.dk, t.size), ("dv", self.dv, t.value)):
            if getattr(kernel, name) is not None:
                if name == "dk":
                    self.scale(panel, length)
                target = t.at(b, t.start(b, name, self.point), b.mul(first, b.index(length)))
                t.unpack(b, panel, length, self.valid, target)

    def scale(self, panel: ll.Value, length: int) -> None:
        t, b = self.t, self.b
        b.loop(0, length * t.width, t.lanes, lambda at: t.store(
            b, b.fmul(t.load(b, panel, at), t.number(t.kernel.scale)), panel, at), name="scale")

    def copy_keys(self, k: ll.Value) -> None:
        """Rows of the tile's keys as they are, scaled, with 0 after each up to whole vectors."""
        t, b = self.t, self.b
        by_row, by_element = t.strides("k")

        def row(number: ll.Value) -> None:
            source = t.at(b, k, b.mul(number, b.index(by_row)))
            target = t.at(b, self.keys, b.mul(number, b.index(self.padded)))
            whole = t.size // t.lanes * t.lanes

            def some(at: ll.Value, active: int | None) -> None:
                place = b.mul(at, b.index(by_element))
                x = b.load_strided(source, place, by_element, t.dtype, t.lanes, active)
                t.store(b, b.fmul(x, t.number(t.kernel.scale)), target, at)

            if whole:
                b.loop(0, whole, t.lanes, lambda at: some(at, None), name="at")
            if whole < t.size:
                some(b.index(whole), t.size - whole)

        b.loop(0, self.valid, 1, row, name="key")

    def block(self, at: ll.Value) -> None:
        """Rows from `at` on: their weights for the tile's keys, the derivative by scores, and all that comes of it."""
        t, b, kernel = self.t, self.b, self.t.kernel
        size = self.block_rows
        count = b.overloaded("smin", b.sub(b.index(t.rows), at), b.index(size))
        starts = range(0, t.columns, t.width) if kernel.causal else (0,)
        counts = {size, *[(t.rows - start) % size for start in starts if start < t.rows]} - {0}
        counts = {n for n in counts if n <= t.rows}
        (q_row, q_element), (g_row, g_element) = t.strides("q"), t.strides("g")
        q, g = (t.at(b, t.start(b, name, self.point), b.mul(at, b.index(row)))
                for name, row in (("q", q_row), ("g", g_row)))
        width = t.width
        t.product(b, "set", q, q_row, q_element, self.k, width, self.weights, count, counts, b.index(t.size))
        if kernel.dq is not None or kernel.dk is not None:
            t.product(b, "set", g, g_row, g_element, self.v, width, self.by_scores, count, counts, b.index(t.value))
        b.loop(0, count, 1, lambda row: self.weigh(at, row), name="weigh")
        if kernel.dv is not None:
            t.product(b, "add", g, g_element, g_row, self.weights, width, self.dv, t.value, [t.value], count)
        if kernel.dk is not None:
            t.product(b, "add", q, q_element, q_row, self.by_scores, width, self.dk, t.size, [t.size], count)
        if kernel.dq is not None:
            dq = t.at(b, self.dq, b.mul(at, b.index(self.padded)))
            total, most = self.padded // t.lanes, 4 if t.target.n_vector_registers >= 32 else 3
            for done in range(0, total, most):
                t.product(b, "add", self.by_scores, width, 1, t.at(b, self.keys, done * t.lanes), self.padded,
                          t.at(b, dq, done * t.lanes), count, counts, self.valid, vectors=min(most, total - done))

    def weigh(self, at: ll.Value, row: ll.Value) -> None:
        t, b, kernel = self.t, self.b, self.t.kernel
        number = b.add(at, row)
        lse, dot = t.broadcast(b, self.lse, number), t.broadcast(b, self.dots, number)
        for v in range(t.vectors):
            place = b.add(b.mul(row, b.index(t.width)), b.index(v * t.lanes))
            score = t.load(b, self.weights, place)
            column = b.add(self.first, b.index(v * t.lanes))
            seen: list[ll.Value] = []
            if kernel.causal:
                columns = b.add(b.splat(column, t.lanes), b.iota(t.lanes, I64))
                seen.append(b.icmp_signed("<=", columns, b.splat(number, t.lanes)))
            if kernel.mask is not None:
                given = self.mask_at(number, v)
                if element_of(given) == I1:
                    seen.append(given)
                else:
                    score = b.fadd(score, given)
            for allowed in seen:
                score = b.select(allowed, score, t.number(_NONE))
            weight = t.op(b, "exp", b.fsub(score, lse))
            t.store(b, weight, self.weights, place)
            if kernel.dq is not None or kernel.dk is not None:
                by_weight = t.load(b, self.by_scores, place)
                by_score = b.fmul(weight, b.fsub(by_weight, dot))
                for allowed in seen:
                    by_score = b.select(allowed, by_score, t.number(0.0))
                t.store(b, by_score, self.by_scores, place)

    def mask_at(self, row: ll.Value, v: int) -> ll.Value:
        """The mask's elements of one row, at the columns in vector v; none is read past the last column."""
        t, b, mask = self.t, self.b, self.t.kernel.mask
        assert mask is not None
        by_row, by_column = t.strides("mask")
        dtype = t.kernel.params[mask.buffer].dtype.name
        base = b.element(t.start(b, "mask", self.point), b.mul(row, b.index(by_row)), dtype)
        if by_column == 0:
            return b.splat(b.load_scalar(base, 0, dtype), t.lanes)
        if by_column == 1 and t.lanes > 1:
            at = b.add(self.first, b.index(v * t.lanes))
            active = b.icmp_signed("<", b.iota(t.lanes, I64), b.splat(b.sub(b.index(t.columns), at), t.lanes))
            return b.load_vector(base, at, dtype, t.lanes, active)
        last = b.sub(b.add(self.first, self.valid), b.index(1))
        places = [b.overloaded("smin", b.add(self.first, b.index(v * t.lanes + n)), last) for n in range(t.lanes)]
        return b.from_lanes([b.load_scalar(base, b.mul(place, b.index(by_column)), dtype) for place in places])


def _store_rows(t: Tiles, b: Emitter, rows: ll.Value, target: ll.Value, padded: int,
                others: Sequence[ll.Value] = ()) -> None:
    """Rows of `padded` as rows of `t.size`, those of the others added."""
    whole = t.size // t.lanes * t.lanes

    def row(number: ll.Value) -> None:
        def some(at: ll.Value, active: int | None) -> None:
            place = b.add(b.mul(number, b.index(padded)), at)
            x = t.load(b, rows, place)
            for other in others:
                x = b.fadd(x, t.load(b, other, place))
            t.store(b, x, target, b.add(b.mul(number, b.index(t.size)), at), active)

        if whole:
            b.loop(0, whole, t.lanes, lambda at: some(at, None), name="at")
        if whole < t.size:
            some(b.index(whole), t.size - whole)

    b.loop(0, t.rows, 1, row, name="row")


def _emit_sum(t: Tiles, name: str, padded: int) -> None:
    b = new_kernel(t.module, name, t.target)

    def task(number: ll.Value) -> None:
        point = unflatten(b, number, t.kernel.batch)
        elements, parts = t.rows * padded, t.schedule.parts
        first = t.at(b, b.buffer(len(t.kernel.params)), b.mul(number, b.index(parts * elements)))
        others = [t.at(b, first, part * elements) for part in range(1, parts)]
        _store_rows(t, b, first, t.start(b, "dq", point), padded, others)

    b.loop(b.kernel.begin, b.kernel.end, 1, task, name="task")
    b.succeed()
