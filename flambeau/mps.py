"""`fb.mps`: there is no such device."""
from __future__ import annotations


def is_available() -> bool:
    """False."""
    return False


def device_count() -> int:
    """0."""
    return 0


def manual_seed(seed: int) -> None:
    """Accepted: there is no generator on a device."""


def empty_cache() -> None:
    """Nothing to free."""


def synchronize() -> None:
    """Nothing to wait for."""
