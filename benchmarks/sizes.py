"""python -m benchmarks.sizes: a train step compiled once for all batch sizes, beside one compiled for each.

For every workload and size: the time of a call by the program for all sizes and by that for one, in turns; what the first
call of a size took by the former, and how many kernels it had to compile. Losses of both must agree. Markdown to stdout;
--json writes everything measured. Needs nothing but Flambeau. Kernels are looked for on disk: FLAMBEAU_CACHE=0 to see what
compiling them takes.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

import flambeau as fb
from benchmarks import report
from benchmarks.peers.flambeau_peer import step_of
from benchmarks.workloads import Train, find

WORKLOADS = ("mlp", "digits", "lenet", "gpt1")
SIZES = (1, 2, 3, 8, 17, 32, 64, 100, 128, 256)
ROUNDS = 15
ROUND_S = 0.02  # of calls in a row, by each in turn
TOLERANCE = 1e-3  # of a first loss, relative: sums of other orders


@dataclass
class Point:
    """One size. Seconds: of a call, and of the first one by the program for all sizes; kernels: compiled in that."""

    size: int
    dynamic: float
    static: float
    ratio: float  # median over rounds of static / dynamic: above 1 the program for all sizes is faster
    first: float
    kernels: int
    traces: int  # of the program for all sizes, so far


def main(arguments: list[str] | None = None) -> int:
    """Exits 1 where the two disagree."""
    options = _parser().parse_args(arguments)
    fb.set_num_threads(options.threads)
    about, found, agree = report.machine(), {}, True
    print(f"# Sizes: {about['cpu']}, {options.threads} threads, load {about['load_average_at_start']:.1f}\n", flush=True)
    for name in options.workloads or WORKLOADS:
        points = []
        print(f"## {name}\n\n{HEAD}", flush=True)
        try:
            for point in measured(name, options.sizes, options.rounds):
                points.append(point)
                print(_row(point), flush=True)
        except Disagreement as error:
            print(f"\n{error}", flush=True)
            agree = False
        if points:
            print(f"\nmedian {statistics.median(p.ratio for p in points):.2f}, least {min(p.ratio for p in points):.2f}\n")
        found[name] = [asdict(point) for point in points]
    if options.json:
        options.json.write_text(json.dumps({"machine": about, "threads": options.threads, "workloads": found}, indent=1))
    return int(not agree)


class Disagreement(Exception):
    """The two programs gave different losses."""


def measured(name: str, sizes: Sequence[int], rounds: int = ROUNDS) -> Iterator[Point]:
    """The points of one workload. Raises Disagreement."""
    workload = find(name)
    assert isinstance(workload, Train), f"{name} is no train step"
    weights = workload.weights(np.random.default_rng(0))
    dynamic = step_of(workload, weights, dynamic=True)
    for size in sizes:
        arrays = workload.data(np.random.default_rng(1))[0]
        lengths = [len(array) * size // len(arrays[0]) for array in arrays]
        batch = [fb.from_numpy(np.resize(array, (n, *array.shape[1:]))) for n, array in zip(lengths, arrays, strict=True)]
        first = _seconds(dynamic, batch)
        kernels = dynamic.stats().n_new_kernels
        static = step_of(workload, weights, dynamic=False)
        losses = step_of(workload, weights, dynamic=True)(*batch).item(), static(*batch).item()
        if not math.isclose(*losses, rel_tol=TOLERANCE, abs_tol=TOLERANCE):
            raise Disagreement(f"{name}, batch {size}: the losses are {losses[0]} and {losses[1]}")
        times = [(_per_call(dynamic, batch), _per_call(static, batch)) for _ in range(rounds)]
        yield Point(size, statistics.median(d for d, _ in times), statistics.median(s for _, s in times),
                    statistics.median(s / d for d, s in times), first, kernels, len(dynamic.signatures))


def _seconds(step: Callable[..., Any], batch: Sequence[fb.Tensor]) -> float:
    started = time.perf_counter()
    step(*batch)
    return time.perf_counter() - started


def _per_call(step: Callable[..., Any], batch: Sequence[fb.Tensor]) -> float:
    """The fastest of calls in a row."""
    step(*batch)  # the other one's data leave the caches
    end, best = time.perf_counter() + ROUND_S, math.inf
    while time.perf_counter() < end or best is math.inf:
        best = min(best, _seconds(step, batch))
    return best


HEAD = "| batch | all sizes | one size | ratio | first call | kernels compiled | traces |\n|---|---|---|---|---|---|---|"


def _row(p: Point) -> str:
    cells = [str(p.size), report.seconds(p.dynamic), report.seconds(p.static), f"{p.ratio:.2f}",
             report.seconds(p.first), str(p.kernels), str(p.traces)]
    return "| " + " | ".join(cells) + " |"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.sizes", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("workloads", nargs="*", help=f"train steps by name: {', '.join(WORKLOADS)}")
    parser.add_argument("--sizes", type=lambda text: [int(n) for n in text.split(",")], default=list(SIZES))
    parser.add_argument("--threads", type=int, default=fb.get_num_threads())
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--json", type=Path)
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
