"""A chapter of the course -> a page, with what its code printed and drew when the site was built."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from flambeau.course.exercises import CHAPTERS
from flambeau.course.pages import Cell, cells_of, path_of, run_page


def chapters(folder: Path, run: bool) -> Iterator[tuple[Path, str]]:
    """(the chapter's file, its text as Markdown) for each chapter that is written. Pictures go to `folder`."""
    for number in range(len(CHAPTERS)):
        path = path_of(number)
        if path.exists():
            cells = run_page(number) if run else cells_of(path.read_text(encoding="utf-8"))
            yield path, "\n\n".join(_text(cell, f"{path.stem}-{n}", folder) for n, cell in enumerate(cells))


def _text(cell: Cell, name: str, folder: Path) -> str:
    if cell.kind == "markdown":
        return cell.text
    shown = [_output(output, f"{name}-{n}.png", folder) for n, output in enumerate(cell.outputs)]
    return "\n\n".join([f"```python\n{cell.text}\n```", *shown])


def _output(output: dict[str, Any], name: str, folder: Path) -> str:
    data = output.get("data", {"text/plain": output.get("text", "")})
    if "image/png" in data:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(base64.b64decode(data["image/png"]))
        return f"![]({name})"
    if "text/html" in data:
        return f"```{{raw}} html\n{data['text/html']}\n```"
    return f"```text\n{data['text/plain'].rstrip()}\n```"
