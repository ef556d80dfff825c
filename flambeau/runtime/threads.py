"""The process's pool of worker threads: how many, when they start, and how they end.

Workers are daemon threads of Python that enter native code through ctypes, which lets go of the GIL, and stay
there until the pool stops. The pool starts with the first parallel program that runs, also in a forked child.
"""

from __future__ import annotations

import atexit
import ctypes
import math
import os
import sys
import threading
from pathlib import Path

from flambeau import config
from flambeau.runtime.forking import ForkSafeLock, after_fork_in_child
from flambeau.runtime.native.layout import PoolRecord
from flambeau.runtime.native.support import support
from flambeau.warned import warn

__all__ = ["default_num_threads", "get_num_threads", "set_num_threads", "start_pool", "stop_pool"]

# Long enough to bridge the gap between two launches of a step, short enough not to keep an idle machine busy.
_SPIN_NS = 100_000


def get_num_threads() -> int:
    """How many threads a parallel kernel may use, the caller's among them."""
    return config.num_threads or default_num_threads()


def set_num_threads(count: int) -> None:
    """Use `count` threads (at least 1) from the next call on. Raises ValueError for anything else."""
    config.set(num_threads=count)


def default_num_threads() -> int:
    """OMP_NUM_THREADS if set; else the cores this process may use, less if its cgroup has a smaller quota."""
    first = os.environ.get("OMP_NUM_THREADS", "").split(",")[0].strip()
    if first.isascii() and first.isdigit() and len(first) < 20 and 0 < int(first) <= config.MOST_THREADS:
        return int(first)
    if first:
        warn("FB002", f"OMP_NUM_THREADS starts with {first[:40]!r}, no number from 1 to {config.MOST_THREADS}; it is "
                      "ignored", stacklevel=2)
    global _default
    if _default is None:
        quota = _cgroup_cpus()
        cores = _cores()
        _default = max(1, cores if quota is None else min(cores, math.ceil(quota)))
    return _default


def start_pool() -> None:
    """Start the workers unless they run already. With one thread there are none: launches run inline, as they do while
    Python ends, when a new thread would never be heard of."""
    global _pool
    if sys.is_finalizing():
        return
    with _lock:
        if _pool is not None:
            return
        native = support()
        _pool = _Pool(get_num_threads() - 1)
        native.set_pool(_pool.address if _pool.threads else None, 1)


def stop_pool() -> None:
    """End the workers. The next parallel program starts new ones."""
    global _pool
    with _lock:
        pool, _pool = _pool, None
        if pool is not None:
            support().set_pool(None, 0)
            pool.stop()


class _Pool:
    """A pool's shared memory and threads. The memory is never freed: a launch may still look at it."""

    def __init__(self, workers: int) -> None:
        native = support()
        self._memory = ctypes.create_string_buffer(ctypes.sizeof(PoolRecord) + 64)
        _pool_memories.append(self._memory)
        start = ctypes.addressof(self._memory)
        self.address = start + -start % 64
        record = PoolRecord.from_address(self.address)
        record.workers = workers
        record.spin = _SPIN_NS * 1000 // max(1, native.pause_time())
        self.threads: list[threading.Thread] = []
        for number in range(workers):
            thread = threading.Thread(
                target=native.worker, args=(self.address,), name=f"flambeau-{number + 1}", daemon=True
            )
            try:
                thread.start()
            except RuntimeError:
                break  # No more threads to be had (a limit, or Python is ending): fewer also do the work.
            self.threads.append(thread)

    def stop(self) -> None:
        support().stop_pool(self.address)
        for thread in self.threads:
            thread.join(timeout=5.0)


def _cores() -> int:
    """Physical cores among those we may use; two hyperthreads of one core gain nothing in dense kernels."""
    if not hasattr(os, "sched_getaffinity"):
        return os.cpu_count() or 1
    allowed = os.sched_getaffinity(0)
    cores = set()
    for cpu in allowed:
        try:
            cores.add(Path(f"/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list").read_text())
        except OSError:
            return len(allowed)
    return len(cores)


def _cgroup_cpus(root: Path = Path("/sys/fs/cgroup"), own: Path = Path("/proc/self/cgroup")) -> float | None:
    """The smallest CPU quota, in cores, from the process's control group up to the root; None: no quota."""
    quotas = []
    for line in _text(own).splitlines() or ["0::/"]:
        controllers, path = line.split(":", 2)[1:]
        if controllers == "":
            top, read = root, _quota_v2
        elif "cpu" in controllers.split(","):
            top, read = root / "cpu", _quota_v1
        else:
            continue
        group = top / path.strip("/")
        # In a container the group's own path may lie outside what is mounted; its root is then our group.
        quotas += [read(folder) for folder in (group, *group.parents) if folder.is_relative_to(top)]
    return min((quota for quota in quotas if quota is not None), default=None)


def _quota_v2(folder: Path) -> float | None:
    quota, _, period = _text(folder / "cpu.max").partition(" ")
    return int(quota) / int(period) if quota.isdigit() and int(period or 0) > 0 else None


def _quota_v1(folder: Path) -> float | None:
    quota, period = (_text(folder / f"cpu.cfs_{name}_us").strip() for name in ("quota", "period"))
    return int(quota) / int(period) if quota.isdigit() and int(period or 0) > 0 else None


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""


def _forget_pool() -> None:
    """In a forked child: the parent's workers are not here, so start anew when needed."""
    global _pool
    if _pool is not None:
        _pool = None
        support().set_pool(None, 0)


_pool: _Pool | None = None
_pool_memories: list[ctypes.Array[ctypes.c_char]] = []
_default: int | None = None
_lock = ForkSafeLock()
after_fork_in_child(_forget_pool)
config.watch("num_threads", stop_pool)
atexit.register(stop_pool)
