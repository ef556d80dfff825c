"""Drawings name every node, tell forward from backward, and quote what users write."""
from __future__ import annotations

import re
import shutil
import subprocess

import pytest

from flambeau.ir.graph import Graph
from flambeau.ir.graph.draw import to_dot, to_mermaid
from tests.ir.graph_samples import BY_HAND, literals, regions, training_step, typed


def test_dot_colours_forward_and_backward_apart() -> None:
    text = to_dot(training_step())
    forward = set(re.findall(r'fillcolor="(#\w+)".*class="forward"', text))
    backward = set(re.findall(r'fillcolor="(#\w+)".*class="backward"', text))
    assert len(forward) == len(backward) == 1 and forward != backward


def test_dot_labels_op_type_and_location() -> None:
    assert r'[label="matmul\nf32[8,3]\ntrain.py:12", ' in to_dot(training_step())


def test_mermaid_has_a_class_for_each_phase() -> None:
    text = to_mermaid(training_step())
    assert 'n3["matmul<br/>f32[8,3]<br/>train.py:12"]:::forward' in text
    assert ":::backward" in text and "classDef backward" in text and "classDef forward" in text


def test_every_operand_is_an_edge() -> None:
    graph = training_step()
    operands = sum(len(node.operands) for node in graph.toposort())
    ends = len(graph.outputs) + len(graph.writes)
    assert to_dot(graph).count("->") == operands + ends == to_mermaid(graph).count("-->")


def test_regions_are_boxes_and_results_are_numbered() -> None:
    assert to_dot(regions()).count("subgraph cluster_") == 4
    assert to_mermaid(regions()).count("subgraph ") == 4
    assert re.search(r'-> nout0 \[label="1"\]', to_dot(regions()))


def test_labels_are_quoted() -> None:
    graph = Graph(name='a "b"')
    graph.outputs = [graph.add_input(typed("f32[]"), 'x "y" <z> #1')]
    assert r'label="arg x \"y\" <z> #1\nf32[]"' in to_dot(graph)
    assert '"arg x #quot;y#quot; #lt;z#gt; #35;1<br/>f32[]"' in to_mermaid(graph)


def test_long_attributes_are_left_out() -> None:
    assert max(map(len, to_dot(literals()).splitlines())) < 200


@pytest.mark.skipif(shutil.which("dot") is None, reason="Graphviz is not installed")
@pytest.mark.parametrize("make", BY_HAND)
def test_graphviz_takes_it(make) -> None:  # type: ignore[no-untyped-def]
    subprocess.run(["dot", "-Tsvg"], input=to_dot(make()), text=True, check=True, capture_output=True)
