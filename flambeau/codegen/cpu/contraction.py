"""ContractionKernel (scheduled) -> LLVM IR phases: pack what the schedule packs, sum tiles, finish split sums.

One machinery serves GEMM, batched GEMM, convolution on a padded image and both its gradients: each is a sum over k
with static strides. The schedule says what to tile, pack, block and split; nothing is decided here.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import llvmlite.ir as ll

from flambeau.codegen.cpu.artifact import Phase, status_message
from flambeau.codegen.cpu.contraction_plan import Operand, Panels, Plan
from flambeau.codegen.cpu.emitter import I32, I64, PTR, Emitter, is_float, new_kernel
from flambeau.codegen.cpu.epilogue import EpiloguePoint, evaluate_epilogue, fits_registers
from flambeau.codegen.cpu.microkernel import Tile, epilogue_addresses, internal_function, microkernel
from flambeau.codegen.cpu.packing import emit_packing, offset_of, panel_offset, unflatten
from flambeau.ir.kernel import Address, ContractionKernel
from flambeau.ir.target import Target

__all__ = ["emit"]


def emit(
    kernel: ContractionKernel, module: ll.Module, symbol_prefix: str, target: Target
) -> tuple[list[Phase], tuple[int, ...]]:
    """Add the kernel's functions to `module`; returns its phases in order and the bytes of each scratch buffer,
    which follow the kernel's params in the table of buffers. A contraction without points has no phases."""
    plan = Plan(kernel, target)
    if plan.tasks == 0:
        return [], ()
    emitter = _Contraction(plan, module, symbol_prefix)
    return emitter.phases(), plan.scratch_bytes


@dataclass(frozen=True)
class _Position:
    """Where a tile is: coordinates of its first point, its extent along each m dim and n, all runtime values.
    variant: number of its shape in `_Contraction.shapes`."""

    batch: list[ll.Value]
    m: list[ll.Value]
    n_outer: list[ll.Value]
    n: ll.Value
    m_sizes: list[ll.Value]
    n_size: ll.Value
    number: ll.Value
    variant: ll.Value


class _Contraction:
    """Emits the phases of one plan."""

    def __init__(self, plan: Plan, module: ll.Module, prefix: str) -> None:
        self.plan, self.module, self.prefix = plan, module, prefix
        self.is_split = plan.splits > 1
        in_registers = not self.is_split and not plan.is_blocked and fits_registers(plan.kernel)
        self.result = "registers" if in_registers else "update" if plan.is_blocked else "memory"
        statuses = sorted({int(i.attr) for i in plan.kernel.instrs() if i.op == "check" and isinstance(i.attr, int)})
        self.errors = tuple((status, status_message(status)) for status in statuses)
        self.epilogue: ll.Function | None = None

    def phases(self) -> list[Phase]:
        plan, phases = self.plan, []
        schedule = plan.schedule
        for side, panels in (("rhs", plan.rhs_panels), ("lhs", plan.lhs_panels)):
            if panels is not None:
                name = f"{self.prefix}_{side}"
                phases.append(self.phase(name, emit_packing(self.module, name, plan, panels), 1))
        if self.result != "registers":
            self.epilogue = self.emit_epilogue()
        self.emit_sums(f"{self.prefix}_sum")
        phases.append(self.phase(f"{self.prefix}_sum", plan.tasks * plan.splits, schedule.grain))
        if self.is_split:
            self.emit_merge(f"{self.prefix}_merge")
            phases.append(self.phase(f"{self.prefix}_merge", plan.tasks, schedule.grain))
        return phases

    def phase(self, symbol: str, tasks: int, grain: int) -> Phase:
        params = tuple(range(len(self.plan.kernel.params) + len(self.plan.scratch_bytes)))
        parallel = self.plan.schedule.parallel and tasks > 1
        return Phase(symbol=symbol, tasks=tasks, grain=grain, parallel=parallel, params=params, errors=self.errors)

    # -- tile shapes --------------------------------------------------------------------------------------------

    def row_shapes(self) -> list[tuple[int, ...]]:
        """Row shapes of tiles, numbered by one bit per m dim that its tile does not divide (set: the short one)."""
        choices = []
        for extent, tile in zip(self.plan.extents(self.plan.kernel.m), self.plan.schedule.m_tile, strict=True):
            whole, rest = [tile] if extent >= tile else [], [extent % tile] if extent % tile else []
            choices.append(whole + rest)
        return list(itertools.product(*choices))

    def column_shapes(self) -> list[int]:
        """Columns of a whole tile and of the last one, if it is shorter (or the only one)."""
        plan = self.plan
        last = [plan.columns_in_last] if plan.columns_in_last != plan.columns else []
        return last if plan.tiles_along_n == 1 and last else [plan.columns, *last]

    def shapes(self) -> list[Tile]:
        return [Tile(rows, columns, self.result) for rows in self.row_shapes() for columns in self.column_shapes()]

    # -- phase: sums --------------------------------------------------------------------------------------------

    def emit_sums(self, name: str) -> None:
        plan = self.plan
        functions = [
            microkernel(self.module, f"{name}_tile{i}", plan, shape) for i, shape in enumerate(self.shapes())
        ]
        b = new_kernel(self.module, name, plan.target)
        memory = None
        if self.result != "registers" and not self.is_split:
            tiles = plan.schedule.m_block * plan.schedule.n_block if plan.is_blocked else 1
            memory = b.stack(plan.acc, tiles * plan.tile_elements)

        def task(number: ll.Value) -> None:
            split, rest = unflatten(b, number, [plan.splits, plan.tasks])
            if plan.is_blocked:
                self.sum_in_blocks(b, functions, rest, memory, split)
            else:
                self.walk_tiles(b, rest, lambda where, slot: self.visit(b, functions, where, slot, memory, split, split, None))

        b.loop(b.kernel.begin, b.kernel.end, 1, task, name="task")
        b.succeed()

    def sum_in_blocks(
        self, b: Emitter, functions: list[ll.Function], task: ll.Value, memory: ll.Value | None, split: ll.Value
    ) -> None:
        """Visit all tiles of the task for one block of k after another, then run the epilogue on each."""
        plan = self.plan
        first = b.mul(split, b.index(plan.blocks_per_split))
        last = b.add(first, self.clipped(b, first, plan.blocks_per_split, b.index(plan.k_blocks)))

        def block(number: ll.Value) -> None:
            again = b.icmp_signed(">", number, first)
            self.walk_tiles(b, task, lambda where, slot: self.visit(b, functions, where, slot, memory, split, number, again))

        b.loop(first, last, 1, block, name="block")
        if memory is not None:
            self.walk_tiles(b, task, lambda where, slot: self.call_epilogue(
                b, where, b.element(memory, b.mul(slot, b.index(plan.tile_elements)), plan.acc)))

    def visit(
        self,
        b: Emitter,
        functions: list[ll.Function],
        where: _Position,
        slot: ll.Value,
        memory: ll.Value | None,
        split: ll.Value,
        block: ll.Value,
        again: ll.Value | None,
    ) -> None:
        """Sum one tile over block number `block` of k."""
        plan = self.plan
        lhs_k, rhs_k, count = self.block_at(b, block)
        lhs = self.operand_pointer(b, plan.lhs, self.lhs_coordinates(where), plan.lhs_panels, lhs_k)
        rhs = self.operand_pointer(b, plan.rhs, self.rhs_coordinates(where), plan.rhs_panels, rhs_k)
        arguments = [lhs, rhs, count]
        if self.result == "registers":
            arguments += [self.address_pointer(b, a, where) for a in epilogue_addresses(plan)]
        elif plan.partial_buffer is not None:
            at = b.add(b.mul(split, b.index(plan.partial_elements)), b.mul(where.number, b.index(plan.tile_elements)))
            arguments.append(b.element(b.buffer(plan.partial_buffer), at, plan.acc))
        else:
            assert memory is not None, "tiles that do not end in registers have memory"
            offset = b.mul(slot, b.index(plan.tile_elements)) if plan.is_blocked else b.index(0)
            arguments.append(b.element(memory, offset, plan.acc))
        if again is not None:
            arguments.append(again)
        self.call_variant(b, functions, where.variant, arguments)
        if self.result == "memory" and memory is not None:
            self.call_epilogue(b, where, memory)

    def block_at(self, b: Emitter, block: ll.Value) -> tuple[ll.Value, ll.Value, ll.Value]:
        """Offsets of lhs and rhs, and points of the microkernel's outermost k loop, in block `block`."""
        plan = self.plan
        if plan.k_blocks == 1:
            return b.index(0), b.index(0), b.index(plan.k_loops[0][0])
        *outer, along = unflatten(b, block, [*(loop[0] for loop in plan.outer_loops), plan.blocks_along])
        extent, lhs_stride, rhs_stride = plan.k_loops[plan.block_level]
        first = b.mul(along, b.index(plan.k_step))
        lhs = offset_of(b, [*outer, first], [*(loop[1] for loop in plan.outer_loops), lhs_stride])
        rhs = offset_of(b, [*outer, first], [*(loop[2] for loop in plan.outer_loops), rhs_stride])
        return lhs, rhs, self.clipped(b, first, plan.k_step, b.index(extent))

    def call_variant(self, b: Emitter, functions: list[ll.Function], variant: ll.Value, arguments: list[ll.Value]) -> None:
        """Call the microkernel of the tile's shape."""
        if len(functions) == 1:
            b.call(functions[0], arguments, cconv="fastcc")
            return
        after, blocks = b.append_basic_block("after"), [b.append_basic_block("shape") for _ in functions]
        switch = b.switch(variant, blocks[0])
        for number, (block, function) in enumerate(zip(blocks, functions, strict=True)):
            if number:
                switch.add_case(ll.Constant(I64, number), block)
            b.position_at_end(block)
            b.call(function, arguments, cconv="fastcc")
            b.branch(after)
        b.position_at_end(after)

    # -- walking tiles ------------------------------------------------------------------------------------------

    def walk_tiles(self, b: Emitter, task: ll.Value, visit) -> None:
        """Call visit(position, slot) for each tile of a task: m tiles, and inside them n tiles. slot counts tiles."""
        plan, schedule = self.plan, self.plan.schedule
        batch, n_block, m_block = unflatten(b, task, [plan.batch_points, plan.n_blocks, plan.m_blocks])
        batch_point = unflatten(b, batch, plan.extents(plan.kernel.batch))
        m_first, n_first = b.mul(m_block, b.index(schedule.m_block)), b.mul(n_block, b.index(schedule.n_block))
        m_last = b.add(m_first, self.clipped(b, m_first, schedule.m_block, b.index(plan.m_tiles)))
        n_last = b.add(n_first, self.clipped(b, n_first, schedule.n_block, b.index(plan.n_tiles)))

        def m_tile(m_number: ll.Value) -> None:
            m, m_sizes, row_shape = self.rows_at(b, m_number)
            base = b.mul(b.add(b.mul(batch, b.index(plan.m_tiles)), m_number), b.index(plan.n_tiles))
            base_slot = b.mul(b.sub(m_number, m_first), b.index(schedule.n_block))

            def n_tile(n_number: ll.Value) -> None:
                n_outer, n, n_size, is_last = self.columns_at(b, n_number)
                variant = self.variant(b, row_shape, is_last)
                slot = b.add(base_slot, b.sub(n_number, n_first))
                number = b.add(base, n_number)
                visit(_Position(batch_point, m, n_outer, n, m_sizes, n_size, number, variant), slot)

            self.range(b, n_first, n_last, schedule.n_block, n_tile, "n")

        self.range(b, m_first, m_last, schedule.m_block, m_tile, "m")

    def range(self, b: Emitter, first: ll.Value, last: ll.Value, at_most: int, body, name: str) -> None:
        if at_most == 1:
            body(first)
        else:
            b.loop(first, last, 1, body, name=name)

    def rows_at(self, b: Emitter, number: ll.Value) -> tuple[list[ll.Value], list[ll.Value], ll.Value]:
        """First point and extents of m tile `number`, and the number of its row shape."""
        plan = self.plan
        starts, sizes, shape = [], [], b.index(0)
        extents, tiles = plan.extents(plan.kernel.m), plan.schedule.m_tile
        for coordinate, extent, tile in zip(unflatten(b, number, plan.tiles_along_m), extents, tiles, strict=True):
            start = b.mul(coordinate, b.index(tile))
            starts.append(start)
            if extent % tile == 0 or extent < tile:
                sizes.append(b.index(min(tile, extent)))
                continue
            is_short = b.icmp_signed("==", coordinate, b.index(extent // tile))
            sizes.append(b.select(is_short, b.index(extent % tile), b.index(tile)))
            shape = b.add(b.mul(shape, b.index(2)), b.zext(is_short, I64))
        return starts, sizes, shape

    def columns_at(self, b: Emitter, number: ll.Value) -> tuple[list[ll.Value], ll.Value, ll.Value, ll.Value | None]:
        """Outer n coordinates, first column, columns, and whether this is a shorter last tile (None: never)."""
        plan = self.plan
        *outer, along = unflatten(b, number, [*plan.extents(plan.n_outer), plan.tiles_along_n])
        first = b.mul(along, b.index(plan.columns))
        if len(self.column_shapes()) == 1:
            return outer, first, b.index(self.column_shapes()[0]), None
        is_last = b.icmp_signed("==", along, b.index(plan.tiles_along_n - 1))
        return outer, first, b.select(is_last, b.index(plan.columns_in_last), b.index(plan.columns)), is_last

    def variant(self, b: Emitter, row_shape: ll.Value, is_last: ll.Value | None) -> ll.Value:
        if is_last is None:
            return row_shape
        return b.add(b.mul(row_shape, b.index(2)), b.zext(is_last, I64))

    def clipped(self, b: Emitter, first: ll.Value, size: int, end: ll.Value) -> ll.Value:
        """min(size, end - first), and no less than 0."""
        rest = self.maximum(b, b.sub(end, first), b.index(0))
        return b.select(b.icmp_signed("<", rest, b.index(size)), rest, b.index(size))

    def maximum(self, b: Emitter, x: ll.Value, y: ll.Value) -> ll.Value:
        return b.select(b.icmp_signed(">", x, y), x, y)

    # -- pointers -----------------------------------------------------------------------------------------------

    def lhs_coordinates(self, where: _Position) -> list[tuple[int, ll.Value]]:
        kernel = self.plan.kernel
        return list(zip((*kernel.batch, *kernel.m), (*where.batch, *where.m), strict=True))

    def rhs_coordinates(self, where: _Position) -> list[tuple[int, ll.Value]]:
        kernel, plan = self.plan.kernel, self.plan
        inner = [] if plan.n_inner is None else [(plan.n_inner, where.n)]
        return [*zip((*kernel.batch, *plan.n_outer), (*where.batch, *where.n_outer), strict=True), *inner]

    def operand_pointer(
        self, b: Emitter, operand: Operand, coordinates: Sequence[tuple[int, ll.Value]], panels: Panels | None, k_offset: ll.Value
    ) -> ll.Value:
        """The first element of a tile's operand, `k_offset` elements into k."""
        if panels is not None:
            value_of = dict(coordinates)
            first = b.index(0) if panels.inner is None else value_of[panels.inner]
            at = panel_offset(b, panels, [value_of[d] for d in panels.outer_dims], first)
        else:
            at = offset_of(b, [value for _, value in coordinates], [operand.stride_of(d) for d, _ in coordinates])
            at = b.add(at, b.index(operand.offset))
        return b.element(b.buffer(operand.buffer), b.add(at, k_offset), operand.dtype)

    def address_pointer(self, b: Emitter, address: Address, where: _Position) -> ll.Value:
        """Element of an epilogue address at the tile's first point, dynamic terms left out."""
        dtype = self.plan.kernel.params[address.buffer].dtype.name
        coordinates = [*self.lhs_coordinates(where), *self.rhs_coordinates(where)[len(where.batch) :]]
        at = offset_of(b, [v for _, v in coordinates], [address.stride_of(d) for d, _ in coordinates])
        return b.element(b.buffer(address.buffer), b.add(at, b.index(address.offset)), dtype)

    # -- epilogue over a tile in memory -------------------------------------------------------------------------

    def call_epilogue(self, b: Emitter, where: _Position, tile: ll.Value) -> None:
        assert self.epilogue is not None, "emitted whenever tiles end in memory"
        arguments = [*b.function.args[:3], tile, *where.batch, *where.m, *where.n_outer, where.n, *where.m_sizes, where.n_size]
        status = b.call(self.epilogue, arguments, cconv="fastcc")
        with b.if_then(b.icmp_signed("!=", status, ll.Constant(I32, 0)), likely=False):
            b.ret(status)

    def emit_epilogue(self) -> ll.Function:
        """`i32 (ctx, buffers, sizes, tile, coordinates..., sizes...)`: every row of the tile, vector by vector."""
        plan = self.plan
        n_m, n_batch, n_outer = len(plan.kernel.m), len(plan.kernel.batch), len(plan.n_outer)
        counts = [n_batch, n_m, n_outer, 1, n_m, 1]
        b = internal_function(self.module, f"{self.prefix}_epilogue", I32, [PTR] * 4 + [I64] * sum(counts), plan)
        values = iter(b.function.args[4:])
        batch, m, outer, (n,), m_sizes, (n_size,) = ([next(values) for _ in range(c)] for c in counts)
        where = _Position(batch, m, outer, n, m_sizes, n_size, b.index(0), b.index(0))
        origin = {a: self.address_pointer(b, a, where) for a in epilogue_addresses(plan)}
        index = dict(zip((*plan.kernel.batch, *plan.kernel.m, *plan.n_outer), (*batch, *m, *outer), strict=True))
        self.epilogue_rows(b, where, b.function.args[3], origin, index, 0)
        b.succeed()
        return b.function

    def epilogue_rows(
        self,
        b: Emitter,
        where: _Position,
        tile: ll.Value,
        pointers: dict[Address, ll.Value],
        index: dict[int, ll.Value],
        level: int,
    ) -> None:
        """Loop over the rows of m dim `level` and inward."""
        plan = self.plan
        if level == len(plan.kernel.m):
            self.epilogue_columns(b, where, tile, pointers, index)
            return
        dim = plan.kernel.m[level]

        # Rows of a tile are numbered by its own extents, which are shorter at the edges.
        def row(i: ll.Value) -> None:
            inner_rows = b.index(plan.row_stride)
            for size in where.m_sizes[level + 1 :]:
                inner_rows = b.mul(inner_rows, size)
            moved = self.moved(b, pointers, dim, i)
            here = b.element(tile, b.mul(i, inner_rows), plan.acc)
            self.epilogue_rows(b, where, here, moved, index | {dim: b.add(index[dim], i)}, level + 1)

        b.loop(0, where.m_sizes[level], 1, row, name="row")

    def epilogue_columns(
        self, b: Emitter, where: _Position, row: ll.Value, pointers: dict[Address, ll.Value], index: dict[int, ll.Value]
    ) -> None:
        """One row: whole vectors, then the short one that only a last tile can have."""
        plan, lanes = self.plan, self.plan.epilogue_lanes
        tails = sorted({size % lanes for size in self.column_shapes()} - {0})

        def vector(column: ll.Value, active: int) -> None:
            moved = pointers if plan.n_inner is None else self.moved(b, pointers, plan.n_inner, column)
            known = index if plan.n_inner is None else index | {plan.n_inner: b.add(where.n, column)}
            acc = b.load_vector(row, column, plan.acc, lanes)
            zero = b.index(0)
            point = EpiloguePoint(acc, lanes, active, plan.n_inner, lambda a: moved[a], lambda d: known.get(d, zero))
            evaluate_epilogue(b, plan.kernel, point)

        if any(size >= lanes for size in self.column_shapes()):
            whole = b.and_(where.n_size, b.index(-lanes))
            b.loop(0, whole, lanes, lambda column: vector(column, lanes), name="column")
        for tail in tails:
            with b.if_then(b.icmp_signed("==", b.and_(where.n_size, b.index(lanes - 1)), b.index(tail))):
                vector(b.and_(where.n_size, b.index(-lanes)), tail)

    def moved(self, b: Emitter, pointers: dict[Address, ll.Value], dim: int, steps: ll.Value) -> dict[Address, ll.Value]:
        """Every pointer `steps` points further along `dim`."""
        result = {}
        for address, pointer in pointers.items():
            stride = address.stride_of(dim)
            dtype = self.plan.kernel.params[address.buffer].dtype.name
            result[address] = b.element(pointer, b.mul(steps, b.index(stride)), dtype) if stride else pointer
        return result

    # -- phase: merge of split sums -----------------------------------------------------------------------------

    def emit_merge(self, name: str) -> None:
        """Add the partial sums of every split in order, then run the epilogue."""
        plan = self.plan
        b = new_kernel(self.module, name, plan.target)
        memory = b.stack(plan.acc, plan.tile_elements)
        assert plan.partial_buffer is not None, "split sums are in scratch"
        partial = b.buffer(plan.partial_buffer)
        width = next(w for w in (plan.lanes, plan.row_stride, 1) if plan.tile_elements % w == 0 and w <= plan.lanes)

        def merge(where: _Position, slot: ll.Value) -> None:
            base = b.element(partial, b.mul(where.number, b.index(plan.tile_elements)), plan.acc)

            def add(i: ll.Value, split: int, total: ll.Value) -> ll.Value:
                term = b.load_vector(b.element(base, split * plan.partial_elements, plan.acc), i, plan.acc, width)
                return b.fadd(total, term) if is_float(plan.acc) else b.add(total, term)

            def sum_vector(i: ll.Value) -> None:
                total = b.load_vector(base, i, plan.acc, width)
                for split in range(1, plan.splits):
                    total = add(i, split, total)
                b.store_vector(total, memory, i, plan.acc)

            b.loop(0, plan.tile_elements, width, sum_vector, name="sum")
            self.call_epilogue(b, where, memory)

        b.loop(b.kernel.begin, b.kernel.end, 1, lambda task: self.walk_tiles(b, task, merge), name="task")
        b.succeed()
