"""Aliases, views, in-place changes and gradients in compiled functions: attempts to make them silently wrong."""


from __future__ import annotations

import numpy as np
import pytest
from contract import Cases, check_refused, check_same, leaf, name_of

import flambeau as fb
import flambeau.nn.functional as F
from flambeau import nn, optim
from flambeau.errors import CaptureError, KernelError, UnsupportedError

cases = Cases()


@cases.same
def detach_first(compiled):
    w = leaf(2.0, 3.0)

    def g(x):
        t = w.detach()
        return (x * w).sum() + t.sum()

    f = compiled(g)
    for _ in range(2):
        f(fb.ones(2)).backward()
        yield w


@cases.same
def captured_view(compiled):
    w = fb.tensor([[1.0, 2.0], [3.0, 4.0]], requires_grad=True)
    wt = w.t()
    f = compiled(lambda x: x @ wt)
    f(fb.ones(1, 2)).sum().backward()
    yield w


@cases.same
def captured_nonleaf(compiled):
    w = leaf(1.0, 2.0)
    h = w * 3
    f = compiled(lambda x: x * h)
    f(fb.ones(2)).sum().backward()
    yield w


@cases.refused(UnsupportedError)
def captured_nonleaf_bw_inside(compiled):
    w = leaf(1.0, 2.0)
    h = w * 3

    def g(x):
        (x * h).sum().backward()

    f = compiled(g)
    f(fb.ones(2))
    yield w
    yield h


@cases.refused(UnsupportedError)
def arg_nonleaf_bw_inside(compiled):
    w = leaf(1.0, 2.0)
    h = w * 3

    def g(x):
        (x * 2).sum().backward()

    f = compiled(g)
    f(h)
    yield w
    yield h


@cases.same
def arg_leaf_grad(compiled):
    x = leaf(1.0, 2.0)

    def g(x):
        (x * 2).sum().backward()

    f = compiled(g)
    for _ in range(3):
        f(x)
        yield x


@cases.same
def arg_grad_reset(compiled):
    x = leaf(1.0, 2.0)

    def g(x):
        x.grad = None
        (x * 2).sum().backward()

    f = compiled(g)
    for _ in range(3):
        f(x)
        yield x


@cases.same
def arg_grad_none_only(compiled):
    x = leaf(1.0, 2.0)
    x.grad = fb.ones(2)

    def g(x):
        x.grad = None
        return x * 2

    f = compiled(g)
    for _ in range(2):
        f(x)
        yield (x.grad is None)


@cases.refused(UnsupportedError)
def arg_grad_read(compiled):
    x = leaf(1.0, 2.0)
    x.grad = fb.ones(2)

    def g(x):
        return x.grad * 2 if x.grad is not None else x * 0

    f = compiled(g)
    for _ in range(2):
        yield f(x)


@cases.refused(UnsupportedError)
def arg_grad_read_after(compiled):
    x = leaf(1.0, 2.0)

    def g(x):
        (x * 2).sum().backward()
        return x.grad * 1

    f = compiled(g)
    for _ in range(3):
        yield f(x)


@cases.refused(UnsupportedError)
def arg_grad_zero(compiled):
    x = leaf(1.0, 2.0)

    def g(x):
        if x.grad is not None:
            x.grad.zero_()
        (x * 2).sum().backward()

    f = compiled(g)
    for _ in range(3):
        f(x)
        yield x


@cases.same
def grad_replaced(compiled):
    w = leaf(1.0, 2.0)

    def g(x):
        (x * w).sum().backward()

    f = compiled(g)
    for _ in range(3):
        f(fb.ones(2))
        yield w
    w.grad = fb.full((2,), 10.0)
    f(fb.ones(2))
    yield w
    w.grad = None
    (fb.full((2,), 100.0) * w).sum().backward()
    f(fb.ones(2))
    yield w


@cases.same
def grad_read_replaced(compiled):
    w = leaf(1.0, 2.0)
    w.grad = fb.ones(2)
    f = compiled(lambda x: x * w.grad)
    yield f(fb.ones(2))
    w.grad = fb.full((2,), 9.0)
    yield f(fb.ones(2))
    w.grad = None
    try:
        yield f(fb.ones(2))
    except TypeError as error:
        yield type(error).__name__


@cases.refused(UnsupportedError)
def inplace_captured_record(compiled):
    w = leaf(2.0, 3.0)
    b = fb.ones(2)

    def g(x):
        b.mul_(w)
        return x * 1

    f = compiled(g)
    f(fb.ones(2))
    yield b
    b.sum().backward()
    yield w


@cases.same
def ret_view_captured(compiled):
    w = fb.tensor([[1.0, 2.0], [3.0, 4.0]])
    f = compiled(lambda x: (x * 1, w.t()))
    yield f(fb.ones(1))
    w.add_(1)
    yield f(fb.ones(1))
    w.data = fb.zeros(2, 2)
    yield f(fb.ones(1))


@cases.same
def ret_view_captured_grad(compiled):
    w = fb.tensor([[1.0, 2.0], [3.0, 4.0]], requires_grad=True)
    f = compiled(lambda x: w.t())
    y = f(fb.ones(1))
    yield y
    y.sum().backward()
    yield w


@cases.same
def ret_detach_captured(compiled):
    w = leaf(1.0, 2.0)
    f = compiled(lambda x: w.detach())
    yield f(fb.ones(1))
    with fb.no_grad():
        w.add_(1)
    yield f(fb.ones(1))
    w.data = fb.zeros(2)
    yield f(fb.ones(1))


@cases.same
def data_rebound_detach(compiled):
    w = leaf(1.0, 2.0)
    f = compiled(lambda x: x * w.detach())
    yield f(fb.ones(2))
    w.data = fb.full((2,), 5.0)
    yield f(fb.ones(2))


@cases.same
def data_rebound_view(compiled):
    w = fb.tensor([[1.0, 2.0], [3.0, 4.0]])
    f = compiled(lambda x: x @ w.t())
    yield f(fb.ones(1, 2))
    w.data = fb.full((2, 2), 5.0)
    yield f(fb.ones(1, 2))
    w.data = fb.ones(2, 2).t()
    yield f(fb.ones(1, 2))


@cases.same
def data_rebound_noncontig(compiled):
    w = fb.tensor([[1.0, 2.0], [3.0, 4.0]])
    f = compiled(lambda x: x @ w)
    yield f(fb.ones(1, 2))
    w.data = fb.tensor([[5.0, 6.0], [7.0, 8.0]]).t()
    yield f(fb.ones(1, 2))


@cases.same
def data_rebound_slice(compiled):
    w = fb.ones(2)
    f = compiled(lambda x: x * w)
    yield f(fb.ones(2))
    w.data = fb.arange(6.0)[2:4]
    yield f(fb.ones(2))


@cases.same
def data_rebound_shape(compiled):
    w = fb.ones(2)
    f = compiled(lambda x: x * w)
    yield f(fb.ones(1))
    w.data = fb.arange(3.0)
    yield f(fb.ones(1))
    w.data = fb.arange(3)
    yield f(fb.ones(1))


@cases.same
def captured_view_data(compiled):
    b = fb.arange(6.0)
    v = b[2:4]
    f = compiled(lambda x: x * v)
    yield f(fb.ones(2))
    b.add_(1)
    yield f(fb.ones(2))
    b.data = fb.zeros(6)
    yield f(fb.ones(2))
    v.data = fb.full((2,), 7.0)
    yield f(fb.ones(2))


@cases.same
def reshape_noncontig_write(compiled):

    def g(x):
        x.reshape(-1).zero_()
        return x * 1

    f = compiled(g)
    a = fb.ones(2, 3)
    f(a)
    yield a
    a = fb.ones(2, 3)
    f(a.t())
    yield a
    a = fb.ones(3, 2)
    f(a)
    yield a


@cases.same
def iscontig(compiled):
    f = compiled(lambda x: x * 2 if x.t().is_contiguous() else x * 3)
    yield f(fb.ones(2, 3))


@cases.same
def strides(compiled):
    f = compiled(lambda x: x * x.t().stride(0))
    yield f(fb.ones(2, 3))


@cases.refused(UnsupportedError)
def readonly_arg(compiled):
    a = np.ones(3, np.float32)
    a.flags.writeable = False
    t = fb.from_numpy(a)

    def g(x):
        x.add_(1)

    f = compiled(g)
    f(fb.ones(3))
    f(t)
    yield a.tolist()


@cases.refused(UnsupportedError)
def readonly_cap(compiled):
    a = np.ones(3, np.float32)
    a.flags.writeable = False
    t = fb.from_numpy(a)

    def g(x):
        t.add_(x)

    f = compiled(g)
    f(fb.ones(3))
    yield a.tolist()


@cases.refused(UnsupportedError)
def expand_arg(compiled):
    t = fb.ones(1).expand(3)

    def g(x):
        x.add_(1)

    f = compiled(g)
    f(fb.ones(3))
    f(t)
    yield t


@cases.same
def tied(compiled):
    a = nn.Linear(2, 2, bias=False)
    b = nn.Linear(2, 2, bias=False)
    b.weight = a.weight
    m = nn.Sequential(a, nn.Tanh(), b)
    o = optim.SGD(m.parameters(), lr=0.1)

    def g(x):
        o.zero_grad()
        l = m(x).square().sum()
        l.backward()
        o.step()
        return l

    f = compiled(g)
    for _ in range(3):
        yield f(fb.ones(1, 2))
        yield a.weight


@cases.same
def freeze(compiled):
    m = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    o = optim.SGD(m.parameters(), lr=0.1)

    def g(x):
        o.zero_grad()
        l = m(x).square().sum()
        l.backward()
        o.step()
        return l

    f = compiled(g)
    for r in (1, 0, 1):
        m[0].requires_grad_(bool(r))
        for _ in range(2):
            yield f(fb.ones(1, 2))
            yield list(m.parameters())


@cases.same
def two_groups_clip(compiled):
    m = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    o = optim.Adam([{"params": m[0].parameters(), "lr": 0.1}, {"params": m[1].parameters()}], lr=0.01)

    def g(x):
        o.zero_grad()
        l = m(x).square().sum()
        l.backward()
        n = nn.utils.clip_grad_norm_(m.parameters(), 0.5)
        o.step()
        return (l, n)

    f = compiled(g)
    for _ in range(3):
        yield f(fb.ones(1, 2))
        yield list(m.parameters())


@cases.same
def zero_false(compiled):
    m = nn.Linear(2, 2)
    o = optim.SGD(m.parameters(), lr=0.1)

    def g(x):
        o.zero_grad(set_to_none=False)
        l = m(x).square().sum()
        l.backward()
        o.step()
        return l

    f = compiled(g)
    for _ in range(3):
        yield f(fb.ones(1, 2))
        yield list(m.parameters())


@cases.same
def accum(compiled):
    m = nn.Linear(2, 2)
    o = optim.SGD(m.parameters(), lr=0.1)

    def g(x):
        l = m(x).square().sum()
        l.backward()
        return l

    f = compiled(g)
    for i in range(8):
        yield f(fb.ones(1, 2) * i)
        yield list(m.parameters())
        if i % 3 == 2:
            o.step()
            o.zero_grad()


@cases.same
def accum_mixed(compiled):
    m = nn.Linear(2, 2)
    o = optim.SGD(m.parameters(), lr=0.1)

    def g(x):
        l = m(x).square().sum()
        l.backward()
        return l

    f = compiled(g)
    for i in range(9):
        (g if i % 2 else f)(fb.ones(1, 2) * i)
        yield list(m.parameters())
        if i % 4 == 3:
            o.step()
            o.zero_grad()


@cases.same
def two_bw(compiled):
    w = leaf(1.0, 2.0)

    def g(x):
        y = (x * w).sum()
        y.backward(retain_graph=True)
        y.backward()
        z = (x * w * w).sum()
        z.backward()
        return (y, z, w.grad * 1)

    f = compiled(g)
    for _ in range(3):
        yield f(fb.ones(2))
        yield w


@cases.refused(RuntimeError)
def two_bw_noretain(compiled):
    w = leaf(1.0, 2.0)

    def g(x):
        y = (x * w * w).sum()
        y.backward()
        y.backward()
        return y

    f = compiled(g)
    yield f(fb.ones(2))


@cases.refused(RuntimeError)
def inplace_needed(compiled):
    w = leaf(1.0, 2.0)

    def g(x):
        h = w * x
        y = h * h
        h.add_(1)
        y.sum().backward()

    f = compiled(g)
    f(fb.ones(2))
    yield w


@cases.refused(RuntimeError)
def inplace_needed_after(compiled):
    w = leaf(1.0, 2.0)
    x = fb.ones(2)
    f = compiled(lambda x: (w * x).sum())
    y = f(x)
    x.add_(1)
    y.backward()
    yield w


@cases.refused(RuntimeError)
def inplace_needed_state(compiled):
    w = leaf(1.0, 2.0)
    x = fb.ones(2, requires_grad=True)
    f = compiled(lambda x: (w * x).sum())
    y = f(x)
    with fb.no_grad():
        w.add_(1)
    y.backward()
    yield x


@cases.refused(RuntimeError)
def bw_twice_outside(compiled):
    w = leaf(1.0, 2.0)
    f = compiled(lambda x: w * w * x)
    y = f(fb.ones(2)).sum()
    y.backward()
    yield w
    y.backward()
    yield w


@cases.same
def bw_twice_outside_retain(compiled):
    w = leaf(1.0, 2.0)
    f = compiled(lambda x: w * w * x)
    y = f(fb.ones(2)).sum()
    y.backward(retain_graph=True)
    yield w
    y.backward()
    yield w


@cases.refused(RuntimeError)
def state_written_saved(compiled):
    w = leaf(1.0, 2.0)
    b = fb.ones(2)

    def g(x):
        y = w * b * x
        b.add_(1)
        return y

    f = compiled(g)
    y = f(fb.ones(2))
    y.sum().backward()
    yield w


@cases.same
def state_clone_written_saved(compiled):
    w = leaf(1.0, 2.0)
    b = fb.ones(2)

    def g(x):
        y = w * b.clone() * x
        b.add_(1)
        return y

    f = compiled(g)
    for _ in range(2):
        y = f(fb.ones(2))
        y.sum().backward()
        yield w


@cases.same
def mixed_grad_modes(compiled):
    w = leaf(1.0, 2.0)

    def g(x):
        with fb.no_grad():
            a = w * x
            with fb.enable_grad():
                b = w * x
        return (a, b, a * b, w.detach() * b)

    f = compiled(g)
    r = f(fb.ones(2))
    yield r
    r[3].sum().backward()
    yield w


@cases.same
def same_out_twice(compiled):
    w = leaf(1.0, 2.0)

    def g(x):
        y = w * x
        return (y, y, [y])

    f = compiled(g)
    r = f(fb.ones(2))
    yield r
    yield (r[0] is r[1], r[1] is r[2][0])
    (r[0] + r[1]).sum().backward()
    yield w


@cases.same
def args_same_twice(compiled):
    x = leaf(1.0, 2.0)
    f = compiled(lambda a, b: a * b)
    f(x, x).sum().backward()
    yield x


@cases.same
def out_views_inplace(compiled):

    def g(x):
        y = x * 1
        v = y[::2]
        p = y.view(2, 3).permute(1, 0)
        v += 10
        p[0] *= 2
        p[:, 1].fill_(7)
        y[1:3] -= 1
        return (y, v, p)

    f = compiled(g)
    yield f(fb.arange(6.0))


@cases.same
def view_write_grad(compiled):
    w = leaf(1.0, 2.0, 3.0, 4.0)

    def g(x):
        y = w * x
        y[1:3] *= w[:2]
        y.view(2, 2).t()[0].mul_(3)
        y.sum().backward()
        return y

    f = compiled(g)
    yield f(fb.ones(4))
    yield w


@cases.same
def dropout_bw(compiled):
    w = fb.ones(100, requires_grad=True)

    def g(x):
        return F.dropout(w * x, 0.5)

    f = compiled(g)
    for _ in range(2):
        y = f(fb.ones(100))
        y.sum().backward()
        yield y
        yield w
        w.grad = None


@cases.same
def rng(compiled):
    f = compiled(lambda x: x + fb.rand(3))
    yield f(fb.zeros(3))
    s = fb.get_rng_state()
    yield f(fb.zeros(3))
    fb.set_rng_state(s)
    yield f(fb.zeros(3))
    fb.manual_seed(1)
    yield f(fb.zeros(3))
    yield fb.rand(2)


@cases.same
def seed_inside(compiled):

    def g(x):
        fb.manual_seed(3)
        a = fb.rand(2)
        s = fb.get_rng_state()
        b = fb.rand(2)
        fb.set_rng_state(s)
        return (a, b, fb.rand(2))

    f = compiled(g)
    yield f(fb.ones(1))
    yield f(fb.ones(1))
    yield fb.rand(1)


@cases.same
def grad_none_ret(compiled):
    w = leaf(1.0, 2.0)

    def g(x):
        (w * x).sum().backward()
        r = w.grad
        w.grad = None
        return r

    f = compiled(g)
    yield f(fb.ones(2))
    yield (w.grad is None)
    yield f(fb.ones(2))
    yield (w.grad is None)


@cases.same
def int_bool_args(compiled):
    f = compiled(lambda a, b, c: (a + b, c & True, ~c, c.sum(), a // 2, a % 3))
    yield f(fb.tensor([1, -2]), fb.tensor([1.0, 2.0]), fb.tensor([True, False]))


@cases.same
def zero_size(compiled):
    f = compiled(lambda x: (x * 2, x.sum(), x.sum(0), x.t()))
    yield f(fb.zeros(0, 3))
    yield f(fb.zeros(3, 0))


@cases.same
def var_args(compiled):

    def g(*a, **k):
        return sum(a) + k.get("z", 0)

    f = compiled(g)
    yield f(fb.ones(1))
    yield f(fb.ones(1), fb.ones(1))
    yield f(fb.ones(1), z=fb.ones(1))
    yield f(fb.ones(1), z=5)


@cases.same
def buf_reassign(compiled):

    class M(nn.Module):
        def __init__(s):
            super().__init__()
            s.register_buffer("b", fb.zeros(1))

        def forward(s, x):
            s.b = s.b + 1
            return x * s.b

    m = M()
    f = compiled(lambda x: m(x))
    yield f(fb.ones(1))


@cases.refused(CaptureError)
def attr_count(compiled):

    class M(nn.Module):
        def __init__(s):
            super().__init__()
            s.calls = 0

        def forward(s, x):
            s.calls += 1
            return x * s.calls

    m = M()
    f = compiled(lambda x: m(x))
    yield f(fb.ones(1))


@cases.same
def recursion(compiled):

    def g(x, n):
        return x if n <= 0 else f(x * 2, n - 1)

    f = compiled(g)
    yield f(fb.ones(1), 3)
    yield f(fb.ones(1), 5)


@cases.same
def requires_grad_inside(compiled):
    w = fb.ones(2)

    def g(x):
        w.requires_grad_(True)
        return (w * x).sum()

    f = compiled(g)
    f(fb.ones(2)).backward()
    yield w
    w.requires_grad_(False)
    w.grad = None
    f(fb.ones(2)).backward()
    yield w


@cases.refused(CaptureError)
def arg_req_inside(compiled):

    def g(x):
        x.requires_grad_(True)
        y = (x * x).sum()
        y.backward()
        return x.grad

    f = compiled(g)
    x = fb.ones(2)
    yield f(x)
    yield x


@cases.same
def captured_inplace_flip(compiled):
    w = leaf(1.0, 2.0)
    b = fb.ones(2)
    f = compiled(lambda x: x * b)
    yield f(fb.ones(2))
    b.mul_(w)
    y = f(fb.ones(2))
    yield y
    y.sum().backward()
    yield w


@cases.same
def param_and_data(compiled):
    d = fb.ones(2)
    p = nn.Parameter(d)
    f = compiled(lambda x: x * d + x * p)
    f(fb.ones(2)).sum().backward()
    yield p


@cases.same
def data_replaced_before_backward(compiled):
    w, x, c = fb.full((1000,), 3.0, requires_grad=True), fb.full((1000,), 2.0), fb.full((1000,), 5.0)
    f = compiled(lambda x: x * x * w * w * c)
    y = f(x)
    for t in (x, w, c):
        t.data = fb.zeros(1000)
    f(x)                                # the function goes on with other memory
    others = [fb.full((1000,), 7.0) for _ in range(9)]
    y.sum().backward()
    yield w.grad[:2], len(others)


@pytest.mark.parametrize("case", cases.same_cases, ids=name_of)
def test_compiled_is_as_eager(case) -> None:
    check_same(case)


@pytest.mark.parametrize(("case", "error"), cases.refused_cases, ids=name_of)
def test_what_cannot_be_compiled_raises(case, error) -> None:
    check_refused(case, error)


def assigned(x, at, new):
    x[at] = new
    return x


WRITTEN_AT = {
    "assigned": assigned,
    "assigned_in_two_dims": lambda x, at, new: assigned(x.view(2, 2), (at * 0, at), new),
    "index_put": lambda x, at, new: x.index_put((at,), new),
    "index_copy": lambda x, at, new: x.index_copy(0, at, new),
    "index_fill": lambda x, at, new: x.index_fill(0, at, 5.0),
    "scatter": lambda x, at, new: x.scatter(0, at, new),
    "one_hot": lambda x, at, new: F.one_hot(at, 4) + x,
}


@pytest.mark.parametrize("write", WRITTEN_AT.values(), ids=WRITTEN_AT.keys())
def test_an_index_out_of_range_is_never_left_out(write) -> None:
    new = fb.tensor([1.0, 2.0])
    compiled = fb.compile(write)
    for at in (fb.tensor([1, 0]), fb.tensor([1, 1])):
        assert compiled(fb.zeros(4), at, new).tolist() == write(fb.zeros(4), at, new).tolist()
    for wrong in (4, -5):
        with pytest.raises(RuntimeError):
            write(fb.zeros(4), fb.tensor([1, wrong]), new)
        with pytest.raises(KernelError, match="out of range"):
            compiled(fb.zeros(4), fb.tensor([1, wrong]), new)
    kept = fb.zeros(4)
    with pytest.raises(KernelError):
        fb.compile(lambda at: kept.copy_(write(kept, at, new).sum()))(fb.tensor([1, 4]))
    assert kept.tolist() == [0.0] * 4
