"""The meaning with error bounds: defined for every op, wide enough for rounding, narrow enough to see a wrong number."""
from __future__ import annotations

import numpy as np
import pytest

from flambeau.ir import dtypes as dt
from flambeau.ir.builder import Builder
from flambeau.ir.graph import Graph
from flambeau.ir.graph.interpreter import interpret
from flambeau.ir.graph.rounding import Bounded, bounded, difference
from flambeau.ir.op import OPS, Sample
from flambeau.ir.types import parse_type

SAMPLES = [(name, sample) for name, entry in OPS.items() for sample in entry.samples()]


def of_sample(sample: Sample) -> Graph:
    graph = Graph()
    graph.outputs = list(graph.append(sample.op, [graph.add_input(type) for type in sample.types]).results)
    return graph


@pytest.mark.parametrize("perturbed", [False, True])
def test_every_op_has_bounds(perturbed: bool) -> None:
    """Exact, or non-negative and of the result's shape; what an op means lies within its own bounds."""
    rng = np.random.default_rng(0)
    for name, sample in SAMPLES:
        graph = of_sample(sample)
        inputs = [Bounded(a, 1e-6 * rng.random(a.shape) if perturbed and t.dtype.is_floating_point else None)
                  for a, t in zip(sample.operands, sample.types, strict=True)]
        found = bounded(graph, inputs)
        meant, _ = interpret(graph, sample.operands)
        for value, array in zip(graph.outputs, meant, strict=True):
            error = found[value].error
            assert error is None or (error.shape == array.shape and (error >= 0).all()), name
            assert difference(array, found[value], value.dtype) == "", name


def chain(*ops: str) -> Graph:
    graph = Graph()
    b, value = Builder(graph), graph.add_input(parse_type("f32[1000]"))
    for op in ops:
        value = getattr(b, op)(value) if op != "sum" else b.sum(value, (0,))
    graph.outputs = [value]
    return graph


def test_f64_lies_within_the_bounds_of_f32_and_one_percent_does_not() -> None:
    x = np.random.default_rng(0).standard_normal(1000).astype(np.float32)
    for ops in (("exp", "sum", "log"), ("sin", "tanh", "sum"), ("relu", "sqrt", "sum"), ("sigmoid", "log", "sum")):
        graph = chain(*ops)
        (value,) = graph.outputs
        meant = bounded(graph, [Bounded(x)])[value]
        exact = x.astype(np.float64)
        for op in ops:
            exact = {"exp": np.exp, "sum": np.sum, "log": np.log, "sin": np.sin, "tanh": np.tanh, "sqrt": np.sqrt,
                     "relu": lambda v: np.maximum(v, 0), "sigmoid": lambda v: 1 / (1 + np.exp(-v))}[op](exact)
        right = np.float32(exact)
        assert difference(np.asarray(right), meant, dt.f32) == "", ops
        assert "means" in difference(np.asarray(right * np.float32(1.01)), meant, dt.f32), ops


def test_nan_and_infinity_are_not_rounding() -> None:
    meant = Bounded(np.array([1, np.nan, np.inf], np.float32), np.full(3, 1e-3))
    assert difference(np.array([1.001, np.nan, np.inf], np.float32), meant, dt.f32) == ""
    for wrong in ([np.nan, np.nan, np.inf], [1, 2, np.inf], [1, np.nan, -np.inf], [1, np.nan, 3e38]):
        assert difference(np.array(wrong, np.float32), meant, dt.f32)


def test_the_sign_of_nan_is_nobodys() -> None:
    graph = Graph()
    x, sign = graph.add_input(parse_type("f32[2]")), graph.add_input(parse_type("f32[]"))
    graph.outputs = [Builder(graph).copysign(x, sign), Builder(graph).signbit(sign)]
    for number, is_clear in ((np.nan, False), (-0.0, True)):
        meant = bounded(graph, [Bounded(np.array([1, -2], np.float32)), Bounded(np.array(number, np.float32))])
        one, test = (meant[v] for v in graph.outputs)
        assert (difference(-one.array, one, dt.f32) != "") == is_clear
        assert (difference(~test.array, test, dt.bool_) != "") == is_clear


def test_ties_and_steps_are_decided_by_exact_numbers_only() -> None:
    graph = Graph()
    x = graph.add_input(parse_type("f32[3]"))
    graph.outputs = [Builder(graph).floor(x)]
    array = np.array([1.0, 1.5, 2.0], np.float32)
    exact = bounded(graph, [Bounded(array)])[graph.outputs[0]]
    assert exact.error is None and difference(np.array([0, 1, 2], np.float32), exact, dt.f32)
    rounded = bounded(graph, [Bounded(array, np.full(3, 1e-6))])[graph.outputs[0]]
    assert difference(np.array([0, 1, 1], np.float32), rounded, dt.f32) == ""
    assert difference(np.array([1, 0, 2], np.float32), rounded, dt.f32)
