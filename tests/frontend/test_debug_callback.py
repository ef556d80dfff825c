"""debug_callback calls the same eagerly and at every call of a compiled function, in order; what it raises is raised."""
from __future__ import annotations

import os
import signal
import threading
import time
import traceback
import weakref

import pytest

import flambeau as fb

WAYS = {"eager": lambda f: f, "compiled": fb.compile, "interpreted": lambda f: fb.compile(f, backend="interpret"),
        "verified": lambda f: fb.compile(f, verify=True)}
ways = pytest.mark.parametrize("way", WAYS)


@ways
def test_arguments_arrive_as_they_are_at_that_point(way):
    seen = []

    def note(x, n, words, *, total):
        assert not x.requires_grad and x.device.type == "cpu"
        seen.append((x.tolist(), x.dtype, n, type(n), words, total.item()))

    def f(x, n):
        y = x * 2
        fb.debug_callback(note, y, n, ["kept"], total=y.sum())
        y.add_(1)
        return y

    g = WAYS[way](f)
    for n, dtype in ((1, fb.float32), (2.5, fb.float64), (7, fb.bfloat16), (3, fb.int64)):
        g(fb.tensor([1, 2], dtype=dtype), n)
    assert seen == [([2, 4], fb.float32, 1, int, ["kept"], 6), ([2, 4], fb.float64, 2.5, float, ["kept"], 6),
                    ([2, 4], fb.bfloat16, 7, int, ["kept"], 6), ([2, 4], fb.int64, 3, int, ["kept"], 6)]


@ways
def test_tensors_in_containers_arrive_as_they_are_at_that_point(way):
    seen, notes = [], []

    def note(batch, pair, notes):
        notes.append(1)
        x, (words, total), n = batch["x"], batch["rest"], pair[0]
        seen.append((x.tolist(), words, total.item(), n, type(pair), pair[1].requires_grad))

    def f(x, n):
        y = x * n
        fb.debug_callback(note, {"x": y, "rest": ["kept", y.sum()]}, (n, y), notes=notes)
        y.add_(1)
        return y

    g = WAYS[way](f)
    for n in (2.0, 3.0, 0.5):
        g(fb.ones(2), n)
    assert seen == [([n, n], "kept", 2 * n, n, tuple, False) for n in (2.0, 3.0, 0.5)]
    assert notes == [1, 1, 1], "what holds no tensor is the same object"


@ways
def test_calls_stay_in_order_with_prints_in_branches_and_loops(way, capsys):
    def f(x):
        def body(i, v):
            fb.debug_print("round {}", i)
            fb.debug_callback(lambda v: print("holds", v.sum().item()), v)
            return i + 1, fb.cond(v.sum() > 4, lambda: (fb.debug_callback(print, "large"), v / 4)[1], lambda: v + 1)

        fb.debug_callback(print, "start")
        out = fb.while_loop(lambda i, v: i < 3, body, (0, x))[1]
        fb.debug_print("end")
        return out

    WAYS[way](f)(fb.ones(2))
    assert capsys.readouterr().out.splitlines() == ["start", "round 0", "holds 2.0", "round 1", "holds 4.0", "round 2",
                                                    "holds 6.0", "large", "end"]


def test_gradients_pass_by():
    w, seen = fb.tensor([3.0], requires_grad=True), []

    @fb.compile
    def step(x):
        y = w * x
        fb.debug_callback(lambda t: seen.append(t.item()), y)
        y.sum().backward()

    step(fb.tensor([2.0]))
    assert w.grad.tolist() == [2.0] and seen == [6.0]


class Mine(Exception):
    pass


def _raise(x):
    raise Mine("of my own")


@ways
def test_what_it_raises_ends_the_call_with_its_traceback(way):
    reached = []

    def f(x):
        fb.debug_callback(_raise, x)
        fb.debug_callback(lambda x: reached.append(x), x)
        return x + 1

    g = WAYS[way](f)
    for _ in range(2):
        with pytest.raises(Mine, match="of my own") as raised:
            g(fb.ones(2))
        assert traceback.extract_tb(raised.value.__traceback__)[-1].name == "_raise" and not reached


def test_state_is_written_as_far_as_the_call_came_and_put_back_by_verify():
    for options, left in (({}, 1.0), ({"verify": True}, 0.0)):
        count = fb.zeros(())

        @fb.compile(**options)
        def f(x, count=count):
            count.add_(1)
            fb.debug_callback(_raise, count)
            return x + count

        with pytest.raises(Mine):
            f(fb.ones(2))
        assert count.item() in (0.0, left)
        assert options == {} or count.item() == 0.0


@pytest.mark.parametrize("where", ("callback", "print"))
def test_an_interrupt_inside_ends_the_call(where, monkeypatch):
    former = signal.signal(signal.SIGINT, signal.default_int_handler)

    def strike(*_, **__):
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(60)

    @fb.compile
    def f(x):
        if where == "callback":
            fb.debug_callback(strike, x)
        else:
            fb.debug_print("{}", x)
        return x + 1

    if where == "print":
        monkeypatch.setattr("builtins.print", strike)
    try:
        with pytest.raises(KeyboardInterrupt):
            f(fb.ones(2))
    finally:
        signal.signal(signal.SIGINT, former)


def test_threads_get_what_their_own_callbacks_raise():
    found = {}

    @fb.compile
    def f(x):
        fb.debug_callback(lambda t: (time.sleep(0.01), {}[t.item()]), x)
        return x + 1

    def call(number):
        try:
            f(fb.tensor(float(number)))
        except KeyError as error:
            found[number] = error.args[0]

    call(0)
    threads = [threading.Thread(target=call, args=(n,)) for n in range(1, 6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == {n: float(n) for n in range(6)}


def test_the_function_lives_as_long_as_what_calls_it():
    class Counter:
        calls = 0

        def note(self, x):
            self.calls += 1

    counter = Counter()
    gone = weakref.ref(counter)
    compiled = fb.compile(lambda x, c=counter: fb.debug_callback(c.note, x))
    compiled(fb.ones(1))
    text = compiled.ir("graph")
    compiled(fb.ones(1))
    assert counter.calls == 2
    graph = fb.ir.parse(text)
    graph(fb.ones(1).numpy())
    assert counter.calls == 3
    del compiled, counter
    import gc
    gc.collect()
    assert gone() is not None               # the parsed graph calls it
    del graph
    gc.collect()
    assert gone() is None
    with pytest.raises(fb.errors.VerificationError, match="no callback"):
        fb.ir.parse(text)(fb.ones(1).numpy())


def test_a_callback_is_a_function():
    with pytest.raises(TypeError, match="'fn' must be a function"):
        fb.debug_callback("print", fb.ones(1))
