"""LoopKernel -> LoopSchedule: which dim runs in vectors, what goes side by side, how the work is cut into tasks.

Everything follows from what the kernel costs (loop_cost.py): the vector dim is the cheapest one; a kernel of less
than PARALLEL_NS stays on one thread; otherwise chunks take a fair share of the cores' time, within CHUNK_NS.
"""
from __future__ import annotations

from typing import Final

from flambeau.ir.kernel import Extent, LoopKernel, LoopSchedule, Stage
from flambeau.ir.target import Target
from flambeau.passes.cpu.loop_cost import Cost, count

PARALLEL_NS: Final = 5000.0             # waking a thread and waiting for it costs about 1 us
CHUNK_NS: Final = (3000.0, 20000.0)     # claiming a chunk costs under 0.1 us; a late thread waits for one at most
CHUNKS_PER_CORE: Final = 4
UNROLL: Final = 4                       # accumulators that hide the latency of an addition
COLUMNS: Final = 4                      # vectors of a row that column reductions take side by side, at most
ACCUMULATORS: Final = 8                 # of a column reduction: columns x rows
UNROLLED_INSTRS: Final = 96             # more code than this a step costs compile time and gains nothing
TILE: Final = 16                        # the widest square transposed in registers
TILE_BLOCK: Final = 256                  # points of a tile's vector dim that one task takes


def schedule_loops(kernel: LoopKernel, target: Target) -> LoopSchedule:
    """The cheapest schedule for one core, cut into tasks for all of them."""
    cost = Cost(kernel, target)
    dim, tiled, nanoseconds = vector_dim_of(cost)
    is_worth_threads = target.cores > 1 and (nanoseconds >= PARALLEL_NS or bool(kernel.sizes))
    low, high = CHUNK_NS
    chunk = min(high, max(low, nanoseconds / (CHUNKS_PER_CORE * target.cores))) if is_worth_threads else nanoseconds
    if dim is None or dim >= kernel.n_parallel:
        tasks = count(kernel, range(kernel.n_parallel))
        grain = _share(chunk, nanoseconds, tasks)
        return LoopSchedule(dim, _unroll(kernel, dim), 1, grain, is_worth_threads and tasks > grain)
    if tiled is not None:
        return _tiles(cost, dim, tiled, nanoseconds, chunk, is_worth_threads)
    return _columns(cost, dim, nanoseconds, chunk, is_worth_threads)


def vector_dim_of(cost: Cost) -> tuple[int | None, int | None, float]:
    """(the vector dim, the dim that makes tiles with it if any, nanoseconds); ties go to the innermost."""
    best: tuple[int | None, int | None, float] = (None, None, cost.instrs(None))
    walked = {dim for stage in cost.kernel.stages for dim in stage.dims}
    for dim in reversed(range(len(cost.kernel.extents))):
        if cost.kernel.extents[dim] in (0, 1) or not (dim < cost.kernel.n_parallel or dim in walked):
            continue
        tiled = _companion(cost, dim)
        found = cost.instrs(dim, tiled)
        if found < best[2] or (best[0] is None and found <= best[2]):
            best = dim, tiled, found
    return best[0], best[1], cost.nanoseconds(*best[:2])


def _companion(cost: Cost, dim: int) -> int | None:
    """The parallel dim that accesses which jump along `dim` are contiguous along, if a whole tile fits both."""
    kernel, width = cost.kernel, min(TILE, cost.lanes(dim))
    if dim >= kernel.n_parallel or _points(kernel.extents[dim]) < width or width < 4:
        return None
    for stage in kernel.stages:
        if stage.dims:
            return None                 # tiles of whole loops would be far too much code
    found = {other for address in kernel.addresses() if address.stride_of(dim) not in (-1, 0, 1)
             for other, stride in address.strides if stride == 1 and other < kernel.n_parallel}
    fitting = [other for other in sorted(found) if _points(kernel.extents[other]) >= width]
    if not fitting or min(kernel.params[a.buffer].dtype.itemsize for a in kernel.addresses()) < 2:
        return None
    return fitting[-1]


def _points(extent: Extent) -> int:
    """0 for a runtime size: nothing is known to fit it."""
    return 0 if isinstance(extent, str) else extent


def _share(chunk: float, nanoseconds: float, tasks: int) -> int:
    """Tasks that take `chunk` nanoseconds together."""
    return max(1, min(tasks, round(chunk * tasks / max(nanoseconds, 1.0))))


def _tiles(cost: Cost, dim: int, tiled: int, nanoseconds: float, chunk: float, is_parallel: bool) -> LoopSchedule:
    kernel, rows = cost.kernel, min(TILE, cost.lanes(dim))
    tasks = -(-count(kernel, range(kernel.n_parallel)) // (rows * TILE_BLOCK))
    grain = _share(chunk, nanoseconds, tasks)
    return LoopSchedule(dim, 1, TILE_BLOCK, grain, is_parallel and tasks > grain, tiled, rows)


def _columns(cost: Cost, dim: int, nanoseconds: float, chunk: float, is_parallel: bool) -> LoopSchedule:
    """Vectors of a parallel dim: blocks of it as tasks, all of it in one where it shares a task with nothing else."""
    kernel, lanes = cost.kernel, cost.lanes(dim)
    extent, others = kernel.extents[dim], count(kernel, [d for d in range(kernel.n_parallel) if d != dim])
    points = count(kernel, (dim,))
    row_dim = _row_dim(kernel, dim)
    unroll = min(COLUMNS if row_dim is not None else _unroll(kernel, dim), max(1, points // lanes))
    step = lanes * unroll
    block = _share(chunk, nanoseconds / others, points)
    if row_dim is not None and isinstance(extent, int):         # rows of one memory page, and a block for each core
        block = max(step, min(block, 256 * lanes // 4))
    block = -(-block // step) * step
    if isinstance(extent, int) and (block >= extent or not is_parallel):
        block = -(-extent // step) * step
    tasks = others * -(-points // block)
    grain = _share(chunk, nanoseconds, tasks)
    rows = _rows(kernel, row_dim, unroll) if row_dim is not None else 1
    return LoopSchedule(dim, unroll, block, grain, is_parallel and (isinstance(extent, str) or tasks > grain),
                        row_dim if rows > 1 else None, rows)


def _row_dim(kernel: LoopKernel, vector_dim: int) -> int | None:
    """The dim whose points column reductions take side by side: the innermost one of the stages that reduce, all of
    known size, without gathers, guards, and scattered sums."""
    reducing = [stage for stage in kernel.stages if stage.reductions and stage.dims]
    dims = {stage.dims[-1] for stage in reducing}
    if len(dims) != 1 or vector_dim in dims or any(stage.stores for stage in reducing):
        return None
    (dim,) = dims
    plain = all(not a.dynamic and a.guard is None for a in kernel.addresses())
    return dim if plain and isinstance(kernel.extents[dim], int) else None


def _rows(kernel: LoopKernel, row_dim: int, unroll: int) -> int:
    rows = ACCUMULATORS // unroll
    body = max(_code(stage) for stage in kernel.stages if row_dim in stage.dims)
    while rows > 1 and (rows * unroll * body > UNROLLED_INSTRS or rows > _points(kernel.extents[row_dim])):
        rows //= 2
    return rows


def _code(stage: Stage) -> int:
    return len(stage.body) + len(stage.stores) + len(stage.reductions)


def _unroll(kernel: LoopKernel, dim: int | None) -> int:
    """Vectors a step: reductions wait for themselves, so those have more accumulators."""
    body = max((len(stage.body) + len(stage.stores) for stage in kernel.stages), default=0)
    reduces = any(dim in stage.dims for stage in kernel.stages for _ in stage.reductions)
    wanted = UNROLL if reduces else UNROLL // 2
    while wanted > 1 and wanted * body > UNROLLED_INSTRS:
        wanted //= 2
    return wanted
