"""Builds the documents as a site that needs no network: `python dev.py docs`, or `python docs/site` where Sphinx is.

    python docs/site [--out build/docs]

A warning fails the build, a link that leads nowhere among them.

The pages are those of docs/, which stay what they are: staging.py lays them out for Sphinx, adds a page for each source
file they point to, and reference.py one for each namespace, from its docstrings.
"""

from __future__ import annotations

import argparse
import importlib.util
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
NEEDED = ("sphinx", "myst_parser", "furo")


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python docs/site", description="Build the documents as a site for a browser.")
    parser.add_argument("--out", type=Path, default=ROOT / "build" / "docs", help="where the site goes (build/docs)")
    chosen = parser.parse_args(argv)
    absent = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if absent:
        print(f"docs/site: {', '.join(absent)} not installed; run: pip install -e '.[docs]'", file=sys.stderr)
        return 1
    sys.path.insert(0, str(ROOT))
    return build(chosen.out.resolve())


def build(out: Path) -> int:
    """Stage the pages and run Sphinx over them; its exit code."""
    # Only here: --help and the sentence about the extra need neither.
    from sphinx.cmd.build import main as sphinx
    from staging import stage

    started = time.monotonic()
    pages = stage(ROOT, out / "source")
    arguments = ["-q", "-b", "html", "-c", str(Path(__file__).parent), "-d", str(out / "doctrees")]
    arguments += ["--fail-on-warning", "--keep-going", str(out / "source"), str(out / "html")]
    status = sphinx(arguments)
    if status == 0:
        print(f"{pages} pages in {time.monotonic() - started:.0f} s: {(out / 'html' / 'index.html').as_uri()}")
    return status


if __name__ == "__main__":
    sys.exit(main())
