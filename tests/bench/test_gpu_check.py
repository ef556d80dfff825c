"""benchmarks.gpu_check: on the emulated device, and what goes wrong in one section is no other's."""
from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from benchmarks import gpu_check

ROOT = Path(__file__).resolve().parents[2]


def checked(out: Path, *more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "benchmarks.gpu_check", "--seconds", "120", "--out", str(out), *more],
                          capture_output=True, text=True, cwd=ROOT, timeout=300,
                          env={**os.environ, "FLAMBEAU_CUDA": "emulator"})


def test_sections_that_are_done_are_not_run_again(tmp_path: Path) -> None:
    out = tmp_path / "lines.jsonl"
    first = checked(out, "--only", "device", "products")
    assert first.returncode == 0 and first.stderr == "", first.stderr[-2000:]
    lines = gpu_check.lines_of(out)
    assert lines[0]["name"] == "Flambeau's emulator" and [line["section"] for line in lines[2:]] == ["products"] * 5
    assert "TFLOP/s" in lines[2] and gpu_check.finished(out) == {"device", "products"}
    assert checked(out, "--only", "device", "products").returncode == 0
    assert gpu_check.lines_of(out) == lines


def test_a_section_that_fails_is_written_down_and_the_others_go_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(small: bool, until: float) -> Iterator[dict[str, Any]]:
        yield {"name": "one"}
        raise ValueError("no such kernel")

    out = tmp_path / "lines.jsonl"
    monkeypatch.setitem(gpu_check.SECTIONS, "ops", (0.1, broken))
    assert gpu_check.run("ops", 5.0, out) == 0
    one, error = gpu_check.lines_of(out)
    assert one == {"section": "ops", "name": "one"} and "no such kernel" in error["failed"]


def test_a_section_that_hangs_or_ends_its_process_is_over_its_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "lines.jsonl"
    monkeypatch.setattr(gpu_check, "GRACE", 0.5)
    for program, words in (("import time; time.sleep(60)", "still at work"), ("import os; os.abort()", "status -6")):
        run = subprocess.run
        monkeypatch.setattr(subprocess, "run", lambda command, timeout, program=program, run=run: run(
            [sys.executable, "-c", program], timeout=timeout, stderr=subprocess.DEVNULL))
        started = time.monotonic()
        gpu_check.begin("ops", 1.0, out)
        monkeypatch.setattr(subprocess, "run", run)
        assert time.monotonic() - started < 30 and words in gpu_check.lines_of(out)[-1]["failed"]
    assert not gpu_check.finished(out)


def test_a_line_that_was_cut_off_is_no_line(tmp_path: Path) -> None:
    out = tmp_path / "lines.jsonl"
    gpu_check.write(out, {"section": "ops", "name": "end", "done": True})
    with out.open("a") as file:
        file.write(json.dumps({"section": "steps", "done": True})[:-4])
    assert gpu_check.finished(out) == {"ops"}
