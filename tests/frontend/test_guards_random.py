"""Compiled functions see every change of what they read, and no other, in random graphs of objects."""
from __future__ import annotations

import pytest
from guard_programs import Thing, run


def test_random_reads_and_changes(seeds, monkeypatch):
    for seed in seeds:
        monkeypatch.setattr(Thing, "shared", 3.0)
        failure = run(seed)
        if failure is not None:
            pytest.fail(failure)
