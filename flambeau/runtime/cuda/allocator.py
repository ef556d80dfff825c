"""Memory of a device, kept when it is freed.

Freed memory belongs to the stream it was allocated on, whose later work may use it at once: what still reads it comes
before. Where other streams were said to use it, it waits for events in them. The driver is asked only for what is not there
yet, and gets memory back when it has no more, or by `empty_cache`.

    sizes     512 bytes, and from there on 8 to each doubling; from 16 MiB on the multiples of 2 MiB
"""
from __future__ import annotations

import threading
from collections import deque
from typing import TYPE_CHECKING

from flambeau import config
from flambeau.errors import OutOfMemoryError
from flambeau.ir.records import dataclass
from flambeau.runtime.cuda.api import checked
from flambeau.runtime.cuda.streams import Event, Stream

if TYPE_CHECKING:
    from flambeau.runtime.cuda.device import Device

__all__ = ["Allocator", "Block", "Count", "size_class"]

_SMALLEST, _LARGE, _GRAIN = 512, 16 << 20, 2 << 20
_POISON = 0x7FFA                    # in every 16 bits: f16, bf16, f32 and f64 all read a quiet NaN


def size_class(nbytes: int) -> int:
    """What is allocated for so many bytes."""
    if nbytes >= _LARGE:
        return -(-nbytes // _GRAIN) * _GRAIN
    step = max(_SMALLEST, 1 << max(0, (nbytes - 1).bit_length() - 4))
    return max(_SMALLEST, -(-nbytes // step) * step)


@dataclass
class Count:
    """Of something: now, the most at any time, and all that came and went."""

    current: int = 0
    peak: int = 0
    came: int = 0
    went: int = 0

    def add(self, amount: int) -> None:
        self.came += amount
        self.current += amount
        self.peak = max(self.peak, self.current)

    def take(self, amount: int) -> None:
        self.went += amount
        self.current -= amount


class Block:
    """Keeps memory allocated. users: other streams than its own that work on it."""

    __slots__ = ("allocator", "asked", "nbytes", "pointer", "stream", "users")

    def __init__(self, allocator: Allocator, pointer: int, nbytes: int, asked: int, stream: Stream):
        self.allocator, self.pointer, self.nbytes, self.asked, self.stream = allocator, pointer, nbytes, asked, stream
        self.users: set[Stream] = set()

    def __del__(self) -> None:
        # maybe in the middle of an allocation: who asks next sees to it
        self.allocator.returned.append((self.pointer, self.nbytes, self.asked, self.stream, self.users))


class Allocator:
    """requested, allocated: bytes asked for, and those rounded to 512 as PyTorch counts. reserved: what the driver gave."""

    def __init__(self, device: Device):
        self.device, self.cu = device, device.cu
        self.returned: deque[tuple[int, int, int, Stream, set[Stream]]] = deque()
        self.waiting: deque[tuple[list[Event], int, int, Stream]] = deque()
        self.lock = threading.RLock()
        self.has_pools = bool(device.attribute("MEMORY_POOLS_SUPPORTED"))
        self.pool = checked(self.cu, self.cu.cuDeviceGetDefaultMemPool(device.handle)) if self.has_pools else None
        self.requested, self.allocated, self.reserved = Count(), Count(), Count()
        self.blocks, self.segments = Count(), Count()
        self.retries = self.failures = 0
        self.limit: int | None = None           # of reserved bytes

    def allocate(self, nbytes: int, stream: Stream) -> Block:
        """For work on the stream. Raises OutOfMemoryError, ValueError for what is no size."""
        if nbytes < 0:
            raise ValueError(f"memory of {nbytes} bytes")
        size = size_class(nbytes)
        with self.lock:
            if self.returned:
                self.collect()
            kept = stream.kept.get(size)
            pointer = kept.pop() if kept else self._find(size, nbytes, stream)
            if isinstance(pointer, tuple):
                pointer, size = pointer
            self.requested.add(nbytes)
            self.allocated.add(_shown(nbytes))
            self.blocks.add(1)
        block = Block(self, pointer, size, nbytes, stream)
        if config_poisons():
            self.fill(pointer, size, stream)
        return block

    def fill(self, pointer: int, nbytes: int, stream: Stream) -> None:
        """With what no program means: as `buffer.poison`."""
        self.device.enter()
        checked(self.cu, self.cu.cuMemsetD16Async(pointer, _POISON, nbytes // 2, stream.handle))

    def collect(self) -> None:
        """Take in what was freed. Called with the lock."""
        while self.returned:
            pointer, size, asked, stream, users = self.returned.popleft()
            self.requested.take(asked)
            self.allocated.take(_shown(asked))
            self.blocks.take(1)
            events = []
            for user in users - {stream}:
                events.append(user.device.event())
                events[-1].record(user)
            if events:
                self.waiting.append((events, pointer, size, stream))
            else:
                stream.kept.setdefault(size, []).append(pointer)

    def _find(self, size: int, nbytes: int, stream: Stream) -> int | tuple[int, int]:
        """A pointer that is not among the stream's kept ones of that size, or one with a size that does as well."""
        self._settle()
        if kept := stream.kept.get(size):
            return kept.pop()
        near = [other for other, pointers in stream.kept.items() if size < other <= size + size // 4 and pointers]
        if near and size >= _LARGE:
            return stream.kept[min(near)].pop(), min(near)
        pointer = self._ask(size, stream)
        if pointer is None:                     # give back what is kept, and wait until the driver has it
            self.retries += 1
            self.release()
            pointer = self._ask(size, stream)
        if pointer is None:
            self.failures += 1
            raise OutOfMemoryError(self._too_much(nbytes))
        self.reserved.add(size)
        self.segments.add(1)
        return pointer

    def _settle(self) -> None:
        """Memory that other streams were to be done with, where they are."""
        for _ in range(len(self.waiting)):
            events, pointer, size, stream = self.waiting.popleft()
            if all(event.is_done() for event in events):
                for event in events:
                    event.device.recycle(event)
                stream.kept.setdefault(size, []).append(pointer)
            else:
                self.waiting.append((events, pointer, size, stream))

    def _ask(self, size: int, stream: Stream) -> int | None:
        if self.limit is not None and self.reserved.current + size > self.limit:
            return None
        self.device.enter()
        answer = self.cu.cuMemAllocAsync(size, stream.handle) if self.has_pools else self.cu.cuMemAlloc(size)
        if answer[0] == self.cu.CUresult.CUDA_ERROR_OUT_OF_MEMORY:
            return None
        return int(checked(self.cu, answer))

    def release(self) -> None:
        """Give what is kept back to the driver. Waits."""
        with self.lock:
            self.collect()
            for events, *_ in self.waiting:
                for event in events:
                    event.synchronize()
            self._settle()
            self.device.enter()
            for stream in list(self.device.streams):
                for size, pointers in stream.kept.items():
                    while pointers:
                        pointer = pointers.pop()
                        checked(self.cu, self.cu.cuMemFreeAsync(pointer, stream.handle) if self.has_pools
                                else self.cu.cuMemFree(pointer))
                        self.reserved.take(size)
                        self.segments.take(1)
            if self.has_pools:
                for stream in list(self.device.streams):
                    checked(self.cu, self.cu.cuStreamSynchronize(stream.handle))
                checked(self.cu, self.cu.cuMemPoolTrimTo(self.pool, 0))

    def _too_much(self, nbytes: int) -> str:
        free, total = self.device.memory_info()
        number, ours = self.device.number, self.allocated.current
        return (f"CUDA out of memory. Tried to allocate {_human(nbytes)}. GPU {number} has a total capacity of "
                f"{_human(total)} of which {_human(free)} is free. Of the allocated memory {_human(ours)} is allocated by "
                f"Flambeau, and {_human(self.reserved.current - ours)} is reserved by Flambeau but unallocated.")

    def stats(self) -> dict[str, int]:
        """As `torch.cuda.memory_stats`."""
        with self.lock:
            self.collect()
            counts = {"allocation": self.blocks, "allocated_bytes": self.allocated, "active": self.blocks,
                      "active_bytes": self.allocated, "requested_bytes": self.requested, "segment": self.segments,
                      "reserved_bytes": self.reserved}
            fields = {"current": "current", "peak": "peak", "allocated": "came", "freed": "went"}
            found = {f"{name}.all.{what}": getattr(count, field) for name, count in counts.items()
                     for what, field in fields.items()}
            return found | {"num_alloc_retries": self.retries, "num_ooms": self.failures}

    def restart(self, peaks: bool = True) -> None:
        """Count peaks (or what came and went) from now on."""
        with self.lock:
            self.collect()
            for count in (self.requested, self.allocated, self.reserved, self.blocks, self.segments):
                if peaks:
                    count.peak = count.current
                else:
                    count.came = count.went = 0


def _shown(nbytes: int) -> int:
    return -(-nbytes // _SMALLEST) * _SMALLEST


def _human(nbytes: int) -> str:
    for unit, size in (("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)):
        if nbytes >= size:
            return f"{nbytes / size:.2f} {unit}"
    return f"{nbytes} bytes"


_poisons = [config.poison]


def config_poisons() -> bool:
    """`config.poison`, as fast as it is to be asked at every allocation."""
    return _poisons[0]


def _look() -> None:
    _poisons[0] = config.poison


config.watch("poison", _look)
