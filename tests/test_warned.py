"""Every warning has an id, and every id stands in the documents."""
from __future__ import annotations

import ast
import warnings
from collections import Counter
from pathlib import Path

import pytest

import flambeau as fb
from flambeau import config, nn
from flambeau.errors import FlambeauWarning
from flambeau.warned import WARNINGS, page, warn

ROOT = Path(__file__).resolve().parents[1]


def test_the_page_is_written_from_the_table() -> None:
    assert (ROOT / "docs" / "warnings.md").read_text(encoding="utf-8") == page()


def test_every_id_is_given_at_one_place_and_nothing_warns_without_one() -> None:
    given: Counter[str] = Counter()
    for path in (ROOT / "flambeau").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call):
                continue
            if isinstance(node.func, ast.Attribute) and node.func.attr == "warn" and path.name != "warned.py":
                assert ast.unparse(node.func.value) != "warnings", f"{path}:{node.lineno} warns without an id"
            if isinstance(node.func, ast.Name) and node.func.id == "warn":
                assert isinstance(node.args[0], ast.Constant), f"{path}:{node.lineno}"
                given[node.args[0].value] += 1
    assert given == Counter(list(WARNINGS))


def test_a_warning_is_of_the_users_line_and_can_be_silenced_by_id() -> None:
    with pytest.warns(FutureWarning, match=r"\[FB003\]") as told:
        nn.init.uniform(fb.zeros(2))
    assert told[0].filename == __file__ and isinstance(told[0].message, FlambeauWarning)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", message=r".*\[FB003\]")
        nn.init.uniform(fb.zeros(2))
        with pytest.raises(FlambeauWarning):
            nn.LSTM(2, 2, dropout=0.5)
    with pytest.warns(RuntimeWarning, match="FB001"):
        config.from_environment({"FLAMBEAU_CACHE": "perhaps"}, config._warn)


def test_an_id_that_is_not_known_is_an_error() -> None:
    with pytest.raises(KeyError):
        warn("FB999", "nothing")
