"""The runner verifies, times and dumps; bisect names the wrong pass; the whole order keeps a graph's meaning."""
from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from flambeau.errors import GraphError
from flambeau.ir import ops
from flambeau.ir.builder import Builder
from flambeau.ir.graph import Graph, clone
from flambeau.ir.graph.hash import structural_hash
from flambeau.ir.graph.interpreter import interpret
from flambeau.ir.graph.parser import parse
from flambeau.ir.graph.text import print_graph
from flambeau.ir.graph.verifier import verify
from flambeau.ir.ops.sampling import draw
from flambeau.passes.graph.autodiff import vjp
from flambeau.passes.graph.dce import dce
from flambeau.passes.graph.simplify import simplify
from flambeau.passes.pipeline import GRAPH_PASSES, Pass, bisect, run
from tests.ir.graph_samples import training_step, typed


def broken(graph: Graph) -> Graph:
    """A pass that makes sin of every exp."""
    for node in list(graph.toposort()):
        if node.op.name == "exp":
            graph.replace_uses(node.result, Builder(graph).sin(node.operands[0]))
    return graph


def invalid(graph: Graph) -> Graph:
    """A pass that forgets an edge."""
    node = graph.outputs[-1].node
    graph.remove_edge(node.operands[0].node, node, 0)
    return graph


def exp_graph() -> Graph:
    graph = Graph()
    b = Builder(graph)
    x = graph.add_input(typed("f32[4]"), "x")
    graph.outputs = [x, b.mul(b.exp(x), b.scalar(1.0, x))]
    return graph


def test_fuse_is_last_and_sees_decomposed_simplified_live_nodes() -> None:
    order = [p.name for p in GRAPH_PASSES]
    assert order[:4] == ["simplify", "fold", "cse", "dce"] and order[-5:] == ["simplify", "cse", "dce", "join", "fuse"]
    assert order[4:-5] == ["attention", "layout", "decompose", "products"]


def test_the_report_says_what_each_pass_did() -> None:
    _, report = run(exp_graph(), [Pass("simplify", simplify), Pass("dce", dce)])
    assert [(r.name, r.nodes_before, r.nodes_after) for r in report.records] == [("simplify", 4, 2), ("dce", 2, 2)]
    assert report.seconds == sum(r.seconds for r in report.records) > 0
    assert re.search(r"simplify +\d+\.\d\d +4 -> 2\n", str(report))


def test_dumps_are_numbered_and_parse(tmp_path: Path) -> None:
    graph = training_step()
    text = print_graph(graph)
    final, report = run(graph, dump_dir=tmp_path / "new")
    files = sorted((tmp_path / "new").iterdir())
    assert [f.name for f in files] == ["00-input.txt", *(f"{i:02}-{p.name}.txt" for i, p in enumerate(GRAPH_PASSES, 1))]
    assert files[0].read_text(encoding="utf-8") == text
    assert files[-1].read_text(encoding="utf-8") == print_graph(final)
    assert [r.dump for r in report.records] == files[1:]
    for file in files:
        assert print_graph(parse(file.read_text(encoding="utf-8"))) == file.read_text(encoding="utf-8")


def test_on_pass_sees_every_graph() -> None:
    seen: list[tuple[str, int]] = []
    run(exp_graph(), [Pass("simplify", simplify), Pass("dce", dce)], on_pass=lambda p, g: seen.append((p.name, len(g))))
    assert seen == [("simplify", 2), ("dce", 2)]


def test_an_invalid_graph_is_blamed_on_its_pass() -> None:
    with pytest.raises(GraphError, match=r"after pass 2, forget: .*the edge of operand 0"):
        run(exp_graph(), [Pass("dce", dce), Pass("forget", invalid)], verify=True)


def test_an_invalid_graph_from_the_start_is_blamed_on_no_pass() -> None:
    with pytest.raises(GraphError, match="before the first pass: "):
        run(invalid(exp_graph()), [Pass("dce", dce)], verify=True)


def test_bisect_names_the_pass_that_changes_a_result() -> None:
    graph = exp_graph()
    text = print_graph(graph)
    x = np.linspace(-1, 1, 4, dtype=np.float32)
    passes = [Pass("simplify", simplify), Pass("broken", broken), Pass("dce", dce)]
    culprit = bisect(graph, [x], passes)
    assert culprit is not None
    assert (culprit.number, culprit.name, culprit.result) == (2, "broken", "output 1")
    assert "exp(" in culprit.before and "sin(" in culprit.after
    assert str(culprit).startswith("pass 2, broken, changes output 1 by ")
    assert print_graph(graph) == text


def test_bisect_finds_nothing_where_nothing_is_wrong() -> None:
    graph = training_step()
    assert bisect(graph, [draw(v.type) for v in graph.inputs]) is None


@pytest.mark.parametrize(("found", "wanted", "is_far"), [
    ([1.0, np.nan], [1.0, np.nan], False), ([1.0, 1.0], [1.0, np.nan], True), ([np.inf], [-np.inf], True),
    ([1.0 + 1e-5], [1.0], False), ([1.01], [1.0], True), ([0.0], [0.0], False), ([1e-9], [0.0], True)])
def test_bisect_tells_special_numbers_apart(found: list[float], wanted: list[float], is_far: bool) -> None:
    def constant(values: list[float]) -> Graph:
        graph = Graph()
        graph.outputs = [Builder(graph).constant(np.array(values, np.float32), typed("f32[]").dtype)]
        return graph

    culprit = bisect(constant(wanted), [], [Pass("other", lambda graph: constant(found))])
    assert (culprit is not None) == is_far


def small_network() -> Graph:
    """Two layers, softmax, normalization, a loss, and all gradients, as a train step holds them."""
    graph = Graph()
    b = Builder(graph)
    x = graph.add_input(typed("f32[4,6]"), "x")
    weights = [graph.add_input(typed(t), f"w{i}", "state") for i, t in enumerate(("f32[6,5]", "f32[5]", "f32[5,3]"))]
    hidden = b.add(b.matmul(x, weights[0]), b.broadcast(weights[1], (4, 5), (1,)))
    hidden, _, _ = b.emit(ops.Normalize((1,), 1e-5), b.gelu(hidden))
    scores = b.emit(ops.LogSoftmax(1), b.matmul(hidden, weights[2]))
    loss = b.neg(b.mul(b.sum(scores, (0, 1)), b.scalar(1 / 12, scores)))
    gradients = vjp(graph, [loss], [b.scalar(1.0, loss)], weights)
    for weight, gradient in zip(weights, gradients, strict=True):
        assert gradient is not None
        graph.writes[weight] = b.sub(weight, b.mul(gradient, b.scalar(0.1, weight)))
    graph.outputs = [loss]
    return graph


@pytest.mark.parametrize("make", [training_step, small_network])
def test_the_whole_order_keeps_a_graphs_meaning(make: Callable[[], Graph]) -> None:
    graph = make()
    inputs = [draw(v.type, seed=i) for i, v in enumerate(graph.inputs)]
    wanted = interpret(graph, inputs)
    final, _ = run(clone(graph)[0], verify=True)
    found = interpret(final, inputs)
    for a, c in zip((*found[0], *found[1]), (*wanted[0], *wanted[1]), strict=True):
        np.testing.assert_allclose(a, c, rtol=0, atol=64 * 2.0**-23 * max(1.0, float(np.abs(c).max())))
    assert bisect(graph, inputs) is None


def test_every_graph_on_the_way_comes_back_from_text() -> None:
    def check(_: Pass, graph: Graph) -> None:
        again = parse(print_graph(graph))
        assert print_graph(again) == print_graph(graph)
        assert structural_hash(again) == structural_hash(graph)

    run(small_network(), on_pass=check)


def test_ten_thousand_ops_go_through_every_step_without_recursion() -> None:
    graph = Graph()
    b = Builder(graph)
    x = value = graph.add_input(typed("f64[4]"), "x")
    for _ in range(5_000):
        value = b.sin(b.add(value, x))
    total = b.sum(value, (0,))
    (gradient,) = vjp(graph, [total], [b.scalar(1.0, total)], [x])
    assert gradient is not None
    graph.outputs = [total, gradient]
    before = interpret(graph, [np.full(4, 0.3)])[0]
    run(graph, [p for p in GRAPH_PASSES if p.name not in ("layout", "fuse")])
    verify(graph)
    after = interpret(parse(print_graph(graph)), [np.full(4, 0.3)])[0]
    np.testing.assert_array_equal(after[1], before[1])


def test_passes_are_values() -> None:
    def same(graph: Any) -> Any:
        return graph

    assert Pass("a", same) == Pass("a", same)
