"""Backends: what makes lowered kernels run. A backend builds kernels, says how each is launched, and turns the whole
program (launches over planned memory, as data) into something to call.

    kernels --build--> BuiltKernel (phases, scratch)        the compiler plans memory and writes the Program
    Program + built kernels --executable--> Runnable        what a compiled function calls at every step

"cpu" emits machine code through LLVM; "interpret" runs every kernel's NumPy meaning on the same memory. Others are
added with `register_backend`, or given to `fb.compile(f, backend=...)` as objects.
"""
from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final, Protocol

from flambeau.codegen.artifact import STATUS_MESSAGES, Phase
from flambeau.codegen.cpu.backend import compile_kernels
from flambeau.errors import UnsupportedError
from flambeau.ir.kernel import Kernel
from flambeau.ir.kernel.hash import kernel_key
from flambeau.ir.target import Target
from flambeau.runtime.executable import Executable
from flambeau.runtime.interpreted import InterpretedExecutable
from flambeau.runtime.loader import binding, load
from flambeau.runtime.program import Program

__all__ = ["Backend", "BuiltKernel", "CpuBackend", "InterpretBackend", "Phase", "Runnable", "backend_of",
           "register_backend", "whole_kernel"]


@dataclass(frozen=True)
class BuiltKernel:
    """One kernel as a backend made it.

    kernel: with the user lines of the call it is used for. phases: the launches of one call, in order; their symbols
    name code to the backend's `executable`, and equal symbols must be equal code. scratch_bytes: buffers it needs
    besides the kernel's params, which they follow. code: whatever `executable` wants to find again. inspect: texts
    that `ir(level)` may be asked for, such as "llvm"."""

    kernel: Kernel
    phases: tuple[Phase, ...]
    scratch_bytes: tuple[int, ...] = ()
    code: Any = field(default=None, compare=False, repr=False)
    inspect: Mapping[str, Callable[[], str]] = field(default_factory=dict, compare=False, repr=False)


class Runnable(Protocol):
    """A program ready to run. `fast_call(*arg_pointers, *scalars, *out_pointers)` takes addresses as ints and numbers
    as floats, gives None, and raises KernelError where a kernel finds bad data."""

    @property
    def fast_call(self) -> Callable[..., None]: ...

    def bind_states(self, pointers: Sequence[int]) -> Runnable:
        """The same program with captured state at these addresses."""


class Backend(Protocol):
    """Two functions. The compiler keeps what `build` gave for a kernel and never asks twice."""

    def build(self, kernels: Sequence[Kernel], target: Target) -> Sequence[BuiltKernel]:
        """One BuiltKernel for each of these kernels, which all differ."""

    def executable(self, program: Program, built: Sequence[BuiltKernel]) -> Runnable:
        """Something that runs `program`. built: the kernel behind each of its launches."""


def whole_kernel(kernel: Kernel, **parts: Any) -> BuiltKernel:
    """A kernel that runs in one launch of one task: the usual case for a backend without threads. `parts` are further
    fields of BuiltKernel."""
    errors = tuple(STATUS_MESSAGES.items())
    phase = Phase(kernel_key(kernel), 1, tuple(range(len(kernel.params))), parallel=False, errors=errors)
    return BuiltKernel(kernel, (phase,), **parts)


class CpuBackend:
    """Machine code for the processor we run on, by LLVM."""

    def build(self, kernels: Sequence[Kernel], target: Target) -> list[BuiltKernel]:
        """Raises UnsupportedError for a target that is another kind of processor than this one."""
        here = replace(target, triple=binding().get_default_triple())
        if (here.is_x86, here.is_aarch64) != (target.is_x86, target.is_aarch64):
            raise UnsupportedError(f"code for {target.triple} can't run here, on {here.triple}",
                                   hint="leave FLAMBEAU_TARGET unset")
        built = []
        for kernel, artifact in zip(kernels, compile_kernels(kernels, target), strict=True):
            library = load([artifact.object], [phase.symbol for phase in artifact.phases])
            texts = {"llvm": artifact.llvm_ir, "asm": artifact.assembly}
            built.append(BuiltKernel(kernel, artifact.phases, artifact.scratch_bytes, library, texts))
        return built

    def executable(self, program: Program, built: Sequence[BuiltKernel]) -> Executable:
        addresses = {phase.symbol: b.code[phase.symbol] for b in built for phase in b.phases}
        return Executable(program, addresses, keep=[b.code for b in built])


class InterpretBackend:
    """No machine code: kernels are interpreted in NumPy. Hundreds of times slower, and the oracle of the others."""

    def build(self, kernels: Sequence[Kernel], target: Target) -> list[BuiltKernel]:
        return [whole_kernel(kernel) for kernel in kernels]

    def executable(self, program: Program, built: Sequence[BuiltKernel]) -> InterpretedExecutable:
        return InterpretedExecutable(program, [b.kernel for b in built])


_BACKENDS: Final[dict[str, Backend]] = {"cpu": CpuBackend(), "interpret": InterpretBackend()}


def register_backend(name: str, backend: Backend) -> None:
    """Let `fb.compile(f, backend=name)` find `backend`. A name can be taken over, so that a notebook cell runs twice;
    functions compiled before keep theirs."""
    _BACKENDS[name] = backend


def backend_of(backend: str | Backend) -> Backend:
    """The backend of that name; an object is taken as it is. Raises ValueError naming those there are."""
    if not isinstance(backend, str):
        return backend
    if backend not in _BACKENDS:
        raise ValueError(f"there is no backend {backend!r}; choose from {', '.join(sorted(_BACKENDS))}, or add one "
                         "with register_backend(name, backend)")
    return _BACKENDS[backend]
