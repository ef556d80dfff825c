"""What compiled functions compute once of captured tensors, and that it is never old."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from kept_programs import Generator, run

import flambeau as fb
import flambeau.nn.functional as F
from flambeau import nn
from flambeau.frontend.tensor.storage import Watcher
from flambeau.runtime.program import Program


class Net(nn.Module):
    """A convolution, BatchNorm, and a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm, self.out = nn.Conv2d(3, 8, 3, bias=False), nn.BatchNorm2d(8), nn.Linear(8 * 16, 5)
        self.norm.running_mean.uniform_(-1, 1)
        self.norm.running_var.uniform_(0.5, 2)

    def forward(self, x: fb.Tensor) -> fb.Tensor:
        return self.out(F.relu(self.norm(self.conv(x))).flatten(1))


@pytest.fixture
def net() -> Any:
    fb.manual_seed(3)
    return Net().eval()


def images(count: int = 2) -> fb.Tensor:
    return fb.randn(count, 3, 6, 6)


def program_of(f: Any) -> Program:
    found: Program = f.signatures[-1].compiled.program
    return found


def same(call: Callable[..., fb.Tensor], net: Any, count: int = 2) -> bool:
    x = images(count)
    return bool(np.allclose(call(x).numpy(), net(x).numpy(), rtol=1e-4, atol=1e-4))


def test_weights_are_packed_and_statistics_computed_once(net: Any) -> None:
    call, plain = (fb.compile(lambda x: net(x), keep=keep) for keep in (True, False))
    with fb.no_grad():
        x = images()
        assert np.array_equal(call(x).numpy(), plain(x).numpy())
    first, each = program_of(call).once, program_of(call)
    assert first is not None and program_of(plain).once is None
    assert len(first.launches) + len(each.launches) > len(program_of(plain).launches) > len(each.launches)
    assert any(launch.symbol.endswith("_rhs") or launch.symbol.endswith("_lhs") for launch in first.launches)
    assert Program.from_bytes(each.to_bytes()) == each
    assert "kept(" in call.ir("fused") and "kept" in call.ir("kernels")


CHANGES: dict[str, Callable[[Any], object]] = {
    "in place": lambda net: net.conv.weight.mul_(-1.5),
    "through a view": lambda net: net.out.weight[1].zero_(),
    "through .data, unseen by autograd": lambda net: net.conv.weight.data.mul_(3),
    "other memory": lambda net: setattr(net.out.weight, "data", fb.randn(5, 128)),
    "statistics": lambda net: net.norm.running_mean.add_(2),
    "load_state_dict": lambda net: net.load_state_dict({k: fb.rand(*v.shape) + 0.5 if v.ndim else v
                                                        for k, v in net.state_dict().items()}),
    "NumPy": lambda net: net.norm.weight.detach().numpy().fill(0.25),
    "a compiled step": lambda net: fb.compile(lambda: net.conv.weight.sub_(0.5))(),
    "an optimizer": lambda net: step(net),
}


def step(net: Any) -> None:
    with fb.enable_grad():
        optimizer = fb.optim.SGD(net.parameters(), lr=0.5)
        net(images()).sum().backward()
        optimizer.step()


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
def test_a_change_is_seen_at_the_next_call(net: Any, change: Callable[[Any], object]) -> None:
    call = fb.compile(lambda x: net(x))
    with fb.no_grad():
        assert same(call, net)
        change(net)
        assert same(call, net) and same(call, net)
    assert len(call.signatures) == 1 and program_of(call).once is not None


def test_an_array_that_is_held_is_looked_at_at_every_call(net: Any) -> None:
    call = fb.compile(lambda x: net(x))
    bound = None
    with fb.no_grad():
        assert same(call, net)
        array = net.conv.weight.detach().numpy()
        bound = call.signatures[0].entry.bound
        for _ in range(3):
            array *= -2
            assert same(call, net)
            assert bound.versions is None
        del array
        assert same(call, net) and bound.versions is not None, "nobody holds it any more"


def test_memory_of_others_is_looked_at_at_every_call() -> None:
    array = np.eye(4, dtype=np.float32)
    weight = fb.from_numpy(array)
    call = fb.compile(lambda x: x @ weight.softmax(0))
    x = fb.ones(2, 4)
    for _ in range(3):
        array += 1
        array[0] *= 2
        assert np.allclose(call(x).numpy(), np.ones((2, 4)) @ weight.softmax(0).numpy())


def test_rows_of_an_array_are_others_as_long_as_the_array_is_held() -> None:
    array = np.ones((8, 4), np.float32)
    weight = fb.from_numpy(array[2:6])
    call = fb.compile(lambda x: x @ weight.softmax(0))
    x, bound = fb.ones(2, 4), None
    for _ in range(3):
        array += np.eye(8, 4, dtype=np.float32)
        assert np.allclose(call(x).numpy(), (x @ weight.softmax(0)).numpy())
        bound = call.signatures[0].entry.bound
        assert bound.prepares and bound.versions is None
    del array
    assert np.allclose(call(x).numpy(), (x @ weight.softmax(0)).numpy())
    assert bound.versions is not None, "only the tensor holds it"


def test_what_changes_at_every_call_is_kept_no_more(net: Any) -> None:
    call = fb.compile(lambda x: net(x))
    with fb.no_grad():
        for _ in range(20):
            net.conv.weight.mul_(1.01)
            assert same(call, net)
        assert not call.signatures[0].entry.bound.prepares and len(call.signatures) == 1
        assert call.stats().kept_bytes == 0 and "runs at every call now" in call.explain()
        step(net)
        assert same(call, net)


def test_an_evaluation_now_and_then_goes_on_keeping(net: Any) -> None:
    call = fb.compile(lambda x: net(x))
    with fb.no_grad():
        for _ in range(12):
            net.conv.weight.mul_(1.01)
            assert all(same(call, net) for _ in range(3))
        assert call.signatures[0].entry.bound.prepares


@pytest.mark.parametrize("how", ["takes gradients", "leads to gradients", "writes a captured tensor", "has keep=False",
                                 "is verified"])
def test_other_functions_keep_nothing(net: Any, how: str) -> None:
    def function(x: fb.Tensor) -> fb.Tensor:
        y = net(x)
        if how == "takes gradients":
            y.sum().backward()
        if how == "writes a captured tensor":
            net.norm.bias.add_(1)
        return y

    call = fb.compile(function, keep=how != "has keep=False", verify=how == "is verified")
    with fb.set_grad_enabled(how in ("takes gradients", "leads to gradients")):
        call(images())
    assert program_of(call).once is None


def test_a_limit_of_memory() -> None:
    weight, other = fb.randn(64, 256), fb.randn(32, 64)

    def function(x: fb.Tensor) -> fb.Tensor:
        return (x @ weight).sum(-1) + (x @ other.softmax(1).t()).sum(-1)

    x, calls = fb.randn(40, 64), []
    for size in (0, 10_000, 1 << 20):
        with fb.config.set(kept_size=size):
            calls.append(fb.compile(function))
            assert np.allclose(calls[-1](x).numpy(), function(x).numpy(), rtol=1e-3, atol=1e-3)
    kept = [0 if (once := program_of(call).once) is None else sum(once.out_bytes) for call in calls]
    assert kept[0] == 0 < kept[1] <= 10_000 < kept[2]


def test_threads_see_what_was_written_before_they_called(net: Any) -> None:
    call = fb.compile(lambda x: net(x))
    wrong: list[int] = []
    with fb.no_grad():
        for round in range(12):
            net.conv.weight.normal_()
            x = images()
            wanted = net(x).numpy()

            def work(x: fb.Tensor = x, wanted: np.ndarray = wanted, round: int = round) -> None:
                with fb.no_grad():
                    for _ in range(3):
                        if not np.allclose(call(x).numpy(), wanted, rtol=1e-4, atol=1e-4):
                            wrong.append(round)

            threads = [threading.Thread(target=work) for _ in range(3)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
    assert not wrong


def test_calls_while_a_thread_writes_are_of_one_state_or_the_next() -> None:
    """And the call after the last write is of that."""
    weight = fb.zeros(8, 8)
    call = fb.compile(lambda x: x @ (weight + 0.0).exp())
    x, going = fb.ones(3, 8), True

    def write() -> None:
        while going:
            with fb.no_grad():
                weight.fill_(0.0)
                weight.fill_(1.0)

    call(x)
    thread = threading.Thread(target=write)
    thread.start()
    for _ in range(200):
        assert np.isfinite(call(x).numpy()).all()
    going = False
    thread.join()
    assert np.allclose(call(x).numpy(), 8 * np.e)


def test_all_who_watch_a_storage_from_several_threads_are_told() -> None:
    storage, before = fb.zeros(2)._storage, sys.getswitchinterval()
    watchers = [[Watcher() for _ in range(60)] for _ in range(4)]
    threads = [threading.Thread(target=lambda own=own: [storage.watch(one) for one in own]) for own in watchers]
    sys.setswitchinterval(1e-6)
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(before)
    storage.changed_unseen()
    assert all(one.version == 1 for own in watchers for one in own)


def test_a_view_of_memory_that_its_base_no_longer_has() -> None:
    base = fb.randn(3, 3)
    view = base.t()
    base.data = fb.randn(3, 3)
    call = fb.compile(lambda x: (x @ view, x @ base))
    x = fb.randn(2, 3)
    for _ in range(2):
        assert all(np.allclose(a.numpy(), b.numpy(), atol=1e-5) for a, b in zip(call(x), (x @ view, x @ base), strict=True))
        view.mul_(2)
    view.data = fb.randn(3, 3)
    assert np.allclose(call(x)[0].numpy(), (x @ view).numpy(), atol=1e-5)


def test_a_view_stays_where_it_is_when_its_base_moves() -> None:
    base, other = fb.randn(3, 3), fb.randn(3)
    row = base[1]
    call = fb.compile(lambda x: x * row.exp() + other)
    x = fb.randn(2, 3)
    for _ in range(2):
        assert np.allclose(call(x).numpy(), (x * row.exp() + other).numpy(), atol=1e-5)
        base.data, other.data = fb.randn(3, 3), fb.randn(3)


def test_random_programs(seeds: Any) -> None:
    with np.errstate(all="ignore"), fb.no_grad():
        for seed in seeds:
            program = Generator(seed).make()
            assert run(program, seed, fb.compile) is None, f"seed {seed}\n{program}"
