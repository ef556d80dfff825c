"""Gradients: taken inside and outside, accumulated, cleared, kept, unused, second, of views and of shared leaves."""
from __future__ import annotations

import flambeau as fb
import flambeau.nn.functional as F
from flambeau import nn, optim
from tests.contract.harness import exact, leaf, same


def ones():
    return fb.ones(2)


# -- what .grad holds -------------------------------------------------------------------------------------------------


@exact
def gradient_accumulates(compiled):
    w = leaf(1.0, 2.0)

    def g(x):
        (w * x).sum().backward()

    f = compiled(g)
    for n in range(4):
        f(ones() * n)
        yield w


@same
def gradient_cleared_in_different_ways(compiled):
    w = leaf(1.0, 2.0)

    def g(x, how):
        if how == "none":
            w.grad = None
        elif how == "zero" and w.grad is not None:
            w.grad.zero_()
        elif how == "delete":
            del w.grad
        (w * x).sum().backward()

    f = compiled(g)
    for how in ("", "none", "zero", "delete", ""):
        try:
            f(ones(), how)
        except AttributeError:
            yield "AttributeError"
        yield w


@same
def gradient_presence_read(compiled):
    w = leaf(1.0, 2.0)
    f = compiled(lambda x: x * 2 if w.grad is None else x * w.grad)
    yield f(ones())
    w.grad = ones() * 5
    yield f(ones())
    w.grad.mul_(2)
    yield f(ones())
    w.grad = None
    yield f(ones())


@same
def gradient_of_an_argument_read(compiled):
    f = compiled(lambda w: w.detach() * 2 if w.grad is None else w.detach() * w.grad)
    w = leaf(1.0, 2.0)
    yield f(w)
    w.grad = ones() * 5
    yield f(w)


@same
def gradient_of_an_argument_accumulates(compiled):
    def g(w, x):
        (w * x).sum().backward()

    f = compiled(g)
    w, v = leaf(1.0, 2.0), leaf(3.0, 4.0)
    for n in range(3):
        f(w, ones() * n)
        yield w
    f(v, ones())
    yield v


@same
def gradient_returned(compiled):
    w = leaf(1.0, 2.0)

    def g(x):
        w.grad = None
        (w * w * x).sum().backward()
        return w.grad

    f = compiled(g)
    yield f(ones())
    with fb.no_grad():
        w.mul_(2)
    yield f(ones())


@same
def gradient_returned_and_kept(compiled):
    """Eager code makes a new .grad each time."""
    w = leaf(1.0, 2.0)

    def g(x):
        w.grad = None
        (w * x).sum().backward()
        return w.grad.clone()

    f = compiled(g)
    kept = [f(ones() * n) for n in (1, 2, 3)]
    yield kept


@same
def gradient_kept_between_calls(compiled):
    w = leaf(1.0, 2.0)

    def g(x):
        w.grad = None
        (w * x).sum().backward()

    f = compiled(g)
    f(ones())
    kept = w.grad
    w.grad = None
    f(ones() * 5)
    yield kept.sum().item() in (2.0, 10.0)
    yield w


@same
def gradient_written_inside(compiled):
    w = leaf(1.0, 2.0)

    def g(x):
        w.grad = None
        (w * x).sum().backward()
        w.grad.mul_(2)
        w.grad.add_(x)

    f = compiled(g)
    for n in (1, 2):
        f(ones() * n)
        yield w


@same
def gradient_assigned_inside(compiled):
    w = leaf(1.0, 2.0)

    def g(x):
        w.grad = x * 3

    f = compiled(g)
    for n in (1, 2):
        f(ones() * n)
        yield w


@same
def gradient_assigned_from_an_argument(compiled):
    w = leaf(1.0, 2.0)

    def g(x):
        w.grad = x

    f = compiled(g)
    x = ones()
    f(x)
    yield w
    yield w.grad is x
    x.add_(1)
    yield w


@same
def gradient_assigned_from_another(compiled):
    w, v = leaf(1.0, 2.0), leaf(3.0, 4.0)

    def g(x):
        w.grad = None
        (w * x).sum().backward()
        v.grad = w.grad

    f = compiled(g)
    f(ones())
    yield w, v
    yield v.grad is w.grad
    f(ones() * 2)
    yield w, v


@same
def gradient_moved_and_cleared(compiled):
    """Gradient surgery: take it away, compute another, add."""
    w = leaf(1.0, 2.0)

    def g(x):
        w.grad = None
        (w * x).sum().backward()
        first = w.grad
        w.grad = None
        (w * w * x).sum().backward()
        w.grad = w.grad + first * 2

    f = compiled(g)
    for n in (1, 2):
        f(ones() * n)
        yield w


@same
def gradient_set_to_none_inside_after_the_step(compiled):
    w = leaf(1.0, 2.0)
    o = optim.SGD([w], lr=0.1)

    def g(x):
        (w * x).sum().backward()
        o.step()
        o.zero_grad()

    f = compiled(g)
    for n in (1, 2):
        f(ones() * n)
        yield w
        w.grad = ones() if n == 1 else None


@same
def gradient_is_a_view_of_one_buffer(compiled):
    """Gradients as views of one flat tensor, as distributed training has them."""
    flat = fb.zeros(4)
    w, v = leaf(1.0, 2.0), leaf(3.0, 4.0)
    w.grad, v.grad = flat[:2], flat[2:]

    def g(x):
        (w * x + v * 2 * x).sum().backward()

    f = compiled(g)
    for n in (1, 2):
        f(ones() * n)
        yield flat, w, v


@same
def gradient_is_a_view_and_is_zeroed(compiled):
    flat = fb.ones(4)
    w, v = leaf(1.0, 2.0), leaf(3.0, 4.0)
    w.grad, v.grad = flat[:2], flat[2:]

    def g(x):
        flat.zero_()
        (w * x + v * 2 * x).sum().backward()
        return flat * 1

    f = compiled(g)
    for n in (1, 2):
        yield f(ones() * n)
        yield w, v


@same
def gradients_of_two_leaves_share_a_tensor(compiled):
    shared = fb.zeros(2)
    w, v = leaf(1.0, 2.0), leaf(3.0, 4.0)
    w.grad = v.grad = shared

    def g(x):
        (w * x + v * 3 * x).sum().backward()

    f = compiled(g)
    for n in (1, 2):
        f(ones() * n)
        yield w, v, shared


@same
def gradient_shares_memory_with_an_argument(compiled):
    w = leaf(1.0, 2.0)
    x = ones()
    w.grad = x

    def g(x):
        (w * x).sum().backward()

    f = compiled(g)
    f(x)
    yield w, x
    f(x)
    yield w, x


@same
def gradient_shares_memory_with_captured(compiled):
    w = leaf(1.0, 2.0)
    scale = ones()
    w.grad = scale

    def g(x):
        (w * x * scale).sum().backward()

    f = compiled(g)
    f(ones())
    yield w, scale
    f(ones())
    yield w, scale


# -- unused, frozen, infinite -----------------------------------------------------------------------------------------


@same
def unused_parameter_keeps_none(compiled):
    m = nn.ModuleDict({"a": nn.Linear(2, 2), "b": nn.Linear(2, 2)})
    f = compiled(lambda x: m["a"](x))
    f(fb.ones(1, 2)).sum().backward()
    yield list(m.parameters())


@same
def unused_output_leaves_none(compiled):
    w, v = leaf(1.0, 2.0), leaf(3.0, 4.0)
    f = compiled(lambda x: (w * x, v * x))
    a, b = f(ones())
    a.sum().backward()
    yield w, v
    yield b


@same
def unused_output_and_weight_decay(compiled):
    w, v = leaf(1.0, 2.0), leaf(3.0, 4.0)
    o = optim.SGD([w, v], lr=0.1, weight_decay=0.5)
    f = compiled(lambda x: (w * x, v * x))
    for _ in range(2):
        o.zero_grad()
        a, _ = f(ones())
        a.sum().backward()
        o.step()
        yield w, v


@same
def unused_output_with_infinite_derivative(compiled):
    w = leaf(0.0, 2.0)
    f = compiled(lambda x: (w * x, (w * x).sqrt(), (w * x).log()))
    a, _, _ = f(ones())
    a.sum().backward()
    yield w


@same
def outputs_used_one_after_the_other(compiled):
    w = leaf(1.0, 2.0)
    f = compiled(lambda x: (w * x, w * w * x))
    a, b = f(ones())
    a.sum().backward(retain_graph=True)
    yield w
    b.sum().backward()
    yield w


@same
def outputs_used_one_after_the_other_without_retaining(compiled):
    """The two outputs share no saved tensor but the leaf."""
    w, v = leaf(1.0, 2.0), leaf(3.0, 4.0)
    f = compiled(lambda x: (w * x, v * x))
    a, b = f(ones())
    a.sum().backward()
    yield w, v
    b.sum().backward()
    yield w, v


@same
def backward_twice_raises(compiled):
    w = leaf(1.0, 2.0)
    f = compiled(lambda x: (w * w * x).sum())
    y = f(ones())
    y.backward()
    yield w
    try:
        y.backward()
        yield w
    except RuntimeError:
        yield "RuntimeError"


@same
def backward_twice_retained(compiled):
    w = leaf(1.0, 2.0)
    f = compiled(lambda x: (w * w * x).sum())
    y = f(ones())
    y.backward(retain_graph=True)
    yield w
    y.backward()
    yield w


@same
def frozen_and_thawed(compiled):
    m = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 1))

    def g(x):
        for p in m.parameters():
            p.grad = None
        m(x).sum().backward()

    f = compiled(g)
    f(fb.ones(1, 2))
    yield list(m.parameters())
    m[0].requires_grad_(False)
    f(fb.ones(1, 2))
    yield list(m.parameters())
    m[0].requires_grad_(True)
    f(fb.ones(1, 2))
    yield list(m.parameters())


@same
def frozen_after_a_backward_outside(compiled):
    w, v = leaf(1.0, 2.0), leaf(3.0, 4.0)
    f = compiled(lambda x: w * v * x)
    f(ones()).sum().backward()
    yield w, v
    w.grad = v.grad = None
    v.requires_grad_(False)
    f(ones()).sum().backward()
    yield w, v


@same
def result_requires_grad_follows(compiled):
    w = leaf(1.0, 2.0)
    f = compiled(lambda x: (w * x, x * 2, (w * x).detach(), w > 1, (w * x).long()))
    yield f(ones())
    w.requires_grad_(False)
    yield f(ones())
    yield f(ones().requires_grad_())


@same
def rounding_results_require_grad(compiled):
    w = leaf(1.4, 2.6)
    f = compiled(lambda: (w.floor(), w.round(), w.sign(), w.ceil(), w.trunc(), fb.div(w, 2, rounding_mode="floor")))
    yield f()
    sum(f()).sum().backward()
    yield w


# -- after backward() -------------------------------------------------------------------------------------------------


@exact
def loss_returned_after_backward(compiled):
    w = leaf(1.0, 2.0)

    def g(x):
        w.grad = None
        loss = (w * x).sum()
        loss.backward()
        return loss

    f = compiled(g)
    for n in (1, 2):
        yield f(ones() * n).detach(), w


@same
def scaled_loss_returned_after_backward(compiled):
    w = leaf(1.0, 2.0)

    def g(x):
        w.grad = None
        loss = (w * w * x).sum() / 4
        loss.backward()
        return loss * 4

    f = compiled(g)
    for n in (1, 2):
        yield f(ones() * n).detach(), w


@same
def metrics_returned_after_backward(compiled):
    m = nn.Linear(2, 3)

    def g(x, y):
        logits = m(x)
        loss = F.cross_entropy(logits, y)
        loss.backward()
        accuracy = (logits.argmax(-1) == y).float().mean()
        return loss.detach(), logits.softmax(-1).detach(), accuracy, logits

    f = compiled(g)
    for _ in range(2):
        yield [v.detach() for v in f(fb.ones(1, 2), fb.tensor([1]))]
        yield list(m.parameters())


@same
def forward_value_used_again_after_backward(compiled):
    w = leaf(1.0, 2.0)

    def g(x):
        w.grad = None
        h = (w * x).exp()
        h.sum().backward()
        return (h * 2).detach() + h.detach()

    f = compiled(g)
    for n in (1, 2):
        yield f(ones() * n), w


@same
def two_backwards_inside(compiled):
    w = leaf(1.0, 2.0)

    def g(x):
        w.grad = None
        h = w * x
        h.sum().backward(retain_graph=True)
        (h * h).sum().backward()

    f = compiled(g)
    for n in (1, 2):
        f(ones() * n)
        yield w


@same
def backward_of_a_vector(compiled):
    w = leaf(1.0, 2.0)

    def g(x):
        w.grad = None
        (w * x).backward(x * 3)

    f = compiled(g)
    for n in (1, 2):
        f(ones() * n)
        yield w


@same
def backward_outside_with_a_cotangent(compiled):
    w = leaf(1.0, 2.0)
    f = compiled(lambda x: w * x)
    for n in (1, 2):
        f(ones()).backward(ones() * n)
        yield w


@same
def backward_outside_with_an_expanded_cotangent(compiled):
    w = leaf(1.0, 2.0)
    f = compiled(lambda x: w * x)
    f(ones()).backward(fb.ones(1).expand(2))
    yield w
    f(ones()).sum().backward()
    yield w
    f(fb.ones(2)).mean().backward()
    yield w


@same
def backward_with_inputs(compiled):
    w, v = leaf(1.0, 2.0), leaf(3.0, 4.0)

    def g(x):
        (w * v * x).sum().backward(inputs=[w])

    f = compiled(g)
    for _ in range(2):
        f(ones())
        yield w, v


@same
def grad_function_inside(compiled):
    w = leaf(1.0, 2.0)

    def g(x):
        gradient, = fb.autograd.grad((w * w * x).sum(), [w])
        return gradient

    f = compiled(g)
    for n in (1, 2):
        yield f(ones() * n), w


@same
def grad_function_outside(compiled):
    w = leaf(1.0, 2.0)
    f = compiled(lambda x: (w * w * x).sum())
    for n in (1, 2):
        yield fb.autograd.grad(f(ones() * n), [w])
        yield w


@same
def second_derivative_inside(compiled):
    w = leaf(1.0, 2.0)

    def g(x):
        w.grad = None
        first, = fb.autograd.grad((w ** 3 * x).sum(), [w], create_graph=True)
        (first ** 2).sum().backward()
        return first.detach()

    f = compiled(g)
    for n in (1, 2):
        yield f(ones() * n), w


@same
def gradient_penalty(compiled):
    m = nn.Linear(2, 1)

    def g(x, weight):
        x = x.detach().requires_grad_()
        gradient, = fb.autograd.grad(m(x).tanh().sum(), [x], create_graph=True)
        loss = ((gradient.norm(dim=1) - 1) ** 2).mean() * weight
        loss.backward()
        return loss.detach()

    f = compiled(g)
    for weight in (1.0, 10.0):
        yield f(fb.ones(3, 2), weight)
        yield list(m.parameters())


@same
def second_derivative_outside(compiled):
    w = leaf(1.0, 2.0)
    f = compiled(lambda x: (w ** 3 * x).sum())
    first, = fb.autograd.grad(f(ones()), [w], create_graph=True)
    yield first.detach()
    first.sum().backward()
    yield w


@same
def gradient_with_respect_to_an_argument(compiled):
    w = leaf(1.0, 2.0)
    f = compiled(lambda x: w * x * x)
    x = ones().requires_grad_()
    f(x).sum().backward()
    yield x, w
    f(x).sum().backward()
    yield x, w


@same
def gradient_through_an_eager_op_before(compiled):
    w = leaf(1.0, 2.0)
    f = compiled(lambda h: h * h)
    for _ in range(2):
        h = w * 3
        f(h).sum().backward()
        yield w


@same
def gradient_through_two_compiled_functions(compiled):
    w = leaf(1.0, 2.0)
    f, g = compiled(lambda x: w * x), compiled(lambda h: (h * h).sum())
    for n in (1, 2):
        g(f(ones() * n)).backward()
        yield w


@same
def gradient_of_a_function_called_twice_before_backward(compiled):
    w = leaf(1.0, 2.0)
    f = compiled(lambda x: w * x * w)
    a, b = f(ones()), f(ones() * 3)
    b.sum().backward()
    yield w
    a.sum().backward()
    yield w


@same
def gradient_of_a_loop_over_a_compiled_cell(compiled):
    """A recurrent network whose cell is compiled."""
    cell = nn.Linear(4, 2)
    f = compiled(lambda x, h: cell(fb.cat([x, h], 1)).tanh())
    h = fb.zeros(1, 2)
    for n in range(3):
        h = f(fb.ones(1, 2) * n, h)
    h.sum().backward()
    yield list(cell.parameters())


@same
def parameter_changed_between_forward_and_backward(compiled):
    """Eager code finds out that what it saved has changed."""
    w = leaf(1.0, 2.0)
    f = compiled(lambda x: (w * w * x).sum())
    y = f(ones())
    with fb.no_grad():
        w.add_(1)
    try:
        y.backward()
        yield w
    except RuntimeError:
        yield "RuntimeError"


@same
def argument_changed_between_forward_and_backward(compiled):
    w = leaf(1.0, 2.0)
    f = compiled(lambda x: (w * x).sum())
    x = ones()
    y = f(x)
    x.mul_(5)
    try:
        y.backward()
        yield w
    except RuntimeError:
        yield "RuntimeError"


@same
def output_changed_before_backward(compiled):
    w = leaf(1.0, 2.0)
    f = compiled(lambda x: (w * x).exp())
    y = f(ones())
    with fb.no_grad():
        y.mul_(2)
    try:
        y.sum().backward()
        yield w
    except RuntimeError:
        yield "RuntimeError"


@same
def output_changed_in_place_with_record(compiled):
    w = leaf(1.0, 2.0)
    f = compiled(lambda x: w * x)
    y = f(ones())
    y.mul_(w)
    y.sum().backward()
    yield w


@same
def output_view_changed_before_backward(compiled):
    w = leaf(1.0, 2.0)
    f = compiled(lambda x: w * x)
    y = f(ones())
    y[0] = 7.0
    y.sum().backward()
    yield y, w


@same
def detached_output_changed_before_backward(compiled):
    w = leaf(1.0, 2.0)
    f = compiled(lambda x: (w * x).tanh())
    y = f(ones())
    y.detach().zero_()
    try:
        y.sum().backward()
        yield w
    except RuntimeError:
        yield "RuntimeError"


@same
def no_grad_inside_part(compiled):
    w = leaf(1.0, 2.0)

    def g(x):
        with fb.no_grad():
            scale = (w * x).sum()
        return w * scale

    f = compiled(g)
    f(ones()).sum().backward()
    yield w


@same
def detach_and_stop_gradient(compiled):
    w = leaf(1.0, 2.0)
    f = compiled(lambda x: (w.detach() * w * x, (w * x).detach()))
    a, b = f(ones())
    a.sum().backward()
    yield w, b


@same
def requires_grad_set_inside_on_a_temporary(compiled):
    def g(x):
        h = (x * 2).detach().requires_grad_()
        (h * h).sum().backward()
        return h.grad

    f = compiled(g)
    for n in (1, 2):
        yield f(ones() * n)


@same
def leaf_made_inside(compiled):
    def g(x):
        p = fb.zeros(2, requires_grad=True)
        ((p - x) ** 2).sum().backward()
        with fb.no_grad():
            p -= p.grad * 0.25
        return p.detach()

    f = compiled(g)
    for n in (1, 2):
        yield f(ones() * n)


@same
def parameter_made_inside(compiled):
    def g(x):
        p = nn.Parameter(fb.zeros(2))
        ((p - x) ** 2).sum().backward()
        return p.grad

    f = compiled(g)
    for n in (1, 2):
        yield f(ones() * n)


@same
def requires_grad_of_captured_changed_inside(compiled):
    w = leaf(1.0, 2.0)

    def g(x):
        w.requires_grad_(False)
        y = w * x
        w.requires_grad_(True)
        return y

    f = compiled(g)
    yield f(ones())
    yield w


@same
def requires_grad_of_captured_left_changed(compiled):
    w = leaf(1.0, 2.0)

    def g(x):
        w.requires_grad_(False)
        return w * x

    f = compiled(g)
    yield f(ones())
    yield w.requires_grad
    w.requires_grad_(True)
    yield f(ones())
    yield w.requires_grad


@same
def captured_result_of_eager_ops(compiled):
    """A tensor computed outside with gradients is captured."""
    w = leaf(1.0, 2.0)
    h = w * 3
    f = compiled(lambda x: h * x)
    f(ones()).sum().backward()
    yield w
    w.grad = None
    h = w * 5
    f(ones()).sum().backward()
    yield w


@same
def captured_non_leaf_backward_inside(compiled):
    w = leaf(1.0, 2.0)
    h = w * 3

    def g(x):
        (h * x).sum().backward()

    f = compiled(g)
    f(ones())
    yield w


@same
def tied_weights(compiled):
    embedding = nn.Embedding(3, 2)
    head = nn.Linear(2, 3, bias=False)
    head.weight = embedding.weight

    def g(ids):
        embedding.weight.grad = None
        F.cross_entropy(head(embedding(ids)), ids).backward()

    f = compiled(g)
    f(fb.tensor([0, 2]))
    yield embedding.weight
    head.weight = nn.Parameter(fb.ones(3, 2))
    f(fb.tensor([0, 2]))
    yield embedding.weight, head.weight


@same
def same_module_used_twice(compiled):
    m = nn.Linear(2, 2)

    def g(x):
        for p in m.parameters():
            p.grad = None
        m(m(x)).sum().backward()

    f = compiled(g)
    f(fb.ones(1, 2))
    yield list(m.parameters())


@same
def leaf_twice_as_argument_cleared_inside(compiled):
    def g(a, b):
        a.grad = None
        b.grad = None
        (a * 2 + b * 3).sum().backward()

    f = compiled(g)
    w, v = leaf(1.0, 2.0), leaf(3.0, 4.0)
    f(w, v)
    yield w, v
    f(w, w)
    yield w


@same
def leaf_as_argument_and_captured_cleared_inside(compiled):
    w = leaf(1.0, 2.0)

    def g(a):
        w.grad = None
        (a * 2 + w * 3).sum().backward()

    f = compiled(g)
    f(w)
    yield w
    v = leaf(1.0, 1.0)
    f(v)
    yield w, v


@same
def leaf_and_its_view(compiled):
    w = leaf(1.0, 2.0, 3.0)

    def g(x):
        w.grad = None
        (w[1:] * x + w[:2]).sum().backward()

    f = compiled(g)
    f(ones())
    yield w


@same
def gradient_with_respect_to_a_captured_view(compiled):
    w = leaf(1.0, 2.0, 3.0)
    v = w[1:]

    def g(x):
        (v * x).sum().backward()

    f = compiled(g)
    f(ones())
    yield w


@same
def masked_loss(compiled):
    w = leaf(1.0, 2.0)
    f = compiled(lambda x, mask: fb.where(mask, (w * x).log(), 0.0).sum())
    for mask in (fb.tensor([True, False]), fb.tensor([False, True])):
        w.grad = None
        f(ones(), mask).backward()
        yield w


@same
def checkpoint_by_hand(compiled):
    """Recomputation: the forward runs again under enable_grad in a backward."""
    class Checkpoint(fb.autograd.Function):
        @staticmethod
        def forward(ctx, function, x):
            ctx.function = function
            ctx.save_for_backward(x)
            with fb.no_grad():
                return function(x)

        @staticmethod
        def backward(ctx, g):
            x, = ctx.saved_tensors
            x = x.detach().requires_grad_()
            with fb.enable_grad():
                y = ctx.function(x)
            gradient, = fb.autograd.grad(y, [x], g)
            return None, gradient

    k = 2.0
    w = leaf(1.0, 2.0)

    def g(x):
        w.grad = None
        Checkpoint.apply(lambda t: (t * k).sin(), w * x).sum().backward()

    f = compiled(g)
    f(ones())
    yield w
    k = 3.0
    f(ones())
    yield w


@same
def maml_inner_step(compiled):
    w = leaf(1.0, 2.0)

    def g(x, lr):
        w.grad = None
        inner = ((w * x) ** 2).sum()
        gradient, = fb.autograd.grad(inner, [w], create_graph=True)
        fast = w - lr * gradient
        ((fast * x) ** 2).sum().backward()

    f = compiled(g)
    for lr in (0.1, 0.2):
        f(ones(), lr)
        yield w


@same
def gradient_in_half_precision(compiled):
    w = fb.ones(2, dtype=fb.float16, requires_grad=True)

    def g(x):
        w.grad = None
        (w * x).sum().backward()

    f = compiled(g)
    f(fb.ones(2, dtype=fb.float16))
    yield w


@same
def gradients_of_mixed_dtypes(compiled):
    w, v = leaf(1.0, 2.0), fb.ones(2, dtype=fb.float64, requires_grad=True)

    def g(x):
        w.grad = v.grad = None
        (w * x * v).sum().backward()

    f = compiled(g)
    f(ones())
    yield w, v


@same
def zero_size_gradients(compiled):
    w = fb.ones(0, 3, requires_grad=True)

    def g(x):
        w.grad = None
        (w * x).sum().backward()

    f = compiled(g)
    f(fb.ones(3))
    yield w


@same
def expanded_leaf(compiled):
    w = leaf(2.0)
    f = compiled(lambda x: w.expand(3) * x)
    f(fb.arange(3.0)).sum().backward()
    yield w


@same
def gradient_mode_restored_after_an_error(compiled):
    w = leaf(1.0, 2.0)

    def g(x):
        with fb.no_grad():
            if x.sum() > 0:
                return w * x
        return w

    f = compiled(g)
    try:
        f(ones())
    except fb.errors.FlambeauError:
        pass
    yield fb.is_grad_enabled()
    yield w * 2
