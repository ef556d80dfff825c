"""Ops become simpler ones until none has a decomposition; custom ops become their forward region."""
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pytest

from flambeau.ir import ops
from flambeau.ir.builder import Builder
from flambeau.ir.graph import Graph, Location, Value, clone
from flambeau.ir.graph.interpreter import interpret
from flambeau.ir.graph.verifier import verify
from flambeau.ir.op import Op
from flambeau.ir.types import TensorType
from flambeau.passes.graph.decompose import decompose
from tests.ir.graph_samples import custom_square, of_registry, typed


def names(graph: Graph) -> list[str]:
    return [node.op.name for node in graph.toposort()]


def test_no_op_of_the_registry_is_left_with_a_decomposition() -> None:
    for name, graph in of_registry():
        decompose(graph)
        verify(graph)
        left = [node.op.name for node in graph.toposort() if type(node.op).decompose is not Op.decompose
                and node.op.decompose(Builder(clone(graph)[0]), node.operands) is not None]
        assert not left, f"sample {name}: {left}"


def test_new_ops_keep_location_and_phase() -> None:
    graph = Graph()
    x = graph.add_input(typed("f32[2,3]"), "x")
    graph.outputs = [Builder(graph, Location("m.py", 4), "backward").emit(ops.Softmax(1), x)]
    decompose(graph)
    assert {(node.loc, node.phase) for node in graph.toposort()[1:]} == {(Location("m.py", 4), "backward")}


def test_a_custom_op_becomes_its_forward_region() -> None:
    graph = Graph()
    x = graph.add_input(typed("f32[3]"), "x")
    op, regions = custom_square(x.type)
    graph.outputs = [Builder(graph, Location("m.py", 4)).emit(op, x, regions=regions)]
    decompose(graph)
    verify(graph)
    assert names(graph) == ["input", "mul"]
    assert graph.outputs[0].node.loc == Location("m.py", 4)


def test_a_custom_op_that_gives_its_operand() -> None:
    graph = Graph()
    x = graph.add_input(typed("f32[3]"), "x")
    same, backward = Graph(), Graph()
    same.outputs = [same.add_input(x.type)]
    backward.outputs = [[backward.add_input(x.type) for _ in range(3)][2]]
    graph.outputs = [Builder(graph).emit(ops.Custom("same"), x, regions=(same, backward))]
    decompose(graph)
    verify(graph)
    assert graph.outputs == [x] and names(graph) == ["input"]


def test_decompositions_inside_inlined_and_kept_regions() -> None:
    type = typed("f32[2,3]")
    inner = Graph(name="inner")
    inner.outputs = [Builder(inner).emit(ops.Softmax(1), inner.add_input(type))]
    forward, backward = Graph(), Graph()
    x = forward.add_input(type)
    b = Builder(forward)
    forward.outputs = [b.emit(ops.Softmax(0), b.emit(ops.Fusion("loop"), x, regions=(inner,)))]
    backward.outputs = [[backward.add_input(type) for _ in range(3)][2]]
    graph = Graph()
    graph.outputs = [Builder(graph).emit(ops.Custom("f"), graph.add_input(type, "x"), regions=(forward, backward))]
    x_array = np.arange(6, dtype=np.float32).reshape(2, 3)
    (before,), _ = interpret(graph, [x_array])
    decompose(graph)
    verify(graph)
    (fusion,) = [node for node in graph.toposort() if node.op.name == "fusion"]
    assert "softmax" not in names(graph) + names(fusion.regions[0])
    (after,), _ = interpret(graph, [x_array])
    np.testing.assert_allclose(after, before, rtol=8 * 2.0**-23)       # two softmaxes of at most three terms


@dataclass(frozen=True)
class Layers(Op):
    """Decomposes into one layer and the rest."""

    count: int
    name: ClassVar[str] = "layers"  # type: ignore[misc]

    def infer(self, *operands: TensorType) -> tuple[TensorType, ...]:
        return operands

    def decompose(self, b: Any, operands: Sequence[Value]) -> Sequence[Value] | None:
        return (b.emit(Layers(self.count - 1), b.exp(operands[0])),) if self.count else (operands[0],)


def test_decompositions_of_decompositions() -> None:
    graph = Graph()
    graph.outputs = [Builder(graph).emit(Layers(5), graph.add_input(typed("f32[2]"), "x"))]
    decompose(graph)
    assert names(graph) == ["input"] + ["exp"] * 5


def test_an_op_that_decomposes_into_itself_is_an_error() -> None:
    graph = Graph()
    graph.outputs = [Builder(graph).emit(Layers(-1), graph.add_input(typed("f32[2]"), "x"))]
    with pytest.raises(AssertionError, match="layers decomposes into itself"):
        decompose(graph)
