"""Gradients of graphs against finite differences in f64, through the interpreter."""
from __future__ import annotations

import random
from collections.abc import Callable, Sequence

import numpy as np
import pytest

from flambeau.ir import dtypes as dt
from flambeau.ir import ops
from flambeau.ir.builder import Builder
from flambeau.ir.graph import Graph, Location, Value
from flambeau.ir.graph.interpreter import interpret
from flambeau.ir.graph.parser import parse
from flambeau.ir.graph.text import print_graph
from flambeau.ir.graph.verifier import verify
from flambeau.passes.graph.autodiff import vjp
from flambeau.passes.graph.decompose import decompose
from flambeau.passes.graph.simplify import simplify
from tests.ir.graph_samples import custom_square, typed

STEP = 1e-5
# Central differences: truncation STEP**2 * third derivative (order 10), rounding eps * value / STEP.
ATOL = 10 * (10 * STEP**2 + 2.0**-52 * 10 / STEP)

Function = Callable[..., Value]


def built(function: Function, types: Sequence[str]) -> tuple[Graph, list[Value], Value]:
    graph = Graph()
    inputs = [graph.add_input(typed(t), f"x{i}") for i, t in enumerate(types)]
    value = function(Builder(graph, Location("f.py", 1)), *inputs)
    return graph, inputs, value


def scalarized(graph: Graph, value: Value, seed: int = 3) -> Value:
    """The value weighted by random numbers and summed: one derivative tests all elements."""
    b = Builder(graph)
    weights = b.constant(np.random.default_rng(seed).uniform(-1, 1, value.shape), dt.f64)
    return b.sum(b.mul(value, weights), range(len(value.shape)))


def arrays_for(inputs: Sequence[Value], low: float, high: float) -> list[np.ndarray]:
    rng = np.random.default_rng(11)
    return [np.asarray(rng.uniform(low, high, v.shape)) if v.dtype.is_floating_point
            else np.asarray(rng.integers(0, 2, v.shape)).astype(v.dtype.storage) for v in inputs]


def numeric(graph: Graph, arrays: Sequence[np.ndarray], position: int, output: int) -> np.ndarray:
    """d output / d input by central differences."""
    gradient = np.zeros_like(arrays[position])
    for place in np.ndindex(gradient.shape):
        ends = []
        for sign in (1, -1):
            moved = [a.copy() for a in arrays]
            moved[position][place] += sign * STEP
            ends.append(interpret(graph, moved)[0][output])
        gradient[place] = (ends[0] - ends[1]) / (2 * STEP)
    return gradient


def check_gradients(function: Function, types: Sequence[str], low: float = -1.5, high: float = 1.5) -> None:
    """First derivatives of all floating-point inputs, and second ones of their weighted sum."""
    graph, inputs, value = built(function, types)
    total = scalarized(graph, value)
    floats = [v for v in inputs if v.dtype.is_floating_point]
    first = vjp(graph, [total], [Builder(graph).scalar(1.0, dt.f64)], floats)
    assert [g.type if g else None for g in first] == [v.type for v in floats]
    weighted = [scalarized(graph, g, seed) for seed, g in enumerate(first) if g is not None]
    slope = weighted[0]
    for part in weighted[1:]:
        slope = Builder(graph).add(slope, part)
    second = vjp(graph, [slope], [Builder(graph).scalar(1.0, dt.f64)], floats)
    zeros = [Builder(graph).zeros(v.type) for v in floats]
    graph.outputs = [total, slope, *(g for g in first if g is not None),
                     *(z if g is None else g for g, z in zip(second, zeros, strict=True))]
    verify(graph)
    arrays = arrays_for(inputs, low, high)
    found = interpret(graph, arrays)[0]
    for number, x in enumerate(floats):
        for output, gradient in ((0, found[2 + number]), (1, found[2 + len(floats) + number])):
            expected = numeric(graph, arrays, inputs.index(x), output)
            scale = max(1.0, float(np.abs(expected).max(initial=0)))
            np.testing.assert_allclose(gradient, expected, rtol=0, atol=ATOL * scale,
                                       err_msg=f"derivative {output + 1} by input {number}\n{graph}")


# -- what flows where -------------------------------------------------------------------------------------------------

FUNCTIONS: dict[str, tuple[Function, tuple[str, ...]]] = {
    "product": (lambda b, x, y: b.mul(x, y), ("f64[2,3]", "f64[2,3]")),
    "rank_0_beside_shaped": (lambda b, x, s: b.div(b.mul(s, x), b.exp(s)), ("f64[2,3]", "f64[]")),
    "both_rank_0": (lambda b, s, t: b.mul(b.sin(s), t), ("f64[]", "f64[]")),
    "operand_repeated": (lambda b, x: b.mul(x, x), ("f64[3]",)),
    "operand_repeated_thrice": (lambda b, x: b.where(b.gt(x, b.scalar(0.0, x)), x, b.mul(x, x)), ("f64[3]",)),
    "sum_of_itself": (lambda b, x: b.add(b.exp(x), b.exp(x)), ("f64[3]",)),
    "difference_of_itself": (lambda b, x: b.sub(x, x), ("f64[3]",)),
    "matmul_of_itself": (lambda b, x: b.matmul(x, x), ("f64[3,3]",)),
    "batched_matmul": (lambda b, x, y: b.matmul(x, y), ("f64[2,3,2]", "f64[2,2,4]")),
    "concat_with_itself": (lambda b, x: b.emit(ops.Concat(0), x, b.sin(x), x), ("f64[2,2]",)),
    "two_paths": (lambda b, x: b.mul(b.exp(x), b.cos(b.mul(x, b.scalar(2.0, x)))), ("f64[4]",)),
    "broadcast_and_sum": (lambda b, x: b.sum(b.mul(b.broadcast(x, (4, 3), (1,)), b.broadcast(x, (4, 3), (1,))), (0,)),
                          ("f64[3]",)),
    "broadcast_of_size_1": (lambda b, x, y: b.mul(b.broadcast(x, (4, 3), (0, 1)), y), ("f64[1,3]", "f64[4,3]")),
    "views": (lambda b, x: b.reshape(b.emit(ops.Slice((1, 0), (3, 3), (1, 2)), b.permute(b.sin(x), (1, 0))), (4,)),
              ("f64[3,4]",)),
    "pad_flip_update": (lambda b, x, y: b.emit(ops.UpdateSlice((1,), (2,)), b.emit(ops.Pad((1,), (2,), (1,)), b.exp(x)),
                                               b.emit(ops.Flip((0,)), y)), ("f64[3]", "f64[2]")),
    "reductions": (lambda b, x: b.mul(b.amax(x, (1,)), b.mul(b.emit(ops.Prod((1,)), x), b.sum(x, (1,)))),
                   ("f64[2,3]",)),
    "one_result_of_three": (lambda b, x: b.emit(ops.Normalize((1,), 1e-2), x)[2], ("f64[2,4]",)),
    "all_three_results": (lambda b, x: _combined(b, b.emit(ops.Normalize((1,), 1e-2), x)), ("f64[2,4]",)),
    "softmax": (lambda b, x: b.log(b.emit(ops.Softmax(1), x)), ("f64[2,3]",)),
    "power_of_its_own": (lambda b, x: b.pow(b.exp(x), x), ("f64[3]",)),
    "cast_there_and_back": (lambda b, x: b.cast(b.cast(b.exp(x), dt.f64), dt.f64), ("f64[2]",)),
    "chosen_by_an_input": (lambda b, p, x, y: b.where(p, b.exp(x), b.mul(x, y)), ("bool[4]", "f64[4]", "f64[4]")),
    "gathered": (lambda b, i, x: b.emit(ops.Take(0), b.mul(x, x), i), ("i64[5]", "f64[2,2]")),
}


def _combined(b: Builder, parts: Sequence[Value]) -> Value:
    y, mean, var = parts
    return b.add(b.sum(b.mul(y, b.exp(y)), (1,)), b.mul(b.sin(mean), b.exp(var)))


@pytest.mark.parametrize("name", FUNCTIONS)
def test_gradients_agree_with_finite_differences(name: str) -> None:
    check_gradients(*FUNCTIONS[name])


def test_gradients_survive_decomposition_and_simplification() -> None:
    for function, types in FUNCTIONS.values():
        graph, inputs, value = built(function, types)
        total = scalarized(graph, value)
        floats = [v for v in inputs if v.dtype.is_floating_point]
        graph.outputs = [g for g in vjp(graph, [total], [Builder(graph).scalar(1.0, dt.f64)], floats) if g is not None]
        arrays = arrays_for(inputs, -1.5, 1.5)
        before = interpret(graph, arrays)[0]
        simplify(decompose(simplify(graph)))
        verify(graph)
        for a, b in zip(interpret(graph, arrays)[0], before, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-12)


# -- where nothing flows ----------------------------------------------------------------------------------------------


def gradients(function: Function, types: Sequence[str]) -> list[Value | None]:
    graph, inputs, value = built(function, types)
    return vjp(graph, [value], [Builder(graph).full(value.type, 1.0)], inputs)


def test_an_unused_input_has_no_gradient() -> None:
    used, unused = gradients(lambda b, x, y: b.exp(x), ("f64[2]", "f64[2]"))
    assert used is not None and unused is None


def test_an_integer_input_has_no_gradient() -> None:
    found = gradients(lambda b, i, x: b.emit(ops.Take(0), x, i), ("i64[2]", "f64[3]"))
    assert found[0] is None and found[1] is not None


def test_nothing_flows_through_integers_tests_and_stop_gradient() -> None:
    assert gradients(lambda b, x: b.cast(b.cast(x, dt.i64), dt.f64), ("f64[2]",)) == [None]
    assert gradients(lambda b, x: b.cast(b.gt(x, b.scalar(0.0, x)), dt.f64), ("f64[2]",)) == [None]
    assert gradients(lambda b, x: b.stop_gradient(x), ("f64[2]",)) == [None]


def test_gradient_of_steps_is_zero() -> None:
    for name in ("floor", "ceil", "trunc", "round", "sign"):
        (found,) = gradients(lambda b, x, name=name: getattr(b, name)(x), ("f64[2]",))
        assert found is not None and found.node.op.name == "broadcast", name


def test_stop_gradient_stops_one_path_only() -> None:
    graph, (x,), value = built(lambda b, x: b.mul(x, b.stop_gradient(x)), ("f64[2]",))
    (g,) = vjp(graph, [value], [Builder(graph).full(value.type, 1.0)], [x])
    assert g is not None
    graph.outputs = [g]
    np.testing.assert_array_equal(interpret(graph, [np.array([3.0, -2.0])])[0][0], [3.0, -2.0])


def test_nodes_that_the_wanted_inputs_do_not_reach_are_not_differentiated() -> None:
    graph = Graph()
    b = Builder(graph)
    x, y = (graph.add_input(typed("f64[2]"), label) for label in "xy")
    value = b.mul(b.exp(x), b.sin(b.cos(y)))
    vjp(graph, [value], [b.full(value.type, 1.0)], [x])
    assert {n.op.name for n in graph.toposort() if n.phase == "backward"} == {"mul"}


# -- seeds ------------------------------------------------------------------------------------------------------------


def evaluated(graph: Graph, value: Value | None, *arrays: np.ndarray) -> list[float]:
    assert value is not None
    graph.outputs = [value]
    verify(graph)
    return interpret(graph, arrays)[0][0].tolist()


def test_cotangents_of_one_output_given_twice_add_up() -> None:
    graph, (x,), value = built(lambda b, x: b.mul(x, x), ("f64[2]",))
    one, two = (Builder(graph).full(value.type, c) for c in (1.0, 2.0))
    (g,) = vjp(graph, [value, value], [one, two], [x])
    assert evaluated(graph, g, np.array([1.0, 5.0])) == [6.0, 30.0]


def test_an_output_without_a_cotangent_contributes_nothing() -> None:
    graph, (x,), value = built(lambda b, x: b.mul(x, x), ("f64[2]",))
    b = Builder(graph)
    other = b.exp(value)
    (g,) = vjp(graph, [other, value], [None, b.full(value.type, 1.0)], [x])
    assert evaluated(graph, g, np.array([1.0, 5.0])) == [2.0, 10.0]


def test_an_output_that_another_output_reads() -> None:
    graph, (x,), y = built(lambda b, x: b.mul(x, x), ("f64[2]",))
    b = Builder(graph)
    z = b.mul(y, b.scalar(10.0, y))
    (g,) = vjp(graph, [y, z], [b.full(y.type, 1.0)] * 2, [x])
    assert evaluated(graph, g, np.array([1.0, 5.0])) == [22.0, 110.0]


def test_gradients_of_values_in_the_middle_and_of_the_output_itself() -> None:
    graph, (x,), y = built(lambda b, x: b.mul(x, x), ("f64[2]",))
    b = Builder(graph)
    z = b.mul(y, y)
    seed = b.full(z.type, 1.0)
    by_y, by_z, by_x = vjp(graph, [z], [seed], [y, z, x])
    assert by_z is seed
    assert evaluated(graph, by_y, np.array([1.0, 5.0])) == [2.0, 50.0]
    assert evaluated(graph, by_x, np.array([1.0, 5.0])) == [4.0, 500.0]


def test_a_wanted_input_that_is_an_output() -> None:
    graph = Graph()
    x = graph.add_input(typed("f64[2]"), "x")
    seed = Builder(graph).full(x.type, 1.0)
    assert vjp(graph, [x], [seed], [x]) == [seed]


# -- marks, types, size -----------------------------------------------------------------------------------------------


def test_backward_nodes_are_marked_and_carry_the_line_they_differentiate() -> None:
    graph = Graph()
    b = Builder(graph)
    x = graph.add_input(typed("f64[2]"), "x")
    with b.at(Location("a.py", 1)):
        y = b.exp(x)
    with b.at(Location("a.py", 2)):
        z = b.sin(y)
    seed = b.full(z.type, 1.0)
    count = len(graph)
    vjp(graph, [z], [seed], [x])
    made = [(n.op.name, n.phase, str(n.loc)) for n in graph.toposort()[count:]]
    assert made == [("cos", "backward", "a.py:2"), ("mul", "backward", "a.py:2"), ("mul", "backward", "a.py:1")]


@pytest.mark.parametrize("dtype", ["f16", "bf16", "f32", "f64"])
def test_gradients_have_the_types_of_the_inputs(dtype: str) -> None:
    def function(b: Builder, x: Value, w: Value, s: Value) -> Value:
        y, _, _ = b.emit(ops.Normalize((1,), 1e-3), b.matmul(x, w))
        return b.sum(b.emit(ops.LogSoftmax(1), b.gelu(b.mul(y, s))), (0, 1))

    types = (f"{dtype}[2,3]", f"{dtype}[3,4]", f"{dtype}[]")
    assert [str(g.type) for g in gradients(function, types) if g] == list(types)


def test_a_symbolic_batch_size_goes_through() -> None:
    def function(b: Builder, x: Value, w: Value, bias: Value) -> Value:
        return b.relu(b.add(b.matmul(x, w), b.broadcast(bias, (x.shape[0], 4), (1,))))

    graph, inputs, value = built(function, ("f64[B,3]", "f64[3,4]", "f64[4]"))
    found = vjp(graph, [value], [Builder(graph).full(value.type, 1.0)], inputs)
    assert [str(g.type) for g in found if g] == ["f64[B,3]", "f64[3,4]", "f64[4]"]
    verify(graph)


def test_a_chain_of_ten_thousand_ops_is_differentiated() -> None:
    graph = Graph()
    b = Builder(graph)
    x = value = graph.add_input(typed("f64[]"), "x")
    for _ in range(10_000):
        value = b.mul(value, b.scalar(1.0001, value)) if len(graph) % 2 else b.neg(value)
    (g,) = vjp(graph, [value], [b.scalar(1.0, value)], [x])
    graph.outputs = [value]
    (y,) = interpret(graph, [np.array(1.0)])[0]
    np.testing.assert_allclose(evaluated(graph, g, np.array(1.0)), y, rtol=1e-10)    # linear: dy/dx is y(1)


# -- custom ops -------------------------------------------------------------------------------------------------------


def with_custom(b: Builder, x: Value) -> Value:
    op, regions = custom_square(x.type)
    return b.sin(b.emit(op, b.exp(x), regions=regions))


def test_a_custom_op_is_differentiated_by_its_backward_region() -> None:
    check_gradients(with_custom, ("f64[3]",))


def test_the_backward_region_is_what_counts_even_if_it_lies() -> None:
    forward, backward = Graph(), Graph()
    forward.outputs = [Builder(forward).exp(forward.add_input(typed("f64[2]")))]
    x, y, g = (backward.add_input(typed("f64[2]")) for _ in range(3))
    backward.outputs = [Builder(backward).mul(g, Builder(backward).scalar(7.0, g))]
    graph, (x,), value = built(lambda b, x: b.emit(ops.Custom("lie"), x, regions=(forward, backward)), ("f64[2]",))
    (gradient,) = vjp(graph, [value], [Builder(graph).full(value.type, 1.0)], [x])
    assert evaluated(graph, gradient, np.zeros(2)) == [7.0, 7.0]


def test_a_custom_op_of_several_operands_and_results() -> None:
    """(x, i, s) -> (x*s, x+s) with an integer operand that has no gradient; one result unread."""
    types = [typed(t) for t in ("f64[2]", "i64[2]", "f64[]")]
    forward, backward = Graph(), Graph()
    x, _, s = (forward.add_input(t) for t in types)
    b = Builder(forward)
    forward.outputs = [b.mul(x, s), b.add(x, s)]
    x, i, s, _, _, g, h = (backward.add_input(t) for t in [*types, *[types[0]] * 4])
    b = Builder(backward)
    backward.outputs = [b.add(b.mul(g, s), h), i, b.sum(b.add(b.mul(g, x), h), (0,))]

    def both(b: Builder, x: Value, i: Value, s: Value) -> Value:
        product, total = b.emit(ops.Custom("both"), x, i, s, regions=(forward, backward))
        return b.mul(product, b.exp(total))

    def first(b: Builder, x: Value, i: Value, s: Value) -> Value:
        return b.emit(ops.Custom("both"), x, i, s, regions=(forward, backward))[0]

    for function in (both, first):
        check_gradients(function, [str(t) for t in types])


def test_gradients_of_custom_ops_come_back_from_text() -> None:
    graph, (x,), value = built(with_custom, ("f64[3]",))
    graph.outputs = [value]
    again = parse(print_graph(graph))
    for g in (graph, again):
        g.outputs = [v for v in vjp(g, g.outputs, [Builder(g).full(value.type, 1.0)], g.inputs) if v]
    array = np.array([0.1, -0.4, 0.7])
    assert interpret(again, [array])[0][0].tolist() == interpret(graph, [array])[0][0].tolist()


# -- random functions -------------------------------------------------------------------------------------------------


def random_function(seed: int) -> Function:
    """Smooth ops of bounded values, put together at random; every value may be read often."""
    def function(b: Builder, *inputs: Value) -> Value:
        rng = random.Random(seed)
        values = list(inputs)
        for _ in range(rng.randint(3, 9)):
            x = rng.choice(values)
            match rng.randrange(6):
                case 0:
                    made = getattr(b, rng.choice(["sin", "tanh", "sigmoid", "erf", "silu", "gelu_tanh"]))(x)
                case 1:
                    y = rng.choice([v for v in values if v.shape in (x.shape, ())])
                    made = b.emit(rng.choice([ops.add, ops.mul, ops.sub]), x, y)
                case 2 if x.shape:
                    made = b.sum(x, [rng.randrange(len(x.shape))])
                case 3 if len(x.shape) < 3:
                    made = b.broadcast(x, (2, *x.shape), range(1, len(x.shape) + 1))
                case 4 if len(x.shape) == 2:
                    made = b.matmul(x, b.permute(x, (1, 0)))
                case 5 if x.shape:
                    made = b.emit(ops.Softmax(rng.randrange(len(x.shape))), x)
                case _:
                    made = b.cos(x)
            values.append(made)
        return values[-1]

    return function


@pytest.mark.parametrize("seed", range(30))
def test_gradients_of_random_functions(seed: int) -> None:
    graph, inputs, value = built(random_function(seed), ("f64[2,3]", "f64[]", "f64[3]"))
    floats = [v for v, g in zip(inputs, vjp(graph, [value], [Builder(graph).full(value.type, 1.0)], inputs),
                                strict=True) if g is not None]
    total = scalarized(graph, value)
    first = vjp(graph, [total], [Builder(graph).scalar(1.0, dt.f64)], floats)
    graph.outputs = [total, *(g for g in first if g is not None)]
    arrays = arrays_for(inputs, -1.0, 1.0)
    found = interpret(graph, arrays)[0]
    for x, gradient in zip(floats, found[1:], strict=True):
        expected = numeric(graph, arrays, inputs.index(x), 0)
        np.testing.assert_allclose(gradient, expected, rtol=0, atol=ATOL * max(1.0, float(np.abs(expected).max())),
                                   err_msg=f"seed {seed}\n{graph}")
