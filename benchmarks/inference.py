"""python -m benchmarks.inference [MODEL...]: forward passes that know their weights (docs/decisions/051), beside the same
functions compiled with keep=False, and beside PyTorch's eager calls where it is installed.

Seconds are of CPU, of one thread unless --threads says more, so that other work on the machine disturbs less; calls take
turns, and ratios are medians over rounds. Results of all must agree.
"""

from __future__ import annotations

import argparse
import importlib
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

import flambeau as fb
import flambeau.nn.functional as F
from benchmarks.workloads.forward_models import LARGE, models
from flambeau import nn

ROUND_S = 0.05  # of calls in a row, by each in turn
TOLERANCE = 1e-4  # of the largest result
HEAD = "| model | keeps | keep=False | | torch eager | | launches | kept of weights |\n|---|---|---|---|---|---|---|---|"


def main(arguments: Sequence[str] | None = None) -> int:
    """Exits 1 where results disagree."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.inference")
    parser.add_argument("models", nargs="*", help="of " + ", ".join(models(nn, F, fb)) + "; all but the large ones")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=15)
    options = parser.parse_args(arguments)
    torch = _torch(options.threads)
    agree = True
    print(HEAD, flush=True)
    with fb.config.set(num_threads=options.threads):
        for name in options.models or [name for name in models(nn, F, fb) if name not in LARGE]:
            line, agrees = measured(name, options.rounds, torch)
            print(line, flush=True)
            agree = agree and agrees
    return 0 if agree else 1


def measured(name: str, rounds: int, torch: Any) -> tuple[str, bool]:
    """A row of the table, and whether results agree."""
    make, shape, kind = models(nn, F, fb)[name]
    fb.manual_seed(0)
    model, rng = make().eval(), np.random.default_rng(0)
    for key, buffer in model.named_buffers():
        if "running" in key:
            buffer.uniform_(0.5, 1.5)
    data = rng.integers(0, 256, shape) if kind == "tokens" else rng.standard_normal(shape).astype(np.float32)
    x = fb.tensor(data)
    kept, plain = fb.compile(lambda x: model(x)), fb.compile(lambda x: model(x), keep=False)
    with fb.no_grad():
        results = [call(x).numpy() for call in (kept, plain)]
        calls: list[Callable[[], Any]] = [lambda: kept(x), lambda: plain(x)]
        if torch is not None:
            torch_call = _in_torch(torch, name, {key: value.numpy() for key, value in model.state_dict().items()}, data)
            results.append(torch_call().numpy())
            calls.append(torch_call)
        seconds = _in_turns(calls, rounds)
    agrees = all(np.abs(result - results[0]).max() <= TOLERANCE * np.abs(results[0]).max() for result in results)
    ratios = [statistics.median(b / a for a, b in zip(seconds[0], other, strict=True)) for other in seconds[1:]]
    times = [f"{1e3 * statistics.median(some):.3g} ms" for some in seconds]
    stats, launches = kept.stats(), plain.stats().n_launches
    beside = f"{times[2]} | {ratios[1]:.2f}x" if torch is not None else " | "
    memory = f"{stats.kept_bytes / 1e6:.3g} of {stats.state_bytes / 1e6:.3g} MB"
    changed = f"{launches} -> {stats.n_launches}"
    row = f"| {name} | {times[0]} | {times[1]} | {ratios[0]:.2f}x | {beside} | {changed} | {memory} |"
    return row if agrees else f"{row} RESULTS DIFFER", agrees


def _in_turns(calls: Sequence[Callable[[], Any]], rounds: int) -> list[list[float]]:
    """Seconds of CPU of a call, by round."""
    counts = []
    for call in calls:
        call()
        started = time.perf_counter()
        call()
        counts.append(max(1, int(ROUND_S / (time.perf_counter() - started))))
    found: list[list[float]] = [[] for _ in calls]
    for _ in range(rounds):
        for call, count, some in zip(calls, counts, found, strict=True):
            started = time.process_time()
            for _ in range(count):
                call()
            some.append((time.process_time() - started) / count)
    return found


def _torch(threads: int) -> Any:
    try:
        torch = importlib.import_module("torch")
    except ImportError:
        return None
    torch.set_num_threads(threads)
    return torch


def _in_torch(torch: Any, name: str, weights: dict[str, np.ndarray], data: np.ndarray) -> Callable[[], Any]:
    model = models(torch.nn, torch.nn.functional, torch)[name][0]().eval()
    model.load_state_dict({key: torch.tensor(value) for key, value in weights.items()})
    x = torch.from_numpy(data)

    def call() -> Any:
        with torch.no_grad():
            return model(x)

    return call


if __name__ == "__main__":
    raise SystemExit(main())
