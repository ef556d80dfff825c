"""Attempts to hide a read from the guards, to leave something behind in a refused trace, and to make ordinary programs
recompile."""
from __future__ import annotations

import builtins
import collections
import copy
import dataclasses
import functools
import gc
import io
import logging
import operator
import os
import sys
import threading
import types

import pytest
from contract import Cases, check_same, name_of

import flambeau as fb
from flambeau import nn
from flambeau.errors import listening
from flambeau.frontend.active import active

cases = Cases()
left, once = [], []
NAME = "scale"
settings = types.ModuleType("guards_settings")
settings.SCALE = 2.0
sys.modules["guards_settings"] = settings


def X():
    return fb.tensor([1.0, 2.0])


def batch():
    return fb.ones(3, 4)


class Bag:
    def __init__(self, **fields):
        self.__dict__.update(fields)


# -- nothing that is read is missed -------------------------------------------------------------------------------------



@cases.same
def swap_unread_attr(compiled):
    cfg = Bag(a=1, b=2)
    f = compiled(lambda x: x * getattr(cfg, 'bias', 1.0) + cfg.b)
    yield f(X())
    del cfg.a
    cfg.bias = 5.0
    yield f(X())


@cases.same
def swap_class_attr(compiled):

    class K:
        old = 1
        z = 2.0
    f = compiled(lambda x: x * getattr(K, 'bias', 1.0) + K.z)
    yield f(X())
    del K.old
    K.bias = 5.0
    yield f(X())


@cases.same
def swap_class_attr_inst(compiled):

    class K:
        old = 1
        z = 2.0
    k = K()
    f = compiled(lambda x: x * getattr(k, 'bias', 1.0) + k.z)
    yield f(X())
    del K.old
    K.bias = 5.0
    yield f(X())


@cases.same
def dataclass_extra(compiled):

    @dataclasses.dataclass
    class D:
        a: float = 1.0
    o = Bag(d=D())
    f = compiled(lambda x: x * getattr(o.d, 'bias', 1.0) * o.d.a)
    yield f(X())
    d = D()
    d.bias = 3.0
    o.d = d
    yield f(X())


@cases.same
def dataclass_extra2(compiled):

    @dataclasses.dataclass
    class D:
        a: float = 1.0
    o = Bag(d=D())
    o.d.bias = 3.0
    f = compiled(lambda x: x * getattr(o.d, 'bias', 1.0) * o.d.a)
    yield f(X())
    o.d = D()
    yield f(X())
    o.d = D()
    o.d.bias = 3.0
    yield f(X())
    o.d.bias = 4.0
    yield f(X())


@cases.same
def odict_order(compiled):
    d = collections.OrderedDict(a=1.0, b=2.0)

    def g(x):
        for v in d.values():
            x = (x + v) * v
        return x
    f = compiled(g)
    yield f(X())
    d.move_to_end('a')
    yield f(X())
    d.move_to_end('a', last=False)
    yield f(X())


@cases.same
def module_attr_appears(compiled):
    import guards_settings as m
    m.__dict__.pop('FLAG', None)
    f = compiled(lambda x: x * getattr(m, 'FLAG', 1.0) * m.SCALE)
    yield f(X())
    m.FLAG = 3.0
    yield f(X())


@cases.same
def func_attr_appears(compiled):

    def helper(x):
        return x
    f = compiled(lambda x: helper(x) * getattr(helper, 'scale', 1.0))
    yield f(X())
    helper.scale = 3.0
    yield f(X())
    helper.scale = 4.0
    yield f(X())
    del helper.scale
    yield f(X())


@cases.same
def attrgetter_outside(compiled):
    get = operator.attrgetter('sub.scale')
    cfg = Bag(sub=Bag(scale=2.0))
    f = compiled(lambda x: x * get(cfg))
    yield f(X())
    cfg.sub.scale = 3.0
    yield f(X())


@cases.same
def methodcaller_outside(compiled):

    class K:
        s = 2.0

        def val(self):
            return self.s
    get = operator.methodcaller('val')
    k = K()
    f = compiled(lambda x: x * get(k))
    yield f(X())
    k.s = 3.0
    yield f(X())
    k.val = lambda: 7.0
    yield f(X())


@cases.same
def getattr_deep(compiled):
    m = Bag(cfg=Bag(sub=Bag(scale=2.0)))
    f = compiled(lambda x: x * getattr(m.cfg.sub, NAME))
    yield f(X())
    m.cfg.sub.scale = 3.0
    yield f(X())


@cases.same
def getattr_item(compiled):
    m = Bag(cfgs=[Bag(scale=2.0)])
    f = compiled(lambda x: x * getattr(m.cfgs[0], NAME))
    yield f(X())
    m.cfgs[0].scale = 3.0
    yield f(X())


@cases.same
def getattr_local(compiled):
    m = Bag(cfg=Bag(sub=Bag(scale=2.0)))

    def g(x):
        q = m.cfg.sub
        return x * getattr(q, NAME)
    f = compiled(g)
    yield f(X())
    m.cfg.sub.scale = 3.0
    yield f(X())


@cases.same
def getattr_call(compiled):
    m = Bag(cfg=Bag(sub=Bag(scale=2.0)))

    def get():
        return m.cfg.sub

    def g(x):
        return x * getattr(get(), NAME)
    f = compiled(g)
    yield f(X())
    m.cfg.sub.scale = 3.0
    yield f(X())


@cases.same
def getattr_loop(compiled):
    m = Bag(cfg=[Bag(scale=2.0), Bag(scale=1.0)])

    def g(x):
        for n in ('scale',):
            for o in m.cfg:
                x = x * getattr(o, n)
        return x
    f = compiled(g)
    yield f(X())
    m.cfg[1].scale = 3.0
    yield f(X())


@cases.same
def getattr_alias(compiled):
    m = Bag(scale=2.0)
    get = getattr
    f = compiled(lambda x: x * get(m, NAME))
    yield f(X())
    m.scale = 3.0
    yield f(X())


@cases.same
def match_class(compiled):
    m = Bag(scale=2.0)

    def g(x):
        match m:
            case Bag(scale=2.0):
                return x * 2
            case Bag(scale=s):
                return x * s * 10
    f = compiled(g)
    yield f(X())
    m.scale = 3.0
    yield f(X())


@cases.same
def match_args(compiled):

    class P:
        __match_args__ = ('scale',)

        def __init__(self):
            self.scale = 2.0
    m = P()

    def g(x):
        match m:
            case P(2.0):
                return x * 2
            case P(s):
                return x * s * 10
    f = compiled(g)
    yield f(X())
    m.scale = 3.0
    yield f(X())


@cases.same
def format_attr(compiled):
    m = Bag(scale='2')
    f = compiled(lambda x: x * float(f'{m.scale}'))
    yield f(X())
    m.scale = '3'
    yield f(X())


@cases.same
def empty_dict_subclass_attr(compiled):

    class L(list):
        pass
    l = L([1.0])
    f = compiled(lambda x: x * getattr(l, 'flag', 1.0) * l[0])
    yield f(X())
    l.flag = 3.0
    yield f(X())


@cases.same
def environ(compiled):
    os.environ['ATK'] = '2'
    f = compiled(lambda x: x * float(os.environ['ATK']))
    yield f(X())
    os.environ['ATK'] = '3'
    yield f(X())


@cases.same
def getenv(compiled):
    os.environ['ATK'] = '2'
    f = compiled(lambda x: x * float(os.getenv('ATK')))
    yield f(X())
    os.environ['ATK'] = '3'
    yield f(X())


@cases.same
def opaque_sub(compiled):

    class W(threading.Thread):
        scale = 2.0
    w = W()
    w.gain = 1.0
    f = compiled(lambda x: x * w.gain)
    yield f(X())
    w.gain = 3.0
    yield f(X())


@cases.same
def opaque_sub2(compiled):

    class W(io.StringIO):
        pass
    w = W()
    w.gain = 1.0
    f = compiled(lambda x: x * w.gain)
    yield f(X())
    w.gain = 3.0
    yield f(X())


@cases.same
def singledispatch(compiled):

    @functools.singledispatch
    def g(a, x):
        return x * 2
    o = Bag(v=1)
    f = compiled(lambda x: g(o.v, x))
    yield f(X())
    g.register(int, lambda a, x: x * 5)
    yield f(X())


@cases.same
def argdict_sub(compiled):

    class D(dict):

        def __getattr__(self, n):
            return self[n]
    d = D(s=2.0)
    f = compiled(lambda x, o: x * o.s)
    yield f(X(), d)
    d['s'] = 3.0
    yield f(X(), d)
    yield f(X(), D(s=5.0))


@cases.same
def super_call(compiled):

    class A:

        def m(self):
            return 2.0

    class B(A):

        def m(self):
            return super().m() + 1
    b = B()
    f = compiled(lambda x: x * b.m())
    yield f(X())
    A.m = lambda s: 5.0
    yield f(X())


@cases.same
def getattr_map(compiled):
    m = Bag(scale=2.0)
    f = compiled(lambda x: x * list(map(getattr, [m], [NAME]))[0])
    yield f(X())
    m.scale = 3.0
    yield f(X())


@cases.same
def vars_deep(compiled):
    o = Bag(a=Bag(s=2.0))
    f = compiled(lambda x: x * sum(vars(o.a).values()))
    yield f(X())
    o.a.s = 3.0
    yield f(X())
    o.a.q = 1.0
    yield f(X())


@cases.same
def vars_list(compiled):
    o = Bag(a=[Bag(s=2.0)])
    f = compiled(lambda x: x * sum(sum(vars(q).values()) for q in o.a))
    yield f(X())
    o.a[0].s = 3.0
    yield f(X())
    o.a[0].q = 1.0
    yield f(X())


@cases.same
def copy_(compiled):
    o = Bag(a=Bag(s=2.0))
    f = compiled(lambda x: x * copy.deepcopy(o.a).s)
    yield f(X())
    o.a.s = 3.0
    yield f(X())


@cases.same
def locals_vars(compiled):
    o = Bag(s=2.0)
    f = compiled(lambda x: x * vars(o)['s'])
    yield f(X())
    o.s = 3.0
    yield f(X())


@cases.same
def two_sigs_alternate(compiled):
    o = Bag(l=[1.0, 2.0])
    f = compiled(lambda x: x * o.l[0])
    for k in range(8):
        o.l = [float(k % 2 + 1), 2.0]
        yield f(X())
        o.l = [float(k % 2 + 1), 2.0]
        yield f(X())
        o.l[0] = 9.0 + k
        yield f(X())


@cases.same
def shared_nodes(compiled):
    l = [1.0]
    o = Bag(a=l, b=l)
    f = compiled(lambda x: x * o.a[0] + o.b[0])
    yield f(X())
    o.b = [1.0]
    yield f(X())
    o.b[0] = 5.0
    yield f(X())
    o.a = [5.0]
    yield f(X())
    o.a[0] = 7.0
    yield f(X())


@cases.same
def closures_same_code(compiled):

    def make(k):
        return lambda x: x * k[0]
    a, b = ([2.0], [3.0])
    d = {'f': make(a), 'g': make(b)}
    f = compiled(lambda x: d['f'](x) + d['g'](x))
    yield f(X())
    b[0] = 5.0
    yield f(X())
    a[0] = 5.0
    yield f(X())


@cases.same
def private_slots(compiled):

    class K:
        __slots__ = ('__a',)

        def __init__(self):
            self.__a = 2.0

        def set(self, v):
            self.__a = v

        def get(self):
            return self.__a
    k = K()
    f = compiled(lambda x: x * k.get())
    yield f(X())
    k.set(3.0)
    yield f(X())


@cases.same
def metaclass_getattr(compiled):

    class Meta(type):
        table = {'scale': 2.0}

        def __getattr__(cls, n):
            return cls.table[n]

    class K(metaclass=Meta):
        pass
    f = compiled(lambda x: x * K.scale)
    yield f(X())
    Meta.table['scale'] = 3.0
    yield f(X())


@cases.same
def getattr_chain(compiled):

    class A:

        def __init__(self, inner):
            self.__dict__['inner'] = inner

        def __getattr__(self, n):
            return getattr(self.inner, n)
    base = Bag(scale=2.0)
    a = A(A(A(base)))
    f = compiled(lambda x: x * a.scale)
    yield f(X())
    base.scale = 3.0
    yield f(X())


# -- nothing is left behind ---------------------------------------------------------------------------------------------



@left.append
def cls_attr(s):

    class K:
        pass
    s.K = K

    def f(x):
        K.cache = x * 2
        return x
    return f


@left.append
def type_self(s):

    class K:

        def go(self, x):
            type(self).cache = x * 2
            return x
    s.k = K()

    def f(x):
        return s.k.go(x)
    return f


@left.append
def fn_attr(s):

    def f(x):
        if not hasattr(f, 'w'):
            f.w = x * 2
        return f.w * x
    s.f = f
    return f


@left.append
def mod_attr(s):
    m = types.ModuleType('leave_m')
    sys.modules['leave_m'] = m
    m.a = 1
    s.m = m.__dict__

    def f(x):
        m.cache = x * 2
        return x * m.a
    return f


@left.append
def setattr_deep(s):
    s.a = Bag(b=Bag(c=1))
    nm = 'zz'

    def f(x):
        q = s.a.b
        setattr(q, nm, x * 2)
        return x
    return f


@left.append
def setattr_item(s):
    s.a = [Bag(c=1)]
    nm = 'zz'

    def f(x):
        setattr(s.a[0], nm, x * 2)
        return x
    return f


@left.append
def dict_update(s):
    s.a = Bag(b=Bag(c=1))

    def f(x):
        s.a.b.__dict__.update(q=x * 2)
        return x
    return f


@left.append
def dict_update_local(s):
    s.a = Bag(b=[Bag(c=1)])

    def f(x):
        for o in s.a.b:
            vars(o)['q'] = x
        return x
    return f


@left.append
def lru_leak(s):

    @functools.lru_cache
    def h(k):
        return fb.ones(2) * k
    s.h = h

    def f(x):
        return x * h(2)
    return f


@left.append
def lru_leak_arg(s):

    @functools.lru_cache
    def h():
        return X2[0] * 2
    X2 = [None]
    X2[0] = X()
    s.h = h

    def f(x):
        return x * h()
    return f


@left.append
def caught(s):
    s.l = []

    def f(x):
        try:
            if x.sum() > 0:
                pass
        except Exception:
            s.l.append(x)
        return x
    return f


@left.append
def kbd(s):
    s.d = {}

    def f(x):
        s.d['a'] = x
        s.new = x + 1
        raise KeyboardInterrupt
    return f


@left.append
def err_after_append(s):
    s.l = []

    def f(x):
        s.l.append(x * 2)
        s.d = x
        raise ValueError('u')
    return f


@left.append
def closure_rebind(s):
    v = None

    def f(x):
        nonlocal v
        v = x * 2
        raise ValueError
    s.f = f
    return f


# -- ordinary programs are compiled once ----------------------------------------------------------------------------------



@once.append
def trainer_backref(n):

    class M(nn.Module):

        def __init__(self, tr):
            super().__init__()
            self.l = nn.Linear(4, 4)
            self.trainer = tr

        def forward(self, x):
            return self.l(x)

    class T:
        pass
    t = T()
    t.step = 0
    t.losses = []
    t.m = M(t)
    t.opt = fb.optim.SGD(t.m.parameters(), lr=0.1)

    @fb.compile
    def step(x):
        t.opt.zero_grad()
        l = t.m(x).sum()
        l.backward()
        t.opt.step()
        return l
    for _i in range(n):
        t.losses.append(step(batch()).item())
        t.step += 1
    return step


@once.append
def trainer_method(n):

    class T:

        def __init__(self):
            self.model = nn.Linear(4, 4)
            self.opt = fb.optim.Adam(self.model.parameters())
            self.step = 0
            self.loss = 0.0
            self.history = []
            self.data = None
            self.fn = fb.compile(self.train_step)

        def train_step(self, x):
            self.opt.zero_grad()
            loss = self.model(x).sum()
            loss.backward()
            self.opt.step()
            return loss
    t = T()
    for _i in range(n):
        t.data = batch()
        t.loss = t.fn(t.data).item()
        t.history.append(t.loss)
        t.step += 1
    return t.fn


@once.append
def global_module_counter(n):
    m = types.ModuleType('umod_c')
    sys.modules['umod_c'] = m
    m.scale = 2.0
    m.step = 0
    m.loss = 0.0
    o = fb.optim.SGD([fb.zeros(2, requires_grad=True)], lr=0.1)

    @fb.compile
    def f(x):
        p = o.param_groups[0]['params'][0]
        o.zero_grad()
        (p * m.scale).sum().backward()
        o.step()
        return x
    for _i in range(n):
        f(batch())
        m.step += 1
    return f


@once.append
def cached_prop(n):

    class M(nn.Module):

        def __init__(self):
            super().__init__()
            self.l = nn.Linear(4, 4)

        @functools.cached_property
        def scale(self):
            return 2.0

        @functools.cached_property
        def dims(self):
            return (4, 4)

        def forward(self, x):
            return self.l(x).reshape(3, *self.dims[:1]) * self.scale
    f = fb.compile(M())
    for _i in range(n):
        f(batch())
    return f


@once.append
def cached_prop_list(n):

    class M:

        @functools.cached_property
        def dims(self):
            return [4, 4]
    m = M()

    @fb.compile
    def f(x):
        return x * m.dims[0]
    for _i in range(n):
        f(batch())
    return f


@once.append
def singledisp(n):

    @functools.singledispatch
    def g(a, x):
        return x * 2
    g.register(int, lambda a, x: x * 3)

    @fb.compile
    def f(x):
        return g(1, x)
    for _i in range(n):
        f(batch())
    return f


@once.append
def meter_reachable(n):

    class Meter:

        def __init__(self):
            self.sum = 0.0
            self.count = 0

    class T:

        def __init__(self):
            self.meters = {'a': Meter()}
            self.model = nn.Linear(4, 4)

        def step(self, x):
            assert 'a' in self.meters
            return self.model(x).sum()
    t = T()
    f = fb.compile(t.step)
    for _i in range(n):
        l = f(batch())
        t.meters['a'].sum += l.item()
        t.meters['a'].count += 1
    return f


@once.append
def logger_in(n):
    log = logging.getLogger('a.b')

    class M(nn.Module):

        def __init__(self):
            super().__init__()
            self.l = nn.Linear(4, 4)
            self.log = logging.getLogger('c')

        def forward(self, x):
            log.debug('x %s', x.shape)
            self.log.info('hello')
            return self.l(x)
    f = fb.compile(M())
    for _i in range(n):
        f(batch())
    return f


@once.append
def easydict(n):

    class E(dict):

        def __init__(self, d=None, **k):
            for a, b in {**(d or {}), **k}.items():
                setattr(self, a, b)

        def __setattr__(self, n, v):
            if isinstance(v, dict) and (not isinstance(v, E)):
                v = E(v)
            super().__setattr__(n, v)
            super().__setitem__(n, v)
        __setitem__ = __setattr__
    c = E({'m': {'w': 2.0}, 'lr': 1.0})

    @fb.compile
    def f(x):
        return x * c.m.w * c['lr']
    for _i in range(n):
        f(batch())
    return f


@once.append
def omega(n):

    class DC:

        def __init__(self, d):
            object.__setattr__(self, '_content', {k: DC(v) if isinstance(v, dict) else v for k, v in d.items()})
            object.__setattr__(self, '_flags', {'ro': True})

        def __getattr__(self, n):
            if n.startswith('__'):
                raise AttributeError(n)
            return self._content[n]

        def __setattr__(self, n, v):
            self._content[n] = v
    c = DC({'m': {'w': 2.0}, 'lr': 1.0})

    @fb.compile
    def f(x):
        return x * c.m.w * c.lr
    for _i in range(n):
        f(batch())
    return f


@once.append
def equal_replaced(n):
    o = Bag(shape=[3, 4], cfg={'a': 1.0})

    @fb.compile
    def f(x):
        return x.reshape(*o.shape) * o.cfg['a']
    for _i in range(n):
        o.shape = [3, 4]
        o.cfg = {'a': 1.0}
        f(batch())
    return f


@once.append
def metrics_obj(n):

    class Meter:

        def __init__(self):
            self.sum = 0.0
            self.count = 0
            self.val = 0
            self.avg = 0

        def update(self, v, n=1):
            self.sum += v * n
            self.count += n
            self.val = v
            self.avg = self.sum / self.count

    class T:

        def __init__(self):
            self.meter = Meter()
            self.model = nn.Linear(4, 4)

        def step(self, x):
            return (self.model(x).sum(), x.mean())
    t = T()
    f = fb.compile(t.step)
    for _i in range(n):
        l, _ = f(batch())
        t.meter.update(l.item())
    return f


@once.append
def callbacks_read(n):

    class CB:

        def __init__(self):
            self.n = 0
            self.log = []

        def on_forward(self, x):
            return x

        def on_step(self, loss):
            self.n += 1
            self.log.append(loss)
    cbs = [CB(), CB()]

    @fb.compile
    def st(x):
        for c in cbs:
            x = c.on_forward(x)
        return x
    for _i in range(n):
        st(batch())
        for c in cbs:
            c.on_step(1.0)
    return st


@once.append
def module_counter_outside(n):

    class M(nn.Module):

        def __init__(self):
            super().__init__()
            self.l = nn.Linear(4, 4)
            self.calls = 0

        def forward(self, x):
            return self.l(x)
    m = M()
    f = fb.compile(m)
    for _i in range(n):
        f(batch())
        m.calls += 1
    return f



@pytest.mark.parametrize("case", cases.same_cases, ids=name_of)
def test_is_seen(case):
    check_same(case)


@pytest.mark.parametrize("make", left, ids=name_of)
def test_nothing_is_left_behind(make):
    state = Bag()
    function = make(state)
    compiled = fb.compile(function)
    for _ in range(2):
        try:
            compiled(X())
        except BaseException as error:
            assert isinstance(error, (fb.errors.FlambeauError, ValueError, KeyboardInterrupt))
    assert active.tracer is None and listening.tell is None and sys.getprofile() is None
    assert traced_below([state, function]) == []


def traced_below(root):
    """The traced tensors that can be reached from an object."""
    found, seen, waiting = [], set(), [root]
    while waiting:
        value = waiting.pop()
        if id(value) in seen or isinstance(value, (types.ModuleType, types.CodeType, types.FrameType)):
            continue
        seen.add(id(value))
        if isinstance(value, fb.Tensor):
            if value._storage.trace is not None:
                found.append(value)
        elif isinstance(value, types.FunctionType):
            waiting += [*(value.__closure__ or ()), value.__dict__, value.__defaults__]
        elif not type(value).__module__.startswith("flambeau.") or isinstance(value, nn.Module):
            waiting += gc.get_referents(value)
    return found


@pytest.mark.parametrize("program", once, ids=name_of)
def test_is_compiled_once(program):
    found = program(20)
    assert len(getattr(found, "_compiled", found).signatures) == 1



def test_what_was_put_among_the_builtins_is_read(monkeypatch):
    monkeypatch.setattr(builtins, "guards_scale", lambda: 2.0, raising=False)
    scaled = fb.compile(lambda x: x * guards_scale() + len([x]))        # noqa: F821
    assert scaled(fb.ones(1)).item() == 3.0
    monkeypatch.setattr(builtins, "guards_scale", lambda: 4.0)
    assert scaled(fb.ones(1)).item() == 5.0
    assert "guards_scale" in scaled.signatures[1].reason


def test_a_global_that_is_a_module_is_replaced():
    names = {"__name__": "guards_modules", "chosen": settings}
    exec("def f(x): return x * chosen.SCALE", names)
    compiled = fb.compile(names["f"])
    settings.SCALE = 2.0
    assert compiled(X()).tolist() == [2.0, 4.0]
    names["chosen"] = types.ModuleType("guards_other")
    names["chosen"].SCALE = 5.0
    assert compiled(X()).tolist() == [5.0, 10.0]
