"""`fb.cond` and `fb.while_loop`: alike in eager and compiled code, and one clear error for what they can't do."""
from __future__ import annotations

from collections.abc import Callable
from queue import SimpleQueue
from typing import Any

import numpy as np
import pytest

import flambeau as fb
from flambeau import nn, optim
from flambeau.errors import CaptureError, KernelError, TraceError, TypeInferenceError, UnsupportedError

Function = Callable[..., Any]
WAYS = pytest.mark.parametrize("way", [lambda f: f, fb.compile, lambda f: fb.compile(f, verify=True)],
                               ids=["eager", "compiled", "verified"])


def sign(x: fb.Tensor) -> fb.Tensor:
    return fb.cond(x.sum() > 0, lambda a: a + 1, lambda a: a - 1, (x,))


@WAYS
def test_cond_calls_one_function(way: Function) -> None:
    function = way(sign)
    assert function(fb.tensor([1.0, 2.0])).tolist() == [2.0, 3.0]
    assert function(fb.tensor([-1.0, -2.0])).tolist() == [-2.0, -3.0]


def test_both_choices_are_one_compiled_program() -> None:
    function = fb.compile(sign)
    function(fb.tensor([1.0]))
    function(fb.tensor([-1.0]))
    assert len(function.signatures) == 1 and "cond(" in function.ir("graph") and "cond(" in function.ir("fused")


@WAYS
def test_results_keep_their_structure_and_numbers_become_tensors(way: Function) -> None:
    def choose(x: fb.Tensor) -> Any:
        return fb.cond(x.any(), lambda: {"a": x, "b": [1, None, True]}, lambda: {"a": ~x, "b": [0, None, False]})

    result = way(choose)(fb.tensor([True, False]))
    assert result["a"].tolist() == [True, False]
    assert [type(leaf) for leaf in result["b"]] == [fb.Tensor, type(None), fb.Tensor]
    assert (result["b"][0].dtype, result["b"][2].dtype) == (fb.int64, fb.bool)


@WAYS
def test_a_python_bool_chooses_while_tracing(way: Function) -> None:
    assert way(lambda x: fb.cond(True, lambda: x, lambda: x[0]))(fb.tensor([3.0])).tolist() == [3.0]


@WAYS
def test_results_share_memory_with_nothing(way: Function) -> None:
    x = fb.tensor([1.0, 2.0])
    result = way(lambda x: fb.cond(x.sum() > 0, lambda: x, lambda: x * 2))(x)
    result.add_(1)
    assert x.tolist() == [1.0, 2.0]


@WAYS
def test_branches_change_what_lies_around_them(way: Function) -> None:
    count, rows = fb.zeros(2), fb.zeros(3, 2)

    def step(x: fb.Tensor) -> fb.Tensor:
        def more() -> fb.Tensor:
            count.add_(1)
            rows[1].copy_(x)
            return x * count

        def less() -> fb.Tensor:
            x.mul_(2)
            return x + 0

        return fb.cond(x[0] > 0, more, less)

    function = way(step)
    x, y = fb.tensor([1.0, -1.0]), fb.tensor([-1.0, 4.0])
    assert function(x).tolist() == [1.0, -1.0] and function(x).tolist() == [2.0, -2.0]
    assert function(y).tolist() == [-2.0, 8.0] == y.tolist()
    assert count.tolist() == [2.0, 2.0] and rows.tolist() == [[0, 0], [1, -1], [0, 0]] and x.tolist() == [1.0, -1.0]


def test_random_numbers_are_drawn_only_where_a_branch_runs() -> None:
    def draw(x: fb.Tensor) -> fb.Tensor:
        return fb.cond(x > 0, lambda: fb.rand(3), lambda: fb.zeros(3))

    found = []
    for function in (draw, fb.compile(draw)):
        fb.manual_seed(4)
        found.append([function(fb.tensor(float(n))).tolist() for n in (1, -1, 1)] + [fb.rand(2).tolist()])
    assert found[0] == found[1] and found[0][0] != found[0][2]


def test_modules_train_inside_a_branch() -> None:
    def built() -> tuple[nn.Module, Function]:
        fb.manual_seed(0)
        net = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Dropout(0.5))

        def step(x: fb.Tensor) -> fb.Tensor:
            with fb.no_grad():
                return fb.cond(x.sum() > 0, lambda: net(x).sum(), lambda: net[0](x).mean())

        return net, step

    (a, eager), (b, traced) = built(), built()
    compiled = fb.compile(traced)
    for n in (1.0, -1.0, 2.0):
        x = fb.rand(5, 3) * n
        fb.manual_seed(int(n) + 7)
        expected = eager(x)
        fb.manual_seed(int(n) + 7)
        assert np.allclose(compiled(x).numpy(), expected.numpy(), rtol=1e-4)
    for left, right in zip(a.state_dict().values(), b.state_dict().values(), strict=True):
        assert np.allclose(left.numpy(), right.numpy(), rtol=1e-4)


def test_an_optimizer_may_skip_a_step() -> None:
    def built() -> tuple[nn.Module, Function]:
        fb.manual_seed(0)
        net = nn.Linear(3, 1)
        opt = optim.Adam(net.parameters(), lr=0.1)

        def step(x: fb.Tensor) -> fb.Tensor:
            opt.zero_grad()
            loss = (net(x) ** 2).mean()
            loss.backward()
            norm = sum(((p.grad ** 2).sum() for p in net.parameters()), fb.tensor(0.0))
            fb.cond(norm < 100, lambda: opt.step(), lambda: None)
            return loss

        return net, step

    (a, eager), (b, traced) = built(), built()
    compiled = fb.compile(traced)
    for n in (1.0, 50.0, 2.0):
        assert np.allclose(compiled(fb.full((2, 3), n)).item(), eager(fb.full((2, 3), n)).item(), rtol=1e-4)
    assert np.allclose(a.weight.detach().numpy(), b.weight.detach().numpy(), rtol=1e-4)


# -- while_loop -------------------------------------------------------------------------------------------------------


def power(x: fb.Tensor, n: int) -> Any:
    return fb.while_loop(lambda i, y: i < n, lambda i, y: (i + 1, y * x), (0, fb.ones_like(x)))


@WAYS
def test_a_loop_runs_as_often_as_its_condition_says(way: Function) -> None:
    function = way(power)
    for n in (3, 0, 5):
        i, y = function(fb.tensor([2.0, 3.0]), n)
        assert i.item() == n and y.tolist() == [2.0**n, 3.0**n]


def test_the_number_of_rounds_is_no_part_of_the_program() -> None:
    function = fb.compile(power)
    for n in range(5):
        function(fb.ones(2), n)
    assert len(function.signatures) == 1


@WAYS
def test_carried_values_may_swap_and_nest(way: Function) -> None:
    def fibonacci(n: fb.Tensor) -> Any:
        return fb.while_loop(lambda s: s["n"] > 0, lambda s: ({"n": s["n"] - 1, "pair": (s["pair"][1], sum(s["pair"]))},),
                             ({"n": n, "pair": (fb.tensor(0), fb.tensor(1))},))

    (state,) = way(fibonacci)(fb.tensor(10))
    assert [t.item() for t in state["pair"]] == [55, 89]


@WAYS
def test_loops_nest_and_read_what_lies_around_them(way: Function) -> None:
    w = fb.tensor([1.0, 2.0])

    def rows(x: fb.Tensor) -> Any:
        def outer(i: fb.Tensor, total: fb.Tensor) -> Any:
            _, inner = fb.while_loop(lambda j, y: j <= i, lambda j, y: (j + 1, y + w * i), (0, fb.zeros(2)))
            return i + 1, total + inner

        return fb.while_loop(lambda i, total: i < 3, outer, (0, x))[1]

    assert way(rows)(fb.zeros(2)).tolist() == [8.0, 16.0]          # 1 * 0 + 2 * 1 + 3 * 2


@WAYS
def test_a_body_changes_state_in_every_round(way: Function) -> None:
    log = fb.zeros(4)

    def fill(n: fb.Tensor) -> Any:
        def body(i: fb.Tensor) -> Any:
            log[1:].copy_(log[:3].clone())
            log[0].copy_(i * 1.0 + 1)
            i.add_(1)
            return (i,)

        return fb.while_loop(lambda i: i < n, body, (fb.tensor(0),))

    (count,) = way(fill)(fb.tensor(3))
    assert count.item() == 3 and log.tolist() == [3.0, 2.0, 1.0, 0.0]


def test_a_descent_with_gradients_inside_the_body() -> None:
    def minimum(x: fb.Tensor) -> fb.Tensor:
        def body(x: fb.Tensor) -> Any:
            at = x.detach().requires_grad_()
            (slope,) = fb.autograd.grad(((at - 3) ** 2).sum(), at)
            return (x - 0.25 * slope,)

        return fb.while_loop(lambda x: ((x - 3) ** 2).sum() > 1e-6, body, (x,))[0]

    eager = minimum(fb.zeros(2))
    assert np.allclose(eager.numpy(), 3.0, atol=1e-3) and fb.compile(minimum)(fb.zeros(2)).tolist() == eager.tolist()


def test_carried_values_stay_in_place() -> None:
    """Every round stores the next values where the old ones were."""
    @fb.compile
    def steps(x: fb.Tensor) -> Any:
        return fb.while_loop(lambda i, y: i < 100, lambda i, y: (i + 1, y * 0.5 + 1), (0, x + 1))

    steps(fb.ones(1000))
    compiled = steps.signatures[0].compiled
    assert compiled.memory.arena_bytes < 1024                      # the counter and the predicate; y lies in the result
    (loop,) = [item for item in compiled.memory.order if not isinstance(item, int)]
    assert len(loop.body) == 3


# -- errors -----------------------------------------------------------------------------------------------------------


def raised(function: Function, *args: Any, compiled: bool = True) -> str:
    with pytest.raises((TypeInferenceError, UnsupportedError, CaptureError, TraceError)) as caught:
        (fb.compile(function) if compiled else function)(*args)
    return str(caught.value)


ONE = fb.tensor([1.0])
WRONG = {
    "cond: true_fn and false_fn must agree in shapes and dtypes: [1] is f32[1] in one and f32[] in the other":
        lambda x: fb.cond(x.sum() > 0, lambda: (x, x), lambda: (x, x[0])),
    "cond: true_fn and false_fn must agree in shapes and dtypes: the value is f32[1] in one and i64[1] in the other":
        lambda x: fb.cond(x.sum() > 0, lambda: x, lambda: x.long()),
    "cond: true_fn and false_fn must have the same structure: only true_fn has ['b']":
        lambda x: fb.cond(x.sum() > 0, lambda: {"a": x, "b": x}, lambda: {"a": x}),
    "cond: true_fn must hold tensors: [0] is str 'x'": lambda x: fb.cond(x.sum() > 0, lambda: ("x",), lambda: (x,)),
    "cond: pred must be a bool or a bool tensor of one element, got f32[]":
        lambda x: fb.cond(x.sum(), lambda: x, lambda: x),
    "cond: pred must be a bool or a bool tensor of one element, got bool[2]":
        lambda x: fb.cond(fb.tensor([True, False]), lambda: x, lambda: x),
    "cond: false_fn must be a function, got": lambda x: fb.cond(x.sum() > 0, lambda: x, x),
    "cond: operands must be a tuple or a list, got Tensor":
        lambda x: fb.cond(x.sum() > 0, lambda x: x, lambda x: x, x),
    "while_loop: carried_inputs and body_fn must agree in shapes and dtypes: [0] is f32[1] in one and f32[2] in the other":
        lambda x: fb.while_loop(lambda x: x.sum() < 9, lambda x: (fb.cat([x, x]),), (x,)),
    "while_loop: body_fn must give a tuple like carried_inputs, got f32[1]":
        lambda x: fb.while_loop(lambda x: x.sum() < 9, lambda x: x + 1, (x,)),
    "while_loop: carried_inputs and body_fn must have the same structure: only carried_inputs has [1]":
        lambda x: fb.while_loop(lambda x, y: x.sum() < 9, lambda x, y: (x,), (x, x)),
    "while_loop: what cond_fn gives must be a bool or a bool tensor of one element, got f32[]":
        lambda x: fb.while_loop(lambda x: x.sum(), lambda x: (x,), (x,)),
    "while_loop: cond_fn changed a tensor in place": lambda x: fb.while_loop(lambda x: x.add_(1).sum() < 9, lambda x: (x,),
                                                                             (x,)),
    "while_loop: carried_inputs holds no tensor": lambda x: fb.while_loop(lambda: True, lambda: (), ()),
}
ONLY_TRACED = {message for message in WRONG if message.startswith(("cond: true_fn and", "cond: true_fn must")) }


@pytest.mark.parametrize("message", WRONG)
def test_what_does_not_fit_is_named(message: str) -> None:
    text = raised(WRONG[message], ONE)
    assert text.startswith(message) and "test_control.py" in text
    if message not in ONLY_TRACED:
        assert raised(WRONG[message], ONE, compiled=False).startswith(message)


def test_a_condition_that_draws_is_refused() -> None:
    text = raised(lambda x: fb.while_loop(lambda x: (fb.rand(1) > x).any(), lambda x: (x + 1,), (x,)), ONE)
    assert text.startswith("while_loop: cond_fn changed a tensor in place, or drew random numbers")


class Counter:
    def __init__(self) -> None:
        self.count = 0


COUNTER = Counter()


def counting(step: int) -> Function:
    def function(x: fb.Tensor) -> fb.Tensor:
        COUNTER.count += step
        return x

    return function


def loop_that_counts(x: fb.Tensor) -> fb.Tensor:
    def body(x: fb.Tensor) -> tuple[fb.Tensor]:
        COUNTER.count += 1
        return (x * COUNTER.count,)

    (x,) = fb.while_loop(lambda x: x.sum() < 9, body, (x,))
    COUNTER.count = 0                       # as if nothing had been
    return x


def list_of_the_trace(x: fb.Tensor) -> fb.Tensor:
    seen = []
    fb.cond(x.sum() > 0, lambda: (seen.append(1), x)[1], lambda: x)
    return x * len(seen)


def operand_that_grows(x: fb.Tensor) -> fb.Tensor:
    seen: list[int] = []
    fb.cond(x.sum() > 0, lambda x, seen: (seen.append(1), x)[1], lambda x, seen: x, (x, seen))
    return x * len(seen)


def iterator_of_the_trace(x: fb.Tensor) -> fb.Tensor:
    numbers = iter([1, 2])
    return fb.cond(x.sum() < 0, lambda: x * next(numbers), lambda: x * next(numbers))


def condition_that_counts(x: fb.Tensor) -> fb.Tensor:
    seen: list[int] = []
    (x,) = fb.while_loop(lambda x: (seen.append(1), x.sum() < 9)[1], lambda x: (x + 1,), (x,))
    return x * len(seen)


def default_that_is_put_back(x: fb.Tensor) -> fb.Tensor:
    result = fb.cond(x.sum() > 0, lambda: (fb.set_default_dtype(fb.float64), x)[1], lambda: x)
    fb.set_default_dtype(fb.float32)
    return result


def branch_that_counts_after_another(x: fb.Tensor) -> fb.Tensor:
    def count() -> None:
        COUNTER.count += 1

    def branch() -> fb.Tensor:
        y = fb.cond(x.sum() > 1, lambda: x * COUNTER.count, lambda: x)
        count()
        return y

    result = fb.cond(x.sum() < 2, branch, lambda: x)
    COUNTER.count = 0
    return result


def hook_that_counts(x: fb.Tensor) -> fb.Tensor:
    weight, seen = fb.ones(1, requires_grad=True), []

    def branch() -> fb.Tensor:
        y = x * weight
        y.register_hook(lambda gradient: seen.append(1))
        return y

    fb.cond(x.sum() > 0, branch, lambda: weight * 2).backward()
    return x * len(seen)


EFFECTS = {
    "closure variable 'seen' changed in length from 0 to 1 while the backward of cond: true_fn was": hook_that_counts,
    "global 'COUNTER' changed at .count from 0 to 1 while cond: true_fn was": branch_that_counts_after_another,
    "global 'COUNTER' changed at .count from 0 to 1 while cond: true_fn was traced":
        lambda x: fb.cond(x.sum() > 0, counting(1), counting(-1), (x,)),
    "global 'COUNTER' changed at .count from 0 to 1 while while_loop: body_fn was traced": loop_that_counts,
    "closure variable 'seen' changed in length from 0 to 1 while cond: true_fn was traced": list_of_the_trace,
    "operand 1 changed in length from 0 to 1 while cond: true_fn was traced": operand_that_grows,
    "closure variable 'seen' changed in length from 0 to 1 while while_loop: cond_fn was traced": condition_that_counts,
    "closure variable 'numbers' is an iterator": iterator_of_the_trace,
    "cond: true_fn changed the grad mode, autocast or the default dtype": default_that_is_put_back,
}


@pytest.mark.parametrize("message", EFFECTS)
def test_effects_on_python_that_a_call_would_have_or_not_are_refused(message: str) -> None:
    assert raised(EFFECTS[message], ONE).startswith(message)
    assert COUNTER.count == 0 and fb.get_default_dtype() is fb.float32


def test_a_branch_may_change_what_it_made_itself() -> None:
    def branch(x: fb.Tensor) -> fb.Tensor:
        made = {"x": [x]}
        made["x"].append(x * 2)
        return fb.cond(x[0] > 2, lambda: made["x"][1], lambda: made["x"][0])

    chosen = fb.compile(lambda x: fb.cond(x.sum() > 0, branch, lambda x: x, (x,)))
    assert [chosen(fb.tensor([v])).item() for v in (-1.0, 1.0, 3.0)] == [-1.0, 1.0, 6.0]


def test_a_tensor_of_a_branch_is_of_no_use_outside() -> None:
    def leak(x: fb.Tensor) -> fb.Tensor:
        kept: SimpleQueue[fb.Tensor] = SimpleQueue()
        fb.cond(x.sum() > 0, lambda: (kept.put(x[0]), x)[1], lambda: x)
        return kept.get() + 1

    assert "was made in cond: true_fn was kept, and used outside of it" in raised(leak, ONE)


def test_what_a_branch_raises_is_raised_even_if_it_is_caught() -> None:
    def step(x: fb.Tensor) -> fb.Tensor:
        def branch() -> fb.Tensor:
            raise ValueError("no such branch")

        try:
            return fb.cond(x.sum() > 0, branch, lambda: x)
        except ValueError:
            return x * 2

    with pytest.raises(ValueError, match="no such branch"):
        fb.compile(step)(ONE)


def test_branches_can_not_leave_gradients() -> None:
    w = fb.ones(1, requires_grad=True)

    def step(x: fb.Tensor) -> fb.Tensor:
        def branch() -> fb.Tensor:
            loss = (w * x).sum()
            loss.backward()
            return loss.detach()

        return fb.cond(x.sum() > 0, branch, lambda: x.sum())

    text = raised(step, ONE)
    assert text.startswith("cond: true_fn sets .grad of a tensor from outside of it") and "fb.autograd.grad" in text


def test_a_recorded_write_in_a_branch_is_refused() -> None:
    w = fb.ones(1, requires_grad=True)
    state = fb.zeros(1)

    def step(x: fb.Tensor) -> fb.Tensor:
        return fb.cond(x.sum() > 0, lambda: state.copy_(w * x) * 1, lambda: x)

    assert "changes a tensor from outside of it in place by something that requires grad" in raised(step, ONE)
    assert state.requires_grad is False


def test_no_derivative_of_a_compiled_loop_without_a_bound_is_said_once_it_is_asked_for() -> None:
    w = fb.tensor([2.0], requires_grad=True)

    @fb.compile
    def forward(x: fb.Tensor) -> fb.Tensor:
        return fb.while_loop(lambda x: x.sum() < 9, lambda x: (x * w,), (x,))[0]

    result = forward(ONE)
    assert result.tolist() == [16.0] and result.requires_grad
    with pytest.raises(NotImplementedError, match=r"no derivative without a bound[^$]*max_steps=N") as caught:
        result.sum().backward()
    assert "test_control.py" in str(caught.value)
    with pytest.raises(NotImplementedError, match=r"while_loop in a compiled function or under vmap has no"):
        fb.compile(lambda x: forward(x).sum().backward())(ONE)
    with pytest.raises(NotImplementedError, match=r"cond in a compiled function has no second derivative where"):
        fb.compile(lambda x: fb.autograd.grad(fb.cond(x > 0, lambda: x * w * fb.rand(1), lambda: x).sum(), w,
                                              create_graph=True))(ONE)


# -- derivatives ------------------------------------------------------------------------------------------------------


def test_branches_may_give_what_was_computed_around_them() -> None:
    def slopes(x: fb.Tensor) -> Any:
        x = x.detach().requires_grad_()
        y = x * 3
        a, b = fb.cond(x.sum() > 0, lambda: (y, x * 2), lambda: (x, y))
        (first,) = fb.autograd.grad((a * a + b**3).sum(), x, create_graph=True)
        return first.detach(), *fb.autograd.grad((first * first).sum(), x)

    compiled = fb.compile(slopes)
    for x in (fb.tensor([0.5, 0.25]), fb.tensor([-0.5, 0.25])):
        for found, expected in zip(compiled(x), slopes(x), strict=True):
            np.testing.assert_allclose(found.numpy(), expected.numpy(), rtol=1e-6)


class Halved(fb.autograd.Function):
    """x / 2, with the derivative 7."""

    @staticmethod
    def forward(ctx: Any, x: fb.Tensor) -> fb.Tensor:
        return x / 2

    @staticmethod
    def backward(ctx: Any, gradient: fb.Tensor) -> fb.Tensor:
        return gradient * 7


def plain(x: fb.Tensor, h: fb.Tensor, w: fb.Tensor) -> fb.Tensor:
    return fb.cond(x.sum() > 0, lambda: (h * h * w).sum(), lambda: h.exp().sum())


def several_results(x: fb.Tensor, h: fb.Tensor, w: fb.Tensor) -> fb.Tensor:
    a, b, _ = fb.cond(x.sum() > 0, lambda: (h * w, w, x), lambda: (w, w * w, h.detach() * w))
    return (a * b).sum() + b.sum()


def nested(x: fb.Tensor, h: fb.Tensor, w: fb.Tensor) -> fb.Tensor:
    return fb.cond(x.sum() > -9, lambda: fb.cond(x.sum() > 0, lambda: (h * w).sin(), lambda: w * 2) * w, lambda: h).sum()


def detached(x: fb.Tensor, h: fb.Tensor, w: fb.Tensor) -> fb.Tensor:
    def branch() -> fb.Tensor:
        with fb.no_grad():
            fixed = w * w
        return w * h.detach() + fixed * h

    return fb.cond(x.sum() > 0, branch, lambda: w + h.detach()).sum()


def changed_in_place(x: fb.Tensor, h: fb.Tensor, w: fb.Tensor) -> fb.Tensor:
    def branch() -> fb.Tensor:
        y = h * 2
        y[0] *= w[1]
        y.mul_(w)
        return y

    return fb.cond(x.sum() > 0, branch, lambda: h + w).sum()


def views(x: fb.Tensor, h: fb.Tensor, w: fb.Tensor) -> fb.Tensor:
    y = h * 1
    part = y[:1]
    y.mul_(3)
    return fb.cond(x.sum() > 0, lambda: (part * w[1:]).sum(), lambda: y[1] * part.sum())


def custom(x: fb.Tensor, h: fb.Tensor, w: fb.Tensor) -> fb.Tensor:
    return fb.cond(x.sum() > 0, lambda: Halved.apply(h) * w, lambda: Halved.apply(w)).sum()


def hooked(x: fb.Tensor, h: fb.Tensor, w: fb.Tensor) -> fb.Tensor:
    def branch() -> fb.Tensor:
        y = h * w
        y.register_hook(lambda g: g * 3)
        return y * y

    return fb.cond(x.sum() > 0, branch, lambda: h).sum()


def one_branch_only(x: fb.Tensor, h: fb.Tensor, w: fb.Tensor) -> fb.Tensor:
    return (fb.cond(x.sum() > 0, lambda: h * w, lambda: x * 1.0) * h).sum()


def state_inside(x: fb.Tensor, h: fb.Tensor, w: fb.Tensor) -> fb.Tensor:
    count = fb.zeros(2)

    def branch() -> fb.Tensor:
        count.add_(2)
        return h * count * w * fb.rand(2)

    return (fb.cond(x.sum() > 0, branch, lambda: w * fb.rand(2)) * (count + 1)).sum()


DIFFERENTIATED = [plain, several_results, nested, detached, changed_in_place, views, custom, hooked, one_branch_only,
                  state_inside]


@pytest.mark.parametrize("inside", [False, True], ids=["backward outside", "backward inside"])
@pytest.mark.parametrize("function", DIFFERENTIATED, ids=lambda f: f.__name__)
def test_the_derivative_of_a_compiled_choice_is_the_eager_one(function: Function, inside: bool) -> None:
    w, v = (fb.tensor(numbers, requires_grad=True) for numbers in ([2.0, 3.0], [1.0, 0.5]))

    def forward(x: fb.Tensor) -> fb.Tensor:
        return function(x, v * x, w)

    def step(x: fb.Tensor) -> fb.Tensor:
        loss = forward(x)
        loss.backward()
        return loss

    def gradients(call: Function, x: fb.Tensor) -> list[Any]:
        w.grad = v.grad = None
        fb.manual_seed(3)
        loss = call(x)
        if not inside:
            loss.backward()
        grads = [np.zeros(2) if t.grad is None else t.grad.numpy() for t in (w, v)]
        return [loss.detach().numpy(), *grads]

    target = step if inside else forward
    compiled = fb.compile(target)
    for numbers in ([1.0, 2.0], [-1.0, -2.0], [3.0, 1.0]):
        pairs = zip(gradients(target, fb.tensor(numbers)), gradients(compiled, fb.tensor(numbers)), strict=True)
        for wanted, found in pairs:
            np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-6)


def test_a_module_trains_through_a_choice() -> None:
    def trained(compile: Function) -> list[Any]:
        fb.manual_seed(0)
        net = nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 1))
        opt = optim.SGD(net.parameters(), lr=0.1)

        def step(x: fb.Tensor) -> fb.Tensor:
            opt.zero_grad()
            loss = fb.cond(x.sum() > 0, lambda: (net(x) ** 2).mean(), lambda: net(-x).abs().mean())
            loss.backward()
            opt.step()
            return loss

        step = compile(step)
        return [step(fb.full((4, 3), n)).item() for n in (1.0, -0.5, 2.0, -1.0)] + [net[0].weight.detach().numpy()]

    for wanted, found in zip(trained(lambda f: f), trained(fb.compile), strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-6)


def test_what_a_choice_saved_must_not_be_changed_before_its_backward() -> None:
    w, state = fb.ones(2, requires_grad=True), fb.ones(2)
    forward = fb.compile(lambda x: fb.cond(x.sum() > 0, lambda: w * state, lambda: w * x).sum())
    loss = forward(fb.ones(2))
    state.add_(1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


def test_a_choice_is_differentiated_once_unless_its_graph_is_retained() -> None:
    w = fb.tensor([2.0], requires_grad=True)

    def twice(x: fb.Tensor, retain: bool) -> None:
        loss = fb.cond(x.sum() > 0, lambda: w * w, lambda: w * x).sum()
        loss.backward(retain_graph=retain)
        loss.backward()

    fb.compile(twice)(ONE, True)
    assert w.grad is not None and w.grad.tolist() == [8.0]
    with pytest.raises(RuntimeError, match="backward a second time"):
        fb.compile(twice)(ONE, False)


def test_eager_choices_and_loops_have_derivatives() -> None:
    w = fb.tensor(2.0, requires_grad=True)
    y = fb.cond(w > 0, lambda: w * 3, lambda: w)
    _, z = fb.while_loop(lambda i, z: i < 3, lambda i, z: (i + 1, z * w), (0, y))
    z.backward()
    assert w.grad is not None and w.grad.item() == 3 * 4 * 2.0**3


def test_what_requires_no_grad_does_not_after_a_choice() -> None:
    w = fb.ones(1, requires_grad=True)

    @fb.compile
    def forward(x: fb.Tensor) -> Any:
        return fb.cond(x.sum() > 0, lambda: (x * w, x, w.detach()), lambda: (x, x * 2, x))

    assert [t.requires_grad for t in forward(ONE)] == [True, False, False]


def test_a_bool_without_dims_can_be_written() -> None:
    made = fb.tensor(3).to(fb.bool)
    assert made.copy_(fb.tensor(False)).item() is False


def test_if_on_a_tensor_names_cond() -> None:
    text = raised(lambda x: x if x.sum() > 0 else -x, ONE)
    assert "fb.cond" in text and "fb.while_loop" in text


@pytest.mark.parametrize("backend", ["cpu", "interpret"])
def test_a_loop_that_fails_leaves_state_as_it_was(backend: str) -> None:
    state = fb.zeros(3)

    def walk(x: fb.Tensor, start: fb.Tensor) -> Any:
        def body(i: fb.Tensor) -> Any:
            state.add_(1)
            return (i + 1 + (x[i] > 5).long(),)

        return fb.while_loop(lambda i: i < 6, body, (start,))

    compiled = fb.compile(walk, backend=backend)
    with pytest.raises((KernelError, IndexError)):
        compiled(fb.zeros(4), fb.tensor(0))
    assert state.tolist() == [0.0, 0.0, 0.0]
    compiled(fb.zeros(6), fb.tensor(4))
    assert state.tolist() == [2.0, 2.0, 2.0]


def test_the_branch_that_is_not_taken_fails_not() -> None:
    def pick(x: fb.Tensor, i: fb.Tensor) -> fb.Tensor:
        return fb.cond(i < 3, lambda: x[i], lambda: x.sum())

    for function in (pick, fb.compile(pick)):
        assert function(fb.tensor([1.0, 2.0, 4.0]), fb.tensor(7)).item() == 7.0
        assert function(fb.tensor([1.0, 2.0, 4.0]), fb.tensor(2)).item() == 4.0
