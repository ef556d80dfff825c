"""Windows of 3 x 3 by Winograd's products: a scheduled ContractionKernel -> LLVM IR phases.

Along one direction t results of 3 taps are A^T ((G w) * (B^T x)), with t + 2 products where there were 3 t; along two
directions the same is done to columns, then to rows. So w and x are transformed first, each in a phase of its own (that of
w packs it, so that it runs once where w is kept). What is left for each of the (t + 2)^2 points is a product of matrices,
[tiles, channels] x [channels, results], by the microkernels of all contractions. Its sums stay near: a task takes a few
tiles and vectors of results, all their points, and gives what comes of them to the epilogue, tile by tile.

A number that is not finite, or too large, would spread to all results of its tile. So whoever sees one among them adds the
tile up anew, tap by tap: what is no number here is none by the plain sums either.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Final

import llvmlite.ir as ll

from flambeau.codegen.artifact import Phase, status_message
from flambeau.codegen.cpu.contraction.microkernel import internal_function, microkernel
from flambeau.codegen.cpu.contraction.packing import offset_of, unflatten
from flambeau.codegen.cpu.contraction.plan import Plan
from flambeau.codegen.cpu.contraction.tile_epilogue import call_tile_epilogue, tile_epilogue
from flambeau.codegen.cpu.contraction.tile_sums import Tile
from flambeau.codegen.cpu.contraction.tiles import Position, clipped
from flambeau.codegen.cpu.llvm.emitter import F32, I32, I64, PTR, Emitter, constant, new_kernel
from flambeau.codegen.cpu.llvm.numbers import Int, number_of
from flambeau.ir import dtypes as dt
from flambeau.ir.kernel import (
    Address,
    ContractionKernel,
    ContractionSchedule,
    Instr,
    Param,
    Stage,
    Store,
    WinogradSchedule,
)
from flambeau.ir.records import dataclass
from flambeau.ir.target import Target

__all__ = ["emit_winograd", "phases_of_winograd"]

_TAPS: Final = 3
# Squares of the points, besides 0 and infinity, at which F(4, 3) takes polynomials: those of 10 pairs that round least.
_NEAR: Final = 0.5
_FAR: Final = 2.0
_PREFETCH_POINTS: Final = 8
_ALIASED_BYTES: Final = 512             # rows that far apart share few sets of a cache
_F32_BYTES: Final = 4
_ROWS_A_GRAIN: Final = 16

Vectors = Sequence[ll.Value]


def emit_winograd(
    kernel: ContractionKernel, module: ll.Module, symbol_prefix: str, target: Target
) -> tuple[list[Phase], tuple[int, ...]]:
    """As `contraction.functions.emit`, of a kernel with a WinogradSchedule."""
    plan = _Plan(kernel, target)
    _Weights(module, f"{symbol_prefix}_weights", plan).emit()
    if not plan.schedule.own_images:
        _Images(module, f"{symbol_prefix}_images", plan).emit()
    _Products(module, f"{symbol_prefix}_sum", plan).emit()
    return ([], ()) if kernel.sizes else phases_of_winograd(kernel, symbol_prefix, target)


def phases_of_winograd(
    kernel: ContractionKernel, symbol_prefix: str, target: Target
) -> tuple[list[Phase], tuple[int, ...]]:
    """Phases and bytes of scratch."""
    plan = _Plan(kernel, target)
    statuses = sorted({int(i.attr) for i in kernel.instrs() if i.op == "check" and isinstance(i.attr, int)})

    buffers = tuple(range(len(kernel.params) + (1 if plan.schedule.own_images else 2)))

    def phase(part: str, tasks: int, grain: int) -> Phase:
        return Phase(f"{symbol_prefix}_{part}", tasks, buffers, grain=grain,
                     parallel=plan.schedule.parallel and tasks > 1,
                     errors=tuple((status, status_message(status)) for status in statuses))

    weights = replace(phase("weights", plan.column_tiles * plan.channels, _ROWS_A_GRAIN),
                      packs=(kernel.rhs.buffer, plan.weights_buffer))
    scratch = plan.column_tiles * plan.panel_elements * _F32_BYTES, plan.blocks * plan.block_elements * _F32_BYTES
    if plan.schedule.own_images:
        return [weights, phase("sum", plan.blocks, 1)], scratch[:1]
    images = phase("images", plan.tiles, max(1, _ROWS_A_GRAIN * plan.lanes // plan.channels))
    return [weights, images, phase("sum", plan.blocks * plan.column_tiles, 1)], scratch


@dataclass(frozen=True)
class _Plan:
    """The numbers that code is emitted from. Transformed weights lie as [columns of a tile][point][channel][column],
    transformed images as [block of tiles][point][tile][channel]."""

    kernel: ContractionKernel
    target: Target

    @property
    def schedule(self) -> WinogradSchedule:
        schedule = self.kernel.schedule
        assert isinstance(schedule, WinogradSchedule), "contractions are scheduled by the passes, before codegen"
        return schedule

    def extent(self, dim: int) -> int:
        return self.kernel.extents[dim]

    @cached_property
    def side(self) -> int:
        """Results of a tile in one direction."""
        return self.schedule.tile

    @cached_property
    def reach(self) -> int:
        """Pixels of a patch, and points, in one direction."""
        return self.side + _TAPS - 1

    @cached_property
    def points(self) -> int:
        return self.reach**2

    @cached_property
    def channels(self) -> int:
        return self.extent(self.kernel.k[2])

    @cached_property
    def size(self) -> tuple[int, int]:
        """Height and width of the result."""
        height, width = (self.extent(d) for d in self.kernel.m[-2:])
        return height, width

    @cached_property
    def tiles_along(self) -> tuple[int, ...]:
        """Of images (all m dims before height and width), then along height and width."""
        images = [self.extent(d) for d in self.kernel.m[:-2]]
        return (*images, *[-(-size // self.side) for size in self.size])

    @cached_property
    def tiles(self) -> int:
        return math.prod(self.tiles_along)

    @cached_property
    def rows(self) -> int:
        """Tiles in a block."""
        return self.schedule.rows

    @cached_property
    def blocks(self) -> int:
        return -(-self.tiles // self.rows)

    @cached_property
    def rows_of_last(self) -> int:
        return self.tiles - (self.blocks - 1) * self.rows

    @cached_property
    def lanes(self) -> int:
        return self.target.lanes(_F32_BYTES)

    @cached_property
    def columns(self) -> int:
        return self.schedule.n_vectors * self.lanes

    @cached_property
    def results(self) -> int:
        """Channels of the result."""
        return self.extent(self.kernel.n[0])

    @cached_property
    def column_tiles(self) -> int:
        return -(-self.results // self.columns)

    @cached_property
    def panel_elements(self) -> int:
        """Transformed weights of one tile of columns."""
        return self.points * self.channels * self.columns

    @cached_property
    def row_elements(self) -> int:
        """From a tile's channels to the next tile's, at one point."""
        whole = -(-self.channels // self.lanes) * self.lanes
        return whole + self.lanes * (whole * _F32_BYTES % _ALIASED_BYTES == 0)

    @cached_property
    def block_elements(self) -> int:
        """Transformed images of one block."""
        return self.points * self.rows * self.row_elements

    @cached_property
    def weights_buffer(self) -> int:
        return len(self.kernel.params)

    @cached_property
    def images_buffer(self) -> int:
        return len(self.kernel.params) + 1

    @cached_property
    def epilogue(self) -> Plan:
        """Tiles of results, as the epilogue of any contraction sees them."""
        tile = (*[1] * (len(self.kernel.m) - 2), self.side, self.side)
        return Plan(replace(self.kernel, schedule=ContractionSchedule(tile, self.schedule.n_vectors)), self.target)

    @cached_property
    def product(self) -> Plan:
        """At one point: [rows, channels] x [channels, columns]."""
        rows, columns, channels = self.rows, self.columns, self.channels
        params = (Param("x", dt.f32, rows * self.row_elements, "in"), Param("w", dt.f32, channels * columns, "in"),
                  Param("y", dt.f32, rows * columns, "out"))
        store = Store(Address(2, 0, ((0, columns), (1, 1))), 0)
        kernel = ContractionKernel(
            "product", params, (rows, columns, channels), (), (0,), (1,), (2,),
            Address(0, 0, ((0, self.row_elements), (2, 1))), Address(1, 0, ((2, columns), (1, 1))), dt.f32,
            Stage((), (Instr(0, "acc", dt.f32),), (), (store,)),
            schedule=ContractionSchedule((rows,), self.schedule.n_vectors, pack_rhs=True, prefetch=_PREFETCH_POINTS))
        return Plan(kernel, self.target)


class _Phase:
    """One phase; a subclass says what a task is."""

    def __init__(self, module: ll.Module, name: str, plan: _Plan) -> None:
        self.module, self.name, self.plan = module, name, plan

    def emit(self) -> None:
        self.prepare()
        self.b = b = new_kernel(self.module, self.name, self.plan.target, self.plan.kernel)
        self.begin()
        b.loop(b.kernel.begin, b.kernel.end, 1, lambda number: self.task(b.opaque(number)), name="task")
        b.succeed()

    def prepare(self) -> None:
        """Emit the functions that a task calls."""

    def begin(self) -> None:
        """Before the first task."""

    def task(self, number: ll.Value) -> None:
        raise NotImplementedError


class _Weights(_Phase):
    """w -> G w G^T: a task is a channel of one tile of columns."""

    def begin(self) -> None:
        self.taps = self.b.stack(F32, _TAPS**2 * self.plan.columns)
        self.between = _Between(self.b, _TAPS, self.plan.reach, self.plan.lanes)

    def task(self, number: ll.Value) -> None:
        b, plan = self.b, self.plan
        rhs, (height, width, channel), (column,) = plan.kernel.rhs, plan.kernel.k, plan.kernel.n
        tile, c = unflatten(b, number, [plan.column_tiles, plan.channels])
        first = b.mul(tile, b.index(plan.columns))
        at = offset_of(b, [c, first], [number_of(rhs.stride_of(d)) for d in (channel, column)])
        source = b.element(b.buffer(rhs.buffer), b.add(at, b.index(rhs.offset)), "f32")
        steps = [r * rhs.stride_of(height) + s * rhs.stride_of(width) for r in range(_TAPS) for s in range(_TAPS)]
        there = clipped(b, first, b.index(plan.columns), b.index(plan.results))

        def copy(at: ll.Value) -> None:
            at = b.opaque(at)
            here = b.element(source, b.mul(at, b.index(number_of(rhs.stride_of(column)))), "f32")
            for tap, step in enumerate(steps):
                b.store_vector(b.load_scalar(here, step, "f32"), self.taps, b.add(at, b.index(tap * plan.columns)), "f32")

        def clear(at: ll.Value) -> None:
            at = b.opaque(at)
            for tap in range(len(steps)):
                b.store_vector(constant(F32, 0.0), self.taps, b.add(at, b.index(tap * plan.columns)), "f32")

        b.loop(0, there, 1, copy, name="column")
        b.loop(there, plan.columns, 1, clear, name="beyond")
        target = offset_of(b, [tile, c], [plan.panel_elements, plan.columns])
        target = b.element(b.buffer(plan.weights_buffer), target, "f32")

        def vector(at: ll.Value) -> None:
            at = b.opaque(at)
            here, there = b.element(self.taps, at, "f32"), b.element(target, at, "f32")

            def load(line: int, across: ll.Value) -> ll.Value:
                tap = b.add(b.index(line * _TAPS), across)
                return b.load_vector(here, b.mul(tap, b.index(plan.columns)), "f32", plan.lanes)

            def store(down: ll.Value, column: int, value: ll.Value) -> None:
                point = b.add(b.mul(down, b.index(plan.reach)), b.index(column))
                b.store_vector(value, there, b.mul(point, b.index(plan.channels * plan.columns)), "f32")

            self.between.transform(load, lambda line: _of_weights(b, line, plan.side), store)

        b.loop(0, plan.columns, plan.lanes, vector, name="vector")


class _Images(_Phase):
    """All of x -> B^T x B: a task is a tile."""

    def begin(self) -> None:
        self.patch = _Patch(self.b, self.plan)

    def task(self, number: ll.Value) -> None:
        b, plan = self.b, self.plan
        block, row = b.divided(number, plan.rows)
        target = offset_of(b, [block, row], [plan.block_elements, plan.row_elements])
        self.patch.transform(number, b.element(b.buffer(plan.images_buffer), target, "f32"))


class _Patch:
    """x -> B^T x B of one tile. Patches end at the last pixel, which stands for what is beyond: no result that is there
    needs that."""

    def __init__(self, b: Emitter, plan: _Plan) -> None:
        self.b, self.plan, self.between = b, plan, _Between(b, plan.reach, plan.reach, plan.lanes)

    def transform(self, number: ll.Value, target: ll.Value) -> None:
        """The patch of tile `number`, to [point][tile of the block][channel] from `target` on."""
        b, plan, lhs = self.b, self.plan, self.plan.kernel.lhs
        coordinates = unflatten(b, number, plan.tiles_along)
        strides = [number_of(lhs.stride_of(d)) for d in plan.kernel.m]
        at = b.add(offset_of(b, coordinates[:-2], strides[:-2]), b.index(lhs.offset))
        image = b.element(b.buffer(lhs.buffer), at, "f32")
        lines = [b.element(image, self.pixel(coordinates[-2], b.index(line), plan.size[0], strides[-2]), "f32")
                 for line in range(plan.reach)]

        def vector(at: ll.Value, active: int | None) -> None:
            there = b.element(target, at, "f32")

            def load(line: int, across: ll.Value) -> ll.Value:
                pixel = self.pixel(coordinates[-1], across, plan.size[1], strides[-1])
                return b.load_vector(b.element(lines[line], at, "f32"), pixel, "f32", plan.lanes, active)

            def store(down: ll.Value, column: int, value: ll.Value) -> None:
                point = b.add(b.mul(down, b.index(plan.reach)), b.index(column))
                b.store_vector(value, there, b.mul(point, b.index(plan.rows * plan.row_elements)), "f32")

            self.between.transform(load, lambda line: _of_images(b, line, plan.side), store)

        whole = plan.channels // plan.lanes * plan.lanes
        if whole:
            b.loop(0, whole, plan.lanes, lambda at: vector(b.opaque(at), None), name="channel")
        if whole < plan.channels:
            vector(b.index(whole), plan.channels - whole)

    def pixel(self, tile: ll.Value, step: ll.Value, size: int, stride: Int) -> ll.Value:
        """Elements from the image's first pixel in one direction to number `step` of the tile's patch."""
        b = self.b
        at, last = b.add(b.mul(tile, b.index(self.plan.side)), step), b.index(size + _TAPS - 2)
        return b.mul(b.select(b.icmp_signed("<", at, last), at, last), b.index(stride))


class _Products(_Phase):
    """Products and sums over channels, and A^T ... A: a task is a block of tiles and one tile of columns, or, where it
    transforms its images itself, all of them."""

    def prepare(self) -> None:
        plan = self.plan
        self.whole = microkernel(self.module, f"{self.name}_tile", plan.product, self.tile(plan.rows))
        self.last = self.whole
        if plan.rows_of_last != plan.rows:
            self.last = microkernel(self.module, f"{self.name}_last", plan.product, self.tile(plan.rows_of_last))
        self.epilogue = tile_epilogue(self.module, f"{self.name}_epilogue", plan.epilogue)
        self.plainly = _plain_sums(self.module, f"{self.name}_plain", plan)

    def tile(self, rows: int) -> Tile:
        return Tile((rows,), self.plan.columns, "memory")

    def begin(self) -> None:
        plan = self.plan
        self.sums = self.b.stack(F32, plan.points * plan.rows * plan.columns)
        self.results = self.b.stack(F32, plan.side**2 * plan.columns)
        self.between = _Between(self.b, plan.reach, plan.side, plan.lanes)
        if plan.schedule.own_images:
            self.patch, self.images = _Patch(self.b, plan), self.b.stack(F32, plan.block_elements)

    def task(self, number: ll.Value) -> None:
        b, plan = self.b, self.plan
        if plan.schedule.own_images:
            self.images_of(number)
            b.loop(0, plan.column_tiles, 1, lambda tile: self.columns(number, b.opaque(tile), self.images), name="columns")
            return
        if plan.schedule.columns_first:
            tile, block = unflatten(b, number, [plan.column_tiles, plan.blocks])
        else:
            block, tile = unflatten(b, number, [plan.blocks, plan.column_tiles])
        images = b.element(b.buffer(plan.images_buffer), b.mul(block, b.index(plan.block_elements)), "f32")
        self.columns(block, tile, images)

    def images_of(self, block: ll.Value) -> None:
        b, plan = self.b, self.plan
        first = b.mul(block, b.index(plan.rows))

        def row(number: ll.Value) -> None:
            number = b.opaque(number)
            self.patch.transform(b.add(first, number),
                                 b.element(self.images, b.mul(number, b.index(plan.row_elements)), "f32"))

        b.loop(0, clipped(b, first, b.index(plan.rows), b.index(plan.tiles)), 1, row, name="row")

    def columns(self, block: ll.Value, tile: ll.Value, images: ll.Value) -> None:
        """One tile of columns of a block."""
        b, plan = self.b, self.plan
        weights = b.element(b.buffer(plan.weights_buffer), b.mul(tile, b.index(plan.panel_elements)), "f32")
        is_last = b.icmp_signed("==", block, b.index(plan.blocks - 1))

        def point(number: ll.Value) -> None:
            number = b.opaque(number)
            x, w, y = (
                b.element(start, b.mul(number, b.index(step)), "f32") for start, step in (
                    (images, plan.rows * plan.row_elements), (weights, plan.channels * plan.columns),
                    (self.sums, plan.rows * plan.columns)))
            arguments = [x, w, b.index(plan.channels), y]
            if self.last is self.whole:
                b.call(self.whole, arguments, cconv="fastcc")
                return
            with b.if_else(is_last) as (short, other):
                with short:
                    b.call(self.last, arguments, cconv="fastcc")
                with other:
                    b.call(self.whole, arguments, cconv="fastcc")

        b.loop(0, plan.points, 1, point, name="point")
        rows = b.select(is_last, b.index(plan.rows_of_last), b.index(plan.rows))
        first = b.mul(block, b.index(plan.rows))
        b.loop(0, rows, 1, lambda row: self.finish(first, b.opaque(row), tile), name="row")

    def finish(self, first: ll.Value, row: ll.Value, column_tile: ll.Value) -> None:
        """The results of one tile of images."""
        b, plan, zero = self.b, self.plan, self.b.index(0)
        *images, down, across = unflatten(b, b.add(first, row), plan.tiles_along)
        starts = [b.mul(tile, b.index(plan.side)) for tile in (down, across)]
        sizes = [clipped(b, start, b.index(plan.side), b.index(size))
                 for start, size in zip(starts, plan.size, strict=True)]
        n = b.mul(column_tile, b.index(plan.columns))
        n_size = clipped(b, n, b.index(plan.columns), b.index(plan.results))
        m_sizes = [*[b.index(1)] * len(images), *sizes]
        where = Position([], [*images, *starts], [], n, m_sizes, n_size, zero, zero, zero)
        sums = b.element(self.sums, b.mul(row, b.index(plan.columns)), "f32")
        none = constant(F32, 0.0, plan.lanes)

        def vector(at: ll.Value, check: ll.Value) -> list[ll.Value]:
            at = b.opaque(at)
            here, there = b.element(sums, at, "f32"), b.element(self.results, at, "f32")

            def load(line: int, across: ll.Value) -> ll.Value:
                point = b.add(b.index(line * plan.reach), across)
                return b.load_vector(here, b.mul(point, b.index(plan.rows * plan.columns)), "f32", plan.lanes)

            def store(down: ll.Value, column: int, value: ll.Value, check: ll.Value) -> ll.Value:
                # rows of short tiles are short; what is beyond one is written over by the next
                place = b.add(b.mul(sizes[1], down), b.index(column))
                b.store_vector(value, there, b.mul(place, b.index(plan.columns)), "f32")
                return b.multiply_add(value, none, check)

            return self.between.transform(load, lambda line: _of_sums(b, line, plan.side), store, check)

        (check,) = b.loop(0, plan.columns, plan.lanes, vector, [none], name="vector")
        is_none = b.reduce("or", b.fcmp_unordered("uno", check, check))
        with b.if_then(is_none, likely=False):
            coordinates = [*where.m, n, *sizes, n_size]
            b.call(self.plainly, [*b.function.args[:3], self.results, *coordinates], cconv="fastcc")
        call_tile_epilogue(b, self.epilogue, where, self.results)


def _plain_sums(module: ll.Module, name: str, plan: _Plan) -> ll.Function:
    """`i32 name(ctx, buffers, sizes, results, m..., n, height, width, columns)`: the results of a tile, tap by tap."""
    kernel, lanes = plan.kernel, plan.lanes
    b = internal_function(module, name, I32, [PTR] * 4 + [I64] * (len(kernel.m) + 4), plan.epilogue)
    results, *coordinates = b.function.args[3:]
    *m, n, height, width, columns = coordinates
    lhs, rhs = kernel.lhs, kernel.rhs
    at = b.add(offset_of(b, m, [number_of(lhs.stride_of(d)) for d in kernel.m]), b.index(lhs.offset))
    image = b.element(b.buffer(lhs.buffer), at, "f32")
    along = number_of(rhs.stride_of(kernel.n[0]))
    weights = b.element(b.buffer(rhs.buffer), b.add(b.mul(n, b.index(along)), b.index(rhs.offset)), "f32")
    steps = [(plan.extent(d), number_of(lhs.stride_of(d)), number_of(rhs.stride_of(d))) for d in kernel.k]

    def sums(x: ll.Value, w: ll.Value, level: int, totals: Vectors) -> Vectors:
        if level == len(steps):
            splat = b.splat(b.load_scalar(x, 0, "f32"), lanes)
            made = []
            for number, total in enumerate(totals):
                active = b.sub(columns, b.index(number * lanes))
                here = b.element(w, b.mul(b.index(number * lanes), b.index(along)), "f32")
                taps = b.load_strided(here, 0, along, "f32", lanes, active)
                made.append(b.multiply_add(splat, taps, total))
            return made
        extent, x_step, w_step = steps[level]

        def body(at: ll.Value, *carried: ll.Value) -> Vectors:
            at = b.opaque(at)
            return sums(b.element(x, b.mul(at, b.index(x_step)), "f32"), b.element(w, b.mul(at, b.index(w_step)), "f32"),
                        level + 1, carried)

        return b.loop(0, extent, 1, body, totals, name="k")

    def pixel(i: ll.Value, j: ll.Value) -> None:
        place = b.mul(b.add(b.mul(i, width), j), b.index(plan.columns))
        x = b.element(image, offset_of(b, [i, j], [number_of(lhs.stride_of(d)) for d in kernel.m[-2:]]), "f32")
        zeros = [constant(F32, 0.0, lanes)] * plan.schedule.n_vectors
        for number, total in enumerate(sums(x, weights, 0, zeros)):
            b.store_vector(total, results, b.add(place, b.index(number * lanes)), "f32")

    def line(i: ll.Value) -> None:
        i = b.opaque(i)
        b.loop(0, width, 1, lambda j: pixel(i, b.opaque(j)), name="j")

    b.loop(0, height, 1, line, name="i")
    b.succeed()
    return b.function


# -- transforms of one line of vectors ------------------------------------------------------------------------------


class _Between:
    """T box T^T, a box of vectors: columns into memory, then rows from there, in loops, so that there is little code."""

    def __init__(self, b: Emitter, size: int, result_size: int, lanes: int) -> None:
        self.b, self.size, self.result_size, self.lanes = b, size, result_size, lanes
        self.memory = b.stack(F32, size * result_size * lanes)

    def transform(
        self,
        load: Callable[[int, ll.Value], ll.Value],
        transform: Callable[[Vectors], list[ll.Value]],
        store: Callable[..., ll.Value | None],
        *carry: ll.Value,
    ) -> list[ll.Value]:
        """load(row, column) gives a vector of the box, store(row, column, vector, *carry) takes one of the result."""
        b, lanes = self.b, self.lanes

        def column(across: ll.Value) -> None:
            across = b.opaque(across)
            here = b.element(self.memory, b.mul(across, b.index(lanes)), "f32")
            for row, value in enumerate(transform([load(row, across) for row in range(self.size)])):
                b.store_vector(value, here, row * self.size * lanes, "f32")

        def row(down: ll.Value, *carry: ll.Value) -> Sequence[ll.Value]:
            down = b.opaque(down)
            here = b.element(self.memory, b.mul(down, b.index(self.size * lanes)), "f32")
            line = [b.load_vector(here, column * lanes, "f32", lanes) for column in range(self.size)]
            for column, value in enumerate(transform(line)):
                carried = store(down, column, value, *carry)
                carry = () if carried is None else (carried,)
            return carry

        b.loop(0, self.size, 1, column, name="across")
        return b.loop(0, self.result_size, 1, row, carry, name="down")


def _of_weights(b: Emitter, taps: Vectors, side: int) -> list[ll.Value]:
    """G: a polynomial of the taps at each point, over what the others are away from it."""
    w0, w1, w2 = taps

    def at(square: float, by: float) -> list[ll.Value]:
        even, odd = _sum(b, (by, w0), (by * square, w2)), _sum(b, (by * math.sqrt(square), w1))
        return [b.fadd(even, odd), b.fsub(even, odd)]

    if side == 2:
        return [w0, *at(1.0, 0.5), w2]
    near, far = _NEAR, _FAR
    return [_sum(b, (1 / (near * far), w0)), *at(near, 1 / (2 * near * (near - far))),
            *at(far, 1 / (2 * far * (far - near))), w2]


def _of_images(b: Emitter, pixels: Vectors, side: int) -> list[ll.Value]:
    """B^T: at each point the others' polynomial."""
    if side == 2:
        x0, x1, x2, x3 = pixels
        return [b.fsub(x0, x2), b.fadd(x1, x2), b.fsub(x2, x1), b.fsub(x3, x1)]
    x0, x1, x2, x3, x4, x5 = pixels

    def at(square: float, other: float) -> list[ll.Value]:
        even, odd = _sum(b, (-other, x2), (1.0, x4)), _sum(b, (-other, x1), (1.0, x3))
        point = math.sqrt(square)
        return [_sum(b, (point, odd), (1.0, even)), _sum(b, (-point, odd), (1.0, even))]

    ends = [_sum(b, (_NEAR * _FAR, first), (-(_NEAR + _FAR), middle), (1.0, last))
            for first, middle, last in ((x0, x2, x4), (x1, x3, x5))]
    return [ends[0], *at(_NEAR, _FAR), *at(_FAR, _NEAR), ends[1]]


def _of_sums(b: Emitter, sums: Vectors, side: int) -> list[ll.Value]:
    """A^T: powers of the points."""
    if side == 2:
        s0, s1, s2, s3 = sums
        return [b.fadd(s0, b.fadd(s1, s2)), b.fadd(b.fsub(s1, s2), s3)]
    s0, s1, s2, s3, s4, s5 = sums
    even, odd = (b.fadd(s1, s2), b.fadd(s3, s4)), (b.fsub(s1, s2), b.fsub(s3, s4))

    def power(number: int) -> ll.Value:
        near, far = odd if number % 2 else even
        return _sum(b, (_NEAR ** (number / 2), near), (_FAR ** (number / 2), far))

    return [b.fadd(s0, power(0)), power(1), power(2), b.fadd(s5, power(3))]


def _sum(b: Emitter, *terms: tuple[float, ll.Value]) -> ll.Value:
    """sum(factor * value)."""
    total: ll.Value | None = None
    for factor, value in sorted(terms, key=lambda term: term[0] != 1.0):
        splat = constant(F32, factor, value.type.count) if isinstance(value.type, ll.VectorType) else constant(F32, factor)
        if total is None:
            total = value if factor == 1.0 else b.fmul(value, splat)
        else:
            total = b.fadd(total, value) if factor == 1.0 else b.multiply_add(value, splat, total)
    assert total is not None, "a sum has a term"
    return total
