"""The text of a kernel, as it grows, and what is needed to launch it.

Kernels are written in a small part of Python, which numba.cuda compiles and `emulator.py` runs in lockstep:

- assignments to names and to elements of buffers (pointers, arrays in shared memory);
- `if` without `else` around them, `for x in range(...)`; choices `a if c else b`;
- the functions of `library.py`, CUDA's own of `libdevice`, and those that `emulator.py` and `intrinsics.py` both have;
- `cuda.threadIdx.x`, `cuda.blockIdx.x`, `cuda.shared.array`, `cuda.syncthreads()`, `cuda.shfl_xor_sync`.

Ints narrower than 64 bits widen where they meet: an index is a uint32 that was cast back, or an int64 in kernels on buffers
that need one.
"""
from __future__ import annotations

import math
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from flambeau.codegen.artifact import TaskDim
from flambeau.ir.kernel import Extent
from flambeau.ir.records import dataclass

__all__ = ["Assembled", "KernelText", "PhasedText", "Writer"]


@dataclass(frozen=True)
class KernelText:
    """A kernel as numba.cuda compiles it. source: a function called `name`. types: those of its parameters: a status
    pointer, buffers, runtime sizes. elements: of each buffer. extents: of the points that blocks share out, `points` to
    each; a str is a runtime size, the one of that number in `sizes`. threads: of one block. resident: blocks that a
    multiprocessor is to have registers for at once."""

    name: str
    source: str
    types: tuple[str, ...]
    elements: tuple[Extent, ...]
    extents: tuple[Extent, ...]
    points: int
    threads: int
    sizes: tuple[str, ...] = ()
    resident: int = 1

    @property
    def task_dims(self) -> tuple[TaskDim, ...]:
        """Whose product is how many blocks to launch. Of runtime sizes one alone is cut into the points of a block: as many
        parts of each would leave points out. Some blocks may then find nothing to do."""
        known = math.prod([extent for extent in self.extents if isinstance(extent, int)])
        named = [extent for extent in self.extents if isinstance(extent, str)]
        if not named:
            return (TaskDim(known, self.points),)
        blocks = [*[1] * (len(named) - 1), self.points]
        return (TaskDim(known), *[TaskDim(size, block, self.sizes.index(size))
                                  for size, block in zip(named, blocks, strict=True)])

    def blocks(self, sizes: Sequence[int] = ()) -> int:
        """How many blocks to launch for these runtime sizes."""
        return math.prod([dim.count(sizes) for dim in self.task_dims])

    @property
    def reports(self) -> bool:
        """Whether it may end with a status."""
        return "report(" in self.source


@dataclass(frozen=True)
class PhasedText:
    """Texts that are launched one after another for one call of a kernel. scratch_bytes: buffers that are passed after the
    kernel's own params."""

    phases: tuple[KernelText, ...]
    scratch_bytes: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Assembled:
    """A kernel as the driver loads it. entry: the name of its function. Numbers are those of one thread, of one block.
    packed: its PTX, compressed."""

    cubin: bytes
    entry: str
    registers: int
    spilled_bytes: int
    stack_bytes: int
    shared_bytes: int
    packed: bytes = b""

    @property
    def ptx(self) -> str:
        """What the assembler was given."""
        return zlib.decompress(self.packed).decode()


class Writer:
    """Lines, indented."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.depth = 0

    def line(self, text: str) -> None:
        self.lines.append("    " * self.depth + text)

    @contextmanager
    def block(self, head: str) -> Iterator[None]:
        """Lines under `head`, which ends in a colon. One that stays empty goes."""
        self.line(head)
        before = len(self.lines)
        self.depth += 1
        yield
        self.depth -= 1
        if len(self.lines) == before:
            self.lines.pop()

    def text(self) -> str:
        return "\n".join(self.lines) + "\n"


