"""Memory of one GPU as Buffers, and copies there and back.

The host's memory goes through pinned memory of ours, so that a copy returns as soon as its bytes are read there; what lies
in pinned memory already is copied from where it is. Large copies from pinned memory run on a stream of their own beside the
kernels: what is copied is new memory of that stream, and the current stream waits for it.
"""
from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import TypeVar

import numpy as np

from flambeau.errors import VerificationError
from flambeau.runtime.buffer import Buffer
from flambeau.runtime.cuda.allocator import Block
from flambeau.runtime.cuda.api import checked
from flambeau.runtime.cuda.device import Device, device_on, here
from flambeau.runtime.cuda.streams import Stream, wait_until
from flambeau.runtime.devices import DeviceMemory, bytes_of, check_span

__all__ = ["CudaMemory", "open_memory"]

T = TypeVar("T")

_CHUNK = 8 << 20                    # of a copy through pinned memory of ours
_SMALL = 64 << 10                   # copies to the host up to here go through pinned memory
_ASIDE = 64 << 10                   # copies from pinned memory from here on run beside the kernels


class CudaMemory(DeviceMemory):
    def __init__(self, gpu: Device):
        self.gpu, self.device = gpu, gpu.name

    def timed(self, work: Callable[[], T], tell: Callable[[int, int, str], None]) -> T:
        """work(), whose work on the current stream is timed: tell(start, stop, the stream in words) comes later, at the
        latest in `settle`, in nanoseconds of the clock that programs are timed by."""
        stream, timeline = self.gpu.current_stream(), self.gpu.timeline
        marks = timeline.marks(2, stream)
        marks[0].record(stream)
        try:
            return work()
        finally:
            marks[1].record(stream)
            timeline.expect(marks, lambda times: tell(times[0], times[1], stream.words))

    def settle(self) -> None:
        """Wait until everything timed was told."""
        self.gpu.timeline.read()

    def allocate(self, nbytes: int) -> Buffer:
        gpu = self.gpu
        return gpu.allocator.allocate(nbytes, here.streams.get(gpu, gpu.default_stream))

    def zeros(self, nbytes: int) -> Buffer:
        buffer = self.allocate(nbytes)
        self.fill(buffer, 0, nbytes, 0)
        return buffer

    def fill(self, buffer: Buffer, offset: int, nbytes: int, byte: int) -> None:
        check_span(buffer, offset, nbytes)
        gpu = self.gpu
        gpu.enter()
        if nbytes:
            checked(gpu.cu, gpu.cu.cuMemsetD8Async(buffer.ptr + offset, byte, nbytes, gpu.current_stream().handle))

    def from_host(self, array: np.ndarray, *, non_blocking: bool = False) -> Buffer:
        if not non_blocking or array.nbytes < _ASIDE or self.gpu.pinned.find(array.ctypes.data, array.nbytes) is None:
            return super().from_host(array, non_blocking=non_blocking)
        aside, current = self.gpu.copies, self.gpu.current_stream()
        buffer = self.gpu.allocator.allocate(array.nbytes, aside)
        self._write(buffer.ptr, array, True, aside)
        current.wait_stream(aside)
        self.record_stream(buffer, current)
        return buffer

    def write(self, target: Buffer, offset: int, array: np.ndarray, *, non_blocking: bool = False) -> None:
        check_span(target, offset, array.nbytes)
        self._write(target.ptr + offset, array, non_blocking, self.gpu.current_stream())

    def _write(self, target: int, array: np.ndarray, non_blocking: bool, stream: Stream) -> None:
        gpu, source, nbytes = self.gpu, bytes_of(array).ctypes.data, array.nbytes
        gpu.enter()
        pinned = gpu.pinned.find(source, nbytes) if nbytes else None
        if pinned is not None and (non_blocking or nbytes > _CHUNK):
            checked(gpu.cu, gpu.cu.cuMemcpyHtoDAsync(target, source, nbytes, stream.handle))
            event = pinned.used_by(stream)
            if not non_blocking:
                wait_until(event.is_done)
            return
        if nbytes <= gpu.ring.MOST:
            if nbytes:
                gpu.ring.copy(target, source, nbytes, stream)
            return
        for start in range(0, nbytes, _CHUNK):
            size = min(_CHUNK, nbytes - start)
            staging = gpu.pinned.allocate(size)
            ctypes.memmove(staging.address, source + start, size)
            checked(gpu.cu, gpu.cu.cuMemcpyHtoDAsync(target + start, staging.address, size, stream.handle))
            staging.used_by(stream)

    def to_host(self, source: Buffer, offset: int = 0, nbytes: int | None = None) -> np.ndarray:
        nbytes = source.nbytes - offset if nbytes is None else nbytes
        found = np.empty(nbytes, np.uint8)
        self.read(found, source, offset)
        return found

    def read(self, target: np.ndarray, source: Buffer, offset: int = 0, *, non_blocking: bool = False) -> None:
        """Bytes from `offset` on into a C-contiguous array. Waits, unless the array lies in pinned memory and the copy is
        non-blocking."""
        nbytes = target.nbytes
        check_span(source, offset, nbytes)
        if not target.flags.writeable:
            raise VerificationError("an array that is read-only can't be copied to")
        gpu, stream, address = self.gpu, self.gpu.current_stream(), bytes_of(target).ctypes.data
        gpu.enter()
        if not nbytes:
            stream.synchronize()
            return
        pinned = gpu.pinned.find(address, nbytes)
        if pinned is None and nbytes > _SMALL:
            stream.synchronize()            # which Ctrl-C ends; the copy itself has the driver wait
            checked(gpu.cu, gpu.cu.cuMemcpyDtoHAsync(address, source.ptr + offset, nbytes, stream.handle))
            stream.synchronize()
            return
        landing = pinned or gpu.pinned.allocate(nbytes)
        place = address if pinned else landing.address
        checked(gpu.cu, gpu.cu.cuMemcpyDtoHAsync(place, source.ptr + offset, nbytes, stream.handle))
        landing.used_by(stream)
        if not (pinned and non_blocking):
            stream.synchronize()
        if not pinned:
            ctypes.memmove(address, place, nbytes)

    def copy(self, target: Buffer, target_offset: int, source: Buffer, source_offset: int, nbytes: int) -> None:
        check_span(target, target_offset, nbytes)
        check_span(source, source_offset, nbytes)
        if not nbytes:
            return
        gpu, stream = self.gpu, self.gpu.current_stream()
        to, of = target.ptr + target_offset, source.ptr + source_offset
        if source.device == target.device == self.device:
            gpu.enter()
            checked(gpu.cu, gpu.cu.cuMemcpyDtoDAsync(to, of, nbytes, stream.handle))
            return
        # between devices on the current stream of the source's, between what is asked of both
        to_gpu, of_gpu = _gpu_of(target), _gpu_of(source)
        stream, other = of_gpu.current_stream(), to_gpu.current_stream()
        stream.wait_stream(other)
        of_gpu.enter()
        checked(of_gpu.cu, of_gpu.cu.cuMemcpyPeerAsync(to, to_gpu.context, of, of_gpu.context, nbytes, stream.handle))
        other.wait_stream(stream)
        self.record_stream(source, other)

    def record_stream(self, buffer: Buffer, stream: Stream) -> None:
        """Work on that stream uses the buffer, whose memory is not used again before that work is done."""
        if isinstance(buffer, Block):
            buffer.use(stream)

    def pinned(self, nbytes: int) -> Buffer:
        """Uninitialised memory of the host from which and to which this device copies by itself."""
        return self.gpu.pinned.buffer(nbytes)

    def is_pinned(self, buffer: Buffer) -> bool:
        """Whether memory of the host is such."""
        return buffer.device == "cpu" and self.gpu.pinned.find(buffer.ptr, buffer.nbytes) is not None

    def synchronize(self) -> None:
        self.gpu.synchronize()

    def stats(self) -> dict[str, int]:
        found = self.gpu.allocator.stats()
        return found | {"allocated": found["requested_bytes.all.current"], "peak": found["requested_bytes.all.peak"],
                        "reserved": found["reserved_bytes.all.current"]}


def open_memory(number: int) -> CudaMemory:
    """Of the device of that number."""
    return CudaMemory(device_on(number))


def _gpu_of(buffer: Buffer) -> Device:
    if isinstance(buffer, Block):
        return buffer.allocator.device
    return device_on(int(buffer.device.partition(":")[2]))
