"""How the parallel dims of a LoopKernel become numbered tasks, and a task number becomes indices again."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import llvmlite.ir as ll

from flambeau.codegen.artifact import Phase, TaskDim, status_message
from flambeau.codegen.cpu.llvm.emitter import I64, Emitter, constant
from flambeau.codegen.cpu.loops.plan import LoopPlan, kernel_addresses, plan_loops
from flambeau.codegen.cpu.loops.scope import Scope
from flambeau.codegen.cpu.loops.strips import Strip
from flambeau.ir.kernel import Extent, LoopKernel, LoopSchedule
from flambeau.ir.records import dataclass
from flambeau.ir.target import Target


@dataclass(frozen=True)
class TaskSpace:
    """Parallel dims other than the blocked one, row-major, and the blocked dim (None if no dim is) innermost.

    Where vectors jump through memory that is contiguous along another parallel dim, as in a transpose, that dim goes
    innermost instead: the tasks that follow then find the cache lines that this one brought.
    """

    plan: LoopPlan

    @property
    def outer(self) -> tuple[int, ...]:
        """Parallel dims that a task has one point of."""
        return tuple(d for d in range(self.plan.kernel.n_parallel) if d != self.plan.block_dim)

    @property
    def is_flat(self) -> bool:
        """Whether consecutive tasks are one range of the blocked dim."""
        return self.plan.block_dim is not None and not self.outer

    @property
    def block(self) -> Extent:
        """Points of the blocked dim a task takes."""
        block = self.plan.schedule.block
        return block if isinstance(block, str) else max(1, block)

    @property
    def order(self) -> tuple[int, ...]:
        """Parallel dims as task numbers count them, outermost to innermost."""
        block, companion = self.plan.block_dim, self._companion()
        dims = [*self.outer, *([] if block is None else [block])]
        if companion is not None:
            dims.sort(key=lambda dim: dim == companion)
        return tuple(dims)

    def _companion(self) -> int | None:
        """The parallel dim that an access which jumps along the vector dim is contiguous along."""
        vector_dim = self.plan.vector_dim
        if self.plan.is_tiled:
            return self.plan.row_dim
        for address in kernel_addresses(self.plan.kernel):
            if vector_dim is not None and address.step_of(vector_dim) not in (-1, 0, 1):
                for dim in self.outer:
                    if address.step_of(dim) in (-1, 1):
                        return dim
        return None

    def dims(self) -> tuple[TaskDim, ...]:
        """The factors of the task count."""
        kernel = self.plan.kernel
        dims = [_task_dim(kernel, kernel.extents[dim], self._step(dim)) for dim in self.outer]
        if self.plan.block_dim is not None:
            block = self.block
            if isinstance(block, str):
                block = 1                                   # `phase_of` counts with the kernel's own numbers
            dims.append(_task_dim(kernel, kernel.extents[self.plan.block_dim], block))
        return tuple(dims)

    def _step(self, dim: int) -> int:
        """Points of an unblocked dim that a task takes."""
        return self.plan.rows if dim == self.plan.row_dim else 1

    def phase(self, symbol: str) -> Phase:
        """How to launch the kernel's function."""
        kernel, schedule = self.plan.kernel, self.plan.schedule
        statuses = sorted({int(i.attr) for i in kernel.instrs() if i.op == "check" and isinstance(i.attr, int)})
        phase = Phase(
            symbol, None, tuple(range(len(kernel.params))), max(1, schedule.grain), schedule.parallel, self.dims(),
            tuple((status, status_message(status)) for status in statuses),
        )
        if any(dim.size_index is not None for dim in phase.task_dims):
            return phase
        return Phase(
            symbol, phase.task_count(), phase.params, phase.grain, phase.parallel, phase.task_dims, phase.errors
        )

    def walk(self, scope: Scope, body: Callable[[Strip | None], None]) -> None:
        """body(the task's range of the blocked dim, None without one) for each task, outer indices in scope."""
        kernel = scope.emitter.kernel
        if self.is_flat:
            body(self._flat_strip(scope))
            return

        emitter = scope.emitter
        order = [dim for dim in self.order if not (self._is_one_block and dim == self.plan.block_dim)]
        counts = self._counts(scope, order)

        def one(_: ll.Value, *numbers: ll.Value) -> list[ll.Value]:
            body(self._at(scope, order, numbers))
            return _next(emitter, numbers, counts)

        emitter.loop(kernel.begin, kernel.end, 1, one, _numbers(emitter, kernel.begin, counts), name="task")

    def _at(self, scope: Scope, order: Sequence[int], numbers: Sequence[ll.Value]) -> Strip | None:
        """Sets the index of each unblocked parallel dim; returns the range of the blocked one."""
        emitter, strip = scope.emitter, None
        if self._is_one_block:
            strip = self._whole(scope)
        for dim, number in zip(order, numbers, strict=True):
            if dim == self.plan.block_dim:
                strip = self._strip(scope, number, emitter.add(number, constant(I64, 1)))
            elif self._step(dim) == 1:
                scope.index[dim] = number
            else:
                scope.index[dim] = emitter.mul(number, constant(I64, self._step(dim)))
        return strip

    def _counts(self, scope: Scope, order: Sequence[int]) -> list[ll.Value]:
        """Tasks along each of the dims."""
        return [self._blocks(scope) if dim == self.plan.block_dim else self._steps(scope, dim) for dim in order]

    def _steps(self, scope: Scope, dim: int) -> ll.Value:
        """Tasks along an unblocked dim."""
        emitter, step = scope.emitter, self._step(dim)
        rounded = emitter.add(scope.extents[dim], constant(I64, step - 1))
        return emitter.udiv(rounded, constant(I64, step))

    def _flat_strip(self, scope: Scope) -> Strip:
        if self._is_one_block:
            return self._whole(scope)
        kernel = scope.emitter.kernel
        return self._strip(scope, kernel.begin, kernel.end)

    def _strip(self, scope: Scope, first: ll.Value, last: ll.Value) -> Strip:
        """Blocks [first, last) of the blocked dim, cut at its end."""
        emitter, dim = scope.emitter, self.plan.block_dim
        assert dim is not None, "only a blocked dim has blocks"
        extent, block = self.plan.kernel.extents[dim], self.block
        size = self._block_size(scope)
        start, stop = emitter.mul(first, size), emitter.mul(last, size)
        if isinstance(extent, int) and isinstance(block, int) and extent % block == 0:
            return Strip(start, stop, block)
        stop = emitter.select(emitter.icmp_signed("<", stop, scope.extents[dim]), stop, scope.extents[dim])
        return Strip(start, stop, _common_power_of_two(self.plan.divisor(block), self.plan.divisor(extent)))

    def _block_size(self, scope: Scope) -> ll.Value:
        return constant(I64, self.block) if isinstance(self.block, int) else scope.emitter.number(self.block)

    def _whole(self, scope: Scope) -> Strip:
        """The blocked dim, which one block holds."""
        assert self.plan.block_dim is not None, "only a blocked dim has blocks"
        extent = self.plan.kernel.extents[self.plan.block_dim]
        if isinstance(extent, int):
            return Strip(0, extent)
        return Strip(0, scope.extents[self.plan.block_dim], self.plan.divisor(extent))

    def _blocks(self, scope: Scope) -> ll.Value:
        emitter, size = scope.emitter, self._block_size(scope)
        assert self.plan.block_dim is not None, "only a blocked dim has blocks"
        rounded = emitter.add(scope.extents[self.plan.block_dim], emitter.sub(size, constant(I64, 1)))
        return emitter.udiv(rounded, size)

    @property
    def _is_one_block(self) -> bool:
        """Whether one block is known to hold the blocked dim."""
        dim, block = self.plan.block_dim, self.block
        extent = self.plan.kernel.extents[dim] if dim is not None else None
        if isinstance(extent, int) and isinstance(block, int):
            return -(-extent // block) == 1
        return extent is not None and extent == block           # a block that is all of a runtime number


def _numbers(emitter: Emitter, task: ll.Value, counts: Sequence[ll.Value]) -> list[ll.Value]:
    """The number of a task along each dim, row-major."""
    numbers: list[ll.Value] = []
    for count in counts[:0:-1]:
        numbers.insert(0, emitter.urem(task, count))
        task = emitter.udiv(task, count)
    return [task, *numbers] if counts else []


def _next(emitter: Emitter, numbers: Sequence[ll.Value], counts: Sequence[ll.Value]) -> list[ll.Value]:
    """The numbers of the task that follows, counted on: dividing takes longer than a small task."""
    made: list[ll.Value] = []
    carry: ll.Value = constant(I64, 1)
    for place in range(len(numbers) - 1, -1, -1):
        number = emitter.add(numbers[place], carry)
        if place:
            is_full = emitter.icmp_signed("==", number, counts[place])
            number, carry = emitter.select(is_full, constant(I64, 0), number), emitter.zext(is_full, I64)
        made.insert(0, number)
    return made


def _common_power_of_two(block: int, extent: int) -> int:
    """The largest power of two that divides the length of every block, the last one included."""
    return (block & -block) if extent == 0 else min(block & -block, extent & -extent)


def phase_of(kernel: LoopKernel, general: LoopKernel, symbol: str, target: Target) -> Phase:
    """How to launch for `kernel` the code of `general`, which is the same but for runtime numbers."""
    assert isinstance(kernel.schedule, LoopSchedule) and isinstance(general.schedule, LoopSchedule), "both are scheduled"
    plan = plan_loops(general, general.schedule, target)
    return TaskSpace(replace(plan, kernel=kernel, schedule=kernel.schedule)).phase(symbol)


def _task_dim(kernel: LoopKernel, extent: Extent, block: int) -> TaskDim:
    return TaskDim(extent, block, kernel.sizes.index(extent) if isinstance(extent, str) else None)


def return_without_tasks(emitter: Emitter) -> None:
    """An empty range of tasks may come with buffers that hold nothing, so nothing is loaded for it."""
    arguments = emitter.kernel
    with emitter.if_then(emitter.icmp_signed(">=", arguments.begin, arguments.end), likely=False):
        emitter.succeed()
