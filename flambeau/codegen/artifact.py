"""What a backend hands back: relocatable code for one kernel, and how to launch each of its functions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import field
from typing import Any, Final

from flambeau.errors import ParseError
from flambeau.ir.kernel import Extent
from flambeau.ir.records import dataclass
from flambeau.ir.sealed import boolean, integer, integers, items, optional, parts, seal, text, unseal

_VERSION: Final = 3                 # of an artifact's bytes

STATUS_MESSAGES: Final[dict[int, str]] = {1: "index {0} is out of range", 2: "integer division by zero"}


def status_message(status: int) -> str:
    """Words for a kernel's nonzero return value."""
    return STATUS_MESSAGES.get(status, f"a check of the kernel failed with status {status}")


@dataclass(frozen=True, slots=True)
class TaskDim:
    """One factor of a phase's task count: ceil(extent / block). size_index: the runtime size it depends on."""

    extent: Extent
    block: int = 1
    size_index: int | None = None

    def count(self, sizes: Sequence[int]) -> int:
        """Tasks along this dim. sizes: the runtime sizes, in ABI order."""
        extent = self.extent if isinstance(self.extent, int) else sizes[self._size_index()]
        return -(-extent // self.block)

    def _size_index(self) -> int:
        assert self.size_index is not None, f"runtime extent {self.extent} came without its size number"
        return self.size_index


@dataclass(frozen=True, slots=True)
class Phase:
    """One function of a kernel, run over tasks [0, count); phases of a kernel run one after another.

    tasks is None where the count depends on runtime sizes; `task_count` answers in both cases. params are the
    buffers to pass, as kernel param numbers (scratch the backend asked for is numbered on from them). host: no code of
    the artifact, but a function of the host under that name, which gets `sizes` where the kernel has none of its own.
    Of other phases, sizes are runtime numbers that the backend made of the kernel's own: they come after its sizes.
    packs: (buffer, scratch) where all that it does is copy what lies in one of `params` to scratch; layout: how it lies
    there: phases of one layout make the same of equal params. "" is no other's.
    """

    symbol: str
    tasks: int | None
    params: tuple[int, ...]
    grain: int = 1
    parallel: bool = True
    task_dims: tuple[TaskDim, ...] = ()
    errors: tuple[tuple[int, str], ...] = ()
    host: bool = False
    sizes: tuple[int, ...] = ()
    packs: tuple[int, int] | None = None
    layout: str = ""

    def task_count(self, sizes: Sequence[int] = ()) -> int:
        """How many tasks there are for these runtime sizes (in the order of `Kernel.sizes`)."""
        if self.tasks is not None:
            return self.tasks
        count = 1
        for dim in self.task_dims:
            count *= dim.count(sizes)
        return count


@dataclass(frozen=True)
class Artifact:
    """A compiled kernel, as data. phases: the launches of one call, in order; their symbols name functions of `object`
    (relocatable code, or whatever the backend reads), and equal symbols must be equal code. scratch_bytes: extra 64-byte
    aligned buffers, passed after the kernel's own params."""

    phases: tuple[Phase, ...]
    scratch_bytes: tuple[int, ...] = ()
    object: bytes = field(default=b"", repr=False)

    @property
    def symbols(self) -> tuple[str, ...]:
        """The names of its functions, which tell its code from that of others."""
        return tuple([phase.symbol for phase in self.phases])

    def to_bytes(self) -> bytes:
        """What `from_bytes` reads back: phases and scratch as JSON, then the object."""
        phases = [[p.symbol, p.tasks, p.params, p.grain, p.parallel,
                   [[dim.extent, dim.block, dim.size_index] for dim in p.task_dims], p.errors, p.host, p.sizes, p.packs,
                   p.layout]
                  for p in self.phases]
        return seal("artifact", _VERSION, {"phases": phases, "scratch_bytes": self.scratch_bytes}, [self.object])

    @classmethod
    def from_bytes(cls, data: bytes) -> Artifact:
        """Raises ParseError for bytes that are no artifact of this version, whole and unchanged."""
        content, blobs = unseal(data, "artifact", _VERSION)
        match content, blobs:
            case {"phases": list(phases), "scratch_bytes": list(scratch)}, [code]:
                return cls(items(phases, _phase), items(scratch, _count), code)
            case _:
                raise ParseError("an artifact has phases, scratch_bytes and one object")


def _phase(value: Any) -> Phase:
    phase = Phase(*parts(value, text, optional(_count), _counts, _positive, boolean, lambda dims: items(dims, _task_dim),
                         lambda errors: items(errors, lambda error: parts(error, integer, text)), boolean,
                         integers, optional(lambda packs: parts(packs, _count, _count)), text))
    if phase.tasks is None and any(isinstance(d.extent, str) and d.size_index is None for d in phase.task_dims):
        raise ParseError(f"phase {phase.symbol} has a runtime extent without the number of its size")
    return phase


def _task_dim(value: Any) -> TaskDim:
    return TaskDim(*parts(value, lambda extent: text(extent) if isinstance(extent, str) else _count(extent), _positive,
                          optional(_count)))


def _count(value: Any) -> int:
    if (number := integer(value)) < 0:
        raise ParseError(f"expected a count, found {number}")
    return number


def _counts(value: Any) -> tuple[int, ...]:
    return items(value, _count)


def _positive(value: Any) -> int:
    if (number := integer(value)) < 1:
        raise ParseError(f"expected at least 1, found {number}")
    return number
