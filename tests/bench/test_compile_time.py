"""The benchmark of compile times: that it runs, and what it concludes from what it measured."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import flambeau as fb
import flambeau.nn.functional as F
from benchmarks import compile_time
from benchmarks.compile_time import Point, Timing, disagreements, section
from benchmarks.workloads import Train, find
from benchmarks.workloads.growing import FAMILIES, Family, of_name
from flambeau import nn

CHAIN = FAMILIES["chain"]
OURS = Point("flambeau", 100, Timing(1.0, 1.5, False), Timing(0.25, 0.25, False), ops=200, value=2.0)
THEIRS = Point("jax", 100, Timing(3.0, 6.0, False), Timing(0.5, 0.5, True), value=2.0)


def test_one_command_measures_prints_and_writes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["chain", "--sizes", "3", "--peers", "flambeau", "--json", str(tmp_path / "out.json")]
    assert compile_time.main(arguments) == 0
    ((point,),) = json.loads((tmp_path / "out.json").read_text())["families"].values()
    assert point["ops"] >= 6 and point["error"] is None
    assert point["cold"]["wall"] > 0 and point["cold"]["cpu"] > 0 and point["warm"]["wall"] > 0
    assert set(point["stages"]) == set(compile_time.STAGES)
    assert f"| 3 | {point['ops']} | " in capsys.readouterr().out


def test_a_row_says_seconds_an_op_and_how_many_times_longer_others_take() -> None:
    (row,) = [line for line in section(CHAIN, [OURS, THEIRS]).splitlines() if line.startswith("| 100")]
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    assert cells[1:5] == ["200", "1 s", "5 ms", "250 ms"]
    assert cells[-2:] == ["3 s (3.0x)", "~500 ms (2.0x)"]


def test_cpu_is_quoted_where_another_process_disturbed_the_clock() -> None:
    loud = replace(OURS, cold=Timing(9.0, 1.5, True))
    assert "| ~1.5 s | 7.5 ms |" in section(CHAIN, [loud]) and "3 s (4.0x)" in section(CHAIN, [loud, THEIRS])


def test_values_that_differ_or_are_nan_are_told() -> None:
    assert disagreements(CHAIN, [OURS, THEIRS]) == []
    for value in (2.1, float("nan")):
        (told,) = disagreements(CHAIN, [OURS, replace(THEIRS, value=value)])
        assert told.startswith("- DISAGREE at 100: flambeau 2, jax ")


def test_a_peer_that_failed_is_not_asked_for_more(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def fails(workload: object, to: Point, *_: object) -> None:
        asked.append((to.peer, to.size))
        to.error = "took too long" if to.peer == "jax" else None

    monkeypatch.setattr(compile_time, "_measure", fails)
    points = list(compile_time.measure(CHAIN, (1, 2, 3), ["flambeau", "jax"], compile_time.driver.Settings()))
    assert asked == [("flambeau", 1), ("jax", 1), ("flambeau", 2), ("flambeau", 3)]
    assert points[-1].error == "not tried: at 1, took too long"


def test_plot_is_written(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="matplotlib is not installed")
    compile_time.plot({"chain": [OURS, THEIRS]}, tmp_path / "times.svg")
    assert "<svg" in (tmp_path / "times.svg").read_text()


@pytest.mark.parametrize("family", FAMILIES.values(), ids=lambda family: family.name)
def test_members_of_a_family_are_found_by_name_and_have_weights_for_every_parameter(family: Family) -> None:
    workload = find(f"{family.name}{min(family.sizes)}")
    assert workload.name == f"{family.name}{min(family.sizes)}"
    assert workload.data(np.random.default_rng(0))
    if isinstance(workload, Train):
        weights = workload.weights(np.random.default_rng(0))
        state = workload.module(nn, F, fb, 0.0).state_dict()
        assert {name: array.shape for name, array in weights.items()} == {n: tuple(t.shape) for n, t in state.items()}


def test_other_names_are_no_members() -> None:
    assert of_name("chain") is None and of_name("nothing3") is None
    with pytest.raises(KeyError):
        find("nothing3")
