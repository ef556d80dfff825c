"""An instance whose launches are timed: events of the device before and after each, as nodes of its graphs or between
launches that are asked for one by one."""
from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING

from flambeau.runtime.cuda.graphs import Graph
from flambeau.runtime.cuda.instance import Instance
from flambeau.runtime.cuda.layout import Segment
from flambeau.runtime.native.support import support
from flambeau.runtime.recording import CALL, Recorder

if TYPE_CHECKING:
    from flambeau.runtime.cuda.layout import Layout
    from flambeau.runtime.cuda.streams import Event, Stream

__all__ = ["TimedInstance"]


class TimedInstance(Instance):
    """recorder: where times go. Launches in a row are a call there, by the stream's line; asking for them is one by the
    thread's."""

    def __init__(self, layout: Layout, stream: Stream, states: Sequence[int], consts: Sequence[int], recorder: Recorder):
        super().__init__(layout, stream, states, consts)
        self.recorder, self.timeline = recorder, stream.device.timeline

    def run(self, segment: Segment) -> None:
        recorder, stream, number, clock = self.recorder, self.stream, segment.number, support().clock_ns
        started = clock()
        marks = self.timeline.marks(len(segment.launches) + 1, stream)
        with _asking:                       # else what other threads ask of the stream would be among it
            if self.graphs[number] is None and self.may_capture(segment):
                self.graphs[number] = self.captured(segment)
            graph = self.graphs[number]
            if graph is None:
                self._run_marked(segment, marks)
            else:
                graph.mark(marks, stream)
                super().run(segment)
        recorder.add(CALL, started, clock(), threading.get_ident())
        line = recorder.line(stream.words)

        def tell(times: list[int]) -> None:
            for launch, start, stop in zip(segment.launches, times, times[1:], strict=False):
                recorder.add(2 * launch, start, stop, line)
            recorder.add(CALL, times[0], times[-1], line)

        self.timeline.expect(marks, tell)

    def _run_marked(self, segment: Segment, marks: Sequence[Event]) -> None:
        marks[0].record(self.stream)
        for launch, mark in zip(segment.launches, marks[1:], strict=True):
            self.run_plainly(Segment(segment.number, (launch,)))
            mark.record(self.stream)

    def captured(self, segment: Segment) -> Graph:
        self.stale.difference_update(segment.launches)
        return Graph(self.device, {number: self.launches[number] for number in segment.launches}, is_marked=True)

    def ran_on_host(self, launch: int, start: int, stop: int) -> None:
        self.recorder.add(2 * launch, start, stop, threading.get_ident())


_asking = threading.RLock()
