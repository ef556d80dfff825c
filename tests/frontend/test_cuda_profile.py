"""`fb.profile()` of what runs on "cuda", which the emulated device plays: times of its streams, by the user's lines."""
from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import flambeau as fb
from flambeau import config, nn, optim
from flambeau.backends.cpu import peaks
from flambeau.backends.peaks import Peaks


@pytest.fixture(scope="module", autouse=True)
def emulated() -> Iterator[None]:
    with config.set(cuda="emulator"):
        yield


class Scaled(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.factor = nn.Parameter(fb.ones(3, 1))

    def forward(self, x: fb.Tensor) -> fb.Tensor:
        return (x * self.factor).exp()


@pytest.fixture(scope="module")
def taken(emulated: None) -> tuple[Any, Any]:
    """(a compiled step, the profile of four calls of it and of some eager ops)."""
    model = Scaled().to("cuda")
    optimizer = optim.SGD(model.parameters(), lr=1e-3)

    @fb.compile
    def step(x: fb.Tensor) -> fb.Tensor:
        optimizer.zero_grad()
        loss = model(x).sum(0).pow(2).sum()
        loss.backward()
        optimizer.step()
        return loss

    x = fb.ones(3, 5, device="cuda")
    for _ in range(2):
        step(x)
    x + 1
    with fb.profile() as p:
        for _ in range(4):
            step(x)
        y = x + 1
        y[0] = 2.0
    return step, p


def test_every_kernel_has_a_row_with_lines_and_modules(taken: tuple[Any, Any]) -> None:
    step, p = taken
    rows = [row for row in p.rows if row.program == "step"]
    assert len(rows) == len(step.signatures[0].compiled.memory.calls) and {row.count for row in rows} == {4}
    assert all(row.device == "cuda:0" and row.seconds > 0 and 0 < row.share_of_peak < 1 for row in rows)
    assert all("test_cuda_profile.py" in where for row in rows for where in row.locations)
    assert any("exp of scaled" in row.key for row in rows) and {"scaled"} == {m for row in rows for m in row.modules}


def test_kernels_sum_to_the_calls_on_the_device(taken: tuple[Any, Any]) -> None:
    _, p = taken
    calls = [event for event in p.events() if event["cat"] == "call"]
    kernels = [event for event in p.events() if event["cat"] == "kernel"]
    assert len(calls) == 4
    assert sum(e["dur"] for e in kernels) == pytest.approx(sum(e["dur"] for e in calls), rel=0.01)
    in_rows = sum(row.seconds for row in p.rows if row.program == "step")
    assert in_rows == pytest.approx(sum(event["dur"] for event in kernels) / 1e6)


def test_eager_ops_are_timed_once_by_their_lines(taken: tuple[Any, Any]) -> None:
    _, p = taken
    rows = [row for row in p.rows if row.program != "step"]
    assert [row.key for row in rows] == ["add", "copy_ of setitem"]
    assert all(row.kind == "op" and row.count == 1 and row.device == "cuda:0" and row.bytes for row in rows)


def test_a_trace_has_streams_and_who_asked(taken: tuple[Any, Any], tmp_path: Path) -> None:
    _, p = taken
    p.export_chrome_trace(tmp_path / "trace.json")
    events = json.loads((tmp_path / "trace.json").read_text())["traceEvents"]
    line_of = {event["args"]["name"]: event["tid"] for event in events if event["ph"] == "M"}
    line = line_of["stream 0x0 of cuda:0"]
    assert {event["cat"] for event in events if event["ph"] == "X" and event["tid"] == line} == {"call", "kernel", "op"}
    asked = [event for event in events if event.get("cat") == "asked"]
    assert sum(event["name"] == "step" for event in asked) == 4 and {e["tid"] for e in asked} == {line_of["MainThread"]}
    began = min(event["ts"] for event in asked)
    assert all(event["ts"] >= began for event in events if event["ph"] == "X")


def test_shares_are_of_what_the_device_can_do(taken: tuple[Any, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    step, p = taken
    monkeypatch.setattr(peaks, "peaks", lambda number: Peaks(1e9, 1e9, "this machine"))
    assert set(p.peaks) == {"cuda:0"} and p.peaks["cuda:0"].by == "Flambeau's emulator"
    assert str(p).splitlines()[-1].count("peaks of Flambeau's emulator: ") == 1
    assert "of peak" in step.explain()
    with fb.profile() as both:
        fb.ones(3, device="cuda") + 1
        fb.ones(3) + 1
    assert set(both.peaks) == {"cpu", "cuda:0"}
    assert {row.device for row in both.rows if row.key == "add"} == {"cpu", "cuda:0"}


def test_results_are_the_same_and_nothing_is_timed_afterwards(taken: tuple[Any, Any]) -> None:
    f = fb.compile(lambda x: fb.while_loop(lambda x: x.sum() > 1, lambda x: (x / 2,), (x,)))
    x = fb.ones(4, device="cuda")
    plain = f(x)[0].tolist()
    with fb.profile() as p:
        assert f(x)[0].tolist() == plain
    counts = {row.key: row.count for row in p.rows if row.kind != "op"}
    assert f(x)[0].tolist() == plain and {row.key: row.count for row in p.rows if row.kind != "op"} == counts
    assert counts["div"] == 2                           # 4 -> 2 -> 1


def test_on_the_memory_of_the_host_too() -> None:
    f = fb.compile(lambda x: x.exp() * 2, backend="cuda-emulator")
    x = fb.ones(3)
    f(x)
    with fb.profile() as p:
        np.testing.assert_allclose(f(x).numpy(), 2 * np.e * np.ones(3), rtol=1e-6)
    (row,) = [row for row in p.rows if row.kind != "op"]
    assert row.device == "cuda:0" and row.count == 1
