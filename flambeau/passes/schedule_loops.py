"""LoopKernel -> LoopSchedule: which dim runs in vectors, how far it is unrolled, how the work is cut into tasks."""
from __future__ import annotations

from collections import Counter
from typing import Final

from flambeau.ir.kernel import Address, LoopKernel, LoopSchedule
from flambeau.ir.target import Target

TASK_POINTS: Final = 8192               # about 4 us of light work: claiming a chunk costs under 0.1
PARALLEL_POINTS: Final = 32768          # below this, waking threads costs more than they save
RUNTIME_EXTENT: Final = 256             # what a size known only at run time counts as
UNROLL: Final = 4
UNROLLED_INSTRS: Final = 96             # more code than this a step costs compile time and gains nothing


def schedule_loops(kernel: LoopKernel, target: Target) -> LoopSchedule:
    """Vectors along the dim that memory is contiguous along, unrolled where a reduction waits on itself; tasks of
    TASK_POINTS points."""
    dim = contiguous_dim(kernel)
    inner = max([_points(kernel, stage.dims) for stage in kernel.stages], default=1)
    if dim is None or dim >= kernel.n_parallel:
        grain, block, per_task = max(1, TASK_POINTS // inner), 1, inner
        tasks = _points(kernel, range(kernel.n_parallel))
    else:
        extent = kernel.extents[dim]
        block = _block(max(1, TASK_POINTS // inner))
        per_task = inner * (min(block, extent) if isinstance(extent, int) else block)
        grain = max(1, TASK_POINTS // max(1, per_task))
        tasks = max(1, _points(kernel, range(kernel.n_parallel)) * inner // max(1, per_task))
    runtime = any(isinstance(e, str) for e in kernel.extents)
    parallel = target.cores > 1 and (runtime or tasks * per_task >= PARALLEL_POINTS)
    return LoopSchedule(dim, _unroll(kernel, dim), block, grain, parallel)


def _block(points: int) -> int:
    """A power of two of at least 64 points, so that whole blocks are whole vectors."""
    return max(64, 1 << (points - 1).bit_length())


def _points(kernel: LoopKernel, dims: range | tuple[int, ...]) -> int:
    """Points of the dims, at least 1."""
    product = 1
    for dim in dims:
        extent = kernel.extents[dim]
        product *= RUNTIME_EXTENT if isinstance(extent, str) else max(1, extent)
    return product


def contiguous_dim(kernel: LoopKernel) -> int | None:
    """The dim along which most accesses have stride 1 and fewest jump; ties go to the innermost. An access counts as
    often as its stage runs it."""
    votes: Counter[int] = Counter()
    for stage in kernel.stages:
        weight = 4 if stage.dims else 1
        for address in _addresses(stage):
            votes.update({dim: 4 * weight if stride == 1 else -weight for dim, stride in address.strides})
    dims = [d for d in range(len(kernel.extents)) if kernel.extents[d] not in (0, 1)]
    return max(dims, key=lambda dim: (votes[dim], dim), default=None)


def _addresses(stage: object) -> list[Address]:
    loads = [instr.attr for instr in stage.body if isinstance(instr.attr, Address)]     # type: ignore[attr-defined]
    return loads + [store.address for store in stage.stores]                           # type: ignore[attr-defined]


def _unroll(kernel: LoopKernel, dim: int | None) -> int:
    body = max((len(stage.body) + len(stage.stores) for stage in kernel.stages), default=0)
    reduces = any(dim in stage.dims for stage in kernel.stages for _ in stage.reductions)
    wanted = UNROLL if reduces else UNROLL // 2
    while wanted > 1 and wanted * body > UNROLLED_INSTRS:
        wanted //= 2
    return wanted
