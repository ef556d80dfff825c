"""Every kernel that something emits for a GPU, without running it: of ops' samples, of the benchmarks' train steps and
forwards and of the model programs, in f32 and under autocast to bf16."""
from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

import flambeau as fb
import flambeau.nn.functional as F
from benchmarks.workloads import KERNELS, STEPS, Train, Workload
from flambeau import nn, optim
from flambeau.backends.cuda.backend import CudaBackend, kernel_texts
from flambeau.codegen.artifact import Artifact
from flambeau.codegen.cuda.compile import code_key
from flambeau.codegen.cuda.text import KernelText
from flambeau.compiler import compile_graph
from flambeau.errors import FlambeauError
from flambeau.ir.gpu import GpuTarget
from flambeau.ir.graph import Graph
from flambeau.ir.kernel import Kernel
from flambeau.ir.kinds import kind_of
from flambeau.ir.op import OPS
from flambeau.runtime.program import Program
from tests.programs.harness import FILES, load

NOT_SAMPLED = ("input", "fusion", "custom", "cond", "while_loop")


@dataclass(frozen=True)
class Emitted:
    """source: what it was emitted for. kind: its word, such as "contraction"."""

    text: KernelText
    kind: str
    source: str


class Collecting(CudaBackend):
    """Emits for a target; its programs do nothing."""

    driver: Any = None

    def __init__(self, target: GpuTarget):
        self.target, self.source = target, ""
        self.emitted: dict[str, Emitted] = {}           # by what its code depends on

    def host(self) -> GpuTarget:
        return self.target

    def build(self, kernels: Sequence[Kernel], target: GpuTarget) -> list[Artifact]:
        for kernel in kernels:
            if kind_of(kernel).has_implementation("cuda"):
                for text in kernel_texts(kernel).phases:
                    self.emitted.setdefault(content_key(text, target), Emitted(text, kernel.keyword, self.source))
        return super().build(kernels, target)

    def assemble(self, texts: Sequence[KernelText], target: GpuTarget) -> list[bytes]:
        return [b""] * len(texts)

    def executable(self, program: Program, built: Sequence[Any]) -> Any:
        return Nothing(program)


class Nothing:
    """A program that is not run: its results are what lay in memory."""

    def __init__(self, program: Program):
        self.program = program

    def fast_call(self, *pointers: Any) -> None: ...

    def bind_states(self, pointers: Sequence[int]) -> Nothing:
        return self


def content_key(text: KernelText, target: GpuTarget) -> str:
    """Equal for kernels that differ in their names alone."""
    return code_key(replace(text, name="k", source=text.source.replace(text.name, "k")), target)


def of_samples(backend: Collecting, wanted: Callable[[int], bool] = lambda number: True) -> int:
    """Emit the kernels of every op's samples, those of the numbers that are wanted. Returns how many there are."""
    number = 0
    for name, entry in OPS.items():
        for position, sample in enumerate([] if name in NOT_SAMPLED else entry.samples()):
            number += 1
            if not wanted(number):
                continue
            backend.source = f"{name}, sample {position}"
            graph = Graph(name=name)
            operands = [graph.add_input(t, f"x{n}") for n, t in enumerate(sample.types)]
            graph.outputs += graph.append(sample.op, operands).results
            compile_graph(graph, backend=backend)
    return number


def of_workloads(backend: Collecting) -> int:
    """Emit the kernels of the benchmarks, and of a ResNet and an LSTM. Returns how many programs there are."""
    programs = 0
    for half in (False, True):
        for workload in (*STEPS, *KERNELS):
            backend.source = f"{workload.name}{' in bf16' * half}"
            programs += of_workload(workload, backend, half)
        for path in FILES:
            if path.stem in ("resnet_basic", "char_lstm"):
                programs += _run_model(path.stem, backend, half)
    return programs


def of_models(backend: Collecting) -> tuple[int, list[str]]:
    """Emit the kernels of the model programs. Returns how many programs there are, and what could not be compiled."""
    programs, failed = 0, []
    for path in FILES:
        for half in (False, True):
            try:
                programs += _run_model(path.stem, backend, half)
            except (FlambeauError, TypeError, ValueError, RuntimeError) as error:
                failed.append(f"{backend.source}: {type(error).__name__}: {str(error)[:200]}")
    return programs, failed


def of_workload(workload: Workload, backend: Collecting, half: bool = False) -> int:
    """Emit the kernels of a benchmark's call, or of its train step and forward. Returns how many programs there are."""
    fb.manual_seed(0)
    data = [fb.from_numpy(array) for array in workload.data(np.random.default_rng(0))[0]]
    if not isinstance(workload, Train):
        fb.compile(_under_autocast(workload.make(fb, nn, F, optim), half), backend=backend)(*data)      # type: ignore[attr-defined]
        return 1
    model = workload.module(nn, F, fb, workload.dropout)
    opt = getattr(optim, workload.optimizer)(model.parameters(), **workload.hyper)
    return _train(model, opt, data[:1], lambda out: F.cross_entropy(out, data[1]), backend, half)


def _run_model(name: str, backend: Collecting, half: bool) -> int:
    program = load(next(path for path in FILES if path.stem == name))
    backend.source = f"{name}{' in bf16' * half}"
    fb.manual_seed(0)
    model, inputs, targets = program.make()
    parameters = [p for p in model.parameters() if p.requires_grad]
    return _train(model, optim.AdamW(parameters, lr=1e-3), inputs, lambda out: program.loss(out, *targets), backend, half)


def _train(model: Any, opt: Any, inputs: Sequence[Any], loss_of: Callable[[Any], Any], backend: Collecting,
           half: bool) -> int:
    def step(*inputs: Any) -> Any:
        opt.zero_grad()
        with fb.autocast("cpu", dtype=fb.bfloat16, enabled=half):
            loss = loss_of(model(*inputs))
        loss.backward()
        opt.step()
        return loss

    fb.compile(step, backend=backend)(*inputs)
    backend.source += ", forward alone"
    with fb.no_grad():
        fb.compile(_under_autocast(model.eval(), half), backend=backend)(*inputs)
    return 2


def _under_autocast(function: Callable[..., Any], half: bool) -> Callable[..., Any]:
    def forward(*inputs: Any) -> Any:
        with fb.autocast("cpu", dtype=fb.bfloat16, enabled=half):
            return function(*inputs)

    return forward


def by_kind(emitted: Sequence[Emitted]) -> Iterator[tuple[str, int]]:
    """How many there are of each kind."""
    kinds = [each.kind for each in emitted]
    yield from sorted((kind, kinds.count(kind)) for kind in set(kinds))
