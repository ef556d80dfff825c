"""`python -m flambeau reduce FILE`: check a graph's text on arrays, and shrink it if the compiler gets it wrong."""
from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from flambeau.compiler import compile_graph
from flambeau.errors import FlambeauError, VerificationError
from flambeau.ir.graph import Graph
from flambeau.ir.graph.parser import parse
from flambeau.ir.types import TensorType
from flambeau.repro import call_on_arrays

__all__ = ["main"]


def main(arguments: Sequence[str]) -> int:
    """The exit code: 0 where the compiler is right about it, 1 where it is not, 2 for what is no graph."""
    parser = argparse.ArgumentParser(
        prog="python -m flambeau reduce", formatter_class=argparse.RawDescriptionHelpFormatter,
        description="Compile the text of a graph, check every pass and kernel on random numbers, and where one is wrong\n"
                    "print the smallest program that shows it.",
        epilog="examples:\n  FLAMBEAU_DUMP=dumps python train.py\n"
               "  python -m flambeau reduce dumps/000-step/00-input.txt\n\n"
               "fb.compile(f, verify=True) does the same on the numbers that f is called with.")
    parser.add_argument("file", type=Path, help='the text of a graph, as f.ir("graph") gives it; - for what is piped in')
    parser.add_argument("--seed", type=int, default=0, help="of the numbers (0)")
    parser.add_argument("--tries", type=int, default=3, metavar="N", help="how many sets of numbers (3)")
    parser.add_argument("--backend", default=None, help='"cpu" or "interpret"')
    parser.add_argument("--json", action="store_true", help="what was found as JSON")
    options = parser.parse_args(list(arguments))
    try:
        graph = parse(sys.stdin.read() if str(options.file) == "-" else options.file.read_text(encoding="utf-8"))
        if not all(value.type.is_static for value in graph.inputs):
            raise FlambeauError("its sizes have names: write numbers in their place")
        compiled = compile_graph(graph, verify=True, backend=options.backend)
    except (OSError, UnicodeDecodeError, FlambeauError) as error:
        print(f"reduce: {options.file}: {error}", file=sys.stderr)
        return 2
    for number in range(options.tries):
        try:
            call_on_arrays(compiled, numbers(graph, options.seed + number))
        except VerificationError as error:
            print(json.dumps({"error": error.message, "blame": error.blame, "repro": str(error.repro or "")})
                  if options.json else error)
            return 1
        except FlambeauError as error:                  # indices and matrices may have to be of a kind
            print(f"reduce: seed {options.seed + number}: {error.message}", file=sys.stderr)
    told = f"{graph.name}: {len(graph)} nodes, {len(compiled.kernels)} kernels: right on {options.tries} sets of numbers"
    print(json.dumps({"error": None}) if options.json else told)
    return 0


def numbers(graph: Graph, seed: int) -> list[np.ndarray]:
    """Random arrays for the inputs of a graph, in storage layout."""
    rng = np.random.default_rng(seed)
    return [_array(value.type, rng) for value in graph.inputs]


def _array(type: TensorType, rng: np.random.Generator) -> np.ndarray:
    shape, dtype = type.static_shape, type.dtype
    if dtype.name == "bf16":
        return (rng.standard_normal(shape).astype(np.float32).view(np.uint32) >> 16).astype(np.uint16)
    if dtype.is_floating_point:
        return np.asarray(rng.standard_normal(shape)).astype(dtype.storage)
    return np.asarray(rng.integers(0, 2, shape)).astype(dtype.storage)
