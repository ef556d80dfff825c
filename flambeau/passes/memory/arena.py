"""Values and scratch of calls -> offsets in one arena. What is alive at the same time does not overlap; a result takes
over the memory of an operand that it is the last to read where each element is stored at the place it was loaded from.
"""
from __future__ import annotations

from bisect import insort
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from flambeau.ir.graph import Value
from flambeau.passes.lowering.lower import Call
from flambeau.passes.memory.state_writes import may_share, operands_of, results_of

ALIGNMENT = 64


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


def lay_out(calls: Sequence[Call], scratch_bytes: Sequence[Sequence[int]], elsewhere: Mapping[Value, object]) -> Arena:
    """calls: in execution order. elsewhere: values that lie outside the arena."""
    last_read: dict[Value, int] = {}
    for number, call in enumerate(calls):
        last_read.update([(value, number) for value in operands_of(call)])
    block_of: dict[Value, Block] = {}
    blocks: list[Block] = []
    reused = unshared = 0
    for number, call in enumerate(calls):
        for value in results_of(call):
            if value in elsewhere or value in block_of:
                continue
            unshared += aligned(value.type.nbytes)
            last = max(number, last_read.get(value, number))
            heir = _inheritance(call, value, number, block_of, last_read)
            if heir is None:
                blocks.append(Block(aligned(value.type.nbytes), number, last))
                block_of[value] = blocks[-1]
            else:
                heir.last = last
                block_of[value] = heir
                reused += value.type.nbytes
    scratch = [[Block(aligned(n), number, number) for n in sizes] for number, sizes in enumerate(scratch_bytes)]
    nbytes = _place(blocks + [block for group in scratch for block in group])
    unshared += sum(block.nbytes for group in scratch for block in group)
    return Arena(block_of, scratch, nbytes, reused, unshared)


def _inheritance(call: Call, value: Value, now: int, block_of: Mapping[Value, Block],
                 last_read: Mapping[Value, int]) -> Block | None:
    """The block of an operand that dies here and that `value` may overwrite element by element."""
    taken = [block_of.get(other) for other in results_of(call) if other is not value]
    for operand in operands_of(call):
        block = block_of.get(operand)
        if (block is not None and block.last == now and last_read[operand] == now
                and operand.type.nbytes == value.type.nbytes and operand.dtype.itemsize == value.dtype.itemsize
                and all(block is not other for other in taken) and may_share(call, operand, value)):
            return block
    return None


def aligned(nbytes: int) -> int:
    return -(-max(nbytes, 1) // ALIGNMENT) * ALIGNMENT


def _place(blocks: list[Block]) -> int:
    """Give every block an offset. Largest first, each in the lowest gap that holds it. Source: Pisarchyk and Lee,
    "Efficient memory management for deep neural net inference", 2020."""
    placed: list[tuple[int, int, Block]] = []               # by offset
    total = 0
    for number, block in enumerate(sorted(blocks, key=lambda b: (-b.nbytes, b.first))):
        offset = 0
        for start, _, rival in placed:
            if rival.last < block.first or block.last < rival.first:
                continue
            if offset + block.nbytes <= start:
                break
            offset = max(offset, start + rival.nbytes)
        block.offset = offset
        insort(placed, (offset, number, block))
        total = max(total, offset + block.nbytes)
    return total
