"""When work of a GPU began and ended, by the host's clock: events of the driver's, read once they are done."""
from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from flambeau.errors import AcceleratorError
from flambeau.runtime.cuda.streams import Event, Stream, wait_until
from flambeau.runtime.forking import ForkSafeLock
from flambeau.runtime.native.support import support

if TYPE_CHECKING:
    from flambeau.runtime.cuda.device import Device

__all__ = ["Timeline"]

_MOST_WAITING = 256                 # marked pieces of work, before those that are done are read
_OLD_NS = 10_000_000_000            # the driver tells differences as f32 milliseconds: of 10 s to half a microsecond

Tell = Callable[[list[int]], None]


class Timeline:
    """Of one device: `marks` are recorded around work, and `expect` has their times told later, in nanoseconds of the clock
    that programs are timed by. Any thread may ask."""

    def __init__(self, device: Device):
        self.device = device
        self._origin: Event | None = None
        self._origin_ns = 0
        self._free: list[Event] = []
        self._waiting: deque[tuple[Sequence[Event], Tell]] = deque()
        self._lock = ForkSafeLock()

    def marks(self, count: int, stream: Stream) -> list[Event]:
        """Events to be recorded on the stream, each once, in this order. The first ones ever wait for its work."""
        with self._lock:
            if self._origin is None or not self._waiting and support().clock_ns() - self._origin_ns > _OLD_NS:
                self._begin(stream)
            return [self._free.pop() if self._free else self.device.event(timing=True) for _ in range(count)]

    def _begin(self, stream: Stream) -> None:
        """Both clocks at one moment: when an event of a stream without work is done."""
        wait_until(stream.is_done)
        origin = self.device.event(timing=True)
        origin.record(stream)
        while not origin.is_done():
            """It will be in some microseconds."""
        self._origin, self._origin_ns = origin, support().clock_ns()

    def expect(self, marks: Sequence[Event], tell: Tell) -> None:
        """The marks are recorded: tell(times) is called, by whoever reads them, when they are done."""
        self._waiting.append((marks, tell))
        if len(self._waiting) > _MOST_WAITING:
            self._read(wait=False)

    def read(self) -> None:
        """Wait for everything that is expected, and have it told. What a device that failed doesn't tell is lost."""
        try:
            self._read(wait=True)
        except AcceleratorError:
            self._waiting.clear()

    def _read(self, wait: bool) -> None:
        with self._lock:
            while self._waiting:
                marks, tell = self._waiting[0]
                if wait:
                    wait_until(marks[-1].is_done)
                elif not marks[-1].is_done():
                    return
                times = self._times(marks)
                self._waiting.popleft()
                self._free += marks
                tell(times)

    def _times(self, marks: Sequence[Event]) -> list[int]:
        """Each from the one before it: the differences are what is exact."""
        assert self._origin is not None, "marks are given once there is one"
        times = [self._origin_ns + round(1e6 * self._origin.milliseconds_to(marks[0]))]
        for earlier, later in zip(marks, marks[1:], strict=False):
            times.append(times[-1] + round(1e6 * earlier.milliseconds_to(later)))
        return times
