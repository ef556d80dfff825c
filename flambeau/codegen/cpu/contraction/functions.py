"""ContractionKernel (scheduled) -> LLVM IR phases: pack what the schedule packs, sum tiles, merge split sums.

One machinery serves GEMM, batched GEMM, convolution on a padded image and both its gradients: each is a sum over k
with static strides. The schedule says what to tile, pack, block and split; nothing is decided here.
"""

from __future__ import annotations

from dataclasses import replace

import llvmlite.ir as ll

from flambeau.codegen.artifact import Phase, status_message
from flambeau.codegen.cpu.contraction.epilogue import fits_registers
from flambeau.codegen.cpu.contraction.microkernel import epilogue_addresses, microkernel
from flambeau.codegen.cpu.contraction.packing import emit_packing, offset_of, packing_tasks, unflatten
from flambeau.codegen.cpu.contraction.panels import Panels
from flambeau.codegen.cpu.contraction.plan import Plan
from flambeau.codegen.cpu.contraction.tile_epilogue import call_tile_epilogue, tile_epilogue
from flambeau.codegen.cpu.contraction.tile_sums import Tile
from flambeau.codegen.cpu.contraction.tiles import (
    Position,
    address_pointer,
    clipped,
    lhs_pointer,
    rhs_pointer,
    row_shapes,
    walk_tiles,
)
from flambeau.codegen.cpu.contraction.winograd import emit_winograd, phases_of_winograd
from flambeau.codegen.cpu.llvm.emitter import I64, Emitter, is_float, new_kernel, storage_bytes
from flambeau.codegen.cpu.llvm.numbers import Int
from flambeau.ir.kernel import ContractionKernel, WinogradSchedule
from flambeau.ir.records import dataclass
from flambeau.ir.target import Target

__all__ = ["emit", "phases_of"]

_STACK_BYTES = 256 << 10  # what the kernel ABI allows


def emit(
    kernel: ContractionKernel, module: ll.Module, symbol_prefix: str, target: Target
) -> tuple[list[Phase], tuple[int, ...]]:
    """Add the kernel's functions to `module`. Returns its phases in order and the bytes of each scratch buffer (these
    follow the kernel's params in the table of buffers). A contraction that stores nothing has no phases.

    The kernel must be scheduled: see passes/cpu/schedule_contraction.py."""
    if isinstance(kernel.schedule, WinogradSchedule):
        return emit_winograd(kernel, module, symbol_prefix, target)
    plan = Plan(kernel, target)
    if 0 in plan.extents((*kernel.batch, *kernel.m, *kernel.n)):
        return [], ()
    for side, panels in (("rhs", plan.rhs_panels), ("lhs", plan.lhs_panels)):
        if panels is not None:
            emit_packing(module, f"{symbol_prefix}_{side}", plan, panels)
    result = _result(plan)
    epilogue = None if result == "registers" else tile_epilogue(module, f"{symbol_prefix}_epilogue", plan)
    name = f"{symbol_prefix}_sum"
    _Sums(plan, module, name, result, epilogue).emit()
    if plan.partial_buffer is not None:
        assert epilogue is not None, "split sums go through memory"
        _emit_merge(plan, module, f"{symbol_prefix}_merge", epilogue)
    if kernel.sizes:
        return [], ()                   # what has runtime numbers is launched with those of another kernel
    return phases_of(kernel, kernel, symbol_prefix, target)


def phases_of(
    kernel: ContractionKernel, general: ContractionKernel, symbol_prefix: str, target: Target
) -> tuple[list[Phase], tuple[int, ...]]:
    """Phases and scratch of `kernel`, whose code is that of `general`, the same but for runtime numbers."""
    if isinstance(kernel.schedule, WinogradSchedule):
        return phases_of_winograd(kernel, symbol_prefix, target)
    plan = Plan(kernel, target)
    if plan.tasks == 0:
        return [], ()
    phases = [
        replace(
            _phase(plan, f"{symbol_prefix}_{side}", packing_tasks(plan, panels)),
            packs=(panels.source.buffer, panels.buffer),
            layout=_layout(plan, panels),
        )
        for side, panels in (("rhs", plan.rhs_panels), ("lhs", plan.lhs_panels))
        if panels is not None
    ]
    phases.append(_phase(plan, f"{symbol_prefix}_sum", plan.tasks * plan.splits))
    if plan.splits > 1:
        phases.append(_phase(plan, f"{symbol_prefix}_merge", plan.tasks))
    return phases, plan.scratch_bytes


def _layout(plan: Plan, panels: Panels) -> str:
    """All that decides which elements of an operand panels hold, and where."""
    source = panels.source
    outer = [(extent, source.stride_of(d)) for d, extent in zip(panels.outer_dims, panels.outer_extents, strict=True)]
    inner = None if panels.inner is None else (panels.inner_extent, source.stride_of(panels.inner))
    k = [(extent, source.stride_of(d)) for d, extent in zip(plan.kernel.k, plan.extents(plan.kernel.k), strict=True)]
    return repr((source.dtype, panels.dtype, source.offset, outer, inner, k, panels.width, panels.group))


def _result(plan: Plan) -> str:
    """Where the sums of a tile go: see `Tile.result`."""
    if plan.is_blocked:
        return "update"
    return "registers" if plan.splits == 1 and fits_registers(plan.kernel) else "memory"


def _phase(plan: Plan, symbol: str, tasks: Int) -> Phase:
    assert isinstance(tasks, int), "what is launched has no names"
    statuses = sorted(
        {int(i.attr) for i in plan.kernel.instrs() if i.op == "check" and isinstance(i.attr, int)}
    )
    return Phase(
        symbol=symbol,
        tasks=tasks,
        params=tuple(range(len(plan.kernel.params) + plan.n_scratch)),
        grain=plan.schedule.grain,
        parallel=plan.schedule.parallel and tasks > 1,
        errors=tuple((status, status_message(status)) for status in statuses),
    )


@dataclass
class _Sums:
    """The phase that sums tiles. Its tasks are those of the plan, once for each split of k."""

    plan: Plan
    module: ll.Module
    name: str
    result: str
    epilogue: ll.Function | None

    def emit(self) -> None:
        plan = self.plan
        shapes = [
            Tile(rows, columns.count, self.result, columns.masked)
            for rows in row_shapes(plan)
            for columns in plan.column_shapes
        ]
        self.functions = [
            microkernel(self.module, f"{self.name}_tile{number}", plan, shape)
            for number, shape in enumerate(shapes)
        ]
        self.b = b = new_kernel(self.module, self.name, plan.target, plan.kernel)
        # Splits keep their sums in scratch; else a task has a place on the stack for the tile, or all its tiles.
        tiles = 1
        if plan.is_blocked:
            m_block, n_block = plan.schedule.m_block, plan.schedule.n_block
            assert isinstance(m_block, int) and isinstance(n_block, int), "a task keeps so many tiles on the stack"
            tiles = m_block * n_block
        on_stack = self.result != "registers" and plan.partial_buffer is None
        fits = tiles * plan.tile_elements * storage_bytes(plan.acc) <= _STACK_BYTES
        assert fits or not on_stack, "the sums that a task keeps between blocks of k fit the stack"
        self.memory = b.stack(plan.acc, tiles * plan.tile_elements) if on_stack else None
        b.loop(b.kernel.begin, b.kernel.end, 1, self.task, name="task")
        b.succeed()

    def task(self, number: ll.Value) -> None:
        split, rest = self.b.index(0), self.b.opaque(number)
        if self.plan.splits > 1:
            split, rest = unflatten(self.b, rest, [self.plan.splits, self.plan.tasks])
        if self.plan.is_blocked:
            self.sum_in_blocks(rest, split)
        else:
            walk_tiles(self.b, self.plan, rest, lambda where: self.sum_tile(where, split, split, None))

    def sum_in_blocks(self, task: ll.Value, split: ll.Value) -> None:
        """Visit all tiles of the task for one block of k after another, then run the epilogue on each."""
        b, plan = self.b, self.plan
        first = b.mul(split, b.index(plan.blocks_per_split))
        last = b.add(first, clipped(b, first, b.index(plan.blocks_per_split), b.index(plan.k_blocks)))

        def block(number: ll.Value) -> None:
            again = b.icmp_signed(">", number, first)
            walk_tiles(b, plan, task, lambda where: self.sum_tile(where, split, number, again))

        b.loop(first, last, 1, block, name="block")
        if self.memory is not None:
            walk_tiles(b, plan, task, self.finish)

    def sum_tile(self, where: Position, split: ll.Value, block: ll.Value, again: ll.Value | None) -> None:
        """Sum one tile over block number `block` of k. again: whether an earlier block was summed already."""
        b, plan = self.b, self.plan
        lhs_k, rhs_k, count = self.block_at(block)
        arguments = [lhs_pointer(b, plan, where, lhs_k), rhs_pointer(b, plan, where, rhs_k), count]
        if self.result == "registers":
            arguments += [address_pointer(b, plan, address, where) for address in epilogue_addresses(plan)]
        else:
            arguments.append(self.tile_memory(where, split))
        if again is not None:
            arguments.append(again)
        self.call_microkernel(where, arguments)
        if self.result == "memory" and self.memory is not None:
            self.finish(where)

    def tile_memory(self, where: Position, split: ll.Value) -> ll.Value:
        """Where the tile's sums are kept."""
        b, plan = self.b, self.plan
        if plan.partial_buffer is not None:
            return _partial_sums(b, plan, where, b.mul(split, b.index(plan.partial_elements)))
        assert self.memory is not None, "sums that do not end in registers or in scratch are on the stack"
        if not plan.is_blocked:
            return self.memory
        return b.element(self.memory, b.mul(where.slot, b.index(plan.tile_elements)), plan.acc)

    def finish(self, where: Position) -> None:
        assert self.epilogue is not None, "sums in memory have an epilogue function"
        call_tile_epilogue(self.b, self.epilogue, where, self.tile_memory(where, self.b.index(0)))

    def block_at(self, block: ll.Value) -> tuple[ll.Value, ll.Value, ll.Value]:
        """Offsets of lhs and rhs, and points of the microkernel's outermost k loop, in block `block`."""
        b, plan = self.b, self.plan
        if plan.k_blocks == 1:
            return b.index(0), b.index(0), b.index(plan.k_loops[0][0])
        *outer, along = unflatten(b, block, [*(loop[0] for loop in plan.outer_loops), plan.blocks_along])
        extent, lhs_stride, rhs_stride = plan.k_loops[plan.block_level]
        first = b.mul(along, b.index(plan.k_step))
        lhs = offset_of(b, [*outer, first], [*(loop[1] for loop in plan.outer_loops), lhs_stride])
        rhs = offset_of(b, [*outer, first], [*(loop[2] for loop in plan.outer_loops), rhs_stride])
        return lhs, rhs, clipped(b, first, b.index(plan.k_step), b.index(extent))

    def call_microkernel(self, where: Position, arguments: list[ll.Value]) -> None:
        """Call the microkernel of the tile's shape."""
        b, plan, functions = self.b, self.plan, self.functions
        if plan.column_shapes[-1].masked:
            arguments.append(b.sub(where.n_size, b.index(plan.column_shapes[-1].count - plan.lanes)))
        arguments += [b.kernel.sizes] if plan.kernel.sizes else []
        if len(functions) == 1:
            b.call(functions[0], arguments, cconv="fastcc")
            return
        after, blocks = b.append_basic_block("after"), [b.append_basic_block("shape") for _ in functions]
        switch = b.switch(where.shape, blocks[0])
        for number, (block, function) in enumerate(zip(blocks, functions, strict=True)):
            if number:
                switch.add_case(ll.Constant(I64, number), block)
            b.position_at_end(block)
            b.call(function, arguments, cconv="fastcc")
            b.branch(after)
        b.position_at_end(after)


def _partial_sums(b: Emitter, plan: Plan, where: Position, first: ll.Value) -> ll.Value:
    """The tile's place in the partial sums that start at element `first` of the scratch."""
    assert plan.partial_buffer is not None, "only split sums have scratch"
    at = b.add(first, b.mul(where.number, b.index(plan.tile_elements)))
    return b.element(b.buffer(plan.partial_buffer), at, plan.acc)


def _emit_merge(plan: Plan, module: ll.Module, name: str, epilogue: ll.Function) -> None:
    """The phase that adds the partial sums of all splits, in order, and runs the epilogue."""
    b = new_kernel(module, name, plan.target, plan.kernel)
    memory = b.stack(plan.acc, plan.tile_elements)
    lanes = plan.lanes if plan.tile_elements % plan.lanes == 0 else 1

    def merge(where: Position) -> None:
        parts = _partial_sums(b, plan, where, b.index(0))

        def add(at: ll.Value) -> None:
            at = b.opaque(at)
            total = b.load_vector(parts, at, plan.acc, lanes)
            for split in range(1, plan.splits):
                term = b.load_vector(
                    b.element(parts, split * plan.partial_elements, plan.acc), at, plan.acc, lanes
                )
                total = b.fadd(total, term) if is_float(plan.acc) else b.add(total, term)
            b.store_vector(total, memory, at, plan.acc)

        b.loop(0, plan.tile_elements, lanes, add, name="add")
        call_tile_epilogue(b, epilogue, where, memory)

    b.loop(b.kernel.begin, b.kernel.end, 1, lambda task: walk_tiles(b, plan, b.opaque(task), merge), name="task")
    b.succeed()
