"""Workers of a DataLoader: processes behind pipes, or threads behind queues.

A process has a pipe of its own, so one that dies leaves nothing locked and is noticed at once. Nothing outlives its owner:
a worker whose pipe is closed ends, also when the process at the other end was killed.
"""
from __future__ import annotations

import multiprocessing
import os
import queue
import signal
import sys
import threading
import time
import weakref
from collections.abc import Callable
from multiprocessing.connection import Connection, wait
from multiprocessing.reduction import ForkingPickler
from typing import Any, Protocol

from flambeau import config
from flambeau.frontend.data.worker import ERROR, STOP, Failure, Fetcher, WorkerInfo, seed_process, work

_SECONDS_TO_END = 5.0

# The callers' ends of all pipes. A forked worker inherits copies of them and closes its own, or a pipe would never end.
_ends: weakref.WeakSet[Connection] = weakref.WeakSet()


class Workers(Protocol):
    """What the loader asks of its workers."""

    def send(self, id: int, task: Any) -> None: ...

    def receive(self, timeout: float | None) -> Any:
        """The next result of any worker; None if none came in time. Raises RuntimeError if a worker died."""

    def stop(self) -> None: ...


class Threads:
    """Workers in this process: for datasets that wait (for files, a network) or compute in code that lets go of the
    interpreter's lock. They share the dataset and the random numbers with the caller."""

    def __init__(self, count: int, fetcher: Fetcher, base_seed: int, init: Callable[[int], Any] | None) -> None:
        self._tasks: list[queue.SimpleQueue[Any]] = [queue.SimpleQueue() for _ in range(count)]
        self._results: queue.SimpleQueue[Any] = queue.SimpleQueue()
        for id, tasks in enumerate(self._tasks):
            info = WorkerInfo(id, count, base_seed + id, fetcher.dataset)
            threading.Thread(target=work, name=f"DataLoader worker {id}", daemon=True, args=(
                tasks.get, self._results.put, fetcher, info, f"DataLoader worker thread {id}", init)).start()

    def send(self, id: int, task: Any) -> None:
        self._tasks[id].put(task)

    def receive(self, timeout: float | None) -> Any:
        try:
            return self._results.get(timeout=timeout)
        except queue.Empty:
            return None

    def stop(self) -> None:
        """Let them end after the task they are at. (Joining here could wait for a sample that never comes.)"""
        for tasks in self._tasks:
            tasks.put(STOP)


class Processes:
    """Worker processes, as PyTorch's."""

    def __init__(self, count: int, fetcher: Fetcher, base_seed: int, init: Callable[[int], Any] | None,
                 context: Any) -> None:
        start = context if hasattr(context, "Process") else multiprocessing.get_context(context)
        self._owner = os.getpid()
        self._pipes: list[Connection] = []
        self._processes: list[Any] = []
        for id in range(count):
            ours, theirs = start.Pipe()
            self._pipes.append(ours)
            _ends.add(ours)
            info = WorkerInfo(id, count, base_seed + id, fetcher.dataset)
            process = start.Process(target=_process, args=(theirs, fetcher, info, base_seed, init), daemon=True)
            try:
                process.start()
            except BaseException:
                self.stop()
                raise
            finally:
                theirs.close()
            self._processes.append(process)

    def send(self, id: int, task: Any) -> None:
        try:
            self._pipes[id].send(task)
        except (BrokenPipeError, ConnectionResetError):
            self._died(id)

    def receive(self, timeout: float | None) -> Any:
        ready = wait(self._pipes, timeout)
        if not ready:
            return None
        pipe: Any = ready[0]
        try:
            return pipe.recv()
        except (EOFError, ConnectionResetError):
            return self._died(self._pipes.index(pipe))

    def _died(self, id: int) -> None:
        process = self._processes[id]
        process.join(_SECONDS_TO_END)
        how = f"killed by signal {-process.exitcode}" if (process.exitcode or 0) < 0 else f"exit code {process.exitcode}"
        raise RuntimeError(f"DataLoader worker {id} (pid {process.pid}) exited unexpectedly: {how}")

    def stop(self) -> None:
        """Close the pipes, which ends the workers; those that don't notice are ended."""
        if os.getpid() != self._owner:      # a forked child has no say over its parent's other children
            return
        for pipe in self._pipes:
            pipe.close()
        deadline = time.monotonic() + _SECONDS_TO_END
        for process in self._processes:
            process.join(max(0.0, deadline - time.monotonic()))
            for end in (process.terminate, process.kill):
                if process.is_alive():
                    end()
                    process.join(_SECONDS_TO_END)


def _process(pipe: Connection, fetcher: Fetcher, info: WorkerInfo, base_seed: int,
             init: Callable[[int], Any] | None) -> None:
    """What a worker process runs. Ctrl-C is for the process that owns it, which closes the pipe."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for end in list(_ends):
        end.close()
    config.set(num_threads=1)               # as many workers as the user thinks right, not times cores
    seed_process(base_seed, info.id)
    tasks: queue.SimpleQueue[Any] = queue.SimpleQueue()

    def read() -> None:
        """Take tasks off the pipe at once: the caller, who sends one, may not be reading."""
        try:
            while True:
                tasks.put(pipe.recv())
        except (EOFError, OSError):
            tasks.put(STOP)

    def give(result: Any) -> None:
        try:
            pickled = ForkingPickler.dumps(result)
        except Exception as error:
            epoch, number, kind, what = result
            failure = Failure.of(error, where) if kind != ERROR else Failure(RuntimeError, what.text, where)
            pickled = ForkingPickler.dumps((epoch, number, ERROR, failure))
        pipe.send_bytes(pickled)

    where = f"DataLoader worker process {info.id}"
    threading.Thread(target=read, daemon=True).start()
    try:
        work(tasks.get, give, fetcher, info, where, init)
    except (BrokenPipeError, ConnectionResetError):
        sys.stdout.flush()
        os._exit(0)                         # nobody waits any more
