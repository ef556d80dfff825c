"""An in-memory cache keyed by structural hash, and that of object code by kernel."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import field
from typing import Generic, TypeVar

from flambeau.ir.records import dataclass
from flambeau.runtime.forking import ForkSafeLock

__all__ = ["Cache", "objects"]

V = TypeVar("V")


@dataclass
class _Entry(Generic[V]):
    """A value being made or made; its lock is held by the thread that makes it."""

    lock: ForkSafeLock = field(default_factory=ForkSafeLock)
    value: V | None = None


class Cache(Generic[V]):
    """Values by hash string, for all threads. A value is made once: who asks for it meanwhile waits."""

    def __init__(self) -> None:
        self._entries: dict[str, _Entry[V]] = {}
        self._lock = ForkSafeLock()
        self.hits = 0
        self.misses = 0

    def get(self, key: str) -> V | None:
        """The value under `key`, or None; does not wait for one that is being made."""
        entry = self._entries.get(key)
        return None if entry is None else entry.value

    def put(self, key: str, value: V) -> V:
        """Keep `value` under `key`, unless another is there already; the one that is kept."""
        return self.get_or_make(key, lambda: value)

    def get_or_make(self, key: str, make: Callable[[], V]) -> V:
        """The value under `key`, made by `make()` if there is none. If `make` raises, nothing is kept."""
        with self._lock:
            entry = self._entries.setdefault(key, _Entry())
            made = entry.value is not None
            self.hits += made
            self.misses += not made
        if entry.value is None:
            with entry.lock:
                if entry.value is None:
                    entry.value = make()
                    assert entry.value is not None, f"the value made for {key} is None"
        return entry.value

    def clear(self) -> None:
        """Forget all values and counts."""
        with self._lock:
            self._entries.clear()
            self.hits = self.misses = 0

    def __len__(self) -> int:
        return sum(entry.value is not None for entry in list(self._entries.values()))

    def __contains__(self, key: object) -> bool:
        entry = self._entries.get(key) if isinstance(key, str) else None
        return entry is not None and entry.value is not None


objects: Cache[bytes] = Cache()
