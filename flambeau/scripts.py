"""What commands share: running a user's script as a program, for those that look at what it does, and options."""
from __future__ import annotations

import argparse
import runpy
import sys
from collections.abc import Sequence
from pathlib import Path

__all__ = ["asked", "positive", "run_script"]


def asked(parser: argparse.ArgumentParser, arguments: Sequence[str]) -> tuple[argparse.Namespace, list[str]]:
    """The command's options, which have a `script`, and what comes after `--`, for the script. Leaves with 2 where there is
    no such file."""
    words = list(arguments)
    given = words[words.index("--") + 1:] if "--" in words else []
    options = parser.parse_args(words[:words.index("--")] if "--" in words else words)
    if not options.script.is_file():
        parser.error(f"there is no file {options.script}")
    return options, given


def run_script(script: Path, given: Sequence[str]) -> int:
    """Run it as `python script given...` would; its exit code."""
    argv, path = sys.argv, list(sys.path)
    sys.argv, sys.path[0] = [str(script), *given], str(script.resolve().parent)
    try:
        runpy.run_path(str(script), run_name="__main__")
    except SystemExit as left:
        if isinstance(left.code, str):
            print(left.code, file=sys.stderr)
        return left.code if isinstance(left.code, int) else int(left.code is not None)
    finally:
        sys.argv, sys.path[:] = argv, path
    return 0


def positive(text: str) -> int:
    """An option that is a number of 1 or more."""
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of 1 or more")
    return int(text)
