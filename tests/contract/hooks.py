"""Hooks of modules and of gradients, and user-written backward functions: what they read, change and return."""
from __future__ import annotations

import functools
import operator

import flambeau as fb
from flambeau import nn
from tests.contract.harness import exact, leaf, same

SCALE = 2.0
SLOPE = 2.0


def row():
    return fb.ones(1, 2)


# -- forward hooks and forward pre-hooks ------------------------------------------------------------------------------


@same
def forward_hook_reads_a_cell(compiled):
    k = 2.0
    m = nn.ReLU()
    m.register_forward_hook(lambda m, args, out: out * k)
    f = compiled(lambda x: m(x))
    yield f(row())
    k = 3.0
    yield f(row())


@same
def forward_pre_hook_reads_a_cell(compiled):
    k = 2.0
    m = nn.ReLU()
    m.register_forward_pre_hook(lambda m, args: (args[0] * k,))
    f = compiled(lambda x: m(x))
    yield f(row())
    k = 3.0
    yield f(row())


@exact
def forward_hook_reads_a_global(compiled):
    global SCALE
    SCALE = 2.0
    m = nn.ReLU()
    m.register_forward_hook(lambda m, args, out: out * SCALE)
    f = compiled(lambda x: m(x))
    yield f(row())
    SCALE = 3.0
    yield f(row())


@same
def forward_hook_is_a_bound_method(compiled):
    class Scaler:
        def __init__(self):
            self.k = 2.0

        def hook(self, m, args, out):
            return out * self.k

    scaler = Scaler()
    m = nn.ReLU()
    m.register_forward_hook(scaler.hook)
    f = compiled(lambda x: m(x))
    yield f(row())
    scaler.k = 3.0
    yield f(row())


@same
def forward_hook_is_a_callable_object(compiled):
    class Scaler:
        def __init__(self):
            self.k = 2.0

        def __call__(self, m, args, out):
            return out * self.k

    scaler = Scaler()
    m = nn.ReLU()
    m.register_forward_hook(scaler)
    f = compiled(lambda x: m(x))
    yield f(row())
    scaler.k = 3.0
    yield f(row())


@same
def forward_hook_is_a_class_method(compiled):
    class Scaler:
        k = 2.0

        @classmethod
        def hook(cls, m, args, out):
            return out * cls.k

    m = nn.ReLU()
    m.register_forward_hook(Scaler.hook)
    f = compiled(lambda x: m(x))
    yield f(row())
    Scaler.k = 3.0
    yield f(row())


@same
def forward_hook_is_a_static_method(compiled):
    k = 2.0

    class Scaler:
        @staticmethod
        def hook(m, args, out):
            return out * k

    m = nn.ReLU()
    m.register_forward_hook(Scaler.hook)
    f = compiled(lambda x: m(x))
    yield f(row())
    k = 3.0
    yield f(row())


@same
def forward_hook_is_a_partial(compiled):
    settings = {"k": 2.0}
    m = nn.ReLU()
    m.register_forward_hook(functools.partial(lambda settings, m, args, out: out * settings["k"], settings))
    f = compiled(lambda x: m(x))
    yield f(row())
    settings["k"] = 3.0
    yield f(row())


@same
def forward_hook_is_decorated_by_no_grad(compiled):
    k = 2.0
    m = nn.Linear(2, 2)

    @fb.no_grad()
    def hook(m, args, out):
        return out * k

    m.register_forward_hook(hook)
    f = compiled(lambda x: m(x))
    yield f(row())
    k = 3.0
    yield f(row())


@same
def forward_hook_reads_default_argument(compiled):
    m = nn.ReLU()

    def hook(m, args, out, settings={"k": 2.0}):
        return out * settings["k"]

    m.register_forward_hook(hook)
    f = compiled(lambda x: m(x))
    yield f(row())
    hook.__defaults__[0]["k"] = 3.0
    yield f(row())


@same
def forward_hook_calls_a_helper_with_a_cell(compiled):
    k = 2.0

    def helper(t):
        return t * k

    m = nn.ReLU()
    m.register_forward_hook(lambda m, args, out: helper(out))
    f = compiled(lambda x: m(x))
    yield f(row())
    k = 3.0
    yield f(row())


@same
def forward_hook_reads_attribute_of_its_module(compiled):
    m = nn.ReLU()
    m.k = 2.0
    m.register_forward_hook(lambda m, args, out: out * m.k)
    f = compiled(lambda x: m(x))
    yield f(row())
    m.k = 3.0
    yield f(row())


@same
def forward_hook_reads_attribute_of_another_module(compiled):
    other = nn.Identity()
    other.k = 2.0
    m = nn.ReLU()
    m.register_forward_hook(lambda m, args, out: out * other.k)
    f = compiled(lambda x: m(x))
    yield f(row())
    other.k = 3.0
    yield f(row())


@same
def forward_hook_reads_training(compiled):
    m = nn.Sequential(nn.ReLU(), nn.ReLU())
    m[1].register_forward_hook(lambda m, args, out: out * 2 if m.training else out * 3)
    f = compiled(lambda x: m(x))
    yield f(row())
    m.eval()
    yield f(row())
    m[1].train()
    yield f(row())


@same
def forward_hook_uses_captured_tensor(compiled):
    scale = fb.tensor([2.0])
    m = nn.ReLU()
    m.register_forward_hook(lambda m, args, out: out * scale)
    f = compiled(lambda x: m(x))
    yield f(row())
    scale.fill_(3.0)
    yield f(row())
    scale = fb.tensor([4.0])
    yield f(row())


@same
def forward_hook_added_between_calls(compiled):
    m = nn.ReLU()
    f = compiled(lambda x: m(x))
    yield f(row())
    handle = m.register_forward_hook(lambda m, args, out: out * 2)
    yield f(row())
    handle.remove()
    yield f(row())


@same
def forward_hook_added_deep_inside(compiled):
    m = nn.Sequential(nn.Sequential(nn.Sequential(nn.Sequential(nn.ReLU()))))
    f = compiled(m)
    yield f(row())
    m[0][0][0][0].register_forward_hook(lambda m, args, out: out * 2)
    yield f(row())


@same
def forward_hooks_cleared_through_the_dict(compiled):
    m = nn.ReLU()
    m.register_forward_hook(lambda m, args, out: out * 2)
    f = compiled(lambda x: m(x))
    yield f(row())
    m._forward_hooks.clear()
    yield f(row())


@same
def forward_hook_prepended(compiled):
    m = nn.ReLU()
    m.register_forward_hook(lambda m, args, out: out * 2)
    f = compiled(lambda x: m(x))
    yield f(row())
    m.register_forward_hook(lambda m, args, out: out + 1, prepend=True)
    yield f(row())


@same
def forward_hook_with_kwargs(compiled):
    k = [2.0]

    class Scaled(nn.Module):
        def forward(self, x, *, by=1.0):
            return x * by

    m = Scaled()
    m.register_forward_pre_hook(lambda m, args, kwargs: (args, {"by": kwargs["by"] * k[0]}), with_kwargs=True)
    m.register_forward_hook(lambda m, args, kwargs, out: out + kwargs["by"], with_kwargs=True)
    f = compiled(lambda x, by: m(x, by=by))
    yield f(row(), 2.0)
    yield f(row(), 5.0)
    k[0] = 3.0
    yield f(row(), 5.0)


@same
def forward_hook_counts_on_an_object(compiled):
    class Counter:
        def __init__(self):
            self.n = 0

        def hook(self, m, args, out):
            self.n += 1

    counter = Counter()
    m = nn.ReLU()
    m.register_forward_hook(counter.hook)
    f = compiled(lambda x: m(x))
    f(row())
    f(row())
    yield counter.n


@same
def forward_hook_counts_on_its_module(compiled):
    m = nn.ReLU()
    m.calls = 0

    def hook(m, args, out):
        m.calls += 1

    m.register_forward_hook(hook)
    f = compiled(lambda x: m(x))
    f(row())
    f(row())
    yield m.calls


@same
def forward_hook_counts_in_a_cell(compiled):
    n = 0

    def hook(m, args, out):
        nonlocal n
        n += 1

    m = nn.ReLU()
    m.register_forward_hook(hook)
    f = compiled(lambda x: m(x))
    f(row())
    f(row())
    yield n


@same
def forward_hook_records_activations(compiled):
    activations = []
    m = nn.Sequential(nn.Linear(2, 2), nn.ReLU())
    m[0].register_forward_hook(lambda m, args, out: activations.append(out.detach()))
    f = compiled(lambda x: m(x))
    f(row())
    f(row())
    yield len(activations)


@same
def forward_hook_records_in_a_dict(compiled):
    activations = {}

    def saver(name):
        def hook(m, args, out):
            activations[name] = activations.get(name, 0) + 1

        return hook

    m = nn.Sequential(nn.Linear(2, 2), nn.ReLU())
    m[0].register_forward_hook(saver("linear"))
    f = compiled(m)
    f(row())
    f(row())
    yield activations["linear"]


@same
def forward_hook_keeps_last_activation_on_module(compiled):
    m = nn.Sequential(nn.Linear(2, 2), nn.ReLU())

    def hook(m, args, out):
        m.last = out.detach()

    m[0].register_forward_hook(hook)
    f = compiled(lambda x: m(x))
    f(row())
    yield m[0].last
    f(row() * 2)
    yield m[0].last


@same
def forward_hook_updates_buffer_in_place(compiled):
    m = nn.Identity()
    m.register_buffer("total", fb.zeros(2))

    def hook(m, args, out):
        m.total.add_(out.detach().sum(0))

    m.register_forward_hook(hook)
    f = compiled(lambda x: m(x))
    f(row())
    f(row() * 2)
    yield m.total


@same
def forward_hook_removes_itself(compiled):
    m = nn.ReLU()

    def once(m, args, out):
        handle.remove()
        return out * 2

    handle = m.register_forward_hook(once)
    f = compiled(lambda x: m(x))
    yield f(row())
    yield f(row())


@same
def forward_hook_registered_inside(compiled):
    m = nn.ReLU()

    def g(x):
        handle = m.register_forward_hook(lambda m, args, out: out * 2)
        y = m(x)
        handle.remove()
        return y

    f = compiled(g)
    yield f(row())
    yield f(row())
    yield len(m._forward_hooks)


@same
def forward_hook_registered_inside_and_kept(compiled):
    m = nn.ReLU()

    def g(x):
        m.register_forward_hook(lambda m, args, out: out * 2)
        return m(x)

    f = compiled(g)
    yield f(row())
    yield f(row())


@same
def forward_hook_chooses_by_shape_of_input(compiled):
    m = nn.Identity()
    m.register_forward_hook(lambda m, args, out: out * args[0].shape[0])
    f = compiled(lambda x: m(x))
    for n in (1, 3, 1):
        yield f(fb.ones(n, 2))


@same
def forward_hook_swapped_in_place(compiled):
    m = nn.ReLU()
    first = m.register_forward_hook(lambda m, args, out: out * 2)
    f = compiled(lambda x: m(x))
    yield f(row())
    first.remove()
    m.register_forward_hook(lambda m, args, out: out * 3)
    yield f(row())


@same
def forward_hook_reads_nested_settings(compiled):
    settings = {"net": {"scale": [1.0, {"k": 2.0}]}}
    m = nn.ReLU()
    m.register_forward_hook(lambda m, args, out: out * settings["net"]["scale"][1]["k"])
    f = compiled(lambda x: m(x))
    yield f(row())
    settings["net"]["scale"][1]["k"] = 3.0
    yield f(row())


@same
def pre_hook_normalizes_weight(compiled):
    """A reparametrization as weight_norm does it: the weight is computed before each forward."""
    class Normed(nn.Module):
        def __init__(self):
            super().__init__()
            self.g = nn.Parameter(fb.ones(1))
            self.v = nn.Parameter(fb.tensor([3.0, 4.0]))
            self.eps = 0.0
            self.register_forward_pre_hook(self.compute)

        @staticmethod
        def compute(m, args):
            return (args[0] * (m.g / (m.v.norm() + m.eps)) * m.v,)

        def forward(self, x):
            return x.sum()

    m = Normed()
    f = compiled(m)
    yield f(row())
    m.eps = 5.0
    yield f(row())
    with fb.no_grad():
        m.g.fill_(2.0)
    yield f(row())


@same
def hook_through_operator(compiled):
    m = nn.Identity()
    holder = {"f": operator.mul}
    m.register_forward_hook(lambda m, args, out: holder["f"](out, 3.0))
    f = compiled(lambda x: m(x))
    yield f(row())
    holder["f"] = operator.add
    yield f(row())


# -- gradient hooks ---------------------------------------------------------------------------------------------------


@same
def gradient_hook_reads_a_cell(compiled):
    k = 2.0
    w = leaf(1.0, 2.0)
    w.register_hook(lambda g: g * k)

    def g(x):
        (w * x).sum().backward()

    f = compiled(g)
    f(fb.ones(2))
    yield w
    w.grad = None
    k = 3.0
    f(fb.ones(2))
    yield w


@same
def gradient_hook_is_an_object(compiled):
    class Scaler:
        def __init__(self):
            self.k = 2.0

        def __call__(self, g):
            return g * self.k

    scaler = Scaler()
    w = leaf(1.0, 2.0)
    w.register_hook(scaler)

    def g(x):
        w.grad = None
        (w * x).sum().backward()

    f = compiled(g)
    f(fb.ones(2))
    yield w
    scaler.k = 3.0
    f(fb.ones(2))
    yield w


@same
def gradient_hook_reads_a_global(compiled):
    global SCALE
    SCALE = 2.0
    w = leaf(1.0, 2.0)
    w.register_hook(lambda g: g * SCALE)

    def g(x):
        w.grad = None
        (w * x).sum().backward()

    f = compiled(g)
    f(fb.ones(2))
    yield w
    SCALE = 3.0
    f(fb.ones(2))
    yield w


@same
def gradient_hook_is_a_bound_method(compiled):
    class Clipper:
        def __init__(self):
            self.limit = 0.5

        def clip(self, g):
            return g.clamp(-self.limit, self.limit)

    clipper = Clipper()
    w = leaf(1.0, 2.0)
    w.register_hook(clipper.clip)

    def g(x):
        w.grad = None
        (w * x).sum().backward()

    f = compiled(g)
    f(fb.ones(2))
    yield w
    clipper.limit = 0.25
    f(fb.ones(2))
    yield w


@same
def gradient_hook_counts(compiled):
    n = [0]
    w = leaf(1.0, 2.0)

    def hook(g):
        n[0] += 1

    w.register_hook(hook)

    def g(x):
        w.grad = None
        (w * x).sum().backward()

    f = compiled(g)
    f(fb.ones(2))
    f(fb.ones(2))
    yield n[0]


@same
def gradient_hook_collects_norms(compiled):
    norms = []
    w = leaf(3.0, 4.0)
    w.register_hook(lambda g: norms.append(g.norm()))

    def g(x):
        w.grad = None
        (w * x).sum().backward()

    f = compiled(g)
    f(fb.ones(2))
    f(fb.ones(2) * 2)
    yield len(norms)


@same
def gradient_hook_writes_captured_tensor(compiled):
    total = fb.zeros(2)
    w = leaf(1.0, 2.0)
    w.register_hook(lambda g: total.add_(g) * 0)

    def g(x):
        w.grad = None
        (w * x).sum().backward()

    f = compiled(g)
    f(fb.ones(2))
    f(fb.ones(2) * 2)
    yield total, w


@same
def gradient_hook_on_argument_leaf(compiled):
    w = leaf(1.0, 2.0)
    w.register_hook(lambda g: g * 3)

    def g(w):
        (w * 2).sum().backward()

    f = compiled(g)
    f(w)
    yield w


@same
def gradient_hook_on_argument_leaf_added_later(compiled):
    w = leaf(1.0, 2.0)

    def g(w):
        (w * 2).sum().backward()

    f = compiled(g)
    f(w)
    yield w
    w.grad = None
    w.register_hook(lambda g: g * 3)
    f(w)
    yield w


@same
def gradient_hook_on_second_argument_of_one_signature(compiled):
    plain, hooked = leaf(1.0, 2.0), leaf(1.0, 2.0)
    hooked.register_hook(lambda g: g * 3)

    def g(w):
        (w * 2).sum().backward()

    f = compiled(g)
    f(plain)
    f(hooked)
    yield plain, hooked


@exact
def gradient_hook_on_argument_backward_outside(compiled):
    w = leaf(1.0, 2.0)
    handle = w.register_hook(lambda g: g * 3)
    f = compiled(lambda w: w * w)
    f(w).sum().backward()
    yield w
    w.grad = None
    handle.remove()
    f(w).sum().backward()
    yield w


@same
def gradient_hook_on_captured_leaf_backward_outside(compiled):
    k = 2.0
    w = leaf(1.0, 2.0)
    w.register_hook(lambda g: g * k)
    f = compiled(lambda x: w * x)
    f(fb.ones(2)).sum().backward()
    yield w
    w.grad = None
    k = 3.0
    f(fb.ones(2)).sum().backward()
    yield w


@same
def gradient_hook_on_captured_view(compiled):
    w = fb.ones(2, 2, requires_grad=True)
    v = w.t()
    v.register_hook(lambda g: g * 3)

    def g(x):
        (v * x).sum().backward()

    f = compiled(g)
    f(fb.ones(2, 2))
    yield w


@same
def gradient_hook_inside_reads_closure_backward_outside(compiled):
    k = [2.0]
    w = leaf(1.0, 2.0)

    def g(x):
        y = w * x
        y.register_hook(lambda g: g * k[0])
        return y * 1

    f = compiled(g)
    f(fb.ones(2)).sum().backward()
    yield w
    w.grad = None
    k[0] = 3.0
    f(fb.ones(2)).sum().backward()
    yield w


@same
def gradient_hook_inside_reads_argument_number(compiled):
    w = leaf(1.0, 2.0)

    def g(x, k):
        w.grad = None
        y = w * x
        y.register_hook(lambda g: g * k)
        y.sum().backward()

    f = compiled(g)
    for k in (2.0, 3.0, 4):
        f(fb.ones(2), k)
        yield w


@same
def gradient_hook_inside_counts_backward_outside(compiled):
    n = [0]
    w = leaf(1.0, 2.0)

    def hook(g):
        n[0] += 1

    def g(x):
        y = w * x
        y.register_hook(hook)
        return y * 1

    f = compiled(g)
    f(fb.ones(2)).sum().backward()
    f(fb.ones(2)).sum().backward()
    yield n[0]


@same
def gradient_hook_removed_inside(compiled):
    w = leaf(1.0, 2.0)

    def g(x):
        w.grad = None
        with w.register_hook(lambda g: g * 3):
            (w * x).sum().backward()

    f = compiled(g)
    f(fb.ones(2))
    yield w
    f(fb.ones(2))
    yield w


@same
def gradient_hook_added_inside(compiled):
    w = leaf(1.0, 2.0)

    def g(x):
        w.grad = None
        w.register_hook(lambda g: g * 3)
        (w * x).sum().backward()

    f = compiled(g)
    f(fb.ones(2))
    yield w
    f(fb.ones(2))
    yield w


@same
def gradient_hook_added_and_removed_between_calls(compiled):
    w = leaf(1.0, 2.0)

    def g(x):
        w.grad = None
        (w * x).sum().backward()

    f = compiled(g)
    f(fb.ones(2))
    yield w
    handle = w.register_hook(lambda g: g * 3)
    f(fb.ones(2))
    yield w
    handle.remove()
    f(fb.ones(2))
    yield w


@same
def gradient_hook_on_one_of_tied_parameters(compiled):
    a, b = nn.Linear(2, 2, bias=False), nn.Linear(2, 2, bias=False)
    b.weight = a.weight
    a.weight.register_hook(lambda g: g * 2)

    def g(x):
        a.weight.grad = None
        b(a(x)).sum().backward()

    f = compiled(g)
    f(row())
    yield b.weight


@same
def gradient_hook_runs_once_for_two_uses(compiled):
    w = leaf(1.0, 2.0)
    w.register_hook(lambda g: g + 1)

    def g(x):
        w.grad = None
        (w * x + w * 3).sum().backward()

    f = compiled(g)
    f(fb.ones(2))
    yield w


@same
def gradient_hook_returns_zeros(compiled):
    """Freezing part of a parameter by a mask in a hook."""
    mask = fb.tensor([1.0, 0.0])
    w = leaf(1.0, 2.0)
    w.register_hook(lambda g: g * mask)

    def g(x):
        w.grad = None
        (w * x).sum().backward()

    f = compiled(g)
    f(fb.ones(2))
    yield w
    mask.copy_(fb.tensor([0.0, 1.0]))
    f(fb.ones(2))
    yield w


@same
def two_gradient_hooks_in_order(compiled):
    w = leaf(1.0, 2.0)
    w.register_hook(lambda g: g + 1)
    w.register_hook(lambda g: g * 3)

    def g(x):
        w.grad = None
        (w * x).sum().backward()

    f = compiled(g)
    f(fb.ones(2))
    yield w


@same
def retain_grad_inside(compiled):
    w = leaf(1.0, 2.0)

    def g(x):
        w.grad = None
        h = w * x
        h.retain_grad()
        (h * h).sum().backward()
        return h.grad * 1

    f = compiled(g)
    yield f(fb.ones(2))
    yield f(fb.ones(2) * 2)
    yield w


@same
def retain_grad_inside_returned_with_its_grad(compiled):
    w = leaf(1.0, 2.0)

    def g(x):
        h = w * x
        h.retain_grad()
        (h * h).sum().backward()
        return h.grad

    f = compiled(g)
    first = f(fb.ones(2))
    second = f(fb.ones(2) * 2)
    yield first, second


@same
def retain_grad_of_result_outside(compiled):
    w = leaf(1.0, 2.0)
    f = compiled(lambda x: w * x)
    y = f(fb.ones(2))
    y.retain_grad()
    (y * y).sum().backward()
    yield y.grad, w


@same
def hook_of_result_outside(compiled):
    w = leaf(1.0, 2.0)
    f = compiled(lambda x: w * x)
    y = f(fb.ones(2))
    y.register_hook(lambda g: g * 10)
    (y * y).sum().backward()
    yield w


@same
def hook_of_result_then_second_call(compiled):
    w = leaf(1.0, 2.0)
    f = compiled(lambda x: w * x)
    y = f(fb.ones(2))
    y.register_hook(lambda g: g * 10)
    z = f(fb.ones(2))
    z.sum().backward()
    yield w
    y.sum().backward()
    yield w


# -- functions of the user's with a backward of their own -------------------------------------------------------------


class Reverse(fb.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x * 1

    @staticmethod
    def backward(ctx, g):
        return g * -SLOPE


@same
def backward_reads_a_global_inside(compiled):
    global SLOPE
    SLOPE = 2.0
    w = leaf(1.0, 2.0)

    def g(x):
        w.grad = None
        Reverse.apply(w * x).sum().backward()

    f = compiled(g)
    f(fb.ones(2))
    yield w
    SLOPE = 3.0
    f(fb.ones(2))
    yield w


@same
def backward_reads_a_global_outside(compiled):
    global SLOPE
    SLOPE = 2.0
    w = leaf(1.0, 2.0)
    f = compiled(lambda x: Reverse.apply(w * x))
    f(fb.ones(2)).sum().backward()
    yield w
    w.grad = None
    SLOPE = 3.0
    f(fb.ones(2)).sum().backward()
    yield w


@same
def backward_reads_a_class_attribute_outside(compiled):
    class Scaled(fb.autograd.Function):
        k = 2.0

        @staticmethod
        def forward(ctx, x):
            return x * 1

        @staticmethod
        def backward(ctx, g):
            return g * Scaled.k

    w = leaf(1.0, 2.0)
    f = compiled(lambda x: Scaled.apply(w * x))
    f(fb.ones(2)).sum().backward()
    yield w
    w.grad = None
    Scaled.k = 3.0
    f(fb.ones(2)).sum().backward()
    yield w


@same
def backward_reads_a_class_attribute_inside(compiled):
    class Scaled(fb.autograd.Function):
        k = 2.0

        @staticmethod
        def forward(ctx, x):
            return x * Scaled.k

        @staticmethod
        def backward(ctx, g):
            return g * Scaled.k

    w = leaf(1.0, 2.0)

    def g(x):
        w.grad = None
        y = Scaled.apply(w * x)
        y.sum().backward()
        return y.detach()

    f = compiled(g)
    yield f(fb.ones(2)), w
    Scaled.k = 3.0
    yield f(fb.ones(2)), w


@same
def forward_of_a_function_reads_a_cell(compiled):
    k = 2.0

    class Scaled(fb.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x * k

        @staticmethod
        def backward(ctx, g):
            return g * k

    w = leaf(1.0, 2.0)
    f = compiled(lambda x: Scaled.apply(w * x))
    y = f(fb.ones(2))
    y.sum().backward()
    yield y, w
    w.grad = None
    k = 3.0
    y = f(fb.ones(2))
    y.sum().backward()
    yield y, w


@same
def backward_reads_a_captured_tensor_outside(compiled):
    scale = fb.tensor([2.0])

    class Scaled(fb.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x * 1

        @staticmethod
        def backward(ctx, g):
            return g * scale

    w = leaf(1.0, 2.0)
    f = compiled(lambda x: Scaled.apply(w * x))
    f(fb.ones(2)).sum().backward()
    yield w
    w.grad = None
    scale.fill_(3.0)
    f(fb.ones(2)).sum().backward()
    yield w


@same
def backward_changes_a_captured_tensor_outside(compiled):
    seen = fb.zeros(2)

    class Watched(fb.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x * 1

        @staticmethod
        def backward(ctx, g):
            seen.add_(g)
            return g

    w = leaf(1.0, 2.0)
    f = compiled(lambda x: Watched.apply(w * x))
    for _ in range(2):
        f(fb.ones(2)).sum().backward()
        yield seen


@same
def backward_counts(compiled):
    n = [0]

    class Counted(fb.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x * 1

        @staticmethod
        def backward(ctx, g):
            n[0] += 1
            return g

    w = leaf(1.0, 2.0)
    f = compiled(lambda x: Counted.apply(w * x))
    for _ in range(2):
        f(fb.ones(2)).sum().backward()
    yield n[0]


@same
def backward_counts_inside(compiled):
    n = [0]

    class Counted(fb.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x * 1

        @staticmethod
        def backward(ctx, g):
            n[0] += 1
            return g

    w = leaf(1.0, 2.0)

    def g(x):
        w.grad = None
        Counted.apply(w * x).sum().backward()

    f = compiled(g)
    for _ in range(2):
        f(fb.ones(2))
    yield n[0]


@same
def function_with_number_argument(compiled):
    class Scaled(fb.autograd.Function):
        @staticmethod
        def forward(ctx, x, k):
            ctx.k = k
            return x * 1

        @staticmethod
        def backward(ctx, g):
            return g * ctx.k, None

    w = leaf(1.0, 2.0)
    f = compiled(lambda x, k: Scaled.apply(w * x, k))
    for k in (2.0, 3.0, 5):
        w.grad = None
        f(fb.ones(2), k).sum().backward()
        yield w


@same
def function_with_string_and_none_arguments(compiled):
    class Either(fb.autograd.Function):
        @staticmethod
        def forward(ctx, x, how, bias):
            ctx.how = how
            return x * 2 if how == "double" else x + (1 if bias is None else bias)

        @staticmethod
        def backward(ctx, g):
            return g * 2 if ctx.how == "double" else g, None, None

    w = leaf(1.0, 2.0)
    f = compiled(lambda x, how, bias: Either.apply(w * x, how, bias))
    for how, bias in (("double", None), ("shift", None), ("shift", 5.0), ("shift", 6.0)):
        w.grad = None
        y = f(fb.ones(2), how, bias)
        y.sum().backward()
        yield y, w


@same
def function_asks_needs_input_grad(compiled):
    class Product(fb.autograd.Function):
        @staticmethod
        def forward(ctx, x, y):
            ctx.save_for_backward(x, y)
            return x * y

        @staticmethod
        def backward(ctx, g):
            x, y = ctx.saved_tensors
            return g * y if ctx.needs_input_grad[0] else None, g * x if ctx.needs_input_grad[1] else None

    w, v = leaf(1.0, 2.0), leaf(3.0, 4.0)
    f = compiled(lambda x: Product.apply(w * x, v))
    f(fb.ones(2)).sum().backward()
    yield w, v
    v.requires_grad_(False)
    w.grad = v.grad = None
    f(fb.ones(2)).sum().backward()
    yield w, v


@same
def function_with_two_outputs_one_unused(compiled):
    class Two(fb.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x * 2, x * 3

        @staticmethod
        def backward(ctx, a, b):
            return a * 2 + b * 3

    w = leaf(1.0, 2.0)

    def g(x):
        a, _ = Two.apply(w * x)
        return a

    f = compiled(g)
    f(fb.ones(2)).sum().backward()
    yield w
    w.grad = None
    f(fb.ones(2)).sum().backward()
    yield w


@same
def function_whose_backward_is_replaced(compiled):
    class Scaled(fb.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x * 1

        @staticmethod
        def backward(ctx, g):
            return g * 2

    w = leaf(1.0, 2.0)
    f = compiled(lambda x: Scaled.apply(w * x))
    f(fb.ones(2)).sum().backward()
    yield w
    w.grad = None
    Scaled.backward = staticmethod(lambda ctx, g: g * 3)
    f(fb.ones(2)).sum().backward()
    yield w


@same
def function_whose_forward_is_replaced(compiled):
    class Scaled(fb.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x * 2

        @staticmethod
        def backward(ctx, g):
            return g

    f = compiled(lambda x: Scaled.apply(x))
    yield f(fb.ones(2))
    Scaled.forward = staticmethod(lambda ctx, x: x * 3)
    yield f(fb.ones(2))


@same
def straight_through_estimator_with_a_step(compiled):
    step = [0.5]

    class Quantize(fb.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return (x / step[0]).round() * step[0]

        @staticmethod
        def backward(ctx, g):
            return g

    w = leaf(0.8, 2.1)

    def g(x):
        w.grad = None
        y = Quantize.apply(w)
        (y * x).sum().backward()
        return y.detach()

    f = compiled(g)
    yield f(fb.ones(2)), w
    step[0] = 1.0
    yield f(fb.ones(2)), w


@same
def once_differentiable_like_backward_under_no_grad(compiled):
    class Cube(fb.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x)
            return x ** 3

        @staticmethod
        @fb.no_grad()
        def backward(ctx, g):
            x, = ctx.saved_tensors
            return g * 3 * x ** 2 * factor

    factor = 1.0
    w = leaf(1.0, 2.0)

    def g(x):
        w.grad = None
        Cube.apply(w * x).sum().backward()

    f = compiled(g)
    f(fb.ones(2))
    yield w
    factor = 2.0
    f(fb.ones(2))
    yield w


@same
def function_made_by_a_factory(compiled):
    def made(k):
        class Scaled(fb.autograd.Function):
            @staticmethod
            def forward(ctx, x):
                return x * k

            @staticmethod
            def backward(ctx, g):
                return g * k * 10

        return Scaled.apply

    ops = {"f": made(2.0)}
    w = leaf(1.0, 2.0)

    def g(x):
        w.grad = None
        y = ops["f"](w * x)
        y.sum().backward()
        return y.detach()

    f = compiled(g)
    yield f(fb.ones(2)), w
    ops["f"] = made(3.0)
    yield f(fb.ones(2)), w
