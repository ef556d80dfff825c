"""Equal hashes mean the same computation; what machine code can tell apart hashes apart."""
from __future__ import annotations

import math
import os
import subprocess
import sys

import numpy as np
import pytest

from flambeau.ir import dtypes as dt
from flambeau.ir import ops
from flambeau.ir.attributes import attribute_key
from flambeau.ir.builder import Builder
from flambeau.ir.dims import Dim
from flambeau.ir.graph import Graph, Location, clone
from flambeau.ir.graph.hash import node_key, structural_hash
from tests.ir.graph_samples import BY_HAND, ODD_NAN, custom_square, training_step, typed


def graph_of(text: str = "x", loc: Location | None = None, phase: str = "forward", op: str = "mul",
             kind: str = "arg", type: str = "f32[2]", constant: float = 2.0) -> Graph:
    """(x op constant) + x"""
    graph = Graph(name=f"graph of {text}")
    x = graph.add_input(typed(type), text, kind)  # type: ignore[arg-type]
    b = Builder(graph, loc, phase)
    graph.outputs = [b.add(getattr(b, op)(x, b.scalar(constant, x)), x)]
    return graph


def test_names_locations_and_phases_do_not_count() -> None:
    assert structural_hash(graph_of()) == structural_hash(graph_of("y", Location("a.py", 3), "backward"))


@pytest.mark.parametrize("change", [{"op": "sub"}, {"kind": "state"}, {"type": "f32[3]"}, {"type": "f64[2]"},
                                    {"constant": -2.0}], ids=str)
def test_ops_kinds_types_and_constants_count(change: dict[str, str]) -> None:
    assert structural_hash(graph_of()) != structural_hash(graph_of(**change))  # type: ignore[arg-type]


def test_zeros_of_either_sign_and_nans_of_other_bits_differ() -> None:
    hashes = {structural_hash(graph_of(type="f64[2]", constant=c)) for c in (0.0, -0.0, math.nan, ODD_NAN)}
    assert len(hashes) == 4


def test_a_nan_equals_itself() -> None:
    assert structural_hash(graph_of(constant=math.nan)) == structural_hash(graph_of(constant=math.nan))


def test_the_order_of_operands_counts() -> None:
    def graph(flipped: bool) -> Graph:
        made = Graph()
        x, y = (made.add_input(typed("f32[2]"), label) for label in "xy")
        made.outputs = [Builder(made).sub(*((y, x) if flipped else (x, y)))]
        return made

    assert structural_hash(graph(False)) != structural_hash(graph(True))


def test_the_order_of_independent_nodes_and_dead_nodes_do_not_count() -> None:
    def graph(first: str, second: str, dead: bool) -> Graph:
        made = Graph()
        x = made.add_input(typed("f32[2]"), "x")
        b = Builder(made)
        value_of = {name: getattr(b, name)(x) for name in (first, second)}
        if dead:
            b.cos(x)
        made.outputs = [b.add(value_of["sin"], value_of["exp"])]
        return made

    assert structural_hash(graph("sin", "exp", False)) == structural_hash(graph("exp", "sin", True))


def test_which_result_is_read_counts() -> None:
    def graph(index: int) -> Graph:
        made = Graph()
        x = made.add_input(typed("f32[2,3]"), "x")
        made.outputs = [Builder(made).emit(ops.Normalize((1,), 1e-5), x)[index]]
        return made

    assert structural_hash(graph(1)) != structural_hash(graph(2))


def test_outputs_and_writes_count() -> None:
    plain, written, unread = training_step(), training_step(), training_step()
    written.writes[written.inputs[1]] = written.inputs[1]
    unread.outputs = []
    assert len({structural_hash(g) for g in (plain, written, unread)}) == 3


def test_sharing_a_value_is_not_computing_it_twice() -> None:
    def graph(shared: bool) -> Graph:
        made = Graph()
        x = made.add_input(typed("f32[2]"), "x")
        b = Builder(made)
        y = b.exp(x)
        made.outputs = [b.add(y, y if shared else b.exp(x))]
        return made

    assert structural_hash(graph(True)) != structural_hash(graph(False))


def test_regions_count() -> None:
    def graph(factor: float) -> Graph:
        made = Graph()
        x = made.add_input(typed("f32[2]"), "x")
        op, (forward, backward) = custom_square(x.type)
        b = Builder(forward)
        forward.outputs = [b.mul(forward.outputs[0], b.scalar(factor, dt.f32))]
        made.outputs = [Builder(made).emit(op, x, regions=(forward, backward))]
        return made

    assert structural_hash(graph(1.0)) == structural_hash(graph(1.0)) != structural_hash(graph(1.5))


@pytest.mark.parametrize("make", BY_HAND)
def test_a_copy_has_the_same_hash(make) -> None:  # type: ignore[no-untyped-def]
    graph = make()
    assert structural_hash(clone(graph)[0]) == structural_hash(graph)


def test_the_hash_is_the_same_in_every_process() -> None:
    code = ("from tests.ir.graph_samples import training_step, literals\n"
            "from flambeau.ir.graph.hash import structural_hash\n"
            "print(structural_hash(training_step()), structural_hash(literals()))")
    found = {subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True,
                            env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": os.pathsep.join(sys.path)}).stdout
             for seed in ("1", "2")}
    assert len(found) == 1 and structural_hash(training_step()) in found.pop()


DISTINCT = (1, True, 1.0, 0, False, 0.0, -0.0, None, "1", "", "true", math.nan, ODD_NAN, math.inf, dt.f32, "f32",
            Dim("f32"), Dim("B"), 2 * Dim("B"), (), (1,), (True,), (1.0,), ((1,),), (1, 2), typed("f32[2]"),
            typed("f32[2]@cuda:0"), ops.literal(1.0, dt.f32), ops.literal([1.0], dt.f32), ops.literal(1.0, dt.f64))


def test_attribute_keys_tell_all_values_apart() -> None:
    assert len({attribute_key(value) for value in DISTINCT}) == len(DISTINCT)
    assert len({repr(attribute_key(value)) for value in DISTINCT}) == len(DISTINCT)


def test_attribute_keys_of_equal_values_are_equal() -> None:
    assert attribute_key(math.nan) == attribute_key(float("nan"))
    assert attribute_key(np.int64(3)) == attribute_key(3)
    assert attribute_key(Dim("B") + 1) == attribute_key(1 + Dim("B"))
    assert attribute_key(ops.literal([0.5], dt.f32)) == attribute_key(ops.literal(np.float32([0.5]), dt.f32))


def test_node_keys_are_equal_for_the_same_op_on_the_same_values() -> None:
    graph = Graph()
    b = Builder(graph)
    x = graph.add_input(typed("f32[2,2]"), "x")
    first, again, other = b.sum(x, (0,)), b.sum(x, (0,)), b.sum(x, (1,))
    assert node_key(first.node) == node_key(again.node) != node_key(other.node)
    assert node_key(b.exp(first).node) != node_key(b.exp(again).node)
    assert node_key(b.scalar(0.0, x).node) != node_key(b.scalar(-0.0, x).node)
