"""What the calls of programs took, launch by launch and thread by thread, while somebody asks.

    begin()                         from now on every program of the CPU, whoever made it, leaves times in a Recorder
    recorders = end()               those of programs that ran; nothing is timed any more

Native code looks at one word of the call's memory (`Instance` in native/types.ll), as it always does: nothing else tells
the two apart, and what is not recorded runs the same code whether or not it ever was.
"""

from __future__ import annotations

import ctypes
import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from flambeau.runtime.forking import ForkSafeLock
from flambeau.runtime.native.layout import EventRecord, RecorderRecord
from flambeau.runtime.program import Program

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["CALL", "Recordable", "Recorder", "begin", "end", "line_of", "watch"]

CALL = -2                           # `what` of the event that is a whole call; see EventRecord
_MOST_EVENTS = 1 << 16              # of one program: 2 MiB, of which the system gives what is written


class Recorder:
    """The times of one program's launches, over all its calls. Threads may add at the same time.

    device: that the launches run on. lines: names of what events have for a thread where it is none, such as a stream of a
    GPU. settle: waits until the device has told its times."""

    def __init__(self, program: Program, most_events: int = _MOST_EVENTS) -> None:
        """most_events: 0 for the sums alone."""
        self.program = program
        n_launches = len(program.launches)
        self.nanoseconds: NDArray[np.int64] = np.zeros(n_launches, np.int64)
        self.counts: NDArray[np.int64] = np.zeros(n_launches, np.int64)
        self._events: NDArray[Any] = np.zeros(most_events, np.dtype(EventRecord))
        self.record = RecorderRecord(self.nanoseconds.ctypes.data, self.counts.ctypes.data, most_events, 0,
                                     self._events.ctypes.data)
        self.address = ctypes.addressof(self.record)
        self.device = "cpu"
        self.lines: dict[int, str] = {}
        self.settle: Callable[[], None] = _settled

    def line(self, name: str) -> int:
        """`line_of`, and remember the name."""
        number = line_of(name)
        self.lines[number] = name
        return number

    def add(self, what: int, start: int, stop: int, thread: int) -> None:
        """As an EventRecord says, from Python."""
        with _lock:
            place = int(self.record.n_events)
            self.record.n_events = place + 1
            if place < len(self._events):
                self._events[place] = what, start, stop, thread
            if what != CALL:
                self.nanoseconds[what >> 1] += stop - start
                self.counts[what >> 1] += 1

    @property
    def events(self) -> NDArray[Any]:
        """Those there was room for, as EventRecords."""
        kept: NDArray[Any] = self._events[:min(self.record.n_events, len(self._events))]
        return kept

    @property
    def n_lost(self) -> int:
        """How many events there was no room for; `nanoseconds` and `counts` have them."""
        return max(0, int(self.record.n_events) - len(self._events))


def line_of(name: str) -> int:
    """A number for events that belong to no thread, but to a line of that name: always the same."""
    return _lines.setdefault(name, len(_lines) + 1)


class Recordable(Protocol):
    """Whatever runs a program."""

    @property
    def program(self) -> Program: ...

    def record_into(self, recorder: Recorder | None) -> None:
        """Time calls from now on, or no longer (None)."""


def watch(runner: Recordable) -> None:
    """`runner` exists."""
    with _lock:
        _runners.add(runner)
        if _recorders is not None:
            _record(runner)


def begin() -> None:
    """Record all programs. Raises RuntimeError if they are recorded already."""
    global _recorders
    with _lock:
        if _recorders is not None:
            raise RuntimeError("programs are recorded already: one profile at a time")
        _recorders = {}
        for runner in list(_runners):
            _record(runner)


def end() -> list[Recorder]:
    """The recorders of programs that ran since `begin`."""
    global _recorders
    with _lock:
        found, _recorders = list((_recorders or {}).values()), None
        for runner in list(_runners):
            runner.record_into(None)
    for settle in {recorder.settle: None for recorder in found}:
        settle()
    return [recorder for recorder in found if recorder.counts.any()]


def _record(runner: Recordable) -> None:
    assert _recorders is not None, "somebody asked"
    program = runner.program
    if id(program) not in _recorders:           # a recorder keeps its program
        _recorders[id(program)] = Recorder(program)
    runner.record_into(_recorders[id(program)])


def _settled() -> None:
    """Everything is known at once."""


_lock = ForkSafeLock()
_lines: dict[str, int] = {}
_recorders: dict[int, Recorder] | None = None       # by id of the program, while programs are recorded
_runners: weakref.WeakSet[Recordable] = weakref.WeakSet()
