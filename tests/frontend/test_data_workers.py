"""Workers of a DataLoader, processes and threads: order, errors, seeds, and that none is left behind."""

from __future__ import annotations

import gc
import multiprocessing
import os
import random as python_random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import flambeau as fb
from flambeau.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset, get_worker_info

KINDS = pytest.mark.parametrize("kind", [None, "thread"], ids=["process", "thread"])
if not hasattr(os, "fork"):
    pytest.skip("started by fork, for speed", allow_module_level=True)


class Slow(Dataset[int]):
    """Sample i is i; even ones take longer."""

    def __len__(self) -> int:
        return 12

    def __getitem__(self, index: int) -> int:
        time.sleep(0.004 if index % 2 == 0 else 0)
        return index


class Failing(Slow):
    def __init__(self, error: Callable[[], BaseException]):
        self.error = error

    def __getitem__(self, index: int) -> int:
        if index == 7:
            raise self.error()
        return index


class Shared(IterableDataset[int]):
    """0 ... 9, dealt out to the workers."""

    def __iter__(self) -> Iterator[int]:
        info = get_worker_info()
        assert info is not None and info.dataset is not None
        return iter(range(info.id, 10, info.num_workers))


class Draws(Dataset[Any]):
    def __len__(self) -> int:
        return 4

    def __getitem__(self, index: int) -> Any:
        info = get_worker_info()
        assert info is not None
        return [info.id, info.seed, python_random.random(), np.random.random(), fb.rand(1).item()]


def loader(dataset: Any, kind: str | None, workers: int = 2, **options: Any) -> Any:
    return DataLoader(dataset, num_workers=workers, timeout=60, multiprocessing_context=kind or "fork", **options)


def gone(pids: list[int]) -> bool:
    """Whether none of this process's children with these numbers is left, soon."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        if not {child.pid for child in multiprocessing.active_children()} & set(pids):
            return True
        time.sleep(0.01)
    return False


def pids_of(epoch: Any) -> list[int]:
    return [process.pid for process in epoch._prefetcher.workers._processes]


@KINDS
@pytest.mark.parametrize("workers", [1, 3])
def test_batches_come_in_the_order_of_the_sampler(kind: str | None, workers: int) -> None:
    batches = [batch.tolist() for batch in loader(Slow(), kind, workers, batch_size=2)]
    assert batches == [[i, i + 1] for i in range(0, 12, 2)]


@KINDS
def test_out_of_order_gives_every_batch_once(kind: str | None) -> None:
    assert sorted(int(b) for b in loader(Slow(), kind, in_order=False, batch_size=None)) == list(range(12))


@KINDS
def test_same_batches_as_without_workers(kind: str | None) -> None:
    data = TensorDataset(fb.arange(20.0).reshape(10, 2), fb.arange(10))
    here = DataLoader(data, 3, shuffle=True, generator=5)
    there = loader(data, kind, batch_size=3, shuffle=True, generator=5)
    for _ in range(2):
        assert [[t.tolist() for t in b] for b in here] == [[t.tolist() for t in b] for b in there]


@KINDS
@pytest.mark.parametrize("drop_last", [False, True])
def test_streams_are_dealt_out_by_the_dataset(kind: str | None, drop_last: bool) -> None:
    batches = [batch.tolist() for batch in loader(Shared(), kind, batch_size=2, drop_last=drop_last)]
    assert batches == [[0, 2], [1, 3], [4, 6], [5, 7]] + ([] if drop_last else [[8], [9]])


@KINDS
@pytest.mark.parametrize("error", [
    lambda: ValueError("seven"), lambda: KeyError("seven"), lambda: UnicodeDecodeError("utf-8", b"", 0, 1, "seven"),
], ids=["ValueError", "KeyError", "UnicodeDecodeError"])
def test_errors_come_with_the_workers_traceback(kind: str | None, error: Callable[[], BaseException]) -> None:
    seen = []
    raised = RuntimeError if isinstance(error(), UnicodeDecodeError) else type(error())
    with pytest.raises(raised, match=r"(?s)in DataLoader worker (process|thread) \d.*raise self\.error\(\).*seven"):
        for batch in loader(Failing(error), kind, batch_size=2):
            seen += batch.tolist()
    assert seen == [0, 1, 2, 3, 4, 5]


@KINDS
def test_errors_of_the_first_function_are_raised(kind: str | None) -> None:
    def bad(id: int) -> None:
        raise ValueError(f"init {id}")

    with pytest.raises(ValueError, match="init 0"):
        list(loader(Slow(), kind, worker_init_fn=bad))


def test_each_worker_has_random_numbers_of_its_own() -> None:
    def epoch(seed: int) -> list[list[float]]:
        fb.manual_seed(seed)
        return list(loader(Draws(), None, batch_size=None))

    first = epoch(3)
    assert first == epoch(3) != epoch(4)
    assert [row[0] for row in first] == [0, 1, 0, 1]
    assert first[1][1] == first[0][1] + 1
    assert all(len({row[k] for row in first}) == 4 for k in (2, 3, 4))


def test_samples_that_cannot_be_sent_say_so() -> None:
    with pytest.raises((AttributeError, TypeError, RuntimeError), match=r"(?s)DataLoader worker process 0.*pickle"):
        next(iter(loader([lambda: 1], None, 1, batch_size=None)))


@pytest.mark.parametrize("persistent", [False, True])
def test_leaving_early_leaves_no_process(persistent: bool) -> None:
    data = loader(Slow(), None, batch_size=1, persistent_workers=persistent)
    epoch = iter(data)
    next(epoch)
    pids = pids_of(epoch)
    del epoch
    gc.collect()
    assert persistent or gone(pids)
    assert [int(b) for b in data] == list(range(12))        # a new epoch begins at the beginning
    del data
    gc.collect()
    assert gone(pids)


def test_persistent_workers_stay() -> None:
    data = loader(Slow(), None, batch_size=4, persistent_workers=True)
    first, second = iter(data), None
    assert [b.tolist() for b in first] == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10, 11]]
    second = iter(data)
    assert pids_of(first) == pids_of(second)
    with pytest.raises(RuntimeError, match="another epoch"):
        iter(data), next(second)


def test_a_killed_worker_is_named() -> None:
    epoch = iter(loader(Slow(), None, batch_size=1))
    next(epoch)
    os.kill(pids_of(epoch)[1], signal.SIGKILL)
    with pytest.raises(RuntimeError, match=r"worker 1 \(pid \d+\) exited unexpectedly: killed by signal 9"):
        list(epoch)
    assert gone(pids_of(epoch))


class Stuck(Slow):
    def __getitem__(self, index: int) -> int:
        time.sleep(60)
        return index


def test_a_batch_that_does_not_come_in_time_is_an_error() -> None:
    data = DataLoader(Stuck(), num_workers=1, timeout=0.1, multiprocessing_context="thread")
    with pytest.raises(RuntimeError, match=r"timed out after 0\.1 seconds"):
        next(iter(data))


def test_large_tasks_and_batches_block_nobody() -> None:
    data = TensorDataset(fb.zeros(60_000, 8))
    assert sum(len(b) for b, in loader(data, None, 2, batch_size=30_000, prefetch_factor=3)) == 60_000


def test_workers_end_with_their_owner() -> None:
    """Killed, the owner can't say goodbye: its workers see their pipes end, of two loaders at once too."""
    program = """
import os, sys, time
from flambeau.utils.data import DataLoader
loaders = [DataLoader(range(1000), num_workers=2, multiprocessing_context="fork") for _ in range(2)]
epochs = [iter(loader) for loader in loaders]
print(*[p.pid for e in epochs for p in e._prefetcher.workers._processes], flush=True)
time.sleep(60)
"""
    owner = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    assert owner.stdout is not None
    pids = [int(pid) for pid in owner.stdout.readline().split()]
    owner.kill()
    owner.wait()
    owner.stdout.close()
    assert len(pids) == 4
    deadline = time.monotonic() + 30
    while any(is_running(pid) for pid in pids):
        assert time.monotonic() < deadline, "a worker outlived its owner"
        time.sleep(0.02)


def is_running(pid: int) -> bool:
    """Whether the process is there and no zombie that nobody waits for."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8") as stat:
            return stat.read().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return sys.platform != "linux"


def test_interrupted_programs_end() -> None:
    program = """
import os, signal
from flambeau.utils.data import DataLoader
for batch in DataLoader(range(1000), num_workers=2, multiprocessing_context="fork"):
    os.kill(0, signal.SIGINT)
"""
    done = subprocess.run([sys.executable, "-c", program], stderr=subprocess.PIPE, text=True, timeout=120,
                          start_new_session=True)
    assert done.returncode != 0
    assert "KeyboardInterrupt" in done.stderr
    assert "DataLoader worker" not in done.stderr
