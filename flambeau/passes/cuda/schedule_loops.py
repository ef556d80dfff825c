"""LoopKernel -> BlockSchedule: which threads share a point of the parallel dims.

Neighbours in a warp should read neighbours in memory. Where that is the inner dim of a stage, the threads of a warp or of a
block share a row; where it is the innermost parallel dim, each has its own column, with lanes to share long ones.
"""
from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from flambeau.ir.gpu import GpuTarget
from flambeau.ir.kernel import Address, BlockSchedule, Extent, LoopKernel, Stage
from flambeau.ir.kernel.repeats import rests
from flambeau.ir.kernel.scatters import flattened, may_scatter

__all__ = ["addresses", "count", "fewest_columns", "runs_inward", "schedule_loops"]

WARP: Final = 32
SECTOR: Final = 32                      # bytes that memory gives at once
BLOCK: Final = 256                      # threads, where nothing speaks against it
MOST: Final = 1024
WORK: Final = 8                         # points of a row that a lane is to have, at least
KEPT: Final = 32                        # registers of a lane for what it keeps of its row
CROWDED: Final = 32                     # buffers, beyond which the 64 registers that MOST threads leave to each are few
BUSY: Final = 16                        # instructions for each access, from where on a thread computes more than it waits
TILED: Final = 16                       # points along both dims of a square, at least
RUNTIME_EXTENT: Final = 4096            # what a size known only at run time counts as


def schedule_loops(kernel: LoopKernel, target: GpuTarget) -> BlockSchedule:
    """A schedule for a target."""
    walked = [stage for stage in kernel.stages if stage.dims]
    inner = max((count(kernel, stage.dims) for stage in walked), default=1)
    if not walked and len(kernel.stages) == 1:
        across = _tile_dim(kernel)
        return BlockSchedule(BLOCK, width=_width(kernel)) if across is None else BlockSchedule(BLOCK, tile_dim=across)
    if may_scatter(kernel, inexact=not target.deterministic):
        return BlockSchedule(BLOCK, width=_width(flattened(kernel, kernel.stages[0])), atomic=True)
    if inner < 4 or any(store.combine == "add" or store.address.dynamic for stage in walked for store in stage.stores):
        return BlockSchedule(BLOCK)                 # places that several points may store to: one thread, in order
    points = count(kernel, range(kernel.n_parallel))
    room = target.multiprocessors * target.threads // max(1, points)        # threads that wait for work, for each point
    if runs_inward(kernel, walked):
        return _rows(kernel, walked, inner, room)
    columns, fewest = WARP, fewest_columns(kernel, walked)
    while columns > fewest and -(-points // columns) < target.multiprocessors:
        columns //= 2
    most = MOST if len(kernel.params) <= CROWDED else MOST // 2
    lanes = max(1, min(_power(inner // WORK), _power(room), most // columns))
    return BlockSchedule(BLOCK) if lanes == 1 else BlockSchedule(columns, lanes, lanes_inner=False)


def fewest_columns(kernel: LoopKernel, walked: Sequence[Stage]) -> int:
    """Of a block: they fill 32 bytes, which is what memory gives at once."""
    last = kernel.n_parallel - 1
    sizes = [kernel.params[a.buffer].dtype.itemsize for stage in walked for a in addresses(stage)
             if abs(a.stride_of(last)) == 1 and any(dim in stage.dims for dim, _ in a.strides)]
    return min(WARP, SECTOR // min(sizes, default=4))


def _tile_dim(kernel: LoopKernel) -> int | None:
    """The dim that something loaded runs along, where what is stored runs along the last."""
    (stage,), last = kernel.stages, kernel.n_parallel - 1
    if any(isinstance(e, str) for e in kernel.extents) or not stage.stores or not all(
            s.address.stride_of(last) == 1 for s in stage.stores):
        return None
    for address in addresses(stage):
        found = [dim for dim, stride in address.known_strides if abs(stride) == 1 and dim != last]
        if found and not address.dynamic and address.guard is None and abs(address.stride_of(last)) > 1 and min(
                int(kernel.extents[d]) for d in (*found, last)) >= TILED:
            return found[0]
    return None


def _rows(kernel: LoopKernel, walked: list[Stage], inner: int, room: int) -> BlockSchedule:
    """Lanes for rows of `inner` points: as few as keep the row in their registers, more where threads wait for work."""
    width = _row_width(kernel, walked)
    registers = _kept_registers(kernel)
    most = KEPT // max(1, registers)                # points of a lane

    def taken(lanes: int) -> int:
        return -(-inner // (lanes * width)) * width

    lanes = min(WARP, 1 << (-(-inner // width) - 1).bit_length())
    while lanes < MOST and taken(lanes) > width and (taken(lanes) > most or 2 * lanes <= room and taken(lanes) > WORK):
        lanes *= 2
    kept = registers > 0 and taken(lanes) <= most and all(isinstance(kernel.extents[d], int)
                                                          for stage in walked for d in stage.dims)
    return BlockSchedule(max(1, BLOCK // lanes), lanes, width=width, kept=kept)


def _kept_registers(kernel: LoopKernel) -> int:
    """For each point of a row, while most is kept."""
    left, dtype_of = rests(kernel), {instr.id: instr.dtype for instr in kernel.instrs()}
    last = {kept: number for number, rest in enumerate(left) for _, kept in rest.given}
    alive = [[value for at, rest in enumerate(left[:number]) for value in rest.kept if last[value] >= number]
             for number in range(len(left))]
    return max([sum(max(1, dtype_of[value].itemsize // 4) for value in values) for values in alive], default=0)


def _width(kernel: LoopKernel) -> int:
    """Neighbouring points for one thread: 16 bytes of the widest numbers that lie side by side. One where a point is much
    to compute: memory is no longer what it waits for, and code for several, side by side, takes their registers."""
    if _is_busy(kernel.stages[0]):
        return 1
    if not kernel.n_parallel or not isinstance(last := kernel.extents[kernel.n_parallel - 1], int):
        return _width_of_any_size(kernel)
    sizes = [kernel.params[a.buffer].dtype.itemsize for a in addresses(kernel.stages[0])
             if a.stride_of(kernel.n_parallel - 1) == 1]
    width = 16 // max(sizes, default=16)
    while width > 1 and last % width:
        width //= 2
    return width


def _is_busy(stage: Stage) -> bool:
    computed = sum(instr.op not in ("const", "index", "load") for instr in stage.body)
    return computed >= BUSY * sum(1 for _ in addresses(stage))


def _width_of_any_size(kernel: LoopKernel) -> int:
    """Where one dim, of a size known at run time, is all there is, and everything lies side by side along it."""
    (stage,) = kernel.stages
    places = [a for a in addresses(stage) if a.strides]
    if len(kernel.extents) != 1 or not places or any(
            a.strides != ((0, 1),) or a.offset or a.dynamic or a.guard is not None for a in places):
        return 1
    return 16 // max(kernel.params[a.buffer].dtype.itemsize for a in places)


def _row_width(kernel: LoopKernel, walked: Sequence[Stage]) -> int:
    """Neighbours in a row for one lane: 16 bytes, where rows are a multiple of that, of the widest numbers that lie side
    by side."""
    beside = [(a, stage.dims[-1]) for stage in walked for a in addresses(stage) if a.stride_of(stage.dims[-1]) == 1]
    width = 16 // max([kernel.params[a.buffer].dtype.itemsize for a, _ in beside], default=16)
    numbers: Iterable[Extent] = [*[kernel.extents[stage.dims[-1]] for stage in walked], *[
        number for a, along in beside for number in (a.offset, *[stride for dim, stride in a.strides if dim != along])]]
    if any(isinstance(number, str) for number in numbers):
        return 1
    while width > 1 and any(int(number) % width for number in numbers):
        width //= 2
    return width


def runs_inward(kernel: LoopKernel, walked: Sequence[Stage]) -> bool:
    """Whether more of what is accessed has stride 1 along the innermost dim of its stage than along the innermost parallel
    one. What is the same all along a row does not count; a matrix counts for more than the vector that it is multiplied by.
    """
    votes = 0
    last = kernel.n_parallel - 1
    for stage in walked:
        for address in addresses(stage):
            if any(dim in stage.dims for dim, _ in address.strides):
                side = (address.stride_of(stage.dims[-1]) == 1) - (last >= 0 and address.stride_of(last) == 1)
                votes += side * count(kernel, tuple([dim for dim, _ in address.strides]))
    return votes >= 0


def addresses(stage: Stage) -> Iterator[Address]:
    """Where a stage loads and stores."""
    yield from (i.attr for i in stage.body if i.op == "load" and isinstance(i.attr, Address))
    yield from (store.address for store in stage.stores)


def count(kernel: LoopKernel, dims: range | tuple[int, ...]) -> int:
    """Points of the dims."""
    def known(extent: Extent) -> int:
        return RUNTIME_EXTENT if isinstance(extent, str) else extent

    return math.prod(known(kernel.extents[dim]) for dim in dims)


def _power(number: int) -> int:
    """The greatest power of two that is not above `number`; 1 for less."""
    return 1 << max(0, number.bit_length() - 1)
