"""Nodes with regions: what they mean, that text and copies keep them, and that effects stay in order."""
from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import pytest

from flambeau.errors import GraphError
from flambeau.ir import ops
from flambeau.ir.builder import Builder
from flambeau.ir.graph import Graph, Node, clone
from flambeau.ir.graph.hash import structural_hash
from flambeau.ir.graph.interpreter import interpret
from flambeau.ir.graph.parser import parse
from flambeau.ir.graph.rounding import Bounded, bounded
from flambeau.ir.graph.verifier import verify
from flambeau.ir.op import OPS, Effect, Op, register_instance
from flambeau.ir.types import TensorType
from flambeau.passes.graph.autodiff import vjp
from flambeau.passes.graph.cse import cse
from flambeau.passes.graph.dce import dce
from flambeau.passes.graph.decompose import decompose
from flambeau.passes.graph.fold import fold
from flambeau.passes.graph.simplify import simplify
from tests.ir.graph_samples import control, custom_square, typed


def test_a_loop_repeats_its_body_and_a_cond_in_it_chooses() -> None:
    x = np.array([1, 0], np.float32)
    outputs, _ = interpret(control(), [np.array(5), x, np.array(0.5)])
    assert [a.tolist() for a in outputs] == [[8.0, 0.0], 5]         # 1 2 4 8 4 8: above 4 it is halved


def test_a_loop_whose_condition_never_holds_gives_what_it_was_given() -> None:
    outputs, _ = interpret(control(), [np.array(0), np.array([1, 2], np.float32), np.array(0.5)])
    assert [a.tolist() for a in outputs] == [[1.0, 2.0], 0]


def test_the_region_that_is_not_chosen_raises_nothing() -> None:
    graph = parse("""graph @main {
      %0 = input arg "p" : bool[]
      %1 = input arg "i" : i64[]
      %2 = cond(%0, %1) : i64[] {
        graph @true {
          %0 = input arg "i" : i64[]
          %1 = constant(value=i64[] 7) : i64[]
          %2 = floor_divide(%1, %0) : i64[]
          return %2
        }
        graph @false {
          %0 = input arg "i" : i64[]
          return %0
        }
      }
      return %2
    }""")
    assert interpret(graph, [np.array(False), np.array(0)])[0][0] == 0
    assert interpret(graph, [np.array(True), np.array(2)])[0][0] == 3


def test_what_an_uncertain_predicate_decides_has_no_bound() -> None:
    graph = parse("""graph @main {
      %0 = input arg "x" : f32[]
      %1 = constant(value=f32[] 1.0) : f32[]
      %2 = gt(%0, %1) : bool[]
      %3 = cond(%2) : f32[] {
        graph @true {
          %0 = constant(value=f32[] 1.0) : f32[]
          return %0
        }
        graph @false {
          %0 = constant(value=f32[] -1.0) : f32[]
          return %0
        }
      }
      return %3
    }""")
    (result,) = graph.outputs
    near = Bounded(np.array(1.0, np.float32), np.array(1e-6))
    assert np.isinf(bounded(graph, [near])[result].error)
    assert bounded(graph, [Bounded(np.array(3.0, np.float32), np.array(1e-6))])[result].error is None


def test_a_copy_has_regions_of_its_own() -> None:
    graph = control()
    copied = clone(graph)[0]
    loop = next(node for node in copied.toposort() if node.regions)
    loop.regions[1].outputs[1] = loop.regions[1].inputs[1]
    assert str(graph) == str(control()) and structural_hash(copied) != structural_hash(graph)


def test_a_graph_says_that_it_has_no_derivative_of_a_loop_yet() -> None:
    graph = control()
    with pytest.raises(NotImplementedError, match=r"while_loop has no derivative in a graph yet \(it stands at train.py"):
        vjp(graph, graph.outputs[:1], graph.outputs[:1], [graph.inputs[1]])


def test_append_asks_the_op_what_its_regions_give() -> None:
    graph = control()
    loop = next(node for node in graph.toposort() if node.regions)
    made = graph.append(loop.op, loop.operands, regions=tuple([clone(r)[0] for r in loop.regions]))
    assert [v.type for v in made.results] == [v.type for v in loop.results]
    verify(graph)


# -- effects ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Tell(Op):
    """Takes x and gives nothing; whoever listens is told."""

    name = "tell"
    effect = Effect.IO

    def infer(self, *operands: TensorType) -> tuple[TensorType, ...]:
        return ()

    def evaluate(self, *operands: np.ndarray) -> tuple[np.ndarray, ...]:
        TOLD.append(float(operands[0]))
        return ()


@dataclass(frozen=True)
class TellTwice(Tell):
    """Decomposes into two."""

    name = "tell_twice"

    def decompose(self, b: Builder, operands: object) -> tuple[()]:
        (x,) = operands  # type: ignore[misc,attr-defined]
        b.emit(Tell(), x)
        b.emit(Tell(), b.neg(x))
        return ()


TOLD: list[float] = []


@pytest.fixture
def told() -> Iterator[list[float]]:
    """What effects told, in order. The ops are known as long as the test runs."""
    register_instance(Tell())
    register_instance(TellTwice())
    TOLD.clear()
    yield TOLD
    del OPS["tell"], OPS["tell_twice"]


EFFECTS = """graph @effects {
  %0 = input arg "p" : bool[]
  %1 = input arg "x" : f32[]
  %2 = constant(value=f32[] 2.0) : f32[]
  %3 = mul(%1, %2) : f32[]
  tell(%1)
  %4 = cond(%0, %1, %3) : f32[] {
    graph @true {
      %0 = input arg "x" : f32[]
      %1 = input arg "y" : f32[]
      tell(%1)
      tell(%0)
      return %0
    }
    graph @false {
      %0 = input arg "x" : f32[]
      %1 = input arg "y" : f32[]
      tell_twice(%1)
      return %1
    }
  }
  tell_twice(%3)
  %5 = constant(value=bool[] true) : bool[]
  cond(%5, %1) {
    graph @true {
      %0 = input arg "x" : f32[]
      %1 = exp(%0) : f32[]
      %2 = log(%1) : f32[]
      tell(%0)
      return
    }
    graph @false {
      %0 = input arg "x" : f32[]
      return
    }
  }
  tell(%1)
  return
}
"""
PASSES: list[Callable[[Graph], Graph]] = [simplify, fold, cse, dce, decompose]


def test_passes_keep_effects_and_their_order(told: list[float]) -> None:
    for predicate in (True, False):
        inputs = [np.array(predicate), np.array(3.0, np.float32)]
        graph = parse(EFFECTS)
        interpret(graph, inputs)
        twice = [6.0]
        expected = [3.0, *([6.0, 3.0] if predicate else twice), *twice, 3.0, 3.0]
        assert told == expected
        for step in (*PASSES, *PASSES):
            graph = step(graph)
            verify(graph)
            assert str(parse(str(graph))) == str(graph)
            told.clear()
            interpret(graph, inputs)
            found = [number for number in told if number > 0]
            assert found == expected, step.__name__
        told.clear()


def test_an_unused_node_whose_region_has_effects_stays(told: list[float]) -> None:
    graph = dce(parse(EFFECTS))
    kept = [node for node in graph.toposort() if node.regions]
    assert [len(node.results) for node in kept] == [0, 0] and len(told) == 0
    assert [len(node.operands) for node in kept] == [3, 2]


def test_effects_stay_in_order_whatever_the_order_of_data(told: list[float]) -> None:
    """A node gets an operand that is younger than a later effect."""
    graph = parse(EFFECTS)
    first = next(node for node in graph.toposort() if node.op.name == "tell")
    graph.set_operand(first, 0, Builder(graph).exp(graph.inputs[1]))
    effects = [node for node in graph.toposort() if not node.is_pure]
    assert effects[0] is first and [node.op.name for node in effects] == ["tell", "cond", "tell_twice", "cond", "tell"]
    verify(graph)


def test_the_hash_knows_the_order_of_effects(told: list[float]) -> None:
    text = 'graph @m {{ %0 = input arg "x" : f32[] %1 = input arg "y" : f32[] tell({}) tell({}) return }}'
    assert structural_hash(parse(text.format("%0", "%1"))) != structural_hash(parse(text.format("%1", "%0")))


def test_what_takes_the_place_of_a_node_comes_at_its_place() -> None:
    graph = Graph()
    x = graph.add_input(typed("f32[2]"), "x")
    b = Builder(graph)
    nodes: list[Node] = [b.exp(x).node, b.sin(x).node]
    made = [graph.append(op, [x], at=nodes[0]) for op in (ops.neg, ops.cos)]
    assert [node for node in graph.toposort() if node.operands] == [nodes[0], *made, nodes[1]]
    op, regions = custom_square(x.type)
    inlined = graph.inline(regions[0], {regions[0].inputs[0]: x}, at=made[0])
    assert graph.toposort().index(inlined[regions[0].outputs[0]].node) < graph.toposort().index(nodes[1])
    verify(graph)
    with pytest.raises(AssertionError, match="exp takes no regions"):
        graph.append(ops.exp, [x], regions=(regions[0],))
    assert op.roles == ("forward", "backward")


def test_a_region_may_not_read_the_graph_around_it() -> None:
    graph = control()
    loop = next(node for node in graph.toposort() if node.regions)
    loop.regions[1].outputs[0] = graph.inputs[0]
    with pytest.raises(GraphError, match="is not in the graph"):
        verify(graph)
