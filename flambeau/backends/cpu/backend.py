"""The CPU: machine code for the processor we run on, by LLVM."""
from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from flambeau.backends.base import Backend, BuiltKernel, Runnable
from flambeau.codegen.artifact import Artifact
from flambeau.codegen.cpu.backend import assembly, compile_kernels, llvm_ir, symbol_of
from flambeau.errors import ParseError, UnsupportedError
from flambeau.ir import outside
from flambeau.ir.kernel import Kernel
from flambeau.ir.kernel.hash import kernel_key
from flambeau.ir.kinds import kind_of
from flambeau.ir.target import Target
from flambeau.kept import executable_of
from flambeau.kinds import loop  # noqa: F401  nearly every program has such: loaded with the backend
from flambeau.passes.cpu.pipeline import CPU_PASSES, KEEPING_PASSES
from flambeau.passes.cpu.prepare import prepare
from flambeau.passes.cpu.schedule import schedule
from flambeau.passes.lowering.lower import Call
from flambeau.passes.pipeline import Pass
from flambeau.runtime.cache import Cache
from flambeau.runtime.disk_cache import disk_cache
from flambeau.runtime.host import host_target, host_triple
from flambeau.runtime.program import Program
from flambeau.runtime.sources import compiler_digest

__all__ = ["CpuBackend"]


class CpuBackend(Backend):
    """Channels-last graphs, kernels cut up and scheduled for the cores and caches of the target, native code."""

    passes = CPU_PASSES
    keeping_passes: tuple[Pass, ...] = KEEPING_PASSES
    levels: tuple[str, ...] = ("llvm", "asm")

    def __init__(self) -> None:
        self._schedules: Cache[Kernel] = Cache()        # by kernel and by all that is known of the target
        self._code: dict[str, Artifact] = {}            # of general kernels, by their symbol

    def host(self) -> Target:
        """This processor, or the one that FLAMBEAU_TARGET names."""
        return host_target()

    def checkable(self, target: Target) -> Target:
        return replace(target, winograd=False)

    def prepare(self, calls: Sequence[Call], target: Target) -> list[Call]:
        return prepare(calls, target, self._schedule)

    def _schedule(self, kernel: Kernel, target: Target) -> Kernel:
        """Kernels that compute the same get one schedule, worked out once."""
        return self._schedules.get_or_make(f"{kernel_key(kernel)} {target.schedule_key}", lambda: schedule(kernel, target))

    def build(self, kernels: Sequence[Kernel], target: Target) -> list[Artifact]:
        """Kernels that differ by runtime numbers share code (passes.cpu.generalize). Raises UnsupportedError for a target
        that is another kind of processor than this one."""
        here = replace(target, triple=host_triple())
        if (here.is_x86, here.is_aarch64) != (target.is_x86, target.is_aarch64):
            raise UnsupportedError(f"code for {target.triple} can't run here, on {here.triple}",
                                   hint="leave FLAMBEAU_TARGET unset")
        general = [self.general(kernel, target) for kernel in kernels]
        symbols = [symbol_of(kernel_key(kernel), target) for kernel, _ in general]
        missing = {symbol: kernel for symbol, (kernel, _) in zip(symbols, general, strict=True) if symbol not in self._code}
        self._code |= self._made(missing, target)
        return [_launched(self._code[symbol], kernel, its, symbol, target)
                for symbol, kernel, its in zip(symbols, kernels, general, strict=True)]

    def general(self, kernel: Kernel, target: Target) -> tuple[Kernel, tuple[int, ...]]:
        """The kernel that code is made of, and its runtime numbers."""
        general = kind_of(kernel).implementation("cpu").general
        return (kernel, ()) if general is None else general(kernel, target)

    def _made(self, kernels: Mapping[str, Kernel], target: Target) -> dict[str, Artifact]:
        """The artifacts of general kernels, by symbol: what another process kept, or else compiled now."""
        keys = {symbol: self._key(kernel, symbol) for symbol, kernel in kernels.items()}
        found = {symbol: artifact for symbol, key in keys.items()
                 if key is not None and (artifact := _kept(key)) is not None}
        missing = [symbol for symbol in kernels if symbol not in found]
        made = compile_kernels([kernels[symbol] for symbol in missing], target)
        for symbol, artifact in zip(missing, made, strict=True):
            found[symbol] = artifact
            if (key := keys[symbol]) is not None:
                disk_cache().put(key, artifact.to_bytes(), f"{kernels[symbol].keyword} kernel {kernels[symbol].name}")
        return found

    def _key(self, kernel: Kernel, symbol: str) -> str | None:
        """What the kernel's code is kept under on disk; None where it is not. One that is derived from this class may
        make other code."""
        if type(self) is not CpuBackend or not disk_cache().is_there or f"kind {kernel.keyword}" in outside.declared:
            return None
        compiler = compiler_digest()
        return None if compiler is None else f"kernel {compiler} {symbol}"

    def text(self, kernel: Kernel, target: Target, level: str) -> str:
        match level:
            case "llvm":
                return llvm_ir(self.general(kernel, target)[0], target)
            case "asm":
                return assembly(self.general(kernel, target)[0], target)
            case _:
                return super().text(kernel, target, level)

    def executable(self, program: Program, built: Sequence[BuiltKernel]) -> Runnable:
        return executable_of(program, [b.artifact for b in built])


def _launched(code: Artifact, kernel: Kernel, general: tuple[Kernel, tuple[int, ...]], symbol: str,
              target: Target) -> Artifact:
    """The artifact of `kernel`: the code of the general kernel, with these runtime numbers."""
    its, numbers = general
    if its is kernel:
        return code
    phases, scratch_bytes = code.phases, code.scratch_bytes
    if (made := kind_of(kernel).implementation("cpu").phases) is not None:
        phases, scratch_bytes = made(kernel, its, symbol, target)
    return replace(code, phases=tuple([replace(phase, sizes=numbers) for phase in phases]), scratch_bytes=scratch_bytes)


def _kept(key: str) -> Artifact | None:
    """What another process made."""
    data = disk_cache().get(key)
    try:
        return None if data is None else Artifact.from_bytes(data)
    except ParseError:
        return None
