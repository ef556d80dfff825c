"""The forward kernel. A task is one tile of rows of q, side by side in vectors; keys and values pass by in blocks.

Of every row three things are kept while it meets block after block: its greatest score so far, the sum of exp(score -
that), and the sum of so weighted values, scaled down whenever the greatest score grows (Milakov and Gimelshein, 2018). A
score that is -inf weighs nothing, and a row whose scores are all that has sums of 0.
"""
from __future__ import annotations

from collections.abc import Sequence
from math import prod

import llvmlite.ir as ll

from flambeau.codegen.artifact import Phase
from flambeau.codegen.cpu.attention.tiles import Tiles, unflatten
from flambeau.codegen.cpu.llvm.emitter import I64, Emitter, new_kernel
from flambeau.ir.kernel.attention_kernel import AttentionKernel
from flambeau.ir.target import Target

__all__ = ["emit_forward"]

_NONE = float("-inf")


def emit_forward(kernel: AttentionKernel, module: ll.Module, symbol: str,
                  target: Target) -> tuple[list[Phase], Sequence[int]]:
    """One phase, and no scratch: a tile's panels are on the stack."""
    t = Tiles(kernel, module, symbol, target)
    tasks = prod(kernel.batch) * -(-t.rows // t.width)
    if not tasks:
        return [], ()
    b = new_kernel(module, symbol, target)
    panels = _Panels(t, b)
    b.loop(b.kernel.begin, b.kernel.end, 1, panels.tile, name="tile")
    b.succeed()
    return [Phase(symbol, tasks, tuple(range(len(kernel.params))), parallel=kernel.schedule.parallel)], ()


class _Panels:
    """One tile, and where it is put together: q [size][width], scores [columns][width], sums of values [value][width]."""

    def __init__(self, t: Tiles, b: Emitter) -> None:
        self.t, self.b = t, b
        self.q = b.stack(t.dtype, t.size * t.width)
        self.scores = b.stack(t.dtype, t.schedule.columns * t.width)
        self.sums = b.stack(t.dtype, t.value * t.width)
        self.factors = b.stack(t.dtype, t.width)
        self.has_mask_panel = t.kernel.mask is not None and t.strides("mask")[0] != 0
        if self.has_mask_panel:
            self.mask = b.stack(t.mask_dtype, t.schedule.columns * t.width)

    def tile(self, task: ll.Value) -> None:
        t, b, kernel = self.t, self.b, self.t.kernel
        tiles = -(-t.rows // t.width)
        *point, number = unflatten(b, task, [*kernel.batch, tiles])
        self.point = point
        self.first = b.mul(number, b.index(t.width))
        self.valid = b.overloaded("smin", b.sub(b.index(t.rows), self.first), b.index(t.width))
        q = t.at(b, t.start(b, "q", point), b.mul(self.first, b.index(t.strides("q")[0])))
        t.pack(b, q, t.strides("q"), self.valid, t.size, self.q, kernel.scale)
        t.fill(b, self.sums, t.value * t.width)
        self.k, self.v = t.start(b, "k", point), t.start(b, "v", point)
        limit = b.index(t.columns)
        if kernel.causal:                                   # no row of the tile sees further
            limit = b.overloaded("smin", b.add(self.first, b.index(t.width)), limit)
        start = [t.number(x) for x in (_NONE, 0.0) for _ in range(t.vectors)]
        state = b.loop(0, limit, t.schedule.columns, lambda at, *state: self.block(at, limit, state), start, name="block")
        self.finish(state[:t.vectors], state[t.vectors:])

    def block(self, at: ll.Value, limit: ll.Value, state: Sequence[ll.Value]) -> list[ll.Value]:
        """The keys and values from `at` on. state: the greatest scores, then the sums of weights."""
        t, b = self.t, self.b
        columns, (k_row, k_element), (v_row, v_element) = t.schedule.columns, t.strides("k"), t.strides("v")
        top, total = state[:t.vectors], state[t.vectors:]
        count = b.overloaded("smin", b.sub(limit, at), b.index(columns))
        limits = {t.columns}
        if t.kernel.causal:
            limits = {min(first + t.width, t.columns) for first in range(0, t.rows, t.width)}
        counts = {n for end in limits for n in (min(end, columns), end % columns)} - {0}
        t.product(b, "set", t.at(b, self.k, b.mul(at, b.index(k_row))), k_row, k_element, self.q, t.width, self.scores,
                  count, counts, b.index(t.size))
        new_top = self.masked(at, count, top)
        base = [b.select(b.fcmp_ordered("==", x, t.number(_NONE)), t.number(0.0), x) for x in new_top]
        factors = [t.op(b, "exp", b.fsub(old, x)) for old, x in zip(top, base, strict=True)]
        for v, factor in enumerate(factors):
            t.store(b, factor, self.factors, v * t.lanes)

        def weigh(row: ll.Value, *sums: ll.Value) -> list[ll.Value]:
            found = []
            for v, (s, x) in enumerate(zip(sums, base, strict=True)):
                place = b.add(b.mul(row, b.index(t.width)), b.index(v * t.lanes))
                weight = t.op(b, "exp", b.fsub(t.load(b, self.scores, place), x))
                t.store(b, weight, self.scores, place)
                found.append(b.fadd(s, weight))
            return found

        sums = b.loop(0, count, 1, weigh, [t.number(0.0)] * t.vectors, name="weigh")
        if t.kernel.out is not None:
            values = t.at(b, self.v, b.mul(at, b.index(v_row)))
            t.product(b, "scale", values, v_element, v_row, self.scores, t.width, self.sums, t.value, [t.value], count,
                      self.factors)
        return [*new_top, *[b.fma(x, f, s) for x, f, s in zip(total, factors, sums, strict=True)]]

    def masked(self, at: ll.Value, count: ll.Value, top: Sequence[ll.Value]) -> list[ll.Value]:
        """Leave -inf where a row sees no column; the greatest scores, those of before among them."""
        t, b, mask = self.t, self.b, self.t.kernel.mask

        def plain(row: ll.Value, *tops: ll.Value) -> list[ll.Value]:
            return [self.greater(t.load(b, self.scores, b.add(b.mul(row, b.index(t.width)), b.index(v * t.lanes))), x)
                    for v, x in enumerate(tops)]

        def changed(row: ll.Value, *tops: ll.Value) -> list[ll.Value]:
            found, column = [], b.add(at, row)
            for v, x in enumerate(tops):
                place = b.add(b.mul(row, b.index(t.width)), b.index(v * t.lanes))
                score = t.load(b, self.scores, place)
                if t.kernel.causal:
                    numbers = b.add(b.splat(b.add(self.first, b.index(v * t.lanes)), t.lanes), b.iota(t.lanes, I64))
                    sees = b.icmp_signed("<=", b.splat(column, t.lanes), numbers)
                    score = b.select(sees, score, t.number(_NONE))
                if mask is not None:
                    score = self.with_mask(score, column, place)
                t.store(b, score, self.scores, place)
                found.append(self.greater(score, x))
            return found

        if mask is not None:
            if self.has_mask_panel:
                by_row, by_column = t.strides("mask")
                offset = b.add(b.mul(self.first, b.index(by_row)), b.mul(at, b.index(by_column)))
                source = b.element(t.start(b, "mask", self.point), offset, t.mask_dtype)
                t.pack_mask(b, source, self.valid, count, self.mask)
            return b.loop(0, count, 1, changed, top, name="mask")
        if not t.kernel.causal:
            return b.loop(0, count, 1, plain, top, name="top")
        crosses = b.icmp_signed(">", b.add(at, count), b.add(self.first, b.index(1)))
        return b.branch_values(crosses, lambda: b.loop(0, count, 1, changed, top, name="mask"),
                               lambda: b.loop(0, count, 1, plain, top, name="top"))

    def greater(self, x: ll.Value, y: ll.Value) -> ll.Value:
        """x where it is greater, else y: a NaN shows in the weights, and need not here."""
        return self.b.select(self.b.fcmp_ordered(">", x, y), x, y)

    def with_mask(self, score: ll.Value, column: ll.Value, place: ll.Value) -> ll.Value:
        """The score and the mask's elements at one column; place: theirs in a panel of the block."""
        t, b, mask = self.t, self.b, self.t.kernel.mask
        assert mask is not None
        dtype = t.kernel.params[mask.buffer].dtype.name
        if self.has_mask_panel:
            given = b.to_compute(b.load_vector(self.mask, place, t.mask_dtype, t.lanes), dtype)
        else:
            at = b.mul(column, b.index(t.strides("mask")[1]))
            given = b.splat(b.load_scalar(t.start(b, "mask", self.point), at, dtype), t.lanes)
        return b.select(given, score, t.number(_NONE)) if dtype == "bool" else b.fadd(score, given)

    def finish(self, top: Sequence[ll.Value], total: Sequence[ll.Value]) -> None:
        """out = sums / total, and lse = greatest score + log(total)."""
        t, b = self.t, self.b
        for v, (x, s) in enumerate(zip(top, total, strict=True)):
            base = b.select(b.fcmp_ordered("==", x, t.number(_NONE)), t.number(0.0), x)
            if t.kernel.lse is not None:
                lse = b.fadd(base, t.op(b, "log", s))
                row = b.add(self.first, b.index(v * t.lanes))
                self.store_rows(lse, row)
            if t.kernel.safe or not t.columns:
                s = b.select(b.fcmp_ordered("==", s, t.number(0.0)), t.number(1.0), s)
            t.store(b, b.fdiv(t.number(1.0), s), self.factors, v * t.lanes)
        if t.kernel.out is None:
            return

        def scale(row: ll.Value) -> None:
            for v in range(t.vectors):
                place = b.add(b.mul(row, b.index(t.width)), b.index(v * t.lanes))
                t.store(b, b.fmul(t.load(b, self.sums, place), t.load(b, self.factors, v * t.lanes)), self.sums, place)

        b.loop(0, t.value, 1, scale, name="scale")
        target = t.at(b, t.start(b, "out", self.point), b.mul(self.first, b.index(t.value)))
        t.unpack(b, self.sums, t.value, self.valid, target)

    def store_rows(self, numbers: ll.Value, row: ll.Value) -> None:
        """One number for each row of a vector, as far as there are rows."""
        t, b = self.t, self.b
        target = t.start(b, "lse", self.point)
        left = b.sub(b.index(t.rows), row)
        if t.lanes == 1:
            with b.if_then(b.icmp_signed(">", left, b.index(0))):
                t.store(b, numbers, target, row)
            return
        mask = b.icmp_signed("<", b.iota(t.lanes, I64), b.splat(left, t.lanes))
        b.store_vector(numbers, target, row, t.dtype, mask)
