"""What the threads of a warp do together, as the emulator runs it: neighbouring elements at once, copies that go on by
themselves (cp.async), matrices for tensor cores. And memory, which remembers who touched it.

A copy stores at once, but what it stored may not be touched before its group was waited for, by threads other than its own
not before a barrier after that.
"""
from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np

from flambeau.ir import dtypes as dt

__all__ = ["ATOMICALLY", "WARP", "Array", "Memory", "Sectors", "Warps", "rounded_to_tf32", "widened"]

Array = np.ndarray

WARP: Final = 32
ATOMICALLY: Final = -3          # the last to store an element, where threads added to it one after another


@dataclass(eq=False)
class Memory:
    """A buffer that the threads of a launch share, or each block has its own of. Who touched an element last, and when."""

    name: str
    values: Array
    per_block: int = 0                          # elements of each block's (or thread's) own; 0: the whole grid's
    defined: Array | None = None
    is_local: bool = False                      # each thread's own, not each block's
    coming: Array | None = None                 # the group of copies that each element waits for, while any does
    writer: Array = field(init=False)
    reader: Array = field(init=False)
    when: dict[str, tuple[Array, Array]] = field(init=False)

    def __post_init__(self) -> None:
        n = len(self.values)
        self.writer, self.reader = np.full(n, -1), np.full(n, -1)           # -2: several
        self.when = {kind: (np.zeros(n, np.int64), np.zeros(n, np.int64)) for kind in ("written", "read")}


SECTOR: Final = 32              # bytes that memory gives at once


class Sectors:
    """What a kernel asks its buffers for, by name and "read" or "stored". asked: bytes in sectors of 32, each once
    for each access of a warp. touched: the sectors there are."""

    def __init__(self) -> None:
        self.asked: dict[str, int] = {}
        self.touched: dict[str, set[int]] = {}

    def add(self, name: str, warp: Array, first: Array, last: Array) -> None:
        """first, last: bytes that threads of warps access, from and to, at most 32 of them."""
        sectors = np.unique(np.concatenate([(warp << 40) + first // SECTOR, (warp << 40) + last // SECTOR]))
        self.asked[name] = self.asked.get(name, 0) + SECTOR * len(sectors)
        self.touched.setdefault(name, set()).update((sectors & ((1 << 40) - 1)).tolist())


class Warps(ABC):
    """The part of a grid that knows warps. Names of the language are methods here."""

    n: int                                      # threads
    line: int
    lane: Array
    block_epoch: int
    warp_epoch: int
    ways: dict[int, int] | None
    sectors: Sectors | None = None

    def __init__(self) -> None:
        self.groups = self.landed = 0           # of asynchronous copies: committed, and waited for
        self.flights: list[tuple[Memory, Array, int]] = []

    @abstractmethod
    def fail(self, what: str) -> Exception: ...

    @abstractmethod
    def place(self, memory: Memory, index: Any, mask: Array | None) -> tuple[Array, Array]: ...

    @abstractmethod
    def load(self, memory: Memory, index: Any, mask: Array | None) -> Array: ...

    @abstractmethod
    def store(self, memory: Memory, index: Any, value: Any, mask: Array | None) -> None: ...

    @abstractmethod
    def all_here(self, mask: Array | None, what: str, group: int) -> None: ...

    def together(self, name: str) -> Callable[..., None] | None:
        """The method for a name such as `copy4`, `cp_async_wait1`, `ldmatrix4_trans`, `mma_f16`, if there is one."""
        match name:
            case "copy2" | "copy4" | "copy8" | "copy16":
                return lambda mask, *given: self.copied(int(name[4:]), mask, *given)
            case "cp_async1" | "cp_async2" | "cp_async4" | "cp_async8":
                return lambda mask, *given: self.sent(int(name[-1]), mask, *given)
            case "cp_async_commit":
                return self.commit
            case "cp_async_wait0" | "cp_async_wait1" | "cp_async_wait2" | "cp_async_wait3":
                return lambda mask: self.wait(mask, int(name[-1]))
            case "ldmatrix4" | "ldmatrix4_trans":
                return lambda mask, *given: self.matrices(name.endswith("trans"), mask, *given)
            case "mma_bf16" | "mma_f16" | "mma_tf32":
                return lambda mask, *given: self.multiplied(name[4:], mask, *given)
            case _:
                return None

    # neighbours

    def aligned(self, width: int, memory: Memory, first: Any, mask: Array | None) -> None:
        _, where = self.place(memory, first, mask)
        if (where % width).any():
            raise self.fail(f"touches {width} elements of {memory.name} from {where[where % width != 0][0]} on, at once")

    def copied(self, width: int, mask: Array | None, target: Memory, to: Any, source: Memory, start: Any) -> None:
        """Neighbouring elements from one memory to another."""
        for memory, first in ((target, to), (source, start)):
            self.aligned(width, memory, first, mask)
            self.count_ways(memory, first, width, mask)
            self.count_sectors(memory, first, width, mask, "stored" if memory is target else "read")
        with self.counted():
            for number in range(width):
                self.store(target, to + number, self.load(source, start + number, mask), mask)

    def count_ways(self, memory: Memory, first: Any, width: int, mask: Array | None) -> None:
        """How many different rows of one bank the threads of a warp want at once, as a GPU's shared memory serves them: 32
        banks of 4 bytes; 8 bytes of half the threads, 16 bytes of a quarter of them, at a time."""
        if self.ways is None or not memory.per_block or memory.is_local:
            return
        nbytes = width * memory.values.itemsize
        who = np.arange(self.n) if mask is None else np.flatnonzero(mask)
        words = np.broadcast_to(np.asarray(first), (self.n,))[who] * memory.values.itemsize // 4
        group = who // (WARP * 4 // max(4, nbytes))
        wanted = np.unique(np.concatenate([(group << 32) + words + n for n in range(max(1, nbytes // 4))]))
        _, counts = np.unique((wanted >> 32 << 5) + wanted % 32, return_counts=True)
        self.ways[self.line] = max(self.ways.get(self.line, 1), int(counts.max(initial=1)))

    def count_sectors(self, memory: Memory, first: Any, width: int, mask: Array | None, how: str) -> None:
        """Which sectors of the grid's memory the threads of each warp want at once."""
        if self.sectors is None or memory.per_block:
            return
        size = memory.values.itemsize
        who = np.arange(self.n) if mask is None else np.flatnonzero(mask)
        start = np.broadcast_to(np.asarray(first), (self.n,))[who].astype(np.int64) * size
        self.sectors.add(f"{memory.name} {how}", self.lane[who] // WARP, start, start + width * size - 1)

    @contextmanager
    def counted(self) -> Iterator[None]:
        """What happens here was counted as one access."""
        ways, sectors, self.ways, self.sectors = self.ways, self.sectors, None, None
        yield
        self.ways, self.sectors = ways, sectors

    # asynchronous copies

    def sent(self, width: int, mask: Array | None, shared: Memory, to: Any, source: Memory, start: Any,
             inside: Any) -> None:
        """Neighbouring elements to shared memory, zeros where they are not `inside`, for the group that is open."""
        self.aligned(width, shared, to, mask)
        self.count_ways(shared, to, width, mask)
        asked = np.broadcast_to(np.asarray(inside, np.bool_), (self.n,))
        asked = asked if mask is None else asked & mask
        if asked.any():
            self.aligned(width, source, start, asked)
            self.count_sectors(source, start, width, asked, "read")
        with self.counted():
            for number in range(width):
                values = self.load(source, start + number, asked) if asked.any() else 0
                self.store(shared, to + number, values, mask)
        _, where = self.place(shared, to, mask)
        where = (where[:, None] + np.arange(width)).ravel()
        if shared.coming is None:
            shared.coming = np.zeros(len(shared.values), np.int64)
        shared.coming[where] = self.groups + 1
        self.flights.append((shared, where, self.groups + 1))

    def commit(self, mask: Array | None) -> None:
        self.all_here(mask, "a group of copies", self.n)
        self.groups += 1

    def wait(self, mask: Array | None, left: int) -> None:
        """For all groups but the newest `left`, which each thread does for its own copies."""
        self.all_here(mask, "a wait for copies", self.n)
        self.landed = max(self.landed, self.groups - left)
        for memory, where, group in self.flights:
            if group <= self.landed:
                block_epoch, warp_epoch = memory.when["written"]
                block_epoch[where], warp_epoch[where] = self.block_epoch, self.warp_epoch
        self.flights = [flight for flight in self.flights if flight[2] > self.landed]

    def arrived(self, memory: Memory, where: Array) -> None:
        if memory.coming is not None and (memory.coming[where] > self.landed).any():
            raise self.fail(f"touches an element of {memory.name} whose copy was not waited for")

    # matrices

    def matrices(self, turned: bool, mask: Array | None, array: Memory, to: Any, shared: Memory, at: Any) -> None:
        """Four matrices of 8 x 8; lane 8 * i + j says where row j of matrix i begins. Lane 4 * r + c gets elements 2 * c
        and 2 * c + 1 of row r of each, or of column r; of 4-byte elements, element c of row r."""
        self.all_here(mask, "a load of matrices", WARP)
        itemsize = shared.values.itemsize
        self.aligned(16 // itemsize, shared, at, mask)
        self.count_ways(shared, at, 16 // itemsize, mask)
        rows = np.broadcast_to(np.asarray(at), (self.n,)).reshape(-1, WARP)
        lane = np.arange(WARP)
        with self.counted():
            for matrix in range(4):
                if itemsize == 4:
                    words = self.load(shared, (rows[:, 8 * matrix + lane // 4] + lane % 4).ravel(), mask)
                    self.store(array, to + matrix, words.view(np.uint32).astype(np.int64), mask)
                    continue
                halves = []
                for half in (0, 1):
                    row, column = (lane % 4 * 2 + half, lane // 4) if turned else (lane // 4, lane % 4 * 2 + half)
                    halves.append(self.load(shared, (rows[:, 8 * matrix + row] + column).ravel(), mask))
                self.store(array, to + matrix, halves[0] | halves[1] << 16, mask)

    def multiplied(self, kind: str, mask: Array | None, acc: Memory, at: Any, a: Memory, a_at: Any, b: Memory,
                   b_at: Any) -> None:
        """sums[16, 8] += lhs[16, k] @ rhs[k, 8], as m16n8k16 (of TF32: m16n8k8) lays them over the lanes of a warp; in f64,
        rounded once."""
        self.all_here(mask, "a product of matrices", WARP)
        row, pair = np.arange(WARP) // 4, np.arange(WARP) % 4 * 2
        many = 1 if kind == "tf32" else 2                           # elements of k in a register

        def elements(memory: Memory, first: Any, count: int) -> Array:
            words = np.stack([self.load(memory, first + n, mask).reshape(-1, WARP) for n in range(count)])
            if kind == "tf32":
                return words.astype(np.uint32).view(np.float32).astype(np.float64)[None]
            bits = np.stack([words & 0xFFFF, words >> 16 & 0xFFFF]).astype(np.uint16)
            values = dt.bf16_to_f32(bits) if kind == "bf16" else bits.view(np.float16)
            return values.astype(np.float64)                        # [element, register, warp, lane]

        left, right = elements(a, a_at, 4), elements(b, b_at, 2)
        warps, k, first = left.shape[2], 8 * many, np.arange(WARP) % 4 * many
        lhs, rhs, sums = np.zeros((warps, 16, k)), np.zeros((warps, k, 8)), np.zeros((warps, 16, 8))
        for element in range(many):
            for register in range(4):
                lhs[:, row + register % 2 * 8, first + element + register // 2 * 4 * many] = left[element, register]
            for register in range(2):
                rhs[:, first + element + register * 4 * many, row] = right[element, register]
        for register in range(4):
            sums[:, row + register // 2 * 8, pair + register % 2] = self.load(acc, at + register, mask).reshape(-1, WARP)
        sums = (sums + lhs @ rhs).astype(np.float32)
        for register in range(4):
            self.store(acc, at + register, sums[:, row + register // 2 * 8, pair + register % 2].ravel(), mask)


def rounded_to_tf32(bits: Array) -> Array:
    """f32 as bits, to the nearest number with 10 bits of mantissa, ties away from zero."""
    bits = np.asarray(bits).astype(np.int64)
    special = bits & 0x7F800000 == 0x7F800000
    return np.where(special, np.where(bits & 0x7FFFFF != 0, 0x7FFFFFFF, bits), bits + 0x1000 & 0xFFFFE000)


def widened(values: Array) -> Array:
    """As numba computes with what was loaded: ints in 64 bits."""
    return values.astype(np.int64) if values.dtype.kind in "iu" and values.dtype != np.uint64 else values
