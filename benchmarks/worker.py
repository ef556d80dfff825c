"""One peer in one process, driven by JSON lines: {"cmd": ...} on stdin, {"ok": ...} or {"error": ...} on stdout.

import     -> seconds and version
setup      workload, arrays (an .npz path), dropout -> seconds to build model and tensors
cold       -> seconds of the first call, compilation included
values     n -> what the first n steps since setup returned, each as one number (cold's call is the first of them)
run        n -> seconds of n steps, the last one waited for
stats      -> what the peer knows of its compiled step: kernels, compile seconds
rss        -> peak resident MiB of this process
cpu        -> seconds of CPU that this process and the children it waited for have taken
"""

from __future__ import annotations

import argparse
import importlib
import itertools
import json
import os
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from benchmarks.peers import PEERS
from benchmarks.workloads import find


class Worker:
    def __init__(self, peer: str, threads: int) -> None:
        self.spec, self.threads = PEERS[peer], threads
        self.peer: Any = None
        self.step: Callable[..., Any] = lambda *batch: None
        self.batches: list[tuple[Any, ...]] = []
        self.first_values: list[float] = []

    def do_import(self) -> dict[str, Any]:
        start = time.perf_counter()
        module = importlib.import_module(self.spec.module)
        self.peer = module.Peer(self.threads, self.spec.mode)
        return {"seconds": time.perf_counter() - start, "version": module.VERSION}

    def do_setup(self, workload: str, arrays: str, dropout: bool) -> float:
        with np.load(arrays) as stored:
            loaded = {name: stored[name] for name in stored.files}
        weights = {
            name.removeprefix("weight:"): a for name, a in loaded.items() if name.startswith("weight:")
        }
        start = time.perf_counter()
        self.batches = [self.peer.batch(batch) for batch in _batches(loaded)]
        self.step = self.peer.build(find(workload), weights, dropout)
        self.first_values = []
        return time.perf_counter() - start

    def do_cold(self) -> float:
        start = time.perf_counter()
        result = self.step(*self.batches[0])
        self.peer.wait(result)
        seconds = time.perf_counter() - start
        self.first_values.append(_as_number(self.peer.numpy(result)))
        return seconds

    def do_values(self, n: int) -> list[float]:
        for i in range(len(self.first_values), n):
            result = self.step(*self.batches[i % len(self.batches)])
            self.first_values.append(_as_number(self.peer.numpy(result)))
        return self.first_values

    def do_run(self, n: int) -> float:
        step, batches = self.step, itertools.islice(itertools.cycle(self.batches), n)
        start = time.perf_counter()
        for batch in batches:
            result = step(*batch)
        self.peer.wait(result)
        return time.perf_counter() - start

    def do_stats(self) -> dict[str, Any]:
        return self.peer.stats()

    def do_cpu(self) -> float:
        times = os.times()
        return times.user + times.system + times.children_user + times.children_system

    def do_rss(self) -> float:
        """VmHWM, not ru_maxrss: the latter starts at the peak of the process that forked us."""
        status = Path("/proc/self/status").read_text()
        return int(status.split("VmHWM:")[1].split()[0]) / 1024


def _batches(loaded: dict[str, np.ndarray]) -> list[tuple[np.ndarray, ...]]:
    """batch:I:J is operand J of batch I."""
    batches: dict[int, dict[int, np.ndarray]] = {}
    for name in (name for name in loaded if name.startswith("batch:")):
        _, i, j = name.split(":")
        batches.setdefault(int(i), {})[int(j)] = loaded[name]
    return [tuple(batches[i][j] for j in sorted(batches[i])) for i in sorted(batches)]


def _as_number(result: np.ndarray) -> float:
    """A loss as it is; a tensor as a weighted mean of magnitudes, so that misplaced elements show too."""
    flat = np.abs(np.asarray(result, np.float64)).ravel()
    if result.ndim == 0:
        return float(result)
    return float((flat * (1.5 + np.cos(np.arange(flat.size)))).mean())


def protocol_stream() -> TextIO:
    """Keep the real stdout for ourselves and send what libraries print to stderr."""
    stream = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    return stream


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--peer", required=True, choices=PEERS)
    parser.add_argument("--threads", type=int, required=True)
    options = parser.parse_args()
    out, worker = protocol_stream(), Worker(options.peer, options.threads)
    for line in sys.stdin:
        request = json.loads(line)
        handler = getattr(worker, "do_" + request.pop("cmd"))
        try:
            reply = {"ok": handler(**request)}
        except (
            Exception
        ) as error:  # the driver must hear of whatever a peer raises: it drops this peer and says why
            traceback.print_exc()
            reply = {"error": f"{type(error).__name__}: {error}"}
        out.write(json.dumps(reply, default=str) + "\n")


if __name__ == "__main__":
    main()
