"""Runs one workload on every peer: cold processes, cross-check, then interleaved quiet rounds. -> WorkloadResult."""

from __future__ import annotations

import importlib.util
import json
import os
import select
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import numpy as np

from benchmarks import quiet
from benchmarks.peers import PEERS
from benchmarks.workloads import Call, Train, Workload

ROOT = Path(__file__).resolve().parent.parent


class PeerFailed(Exception):
    """A peer raised, died or took too long; the workload goes on without it."""


@dataclass(frozen=True)
class Settings:
    """slice_seconds: how long one peer runs within a round. budget_seconds: for one workload's rounds."""

    threads: int = 2
    rounds: int = 15
    slice_seconds: float = 0.4
    budget_seconds: float = 120.0
    cold_repeats: int = 3
    cold_repeat_below_seconds: float = 5.0  # a first call slower than this is not repeated
    timeout_seconds: float = 600.0
    check_steps: int = 5


@dataclass
class PeerResult:
    """Seconds, except where a name says otherwise. `steps` has one entry per kept round."""

    version: str = ""
    import_seconds: float = 0.0
    setup_seconds: float = 0.0
    cold: list[float] = field(default_factory=list)
    warm: float | None = None  # first call of a fresh process that finds the on-disk cache of the cold one
    steps: list[float] = field(default_factory=list)
    rss_mib: float = 0.0
    values: list[float] = field(default_factory=list)
    stats: dict[str, Any] = field(default_factory=dict)
    error: str | None = None


@dataclass
class WorkloadResult:
    name: str
    title: str
    rtol: float
    peers: dict[str, PeerResult]
    rejected: int = 0
    noisy: bool = False  # too few quiet rounds within the budget: the loud ones are reported as well
    cold_noisy: bool = False


def available(peers: Iterable[str]) -> tuple[list[str], list[str]]:
    """-> (installed, missing)."""
    found = {name: importlib.util.find_spec(PEERS[name].package) is not None for name in peers}
    return [n for n, there in found.items() if there], [n for n, there in found.items() if not there]


class Process:
    """A worker in its own session, restricted to `threads` CPUs, with `cache` as every framework's cache folder."""

    def __init__(self, peer: str, settings: Settings, cache: Path) -> None:
        self.settings = settings
        command = [
            sys.executable,
            "-m",
            "benchmarks.worker",
            "--peer",
            peer,
            "--threads",
            str(settings.threads),
        ]
        self.log = tempfile.TemporaryFile("w+")  # noqa: SIM115  (closed in __exit__)
        self.popen = subprocess.Popen(
            command,
            cwd=ROOT,
            env=os.environ | _environment(settings.threads, cache),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.log,
            text=True,
            start_new_session=True,
        )
        if hasattr(os, "sched_setaffinity"):
            os.sched_setaffinity(self.popen.pid, sorted(os.sched_getaffinity(0))[: settings.threads])

    def ask(self, cmd: str, **arguments: Any) -> Any:
        assert self.popen.stdin and self.popen.stdout, "both are pipes"
        try:
            self.popen.stdin.write(json.dumps({"cmd": cmd} | arguments) + "\n")
            self.popen.stdin.flush()
        except BrokenPipeError:
            raise PeerFailed(self._last_words(f"died before {cmd}")) from None
        if not select.select([self.popen.stdout], [], [], self.settings.timeout_seconds)[0]:
            raise PeerFailed(f"{cmd} took more than {self.settings.timeout_seconds:.0f} s")
        line = self.popen.stdout.readline()
        if not line:
            raise PeerFailed(self._last_words(f"died in {cmd}"))
        reply = json.loads(line)
        if "error" in reply:
            raise PeerFailed(f"{cmd}: {reply['error']}")
        return reply["ok"]

    def _last_words(self, what: str) -> str:
        self.popen.wait(10)
        self.log.seek(0)
        return f"{what} (exit status {self.popen.returncode}): {self.log.read()[-300:].strip()}"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        assert self.popen.stdin and self.popen.stdout, "both are pipes"
        try:
            self.popen.stdin.close()  # end of input ends the worker
            self.popen.wait(5)
        except (subprocess.TimeoutExpired, BrokenPipeError):
            self.popen.kill()
            self.popen.wait()
        self.popen.stdout.close()
        self.log.close()


def _environment(threads: int, cache: Path) -> dict[str, str]:
    """JAX has no call for its thread count: it takes NPROC and the CPUs it may run on."""
    counts = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NPROC", "FLAMBEAU_NUM_THREADS")
    return {name: str(threads) for name in counts} | {
        "FLAMBEAU_CACHE_DIR": str(cache / "flambeau"),
        "TORCHINDUCTOR_CACHE_DIR": str(cache / "inductor"),
        "JAX_COMPILATION_CACHE_DIR": str(cache / "jax"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_PLATFORMS": "cpu",
        "CUDA_VISIBLE_DEVICES": "",
    }


def measure(workload: Workload, peers: list[str], settings: Settings) -> WorkloadResult:
    """Every peer's numbers for one workload. A peer that fails keeps its error and leaves the rounds."""
    peers = [peer for peer in peers if not _is_left_out(workload, peer)]
    result = WorkloadResult(
        workload.name, workload.title, workload.rtol, {peer: PeerResult() for peer in peers}
    )
    with tempfile.TemporaryDirectory(prefix="benchmark-") as folder:
        arrays = Path(folder) / "arrays.npz"
        store(workload, arrays)
        caches = {peer: Path(folder) / peer.replace(" ", "-") for peer in peers}
        for peer in peers:
            try:
                _cold(workload, peer, arrays, caches[peer], settings, result)
            except PeerFailed as failure:
                result.peers[peer].error = str(failure)
        _rounds(workload, arrays, caches, settings, result)
    return result


def _is_left_out(workload: Workload, peer: str) -> bool:
    return peer == "jax" and isinstance(workload, Call) and workload.jax_call is None


def store(workload: Workload, path: Path) -> None:
    """Initial weights and batches, the same for every peer, as one .npz."""
    arrays: dict[str, np.ndarray] = {}
    if isinstance(workload, Train):
        arrays |= {f"weight:{name}": a for name, a in workload.weights(np.random.default_rng(1)).items()}
    for i, batch in enumerate(workload.data(np.random.default_rng(2))):
        arrays |= {f"batch:{i}:{j}": a for j, a in enumerate(batch)}
    np.savez(path, **arrays)  # type: ignore[arg-type]


def _cold(
    workload: Workload, peer: str, arrays: Path, cache: Path, settings: Settings, result: WorkloadResult
) -> None:
    """First calls of fresh processes with empty caches; the last one leaves its cache and checks the values."""
    to = result.peers[peer]
    dropout = isinstance(workload, Train) and workload.dropout > 0
    for repeat in range(settings.cold_repeats):
        if to.cold and to.cold[-1] > settings.cold_repeat_below_seconds:
            break
        with Process(peer, settings, cache.with_name(f"{cache.name}-{repeat}")) as process:
            quiet.wait_for_quiet(5)
            with quiet.Watch(process.popen.pid) as watch:
                imported = process.ask("import")
                to.setup_seconds = process.ask(
                    "setup", workload=workload.name, arrays=str(arrays), dropout=True
                )
                to.cold.append(process.ask("cold"))
            result.cold_noisy |= not watch.interval.is_quiet
            to.version, to.import_seconds = imported["version"], imported["seconds"]
            if repeat == 0:
                to.stats = process.ask("stats")
                if dropout:
                    process.ask("setup", workload=workload.name, arrays=str(arrays), dropout=False)
                to.values = process.ask("values", n=settings.check_steps)
                process.ask("rss")


def _rounds(
    workload: Workload, arrays: Path, caches: dict[str, Path], settings: Settings, result: WorkloadResult
) -> None:
    processes: dict[str, Process] = {}
    lengths: dict[str, int] = {}
    alive = [peer for peer in result.peers if result.peers[peer].error is None]
    try:
        for peer in alive:
            processes[peer] = Process(peer, settings, caches[peer].with_name(f"{caches[peer].name}-0"))
            try:
                lengths[peer] = _warm_up(workload, processes[peer], arrays, settings, result.peers[peer])
            except PeerFailed as failure:
                result.peers[peer].error = str(failure)
        _interleave({p: processes[p] for p in lengths}, lengths, settings, result)
    finally:
        for process in processes.values():
            process.__exit__()


def _warm_up(workload: Workload, process: Process, arrays: Path, settings: Settings, to: PeerResult) -> int:
    """First call with a filled cache, then runs of growing length. -> steps that fill one slice."""
    process.ask("import")
    process.ask("setup", workload=workload.name, arrays=str(arrays), dropout=True)
    to.warm = process.ask("cold")
    n = 2
    while (seconds := process.ask("run", n=n)) < settings.slice_seconds / 2:
        n *= 2
    return max(1, round(n * settings.slice_seconds / seconds))


def _interleave(
    processes: dict[str, Process], lengths: dict[str, int], settings: Settings, result: WorkloadResult
) -> None:
    """A B C D A B C D ...: a round counts when all its slices ran undisturbed."""
    kept: list[dict[str, float]] = []
    loud: list[dict[str, float]] = []
    deadline = time.perf_counter() + settings.budget_seconds
    while processes and len(kept) < settings.rounds and time.perf_counter() < deadline:
        steps, is_quiet = _one_round(processes, lengths, result)
        (kept if is_quiet else loud).append(steps)
    result.rejected = len(loud)
    result.noisy = len(kept) < min(5, settings.rounds)
    for peer in processes:
        rounds = kept + loud if result.noisy else kept
        result.peers[peer].steps = [steps[peer] for steps in rounds]
        result.peers[peer].rss_mib = processes[peer].ask("rss")


def _one_round(
    processes: dict[str, Process], lengths: dict[str, int], result: WorkloadResult
) -> tuple[dict[str, float], bool]:
    steps: dict[str, float] = {}
    is_quiet = True
    for peer, process in list(processes.items()):
        is_quiet &= quiet.wait_for_quiet(1.0)
        try:
            with quiet.Watch(process.popen.pid) as watch:
                steps[peer] = process.ask("run", n=lengths[peer]) / lengths[peer]
        except PeerFailed as failure:
            result.peers[peer].error = str(failure)
            del processes[peer]
            is_quiet = False  # its round has a hole
        is_quiet &= watch.interval.is_quiet
    return steps, is_quiet
