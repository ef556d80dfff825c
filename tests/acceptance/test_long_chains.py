"""Ten thousand ops in a row: nothing in the framework recurses over the depth of a graph, or takes time that grows
with its square."""
from __future__ import annotations

import functools

import numpy as np
import pytest
from call_counts import python_calls

import flambeau as fb
from flambeau.compiler import compile_graph
from flambeau.ir.builder import Builder
from flambeau.ir.dtypes import f64
from flambeau.ir.graph import Graph
from flambeau.ir.graph.interpreter import interpret
from flambeau.ir.graph.parser import parse
from flambeau.ir.graph.verifier import verify
from flambeau.ir.types import TensorType
from flambeau.passes.graph.autodiff import vjp

LENGTH = 10_000
COMPILED_LENGTH = 400         # in the default run; every op of one kernel goes through LLVM


def chain(n_ops: int) -> Graph:
    """x -> sin(x) * 0.999 -> ..., with its derivative by x."""
    graph = Graph(name="chain")
    b = Builder(graph)
    x = value = graph.add_input(TensorType((4,), f64), "x")
    for _ in range(n_ops // 2):
        value = b.mul(b.sin(value), b.scalar(0.999, f64))
    (gradient,) = vjp(graph, [value], [b.full(value.type, 1.0)], [x])
    assert gradient is not None
    graph.outputs = [value, gradient]
    return graph


def expected(x: np.ndarray, n_ops: int) -> tuple[np.ndarray, np.ndarray]:
    slope = np.ones_like(x)
    for _ in range(n_ops // 2):
        x, slope = np.sin(x) * 0.999, slope * np.cos(x) * 0.999
    return x, slope


POINTS = np.array([0.3, -1.2, 2.0, 0.0])


def assert_right(found: list[np.ndarray], n_ops: int) -> None:
    for array, exact in zip(found, expected(POINTS, n_ops), strict=True):
        # n factors, each off by an ulp or two; the first values shrink, so absolute errors do too
        np.testing.assert_allclose(array, exact, rtol=8 * n_ops * 2.0**-52)


def test_a_long_chain_differentiates_prints_parses_and_runs() -> None:
    graph = chain(LENGTH)
    verify(graph)
    assert len(graph) > 2 * LENGTH
    text = str(graph)
    again = parse(text)
    assert str(again) == text
    assert_right(interpret(again, [POINTS])[0], LENGTH)


def test_a_long_chain_is_recorded_and_differentiated_eagerly() -> None:
    x = fb.tensor(POINTS, requires_grad=True)
    y = x
    for _ in range(LENGTH // 2):
        y = fb.sin(y) * 0.999
    y.sum().backward()
    assert_right([y.detach().numpy(), x.grad.numpy()], LENGTH)


def run_compiled(n_ops: int) -> None:
    def step(x: fb.Tensor) -> tuple[fb.Tensor, fb.Tensor]:
        y = x
        for _ in range(n_ops // 2):
            y = fb.sin(y) * 0.999
        (gradient,) = fb.autograd.grad(y.sum(), x)
        return y.detach(), gradient

    run = fb.compile(step)
    x = fb.tensor(POINTS, requires_grad=True)
    for _ in range(2):
        assert_right([t.numpy() for t in run(x)], n_ops)
    assert str(parse(run.ir("graph"))) == run.ir("graph")


def test_a_chain_of_400_ops_compiles() -> None:
    run_compiled(COMPILED_LENGTH)


@pytest.mark.slow
def test_a_chain_of_10000_ops_compiles() -> None:
    run_compiled(LENGTH)


def test_a_long_chain_of_contractions_compiles() -> None:
    """Kernels one after the other, not one large kernel: 300 matmuls and their derivatives."""
    matrix = np.linalg.qr(np.random.default_rng(0).standard_normal((8, 8)))[0]
    n = 300

    def step(x: fb.Tensor, w: fb.Tensor) -> tuple[fb.Tensor, fb.Tensor]:
        y = x
        for _ in range(n):
            y = y @ w
        return y, fb.autograd.grad(y.sum(), x)[0]

    w, x = fb.tensor(matrix), fb.tensor(np.eye(8), requires_grad=True)
    found = [t.detach().numpy() for t in fb.compile(step)(x, w)]
    power = np.linalg.matrix_power(matrix, n)
    np.testing.assert_allclose(found[0], power, rtol=0, atol=8 * n * 8 * 2.0**-52)
    np.testing.assert_allclose(found[1], np.ones((8, 8)) @ power.T, rtol=0, atol=8 * 8 * n * 8 * 2.0**-52)


def test_work_grows_with_the_length_and_not_its_square() -> None:
    """Passes over a graph of four times the length do about four times the work."""
    short, long = [python_calls(functools.partial(compile_graph, chain(n), backend="interpret")) for n in (500, 2_000)]
    assert long < 5 * short, f"4 times the ops took {long / short:.1f} times the calls"
