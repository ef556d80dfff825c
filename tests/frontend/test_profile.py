"""`fb.profile()`: times that add up, names that users know, files that others read."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import numpy as np
import pytest

import flambeau as fb
import flambeau.nn.functional as F
from flambeau import nn, optim
from flambeau.backends.peaks import Peaks
from flambeau.frontend.profile.roofline import draw
from flambeau.frontend.tape import backward, dispatch


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm = nn.LayerNorm(64)
        self.body = nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 10))

    def forward(self, x):
        return self.body(self.norm(x))


@pytest.fixture(scope="module")
def trained():
    """(the compiled step, its arguments, the profile of 20 calls of it)."""
    fb.manual_seed(0)
    model = Net()
    opt = optim.Adam(model.parameters())

    @fb.compile
    def step(x, y):
        opt.zero_grad()
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        opt.step()
        return loss

    x, y = fb.randn(256, 64), fb.randint(0, 10, (256,))
    step(x, y)
    with fb.profile() as p:
        for _ in range(20):
            step(x, y)
    return step, (x, y), p


def test_kernels_sum_to_the_calls(trained):
    _, _, p = trained
    kernels = sum(row.seconds for row in p.rows)
    calls = sum(event["dur"] for event in p.events() if event["cat"] == "call") * 1e-6
    assert 0.9 * calls <= kernels <= calls
    assert kernels <= p.seconds


def test_every_kernel_of_the_step_ran_as_often_as_the_step(trained):
    step, _, p = trained
    (source,) = p.sources
    assert source.recorder.counts.tolist() == [20] * len(step.signatures[0].compiled.program.launches)
    assert {row.count for row in p.rows} == {20} and {row.program for row in p.rows} == {"step"}


def test_rows_say_what_users_wrote(trained):
    _, _, p = trained
    keys = [row.key for row in p.rows]
    assert any("Linear of net.body.0" in key for key in keys)
    assert any("LayerNorm backward of net.norm" in key for key in keys)
    assert any("optimizer step" in key for key in keys)
    assert all("test_profile.py" in where for row in p.rows for where in row.locations)
    assert {"net.norm", "net.body.0", "net.body.2"} <= {module for row in p.rows for module in row.modules}


def test_flops_of_the_products_are_counted(trained):
    _, _, p = trained
    products = sum(row.flops for row in p.rows if row.kind == "contraction") / 20
    wanted = 2 * 256 * (64 * 128 * 3 + 128 * 10 * 3)        # forward, and both gradients of each layer
    assert wanted <= products <= 1.2 * wanted


def test_groups_add_up(trained):
    _, _, p = trained
    for by in ("name", "module", "line", "phase", "kind"):
        groups = p.key_averages(group_by=by)
        assert sum(row.seconds for row in groups) == pytest.approx(sum(row.seconds for row in p.rows))
        assert sum(row.flops for row in groups) == sum(row.flops for row in p.rows)
        assert len({row.key for row in groups}) == len(groups)
    with pytest.raises(ValueError, match="not by 'color'"):
        p.key_averages(group_by="color")


def test_table_is_sorted_and_cut_off(trained):
    _, _, p = trained
    table = p.table(sort_by="flops", row_limit=3)
    assert len(table.splitlines()) == 6 and f"{len(p.rows) - 3} rows more" in table
    first = max(p.rows, key=lambda row: row.flops)
    assert first.key in table.splitlines()[1]
    assert "rows more" not in p.table(row_limit=-1)
    with pytest.raises(ValueError, match="sorted by"):
        p.table(sort_by="beauty")
    assert "FLOP/s" in str(p) and "programs" in repr(p)


def test_trace_is_what_chrome_reads(trained, tmp_path):
    _, _, p = trained
    p.export_chrome_trace(tmp_path / "trace.json")
    trace = json.loads((tmp_path / "trace.json").read_text())
    assert set(trace) == {"traceEvents", "displayTimeUnit", "otherData"} and trace["otherData"]["events_lost"] == 0
    named = {event["tid"] for event in trace["traceEvents"] if event["ph"] == "M"}
    spans = [event for event in trace["traceEvents"] if event["ph"] == "X"]
    for event in spans:
        assert isinstance(event["name"], str) and event["cat"] in ("call", "kernel", "part")
        assert event["ts"] >= 0 and event["dur"] >= 0 and isinstance(event["pid"], int) and event["tid"] in named
    for thread in named:                        # on each thread spans lie within each other or apart
        open_spans: list[float] = []
        for event in sorted((e for e in spans if e["tid"] == thread), key=lambda e: (e["ts"], -e["dur"])):
            end = event["ts"] + event["dur"]
            while open_spans and open_spans[-1] <= event["ts"] + 1e-3:
                open_spans.pop()
            assert not open_spans or end <= open_spans[-1] + 1e-3, event
            open_spans.append(end)
    assert sum(event["cat"] == "call" for event in spans) == 20


def test_eager_ops_have_lines_and_modules():
    model = Net()
    with fb.profile() as p:
        with fb.profiler.record_function("inference"):
            out = model(fb.ones(4, 64))
        out.mul_(2)
    by_key = {row.key: row for row in p.rows}
    assert {row.modules[0] for row in p.rows if row.key == "matmul of Linear"} == {"net.body.0", "net.body.2"}
    assert by_key["relu of ReLU"].kind == "op" and "test_profile.py" in by_key["relu of ReLU"].locations[0]
    assert any(row.key.startswith("copy_") for row in p.rows)
    spans = {event["name"]: event for event in p.events()}
    outer, inner = spans["inference"], spans["net.body"]
    assert outer["ts"] <= inner["ts"] and inner["ts"] + inner["dur"] <= outer["ts"] + outer["dur"] + 1e-3


class Doubled(fb.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x * 2

    @staticmethod
    def backward(ctx, ct):
        return ct + ct                              # DOUBLED


def test_lines_of_derivatives_and_updates_are_of_who_asked_and_of_code_that_runs_between():
    w = nn.Parameter(fb.ones(3))
    opt = optim.SGD([w], lr=0.1)

    def closure():
        opt.zero_grad()
        loss = (w * 3).exp().sum()                  # CLOSURE
        loss.backward()                             # IN CLOSURE
        return loss

    with fb.profile() as p:
        (w * 3).exp().sum().backward()              # BACKWARD
        opt.step()                                  # STEP
        Doubled.apply(w).sum().backward()           # CUSTOM
        x = w.exp()
        x.register_hook(lambda ct: ct - 1)          # HOOK
        x.sum().backward()                          # HOOKED
        opt.step(closure)                           # WITH CLOSURE
    marks = {number: line.rpartition("# ")[2] for number, line in enumerate(Path(__file__).read_text().splitlines(), 1)}
    found = {}
    for op in p.ops:
        found.setdefault(marks[op.loc.line], set()).add(f"{op.name} of {op.loc.called}")
    update = {"mul of optimizer step", "sub of optimizer step", "copy_ of optimizer step"}
    assert found["STEP"] == found["WITH CLOSURE"] == update
    assert "mul of backward" in found["BACKWARD"] and "mul of backward" in found["IN CLOSURE"]
    assert found["DOUBLED"] == {"add of add"} and found["HOOK"] == {"sub of sub"}
    assert "constant of backward" in found["CUSTOM"] and "mul of backward" in found["HOOKED"]
    assert found["CLOSURE"] == {"exp of ", "mul of mul", "sum of sum"}


def test_nothing_is_left_behind():
    before = *dispatch.evaluators(), nn.Module.__call__, optim.Optimizer.step, backward.walk
    f = fb.compile(lambda x: x + 1)
    f(fb.ones(3))
    with pytest.raises(ZeroDivisionError), fb.profile():
        f(fb.ones(3))
        raise ZeroDivisionError
    assert (*dispatch.evaluators(), nn.Module.__call__, optim.Optimizer.step, backward.walk) == before
    with fb.profile() as p:
        with pytest.raises(RuntimeError, match="one profile at a time"), fb.profile():
            pass
        f(fb.ones(3))
    f(fb.ones(3))
    assert [row.count for row in p.rows if row.kind != "op"] == [1]
    with pytest.raises(RuntimeError, match="not started"):
        p.stop()


def test_functions_compiled_meanwhile_are_seen_and_so_are_backwards():
    w = nn.Parameter(fb.ones(8, 8))

    @fb.compile
    def scores(x):
        return (x @ w).sum()

    with fb.profile() as p:
        for _ in range(3):
            scores(fb.ones(4, 8)).backward()
    assert {row.program for row in p.rows if row.kind != "op"} == {"scores", "scores backward"}


def test_turns_of_loops_are_counted():
    @fb.compile
    def halved(x):
        return fb.while_loop(lambda x: x.sum() > 1, lambda x: (x / 2,), (x,))

    halved(fb.ones(8))
    with fb.profile() as p:
        halved(fb.ones(8))
    counts = {row.count for row in p.rows if row.program == "halved"}
    assert max(counts) == 4 or 3 in counts              # 8 -> 4 -> 2 -> 1: three turns, four looks


def test_threads_at_once():
    f = fb.compile(lambda x: (x @ x).relu().sum())
    x = fb.ones(96, 96)
    f(x)
    with fb.profile() as p:
        together = threading.Barrier(3)             # none ends before all began: their numbers differ
        threads = [threading.Thread(target=lambda: (together.wait(), [f(x) for _ in range(50)])) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert {row.count for row in p.rows if row.kind != "op"} == {150}
    assert len({event["tid"] for event in p.events() if event["cat"] == "call"}) == 3


def test_results_are_the_same_while_profiled(trained):
    f = fb.compile(lambda x: F.softmax(x @ x.T, dim=-1))
    x = fb.randn(70, 70)
    plain = f(x).numpy()
    with fb.profile():
        profiled = f(x).numpy()
    assert np.array_equal(plain, profiled) and np.array_equal(plain, f(x).numpy())


def test_roofline_draws(trained, tmp_path):
    pytest.importorskip("matplotlib")
    trained[2].roofline(tmp_path / "roofline.svg")
    assert "<svg" in (tmp_path / "roofline.svg").read_text()
    two = {"cpu": Peaks(1e9, 1e9, "this machine"), "cuda:0": Peaks(1e12, 1e11, "a GPU")}
    draw(trained[2].rows, two, tmp_path / "two.svg")
    assert "a GPU: 1 TFLOP/s" in (tmp_path / "two.svg").read_text()


def test_share_of_peak_is_of_what_bounds():
    machine = Peaks(flops=100.0, bytes=10.0, by="a machine")
    assert machine.share(50, 1, 1.0) == 0.5 and machine.share(1, 5, 1.0) == 0.5 and machine.ridge == 10.0


def test_memory_summary_names_compiled_functions(trained):
    assert any(line.endswith("step") for line in fb.memory_summary().splitlines())


def test_interpreted_programs_are_timed():
    f = fb.compile(lambda x: (x.exp() * 2).sum(0), backend="interpret")
    x = fb.ones(30, 4)
    f(x)
    with fb.profile() as profile:
        for _ in range(3):
            f(x)
    rows = [row for row in profile.key_averages() if row.kind != "op"]
    assert rows and all(row.count == 3 and row.seconds > 0 for row in rows)
    assert "exp" in " ".join(row.key for row in rows) and sum(row.seconds for row in rows) <= profile.seconds
    f(x)
    assert [row.count for row in profile.key_averages() if row.kind != "op"] == [3] * len(rows)
