"""Gradients of in-place writes, eager and compiled: every form, through views, with the values PyTorch gives."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import flambeau as fb
import flambeau.nn.functional as F
from flambeau.frontend.functions import rows
from flambeau.frontend.functions.inplace import METHODS

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


# -- every method -----------------------------------------------------------------------------------------------------

INTEGERS = {"bitwise_and_", "bitwise_left_shift_", "bitwise_not_", "bitwise_or_", "bitwise_right_shift_", "bitwise_xor_",
            "gcd_", "lcm_"}
MATRICES = {"addbmm_", "addmm_", "addr_", "fill_diagonal_", "renorm_", "tril_", "triu_"}
FILLED = {"copy_", "fill_", "zero_"}
MATRIX = [[0.3, 0.7], [0.6, 0.2]]
NUMBERS = [0.3, 0.6, 0.45]


def arguments(name: str, w: fb.Tensor) -> tuple[Any, ...]:
    """What a method is tried with, for a tensor like `w`: (0, 1) holds every domain but acosh's."""
    one, first = fb.tensor([1]), fb.tensor([0])
    match name:
        case "addcdiv_" | "addcmul_":
            return (w, w + 1)
        case "lerp_":
            return (w, 0.25)
        case "clamp_" | "clip_":
            return (0.4, 0.5)
        case "threshold_":
            return (0.4, 2.0)
        case "index_add_" | "index_copy_":
            return (0, one, w[:1])
        case "index_fill_":
            return (0, one, 0.5)
        case "index_put_":
            return ((one,), w[:1])
        case "masked_fill_":
            return (w > 0.5, 2.0)
        case "scatter_" | "scatter_add_":
            return (0, first, w[:1])
        case "addmm_":
            return (w, w + 1)
        case "baddbmm_":
            return (w, w + 1)
        case "addbmm_":
            return (w[None], w[None] + 1)
        case "index_reduce_":
            return (0, one, w[:1], "prod")
        case "scatter_reduce_":
            return (0, first, w[:1], "amax")
        case "masked_scatter_":
            return (w > 0.5, w)
        case "mvlgamma_" | "polygamma_":
            return (1,)
        case "fill_diagonal_":
            return (0.5,)
        case "put_":
            return (one, w[:1])
        case "renorm_":
            return (2, 0, 0.5)
        case "addmv_":
            return (fb.outer(w, w), w + 1)
        case "addr_":
            return (w[0], w[1])
        case "cumsum_" | "cumprod_":
            return (0,)
    takes_two = {"add_", "div_", "divide_", "float_power_", "floor_divide_", "gcd_", "lcm_", "ldexp_", "mul_", "multiply_",
                 "nextafter_", "pow_", "sub_", "subtract_", "true_divide_", "clamp_min_", "clamp_max_"} | {
        f"{n}_" for op, surface in rows.rows() if op.arity == 2 for n in (surface.name or op.name, *surface.aliases)}
    return (w,) if name in takes_two else ()


@pytest.mark.parametrize("through_view", [False, True], ids=["itself", "through a view"])
@pytest.mark.parametrize("name", sorted(set(METHODS) - FILLED))
def test_every_method_does_in_place_what_its_function_does(name: str, through_view: bool) -> None:
    values: Any = [MATRIX] if name == "baddbmm_" else MATRIX if name in MATRICES else NUMBERS
    if name in ("acosh_", "arccosh_"):
        values = [1.3, 1.6, 1.45]
    outcomes = []
    for in_place in (False, True):
        if name in INTEGERS:
            x, w = fb.tensor([5, 6, 7]), fb.tensor([1, 2, 3])
        else:
            x = fb.tensor(values, dtype=fb.float64, requires_grad=True)
            w = fb.tensor((np.array(values)[::-1] * 1.1).copy(), dtype=fb.float64, requires_grad=True)
        given = arguments(name, w)
        if in_place:
            whole = fb.stack([x, x * 2]) if through_view else x * 1
            h = whole[0] if through_view else whole
            assert getattr(h, name)(*given) is h
        else:
            function = METHODS[name].__wrapped__
            h = function(x * 1, *given).to(x.dtype)
            whole = fb.stack([h, x * 2]) if through_view else h
        if whole.requires_grad:
            (whole * whole).sum().backward()
        outcomes.append((whole.tolist(), [None if t.grad is None else t.grad.tolist() for t in (x, w)]))
    (value, gradients_due), (found, gradients_found) = outcomes
    assert found == value
    for a, b in zip(gradients_found, gradients_due, strict=True):
        zero = np.zeros_like(values)
        np.testing.assert_allclose(zero if a is None else a, zero if b is None else b, rtol=1e-12)


# -- what raises ------------------------------------------------------------------------------------------------------


def leaf() -> fb.Tensor:
    return fb.tensor(X, requires_grad=True)


def without_grad(view: Callable[[fb.Tensor], fb.Tensor], x: fb.Tensor) -> fb.Tensor:
    with fb.no_grad():
        return view(x)


ERRORS: dict[str, tuple[Callable[[], Any], str]] = {
    "a leaf": (lambda: leaf().mul_(2), "a leaf Variable"),
    "a leaf by zero_": (lambda: leaf().zero_(), "a leaf Variable"),
    "an element of a leaf": (lambda: leaf().__setitem__(0, 1.0), "a view of a leaf"),
    "a view of a leaf": (lambda: leaf()[1:].add_(1), "a view of a leaf"),
    "a leaf by indices": (lambda: leaf().__setitem__(fb.tensor([0]), 1.0), "a leaf Variable"),
    "a leaf by relu": (lambda: F.relu(leaf(), inplace=True), "a leaf Variable"),
    "a leaf that is a view": (lambda: fb.zeros(3)[1:].requires_grad_().mul_(2), "a view of a leaf"),
    "one of unbind": (lambda: (leaf() * 1).unbind()[0].mul_(2), "unbind"),
    "one of split": (lambda: (leaf() * 1).split(2)[0].mul_(2), "split"),
    "one of chunk": (lambda: (leaf() * 1).chunk(3)[0].mul_(2), "split"),
    "one of those iterated": (lambda: next(iter(leaf() * 1)).mul_(2), "unbind"),
    "a view of one of split": (lambda: (leaf() * 1).split(2)[0][:1].mul_(2), "split"),
    "one of split, of nothing yet": (lambda: fb.zeros(4).split(2)[0].add_(leaf()[0]), "split"),
    "made under no_grad": (lambda: without_grad(lambda h: h[1:], leaf() * 1).mul_(2), "no_grad"),
    "made under no_grad of a leaf": (lambda: without_grad(lambda h: h[1:], leaf()).mul_(2), "no_grad"),
    "expanded": (lambda: fb.zeros(1).expand(3).add_(1), "share memory"),
    "detach_ of a view": (lambda: (leaf() * 1)[1:].detach_(), "detach"),
    "requires_grad_(False) of a result": (lambda: (leaf() * 1).requires_grad_(False), "leaf"),
}


@pytest.mark.parametrize("name", ERRORS)
def test_a_write_that_the_tape_cannot_follow_raises(name: str) -> None:
    action, message = ERRORS[name]
    with pytest.raises(RuntimeError, match=message):
        action()


def changed_and_used(saved: Callable[[fb.Tensor], fb.Tensor], change: Callable[[fb.Tensor], Any]) -> None:
    h = leaf() * 1
    y = saved(h)
    change(h)
    y.sum().backward()


@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "compiled"])
def test_a_quotient_may_be_changed(compiled: bool) -> None:
    def step(x: Any, w: Any) -> Any:
        h = x / w
        h += 1
        h.mul_(2)
        return h.sum()

    x, w = (fb.tensor([n, 1.0], requires_grad=True) for n in (3.0, 2.0))
    (fb.compile(step) if compiled else step)(x, w).backward()
    assert (x.grad.tolist(), w.grad.tolist()) == ([1.0, 2.0], [-1.5, -2.0])


@pytest.mark.parametrize(
    ("saved", "change"),
    [
        (lambda h: h * h, lambda h: h.add_(1)),
        (lambda h: h * h, lambda h: h[0].add_(1)),
        (lambda h: h * h, lambda h: h.detach().zero_()),
        (lambda h: h * h, lambda h: fb.no_grad(h.zero_)()),
        (lambda h: h.exp_(), lambda h: h.mul_(2)),
        (lambda h: h.sigmoid_(), lambda h: h[1:].mul_(2)),
        (lambda h: h.mul_(h), lambda h: None),
    ],
)
@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "compiled"])
def test_a_saved_tensor_that_was_changed_raises(saved: Any, change: Any, compiled: bool) -> None:
    run = fb.compile(changed_and_used) if compiled else changed_and_used
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        run(saved, change)


def test_a_view_that_cannot_follow_its_base_raises_when_it_is_used() -> None:
    for view in (lambda h: h.split(2)[0], lambda h: without_grad(lambda h: h[1:], h)):
        h = leaf() * 1
        v = view(h)
        h.mul_(2)
        assert v.requires_grad
        with pytest.raises(RuntimeError, match="can't follow"):
            v * 1
        with fb.no_grad():
            v * 1


def test_unrecorded_writes_to_such_views_are_fine() -> None:
    h = leaf() * 1
    part = h.split(2)[0]
    with fb.no_grad():
        part.mul_(2)
    assert h.tolist() == [1.0, 3.0, -1.25]
    plain = fb.zeros(4)
    plain.split(2)[1].add_(1)
    assert plain.tolist() == [0, 0, 1, 1]


# -- the tape behind --------------------------------------------------------------------------------------------------


def test_data_is_written_behind_the_tapes_back() -> None:
    x = leaf()
    h = x * 1
    y = (h * h).sum()
    h.data.zero_()
    h.data[1:].add_(1)
    assert h._version == 0
    y.backward()
    assert x.grad.tolist() == [0.0, 2.0, 2.0]


def test_assigned_data_does_not_follow_the_history_it_came_from() -> None:
    x, base = leaf(), fb.zeros(4)
    p = fb.zeros(3, requires_grad=True)
    p.data = base[1:]
    base[0] = x[0]
    assert p.is_leaf and p.grad_fn is None
    q = fb.nn.Parameter(base[1:])
    base.mul_(2)
    assert q.is_leaf


def test_views_know_at_once_that_their_base_joined_the_tape() -> None:
    base = fb.zeros(4)
    view = base.view(2, 2)[0]
    assert not view.requires_grad and view.is_leaf
    base[1:] = leaf()
    assert view.requires_grad and not view.is_leaf and view.grad_fn is not None


def test_a_function_sees_what_its_arguments_base_became() -> None:
    class Double(fb.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: fb.Tensor) -> fb.Tensor:
            return x * 2

        @staticmethod
        def backward(ctx: Any, g: fb.Tensor) -> fb.Tensor:
            return g * 2

    x, base = leaf(), fb.zeros(4)
    view = base[1:]
    base[1:] = x
    Double.apply(view).sum().backward()
    assert x.grad.tolist() == [2.0, 2.0, 2.0]


@pytest.mark.parametrize("warm", [False, True], ids=["first call", "later call"])
@pytest.mark.parametrize("captured", [False, True], ids=["argument", "captured"])
def test_a_compiled_function_sees_what_a_views_base_became(captured: bool, warm: bool) -> None:
    x, base = leaf(), fb.zeros(4)
    view = base[1:]
    given = () if captured else (view,)
    f = fb.compile((lambda: view * 2) if captured else (lambda v: v * 2))
    if warm:
        f(*given)
    base[1:] = x
    f(*given).sum().backward()
    assert x.grad.tolist() == [2.0, 2.0, 2.0]
    base.mul_(3)
    x.grad = None
    f(*given).sum().backward()
    assert x.grad.tolist() == [6.0, 6.0, 6.0]


def test_views_made_in_a_trace_stay_in_it_when_their_base_is_written() -> None:
    p = fb.tensor([1.0, 2.0], requires_grad=True)

    @fb.compile
    def step() -> fb.Tensor:
        view = p[1:]
        with fb.no_grad():
            p.mul_(3)
        loss = (view * view).sum()
        loss.backward()
        return loss

    assert step().item() == 36.0 and p.grad.tolist() == [0.0, 12.0]


def test_turning_a_leaf_off_before_backward_leaves_it_without_gradient() -> None:
    x, w = leaf(), leaf()
    y = (x * w).sum()
    x.requires_grad_(False)
    y.backward()
    assert x.grad is None and w.grad.tolist() == X


def test_second_derivatives_through_writes() -> None:
    for write, second in (
        (lambda h: h[:2].pow_(2), [12 * X[0] ** 2, 12 * X[1] ** 2, 2.0]),  # x**4, x**4, x**2
        (lambda h: h.mul_(h.detach() + 1), [2 * (v + 1) ** 2 for v in X]),
    ):
        x = leaf()
        h = x * 1
        write(h)
        (g,) = fb.autograd.grad((h * h).sum(), x, create_graph=True)
        (found,) = fb.autograd.grad(g.sum(), x)
        np.testing.assert_allclose(found.numpy(), second, rtol=1e-6)


def test_writing_through_a_view_costs_the_tape_no_memory() -> None:
    x = fb.tensor([1.0], requires_grad=True)
    h = fb.zeros(1000)
    for place in range(100):
        h[place] = x[0]
    record, storages = h.grad_fn, set()
    while record is not None and record.name == "overwrite":
        storages.update(id(t._storage) for t in record.operands)
        record = record.operands[0]._record
    assert len(storages) == 1
    h.sum().backward()
    assert x.grad.tolist() == [100.0]


@pytest.mark.parametrize("name", ["floor", "ceil", "round", "trunc", "sign", "sgn"])
def test_steps_have_the_gradient_zero(name: str) -> None:
    for function in (lambda x: getattr(x, name)(), fb.compile(lambda x: getattr(x, name)())):
        x = leaf()
        y = function(x)
        assert y.requires_grad
        y.sum().backward()
        assert x.grad.tolist() == [0.0, 0.0, 0.0]


@pytest.mark.parametrize("mode", ["floor", "trunc"])
def test_rounded_division_has_the_gradient_zero(mode: str) -> None:
    def divided(x: fb.Tensor) -> fb.Tensor:
        return fb.div(x, 2.0, rounding_mode=mode)

    for function in (divided, fb.compile(divided)):
        x = leaf()
        y = function(x)
        assert y.requires_grad
        y.sum().backward()
        assert x.grad.tolist() == [0.0, 0.0, 0.0]


def test_remainder_has_the_gradient_of_its_parts() -> None:
    x, w = fb.tensor([5.5, -5.5], requires_grad=True), fb.tensor([2.0, 2.0], requires_grad=True)
    (x % w).sum().backward()
    assert (x.grad.tolist(), w.grad.tolist()) == ([1.0, 1.0], [-2.0, 3.0])


@pytest.mark.parametrize("made", [
    lambda x, w: F.batch_norm(x, None, None, training=True), lambda x, w: F.layer_norm(x, (4,)),
    lambda x, w: F.group_norm(x, 2), lambda x, w: F.instance_norm(x), lambda x, w: F.normalize(x),
    lambda x, w: F.softsign(x), lambda x, w: x / w, lambda x, w: F.cosine_similarity(x, w, dim=2),
], ids=["batch_norm", "layer_norm", "group_norm", "instance_norm", "normalize", "softsign", "div", "cosine_similarity"])
def test_results_that_pytorch_does_not_save_may_be_changed_in_place(made: Any) -> None:
    def gradients(in_place: bool, compiled: bool) -> list[np.ndarray]:
        x = fb.linspace(0.1, 2.5, 24, dtype=fb.float64).reshape(2, 2, 6)[..., :4].square().requires_grad_()
        w = fb.linspace(0.5, 1.5, 16, dtype=fb.float64).reshape(2, 2, 4).requires_grad_()

        def step() -> None:
            y = made(x, w)
            y = F.leaky_relu(y.mul_(3), 0.5, inplace=True) if in_place else F.leaky_relu(y * 3, 0.5)
            (y * y).sum().backward()

        (fb.compile(step) if compiled else step)()
        return [t.grad.numpy() for t in (x, w) if t.grad is not None]

    expected = gradients(False, False)
    for compiled in (False, True):
        for found, due in zip(gradients(True, compiled), expected, strict=True):
            np.testing.assert_allclose(found, due, rtol=1e-12, atol=1e-15)


def test_a_source_that_overlaps_its_target_is_read_before_it_is_written() -> None:
    def strided(x):
        x[::2] = x[0:3]
        return x

    def column(x):
        x[:, 1] = x[1, :]
        return x

    def shifted(x):
        x[1:] = x[:-1]
        return x

    for f in (strided, shifted):
        for g in (f, fb.compile(f)):
            assert g(fb.arange(5.0)).tolist() == ([0, 1, 1, 3, 2] if f is strided else [0, 0, 1, 2, 3])
    for g in (column, fb.compile(column)):
        assert g(fb.arange(9.0).reshape(3, 3)).tolist() == [[0, 3, 2], [3, 4, 5], [6, 5, 8]]


@pytest.mark.parametrize("made", [lambda x: x.flip(()), lambda x: x.take(fb.tensor(0)), lambda x: (x != 0).long() * 3,
                                  lambda x: fb.cond(x > 0, lambda: x.flip(()), lambda: x)])
@pytest.mark.parametrize("compiled", [False, True])
def test_results_without_dims_can_be_written(made: Callable[..., fb.Tensor], compiled: bool) -> None:
    def run(x: fb.Tensor) -> fb.Tensor:
        y = made(x)
        return y.copy_(y + y)

    assert (fb.compile(run) if compiled else run)(fb.tensor(3)).item() == 6
