"""Loops under transforms: `scan` and `while_loop` in functions of fb.func, eager and compiled, beside the same rounds
written out."""
from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import flambeau as fb
from flambeau.func import grad, hessian, jacfwd, jacrev, jvp, linearize, vjp, vmap

MOST = 7
X = fb.tensor([[0.1, 0.1, 0.1], [1.0, -0.5, 0.3], [2.0, 3.0, 1.0]], dtype=fb.float64)       # many rounds, some, few
W = fb.tensor([[0.6, -0.1, 0.2], [-1.1, 0.3, 0.2], [0.2, 0.4, -0.3]], dtype=fb.float64)


def once(x: Any, w: Any, y: Any, z: Any) -> Any:
    return fb.tanh(y @ w) + x, z + (y * y).sum() + 0.1


def loss(y: Any, z: Any) -> Any:
    return (y**3).sum() + z * y[0]


def looped(x: Any, w: Any) -> Any:
    def body(n: Any, y: Any, z: Any) -> Any:
        return (n + 1, *once(x, w, y, z))

    return loss(*fb.while_loop(lambda n, y, z: z < 6, body, (0, x * 0.5, x.sum() * 0), max_steps=MOST)[1:])


def looped_out(x: Any, w: Any) -> Any:
    y, z = x * 0.5, x.sum() * 0
    for _ in range(MOST):
        goes_on = z < 6
        y, z = (fb.where(goes_on, new, old) for new, old in zip(once(x, w, y, z), (y, z), strict=True))
    return loss(y, z)


def scanned(x: Any, w: Any) -> Any:
    def f(carry: Any, row: Any) -> Any:
        return (fb.tanh(carry["y"] @ w) + row).mul_(0.9), {"a": carry["y"] * row, "n": carry["n"], "no": None}

    def counted(carry: Any, row: Any) -> Any:
        y, given = f(carry, row)
        return {"y": y, "n": carry["n"] + 1}, given

    rows = fb.stack([x * k for k in range(MOST)])
    last, ys = fb.scan(counted, {"y": x * 0.5, "n": 0}, rows, reverse=True)
    return loss(last["y"], (ys["a"] ** 2).sum() + ys["n"].sum())


def scanned_out(x: Any, w: Any) -> Any:
    y, squares = x * 0.5, 0
    for k in range(MOST)[::-1]:
        y, squares = (fb.tanh(y @ w) + x * k) * 0.9, squares + ((y * x * k) ** 2).sum()
    return loss(y, squares + sum(range(MOST)))


def at(f: Any, w: Any) -> Callable[[Any], Any]:
    return lambda x: f(x, w)


TRANSFORMS: dict[str, Callable[..., Any]] = {
    "grad": lambda f, x, w: grad(f, (0, 1))(x[0], w),
    "vjp": lambda f, x, w: vjp(f, x[1], w)[1](fb.tensor(2.0, dtype=fb.float64)),
    "jvp": lambda f, x, w: jvp(f, (x[0], w), (x[1], w.cos())),
    "vmap": lambda f, x, w: (vmap(f, in_dims=(0, None))(x, w), vmap(lambda b: f(x[0], b))(fb.stack([w, w * 2]))),
    "vmap of grad": lambda f, x, w: vmap(grad(f, (0, 1)), in_dims=(0, None))(x, w),
    "grad of vmap": lambda f, x, w: grad(lambda a, b: vmap(f, in_dims=(0, None))(a, b).sum(), (0, 1))(x, w),
    "grad of grad": lambda f, x, w: grad(lambda b: grad(f)(x[0], b).pow(2).sum())(w),
    "grad of jvp": lambda f, x, w: grad(lambda b: jvp(at(f, b), (x[0],), (x[1],))[1])(w),
    "jvp of grad": lambda f, x, w: jvp(lambda b: grad(f)(x[0], b), (w,), (w.cos(),)),
    "hessian": lambda f, x, w: hessian(f)(x[0], w),
    "jacrev": lambda f, x, w: jacrev(lambda a: vmap(f, in_dims=(0, None))(a, w))(x),
    "jacfwd": lambda f, x, w: jacfwd(lambda a: vmap(f, in_dims=(0, None))(a, w))(x),
}


def leaves(found: Any) -> list[Any]:
    return [found.numpy()] if isinstance(found, fb.Tensor) else [leaf for part in found for leaf in leaves(part)]


def agree(found: Any, expected: Any) -> None:
    for a, b in zip(leaves(found), leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-8, atol=1e-12)


@pytest.mark.parametrize("name", TRANSFORMS)
@pytest.mark.parametrize("pair", [(looped, looped_out), (scanned, scanned_out)], ids=["while_loop", "scan"])
def test_loops_under_transforms(pair: Any, name: str) -> None:
    transform, (function, written_out) = TRANSFORMS[name], pair
    expected = transform(written_out, X, W)
    agree(transform(function, X, W), expected)
    agree(fb.compile(lambda x, w: transform(function, x, w))(X, W), expected)


def repeated(f: Any, c: Any) -> Any:
    return fb.while_loop(lambda n, c: n < 3, lambda n, c: (n + 1, f(c)), (0, c), max_steps=4)[1]


def repeated_out(f: Any, c: Any) -> Any:
    return f(f(f(c)))


def of_another(loop: Any, x: Any, w: Any) -> Any:
    y = loop(lambda c: c * x + w[0], x)
    return loop(lambda c: fb.sin(y * c + x), x)


def of_a_factor(loop: Any, x: Any, w: Any) -> Any:
    y = x * w[0]
    return loop(lambda c: c * y * w[0] + y * x, x)


def of_one_within(loop: Any, x: Any, w: Any) -> Any:
    def body(c: Any) -> Any:
        y = loop(lambda d: d * x + c, c)
        return loop(lambda d: fb.tanh(d * y + x[0] * c), c)

    return loop(body, x)


# what bodies read: views that they make themselves, and tensors that came about from one another before the loop
READ: dict[str, Callable[[Any, Any, Any], Any]] = {
    "a view": lambda loop, x, w: loop(lambda c: c * x[1:].sum() + x.roll(1), x),
    "a product and its factor": of_a_factor,
    "another loop's": of_another,
    "a loop's within a loop": of_one_within,
}


@pytest.mark.parametrize("name", READ)
def test_what_bodies_read_is_differentiated_once(name: str) -> None:
    def transformed(loop: Any) -> Callable[[Any, Any], Any]:
        f = grad(lambda x, w: READ[name](loop, x, w).pow(2).sum(), (0, 1))
        return lambda x, w: (f(x[0], w), vmap(f, in_dims=(0, None))(x, w))

    expected = transformed(repeated_out)(X, W)
    agree(transformed(repeated)(X, W), expected)
    agree(fb.compile(transformed(repeated))(X, W), expected)


def test_no_gradient_flows_from_examples_that_have_ended() -> None:
    def rooted(x: Any) -> Any:          # which has no derivative where it ends
        return fb.while_loop(lambda c: c.sum() > 0.5, lambda c: (fb.sqrt(c) * 0.5 - 0.4,), (x,), max_steps=4)[0]

    xs = fb.tensor([[4.0, 0.1, 0.2], [-1.0, 0.3, 0.1], [9.0, 4.0, 1.0]], dtype=fb.float64)
    expected = fb.stack([grad(lambda x: rooted(x).sum())(x) for x in xs])
    for way in (lambda f: f, fb.compile):
        agree(way(lambda x: grad(lambda x: vmap(rooted)(x).sum())(x))(xs), expected)
        agree(way(lambda x: vmap(grad(lambda x: rooted(x).sum()))(x))(xs), expected)


def test_no_gradient_flows_to_operands_from_what_is_not_chosen() -> None:
    def chosen(x: Any) -> Any:
        return fb.cond(x.sum() > 0, lambda x: x[0].sqrt() * x, lambda x: (-x[1]).log() * x, (x,)).sum()

    xs = fb.tensor([[4.0, 0.0], [0.0, -0.5]], dtype=fb.float64)
    expected = fb.stack([grad(chosen)(x) for x in xs])
    for way in (lambda f: f, fb.compile):
        agree(way(lambda x: vmap(grad(chosen))(x))(xs), expected)
        agree(way(lambda x: grad(lambda x: vmap(chosen)(x).sum())(x))(xs), expected)
        agree(fb.stack([way(grad(chosen))(x) for x in xs]), expected)


def test_a_loop_stays_one_under_a_transform() -> None:
    compiled = fb.compile(lambda x: vmap(grad(lambda a: fb.scan(lambda c, r: (c * r, c), a, fb.ones(200))[0]))(x))
    compiled(fb.ones(3))
    assert compiled.stats().n_launches < 60


def test_tangents_need_no_bound() -> None:
    def halved(x: Any) -> Any:
        return fb.while_loop(lambda x: x.sum() > 1, lambda x: (x * 0.5 * x.cos(),), (x,))[0]

    expected = jvp(halved, (X[2],), (X[1],))
    agree(fb.compile(lambda x, t: jvp(halved, (x,), (t,)))(X[2], X[1]), expected)
    agree(fb.compile(lambda x: jacfwd(halved)(x))(X[2]), jacrev(halved)(X[2]))
    for way in (lambda f: f, fb.compile):
        with pytest.raises(NotImplementedError, match="max_steps=N"):
            way(lambda x: vmap(grad(lambda a: halved(a).sum()))(x))(X)


def test_random_numbers_and_what_is_read_again() -> None:
    def program(x: Any) -> Any:
        shift = fb.ones(3, dtype=fb.float64)

        def inner(a: Any) -> Any:
            scale = a.detach() * 1
            out = fb.while_loop(lambda n, c: n < 5, lambda n, c: (n + 1, fb.tanh(c + scale + shift) + fb.rand(3) * a),
                                (0, a), max_steps=6)[1]
            scale.mul_(5)
            return out.pow(2).sum()

        found = grad(inner)(x)
        return found, fb.rand(2)

    fb.manual_seed(2)
    expected = program(X[0])
    fb.manual_seed(2)
    agree(fb.compile(program)(X[0]), expected)


@pytest.mark.parametrize("way", [lambda f: f, fb.compile], ids=["eager", "compiled"])
def test_what_loops_under_transforms_refuse(way: Any) -> None:
    def writing(x: Any) -> Any:
        total = x * 0
        fb.while_loop(lambda c: c.sum() < 5, lambda c: (c + total.add_(1),), (x,), max_steps=3)
        return total.sum()

    with pytest.raises(RuntimeError, match="cond or a loop under vmap changed a tensor in place"):
        way(lambda x: vmap(writing)(x))(X)              # of examples that have ended too
    if way is fb.compile:
        with pytest.raises(NotImplementedError, match="linearize"):
            way(lambda x: linearize(at(looped, W), x[0])[1](x[1]))(X)
