"""The table of forward passes."""

from __future__ import annotations

import pytest

from benchmarks import inference


def test_a_model_is_timed_and_results_agree(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inference, "ROUND_S", 0.0)
    monkeypatch.setattr(inference, "_torch", lambda threads: None)
    assert inference.main(["gpt4", "--rounds", "1"]) == 0
    head, rule, row = capsys.readouterr().out.splitlines()
    assert head.count("|") == rule.count("|") == row.count("|") and row.startswith("| gpt4 |") and "->" in row
