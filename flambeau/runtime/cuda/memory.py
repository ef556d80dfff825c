"""Memory of one GPU as Buffers."""
from __future__ import annotations

import numpy as np

from flambeau.runtime.buffer import Buffer
from flambeau.runtime.cuda.devices import driver_of
from flambeau.runtime.devices import DeviceMemory, bytes_of, check_span

__all__ = ["CudaMemory"]


class CudaMemory(DeviceMemory):
    def __init__(self, number: int):
        self.device, self.driver = f"cuda:{number}", driver_of(number)
        self.live = self.peak = 0

    def allocate(self, nbytes: int) -> Buffer:
        block = _Block(self, nbytes)
        return Buffer(block.pointer, nbytes, self.device, block)

    def zeros(self, nbytes: int) -> Buffer:
        buffer = self.allocate(nbytes)
        self.driver.clear(buffer.ptr, nbytes)
        return buffer

    def write(self, target: Buffer, offset: int, array: np.ndarray, *, non_blocking: bool = False) -> None:
        check_span(target, offset, array.nbytes)
        self.driver.to_device(target.ptr + offset, bytes_of(array).ctypes.data, array.nbytes)

    def to_host(self, source: Buffer, offset: int = 0, nbytes: int | None = None) -> np.ndarray:
        nbytes = source.nbytes - offset if nbytes is None else nbytes
        check_span(source, offset, nbytes)
        found = np.empty(nbytes, np.uint8)
        self.driver.to_host(found.ctypes.data, source.ptr + offset, nbytes)
        return found

    def copy(self, target: Buffer, target_offset: int, source: Buffer, source_offset: int, nbytes: int) -> None:
        check_span(target, target_offset, nbytes)
        check_span(source, source_offset, nbytes)
        self.driver.copy(target.ptr + target_offset, source.ptr + source_offset, nbytes)

    def synchronize(self) -> None:
        self.driver.synchronize()

    def stats(self) -> dict[str, int]:
        return {"allocated": self.live, "peak": self.peak, "reserved": self.live}


class _Block:
    """What keeps the memory of a Buffer allocated."""

    __slots__ = ("memory", "nbytes", "pointer")

    def __init__(self, memory: CudaMemory, nbytes: int):
        self.memory, self.nbytes, self.pointer = memory, nbytes, memory.driver.allocate(nbytes)
        memory.live += nbytes
        memory.peak = max(memory.peak, memory.live)

    def __del__(self) -> None:
        if hasattr(self, "pointer"):
            self.memory.live -= self.nbytes
            self.memory.driver.free(self.pointer)
