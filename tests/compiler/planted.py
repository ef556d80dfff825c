"""Faults planted in the compiler, drawn at random: a rule, a fusion, a lowering, machine code or a memory plan is wrong for
some op, perhaps only beside another one, in a kernel of some size, or where a dim is long enough.

    with Planted(seed, graph) as fault:
        compile_graph(graph, verify=True, **fault.how)          # raises, called on numbers that show it
"""
from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any, Self

import flambeau.compiler
from flambeau.backends import Artifact, CpuBackend
from flambeau.ir import ops
from flambeau.ir.graph import Graph, Node
from flambeau.ir.kernel import Kernel, LoopKernel, Stage
from flambeau.ir.target import Target
from flambeau.passes.cpu.pipeline import CPU_PASSES
from flambeau.passes.lowering.lower import Call
from flambeau.passes.memory.plan import MemoryPlan
from flambeau.passes.pipeline import Pass, run

INSTEAD = {"add": "sub", "sub": "add", "mul": "add", "neg": "abs", "tanh": "sin", "sin": "cos", "cos": "sin", "exp": "neg",
           "maximum": "minimum", "minimum": "maximum", "abs": "neg", "relu": "abs", "sigmoid": "tanh", "erf": "tanh",
           "gelu": "relu", "div": "mul", "sqrt": "neg", "log": "neg", "rsqrt": "sqrt", "ge": "gt", "lt": "le", "le": "lt"}
STAGES = ("a rule", "a fusion", "lowering", "code generation", "memory plan")


class Planted:
    """One fault that `graph` has an op for. stage: one of STAGES; blame: a pattern of what the error must name; length: how
    long a dim must be for it."""

    def __init__(self, seed: int, graph: Graph):
        self.random = random.Random(seed)
        self.stage = self.random.choice(STAGES)
        self.how: dict[str, Any] = {}
        self.blame = {"a rule": r"pass \d+, planted", "a fusion": r"pass \d+, planted"}.get(self.stage, self.stage)
        self._saved: Any = None
        self.length = 1
        fused = run(graph.copy(), CPU_PASSES)[0]
        made = flambeau.compiler.compile_graph(graph)
        match self.stage:
            case "a rule":
                at = self.random.randrange(len(CPU_PASSES))
                before = run(graph.copy(), CPU_PASSES[:at])[0]
                wrong = self._wrong_op([before])
                self.how["passes"] = (*CPU_PASSES[:at], Pass("planted", wrong), *CPU_PASSES[at:])
            case "a fusion":
                wrong = self._wrong_op([node.regions[0] for node in fused.toposort() if node.regions])
                self.how["passes"] = (*CPU_PASSES, Pass("planted", wrong))
            case "lowering":
                self.how["backend"] = WrongKernels(self._wrong_kernel(made.kernels), build=False)
            case "code generation":
                self.how["backend"] = WrongKernels(self._wrong_kernel(made.kernels), build=True)

    def __enter__(self) -> Self:
        if self.stage == "memory plan":
            self._saved = flambeau.compiler.plan
            flambeau.compiler.plan = self._wrong_plan
        return self

    def __exit__(self, *error: object) -> None:
        if self._saved is not None:
            flambeau.compiler.plan = self._saved                                    # type: ignore[assignment]

    def _wrong_op(self, graphs: Sequence[Graph]) -> Callable[[Graph], Graph]:
        nodes = [node for graph in graphs for node in graph.toposort() if node.op.name in INSTEAD]
        if not nodes:
            return lambda graph: graph
        like = self.random.choice(nodes)
        fed_by = {v.node.op.name for v in like.operands if v.node.op.name != "input"}
        beside = fed_by if self.random.random() < 0.5 else set()
        longest = max((*like.result.type.static_shape, 1))
        self.length = self.random.randint(1, longest) if self.random.random() < 0.4 else 1
        size = next(len(graph) for graph in graphs if like in graph.toposort())
        least = self.random.randint(1, min(size, 6)) if self.stage == "a fusion" and self.random.random() < 0.5 else 0

        def holds(node: Node, graph: Graph) -> bool:
            if node.op is not like_op or len(graph) < least or max((*node.result.type.static_shape, 1)) < self.length:
                return False
            return beside <= {v.node.op.name for v in node.operands}

        like_op, instead = like.op, getattr(ops, INSTEAD[like.op.name])

        def wrong(graph: Graph) -> Graph:
            for part in _parts(graph, self.stage == "a fusion"):
                for node in part.toposort():
                    if holds(node, part):
                        node.op = instead
            return graph

        return wrong

    def _wrong_kernel(self, kernels: Sequence[Kernel]) -> Callable[[Kernel], Kernel]:
        kernels = [kernel for kernel in kernels if any(i.op in INSTEAD for i in kernel.instrs())]
        if not kernels:
            return lambda kernel: kernel
        like = self.random.choice(kernels)
        name = self.random.choice([i.op for i in like.instrs() if i.op in INSTEAD])
        count = len(list(like.instrs()))
        least = self.random.randint(1, min(count, 8)) if self.random.random() < 0.5 else 1
        longest = max((1, *[e for e in getattr(like, "extents", ()) if isinstance(e, int)]))
        self.length = self.random.randint(1, longest) if self.random.random() < 0.4 else 1

        def changed(stage: Stage) -> Stage:
            return replace(stage, body=tuple(replace(i, op=INSTEAD[name]) if i.op == name else i for i in stage.body))

        def wrong(kernel: Kernel) -> Kernel:
            if len(list(kernel.instrs())) < least or self.length > max(
                    (e for e in getattr(kernel, "extents", ()) if isinstance(e, int)), default=1):
                return kernel
            if isinstance(kernel, LoopKernel):
                return replace(kernel, stages=tuple(map(changed, kernel.stages)))
            epilogue = getattr(kernel, "epilogue", None)
            return kernel if epilogue is None else replace(kernel, epilogue=changed(epilogue))     # type: ignore[call-arg]

        return wrong

    def _wrong_plan(self, *how: Any) -> MemoryPlan:
        """Two values in one place, if there are so many."""
        memory: MemoryPlan = self._saved(*how)
        arena = [value for value, home in memory.home_of.items() if home.kind == "arena"]
        for value in arena[1:]:
            if value.type.nbytes <= arena[0].type.nbytes:
                memory.home_of[value] = replace(memory.home_of[value], index=memory.home_of[arena[0]].index)
                break
        return memory


class WrongKernels(CpuBackend):
    """Changes kernels after they were lowered, or as they are built."""

    def __init__(self, change: Callable[[Kernel], Kernel], build: bool):
        super().__init__()
        self.change, self.changes_build = change, build

    def __repr__(self) -> str:
        return "planted"

    def prepare(self, calls: Sequence[Call], target: Target) -> list[Call]:
        if not self.changes_build:
            calls = [replace(call, kernel=self.change(call.kernel)) for call in calls]
        return super().prepare(calls, target)

    def build(self, kernels: Sequence[Kernel], target: Target) -> list[Artifact]:
        return super().build([self.change(kernel) if self.changes_build else kernel for kernel in kernels], target)


def _parts(graph: Graph, is_inside: bool) -> Iterator[Graph]:
    if not is_inside:
        yield graph
    for node in graph.toposort() if is_inside else ():
        yield from node.regions


__all__ = ["STAGES", "Planted"]
