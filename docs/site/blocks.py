"""The documents are programs: every ```python block of a page runs, in order, in one namespace of its own.

A ```text block right after a python block is what that block prints; `...` in it stands for anything. Blocks marked
`python no-run` are read only.
"""

from __future__ import annotations

import doctest
import io
import re
import sys
import tempfile
import types
from collections.abc import Iterator
from contextlib import chdir, redirect_stdout
from dataclasses import dataclass
from pathlib import Path

from flambeau.ir.kinds import _KINDS
from flambeau.ir.op import OPS

FENCE = re.compile(r"^```(.*?)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
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
    for block, after in zip(found, [*found[1:], None], strict=False):
        follows = after is not None and after[1] == "text" and not text[block.end():after.start()].strip()
        blocks.append(Block(block[1].strip(), block[2], text[:block.start()].count("\n") + 2,
                            after[2] if after is not None and follows else None))
    return blocks


def run_page(path: Path) -> Iterator[tuple[Block, str]]:
    """Run the page's python blocks: each with what it printed. Errors and traced locations name the page's own lines.
    What the page declares (ops, kinds of kernel) is gone after the last one."""
    page = types.ModuleType(f"page_{path.stem}")
    sys.modules[page.__name__] = page
    declared, kinds = dict(OPS), dict(_KINDS)
    try:
        for block in blocks_of(path.read_text(encoding="utf-8")):
            if block.language == "python":
                printed = io.StringIO()
                with redirect_stdout(printed):
                    exec(compile("\n" * (block.line - 1) + block.text, str(path), "exec"), page.__dict__)
                yield block, printed.getvalue()
    finally:
        del sys.modules[page.__name__]
        for name in set(OPS) - set(declared):
            del OPS[name]
        for name in set(_KINDS) - set(kinds):
            del _KINDS[name]


def is_as_said(block: Block, printed: str) -> bool:
    """Whether a block printed what the page says, if it says anything."""
    return block.prints is None or doctest.OutputChecker().check_output(block.prints, printed, SAME)


def with_prints(path: Path) -> str:
    """The page's text, with what its blocks print now in the place of what it says that they print. It runs in an empty
    folder."""
    text = path.read_text(encoding="utf-8")
    with tempfile.TemporaryDirectory() as folder, chdir(folder):
        printed = {block.line: printed for block, printed in run_page(path) if block.prints is not None}

    before = None

    def now(match: re.Match[str]) -> str:
        nonlocal before
        line, before = before, text[:match.start()].count("\n") + 2
        return f"```text\n{printed[line].rstrip()}\n```" if match[1] == "text" and line in printed else match[0]

    return FENCE.sub(now, text)
