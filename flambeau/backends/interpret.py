"""The CPU's kernels without machine code: hundreds of times slower, and the oracle of the others."""
from __future__ import annotations

from collections.abc import Sequence

from flambeau.backends.base import BuiltKernel, Runnable, whole_kernel
from flambeau.backends.cpu import CpuBackend
from flambeau.codegen.artifact import Artifact
from flambeau.ir.kernel import Kernel
from flambeau.ir.target import Target
from flambeau.runtime.interpreted import InterpretedExecutable
from flambeau.runtime.program import Program

__all__ = ["InterpretBackend"]


class InterpretBackend(CpuBackend):
    """Decides as the CPU does and interprets the kernels in NumPy, so that it tells whether machine code is to blame."""

    levels = ()
    keeping_passes = ()

    def build(self, kernels: Sequence[Kernel], target: Target) -> list[Artifact]:
        return [whole_kernel(kernel) for kernel in kernels]

    def executable(self, program: Program, built: Sequence[BuiltKernel]) -> Runnable:
        return InterpretedExecutable(program, [b.kernel for b in built])
