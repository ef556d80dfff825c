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
    I64,
    Emitter,
    compute_type,
    constant,
    is_float,
    is_signed,
    lanes_of,
    storage_bytes,
    vector_type,
)
from flambeau.codegen.cpu.llvm.numbers import Int, Number
from flambeau.ir.kernel.contraction_dims import LONG_SUM
from flambeau.ir.records import dataclass

__all__ = ["DotSums", "RowSums", "Tile", "widen"]

# Multiply-adds in one trip of the innermost loop that hide its own instructions.
_MULTIPLY_ADDS_PER_TRIP = 24
# Multiply-adds in flight that hide the latency of one (4 cycles on two ports, with a little to spare).
_CHAINS = 8
# Code grows with each unrolled multiply-add; whole short loops are unrolled up to this many.
_LONGEST_UNROLL = 112
_LINE_BYTES = 64
# Terms of one accumulator between two flushes into a total.
_CHAIN = 192

# Points of k in a trip of a loop whose length is a runtime number, at most: general kernels tell where those leave no rest.
_MOST_OF_ANY_LENGTH = 8

# Pointers into lhs and rhs (as many as `Reach.bases` each), and the sums so far.
_Carry = tuple[list[ll.Value], list[ll.Value], list[ll.Value]]


@dataclass(frozen=True)
class Tile:
    """One shape of register tile: rows along each m dim, columns of n, and where its sums go: "registers" run the
    epilogue in the microkernel, "memory" stores them, "update" adds them to what an earlier visit stored. masked: columns
    are whole vectors, of the last of which only some lanes are there."""

    rows: tuple[int, ...]
    columns: int
    result: str
    masked: bool = False

    @property
    def n_rows(self) -> int:
        return math.prod(self.rows)


@dataclass(frozen=True)
class Reach:
    """How the points of a small box are addressed: from pointers at `bases`, each point (in row-major order) at (number of
    its pointer, elements from there). One pointer does if strides are known, since each distance is a displacement. Else a
    distance takes a register, and so does a pointer: as few as there can be of both."""

    bases: tuple[Int, ...]
    places: tuple[tuple[int, Int], ...]

    @classmethod
    def over(cls, extents: tuple[int, ...], strides: tuple[Int, ...]) -> Reach:
        points = list(itertools.product(*map(range, extents)))

        def offset(point: tuple[int, ...]) -> Int:
            return sum(c * stride for c, stride in zip(point, strides, strict=True))

        if all(isinstance(stride, int) or extent == 1 for extent, stride in zip(extents, strides, strict=True)):
            return cls((0,), tuple([(0, offset(point)) for point in points]))
        dim, group = min(
            ((dim, group) for dim, extent in enumerate(extents) for group in range(1, extent + 1)),
            key=lambda choice: _registers(extents, *choice),
        )
        bases: dict[Int, int] = {}
        places = []
        for point in points:
            first = tuple([c - c % group if d == dim else c for d, c in enumerate(point)])
            places.append((bases.setdefault(offset(first), len(bases)), point[dim] % group * strides[dim]))
        return cls(tuple(bases), tuple(places))


def _registers(extents: tuple[int, ...], dim: int, group: int) -> tuple[int, int]:
    """That hold pointers and distances, and pointers alone, if every `group` points along `dim` have one."""
    pointers = math.prod(extents) // extents[dim] * -(-extents[dim] // group)
    return pointers + group - 1, pointers


class _Sums:
    """Walks k and multiplies; subclasses say what one step of the innermost loop is."""

    def __init__(self, b: Emitter, plan: Plan, tile: Tile) -> None:
        self.b, self.plan, self.tile = b, plan, tile
        self.rows = Reach.over(tile.rows, tuple([plan.lhs.stride_of(d) for d in plan.kernel.m]))
        self.columns = Reach((0,), ())

    def walk(
        self,
        lhs: ll.Value,
        rhs: ll.Value,
        count: ll.Value,
        sums: list[ll.Value],
        inner: Callable[[list[ll.Value], list[ll.Value], Int | ll.Value, list[ll.Value]], list[ll.Value]],
    ) -> list[ll.Value]:
        """All k loops; `inner` emits the innermost one from its first point. Long sums are flushed to totals in f64
        every CHAIN additions, at the level of loops where that many come together."""
        loops, flushed = self.plan.tile_loops, self.flushed_level()
        totals = [constant(self.total_type, 0.0, self.plan.lanes)] * len(sums) if flushed is not None else []
        zeros, own = sums, len(sums)

        def nest(level: int, lhs: list[ll.Value], rhs: list[ll.Value], carry: list[ll.Value]) -> list[ll.Value]:
            extent: Int | ll.Value = loops[level][0]
            if level == 0:
                extent = count if self.plan.block_count is None else self.plan.block_count
            if level != flushed:
                return run(level, lhs, rhs, extent, carry)
            points = self.flushed_points(level)

            def block(lhs: list[ll.Value], rhs: list[ll.Value], carry: list[ll.Value],
                      extent: Int | ll.Value) -> list[ll.Value]:
                return [*zeros, *self.flush(run(level, lhs, rhs, extent, carry[:own]), carry[own:])]

            assert not isinstance(extent, Number), "the points of long sums are known"
            whole, rest = self.divided(extent, points)
            start = (lhs, rhs, carry)
            lhs, rhs, carry = self.trips(level, start, whole, points, lambda l, r, c: block(l, r, c, points))
            return block(lhs, rhs, carry, rest) if rest != 0 else carry

        def run(level: int, lhs: list[ll.Value], rhs: list[ll.Value], extent: Int | ll.Value,
                carry: list[ll.Value]) -> list[ll.Value]:
            if level == len(loops) - 1:
                return inner(lhs, rhs, extent, carry)

            def body(lhs: list[ll.Value], rhs: list[ll.Value], carry: list[ll.Value]) -> list[ll.Value]:
                return nest(level + 1, lhs, rhs, carry)

            return self.trips(level, (lhs, rhs, carry), extent, 1, body)[2]

        dtypes = self.plan.lhs.dtype, self.plan.rhs.dtype
        lhs_starts, rhs_starts = (
            [self.b.element(start, base, dtype) for base in reach.bases]
            for start, reach, dtype in zip((lhs, rhs), (self.rows, self.columns), dtypes, strict=True)
        )
        found = nest(0, lhs_starts, rhs_starts, [*sums, *totals])
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
        extents = [loop[0] for loop in self.plan.tile_loops[max(1, level):]]
        points = self.plan.group * math.prod([extent for extent in extents if isinstance(extent, int)])
        return points * (self.plan.k_step if level == 0 else 1) / self.points_an_addition

    def flushed_level(self) -> int | None:
        """The loop whose trips are flushed; None for sums that are short (as those of a runtime number of terms are) or not
        in f32."""
        if compute_type(self.plan.acc) != F32 or self.plan.has_runtime_k or self.additions(0) <= LONG_SUM:
            return None
        return next(level for level in range(len(self.plan.tile_loops)) if self.additions(level + 1) <= _CHAIN)

    def flushed_points(self, level: int) -> int:
        return max(1, int(_CHAIN / self.additions(level + 1)))

    def trips(
        self,
        level: int,
        start: _Carry,
        count: Int | ll.Value,
        points: int,
        body: Callable[[list[ll.Value], list[ll.Value], list[ll.Value]], list[ll.Value]],
    ) -> _Carry:
        """`count` times: sums = body(lhs, rhs, sums), then both pointers move `points` points along k loop `level`.

        The pointers are carried, not computed from the counter, and opaque: LLVM's strength reduction took a fifth of
        a kernel's compile time to find the same code.
        """

        lhs, rhs, sums = start
        n_lhs, n_pointers = len(lhs), len(lhs) + len(rhs)

        def trip(*carried: ll.Value) -> list[ll.Value]:
            lhs, rhs = list(carried[:n_lhs]), list(carried[n_lhs:n_pointers])
            totals = body(lhs, rhs, list(carried[n_pointers:]))
            lhs, rhs = self.advance(lhs, rhs, points, level)
            return [*map(self.b.opaque, (*lhs, *rhs)), *totals]

        carry = [*lhs, *rhs, *sums]
        if isinstance(count, Number):                   # a runtime number of points is not 0
            carry = self.b.repeat(count, trip, carry, name=f"k{level}")
        elif not isinstance(count, int):
            carry = self.b.loop(0, count, 1, lambda _, *carried: trip(*carried), carry, name=f"k{level}")
        elif count == 1:
            lhs, rhs = self.advance(lhs, rhs, points, level)
            carry = [*lhs, *rhs, *body(*start)]
        elif count:
            carry = self.b.repeat(count, trip, carry, name=f"k{level}")
        return carry[:n_lhs], carry[n_lhs:n_pointers], carry[n_pointers:]

    def advance(
        self, lhs: list[ll.Value], rhs: list[ll.Value], points: int, level: int
    ) -> tuple[list[ll.Value], list[ll.Value]]:
        """All pointers `points` points further along k loop `level`."""
        b, (_, lhs_stride, rhs_stride) = self.b, self.plan.tile_loops[level]
        return (
            [b.element(pointer, points * lhs_stride, self.plan.lhs.dtype) for pointer in lhs],
            [b.element(pointer, points * rhs_stride, self.plan.rhs.dtype) for pointer in rhs],
        )

    def widened(self, value: ll.Value, operand: Operand) -> ll.Value:
        """A loaded operand value in the accumulators' type."""
        return widen(self.b, value, operand.dtype, self.plan.acc)

    def multiply_add(self, x: ll.Value, y: ll.Value, total: ll.Value) -> ll.Value:
        if self.plan.group > 1:
            return self.b.multiply_add_groups(x, y, total, (self.plan.lhs.dtype, self.plan.rhs.dtype))
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
    """Vectors along n: each lhs element is splat and multiplied with every vector of the rhs row. active: how many lanes of
    the last vector are there, None for all that the tile's columns tell."""

    def __init__(self, b: Emitter, plan: Plan, tile: Tile, active: ll.Value | None = None) -> None:
        super().__init__(b, plan, tile)
        # Packed panels are zero beyond the last column, so they need no mask.
        self.mask = None if active is None or plan.rhs_panels is not None else b.tail_mask(plan.lanes, active)

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
        self, lhs: list[ll.Value], rhs: list[ll.Value], extent: Int | ll.Value, sums: list[ll.Value]
    ) -> list[ll.Value]:
        b, level = self.b, len(self.plan.tile_loops) - 1
        step = self.tile.n_rows * self.n_vectors
        if isinstance(extent, int) and extent * step <= _LONGEST_UNROLL:
            return self.steps(lhs, rhs, extent, sums)
        unroll = max(self.sets, _power_of_two_at_most(max(1, _MULTIPLY_ADDS_PER_TRIP // step)))

        if isinstance(extent, Number):
            unroll = min(unroll, _MOST_OF_ANY_LENGTH)

        def trip(lhs: list[ll.Value], rhs: list[ll.Value], sums: list[ll.Value]) -> list[ll.Value]:
            return self.steps(lhs, rhs, unroll, sums)

        def one(lhs: list[ll.Value], rhs: list[ll.Value], sums: list[ll.Value]) -> list[ll.Value]:
            return self.steps(lhs, rhs, 1, sums)

        start = (lhs, rhs, sums)
        if isinstance(extent, Number):
            if unroll == 1:
                return self.trips(level, start, extent, 1, one)[2]
            rest = self.plan.residue(extent, unroll)
            start = self.trips(level, start, b.index(extent // unroll), unroll, trip)
            if rest is not None:
                return self.steps(*start[:2], rest, start[2])
            return self.points_left(level, start, b.index(extent - extent // unroll * unroll), unroll)
        if isinstance(extent, int):
            lhs, rhs, sums = self.trips(level, start, extent // unroll, unroll, trip)
            return self.steps(lhs, rhs, extent % unroll, sums)
        if unroll == 1:
            return self.trips(level, start, extent, 1, one)[2]
        whole_trips = b.udiv(extent, b.index(unroll))
        start = self.trips(level, start, whole_trips, unroll, trip)
        return self.trips(level, start, b.urem(extent, b.index(unroll)), 1, one)[2]

    def points_left(self, level: int, start: _Carry, count: ll.Value, limit: int) -> list[ll.Value]:
        """`count` points, less than `limit`, each added to the set that it would be added to in a trip."""
        b, sets = self.b, self.sets
        if limit > sets:
            rounds = b.udiv(count, b.index(sets))
            start = self.trips(level, start, rounds, sets, lambda l, r, s: self.steps(l, r, sets, s))
            count = b.urem(count, b.index(sets))
        for number in range(sets - 1):
            is_there = b.zext(b.icmp_signed(">", count, b.index(number)), I64)

            def one(lhs: list[ll.Value], rhs: list[ll.Value], sums: list[ll.Value], to: int = number) -> list[ll.Value]:
                return self.steps(lhs, rhs, 1, sums, to)

            start = self.trips(level, start, is_there, 1, one)
        return start[2]

    def steps(
        self, lhs: list[ll.Value], rhs: list[ll.Value], count: int, sums: list[ll.Value], first_set: int = 0
    ) -> list[ll.Value]:
        """`count` consecutive points of the innermost k loop, to sets in turn."""
        b, plan = self.b, self.plan
        _, lhs_stride, rhs_stride = plan.tile_loops[-1]
        lhs_at = rhs_at = 0
        for i in range(count):
            # A known distance is a displacement; others would take a register each.
            if isinstance(lhs_stride, int):
                lhs_at = i * lhs_stride
            elif i:
                lhs = [b.element(pointer, lhs_stride, plan.lhs.dtype) for pointer in lhs]
            if isinstance(rhs_stride, int):
                rhs_at = i * rhs_stride
            elif i:
                rhs = [b.element(pointer, rhs_stride, plan.rhs.dtype) for pointer in rhs]
            first = (first_set + i) % self.sets * self.tile.n_rows * self.n_vectors
            sums = self.step(lhs, lhs_at, rhs[0], rhs_at, sums, first)
        return sums

    def step(
        self, lhs: list[ll.Value], lhs_at: int, rhs: ll.Value, rhs_at: int, sums: list[ll.Value], first: int
    ) -> list[ll.Value]:
        """One step over k: a row of rhs vectors times a column of lhs elements (or words of several)."""
        b, plan, lanes = self.b, self.plan, self.plan.lanes
        columns = [self.rhs_vector(rhs, rhs_at, v) for v in range(self.n_vectors)]
        if plan.schedule.prefetch:
            ahead = b.element(rhs, plan.schedule.prefetch * plan.tile_loops[-1][2], plan.rhs.dtype)
            self.prefetch(ahead, rhs_at)
        sums = list(sums)
        for row, (number, offset) in enumerate(self.rows.places):
            pointer = b.element(lhs[number], offset, plan.lhs.dtype)
            if plan.group > 1:
                element = b.load_words(pointer, lhs_at, plan.lhs.dtype, 1)
            else:
                element = self.widened(b.load_scalar(pointer, lhs_at, plan.lhs.dtype), plan.lhs)
            splat = b.splat(element, lanes)
            for v, column in enumerate(columns):
                at = first + row * self.n_vectors + v
                sums[at] = self.multiply_add(splat, column, sums[at])
        return sums

    def prefetch(self, rhs: ll.Value, at: int) -> None:
        """Ask for the tile's columns at element `at`, a line at a time, into L1. Never faults, wherever it points."""
        b, dtype = self.b, self.plan.rhs.dtype
        elements = self.tile.columns * self.plan.group
        for line in range(0, elements, max(1, _LINE_BYTES // storage_bytes(dtype))):
            options = [ll.Constant(I32, option) for option in (0, 3, 1)]  # read, keep in every level, data
            b.intrinsic("llvm.prefetch.p0", ll.VoidType(), [b.element(rhs, at + line, dtype), *options])

    def rhs_vector(self, rhs: ll.Value, at: int, vector: int) -> ll.Value:
        plan, lanes = self.plan, self.plan.lanes
        if plan.group > 1:
            return self.b.load_words(rhs, at + vector * lanes * plan.group, plan.rhs.dtype, lanes)
        packed = plan.rhs_panels is not None
        active: int | ll.Value = lanes if packed else min(lanes, self.tile.columns - vector * lanes)
        if self.mask is not None and vector == self.n_vectors - 1:
            active = self.mask
        if isinstance(active, int) and active == 1 and lanes > 1:
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
        self.columns = Reach.over((columns,), (0 if inner is None else self.plan.rhs.stride_of(inner),))
        sums = self.walk(lhs, rhs, count, self.zeros(tile_size * self.sets), self.inner_loop)
        sums = self.fold_sets(sums, self.sets)
        kind = "fadd" if is_float(self.plan.acc) else "add"
        totals = [b.reduce(kind, s) for s in sums]
        return [totals[r * columns : (r + 1) * columns] for r in range(self.tile.n_rows)]

    def inner_loop(
        self, lhs: list[ll.Value], rhs: list[ll.Value], extent: Int | ll.Value, sums: list[ll.Value]
    ) -> list[ll.Value]:
        b, lanes, level = self.b, self.plan.lanes, len(self.plan.tile_loops) - 1
        trip_points = lanes * self.sets

        assert not isinstance(extent, Number), "vectors along k run over a known number of points"

        def trip(lhs: list[ll.Value], rhs: list[ll.Value], sums: list[ll.Value]) -> list[ll.Value]:
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
            lhs_here = [b.element(pointer, at, self.plan.lhs.dtype) for pointer in lhs]
            rhs_here = [b.element(pointer, at, self.plan.rhs.dtype) for pointer in rhs]
            return self.step(lhs_here, rhs_here, 0, list(carried), 0, b.sub(left, at))

        return b.loop(0, left, lanes, last, sums, name="kt")

    def step(
        self, lhs: list[ll.Value], rhs: list[ll.Value], at: int, sums: list[ll.Value], number: int,
        active: int | ll.Value,
    ) -> list[ll.Value]:  # fmt: skip
        """One vector of k points into set `number`; lanes from `active` on count as zero."""
        rows, columns = (
            [self.vector(self.b.element(pointers[place], offset, operand.dtype), at, operand, active)
             for place, offset in reach.places]
            for pointers, reach, operand in (
                (lhs, self.rows, self.plan.lhs), (rhs, self.columns, self.plan.rhs))
        )
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
