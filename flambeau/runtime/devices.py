"""The memory of each device: how it is allocated, filled and looked at. "cpu" imports nothing new; a GPU's driver is loaded
when one is asked for."""
from __future__ import annotations

import ctypes
import threading
from abc import ABC, abstractmethod
from importlib import import_module
from typing import Any, Final

import numpy as np

from flambeau import config
from flambeau.errors import AcceleratorError, UnsupportedError, VerificationError
from flambeau.runtime.buffer import Buffer, allocate, as_ndarray, memory_stats, zeros

__all__ = ["DeviceMemory", "current_index", "memory_on", "pinning_memory", "set_current_index"]


class _Chosen(threading.local):
    cuda = 0


_chosen = _Chosen()


class DeviceMemory(ABC):
    """Memory of the device called `device`: "cpu", "cuda:0". What is asked of a GPU is done in the order of the current
    stream of the thread that asks; only `to_host` and `synchronize` wait, and they raise what kernels reported."""

    device: str

    @abstractmethod
    def allocate(self, nbytes: int) -> Buffer:
        """Uninitialised memory, freed with the last reference to it: on a GPU once the work that was asked for before is
        done. Raises MemoryError on the CPU, OutOfMemoryError on a GPU, where there is not so much."""

    @abstractmethod
    def zeros(self, nbytes: int) -> Buffer:
        """The same, filled with zero bytes."""

    def from_host(self, array: np.ndarray, *, non_blocking: bool = False) -> Buffer:
        """A copy of the bytes of a C-contiguous array. The array may change as soon as this returns, unless it lies in
        pinned memory and the copy is non-blocking: then once the stream has come by."""
        buffer = self.allocate(array.nbytes)
        self.write(buffer, 0, array, non_blocking=non_blocking)
        return buffer

    @abstractmethod
    def write(self, target: Buffer, offset: int, array: np.ndarray, *, non_blocking: bool = False) -> None:
        """The bytes of a C-contiguous array into the buffer, from byte `offset` on; as `from_host`."""

    @abstractmethod
    def to_host(self, source: Buffer, offset: int = 0, nbytes: int | None = None) -> np.ndarray:
        """A fresh u8 array of nbytes bytes (all that follow) from `offset` on. Waits for the work before."""

    @abstractmethod
    def copy(self, target: Buffer, target_offset: int, source: Buffer, source_offset: int, nbytes: int) -> None:
        """Bytes from one buffer of this device to another, or from another device of the same kind. Within one buffer they
        may not overlap."""

    @abstractmethod
    def synchronize(self) -> None:
        """Wait for all the work that was asked of the device. Raises the KernelError of the first kernel that found bad
        data."""

    @abstractmethod
    def stats(self) -> dict[str, int]:
        """Bytes, by name: at least "allocated", "peak", "reserved"."""


class _CpuMemory(DeviceMemory):
    device = "cpu"

    def allocate(self, nbytes: int) -> Buffer:
        return allocate(nbytes)

    def zeros(self, nbytes: int) -> Buffer:
        return zeros(nbytes)

    def write(self, target: Buffer, offset: int, array: np.ndarray, *, non_blocking: bool = False) -> None:
        check_span(target, offset, array.nbytes)
        as_ndarray(target, np.uint8, (array.nbytes,), offset_bytes=offset)[:] = bytes_of(array)

    def to_host(self, source: Buffer, offset: int = 0, nbytes: int | None = None) -> np.ndarray:
        nbytes = source.nbytes - offset if nbytes is None else nbytes
        check_span(source, offset, nbytes)
        return as_ndarray(source, np.uint8, (nbytes,), offset_bytes=offset).copy()

    def copy(self, target: Buffer, target_offset: int, source: Buffer, source_offset: int, nbytes: int) -> None:
        check_span(target, target_offset, nbytes)
        check_span(source, source_offset, nbytes)
        ctypes.memmove(target.ptr + target_offset, source.ptr + source_offset, nbytes)

    def synchronize(self) -> None:
        """Everything is done at once."""

    def stats(self) -> dict[str, int]:
        found = memory_stats()
        return {"allocated": found.live_bytes, "peak": found.peak_bytes, "reserved": found.live_bytes + found.kept_bytes}


def memory_on(device: str) -> DeviceMemory:
    """The memory of the device of that full name, "cuda:0" rather than "cuda". Raises UnsupportedError where there is no
    such kind of device, RuntimeError where its number or its driver is not there."""
    found = _memories.get((device, _driver))
    if found is None:
        kind, _, number = device.partition(":")
        if kind != "cuda" or not number.isdigit():
            raise UnsupportedError(f"device {device!r} has no memory that is known here")
        found = _memories[device, _driver] = import_module("flambeau.runtime.cuda.memory").open_memory(int(number))
    return found


def pinning_memory(number: int, only_if_in_use: bool = False) -> Any:
    """The memory of the GPU of that number, for its pinned memory of the host; None where there is no GPU, or with
    only_if_in_use where nobody used one yet."""
    name = f"cuda:{number}"
    if only_if_in_use and (name, _driver) not in _memories:
        return None
    try:
        return memory_on(name)
    except AcceleratorError:
        return None


def current_index() -> int:
    """The number of the GPU that "cuda" means in this thread."""
    return _chosen.cuda


def set_current_index(number: int) -> None:
    """Let "cuda" mean the GPU of that number, in this thread."""
    _chosen.cuda = number


def bytes_of(array: np.ndarray) -> np.ndarray:
    """The bytes of a C-contiguous array, as a flat view. Raises VerificationError for any other."""
    if not array.flags.c_contiguous:
        raise VerificationError(f"an array of shape {array.shape} and strides {array.strides} is no run of bytes")
    return array.reshape(-1).view(np.uint8)


def check_span(buffer: Buffer, offset: int, nbytes: int) -> None:
    """Raises VerificationError for bytes that are not the buffer's."""
    if not (0 <= offset and 0 <= nbytes and offset + nbytes <= buffer.nbytes):
        raise VerificationError(f"bytes [{offset}, {offset + nbytes}) leave a buffer of {buffer.nbytes} bytes")


_CPU: Final = _CpuMemory()
_memories: dict[tuple[str, str], Any] = {("cpu", driver): _CPU for driver in config.CUDA_DRIVERS}
_driver = config.cuda                   # looked at for every tensor


def _look() -> None:
    global _driver
    _driver = config.cuda


config.watch("cuda", _look)
