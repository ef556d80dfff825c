"""The documents are programs: every ```python block of a page runs, in order, in one namespace of its own.

A ```text block right after a python block is what that block prints; `...` in it stands for anything. Blocks marked
`python no-run` are read only. Links between the pages, and to files of the repository, lead somewhere.
"""
from __future__ import annotations

import doctest
import io
import os
import re
import subprocess
import sys
import types
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path

import pytest

from flambeau.ir.kinds import _KINDS
from flambeau.ir.op import OPS

ROOT = Path(__file__).resolve().parent.parent
PAGES = sorted((ROOT / "docs").rglob("*.md"))
FENCE = re.compile(r"^```(.*?)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^)#\s]+)(?:#[^)]*)?\)")
RUNNABLE = [p for p in PAGES if re.search(r"^```python$", p.read_text(encoding="utf-8"), re.MULTILINE)]
SAME = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


@dataclass(frozen=True)
class Block:
    """A fenced block: its language, text, first line in the page, and the text block it must print, if any."""

    language: str
    text: str
    line: int
    prints: str | None


def blocks_of(text: str) -> list[Block]:
    found = list(FENCE.finditer(text))
    blocks = []
    for block, after in zip(found, [*found[1:], None], strict=True):
        follows = after is not None and after[1] == "text" and not text[block.end():after.start()].strip()
        blocks.append(Block(block[1].strip(), block[2], text[:block.start()].count("\n") + 2,
                            after[2] if after is not None and follows else None))
    return blocks


def run_page(path: Path) -> int:
    """Run the page's python blocks; how many there were. Errors and traced locations name the page's own lines."""
    page = types.ModuleType(f"page_{path.stem}")
    sys.modules[page.__name__] = page
    declared, kinds = dict(OPS), dict(_KINDS)
    count = 0
    try:
        for block in blocks_of(path.read_text(encoding="utf-8")):
            if block.language != "python":
                continue
            count += 1
            printed = io.StringIO()
            with redirect_stdout(printed):
                exec(compile("\n" * (block.line - 1) + block.text, str(path), "exec"), page.__dict__)
            if block.prints is not None:
                matches = doctest.OutputChecker().check_output(block.prints, printed.getvalue(), SAME)
                assert matches, f"{path.name}:{block.line} prints\n\n{printed.getvalue()}\nnot\n\n{block.prints}"
    finally:
        del sys.modules[page.__name__]
        for name in set(OPS) - set(declared):       # what a page adds, other tests must not see
            del OPS[name]
        for name in set(_KINDS) - set(kinds):
            del _KINDS[name]
    return count


@pytest.mark.parametrize("path", RUNNABLE, ids=lambda p: str(p.relative_to(ROOT / "docs")))
def test_page_runs(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert run_page(path) > 0


def test_readme_tour_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert run_page(ROOT / "README.md") > 0


@pytest.mark.parametrize("path", [ROOT / "README.md", *PAGES], ids=lambda p: str(p.relative_to(ROOT)))
def test_links_lead_somewhere(path: Path) -> None:
    links = [link for link in LINK.findall(path.read_text(encoding="utf-8")) if "://" not in link]
    broken = [link for link in links if not (path.parent / link).exists()]
    assert not broken, f"{path.name}: {broken}"


def test_a_page_that_prints_something_else_is_found(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("```python\nprint(1 + 1)\n```\n\n```text\n3\n```\n", encoding="utf-8")
    with pytest.raises(AssertionError, match="page.md:2 prints"):
        run_page(page)


def test_a_page_with_wrong_code_names_its_line(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("# Title\n\n```python\nx = 1\n1 / 0\n```\n", encoding="utf-8")
    with pytest.raises(ZeroDivisionError) as info:
        run_page(page)
    assert info.traceback[-1].lineno == 4 and str(info.traceback[-1].path).endswith("page.md")     # counted from 0


def test_import_loads_no_compiler() -> None:
    """`import flambeau` is quick because LLVM and networkx wait for `fb.compile`."""
    code = "import sys, flambeau; print([m for m in ('numba', 'llvmlite', 'networkx') if m in sys.modules])"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True)
    assert done.stdout.strip() == "[]"
