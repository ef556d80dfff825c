"""How the parallel dims of a LoopKernel become numbered tasks, and a task number becomes indices again."""

from __future__ import annotations

from collections.abc import Callable

import llvmlite.ir as ll

from flambeau.codegen.artifact import Phase, TaskDim, status_message
from flambeau.codegen.cpu.llvm.emitter import I64, Emitter, constant
from flambeau.codegen.cpu.loops.plan import LoopPlan, kernel_addresses
from flambeau.codegen.cpu.loops.scope import Scope
from flambeau.codegen.cpu.loops.strips import Strip
from flambeau.ir.kernel import Extent, LoopKernel
from flambeau.ir.records import dataclass


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
    def block(self) -> int:
        """Points of the blocked dim a task takes."""
        return max(1, self.plan.schedule.block)

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
            if vector_dim is not None and address.stride_of(vector_dim) not in (-1, 0, 1):
                for dim in self.outer:
                    if address.stride_of(dim) in (-1, 1):
                        return dim
        return None

    def dims(self) -> tuple[TaskDim, ...]:
        """The factors of the task count."""
        kernel = self.plan.kernel
        dims = [_task_dim(kernel, kernel.extents[dim], self._step(dim)) for dim in self.outer]
        if self.plan.block_dim is not None:
            dims.append(_task_dim(kernel, kernel.extents[self.plan.block_dim], self.block))
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

        def one(task: ll.Value) -> None:
            body(self._decode(scope, task))

        scope.emitter.loop(kernel.begin, kernel.end, 1, one, name="task")

    def _decode(self, scope: Scope, task: ll.Value) -> Strip | None:
        """Sets the index of each unblocked parallel dim; returns the range of the blocked one."""
        emitter, strip = scope.emitter, None
        one_block = self._blocks_known() == 1
        order = [dim for dim in self.order if not (one_block and dim == self.plan.block_dim)]
        if one_block:
            strip = Strip(0, self._known_extent())
        for place, dim in reversed(list(enumerate(order))):
            number = task
            if place:
                count = self._blocks(scope) if dim == self.plan.block_dim else self._steps(scope, dim)
                number, task = emitter.urem(task, count), emitter.udiv(task, count)
            if dim == self.plan.block_dim:
                strip = self._strip(scope, number, emitter.add(number, constant(I64, 1)))
            elif self._step(dim) == 1:
                scope.index[dim] = number
            else:
                scope.index[dim] = emitter.mul(number, constant(I64, self._step(dim)))
        return strip

    def _steps(self, scope: Scope, dim: int) -> ll.Value:
        """Tasks along an unblocked dim."""
        extent, step = self.plan.kernel.extents[dim], self._step(dim)
        return scope.extents[dim] if step == 1 or isinstance(extent, str) else constant(I64, -(-extent // step))

    def _flat_strip(self, scope: Scope) -> Strip:
        if self._blocks_known() == 1:
            return Strip(0, self._known_extent())
        kernel = scope.emitter.kernel
        return self._strip(scope, kernel.begin, kernel.end)

    def _strip(self, scope: Scope, first: ll.Value, last: ll.Value) -> Strip:
        """Blocks [first, last) of the blocked dim, cut at its end."""
        emitter, dim = scope.emitter, self.plan.block_dim
        assert dim is not None, "only a blocked dim has blocks"
        extent = self.plan.kernel.extents[dim]
        size = constant(I64, self.block)
        start, stop = emitter.mul(first, size), emitter.mul(last, size)
        if isinstance(extent, int) and extent % self.block == 0:
            return Strip(start, stop, self.block)
        stop = emitter.select(emitter.icmp_signed("<", stop, scope.extents[dim]), stop, scope.extents[dim])
        return Strip(start, stop, _common_power_of_two(self.block, extent))

    def _blocks(self, scope: Scope) -> ll.Value:
        emitter, known = scope.emitter, self._blocks_known()
        if known is not None:
            return constant(I64, known)
        assert self.plan.block_dim is not None, "only a blocked dim has blocks"
        rounded = emitter.add(scope.extents[self.plan.block_dim], constant(I64, self.block - 1))
        return emitter.udiv(rounded, constant(I64, self.block))

    def _blocks_known(self) -> int | None:
        dim = self.plan.block_dim
        extent = self.plan.kernel.extents[dim] if dim is not None else None
        return -(-extent // self.block) if isinstance(extent, int) else None

    def _known_extent(self) -> int:
        dim = self.plan.block_dim
        extent = self.plan.kernel.extents[dim] if dim is not None else None
        assert isinstance(extent, int), "one block is known to hold the dim only if its extent is"
        return extent


def _common_power_of_two(block: int, extent: Extent) -> int:
    """The largest power of two that divides the length of every block, the last one included."""
    if isinstance(extent, str):
        return 1
    return (block & -block) if extent == 0 else min(block & -block, extent & -extent)


def _task_dim(kernel: LoopKernel, extent: Extent, block: int) -> TaskDim:
    return TaskDim(extent, block, kernel.sizes.index(extent) if isinstance(extent, str) else None)


def return_without_tasks(emitter: Emitter) -> None:
    """An empty range of tasks may come with buffers that hold nothing, so nothing is loaded for it."""
    arguments = emitter.kernel
    with emitter.if_then(emitter.icmp_signed(">=", arguments.begin, arguments.end), likely=False):
        emitter.succeed()
