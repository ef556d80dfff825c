"""Memory of a device, kept when it is freed.

Freed memory belongs to the stream it was allocated on, whose later work may use it at once: what still reads it comes
before. Where other streams were said to use it, it waits for events in them. The driver is asked only for what is not there
yet, and gets memory back when it has no more, or by `empty_cache`.

    sizes     512 bytes, and from there on 8 to each doubling; from 16 MiB on the multiples of 2 MiB
"""
from __future__ import annotations

import gc
import threading
from collections import deque
from typing import TYPE_CHECKING

from flambeau import config
from flambeau.errors import OutOfMemoryError
from flambeau.ir.records import dataclass
from flambeau.runtime.buffer import Buffer
from flambeau.runtime.cuda.api import checked
from flambeau.runtime.cuda.streams import Event, Stream

if TYPE_CHECKING:
    from flambeau.runtime.cuda.device import Device

__all__ = ["Allocator", "Block", "Count", "size_class"]

_SMALLEST, _LARGE, _GRAIN = 512, 16 << 20, 2 << 20
_MOST_SIZES = 10_000
_POISON = 0x7FFA                    # in every 16 bits: f16, bf16, f32 and f64 all read a quiet NaN


def size_class(nbytes: int) -> int:
    """What is allocated for so many bytes."""
    if nbytes >= _LARGE:
        return -(-nbytes // _GRAIN) * _GRAIN
    step = max(_SMALLEST, 1 << max(0, (nbytes - 1).bit_length() - 4))
    return max(_SMALLEST, -(-nbytes // step) * step)


@dataclass
class Count:
    """Of something: now, the most at any time, and all that came."""

    now: int = 0
    most: int = 0
    came: int = 0

    def add(self, amount: int) -> None:
        self.came += amount
        self.now += amount
        self.most = max(self.most, self.now)

    def take(self, amount: int) -> None:
        self.now -= amount

    def restart(self, peaks: bool) -> None:
        if peaks:
            self.most = self.now
        else:
            self.came = self.now

    @property
    def numbers(self) -> tuple[int, int, int]:
        return self.now, self.most, self.came


class Block(Buffer):
    """A Buffer that keeps its own memory allocated, which is `size` bytes. users: other streams than its own that work on
    it."""

    __slots__ = ("allocator", "size", "stream", "users")

    allocator: Allocator
    size: int
    stream: Stream
    users: set[Stream] | None

    def use(self, stream: Stream) -> None:
        """Work on that stream uses it too."""
        if stream is not self.stream:
            self.users = (self.users or set()) | {stream}

    def __del__(self) -> None:
        # maybe in the middle of an allocation: who asks next sees to it
        self.allocator.returned.append((self.ptr, self.size, self.nbytes, self.stream, self.users))


class Allocator:
    """requested, allocated: bytes asked for, and those rounded to 512 as PyTorch counts; blocks: how many. reserved: bytes
    that the driver gave, in so many segments."""

    def __init__(self, device: Device):
        self.device, self.cu, self.name = device, device.cu, device.name
        self.sizes: dict[int, int] = {}         # what is allocated for so many bytes
        self.returned: deque[tuple[int, int, int, Stream, set[Stream] | None]] = deque()
        self.waiting: deque[tuple[list[Event], int, int, Stream]] = deque()
        self.lock = threading.RLock()
        self.has_pools = bool(device.attribute("MEMORY_POOLS_SUPPORTED"))
        self.pool = checked(self.cu, self.cu.cuDeviceGetDefaultMemPool(device.handle)) if self.has_pools else None
        self.reserved, self.segments = Count(), Count()
        self.requested = self.allocated = self.blocks = 0           # now; the most of them, and all that came
        self.most_requested = self.most_allocated = self.most_blocks = 0
        self.came_requested = self.came_allocated = self.came_blocks = 0
        self.retries = self.failures = 0
        self.limit: int | None = None           # of reserved bytes

    def allocate(self, nbytes: int, stream: Stream) -> Block:
        """For work on the stream. Raises OutOfMemoryError, ValueError for what is no size."""
        size = self.sizes.get(nbytes)
        if size is None:
            size = self._size(nbytes)
        with self.lock:
            if self.returned:
                self.collect()
            kept = stream.kept.get(size)
            pointer = kept.pop() if kept else self._find(size, nbytes, stream)
            if isinstance(pointer, tuple):
                pointer, size = pointer
            shown = -(-nbytes // _SMALLEST) * _SMALLEST
            self.requested, self.came_requested = self.requested + nbytes, self.came_requested + nbytes
            self.allocated, self.came_allocated = self.allocated + shown, self.came_allocated + shown
            self.blocks, self.came_blocks = self.blocks + 1, self.came_blocks + 1
            if (self.requested > self.most_requested or self.allocated > self.most_allocated
                    or self.blocks > self.most_blocks):
                self._note_peaks()
        block = Block(pointer, nbytes, self.name, None)
        block.allocator, block.size, block.stream, block.users = self, size, stream, None
        if _poisons[0]:
            self.fill(pointer, size, stream)
        return block

    def _size(self, nbytes: int) -> int:
        if nbytes < 0:
            raise ValueError(f"memory of {nbytes} bytes")
        if len(self.sizes) > _MOST_SIZES:
            self.sizes.clear()
        found = self.sizes[nbytes] = size_class(nbytes)
        return found

    def fill(self, pointer: int, nbytes: int, stream: Stream) -> None:
        """With what no program means: as `buffer.poison`."""
        self.device.enter()
        checked(self.cu, self.cu.cuMemsetD16Async(pointer, _POISON, nbytes // 2, stream.handle))

    def collect(self) -> None:
        """Take in what was freed. Called with the lock."""
        while self.returned:
            pointer, size, asked, stream, users = self.returned.popleft()
            self.requested -= asked
            self.allocated -= -(-asked // _SMALLEST) * _SMALLEST
            self.blocks -= 1
            if users:
                events = [user.device.event() for user in users]
                for event, user in zip(events, users, strict=True):
                    event.record(user)
                self.device.enter()             # users may be of other devices, and whoever asks has entered this one
                self.waiting.append((events, pointer, size, stream))
            elif size in stream.kept:
                stream.kept[size].append(pointer)
            else:
                stream.kept[size] = [pointer]

    def _note_peaks(self) -> None:
        self.most_requested = max(self.most_requested, self.requested)
        self.most_allocated = max(self.most_allocated, self.allocated)
        self.most_blocks = max(self.most_blocks, self.blocks)

    def _find(self, size: int, nbytes: int, stream: Stream) -> int | tuple[int, int]:
        """A pointer that is not among the stream's kept ones of that size, or one with a size that does as well."""
        self._settle()
        self.device.enter()
        if kept := stream.kept.get(size):
            return kept.pop()
        near = [other for other, pointers in stream.kept.items() if size < other <= size + size // 4 and pointers]
        if near and size >= _LARGE:
            return stream.kept[min(near)].pop(), min(near)
        pointer = self._ask(size, stream)
        for last_resort in (int, gc.collect):   # the second frees what cycles of objects hold
            if pointer is None:                 # give back what is kept, and wait until the driver has it
                self.retries += 1
                last_resort()
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
        if self.limit is not None and self.reserved.now + size > self.limit:
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
        number, ours = self.device.number, self.allocated
        return (f"CUDA out of memory. Tried to allocate {_human(nbytes)}. GPU {number} has a total capacity of "
                f"{_human(total)} of which {_human(free)} is free. Of the allocated memory {_human(ours)} is allocated by "
                f"Flambeau, and {_human(self.reserved.now - ours)} is reserved by Flambeau but unallocated.")

    def stats(self) -> dict[str, int]:
        """As `torch.cuda.memory_stats`."""
        with self.lock:
            self.collect()
            blocks = (self.blocks, self.most_blocks, self.came_blocks)
            allocated = (self.allocated, self.most_allocated, self.came_allocated)
            counts = {"allocation": blocks, "allocated_bytes": allocated, "active": blocks, "active_bytes": allocated,
                      "requested_bytes": (self.requested, self.most_requested, self.came_requested),
                      "segment": self.segments.numbers, "reserved_bytes": self.reserved.numbers}
            found: dict[str, int] = {}
            for name, (now, most, came) in counts.items():
                found |= {f"{name}.all.current": now, f"{name}.all.peak": most, f"{name}.all.allocated": came,
                          f"{name}.all.freed": came - now}
            return found | {"num_alloc_retries": self.retries, "num_ooms": self.failures}

    def restart(self, peaks: bool = True) -> None:
        """Count peaks (or what came and went) from now on."""
        with self.lock:
            self.collect()
            if peaks:
                self.most_requested, self.most_allocated, self.most_blocks = self.requested, self.allocated, self.blocks
            else:                               # what is there now came before
                self.came_requested, self.came_allocated, self.came_blocks = self.requested, self.allocated, self.blocks
            for count in (self.reserved, self.segments):
                count.restart(peaks)


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
