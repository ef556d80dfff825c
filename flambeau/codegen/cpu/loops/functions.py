"""LoopKernel -> LLVM IR: one function of the kernel ABI, already vectorised.

    for each task                                   tasks.py
      for each vector step of a blocked dim         strips.py     (column mode: every value is a vector)
        for each stage
          loops over its dims                       strips.py     (row mode: one of them steps by vectors)
            values, stores                          here, addressing.py
            reductions                              reductions.py

Each value is computed at the level that plan.py gives it, so nothing waits for LLVM to hoist it.
"""

from __future__ import annotations

import math

import llvmlite.ir as ll

from flambeau.codegen.artifact import Phase
from flambeau.codegen.cpu.llvm.emitter import I1, I32, I64, constant, element_of, lanes_of, new_kernel
from flambeau.codegen.cpu.loops.addressing import Memory
from flambeau.codegen.cpu.loops.plan import (
    FUNCTION,
    STAGE,
    TASK,
    is_empty,
    plan_loops,
)
from flambeau.codegen.cpu.loops.reductions import BLOCK, Accumulator
from flambeau.codegen.cpu.loops.scope import Scope
from flambeau.codegen.cpu.loops.strips import Body, Carry, Strip, carrying, repeat, walk_rows, walk_strip
from flambeau.codegen.cpu.loops.tasks import TaskSpace, return_without_tasks
from flambeau.codegen.cpu.loops.values import emit_scalar
from flambeau.ir.dtypes import f32, f64
from flambeau.ir.kernel import Address, Instr, LoopKernel, LoopSchedule, Stage
from flambeau.ir.records import dataclass
from flambeau.ir.target import Target

_NUMBERS = 4                            # consts that are runtime numbers stay in a quarter of the registers, or in memory
_UNROLLED_POINTS = 4                    # sequential loops this short are written out,
_UNROLLED_INSTRS = 64                   # unless that is more code than this


def emit(kernel: LoopKernel, module: ll.Module, symbol: str, target: Target) -> tuple[list[Phase], tuple[int, ...]]:
    """Add the kernel's function to `module` and say how to launch it; it needs no scratch buffers."""
    assert isinstance(kernel.schedule, LoopSchedule), f"kernel {kernel.name} has no schedule: passes.schedule makes one"
    plan = plan_loops(kernel, kernel.schedule, target)
    emitter = new_kernel(module, symbol, target, kernel)
    extents = tuple(
        constant(I64, extent) if isinstance(extent, int) else emitter.number(extent)
        for extent in kernel.extents
    )
    buffers = tuple(emitter.buffer(number) for number in range(len(kernel.params)))
    scope = Scope(emitter, plan, extents, buffers)
    _LoopEmitter(scope).emit()
    return [TaskSpace(plan).phase(symbol)], ()


Result = tuple[int, int | None, ll.Value]       # a reduction's id, the copy (None: all of them), its value


@dataclass(frozen=True)
class Flush:
    """Long sums are flushed every `points` points of the stage's loop at `depth`. leaves_rest: some may be left over."""

    depth: int
    points: int
    leaves_rest: bool


class _LoopEmitter:
    def __init__(self, scope: Scope) -> None:
        self.scope, self.plan, self.kernel = scope, scope.plan, scope.plan.kernel
        self.emitter = scope.emitter
        self.memory = Memory(scope)
        numbers = {i.attr for i in self.kernel.instrs() if i.op == "const" and isinstance(i.attr, str)}
        self.is_again = False           # sums are taken a second time: code that hardly ever runs is short
        self.keeps_numbers = len(numbers) <= self.emitter.target.n_vector_registers // _NUMBERS

    def emit(self) -> None:
        """The whole function."""
        return_without_tasks(self.emitter)
        self.stages_at(FUNCTION)
        TaskSpace(self.plan).walk(self.scope, self.task)
        self.emitter.succeed()

    def stages_at(self, level: int) -> None:
        """The values of all stages that are known outside of them."""
        self.memory.enter(level)
        for stage in self.live_stages():
            self.level(stage, level)

    def live_stages(self) -> list[Stage]:
        return [stage for stage in self.kernel.stages if not is_empty(self.kernel, stage)]

    def task(self, strip: Strip | None) -> None:
        """All stages at one point of the unblocked parallel dims, or at one tile."""
        self.stages_at(TASK)
        if strip is None:
            self.run_stages()
        elif self.plan.is_tiled:
            self.tile_row(strip)
        else:
            self.walk_blocked(strip)

    def tile_row(self, strip: Strip) -> None:
        """The task's points of the row dim: whole tiles along the strip, and row by row what is left beside them."""
        scope, emitter, dim, rows = self.scope, self.emitter, self.plan.row_dim, self.plan.rows
        assert dim is not None, "a tile has rows"
        first, extent = scope.index[dim], self.plan.divisor(self.kernel.extents[dim])
        start, stop, lanes = emitter.index(strip.start), emitter.index(strip.stop), constant(I64, self.plan.lanes)
        is_even = extent % rows == 0 and strip.divides(self.plan.lanes)
        tiled = stop
        if not is_even:
            tiled = emitter.sub(stop, emitter.urem(emitter.sub(stop, start), lanes))
            fits = emitter.icmp_signed("<=", emitter.add(first, constant(I64, rows)), scope.extents[dim])
            tiled = emitter.select(fits, tiled, start)
        self.walk_tiles(Strip(start, tiled, self.plan.lanes), first)
        if is_even:
            return

        def one(index: ll.Value) -> None:
            scope.index[dim] = index
            self.walk_blocked(Strip(tiled, stop))

        last = emitter.select(fits, emitter.add(first, constant(I64, rows)), scope.extents[dim])
        emitter.loop(emitter.select(emitter.icmp_signed("<", tiled, stop), first, last), last, 1, one, name="row")

    def walk_tiles(self, strip: Strip, first: ll.Value) -> None:
        """Tile by tile: transposed loads, all stages row by row, transposed stores. What is transposed passes through
        the stack, so that the stages are emitted once."""
        scope, memory, rows = self.scope, self.memory, self.plan.rows
        block_dim, row_dim = self.plan.block_dim, self.plan.row_dim
        assert block_dim is not None and row_dim is not None, "a tile has two dims"
        stages = self.live_stages()
        loads = [(s, i.attr) for s in stages for i in s.body if isinstance(i.attr, Address)]
        stores = [(s, store.address) for s in stages for store in s.stores if store.combine == "set"]

        def tile(index: ll.Value, carry: Carry) -> Carry:
            scope.index[block_dim], scope.index[row_dim] = index, first
            memory.enter(STAGE)
            for stage, address in loads:
                if memory.fills_tile(address, True):
                    memory.load_tile(stage, address)
            collected = [(s, a) for s, a in stores if memory.fills_tile(a, False)]
            for _, address in collected:
                memory.open_slot(address)

            def row(number: ll.Value) -> None:
                scope.index[row_dim], memory.tile_row = self.emitter.add(first, number), number
                self.run_stages()

            self.emitter.loop(0, rows, 1, row, name="row")
            scope.index[row_dim], memory.tile_row = first, None
            memory.enter(STAGE)
            for stage, address in collected:
                memory.store_tile(stage, address)
            memory.slots.clear()
            return carry

        walk_strip(scope, strip, 1, tile, [])
        scope.index[row_dim] = first

    def walk_blocked(self, strip: Strip) -> None:
        """All stages along the task's range of the blocked dim."""
        assert self.plan.block_dim is not None, "a strip is a range of the blocked dim"
        dim = self.plan.block_dim

        def step(index: ll.Value, carry: Carry) -> Carry:
            self.scope.index[dim] = index
            self.run_stages()
            return carry

        walk_strip(self.scope, strip, self.plan.unroll(self.live_stages()), step, [])

    def run_stages(self) -> None:
        for stage in self.kernel.stages:
            self.memory.enter(STAGE)
            self.run_stage(stage)

    def run_stage(self, stage: Stage) -> None:
        """Values known at its start, then its loops, then what its reductions came to."""
        for name, copy, value in self.retried(stage) if self.may_overflow(stage) else self.reduced(stage, wide=True):
            self.scope.define(name, copy, value)

    def reduced(self, stage: Stage, wide: bool) -> list[Result]:
        """The stage's loops. wide: sums of f32 are kept in f64."""
        accumulators = [self.accumulator(stage, number, wide) for number in range(len(stage.reductions))]
        copies = self.carried_copies(stage)
        carry = [value for _ in range(copies) for acc in accumulators for value in acc.initial()]
        if not is_empty(self.kernel, stage):
            self.level(stage, STAGE)
            carry = self.nest(stage, accumulators, 0, carry)
        return self.finish(stage, accumulators, copies, carry)

    def may_overflow(self, stage: Stage) -> bool:
        """Whether sums in f32 can be taken twice: a second run stores nothing."""
        sums = any(r.combiner == "sum" and self.plan.dtype_of[r.value] is f32 for r in stage.reductions)
        return sums and not stage.stores and not is_empty(self.kernel, stage)

    def retried(self, stage: Stage) -> list[Result]:
        """The stage's loops, and if a sum came out infinite or NaN other ones, in f64: partial sums may overflow where the
        whole sum does not."""
        emitter = self.emitter
        found = self.reduced(stage, wide=False)
        first = emitter.block
        again, settled = emitter.append_basic_block("again"), emitter.append_basic_block("settled")
        emitter.cbranch(self.are_finite(stage, found), settled, again)
        emitter.position_at_end(again)
        self.is_again = True
        wide = self.reduced(stage, wide=True)
        self.is_again = False
        last = emitter.block
        emitter.branch(settled)
        emitter.position_at_end(settled)
        made = list[Result]()
        for (name, copy, value), (_, _, other) in zip(found, wide, strict=True):
            either = emitter.phi(value.type)
            either.add_incoming(value, first)
            either.add_incoming(other, last)
            made.append((name, copy, either))
        return made

    def are_finite(self, stage: Stage, found: list[Result]) -> ll.Value:
        """Whether all sums in f32 are numbers."""
        emitter = self.emitter
        sums = {r.id for r in stage.reductions if r.combiner == "sum" and self.plan.dtype_of[r.value] is f32}
        fine: ll.Value | None = None
        for name, _, value in found:
            if name in sums:
                small = emitter.reduce("and", emitter.fcmp_ordered("<", emitter.overloaded("fabs", value),
                                                                   constant(element_of(value), math.inf, lanes_of(value))))
                fine = small if fine is None else emitter.and_(fine, small)
        assert fine is not None, "some sum may overflow"
        return fine

    # -- values ---------------------------------------------------------------------------------------------------

    def level(self, stage: Stage, level: int) -> None:
        """Values of the stage that become known at `level`; uniform ones first, then copy by copy, which keeps
        fewer registers alive than all copies side by side."""
        instrs = self.plan.instrs_at(stage, level)
        for instr in instrs:
            if not self.plan.varies(instr.id):
                self.instr(stage, instr, None)
        for copy in range(self.scope.copies):
            for instr in instrs:
                if self.plan.varies(instr.id) and copy in self.scope.copies_with(instr.id):
                    self.instr(stage, instr, copy)
        for address in self.addresses(stage):
            self.memory.prepare(stage, address)

    def addresses(self, stage: Stage) -> list[Address]:
        loads = [instr.attr for instr in stage.body if isinstance(instr.attr, Address)]
        return loads + [store.address for store in stage.stores]

    def instr(self, stage: Stage, instr: Instr, copy: int | None) -> None:
        match instr.op:
            case "load":
                assert isinstance(instr.attr, Address), f"%{instr.id}: a load needs an address"
                value = self.memory.load(stage, instr.attr, copy)
            case "check":
                self.check(instr, copy)
                return
            case "const" if isinstance(instr.attr, str):
                if self.keeps_numbers:
                    number = self.emitter.runtime_constant(instr.attr, instr.dtype.name, 1)
                    self.scope.define(instr.id, copy, number)
                else:
                    self.scope.define_number(instr)
                return
            case _:
                value = emit_scalar(self.scope, instr, copy)
        self.scope.define(instr.id, copy, value)

    def check(self, instr: Instr, copy: int | None) -> None:
        """Return the status if an active lane's condition is false, with that lane's detail in ctx."""
        emitter, scope = self.emitter, self.scope
        assert isinstance(instr.attr, int), f"%{instr.id}: a check needs a status"
        fine, detail = (scope.read(operand, copy) for operand in instr.operands)
        failed = emitter.not_(fine)
        if copy is None:
            emitter.fail_if(failed, instr.attr, detail)
            return
        if scope.mask is not None:
            failed = emitter.and_(failed, scope.mask)
        with emitter.if_then(emitter.reduce("or", failed), likely=False):
            lanes = ll.IntType(self.plan.lanes)
            bits = emitter.bitcast(failed, lanes)
            first = emitter.intrinsic(f"llvm.cttz.i{self.plan.lanes}", lanes, [bits, ll.Constant(I1, 1)])
            number = emitter.zext(first, I32) if self.plan.lanes < 32 else emitter.trunc(first, I32)
            emitter.fail(instr.attr, emitter.extract_element(detail, number))

    # -- loops ----------------------------------------------------------------------------------------------------

    def nest(self, stage: Stage, accumulators: list[Accumulator], depth: int, carry: Carry) -> Carry:
        """The stage's loops from `depth` on, carrying the accumulators."""
        if depth == len(stage.dims):
            return self.innermost(stage, accumulators, carry)
        dim, level = stage.dims[depth], STAGE + 1 + depth
        extent = self.kernel.extents[dim]

        def step(index: ll.Value, carry: Carry) -> Carry:
            self.scope.index[dim] = index
            self.memory.enter(level)
            self.level(stage, level)
            return self.nest(stage, accumulators, depth + 1, carry)

        def walk(start: ll.Value | int, stop: ll.Value | int, divisor: int, carry: Carry, changing: list[bool]) -> Carry:
            def loops(step: Body, carry: Carry) -> Carry:
                if dim == self.plan.vector_dim:
                    return walk_strip(self.scope, Strip(start, stop, divisor), self.unroll(stage), step, carry)
                if dim == self.plan.row_dim and self.rows_of(stage) > 1:
                    return walk_rows(self.scope, start, stop, self.plan.rows, step, carry)
                return repeat(self.scope, start, stop, 1, step, carry, self.written_out(stage, depth))

            return carrying(changing, loops, step, carry)

        stop = extent if isinstance(extent, int) else self.scope.extents[dim]
        flush = self.flush(stage) if any(acc.has_total for acc in accumulators) else None
        terms = [not is_total for is_total in _are_totals(accumulators, len(carry))]
        if flush is None or depth > flush.depth:
            return walk(0, stop, 1, carry, terms)
        # A sum that begins at 0 each time needs no place in the loop around.
        sums = _are_sums(accumulators, len(carry))
        changing = [not is_sum or not isinstance(value, ll.Constant) for is_sum, value in zip(sums, carry, strict=True)]
        if depth < flush.depth:
            return walk(0, stop, 1, carry, [c or flush.leaves_rest for c in changing])
        block = flush.points
        whole = self.whole_blocks(stop, block)

        def one_block(index: ll.Value, carry: Carry) -> Carry:
            carry = walk(index, self.emitter.add(index, constant(I64, block)), block, carry, terms)
            return self.flushed(accumulators, carry)

        carry = carrying(changing, lambda step, carry: repeat(self.scope, 0, whole, block, step, carry), one_block, carry)
        return walk(whole, stop, 1, carry, terms)

    def flush(self, stage: Stage) -> Flush:
        """Where and how often long sums are flushed: by the innermost loop in which they get more than BLOCK terms."""
        inside, depth = 1, len(stage.dims) - 1
        while inside * self.rounds(stage, depth) <= BLOCK:
            inside *= self.rounds(stage, depth)
            depth -= 1
        points = max(1, BLOCK // inside) * self.points_a_round(stage, depth)
        extent = self.kernel.extents[stage.dims[depth]]
        return Flush(depth, points, not isinstance(extent, int) or extent % points != 0)

    def rounds(self, stage: Stage, depth: int) -> int:
        """How often the loop at `depth` adds to each accumulator."""
        extent = self.kernel.extents[stage.dims[depth]]
        return -(-extent // self.points_a_round(stage, depth)) if isinstance(extent, int) else 1 << 30

    def points_a_round(self, stage: Stage, depth: int) -> int:
        dim = stage.dims[depth]
        if dim == self.plan.vector_dim:
            return self.plan.lanes * self.unroll(stage)
        return self.rows_of(stage) if dim == self.plan.row_dim else 1

    def unroll(self, stage: Stage) -> int:
        """Vectors a step of the stage's own loop along the vector dim."""
        return 1 if self.is_again else self.plan.unroll([stage])

    def rows_of(self, stage: Stage) -> int:
        """Points of the row dim side by side."""
        return 1 if self.is_again else self.plan.rows_of(stage)

    def whole_blocks(self, stop: ll.Value | int, block: int) -> ll.Value | int:
        if isinstance(stop, int):
            return stop - stop % block
        return self.emitter.sub(stop, self.emitter.urem(stop, constant(I64, block)))

    def flushed(self, accumulators: list[Accumulator], carry: Carry) -> Carry:
        made, at = list(carry), 0
        while at < len(carry):
            for acc in accumulators:
                if acc.has_total:
                    made[at : at + acc.width] = acc.flush(carry[at : at + acc.width])
                at += acc.width
        return made

    def written_out(self, stage: Stage, depth: int) -> int:
        """Up to how many rounds of this loop are written out instead of looped over."""
        if self.is_again:
            return 1
        points = math.prod(e if isinstance(e := self.kernel.extents[d], int) else 1 << 30 for d in stage.dims[depth:])
        is_short = points <= _UNROLLED_POINTS and points * len(stage.body) <= _UNROLLED_INSTRS
        return _UNROLLED_POINTS if is_short else 1

    def innermost(self, stage: Stage, accumulators: list[Accumulator], carry: Carry) -> Carry:
        """Stores and reductions of one point (or of one vector a copy)."""
        for copy in self.copies_of(stage):
            for store in stage.stores:
                is_plain = store.combine == "set" and not self.plan.varies(store.value)
                uniform = is_plain and not self.plan.address_varies(stage, store.address)
                self.memory.store(stage, store, None if uniform else copy)
        carry = list(carry)
        width = sum(acc.width for acc in accumulators)
        for number, copy in enumerate(self.copies_of(stage)):
            at = number * width
            for acc in accumulators:
                carry[at : at + acc.width] = self.update(stage, acc, carry[at : at + acc.width], copy)
                at += acc.width
        return carry

    def copies_of(self, stage: Stage) -> list[int | None]:
        """Copies that the innermost level works on: [None] in scalar code."""
        return list(range(self.scope.copies)) if self.plan.is_vectorised(stage) else [None]

    # -- reductions -----------------------------------------------------------------------------------------------

    def accumulator(self, stage: Stage, number: int, wide: bool) -> Accumulator:
        reduction = stage.reductions[number]
        known = [e for dim in stage.dims if isinstance(e := self.kernel.extents[dim], int)]
        points = math.prod(known) if len(known) == len(stage.dims) else None
        lanes = self.plan.lanes if self.plan.is_vectorised(stage) else 1
        dtype = self.plan.dtype_of[reduction.value]
        terms = math.prod([self.rounds(stage, depth) for depth in range(len(stage.dims))])
        is_sum = reduction.combiner == "sum"
        if is_sum and dtype is f32 and wide:
            return Accumulator(self.emitter, reduction, f64, lanes, points)
        is_long = is_sum and dtype in (f32, f64) and terms > BLOCK
        return Accumulator(self.emitter, reduction, dtype, lanes, points, is_long)

    def carried_copies(self, stage: Stage) -> int:
        """Independent accumulators of each reduction: one a copy."""
        if not self.plan.is_vectorised(stage):
            return 1
        if self.plan.vector_dim in stage.dims:
            return self.unroll(stage)
        return self.scope.copies * self.rows_of(stage)

    def update(self, stage: Stage, acc: Accumulator, state: Carry, copy: int | None) -> Carry:
        value = self.scope.read(acc.reduction.value, copy)
        position = self.position(stage, copy) if acc.tracks_position else None
        return acc.update(state, value, position, self.scope.mask if copy is not None else None)

    def position(self, stage: Stage, copy: int | None) -> ll.Value:
        """Row-major position within the stage's dims, i64."""
        position: ll.Value | None = None
        for dim in stage.dims:
            index = self.scope.index_value(dim, copy)
            if position is None:
                position = index
                continue
            extent = self.scope.extents[dim] if copy is None else self.scope.splat(self.scope.extents[dim])
            position = self.emitter.add(self.emitter.mul(position, extent), index)
        return constant(I64, 0, self.scope.lanes(copy)) if position is None else position

    def finish(self, stage: Stage, accumulators: list[Accumulator], copies: int, carry: Carry) -> list[Result]:
        """The results: per copy in column mode, its rows merged, else all copies and lanes merged into one."""
        width = sum(acc.width for acc in accumulators)
        at, found = 0, list[Result]()
        for acc in accumulators:
            states = [carry[copy * width + at : copy * width + at + acc.width] for copy in range(copies)]
            at += acc.width
            found += self.results(stage, acc, states)
        return found

    def results(self, stage: Stage, acc: Accumulator, states: list[Carry]) -> list[Result]:
        name, copies = acc.reduction.id, self.scope.copies
        settled = [acc.settled(state) for state in states]
        acc, states = settled[0][0], [state for _, state in settled]
        if self.plan.varies(name):
            return [(name, copy, acc.result(_merged(acc, states[copy::copies])))
                    for copy in self.scope.copies_with(name)]
        if self.plan.is_vectorised(stage) and self.plan.vector_dim not in stage.dims:
            # The value is the same in every lane of a blocked dim, masked lanes aside, and lane 0 is never masked.
            rows = [[self.emitter.lane(value, 0) for value in state] for state in states[::copies]]
            return [(name, None, acc.result(_merged(acc, rows)))]
        return [(name, None, acc.result(acc.across_lanes(_merged(acc, states))))]


def _are_totals(accumulators: list[Accumulator], count: int) -> list[bool]:
    """Of each of `count` carried values: whether it is the total of a sum that is flushed, or its compensation."""
    once = [acc.has_total and number > 0 for acc in accumulators for number in range(acc.width)]
    return once * (count // len(once)) if once else []


def _are_sums(accumulators: list[Accumulator], count: int) -> list[bool]:
    """Of each of `count` carried values: whether it is a sum since the last flush."""
    once = [acc.has_total and number == 0 for acc in accumulators for number in range(acc.width)]
    return once * (count // len(once)) if once else []


def _merged(acc: Accumulator, states: list[Carry]) -> Carry:
    """The accumulators in one, by halving."""
    while len(states) > 1:
        half = len(states) // 2
        merged = [acc.merge(a, b) for a, b in zip(states[:half], states[half : 2 * half], strict=True)]
        states = merged + states[2 * half :]
    return states[0]
