"""Which line of the user's code an op belongs to."""
import os
from pathlib import Path

import pytest

import flambeau as fb
from flambeau.frontend import where


def test_files_are_named_from_where_they_are_looked_at(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    file = str(tmp_path / "part" / "train.py")
    monkeypatch.chdir(tmp_path)
    assert where._short(file) == os.path.join("part", "train.py")
    monkeypatch.chdir(tmp_path.parent)
    assert where._short(file) == os.path.join(tmp_path.name, "part", "train.py")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert where._short(file) == "train.py"


def test_functions_compile_in_a_folder_that_is_gone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    f = fb.compile(lambda x: x * 7 + 3)
    assert f(fb.ones(2)).tolist() == [10.0, 10.0]
    assert f.provenance() is not None and "kernel" in f.explain()
