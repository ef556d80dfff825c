"""Pinned memory of the host, which a device copies from and to by itself while the program goes on. Kept when it is freed,
as the memory of the device is, until the copies that use it are done."""
from __future__ import annotations

import ctypes
import threading
from bisect import bisect_right, insort
from collections import deque
from typing import TYPE_CHECKING
from weakref import WeakValueDictionary

from flambeau.runtime.buffer import Buffer
from flambeau.runtime.cuda.api import checked
from flambeau.runtime.cuda.streams import Event, Stream, wait_until

if TYPE_CHECKING:
    from flambeau.runtime.cuda.device import Device

__all__ = ["Pinned", "PinnedBlock", "Ring"]

_FLAGS = 1 | 2                      # CU_MEMHOSTALLOC_PORTABLE, _DEVICEMAP
_SMALLEST = 512
_MOST_WAITING = 64 << 20            # bytes of copies on their way that nobody waits for: more, and the host does


class PinnedBlock:
    """Keeps pinned memory allocated. uses: events after the copies that use it."""

    __slots__ = ("__weakref__", "address", "nbytes", "pinned", "uses")

    def __init__(self, pinned: Pinned, address: int, nbytes: int):
        self.pinned, self.address, self.nbytes = pinned, address, nbytes
        self.uses: list[Event] = []

    def used_by(self, stream: Stream) -> Event:
        """Work that was just asked of the stream uses it: the event after that."""
        event = stream.device.event()
        event.record(stream)
        self.uses = [*[use for use in self.uses if not use.is_done()], event] if self.uses else [event]
        return event

    def __del__(self) -> None:
        self.pinned.returned.append((self.address, self.nbytes, self.uses))


class Ring:
    """Small copies to the device, from memory of which each uses the next part. When one half of it is full, the other may
    be written again once the copies from there are done."""

    BYTES = 1 << 20
    MOST = 64 << 10

    def __init__(self, device: Device, pinned: Pinned):
        self.device, self.cu = device, device.cu
        self.block = pinned.allocate(self.BYTES)
        self.at = self.half = 0
        self.streams: set[Stream] = set()           # that copy from this half
        self.events: tuple[list[Event], list[Event]] = ([], [])
        self.lock = threading.RLock()

    def copy(self, target: int, source: int, nbytes: int, stream: Stream) -> None:
        """nbytes from the host's memory, at most `MOST`, which may change as soon as this returns."""
        with self.lock:
            if self.at + nbytes > (self.half + 1) * self.BYTES // 2:
                self._turn()
            address = self.block.address + self.at
            ctypes.memmove(address, source, nbytes)
            answer = self.cu.cuMemcpyHtoDAsync(target, address, nbytes, stream.handle)
            if answer[0]:
                checked(self.cu, answer)
            self.streams.add(stream)
            self.at += -(-nbytes // 64) * 64

    def _turn(self) -> None:
        for stream in self.streams:
            self.events[self.half].append(self.device.event())
            self.events[self.half][-1].record(stream)
        self.streams.clear()
        self.half = 1 - self.half
        self.at = self.half * self.BYTES // 2
        while self.events[self.half]:
            event = self.events[self.half][-1]
            wait_until(event.is_done)
            self.device.recycle(self.events[self.half].pop())


class Pinned:
    def __init__(self, device: Device):
        self.device, self.cu = device, device.cu
        self.returned: deque[tuple[int, int, list[Event]]] = deque()
        self.waiting: deque[tuple[int, int, list[Event]]] = deque()
        self.kept: dict[int, list[int]] = {}
        self.starts: list[int] = []
        self.sizes: dict[int, int] = {}             # of all that the driver gave, by address
        self.blocks: WeakValueDictionary[int, PinnedBlock] = WeakValueDictionary()          # those that somebody holds
        self.lock = threading.RLock()

    def buffer(self, nbytes: int) -> Buffer:
        """Uninitialised pinned memory, as memory of the "cpu"."""
        block = self.allocate(nbytes)
        return Buffer(block.address, nbytes, "cpu", block)

    def allocate(self, nbytes: int) -> PinnedBlock:
        """Sizes are powers of two."""
        size = max(_SMALLEST, 1 << max(0, nbytes - 1).bit_length())
        with self.lock:
            self._collect()
            kept = self.kept.get(size)
            if kept:
                address = kept.pop()
            else:
                self.device.enter()
                address = int(checked(self.cu, self.cu.cuMemHostAlloc(size, _FLAGS)))
                insort(self.starts, address)
                self.sizes[address] = size
            block = self.blocks[address] = PinnedBlock(self, address, size)
            return block

    def find(self, address: int, nbytes: int) -> PinnedBlock | None:
        """The block that memory of the host lies in, where it is pinned memory of ours."""
        if not self.starts:
            return None
        with self.lock:
            start = self.starts[bisect_right(self.starts, address) - 1]
            block = self.blocks.get(start)
        return block if block is not None and start <= address and address + nbytes <= start + block.nbytes else None

    def device_pointer(self, address: int) -> int:
        """Where kernels find it."""
        self.device.enter()
        return int(checked(self.cu, self.cu.cuMemHostGetDevicePointer(address, 0)))

    def _collect(self) -> None:
        while self.returned:
            self.waiting.append(self.returned.popleft())
        total = sum([size for _, size, _ in self.waiting])
        for _ in range(len(self.waiting)):
            address, size, uses = self.waiting.popleft()
            if total > _MOST_WAITING:
                for use in uses:
                    wait_until(use.is_done)
            if all(use.is_done() for use in uses):
                for use in uses:
                    use.device.recycle(use)
                total -= size
                self.kept.setdefault(size, []).append(address)
            else:
                self.waiting.append((address, size, uses))

    def release(self) -> None:
        """Give what is kept back to the system."""
        with self.lock:
            self._collect()
            self.device.enter()
            for size, addresses in self.kept.items():
                while addresses:
                    address = addresses.pop()
                    self.starts.remove(address)
                    assert self.sizes.pop(address) == size
                    checked(self.cu, self.cu.cuMemFreeHost(address))
