"""`python -m flambeau bench`: the benchmarks, beside PyTorch and JAX where those are installed."""
from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence

from flambeau.programs import folder_of, reachable

__all__ = ["main"]

PARTS = {                                   # name -> (module of benchmarks/, what it measures)
    "steps": ("__main__", "whole training steps and kernels beside torch eager, torch.compile and JAX, with the losses"),
    "compile": ("compile_time", "first calls of programs that grow, cold and from disk"),
    "sizes": ("sizes", "one trace for all sizes against one for each"),
    "profile": ("profile_step", "where a step's time goes, kernel by kernel"),
    "gpu": ("gpu_check", "everything that needs a GPU, once"),
}


def main(arguments: Sequence[str]) -> int:
    """The exit code: the benchmark's own; 1 where the benchmarks are not there, 2 for a benchmark that there is not."""
    words = list(arguments)
    if not words or words[0] in ("-h", "--help"):
        print(usage())
        return 0
    if words[0] not in PARTS:
        print(f"bench: there is no {words[0]!r}\n\n{usage()}", file=sys.stderr)
        return 2
    folder = folder_of("benchmarks")
    if folder is None:
        print("bench runs the programs of benchmarks/, which this installation lacks: "
              "pip install --force-reinstall flambeau", file=sys.stderr)
        return 1
    reachable(folder.parent)
    module = importlib.import_module(f"benchmarks.{PARTS[words[0]][0]}")
    former, sys.argv = sys.argv, [f"flambeau bench {words[0]}", *words[1:]]
    try:
        return int(module.main() or 0)
    finally:
        sys.argv = former


def usage() -> str:
    told = "\n".join(f"  {name:<8}  {what}" for name, (_, what) in PARTS.items())
    return ("usage: python -m flambeau bench WHICH [options]\n\nMeasure this machine. "
            f"`bench WHICH --help` tells the options of each.\n\n{told}\n\nexamples:\n"
            "  python -m flambeau bench steps --quick\n  python -m flambeau bench steps mlp --json mlp.json\n\n"
            "Other work on the machine spoils what is measured: the benchmarks wait for quiet, and say so.")
