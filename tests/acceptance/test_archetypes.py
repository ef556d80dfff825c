"""The example programs, run as a user would, with --quick: each trains compiled, and its loss falls."""
from __future__ import annotations

import logging
import re
import runpy
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


@pytest.mark.parametrize("name, needs, least_fall", [
    ("mlp", None, 0.7), ("digits_cnn", "sklearn", 0.7), ("char_transformer", None, 0.8),
    ("points", None, 0.3), ("lenet", None, 0.6), ("sentiment", None, 0.5)])
def test_quick_run_learns_compiled(name: str, needs: str | None, least_fall: float, capsys: pytest.CaptureFixture[str],
                                   caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    if needs is not None:
        pytest.importorskip(needs, reason=f"{needs} is not installed")
    monkeypatch.setattr(sys, "argv", [f"{name}.py", "--quick"])
    monkeypatch.syspath_prepend(EXAMPLES)                   # as where a script lies is
    with caplog.at_level(logging.DEBUG, logger="flambeau"):
        runpy.run_path(str(EXAMPLES / f"{name}.py"), run_name="__main__")
    losses = [float(number) for number in re.findall(r"loss:? +(\d+\.\d+)", capsys.readouterr().out)]
    assert len(losses) >= 2 and losses[-1] < least_fall * losses[0]
    assert "train_step" in caplog.text, "nothing was compiled"
    assert "recompiles because" not in caplog.text
