"""`python -m flambeau COMMAND`: the command line."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence

from flambeau.runtime.interrupts import not_swallowed

# command -> (what it does, module with main(arguments) -> exit code). Imported when asked for: the demo needs
# optional packages, and `doctor` must work where something else does not.
COMMANDS = {
    "cache": ("say what compiled programs take on disk, list them, check them, remove them", "flambeau.cache"),
    "course": ("a course: build a tensor library and its compiler; exercises that are checked", "flambeau.course"),
    "demo": (
        "train a compiled network on handwritten digits and tell what the compiler did",
        "flambeau.demo",
    ),
    "explain": (
        "run a script, tell what its compiled functions became, and write it as one HTML file",
        "flambeau.explain",
    ),
    "doctor": ("say what this machine offers and whether Flambeau works on it", "flambeau.doctor"),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; the exit code: 0 done, 1 failed, 2 asked wrongly, 130 interrupted."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    if not words or words[0] in {"-h", "--help", "help"}:
        print(usage())
        return 0
    if words[0] not in COMMANDS:
        print(f"flambeau: no command {words[0]!r}\n\n{usage()}", file=sys.stderr)
        return 2
    try:
        with not_swallowed():
            return int(importlib.import_module(COMMANDS[words[0]][1]).main(words[1:]))
    except KeyboardInterrupt:
        print("\ninterrupted", file=sys.stderr)
        return 130


def usage() -> str:
    width = max(map(len, COMMANDS))
    told = "\n".join(f"  {name:<{width}}  {what}" for name, (what, _) in COMMANDS.items())
    return f"usage: python -m flambeau COMMAND [options]\n\n{told}"


if __name__ == "__main__":
    sys.exit(main())
