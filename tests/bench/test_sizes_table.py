"""The benchmark of sizes: that it runs, and what it writes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks import sizes


def test_one_command_measures_prints_and_writes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "out.json"
    assert sizes.main(["mlp", "--sizes", "2,5", "--rounds", "1", "--json", str(path)]) == 0
    points = json.loads(path.read_text())["workloads"]["mlp"]
    assert [point["size"] for point in points] == [2, 5] and points[1]["traces"] == 1
    assert all(point["dynamic"] > 0 and point["static"] > 0 and point["ratio"] > 0 for point in points)
    assert "| 5 | " in capsys.readouterr().out


def test_different_losses_are_an_error(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sizes.math, "isclose", lambda *_, **__: False)
    assert sizes.main(["mlp", "--sizes", "2", "--rounds", "1"]) == 1
    assert "mlp, batch 2: the losses are" in capsys.readouterr().out
