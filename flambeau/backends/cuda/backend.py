"""NVIDIA GPUs: kernels as Python text for numba.cuda, and cubins of it. Loaded when it is asked for.

    fb.compile(f, backend="cuda-emulator")      runs that text in lockstep on NumPy arrays: what the tests stand on, and a
                                                way to read a program's kernels without a GPU: `f.ir("cuda")`
"""
from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from flambeau.backends.base import Backend, BuiltKernel, Runnable, whole_kernel
from flambeau.codegen.artifact import Artifact
from flambeau.codegen.cuda.emulator import emulate
from flambeau.codegen.cuda.text import KernelText
from flambeau.ir.gpu import SM90, GpuTarget
from flambeau.ir.kernel import Kernel
from flambeau.ir.kernel.hash import kernel_key
from flambeau.ir.kernel.interpreter import Watched
from flambeau.ir.kinds import kind_of
from flambeau.kinds import on_cuda  # noqa: F401  how kinds run there
from flambeau.passes.lowering.lower import Call, finish
from flambeau.runtime.interpreted import InterpretedExecutable
from flambeau.runtime.program import Program

__all__ = ["EmulatedCudaBackend", "kernel_text"]


def kernel_text(kernel: Kernel) -> KernelText:
    """A scheduled kernel as Python text. Raises UnsupportedError for a kind that has no code for GPUs."""
    text: KernelText = kind_of(kernel).implementation("cuda").emit(kernel, f"kernel_{kernel_key(kernel)[:16]}")
    return text


class EmulatedCudaBackend(Backend):
    """Decides as for a GPU, and runs the text of its kernels in the emulator; kinds that have no text yet run by their
    meaning. Thousands of times slower than a GPU."""

    levels = ("cuda",)

    def host(self) -> GpuTarget:
        """The GPU that programs are written for: an H100."""
        return SM90

    def prepare(self, calls: Sequence[Call], target: GpuTarget) -> list[Call]:
        return [_scheduled(finish(call), target) for call in calls]

    def build(self, kernels: Sequence[Kernel], target: GpuTarget) -> list[Artifact]:
        return [whole_kernel(kernel) for kernel in kernels]

    def text(self, kernel: Kernel, target: GpuTarget, level: str) -> str:
        return kernel_text(kernel).source if _has_text(kernel) else f"# {kernel.keyword} @{kernel.name}: no text yet\n"

    def executable(self, program: Program, built: Sequence[BuiltKernel]) -> Runnable:
        return _Emulated(program, [b.kernel for b in built])


def _has_text(kernel: Kernel) -> bool:
    return kind_of(kernel).has_implementation("cuda")


def _scheduled(call: Call, target: GpuTarget) -> Call:
    if call.kernel.schedule is not None or not _has_text(call.kernel):
        return call
    schedule = kind_of(call.kernel).implementation("cuda").schedule
    return call if schedule is None else replace(call, kernel=schedule(call.kernel, target))


class _Emulated(InterpretedExecutable):
    """Launches as text."""

    def run_kernel(self, kernel: Kernel, arrays: Sequence[np.ndarray], sizes: Mapping[str, int]) -> None:
        if _has_text(kernel):
            emulate(kernel_text(kernel), arrays, list(sizes.values()))
            for param, array in zip(kernel.params, arrays, strict=True):
                if param.role != "in" and isinstance(array, Watched) and array.defined is not None:
                    array.defined[...] = True
        else:
            super().run_kernel(kernel, arrays, sizes)
