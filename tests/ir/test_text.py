"""Text is the graph: printed, parsed and printed again it is the same, by text and by hash."""
from __future__ import annotations

import math
import os
import struct
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from flambeau.errors import ParseError
from flambeau.ir import dtypes as dt
from flambeau.ir import ops
from flambeau.ir.answers import assuming
from flambeau.ir.attributes import op_key
from flambeau.ir.builder import Builder
from flambeau.ir.dims import Dim
from flambeau.ir.facts import LARGEST, Facts
from flambeau.ir.graph import Graph, Location, clone
from flambeau.ir.graph.hash import structural_hash, text_key
from flambeau.ir.graph.interpreter import interpret
from flambeau.ir.graph.parser import parse
from flambeau.ir.graph.text import print_graph, print_node
from flambeau.ir.graph.verifier import verify
from flambeau.ir.op import OPS, Op, register
from flambeau.ir.types import TensorType
from tests.ir.graph_samples import BY_HAND, ODD_NAN, of_registry, training_step, typed


def assert_same(found: Graph, wanted: Graph) -> None:
    """Node by node: op, operands, types, phase, location, regions; and inputs, outputs, writes."""
    nodes, others = found.toposort(), wanted.toposort()
    place = {v: (i, v.index) for i, node in enumerate(nodes) for v in node.results}
    other_place = {v: (i, v.index) for i, node in enumerate(others) for v in node.results}
    assert found.name == wanted.name and len(nodes) == len(others)
    for node, other in zip(nodes, others, strict=True):
        assert op_key(node.op) == op_key(other.op)
        assert [place[v] for v in node.operands] == [other_place[v] for v in other.operands]
        assert [v.type for v in node.results] == [v.type for v in other.results]
        assert (node.phase, node.loc) == (other.phase, other.loc)
        assert len(node.regions) == len(other.regions)
        for region, other_region in zip(node.regions, other.regions, strict=True):
            assert_same(region, other_region)
    assert [place[v] for v in found.inputs] == [other_place[v] for v in wanted.inputs]
    assert [place[v] for v in found.outputs] == [other_place[v] for v in wanted.outputs]
    assert [(place[s], place[v]) for s, v in found.writes.items()] \
        == [(other_place[s], other_place[v]) for s, v in wanted.writes.items()]


def assert_round_trip(graph: Graph) -> None:
    text = print_graph(graph)
    again = parse(text)
    assert_same(again, graph)
    assert print_graph(again) == text
    assert structural_hash(again) == structural_hash(graph)


@pytest.mark.parametrize("make", BY_HAND)
def test_a_graph_comes_back(make: Any) -> None:
    assert_round_trip(make())


def test_every_sample_of_the_registry_comes_back() -> None:
    for name, graph in of_registry():
        try:
            assert_round_trip(graph)
        except Exception as error:
            raise AssertionError(f"sample {name}: {error}\n{graph}") from error


def test_str_of_a_graph_is_its_text() -> None:
    graph = training_step()
    assert str(graph) == print_graph(graph)


def test_text_reads_as_promised() -> None:
    assert print_graph(training_step()) == '''\
graph @step {
  %0 = input arg "x" : f32[8,4]
  %1 = input state "fc.weight" : f32[4,3]
  %2 = input scalar "lr" : f64[]
  %3 = matmul(%0, %1) : f32[8,3]  loc(#0)
  %4 = relu(%3) : f32[8,3]  loc(#0)
  %5 = sum(%4, dims=(0, 1)) : f32[]  loc(#0)
  %6 = constant(value=f32[] 1.0) : f32[]  loc(#0)
  %7 = broadcast(%6, shape=(8, 3), dims=()) : f32[8,3]  backward loc(#0)
  %8 = constant(value=f32[] 0.0) : f32[]  backward loc(#0)
  %9 = le(%4, %8) : bool[8,3]  backward loc(#0)
  %10 = constant(value=f32[] 0.0) : f32[]  backward loc(#0)
  %11 = where(%9, %10, %7) : f32[8,3]  backward loc(#0)
  %12 = permute(%1, dims=(1, 0)) : f32[3,4]  backward loc(#0)
  %13 = matmul(%11, %12) : f32[8,4]  backward loc(#0)
  %14 = permute(%0, dims=(1, 0)) : f32[4,8]  backward loc(#0)
  %15 = matmul(%14, %11) : f32[4,3]  backward loc(#0)
  %16 = cast(%2, dtype=f32) : f32[]  backward loc(#1)
  %17 = mul(%15, %16) : f32[4,3]  backward loc(#1)
  %18 = sub(%1, %17) : f32[4,3]  backward loc(#1)
  write %18 to %1
  return %5
}
#0 = loc "train.py":12 "forward"
#1 = loc "pkg/optim \\"odd\\".py":7
'''


def test_paths_are_relative_in_text() -> None:
    graph = Graph()
    b = Builder(graph)
    for file in (os.path.join(os.getcwd(), "sub", "a.py"), os.path.join(os.sep, "elsewhere", "b.py")):
        with b.at(Location(file, 1)):
            graph.outputs.append(b.scalar(1.0, dt.f32))
    text = print_graph(graph)
    assert f'"{os.path.join("sub", "a.py")}":1' in text and '"b.py":1' in text
    assert os.getcwd() not in text and "elsewhere" not in text


def test_comments_and_layout_do_not_matter() -> None:
    text = 'graph @main { // a comment\n %7=input arg "x":f32[2] %3 = neg ( %7 , ) : f32[2]\n\n return %3, }'
    assert print_graph(parse(text)) == \
        'graph @main {\n  %0 = input arg "x" : f32[2]\n  %1 = neg(%0) : f32[2]\n  return %1\n}\n'


@register("every_kind")
@dataclass(frozen=True)
class EveryKind(Op):
    """An op for these tests only: attributes of any kind, no operands, no results."""

    a: Any
    b: Any = 1.0
    c: Any = (1, (2.0, True), ())

    def infer(self, *operands: TensorType) -> tuple[TensorType, ...]:
        return ()


OPS.pop("every_kind")                       # other tests walk the registry


@pytest.fixture
def every_kind(monkeypatch: pytest.MonkeyPatch) -> type[EveryKind]:
    monkeypatch.setitem(OPS, "every_kind", EveryKind)
    return EveryKind


KINDS = (0, -3, 2**70, True, False, None, 0.0, -0.0, 1.0, 0.1, 1e300, -5e-324, math.inf, -math.inf, math.nan, ODD_NAN,
         "", 'a "b"\n\\é %0 // #1', dt.f32, dt.bool_, Dim("B"), Dim("B") * -1, 3 - Dim("nan"), Dim("f32"),
         Dim("f32") * Dim("f32") + Dim("inf") + Dim("x"), Dim("true") * -1,
         2 * Dim("B") * Dim("T") + Dim("B") * Dim("B") - 7, (), (1,), (1, 2), ((1, 1), ((0.5,), ("x", None))),
         (Dim("B"), 4), (True, 1, 1.0), typed("f32[B,2]"), typed("i64[]@cuda:1"),
         ops.literal([1.0, math.nan], dt.bf16), ops.literal(np.arange(40), dt.i64), ops.literal(True, dt.bool_))


@pytest.mark.parametrize("value", KINDS, ids=repr)
def test_every_kind_of_attribute_comes_back(value: Any, every_kind: type[EveryKind]) -> None:
    graph = Graph()
    graph.append(every_kind(value, (value,)), types=())
    assert_round_trip(graph)


def test_attributes_equal_to_their_default_are_left_out(every_kind: type[EveryKind]) -> None:
    graph = Graph()
    graph.append(every_kind(1), types=())
    graph.append(every_kind(1, 1, (1, (2.0, 1), ())), types=())        # 1 == 1.0 == True, and yet not the same
    assert print_graph(graph).splitlines()[1:3] == ["  every_kind(a=1)", "  every_kind(a=1, b=1, c=(1, (2.0, 1), ()))"]
    assert_round_trip(graph)


def test_numpy_numbers_in_attributes_print_as_python_ones(every_kind: type[EveryKind]) -> None:
    graph = Graph()
    graph.append(every_kind(np.int64(3), np.float32(0.5)), types=())
    assert "every_kind(a=3, b=0.5)" in print_graph(graph)


def test_a_list_is_no_attribute(every_kind: type[EveryKind]) -> None:
    graph = Graph()
    graph.append(every_kind([1]), types=())
    with pytest.raises(TypeError, match=r"\[1\] of type list can't be an attribute"):
        print_graph(graph)


def test_long_constants_stand_once_at_the_end() -> None:
    graph = Graph()
    b = Builder(graph)
    graph.outputs = [b.constant(np.arange(100.0), dt.f64), b.constant(np.arange(100.0), dt.f64)]
    lines = print_graph(graph).splitlines()
    assert lines[1] == "  %0 = constant(value=f64[100] #c0) : f64[100]"
    assert lines[2] == "  %1 = constant(value=f64[100] #c0) : f64[100]"
    assert [line[:16] for line in lines[5:]] == ["#c0 = f64[100] \""]


def test_the_bits_of_an_odd_nan_survive() -> None:
    graph = Graph()
    graph.outputs = [Builder(graph).constant(np.array([0x7FC1], np.uint16), dt.bf16)]
    (found,), _ = interpret(parse(print_graph(graph)), [])
    assert found.tolist() == [0x7FC1]
    assert struct.pack("<d", ODD_NAN) != struct.pack("<d", math.nan)


def test_a_symbolic_dim_goes_through_infer_print_parse_and_verify() -> None:
    batch = Dim("B")
    graph = Graph()
    b = Builder(graph)
    x = graph.add_input(TensorType((batch, 4), dt.f32), "x")
    w = graph.add_input(typed("f32[4,3]"), "w")
    y = b.matmul(b.relu(x), w)
    spread = b.broadcast(b.sum(y, (1,)), (2 * batch, batch), (1,))
    graph.outputs = [b.reshape(spread, (batch * batch, 2))]
    assert y.shape == (batch, 3)
    assert "%6 = reshape(%5, shape=(B*B, 2)) : f32[B*B,2]" in print_graph(graph)
    verify(graph)
    assert_round_trip(graph)
    assert parse(print_graph(graph)).outputs[0].shape == (batch * batch, 2)


def test_a_node_prints_as_one_line() -> None:
    graph = training_step()
    assert print_node(graph.outputs[0].node).startswith("%0 = sum(")


def test_a_chain_of_ten_thousand_ops_comes_back() -> None:
    graph = Graph()
    b = Builder(graph)
    value = graph.add_input(typed("f32[2]"), "x")
    for _ in range(10_000):
        value = b.sin(value)
    graph.outputs = [value]
    text = print_graph(graph)
    assert print_graph(parse(text)) == text


@pytest.mark.parametrize("text", ["", "graph", "graph @main {", "graph @main { return %0 }", "@", "\0"])
def test_what_is_no_graph_is_a_parse_error(text: str) -> None:
    with pytest.raises(ParseError, match=r"line 1, column \d+: "):
        parse(text)


def test_no_prefix_of_a_text_crashes_the_parser() -> None:
    text = print_graph(training_step())
    for end in range(0, len(text) - 1, 7):
        with pytest.raises(ParseError):
            parse(text[:end])


def test_what_is_known_of_sizes_stands_at_the_head_and_comes_back() -> None:
    batch, length = Dim("B"), Dim("T")
    facts = Facts({"B": 32, "T": 10}, {"B": (1, 512), "T": (1, LARGEST)}, where=lambda: "train.py:14")
    graph = Graph()
    with assuming(facts):
        x = graph.add_input(TensorType((batch, length), dt.f32), "x")
        assert batch > 16 and length != 3 and batch * length // 3 > 70 and not batch == length
        graph.outputs = [Builder(graph).exp(x)]
    graph.facts = facts
    text = print_graph(graph)
    assert text.splitlines()[1:6] == [
        "  sizes B = 32 from 1 to 512, T = 10 from 1",
        '  given B+-17 >= 0 "train.py:14"',
        '  given T+-3 != 0 "train.py:14"',
        '  given ((B*T)/3)+-71 >= 0 "train.py:14"',
        '  given -1*T+B != 0 "train.py:14"']
    again = parse(text)
    assert print_graph(again) == text and text_key(again) == text_key(graph)
    assert again.facts is not None and again.facts.ranges == facts.ranges
    assert again.facts.broken({"B": 20, "T": 20}) == facts.broken({"B": 20, "T": 20}) is not None
    assert print_graph(clone(again)[0]) == text


@pytest.mark.parametrize("line", [
    "sizes", "sizes B = 4", "sizes B = 4 from 5", "sizes B = 4 from 1 to 3", "sizes B = 4 from 1, B = 4 from 1",
    "sizes B = 4 from 1 given 3 >= 0", "sizes B = 4 from 1 given B+-5 >= 0", "sizes B = 4 from 1 given T >= 0",
    "sizes B = 4 from 1 given B >= 1", "sizes B = 4 from 1 given B = 0", "given B >= 0",
    "sizes B = 4 from 1 to 99999999999999999999"])
def test_what_is_no_knowledge_of_sizes_is_a_parse_error(line: str) -> None:
    with pytest.raises(ParseError):
        parse(f"graph @main {{ {line} return }}")
