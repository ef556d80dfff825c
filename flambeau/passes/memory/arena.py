"""Values and scratch of calls -> offsets in one arena. What is alive at the same time does not overlap; a result takes
over the memory of an operand that it is the last to read where each element is stored at the place it was loaded from.
"""
from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Union

import numpy as np

from flambeau.ir.graph import Value
from flambeau.ir.records import dataclass
from flambeau.passes.lowering.lower import Call
from flambeau.passes.memory.nested import Look

ALIGNMENT = 64
Moment = Union[Call, Look]                  # noqa: UP007


@dataclass
class Block:
    """A stretch of arena: alive from call `first` to call `last`."""

    nbytes: int
    first: int
    last: int
    offset: int = -1


@dataclass(frozen=True)
class Arena:
    """The block of every value that has no home elsewhere, of each call's scratch, and the size of the whole."""

    block_of: dict[Value, Block]
    scratch: list[list[Block]]
    nbytes: int
    reused_bytes: int               # of results that took over an operand's memory
    unshared_bytes: int             # what values and the kernels' own scratch would take without any sharing


def lay_out(timeline: Sequence[Moment], scratch_bytes: Sequence[Sequence[int]], elsewhere: Mapping[Value, object],
            place: Callable[[Value], Value] = lambda value: value, loops: Sequence[tuple[int, int]] = ()) -> Arena:
    """timeline: calls in execution order, and looks at bools between them; scratch_bytes: of each call. elsewhere: values
    that lie outside the arena. place: the value in whose memory one lies. loops: stretches of the timeline that are
    repeated: what is alive before is alive through the whole of them."""
    last_use = _last_uses(timeline, place, loops)
    block_of: dict[Value, Block] = {}
    blocks: list[Block] = []
    reused = unshared = 0
    times: list[int] = []                       # of the calls
    for now, step in enumerate(timeline):
        if isinstance(step, Call):
            times.append(now)
        for value in step.results:
            home = place(value)
            if home in elsewhere or home in block_of:
                continue
            unshared += aligned(value.type.nbytes)
            heir = _inheritance(step, value, now, block_of, last_use, place) if isinstance(step, Call) else None
            if heir is None:
                blocks.append(Block(aligned(value.type.nbytes), now, last_use[home]))
                block_of[home] = blocks[-1]
            else:
                heir.last = last_use[home]
                block_of[home] = heir
                reused += value.type.nbytes
    scratch = [[Block(aligned(n), now, now) for n in sizes] for now, sizes in zip(times, scratch_bytes, strict=True)]
    nbytes = _place(blocks + [block for group in scratch for block in group])
    unshared += sum(block.nbytes for group in scratch for block in group)
    return Arena(block_of, scratch, nbytes, reused, unshared)


def _last_uses(timeline: Sequence[Moment], place: Callable[[Value], Value],
               loops: Sequence[tuple[int, int]]) -> dict[Value, int]:
    """When each value is read or written for the last time."""
    first_use: dict[Value, int] = {}
    last_use: dict[Value, int] = {}
    for now, step in enumerate(timeline):
        again = [(start, end) for start, end in loops if start <= now <= end]
        for value in (*step.operands, *step.results):
            home = place(value)
            first = first_use.setdefault(home, now)
            last_use[home] = max([now, *[end for start, end in again if first < start]])
    return last_use


def _inheritance(call: Call, value: Value, now: int, block_of: Mapping[Value, Block],
                 last_use: Mapping[Value, int], place: Callable[[Value], Value]) -> Block | None:
    """The block of an operand that dies here and that `value` may overwrite element by element."""
    operands = [(operand, place(operand)) for operand in call.operands]
    taken = [block_of.get(place(other)) for other in call.results if other is not value]
    for operand, home in operands:
        block = block_of.get(home)
        if (block is not None and block.last == now and last_use[home] == now
                and operand.type.nbytes == value.type.nbytes and operand.dtype.itemsize == value.dtype.itemsize
                and all(block is not other for other in taken) and [h for _, h in operands].count(home) == 1
                and call.may_share(operand, value)):
            return block
    return None


def aligned(nbytes: int) -> int:
    return -(-max(nbytes, 1) // ALIGNMENT) * ALIGNMENT


def _place(blocks: list[Block]) -> int:
    """Give every block an offset. Largest first, each in the lowest gap that holds it. Source: Pisarchyk and Lee,
    "Efficient memory management for deep neural net inference", 2020."""
    starts, ends, firsts, lasts = placed = np.zeros((4, len(blocks) + 1), np.int64)         # by start
    for count, block in enumerate(sorted(blocks, key=lambda b: (-b.nbytes, b.first))):
        rivals = np.flatnonzero((lasts[:count] >= block.first) & (firsts[:count] <= block.last))
        offsets = np.maximum.accumulate(np.append(0, ends[rivals]))         # what is free behind the rivals so far
        fits = offsets[:-1] + block.nbytes <= starts[rivals]
        block.offset = int(offsets[fits.argmax() if fits.any() else -1])
        place = int(starts[:count].searchsorted(block.offset, side="right"))
        placed[:, place + 1:count + 1] = placed[:, place:count]
        placed[:, place] = block.offset, block.offset + block.nbytes, block.first, block.last
    return int(ends.max())
