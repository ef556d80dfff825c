"""What a backend hands back: relocatable code for one kernel, and how to launch each of its functions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from flambeau.ir.kernel import Extent

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

    def task_count(self, sizes: Sequence[int] = ()) -> int:
        """How many tasks there are for these runtime sizes (in the order of `Kernel.sizes`)."""
        if self.tasks is not None:
            return self.tasks
        count = 1
        for dim in self.task_dims:
            count *= dim.count(sizes)
        return count

    @property
    def task_block(self) -> int:
        """Points of the blocked runtime dim that one task takes."""
        return self._runtime_dim().block

    @property
    def task_size(self) -> int | None:
        """Number of the runtime size that `task_block` divides, None for a static count."""
        return None if self.tasks is not None else self._runtime_dim().size_index

    def _runtime_dim(self) -> TaskDim:
        runtime = [dim for dim in self.task_dims if dim.size_index is not None]
        return runtime[-1] if runtime else TaskDim(1)


@dataclass(frozen=True)
class Artifact:
    """A compiled kernel, as data. phases: the launches of one call, in order; their symbols name functions of `object`
    (relocatable code, or whatever the backend reads), and equal symbols must be equal code. scratch_bytes: extra 64-byte
    aligned buffers, passed after the kernel's own params."""

    phases: tuple[Phase, ...]
    scratch_bytes: tuple[int, ...] = ()
    object: bytes = field(default=b"", repr=False)
