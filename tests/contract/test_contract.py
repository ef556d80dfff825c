"""Every case of the contract of @fb.compile. Those in known.txt are known to fail: they must leave it when they hold."""
from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.contract.harness import load, run

CASES = load()
KNOWN = frozenset(line for line in Path(__file__).with_name("known.txt").read_text().splitlines()
                  if line and not line.startswith("#"))


def test_known_failures_are_cases() -> None:
    assert KNOWN <= CASES.keys()


def _marked(name: str) -> Any:
    """A parameter: known failures must fail, and programs that start an interpreter of their own are slow."""
    marks = [pytest.mark.xfail(reason="known to fail", strict=True)] if name in KNOWN else []
    if CASES[name].kind == "script":
        marks.append(pytest.mark.slow)
    return pytest.param(name, marks=marks)


@pytest.mark.parametrize("name", map(_marked, CASES))
def test_contract(name: str) -> None:
    verdict = run(CASES[name])
    assert verdict.good, f"{verdict.word} {verdict.detail}"
