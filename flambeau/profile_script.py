"""`python -m flambeau profile script.py [-- arguments]`: run a script, then tell where its time went."""
from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from contextlib import nullcontext, redirect_stdout
from pathlib import Path

from flambeau.frontend.call.compile import keeping
from flambeau.frontend.profile.rows import SORT_KEYS
from flambeau.frontend.profile.session import profile
from flambeau.scripts import asked, run_script

__all__ = ["main"]


def main(arguments: Sequence[str]) -> int:
    """The exit code: 0 done, 1 where nothing ran that could be timed, else the script's own."""
    parser = argparse.ArgumentParser(
        prog="python -m flambeau profile", formatter_class=argparse.RawDescriptionHelpFormatter,
        description="Run a script and time every kernel of its compiled functions and every eager op: where the time\n"
                    "goes, by your line and Module, and how near each comes to what this machine can do.",
        epilog="examples:\n  python -m flambeau profile examples/mlp.py -- --epochs 50\n"
               "  python -m flambeau profile train.py --group module --rows 10\n"
               "  python -m flambeau profile train.py --trace trace.json    # for ui.perfetto.dev\n\n"
               "The first calls compile, which is no kernel's time: profile enough steps. Exit code: the script's own; 1\n"
               "where nothing ran that could be timed, 2 asked wrongly, 130 after Ctrl-C.")
    parser.add_argument("script", type=Path, help="a Python program; what follows -- is for it")
    parser.add_argument("--rows", type=int, default=40, help="of the table (40; -1 for all)")
    parser.add_argument("--sort", choices=list(SORT_KEYS), default="self_cpu_time_total")
    parser.add_argument("--group", choices=["kernel", "name", "module", "line", "phase", "kind"], default="kernel")
    parser.add_argument("--trace", type=Path, metavar="FILE", help="write what ran when, as Chrome and Perfetto read it")
    parser.add_argument("--roofline", type=Path, metavar="FILE", help="draw kernels under the machine's peaks (matplotlib)")
    parser.add_argument("--json", action="store_true", help="the rows as JSON, instead of the table; what the script "
                                                            "prints goes to stderr")
    options, given = asked(parser, arguments)
    taken = profile()
    aside = redirect_stdout(sys.stderr) if options.json else nullcontext()
    with keeping(), taken, aside:           # rows have names of functions that are there
        status = run_script(options.script, given)
    rows = taken.key_averages(options.group)
    if not rows:
        print(f"{options.script} ran no kernel and no eager op: there is nothing to tell", file=sys.stderr)
        return status or 1
    if options.json:
        print(json.dumps([_plain(row) for row in rows], indent=1))
    else:
        print(taken.table(options.sort, options.rows, options.group))
    for path, write in ((options.trace, taken.export_chrome_trace), (options.roofline, taken.roofline)):
        if path is not None:
            write(path)
            print(f"wrote {path}", file=sys.stderr if options.json else sys.stdout)
    return status


def _plain(row: object) -> dict[str, object]:
    return {name: value for name, value in vars(row).items() if isinstance(value, (str, int, float, tuple, list))}
