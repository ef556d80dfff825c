"""LoopKernel -> BlockSchedule: which threads share a point of the parallel dims.

Neighbours in a warp should read neighbours in memory. Where that is the inner dim of a stage, the threads of a warp or of a
block share a row; where it is the innermost parallel dim, each has its own column, with lanes to share long ones.
"""
from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Final

from flambeau.ir.gpu import GpuTarget
from flambeau.ir.kernel import Address, BlockSchedule, Extent, LoopKernel, Stage

__all__ = ["schedule_loops"]

WARP: Final = 32
BLOCK: Final = 256                      # threads, where nothing speaks against it
MOST: Final = 1024
WORK: Final = 8                         # points of a row that a lane is to have, at least
RUNTIME_EXTENT: Final = 4096            # what a size known only at run time counts as


def schedule_loops(kernel: LoopKernel, target: GpuTarget) -> BlockSchedule:
    """A schedule for a target."""
    walked = [stage for stage in kernel.stages if stage.dims]
    inner = max((_count(kernel, stage.dims) for stage in walked), default=1)
    if not walked and len(kernel.stages) == 1:
        return BlockSchedule(BLOCK, width=_width(kernel))
    if inner < 4 or any(store.combine == "add" or store.address.dynamic for stage in walked for store in stage.stores):
        return BlockSchedule(BLOCK)                 # places that several points may store to: one thread, in order
    points = _count(kernel, range(kernel.n_parallel))
    room = target.multiprocessors * target.threads // max(1, points)        # threads that wait for work, for each point
    if _runs_inward(kernel, walked):
        wanted = max(min(WARP, _power(inner)), min(_power(inner // WORK), _power(room), MOST))
        lanes = max(1, wanted)
        return BlockSchedule(max(1, BLOCK // lanes), lanes)
    lanes = max(1, min(_power(inner // WORK), _power(room), MOST // WARP))
    return BlockSchedule(BLOCK) if lanes == 1 else BlockSchedule(WARP, lanes, lanes_inner=False)


def _width(kernel: LoopKernel) -> int:
    """Neighbouring points for one thread: 16 bytes of the widest numbers that lie side by side."""
    if not kernel.n_parallel or not isinstance(last := kernel.extents[kernel.n_parallel - 1], int):
        return 1
    sizes = [kernel.params[a.buffer].dtype.itemsize for a in _addresses(kernel.stages[0])
             if a.stride_of(kernel.n_parallel - 1) == 1]
    width = 16 // max(sizes, default=16)
    while width > 1 and last % width:
        width //= 2
    return width


def _runs_inward(kernel: LoopKernel, walked: list[Stage]) -> bool:
    """Whether more accesses have stride 1 along the innermost dim of their stage than along the innermost parallel one."""
    votes = 0
    last = kernel.n_parallel - 1
    for stage in walked:
        for address in _addresses(stage):
            votes += (address.stride_of(stage.dims[-1]) == 1) - (last >= 0 and address.stride_of(last) == 1)
    return votes >= 0


def _addresses(stage: Stage) -> Iterator[Address]:
    yield from (instr.attr for instr in stage.body if isinstance(instr.attr, Address))
    yield from (store.address for store in stage.stores)


def _count(kernel: LoopKernel, dims: range | tuple[int, ...]) -> int:
    def known(extent: Extent) -> int:
        return RUNTIME_EXTENT if isinstance(extent, str) else extent

    return math.prod(known(kernel.extents[dim]) for dim in dims)


def _power(number: int) -> int:
    """The greatest power of two that is not above `number`; 1 for less."""
    return 1 << max(0, number.bit_length() - 1)
