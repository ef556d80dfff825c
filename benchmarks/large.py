"""python -m benchmarks.large [CASE...]: models of real size, a train step or a forward pass, beside PyTorch's eager calls.

Each peer has a process of its own, since the peak of its memory is told too; both have the same weights and data. What is
compared: losses of the first two steps, or all results of a forward pass. Seconds are of CPU, of one thread unless
--threads says more, so that other work on the machine disturbs less; the first call is told apart.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.workloads.forward_models import models

CASES = {"gpt2-small train": "AdamW", "gpt2-small forward": "", "resnet50 train": "SGD", "bert-base forward": "",
         "bert-base-8 forward": "", "lstm train": "AdamW", "lstm forward": ""}
PEERS = {"flambeau": "flambeau", "torch": "torch"}
TOLERANCE = 1e-3  # of the largest result: twelve layers in f32, summed in another order
HEAD = "| case | flambeau | torch eager | | first call | peak RSS | torch |\n|---|---|---|---|---|---|---|"


@dataclass(frozen=True)
class Measured:
    """Seconds of CPU of the first call and of each later one, and bytes at the peak."""

    first: float
    calls: list[float]
    peak_bytes: int


def main(arguments: Sequence[str] | None = None) -> int:
    """Exits 1 where results disagree."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.large")
    parser.add_argument("cases", nargs="*", help="of " + ", ".join(CASES) + "; all of them")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--peer", choices=PEERS, help=argparse.SUPPRESS)
    parser.add_argument("--results", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.peer:
        (case,) = options.cases
        found, results = measure(options.peer, case, options.threads, options.repeats)
        np.save(options.results, results)
        print(json.dumps(asdict(found)))
        return 0
    agree = True
    print(HEAD, flush=True)
    for case in options.cases or CASES:
        line, agrees = row(case, options.threads, options.repeats)
        print(line, flush=True)
        agree = agree and agrees
    return 0 if agree else 1


def row(case: str, threads: int, repeats: int) -> tuple[str, bool]:
    """A row of the table, and whether results agree. Without PyTorch its cells are empty."""
    with tempfile.TemporaryDirectory() as folder:
        found, results = {}, {}
        for peer, package in PEERS.items():
            if importlib.util.find_spec(package) is None:
                continue
            place = Path(folder) / f"{peer}.npy"
            command = [sys.executable, "-m", "benchmarks.large", case, "--threads", str(threads), "--repeats", str(repeats),
                       "--peer", peer, "--results", str(place)]
            told = subprocess.run(command, check=True, capture_output=True, text=True).stdout
            found[peer], results[peer] = Measured(**json.loads(told.splitlines()[-1])), np.load(place)
    ours, theirs = found["flambeau"], found.get("torch")
    mine = statistics.median(ours.calls)
    cells = [f"{1e3 * mine:.4g} ms", "", "", f"{ours.first:.2g} s", f"{ours.peak_bytes / 2**20:.0f} MiB", ""]
    agrees = True
    if theirs is not None:
        other = statistics.median(theirs.calls)
        cells[1:3] = f"{1e3 * other:.4g} ms", f"{other / mine:.2f}x"
        cells[5] = f"{theirs.peak_bytes / 2**20:.0f} MiB"
        difference = np.abs(results["flambeau"] - results["torch"]).max()
        agrees = bool(difference <= TOLERANCE * np.abs(results["torch"]).max())
    return f"| {case} | {' | '.join(cells)} |{'' if agrees else ' RESULTS DIFFER'}", agrees


def measure(peer: str, case: str, threads: int, repeats: int) -> tuple[Measured, np.ndarray]:
    """In this process: what it took, and the results that peers compare."""
    call = _case(peer, case, threads)
    results, seconds = [], []
    for _ in range(1 + repeats):
        started = time.process_time()
        result = call()
        seconds.append(time.process_time() - started)
        if len(results) < 2:
            results.append(result.detach().numpy().copy())
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    return Measured(seconds[0], seconds[1:], peak), np.stack(results)


def _case(peer: str, case: str, threads: int) -> Callable[[], Any]:
    lib = importlib.import_module(PEERS[peer])
    nn, F, optim = (importlib.import_module(f"{PEERS[peer]}.{part}") for part in ("nn", "nn.functional", "optim"))
    lib.set_num_threads(threads)
    name, _, what = case.partition(" ")
    make, shape, kind = models(nn, F, lib)[name]
    model, rng = make(), np.random.default_rng(0)
    _fill(lib, model, rng)
    data = rng.integers(0, 256, shape) if kind == "tokens" else rng.standard_normal(shape).astype(np.float32)
    x = lib.from_numpy(data)
    compiled = lib.compile if peer == "flambeau" else lambda function: function
    if what == "forward":
        model.eval()
        forward = compiled(lambda x: model(x))

        def run() -> Any:
            with lib.no_grad():
                return forward(x)

        return run
    labels = lib.from_numpy(rng.integers(0, 256, shape[:1] if len(shape) == 4 else shape[:2]))
    rate = {"lr": 1e-3, "momentum": 0.9} if CASES[case] == "SGD" else {"lr": 1e-4}
    optimizer = getattr(optim, CASES[case])(model.parameters(), **rate, **({"fused": True} if peer == "torch" else {}))

    def step(x: Any, labels: Any) -> Any:
        optimizer.zero_grad()
        results = model(x)
        loss = F.cross_entropy(results.reshape(-1, results.shape[-1]), labels.reshape(-1))
        loss.backward()
        optimizer.step()
        return loss

    train = compiled(step)
    return lambda: train(x, labels)


def _fill(lib: Any, model: Any, rng: np.random.Generator) -> None:
    """The same weights for every peer, by name and shape: matrices that keep the size of what they multiply."""
    state = model.state_dict()
    for name, value in state.items():
        if value.ndim > 1:
            fan_in = int(np.prod(value.shape[1:]))
            value = lib.from_numpy(rng.normal(0, fan_in**-0.5, tuple(value.shape)).astype(np.float32))
        state[name] = value if value.ndim > 1 or name.endswith(("weight", "running_var", "tracked")) else value * 0
    model.load_state_dict(state)


if __name__ == "__main__":
    raise SystemExit(main())
