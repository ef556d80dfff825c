"""Anomaly mode in compiled functions: what it finds, what it leaves alone, and that nothing is left of a bad call."""
from __future__ import annotations

import random
import re

import numpy as np
import pytest

import flambeau as fb
import flambeau.nn.functional as F
from flambeau import nn, optim
from flambeau.autograd import detect_anomaly, set_detect_anomaly
from flambeau.errors import AnomalyError


def raised(function, *args, mode=True):
    """The error of a call, or None. The mode is on for the call alone."""
    try:
        with set_detect_anomaly(mode):
            function(*args)
    except AnomalyError as error:
        return error
    return None


class Logs(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(3, 2)
        self.blocks = nn.ModuleList([nn.Tanh(), Log()])

    def forward(self, x):
        h = self.fc(x)
        for block in self.blocks:
            h = block(h)
        return h


class Log(nn.Module):
    def forward(self, x):
        return x.log()


def test_a_training_step_names_op_kernel_module_line_and_ranges_and_is_undone():
    fb.manual_seed(0)
    net = Logs()
    opt = optim.SGD(net.parameters(), lr=0.1, momentum=0.9)

    @fb.compile
    def step(x):
        opt.zero_grad()
        loss = net(x).sum()
        loss.backward()
        opt.step()
        return loss

    x = fb.ones(4, 3)
    before = [p.detach().clone() for p in net.parameters()]
    error = raised(step, x)
    assert error.op == "log" and error.module.endswith("blocks.1")
    assert error.kernel in [kernel.name for kernel in step.signatures[0].compiled.kernels]
    assert "return x.log()" in error.where and "test_anomaly.py" in error.where
    h = F.tanh(net.fc(x)).detach()
    (given,) = error.operands
    assert np.isclose(given.low, h.min().item()) and np.isclose(given.high, h.max().item())
    assert error.result.n_nan == (h < 0).sum().item() > 0 and error.result.n_inf == 0
    assert all(bool((p == b).all()) for p, b in zip(net.parameters(), before, strict=True))
    step(x)                                                         # off again: nothing is looked at
    assert len(step.signatures) == 1 and not bool((net.fc.weight == before[0]).all())


@pytest.mark.parametrize("backend", (None, "interpret"))
def test_the_backward_of_a_result(backend):
    @fb.compile(backend=backend)
    def root(x):
        return (x * 2).sqrt().sum()

    x = fb.tensor([0.0, 2.0], requires_grad=True)
    with detect_anomaly():
        result = root(x)
        with pytest.raises(AnomalyError, match="of the backward made an infinity") as error:
            result.backward()
    assert ".sqrt().sum()" in error.value.where and error.value.op == "div"
    root(x).backward()
    assert x.grad.isinf().any()


def test_an_infinity_that_became_nan_tells_both():
    @fb.compile
    def f(x):
        y = (x * 100).exp()
        return y - y

    error = raised(f, fb.tensor([1.0, 0.0]))
    assert error.op == "exp" and (error.result.n_inf, error.result.high) == (1, 1.0)
    assert re.search(r"of the infinity sub made NaN, .*test_anomaly.py:\d+", error.message)


def test_what_is_left_out_or_was_given_is_no_anomaly():
    @fb.compile
    def f(x, mask):
        kept = fb.where(x > 0, x.log(), 0.0)
        weights = x.masked_fill(mask, float("-inf"))
        return kept, fb.softmax(weights, 0), weights, fb.full((2,), float("inf")), x.argmax()

    assert raised(f, fb.tensor([-1.0, 2.0]), fb.tensor([True, False])) is None
    assert raised(f, fb.tensor([-1.0, float("inf")]), fb.tensor([True, True])).op == "softmax"     # nothing left to weigh


def test_nan_that_comes_in_is_told_as_such():
    state = fb.zeros(2)

    @fb.compile
    def f(x):
        state.add_(x)
        return x * 2

    error = raised(f, fb.tensor([1.0, float("nan")]))
    assert "came with NaN" in error.message and error.op == "input" and state.tolist() == [0.0, 0.0]
    assert raised(fb.compile(lambda x: x + float("nan")), fb.ones(2)).op == "constant"


def test_loops_and_choices_name_the_op_inside():
    @fb.compile
    def loop(x):
        return fb.while_loop(lambda i, v: i < 5, lambda i, v: (i + 1, (v - 1).sqrt()), (0, x))[1]

    @fb.compile
    def choice(x):
        return fb.cond(x.sum() > 0, lambda: x.log(), lambda: x.sin())

    error = raised(loop, fb.tensor([3.0, 2.0]))
    assert error.op == "sqrt" and error.operands[0].high < 0
    assert raised(choice, fb.tensor([-1.0, 2.0])).op == "log"
    assert raised(choice, fb.tensor([-1.0, 0.0])) is None


def test_sizes_with_names_and_arguments_that_are_written():
    @fb.compile(dynamic=True)
    def f(x):
        x.sub_(1)
        return x.log().sum()

    for n in (3, 5):
        x = fb.ones(n)
        error = raised(f, x)
        assert error.op == "log" and x.tolist() == [1.0] * n and error.result.n_inf == n
    assert len(f.signatures) == 1


def test_check_nan_and_the_switch():
    f = fb.compile(lambda x: x.log())
    x = fb.tensor([-1.0])
    with detect_anomaly(check_nan=False):
        f(x)
    set_detect_anomaly(True)
    try:
        with pytest.raises(AnomalyError):
            f(x)
        with set_detect_anomaly(False):
            f(x)
        with pytest.raises(RuntimeError):               # what users of PyTorch catch
            f(x)
    finally:
        set_detect_anomaly(False)
    run = f.signatures[0].entry.bound.run
    f(x)
    assert f.signatures[0].entry.bound.run is f.signatures[0].entry.bound.executable.fast_call is not run


def test_a_block_within_holds_at_every_call_for_its_own_ops():
    weight = fb.ones(2)

    @fb.compile
    def f(x):
        outside = (x - 5).log()
        with detect_anomaly():
            inside = x.sqrt()
        weight.add_(1)
        return outside, inside * weight

    assert f(fb.tensor([1.0, 2.0]))[0].isnan().all() and weight.tolist() == [2.0, 2.0]      # nobody asked about that
    with pytest.raises(AnomalyError, match="sqrt made NaN"):
        f(fb.tensor([6.0, -2.0]))
    assert weight.tolist() == [2.0, 2.0] and f(fb.tensor([6.0, 7.0]))[0].isfinite().all()
    assert raised(f, fb.tensor([1.0, 2.0])).op == "log"


def test_a_backward_within_a_block_is_looked_at():
    weight = fb.tensor([0.0, 4.0], requires_grad=True)

    @fb.compile
    def f(x):
        loss = (weight * x).sqrt().sum()
        with detect_anomaly():
            loss.backward()
        return loss

    with pytest.raises(AnomalyError, match="of the backward made an infinity"):
        f(fb.ones(2))
    with fb.no_grad():
        weight.add_(1)
    f(fb.ones(2))


def test_a_block_that_turns_it_off_leaves_its_ops_alone():
    @fb.compile
    def f(x):
        with set_detect_anomaly(False):
            return x.log()

    assert raised(f, fb.tensor([-1.0])) is None


def test_a_mode_that_stays_is_refused_and_taken_back():
    @fb.compile
    def f(x):
        set_detect_anomaly(True)
        return x.log()

    with pytest.raises(fb.errors.CaptureError, match="changed the anomaly mode and left it so"):
        f(fb.ones(2))
    assert not fb.autograd.is_anomaly_enabled()

    @fb.compile
    def g(x):
        set_detect_anomaly(True)
        y = x.log()
        set_detect_anomaly(False)
        return y, (x - 1).log()

    with pytest.raises(AnomalyError):
        g(fb.tensor([-1.0]))
    g(fb.tensor([1.0]))


def test_where_a_mode_cannot_change_the_error_says_where_it_can():
    def body(x):
        with detect_anomaly():
            return x.log()

    with pytest.raises(fb.errors.UnsupportedError, match=r"(?s)a function of cond or while_loop.*hint: put the `with`"):
        fb.compile(lambda x: fb.cond(x.sum() > 0, lambda: body(x), lambda: x))(fb.ones(2))

    @fb.compile
    def choice(x):
        with detect_anomaly():
            return fb.cond(x.sum() > 0, lambda: x.log(), lambda: x)

    with pytest.raises(AnomalyError, match="log made NaN"):
        choice(fb.tensor([-1.0, 2.0]))

    def hooked(x):
        h = x * 2
        h.register_hook(body)
        return h.sum()

    with pytest.raises(fb.errors.UnsupportedError, match="a gradient hook or a Function's backward"):
        fb.compile(hooked)(fb.ones(2, requires_grad=True))


def test_a_function_that_asks_for_the_mode_is_compiled_for_it():
    @fb.compile
    def f(x):
        return x + 1 if fb.autograd.is_anomaly_enabled() else x

    assert f(fb.ones(1)).item() == 1
    with detect_anomaly():
        assert f(fb.ones(1)).item() == 2
    assert f(fb.ones(1)).item() == 1 and len(f.signatures) == 2
    assert "anomaly mode was turned on" in f.signatures[1].reason


def test_callbacks_and_prints_happen_once(capsys):
    def f(x):
        fb.debug_print("once")
        return x.log()

    assert raised(fb.compile(f), fb.tensor([-1.0])) is not None
    assert capsys.readouterr().out == "once\n"


# -- against the same, op by op -----------------------------------------------------------------------------------------

UNARY = {"log": fb.log, "sqrt": fb.sqrt, "exp": fb.exp, "reciprocal": fb.reciprocal, "asin": fb.asin, "tanh": fb.tanh,
         "neg": fb.neg, "expm1": fb.expm1}
BINARY = {"add": fb.add, "sub": fb.sub, "mul": fb.mul, "div": fb.div}


def random_program(rng, blocks=False):
    """(function, its outputs, what it says of each step: whether it is looked at, None where nothing)."""
    steps, count, says, around = [], 2, [], []
    for _ in range(rng.randint(2, 12)):
        if rng.random() < 0.5:
            steps.append((rng.choice(list(UNARY)), (rng.randrange(count),)))
        elif rng.random() < 0.8:
            steps.append((rng.choice(list(BINARY)), (rng.randrange(count), rng.randrange(count))))
        else:
            steps.append(("where", (rng.randrange(count), rng.randrange(count))))
        count += 1
        while around and blocks and rng.random() < 0.4:
            around.pop()
        while blocks and rng.random() < 0.4:
            around.append(rng.random() < 0.7)
        says.append(tuple(around))
    outputs = [count - 1, rng.randrange(2, count)]

    def function(x, y, log=None):
        values, entered = [x, y], []
        for (name, places), wanted in zip(steps, says, strict=True):
            while log is None and [mode for mode, _ in entered] != list(wanted[:len(entered)]):
                entered.pop()[1].__exit__(None, None, None)
            for mode in wanted[len(entered):] if log is None else ():
                entered.append((mode, set_detect_anomaly(mode)))
            operands = [values[place] for place in places]
            if name == "where":
                made = fb.where(x > 0, *operands)
            else:
                made = (UNARY.get(name) or BINARY[name])(*operands)
            if log is not None:
                log.append((name, places, made.numpy().copy()))
            values.append(made)
        while entered:
            entered.pop()[1].__exit__(None, None, None)
        return [values[n] for n in outputs]

    return function, outputs, [said[-1] if said else None for said in says]


def holds(array):
    return {*["nan"] * bool(np.isnan(array).any()), *["inf"] * bool(np.isinf(array).any())}


def expected(function, outputs, looks, x, y):
    """The op where it begins, by the rule itself; None for none. looks: which steps are looked at."""
    log = []
    function(x, y, log)
    what = [set(), set(), *[holds(array) for _, _, array in log]]
    for root in outputs:
        wanted = {"inf"} if what[root] == {"inf"} else {"inf", "nan"}
        behind, pending = set(), [root]
        while pending:
            n = pending.pop()
            if n not in behind:
                behind.add(n)
                pending += [p for p in (log[n - 2][1] if n > 1 else ()) if what[p] & wanted]
        found = [n for n in sorted(behind - {0, 1})
                 if looks[n - 2] and (what[n] - set().union(*[what[p] for p in log[n - 2][1]])) & wanted]
        if what[root] and found:
            return log[found[0] - 2]
    return None


def check(seed, blocks=False):
    rng = random.Random(seed)
    function, outputs, says = random_program(rng, blocks)
    numbers = [0.0, -0.0, 1.0, -1.0, 2.5, -3.0, 100.0, 1e-3]
    compiled = fb.compile(function)
    n_found = 0
    for _ in range(2):
        x, y = (fb.tensor([rng.choice(numbers) for _ in range(5)]) for _ in range(2))
        mode = not blocks or rng.random() < 0.3
        known = expected(function, outputs, [mode if said is None else said for said in says], x, y)
        error = raised(compiled, x, y, mode=mode)
        assert (known is None) is (error is None), (seed, known, error)
        if known is not None:
            name, _, array = known
            assert error.op == name, (seed, name, error.message)
            assert error.result.n_nan == np.isnan(array).sum() and error.result.n_inf == np.isinf(array).sum(), seed
            n_found += 1
    return n_found


def test_random_programs_name_the_op_that_the_rule_names():
    assert sum(check(seed) for seed in range(25)) > 10


def test_random_programs_with_blocks_of_their_own():
    assert sum(check(seed, blocks=True) for seed in range(100, 125)) > 5
