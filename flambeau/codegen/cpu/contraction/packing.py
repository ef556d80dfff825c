"""Phases that copy an operand into panels, the order the microkernels read it in, widened to the accumulators' type.

A panel holds all k points of one tile of the innermost n dim (rhs) or m dim (lhs): [k][width]. Where the operand is
contiguous along that dim rows are copied, where it is contiguous along a k dim square blocks of vectors are
transposed, and anything else goes element by element. Where neighbours along k are multiplied at once, what is copied
and transposed are words of them: as many rows become one of words, and along k words lie ready.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import llvmlite.ir as ll

from flambeau.codegen.cpu.contraction.microkernel import internal_function
from flambeau.codegen.cpu.contraction.panels import Columns, Panels, row_major
from flambeau.codegen.cpu.contraction.plan import Plan
from flambeau.codegen.cpu.contraction.tile_sums import widen
from flambeau.codegen.cpu.llvm.emitter import (
    I64,
    PTR,
    Emitter,
    lanes_of,
    new_kernel,
    storage_bytes,
)
from flambeau.codegen.cpu.llvm.lltypes import I32, constant, lane_order, vector_type
from flambeau.codegen.cpu.llvm.numbers import Int, ceil_div, greatest, least

__all__ = ["emit_packing", "offset_of", "packing_tasks", "panel_offset", "unflatten"]

_ELEMENTS_PER_TASK = 16 << 10
# A transposed block is this wide: its shuffles stay inside 128-bit parts of the vectors, which is what every
# instruction set does fast, and each part is then stored as it is.
_GROUP_BYTES = 16


def unflatten(b: Emitter, flat: ll.Value, extents: Sequence[Int]) -> list[ll.Value]:
    """Row-major coordinates of position `flat` (not negative) in a box."""
    coordinates: list[ll.Value] = []
    for position, extent in reversed(list(enumerate(extents))):
        if extent == 1:
            coordinates.append(b.index(0))
        elif all(outer == 1 for outer in extents[:position]):
            coordinates.append(flat)
        else:
            flat, rest = b.divided(flat, extent)
            coordinates.append(rest)
    return coordinates[::-1]


def offset_of(b: Emitter, coordinates: Sequence[ll.Value], strides: Sequence[Int]) -> ll.Value:
    """sum(coordinate * stride) as an i64."""
    total = b.index(0)
    for coordinate, stride in zip(coordinates, strides, strict=True):
        if stride != 0:
            total = b.add(total, b.mul(coordinate, b.index(stride), flags=("nsw",)), flags=("nsw",))
    return total


def panel_offset(b: Emitter, panels: Panels, outer: Sequence[ll.Value], first: ll.Value) -> ll.Value:
    """Where the panel starts that holds element `first` (a multiple of the width) of the inner dim."""
    return offset_of(b, [*outer, b.udiv(first, b.index(panels.width))], panels.strides)


def emit_packing(module: ll.Module, name: str, plan: Plan, panels: Panels) -> None:
    """Emit the phase `name`."""
    b = new_kernel(module, name, plan.target, plan.kernel)
    b.loop(b.kernel.begin, b.kernel.end, 1, _Packing(b, plan, panels).task, name="task")
    b.succeed()


def packing_tasks(plan: Plan, panels: Panels) -> Int:
    """Tasks of the phase that packs."""
    chunks = _Chunks(plan, panels)
    tiles = 1 if chunks.run is None else panels.tiles
    return math.prod(panels.outer_extents) * tiles * chunks.chunks


class _Chunks:
    """A task copies a chunk of the outermost k dim: of one panel by transposing it, or else of all panels of an outer
    point, row by row, so that rows are read from end to end."""

    def __init__(self, plan: Plan, panels: Panels) -> None:
        self.plan, self.panels, self.source = plan, panels, panels.source
        self.group = group = panels.group
        self.itemsize = storage_bytes(panels.dtype) * group
        # Elements of the source from one element of a panel's row to the next.
        self.stride = 0 if panels.inner is None else self.source.stride_of(panels.inner)
        to_panel = row_major(plan.kernel.k, plan.k_extents)
        # (steps, elements of the source, and of the panel, from one to the next)
        self.k_rows = [
            (extent, self.source.stride_of(d), to_panel[d] * panels.width)
            for d, extent in zip(plan.kernel.k, plan.k_extents, strict=True)
        ] or [(1, 0, panels.width)]
        levels = range(len(self.k_rows)) if group == 1 else [len(self.k_rows) - 1]
        run = next((level for level in levels if self.k_rows[level][1] == 1 and self.k_rows[level][0] != 1), None)
        # Elements from one point of a group to the next, and how many the last group has, if it is not whole.
        self.point_stride, self.left = self.k_rows[-1][1], 0
        if group > 1:
            extent, from_source, to_target = self.k_rows[-1]
            self.k_rows[-1] = (extent // group, from_source * group, to_target * group)
            inner_extent = plan.kernel.extents[plan.kernel.k[-1]]
            assert isinstance(inner_extent, int), "points along which groups lie are of a known number"
            self.left = inner_extent % group
        too_narrow = plan.lanes * self.itemsize < _GROUP_BYTES
        self.run = None if self.stride in (0, 1) or too_narrow else run
        outermost = self.k_rows[0][0]
        width = panels.inner_extent if self.run is None else panels.width
        inner_points = math.prod([row[0] for row in self.k_rows[1:]])
        per_point = greatest(1, inner_points * width)
        self.chunk = greatest(1, least(outermost, _ELEMENTS_PER_TASK // per_point))
        self.chunks = ceil_div(outermost, self.chunk)


class _Packing(_Chunks):
    def __init__(self, b: Emitter, plan: Plan, panels: Panels) -> None:
        super().__init__(plan, panels)
        self.b = b

    def task(self, number: ll.Value) -> None:
        b, panels = self.b, self.panels
        tasks = [*panels.outer_extents, 1 if self.run is None else panels.tiles, self.chunks]
        *outer, tile, chunk = unflatten(b, b.opaque(number), tasks)
        start = offset_of(b, outer, [self.source.stride_of(d) for d in panels.outer_dims])
        start = b.add(start, b.mul(tile, b.index(panels.width * self.stride)))
        source = b.element(
            b.buffer(self.source.buffer), b.add(start, b.index(self.source.offset)), self.source.dtype
        )
        target = b.element(
            b.buffer(panels.buffer), offset_of(b, [*outer, tile], panels.strides), panels.dtype
        )
        first = b.mul(chunk, b.index(self.chunk))
        last = _minimum(b, b.add(first, b.index(self.chunk)), b.index(self.k_rows[0][0]))
        if self.run is None:
            self.walk_k(source, target, first, last, None, self.copy_point)
            return
        width = b.index(panels.width)
        if panels.last != Columns(panels.width):
            is_last = b.icmp_signed("==", tile, b.index(panels.tiles - 1))
            width = b.select(is_last, b.index(panels.width_of_last), width)

        def transpose(source: ll.Value, target: ll.Value, start: ll.Value, stop: ll.Value, step: Int) -> None:
            self.transpose_run(source, target, start, stop, step, width)

        self.walk_k(source, target, first, last, self.run, transpose)

    def walk_k(
        self,
        source: ll.Value,
        target: ll.Value,
        first: ll.Value,
        last: ll.Value,
        run: int | None,
        copy: Callable[..., None],
    ) -> None:
        """All steps of the chunk: copy(source, target, points) at each, or with the k dim `run` walked innermost
        copy(source, target, start, stop, panel elements per step) for each run."""
        rows, b = self.k_rows, self.b
        order = [level for level in range(len(rows)) if level != run]

        def bounds(level: int) -> tuple[ll.Value, ll.Value]:
            return (first, last) if level == 0 else (b.index(0), b.index(rows[level][0]))

        def nest(position: int, source: ll.Value, target: ll.Value, points: int) -> None:
            if position == len(order):
                copy(source, target, *((points,) if run is None else (*bounds(run), rows[run][2])))
                return
            level = order[position]
            _, source_step, target_step = rows[level]

            def step(i: ll.Value, points: int) -> None:
                there = b.element(target, b.mul(i, b.index(target_step)), self.panels.dtype)
                here = b.element(source, b.mul(i, b.index(source_step)), self.source.dtype)
                nest(position + 1, here, there, points)

            start, stop = bounds(level)
            whole = stop if level + 1 < len(rows) else self.whole_steps(stop)
            b.loop(start, whole, 1, lambda i: step(b.opaque(i), points), name="k")
            if level + 1 == len(rows) and self.left:
                with b.if_then(b.icmp_signed(">", stop, whole)):
                    step(whole, self.left)

        nest(0, source, target, self.group)

    def whole_steps(self, stop: ll.Value) -> ll.Value:
        """Where the whole groups before step `stop` of the innermost k dim end."""
        return _minimum(self.b, stop, self.b.index(self.k_rows[-1][0] - 1)) if self.left else stop

    def copy_point(self, source: ll.Value, target: ll.Value, points: int) -> None:
        """One step of every panel, which has so many points."""
        b, panels = self.b, self.panels
        is_whole = panels.last == Columns(panels.width)
        whole = panels.tiles if is_whole else panels.tiles - 1

        def copy_row(tile: ll.Value, width: Columns) -> None:
            tile = tile if isinstance(tile, ll.Constant) else b.opaque(tile)
            here = b.element(source, b.mul(tile, b.index(panels.width * self.stride)), self.source.dtype)
            there = b.element(target, b.mul(tile, b.index(panels.panel_elements)), panels.dtype)
            self.copy_elements(here, there, width, points)

        b.loop(0, whole, 1, lambda tile: copy_row(tile, Columns(panels.width)), name="tile")
        if not is_whole:
            copy_row(b.index(whole), panels.last)

    def copy_elements(self, source: ll.Value, target: ll.Value, width: Columns, points: int) -> None:
        b, lanes = self.b, self.plan.lanes
        for at in range(0, width.count, lanes):
            active: int | ll.Value = min(lanes, width.count - at)
            if width.masked and at + lanes == width.count:
                active = b.index(self.panels.width_of_last - at)
            value = self.strided_words(source, at * self.stride, lanes, active, points)
            # A short last tile leaves the rest of its rows as they are: nobody stores what is summed from them.
            self.store_words(value, target, at, min(lanes, self.panels.width - at))

    def strided_words(
        self, source: ll.Value, offset: Int, lanes: int, active: int | ll.Value | None, points: int
    ) -> ll.Value:
        """What `lanes` places of a panel's row hold, from element `offset` of the source: an element each, or a word of the
        step's `points`."""
        b, dtype = self.b, self.source.dtype
        if self.group == 1:
            value = b.load_strided(source, offset, self.stride, dtype, lanes, active)
            return widen(b, value, dtype, self.panels.dtype)
        bits, word = 8 * storage_bytes(dtype), None
        for point in range(points):
            pointer = b.element(source, b.index(point * self.point_stride), dtype)
            part = b.load_strided(pointer, offset, self.stride, f"u{bits}", lanes, active)
            part = b.zext(part, vector_type(I32, lanes))
            part = b.shl(part, constant(I32, point * bits, lanes)) if point else part
            word = part if word is None else b.or_(word, part)
        assert word is not None, "a step has a point"
        return word

    def words(self, source: ll.Value, offset: ll.Value | Int, lanes: int) -> ll.Value:
        """As `strided_words`, of neighbours along k from step `offset` on."""
        b, dtype = self.b, self.source.dtype
        if self.group > 1:
            return b.load_words(source, b.mul(b.index(offset), b.index(self.group)), dtype, lanes)
        return widen(b, b.load_vector(source, offset, dtype, lanes), dtype, self.panels.dtype)

    def store_words(self, value: ll.Value, target: ll.Value, place: ll.Value | Int, active: int | None = None) -> None:
        """To places of a panel's row from `place` on."""
        dtype = self.panels.dtype if self.group == 1 else "u32"
        self.b.store_vector(value, target, place, dtype, active)

    def transpose_run(
        self, source: ll.Value, target: ll.Value, start: ll.Value, stop: ll.Value, step: Int, width: ll.Value
    ) -> None:
        """Steps [start, stop) of the k loop along which the source is contiguous: blocks of some elements x a
        vector of steps."""
        b, panels, lanes = self.b, self.panels, self.plan.lanes
        group = _GROUP_BYTES // self.itemsize
        whole = panels.width - panels.width % group

        def block(k: ll.Value) -> None:
            k = b.opaque(k)
            points = _minimum(b, b.sub(end, k), b.index(lanes))
            here = b.element(source, b.mul(k, b.index(self.group)), self.source.dtype)
            there = b.element(target, b.mul(k, b.index(step)), panels.dtype)

            def transpose(first: ll.Value, count: int) -> None:
                from_here = b.element(here, b.mul(first, b.index(self.stride)), self.source.dtype)
                # A group beyond the last element of a short tile repeats that one: nobody stores its sums.
                last = b.sub(b.sub(width, first), b.index(1))
                sizes = [b.kernel.sizes] if self.plan.kernel.sizes else []
                b.call(
                    self.block_function(step, count),
                    [from_here, b.element(there, b.mul(first, b.index(self.group)), panels.dtype), points, last, *sizes],
                    cconv="fastcc",
                )

            b.loop(
                0,
                _minimum(b, width, b.index(whole)),
                group,
                lambda first: transpose(b.opaque(first), group),
                name="group",
            )
            if whole < panels.width:
                with b.if_then(b.icmp_signed(">", width, b.index(whole))):
                    transpose(b.index(whole), panels.width - whole)

        end = self.whole_steps(stop)
        b.loop(start, end, lanes, block, name="block")
        if not self.left:
            return

        def column(number: ll.Value) -> None:
            number = b.opaque(number)
            here = b.element(source, b.add(b.mul(end, b.index(self.group)), b.mul(number, b.index(self.stride))), dtype)
            there = b.element(target, b.mul(end, b.index(step)), panels.dtype)
            self.store_words(self.strided_words(here, 0, 1, None, self.left), there, number)

        dtype = self.source.dtype
        with b.if_then(b.icmp_signed(">", stop, end)):
            b.loop(0, width, 1, column, name="column")

    def block_function(self, step: Int, count: int) -> ll.Function:
        """`void (source, target, points, last[, sizes])`: `count` elements x `points` k points (at most a vector of them),
        transposed. Elements after `last` repeat it."""
        name = f"{self.b.function.name}_transpose{count}"
        if name in self.b.module.globals:
            return self.b.module.globals[name]
        plan, dtype = self.plan, self.source.dtype
        sizes = [PTR] if plan.kernel.sizes else []
        b = internal_function(self.b.module, name, ll.VoidType(), [PTR, PTR, I64, I64, *sizes], plan)
        source, target, points, last = b.function.args[:4]
        inner = _Packing(b, plan, self.panels)
        columns = [
            b.element(source, b.mul(_minimum(b, b.index(number), last), b.index(self.stride)), dtype)
            for number in range(count)
        ]
        with b.if_else(b.icmp_signed("==", points, b.index(plan.lanes))) as (whole, rest):
            with whole:
                inner.store_transposed([inner.words(pointer, 0, plan.lanes) for pointer in columns], target, step)
            with rest:
                inner.copy_points(columns, target, points, step)
        b.ret_void()
        return b.function

    def store_transposed(self, columns: list[ll.Value], target: ll.Value, step: Int) -> None:
        """Lane k of every column to step k of the panel."""
        b, group, lanes = self.b, _GROUP_BYTES // self.itemsize, self.plan.lanes
        padded = [*columns, *[columns[-1]] * (group - len(columns))]
        rows = _transposed_groups(b, padded)
        for k in range(lanes):
            row = b.slice_lanes(rows[k % group], k // group * group, group)
            there = b.element(target, k * step, self.panels.dtype)
            if len(columns) == group:
                self.store_words(row, there, 0)
                continue
            for number in range(len(columns)):
                self.store_words(b.lane(row, number), there, number)

    def copy_points(self, columns: list[ll.Value], target: ll.Value, points: ll.Value, step: Int) -> None:
        """A block of fewer steps, one by one."""
        b = self.b

        def point(k: ll.Value) -> None:
            k = b.opaque(k)
            there = b.element(target, b.mul(k, b.index(step)), self.panels.dtype)
            for number, pointer in enumerate(columns):
                self.store_words(self.words(pointer, k, 1), there, number)

        b.loop(0, points, 1, point, name="point")


def _minimum(b: Emitter, x: ll.Value, y: ll.Value) -> ll.Value:
    return b.select(b.icmp_signed("<", x, y), x, y)


def _transposed_groups(b: Emitter, rows: list[ll.Value]) -> list[ll.Value]:
    """len(rows) vectors, each cut into groups of len(rows) lanes: lane j of group g of row i goes to lane i of group
    g of row j. Exchanges ever smaller halves."""
    lanes, half = lanes_of(rows[0]), len(rows) // 2

    def shuffle(x: ll.Value, y: ll.Value, order: list[int]) -> ll.Value:
        return b.shuffle_vector(x, y, lane_order(tuple(order)))

    while half:
        low = [lanes + k - half if k & half else k for k in range(lanes)]
        high = [lanes + k if k & half else k + half for k in range(lanes)]
        for i in range(len(rows)):
            if not i & half:
                x, y = rows[i], rows[i + half]
                rows[i], rows[i + half] = shuffle(x, y, low), shuffle(x, y, high)
        half //= 2
    return rows
