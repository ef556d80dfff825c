"""Batches ahead of time: which worker makes which, and in what order they come out."""
from __future__ import annotations

import time
import weakref
from collections.abc import Iterator
from typing import Any

from flambeau.frontend.data.worker import BATCH, ERROR, Failure
from flambeau.frontend.data.workers import Workers


class Prefetcher:
    """Workers, and what they are told. It stops them when nobody holds it any more, or Python ends."""

    def __init__(self, workers: Workers, count: int, ahead: int, timeout: float, in_order: bool) -> None:
        self.workers, self.count, self.ahead = workers, count, ahead
        self.timeout, self.in_order = timeout, in_order
        self.epoch = 0
        self.stop = weakref.finalize(self, workers.stop)

    def receive(self) -> Any:
        """The next result of this epoch. Raises RuntimeError after `timeout` seconds."""
        deadline = time.monotonic() + self.timeout if self.timeout else None
        while True:
            found = self.workers.receive(None if deadline is None else max(0.0, deadline - time.monotonic()))
            if found is None:
                raise RuntimeError(f"DataLoader timed out after {self.timeout} seconds")
            if found[0] == self.epoch:      # else of an epoch that was left early
                return found[1:]


class Epoch(Iterator[Any]):
    """One pass over the data. Tasks go round the workers, each of which has at most `ahead` of them; a worker whose
    IterableDataset has ended gets no more."""

    def __init__(self, prefetcher: Prefetcher, order: Iterator[Any], owns: bool) -> None:
        prefetcher.epoch += 1
        self._prefetcher, self._order, self._owns = prefetcher, order, owns
        self._epoch = prefetcher.epoch
        self._doer: dict[int, int] = {}             # of tasks whose result is not given yet
        self._done: dict[int, tuple[str, Any]] = {}
        self._live = list(range(prefetcher.count))
        self._sent = self._turn = 0
        self._is_over = False
        try:
            for _ in range(prefetcher.ahead * prefetcher.count):
                self._send()
        except BaseException:
            self._leave()
            raise

    def _send(self) -> None:
        """The next task to the next worker that has ended nothing yet."""
        if not self._live:
            return
        for indices in self._order:
            id = self._live[self._turn % len(self._live)]
            self._turn += 1
            self._doer[self._sent] = id
            self._prefetcher.workers.send(id, (self._epoch, self._sent, indices))
            self._sent += 1
            return

    def __next__(self) -> Any:
        if self._is_over:
            raise StopIteration
        if self._epoch != self._prefetcher.epoch:
            raise RuntimeError("DataLoader: its persistent workers are at another epoch: iterate over one at a time")
        try:
            return self._next()
        except BaseException:
            self._leave()
            raise

    def _next(self) -> Any:
        while self._doer:
            number = next(iter(self._doer)) if self._prefetcher.in_order else next(iter(self._done), None)
            if number is None or number not in self._done:
                number, kind, what = self._prefetcher.receive()
                self._done[number] = kind, what
                continue
            kind, what = self._done.pop(number)
            id = self._doer.pop(number)
            if kind == ERROR:
                failure: Failure = what
                failure.reraise()
            if kind == BATCH:
                self._send()
                return what
            if id in self._live:            # it has ended; the others go on
                self._live.remove(id)
                self._send()
        raise StopIteration

    def _leave(self) -> None:
        self._is_over = True
        if self._owns:
            self._prefetcher.stop()
