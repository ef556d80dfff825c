"""What would run on a GPU runs on the emulated device: the tests themselves are right."""
from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.mark.slow
def test_tests_of_a_gpu_pass_on_the_emulated_one() -> None:
    done = subprocess.run([sys.executable, "-m", "pytest", "-q", "-m", "gpu", "-p", "no:cacheprovider", "tests/gpu"],
                          capture_output=True, text=True, cwd=ROOT, timeout=900,
                          env={**os.environ, "FLAMBEAU_CUDA": "emulator"})
    assert done.returncode == 0, done.stdout[-3000:]
    passed = re.search(r"(\d+) passed", done.stdout)
    assert passed and int(passed[1]) >= 20


def test_without_a_gpu_they_are_skipped_with_a_reason() -> None:
    environment = {name: value for name, value in os.environ.items() if name != "FLAMBEAU_CUDA"}
    done = subprocess.run([sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/gpu/test_training.py"],
                          capture_output=True, text=True, cwd=ROOT, timeout=300, env=environment)
    assert done.returncode == 0 and ("no CUDA device here" in done.stdout or " passed" in done.stdout), done.stdout
