"""What is written from the rows of elementwise ops is what they say now."""

from __future__ import annotations

import importlib
import inspect
import pickle
from pathlib import Path

import pytest
from generated import PACKAGE, files

import flambeau as fb
from flambeau.frontend.functions import rows


@pytest.mark.parametrize("path", files(), ids=lambda path: path.name)
def test_file_is_current(path: Path) -> None:
    assert path.read_text(encoding="utf-8") == files()[path], "run python tests/frontend/generated.py"


@pytest.mark.parametrize("name", rows.FUNCTIONS)
def test_a_row_is_a_function_under_each_of_its_names(name: str) -> None:
    function = getattr(fb, name)
    assert inspect.unwrap(function) is rows.FUNCTIONS[name] and pickle.loads(pickle.dumps(function)) is function
    assert Path(inspect.getsourcefile(function) or "").is_relative_to(PACKAGE) and function.__doc__
    assert getattr(importlib.import_module(function.__module__), function.__name__) is function


def test_every_row_is_called_by_one_name_only_once() -> None:
    names = [n for op, s in rows.rows() for n in ((s.name or op.name), *s.aliases)]
    assert len(names) == len(set(names))
