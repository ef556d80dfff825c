"""A GPU that is not there: its memory is NumPy's, under pointers that mean nothing to the host, and its kernels are
functions of Python."""
from __future__ import annotations

import ctypes
from bisect import bisect_right, insort
from collections.abc import Callable, Sequence

import numpy as np

from flambeau.errors import VerificationError
from flambeau.runtime.cuda.driver import Driver

__all__ = ["EmulatedDriver", "EmulatedKernel"]

_TAG = 0x5C << 56                   # no address of a processor begins so: looking there ends the process

# (bytes at a pointer, blocks, threads, pointers, sizes)
EmulatedKernel = Callable[[Callable[[int, int], np.ndarray], int, int, Sequence[int], Sequence[int]], None]


class EmulatedDriver(Driver):
    """Each allocation is filled with nonsense and knows its end. kernels: by entry, from whoever compiles for it."""

    def __init__(self, number: int = 0):
        self.kernels: dict[str, EmulatedKernel] = {}
        self.memory: dict[int, np.ndarray] = {}
        self.starts: list[int] = []
        self.next = _TAG | (number + 1) << 48

    def at(self, pointer: int, nbytes: int) -> np.ndarray:
        """The bytes at a pointer. Raises VerificationError where they are not allocated."""
        where = bisect_right(self.starts, pointer) - 1
        start = self.starts[where] if where >= 0 else 0
        memory = self.memory.get(start)
        if memory is None or pointer - start + nbytes > len(memory):
            raise VerificationError(f"{nbytes} bytes at {pointer:#x} are not memory of the device")
        return memory[pointer - start:pointer - start + nbytes]

    def allocate(self, nbytes: int) -> int:
        start, self.next = self.next, self.next + nbytes + 512 - nbytes % 256
        self.memory[start] = np.full(nbytes, 0xFE, np.uint8)
        insort(self.starts, start)
        return start

    def free(self, pointer: int) -> None:
        del self.memory[pointer]
        self.starts.remove(pointer)

    def to_device(self, target: int, source: int, nbytes: int) -> None:
        ctypes.memmove(self.at(target, nbytes).ctypes.data, source, nbytes)

    def to_host(self, target: int, source: int, nbytes: int) -> None:
        ctypes.memmove(target, self.at(source, nbytes).ctypes.data, nbytes)

    def copy(self, target: int, source: int, nbytes: int) -> None:
        self.at(target, nbytes)[:] = self.at(source, nbytes)

    def clear(self, pointer: int, nbytes: int) -> None:
        self.at(pointer, nbytes)[:] = 0

    def load(self, code: bytes, entry: str) -> EmulatedKernel:
        return self.kernels[entry]

    def launch(self, function: EmulatedKernel, blocks: int, threads: int, pointers: Sequence[int],
               sizes: Sequence[int]) -> None:
        function(self.at, blocks, threads, pointers, sizes)

    def synchronize(self) -> None:
        """Everything is done at once."""
