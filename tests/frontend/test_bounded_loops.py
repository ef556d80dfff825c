"""`while_loop` with `max_steps`: derivatives of every order, eager and compiled, of as many rounds as there were."""
from __future__ import annotations

import pytest

import flambeau as fb
import flambeau.nn.functional as F
from flambeau.errors import CaptureError, UnsupportedError


def close(a, b, rtol=1e-4):
    a, b = ([x] if isinstance(x, fb.Tensor) else list(x) for x in (a, b))
    return len(a) == len(b) and all(x.shape == y.shape and fb.allclose(x, y, rtol=rtol, atol=1e-5)
                                    for x, y in zip(a, b, strict=True))


def weights():
    fb.manual_seed(0)
    return (fb.randn(3, 3) / 2).requires_grad_()


def settled(x, w, max_steps):
    """Rounds that a value ends, in a container, with a number and an integer beside what is differentiated."""
    def body(state, total):
        y = fb.tanh(state["y"] @ w) + x
        return {"n": state["n"] + 1, "y": y}, total + (y * y).sum()

    return fb.while_loop(lambda state, total: total < 6, body, ({"n": 0, "y": x * 0.5}, 0.0), max_steps=max_steps)


def derivatives(w, order, max_steps):
    """A function of x: how many rounds, the loss, or what its derivatives of that order are made of."""
    def of(x):
        x = x.detach().requires_grad_()
        state, total = settled(x, w, max_steps)
        value = (state["y"] ** 3).sum() + total
        grads = []
        for _ in range(order):
            grads = fb.autograd.grad(value, [x, w], create_graph=True, materialize_grads=True)
            value = sum((g * g).sum() for g in grads)
        return [state["n"], value.detach(), *[g.detach() for g in grads]]
    return of


@pytest.mark.parametrize("max_steps, order", [(0, 1), (4, 0), (4, 1), (6, 2), (100, 1)])
def test_loops_with_a_bound_and_their_derivatives(max_steps, order):
    f = derivatives(weights(), order, max_steps)
    compiled, counts = fb.compile(f), []
    for size in (0.25, 0.5, 1.0, 5.0):                  # many rounds, some, few, one
        eager = f(fb.ones(3) * size)
        assert close(compiled(fb.ones(3) * size), eager, rtol=1e-3)
        counts.append(eager[0].item())
    assert len(compiled.signatures) == 1 and max(counts) <= max_steps and counts == sorted(counts, reverse=True)


def test_the_bound_ends_the_loop():
    for way in (lambda f: f, fb.compile):
        assert way(lambda x: fb.while_loop(lambda x: x < 100, lambda x: (x + 1,), (x,), max_steps=3))(fb.tensor(0))[0] == 3
    for wrong, error in ((-1, ValueError), (1.5, TypeError), (True, TypeError)):
        with pytest.raises(error, match="max_steps"):
            fb.while_loop(lambda x: x < 1, lambda x: (x,), (fb.tensor(0),), max_steps=wrong)


def test_a_bound_that_is_seldom_reached_costs_no_rounds():
    def function(x):
        return fb.while_loop(lambda n, x: n < 2, lambda n, x: (n + 1, x * 2), (0, x), max_steps=10**9)[1]

    assert fb.compile(function)(fb.ones(2)).tolist() == [4.0, 4.0]


def test_backward_from_outside():
    def grads(decorator):
        w = weights()
        step = decorator(lambda x: settled(x, w, 9)[0]["y"].sum())
        x = fb.full((3,), 0.3).requires_grad_()
        step(x).backward()
        return x.grad, w.grad

    assert close(grads(fb.compile), grads(lambda f: f))


def in_a_cond(x, w):
    shifted = x.detach()                    # made around the branches, and read by loops in them

    def looped(x):
        row = w[0]
        return fb.while_loop(lambda y: y.sum() < 9, lambda y: (y * w[1] + row + shifted * x,), (x,), max_steps=6)[0]

    return fb.cond(x.sum() > 0, looped, lambda x: x * w[2], (x,)).sum()


def in_a_scan(x, w):
    def step(carry, row):
        y, = fb.while_loop(lambda y: (y * y).sum() < 20, lambda y: (y + w[0].exp(),), (carry,), max_steps=5)
        return y * 0.1, y * row

    last, ys = fb.scan(step, x, w.repeat(2, 1) + 1)
    return (last * ys).sum()


def in_a_loop(x, w):
    def outer(n, y):
        y, = fb.while_loop(lambda z: z.sum() < 4, lambda z: (z * 1.5 + w[1] ** 2,), (y,), max_steps=4)
        return n + 1, y * 0.3

    return fb.while_loop(lambda n, y: n < 3, outer, (0, x), max_steps=5)[1].sum()


def in_place(x, w):
    def body(y, z):
        y.mul_(w[0])
        z[1:] += y[1:]
        return z * 1.0, y + x

    return sum(t.sum() for t in fb.while_loop(lambda y, z: z.sum() < 7, body, (x, x * 2), max_steps=5))


def in_no_grad(x, w):
    def body(y):
        with fb.no_grad():
            size = (y * w[0]).sum()
        return (y * w[1] + size,)

    return fb.while_loop(lambda y: y.sum() < 7, body, (x,), max_steps=5)[0].sum()


@pytest.mark.parametrize("function", [in_a_cond, in_a_scan, in_a_loop, in_place, in_no_grad])
def test_loops_within(function):
    def of(x):
        x, w = x.detach().requires_grad_(), weights().detach().abs().requires_grad_()
        value = function(x, w)
        return [value, *fb.autograd.grad(value, [x, w], materialize_grads=True)]

    compiled = fb.compile(of)
    for x in (fb.tensor([0.5, 0.1, 0.2]), fb.tensor([2.0, 0.5, 3.0]), fb.tensor([-0.5, -0.1, 0.2])):
        assert close(compiled(x), of(x), rtol=1e-3)


def test_random_numbers_of_rounds_are_drawn_again():
    w = weights()

    def f(x):
        x = x.detach().requires_grad_()
        n, last = fb.while_loop(lambda n, c: n < 5, lambda n, c: (n + 1, F.dropout(c, 0.3) @ w + x), (0, x), max_steps=8)
        return [*fb.autograd.grad((last * last).sum(), [x, w]), fb.rand(1)]

    fb.manual_seed(3)
    eager = f(fb.ones(3))
    fb.manual_seed(3)
    assert close(fb.compile(f)(fb.ones(3)), eager)


def test_a_body_may_differentiate_what_it_carries():
    def descent(x, rate):
        def body(n, x):
            with fb.enable_grad():
                g, = fb.autograd.grad((x**4).sum() + x.sum(), x, create_graph=True)
            return n + 1, x - rate * g
        return fb.while_loop(lambda n, x: n < 4, body, (0, x), max_steps=6)[1]

    def of(x, rate):
        x, rate = x.detach().requires_grad_(), rate.detach().requires_grad_()
        return fb.autograd.grad(descent(x, rate).sum(), [x, rate])

    given = fb.tensor([0.5, -0.3]), fb.tensor(0.1)
    assert close(fb.compile(of)(*given), of(*given))


def test_what_has_no_derivative_says_so():
    w, seen = weights(), fb.zeros(1)

    def counting(x):
        def body(y):
            seen.add_(1)
            return (y * w[0],)
        return fb.while_loop(lambda y: y.sum() < 5, body, (x,), max_steps=4)[0].sum()

    compiled = fb.compile(counting)
    loss = compiled(fb.ones(3))
    assert seen.item() == 4
    with pytest.raises(NotImplementedError, match="while_loop: body_fn: a function that changes tensors from outside"):
        loss.backward()
    loss = fb.compile(lambda x: settled(x, w, 5)[1])(fb.ones(3))
    with pytest.raises(UnsupportedError, match="outside of the compiled function"):
        fb.autograd.grad(loss, w, create_graph=True)
    kept = []
    with pytest.raises(CaptureError, match="kept"):
        fb.compile(lambda x: fb.while_loop(lambda y: y.sum() < 5, lambda y: (kept.append(y) or y,), (x,), max_steps=2))(w)


def after_a_scan(x, shift):
    return fb.scan(lambda c, r: (fb.tanh(c * 0.5 + shift) + r, c), x, fb.zeros(6, 2))[0]


def after_a_loop(x, shift):
    return fb.while_loop(lambda c: c.sum() < 50, lambda c: (fb.tanh(c * 0.5 + shift),), (x,), max_steps=3)[0]


def after_a_choice(x, shift):
    return fb.cond(x.sum() > 0, lambda: fb.tanh(x * 0.5 + shift), lambda: x * 1)


@pytest.mark.parametrize("function", [after_a_scan, after_a_loop, after_a_choice])
def test_what_runs_again_reads_what_it_read(function):
    """Also where that, what went in, or what came out was changed in place since."""
    def derivatives(x):
        x = x.detach().requires_grad_()
        shift, y = fb.ones(2), x * 1
        z = function(y, shift)
        shift.mul_(3)
        first, = fb.autograd.grad((z * z).sum(), x, create_graph=True)
        return [first, *fb.autograd.grad(first.sum(), x)]

    def overwritten(x):
        x = x.detach().requires_grad_()
        y = x * 1
        z, same = function(y, fb.ones(2)), fb.cond(x.sum() > 0, lambda: y, lambda: y)
        y.copy_(fb.zeros(2))
        return fb.autograd.grad((z * z).sum() + same.sum(), x)

    for f in (derivatives, overwritten):
        assert close(fb.compile(f)(fb.ones(2)), f(fb.ones(2)))


def test_a_choice_that_draws_within_a_loop():
    w = weights()

    def f(x):
        def body(n, c):
            return n + 1, fb.cond(c.sum() > 1, lambda: c * fb.rand(3), lambda: c @ w + x)
        x = x.detach().requires_grad_()
        last = fb.while_loop(lambda n, c: n < 5, body, (0, x * 2), max_steps=6)[1]
        return fb.autograd.grad((last * last).sum(), [x, w])

    fb.manual_seed(3)
    eager = f(fb.ones(3))
    fb.manual_seed(3)
    assert close(fb.compile(f)(fb.ones(3)), eager)
