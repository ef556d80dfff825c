"""NVIDIA GPUs: kernels as Python text for numba.cuda, cubins of it, programs on the device. Loaded when it is asked for.

    fb.compile(f, backend="cuda")               runs on the GPU, on copies of what lies in the host's memory
    fb.compile(f, backend="cuda-emulator")      the same, but for the device: its threads run in lockstep on NumPy arrays.
                                                What the tests stand on, and a way to read a program's kernels without a
                                                GPU: `f.ir("cuda")`
"""
from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any

import numpy as np

from flambeau import config
from flambeau.backends.base import Backend, BuiltKernel, Runnable, whole_kernel
from flambeau.codegen.artifact import STATUS_MESSAGES, Artifact, Phase
from flambeau.codegen.cuda.compile import code_key, compile_texts, known_code, require_packages
from flambeau.codegen.cuda.disassemble import disassembled
from flambeau.codegen.cuda.emulator import emulate
from flambeau.codegen.cuda.occupancy import occupancy
from flambeau.codegen.cuda.text import Assembled, KernelText, PhasedText
from flambeau.ir.gpu import SM90, GpuTarget
from flambeau.ir.kernel import Kernel
from flambeau.ir.kernel.hash import kernel_key
from flambeau.ir.kinds import kind_of
from flambeau.ir.sealed import seal, unseal
from flambeau.kinds import on_cuda  # noqa: F401  how kinds run there
from flambeau.passes.cuda.pipeline import CUDA_PASSES
from flambeau.passes.lowering.lower import Call, finish
from flambeau.runtime.cuda.api import emulated_api
from flambeau.runtime.cuda.copying import CopyingExecutable
from flambeau.runtime.cuda.device import Device, emulated_device, nvidia_device
from flambeau.runtime.cuda.executable import CudaExecutable, Loaded
from flambeau.runtime.disk_cache import disk_cache
from flambeau.runtime.program import Program
from flambeau.runtime.threads import default_num_threads

__all__ = ["CudaBackend", "EmulatedCudaBackend", "EmulatedKernel", "NvidiaBackend", "backend_of_device", "kernel_text",
           "kernel_texts"]


_CODE = "code of several launches"


def kernel_texts(kernel: Kernel) -> PhasedText:
    """A scheduled kernel as Python text, one for each of its launches. Raises UnsupportedError for a kind that has no code
    for GPUs."""
    made = kind_of(kernel).implementation("cuda").emit(kernel, f"kernel_{kernel_key(kernel)[:16]}")
    return made if isinstance(made, PhasedText) else PhasedText((made,))


def kernel_text(kernel: Kernel) -> KernelText:
    """The text of a kernel of one launch."""
    (text,) = kernel_texts(kernel).phases
    return text


class CudaBackend(Backend):
    """Writes kernels for blocks of threads; kinds that have no text run on the host, by their meaning. A subclass says
    which device and what makes code for it."""

    levels: tuple[str, ...] = ("cuda", "ptx", "sass")
    passes = CUDA_PASSES
    memory: str = "cuda"

    def __init__(self, number: int = 0) -> None:
        self.number, self.place = number, f"cuda:{number}"

    @cached_property
    @abstractmethod
    def device(self) -> Device:
        """Opened when a program is first made ready for it."""

    @abstractmethod
    def assemble(self, texts: Sequence[KernelText], target: GpuTarget) -> list[bytes]:
        """Code of kernels, as `Device.load` takes it."""

    def host(self) -> GpuTarget:
        return replace(SM90, tf32=config.tf32, deterministic=config.deterministic)

    def prepare(self, calls: Sequence[Call], target: GpuTarget) -> list[Call]:
        return [_scheduled(finish(part), target) for call in calls for part in _in_parts(call, target)]

    def build(self, kernels: Sequence[Kernel], target: GpuTarget) -> list[Artifact]:
        texts = [kernel_texts(kernel) if _has_text(kernel) else None for kernel in kernels]
        code = iter(self.assemble([phase for text in texts if text for phase in text.phases], target))
        return [whole_kernel(kernel) if text is None else _artifact(kernel, text, [next(code) for _ in text.phases])
                for kernel, text in zip(kernels, texts, strict=True)]

    def text(self, kernel: Kernel, target: GpuTarget, level: str) -> str:
        """level: "cuda", or "ptx" and "sass", for which the kernel is compiled where it was not: UnsupportedError says what
        to install."""
        if not _has_text(kernel):
            return f"{'#' if level == 'cuda' else '//'} {kernel.keyword} @{kernel.name}: on the host\n"
        texts = kernel_texts(kernel).phases
        if level == "cuda":
            return "\n".join(text.source for text in texts)
        cache = disk_cache()
        made = compile_texts(texts, target, default_num_threads(), cache.get, cache.put)
        return "\n".join(code.ptx if level == "ptx" else disassembled(code.cubin) for code in made)

    def note(self, kernel: Kernel, target: GpuTarget) -> str:
        if not _has_text(kernel):
            return "on the host, on copies"
        told = []
        for text in kernel_texts(kernel).phases:
            code = known_code(code_key(text, target), disk_cache().get)
            told.append(f"{text.threads} threads a block" + (f", {_takes(code, text, target)}" if code else ""))
        return "; then ".join(told)

    def executable(self, program: Program, built: Sequence[BuiltKernel]) -> Runnable:
        """Over memory of the device where what the program is given lies there, else over the host's."""
        loaded = [self._loaded(b, launch.symbol) for b, launch in zip(built, program.launches, strict=True)]
        made = CudaExecutable(program, loaded, self.device)
        signature = program.signature           # a program of nothing but copies that are none has no slots
        places = {spec.type.device for spec in (*signature.args, *signature.states, *signature.outs)}
        is_there = any(place != "cpu" for place in (*places, *[slot.device for slot in program.slots]))
        return made if is_there else CopyingExecutable(made)

    def _loaded(self, built: BuiltKernel, symbol: str) -> Loaded:
        if not _has_text(built.kernel):
            return Loaded(built.kernel, None, 0, False)
        number = [phase.symbol for phase in built.phases].index(symbol)
        phase = built.phases[number]
        if phase.symbol not in self._functions:
            self._functions[phase.symbol] = self.device.load(_code_of(built.artifact, number), phase.symbol)
        return Loaded(built.kernel, self._functions[phase.symbol], phase.grain, bool(phase.errors))

    @cached_property
    def _functions(self) -> dict[str, Any]:
        """By symbol."""
        return {}


def _takes(code: Assembled, text: KernelText, target: GpuTarget) -> str:
    """What a kernel takes of a multiprocessor."""
    spilled = f", {code.spilled_bytes} bytes spilled" if code.spilled_bytes else ""
    return (f"{code.registers} registers{spilled}, {code.shared_bytes} bytes shared, "
            f"{occupancy(code, text.threads, target):.0%} of the threads that fit a multiprocessor")


def _artifact(kernel: Kernel, texts: PhasedText, code: Sequence[bytes]) -> Artifact:
    """A task is a block, and the grain its threads."""
    params = tuple(range(len(kernel.params) + len(texts.scratch_bytes)))
    phases = []
    for text in texts.phases:
        errors = (*STATUS_MESSAGES.items(), *kernel.messages.items()) if text.reports else ()
        phases.append(Phase(text.name, None if text.sizes else text.blocks(), params, text.threads, parallel=False,
                            task_dims=text.task_dims if text.sizes else (), errors=errors))
    return Artifact(tuple(phases), texts.scratch_bytes, code[0] if len(code) == 1 else seal(_CODE, 1, {}, code))


def _code_of(artifact: Artifact, phase: int) -> bytes:
    return artifact.object if len(artifact.phases) == 1 else unseal(artifact.object, _CODE, 1)[1][phase]


def _has_text(kernel: Kernel) -> bool:
    return kind_of(kernel).has_implementation("cuda")


def _in_parts(call: Call, target: GpuTarget) -> Sequence[Call]:
    """The call, or several that do the same where that suits the target better."""
    divide = kind_of(call.kernel).implementation("cuda").divide if _has_text(call.kernel) else None
    return [call] if divide is None or call.kernel.schedule is not None else divide(call, target)


def _scheduled(call: Call, target: GpuTarget) -> Call:
    if call.kernel.schedule is not None or not _has_text(call.kernel):
        return call
    schedule = kind_of(call.kernel).implementation("cuda").schedule
    return call if schedule is None else replace(call, kernel=schedule(call.kernel, target))


# -- the devices ------------------------------------------------------------------------------------------------------


class NvidiaBackend(CudaBackend):
    """A GPU of this machine. Kernels are compiled by worker processes and kept on disk."""

    @cached_property
    def device(self) -> Device:
        """Raises UnsupportedError with the command to run where packages are missing, AcceleratorError in the driver's
        words where it has no device."""
        require_packages()
        return nvidia_device(self.number)

    def host(self) -> GpuTarget:
        return replace(super().host(), capability=self.device.capability, multiprocessors=self.device.multiprocessors)

    def assemble(self, texts: Sequence[KernelText], target: GpuTarget) -> list[bytes]:
        cache = disk_cache()
        made = compile_texts(texts, target, default_num_threads(), cache.get, cache.put)
        return [code.cubin for code in made]


class EmulatedCudaBackend(CudaBackend):
    """Writes for an H100, and runs the text of kernels in the emulator: thousands of times slower."""

    @cached_property
    def device(self) -> Device:
        return emulated_device(self.number)

    def assemble(self, texts: Sequence[KernelText], target: GpuTarget) -> list[bytes]:
        emulated_api().kernels |= {text.name: EmulatedKernel(text) for text in texts}
        return [text.source.encode() for text in texts]


class EmulatedKernel:
    """A kernel as the simulated driver runs it."""

    def __init__(self, text: KernelText) -> None:
        self.text = text
        self.dtypes = [np.dtype(kind[:-1]) for kind in text.types if kind.endswith("*")]
        self.n_params = len(self.dtypes) + len(text.sizes)

    def __call__(self, at: Callable[[int, int], np.ndarray], blocks: int, threads: int, values: Sequence[int]) -> None:
        text, pointers, sizes = self.text, values[:len(self.dtypes)], values[len(self.dtypes):]
        assert (blocks, threads) == (text.blocks(sizes), text.threads), f"{text.name} is launched otherwise"
        elements = [n if isinstance(n, int) else sizes[text.sizes.index(n)] for n in text.elements]
        unused = np.zeros(2, np.int64)          # a kernel that reports nothing is given no place to
        buffers = [at(pointer, count * dtype.itemsize).view(dtype)
                   for pointer, dtype, count in zip(pointers[1:], self.dtypes[1:], elements, strict=True)]
        emulate(text, buffers, sizes, at(pointers[0], 16).view(np.int64) if text.reports else unused)


def backend_of_device(number: int) -> CudaBackend:
    """What compiles for "cuda:`number`": NVIDIA's device, or where `config.cuda` says so the emulator's."""
    kind = EmulatedCudaBackend if config.cuda == "emulator" else NvidiaBackend
    return _of_devices.setdefault((kind, number), kind(number))


_of_devices: dict[tuple[type, int], Any] = {}
