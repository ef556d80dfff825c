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


STEPPED = fb.tensor([1.0, 2.0, 3.0], dtype=fb.float64)


class Rounded(fb.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x.round()

    @staticmethod
    def backward(ctx, g):
        return g * ctx.saved_tensors[0]


SEEN_FROM_OUTSIDE: dict[str, Callable[..., Any]] = {
    "a power": lambda x, w: x**3 * w.sum(),
    "two results, one from the other": lambda x, w: (lambda h: (h, h.sin() * w.sum()))((x @ w).tanh()),
    "detached": lambda x, w: (x @ w).tanh() * (x @ w).detach().sum(),
    "no_grad": lambda x, w: (x @ w) * fb.no_grad()(lambda: (x @ w).exp())(),
    "linear": lambda x, w: x @ w,
    "softmax": lambda x, w: F.log_softmax(x @ w, 1).sum(),
    "in place": lambda x, w: (x @ w).clone().mul_(x.sum()),
    "captured": lambda x, w: (x * STEPPED).sin() @ w,
    "dropout": lambda x, w: F.dropout(x @ w, 0.5).tanh() * x.sum(),
    "a derivative of its own": lambda x, w: (Rounded.apply(x @ w) * x.sum()).tanh(),
    "transposed": lambda x, w: (x.t() @ x @ w).tanh(),
}


@pytest.mark.parametrize("name", SEEN_FROM_OUTSIDE)
def test_three_derivatives_of_a_compiled_call_from_outside(name: str) -> None:
    function, found = SEEN_FROM_OUTSIDE[name], []
    for compiled in (False, True):
        fb.manual_seed(0)
        x, w = leaf(np.random.default_rng(0).normal(size=(4, 3))), leaf(np.random.default_rng(1).normal(size=(3, 2)))
        outputs = maybe_compiled(function, compiled)(x, w)
        total = sum(y.sin().sum() for y in (outputs if isinstance(outputs, tuple) else (outputs,)))
        gradients = []
        for _ in range(3):
            given = fb.autograd.grad(total, (x, w), create_graph=True)
            gradients += [g.detach().numpy() for g in given]
            total = sum((g * g.cos()).sum() for g in given)
        found.append(gradients)
    for eager, made in zip(*found, strict=True):
        np.testing.assert_allclose(made, eager, rtol=1e-8, atol=1e-10)


def test_a_gradient_of_constant_slope_ends_the_tape() -> None:
    x = leaf([1.0, 2.0, 3.0])
    (slope,) = fb.autograd.grad(fb.compile(lambda x: x.cumsum(0))(x).sum(), x, create_graph=True)
    assert slope.tolist() == [3, 2, 1] and not slope.requires_grad


def test_gradient_penalty_around_a_compiled_model() -> None:
    finals = []
    for compiled in (False, True):
        fb.manual_seed(0)
        model = nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 1)).double()
        optimizer, call = optim.SGD(model.parameters(), lr=0.01), maybe_compiled(model, compiled)
        for _ in range(5):
            x = leaf(np.linspace(-1, 1, 12).reshape(4, 3))
            optimizer.zero_grad()
            (slope,) = fb.autograd.grad(call(x).sum(), x, create_graph=True)
            ((slope**2).sum() + call(x).mean()).backward()
            optimizer.step()
        finals.append([p.detach().numpy().copy() for p in model.parameters()])
    for eager, made in zip(*finals, strict=True):
        np.testing.assert_allclose(made, eager, rtol=1e-9, atol=1e-12)


def test_what_a_second_derivative_would_read_wrong_is_an_error() -> None:
    f = fb.compile(lambda x, w: (x @ w).tanh() * x.sum())
    x, w = leaf(np.ones((2, 3))), leaf(np.ones((3, 2)))
    y = f(x, w).sum()
    with fb.no_grad():
        w.add_(1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        fb.autograd.grad(y, x, create_graph=True)

    total = fb.zeros(3, dtype=fb.float64)

    def hooked(x):
        y = x * x
        y.register_hook(lambda g: g * 2)
        return y

    with pytest.raises(UnsupportedError, match="inside the compiled function"):
        fb.autograd.grad(fb.compile(hooked)(total.requires_grad_()).sum(), total, create_graph=True)
