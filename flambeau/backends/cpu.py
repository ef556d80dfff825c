"""The CPU: machine code for the processor we run on, by LLVM."""
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from flambeau.backends.base import Backend, BuiltKernel, Runnable
from flambeau.codegen.artifact import Artifact
from flambeau.codegen.cpu.backend import assembly, compile_kernels, llvm_ir, symbol_of
from flambeau.errors import ParseError, UnsupportedError
from flambeau.ir import outside
from flambeau.ir.kernel import Kernel
from flambeau.ir.kernel.hash import kernel_key
from flambeau.ir.target import Target
from flambeau.kept import executable_of
from flambeau.kinds import contraction, loop  # noqa: F401  nearly every program has them: loaded with the backend
from flambeau.passes.cpu.pipeline import CPU_PASSES
from flambeau.passes.cpu.prepare import prepare
from flambeau.passes.cpu.schedule import schedule
from flambeau.passes.lowering.lower import Call
from flambeau.runtime.cache import Cache
from flambeau.runtime.disk_cache import disk_cache
from flambeau.runtime.host import host_target
from flambeau.runtime.loader import binding
from flambeau.runtime.program import Program
from flambeau.runtime.sources import compiler_digest

__all__ = ["CpuBackend"]


class CpuBackend(Backend):
    """Channels-last graphs, kernels cut up and scheduled for the cores and caches of the target, native code."""

    passes = CPU_PASSES
    levels: tuple[str, ...] = ("llvm", "asm")

    def __init__(self) -> None:
        self._schedules: Cache[Kernel] = Cache()        # by kernel and by all that is known of the target

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
        keys = [self._key(kernel, target) for kernel in kernels]
        found = [None if key is None else _kept(key) for key in keys]
        missing = [number for number, artifact in enumerate(found) if artifact is None]
        made = dict(zip(missing, compile_kernels([kernels[n] for n in missing], target), strict=True))
        for number, artifact in made.items():
            if (key := keys[number]) is not None:
                disk_cache().put(key, artifact.to_bytes(), f"{kernels[number].keyword} kernel {kernels[number].name}")
        return [made[number] if artifact is None else artifact for number, artifact in enumerate(found)]

    def _key(self, kernel: Kernel, target: Target) -> str | None:
        """What the kernel's code is kept under on disk; None where it is not. One that is derived from this class may
        make other code."""
        if type(self) is not CpuBackend or not disk_cache().is_there or f"kind {kernel.keyword}" in outside.declared:
            return None
        compiler = compiler_digest()
        return None if compiler is None else f"kernel {compiler} {symbol_of(kernel_key(kernel), target)}"

    def text(self, kernel: Kernel, target: Target, level: str) -> str:
        match level:
            case "llvm":
                return llvm_ir(kernel, target)
            case "asm":
                return assembly(kernel, target)
            case _:
                return super().text(kernel, target, level)

    def executable(self, program: Program, built: Sequence[BuiltKernel]) -> Runnable:
        return executable_of(program, [b.artifact for b in built])


def _kept(key: str) -> Artifact | None:
    """What another process made."""
    data = disk_cache().get(key)
    try:
        return None if data is None else Artifact.from_bytes(data)
    except ParseError:
        return None
