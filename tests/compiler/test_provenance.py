"""From kernels back to the traced ops and their lines, and forward again."""
from __future__ import annotations

import inspect
from collections.abc import Iterator

from checked import compiled
from random_graphs import Generator

import flambeau as fb
import flambeau.nn.functional as F
from flambeau import nn, optim
from flambeau.ir.builder import Builder
from flambeau.ir.graph import Graph, Input, Node
from flambeau.ir.types import parse_type
from flambeau.passes.graph.rewrite import graphs_within


def names(nodes: list[Node]) -> list[str]:
    return [node.op.name for node in nodes]


def compiled_step() -> tuple[object, dict[str, int]]:
    """A compiled train step, and the numbers of its lines."""
    layer = nn.Linear(3, 2)
    opt = optim.SGD(layer.parameters(), lr=0.1)

    def step(x: fb.Tensor, y: fb.Tensor) -> fb.Tensor:
        opt.zero_grad()
        h = layer(x)
        h = F.relu(h)
        loss = F.mse_loss(h, y)
        loss.backward()
        opt.step()
        return loss

    lines, first = inspect.getsourcelines(step)
    line_of = {word: first + number for number, line in enumerate(lines)
               for word in ("layer(", "relu", "mse_loss", "backward", "opt.step") if word in line}
    function = fb.compile(step)
    function(fb.randn(4, 3), fb.randn(4, 2))
    return function, line_of


def test_kernels_name_the_ops_and_lines_they_compute_and_derivatives_those_of_their_op() -> None:
    step, line_of = compiled_step()
    p = step.provenance()                                           # type: ignore[attr-defined]
    of_weight = p.calls[-1]
    assert names(p.ops_of(of_weight)) == ["permute", "matmul", "permute", "stop_gradient", "mul", "sub"]
    lines = [int(line.rpartition(":")[2]) for line in p.lines_of(of_weight)]
    assert lines == [line_of["layer("], line_of["backward"], line_of["opt.step"]]
    for op in p.ops:
        if op.phase == "backward" and op.op.name in ("le", "where"):
            assert op.loc.line == line_of["relu"]
    assert "matmul, permute (derivatives)" not in str(p)
    assert "permute, matmul (derivatives) at" in str(p) and "in no kernel" not in str(p)


def test_an_op_leads_forward_to_its_kernels_and_rules() -> None:
    step, _ = compiled_step()
    p = step.provenance()                                           # type: ignore[attr-defined]
    forward = {op.op.name: op for op in p.ops if op.phase == "forward"}
    for number in p.calls_of(forward["matmul"]):
        assert forward["matmul"] in p.ops_of(number)
    assert p.calls_of(forward["matmul"]) == [0]
    kept, = [op for op in p.ops if op.op.name == "stop_gradient" and op.result.shape == (2,)]
    assert [(name, rewrite.rule) for name, rewrite in p.rewrites_of(kept)] == [("simplify", "stop_gradient(x) -> x")]
    assert p.calls_of(kept) == [3]


def test_an_op_of_the_fused_graph_leads_back() -> None:
    step, _ = compiled_step()
    p = step.provenance()                                           # type: ignore[attr-defined]
    fusions = [node for node in step.graph("fused").toposort() if node.op.name == "fusion"]     # type: ignore[attr-defined]
    assert [names(p.ops_of(node)) for node in fusions] == [names(p.ops_of(call)) for call in p.calls]


def test_a_rule_that_joins_ops_keeps_all_of_them() -> None:
    graph = Graph(name="turned")
    x = graph.add_input(parse_type("f32[2,3]"))
    b = Builder(graph)
    inner = b.permute(b.exp(x), (1, 0))
    outer = b.permute(inner, (1, 0))
    graph.outputs = [b.neg(outer)]
    p = compiled(graph).provenance
    assert names(p.ops_of(0)) == ["exp", "permute", "permute", "neg"]
    assert [rewrite.rule for _, rewrite in p.rewrites_of(outer.node)]


def test_what_a_rule_throws_away_is_in_no_kernel() -> None:
    graph = Graph(name="chosen")
    x, y = (graph.add_input(parse_type("f32[8]")) for _ in range(2))
    b = Builder(graph)
    kept, dropped = b.exp(x), b.sin(y)
    chosen = b.where(b.full(parse_type("bool[8]"), True), kept, dropped)
    graph.outputs = [b.neg(chosen)]
    p = compiled(graph).provenance
    assert "sin" not in names(p.ops_of(0)) and p.calls_of(dropped.node) == []
    assert p.calls_of(kept.node) == p.calls_of(chosen.node) == [0]


def test_every_node_comes_from_somewhere(seeds: Iterator[int]) -> None:
    for seed in seeds:
        source = Generator(seed).graph
        result = compiled(source)
        p = result.provenance
        for graph in graphs_within(result.fused):
            for node in graph.toposort():
                if not isinstance(node.op, Input):
                    numbers = node.origin.numbers() if node.origin is not None else ()
                    assert numbers and max(numbers) < len(p._nodes), f"seed {seed}: {node}"
        for root in source.roots():
            if not isinstance(root.node.op, Input):
                assert p.calls_of(root.node) or p.rewrites_of(root.node), f"seed {seed}: {root}"
        for op in p.ops:
            for number in p.calls_of(op):
                assert op in p.ops_of(number), f"seed {seed}: {op}"


def test_kernels_of_branches_and_loops_lead_back_too() -> None:
    def step(x: fb.Tensor) -> fb.Tensor:
        n, y = fb.while_loop(lambda n, y: n < 3, lambda n, y: (n + 1, y.sin()), (fb.tensor(0), x))
        return fb.cond(y.sum() > 0, lambda y: y.exp(), lambda y: y.cos(), (y,))

    function = fb.compile(step)
    function(fb.ones(4))
    p = function.provenance()
    for name in ("sin", "exp", "cos", "add", "lt", "gt"):
        op, = [node for node in p.ops if node.op.name == name]
        calls = p.calls_of(op)
        assert calls and all(op in p.ops_of(number) for number in calls), name
        assert all(str(op.loc) in p.lines_of(number) for number in calls), name
    assert "in no kernel" not in str(p)


def test_the_derivative_of_a_branch_has_the_line_of_the_op_it_belongs_to() -> None:
    def step(x: fb.Tensor) -> fb.Tensor:
        y = fb.cond(x.sum() > 0, lambda y: y.exp(), lambda y: y.sin(), (x,))
        y.sum().backward()
        return x.grad

    function = fb.compile(step)
    function(fb.ones(4, requires_grad=True))
    first = inspect.getsourcelines(step)[1]
    ops = function.provenance().ops
    derivatives = [op for op in ops if op.phase == "backward" and op.op.name in ("cos", "mul", "cond")]
    assert {op.op.name for op in derivatives} == {"cos", "mul", "cond"}
    assert {op.loc.line for op in derivatives} == {first + 1}


def test_a_kernel_has_the_name_its_own_program_gives_it_also_where_another_program_had_the_same_first() -> None:
    size = 4099                                             # of no other test
    first = fb.compile(lambda x, y: (y.cumsum(0), x.exp() * 3.0))
    second = fb.compile(lambda x: x.exp() * 3.0)
    first(fb.ones(size), fb.ones(size + 1))
    second(fb.ones(size))
    calls = first.provenance().calls
    assert [call.kernel.name for call in calls] == [f"k{number}" for number in range(len(calls))] and len(calls) > 1
    assert [call.kernel.name for call in second.provenance().calls] == ["k0"]
