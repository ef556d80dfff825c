"""Streams, which work is done in the order of, and events, which are points in them. What PyTorch's classes are to users,
`flambeau.cuda` makes of these.

A wait of the host asks whether the work is done rather than have the driver wait, so that Ctrl-C ends it.
"""
from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

from flambeau.runtime.cuda.api import checked

if TYPE_CHECKING:
    from flambeau.runtime.cuda.device import Device

__all__ = ["Event", "Report", "Stream", "wait_until"]

_SPINNING_S = 0.002                 # as long a wait asks all the time; then it sleeps for a 50th of what it waited


class Report(Protocol):
    """Where kernels leave what they found wrong."""

    def failure(self) -> Exception | None:
        """Of the first kernel that left something since this was asked last."""


class Stream:
    """Of one device. handle: the driver's. kept: pointers to memory that was freed and may be used again by what is asked
    of this stream from now on, by size. scratch: arenas that no call holds. reports: those of work that nobody waited for,
    each with the number of the last call that may leave something there; calls: how many there were."""

    __slots__ = ("__weakref__", "calls", "device", "handle", "kept", "priority", "reports", "scratch")

    def __init__(self, device: Device, handle: Any, priority: int = 0):
        self.device, self.handle, self.priority = device, handle, priority
        self.kept: dict[int, list[int]] = {}
        self.scratch: list[Any] = []
        self.reports: dict[Report, int] = {}
        self.calls = 0

    def __repr__(self) -> str:
        return f"<{self.words}>"

    @property
    def words(self) -> str:
        """What people call it."""
        return f"stream {int(self.handle):#x} of {self.device.name}"

    def is_done(self) -> bool:
        """Whether all the work asked for is done."""
        return _is_done(self.device, self.device.cu.cuStreamQuery, self.handle)

    def synchronize(self) -> None:
        """Wait for the work that was asked for. Raises KernelError for the first kernel that found bad data."""
        calls = self.calls
        wait_until(self.is_done)
        self.raise_failure(calls)

    def expect(self, report: Report) -> None:
        """Work that was asked for may leave something there."""
        self.calls += 1
        self.reports[report] = self.calls

    def raise_failure(self, calls: int) -> None:
        """What kernels of the first `calls` calls reported, which are done. Later calls know nothing of it."""
        if not self.reports:
            return
        first = None
        for report, number in list(self.reports.items()):
            failure = report.failure()
            first = first or failure
            if number <= calls and self.reports.get(report) == number:          # no call came since
                self.reports.pop(report, None)
        if first is not None:
            raise first

    def wait_event(self, event: Event) -> None:
        """Work asked for from now on waits for the event."""
        if event.stream is None or event.stream is self:
            return
        self.device.enter()
        checked(self.device.cu, self.device.cu.cuStreamWaitEvent(self.handle, event.handle, 0))
        for report in list(event.stream.reports):
            self.expect(report)

    def wait_stream(self, other: Stream) -> None:
        """Work asked for from now on waits for what was asked of the other until now."""
        if other is not self:
            event = other.device.event()
            event.record(other)
            self.wait_event(event)
            other.device.recycle(event)


class Event:
    """A point in a stream, once it is recorded."""

    __slots__ = ("calls", "device", "flags", "handle", "stream")

    def __init__(self, device: Device, flags: int):
        self.device, self.flags, self.handle = device, flags, None
        self.stream: Stream | None = None
        self.calls = 0                      # of the stream, before it

    def record(self, stream: Stream) -> None:
        device, handle = self.device, self.made()
        calls = stream.calls
        checked(device.cu, device.cu.cuEventRecord(handle, stream.handle))
        self.stream, self.calls = stream, calls

    def made(self) -> Any:
        """The driver's handle."""
        self.device.enter()
        if self.handle is None:
            self.handle = checked(self.device.cu, self.device.cu.cuEventCreate(self.flags))
        return self.handle

    def recorded_by_graph(self, stream: Stream) -> None:
        """The next graph that the stream is asked for records it."""
        self.stream, self.calls = stream, stream.calls

    def is_done(self) -> bool:
        """Whether the work before it is; so it is where it was never recorded."""
        return self.stream is None or _is_done(self.device, self.device.cu.cuEventQuery, self.handle)

    def synchronize(self) -> None:
        """As of streams, for the work before it."""
        wait_until(self.is_done)
        if self.stream is not None:
            self.stream.raise_failure(self.calls)

    def milliseconds_to(self, later: Event) -> float:
        """Of the device's time."""
        self.device.enter()
        return float(checked(self.device.cu, self.device.cu.cuEventElapsedTime(self.handle, later.handle)))

    def __del__(self) -> None:
        if self.handle is not None:
            self.device.drop_event(self.handle)


def _is_done(device: Device, query: Callable[[Any], tuple[Any, ...]], handle: Any) -> bool:
    """What the driver answers of a stream or an event."""
    device.enter()
    answer = query(handle)
    if answer[0] == device.not_ready:
        return False
    checked(device.cu, answer)
    return True


def wait_until(is_done: Callable[[], bool]) -> None:
    """Returns when it is; Ctrl-C ends it."""
    if is_done():
        return
    started = time.perf_counter()
    while not is_done():
        waited = time.perf_counter() - started
        if waited > _SPINNING_S:
            time.sleep(min(0.001, waited / 50))
