"""The sums of one register tile: k loops around a step that multiplies rows of lhs with columns of rhs.

`RowSums` walks n in vectors: each lhs element is splat and multiplied with every vector of the rhs row. `DotSums`
walks k in vectors and adds their lanes at the end. Rows and columns are at constant distances from one base pointer
each, so every load is one displacement.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import llvmlite.ir as ll

from flambeau.codegen.cpu.contraction.panels import Operand
from flambeau.codegen.cpu.contraction.plan import Plan
from flambeau.codegen.cpu.llvm.emitter import (
    F32,
    F64,
    I32,
    Emitter,
    compute_type,
    constant,
    is_float,
    is_signed,
    lanes_of,
    storage_bytes,
    vector_type,
)
from flambeau.ir.records import dataclass

__all__ = ["DotSums", "RowSums", "Tile", "widen"]

# Multiply-adds in one trip of the innermost loop that hide its own instructions.
_MULTIPLY_ADDS_PER_TRIP = 24
# Multiply-adds in flight that hide the latency of one (4 cycles on two ports, with a little to spare).
_CHAINS = 8
# Code grows with each unrolled multiply-add; whole short loops are unrolled up to this many.
_LONGEST_UNROLL = 112
_LINE_BYTES = 64
# Terms of one accumulator between two flushes into a total, and how long a sum must be to have totals at all: flushing
# costs a few percent.
_CHAIN, _LONG = 192, 384

# Pointers into lhs and rhs, and the sums so far.
_Carry = tuple[ll.Value, ll.Value, list[ll.Value]]


@dataclass(frozen=True)
class Tile:
    """One shape of register tile: rows along each m dim, columns of n, and where its sums go: "registers" run the
    epilogue in the microkernel, "memory" stores them, "update" adds them to what an earlier visit stored."""

    rows: tuple[int, ...]
    columns: int
    result: str

    @property
    def n_rows(self) -> int:
        return math.prod(self.rows)


class _Sums:
    """Walks k and multiplies; subclasses say what one step of the innermost loop is."""

    def __init__(self, b: Emitter, plan: Plan, tile: Tile) -> None:
        self.b, self.plan, self.tile = b, plan, tile
        self.row_offsets = [
            sum(c * plan.lhs.stride_of(d) for c, d in zip(point, plan.kernel.m, strict=True))
            for point in itertools.product(*map(range, tile.rows))
        ]

    def walk(
        self,
        lhs: ll.Value,
        rhs: ll.Value,
        count: ll.Value,
        sums: list[ll.Value],
        inner: Callable[[ll.Value, ll.Value, int | ll.Value, list[ll.Value]], list[ll.Value]],
    ) -> list[ll.Value]:
        """All k loops; `inner` emits the innermost one from its first point. Long sums are flushed to totals in f64
        every CHAIN additions, at the level of loops where that many come together."""
        loops, flushed = self.plan.tile_loops, self.flushed_level()
        totals = [constant(self.total_type, 0.0, self.plan.lanes)] * len(sums) if flushed is not None else []
        zeros, own = sums, len(sums)

        def nest(level: int, lhs: ll.Value, rhs: ll.Value, carry: list[ll.Value]) -> list[ll.Value]:
            extent: int | ll.Value = loops[level][0]
            if level == 0:
                extent = count if self.plan.block_count is None else self.plan.block_count
            if level != flushed:
                return run(level, lhs, rhs, extent, carry)
            points = self.flushed_points(level)

            def block(lhs: ll.Value, rhs: ll.Value, carry: list[ll.Value], extent: int | ll.Value) -> list[ll.Value]:
                return [*zeros, *self.flush(run(level, lhs, rhs, extent, carry[:own]), carry[own:])]

            whole, rest = self.divided(extent, points)
            start = (lhs, rhs, carry)
            lhs, rhs, carry = self.trips(level, start, whole, points, lambda l, r, c: block(l, r, c, points))
            return block(lhs, rhs, carry, rest) if rest != 0 else carry

        def run(level: int, lhs: ll.Value, rhs: ll.Value, extent: int | ll.Value,
                carry: list[ll.Value]) -> list[ll.Value]:
            if level == len(loops) - 1:
                return inner(lhs, rhs, extent, carry)

            def body(lhs: ll.Value, rhs: ll.Value, carry: list[ll.Value]) -> list[ll.Value]:
                return nest(level + 1, lhs, rhs, carry)

            return self.trips(level, (lhs, rhs, carry), extent, 1, body)[2]

        found = nest(0, lhs, rhs, [*sums, *totals])
        if flushed is None or self.total_type == F32:
            return found[-own:]
        return [self.b.fptrunc(total, sums[0].type) for total in found[own:]]

    def divided(self, extent: int | ll.Value, by: int) -> tuple[int | ll.Value, int | ll.Value]:
        if isinstance(extent, int):
            return divmod(extent, by)
        return self.b.udiv(extent, self.b.index(by)), self.b.urem(extent, self.b.index(by))

    @property
    def total_type(self) -> ll.Type:
        """Totals of a few parts are in f32, which takes a third of the time; those of many in f64."""
        return F32 if self.additions(0) <= _CHAIN * _CHAIN else F64

    def flush(self, sums: list[ll.Value], totals: list[ll.Value]) -> list[ll.Value]:
        if self.total_type == F64:
            sums = [self.b.fpext(part, total.type) for part, total in zip(sums, totals, strict=True)]
        return [self.b.fadd(total, part) for part, total in zip(sums, totals, strict=True)]

    # Points of k that each accumulator adds up in one step of the innermost loop.
    points_an_addition = 1

    def additions(self, level: int) -> float:
        """How many terms each accumulator takes in the loops from `level` on."""
        points = math.prod([loop[0] for loop in self.plan.tile_loops[max(1, level):]])
        return points * (self.plan.k_step if level == 0 else 1) / self.points_an_addition

    def flushed_level(self) -> int | None:
        """The loop whose trips are flushed; None for sums that are short or not in f32."""
        if compute_type(self.plan.acc) != F32 or self.additions(0) <= _LONG:
            return None
        return next(level for level in range(len(self.plan.tile_loops)) if self.additions(level + 1) <= _CHAIN)

    def flushed_points(self, level: int) -> int:
        return max(1, int(_CHAIN / self.additions(level + 1)))

    def trips(
        self,
        level: int,
        start: _Carry,
        count: int | ll.Value,
        points: int,
        body: Callable[[ll.Value, ll.Value, list[ll.Value]], list[ll.Value]],
    ) -> _Carry:
        """`count` times: sums = body(lhs, rhs, sums), then both pointers move `points` points along k loop `level`.

        The pointers are carried, not computed from the counter, and opaque: LLVM's strength reduction took a fifth of
        a kernel's compile time to find the same code.
        """

        def trip(lhs: ll.Value, rhs: ll.Value, *sums: ll.Value) -> list[ll.Value]:
            totals = body(lhs, rhs, list(sums))
            return [*map(self.b.opaque, self.advance(lhs, rhs, points, level)), *totals]

        lhs, rhs, sums = start
        carry = [lhs, rhs, *sums]
        if not isinstance(count, int):
            carry = self.b.loop(0, count, 1, lambda _, *carried: trip(*carried), carry, name=f"k{level}")
        elif count == 1:
            carry = [*self.advance(lhs, rhs, points, level), *body(lhs, rhs, sums)]
        elif count:
            carry = self.b.repeat(count, trip, carry, name=f"k{level}")
        return carry[0], carry[1], carry[2:]

    def advance(self, lhs: ll.Value, rhs: ll.Value, points: int, level: int) -> tuple[ll.Value, ll.Value]:
        """Both pointers `points` points further along k loop `level`."""
        b, (_, lhs_stride, rhs_stride) = self.b, self.plan.tile_loops[level]
        return (
            b.element(lhs, points * lhs_stride, self.plan.lhs.dtype),
            b.element(rhs, points * rhs_stride, self.plan.rhs.dtype),
        )

    def widened(self, value: ll.Value, operand: Operand) -> ll.Value:
        """A loaded operand value in the accumulators' type."""
        return widen(self.b, value, operand.dtype, self.plan.acc)

    def multiply_add(self, x: ll.Value, y: ll.Value, total: ll.Value) -> ll.Value:
        if is_float(self.plan.acc):
            return self.b.multiply_add(x, y, total)
        return self.b.add(self.b.mul(x, y), total)

    def add(self, x: ll.Value, y: ll.Value) -> ll.Value:
        return self.b.fast_sum(x, y) if is_float(self.plan.acc) else self.b.add(x, y)

    def zeros(self, count: int) -> list[ll.Value]:
        kind = compute_type(self.plan.acc)
        return [constant(kind, 0.0 if is_float(self.plan.acc) else 0, self.plan.lanes)] * count

    def fold_sets(self, sums: list[ll.Value], sets: int) -> list[ll.Value]:
        """Independent sets of partial sums, added pairwise."""
        size = len(sums) // sets
        while sets > 1:
            half = sets // 2 * size
            sums = [self.add(x, y) for x, y in zip(sums[:half], sums[half:], strict=True)]
            sets //= 2
        return sums


class RowSums(_Sums):
    """Vectors along n: each lhs element is splat and multiplied with every vector of the rhs row."""

    def sum_over_k(self, lhs: ll.Value, rhs: ll.Value, count: ll.Value) -> list[list[ll.Value]]:
        """[row][vector] of sums."""
        n_vectors = -(-self.tile.columns // self.plan.lanes)
        tile_size = self.tile.n_rows * n_vectors
        sets = _power_of_two_at_most(max(1, _CHAINS // tile_size))
        self.n_vectors, self.sets, self.points_an_addition = n_vectors, sets, sets
        sums = self.walk(lhs, rhs, count, self.zeros(tile_size * sets), self.inner_loop)
        sums = self.fold_sets(sums, sets)
        return [sums[r * n_vectors : (r + 1) * n_vectors] for r in range(self.tile.n_rows)]

    def inner_loop(
        self, lhs: ll.Value, rhs: ll.Value, extent: int | ll.Value, sums: list[ll.Value]
    ) -> list[ll.Value]:
        b, level = self.b, len(self.plan.tile_loops) - 1
        step = self.tile.n_rows * self.n_vectors
        if isinstance(extent, int) and extent * step <= _LONGEST_UNROLL:
            return self.steps(lhs, rhs, extent, sums)
        unroll = max(self.sets, _power_of_two_at_most(max(1, _MULTIPLY_ADDS_PER_TRIP // step)))

        def trip(lhs: ll.Value, rhs: ll.Value, sums: list[ll.Value]) -> list[ll.Value]:
            return self.steps(lhs, rhs, unroll, sums)

        def one(lhs: ll.Value, rhs: ll.Value, sums: list[ll.Value]) -> list[ll.Value]:
            return self.steps(lhs, rhs, 1, sums)

        start = (lhs, rhs, sums)
        if isinstance(extent, int):
            lhs, rhs, sums = self.trips(level, start, extent // unroll, unroll, trip)
            return self.steps(lhs, rhs, extent % unroll, sums)
        if unroll == 1:
            return self.trips(level, start, extent, 1, one)[2]
        whole_trips = b.udiv(extent, b.index(unroll))
        start = self.trips(level, start, whole_trips, unroll, trip)
        return self.trips(level, start, b.urem(extent, b.index(unroll)), 1, one)[2]

    def steps(self, lhs: ll.Value, rhs: ll.Value, count: int, sums: list[ll.Value]) -> list[ll.Value]:
        """`count` consecutive points of the innermost k loop."""
        _, lhs_stride, rhs_stride = self.plan.tile_loops[-1]
        for i in range(count):
            first = i % self.sets * self.tile.n_rows * self.n_vectors
            sums = self.step(lhs, i * lhs_stride, rhs, i * rhs_stride, sums, first)
        return sums

    def step(
        self, lhs: ll.Value, lhs_at: int, rhs: ll.Value, rhs_at: int, sums: list[ll.Value], first: int
    ) -> list[ll.Value]:
        """One k point: a row of rhs vectors times a column of lhs elements."""
        b, plan, lanes = self.b, self.plan, self.plan.lanes
        columns = [self.rhs_vector(rhs, rhs_at, v) for v in range(self.n_vectors)]
        if plan.schedule.prefetch:
            self.prefetch(rhs, rhs_at + plan.schedule.prefetch * plan.tile_loops[-1][2])
        sums = list(sums)
        for row, offset in enumerate(self.row_offsets):
            element = self.widened(b.load_scalar(lhs, lhs_at + offset, plan.lhs.dtype), plan.lhs)
            splat = b.splat(element, lanes)
            for v, column in enumerate(columns):
                at = first + row * self.n_vectors + v
                sums[at] = self.multiply_add(splat, column, sums[at])
        return sums

    def prefetch(self, rhs: ll.Value, at: int) -> None:
        """Ask for the tile's columns at element `at`, a line at a time, into L1. Never faults, wherever it points."""
        b, dtype = self.b, self.plan.rhs.dtype
        for line in range(0, self.tile.columns, max(1, _LINE_BYTES // storage_bytes(dtype))):
            options = [ll.Constant(I32, option) for option in (0, 3, 1)]  # read, keep in every level, data
            b.intrinsic("llvm.prefetch.p0", ll.VoidType(), [b.element(rhs, at + line, dtype), *options])

    def rhs_vector(self, rhs: ll.Value, at: int, vector: int) -> ll.Value:
        plan, lanes = self.plan, self.plan.lanes
        # Packed panels are zero beyond the last column, so they need no mask.
        packed = plan.rhs_panels is not None
        active = lanes if packed else min(lanes, self.tile.columns - vector * lanes)
        if active == 1 and lanes > 1:
            # One column: a splat costs less than a masked load, and the other lanes are never stored.
            return self.b.splat(
                self.widened(self.b.load_scalar(rhs, at + vector * lanes, plan.rhs.dtype), plan.rhs), lanes
            )
        return self.widened(
            self.b.load_vector(rhs, at + vector * lanes, plan.rhs.dtype, lanes, active), plan.rhs
        )


class DotSums(_Sums):
    """Vectors along k: both operands are contiguous there, and each sum's lanes are added at the end."""

    def sum_over_k(self, lhs: ll.Value, rhs: ll.Value, count: ll.Value) -> list[list[ll.Value]]:
        """[row][column] of scalar sums."""
        b, columns = self.b, self.tile.columns
        tile_size = self.tile.n_rows * columns
        self.sets = _power_of_two_at_most(max(1, _CHAINS // tile_size))
        self.points_an_addition = self.sets * self.plan.lanes
        inner = self.plan.n_inner
        stride = 0 if inner is None else self.plan.rhs.stride_of(inner)
        self.column_offsets = [c * stride for c in range(columns)]
        sums = self.walk(lhs, rhs, count, self.zeros(tile_size * self.sets), self.inner_loop)
        sums = self.fold_sets(sums, self.sets)
        kind = "fadd" if is_float(self.plan.acc) else "add"
        totals = [b.reduce(kind, s) for s in sums]
        return [totals[r * columns : (r + 1) * columns] for r in range(self.tile.n_rows)]

    def inner_loop(
        self, lhs: ll.Value, rhs: ll.Value, extent: int | ll.Value, sums: list[ll.Value]
    ) -> list[ll.Value]:
        b, lanes, level = self.b, self.plan.lanes, len(self.plan.tile_loops) - 1
        trip_points = lanes * self.sets

        def trip(lhs: ll.Value, rhs: ll.Value, sums: list[ll.Value]) -> list[ll.Value]:
            for number in range(self.sets):
                sums = self.step(lhs, rhs, number * lanes, sums, number, lanes)
            return sums

        start = (lhs, rhs, sums)
        if isinstance(extent, int):
            lhs, rhs, sums = self.trips(level, start, extent // trip_points, trip_points, trip)
            rest = extent % trip_points
            for number, at in enumerate(range(0, rest, lanes)):
                sums = self.step(lhs, rhs, at, sums, number, min(lanes, rest - at))
            return sums
        lhs, rhs, sums = self.trips(level, start, b.udiv(extent, b.index(trip_points)), trip_points, trip)
        left = b.urem(extent, b.index(trip_points))

        def last(at: ll.Value, *carried: ll.Value) -> list[ll.Value]:
            here = b.element(lhs, at, self.plan.lhs.dtype), b.element(rhs, at, self.plan.rhs.dtype)
            return self.step(*here, 0, list(carried), 0, b.sub(left, at))

        return b.loop(0, left, lanes, last, sums, name="kt")

    def step(
        self, lhs: ll.Value, rhs: ll.Value, at: int, sums: list[ll.Value], number: int, active: int | ll.Value
    ) -> list[ll.Value]:
        """One vector of k points into set `number`; lanes from `active` on count as zero."""
        rows = [self.vector(lhs, at + offset, self.plan.lhs, active) for offset in self.row_offsets]
        columns = [self.vector(rhs, at + offset, self.plan.rhs, active) for offset in self.column_offsets]
        sums, first = list(sums), number * len(rows) * len(columns)
        for position, (x, y) in enumerate(itertools.product(rows, columns)):
            sums[first + position] = self.multiply_add(x, y, sums[first + position])
        return sums

    def vector(self, pointer: ll.Value, at: int, operand: Operand, active: int | ll.Value) -> ll.Value:
        lanes = self.plan.lanes
        if lanes == 1:
            return self.widened(self.b.load_scalar(pointer, at, operand.dtype), operand)
        return self.widened(self.b.load_vector(pointer, at, operand.dtype, lanes, active), operand)


def widen(b: Emitter, value: ll.Value, dtype: str, wider: str) -> ll.Value:
    """An exact (or, for integers, wrapping) conversion of a compute value of `dtype` to that of `wider`."""
    source, target = compute_type(dtype), compute_type(wider)
    if source == target:
        return value
    kind = vector_type(target, lanes_of(value))
    if target in (F32, F64):
        if source in (F32, F64):
            return b.fpext(value, kind) if target == F64 else b.fptrunc(value, kind)
        return b.sitofp(value, kind) if is_signed(dtype) else b.uitofp(value, kind)
    assert source not in (F32, F64), f"sums of {dtype} products cannot be kept in {wider}"
    if source.width > target.width:
        return b.trunc(value, kind)
    return b.sext(value, kind) if is_signed(dtype) else b.zext(value, kind)


def _power_of_two_at_most(number: int) -> int:
    return 1 << (number.bit_length() - 1)
