"""The tape: accumulation, modes, in-place ops and views, hooks, user functions, memory."""

from __future__ import annotations

import copy
import gc
import pickle
import weakref
from typing import Any

import numpy as np
import pytest
from against_torch import check

import flambeau as fb
import flambeau.nn.functional as F
from flambeau.autograd import Function


def leaf(*values: float) -> fb.Tensor:
    return fb.tensor(list(values), requires_grad=True)


# -- backward ---------------------------------------------------------------------------------------------------------


def test_product_of_two_numbers() -> None:
    x, y = fb.tensor(3.0, requires_grad=True), fb.tensor(4.0, requires_grad=True)
    z = x * y
    z.backward()
    assert (x.grad.item(), y.grad.item(), z.is_leaf, z.grad) == (4.0, 3.0, False, None)


def test_gradients_accumulate_over_backwards() -> None:
    x = leaf(1.0, 2.0)
    for _ in range(3):
        (x * x).sum().backward()
    assert x.grad.tolist() == [6.0, 12.0]


def test_gradients_of_several_uses_add_up() -> None:
    x = leaf(2.0)
    (x * x + x + x.exp() * 0).backward(fb.ones(1))
    assert x.grad.tolist() == [5.0]


def test_grad_is_updated_in_place_and_owned() -> None:
    x = leaf(1.0, 2.0)
    x.sum().backward()
    first = x.grad
    x.sum().backward()
    assert x.grad is first and first.tolist() == [2.0, 2.0]
    first.zero_()
    assert x.grad.tolist() == [0.0, 0.0]


def test_second_backward_needs_retain_graph() -> None:
    x = leaf(1.0, 2.0)
    y = (x * x).sum()
    y.backward(retain_graph=True)
    y.backward()
    assert x.grad.tolist() == [4.0, 8.0]
    with pytest.raises(RuntimeError, match="retain_graph"):
        y.backward()


def test_backward_of_a_vector_needs_its_gradient() -> None:
    x = leaf(1.0, 2.0)
    with pytest.raises(RuntimeError, match="scalar outputs"):
        (x * 2).backward()
    (x * 2).backward(fb.tensor([1.0, 10.0]))
    assert x.grad.tolist() == [2.0, 20.0]
    with pytest.raises(RuntimeError):
        (x * 2).backward(fb.ones(3))


def test_backward_without_requires_grad_raises() -> None:
    with pytest.raises(RuntimeError, match="does not require grad"):
        fb.ones(1).sum().backward()


def test_backward_to_named_inputs_only() -> None:
    x, y = leaf(1.0), leaf(2.0)
    (x * y).sum().backward(inputs=[x])
    assert x.grad.tolist() == [2.0] and y.grad is None


def test_grad_of_a_leaf_itself() -> None:
    x = fb.tensor(1.0, requires_grad=True)
    x.backward()
    assert x.grad.item() == 1.0


def test_higher_derivatives_of_a_power() -> None:
    x = fb.tensor(2.0, requires_grad=True)
    y = x**4
    (first,) = fb.autograd.grad(y, x, create_graph=True)
    (second,) = fb.autograd.grad(first, x, create_graph=True)
    (third,) = fb.autograd.grad(second, x)
    assert [first.item(), second.item(), third.item()] == pytest.approx([32.0, 48.0, 48.0], rel=1e-6)


@pytest.mark.parametrize(
    "function",
    [
        lambda x: F.softmax(x, 1),
        lambda x: F.log_softmax(x, 1),
        lambda x: F.layer_norm(x, (4,)),
        lambda x: F.gelu(x),
        lambda x: x.var(1),
        lambda x: x.logsumexp(0),
        lambda x: x[1:, ::2] ** 3,
        lambda x: x.prod(1),
        lambda x: x @ x.mT,
        lambda x: F.conv2d(x.reshape(1, 1, 3, 4), x[:2, :2].reshape(1, 1, 2, 2)),
        lambda x: x.gather(1, fb.tensor([[0], [3], [1]])) ** 2,
        lambda x: F.max_pool2d(x.reshape(1, 1, 3, 4), 2, 1) ** 2,
        lambda x: x.cumsum(1).sin(),
    ],
)
def test_second_derivatives_match_finite_differences(function: Any) -> None:
    x = fb.tensor(np.random.default_rng(0).normal(size=(3, 4)), requires_grad=True)
    direction = fb.tensor(np.random.default_rng(1).normal(size=(3, 4)))

    def slope(at: fb.Tensor, keep: bool) -> fb.Tensor:
        y = function(at)
        weights = fb.tensor(np.cos(np.arange(y.numel())).reshape(tuple(y.shape)))
        return fb.autograd.grad((y * weights).sum(), at, create_graph=keep)[0]

    (found,) = fb.autograd.grad((slope(x, True) * direction).sum(), x)
    h = 1e-5
    ends = [slope((x + sign * h * direction).detach().requires_grad_(), False) for sign in (1, -1)]
    np.testing.assert_allclose(found.numpy(), ((ends[0] - ends[1]) / (2 * h)).numpy(), rtol=1e-5, atol=1e-7)


def test_grad_reports_unused_inputs() -> None:
    x, y = leaf(1.0), leaf(2.0)
    with pytest.raises(RuntimeError, match="allow_unused"):
        fb.autograd.grad(x.sum(), [x, y])
    assert fb.autograd.grad(x.sum(), [x, y], allow_unused=True)[1] is None
    assert fb.autograd.grad(x.sum(), [x, y], materialize_grads=True)[1].tolist() == [0.0]
    assert x.grad is None


def test_grad_refuses_zeros_that_are_not_allowed() -> None:
    x = leaf(1.0)
    with pytest.raises(ValueError, match="materialize_grads"):
        fb.autograd.grad(x.sum(), x, allow_unused=False, materialize_grads=True)


def test_requires_grad_is_set_on_leaves_only() -> None:
    y = leaf(1.0) * 2
    for value in (True, False):
        with pytest.raises(RuntimeError, match="leaf"):
            y.requires_grad = value
    assert y.requires_grad_() is y


def test_grad_with_respect_to_a_computed_tensor() -> None:
    x = leaf(3.0)
    y = x * 2
    assert fb.autograd.grad((y * y).sum(), y)[0].tolist() == [12.0]


def test_no_grad_and_enable_grad_nest() -> None:
    x = leaf(1.0)
    with fb.no_grad():
        assert not fb.is_grad_enabled() and not (x * 2).requires_grad
        with fb.enable_grad():
            assert (x * 2).requires_grad
    assert fb.is_grad_enabled()

    @fb.no_grad()
    def frozen() -> fb.Tensor:
        return x * 2

    assert not frozen().requires_grad and fb.is_grad_enabled()
    fb.set_grad_enabled(False)
    assert not fb.is_grad_enabled()
    fb.set_grad_enabled(True)


def test_grad_mode_comes_back_after_an_error() -> None:
    with pytest.raises(ValueError), fb.no_grad():
        raise ValueError
    assert fb.is_grad_enabled()


def test_only_floats_require_grad() -> None:
    with pytest.raises(RuntimeError):
        fb.ones(2, dtype=fb.int64).requires_grad_()
    with pytest.raises(RuntimeError):
        (leaf(1.0) * 2).requires_grad_(False)
    assert not (leaf(1.0) > 0).requires_grad and not leaf(1.0).argmax().requires_grad


def test_casts_carry_gradients_between_floats() -> None:
    x = leaf(1.0, 2.0)
    (x.double() * 3).half().float().sum().backward()
    assert x.grad.tolist() == [3.0, 3.0] and x.grad.dtype is fb.float32


def test_retain_grad_keeps_the_gradient_of_a_computed_tensor() -> None:
    x = leaf(1.0, 2.0)
    y = x * 2
    y.retain_grad()
    (y * y).sum().backward()
    assert y.grad.tolist() == [4.0, 8.0]


def test_retained_gradients_accumulate_and_are_owned() -> None:
    x, g = leaf(1.0, 2.0), fb.ones(2)
    y = x * 2
    y.retain_grad()
    y.sum().backward(retain_graph=True)
    first = y.grad
    y.sum().backward()
    assert (y.grad.tolist(), first.tolist()) == ([2.0, 2.0], [1.0, 1.0])
    z = x * 1
    z.retain_grad()
    (z + 0).backward(g)
    z.grad.mul_(7)
    assert g.tolist() == [1.0, 1.0]


def test_a_retained_gradient_is_left_by_grad_and_by_backward_to_it() -> None:
    x = leaf(1.0, 2.0)
    y = x * 2
    y.retain_grad()
    fb.autograd.grad((y * 3).sum(), y)
    assert y.grad.tolist() == [3.0, 3.0]
    y.sum().backward(inputs=[y], retain_graph=True)
    assert y.grad.tolist() == [4.0, 4.0] and x.grad is None
    z = x * 2
    z.sum().backward(inputs=[z])
    assert z.grad.tolist() == [1.0, 1.0]


def test_a_retained_gradient_follows_its_tensor_through_writes() -> None:
    x = leaf(1.0, 2.0)
    y = x * 2
    y.retain_grad()
    y.mul_(3)
    y[0].mul_(5)
    y.sum().backward()
    assert (y.grad.tolist(), x.grad.tolist()) == ([1.0, 1.0], [30.0, 6.0])
    part = (x * 2)[:1]
    part.retain_grad()
    part.mul_(3)
    part.sum().backward()
    assert part.grad.tolist() == [1.0]
    base = x * 2
    view = base[:1]
    view.retain_grad()
    base.mul_(3)
    (view * 4).sum().backward()
    assert view.grad.tolist() == [4.0]


def test_gradients_share_memory_with_nothing() -> None:
    a, b, g = leaf(1.0, 2.0), leaf(3.0, 4.0), fb.ones(2)
    (a + b).backward(g)
    a.grad.mul_(7)
    assert (b.grad.tolist(), g.tolist()) == ([1.0, 1.0], [1.0, 1.0])
    c = leaf(1.0, 2.0)
    (c + b).backward(g, create_graph=True)
    c.grad.detach().mul_(7)
    assert (b.grad.tolist(), g.tolist()) == ([2.0, 2.0], [1.0, 1.0])
    d = leaf(1.0, 2.0)
    y = d * b.detach()
    y.sum().backward()
    d.grad.zero_()
    assert b.tolist() == [3.0, 4.0]


def test_detach_shares_memory_and_stops_gradients() -> None:
    x = leaf(1.0, 2.0)
    d = x.detach()
    assert not d.requires_grad and d.data_ptr() == x.data_ptr()
    with fb.no_grad():
        x[0] = 9.0
    assert d.tolist() == [9.0, 2.0]
    (x * x.detach()).sum().backward()
    assert x.grad.tolist() == [9.0, 2.0]


def test_detached_view_does_not_follow_its_base_history() -> None:
    x, base = leaf(2.0), fb.zeros(3)
    d = base[1:].detach()
    base[0] = x[0]
    assert base.requires_grad and not (d * 1).requires_grad


# -- in place ---------------------------------------------------------------------------------------------------------


def test_inplace_on_a_leaf_that_requires_grad_raises() -> None:
    x = leaf(1.0)
    with pytest.raises(RuntimeError, match="leaf"):
        x.add_(1)
    with pytest.raises(RuntimeError, match="leaf"):
        x[0] = 2.0
    with fb.no_grad():
        x.add_(1)
    assert x.tolist() == [2.0] and x.requires_grad and x.is_leaf


@pytest.mark.torch
def test_inplace_chain_agrees() -> None:
    def run(lib: Any, x: Any, v: Any) -> Any:
        y = x * 2
        z = y + 1
        y.mul_(v.detach()).add_(x).sub_(1, alpha=2)
        y += v
        y /= 3
        w = y * z
        y.clamp_(-1, 1)
        y.neg_()
        return y, z, w.detach()

    check(run, "f32[3,4]", "f32[4]")


@pytest.mark.torch
def test_views_and_inplace_agree() -> None:
    def run(lib: Any, x: Any, v: Any) -> Any:
        y = x * 1
        row, column, block = y[0], y[:, 1], y[1:, 2:]
        row.mul_(2)
        column += v[:, 0]
        block.t().add_(v[0, :2, None])
        y.view(-1)[3:7].mul_(3)
        y[2].copy_(v[0])
        return y, row * 2, column * v[:, 1], block.sum()

    check(run, "f32[3,4]", "f32[3,4]")


@pytest.mark.torch
def test_views_made_before_their_base_joined_the_tape_agree() -> None:
    def run(lib: Any, x: Any) -> Any:
        base = lib.zeros(3, 4)
        view = base.t()[1]
        base[1] = x
        base.mul_(2)
        return base, view * 3

    check(run, "f32[4]")


def test_saved_tensor_changed_before_backward_raises() -> None:
    x = leaf(1.0, 2.0)
    y = x * 1
    z = y * y
    y.add_(1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        z.sum().backward()


def test_saved_tensor_changed_through_a_view_or_detach_raises() -> None:
    for change in (lambda y: y[:1].zero_(), lambda y: y.detach().zero_()):
        x = leaf(1.0, 2.0)
        y = x * 1
        z = (y * y).sum()
        with fb.no_grad():
            change(y)
        with pytest.raises(RuntimeError, match="inplace"):
            z.backward()


def test_inplace_after_a_use_that_saved_nothing_is_fine() -> None:
    x = leaf(1.0, 2.0)
    y = x * 1
    z = y + 1
    y.mul_(5)
    (z.sum() + y.sum()).backward()
    assert x.grad.tolist() == [6.0, 6.0]


def test_inplace_result_must_fit() -> None:
    x = fb.zeros(2)
    with pytest.raises(RuntimeError):
        x.add_(fb.ones(3, 2))
    with pytest.raises(RuntimeError, match="can't be cast"):
        fb.zeros(2, dtype=fb.int64).add_(0.5)
    with pytest.raises(RuntimeError):
        x.expand(3, 2).add_(1)
    with pytest.raises(RuntimeError, match="can't be cast"):
        i = fb.zeros(2, dtype=fb.int64)
        i /= 2
    assert x.add_(fb.ones(2, dtype=fb.float64)).dtype is fb.float32


def test_inplace_bumps_the_version_of_every_view() -> None:
    x = fb.zeros(4)
    v = x[1:]
    before = x._version
    v.add_(1)
    assert x._version == before + 1 == v._version and x.tolist() == [0, 1, 1, 1]


@pytest.mark.parametrize(
    "name",
    [
        "exp_",
        "sqrt_",
        "neg_",
        "abs_",
        "relu_",
        "sigmoid_",
        "tanh_",
        "log_",
        "reciprocal_",
        "zero_",
        "square_",
        "floor_",
        "round_",
        "rsqrt_",
    ],
)
def test_inplace_methods_return_the_tensor_with_the_result(name: str) -> None:
    x = fb.tensor([0.5, 1.5, 2.5])
    expected = fb.zeros(3) if name == "zero_" else getattr(F if name == "relu_" else fb, name[:-1])(x)
    assert getattr(x, name)() is x
    assert x.tolist() == expected.tolist()


def test_data_setter_repoints_the_tensor() -> None:
    p = leaf(1.0, 2.0)
    p.data = fb.tensor([5.0, 6.0, 7.0])
    assert p.tolist() == [5.0, 6.0, 7.0] and p.requires_grad
    p.data.mul_(2)
    assert p.tolist() == [10.0, 12.0, 14.0]


# -- hooks ------------------------------------------------------------------------------------------------------------


def test_hooks_see_and_replace_gradients() -> None:
    x = leaf(1.0, 2.0)
    y = x * 3
    seen = []
    handle = x.register_hook(lambda g: seen.append(g.tolist()))
    y.register_hook(lambda g: g * 10)
    ((y * 1).sum() + (y * 2).sum()).backward()
    assert x.grad.tolist() == [90.0, 90.0] and seen == [[90.0, 90.0]]
    handle.remove()
    x.sum().backward()
    assert len(seen) == 1


def test_hooks_run_newest_tensor_first_and_leaves_as_soon_as_they_can() -> None:
    seen: list[str] = []
    x, w = leaf(1.0), leaf(2.0)
    x.register_hook(lambda g: seen.append("x"))
    w.register_hook(lambda g: seen.append("w"))
    a = x * 2
    a.register_hook(lambda g: seen.append("a"))
    b = w * a
    b.register_hook(lambda g: seen.append("b"))
    c = b + x
    c.register_hook(lambda g: seen.append("c"))
    c.register_hook(lambda g: seen.append("c again"))
    c.sum().backward()
    assert seen == ["c", "c again", "b", "w", "a", "x"]


def test_grad_runs_the_hooks_on_the_way_only() -> None:
    seen: list[str] = []
    x, y = leaf(1.0), leaf(2.0)
    y.register_hook(lambda g: seen.append("y"))
    z = x * y
    z.register_hook(lambda g: seen.append("z") or g * 3)
    unused = y * 5
    unused.register_hook(lambda g: seen.append("unused"))
    assert fb.autograd.grad((z + unused).sum(), [x, z])[0].tolist() == [6.0] and seen == ["z"]
    h = x * 2
    h.register_hook(lambda g: g * 10)
    assert fb.autograd.grad(h.sum(), h)[0].tolist() == [10.0]


def test_grad_frees_only_what_it_walked() -> None:
    x, w = leaf(1.0), leaf(2.0)
    y = x * w
    fb.autograd.grad((y * y).sum(), y)
    y.sum().backward()
    assert x.grad.tolist() == [2.0]


def test_hooks_stay_with_what_they_were_set_on() -> None:
    seen: list[Any] = []
    x = leaf(1.0)
    y = x * 2
    y.register_hook(lambda g: seen.append(("old", g.tolist())))
    y.mul_(3)
    y.register_hook(lambda g: seen.append(("new", g.tolist())))
    y.sum().backward()
    assert seen == [("new", [1.0]), ("old", [3.0])]


@pytest.mark.parametrize(
    ("given", "error"),
    [(lambda g: 3, TypeError), (lambda g: fb.ones(2), RuntimeError), (lambda g: g.double(), RuntimeError)],
)
def test_a_hook_must_give_a_gradient_of_the_same_type(given: Any, error: type[Exception]) -> None:
    x = leaf(1.0)
    x.register_hook(given)
    with pytest.raises(error, match="hook"):
        (x * 2).sum().backward()


# -- user functions ---------------------------------------------------------------------------------------------------


class Exp(Function):
    @staticmethod
    def forward(ctx: Any, x: fb.Tensor) -> fb.Tensor:
        y = x.exp()
        ctx.save_for_backward(y)
        return y

    @staticmethod
    def backward(ctx: Any, gradient: fb.Tensor) -> fb.Tensor:
        (y,) = ctx.saved_tensors
        return gradient * y


class Mul(Function):
    @staticmethod
    def forward(ctx: Any, x: fb.Tensor, y: fb.Tensor) -> fb.Tensor:
        ctx.save_for_backward(x, y)
        return x * y

    @staticmethod
    def backward(ctx: Any, d: fb.Tensor) -> tuple[fb.Tensor, fb.Tensor]:
        x, y = ctx.saved_values
        return y * d, x * d


class Scaled(Function):
    @staticmethod
    def forward(ctx: Any, x: fb.Tensor, factor: float) -> tuple[fb.Tensor, fb.Tensor]:
        ctx.factor = factor
        marked = x > 0
        ctx.mark_non_differentiable(marked)
        return x * factor, marked

    @staticmethod
    def backward(ctx: Any, gradient: fb.Tensor, _: Any) -> tuple[fb.Tensor, None]:
        return gradient * ctx.factor, None


def test_function_of_one_tensor_and_its_second_derivative() -> None:
    x = fb.tensor(1.5, requires_grad=True)
    (first,) = fb.autograd.grad(Exp.apply(x), x, create_graph=True)
    (second,) = fb.autograd.grad(first, x)
    assert first.item() == second.item() == pytest.approx(np.exp(1.5), rel=1e-6)


def test_function_in_minitorchs_form() -> None:
    x, y = leaf(2.0, 3.0), leaf(5.0, 7.0)
    Mul.apply(x, y).sum().backward()
    assert (x.grad.tolist(), y.grad.tolist()) == ([5.0, 7.0], [2.0, 3.0])


def test_function_with_numbers_and_several_outputs() -> None:
    x = leaf(2.0, -3.0)
    y, marked = Scaled.apply(x, 4.0)
    y.sum().backward()
    assert x.grad.tolist() == [4.0, 4.0] and marked.tolist() == [True, False] and not marked.requires_grad


def test_saved_tensors_by_their_old_name() -> None:
    class Old(Exp):
        @staticmethod
        def backward(ctx: Any, gradient: fb.Tensor) -> fb.Tensor:
            with pytest.warns(DeprecationWarning, match="use 'saved_tensors'"):
                (y,) = ctx.saved_variables
            return gradient * y

    x = fb.zeros(2, requires_grad=True)
    Old.apply(x).sum().backward()
    assert x.grad.tolist() == [1.0, 1.0]


def test_function_sees_saved_tensors_changed_in_place() -> None:
    x, y = leaf(2.0), leaf(5.0)
    a = x * 1
    z = Mul.apply(a, y)
    with fb.no_grad():
        a.add_(1)
    with pytest.raises(RuntimeError, match="inplace"):
        z.sum().backward()


def test_function_with_too_few_gradients_raises() -> None:
    class Wrong(Function):
        @staticmethod
        def forward(ctx: Any, x: fb.Tensor, y: fb.Tensor) -> fb.Tensor:
            return x + y

        @staticmethod
        def backward(ctx: Any, d: fb.Tensor) -> fb.Tensor:
            return d

    with pytest.raises(RuntimeError, match="gradients"):
        Wrong.apply(leaf(1.0), leaf(2.0)).sum().backward()


class DoubledInPlace(Function):
    @staticmethod
    def forward(ctx: Any, x: fb.Tensor, returned: bool = True) -> fb.Tensor:
        x.mul_(2)
        ctx.mark_dirty(x)
        return x if returned else x + 1

    @staticmethod
    def backward(ctx: Any, g: fb.Tensor) -> tuple[Any, ...]:
        return g * 2, None


@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "compiled"])
def test_function_that_changes_its_input_in_place(compiled: bool) -> None:
    def of_a_tensor(x: fb.Tensor) -> fb.Tensor:
        h = x * 1
        view = h[1:]
        assert DoubledInPlace.apply(h, True) is h
        return h * fb.tensor([1.0, 10.0]) + view

    def of_a_view(x: fb.Tensor) -> fb.Tensor:
        h = x * 1
        DoubledInPlace.apply(h[1:], True)
        return h * 1

    for function, value, gradient in ((of_a_tensor, [6.0, 44.0], [2.0, 24.0]), (of_a_view, [1.0, 4.0], [1.0, 2.0])):
        x = leaf(1.0, 2.0)
        y = (fb.compile(function) if compiled else function)(x)
        y.sum().backward()
        assert (y.tolist(), x.grad.tolist()) == (value, gradient)


def test_function_that_changes_a_leaf_or_keeps_what_it_changed_raises() -> None:
    with pytest.raises(RuntimeError, match="leaf"):
        DoubledInPlace.apply(leaf(1.0), True)
    with pytest.raises(RuntimeError, match="not returned"):
        DoubledInPlace.apply(leaf(1.0) * 1, False)


def test_function_under_no_grad_records_nothing() -> None:
    with fb.no_grad():
        assert not Exp.apply(leaf(1.0)).requires_grad


# -- size and memory --------------------------------------------------------------------------------------------------


def test_chain_of_ten_thousand_ops_needs_no_recursion() -> None:
    x = leaf(1.0)
    y = x
    for _ in range(10_000):
        y = y + 0.5
    y.sum().backward()
    assert x.grad.tolist() == [1.0]
    del y  # freeing the tape must not recurse either


def test_inplace_chain_of_ten_thousand_ops() -> None:
    x = leaf(1.0)
    y = x * 1
    for _ in range(10_000):
        y += x
    y.sum().backward()
    assert x.grad.tolist() == [10_001.0]


def test_tape_is_freed_with_its_tensors_without_the_collector() -> None:
    gc.collect()
    gc.disable()
    try:
        x = leaf(1.0, 2.0)
        y = x * 2
        z = y.exp().view(2, 1)
        y2 = y[1:]
        alive = [weakref.ref(t._storage) for t in (y, z, y2)] + [weakref.ref(y)]
        loss = (z.sum() + y2.sum() + F.softmax(y, 0)[0]).sum()
        loss.backward()
        del y, z, y2, loss
        assert all(reference() is None for reference in alive)
    finally:
        gc.enable()


def test_memory_of_the_tape_is_freed_by_backward() -> None:
    x = leaf(*[1.0] * 100)
    hidden = x.exp()
    reference = weakref.ref(hidden._storage)
    loss = hidden.sum()
    del hidden
    assert reference() is not None  # exp's derivative needs its result
    loss.backward()
    assert reference() is None


def test_objects_do_not_grow_over_steps() -> None:
    weight = fb.ones(4, 4).requires_grad_()
    state = fb.zeros(4)

    def step() -> None:
        weight.grad = None
        h = (fb.ones(2, 4) @ weight).relu() + 0
        h[0] = h[1] * 2
        loss = F.cross_entropy(h, fb.tensor([0, 1]))
        loss.backward()
        with fb.no_grad():
            weight.sub_(weight.grad * 0.01)
            state.mul_(0.9).add_(h[0])

    for _ in range(20):
        step()
    gc.collect()
    before = len(gc.get_objects())
    for _ in range(1000):
        step()
    gc.collect()
    assert len(gc.get_objects()) - before < 100


# -- copies -----------------------------------------------------------------------------------------------------------


def test_deepcopy_and_pickle_keep_data_dtype_and_requires_grad() -> None:
    x = fb.tensor([[1.0, 2.0]], dtype=fb.bfloat16, requires_grad=True)
    x.sum().backward()
    for copied in (copy.deepcopy(x), pickle.loads(pickle.dumps(x))):
        assert copied.tolist() == [[1.0, 2.0]] and copied.dtype is fb.bfloat16 and copied.requires_grad
        assert copied.data_ptr() != x.data_ptr()
    assert copy.deepcopy(x).grad.tolist() == [[1.0, 1.0]]
    twice = copy.deepcopy([x, x])
    assert twice[0] is twice[1]
    with pytest.raises(RuntimeError, match="leaf"):
        copy.deepcopy(x * 2)


COPIES = {
    "roll": lambda x: x.roll(0, 0),
    "pad": lambda x: F.pad(x, (0, 0)),
    "cumprod": lambda x: x.cumprod(0),
    "index_copy": lambda x: x.index_copy(0, fb.zeros(0, dtype=fb.int64), fb.zeros(0)),
    "cumsum_0d": lambda x: x[0].cumsum(0),
    "cumprod_0d": lambda x: x[0].cumprod(0),
    "sort_0d": lambda x: x[0].sort().values,
    "topk_0d": lambda x: x[0].topk(1).values,
    "kthvalue_0d": lambda x: x[0].kthvalue(1).values,
}


@pytest.mark.parametrize("function", COPIES.values(), ids=COPIES.keys())
def test_results_with_nothing_to_do_are_copies_too(function: Any) -> None:
    x = fb.tensor([3.0], requires_grad=True)
    copy = function(x)
    copy.sum().backward()
    assert x.grad is not None and x.grad.tolist() == [1.0]
    with fb.no_grad():
        copy.add_(1)
    assert x.tolist() == [3.0]


def test_set_grad_enabled_decorates_functions() -> None:
    @fb.set_grad_enabled(False)
    def f(x):
        return x * 2

    assert fb.is_grad_enabled()
    x = fb.ones(1, requires_grad=True)
    assert not f(x).requires_grad and not fb.compile(f)(x).requires_grad and (x * 2).requires_grad


def test_grad_of_batches_of_starts_and_of_dicts() -> None:
    x, unused = leaf(1.0, 2.0), leaf(0.0)
    y = x**3
    (jacobian,) = fb.autograd.grad(y, x, fb.eye(2), is_grads_batched=True, create_graph=True)
    assert jacobian.tolist() == [[3.0, 0.0], [0.0, 12.0]]
    (second,) = fb.autograd.grad(jacobian.sum(), x, retain_graph=True)
    assert second.tolist() == [6.0, 12.0]
    found = fb.autograd.grad(y, {"x": x, "other": unused}, fb.ones(2), retain_graph=True, allow_unused=True)
    assert found["x"].tolist() == [3.0, 12.0] and found["other"] is None
    with pytest.warns(FutureWarning, match="only_inputs"):
        fb.autograd.grad(y, x, fb.ones(2), only_inputs=False)


def test_parameters_take_attributes_and_compiled_functions_notice_them() -> None:
    weight = fb.nn.Parameter(fb.ones(2))
    weight.scale = 2.0

    @fb.compile
    def scaled(x: fb.Tensor) -> fb.Tensor:
        return x * weight * weight.scale

    assert scaled(fb.ones(2)).tolist() == [2.0, 2.0] and copy.deepcopy(weight).scale == 2.0
    weight.scale = 3.0
    assert scaled(fb.ones(2)).tolist() == [3.0, 3.0]
