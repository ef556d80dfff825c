"""Models of real size: names, and that peers' results are compared, on a small one."""

from __future__ import annotations

from dataclasses import asdict

import numpy as np
import pytest

from benchmarks import large
from benchmarks.workloads import forward_models
from flambeau import config


def test_cases_are_of_models_that_there_are() -> None:
    assert {case.split()[0] for case in large.CASES} == set(forward_models.LARGE)
    assert {case.split()[1] for case in large.CASES} == {"train", "forward"}


@pytest.mark.parametrize("case", ["gpt4 train", "gpt4 forward"])
def test_a_peer_measures_and_gives_what_is_compared(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(large.CASES, case, "AdamW" if case.endswith("train") else "")
    with config.set(num_threads=1):                     # and what it was after it
        found, results = large.measure("flambeau", case, 1, 2)
    assert len(found.calls) == 2 and found.peak_bytes > 1 << 20 and asdict(found)["first"] > 0
    assert np.isfinite(results).all()
    assert (results[1] < results[0]) if case.endswith("train") else np.array_equal(*results)
