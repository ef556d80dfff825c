"""What a MiniTorch course builds, by its own names: scalars, Functions with a context, topological backpropagation,
modules with named parameters. All of it eager, and inside `fb.compile`."""
from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import flambeau as fb
from flambeau import nn, optim


class Mul(fb.autograd.Function):
    @staticmethod
    def forward(ctx, a, b):
        ctx.save_for_backward(a, b)
        return a * b

    @staticmethod
    def backward(ctx, d_output):
        a, b = ctx.saved_values
        return b * d_output, a * d_output


class Log(fb.autograd.Function):
    @staticmethod
    def forward(ctx, a):
        ctx.save_for_backward(a)
        return fb.log(a)

    @staticmethod
    def backward(ctx, d_output):
        (a,) = ctx.saved_values
        return d_output / a


class WrongOnPurpose(fb.autograd.Function):
    """The identity with a derivative of 7: shows that the user's backward is the one that runs."""

    @staticmethod
    def forward(ctx, a):
        return a * 1

    @staticmethod
    def backward(ctx, d_output):
        return d_output * 7


class Block(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(fb.full((width,), 2.0))
        self.shift = nn.Parameter(fb.zeros(width))

    def forward(self, x):
        return Mul.apply(x, self.weight) + self.shift


class MyModule(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(fb.tensor(3.0))
        self.first = Block(2)
        self.inner = nn.ModuleDict({"second": Block(2)})
        self.plain = 5.0

    def forward(self, x):
        return self.inner["second"](self.first(x)) * self.scale


def in_both(function: Callable[..., Any]) -> list[Callable[..., Any]]:
    """The function as it is, and compiled."""
    return [function, fb.compile(function)]


def test_module_names_its_nested_parameters() -> None:
    module = MyModule()
    assert [name for name, _ in module.named_parameters()] == [
        "scale", "first.weight", "first.shift", "inner.second.weight", "inner.second.shift"]
    assert [name for name, _ in module.named_modules()] == ["", "first", "inner", "inner.second"]
    assert {id(p) for p in module.parameters()} == {id(p) for _, p in module.named_parameters()}
    module.eval()
    assert not module.inner["second"].training
    module.train()
    assert module.inner["second"].training


def test_module_with_nested_submodules_trains() -> None:
    """loss = sum((x * w1 + b1) * w2 + b2) * s: every gradient by hand."""
    for compiled in (False, True):
        module = MyModule()

        def run(x, module=module):
            module.zero_grad()
            module(x).sum().backward()

        (fb.compile(run) if compiled else run)(fb.tensor([1.0, 10.0]))
        grads = {name: p.grad.tolist() for name, p in module.named_parameters()}
        assert grads == {"scale": 44.0, "first.weight": [6.0, 60.0], "first.shift": [6.0, 6.0],
                         "inner.second.weight": [6.0, 60.0], "inner.second.shift": [3.0, 3.0]}


def test_scalars_differentiate() -> None:
    x, y = fb.tensor(3.0, requires_grad=True), fb.tensor(4.0, requires_grad=True)
    z = x * y
    assert z.shape == () and z.item() == 12.0
    z.backward()
    assert (x.grad.item(), y.grad.item()) == (4.0, 3.0)
    assert x.grad.shape == ()


def test_scalars_differentiate_inside_compile() -> None:
    x, y = fb.tensor(3.0, requires_grad=True), fb.tensor(4.0, requires_grad=True)

    @fb.compile
    def step():
        x.grad = y.grad = None
        z = x * y + fb.log(x)
        z.backward()
        return z

    for _ in range(3):
        assert step().item() == pytest.approx(12 + math.log(3), rel=1e-6)
        assert (x.grad.item(), y.grad.item()) == (pytest.approx(4 + 1 / 3, rel=1e-6), 3.0)
    assert len(step.signatures) == 1


def test_function_gives_what_its_own_backward_says() -> None:
    def gradients(a, b):
        return fb.autograd.grad(Log.apply(Mul.apply(a, b)) + WrongOnPurpose.apply(a), (a, b))

    for run in in_both(gradients):
        a, b = fb.tensor(2.0, requires_grad=True), fb.tensor(5.0, requires_grad=True)
        da, db = run(a, b)
        assert (da.item(), db.item()) == (0.5 + 7.0, pytest.approx(0.2))


def test_a_value_used_on_many_paths_collects_all_their_derivatives() -> None:
    """f = u * u + u * x with u = x * x: f = x^4 + x^3. Wrong order or a missed path gives another number."""
    def derivative(x):
        u = Mul.apply(x, x)
        (dx,) = fb.autograd.grad(Mul.apply(u, u) + u * x, (x,))
        return dx

    for run in in_both(derivative):
        assert run(fb.tensor(2.0, requires_grad=True)).item() == 4 * 8 + 3 * 4


def test_a_ladder_of_shared_values_takes_linear_time() -> None:
    """x doubled 60 times as u + u: 2**60 paths. Each node must be visited once, after all its users."""
    visits = []

    class Double(fb.autograd.Function):
        @staticmethod
        def forward(ctx, a):
            return a + a

        @staticmethod
        def backward(ctx, d_output):
            visits.append(1)
            return d_output + d_output

    x = fb.tensor(1.0, requires_grad=True)
    u = x
    for _ in range(30):
        u = Double.apply(u) * 0.5 + u * 0.0
    u.backward()
    assert len(visits) == 30
    assert x.grad.item() == 1.0


def test_gradients_accumulate_over_backward_calls() -> None:
    for compiled in (False, True):
        x = fb.tensor([1.0, 2.0], requires_grad=True)

        def step(x=x):
            Mul.apply(x, x).sum().backward()

        run = fb.compile(step) if compiled else step
        for times in range(1, 4):
            run()
            assert x.grad.tolist() == [2.0 * times, 4.0 * times]


def test_broadcast_operands_get_gradients_of_their_own_shape() -> None:
    def run(row, column):
        (row * column).sum().backward()

    for function in in_both(run):
        row, column = fb.ones(1, 3, requires_grad=True), fb.full((2, 1), 2.0, requires_grad=True)
        function(row, column)
        assert row.grad.tolist() == [[4.0, 4.0, 4.0]] and column.grad.tolist() == [[3.0], [3.0]]


def test_topological_order_of_a_random_graph_is_right() -> None:
    """200 random sums and products of earlier values, against the chain rule accumulated forwards."""
    rng = np.random.default_rng(0)
    x = fb.tensor(0.5, requires_grad=True, dtype=fb.float64)
    values, slopes = [x], [1.0]
    for _ in range(200):
        i, j = rng.integers(0, len(values), 2)
        if rng.random() < 0.5:
            values.append((values[i] + values[j]) * 0.5)
            slopes.append((slopes[i] + slopes[j]) * 0.5)
        else:
            values.append(Mul.apply(values[i], values[j]))
            slopes.append(slopes[i] * values[j].item() + slopes[j] * values[i].item())
    total = values[0]
    for value in values[1:]:
        total = total + value
    total.backward()
    assert x.grad.item() == pytest.approx(sum(slopes), rel=200 * 2.0**-52)


def test_xor_is_learnt_with_scalars_only() -> None:
    """A network of 0-d tensors, MiniTorch's first: 4 points, 4 hidden units, plain gradient descent."""
    rng = np.random.default_rng(1)
    hidden = [[fb.tensor(w, requires_grad=True) for w in rng.uniform(-1.5, 1.5, 3)] for _ in range(4)]
    output = [fb.tensor(w, requires_grad=True) for w in rng.uniform(-1.5, 1.5, 5)]
    optimizer = optim.SGD([*sum(hidden, []), *output], lr=0.7)

    @fb.compile
    def epoch():
        optimizer.zero_grad()
        total = fb.tensor(0.0)
        for a, b in ((0, 0), (0, 1), (1, 0), (1, 1)):
            units = [fb.tanh(w[0] * a + w[1] * b + w[2]) for w in hidden]
            logit = output[4]
            for weight, unit in zip(output, units, strict=False):
                logit = logit + weight * unit
            p = fb.sigmoid(logit)
            total = total - (fb.log(p) if a != b else fb.log(1 - p))
        total.backward()
        optimizer.step()
        return total

    losses = [epoch().item() for _ in range(300)]
    assert losses[0] > 2 and losses[-1] < 0.2
    assert len(epoch.signatures) == 1
