"""`python -m flambeau COMMAND`: the command line."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Sequence
from importlib.metadata import version

from flambeau.runtime.interrupts import not_swallowed

# command -> (what it does, module with main(arguments) -> exit code). Imported when asked for: the demo needs
# optional packages, and `doctor` must work where something else does not.
COMMANDS = {
    "demo": ("train a compiled network on handwritten digits and tell what the compiler did", "flambeau.demo"),
    "train": ("train an example: points with a live border, digits, LeNet, sentiment, a small GPT", "flambeau.train"),
    "explain": ("run a script, tell what its compiled functions became, and write it as one HTML file", "flambeau.explain"),
    "profile": ("run a script and tell where its time went, by kernel, line and Module", "flambeau.profile_script"),
    "bench": ("measure this machine beside PyTorch and JAX", "flambeau.bench"),
    "reduce": ("check the text of a graph, and shrink it where the compiler is wrong", "flambeau.reduce"),
    "course": ("a course: build a tensor library and its compiler; exercises that are checked", "flambeau.course"),
    "doctor": ("say what this machine offers and whether Flambeau works on it", "flambeau.doctor"),
    "cache": ("say what compiled programs take on disk, list them, check them, remove them", "flambeau.cache"),
}
EXIT_CODES = "exit codes: 0 done, 1 failed, 2 asked wrongly, 130 interrupted"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; the exit code: 0 done, 1 failed, 2 asked wrongly, 130 interrupted."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    if words[:1] == ["help"] and words[1:]:
        words = [words[1], "--help"]
    if not words or words[0] in {"-h", "--help", "help"}:
        print(usage())
        return 0
    if words[0] in {"-V", "--version"}:
        print(f"flambeau {version('flambeau')}")
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
    except BrokenPipeError:                 # as in `... | head`: nobody reads on
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


def usage() -> str:
    width = max(map(len, COMMANDS))
    told = "\n".join(f"  {name:<{width}}  {what}" for name, (what, _) in COMMANDS.items())
    return (f"usage: python -m flambeau COMMAND [options]\n\n{told}\n\n`python -m flambeau COMMAND --help` tells more. "
            f"{EXIT_CODES}.")


if __name__ == "__main__":
    sys.exit(main())
