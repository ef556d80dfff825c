"""docs/surface.md says what is there."""

from __future__ import annotations

import pytest
import surface_table

import flambeau as fb


def test_page_is_current() -> None:
    assert surface_table.PAGE.read_text(encoding="utf-8") == surface_table.page(), (
        "run python tests/frontend/surface_table.py")


def test_names_of_pytorch_are_current() -> None:
    pytest.importorskip("torch")
    torch_surface = pytest.importorskip("torch_surface")
    assert surface_table.namespaces() == {name: torch_surface.public(name) for name in torch_surface.NAMESPACES}


@pytest.mark.torch
@pytest.mark.parametrize("name", ["abs", "gather", "linalg.det"])
def test_measures_are_current(name: str) -> None:
    pytest.importorskip("torch")
    torch_surface = pytest.importorskip("torch_surface")
    row = next(row for row in surface_table.measured_rows() if row["name"] == name)
    assert row == {"name": name, **torch_surface.measured(name)}, (
        "run python tests/frontend/torch_surface.py measured, then surface_table.py")


@pytest.mark.torch
@pytest.mark.parametrize("name", ["nn.Linear", "optim.Adam", "func.grad"])
def test_measures_of_modules_are_current(name: str) -> None:
    pytest.importorskip("torch")
    torch_module_surface = pytest.importorskip("torch_module_surface")
    rows = {row["name"]: row for row in surface_table.rows_of(surface_table.MODULES_MEASURED)}
    assert list(rows) == torch_module_surface.names()
    assert rows[name] == {"name": name, **torch_module_surface.measured(name)}, (
        "run python tests/frontend/torch_module_surface.py, then surface_table.py")


def test_missing_names_have_reasons() -> None:
    said = {name: surface_table.reason(name) for name in ("sparse_coo_tensor", "quint4x2", "complex32", "uint16", "lobpcg")}
    assert said["lobpcg"] == surface_table.OTHER and len(set(said.values())) == 5
    assert not any(hasattr(fb, name) for name in said)
