"""Phases that copy an operand into scratch in the order the microkernels read it, widened to the accumulators' type.

rhs goes into panels [batch point][n tile][k][columns], zero beyond the last column. lhs becomes dense rows
[batch point, m][k] with a gap after each, which cures row strides that are near a power of two.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import llvmlite.ir as ll

from flambeau.codegen.cpu.contraction_plan import Operand, Plan
from flambeau.codegen.cpu.emitter import Emitter, compute_type, constant, is_float, new_kernel, vector_type
from flambeau.codegen.cpu.microkernel import widen

__all__ = ["emit_lhs_packing", "emit_rhs_packing", "unflatten"]


def unflatten(b: Emitter, flat: ll.Value, extents: Sequence[int]) -> list[ll.Value]:
    """Row-major coordinates of position `flat` (not negative) in a box."""
    coordinates: list[ll.Value] = []
    for position, extent in reversed(list(enumerate(extents))):
        divisor = b.index(extent)
        coordinates.append(b.urem(flat, divisor) if position else flat)
        if position:
            flat = b.udiv(flat, divisor)
    return coordinates[::-1]


def offset_of(b: Emitter, coordinates: Sequence[ll.Value], strides: Sequence[int]) -> ll.Value:
    """sum(coordinate * stride) as an i64."""
    total = b.index(0)
    for coordinate, stride in zip(coordinates, strides, strict=True):
        if stride:
            total = b.add(total, b.mul(coordinate, b.index(stride), flags=("nsw",)), flags=("nsw",))
    return total


def emit_rhs_packing(module: ll.Module, name: str, plan: Plan) -> int:
    """Emit the phase `name`; returns its number of tasks: (batch point, n tile, chunk of the outermost k dim)."""
    b = new_kernel(module, name, plan.target)
    b.loop(b.kernel.begin, b.kernel.end, 1, lambda task: _RhsPanel(b, plan).copy(task), name="task")
    b.succeed()
    return plan.batch_points * plan.n_tiles * plan.pack_k_chunks


class _RhsPanel:
    """Copies one panel (or a chunk of its k points)."""

    def __init__(self, b: Emitter, plan: Plan) -> None:
        self.b, self.plan = b, plan
        self.source = plan.operand(plan.kernel.rhs)
        inner = plan.n_inner
        self.column_stride = 0 if inner is None else self.source.stride_of(inner)
        self.k_rows = [
            (plan.kernel.extents[d], self.source.stride_of(d), plan.rhs.stride_of(d)) for d in plan.kernel.k
        ] or [(1, 0, plan.columns)]

    def copy(self, task: ll.Value) -> None:
        b, plan = self.b, self.plan
        batch, tile, chunk = unflatten(b, task, [plan.batch_points, plan.n_tiles, plan.pack_k_chunks])
        *outer, along_n = unflatten(b, tile, [*plan.extents(plan.n_outer), plan.tiles_along_n])
        points = unflatten(b, batch, plan.extents(plan.kernel.batch))
        dims = (*plan.kernel.batch, *plan.n_outer)
        start = offset_of(b, [*points, *outer], [self.source.stride_of(d) for d in dims])
        first_column = b.mul(along_n, b.index(plan.columns))
        start = b.add(start, b.mul(first_column, b.index(self.column_stride)))
        start = b.add(start, b.index(self.source.offset))
        panel = b.add(b.mul(batch, b.index(plan.n_tiles)), tile)
        source = b.element(b.buffer(self.source.buffer), start, self.source.dtype)
        target = b.element(b.buffer(plan.rhs.buffer), b.mul(panel, b.index(plan.panel_elements)), plan.acc)
        first = b.mul(chunk, b.index(plan.pack_k_chunk))
        last = _minimum(b, b.add(first, b.index(plan.pack_k_chunk)), b.index(self.k_rows[0][0]))
        if plan.columns_in_last == plan.columns:
            self.walk_k(source, target, first, last, plan.columns)
            return
        is_last = b.icmp_signed("==", along_n, b.index(plan.tiles_along_n - 1))
        with b.if_else(is_last) as (then, otherwise):
            with then:
                self.walk_k(source, target, first, last, plan.columns_in_last)
            with otherwise:
                self.walk_k(source, target, first, last, plan.columns)

    def walk_k(self, source: ll.Value, target: ll.Value, first: ll.Value, last: ll.Value, columns: int) -> None:
        """All k points of the chunk; a run along which rhs is contiguous is transposed in vector blocks."""
        rows, b = self.k_rows, self.b
        contiguous = next((level for level, row in enumerate(rows) if row[1] == 1 and row[0] > 1), None)
        if self.column_stride in (0, 1) or self.plan.lanes == 1:
            contiguous = None
        order = [level for level in range(len(rows)) if level != contiguous]

        def nest(position: int, source: ll.Value, target: ll.Value) -> None:
            if position == len(order):
                if contiguous is None:
                    self.copy_row(source, target, columns)
                else:
                    start, stop = (first, last) if contiguous == 0 else (b.index(0), b.index(rows[contiguous][0]))
                    self.transpose_run(source, target, start, stop, rows[contiguous][2], columns)
                return
            level = order[position]
            extent, source_stride, target_stride = rows[level]
            start, stop = (first, last) if level == 0 else (b.index(0), b.index(extent))

            def body(i: ll.Value) -> None:
                nest(
                    position + 1,
                    b.element(source, b.mul(i, b.index(source_stride)), self.source.dtype),
                    b.element(target, b.mul(i, b.index(target_stride)), self.plan.acc),
                )

            b.loop(start, stop, 1, body, name="k")

        nest(0, source, target)

    def copy_row(self, source: ll.Value, target: ll.Value, columns: int) -> None:
        """One k point: all columns of the panel."""
        b, plan, lanes = self.b, self.plan, self.plan.lanes
        for at in range(0, plan.columns, lanes):
            active = max(0, min(lanes, columns - at))
            if active:
                value = b.load_strided(
                    source, at * self.column_stride, self.column_stride, self.source.dtype, lanes,
                    active if active < lanes else None,
                )  # fmt: skip
                value = widen(b, value, self.source.dtype, plan.acc)
            else:
                value = _zero(plan)
            b.store_vector(value, target, at, plan.acc)

    def transpose_run(
        self, source: ll.Value, target: ll.Value, start: ll.Value, stop: ll.Value, step: int, columns: int
    ) -> None:
        """Points [start, stop) of the k loop along which rhs is contiguous: blocks of lanes x lanes, then single ones."""
        b, lanes = self.b, self.plan.lanes
        blocks = b.add(start, b.and_(b.sub(stop, start), b.index(-lanes)))

        def block(k: ll.Value) -> None:
            here = b.element(source, k, self.source.dtype)
            there = b.element(target, b.mul(k, b.index(step)), self.plan.acc)
            for at in range(0, self.plan.columns, lanes):
                self.transpose_block(here, there, at, step, columns)

        def single(k: ll.Value) -> None:
            there = b.element(target, b.mul(k, b.index(step)), self.plan.acc)
            self.copy_row(b.element(source, k, self.source.dtype), there, columns)

        b.loop(start, blocks, lanes, block, name="block")
        b.loop(blocks, stop, 1, single, name="single")

    def transpose_block(self, source: ll.Value, target: ll.Value, at: int, step: int, columns: int) -> None:
        """lanes columns from column `at`, lanes k points."""
        b, plan, lanes = self.b, self.plan, self.plan.lanes
        vectors = []
        for column in range(at, at + lanes):
            if column >= columns:
                vectors.append(_zero(plan))
                continue
            loaded = b.load_vector(source, column * self.column_stride, self.source.dtype, lanes)
            vectors.append(widen(b, loaded, self.source.dtype, plan.acc))
        for k, vector in enumerate(_transposed(b, vectors)):
            b.store_vector(vector, target, k * step + at, plan.acc)


def emit_lhs_packing(module: ll.Module, name: str, plan: Plan) -> int:
    """Emit the phase `name`; returns its number of tasks: runs of rows."""
    b = new_kernel(module, name, plan.target)
    source, target = plan.operand(plan.kernel.lhs), plan.lhs
    dims = (*plan.kernel.batch, *plan.kernel.m)
    per_task = plan.pack_rows_per_task

    def row(number: ll.Value) -> None:
        at = offset_of(b, unflatten(b, number, plan.extents(dims)), [source.stride_of(d) for d in dims])
        start = b.element(b.buffer(source.buffer), b.add(at, b.index(source.offset)), source.dtype)
        out = b.element(b.buffer(target.buffer), b.mul(number, b.index(plan.packed_row)), plan.acc)
        _copy_k(b, plan, source, start, out)

    def task(number: ll.Value) -> None:
        first = b.mul(number, b.index(per_task))
        b.loop(first, _minimum(b, b.add(first, b.index(per_task)), b.index(plan.lhs_rows)), 1, row, name="row")

    b.loop(b.kernel.begin, b.kernel.end, 1, task, name="task")
    b.succeed()
    return -(-plan.lhs_rows // per_task)


def _copy_k(b: Emitter, plan: Plan, source: Operand, start: ll.Value, out: ll.Value) -> None:
    """One row of lhs over all k dims."""
    rows = [(plan.kernel.extents[d], source.stride_of(d), plan.lhs.stride_of(d)) for d in plan.kernel.k] or [(1, 0, 1)]
    lanes = plan.lanes

    def nest(level: int, start: ll.Value, out: ll.Value) -> None:
        extent, stride, step = rows[level]
        if level < len(rows) - 1:
            b.loop(0, extent, 1, lambda i: nest(
                level + 1,
                b.element(start, b.mul(i, b.index(stride)), source.dtype),
                b.element(out, b.mul(i, b.index(step)), plan.acc),
            ), name="k")  # fmt: skip
            return

        def copy(i: ll.Value, active: int | None = None) -> None:
            here = b.mul(i, b.index(stride))
            value = b.load_strided(start, here, stride, source.dtype, lanes, active)
            b.store_vector(widen(b, value, source.dtype, plan.acc), out, i, plan.acc, active)

        whole = extent - extent % lanes
        b.loop(0, whole, lanes, lambda i: copy(i), name="copy")
        if extent > whole:
            copy(b.index(whole), extent - whole)

    nest(0, start, out)


def _minimum(b: Emitter, x: ll.Value, y: ll.Value) -> ll.Value:
    return b.select(b.icmp_signed("<", x, y), x, y)


def _zero(plan: Plan) -> ll.Value:
    return constant(compute_type(plan.acc), 0.0 if is_float(plan.acc) else 0, plan.lanes)


def _transposed(b: Emitter, rows: list[ll.Value]) -> list[ll.Value]:
    """A square block of vectors, transposed by exchanging ever smaller halves."""
    lanes = len(rows)
    step: Callable[[ll.Value, ll.Value, list[int]], ll.Value] = lambda x, y, order: b.shuffle_vector(
        x, y, ll.Constant(vector_type(ll.IntType(32), lanes), order)
    )
    half = lanes // 2
    while half:
        low = [lanes + k - half if k & half else k for k in range(lanes)]
        high = [lanes + k if k & half else k + half for k in range(lanes)]
        for i in range(lanes):
            if not i & half:
                x, y = rows[i], rows[i + half]
                rows[i], rows[i + half] = step(x, y, low), step(x, y, high)
        half //= 2
    return rows
