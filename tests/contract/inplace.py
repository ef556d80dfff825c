"""Changes in place: of arguments, captured tensors, temporaries and their views, and who sees them."""
from __future__ import annotations

import numpy as np

import flambeau as fb
from flambeau import nn
from tests.contract.harness import exact, leaf, register, same


def ones():
    return fb.ones(2)


FORMS = {
    "add_": lambda t, x: t.add_(x),
    "iadd": lambda t, x: t.__iadd__(x),
    "mul_": lambda t, x: t.mul_(x),
    "sub_": lambda t, x: t.sub_(x),
    "div_": lambda t, x: t.div_(x + 1),
    "pow_": lambda t, x: t.pow_(2),
    "copy_": lambda t, x: t.copy_(x),
    "fill_": lambda t, x: t.fill_(3.0),
    "zero_": lambda t, x: t.zero_(),
    "clamp_": lambda t, x: t.clamp_(0.5, 1.5),
    "exp_": lambda t, x: t.exp_(),
    "neg_": lambda t, x: t.neg_(),
    "relu_": lambda t, x: t.relu_(),
    "masked_fill_": lambda t, x: t.masked_fill_(x > 0.5, 9.0),
    "lerp_": lambda t, x: t.lerp_(x, 0.5),
    "addcmul_": lambda t, x: t.addcmul_(x, x, value=0.5),
    "set_item": lambda t, x: t.__setitem__(0, 5.0),
    "set_item_of_tensor": lambda t, x: t.__setitem__(0, x[1]),
    "set_slice": lambda t, x: t.__setitem__(slice(None), x),
    "set_ellipsis": lambda t, x: t.__setitem__(..., x * 2),
    "set_mask": lambda t, x: t.__setitem__(x > 0.5, 4.0),
    "set_index": lambda t, x: t.__setitem__(fb.tensor([1, 0]), x),
    "index_add_": lambda t, x: t.index_add_(0, fb.tensor([0, 0]), x),
    "index_fill_": lambda t, x: t.index_fill_(0, fb.tensor([1]), 8.0),
    "scatter_": lambda t, x: t.scatter_(0, fb.tensor([1, 0]), x),
    "index_copy_": lambda t, x: t.index_copy_(0, fb.tensor([1, 0]), x),
    "uniform_": lambda t, x: t.uniform_(),
    "normal_": lambda t, x: t.normal_(),
    "view_add_": lambda t, x: t.view(2, 1).add_(1),
    "slice_add_": lambda t, x: t[1:].add_(1),
    "diagonal_add_": lambda t, x: t.diag().diagonal().add_(1),
    "twice": lambda t, x: t.add_(1).mul_(2),
}


def _on_argument(change):
    def case(compiled):
        def g(t, x):
            change(t, x)
            return t * 1

        f = compiled(g)
        for n in range(2):
            t = fb.arange(2.0) + n
            yield f(t, ones())
            yield t

    case.__module__ = __name__
    return case


def _on_captured(change):
    def case(compiled):
        t = fb.arange(2.0)

        def g(x):
            change(t, x)
            return t * 1

        f = compiled(g)
        for _ in range(3):
            yield f(ones())
            yield t

    case.__module__ = __name__
    return case


def _on_a_view_of_captured(change):
    def case(compiled):
        base = fb.arange(6.0).view(3, 2)

        def g(x):
            row = base[1]
            change(row, x)
            return base.sum()

        f = compiled(g)
        for _ in range(2):
            yield f(ones())
            yield base

    case.__module__ = __name__
    return case


def _with_gradient(change):
    def case(compiled):
        w = leaf(1.0, 2.0)
        v = leaf(0.5, 3.0)

        def g(x):
            w.grad = v.grad = None
            h = w * x
            change(h, v)
            (h * h).sum().backward()
            return h.detach()

        f = compiled(g)
        for n in (1, 2):
            yield f(ones() * n), w, v

    case.__module__ = __name__
    return case


def _with_gradient_outside(change):
    def case(compiled):
        w = leaf(1.0, 2.0)

        def g(x):
            h = w * x
            change(h, x)
            return h

        f = compiled(g)
        for n in (1, 2):
            w.grad = None
            y = f(ones() * n)
            y.sum().backward()
            yield y, w

    case.__module__ = __name__
    return case


for _name, _change in FORMS.items():
    register("same", _on_argument(_change), f"argument_{_name}")
    register("same", _on_captured(_change), f"captured_{_name}")
    register("same", _on_a_view_of_captured(_change), f"view_of_captured_{_name}")
    register("same", _with_gradient(_change), f"gradient_{_name}")
    register("same", _with_gradient_outside(_change), f"gradient_outside_{_name}")


@exact
def eager_and_compiled_writes_alternate(compiled):
    total = fb.zeros(2)

    def g(x):
        total.add_(x)
        return total * 1

    f = compiled(g)
    for n in range(3):
        yield f(ones())
        total.mul_(2)
        yield total
        yield n


@same
def captured_written_then_read_then_written(compiled):
    t = fb.arange(2.0)

    def g(x):
        before = t * 1
        t.add_(x)
        middle = t * 1
        t.mul_(2)
        return before, middle, t.sum()

    f = compiled(g)
    for _ in range(2):
        yield f(ones())
        yield t


@same
def two_captured_tensors_exchange_values(compiled):
    a, b = fb.ones(2), fb.ones(2) * 2

    def g():
        saved = a.clone()
        a.copy_(b)
        b.copy_(saved)

    f = compiled(g)
    for _ in range(3):
        f()
        yield a, b


@same
def captured_becomes_an_alias(compiled):
    a, b = fb.ones(2), fb.ones(2) * 2

    def g(x):
        a.add_(x)
        return b * 1

    f = compiled(g)
    yield f(ones())
    b = a
    yield f(ones())
    b = a.view(2)
    yield f(ones())
    b = fb.zeros(2)
    yield f(ones())


@same
def running_statistics(compiled):
    mean, count = fb.zeros(2), fb.zeros(())

    def g(x):
        count.add_(1)
        mean.add_((x - mean) / count)
        return (x - mean).abs()

    f = compiled(g)
    for n in range(4):
        yield f(ones() * n)
        yield mean, count


@same
def ring_buffer(compiled):
    memory, position = fb.zeros(3, 2), fb.zeros((), dtype=fb.int64)

    def g(x):
        memory[position] = x
        position.add_(1).remainder_(3)
        return memory.sum(0)

    f = compiled(g)
    for n in range(5):
        yield f(ones() * n)
        yield memory, position


@same
def key_value_cache(compiled):
    cache = fb.zeros(4, 2)

    def g(x, n):
        cache[n] = x
        return cache[:n + 1].sum(0)

    f = compiled(g)
    for n in range(4):
        yield f(ones() * n, n)
    yield cache


@same
def argument_written_and_returned(compiled):
    f = compiled(lambda x: x.add_(1))
    x = ones()
    y = f(x)
    yield y is x
    yield f(y), x


@same
def argument_view_written_and_base_read(compiled):
    def g(base, view):
        view.add_(1)
        return base * 2

    f = compiled(g)
    base = fb.arange(4.0)
    yield f(base, fb.ones(2))
    yield f(base, base[1:3])
    yield base


@same
def transposed_argument_written(compiled):
    f = compiled(lambda x: x.add_(fb.arange(6.0).view(2, 3)).sum(0))
    base = fb.zeros(3, 2)
    yield f(base.t())
    yield base
    yield f(fb.zeros(2, 3))


@same
def strided_and_reversed_slices_written(compiled):
    def g(x):
        x[::2] += 1
        x[1::2] = x[::2] * 2
        x.flip(0).add_(100)
        return x.sum()

    f = compiled(g)
    x = fb.arange(6.0)
    yield f(x)
    yield x


@same
def chain_of_views_written(compiled):
    def g(x):
        y = x.view(2, 3).t()[1:].unsqueeze(0).squeeze(0)
        y.mul_(10)
        x.view(3, 2)[0, 1] = -1.0
        return x * 1

    f = compiled(g)
    x = fb.arange(6.0)
    yield f(x)
    yield x


@same
def diagonal_of_a_transposed_tensor_written(compiled):
    def g(x):
        x.t().diagonal().add_(5)
        return x.sum()

    f = compiled(g)
    x = fb.zeros(3, 3)
    yield f(x)
    yield x
    yield f(x.t())
    yield x


@same
def split_and_unbind_written(compiled):
    def g(x):
        a, b = x.chunk(2)
        a.add_(1)
        b.mul_(2)
        for n, row in enumerate(x.view(3, 2).unbind(0)):
            row.add_(n)
        return x * 1

    f = compiled(g)
    x = fb.arange(6.0)
    yield f(x)
    yield x


@same
def expanded_tensor_written(compiled):
    f = compiled(lambda x: x.expand(3, 2).add_(1))
    try:
        yield f(ones())
    except RuntimeError:
        yield "RuntimeError"


@same
def write_of_overlapping_views(compiled):
    def g(x):
        x[1:].copy_(x[:-1].clone())
        return x * 1

    f = compiled(g)
    x = fb.arange(4.0)
    yield f(x)
    yield f(x)


@same
def swap_of_rows(compiled):
    def g(x):
        x[0], x[1] = x[1].clone(), x[0].clone()
        return x * 1

    f = compiled(g)
    x = fb.arange(4.0).view(2, 2)
    yield f(x)
    yield x


@same
def data_written(compiled):
    w = leaf(1.0, 2.0)

    def g(x):
        w.data.add_(x)
        return w * 2

    f = compiled(g)
    for _ in range(2):
        yield f(ones())
        yield w


@same
def data_assigned_inside(compiled):
    """p.data = p.data - lr * p.grad, as old tutorials have it."""
    w = leaf(1.0, 2.0)

    def g(x):
        w.grad = None
        (w * x).sum().backward()
        w.data = w.data - 0.1 * w.grad

    f = compiled(g)
    for _ in range(3):
        f(ones())
        yield w


@same
def data_of_a_module_assigned_inside(compiled):
    m = nn.Linear(2, 2)

    def g(x):
        m.zero_grad()
        m(x).sum().backward()
        for p in m.parameters():
            p.data = p.data - 0.1 * p.grad

    f = compiled(g)
    for _ in range(3):
        f(fb.ones(1, 2))
        yield list(m.parameters())


@same
def parameter_written_under_no_grad(compiled):
    w = leaf(1.0, 2.0)

    def g(x):
        w.grad = None
        (w * x).sum().backward()
        with fb.no_grad():
            w.sub_(w.grad * 0.1)
            w[0] = 0.5

    f = compiled(g)
    for _ in range(3):
        f(ones())
        yield w


@same
def leaf_written_with_grad_raises(compiled):
    w = leaf(1.0, 2.0)

    def g(x):
        w.add_(x)
        return w * 1

    f = compiled(g)
    try:
        yield f(ones())
    except RuntimeError:
        yield "RuntimeError"
    yield w


@same
def argument_written_by_what_requires_grad(compiled):
    w = leaf(1.0, 2.0)

    def g(x):
        x.add_(w)
        return x * 2

    f = compiled(g)
    x = ones()
    y = f(x)
    y.sum().backward()
    yield x.detach(), w


@same
def captured_written_by_what_requires_grad(compiled):
    w, h = leaf(1.0, 2.0), fb.zeros(2)

    def g(x):
        h.copy_(w * x)
        return h * 2

    f = compiled(g)
    f(ones()).sum().backward()
    yield h.detach(), w


@same
def numpy_memory_is_seen(compiled):
    a = np.zeros(2, np.float32)
    t = fb.from_numpy(a)

    def g(x):
        t.add_(x)
        return t * 1

    f = compiled(g)
    yield f(ones())
    yield a.tolist()
    a += 5
    yield f(ones())
    yield a.tolist()


@same
def read_only_numpy_memory(compiled):
    a = np.zeros(2, np.float32)
    t = fb.from_numpy(a)
    a.flags.writeable = False

    def g(x):
        t.add_(x)
        return t * 1

    f = compiled(g)
    yield f(ones())


@same
def write_before_a_failing_index(compiled):
    """A call that raises leaves captured state as it was, or as eager code leaves it: nothing half written."""
    t = fb.zeros(3)

    def g(n):
        return t[n] * 2

    f = compiled(g)
    yield f(fb.tensor([0, 1]))
    try:
        yield f(fb.tensor([0, 9]))
    except IndexError:
        yield "IndexError"
    yield t


@same
def version_counter_after_a_compiled_write(compiled):
    """Eager autograd must notice that a compiled call changed what it saved."""
    w, t = leaf(1.0, 2.0), fb.ones(2)

    def g(x):
        t.add_(x)

    f = compiled(g)
    y = (w * t).sum()
    f(ones())
    try:
        y.backward()
        yield w
    except RuntimeError:
        yield "RuntimeError"


@same
def version_counter_after_a_compiled_write_of_an_argument(compiled):
    w, t = leaf(1.0, 2.0), fb.ones(2)
    f = compiled(lambda t: t.add_(1))
    y = (w * t).sum()
    f(t)
    try:
        y.backward()
        yield w
    except RuntimeError:
        yield "RuntimeError"


@same
def batch_norm_in_place_statistics(compiled):
    m = nn.BatchNorm1d(2)
    f = compiled(m)
    for n in (1, 2):
        yield f(fb.arange(4.0).view(2, 2) * n)
        yield m.running_mean, m.running_var, m.num_batches_tracked
    m.momentum = 0.5
    yield f(fb.arange(4.0).view(2, 2))
    yield m.running_mean
    m.eval()
    yield f(fb.arange(4.0).view(2, 2))


@same
def unused_write(compiled):
    t = fb.zeros(2)

    def g(x):
        t.add_(1)
        return x

    f = compiled(g)
    f(ones())
    f(ones())
    yield t


@same
def write_of_a_constant(compiled):
    t = fb.zeros(2)

    def g():
        t.fill_(7)

    f = compiled(g)
    f()
    yield t
    t.zero_()
    f()
    yield t


@same
def copy_from_a_leaf(compiled):
    w = leaf(1.0, 2.0)

    def g():
        w.grad = None
        h = fb.zeros(2)
        h.copy_(w)
        (h * h).sum().backward()

    f = compiled(g)
    f()
    yield w


@same
def slice_assigned_from_a_leaf(compiled):
    w = leaf(1.0, 2.0)

    def g():
        w.grad = None
        h = fb.zeros(3)
        h[1:] = w
        h[0] = w[1]
        (h * h).sum().backward()

    f = compiled(g)
    f()
    yield w


@same
def argument_cast_and_written(compiled):
    f = compiled(lambda x: x.copy_(fb.tensor([1.7, 2.2])))
    for dtype in (fb.float32, fb.int64, fb.float16, fb.bool):
        x = fb.zeros(2).to(dtype)
        yield f(x)
        yield x


@same
def write_through_a_result(compiled):
    """A result is a buffer of its own: writing it changes no state."""
    t = fb.ones(2)
    f = compiled(lambda x: (t * 1, t + x))
    a, b = f(ones())
    a.zero_()
    b.zero_()
    yield t
    yield f(ones())


@same
def resize_by_assignment_of_data(compiled):
    t = fb.ones(2)
    f = compiled(lambda: t * 2)
    yield f()
    t.data = fb.ones(3)
    yield f()
    t.data = fb.ones(3, dtype=fb.float64)
    yield f()
