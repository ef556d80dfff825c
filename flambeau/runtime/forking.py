"""What must be right in the child of a fork, where only the forking thread lives on.

Our own locks are free there. Locks that are not ours (LLVM's, those of modules being imported) can't be freed, so a fork
waits until no other thread is in code that takes them: `with no_forks:`.
"""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Callable
from contextlib import ContextDecorator
from types import TracebackType

__all__ = ["ForkSafeLock", "after_fork_in_child", "no_forks"]

_PATIENCE_S = 60.0          # a fork that waits for a thread that waits for the fork goes on after this long


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


class _ForkGate(ContextDecorator):
    """Any number of threads may be inside at once; a fork waits for those other than its own, and they for it."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._inside: dict[int, int] = {}               # how often each thread entered
        self._forking: int | None = None

    def __enter__(self) -> None:
        me = threading.get_ident()
        with self._changed:
            if me not in self._inside:
                self._changed.wait_for(lambda: self._forking in (None, me), _PATIENCE_S)
            self._inside[me] = self._inside.get(me, 0) + 1

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        me = threading.get_ident()
        with self._changed:
            self._inside[me] -= 1
            if not self._inside[me]:
                del self._inside[me]
            self._changed.notify_all()

    def before_fork(self) -> None:
        me = threading.get_ident()
        with self._changed:
            self._changed.wait_for(lambda: self._forking is None, _PATIENCE_S)
            self._forking = me                          # from now on nobody enters
            self._changed.wait_for(lambda: not self._inside.keys() - {me}, _PATIENCE_S)

    def after_fork_in_parent(self) -> None:
        with self._changed:
            self._forking = None
            self._changed.notify_all()

    def after_fork_in_child(self) -> None:
        me = threading.get_ident()
        self._changed = threading.Condition()
        self._inside = {me: self._inside[me]} if me in self._inside else {}
        self._forking = None


no_forks = _ForkGate()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=no_forks.before_fork, after_in_parent=no_forks.after_fork_in_parent,
                        after_in_child=no_forks.after_fork_in_child)


def _renew_locks() -> None:
    for lock in list(_locks):
        lock._lock = threading.RLock()


_locks: weakref.WeakSet[ForkSafeLock] = weakref.WeakSet()
after_fork_in_child(_renew_locks)
