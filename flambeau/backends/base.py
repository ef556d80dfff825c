"""What a backend is. The parts in the order in which the compiler asks for them:

    traced graph --passes--> fused graph --lower--> calls --prepare--> scheduled calls    what suits the device
    kernels --build--> Artifacts (code, phases, scratch)    data; the compiler plans memory and links the Program
    Program + built kernels --executable--> Runnable        what a compiled function calls at every step
"""
from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from flambeau.codegen.artifact import STATUS_MESSAGES, Artifact, Phase
from flambeau.ir.kernel import Kernel
from flambeau.ir.kernel.hash import kernel_key
from flambeau.ir.records import dataclass
from flambeau.passes.lowering.lower import Call, finish
from flambeau.passes.pipeline import GRAPH_PASSES, Pass
from flambeau.runtime.program import Program

__all__ = ["Backend", "BuiltKernel", "Runnable", "whole_kernel"]


@dataclass(frozen=True)
class BuiltKernel:
    """A kernel, with the user lines of the call it is used for, and what the backend made of it."""

    kernel: Kernel
    artifact: Artifact

    @property
    def phases(self) -> tuple[Phase, ...]:
        return self.artifact.phases

    @property
    def scratch_bytes(self) -> tuple[int, ...]:
        return self.artifact.scratch_bytes


class Runnable(Protocol):
    """A program ready to run. `fast_call(*arg_pointers, *scalars, *out_pointers)` takes addresses as ints and numbers
    as floats, gives None, and raises KernelError where a kernel finds bad data."""

    @property
    def program(self) -> Program: ...

    @property
    def fast_call(self) -> Callable[..., None]: ...

    def bind_states(self, pointers: Sequence[int]) -> Runnable:
        """The same program with captured state at these addresses."""

    def profile(self, arg_ptrs: Sequence[int], scalars: Sequence[float] = (), out_ptrs: Sequence[int] = (),
                sizes: Sequence[int] = (), *, repeats: int = 10) -> tuple[float, ...]:
        """Run the program `repeats` times, writing states each time; the median seconds of each launch, of all turns of
        one in a loop."""


class Backend(ABC):
    """A device, as the compiler sees it. A subclass says `build` and `executable`; the rest is what suits any device.

    passes: from the traced graph to the fused one, `fuse` last; keeping_passes: in their place where what depends on
    states alone runs once, if the backend's executables run `Program.once`. target: what is compiled for, plain data of the
    backend's own kind that hashes, compares and prints all that decisions depend on. levels: of texts that `ir(level)`
    may be asked for, such as "llvm". memory: the kind of device whose memory programs take pointers into, where tensors lie
    there; all else they find in the host's. place: the device that computes."""

    passes: tuple[Pass, ...] = GRAPH_PASSES
    keeping_passes: tuple[Pass, ...] = ()
    levels: tuple[str, ...] = ()
    memory: str = "cpu"
    place: str = "cpu"

    def host(self) -> Any:
        """The target that is meant where none is named."""
        return None

    def checkable(self, target: Any) -> Any:
        """The target for programs whose results are held against plain sums, number by number."""
        return target

    def prepare(self, calls: Sequence[Call], target: Any) -> list[Call]:
        """Calls as `lower` leaves them (and copies and checks of the memory plan) -> those that will be built. Here a
        device cuts kernels up, and writes its schedules into them. Each call by itself: where two have the same kernel and
        differ by their values alone, it may be asked once."""
        return [finish(call) for call in calls]

    @abstractmethod
    def build(self, kernels: Sequence[Kernel], target: Any) -> Sequence[Artifact]:
        """One Artifact for each of these kernels, which all differ. The compiler keeps what it gets for a kernel and a
        target, and never asks twice."""

    def text(self, kernel: Kernel, target: Any, level: str) -> str:
        """The kernel at one of `levels`, made when it is asked for."""
        raise ValueError(f"{type(self).__name__} has no texts of level {level!r}")

    def note(self, kernel: Kernel, target: Any) -> str:
        """What `explain()` adds about a kernel that was built: what it takes of the device."""
        return ""

    @abstractmethod
    def executable(self, program: Program, built: Sequence[BuiltKernel]) -> Runnable:
        """Something that runs `program`. built: the kernel behind each of its launches."""


def whole_kernel(kernel: Kernel) -> Artifact:
    """A kernel that runs in one launch of one task: the usual case for a backend without threads."""
    errors = (*STATUS_MESSAGES.items(), *kernel.messages.items())
    return Artifact((Phase(kernel_key(kernel), 1, tuple(range(len(kernel.params))), parallel=False, errors=errors),))
