"""`with fb.profile() as p`: the time of every kernel and eager op while the block runs, by user line and Module.

Compiled functions are timed by the native runner, launch by launch (`runtime.recording`): about 0.1 us a launch. Eager ops
are timed where they are evaluated (`eager`). A step whose sizes a program leaves open counts work by those it was planned
for. What runs on GPUs is timed by events of theirs (`runtime.cuda.timed`), which are read when the block is over.
"""
from __future__ import annotations

import functools
import json
import os
import time
from collections.abc import Callable
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flambeau.frontend.profile.chrome import chrome_trace, thread_names
from flambeau.frontend.profile.eager import EagerOps, OpEvent, Span, programs_of_ops
from flambeau.frontend.profile.roofline import draw
from flambeau.frontend.profile.rows import SORT_KEYS, Row, Source, merged, op_rows, program_rows, sources_of
from flambeau.frontend.profile.table import table
from flambeau.runtime import recording
from flambeau.runtime.native.support import support

if TYPE_CHECKING:
    from flambeau.backends.peaks import Peaks

__all__ = ["profile", "record_function"]


class profile:
    """A profile of what runs in a `with` block, in all threads; one at a time.

    `print(p)` is a table, `p.key_averages()` its rows, `p.table(sort_by=, row_limit=)` the table as one wants it,
    `p.roofline(path)` a drawing, `p.export_chrome_trace(path)` a file for chrome://tracing and ui.perfetto.dev.
    on_trace_ready: called with the profile when it is over. torch.profiler's other arguments are taken, and ask for what
    is always there."""

    def __init__(self, *, activities: Any = None, on_trace_ready: Callable[[profile], object] | None = None,
                 record_shapes: bool = False, profile_memory: bool = False, with_stack: bool = False,
                 with_flops: bool = False, with_modules: bool = False):
        self.on_trace_ready = on_trace_ready
        self.sources: list[Source] = []
        self.ops: list[OpEvent] = []
        self.spans: list[Span] = []
        self.seconds = 0.0                      # the block took
        self._started = self._offset = 0
        self._threads: dict[int, str] = {}
        self._lines: dict[int, str] = {}
        self._eager: EagerOps | None = None

    # -- taking it ------------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Begin, as the `with` does. Raises RuntimeError if a profile is being taken."""
        clock = support().clock_ns
        recording.begin()
        self._eager = EagerOps()
        self._eager.begin()
        _now.append(self._eager)
        self._threads = thread_names()
        self._started = time.perf_counter_ns()
        self._offset = clock() - self._started

    def stop(self) -> None:
        """End, as the `with` does."""
        if self._eager is None:
            raise RuntimeError("stop() of a profile that was not started")
        self.seconds = (time.perf_counter_ns() - self._started) * 1e-9
        eager, self._eager = self._eager, None
        _now.clear()
        eager.end()
        recorders = recording.end()
        self._threads |= thread_names()         # those that ended since have the names they had at the start
        self.ops, self.spans, self._lines = eager.events(self._offset), eager.all_spans(), eager.lines
        self.sources = sources_of(recorders, programs_of_ops())
        if self.on_trace_ready is not None:
            self.on_trace_ready(self)

    def __enter__(self) -> profile:
        self.start()
        return self

    def __exit__(self, *raised: object) -> None:
        self.stop()

    # -- what there is to see -------------------------------------------------------------------------------------------

    @property
    def peaks(self) -> dict[str, Peaks]:
        """What each device that something ran on can do at most; measured at the first use ever of it."""
        devices = {source.recorder.device for source in self.sources} | {op.device for op in self.ops}
        peaks_of = import_module("flambeau.backends.peaks").peaks_of
        return {device: peaks_of(device) for device in sorted(devices or {"cpu"})}

    @property
    def rows(self) -> list[Row]:
        """A row for each kernel call and each eager op at each line."""
        found = [*[row for source in self.sources for row in program_rows(source)], *op_rows(self.ops)]
        limits = self.peaks
        return [replace(row, share_of_peak=limits[row.device].share(row.flops, row.bytes, row.seconds))
                for row in found]

    def key_averages(self, group_by: str = "kernel") -> list[Row]:
        """The rows, or sums of them. group_by: "kernel", "name", "module", "line", "phase" or "kind"."""
        return merged(self.rows, group_by)

    def events(self) -> list[dict[str, Any]]:
        """Everything that ran, with its start, as `export_chrome_trace` writes it."""
        return [event for event in self._trace()["traceEvents"] if event["ph"] == "X"]

    def table(self, sort_by: str = "self_cpu_time_total", row_limit: int = 100, group_by: str = "kernel") -> str:
        """Rows from the largest down. sort_by: self_cpu_time_total, cpu_time, count, flops, bytes, share_of_peak or key.
        row_limit: how many; -1 for all."""
        if sort_by not in SORT_KEYS:
            raise ValueError(f"a table is sorted by {', '.join(SORT_KEYS)}, not by {sort_by!r}")
        rows = self.key_averages(group_by)
        rows.sort(key=lambda row: getattr(row, SORT_KEYS[sort_by]), reverse=sort_by not in ("key", "name"))
        return table(rows, row_limit, self.seconds, self.peaks)

    def __str__(self) -> str:
        return self.table(row_limit=40)

    def __repr__(self) -> str:
        n_kernels = sum(len(program_rows(source)) for source in self.sources)
        return (f"<profile of {self.seconds:.3f} s: {n_kernels} kernels of {len(self.sources)} programs, "
                f"{len(self.ops)} eager ops>")

    def roofline(self, path: str | os.PathLike[str]) -> None:
        """Draw each kernel by its flops a byte and its flops a second, under what the machine can do. path: of the picture,
        whose ending says of which format. Needs matplotlib."""
        draw(self.rows, self.peaks, Path(path))

    def export_chrome_trace(self, path: str | os.PathLike[str]) -> None:
        """Write a JSON file that chrome://tracing and ui.perfetto.dev show: threads, calls, kernels, eager ops, Modules."""
        Path(path).write_text(json.dumps(self._trace()), encoding="utf-8")

    def export_stacks(self, path: str | os.PathLike[str], metric: str = "self_cpu_time_total") -> None:
        """Write `line;kernel microseconds` for each row, which flame graphs are drawn from."""
        lines = [f"{';'.join([*row.modules[:1], *row.locations[:1], row.key])} {int(row.self_cpu_time_total)}"
                 for row in self.rows]
        Path(path).write_text("\n".join(lines) + "\n", encoding="utf-8")

    def _trace(self) -> dict[str, Any]:
        names = {**self._threads, **self._lines}
        return chrome_trace(self.sources, self.ops, self.spans, self._started, self._offset, names)


class record_function:
    """A part of a program, with a name that a profile shows: a context, or a decorator. Elsewhere it does nothing."""

    def __init__(self, name: str, args: str | None = None):
        self.name, self.args = name, args
        self._starts: list[int] = []

    def __enter__(self) -> record_function:
        self._starts.append(time.perf_counter_ns())
        return self

    def __exit__(self, *raised: object) -> None:
        start = self._starts.pop()
        for eager in _now:
            eager.span(self.name, "user_annotation", start)

    def __call__(self, function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def recorded(*args: Any, **kwargs: Any) -> Any:
            with record_function(self.name, self.args):
                return function(*args, **kwargs)

        return recorded


_now: list[EagerOps] = []               # where named parts go, while a profile is taken
