"""Events -> rows: what each kernel call of each program, and each eager op of each line, took in all."""
from __future__ import annotations

from collections.abc import Iterable, Sequence, Set
from dataclasses import field
from typing import Any, Final

from flambeau.frontend.call.compile import compiled_functions
from flambeau.frontend.profile.eager import OpEvent
from flambeau.ir.kernel import Kernel
from flambeau.ir.kernel.work import Work, work_of
from flambeau.ir.records import dataclass
from flambeau.runtime.recording import Recorder

__all__ = ["SORT_KEYS", "Row", "Source", "merged", "op_rows", "program_rows", "sources_of"]


@dataclass(frozen=True)
class Row:
    """What one kernel call took, over all calls of its program, or one eager op at one line.

    key: what it does. seconds: in all. count: how often it ran. flops, bytes: of all runs. kind: of kernel, "op" for an
    eager one, "" where rows of several were added up. program: whose step it is, and number: which of its kernel calls, as
    explain() numbers them. device: that ran it, by whose clock a GPU's are timed."""

    key: str
    seconds: float
    count: int
    flops: int = 0
    bytes: int = 0
    kind: str = ""
    phase: str = "forward"
    program: str = ""
    number: int = -1
    locations: tuple[str, ...] = ()
    modules: tuple[str, ...] = ()
    share_of_peak: float = field(default=0.0)
    device: str = "cpu"

    # torch.profiler's names for the same
    @property
    def self_cpu_time_total(self) -> float:
        """Microseconds in all."""
        return 1e6 * self.seconds

    @property
    def cpu_time_total(self) -> float:
        """Microseconds in all."""
        return 1e6 * self.seconds

    @property
    def cpu_time(self) -> float:
        """Microseconds a run."""
        return 1e6 * self.seconds / self.count if self.count else 0.0

    @property
    def stack(self) -> list[str]:
        """The user's lines."""
        return list(self.locations)


SORT_KEYS: Final = {"self_cpu_time_total": "seconds", "cpu_time_total": "seconds", "cpu_time": "cpu_time",
                    "time": "seconds", "count": "count", "flops": "flops", "bytes": "bytes", "peak": "share_of_peak",
                    "share_of_peak": "share_of_peak", "key": "key", "name": "key"}


@dataclass(frozen=True)
class Source:
    """A recorded program: what is known of each of its launches. calls: the kernel call behind each."""

    name: str
    recorder: Recorder
    calls: tuple[int, ...]
    words: tuple[str, ...]              # of each kernel call, and so are those that follow
    kernels: tuple[Kernel | None, ...]
    work: tuple[Work, ...]
    phases: tuple[str, ...]
    locations: tuple[tuple[str, ...], ...]
    modules: tuple[tuple[str, ...], ...]


def sources_of(recorders: Iterable[Recorder], of_ops: Set[int]) -> list[Source]:
    """The compiled functions that the programs are of, as far as they live; what was found is left with them, for
    `explain`. of_ops: the ids of programs of eager ops."""
    parts = {id(part.program): (f"{function.name}{' backward' if number > 0 else ''}", part, signature, number)
             for function in list(compiled_functions) for signature in function.signatures
             for number, part in _numbered(signature)}
    found = []
    for recorder in recorders:
        if id(recorder.program) in of_ops:          # whose rows have their times
            continue
        if id(recorder.program) not in parts:
            found.append(_plain_source(recorder))
            continue
        name, part, signature, number = parts[id(recorder.program)]
        found.append(_source(name, part, recorder))
        signature.measured[number] = {row.number: row.seconds / row.count for row in program_rows(found[-1])}
    return found


def _numbered(signature: Any) -> list[tuple[int, Any]]:
    """What was compiled for a signature, by its number; that for sizes other than the newest as -1."""
    others = signature.family.compiled.values() if signature.family is not None else ()
    return [*[(-1, part) for part in others], *enumerate(signature.parts)]


def _source(name: str, part: Any, recorder: Recorder) -> Source:
    """part: a `Compiled`."""
    provenance, calls = part.provenance, part.memory.calls
    if len(part.launch_calls) != len(recorder.program.launches):
        return _plain_source(recorder)
    return Source(name, recorder, tuple(part.launch_calls), tuple([provenance.words(n) for n in range(len(calls))]),
                  tuple([call.kernel for call in calls]),
                  tuple([work_of(c.kernel, dict(zip(c.kernel.sizes, c.sizes, strict=False))) for c in calls]),
                  tuple([call.phase for call in calls]), tuple([call.kernel.locations for call in calls]),
                  tuple([tuple(provenance.modules_of(n)) for n in range(len(calls))]))


def _plain_source(recorder: Recorder) -> Source:
    """What a program tells by itself: lines, and the bytes of its buffers."""
    program = recorder.program
    launches, n = program.launches, len(program.launches)
    where = [() if launch.location is None else (program.locations[launch.location],) for launch in launches]
    sizes = [sum(program.slots[slot].nbytes for slot in set(launch.slots)) for launch in launches]
    return Source("a program", recorder, tuple(range(n)), tuple([launch.symbol[:40] for launch in launches]), (None,) * n,
                  tuple([Work(0, nbytes) for nbytes in sizes]), ("forward",) * n, tuple(where), ((),) * n)


def program_rows(source: Source) -> list[Row]:
    """A row for each kernel call that ran."""
    recorder, rows = source.recorder, []
    for number, words in enumerate(source.words):
        launches = [n for n, call in enumerate(source.calls) if call == number]
        count = int(recorder.counts[launches[0]]) if launches else 0
        if count:
            kernel, work = source.kernels[number], source.work[number]
            rows.append(Row(words, int(recorder.nanoseconds[launches].sum()) * 1e-9, count, count * work.flops,
                            count * work.bytes, kernel.keyword if kernel is not None else "", source.phases[number],
                            source.name, number, source.locations[number], source.modules[number],
                            device=recorder.device))
    return rows


def op_rows(events: Sequence[OpEvent]) -> list[Row]:
    """A row for each op at each line, in each Module."""
    found: dict[tuple[Any, ...], list[OpEvent]] = {}
    for event in events:
        found.setdefault((event.name, event.loc, event.device), []).append(event)
    rows = []
    for (name, loc, device), those in found.items():
        called = f" of {loc.called}" if loc is not None and loc.called not in ("", name) else ""
        rows.append(Row(f"{name}{called}", sum(e.stop - e.start for e in those) * 1e-9, len(those),
                        bytes=sum(e.nbytes for e in those), kind="op", locations=(str(loc),) if loc is not None else (),
                        modules=(loc.module,) if loc is not None and loc.module else (), device=device))
    return rows


def merged(rows: Iterable[Row], by: str) -> list[Row]:
    """Rows with one key added up; by: "kernel" (none are), "name", "module", "line", "phase" or "kind"."""
    key_of = {"name": lambda row: row.key, "module": lambda row: row.modules[0] if row.modules else "no module",
              "line": lambda row: row.locations[0] if row.locations else "no line", "phase": lambda row: row.phase,
              "kind": lambda row: row.kind or "other"}.get(by)
    if key_of is None:
        if by == "kernel":
            return list(rows)
        raise ValueError(f"rows are grouped by kernel, name, module, line, phase or kind, not by {by!r}")
    groups: dict[str, list[Row]] = {}
    for row in rows:
        groups.setdefault(key_of(row), []).append(row)
    return [_sum(key, those) for key, those in groups.items()]


def _sum(key: str, rows: Sequence[Row]) -> Row:
    def only(values: Iterable[str]) -> str:
        distinct = set(values)
        return distinct.pop() if len(distinct) == 1 else ""

    seconds = sum(row.seconds for row in rows)
    share = sum(row.share_of_peak * row.seconds for row in rows) / seconds if seconds else 0.0
    return Row(key, seconds, sum(row.count for row in rows), sum(row.flops for row in rows), sum(row.bytes for row in rows),
               only(row.kind for row in rows), only(row.phase for row in rows), only(row.program for row in rows), -1,
               tuple(dict.fromkeys(where for row in rows for where in row.locations)),
               tuple(dict.fromkeys(module for row in rows for module in row.modules)), share,
               only(row.device for row in rows))
