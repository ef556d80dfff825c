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

from collections.abc import Iterator
from contextlib import contextmanager

from flambeau.ir.records import dataclass

__all__ = ["KernelText", "Writer"]


@dataclass(frozen=True)
class KernelText:
    """A kernel as numba.cuda compiles it. types: those of its parameters: a status pointer, buffers, runtime sizes.
    blocks: how many are launched, an expression over the runtime sizes. threads: of one block. source: a function
    called `name`."""

    name: str
    source: str
    types: tuple[str, ...]
    blocks: str
    threads: int
    sizes: tuple[str, ...] = ()


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


