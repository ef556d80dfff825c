"""Gradients at the border of compiled calls: what `backward()` leaves inside and outside is what eager code leaves."""
from __future__ import annotations

import pytest
from contract import Cases, check_refused, check_same, leaf, name_of

import flambeau as fb
import flambeau.nn.functional as F
from flambeau import nn, optim
from flambeau.errors import CaptureError, UnsupportedError

cases = Cases()


def error_of(action) -> str | None:
    """The builtin kind of error that an action raises."""
    try:
        action()
    except RuntimeError:
        return "RuntimeError"
    return None


# -- results of a tape that was walked inside --------------------------------------------------------------------------

def spent_case(result):
    """A training step that gives something computed from its forward, three times."""
    def case(compiled):
        net = nn.Linear(3, 4).double()
        opt = optim.SGD(net.parameters(), lr=0.1)

        @compiled
        def step(x, y):
            opt.zero_grad()
            logits = net(x)
            loss = F.cross_entropy(logits, y)
            loss.backward()
            opt.step()
            return result(loss, logits, y)

        x, y = fb.randn(5, 3, dtype=fb.float64), fb.tensor([0, 1, 2, 3, 0])
        for _ in range(3):
            given = step(x, y)
            yield given
            yield net.weight, net.bias
            for r in given.values() if isinstance(given, dict) else given if isinstance(given, tuple) else (given,):
                if isinstance(r, fb.Tensor):
                    yield r.requires_grad, r.is_leaf, r.requires_grad and error_of(r.sum().backward)
    return case


SPENT = {
    "scaled": lambda loss, logits, y: loss * 4,
    "softmax": lambda loss, logits, y: logits.softmax(-1),
    "row": lambda loss, logits, y: logits[0],
    "logits": lambda loss, logits, y: logits,
    "dict": lambda loss, logits, y: {"loss": loss, "ppl": loss.exp(), "acc": (logits.argmax(-1) == y).float().mean()},
    "detached": lambda loss, logits, y: (loss.detach() * 2, logits.detach().softmax(-1)),
    "list": lambda loss, logits, y: (loss, loss + 0, logits * 2),
    "number": lambda loss, logits, y: (loss, 3, "text"),
}


@pytest.mark.parametrize("result", SPENT.values(), ids=SPENT.keys())
def test_a_result_of_a_spent_tape_is_simply_a_result(result) -> None:
    check_same(spent_case(result))


@cases.same
def spent_sums_can_be_walked_again(compiled):
    w = leaf(1.0, 2.0)

    @compiled
    def f(x):
        y = w + x
        y.sum().backward()
        return y

    y = f(fb.ones(2))
    yield w
    yield error_of(y.sum().backward)
    yield w


@cases.same
def spent_tapes_that_lead_nowhere_are_not_walked(compiled):
    w, v, x = leaf(1.0, 2.0), leaf(3.0, 4.0), leaf(5.0, 6.0)

    @compiled
    def f(x):
        loss = (w * w * x).sum()
        loss.backward()
        return loss

    for _ in range(2):
        loss = f(x)
        for wanted in (v, w, x):
            yield error_of(lambda t=wanted, loss=loss: (loss * v).sum().backward(inputs=[t]))
            yield w, v, x


@cases.same
def one_of_two_losses_is_walked_inside(compiled):
    w, v = leaf(1.0, 2.0), leaf(3.0, 4.0)

    @compiled
    def f(x):
        first, second = (w * w * x).sum(), (v * v * x).sum()
        first.backward()
        return first, second, first + second

    for _ in range(2):
        first, second, both = f(fb.ones(2))
        yield error_of(first.backward), error_of(lambda y=second: y.backward(retain_graph=True)), error_of(both.backward)
        yield w, v


@cases.same
def retained_inside(compiled):
    w = leaf(1.0, 2.0)

    @compiled
    def f(x):
        loss = (w * w * x).sum()
        loss.backward(retain_graph=True)
        return loss

    for _ in range(2):
        loss = f(fb.ones(2))
        loss.backward(retain_graph=True)
        loss.backward()
        yield w, error_of(loss.backward)


@cases.same
def parameters_moved_before_the_result_is_walked(compiled):
    w = leaf(1.0, 2.0)

    @compiled
    def f(x):
        loss = (w * w * x).sum()
        loss.backward(retain_graph=True)
        with fb.no_grad():
            w.sub_(w.grad)
        return loss

    loss = f(fb.ones(2))
    yield w, error_of(loss.backward), error_of(lambda: fb.autograd.grad(loss, w, allow_unused=True))


# -- several results ---------------------------------------------------------------------------------------------------

@cases.same
def unused_results_leave_no_gradient(compiled):
    w, v = leaf(1.0, 2.0), leaf(3.0, 4.0)
    opt = optim.AdamW([w, v], lr=0.1, weight_decay=0.5)
    f = compiled(lambda x: ((w * x).sum(), (v * x).sum()))
    for used in (0, 1, 0):
        opt.zero_grad()
        f(fb.ones(2))[used].backward()
        yield w, v
        opt.step()
        yield w, v


@cases.same
def an_infinite_derivative_of_an_unused_result(compiled):
    w = leaf(0.0, 2.0)
    f = compiled(lambda x: ((w * x).sum(), w.sqrt(), (1 / w).sum()))
    f(fb.ones(2))[0].backward()
    yield w


@cases.same
def a_shared_trunk(compiled):
    w, v, u = leaf(1.0, 2.0), leaf(3.0, 4.0), leaf(5.0, 6.0)

    def g(x):
        trunk = (w * x).sin()
        return (trunk * v).sum(), (trunk * u).sum(), trunk

    f = compiled(g)
    for chosen in ((0,), (1,), (2,), (0, 1), (0, 2), (0, 1, 2)):
        results = f(fb.ones(2))
        sum(results[n].sum() for n in chosen).backward()
        yield w, v, u
        w.grad = v.grad = u.grad = None


@cases.same
def freed_by_the_first_of_two(compiled):
    w, v = leaf(1.0, 2.0), leaf(3.0, 4.0)

    def g(x):
        trunk = (w * x).sin()
        return (trunk * v).sum(), trunk.exp().sum(), (v * v).sum()

    first, second, third = compiled(g)(fb.ones(2))
    first.backward()
    yield w, v, error_of(second.backward)
    third.backward()
    yield v, error_of(third.backward)


@cases.same
def one_result_computed_from_another(compiled):
    w = leaf(1.0, 2.0)

    def g(x):
        hidden = (w * x).sin()
        return hidden, (hidden * hidden).sum()

    f = compiled(g)
    hidden, loss = f(fb.ones(2))
    hidden.retain_grad()
    hidden.register_hook(lambda gradient: gradient * 3)
    loss.backward()
    yield hidden, w
    hidden, loss = f(fb.ones(2))
    yield fb.autograd.grad(loss, [hidden, w], retain_graph=True)
    yield fb.autograd.grad(hidden.sum(), [w, loss], retain_graph=True, allow_unused=True)
    yield error_of(lambda: fb.autograd.grad(hidden.sum(), [loss]))


@cases.same
def a_hook_on_the_trunk_sees_one_gradient(compiled):
    w = leaf(1.0, 2.0)

    def g(x):
        trunk = w * x
        trunk.register_hook(lambda gradient: gradient.clamp(-1, 1))
        return (trunk * 0.75).sum(), (trunk * 0.5).sum()

    for chosen in ((0, 1), (0,), (1,)):
        w.grad = None
        results = compiled(g)(fb.ones(2))
        sum(results[n] for n in chosen).backward()
        yield w


@cases.same
def a_leaf_made_inside(compiled):
    def g(x):
        made = x.detach().clone().requires_grad_()
        return made, (made * made).sum()

    made, loss = compiled(g)(fb.ones(2))
    loss.backward()
    yield made, made.is_leaf


@cases.same
def returned_twice(compiled):
    w = leaf(1.0, 2.0)

    def g(x):
        y = w * x
        return y, y

    a, b = compiled(g)(fb.ones(2))
    yield a is b
    (a * b).sum().backward()
    yield w


@cases.same
def computed_with_gradients_under_no_grad(compiled):
    w = leaf(1.0, 2.0)

    @compiled
    def f(x):
        with fb.enable_grad():
            kept = (w * w * x).sum()
        return kept, w * x

    with fb.no_grad():
        kept, other = f(fb.ones(2))
    yield kept, other
    kept.backward()
    yield w


@cases.same
def a_function_that_replaces_gradients(compiled):
    class Beside(fb.autograd.Function):
        @staticmethod
        def forward(ctx, x, aux):
            return x.clone()

        @staticmethod
        def backward(ctx, g):
            return g, fb.ones(())

    w, v = leaf(1.0, 2.0), leaf(3.0, 4.0)

    def g(x):
        out = Beside.apply((w * x).sum(), (v * v).sum())
        return out, (w * 2).sum()

    for used in (0, 1):
        compiled(g)(fb.ones(2))[used].backward()
        yield w, v


@cases.same
def hooks_on_a_result_run_in_the_order_they_were_registered(compiled):
    w = leaf(1.0, 2.0)

    def g(x):
        y = w * x
        y.register_hook(lambda gradient: gradient.clamp(-0.5, 0.5) + x)
        return y, (y * y).sum()

    f = compiled(g)
    for _ in range(2):
        y, loss = f(fb.tensor([0.25, 0.5]))
        y.register_hook(lambda gradient: gradient * 10)
        y.retain_grad()
        loss.backward(retain_graph=True)
        yield w, y
        yield fb.autograd.grad(loss, y, retain_graph=True)
        y.sum().backward()
        yield w, y


@cases.same
def what_saves_nothing_can_be_walked_twice(compiled):
    w = leaf(1.0, 2.0)
    for f in (lambda x: w + x, lambda x: w * 2 + x, lambda x: (w + x).flip(0), lambda x: w * x):
        y = compiled(f)(fb.ones(2))
        y.sum().backward()
        yield error_of(y.sum().backward)
        yield w


# -- in-place changes between forward and backward ---------------------------------------------------------------------

def changed_case(function, change):
    def case(compiled):
        w, x = leaf(1.0, 2.0), fb.tensor([0.5, 0.25])
        f = compiled(lambda x: function(w, x))
        for _ in range(2):
            results = f(x)
            with fb.no_grad():
                change(w, x, results)
            yield error_of(results[0].sum().backward)
            yield w, x
            w.grad = None
    return case


CHANGED_FUNCTIONS = {
    "exp": lambda w, x: ((w * x).exp(),),
    "sum": lambda w, x: ((w + x),),
    "square": lambda w, x: ((w * x).square(), w * x),
    "between": lambda w, x: (lambda h: ((h * h).sum(), h))(w * x),
    "sigmoid": lambda w, x: (lambda h: ((h * 2).sum(), h))((w * x).sigmoid()),
}
CHANGES = {
    "nothing": lambda w, x, results: None,
    "first": lambda w, x, results: results[0].mul_(2),
    "last": lambda w, x, results: results[-1].add_(1),
    "weight": lambda w, x, results: w.mul_(2),
    "argument": lambda w, x, results: x.mul_(2),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
@pytest.mark.parametrize("function", CHANGED_FUNCTIONS.values(), ids=CHANGED_FUNCTIONS.keys())
def test_what_is_changed_before_backward_raises_where_eager_raises(function, change) -> None:
    check_same(changed_case(function, change))


@cases.same
def results_changed_in_place_on_the_tape(compiled):
    w = leaf(1.0, 2.0)
    f = compiled(lambda x: (w * x, (w * x).sum()))
    for _ in range(2):
        y, z = f(fb.ones(2))
        y.mul_(3)
        y[0] = z
        y.sum().backward()
        yield w


@cases.same
def a_state_written_and_saved(compiled):
    w, c = leaf(1.0, 2.0), fb.tensor([1.0, 2.0])

    @compiled
    def f(x):
        with fb.no_grad():
            c.add_(1)
        return (w * c * x).sum()

    for change in (lambda: None, lambda: c.mul_(2)):
        loss = f(fb.ones(2))
        change()
        yield error_of(loss.backward), w, c


@cases.same
def a_saved_value_copied_into_a_state(compiled):
    w, last = leaf(1.0, 2.0), fb.zeros(2)

    @compiled
    def f(x):
        h = (w * x).exp()
        with fb.no_grad():
            last.copy_(h)
        return (h * h).sum()

    first, second = f(fb.ones(2)), f(fb.ones(2) * 2)
    (first + second).backward()
    yield w, last


@cases.same
def a_saved_value_copied_into_a_result(compiled):
    w = leaf(1.0, 2.0)

    @compiled
    def f(x):
        h, copy = (w * x).exp(), fb.zeros(2)
        with fb.no_grad():
            copy.copy_(h)
        return (h * h).sum(), copy

    loss, copy = f(fb.ones(2))
    copy.mul_(100)
    loss.backward()
    yield w, copy


@cases.same
def an_argument_copied_into_what_is_saved(compiled):
    w = leaf(1.0, 2.0)

    @compiled
    def f(x):
        kept = fb.zeros(2)
        kept.copy_(x)
        return (w * kept).sum()

    x = fb.ones(2)
    loss = f(x)
    x.mul_(100)
    loss.backward()
    yield w


@cases.same
def an_argument_read_by_a_backward(compiled):
    class Scaled(fb.autograd.Function):
        @staticmethod
        def forward(ctx, x, scale):
            ctx.scale = scale
            return x * 2

        @staticmethod
        def backward(ctx, g):
            return g * ctx.scale, None

    w = leaf(1.0, 2.0)
    f = compiled(lambda scale: Scaled.apply(w, scale).sum())
    scale = fb.tensor([3.0, 4.0])
    loss = f(scale)
    scale.mul_(10)
    loss.backward()
    yield w


# -- captured tensors read by a backward -------------------------------------------------------------------------------

@cases.same
def a_tensor_used_only_in_a_backward(compiled):
    scale, w = fb.tensor([2.0, 3.0]), leaf(1.0, 2.0)

    class Scaled(fb.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x * 2

        @staticmethod
        def backward(ctx, g):
            return g * scale

    f = compiled(lambda x: Scaled.apply(w * x))
    for _ in range(2):
        y = f(fb.ones(2))
        scale.add_(1)
        y.sum().backward()
        yield w


# -- .grad from call to call -------------------------------------------------------------------------------------------

def training_case(prepare, times=4, clear=True):
    """A function that leaves new gradients (or adds to them), with something done to .grad before each call."""
    def case(compiled):
        w, v = leaf(1.0, 2.0), leaf(3.0, 4.0)

        @compiled
        def f(x):
            if clear:
                w.grad = v.grad = None
            (w * w * x + v * x).sum().backward()

        kept = []
        for n in range(times):
            prepare(w, v, kept, n)
            f(fb.tensor([1.0, n + 1.0]))
            yield w.grad, v.grad, kept, w.grad is v.grad
    return case


def flat_views(w, v, kept, n):
    if not kept:
        kept.append(fb.zeros(4))
    w.grad, v.grad = kept[0][:2], kept[0][2:]


def one_tensor(w, v, kept, n):
    if n % 2 == 0:
        w.grad = v.grad = fb.zeros(2)


def one_tensor_then_two(w, v, kept, n):
    w.grad = v.grad = fb.zeros(2)
    if n > 1:
        v.grad = fb.ones(2)


def swapped(w, v, kept, n):
    w.grad, v.grad = v.grad, w.grad


def mine(w, v, kept, n):
    kept.append(fb.full((2,), float(n)))
    w.grad = kept[-1]


def keep(w, v, kept, n):
    if w.grad is not None:
        kept.append(w.grad)


def keep_array(w, v, kept, n):
    if w.grad is not None:
        kept.append(w.grad.numpy()[1:].base if n % 2 else w.grad.view(-1)[1:])
    kept[:] = [k if isinstance(k, fb.Tensor) else fb.from_numpy(k) for k in kept]


PREPARED = {
    "nothing": lambda w, v, kept, n: None,
    "none": lambda w, v, kept, n: setattr(w, "grad", None),
    "none_then_all": lambda w, v, kept, n: n % 2 and setattr(v, "grad", None),
    "zeroed": lambda w, v, kept, n: w.grad is not None and w.grad.zero_(),
    "flat_views": flat_views, "one_tensor": one_tensor, "one_tensor_then_two": one_tensor_then_two, "swapped": swapped,
    "mine": mine, "keep": keep, "keep_array": keep_array,
    "read": lambda w, v, kept, n: w.grad is not None and w.grad.norm(),
    "transposed": lambda w, v, kept, n: setattr(w, "grad", fb.zeros(2, 2)[:, 0]),
}


@pytest.mark.parametrize("clear", [True, False], ids=["new", "added"])
@pytest.mark.parametrize("prepare", PREPARED.values(), ids=PREPARED.keys())
def test_grad_is_what_eager_code_leaves(prepare, clear) -> None:
    check_same(training_case(prepare, clear=clear))


def test_a_gradient_that_nobody_holds_stays_where_it_is() -> None:
    w = leaf(1.0, 2.0)

    @fb.compile
    def f(x):
        w.grad = None
        (w * x).sum().backward()

    f(fb.ones(2))
    address = w.grad.data_ptr()
    for _ in range(3):
        f(fb.ones(2))
        assert w.grad.data_ptr() == address
    kept = w.grad
    f(fb.ones(2) * 2)
    assert w.grad is not kept and kept.tolist() == [1.0, 1.0] and w.grad.tolist() == [2.0, 2.0]


@cases.same
def two_functions_and_one_leaf(compiled):
    w = leaf(1.0, 2.0)

    def clearing(x):
        w.grad = None
        (w * x).sum().backward()

    def adding(x):
        (w * w * x).sum().backward()

    f, g = compiled(clearing), compiled(adding)
    kept = []
    for n in range(6):
        (f if n % 3 == 0 else g)(fb.tensor([1.0, n + 1.0]))
        yield w
        if n == 2:
            kept.append(w.grad)
            w.grad = None
        yield kept


@cases.same
def gradients_are_returned(compiled):
    w, v = leaf(1.0, 2.0), leaf(3.0, 4.0)

    @compiled
    def f(x):
        w.grad = None
        (w * x + v * x).sum().backward()
        return w.grad, v.grad

    v.grad = fb.ones(2)
    kept = []
    for n in range(4):
        a, b = f(fb.tensor([1.0, n + 1.0]))
        kept += [a, b]
        yield kept, a is w.grad, b is v.grad
        a.mul_(2)
        yield w, v


@cases.same
def gradients_are_set_inside(compiled):
    w, v, u = leaf(1.0, 2.0), leaf(3.0, 4.0), leaf(5.0, 6.0)
    fixed = fb.tensor([7.0, 8.0])

    @compiled
    def f(x):
        (w * x).sum().backward()
        v.grad, u.grad = x, fixed
        w.grad = w.grad * 2

    for n in range(3):
        x = fb.tensor([1.0, n + 1.0])
        f(x)
        yield w, v, u, v.grad is x, u.grad is fixed


@cases.same
def gradients_are_swapped_inside(compiled):
    w, v = leaf(1.0, 2.0), leaf(3.0, 4.0)
    w.grad, v.grad = fb.ones(2), fb.zeros(2)

    @compiled
    def f(x):
        w.grad, v.grad = v.grad, w.grad
        return x + 1

    for _ in range(3):
        f(fb.ones(2))
        yield w, v


@cases.same
def one_gradient_for_two_leaves_inside(compiled):
    w, v = leaf(1.0, 2.0), leaf(3.0, 4.0)

    @compiled
    def f(x):
        w.grad = None
        (w * x).sum().backward()
        v.grad = w.grad

    for n in range(3):
        f(fb.tensor([1.0, n + 1.0]))
        yield w, v, w.grad is v.grad
    w.grad.add_(1)
    yield v


@cases.same
def the_old_gradient_is_read_and_replaced(compiled):
    w = leaf(1.0, 2.0)

    @compiled
    def f(x):
        old = w.grad * 1
        w.grad = None
        (w * x).sum().backward()
        return old.flip(0) + w.grad

    w.grad = fb.tensor([5.0, 6.0])
    for n in range(4):
        yield f(fb.tensor([1.0, n + 1.0])), w


@cases.same
def a_gradient_is_an_argument(compiled):
    w = leaf(1.0, 2.0)

    @compiled
    def f(x):
        w.grad = None
        (w * x).sum().backward()
        return x * 2

    w.grad = fb.tensor([5.0, 6.0])
    for _ in range(4):
        yield f(w.grad), w


# -- leaves among the arguments ----------------------------------------------------------------------------------------

@cases.same
def one_leaf_twice(compiled):
    w, v = leaf(1.0, 2.0), leaf(3.0, 4.0)

    @compiled
    def f(a, b):
        a.grad = b.grad = None
        (a * a + b * 3).sum().backward()

    for a, b in ((w, w), (w, v), (v, w), (v, v)):
        f(a, b)
        yield w, v


@cases.same
def one_leaf_twice_added(compiled):
    w, v = leaf(1.0, 2.0), leaf(3.0, 4.0)
    f = compiled(lambda a, b: (a * a + b * 3).sum().backward())
    for a, b in ((w, w), (w, v), (v, w), (v, v)):
        f(a, b)
        yield w, v


@cases.same
def an_argument_that_is_captured_too(compiled):
    w, v = leaf(1.0, 2.0), leaf(3.0, 4.0)

    @compiled
    def f(a):
        w.grad = a.grad = None
        (a * a + w * 3).sum().backward()

    for a in (w, v, w, v):
        f(a)
        yield w, v


@cases.same
def a_captured_tensor_as_two_arguments(compiled):
    w, v = leaf(1.0, 2.0), leaf(3.0, 4.0)
    f = compiled(lambda a, b: (a * b + w * 3).sum().backward())
    for a, b in ((w, w), (w, v), (v, w), (v, v), (w, w)):
        f(a, b)
        yield w, v


@cases.same
def an_argument_that_is_captured_too_outside(compiled):
    w, v = leaf(1.0, 2.0), leaf(3.0, 4.0)
    f = compiled(lambda a: (a * a + w * 3).sum())
    for a in (w, v, w, v):
        f(a).backward()
        yield w, v


@cases.same
def an_argument_whose_gradient_is_set_as_captured(compiled):
    w, v = leaf(1.0, 2.0), leaf(3.0, 4.0)

    @compiled
    def f(x):
        w.grad = fb.ones(2)
        return x * 2

    for x in (w, v, w, v):
        yield f(x), w, v
        w.grad = v.grad = None


@cases.same
def an_argument_that_is_wanted_as_captured(compiled):
    w, v = leaf(1.0, 2.0), leaf(3.0, 4.0)
    f = compiled(lambda x: (x * x).sum().backward(inputs=[w]))
    for x in (w, v, w, v):
        f(x)
        yield w, v


def wanted_case(inside):
    """A gradient that in eager code also flows through an argument or a captured tensor that was computed outside."""
    def case(compiled):
        w = leaf(1.0, 2.0)
        h = w * 3
        f = compiled(lambda x: inside(w, h, x))
        yield f(leaf(1.0, 1.0))
        yield w
        yield f(w * 2)
        yield w
    return case


THROUGH = {
    "argument": lambda w, h, x: fb.autograd.grad((w * x).sum(), [w])[0],
    "argument_only": lambda w, h, x: fb.autograd.grad((x * x).sum(), [w], allow_unused=True)[0],
    "captured": lambda w, h, x: fb.autograd.grad((w * h * x).sum(), [w])[0],
    "backward": lambda w, h, x: (w * x).sum().backward(inputs=[w]),
}


@pytest.mark.parametrize("inside", THROUGH.values(), ids=THROUGH.keys())
def test_gradients_through_what_was_computed_outside_are_refused(inside) -> None:
    check_refused(wanted_case(inside), UnsupportedError)


@cases.same
def wanted_beside_what_was_computed_outside(compiled):
    w, v = leaf(1.0, 2.0), leaf(3.0, 4.0)
    h = w * 3
    f = compiled(lambda x: fb.autograd.grad((v * h * x).sum(), [v, h, x]))
    for x in (leaf(5.0, 6.0), w * 2, leaf(5.0, 6.0)):
        yield f(x)


@cases.refused(UnsupportedError)
def a_gradient_of_an_argument_that_is_added_to_and_replaced(compiled):
    @compiled
    def f(x):
        (x * x).sum().backward()
        x.grad = None

    w = leaf(1.0, 2.0)
    f(w)
    yield w
    kept = w.grad = fb.ones(2)
    f(w)
    yield kept


@cases.same
def hooks_on_an_argument(compiled):
    w, v = leaf(1.0, 2.0), leaf(3.0, 4.0)
    w.register_hook(lambda g: g * 2)
    f = compiled(lambda a: (a * a).sum().backward())
    g = compiled(lambda a: (a * a).sum())
    for a in (w, v, w):
        f(a)
        g(a).backward()
        yield w, v
    handle = v.register_hook(lambda g: g * 5)
    f(v)
    yield v
    handle.remove()
    f(v)
    yield v


@cases.same
def hooks_that_come_and_go_inside(compiled):
    w = leaf(1.0, 2.0)

    @compiled
    def f(a):
        with w.register_hook(lambda g: g * 2), a.register_hook(lambda g: g * 3):
            (w * a).sum().backward()
        (w * a).sum().backward()

    x = leaf(1.0, 1.0)
    for _ in range(2):
        f(x)
        yield w, x


@cases.refused(CaptureError)
def a_hook_left_on_an_argument(compiled):
    f = compiled(lambda a: (a.register_hook(lambda g: g * 2), a * 2)[1])
    f(leaf(1.0)).backward()


@cases.refused(CaptureError)
def a_hook_left_on_a_captured_leaf(compiled):
    w = leaf(1.0)
    f = compiled(lambda a: (w.register_hook(lambda g: g * 2), w * a)[1])
    f(leaf(1.0)).backward()


@cases.same
def results_retain_their_gradient(compiled):
    w = leaf(1.0, 2.0)

    def g(x):
        y = w * x
        y.retain_grad()
        return y, (y * y).sum()

    f = compiled(g)
    for _ in range(2):
        y, loss = f(fb.ones(2))
        loss.backward()
        yield y, y.retains_grad, w


@cases.same
def gradients_of_results_walked_inside(compiled):
    w = leaf(1.0, 2.0)

    def g(x):
        y = w * x
        y.retain_grad()
        made = x.detach().requires_grad_()
        (y * y + made).sum().backward()
        return y, made

    f = compiled(g)
    for _ in range(2):
        yield f(fb.ones(2))


@pytest.mark.parametrize("case", cases.same_cases, ids=name_of)
def test_compiled_is_the_same(case) -> None:
    check_same(case)


@pytest.mark.parametrize(("case", "error"), cases.refused_cases, ids=name_of)
def test_what_cannot_be_compiled_raises(case, error) -> None:
    check_refused(case, error)
