"""The CPU: machine code for the processor we run on, by LLVM."""
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from flambeau.backends.base import Backend, BuiltKernel, Runnable
from flambeau.codegen.artifact import Artifact
from flambeau.codegen.cpu.backend import assembly, compile_kernels, llvm_ir
from flambeau.codegen.cpu.host import host_target
from flambeau.errors import UnsupportedError
from flambeau.ir.kernel import Kernel
from flambeau.ir.kernel.hash import kernel_key
from flambeau.ir.target import Target
from flambeau.kinds import contraction, loop  # noqa: F401  nearly every program has them: loaded with the backend
from flambeau.passes.cpu.pipeline import CPU_PASSES
from flambeau.passes.cpu.prepare import prepare
from flambeau.passes.cpu.schedule import schedule
from flambeau.passes.lowering.lower import Call
from flambeau.runtime.cache import Cache
from flambeau.runtime.executable import Executable
from flambeau.runtime.loader import Library, binding, load
from flambeau.runtime.program import Program

__all__ = ["CpuBackend"]


class CpuBackend(Backend):
    """Channels-last graphs, kernels cut up and scheduled for the cores and caches of the target, native code."""

    passes = CPU_PASSES
    levels: tuple[str, ...] = ("llvm", "asm")

    def __init__(self) -> None:
        self._schedules: Cache[Kernel] = Cache()        # by kernel and by all that is known of the target
        self._libraries: Cache[Library] = Cache()       # by symbol

    def host(self) -> Target:
        """This processor, or the one that FLAMBEAU_TARGET names."""
        return host_target()

    def prepare(self, calls: Sequence[Call], target: Target) -> list[Call]:
        return prepare(calls, target, self._schedule)

    def _schedule(self, kernel: Kernel, target: Target) -> Kernel:
        """Kernels that compute the same get one schedule, worked out once."""
        return self._schedules.get_or_make(f"{kernel_key(kernel)} {target.schedule_key}", lambda: schedule(kernel, target))

    def build(self, kernels: Sequence[Kernel], target: Target) -> list[Artifact]:
        """Raises UnsupportedError for a target that is another kind of processor than this one."""
        here = replace(target, triple=binding().get_default_triple())
        if (here.is_x86, here.is_aarch64) != (target.is_x86, target.is_aarch64):
            raise UnsupportedError(f"code for {target.triple} can't run here, on {here.triple}",
                                   hint="leave FLAMBEAU_TARGET unset")
        return compile_kernels(kernels, target)

    def text(self, kernel: Kernel, target: Target, level: str) -> str:
        match level:
            case "llvm":
                return llvm_ir(kernel, target)
            case "asm":
                return assembly(kernel, target)
            case _:
                return super().text(kernel, target, level)

    def executable(self, program: Program, built: Sequence[BuiltKernel]) -> Runnable:
        libraries = [self._library(b.artifact) for b in built if not all(phase.host for phase in b.artifact.phases)]
        addresses = {symbol: address for library in libraries for symbol, address in library.addresses.items()}
        return Executable(program, addresses, keep=libraries)

    def _library(self, artifact: Artifact) -> Library:
        """The artifact's code, loaded once: symbols tell kernels and targets apart."""
        symbols = [phase.symbol for phase in artifact.phases if not phase.host]
        return self._libraries.get_or_make(symbols[0], lambda: load([artifact.object], symbols))
