"""A chapter's page: text in the percent format, which Jupytext and editors know; run here, or made a notebook of.

A page is not kept as a notebook too: `python -m flambeau course page 3` makes it, with `--run` together with all it
prints and draws."""
from __future__ import annotations

import ast
import base64
import contextlib
import io
import json
import re
import sys
import types
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from flambeau.course.exercises import CHAPTERS, HERE
from flambeau.course.library import ember

HEADER = """# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#   kernelspec:
#     name: python3
#     display_name: Python 3
#     language: python
# ---

"""
OF_FOLDER = """import sys
sys.path.insert(0, {folder!r})      # where your ember is
"""


@dataclass
class Cell:
    kind: str                   # "markdown" or "code"
    text: str
    line: int                   # its first line in the page
    outputs: list[dict[str, Any]] = field(default_factory=list)


def path_of(number: int) -> Path:
    chapter = CHAPTERS[number]
    return HERE / "pages" / f"{chapter.number:02}_{chapter.name}.py"


def cells_of(text: str) -> list[Cell]:
    """The cells of a percent-format file."""
    cells: list[Cell] = []
    for line_number, line in enumerate(text.splitlines(), 1):
        if line.startswith("# %%"):
            cells.append(Cell("markdown" if "[markdown]" in line else "code", "", line_number + 1))
        elif cells:
            cell = cells[-1]
            cell.text += (re.sub("^# ?", "", line) if cell.kind == "markdown" else line) + "\n"
    for cell in cells:
        cell.text = cell.text.strip("\n")
    return cells


def run_page(number: int, folder: Path | None = None) -> list[Cell]:
    """Run a chapter's code cells in one namespace, with the solutions or a learner's library; the cells have outputs then.
    Errors name the page's own lines."""
    path = path_of(number)
    cells = cells_of(path.read_text(encoding="utf-8"))
    page = types.ModuleType(f"page_{number}")
    sys.modules[page.__name__] = page
    try:
        with ember((folder / "ember",) if folder else ()):
            for cell in cells:
                if cell.kind == "code":
                    cell.outputs = run_cell(cell, page, path)
    finally:
        del sys.modules[page.__name__]
    return cells


def run_cell(cell: Cell, page: types.ModuleType, path: Path) -> list[dict[str, Any]]:
    tree = ast.parse("\n" * (cell.line - 1) + cell.text, str(path))
    last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
    printed = io.StringIO()
    outputs: list[dict[str, Any]] = []
    with contextlib.redirect_stdout(printed):
        exec(compile(tree, str(path), "exec"), page.__dict__)
        shown = eval(compile(ast.Expression(last.value), str(path), "eval"), page.__dict__) if last else None
    if printed.getvalue():
        outputs.append({"output_type": "stream", "name": "stdout", "text": printed.getvalue()})
    if shown is None or type(shown).__module__.split(".")[0] == "matplotlib":
        pass                                    # what is drawn comes as a picture
    elif hasattr(shown, "_repr_html_"):
        outputs.append(_display({"text/html": shown._repr_html_()}))
    else:
        outputs.append(_display({"text/plain": repr(shown)}))
    return outputs + [_display({"image/png": picture}) for picture in pictures()]


def _display(data: dict[str, str]) -> dict[str, Any]:
    return {"output_type": "display_data", "data": data, "metadata": {}}


def pictures() -> list[str]:
    """The figures that are open, as PNG in base64; they are closed."""
    plt = sys.modules.get("matplotlib.pyplot")
    if plt is None:
        return []
    found = []
    for number in plt.get_fignums():
        stream = io.BytesIO()
        plt.figure(number).savefig(stream, format="png", dpi=110, bbox_inches="tight", facecolor="white")
        found.append(base64.b64encode(stream.getvalue()).decode())
    plt.close("all")
    return found


def notebook(cells: list[Cell], first: str = "") -> dict[str, Any]:
    """Jupyter's form of the cells, nbformat 4.5; `first` is code to begin with."""
    all_cells = ([Cell("code", first, 0)] if first else []) + cells
    return {
        "nbformat": 4, "nbformat_minor": 5,
        "metadata": {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"},
                     "jupytext": {"formats": "ipynb,py:percent"}},
        "cells": [{"id": f"cell-{number}", "cell_type": cell.kind, "metadata": {}, "source": cell.text,
                   **({"execution_count": None, "outputs": cell.outputs} if cell.kind == "code" else {})}
                  for number, cell in enumerate(all_cells)],
    }


def write(number: int, out: Path, folder: Path | None = None, *, run: bool = False, text: bool = False) -> Path:
    """Write chapter `number` to the folder `out` as a notebook, or as text; the path. `folder` has a learner's library."""
    out.mkdir(parents=True, exist_ok=True)
    source = path_of(number)
    first = OF_FOLDER.format(folder=str(folder.resolve())) if folder else (
        "from flambeau.course.exercises import HERE\n" + OF_FOLDER.format(folder="").replace("''", "str(HERE)"))
    if text:
        path = out / source.name
        path.write_text(f"{HEADER}# %%\n{first}\n{source.read_text(encoding='utf-8')}", encoding="utf-8")
        return path
    cells = run_page(number, folder) if run else cells_of(source.read_text(encoding="utf-8"))
    path = out / f"{source.stem}.ipynb"
    path.write_text(json.dumps(notebook(cells, first), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return path
