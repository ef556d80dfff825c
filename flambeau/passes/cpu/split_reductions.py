"""LoopKernel -> LoopKernels: long reductions of few rows leave cores idle, and are cut into parts for all of them."""
from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

from flambeau.ir.graph import Value
from flambeau.ir.kernel import Address, LoopKernel, Stage
from flambeau.ir.target import Target
from flambeau.passes.cpu.loop_cost import Cost, count
from flambeau.passes.cpu.schedule_loops import vector_dim_of
from flambeau.passes.lowering.parts import Split, can_split, in_parts, is_even

LAUNCH_NS: Final = 2500.0               # one more kernel: launching it, and waiting for the slowest thread
GAIN: Final = 0.75                      # of the time before, at most
PART_NS: Final = 10_000.0               # work worth being a part
PARTS_PER_CORE: Final = 8
LONG_RUN: Final = 1024                  # bytes of a row from where tasks of some columns each fetch memory in pieces,
COLUMNS_APART: Final = 2.0              # at half the speed; parts of rows read it from end to end
ROW_PARTS: Final = 128                  # at most, of at least
ROWS: Final = 32                        # points: what parts come to is written and read again. Fewer where a column's
WAYS, PAGE = 8, 4096                    # share a set of L1: it holds so many lines a multiple of so many bytes apart
COLUMNS: Final = 64                     # columns a task takes at least, to read memory in long stretches


def split_reductions(kernel: LoopKernel, buffers: tuple[Value, ...], target: Target) -> list[Split]:
    """The kernel, or several that compute the same where that is faster on the target's cores."""
    parts = _choose_parts(kernel, target)
    return in_parts(kernel, buffers, parts, wide=True) if parts > 1 else [(kernel, buffers)]


def _choose_parts(kernel: LoopKernel, target: Target) -> int:
    """How many parts each reduction is cut into; 1 to leave the kernel as it is."""
    heavy = [stage for stage in kernel.stages if stage.dims]
    if _cores(target) == 1 or not can_split(kernel):
        return 1
    cost = Cost(kernel, target)
    dim, _, nanoseconds = vector_dim_of(cost)
    tasks = count(kernel, range(kernel.n_parallel))
    if dim is not None and dim < kernel.n_parallel:
        tasks = tasks // count(kernel, (dim,)) * -(-count(kernel, (dim,)) // COLUMNS)
    now = nanoseconds * -(-tasks // _cores(target)) / tasks
    wanted = min(PARTS_PER_CORE * _cores(target), nanoseconds / len(heavy) / PART_NS)
    if cost.is_far and dim is not None and dim < kernel.n_parallel and _runs(kernel, heavy) >= LONG_RUN:
        rows = min(ROWS, WAYS * PAGE // math.gcd(PAGE, _runs(kernel, heavy)))
        now, wanted = COLUMNS_APART * now, min(ROW_PARTS, _shortest(kernel, heavy) // rows)
    launches = sum(2 if stage.reductions else 1 for stage in heavy)
    if nanoseconds / _cores(target) + LAUNCH_NS * launches > GAIN * now:
        return 1
    found = [n for n in range(2, int(2 * wanted) + 3) if is_even(kernel, n)]
    return min(found, key=lambda n: (abs(n - wanted), -n), default=1)


def _shortest(kernel: LoopKernel, heavy: Sequence[Stage]) -> int:
    """Points of the shortest dim that would be cut."""
    return min([count(kernel, stage.dims[:1]) for stage in heavy if stage.reductions])


def _runs(kernel: LoopKernel, heavy: Sequence[Stage]) -> int:
    """Bytes from a point of a reduction to the next: what lies between them belongs to other columns."""
    return max([abs(i.attr.stride_of(stage.dims[-1])) * i.dtype.itemsize for stage in heavy if stage.reductions
                for i in stage.body if isinstance(i.attr, Address)], default=0)


def _cores(target: Target) -> int:
    return target.cores
