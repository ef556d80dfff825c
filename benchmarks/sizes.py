"""python -m benchmarks.sizes: a train step compiled once for all sizes, beside one compiled for each.

Batches of the workloads of other benchmarks, lengths of a GPT layer's sequences, and heights and widths of a convolutional
network's images. For every size: the time of a call by the program for all sizes and by that for one, in turns; what the
first call of a size took by the former, and how many kernels it had to compile. Losses of both must agree. Markdown to
stdout; --json writes everything measured. Needs nothing but Flambeau. Kernels are looked for on disk: FLAMBEAU_CACHE=0 to
see what compiling them takes.
"""

from __future__ import annotations

import argparse
import functools
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
import flambeau.nn.functional as F
from benchmarks import report
from benchmarks.peers.flambeau_peer import step_of
from benchmarks.workloads import Train, find
from flambeau import nn, optim

BATCHES = (1, 2, 3, 8, 17, 32, 64, 100, 128, 256, 512)
LENGTHS = (1, 2, 7, 16, 33, 64, 128, 250, 512, 1024, 2048)
SIDES = (4, 5, 8, 15, 16, 24, 32, 33, 48, 64)  # of images, whose width is half as much again
ROUNDS = 15
ROUND_S = 0.02  # of calls in a row, by each in turn
TOLERANCE = 1e-3  # of a first loss, relative: sums of other orders


@dataclass
class Workload:
    """make(dynamic): a train step, compiled; batch(size): its arguments; sizes: which are measured; what: they are."""

    make: Callable[[bool], Callable[..., Any]]
    batch: Callable[[int], list[fb.Tensor]]
    sizes: Sequence[int]
    what: str = "batch"


def of_batches(name: str) -> Workload:
    """A train step of the other benchmarks, by the size of its batch."""
    workload = find(name)
    assert isinstance(workload, Train), f"{name} is no train step"
    weights = workload.weights(np.random.default_rng(0))
    arrays = workload.data(np.random.default_rng(1))[0]

    def batch(size: int) -> list[fb.Tensor]:
        lengths = [len(array) * size // len(arrays[0]) for array in arrays]
        return [fb.from_numpy(np.resize(array, (n, *array.shape[1:]))) for n, array in zip(lengths, arrays, strict=True)]

    return Workload(lambda dynamic: step_of(workload, weights, dynamic=dynamic), batch, BATCHES)


def stepped(model: nn.Module, loss_of: Callable[..., Any], dynamic: bool) -> Callable[..., Any]:
    """A train step of a model, with AdamW."""
    optimizer = optim.AdamW(model.parameters(), lr=1e-3)

    def step(x: fb.Tensor, y: fb.Tensor) -> fb.Tensor:
        optimizer.zero_grad()
        loss = loss_of(model(x), y)
        loss.backward()
        optimizer.step()
        return loss

    return fb.compile(step, dynamic=dynamic)


WIDTH, HEADS, VOCABULARY, CLASSES = 64, 4, 65, 10


class Gpt(nn.Module):
    """One layer of a decoder over sequences of any length."""

    def __init__(self) -> None:
        super().__init__()
        self.tokens, self.places = nn.Embedding(VOCABULARY, WIDTH), nn.Embedding(max(LENGTHS), WIDTH)
        self.norm, self.qkv, self.out = nn.LayerNorm(WIDTH), nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)
        self.mlp = nn.Sequential(nn.LayerNorm(WIDTH), nn.Linear(WIDTH, 4 * WIDTH), nn.GELU(), nn.Linear(4 * WIDTH, WIDTH))
        self.head = nn.Linear(WIDTH, VOCABULARY)

    def forward(self, tokens: fb.Tensor) -> fb.Tensor:
        batch, length = tokens.shape
        x = self.tokens(tokens) + self.places(fb.arange(length))
        q, k, v = self.qkv(self.norm(x)).view(batch, length, 3, HEADS, WIDTH // HEADS).permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).reshape(batch, length, WIDTH)
        x = x + self.out(mixed)
        return self.head(x + self.mlp(x))


def gpt_lengths() -> Workload:
    """A GPT layer by the length of its sequence, four sequences at once."""
    def make(dynamic: bool) -> Callable[..., Any]:
        fb.manual_seed(0)
        return stepped(Gpt(), lambda found, y: F.cross_entropy(found.flatten(0, 1), y.flatten()), dynamic)

    def batch(size: int) -> list[fb.Tensor]:
        rng = np.random.default_rng(1)
        return [fb.from_numpy(rng.integers(0, VOCABULARY, (4, size))) for _ in range(2)]

    return Workload(make, batch, LENGTHS, "length")


def images() -> Workload:
    """A small convolutional network by the height of its images, eight at once."""
    def make(dynamic: bool) -> Callable[..., Any]:
        fb.manual_seed(0)
        blocks = [nn.Sequential(nn.Conv2d(a, b, 3, stride=2, padding=1), nn.BatchNorm2d(b), nn.ReLU())
                  for a, b in ((3, 16), (16, 32))]
        model = nn.Sequential(*blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, CLASSES))
        return stepped(model, F.cross_entropy, dynamic)

    def batch(size: int) -> list[fb.Tensor]:
        rng = np.random.default_rng(1)
        pictures = rng.normal(size=(8, 3, size, size + size // 2)).astype(np.float32)
        return [fb.from_numpy(pictures), fb.from_numpy(rng.integers(0, CLASSES, 8))]

    return Workload(make, batch, SIDES, "height")


WORKLOADS: dict[str, Callable[[], Workload]] = {
    **{name: functools.partial(of_batches, name) for name in ("mlp", "digits", "lenet", "gpt1")},
    "lengths": gpt_lengths, "images": images}


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
    with fb.config.set(num_threads=options.threads):
        return int(not _all_agree(options))


def _all_agree(options: argparse.Namespace) -> bool:
    about, found, agree = report.machine(), {}, True
    print(f"# Sizes: {about['cpu']}, {options.threads} threads, load {about['load_average_at_start']:.1f}\n", flush=True)
    for name in options.workloads or WORKLOADS:
        points = []
        workload = WORKLOADS[name]()
        print(f"## {name}\n\n| {workload.what} {HEAD}", flush=True)
        try:
            for point in measured(name, workload, options.sizes or workload.sizes, options.rounds):
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
    return agree


class Disagreement(Exception):
    """The two programs gave different losses."""


def measured(name: str, workload: Workload, sizes: Sequence[int], rounds: int = ROUNDS) -> Iterator[Point]:
    """The points of one workload. Raises Disagreement."""
    dynamic = workload.make(True)
    for size in sizes:
        batch = workload.batch(size)
        first = _seconds(dynamic, batch)
        kernels = dynamic.stats().n_new_kernels  # type: ignore[attr-defined]
        static = workload.make(False)
        losses = workload.make(True)(*batch).item(), static(*batch).item()
        if not math.isclose(*losses, rel_tol=TOLERANCE, abs_tol=TOLERANCE):
            raise Disagreement(f"{name}, {workload.what} {size}: the losses are {losses[0]} and {losses[1]}")
        times = [(_per_call(dynamic, batch), _per_call(static, batch)) for _ in range(rounds)]
        yield Point(size, statistics.median(d for d, _ in times), statistics.median(s for _, s in times),
                    statistics.median(s / d for d, s in times), first, kernels,
                    len(dynamic.signatures))  # type: ignore[attr-defined]


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


HEAD = "| all sizes | one size | ratio | first call | kernels compiled | traces |\n|---|---|---|---|---|---|---|"


def _row(p: Point) -> str:
    cells = [str(p.size), report.seconds(p.dynamic), report.seconds(p.static), f"{p.ratio:.2f}",
             report.seconds(p.first), str(p.kernels), str(p.traces)]
    return "| " + " | ".join(cells) + " |"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.sizes", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("workloads", nargs="*", help=f"train steps by name: {', '.join(WORKLOADS)}")
    parser.add_argument("--sizes", type=lambda text: [int(n) for n in text.split(",")], help="instead of each workload's")
    parser.add_argument("--threads", type=int, default=fb.get_num_threads())
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--json", type=Path)
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
