"""autograd.Function under transforms, fb.autograd.functional, forward_ad, gradcheck and anomaly mode against PyTorch's."""
from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import flambeau as fb
import flambeau.autograd.forward_ad
import flambeau.autograd.function
from tests.frontend.test_func import Program, W, X, agree

torch = pytest.importorskip("torch")


def make_cube(t: Any, has_rule: bool) -> Any:
    class Cube(t.autograd.Function):
        generate_vmap_rule = has_rule

        @staticmethod
        def forward(x: Any, w: Any) -> Any:
            return x ** 3 * w, 3 * x ** 2

        @staticmethod
        def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
            ctx.save_for_backward(*inputs, output[1])
            ctx.save_for_forward(*inputs, output[1])

        @staticmethod
        def backward(ctx: Any, g: Any, slope: Any) -> Any:
            x, w, d = ctx.saved_tensors
            return g * d * w * 2 + slope * 6 * x, g * x ** 3         # twice what it is: whose rule ran shows

        @staticmethod
        def jvp(ctx: Any, x_t: Any, w_t: Any) -> Any:
            x, w, d = ctx.saved_tensors
            return x_t * d * w * 2 + x ** 3 * w_t, 6 * x * x_t

    if not has_rule:
        def vmap(info: Any, in_dims: Any, *args: Any) -> Any:
            spread = [a.movedim(d, 0) if d is not None else a.expand(info.batch_size, *a.shape)
                      for a, d in zip(args, in_dims, strict=True)]
            return Cube.apply(*spread), (0, 0)

        Cube.vmap = staticmethod(vmap)
    return Cube


CUBES = {t: [make_cube(t, True), make_cube(t, False)] for t in (torch, fb)}
WAYS: dict[str, Program] = {
    "grad": lambda f, c, x: f.grad(lambda a, b: c(a, b)[0].sum(), argnums=(0, 1))(x, x.cos()),
    "grad of grad": lambda f, c, x: f.grad(lambda b: f.grad(lambda a: c(a, a.cos())[0].sum())(b).sin().sum())(x),
    "vmap": lambda f, c, x: f.vmap(c, in_dims=(0, None))(x, x[0]),
    "vmap of grad": lambda f, c, x: f.vmap(f.grad(lambda a, b: c(a, b)[0].sum(), (0, 1)), in_dims=(0, None))(x, x[0]),
    "grad of vmap": lambda f, c, x: f.grad(lambda a, b: f.vmap(c, in_dims=(0, None))(a, b)[0].sum(), (0, 1))(x, x[0]),
    "jvp": lambda f, c, x: f.jvp(lambda a: c(a, x), (x,), (x.cos(),)),
    "jvp of vmap": lambda f, c, x: f.jvp(lambda a: f.vmap(c, in_dims=(0, None))(a, x[0]), (x,), (x.cos(),)),
    "hessian": lambda f, c, x: f.hessian(lambda a: c(a, a)[0].sum())(x[0]),
}


@pytest.mark.parametrize("way", (0, 1), ids=("generated", "own"))
@pytest.mark.parametrize("name", WAYS)
def test_functions_keep_their_rules_under_transforms(name: str, way: int) -> None:
    agree(lambda t, f, x: WAYS[name](f, CUBES[t][way].apply, x), X)


def test_functions_without_what_a_transform_takes_are_refused() -> None:
    class Old(fb.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Any) -> Any:
            return x * 2

    class Bare(fb.autograd.Function):
        @staticmethod
        def forward(x: Any) -> Any:
            return x * 2

        @staticmethod
        def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
            return None

    x = fb.tensor(X)
    with pytest.raises(RuntimeError, match="setup_context"):
        fb.func.grad(lambda a: Old.apply(a).sum())(x)
    with pytest.raises(RuntimeError, match="generate_vmap_rule"):
        fb.vmap(Bare.apply)(x)
    with pytest.raises(RuntimeError, match="jvp"):
        fb.func.jvp(Bare.apply, (x,), (x,))


FUNCTIONAL: dict[str, Program] = {
    "jacobian": lambda F, x, w: F.jacobian(lambda a: a.sin() * a.sum(), x),
    "jacobian of several": lambda F, x, w: F.jacobian(lambda a, b: (a @ b, a.sum()), (x, w)),
    "jacobian, two outputs": lambda F, x, w: F.jacobian(lambda a: (a * 2, a.sum()), x),
    "jacobian forward": lambda F, x, w: F.jacobian(lambda a, b: a @ b, (x, w), vectorize=True, strategy="forward-mode"),
    "jacobian on the tape": lambda F, x, w: F.jacobian(lambda a: a.sin(), x.clone().requires_grad_(), create_graph=True),
    "jacobian off the tape": lambda F, x, w: F.jacobian(lambda a: a.sin(), x.clone().requires_grad_()),
    "hessian": lambda F, x, w: F.hessian(lambda a: a.sin().sum() * a.sum(), x),
    "hessian of several": lambda F, x, w: F.hessian(lambda a, b: (a @ b).sin().sum(), (x, w)),
    "vjp": lambda F, x, w: F.vjp(lambda a, b: a @ b, (x, w), x @ w),
    "vjp of one element": lambda F, x, w: F.vjp(lambda a: a.sum(), x),
    "jvp": lambda F, x, w: F.jvp(lambda a, b: a @ b, (x, w), (x, w)),
    "hvp": lambda F, x, w: F.hvp(lambda a, b: (a @ b).sin().sum(), (x, w), (x, w)),
    "vhp": lambda F, x, w: F.vhp(lambda a: a.sin().sum(), x, x),
}


@pytest.mark.parametrize("name", FUNCTIONAL)
def test_functional_agrees_with_torch(name: str) -> None:
    agree(lambda t, f, x, w: FUNCTIONAL[name](t.autograd.functional, x, w), X, W, compiled=False)


def test_strict_names_what_does_not_depend() -> None:
    with pytest.raises(RuntimeError, match="output 0 .* input 1"):
        fb.autograd.functional.jacobian(lambda a, b: a.sin(), (fb.tensor(X), fb.tensor(W)), strict=True)


def test_forward_ad_carries_tangents_within_its_level() -> None:
    def program(t: Any, f: Any, x: Any, w: Any) -> Any:
        ad = t.autograd.forward_ad
        with ad.dual_level():
            y = (ad.make_dual(x, x.cos()) @ w).tanh()
            assert ad.unpack_dual(x).tangent is None
            return tuple(ad.unpack_dual(y))

    agree(program, X, W, compiled=False)
    with pytest.raises(RuntimeError, match="no level"):
        flambeau.autograd.forward_ad.make_dual(fb.tensor(X), fb.tensor(X))


def test_gradcheck_tells_right_from_wrong() -> None:
    x, w = fb.tensor(X[:2]).requires_grad_(), fb.tensor(W).requires_grad_()
    assert fb.autograd.gradcheck(lambda a, b: ((a @ b).sin(), a.exp()), (x, w), check_forward_ad=True)
    assert fb.autograd.gradgradcheck(lambda a, b: (a @ b).sin(), (x, w))
    assert not fb.autograd.gradcheck(lambda a: a * a.detach(), (x,), raise_exception=False)
    with pytest.raises(fb.autograd.GradcheckError, match="output 0 with respect to input 0"):
        fb.autograd.gradcheck(lambda a: a * a.detach(), (x,))
    with pytest.raises(ValueError, match="require grad"):
        fb.autograd.gradcheck(lambda a: a, (fb.tensor(X),))


def test_anomaly_mode_names_the_line_that_made_nan() -> None:
    x = fb.zeros(2, requires_grad=True)
    with fb.autograd.detect_anomaly():
        y = x.sqrt() * 0                    # the line
        with pytest.raises(RuntimeError, match=r"derivative of sqrt gave NaN(.|\n)*y = x.sqrt\(\) \* 0"):
            y.sum().backward()
    z = x.sqrt() * 0
    z.sum().backward()
    assert x.grad.isnan().all()


def test_once_differentiable_is_so_once() -> None:
    class Square(fb.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Any) -> Any:
            ctx.save_for_backward(x)
            return x * x

        @staticmethod
        @flambeau.autograd.function.once_differentiable
        def backward(ctx: Any, g: Any) -> Any:
            return 2 * ctx.saved_tensors[0] * g

    x, g = fb.ones(3, requires_grad=True), fb.ones(3, requires_grad=True)
    (first,) = fb.autograd.grad(Square.apply(x), x, g, create_graph=True)
    assert first.tolist() == [2, 2, 2]
    with pytest.raises(RuntimeError, match="once_differentiable"):
        first.sum().backward()


def test_choices_and_loops_under_vmap() -> None:
    def halvings(x: Any) -> Any:
        return fb.while_loop(lambda n, a: (a > 1).any(), lambda n, a: (n + 1, a / 2), (0, x))

    def chosen(x: Any) -> Any:
        return fb.cond(x.sum() > 3, lambda: x.sin(), lambda: x * 2)

    x = fb.tensor([[3.0, 1.0], [8.0, 2.0], [0.5, 0.1]])
    for way in (lambda f: f, fb.compile):
        counts, ends = way(lambda a: fb.vmap(halvings)(a))(x)
        assert counts.tolist() == [2, 3, 0] and fb.equal(ends, fb.stack([halvings(row)[1] for row in x]))
        slopes = way(lambda a: fb.vmap(fb.func.grad(lambda b: chosen(b).sum()))(a))(x)
        np.testing.assert_allclose(slopes.numpy(), [x[0].cos().tolist(), x[1].cos().tolist(), [2, 2]], rtol=1e-6)
    with pytest.raises(RuntimeError, match="in place"):
        fb.vmap(lambda a: fb.cond(a.sum() > 3, lambda: a.add_(1), lambda: a * 2))(x)
