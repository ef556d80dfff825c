"""A schedule for a LoopKernel that came without one: vectors along the dim that memory is contiguous along."""

from __future__ import annotations

from collections import Counter

from flambeau.codegen.cpu.loop_plan import kernel_addresses
from flambeau.ir.kernel import LoopKernel, LoopSchedule

_TASK_POINTS = 8192                     # about 4 us of light work: claiming a chunk costs under 0.1
_TRANSPOSED_BLOCK = 16                  # f32[1024,1024] transposed: 0.56 ms, with 64 1.15, with whole rows 7.9
_PARALLEL_POINTS = 32768                # below this, waking threads costs more than they save
_UNROLL = 4
_UNROLLED_INSTRS = 96                   # more code than this a step costs compile time and gains nothing


def default_schedule(kernel: LoopKernel) -> LoopSchedule:
    """Vectors along the dim with most contiguous accesses, unrolled where a reduction waits on itself."""
    dim = _contiguous_dim(kernel)
    inner = _points(kernel, range(kernel.n_parallel, len(kernel.extents)))
    if dim is None or dim >= kernel.n_parallel:
        grain, block, per_task = max(1, _TASK_POINTS // inner), 1, inner
        tasks = _points(kernel, range(kernel.n_parallel))
    else:
        extent = kernel.extents[dim]
        block = _TRANSPOSED_BLOCK if _jumps(kernel, dim) else _block(max(1, _TASK_POINTS // inner))
        per_task = inner * (min(block, extent) if isinstance(extent, int) else block)
        grain = max(1, _TASK_POINTS // max(1, per_task))
        tasks = max(1, _points(kernel, range(kernel.n_parallel)) * inner // max(1, per_task))
    parallel = any(isinstance(e, str) for e in kernel.extents) or tasks * per_task >= _PARALLEL_POINTS
    return LoopSchedule(dim, _unroll(kernel, dim), block, grain, parallel)


def _block(points: int) -> int:
    """A power of two of at least 64 points, so that whole blocks are whole vectors."""
    return max(64, 1 << (points - 1).bit_length())


def _points(kernel: LoopKernel, dims: range) -> int:
    """Points of the dims, at least 1; a runtime extent counts as 256."""
    product = 1
    for dim in dims:
        extent = kernel.extents[dim]
        product *= 256 if isinstance(extent, str) else max(1, extent)
    return product


def _contiguous_dim(kernel: LoopKernel) -> int | None:
    """The dim along which most accesses have stride 1 and fewest jump; ties go to the innermost."""
    votes: Counter[int] = Counter()
    for address in kernel_addresses(kernel):
        votes.update({dim: 4 if stride == 1 else -1 for dim, stride in address.strides})
    for stage in kernel.stages:         # a gather is cheaper than a scatter
        votes.update(dim for store in stage.stores for dim, stride in store.address.strides if stride == 1)
    dims = [d for d in range(len(kernel.extents)) if kernel.extents[d] not in (0, 1)]
    return max(dims, key=lambda dim: (votes[dim], dim), default=None)


def _jumps(kernel: LoopKernel, vector_dim: int) -> bool:
    """Whether vectors along the dim jump through memory that another parallel dim is contiguous along."""
    return any(
        address.stride_of(vector_dim) not in (-1, 0, 1)
        and any(stride in (-1, 1) and dim < kernel.n_parallel for dim, stride in address.strides)
        for address in kernel_addresses(kernel)
    )


def _unroll(kernel: LoopKernel, dim: int | None) -> int:
    body = max((len(stage.body) + len(stage.stores) for stage in kernel.stages), default=0)
    reduces = any(dim in stage.dims for stage in kernel.stages for _ in stage.reductions)
    wanted = _UNROLL if reduces else _UNROLL // 2
    while wanted > 1 and wanted * body > _UNROLLED_INSTRS:
        wanted //= 2
    return wanted
