"""`python -m flambeau explain script.py [-- arguments]`: run a script, then tell what its compiled functions became."""
from __future__ import annotations

import argparse
import runpy
import sys
from collections.abc import Sequence
from pathlib import Path

from flambeau.frontend.call.compile import CompiledFunction, compiled_functions, write_report
from flambeau.frontend.profile.session import profile

__all__ = ["main"]


def main(arguments: Sequence[str]) -> int:
    """The exit code: 0 done, 1 where the script compiled nothing, else the script's own."""
    words = list(arguments)
    given = words[words.index("--") + 1:] if "--" in words else []
    words = words[:words.index("--")] if "--" in words else words
    parser = argparse.ArgumentParser(prog="python -m flambeau explain", description=__doc__)
    parser.add_argument("script", type=Path)
    parser.add_argument("--out", type=Path, help="the HTML file to write (SCRIPT-report.html, here)")
    parser.add_argument("--no-profile", action="store_true", help="do not time the kernels while it runs")
    options = parser.parse_args(words)
    made: list[CompiledFunction] = []               # whatever the script lets go of
    status = _run(options.script, given, not options.no_profile, made)
    called = [function for function in made if function.signatures]
    if not called:
        print(f"{options.script} called no compiled function: there is nothing to explain", file=sys.stderr)
        return status or 1
    for function in called:
        print(function.explain())
    out = options.out or Path(f"{options.script.stem}-report.html")
    write_report(out, options.script.name, called)
    print(f"wrote {out}")
    return status


def _run(script: Path, given: Sequence[str], is_timed: bool, made: list[CompiledFunction]) -> int:
    """Run it as a program; its exit code. made: gets every compiled function."""
    argv, path = sys.argv, list(sys.path)
    sys.argv, sys.path[0] = [str(script), *given], str(script.resolve().parent)
    taken = profile()
    if is_timed:
        taken.start()
    try:
        names = runpy.run_path(str(script), run_name="__main__")
        made += sorted(compiled_functions, key=lambda function: function.name)
        del names
    except SystemExit as left:
        made += sorted(compiled_functions, key=lambda function: function.name)
        return left.code if isinstance(left.code, int) else int(left.code is not None)
    finally:
        if is_timed:
            taken.stop()
        sys.argv, sys.path[:] = argv, path
    return 0
