"""Effects happen in the order of the graph, once for each time their node is reached: through all passes, fusion, the
memory plan and the program, in regions too. The op `count` stands for prints, checks and library calls with state."""
from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pytest
from checked import run

from flambeau.compiler import compile_graph
from flambeau.ir import dtypes as dt
from flambeau.ir import kinds, ops
from flambeau.ir.builder import Builder
from flambeau.ir.graph import Graph, Node, Value
from flambeau.ir.graph.interpreter import interpret
from flambeau.ir.kernel import Kernel
from flambeau.ir.kernel.interpreter import Machine
from flambeau.ir.kernel.verifier import Checker
from flambeau.ir.kinds import Kind
from flambeau.ir.op import OPS, Effect, Op
from flambeau.ir.types import TensorType, parse_type
from flambeau.passes.lowering.loops import locations, params_of
from flambeau.passes.lowering.lower import Call, call_of

SEEN: list[int] = []
VECTOR = parse_type("f32[3]")


def seen(mark: int, x: np.ndarray) -> np.ndarray:
    """x plus how many effects there were before."""
    SEEN.append(mark)
    return x + np.float32(len(SEEN))


@dataclass(frozen=True)
class Count(Op):
    """x -> x + how many effects there were so far. silent: gives nothing."""

    mark: int
    silent: bool = False
    name = "count"
    kernel_kind = "count"
    effect = Effect.IO

    def infer(self, *operands: TensorType) -> tuple[TensorType, ...]:
        return () if self.silent else operands

    def evaluate(self, *operands: np.ndarray) -> np.ndarray | tuple[np.ndarray, ...]:
        result = seen(self.mark, operands[0])
        return () if self.silent else result


@dataclass(frozen=True)
class CountKernel(Kernel):
    keyword: ClassVar[str] = "count"
    extents: tuple[int, ...]
    mark: int = 0

    def lines(self, printer: object) -> Iterator[str]:
        yield f"  mark {self.mark}"

    def check(self, checker: Checker) -> None:
        checker.stored |= set(range(1, len(self.params)))

    def run(self, machine: Machine) -> None:
        result = seen(self.mark, machine.load(0))
        if len(self.params) > 1:
            machine.store(1, result)


def lower(node: Node, name: str) -> list[Call]:
    region = node.regions[0]
    (inner,) = (n for n in region.toposort() if n.op.name == "count")
    assert isinstance(inner.op, Count)
    kernel = CountKernel(name, params_of(region), inner.operands[0].type.static_shape, inner.op.mark,
                         locations=locations(region))
    return [call_of(node, kernel)]


@pytest.fixture(autouse=True)
def registered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(OPS, "count", Count)
    kind = Kind("count", CountKernel, lower)
    monkeypatch.setitem(kinds._KINDS, "count", lambda: kind)


class Writer:
    """A random graph of vectors: arithmetic, effects, choices, loops of two rounds, and writes to a state."""

    def __init__(self, seed: int):
        self.rng, self.marks = random.Random(seed), iter(range(10_000))
        self.graph = Graph(name=f"effects{seed}")
        self.predicate = self.graph.add_input(TensorType((), dt.bool_), "p")
        vectors = [self.graph.add_input(VECTOR, "x"), *[self.graph.add_input(VECTOR, f"w{n}", "state") for n in range(2)]]
        states = vectors[1:]
        self.fill(self.graph, vectors, self.predicate, 2, 7)
        self.graph.outputs = self.rng.sample(vectors, 2)
        for state in states:
            if self.rng.random() < 0.7:
                self.graph.writes[state] = self.rng.choice(vectors)

    def fill(self, graph: Graph, vectors: list[Value], predicate: Value, depth: int, length: int) -> None:
        b = Builder(graph)
        for _ in range(length):
            x, y = (self.rng.choice(vectors) for _ in "xy")
            match self.rng.choice(["add", "sub", "sum", "count", "count", "silent", *["cond", "while"] * (depth > 0)]):
                case "add":
                    vectors.append(b.add(x, y))
                case "sub":
                    vectors.append(b.sub(x, y))
                case "sum":
                    vectors.append(b.broadcast(b.sum(x, (0,)), (3,), ()))
                case "count":
                    vectors.append(b.emit(Count(next(self.marks)), x))
                case "silent":
                    b.emit(Count(next(self.marks), True), x)
                case "cond":
                    regions = tuple([self.region(name, depth - 1) for name in ("true", "false")])
                    vectors.extend(graph.append(ops.Cond(), [predicate, predicate, x, y], regions=regions).results)
                case "while":
                    zero = b.constant(0, dt.i64)
                    made = graph.append(ops.WhileLoop(), [zero, x, predicate, y], regions=self.rounds(depth - 1))
                    vectors.append(made.results[1])

    def region(self, name: str, depth: int) -> Graph:
        graph = Graph(name=name)
        predicate = graph.add_input(self.predicate.type, "p")
        vectors = [graph.add_input(VECTOR, label) for label in "xy"]
        self.fill(graph, vectors, predicate, depth, self.rng.randint(0, 3))
        graph.outputs = [self.rng.choice(vectors) for _ in range(2)]
        return graph

    def rounds(self, depth: int) -> tuple[Graph, Graph]:
        graphs = Graph(name="condition"), Graph(name="body")
        for graph in graphs:
            i = graph.add_input(TensorType((), dt.i64), "i")
            x = graph.add_input(VECTOR, "x")
            predicate, y = graph.add_input(self.predicate.type, "p"), graph.add_input(VECTOR, "y")
            b = Builder(graph)
            if graph.name == "condition":
                graph.outputs = [b.lt(i, b.constant(2, dt.i64))]
            else:
                vectors = [x, y]
                self.fill(graph, vectors, predicate, depth, self.rng.randint(1, 3))
                graph.outputs = [b.add(i, b.constant(1, dt.i64)), self.rng.choice(vectors)]
        return graphs


@pytest.mark.parametrize("predicate", [False, True])
def test_compiled_effects_happen_as_interpreted(seeds: Iterator[int], predicate: bool) -> None:
    for seed in seeds:
        graph = Writer(seed).graph
        arrays = [np.array(predicate), *[np.full(3, n, np.float32) for n in (1, 2, 3)]]
        SEEN.clear()
        outputs, writes = interpret(graph, arrays)
        expected = list(SEEN)
        made = compile_graph(graph, backend="interpret", rules=True)
        SEEN.clear()
        outcome = run(made, arrays)
        assert expected == SEEN, f"seed {seed}\n{graph}"
        for found, meant in zip(outcome.outputs, outputs, strict=True):
            np.testing.assert_allclose(found, meant, err_msg=f"seed {seed}\n{graph}")
        for state, meant in zip(graph.writes, writes, strict=True):
            np.testing.assert_allclose(outcome.states[state], meant, err_msg=f"seed {seed}\n{graph}")


def test_an_effect_is_fused_with_nothing_and_keeps_what_it_waits_for_out_of_one_kernel() -> None:
    """add would read exp in one kernel, but for the effect between that reads one and is waited for by the other."""
    graph = Graph(name="between")
    x = graph.add_input(VECTOR, "x")
    b = Builder(graph)
    e = b.exp(x)
    b.emit(Count(0, True), e)
    second = b.emit(Count(1), x)
    graph.outputs = [b.add(e, second)]
    made = compile_graph(graph, backend="interpret", rules=True)
    order = [node.op.kind for node in made.fused.toposort() if isinstance(node.op, ops.Fusion)]
    assert order == ["loop", "count", "count", "loop"]
    SEEN.clear()
    assert run(made, [np.zeros(3, np.float32)]).outputs[0].tolist() == [3.0] * 3 and SEEN == [0, 1]
