"""A profile as JSON for chrome://tracing and ui.perfetto.dev: a line for each thread, calls around their kernels."""
from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Sequence
from typing import Any

from flambeau.frontend.profile.eager import OpEvent, Span
from flambeau.frontend.profile.rows import Source
from flambeau.runtime.recording import CALL

__all__ = ["chrome_trace", "thread_names"]


def chrome_trace(sources: Sequence[Source], ops: Sequence[OpEvent], spans: Sequence[Span], origin: int, offset: int,
                 names: dict[int, str]) -> dict[str, Any]:
    """The trace as one object. origin: the nanosecond it begins at; offset: what programs' clocks are ahead of Python's;
    names: of threads, as they were."""
    names = {**names, **{line: name for source in sources for line, name in source.recorder.lines.items()}}
    events = [*_kernels(sources, origin + offset), *_ops(ops, origin), *_spans(spans, origin)]
    events.sort(key=lambda event: (event["tid"], event["ts"], -event["dur"]))
    threads = sorted({event["tid"] for event in events})
    named = [{"ph": "M", "pid": os.getpid(), "tid": thread, "name": "thread_name",
              "args": {"name": names.get(thread, f"thread {thread}")}} for thread in threads]
    lost = sum(source.recorder.n_lost for source in sources)
    return {"traceEvents": [*named, *events], "displayTimeUnit": "ms", "otherData": {"events_lost": lost}}


def _event(name: str, category: str, start: int, stop: int, thread: int, **args: Any) -> dict[str, Any]:
    return {"ph": "X", "name": name, "cat": category, "pid": os.getpid(), "tid": int(thread), "ts": float(start) / 1e3,
            "dur": float(stop - start) / 1e3, "args": {name: value for name, value in args.items() if value}}


def _kernels(sources: Sequence[Source], origin: int) -> Iterator[dict[str, Any]]:
    for source in sources:
        events = source.recorder.events
        caller = {int(e["what"]) >> 1: int(e["thread"]) for e in events if e["what"] >= 0 and not e["what"] & 1}
        lines = source.recorder.lines
        for what, start, stop, thread in events.tolist():
            if what == CALL:                    # of a device: its line has the call, and the thread asks for it
                kind = "asked" if lines and thread not in lines else "call"
                yield _event(source.name, kind, start - origin, stop - origin, thread)
                continue
            number = source.calls[what >> 1]
            if what & 1 and thread == caller.get(what >> 1):
                continue                        # a part that the launching thread did lies within the launch
            work = source.work[number]
            yield _event(source.words[number], "part" if what & 1 else "kernel", start - origin, stop - origin, thread,
                         kernel=number, flops=work.flops, bytes=work.bytes, lines=", ".join(source.locations[number][:3]),
                         modules=", ".join(source.modules[number][:3]), phase=source.phases[number])


def _ops(ops: Sequence[OpEvent], origin: int) -> Iterator[dict[str, Any]]:
    for op in ops:
        yield _event(op.name, "op", op.start - origin, op.stop - origin, op.thread, bytes=op.nbytes,
                     lines=str(op.loc) if op.loc is not None else "", modules=op.loc.module if op.loc is not None else "")


def _spans(spans: Sequence[Span], origin: int) -> Iterator[dict[str, Any]]:
    for span in spans:
        yield _event(span.name, span.kind, span.start - origin, span.stop - origin, span.thread)


def thread_names() -> dict[int, str]:
    """Of the threads that live now, by the number that events have."""
    return {thread.ident: thread.name for thread in threading.enumerate() if thread.ident is not None}
