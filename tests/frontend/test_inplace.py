"""Gradients of in-place writes, eager and compiled: every form, through views, with the values PyTorch gives."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import flambeau as fb
import flambeau.nn.functional as F

X, W = [0.5, 1.5, -1.25], [2.0, -3.0, 0.75]


def gradients(body: Callable[..., fb.Tensor], compiled: bool) -> tuple[Any, Any, Any]:
    """(values of h, x.grad, w.grad) after `body(x, w)` made h and backward ran through h * [1, 2, 3]."""
    x, w = fb.tensor(X, requires_grad=True), fb.tensor(W, requires_grad=True)

    def run() -> fb.Tensor:
        h = body(x, w)
        (h * fb.tensor([1.0, 2.0, 3.0])).sum().backward()
        return h.detach()

    h = (fb.compile(run) if compiled else run)()
    return h, x.grad, w.grad


def started(write: Callable[..., Any]) -> Callable[..., fb.Tensor]:
    """h = x * 1, then a write."""

    def body(x: fb.Tensor, w: fb.Tensor) -> fb.Tensor:
        h = x * 1
        write(h, x, w)
        return h

    return body


def setting(index: Any, value: Callable[..., Any]) -> Callable[..., None]:
    def write(h: fb.Tensor, x: fb.Tensor, w: fb.Tensor) -> None:
        h[index(h) if callable(index) else index] = value(x, w)

    return write


def augmented(source: str) -> Callable[..., None]:
    def write(h: fb.Tensor, x: fb.Tensor, w: fb.Tensor) -> None:
        exec(source, {"h": h, "x": x, "w": w, "fb": fb})

    return write


COPIES: dict[str, tuple[Callable[..., Any], Any, Any]] = {
    "copy a leaf": (lambda h, x, w: h.copy_(w), [0, 0, 0], [1, 2, 3]),
    "copy what it came from": (lambda h, x, w: h.copy_(x), [1, 2, 3], None),
    "assign a leaf": (setting(slice(None), lambda x, w: w), [0, 0, 0], [1, 2, 3]),
    "assign to all": (setting(Ellipsis, lambda x, w: w), [0, 0, 0], [1, 2, 3]),
    "copy and go on": (lambda h, x, w: h.copy_(w).add_(x), [1, 2, 3], [1, 2, 3]),
    "assign, then an element": (
        lambda h, x, w: (setting(Ellipsis, lambda x, w: x)(h, x, w), setting(0, lambda x, w: w[1])(h, x, w)),
        [0, 2, 3],
        [0, 1, 0],
    ),
    "zero": (lambda h, x, w: h.zero_(), [0, 0, 0], None),
    "fill": (lambda h, x, w: h.fill_(2.5), [0, 0, 0], None),
    "fill by a tensor": (lambda h, x, w: h.fill_(w[1]), [0, 0, 0], [0, 6, 0]),
    "copy without grad": (lambda h, x, w: h.copy_(fb.ones(3)), [0, 0, 0], None),
    "zero a slice": (lambda h, x, w: h[1:].zero_(), [1, 0, 0], None),
    "assign a number": (setting(1, lambda x, w: 4.0), [1, 0, 3], None),
    "assign by a mask": (setting(lambda h: h > 1, lambda x, w: w[0]), [1, 0, 3], [2, 0, 0]),
    "assign by indices": (
        setting(lambda h: fb.tensor([2, 0]), lambda x, w: w[:2]),
        [0, 2, 0],
        [3, 1, 0],
    ),
    "double by itself": (lambda h, x, w: h.add_(h), [2, 4, 6], None),
    "mul by a leaf": (lambda h, x, w: h.mul_(w), [2, -6, 2.25], [0.5, 3, -3.75]),
    "imul": (augmented("h *= w"), [2, -6, 2.25], [0.5, 3, -3.75]),
    "square": (lambda h, x, w: h.pow_(2), [1, 6, -7.5], None),
    "idiv": (augmented("h /= w"), [0.5, -2 / 3, 4], [-0.125, -1 / 3, 3 * 1.25 / 0.5625]),
    "ipow": (augmented("h **= 3"), [0.75, 13.5, 14.0625], None),
    "through a view": (lambda h, x, w: h[1:].mul_(w[1:]), [1, -6, 2.25], [0, 3, -3.75]),
    "through a view of a view": (lambda h, x, w: h[1:].view(2, 1)[0].mul_(w[0]), [1, 4, 3], [3, 0, 0]),
    "addcmul": (lambda h, x, w: h.addcmul_(x, w, value=2), [5, -10, 7.5], [1, 6, -7.5]),
    "lerp": (lambda h, x, w: h.lerp_(w, 0.25), [0.75, 1.5, 2.25], [0.25, 0.5, 0.75]),
    "clamp": (lambda h, x, w: h.clamp_(-1, 1), [1, 0, 0], None),
    "relu": (lambda h, x, w: F.relu(h, inplace=True), [1, 2, 0], None),
    "leaky relu": (lambda h, x, w: F.leaky_relu(h, 0.5, inplace=True), [1, 2, 1.5], None),
    "threshold": (lambda h, x, w: F.threshold(h, 1.0, 3.0, inplace=True), [0, 2, 0], None),
    "masked fill": (lambda h, x, w: h.masked_fill_(h > 1, 2.0), [1, 0, 3], None),
    "index add": (lambda h, x, w: h.index_add_(0, fb.tensor([1, 1]), w[:2]), [1, 2, 3], [2, 2, 0]),
    "index copy": (lambda h, x, w: h.index_copy_(0, fb.tensor([2, 0]), w[:2]), [0, 2, 0], [3, 1, 0]),
    "index fill": (lambda h, x, w: h.index_fill_(0, fb.tensor([1]), 9.0), [1, 0, 3], None),
    "index put": (lambda h, x, w: h.index_put_((fb.tensor([2]),), w[:1]), [1, 2, 0], [3, 0, 0]),
    "scatter": (lambda h, x, w: h.scatter_(0, fb.tensor([1]), w[:1]), [1, 0, 3], [2, 0, 0]),
    "scatter add": (lambda h, x, w: h.scatter_add_(0, fb.tensor([1, 1]), w[:2]), [1, 2, 3], [2, 2, 0]),
    "floor": (lambda h, x, w: h.floor_(), [0, 0, 0], None),
    "no_grad write": (lambda h, x, w: fb.no_grad(h.mul_)(5), [1, 2, 3], None),
    "write to a detached alias": (lambda h, x, w: h.detach().mul_(w.detach()), [1, 2, 3], None),
    "a wider operand": (lambda h, x, w: h.mul_(w.double()), [2, -6, 2.25], [0.5, 3, -3.75]),
    "a broadcast operand": (lambda h, x, w: h.mul_(w[0]), [2, 4, 6], [0.5 + 3 - 3.75, 0, 0]),
}


@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "compiled"])
@pytest.mark.parametrize("name", COPIES)
def test_gradient_of_a_write(name: str, compiled: bool) -> None:
    write, of_x, of_w = COPIES[name]
    _, x_grad, w_grad = gradients(started(write), compiled)
    np.testing.assert_allclose(x_grad.numpy(), of_x, rtol=1e-6)
    if of_w is None:
        assert w_grad is None or not w_grad.numpy().any()
    else:
        np.testing.assert_allclose(w_grad.numpy(), of_w, rtol=1e-6)
