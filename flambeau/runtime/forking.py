"""What the runtime must set right in the child of a fork, where only the forking thread lives on."""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Callable
from types import TracebackType

__all__ = ["ForkSafeLock", "after_fork_in_child"]


def after_fork_in_child(action: Callable[[], None]) -> None:
    """Call `action()` in each child, in the order of registration. Does nothing where there is no fork."""
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=action)


class ForkSafeLock:
    """A lock that is free in the child, even if another thread of the parent held it at the fork."""

    __slots__ = ("__weakref__", "_lock")

    def __init__(self) -> None:
        self._lock = threading.RLock()
        _locks.add(self)

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._lock.release()


def _renew_locks() -> None:
    for lock in list(_locks):
        lock._lock = threading.RLock()


_locks: weakref.WeakSet[ForkSafeLock] = weakref.WeakSet()
after_fork_in_child(_renew_locks)
