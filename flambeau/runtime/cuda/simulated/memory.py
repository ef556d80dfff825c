"""Memory of devices that are not there: NumPy's, under pointers that mean nothing to the host; and pinned memory, which the
host has as well."""
from __future__ import annotations

import ctypes
from bisect import bisect_right, insort
from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np

from flambeau.errors import VerificationError

__all__ = ["TAG", "Kernel", "Memory"]

TAG = 0x5C << 56                    # no address of a processor begins so: looking there ends the process
_HOST = 0x3F << 48                  # within the tag: pinned memory, as the devices see it
_GARBAGE = 0xFE

At = Callable[[int, int], np.ndarray]


class Kernel(Protocol):
    """What a function of loaded code does. n_params: pointers, then sizes, of 8 bytes each."""

    n_params: int

    def __call__(self, at: At, blocks: int, threads: int, values: Sequence[int]) -> None:
        """at(pointer, nbytes): the bytes there."""


class Memory:
    """Allocations of one device. Bytes are there from the work that allocates them to the work that frees them."""

    def __init__(self, number: int, capacity: int, pinned: Pinned):
        self.capacity, self.used, self.pinned = capacity, 0, pinned
        self.arrays: dict[int, np.ndarray] = {}
        self.sizes: dict[int, int] = {}
        self.starts: list[int] = []
        self.next = TAG | (number + 1) << 48

    def reserve(self, nbytes: int) -> int | None:
        """A pointer, or None where there is not so much left."""
        if self.used + nbytes > self.capacity:
            return None
        start, self.next = self.next, self.next + nbytes + 512 - nbytes % 256
        self.sizes[start] = nbytes
        self.used += nbytes
        return start

    def appear(self, start: int) -> None:
        self.arrays[start] = np.full(self.sizes[start], _GARBAGE, np.uint8)
        insort(self.starts, start)

    def vanish(self, start: int) -> None:
        self.arrays.pop(start)[:] = _GARBAGE
        self.starts.remove(start)
        self.used -= self.sizes.pop(start)

    def at(self, pointer: int, nbytes: int) -> np.ndarray:
        """The bytes at a pointer. Raises VerificationError where they are not allocated."""
        pointer = int(pointer)
        if pointer & _HOST == _HOST and pointer >> 56 << 56 == TAG:
            return self.pinned.at(pointer & ~(TAG | _HOST), nbytes)
        where = bisect_right(self.starts, pointer) - 1
        start = self.starts[where] if where >= 0 else 0
        memory = self.arrays.get(start)
        if memory is None or pointer - start + nbytes > len(memory):
            raise VerificationError(f"{nbytes} bytes at {pointer:#x} are not memory of the device")
        return memory[pointer - start:pointer - start + nbytes]


class Pinned:
    """Memory of the host that devices reach."""

    def __init__(self) -> None:
        self.arrays: dict[int, np.ndarray] = {}
        self.starts: list[int] = []

    def allocate(self, nbytes: int) -> int:
        memory = np.full(nbytes + 64, _GARBAGE, np.uint8)
        start = memory.ctypes.data + -memory.ctypes.data % 64
        self.arrays[start] = memory[start - memory.ctypes.data:][:nbytes]
        insort(self.starts, start)
        return start

    def free(self, start: int) -> None:
        self.arrays.pop(start)[:] = _GARBAGE
        self.starts.remove(start)

    def holds(self, address: int, nbytes: int) -> bool:
        where = bisect_right(self.starts, address) - 1
        return where >= 0 and address + nbytes <= self.starts[where] + len(self.arrays[self.starts[where]])

    def at(self, address: int, nbytes: int) -> np.ndarray:
        if not self.holds(address, nbytes):
            raise VerificationError(f"{nbytes} bytes at {address:#x} are no pinned memory")
        start = self.starts[bisect_right(self.starts, address) - 1]
        return self.arrays[start][address - start:address - start + nbytes]

    @staticmethod
    def device_pointer(start: int) -> int:
        return TAG | _HOST | start


def host_bytes(address: int, nbytes: int) -> np.ndarray:
    """A copy of memory of the host."""
    return np.frombuffer(ctypes.string_at(address, nbytes), np.uint8)
