"""Graphs are networkx's, which is loaded by whoever asks."""
from __future__ import annotations

import os
import random
import subprocess
import sys
from pathlib import Path

import networkx as nx
import pytest

from flambeau.ir.builder import Builder
from flambeau.ir.dtypes import f32
from flambeau.ir.graph import Graph, Value
from flambeau.ir.types import TensorType

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = """
import copy, pickle, sys
import flambeau as fb

graph = fb.ir.parse('''graph @main {
  %0 = input arg "x" : f32[3]
  %1 = exp(%0) : f32[3]
  %2 = add(%0, %1) : f32[3]
  return %2
}''')
assert str(copy.copy(graph)) == str(graph) == str(pickle.loads(pickle.dumps(graph))) and len(graph) == 3
assert not hasattr(graph, "_repr_png_")
assert not [name for name in sys.modules if name.split(".")[0] == "networkx"]
"""


@pytest.mark.parametrize("asking", [
    "import networkx as nx; assert isinstance(graph, nx.MultiDiGraph) and len(graph.subgraph(list(graph))) == 3",
    "assert graph.number_of_nodes() == 3 and not hasattr(graph, 'no_such_method') and 'networkx' in sys.modules",
    "assert [len(graph[node]) for node in graph] == [2, 1, 0]",
])
def test_networkx_is_loaded_by_who_asks_for_it(asking: str) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-c", PROGRAM + asking], env=environment, check=True)


def test_graphs_are_networkx_s_where_it_was_loaded_first() -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    code = "import networkx as nx, flambeau as fb; assert isinstance(fb.ir.Graph(), nx.MultiDiGraph)"
    subprocess.run([sys.executable, "-c", code], env=environment, check=True)


def twin(graph: Graph) -> nx.MultiDiGraph:
    """The same nodes and edges, written by networkx's own methods from the operands."""
    made = nx.MultiDiGraph()
    made.add_nodes_from(graph)
    made.add_edges_from((value.node, node, position, {"result": value.index})
                        for node in graph for position, value in enumerate(node.operands))
    return made


@pytest.mark.parametrize("seed", range(20))
def test_edits_leave_the_edges_that_networkx_would_write(seed: int) -> None:
    rng = random.Random(seed)
    graph = Graph()
    b = Builder(graph)
    values: list[Value] = [graph.add_input(TensorType((2,), f32), f"x{n}") for n in range(2)]
    for _ in range(60):
        match rng.randrange(5):
            case 0 | 1:
                values.append(b.add(*rng.choices(values, k=2)))
            case 2:
                values.append(b.exp(rng.choice(values)))
            case 3:
                value = rng.choice(values)
                if value.node.operands:
                    earlier = values[:values.index(value)]
                    graph.set_operand(value.node, rng.randrange(len(value.node.operands)), rng.choice(earlier))
            case 4:
                unused = [value for value in values[2:] if not graph.has_uses(value)]
                if unused:
                    values.remove(unused[0])
                    graph.erase(unused[0].node)
        expected = twin(graph)
        assert dict(graph.nodes) == dict(expected.nodes)
        assert graph.succ == expected.succ and graph.pred == expected.pred
        assert all(graph._succ[maker][user] is graph._pred[user][maker] for maker, user in graph.edges())


def test_what_networkx_makes_of_a_graph_is_copied_as_its_own() -> None:
    graph = Graph()
    b = Builder(graph)
    x = graph.add_input(TensorType((2,), f32), "x")
    y = b.exp(x)
    graph.outputs = [b.add(x, y)]
    parts = [graph.subgraph([x.node, y.node]), graph.edge_subgraph([(x.node, y.node, 0)]), graph.reverse(),
             graph.reverse(copy=False)]
    for part, nodes, edges in zip(parts, (2, 2, 3, 3), (1, 1, 3, 3), strict=True):
        copied = part.copy()
        assert (len(part), part.number_of_edges()) == (len(copied), copied.number_of_edges()) == (nodes, edges)
        assert f"{nodes} nodes and {edges} edges" in str(part)
    assert list(nx.ego_graph(graph, y.node)) == [y.node, graph.outputs[0].node]
    assert isinstance(graph.copy(), Graph) and str(graph.copy()) == str(graph) and str(Graph()).startswith("graph @main")
