"""Which Python state and numbers a compiled function depends on: attempts to make it silently wrong."""


from __future__ import annotations

import argparse
import collections
import dataclasses
import functools
import math
import types
from typing import Any

import numpy as np
import pytest
from contract import Cases, check_refused, check_same, name_of

import flambeau as fb
from flambeau import nn
from flambeau.errors import CaptureError, KernelError, TraceError

cases = Cases()


@cases.same
def nan_guard(compiled):
    f = compiled(lambda x, n: x * 2 if n > 3 else x * 3)
    for n in (5.0, math.nan, 1.0, math.inf, -math.inf):
        yield f(fb.tensor([1.0]), n)


@cases.same
def negzero_guard(compiled):
    f = compiled(lambda x, n: x * math.copysign(1, n))
    for n in (0.0, -0.0):
        yield f(fb.tensor([1.0]), n)


@cases.same
def bigint(compiled):
    f = compiled(lambda x, n: x + n)
    for n in (1, 2**53 + 1, 2**62 + 1, -(2**53) - 1):
        yield f(fb.tensor([1]), n)


@cases.same
def bigint_ret(compiled):
    f = compiled(lambda n: (n, n * n, n + 1))
    for n in (1, 2**53 + 1, 10**9 + 1):
        yield f(n)


@cases.same
def intpow(compiled):
    f = compiled(lambda x, n: x * 2**n)
    for n in (3, -1):
        yield f(fb.tensor([4]), n)


@cases.same
def intpow_ret(compiled):
    f = compiled(lambda x, n: 2**n)
    for n in (3, -1):
        yield f(fb.tensor([4]), n)


@cases.same
def isinst(compiled):
    f = compiled(lambda x, n: x * n if isinstance(n, float) else x + 100 if isinstance(n, int) else x - 100)
    for n in (2.0, 3, True):
        yield f(fb.tensor([4.0]), n)


@cases.same
def strn(compiled):
    f = compiled(lambda x, n: x * {"1": 10.0, "2": 20.0}.get(str(n), 0.0))
    for n in (1, 2):
        yield f(fb.tensor([4.0]), n)


@cases.same
def nbits(compiled):
    f = compiled(
        lambda x, n: (
            x * (n & 1)
            + (n << 1)
            + (n | 4)
            + ~n
            + divmod(n, 2)[0]
            + n.bit_length()
            + math.trunc(n)
            + math.floor(n)
        )
    )
    for n in (1, 2):
        yield f(fb.tensor([4.0]), n)


@cases.same
def npnum(compiled):
    f = compiled(lambda x, n: x * n)
    for i in range(70):
        yield f(fb.tensor([4.0]), np.float64(i))


@cases.same
def npnum_in(compiled):
    f = compiled(lambda x, n: x * (np.float64(2.0) * n) + np.sqrt(n) + float(np.exp(n)))
    for i in (1.0, 2.0):
        yield f(fb.tensor([4.0]), i)


@cases.same
def clos_partial(compiled):
    factor = 2.0

    def g(a, x):
        return x * factor * a

    f = compiled(functools.partial(g, 3.0))
    yield f(fb.tensor([1.0]))
    factor = 5.0
    yield f(fb.tensor([1.0]))


@cases.same
def callable_obj(compiled):

    class S:
        def __init__(s):
            s.k = 2.0

        def __call__(s, x):
            return x * s.k

    s = S()
    f = compiled(s)
    yield f(fb.tensor([1.0]))
    s.k = 5.0
    yield f(fb.tensor([1.0]))


@cases.same
def partial_kw(compiled):

    def g(x, scale):
        return x * scale

    p = functools.partial(g, scale=2.0)
    f = compiled(p)
    yield f(fb.tensor([1.0]))
    p.keywords["scale"] = 5.0
    yield f(fb.tensor([1.0]))


@cases.refused(CaptureError)
def default_mut(compiled):

    def g(x, log=[]):  # noqa: B006
        log.append(1)
        return x * len(log)

    f = compiled(g)
    yield f(fb.tensor([1.0]))
    yield f(fb.tensor([1.0]))


@cases.same
def default_read(compiled):
    d = {"k": 2.0}

    def g(x, *, cfg=d):
        return x * cfg["k"]

    f = compiled(g)
    yield f(fb.tensor([1.0]))
    d["k"] = 3.0
    yield f(fb.tensor([1.0]))


@cases.same
def fn_in_list(compiled):
    k = 2.0
    fs = [lambda x: x * k]

    def g(x):
        for h in fs:
            x = h(x)
        return x

    f = compiled(g)
    yield f(fb.tensor([1.0]))
    k = 3.0
    yield f(fb.tensor([1.0]))


@cases.same
def mod_attr_fn(compiled):
    k = 2.0

    class M(nn.Module):
        def __init__(s):
            super().__init__()
            s.act = lambda x: x * k

        def forward(s, x):
            return s.act(x)

    m = M()
    f = compiled(lambda x: m(x))
    yield f(fb.tensor([1.0]))
    k = 3.0
    yield f(fb.tensor([1.0]))


@cases.same
def simplens(compiled):
    c = types.SimpleNamespace(k=2.0)
    f = compiled(lambda x: x * c.k)
    yield f(fb.tensor([1.0]))
    c.k = 3.0
    yield f(fb.tensor([1.0]))


@cases.same
def argns(compiled):
    c = argparse.Namespace(k=2.0)
    f = compiled(lambda x: x * c.k)
    yield f(fb.tensor([1.0]))
    c.k = 3.0
    yield f(fb.tensor([1.0]))


@cases.same
def argns_arg(compiled):
    c = argparse.Namespace(k=2.0)
    f = compiled(lambda x, c: x * c.k)
    yield f(fb.tensor([1.0]), c)
    c.k = 3.0
    yield f(fb.tensor([1.0]), c)


@cases.same
def slots(compiled):

    class Z:
        __slots__ = ("k",)

    c = Z()
    c.k = 2.0
    f = compiled(lambda x: x * c.k)
    yield f(fb.tensor([1.0]))
    c.k = 3.0
    yield f(fb.tensor([1.0]))


@cases.same
def slots_arg(compiled):

    class Z:
        __slots__ = ("k",)

    c = Z()
    c.k = 2.0
    f = compiled(lambda x, c: x * c.k)
    yield f(fb.tensor([1.0]), c)
    c.k = 3.0
    yield f(fb.tensor([1.0]), c)


class Cfg:
    k = 2.0


@cases.same
def classattr(compiled):
    Cfg.k = 2.0
    f = compiled(lambda x: x * Cfg.k)
    yield f(fb.tensor([1.0]))
    Cfg.k = 3.0
    yield f(fb.tensor([1.0]))


@cases.refused(CaptureError)
def classcount(compiled):
    Cfg.k = 0

    def g(x):
        Cfg.k += 1
        return x * Cfg.k

    f = compiled(g)
    yield f(fb.tensor([1.0]))
    yield f(fb.tensor([1.0]))


settings = types.ModuleType("settings")
settings.k = 2.0


@cases.same
def modattr(compiled):
    settings.k = 2.0
    f = compiled(lambda x: x * settings.k)
    yield f(fb.tensor([1.0]))
    settings.k = 3.0
    yield f(fb.tensor([1.0]))


@cases.refused(CaptureError)
def dq(compiled):
    d = collections.deque([1.0])

    def g(x):
        d.append(2.0)
        return x * len(d)

    f = compiled(g)
    yield f(fb.tensor([1.0]))
    yield f(fb.tensor([1.0]))


@cases.same
def dq_read(compiled):
    d = collections.deque([1.0])
    f = compiled(lambda x: x * len(d))
    yield f(fb.tensor([1.0]))
    d.append(2)
    yield f(fb.tensor([1.0]))


@cases.same
def set_arg(compiled):
    s = {1.0}
    f = compiled(lambda x, s: x * len(s))
    yield f(fb.tensor([1.0]), s)
    s.add(2)
    yield f(fb.tensor([1.0]), s)


@cases.refused(CaptureError)
def set_arg_mut(compiled):
    s = {1.0}

    def g(x, s):
        s.add(len(s) + 5)
        return x * len(s)

    f = compiled(g)
    yield f(fb.tensor([1.0]), s)
    yield f(fb.tensor([1.0]), s)


@cases.same
def dq_arg(compiled):
    s = collections.deque([1])
    f = compiled(lambda x, s: x * len(s))
    yield f(fb.tensor([1.0]), s)
    s.append(2)
    yield f(fb.tensor([1.0]), s)


@cases.same
def bytearr(compiled):
    b = bytearray(b"ab")
    f = compiled(lambda x: x * len(b))
    yield f(fb.tensor([1.0]))
    b.append(2)
    yield f(fb.tensor([1.0]))


@cases.same
def npglob(compiled):
    a = np.array([1.0, 2.0], np.float32)
    f = compiled(lambda x: x * fb.tensor(a))
    yield f(fb.ones(2))
    a[0] = 7
    yield f(fb.ones(2))


@cases.same
def npglob_from(compiled):
    a = np.array([1.0, 2.0], np.float32)
    f = compiled(lambda x: x * fb.from_numpy(a))
    yield f(fb.ones(2))
    a[0] = 7
    yield f(fb.ones(2))


@cases.same
def npglob_idx(compiled):
    a = np.array([0, 1])
    f = compiled(lambda x: x[a])
    yield f(fb.arange(4.0))
    a[0] = 3
    yield f(fb.arange(4.0))


@cases.refused(TraceError)
def genarg(compiled):
    f = compiled(lambda x, g: x * sum(g))
    g = (i for i in range(4))
    yield f(fb.ones(1), g)
    yield f(fb.ones(1), g)


@cases.same
def size_arg(compiled):
    f = compiled(lambda x, s: x.sum() * s[0])
    yield f(fb.ones(2), fb.ones(2).shape)


@cases.same
def size_ret(compiled):
    f = compiled(lambda x: (x * 2, x.shape))
    yield f(fb.ones(2))


@dataclasses.dataclass
class S:
    w: object
    n: int = dataclasses.field(init=False, default=0)


@cases.same
def dc_init_false(compiled):
    s = S(fb.ones(1))
    s.n = 5
    f = compiled(lambda s: s.w * s.n)
    yield f(s)
    s.n = 6
    yield f(s)


@cases.same
def dc_extra(compiled):
    s = S(fb.ones(1))
    s.extra = 5
    f = compiled(lambda s: s.w * s.extra)
    yield f(s)


@cases.same
def dd_arg(compiled):
    d = collections.defaultdict(lambda: 3.0)
    d["a"] = fb.ones(1)
    f = compiled(lambda d: d["a"] * d["z"])
    yield f(d)


@cases.refused(CaptureError)
def set_grad_inside(compiled):

    def g(x):
        fb.set_grad_enabled(False)
        return x * 2

    f = compiled(g)
    try:
        yield f(fb.ones(1, requires_grad=True))
        yield fb.is_grad_enabled()
        fb.set_grad_enabled(True)
        yield f(fb.ones(1, requires_grad=True))
        yield fb.is_grad_enabled()
    finally:
        fb.set_grad_enabled(True)


@cases.refused(CaptureError)
def set_dtype_inside(compiled):

    def g(x):
        fb.set_default_dtype(fb.float64)
        return x * 2

    f = compiled(g)
    try:
        yield f(fb.ones(1))
        yield str(fb.get_default_dtype())
        fb.set_default_dtype(fb.float32)
        yield f(fb.ones(1))
        yield str(fb.get_default_dtype())
    finally:
        fb.set_default_dtype(fb.float32)


@cases.same
def def_dtype(compiled):
    f = compiled(lambda x: x * fb.zeros(2) + fb.tensor([1.5, 2]))
    try:
        yield f(fb.tensor([1, 2]))
        fb.set_default_dtype(fb.float64)
        yield f(fb.tensor([1, 2]))
    finally:
        fb.set_default_dtype(fb.float32)


@cases.same
def empty_cell(compiled):
    flag = False

    def g(x):
        if flag:
            return later(x)
        return x * 2

    f = compiled(g)
    yield f(fb.ones(1))
    yield f(fb.ones(1))
    yield f(fb.ones(1))
    later = lambda x: x * 7
    flag = True
    yield f(fb.ones(1))


@cases.refused(TraceError)
def result_is_a_generator(compiled):
    f = compiled(lambda x: iter([1, 2]))
    yield list(f(fb.ones(2)))


@pytest.mark.parametrize("case", cases.same_cases, ids=name_of)
def test_compiled_is_as_eager(case) -> None:
    check_same(case)


@pytest.mark.parametrize(("case", "error"), cases.refused_cases, ids=name_of)
def test_what_cannot_be_compiled_raises(case, error) -> None:
    check_refused(case, error)


def test_a_fast_call_notices_that_the_jit_was_switched_off() -> None:
    run = fb.compile(lambda x: x + 1)
    run(fb.ones(1))
    calls = run.stats().calls
    with fb.config.set(disable_jit=True):
        assert run(fb.ones(1)).item() == 2.0
    assert run.stats().calls == calls


def test_errors_of_unused_work_are_dropped_with_it() -> None:
    """docs/decisions/012: eager code raises wherever the bad index stands."""
    table, bad = fb.ones(4, 2), fb.tensor([0, 7])

    def unused(table: Any, i: Any) -> Any:
        table[i]
        return table.sum()

    def partly_used(table: Any, i: Any) -> Any:
        return table[i][:1]

    def guarded(table: Any, i: Any) -> Any:
        return fb.where(fb.tensor([[True], [False]]), table[i], 0.0)

    def divided(table: Any, i: Any) -> Any:
        i // (i - i)
        return table.sum()

    for f in (unused, partly_used, guarded, divided):
        with pytest.raises((IndexError, ArithmeticError, RuntimeError)):
            f(table, bad)
    assert fb.compile(unused)(table, bad).item() == 8
    assert fb.compile(divided)(table, bad).item() == 8
    assert fb.compile(partly_used)(table, bad).tolist() == [[1, 1]]
    with pytest.raises(KernelError):
        fb.compile(guarded)(table, bad)
