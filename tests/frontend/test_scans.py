"""scan, fori_loop, map, switch and associative_scan: eager code is the meaning, PyTorch and plain loops the judges."""
from __future__ import annotations

import pytest

import flambeau as fb
import flambeau.nn.functional as F
from flambeau.errors import CaptureError, ShapeError, TypeInferenceError, UnsupportedError


def close(a, b, rtol=1e-4):
    a, b = ([x] if isinstance(x, fb.Tensor) else list(x) for x in (a, b))
    return len(a) == len(b) and all(x.shape == y.shape and fb.allclose(x, y, rtol=rtol, atol=1e-5)
                                    for x, y in zip(a, b, strict=True))


def weights():
    fb.manual_seed(0)
    return (fb.randn(3, 3) / 2).requires_grad_()


def recurrent(w):
    def f(carry, x):
        h = fb.tanh(carry[0] @ w + x["x"])
        return (h, carry[1] + 1), {"y": h * carry[1], "none": None}
    return f


def derivatives(w, order, reverse):
    """A function of (init, xs): the loss, or what its derivatives of that order are made of."""
    def of(init, xs):
        init, xs = init.detach().requires_grad_(), xs.detach().requires_grad_()
        (h, _), ys = fb.scan(recurrent(w), (init, 1), {"x": xs}, reverse=reverse)
        value = (ys["y"] ** 3).sum() + h.sum()
        for _ in range(order):
            grads = fb.autograd.grad(value, [init, xs, w], create_graph=True, materialize_grads=True)
            value = sum((g * g).sum() for g in grads)
        return [value.detach(), *[g.detach() for g in grads]] if order else value.detach()
    return of


@pytest.mark.parametrize("count, reverse, order", [(0, False, 1), (2, True, 2), (6, True, 0), (6, False, 1), (7, True, 1),
                                                   (5, True, 2)])
def test_scans_and_their_derivatives(count, reverse, order):
    fb.manual_seed(1)
    init, xs, f = fb.ones(3) * 0.1, fb.randn(count, 3) / 2, derivatives(weights(), order, reverse)
    assert close(fb.compile(f)(init, xs), f(init, xs), rtol=1e-3)


def test_many_rounds_store_in_chunks():
    w = weights()
    f = derivatives(w, 1, False)
    init, xs = fb.ones(3) * 0.1, fb.randn(150, 3) / 2
    compiled = fb.compile(f)
    assert close(compiled(init, xs), f(init, xs), rtol=1e-3)
    assert compiled.stats().n_launches < 80


def test_a_scan_is_the_loop_it_stands_for():
    xs = fb.arange(12.0).reshape(3, 4)
    last, seen = fb.scan(lambda c, x: (c + x, c * 2), fb.zeros(3), xs, dim=1)
    assert last.tolist() == xs.sum(1).tolist() and seen.tolist() == [[0.0, 0.0, 0.0], [0.0, 8.0, 16.0], [2.0, 18.0, 34.0],
                                                                   [6.0, 30.0, 54.0]]
    assert fb.scan(lambda c, _: (c + 1, c), 0, None, length=3)[1].tolist() == [0, 1, 2]
    assert fb.compile(lambda n: fb.scan(lambda c, _: (c + n, c), 0, None, length=9)[1])(fb.tensor(2)).tolist() == \
        list(range(0, 18, 2))


def test_random_numbers_of_rounds_are_drawn_again():
    w = weights()

    def f(x):
        x = x.detach().requires_grad_()
        last, ys = fb.scan(lambda c, r: (F.dropout(c, 0.3) @ w + r, c), x, fb.ones(7, 3))
        return [*fb.autograd.grad((last * last).sum() + ys.sum(), [x, w]), fb.rand(1)]

    fb.manual_seed(3)
    eager = f(fb.ones(3))
    fb.manual_seed(3)
    assert close(fb.compile(f)(fb.ones(3)), eager)


def test_backward_from_outside():
    def grads(decorator):
        w = weights()
        step = decorator(lambda x: fb.scan(lambda c, r: (fb.tanh(c @ w + r), c), fb.zeros(3), x)[1].sum())
        x = fb.ones(9, 3, requires_grad=True)
        step(x).backward()
        return x.grad, w.grad

    assert close(grads(fb.compile), grads(lambda f: f))


@pytest.mark.parametrize("decorator", [lambda f: f, fb.compile], ids=["eager", "compiled"])
def test_other_loops(decorator):
    x = fb.arange(3.0)
    assert decorator(lambda v: fb.fori_loop(2, 8, lambda i, c: c * 0.5 + i, v))(x).tolist() == \
        pytest.approx([v * 0.5**6 + sum(i * 0.5 ** (7 - i) for i in range(2, 8)) for v in range(3)])
    assert decorator(lambda n, v: fb.fori_loop(0, n, lambda i, c: c + i, v))(fb.tensor(5), x).tolist() == [10, 11, 12]
    assert decorator(lambda v: fb.map(lambda r: r * 2, v))(x).tolist() == [0, 2, 4]
    branches = [lambda v: v + 1, lambda v: v * 2, lambda v: -v]
    chosen = decorator(lambda i, v: fb.switch(i, branches, v))
    assert [chosen(fb.tensor(i), x)[1].item() for i in (-3, 0, 1, 2, 9)] == [2, 2, 2, -1, -1]


@pytest.mark.parametrize("count", range(8))
def test_associative_scans(count):
    a, b = [fb.rand(2, count, 3, requires_grad=True) for _ in range(2)]

    def ours(a, b):
        return fb.associative_scan(lambda x, y: (x[0] * y[0], y[0] * x[1] + y[1]), (a, b), dim=1)[1]

    def plain(a, b):
        h, found = fb.zeros(2, 3), [b[:, :0]]
        for t in range(count):
            h = a[:, t] * h + b[:, t]
            found.append(h.unsqueeze(1))
        return fb.cat(found, 1)

    expected, found, compiled = plain(a, b), ours(a, b), fb.compile(ours)(a, b)
    assert close(found, expected) and close(compiled, expected)
    if count > 1:
        assert close(*[fb.autograd.grad((y * y).sum(), [a, b]) for y in (compiled, expected)])
    assert close(fb.associative_scan(fb.add, b, dim=1, reverse=True), b.flip(1).cumsum(1).flip(1))


def test_a_compiled_choice_has_a_second_derivative():
    w = fb.tensor([0.5, 2.0], requires_grad=True)

    def second(x):
        x = x.detach().requires_grad_()
        h = x * w
        y = fb.cond(x.sum() > 0, lambda: (h * x).sin() * w, lambda: h**3)
        g = fb.autograd.grad(y.sum(), [x, w], create_graph=True)
        return fb.autograd.grad((g[0] ** 2).sum() + (g[1] ** 3).sum(), [x, w])

    compiled = fb.compile(second)
    for x in (fb.tensor([1.0, 0.5]), fb.tensor([-1.0, -0.5])):
        assert close(compiled(x), second(x))
    assert len(compiled.signatures) == 1


def in_scans(xs, *weights):
    h = fb.tensor(1.0)
    for w in weights:
        h, ys = fb.scan(lambda c, x: (fb.tanh(c * w) + x, c * w), h, xs)      # noqa: B023
    return h + ys.sum()


def in_choices(xs, *weights):
    h = xs[0]
    for w in weights:
        h = fb.cond(xs.sum() > 0, lambda h: fb.tanh(h * w) * w, lambda h: h * w, (h,))      # noqa: B023
    return h


def in_low_precision(xs, *weights):
    with fb.autocast("cpu"):
        h, ys = fb.scan(lambda c, x: ((weights[0].expand(3, 3) @ c).float() * x / 9, c), fb.ones(3, 3) / 3, xs)
    return (h.sum() * weights[1] + ys.sum()) ** 2


@pytest.mark.parametrize("function", [in_scans, in_choices, in_low_precision])
def test_what_runs_again_runs_as_it_did(function):
    """Closure variables and autocast are those of the first run."""
    def derivatives(xs, *weights):
        first = fb.autograd.grad(function(xs, *weights), weights, create_graph=True)
        return [*first, *fb.autograd.grad(first[0] * first[1] + first[0], weights)]

    xs = fb.arange(1.0, 9.0)
    weights = [fb.tensor(0.53, requires_grad=True), fb.tensor(1.32, requires_grad=True)]
    expected, got = derivatives(xs, *weights), fb.compile(derivatives)(xs, *weights)
    assert close(got, expected, rtol=1e-3)


@pytest.mark.parametrize("function", [in_scans, in_choices])
def test_second_derivatives_outside_of_the_function_are_refused(function):
    weights = [fb.tensor(0.5, requires_grad=True), fb.tensor(1.3, requires_grad=True)]
    loss = fb.compile(function)(fb.arange(1.0, 9.0), *weights)
    with pytest.raises(UnsupportedError, match="outside of the compiled function"):
        fb.autograd.grad(loss, weights, create_graph=True)


REFUSED = {
    "another type": (lambda x: fb.scan(lambda c, r: (c.double(), r), x[0], x), TypeInferenceError, "shapes and dtypes"),
    "no pair": (lambda x: fb.scan(lambda c, r: c, x[0], x), TypeInferenceError, r"\(carry, y\)"),
    "sizes": (lambda x: fb.scan(lambda c, r: (c, r), x[0], (x, x[:3])), ShapeError, "one size"),
    "no length": (lambda x: fb.scan(lambda c, r: (c, r), x[0]), ShapeError, "neither"),
    "an index": (lambda x: fb.switch(x[0, 0], [lambda: x]), TypeInferenceError, "integer tensor"),
    "no branch": (lambda x: fb.switch(0, []), TypeInferenceError, "one branch"),
}


@pytest.mark.parametrize("name", REFUSED)
@pytest.mark.parametrize("decorator", [lambda f: f, fb.compile], ids=["eager", "compiled"])
def test_what_is_refused(name, decorator):
    function, error, message = REFUSED[name]
    with pytest.raises(error, match=message):
        decorator(function)(fb.ones(6, 2))


def test_a_round_keeps_nothing():
    kept = []
    with pytest.raises(CaptureError, match="kept"):
        fb.compile(lambda x: fb.scan(lambda c, r: (kept.append(r) or c, r), x[0], x))(fb.ones(6, 2))
    assert not kept
