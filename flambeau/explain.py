"""`python -m flambeau explain script.py [-- arguments]`: run a script, then tell what its compiled functions became."""
from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from contextlib import nullcontext, redirect_stdout
from pathlib import Path

from flambeau.frontend.call.compile import keeping, write_report
from flambeau.frontend.call.facts import facts
from flambeau.frontend.profile.session import profile
from flambeau.scripts import asked, run_script

__all__ = ["main"]


def main(arguments: Sequence[str]) -> int:
    """The exit code: 0 done, 1 where the script compiled nothing, else the script's own."""
    parser = argparse.ArgumentParser(
        prog="python -m flambeau explain", formatter_class=argparse.RawDescriptionHelpFormatter,
        description="Run a script under a profile, print explain() of each compiled function that it called, and write\n"
                    "the explorer: one HTML file with the graph after each pass, kernels, memory and times.",
        epilog="examples:\n  python -m flambeau explain examples/mlp.py -- --epochs 20\n"
               "  python -m flambeau explain train.py --out step.html --no-profile\n"
               "  python -m flambeau explain train.py --json | jq '.functions[0].programs[0].steps[].does'\n\n"
               "Exit code: the script's own; 1 where it compiled nothing, 2 asked wrongly, 130 after Ctrl-C.")
    parser.add_argument("script", type=Path, help="a Python program; what follows -- is for it")
    parser.add_argument("--out", type=Path, help="the HTML file to write (SCRIPT-report.html, here)")
    parser.add_argument("--no-profile", action="store_true", help="do not time the kernels while it runs")
    parser.add_argument("--json", action="store_true", help="tell it as JSON; what the script prints goes to stderr, and "
                                                            "an HTML file is written where --out says so")
    options, given = asked(parser, arguments)
    with (keeping() as made, nullcontext() if options.no_profile else profile(),
          redirect_stdout(sys.stderr) if options.json else nullcontext()):
        status = run_script(options.script, given)
    called = [function for function in made if function.signatures]
    if not called:
        print(f"{options.script} called no compiled function: there is nothing to explain", file=sys.stderr)
        return status or 1
    out = options.out or (None if options.json else Path(f"{options.script.stem}-report.html"))
    if options.json:
        told = [facts(function.name, function.signatures, function.stats()) for function in called]
        print(json.dumps({"script": str(options.script), "functions": told}, indent=1))
    else:
        print(*[function.explain() for function in called], sep="\n")
    if out is not None:
        write_report(out, options.script.name, called)
        print(f"wrote {out}", file=sys.stderr if options.json else sys.stdout)
    return status
