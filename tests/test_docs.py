"""The documents are programs (docs/site/blocks.py), which run and print what they say. Links between the pages, and to
files of the repository, lead somewhere; commands and excerpts are those of today.
"""
from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

import blocks
import pytest

import dev
import flambeau as fb
from flambeau.__main__ import COMMANDS

ROOT = Path(__file__).resolve().parent.parent
PAGES = sorted((ROOT / "docs").rglob("*.md"))
LINK = re.compile(r"\]\(([^)#\s]+)(?:#[^)]*)?\)")
READ = [ROOT / "README.md", *PAGES, ROOT / "flambeau" / "course" / "README.md"]
RUNNABLE = [p for p in PAGES if re.search(r"^```python$", p.read_text(encoding="utf-8"), re.MULTILINE)]


def run_page(path: Path) -> int:
    """Run the page's blocks, and hold them to what it says they print; how many there were."""
    count = 0
    for block, printed in blocks.run_page(path):
        assert blocks.is_as_said(block, printed), (
            f"{path.name}:{block.line} prints\n\n{printed}\nnot\n\n{block.prints}")
        count += 1
    return count


@pytest.mark.parametrize("path", RUNNABLE, ids=lambda p: str(p.relative_to(ROOT / "docs")))
def test_page_runs(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert run_page(path) > 0


def test_readme_tour_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert run_page(ROOT / "README.md") > 0


def test_readme_begins_with_a_program_that_runs() -> None:
    """Its first block wants a loader, and is marked no-run for that."""
    (first, *_) = blocks.blocks_of((ROOT / "README.md").read_text(encoding="utf-8"))[1:]
    assert first.language == "python no-run"
    batches = [(fb.randn(8, 784), fb.randint(0, 10, (8,))) for _ in range(2)]
    found = {"loader": batches, "__name__": "readme", "print": lambda text: None}
    exec(compile("\n" * (first.line - 1) + first.text, str(ROOT / "README.md"), "exec"), found)
    assert found["train_step"].stats().calls == 2


def test_blocks_that_are_not_run_stand_in_a_source_file() -> None:
    source = {path: path.read_text(encoding="utf-8") for path in (ROOT / "flambeau" / "ir" / "ops").glob("*.py")}
    excerpts = [block for path in PAGES for block in blocks.blocks_of(path.read_text(encoding="utf-8"))
                if block.language == "python no-run"]
    assert excerpts
    for block in excerpts:
        assert any(block.text in text for text in source.values()), block.text


def test_no_dump_is_pasted() -> None:
    """A text block is what the block before it prints; blocks of no language are drawings and grammars."""
    pasted = []
    for path in READ:
        found = blocks.blocks_of(path.read_text(encoding="utf-8"))
        assert {block.language for block in found} <= {"python", "python no-run", "text", "sh", ""}, path
        pasted += [f"{path.name}:{block.line}" for before, block in zip([None, *found], found, strict=False)
                   if block.language == "text" and not (before and before.language == "python" and before.prints)]
    assert pasted == []


def commands() -> list[list[str]]:
    """The words of each line of all shell blocks."""
    lines = [line for path in READ for block in blocks.blocks_of(path.read_text(encoding="utf-8"))
             if block.language == "sh" for line in block.text.splitlines()]
    return [words for line in lines if (words := shlex.split(line, comments=True))]


def test_commands_are_there() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    for words in commands():
        words = [word for word in words if not re.match(r"[A-Z_]+=", word)]
        match words:
            case ["make", target]:
                assert target in dev.COMMANDS
            case ["python", "-m", "flambeau", command, *_]:
                assert command in COMMANDS
            case ["python", file, *_]:
                assert (ROOT / file).exists(), file
            case ["pip", "install", *_, what]:
                named = re.search(r"\[(.*)\]", what)
                assert named is None or named[1] in extras, what
            case _:
                raise AssertionError(f"nothing is known of {words}")


def test_commands_run(request: pytest.FixtureRequest, tmp_path: Path) -> None:
    """With --docs-all, what needs neither a GPU nor an installation is run, in an empty folder."""
    if not request.config.getoption("--docs-all"):
        pytest.skip("run with --docs-all")
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    for words in commands():
        settings = [word for word in words if re.match(r"[A-Z_]+=", word)]
        call = words[len(settings):]
        if call[0] == "python" and "cuda" not in call:
            call = [str(ROOT / word) if (ROOT / word).is_file() else word for word in call[1:]]
            done = subprocess.run([sys.executable, *call], cwd=tmp_path, capture_output=True, text=True,
                                  env=environment | dict(word.split("=", 1) for word in settings))
            assert done.returncode in (0, 1), f"{words}: {done.stderr}"     # 1: an exercise that has gaps still
            assert "Traceback" not in done.stderr, done.stderr


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


def test_a_page_shows_what_it_prints_now(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("```python\nx = 1\n```\n\n```python\nprint(x + 1)\n```\n\n```text\n...\n```\n\nand\n\n```sh\nls\n```\n",
                    encoding="utf-8")
    assert blocks.with_prints(page) == page.read_text(encoding="utf-8").replace("...", "2")


def test_a_page_with_wrong_code_names_its_line(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("# Title\n\n```python\nx = 1\n1 / 0\n```\n", encoding="utf-8")
    with pytest.raises(ZeroDivisionError) as info:
        run_page(page)
    assert info.traceback[-1].lineno == 4 and str(info.traceback[-1].path).endswith("page.md")     # counted from 0


def test_import_loads_no_compiler() -> None:
    """`import flambeau` is quick because LLVM and networkx wait, and little of the standard library is loaded that NumPy
    doesn't load anyway."""
    slow = ("numba", "llvmlite", "networkx", "numpy.random", "concurrent.futures", "ctypes.util", "importlib.resources",
            "logging", "multiprocessing", "random", "shutil", "statistics", "subprocess", "sysconfig", "tempfile")
    code = f"import sys, flambeau; print([m for m in {slow} if m in sys.modules])"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True)
    assert done.stdout.strip() == "[]"
