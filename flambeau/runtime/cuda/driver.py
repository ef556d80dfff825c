"""What running a program asks of a GPU's driver. `bindings.py` is the real one, `emulated.py` one without a device."""
from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

__all__ = ["Driver"]


class Driver(ABC):
    """One device and one stream of work on it, which runs in order. Pointers are ints; those of the device mean nothing to
    the host."""

    @abstractmethod
    def allocate(self, nbytes: int) -> int:
        """Device memory, aligned to 256 bytes. Raises MemoryError if there is not so much."""

    @abstractmethod
    def free(self, pointer: int) -> None:
        """Give memory back, once the work that was asked for before is done."""

    @abstractmethod
    def to_device(self, target: int, source: int, nbytes: int) -> None:
        """Copy from the host, whose memory may change as soon as this returns."""

    @abstractmethod
    def to_host(self, target: int, source: int, nbytes: int) -> None:
        """Copy to the host: waits for the work that was asked for before."""

    @abstractmethod
    def copy(self, target: int, source: int, nbytes: int) -> None:
        """Copy within the device."""

    @abstractmethod
    def clear(self, pointer: int, nbytes: int) -> None:
        """Zero bytes."""

    @abstractmethod
    def load(self, code: bytes, entry: str) -> Any:
        """A function of some code. Raises FlambeauError where the device can't run it."""

    @abstractmethod
    def launch(self, function: Any, blocks: int, threads: int, pointers: Sequence[int], sizes: Sequence[int]) -> None:
        """Ask for a kernel; sizes are 64-bit ints, which follow the pointers."""

    @abstractmethod
    def synchronize(self) -> None:
        """Wait for all the work that was asked for. Raises FlambeauError where some of it went wrong."""
