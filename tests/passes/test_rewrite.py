"""The machinery under simplify: worklist, roots, effects, locations, and the limit."""
from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import pytest

from flambeau.ir import dtypes as dt
from flambeau.ir.builder import Builder
from flambeau.ir.graph import Graph, Location, Value
from flambeau.ir.graph.parser import parse
from flambeau.ir.graph.text import print_graph
from flambeau.ir.graph.verifier import verify
from flambeau.ir.op import Effect, Op
from flambeau.ir.types import TensorType
from flambeau.passes.graph.cse import cse
from flambeau.passes.graph.dce import dce
from flambeau.passes.graph.fold import fold
from flambeau.passes.graph.rewrite import Rule, graphs_within
from flambeau.passes.graph.simplify import RULES, apply_rules, simplify
from tests.ir.graph_samples import training_step, typed


@dataclass(frozen=True)
class Report(Op):
    """An op with an effect, for these tests only."""

    name: ClassVar[str] = "report"  # type: ignore[misc]
    effect: ClassVar[Effect] = Effect.IO

    def infer(self, *operands: TensorType) -> tuple[TensorType, ...]:
        return operands


def one_input() -> tuple[Graph, Value, Builder]:
    graph = Graph()
    return graph, graph.add_input(typed("f32[2]"), "x"), Builder(graph)


def names(graph: Graph) -> list[str]:
    return [node.op.name for node in graph.toposort()]


def test_a_replaced_output_and_write_follow() -> None:
    text = '''graph @main {
  %0 = input state "w" : f32[2]
  %1 = constant(value=f32[] 1.0) : f32[]
  %2 = mul(%0, %1) : f32[2]
  write %2 to %0
  return %2, %2
}'''
    assert print_graph(simplify(parse(text))) == '''graph @main {
  %0 = input state "w" : f32[2]
  write %0 to %0
  return %0, %0
}
'''


def test_new_nodes_carry_the_location_and_phase_of_the_old_one() -> None:
    graph, x, b = one_input()
    with b.at(Location("train.py", 7), "backward"):
        graph.outputs = [b.mul(x, b.scalar(-1.0, x))]
    simplify(graph)
    node = graph.outputs[0].node
    assert (node.op.name, node.loc, node.phase) == ("neg", Location("train.py", 7), "backward")


def test_inputs_stay_when_nothing_reads_them() -> None:
    for function in (simplify, dce, cse, fold):
        graph, x, b = one_input()
        graph.outputs = [b.scalar(1.0, dt.f32)]
        assert "input" in names(function(graph)), function


def test_nodes_with_effects_stay_and_stay_apart() -> None:
    graph, x, b = one_input()
    for _ in range(2):
        b.emit(Report(), b.exp(x))
    cse(graph)
    dce(graph)
    simplify(graph)
    assert names(graph) == ["input", "exp", "report", "report"]


def test_dce_erases_what_no_root_depends_on() -> None:
    graph = training_step()
    graph.writes.clear()
    dce(graph)
    verify(graph)
    assert names(graph) == ["input", "input", "input", "matmul", "relu", "sum"]


def test_a_chain_of_dead_nodes_goes_at_once() -> None:
    graph, x, b = one_input()
    value = x
    for _ in range(10_000):
        value = b.exp(value)
    assert len(simplify(graph)) == 1


def test_regions_are_rewritten_too() -> None:
    text = '''graph @main {
  %0 = input arg "x" : f32[2]
  %1 = fusion(%0, kind="loop") : f32[2] {
    graph @inside {
      %0 = input arg "" : f32[2]
      %1 = constant(value=f32[] 2.0) : f32[]
      %2 = mul(%1, %1) : f32[]
      %3 = mul(%1, %1) : f32[]
      %4 = add(%2, %3) : f32[]
      %5 = neg(%0) : f32[2]
      %6 = neg(%5) : f32[2]
      %7 = mul(%6, %4) : f32[2]
      %8 = exp(%0) : f32[2]
      return %7
    }
  }
  return %1
}'''
    graph = parse(text)
    assert len(graphs_within(graph)) == 2
    for function in (simplify, cse, fold, dce):
        function(graph)
        verify(graph)
    assert names(graph.outputs[0].node.regions[0]) == ["input", "constant", "mul"]


def test_equal_regions_merge_and_unequal_ones_do_not() -> None:
    region = '''fusion(%0, kind="loop") : f32[2] {{
    graph @inside {{
      %0 = input arg "" : f32[2]
      %1 = {op}(%0) : f32[2]
      return %1
    }}
  }}'''
    text = 'graph @main {{\n  %0 = input arg "x" : f32[2]\n  %1 = {}\n  %2 = {}\n  %3 = {}\n  return %1, %2, %3\n}}'
    graph = cse(parse(text.format(*(region.format(op=op) for op in ("exp", "exp", "neg")))))
    first, second, third = graph.outputs
    assert first is second and third is not first
    verify(graph)


def test_rules_that_come_to_no_end_are_an_error() -> None:
    graph, x, b = one_input()
    graph.outputs = [b.exp(x)]
    swap = [Rule("exp -> sin", ("exp",), lambda r, n: r.sin(n.operands[0])),
            Rule("sin -> exp", ("sin",), lambda r, n: r.exp(n.operands[0]))]
    with pytest.raises(AssertionError, match=r"came to no end after \d+ steps.*exp -> sin"):
        apply_rules(graph, {"exp": swap[:1], "sin": swap[1:]})


def test_a_rule_that_changes_the_type_is_an_error() -> None:
    graph, x, b = one_input()
    graph.outputs = [b.exp(x)]
    with pytest.raises(AssertionError, match=r"gives f64\[2\] for f32\[2\]"):
        apply_rules(graph, {"exp": [Rule("wrong", ("exp",), lambda r, n: r.cast(n.operands[0], dt.f64))]})


def test_rules_are_listed_once_each() -> None:
    rewrites = [rule.rewrite for rule in RULES]
    assert len(rewrites) == len(set(rewrites))


def test_erasing_keeps_the_order_of_the_rest() -> None:
    graph, x, b = one_input()
    first, dead, last = b.exp(x), b.sin(x), b.cos(x)
    graph.outputs = [b.add(first, last)]
    graph.erase(dead.node)
    assert names(graph) == ["input", "exp", "cos", "add"]
    verify(graph)


def test_sorting_a_cycle_is_an_error_not_a_hang() -> None:
    graph, x, b = one_input()
    first = b.exp(x)
    second = b.sin(first)
    graph.set_operand(first.node, 0, second)
    with pytest.raises(AssertionError, match="has a cycle"):
        graph.toposort()
