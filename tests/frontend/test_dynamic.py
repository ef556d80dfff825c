"""One trace for many sizes: what gets names, what a trace depends on, and that each size computes what eager does."""
from __future__ import annotations

import gc
import json
import math
import numbers
import os
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

import flambeau as fb
import flambeau.nn.functional as F
from flambeau import nn, optim
from flambeau.errors import UnsupportedError
from flambeau.frontend.call import family
from flambeau.frontend.trace import sizes


def signatures(f: Any) -> int:
    return len(f.signatures)


def test_second_size_of_a_dim_gives_it_a_name_and_the_third_compiles_nothing() -> None:
    f = fb.compile(lambda x: (x * 2 + 1).sum(1))
    for n in (4, 7, 5, 100):
        x = fb.randn(n, 3)
        np.testing.assert_allclose(f(x).numpy(), (x * 2 + 1).sum(1).numpy(), rtol=1e-5, atol=1e-5)
    assert signatures(f) == 2
    assert "f32[s0,3]" in str(f.graph())


def test_dynamic_true_names_all_sizes_from_the_first_call_on() -> None:
    f = fb.compile(lambda x: x.exp().mean(), dynamic=True)
    for shape in ((4, 3), (2, 9), (5, 5), (16, 2)):
        x = fb.randn(shape)
        np.testing.assert_allclose(f(x).item(), x.exp().mean().item(), rtol=1e-5)
    assert signatures(f) == 1
    assert "f32[s0,s1]" in str(f.graph())


def test_dynamic_false_compiles_each_size() -> None:
    f = fb.compile(lambda x: x + 1, dynamic=False)
    for n in (4, 7, 5):
        f(fb.zeros(n))
    assert signatures(f) == 3


def test_sizes_are_numbers_of_the_program() -> None:
    @fb.compile(dynamic=True)
    def f(x: fb.Tensor) -> Any:
        n, m = x.shape
        return x.sum(0) / n, x.reshape(m, -1), fb.arange(n), n * 2 + 1, (n - 1) / 2, x.numel()

    for n, m in ((4, 6), (3, 8), (9, 2)):
        x = fb.randn(n, m)
        mean, turned, places, odd, half, count = f(x)
        np.testing.assert_allclose(mean.numpy(), x.numpy().sum(0) / n, rtol=1e-5, atol=1e-6)
        np.testing.assert_array_equal(turned.numpy(), x.numpy().reshape(m, n))
        assert places.tolist() == list(range(n))
        assert (odd, half, count) == (2 * n + 1, (n - 1) / 2, n * m)
        assert type(odd) is int and type(count) is int


def test_a_question_about_a_size_makes_a_trace_for_each_answer() -> None:
    @fb.compile(dynamic=True)
    def f(x: fb.Tensor) -> fb.Tensor:
        return x * 2 if x.shape[0] > 5 else x * 3

    for n, factor in ((8, 2), (20, 2), (3, 3), (5, 3), (6, 2)):
        assert f(fb.ones(n)).tolist() == [factor] * n
    assert signatures(f) == 2
    assert "s0 >= 6" in f.explain() or "s0 <= 5" in f.explain()


def test_a_loop_over_a_size_is_for_that_size() -> None:
    @fb.compile
    def f(x: fb.Tensor) -> fb.Tensor:
        total = fb.zeros(())
        for i in range(x.shape[0]):
            total = total + i
        return total + x.sum() * 0

    for n in (4, 5, 6, 5):
        assert f(fb.ones(n)).item() == n * (n - 1) / 2
    assert signatures(f) == 3


def test_mark_dynamic_has_a_range_and_refuses_what_fixes_the_size() -> None:
    x = fb.ones(6)
    fb.mark_dynamic(x, 0, min=2, max=8)
    f = fb.compile(lambda x: x * 2)
    f(x)
    f(fb.ones(3))
    assert signatures(f) == 1
    f(fb.ones(9))
    assert signatures(f) == 2
    with pytest.raises(UnsupportedError, match="dim 0 of argument 0 is marked dynamic, and the function is for one size"):
        fb.compile(lambda x: x * len(x))(x)
    with pytest.raises(ValueError, match="the size 6 of dim 0 does not lie from 7 to 8"):
        fb.mark_dynamic(x, 0, min=7, max=8)
    with pytest.raises(IndexError, match="mark_dynamic"):
        fb.mark_dynamic(x, 1)


def test_what_takes_no_named_size_is_refused_as_such_where_one_is_marked() -> None:
    x = fb.ones(6)
    fb.mark_dynamic(x, 0)
    with pytest.raises(UnsupportedError, match="sizes that have names, and one is marked: TypeE") as caught:
        fb.compile(lambda x: x * len(json.dumps({x.shape[0]: 1})))(x)
    assert isinstance(caught.value.__cause__, TypeError)
    with pytest.raises(RuntimeError, match="^mine$"):           # what eager code raises too
        fb.compile(lambda x: raises(RuntimeError("mine")))(x)


def raises(error: Exception) -> None:
    raise error


def test_mark_static_keeps_a_size_a_number() -> None:
    f = fb.compile(lambda x: x * 2, dynamic=True)
    for n in (4, 5, 6):
        x = fb.ones(n, 3)
        fb.mark_static(x, 0)
        f(x)
    assert signatures(f) == 3


def test_marks_go_with_their_tensor() -> None:
    x = fb.ones(3)
    fb.mark_dynamic(x, 0)
    key = id(x)
    assert key in sizes._marks
    del x
    gc.collect()
    assert key not in sizes._marks


def make_step() -> tuple[Callable[..., Any], nn.Module]:
    fb.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 16, bias=False), nn.BatchNorm1d(16), nn.GELU(), nn.Dropout(0.25), nn.Linear(16, 4))
    adam = optim.AdamW(model.parameters(), lr=1e-2)

    def step(x: fb.Tensor, y: fb.Tensor) -> fb.Tensor:
        adam.zero_grad()
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        adam.step()
        return loss

    return step, model


def test_training_with_a_batch_size_that_changes_every_step_equals_eager() -> None:
    r = np.random.default_rng(0)
    counts = [int(n) for n in r.integers(2, 40, 24)]
    batches = [(fb.tensor(r.normal(size=(n, 6)).astype(np.float32)), fb.tensor(r.integers(0, 4, n))) for n in counts]

    def losses(compiled: bool) -> tuple[list[float], list[np.ndarray]]:
        step, model = make_step()
        run = fb.compile(step, dynamic=True) if compiled else step
        fb.manual_seed(1)
        found = [run(x, y).item() for x, y in batches]
        return found, [p.detach().numpy().copy() for p in model.parameters()]

    eager, expected = losses(False)
    found, parameters = losses(True)
    np.testing.assert_allclose(found, eager, rtol=2e-4)
    for a, b in zip(parameters, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-2, atol=2e-4)


def _part_written(x: fb.Tensor, m: fb.Tensor) -> fb.Tensor:
    part = x[:, :m.shape[0]].reshape(-1)
    part += 1
    return x * 1


def _source_written(x: fb.Tensor, m: fb.Tensor) -> fb.Tensor:
    turned = x.T.contiguous()
    x[:, 0] = 7.0
    return turned * 1


def _gradient_of_either(x: fb.Tensor, m: fb.Tensor) -> fb.Tensor:
    turned = (x * 1).requires_grad_().T
    rows = turned.contiguous()
    return fb.autograd.grad((rows * 2 + turned * 3).sum(), [rows])[0]


@pytest.mark.parametrize("function", [_part_written, _source_written, _gradient_of_either])
def test_what_shares_memory_at_some_sizes_alone_is_asked_where_it_can_be_told(function: Callable[..., fb.Tensor]) -> None:
    f = fb.compile(function, dynamic=True)
    for n, m, k in ((4, 6, 3), (5, 3, 2), (4, 6, 6), (1, 4, 2), (3, 1, 1), (0, 4, 2)):
        x = fb.arange(float(n * m)).reshape(n, m)
        found, wanted = f(x.clone(), fb.zeros(k)), function(x.clone(), fb.zeros(k))
        np.testing.assert_array_equal(found.numpy(), wanted.numpy(), err_msg=str((n, m, k)))
    assert 2 <= signatures(f) < 6


def _rows(*shape: int) -> fb.Tensor:
    return fb.arange(float(np.prod(shape))).reshape(shape)


# A function, and its arguments of two sizes, which do not lie in row-major order
LAYOUTS: dict[str, tuple[Callable[..., fb.Tensor], Callable[[int, int], list[fb.Tensor]]]] = {
    "transposed": (lambda x: x.reshape(-1) * 2, lambda n, m: [_rows(n, m).T]),
    "written": (lambda x: x.add_(1).reshape(-1) * 2, lambda n, m: [_rows(n, m).T]),
    "channels last": (lambda x: x.permute(0, 2, 3, 1).view(-1, 3).sum(0),
                      lambda n, m: [_rows(n, m, 5, 3).permute(0, 3, 1, 2)]),
    "shifted": (lambda x, y: x.reshape(-1) - y.flatten(), lambda n, m: [_rows(n, m + 1)[:, :-1], _rows(n, m + 1)[:, 1:]]),
    "strides": (lambda x: x.sum(0) + x.stride()[0], lambda n, m: [_rows(n, m + 2)[:, :-2]]),
}


@pytest.mark.parametrize("name", LAYOUTS)
def test_sizes_of_arguments_that_lie_otherwise_have_names_too(name: str) -> None:
    function, made = LAYOUTS[name]
    f = fb.compile(function, dynamic=True)
    for n, m in ((4, 3), (5, 2), (7, 9), (2, 6), (1, 4)):
        given, same = made(n, m), made(n, m)
        np.testing.assert_array_equal(f(*given).numpy(), function(*same).numpy())
        for x, y in zip(given, same, strict=True):
            np.testing.assert_array_equal(x.numpy(), y.numpy())
    assert signatures(f) == 1


def test_what_writes_through_a_part_is_for_those_that_step_over_more() -> None:
    def f(x: fb.Tensor) -> fb.Tensor:
        return x.reshape(-1).add_(1)

    compiled = fb.compile(f, dynamic=True)
    for n, m, k in ((4, 5, 4), (3, 6, 2), (4, 5, 5), (3, 3, 3)):
        x, y = _rows(n, m), _rows(n, m)
        compiled(x[:, :k]), f(y[:, :k])
        assert x.tolist() == y.tolist(), (n, m, k)
    assert signatures(compiled) == 2


def test_sizes_of_tensors_that_are_kept_have_names() -> None:
    """A cache of keys that grows at each call, and a buffer that comes in other sizes."""
    class Cached(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.keys: Any = None
            self.scale = fb.ones(1, 1)

        def forward(self, x: fb.Tensor) -> fb.Tensor:
            self.keys = x if self.keys is None else fb.cat([self.keys, x], 1)
            return (x @ self.keys.mT).softmax(-1) @ self.keys * self.scale

    eager, compiled = Cached(), fb.compile(Cached())
    for turn in range(7):
        x = fb.randn(2, 1, 3)
        np.testing.assert_allclose(compiled(x).numpy(), eager(x).numpy(), rtol=1e-5, atol=1e-6)
        assert compiled.keys.shape == (2, turn + 1, 3)
    assert len(compiled._compiled.signatures) == 3          # none, one key, more
    for turn in range(2, 6):
        eager.scale = compiled.scale = fb.full((turn, 1, 1), 2.0)
        eager.keys, compiled.keys = fb.ones(turn, 2, 3), fb.ones(turn, 2, 3)
        x = fb.randn(turn, 1, 3)
        np.testing.assert_allclose(compiled(x).numpy(), eager(x).numpy(), rtol=1e-5, atol=1e-6)
    assert len(compiled._compiled.signatures) <= 6


@pytest.mark.parametrize(("layer", "counts"), [
    (nn.LSTM(3, 4), (20, 9, 1)), (nn.GRU(3, 4, bidirectional=True), (6, 3)), (nn.RNN(3, 4, batch_first=True), (70, 130))])
def test_recurrent_layers_are_for_all_lengths(layer: Any, counts: tuple[int, ...]) -> None:
    def step(x: fb.Tensor) -> list[fb.Tensor]:
        found, last = layer(x)
        last = last[0] if isinstance(last, tuple) else last
        return [found, last, *fb.autograd.grad(found.square().sum() + last.sum(), [*layer.parameters()])]

    f = fb.compile(step, dynamic=True)
    for count in counts:
        x = fb.randn(2, count, 3) if layer.batch_first else fb.randn(count, 2, 3)
        for found, wanted in zip(f(x), step(x), strict=True):
            np.testing.assert_allclose(found.detach().numpy(), wanted.detach().numpy(), rtol=1e-3, atol=1e-4)
    assert signatures(f) == 1


def test_scans_are_for_all_lengths() -> None:
    def f(x: fb.Tensor, y: fb.Tensor) -> fb.Tensor:
        return fb.scan(lambda carry, row: (carry * 0.5 + row[0] * row[1], carry + 1.0), fb.zeros(2), (x, y))[1]

    compiled = fb.compile(f, dynamic=True)
    for n in (7, 3, 1, 12):
        x, y = fb.randn(n, 2), fb.randn(n, 2)
        np.testing.assert_allclose(compiled(x, y).numpy(), f(x, y).numpy(), rtol=1e-5, atol=1e-6)
    assert signatures(compiled) == 1


def test_passes_run_again_for_sizes_by_which_they_decide_otherwise() -> None:
    """Attention has a kernel of its own from some length on, in one trace."""
    def f(x: fb.Tensor) -> fb.Tensor:
        return F.scaled_dot_product_attention(x, x, x)

    compiled = fb.compile(f, dynamic=True)
    for n, kernels in ((20, 0), (80, 1), (30, 0), (90, 1)):
        x = fb.randn(2, 2, n, 8)
        np.testing.assert_allclose(compiled(x).numpy(), f(x).numpy(), rtol=1e-4, atol=1e-5)
        keywords = [call.kernel.keyword for call in compiled.signatures[-1].compiled.memory.calls]
        assert keywords.count("attention") == kernels, (n, keywords)
    assert signatures(compiled) == 1
    assert len(compiled.signatures[0].family._variants) == 2


@pytest.mark.parametrize("mask", [
    lambda n: fb.ones(n, n).tril() == 0, lambda n: fb.arange(n)[:, None] < fb.arange(n),
    lambda n: fb.ones(n, n, dtype=fb.bool).triu(1)])
def test_causal_masks_of_any_length_are_seen(mask: Callable[[int], fb.Tensor]) -> None:
    """Forward and backward have kernels of their own from 96 rows on, in one trace."""
    fb.manual_seed(0)
    weight = fb.randn(8, 8, requires_grad=True)

    def step(x: fb.Tensor) -> tuple[fb.Tensor, ...]:
        q = x @ weight
        out = (q @ x.mT * 0.3).masked_fill(mask(x.shape[-2]), float("-inf")).softmax(-1) @ x
        return out, *fb.autograd.grad((out * out).sum(), (weight,))

    compiled = fb.compile(step, dynamic=True)
    for n, kernels in ((100, 2), (40, 0), (130, 2)):
        x = fb.randn(2, n, 8)
        for found, wanted in zip(compiled(x), step(x), strict=True):
            np.testing.assert_allclose(found.detach().numpy(), wanted.detach().numpy(), rtol=1e-3, atol=1e-3)
        keywords = [call.kernel.keyword for call in compiled.signatures[-1].compiled.memory.calls]
        assert keywords.count("attention") == kernels, (n, keywords)
    assert signatures(compiled) == 1


def test_numbers_made_of_sizes_are_constants_in_kernels() -> None:
    """A program for all sizes has the kernels of one for each: none for the numbers, and no loads of them."""
    def f(x: fb.Tensor) -> tuple[fb.Tensor, ...]:
        pooled = F.adaptive_avg_pool2d(x, 1).flatten(1) @ fb.ones(3, 4)
        return (x / x.shape[0]).exp().mean(1), F.batch_norm(x, None, None, training=True), pooled / x.shape[2]

    for verify in (False, True):
        compiled = fb.compile(f, dynamic=True, verify=verify)
        for n in (4, 5):
            x = fb.randn(n, 3, n + 2, 2 * n)
            one_size = fb.compile(f, dynamic=False)
            for found, wanted, eager in zip(compiled(x), one_size(x), f(x), strict=True):
                np.testing.assert_allclose(found.numpy(), wanted.numpy(), rtol=1e-5, atol=1e-6)
                np.testing.assert_allclose(found.numpy(), eager.numpy(), rtol=1e-4, atol=1e-5)
            assert verify or compiled.stats().n_launches == one_size.stats().n_launches
        assert signatures(compiled) == 1


def test_short_last_batch_of_a_loader_is_compiled_once() -> None:
    data = fb.utils.data.TensorDataset(fb.randn(10, 6), fb.randint(0, 4, (10,)))
    for dynamic, wanted in ((None, 2), (True, 1)):
        (step, model), (eager, other) = make_step(), make_step()
        run = fb.compile(step, dynamic=dynamic)
        for epoch in range(3):
            for x, y in fb.utils.data.DataLoader(data, batch_size=4):
                losses = []
                for one in (run, eager):
                    fb.manual_seed(epoch)           # dropout
                    losses.append(one(x, y).item())
                np.testing.assert_allclose(*losses, rtol=2e-4)
        assert signatures(run) == wanted
        for a, b in zip(model.parameters(), other.parameters(), strict=True):
            np.testing.assert_allclose(a.detach().numpy(), b.detach().numpy(), rtol=1e-2, atol=2e-4)


def test_gradients_outside_are_of_each_size() -> None:
    w = fb.randn(3, 2, requires_grad=True)
    f = fb.compile(lambda x: (x @ w).tanh(), dynamic=True)
    for n in (4, 9, 2):
        x = fb.randn(n, 3, requires_grad=True)
        f(x).square().sum().backward()
        got = x.grad, w.grad
        x2, w.grad = x.detach().requires_grad_(), None
        (x2 @ w).tanh().square().sum().backward()
        np.testing.assert_allclose(got[0].numpy(), x2.grad.numpy(), rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(got[1].numpy(), w.grad.numpy(), rtol=1e-4, atol=1e-6)
        w.grad = None
    assert signatures(f) == 1


def test_what_does_not_work_with_names_is_compiled_for_each_size() -> None:
    @fb.compile
    def f(x: fb.Tensor) -> fb.Tensor:
        if type(x.shape[0]) is not int:
            raise RuntimeError("sizes are ints here")
        return x + x.shape[0]

    for n in (2, 3, 4):
        assert f(fb.zeros(n)).tolist() == [n] * n
    assert signatures(f) == 3


def test_every_level_of_a_family_can_be_looked_at() -> None:
    f = fb.compile(lambda x: (x * 2).sum(1).exp(), dynamic=True)
    for n in (4, 6):
        f(fb.ones(n, 3))
    assert "f32[s0,s1]" in f.ir("graph") and "f32[s0]" in f.ir("graph")
    assert "f32[6,3]" in f.ir("fused") and "f32[6,3]" in f.ir("dce")
    for level in ("autodiff", "kernels", "llvm", "call"):
        assert f.ir(level)
    assert f.provenance() is not None and f.stats().n_launches == 1


@pytest.mark.parametrize("backend", ["cpu", "interpret"])
def test_families_verify_themselves_and_run_on_other_backends(backend: str) -> None:
    f = fb.compile(lambda x: (x * 2).softmax(1), dynamic=True, verify=True, backend=backend)
    for n in (4, 6, 3):
        x = fb.randn(n, 5)
        np.testing.assert_allclose(f(x).numpy(), (x * 2).softmax(1).numpy(), rtol=1e-5)
    assert signatures(f) == 1


def test_programs_of_many_sizes_are_found_on_disk(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    with fb.config.set(cache=True, cache_dir=tmp_path):
        for turn in range(2):
            f = fb.compile(_doubled, dynamic=True)
            for n in (4, 6):
                assert f(fb.ones(n, 2)).tolist() == [[2.0, 2.0]] * n
                assert f.stats().from_disk is (turn == 1)


def _doubled(x: fb.Tensor) -> fb.Tensor:
    return x * 2


def test_threads_may_call_with_different_sizes_at_once() -> None:
    f = fb.compile(lambda x: (x * 3).sum(0), dynamic=True)
    wrong: list[int] = []

    def work(seed: int) -> None:
        r = np.random.default_rng(seed)
        for n in r.integers(1, 30, 60):
            if f(fb.ones(int(n), 4)).tolist() != [3.0 * n] * 4:
                wrong.append(int(n))

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_entries_that_were_not_used_for_longest_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(family, "KEPT", 3)
    f = fb.compile(lambda x: x + 1, dynamic=True)
    for n in (2, 3, 4, 2, 5, 6):
        f(fb.zeros(n))
    assert [key[0] for key in f.signatures[0].family.entries] == [2, 5, 6]
    assert f(fb.zeros(3)).tolist() == [1.0] * 3 and signatures(f) == 1


TABLE = {8: 10.0, 16: 20.0}

QUESTIONS: dict[str, Callable[..., Any]] = {
    "a number that is given": lambda x, k: x * 2 if x.shape[0] == k else x,
    "no number that is given": lambda x, k: x * 2 if x.shape[0] != k else x,
    "a float": lambda x, k: x * 2 if x.shape[0] % 2 == 1.0 else x,
    "a half": lambda x, k: x * 2 if x.shape[0] / 2 == x.shape[0] // 2 else x,
    "a shape": lambda x, k: x * 2 if x.shape == (k, 3) else x,
    "a table": lambda x, k: x * TABLE.get(x.shape[0], 1.0),
    "a set": lambda x, k: x * (2 if x.shape[0] in {5, 8} else 1),
    "a table of shapes": lambda x, k: x * {(5, 3): 2.0}.get(tuple(x.shape), 1.0),
    "sizes as keys": lambda x, k: x * len({x.shape[0], x.shape[1]}),
    "text": lambda x, k: (x * {"4": 1.0, "5": 2.0}.get(str(x.shape[0]), 7.0), f"{x.shape[0]}", repr(x.shape[0]),
                          f"{x.shape}", f"n={x.shape[0]}"),
    "a key of the result": lambda x, k: {x.shape[0]: x.sum()},
    "whether it is an int": lambda x, k: x * (2 if isinstance(x.shape[0], int) and not isinstance(x.shape[0], (bool, float))
                                              else 3),
    "whether it is integral": lambda x, k: x * (2 if isinstance(x.numel(), numbers.Integral) else 3),
    "a case": lambda x, k: x * _matched(x.shape[0]),
    "code of C": lambda x, k: (bytes(x.shape[0]), [7] * x.shape[0], "ab"[x.shape[0] % 2], f"{x.shape[0]:3d}",
                               math.sqrt(x.shape[0])),
    "json": lambda x, k: x * len(json.dumps([x.shape[0], x.shape[1]])),
}


def _matched(size: Any) -> float:
    match size:
        case int(n):
            return n * 2.0
        case _:
            return -1.0


@pytest.mark.parametrize("dynamic", [True, None])
@pytest.mark.parametrize("name", QUESTIONS)
def test_python_gets_the_same_answers_about_sizes(name: str, dynamic: bool | None) -> None:
    function = QUESTIONS[name]
    f = fb.compile(function, dynamic=dynamic)
    for n, k in ((3, 1), (4, 2), (5, 5), (8, 3), (16, 16), (3, 3), (5, 4)):
        found, wanted = f(fb.ones(n, 3), k), function(fb.ones(n, 3), k)
        assert str(found) == str(wanted), (n, k)


def test_code_that_was_typed_in_is_a_users() -> None:
    namespace = {"TABLE": TABLE, "dataclass": dataclass}
    typed = """
@dataclass(frozen=True)
class Key:
    n: int

KEYS = {Key(8): 3.0}

def look_up(x):
    n = x.shape[0]
    return x * TABLE.get(n, 1.0) * KEYS.get(Key(n), 1.0), f"{n}"
"""
    exec(compile(typed, "<stdin>", "exec"), namespace)
    look_up: Any = namespace["look_up"]
    f = fb.compile(look_up, dynamic=True)
    for n in (5, 8, 16):
        assert str(f(fb.ones(n))) == str(look_up(fb.ones(n)))


def test_a_size_that_becomes_a_key_of_the_users_is_its_number() -> None:
    cache: dict[int, fb.Tensor] = {}

    @fb.compile(dynamic=True)
    def f(x: fb.Tensor) -> fb.Tensor:
        n = x.shape[0]
        if n not in cache:
            cache[n] = fb.arange(n) + n
        return x * cache[n]

    for n in (4, 5, 6, 4):
        assert f(fb.ones(n)).tolist() == [float(i + n) for i in range(n)]
    assert list(cache) == [4, 5, 6] and all(type(key) is int for key in cache)


def test_looking_in_while_other_threads_call() -> None:
    f = fb.compile(lambda x: x.sum(0) * x.shape[0], dynamic=True)
    f(fb.ones(2, 3))
    callers = [threading.Thread(target=lambda: [f(fb.ones(n % 20 + 2, 3)) for n in range(300)]) for _ in range(2)]
    for caller in callers:
        caller.start()
    while any(caller.is_alive() for caller in callers):
        assert f.stats().calls > 0 and f.explain()
    for caller in callers:
        caller.join()


def test_parts_of_a_given_length() -> None:
    f = fb.compile(lambda x, k: (*x.split(k), *x.split([k, x.shape[0] - k]), x.narrow(0, 0, k)))
    for n in (4, 6, 5):
        assert [p.shape for p in f(fb.ones(n, 3), 2)] == [p.shape for p in f.function(fb.ones(n, 3), 2)]


def test_users_code_may_lie_beside_the_package() -> None:
    beside = os.path.dirname(os.path.abspath(fb.__file__)) + "_experiments/train.py"
    names: dict[str, Any] = {}
    exec(compile("def f(x): return x * {5: 2.0}.get(x.shape[0], 1.0)", beside, "exec"), names)
    f = fb.compile(names["f"], dynamic=True)
    assert [f(fb.ones(n))[0].item() for n in (4, 5, 6)] == [1.0, 2.0, 1.0]


def test_a_function_for_one_set_of_numbers_is_compiled_as_one_without_names() -> None:
    f = fb.compile(lambda x: x + len(x), dynamic=True)
    for n in (4, 5):
        assert f(fb.ones(n)).tolist() == [n + 1.0] * n
    assert all(signature.family is None for signature in f.signatures) and "f32[5]" in f.ir("graph")
