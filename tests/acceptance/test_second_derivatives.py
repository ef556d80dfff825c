"""Gradients of gradients, eager and inside `fb.compile`, against formulas and finite differences."""
from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import flambeau as fb
import flambeau.nn.functional as F
from flambeau import nn, optim
from flambeau.errors import UnsupportedError

BOTH = pytest.mark.parametrize("compiled", [False, True], ids=["eager", "compiled"])
STEP = 1e-5
# Central differences of a gradient: truncation STEP**2 * third derivative, rounding eps * gradient / STEP.
ATOL = 100 * (STEP**2 + 2.0**-52 / STEP)


def maybe_compiled(function: Callable[..., Any], compiled: bool) -> Callable[..., Any]:
    return fb.compile(function) if compiled else function


def leaf(array: Any) -> fb.Tensor:
    return fb.tensor(np.asarray(array, np.float64), requires_grad=True)


@BOTH
def test_third_derivatives_of_a_power(compiled: bool) -> None:
    def derivatives(x):
        y = x**5
        (first,) = fb.autograd.grad(y, x, create_graph=True)
        (second,) = fb.autograd.grad(first, x, create_graph=True)
        (third,) = fb.autograd.grad(second, x)
        return first, second, third

    found = [d.item() for d in maybe_compiled(derivatives, compiled)(leaf(2.0))]
    np.testing.assert_allclose(found, [5 * 16, 20 * 8, 60 * 4], rtol=1e-13)


FUNCTIONS: dict[str, tuple[Callable[..., fb.Tensor], tuple[int, ...]]] = {
    "tanh": (lambda x: fb.tanh(x).sum(), (5,)),
    "log_softmax": (lambda x: (F.log_softmax(x, dim=-1)[:, 0] ** 2).sum(), (3, 4)),
    "cross_entropy": (lambda x: F.cross_entropy(x, fb.tensor([2, 0, 1])) ** 2, (3, 4)),
    "matmul": (lambda x: (x @ x.t() @ x).sin().sum(), (3, 4)),
    "conv": (lambda x: (F.conv2d(x.reshape(1, 1, 5, 5), x[:3, :3].reshape(1, 1, 3, 3)) ** 2).sum(), (5, 5)),
    "layer_norm": (lambda x: (F.layer_norm(x, (4,)) ** 3).sum(), (2, 4)),
    "gelu": (lambda x: (F.gelu(x) * x.exp()).sum(), (6,)),
    "indexing": (lambda x: (x[1:, ::2] * x[0, 0] * x[:-1, 1::2].exp()).sum(), (3, 4)),
    "cumsum": (lambda x: (x.cumsum(dim=0) ** 3).sum(), (5,)),
    "norm": (lambda x: (x * x).sum().sqrt(), (4,)),
    "max_pool": (lambda x: (F.max_pool2d(x.reshape(1, 1, 4, 4), 2) ** 3).sum(), (4, 4)),
    "batch_norm": (lambda x: (F.batch_norm(x, None, None, training=True) ** 3).sum(), (6, 2)),
}


@BOTH
@pytest.mark.parametrize("name", FUNCTIONS)
def test_hessian_vector_product_agrees_with_finite_differences(name: str, compiled: bool) -> None:
    function, shape = FUNCTIONS[name]
    rng = np.random.default_rng(5)
    x, v = rng.uniform(-1, 1, shape), rng.uniform(-1, 1, shape)

    def product(x, v):
        (first,) = fb.autograd.grad(function(x), x, create_graph=True)
        (second,) = fb.autograd.grad((first * v).sum(), x)
        return second

    def gradient(array: np.ndarray) -> np.ndarray:
        point = leaf(array)
        return fb.autograd.grad(function(point), point)[0].numpy()

    found = maybe_compiled(product, compiled)(leaf(x), fb.tensor(v)).numpy()
    expected = (gradient(x + STEP * v) - gradient(x - STEP * v)) / (2 * STEP)
    assert np.abs(expected).max() > 1e-3
    np.testing.assert_allclose(found, expected, rtol=0, atol=ATOL * max(1.0, np.abs(expected).max()))


@BOTH
def test_gradient_penalty_trains_the_weights(compiled: bool) -> None:
    """The gradient of |d model / d x|^2 by the weights: what WGAN-GP needs, through the optimizer."""
    fb.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 1)).double()
    optimizer = optim.SGD(model.parameters(), lr=0.05)
    points = fb.randn(16, 3).double()

    def step(x):
        optimizer.zero_grad()
        x = x.detach().requires_grad_()
        (slope,) = fb.autograd.grad(model(x).sum(), x, create_graph=True)
        penalty = ((slope**2).sum(dim=1) - 1).pow(2).mean()
        penalty.backward()
        optimizer.step()
        return penalty

    run = maybe_compiled(step, compiled)
    penalties = [run(points).item() for _ in range(60)]
    assert penalties[-1] < 0.5 * penalties[0]


def test_gradient_penalty_steps_are_the_same_compiled() -> None:
    finals = []
    for compiled in (False, True):
        fb.manual_seed(0)
        model = nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 1)).double()
        optimizer = optim.Adam(model.parameters(), lr=0.01)

        def step(x, model=model, optimizer=optimizer):
            optimizer.zero_grad()
            (slope,) = fb.autograd.grad(model(x).sum(), x, create_graph=True)
            (slope**2).sum().backward()
            optimizer.step()

        run = maybe_compiled(step, compiled)
        for _ in range(10):
            run(leaf(np.linspace(-1, 1, 12).reshape(4, 3)))
        finals.append([p.detach().numpy().copy() for p in model.parameters()])
    for eager, made in zip(*finals, strict=True):
        np.testing.assert_allclose(made, eager, rtol=1e-9, atol=1e-12)


def test_second_backward_through_a_compiled_call_says_what_to_do() -> None:
    f = fb.compile(lambda x: (x**3).sum())
    x = leaf([1.0, 2.0])
    with pytest.raises(UnsupportedError, match="inside the compiled function"):
        fb.autograd.grad(f(x), x, create_graph=True)
