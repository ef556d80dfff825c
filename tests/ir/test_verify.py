"""The verifier accepts every graph that the builder makes, and names the node and the line of one that is broken."""
from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from flambeau import errors
from flambeau.errors import FlambeauError, GraphError
from flambeau.ir import dtypes as dt
from flambeau.ir import ops
from flambeau.ir.builder import Builder
from flambeau.ir.graph import Graph, Location, clone
from flambeau.ir.graph.parser import parse
from flambeau.ir.graph.verifier import verify
from tests.ir.graph_samples import BY_HAND, of_registry, typed

INVALID = sorted((Path(__file__).parent / "invalid").glob("*.txt"))


@pytest.mark.parametrize("make", BY_HAND)
def test_what_the_builder_makes_is_valid(make: Callable[[], Graph]) -> None:
    verify(make())


@pytest.mark.parametrize("make", BY_HAND)
def test_a_copy_is_valid(make: Callable[[], Graph]) -> None:
    verify(clone(make())[0])


def test_every_sample_of_the_registry_is_valid() -> None:
    for _, graph in of_registry():
        verify(graph)


@pytest.mark.parametrize("path", INVALID, ids=lambda path: path.stem)
def test_invalid_text_is_refused_with_the_message_of_its_file(path: Path) -> None:
    """A file opens with the error it expects, in comments, and an empty line."""
    expected, _, text = path.read_text(encoding="utf-8").partition("\n\n")
    kind, _, message = " ".join(line.removeprefix("//").strip() for line in expected.splitlines()).partition(": ")
    with pytest.raises(getattr(errors, kind)) as caught:
        parse(text)
    assert " ".join(str(caught.value).split()) == message


def test_parsing_without_verifying_takes_wrong_types() -> None:
    text = 'graph @main {\n  %0 = input arg "x" : f32[2]\n  %1 = exp(%0) : f64[7]\n  return %1\n}\n'
    assert str(parse(text, verify=False)) == text


def pair() -> tuple[Graph, list[Any]]:
    """x, y -> x + y, twice over."""
    graph = Graph()
    b = Builder(graph, Location("train.py", 5))
    x, y = (graph.add_input(typed("f32[2]"), label) for label in "xy")
    total = b.add(x, y)
    again = b.add(total, y)
    graph.outputs = [again]
    return graph, [x, y, total, again]


def broken(change: Callable[[Graph, list[Any]], object]) -> str:
    """The error for the graph of `pair` after `change`."""
    graph, values = pair()
    change(graph, values)
    with pytest.raises(GraphError) as caught:
        verify(graph)
    return str(caught.value)


def test_an_edge_that_is_missing() -> None:
    found = broken(lambda g, v: g.remove_edge(v[1].node, v[2].node, 1))
    assert "%2 = add(%0, %1) : f32[2]: the edge of operand 1 does not come from" in found
    assert "traced at train.py:5" in found


def test_an_edge_from_another_node() -> None:
    def change(graph: Graph, v: list[Any]) -> None:
        graph.remove_edge(v[1].node, v[2].node, 1)
        graph.add_edge(v[0].node, v[2].node, 1, result=0)

    assert "the edge of operand 1 does not come from <input#1.0 : f32[2]>" in broken(change)


def test_an_edge_of_another_result() -> None:
    def change(graph: Graph, v: list[Any]) -> None:
        graph.edges[v[1].node, v[2].node, 1]["result"] = 1

    assert "the edge of operand 1 does not come from" in broken(change)


def test_an_edge_too_many() -> None:
    found = broken(lambda g, v: g.add_edge(v[0].node, v[2].node, 7, result=0))
    assert "is for operand 7, which there is not" in found


def test_a_cycle() -> None:
    def change(graph: Graph, v: list[Any]) -> None:
        graph.set_operand(v[2].node, 0, v[3])

    assert "%2 = add(%3, %1) : f32[2]: depends on its own result" in broken(change)


def test_a_stale_order() -> None:
    def change(graph: Graph, v: list[Any]) -> None:
        assert graph._sorted is not None
        graph._sorted.reverse()

    assert "the order kept by the graph has it before its operands" in broken(change)


def test_an_order_that_lacks_a_node() -> None:
    def change(graph: Graph, v: list[Any]) -> None:
        assert graph._sorted is not None
        graph._sorted.pop()

    assert "keeps an order of 3 nodes and has 4" in broken(change)


def test_an_operand_of_another_graph() -> None:
    other = Graph().add_input(typed("f32[2]"), "foreign")

    def change(graph: Graph, v: list[Any]) -> None:
        v[2].node.operands = (v[0], other)

    assert "operand 1 (<input#0.0 : f32[2]>) is not in graph @main" in broken(change)


def test_an_output_of_another_graph() -> None:
    other = Graph().add_input(typed("f32[2]"), "foreign")
    assert "output 1 of graph @main" in broken(lambda g, v: g.outputs.append(other))


def test_an_output_that_was_erased() -> None:
    assert "output 0 of graph @main" in broken(lambda g, v: g.erase(v[3].node))


def test_an_erased_input() -> None:
    graph = Graph()
    x = graph.add_input(typed("f32[2]"), "x")
    graph.erase(x.node)
    with pytest.raises(GraphError, match="input 0 of graph @main"):
        verify(graph)


def test_an_unknown_phase() -> None:
    def change(graph: Graph, v: list[Any]) -> None:
        v[3].node.phase = "sideways"

    assert "phase 'sideways' is none of" in broken(change)


def test_an_attribute_that_is_a_list() -> None:
    graph = Graph()
    x = graph.add_input(typed("f32[2]"), "x")
    graph.outputs = [Builder(graph).emit(ops.Sum([0]), x)]  # type: ignore[arg-type]
    with pytest.raises((GraphError, TypeError), match="list can't be an attribute"):
        verify(graph)


def test_a_chain_of_ten_thousand_ops() -> None:
    graph = Graph()
    b = Builder(graph)
    value = b.constant(np.ones(2, np.float32), dt.f32)
    for _ in range(10_000):
        value = b.sin(value)
    graph.outputs = [value]
    verify(graph)


def test_graph_errors_are_value_errors() -> None:
    assert issubclass(GraphError, ValueError) and issubclass(GraphError, FlambeauError)
