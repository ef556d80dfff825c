"""Kernels -> artifacts: emit each distinct kernel once, compile the modules in parallel, say how to launch them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence

import llvmlite.ir as ll

from flambeau.codegen.artifact import Artifact, Phase
from flambeau.codegen.cpu import toolchain
from flambeau.codegen.cpu.llvm.emitter import new_module
from flambeau.ir.kernel import Kernel
from flambeau.ir.kernel.hash import kernel_key
from flambeau.ir.kinds import kind_of
from flambeau.ir.records import dataclass
from flambeau.ir.target import Target


@dataclass(frozen=True)
class Emission:
    """One kernel's module before it is compiled."""

    module: ll.Module
    phases: tuple[Phase, ...]
    scratch_bytes: tuple[int, ...]


def compile_kernels(kernels: Sequence[Kernel], target: Target) -> list[Artifact]:
    """The artifact of each kernel, in order; kernels that compute the same share one."""
    keys = [kernel_key(kernel) for kernel in kernels]
    distinct = dict(zip(keys, kernels, strict=True))
    # What takes longest comes first: no thread is left with it at the end.
    order = sorted(distinct, key=lambda key: -kind_of(distinct[key]).implementation("cpu").weight)
    artifacts: dict[str, Artifact] = {}
    for steps_itself in (True, False):
        if not (its := [key for key in order if _steps_itself(distinct[key]) is steps_itself]):
            continue
        parts: list[tuple[tuple[Phase, ...], tuple[int, ...]]] = []
        texts = _emitted({key: distinct[key] for key in its}, target, parts)
        objects = toolchain.compile_modules(texts, target, min(target.cores, len(its)), steps_itself)
        artifacts |= {key: Artifact(*part, code) for key, part, code in zip(its, parts, objects, strict=True)}
    return [artifacts[key] for key in keys]


def _emitted(
    kernels: dict[str, Kernel], target: Target, parts: list[tuple[tuple[Phase, ...], tuple[int, ...]]]
) -> Iterator[str]:
    """The text of each kernel's module, when it is asked for; what else an artifact is made of goes to `parts`."""
    for key, kernel in kernels.items():
        emission = emit_kernel(kernel, symbol_of(key, target), target)
        parts.append((emission.phases, emission.scratch_bytes))
        yield str(emission.module)


def _steps_itself(kernel: Kernel) -> bool:
    asked = kind_of(kernel).implementation("cpu").steps_itself
    return asked is not None and asked(kernel)


def emit_kernel(kernel: Kernel, symbol: str, target: Target) -> Emission:
    """The kernel's own module; the names of its functions begin with `symbol`. Raises UnsupportedError for a kind of
    kernel that has no code for CPUs."""
    module = new_module(symbol, target)
    phases, scratch_bytes = kind_of(kernel).implementation("cpu").emit(kernel, module, symbol, target)
    return Emission(module, tuple(phases), tuple(scratch_bytes))


def symbol_of(key: str, target: Target) -> str:
    """A name that differs between kernels and between targets, so that objects of both can live in one process."""
    digest = hashlib.sha256(f"{key} {target.cache_key}".encode()).hexdigest()
    return f"flambeau_{digest[:24]}"


def llvm_ir(kernel: Kernel, target: Target) -> str:
    """The LLVM IR that `compile_kernels` gives the compiler for this kernel, emitted again."""
    return str(emit_kernel(kernel, symbol_of(kernel_key(kernel), target), target).module)


def assembly(kernel: Kernel, target: Target) -> str:
    """The machine code of the kernel as text, emitted and compiled again."""
    return toolchain.emit_assembly(llvm_ir(kernel, target), target, _steps_itself(kernel))
