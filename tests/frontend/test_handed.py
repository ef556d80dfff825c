"""Tensors that a compiled function puts into Python's objects are there after each call, as eager code leaves them."""
from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from handed_programs import run

import flambeau as fb
from flambeau import nn
from flambeau.errors import CaptureError, TraceError, UnsupportedError


def test_random_programs_that_keep_tensors(seeds):
    for seed in seeds:
        failure, _ = run(seed, calls=4)
        if failure is not None:
            pytest.fail(failure)


class Kept(nn.Module):
    """Keeps a tensor under a name that nothing reads, and one that the next call reads."""

    def __init__(self):
        super().__init__()
        self.linear, self.hidden = nn.Linear(2, 2), None

    def forward(self, x):
        h = self.linear(x)
        if self.hidden is not None:
            h = h + self.hidden
        self.hidden = fb.tanh(h).detach()
        self.last = h
        return h


def outcomes(decorator):
    fb.manual_seed(0)
    net = Kept()
    call, found = decorator(net), []
    for n in range(4):
        out = call(fb.ones(1, 2) * n)
        out.sum().backward()
        found.append((out.tolist(), net.hidden.tolist(), net.last is out, net.linear.weight.grad.tolist()))
        if n == 2:
            net.hidden = fb.zeros(1, 2)
    return found, call


def test_a_recurrent_attribute_is_an_argument_and_a_result():
    (eager, _), (compiled, call) = outcomes(lambda f: f), outcomes(fb.compile)
    assert [e[2] for e in compiled] == [True] * 4
    for a, b in zip(eager, compiled, strict=True):
        for x, y in zip(a, b, strict=True):
            assert x == pytest.approx(y) if isinstance(x, bool) else fb.allclose(fb.tensor(x), fb.tensor(y))
    assert [s.reason for s in call._compiled.signatures] == [None, "Kept changed at .hidden"]


def test_what_is_only_stored_appended_or_filled_compiles_once():
    seen, table = [], {}
    layer = nn.Linear(2, 2)
    layer.register_forward_hook(lambda module, args, out: seen.append(out))
    layer.register_forward_hook(lambda module, args, out: table.__setitem__("out", out))

    def hook(module, args, out):
        table["doubled"] = out * 2

    layer.register_forward_hook(hook)
    layer._forward_hooks.pop(list(layer._forward_hooks)[1])
    step = fb.compile(lambda x: layer(x))
    old = [step(fb.ones(1, 2)) for _ in range(3)]
    assert all(a is b for a, b in zip(seen, old, strict=True))
    assert list(table) == ["doubled"] and len(step.signatures) == 1


def test_a_tensor_that_was_kept_outside_stays_what_it_was():
    net = Kept()
    step = fb.compile(net)
    step(fb.ones(1, 2))
    step(fb.ones(1, 2))
    before, values = net.hidden, net.hidden.tolist()
    step(fb.ones(1, 2))
    assert net.hidden is not before and before.tolist() == values


def test_a_buffer_and_a_parameter_that_are_replaced():
    class Codes(nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("size", fb.zeros(2))
            self.codes = nn.Parameter(fb.ones(2))

        def forward(self, x):
            self.size = self.size * 0.5 + x
            self.codes = nn.Parameter(self.codes * 0.5 + self.size)
            return self.codes * x

    def states(decorator):
        net = Codes()
        call = decorator(net)
        found = [(call(fb.ones(2) * n).tolist(), net.size.tolist(), net.codes.tolist()) for n in range(4)]
        assert type(net.codes) is nn.Parameter and net.codes.requires_grad and list(net.state_dict()) == ["codes", "size"]
        return found, call

    (eager, _), (compiled, call) = states(lambda f: f), states(fb.compile)
    assert compiled == eager and len(call._compiled.signatures) == 1


def test_flags_and_sizes_are_left_and_counters_refused():
    class Lazy(nn.Module):
        def __init__(self):
            super().__init__()
            self.scale, self.ready, self.rows = fb.ones(1), False, None

        def forward(self, x):
            if not self.ready:
                self.scale, self.ready = x.max(), True
            self.rows = x.shape[0]
            return x * self.scale * self.rows

    net = Lazy()
    step = fb.compile(net)
    assert [step(fb.ones(n) * 2)[0].item() for n in (2, 2, 3, 2, 3)] == [8, 8, 12, 8, 12] and net.ready and net.rows == 3
    count = len(step._compiled.signatures)
    step(fb.ones(2))
    assert len(step._compiled.signatures) == count

    class Counting(Lazy):
        def forward(self, x):
            self.ready = (x, self.scale)
            self.rows = (self.rows or 0) + 1
            return x

    counting = Counting()
    step = fb.compile(counting)
    step(fb.ones(1))
    with pytest.raises(CaptureError, match="changed at .rows from 1 to 2"):
        step(fb.ones(1))
    assert counting.rows == 1


def test_a_list_that_is_replaced_by_an_equal_one_is_watched_in_its_place():
    class Rows(nn.Module):
        def __init__(self):
            super().__init__()
            self.rows = []

        def forward(self, x):
            return x + 1 if self.rows else x

    net = Rows()
    step = fb.compile(net)
    step(fb.ones(1))
    net.rows = []
    assert step(fb.ones(1)).item() == step(fb.ones(1)).item() == 1
    net.rows.append(0)
    assert step(fb.ones(1)).item() == 2


@dataclasses.dataclass
class Cache:
    keys: fb.Tensor | None = None
    length: int = 0


def test_containers_among_the_arguments_are_changed_at_every_call():
    def step(x, cache, rows, table):
        cache.keys = x if cache.keys is None else cache.keys + x
        cache.length = cache.length + 1
        rows.append(cache.keys)
        table["sum"] = table.pop("sum", 0) + x.sum()
        return cache.keys

    def states(call):
        cache, rows, table, found = Cache(), [], {}, []
        for n in range(4):
            out = call(fb.ones(2) * n, cache, rows, table)
            found.append((out.tolist(), cache.keys is out, rows[-1] is out, len(rows), table["sum"].item(), cache.length))
        return found

    assert states(fb.compile(step)) == states(step)


def test_a_changed_container_is_given_once():
    twice = [fb.ones(1)]
    with pytest.raises(UnsupportedError, match="in another way"):
        fb.compile(lambda a, b: a.append(b[0] + 1))(twice, twice)
    assert len(twice) == 1


def test_a_tensor_that_others_put_there_is_an_argument_once_it_was_replaced():
    class Masked(nn.Module):
        def __init__(self):
            super().__init__()
            self.mask, self.linear = fb.ones(2), nn.Linear(2, 2)
            self.register_buffer("mean", fb.zeros(2))

        def forward(self, x):
            if self.training:
                self.mean = self.mean * 0.5 + x
            return self.linear(x) * self.mask + self.mean

    net = Masked()
    train, test = fb.compile(lambda x: net(x)), fb.compile(lambda x: net(x))
    for n in range(5):
        net.train()
        train(fb.ones(2) * n)
        net.eval()
        net.mask = fb.ones(2) * n
        assert fb.allclose(test(fb.ones(2)), net(fb.ones(2)))
    assert len(train.signatures) == len(test.signatures) == 2


def test_memory_of_parameters_that_is_replaced():
    def states(decorator):
        fb.manual_seed(0)
        online, target = nn.Linear(3, 3), nn.Linear(3, 3)
        optimizer = fb.optim.Adam(online.parameters(), 0.01)
        held, found = target.weight.data, []

        def step(x):
            optimizer.zero_grad()
            loss = ((online(x) - target(x).detach()) ** 2).mean()
            loss.backward()
            optimizer.step()
            for p, q in zip(online.parameters(), target.parameters(), strict=True):
                q.data = q.data * 0.9 + p.data * 0.1
            online.weight.data = online.weight.data * 0.99
            online.bias.data += 1
            return loss, target(x), target.weight

        call = decorator(step)
        for n in range(4):
            loss, out, weight = call(fb.ones(2, 3) * n)
            found += [loss, out.sum(), held.sum(), target.weight.sum(), online.weight.sum(), online.bias.sum()]
            assert weight is target.weight
        return [t.item() for t in found], call

    (eager, _), (compiled, call) = states(lambda f: f), states(fb.compile)
    assert compiled == pytest.approx(eager, rel=1e-4) and len(call.signatures) == 1


def test_a_backward_reads_the_memory_that_the_forward_read():
    w = fb.ones(2, requires_grad=True)

    def step(x):
        y = (w * w * x).sum()
        w.data = w.data * 2 + x
        y.backward()
        return w * 1

    compiled = fb.compile(step)
    for expected in (2.0, 6.0, 14.0):
        w.grad = None
        compiled(fb.ones(2))
        assert w.grad.tolist() == [expected] * 2


@pytest.mark.parametrize("function", [lambda x, p, q: setattr(x, "data", x + 1), lambda x, p, q: setattr(p, "data", q.data),
                                      lambda x, p, q: setattr(p, "data", x), lambda x, p, q: setattr(p, "data", x[:1] * 2)])
def test_memory_that_calls_have_already_is_refused(function):
    p, q = fb.ones(2), fb.zeros(2)
    with pytest.raises(TraceError, match="was replaced"):
        fb.compile(lambda x: function(x, p, q))(fb.ones(2))
    assert p.tolist() == [1, 1]


class Recorder(nn.Module):
    """Registers its hook in its first call, as wrappers around other people's models do."""

    def __init__(self, net: nn.Sequential):
        super().__init__()
        self.net, self.handles, self.seen = net, [], None

    def forward(self, x: fb.Tensor) -> tuple[fb.Tensor, fb.Tensor]:
        if not self.handles:
            self.handles.append(self.net[0].register_forward_hook(self.keep))
        y = self.net(x)
        return y, self.seen                                             # type: ignore[return-value]

    def keep(self, module: nn.Module, inputs: tuple[fb.Tensor, ...], output: fb.Tensor) -> None:
        self.seen = output.clone().detach()


def test_a_call_that_registers_hooks_of_modules_is_set_up_and_the_next_is_compiled() -> None:
    def trained(compile: Callable[[Callable[..., Any]], Callable[..., Any]]) -> tuple[list[float], Any]:
        fb.manual_seed(0)
        model = Recorder(nn.Sequential(nn.Linear(3, 4), nn.Tanh()))
        opt = fb.optim.SGD(model.parameters(), lr=0.1)

        def step(x: fb.Tensor) -> fb.Tensor:
            opt.zero_grad()
            y, seen = model(x)
            loss = (y**2).sum() + seen.sum()
            loss.backward()
            opt.step()
            return loss

        run = compile(step)
        losses = [float(run(fb.ones(2, 3))) for _ in range(3)]
        assert len(model.net[0]._forward_hooks) == len(model.handles) == 1
        return losses, run

    eager, _ = trained(lambda f: f)
    compiled, step = trained(fb.compile)
    np.testing.assert_allclose(compiled, eager, rtol=1e-6)
    assert len(step.signatures) == 1


def test_hooks_that_every_call_registers_are_refused_at_the_second() -> None:
    layer = nn.Linear(2, 2)

    @fb.compile
    def run(x: fb.Tensor) -> fb.Tensor:
        layer.register_forward_hook(lambda module, inputs, output: output * 2)
        return layer(x)

    wanted = layer(fb.ones(1, 2)) * 2
    assert fb.allclose(run(fb.ones(1, 2)), wanted) and len(layer._forward_hooks) == 1
    with pytest.raises(CaptureError, match="while it was traced"):
        run(fb.ones(1, 2))
    assert len(layer._forward_hooks) == 1
