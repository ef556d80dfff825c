"""What one call of a program at a time works with on a stream: the parameters of its launches, its numbers, where kernels
report, and graphs. Calls one after the other share it, since their work runs in order: parameters are the driver's own once
a launch is asked for, and numbers are copied in the order of the stream.
"""
from __future__ import annotations

import ctypes
import math
from collections.abc import Sequence
from typing import Any

from flambeau.errors import VerificationError, kernel_error
from flambeau.runtime.cuda.allocator import Block
from flambeau.runtime.cuda.api import checked
from flambeau.runtime.cuda.graphs import Graph
from flambeau.runtime.cuda.layout import Layout, Segment, evaluated
from flambeau.runtime.cuda.streams import Stream
from flambeau.runtime.program import Launch

__all__ = ["Instance"]

STATUS_BYTES = 16                   # of each launch that reports: a status, and its detail
FEWEST_IN_GRAPH = 4                 # launches; fewer are asked for one by one


class Instance:
    def __init__(self, layout: Layout, stream: Stream, states: Sequence[int], consts: Sequence[int]):
        self.layout, self.stream, self.device, self.cu = layout, stream, stream.device, stream.device.cu
        self.words = (ctypes.c_int64 * layout.n_words)()
        start = ctypes.addressof(self.words)
        self.pointers = (ctypes.c_void_p * layout.n_words)(*range(start, start + 8 * layout.n_words, 8))
        self.never = (math.nan,) * layout.n_values      # which is not even what it is itself
        self.last: tuple[float, ...] = ()
        self.arena = 0
        self.sizes: list[int] = []
        self.report = _Report(layout, stream) if layout.reporting else None
        self.numbers = _Numbers(layout.program.n_scalars, stream) if layout.program.n_scalars else None
        for number in layout.reporting:
            assert self.report is not None
            self.words[layout.first[number]] = self.report.place_of[number]
        for (kind, index), words in layout.slot_words.items():
            value = states[index] if kind == "state" else consts[index] if kind == "const" else self.number_at(index)
            for word in words:
                self.words[word] = value
        self.launches: list[tuple[Any, ...]] = [()] * len(layout.launches)
        self.graphs: list[Graph | None] = [None] * layout.n_segments
        self.turns = [0] * layout.n_segments
        self.stale: set[int] = set()
        self.set_sizes(())
        self.launch = self.cu.cuLaunchKernel

    def number_at(self, index: int) -> int:
        assert self.numbers is not None
        return self.numbers.block.ptr + 8 * index

    # what a call brings

    def take(self, values: tuple[float, ...]) -> None:
        """Arguments, numbers, results and sizes that are not those of the last call."""
        layout, last, words = self.layout, self.last or self.never, self.words
        if len(values) != layout.n_values:
            program = layout.program
            raise TypeError(f"the program takes {program.n_args} argument pointers, {program.n_scalars} scalars and "
                            f"{program.n_outs} output pointers, then {program.n_sizes} sizes; {len(values)} values came")
        self.last = ()                                  # of no call, if this one ends here
        for position, places, launches in layout.brought:
            value = values[position]
            if value != last[position]:
                for word in places:
                    words[word] = value                 # type: ignore[call-overload]
                self.stale.update(launches)
        if self.numbers is not None:
            self.numbers.take(values[layout.program.n_args:layout.first_out])
        if layout.has_open_sizes:
            self.set_sizes(values[layout.first_size:])
        self.last = values

    def set_sizes(self, sizes: Sequence[float]) -> None:
        layout, handle = self.layout, self.stream.handle
        for size, value in zip(layout.program.signature.sizes, sizes, strict=bool(sizes)):
            if not isinstance(value, int) or not 0 <= value <= size.most:
                raise TypeError(f"size {size.name} of the program is not an int from 0 to {size.most}")
        self.sizes = [int(size) for size in sizes] or [0] * layout.program.n_sizes
        for word, extent in layout.sized_words:
            self.words[word] = evaluated(extent, self.sizes)
        start = ctypes.addressof(self.pointers)
        for number, (launch, part) in enumerate(zip(layout.launches, layout.loaded, strict=True)):
            if part.function is None:
                continue
            assert isinstance(launch, Launch)
            blocks = launch.tasks if isinstance(launch.tasks, int) else math.prod(
                [-(-evaluated(factor.extent, self.sizes) // factor.block) for factor in launch.tasks])
            self.launches[number] = (part.function, blocks, 1, 1, part.threads, 1, 1, part.shared_bytes, handle,
                                     start + 8 * layout.first[number], 0)

    def set_arena(self, pointer: int) -> None:
        for word, offset in self.layout.arena_words:
            self.words[word] = pointer + offset
        self.stale.update(self.layout.arena_launches)
        self.arena = pointer

    # what it asks for

    def run(self, segment: Segment) -> None:
        """Ask for the launches, as a graph from the second time on."""
        graph = self.graphs[segment.number]
        if graph is None:
            if self.may_capture(segment):
                graph = self.graphs[segment.number] = self.captured(segment)
            else:
                self.run_plainly(segment)
                return
        if self.stale:
            changed = [number for number in segment.launches if number in self.stale]
            graph.renew(changed)
            self.stale.difference_update(changed)
        answer = graph.launch(graph.executable, self.stream.handle)
        if answer[0]:
            checked(self.cu, answer)

    def run_plainly(self, segment: Segment) -> None:
        launch, launches = self.launch, self.launches
        for number in segment.launches:
            asked = launches[number]
            if asked[1]:
                answer = launch(*asked)
                if answer[0]:
                    checked(self.cu, answer)

    def may_capture(self, segment: Segment) -> bool:
        self.turns[segment.number] += 1
        return (self.turns[segment.number] > 1 and len(segment.launches) >= FEWEST_IN_GRAPH and self.device.uses_graphs
                and not self.layout.has_open_sizes and all(self.launches[number][1] for number in segment.launches))

    def captured(self, segment: Segment) -> Graph:
        self.stale.difference_update(segment.launches)
        return Graph(self.device, {number: self.launches[number] for number in segment.launches})

    def ran_on_host(self, launch: int, start: int, stop: int) -> None:
        """A launch took that time, in nanoseconds of the clock, on the host: told to who listens."""

    def pointer(self, slot_number: int) -> int:
        """Where a slot lies in this call."""
        layout = self.layout
        slot = layout.program.slots[slot_number]
        match slot.kind:
            case "arena":
                return self.arena + slot.index
            case "arg" | "out":
                return int(self.last[slot.index + (layout.first_out if slot.kind == "out" else 0)])
            case _:
                return self.words[layout.slot_words[slot.kind, slot.index][0]]


class _Numbers:
    """Numbers of calls on the device, in one piece."""

    def __init__(self, count: int, stream: Stream):
        self.stream, self.nbytes = stream, 8 * count
        self.block: Block = stream.device.allocator.allocate(self.nbytes, stream)
        self.here = (ctypes.c_double * count)()
        self.last: tuple[float, ...] | None = None

    def take(self, values: tuple[float, ...]) -> None:
        if values == self.last:
            return
        self.last = None                                # of no call, if this one ends here
        self.here[:] = values                           # type: ignore[call-overload]
        self.stream.device.ring.copy(self.block.ptr, ctypes.addressof(self.here), self.nbytes, self.stream)
        self.last = values


class _Report:
    """Words of the host's that kernels see: a status and a detail for each launch that may leave one."""

    def __init__(self, layout: Layout, stream: Stream):
        self.layout = layout
        self.block = stream.device.pinned.allocate(STATUS_BYTES * len(layout.reporting))
        self.words = (ctypes.c_int64 * (2 * len(layout.reporting))).from_address(self.block.address)
        ctypes.memset(self.block.address, 0, ctypes.sizeof(self.words))
        start = stream.device.pinned.device_pointer(self.block.address)
        self.place_of = {number: start + STATUS_BYTES * at for at, number in enumerate(layout.reporting)}

    def failure(self) -> Exception | None:
        words, layout = self.words, self.layout
        if not any(words):
            return None
        found = list(words)
        ctypes.memset(self.block.address, 0, ctypes.sizeof(words))
        for at, number in enumerate(layout.reporting):
            status, detail = found[2 * at:2 * at + 2]
            if status:
                message = layout.program.message(layout.launches[number], status, (detail, 0))
                return kernel_error(message, status, (detail, 0))
        return VerificationError("a kernel left a detail without a status")
