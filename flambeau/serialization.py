"""`fb.serialization`: save and load. Nothing in a file is run, so there is nothing to allow."""
from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from flambeau.frontend.exchange.archive import load, save
from flambeau.frontend.missing import refusing


@contextmanager
def safe_globals(safe_globals: list[Any]) -> Iterator[None]:
    """Accepted: a file that asks for these classes is refused within it as it is outside."""
    yield


def add_safe_globals(safe_globals: list[Any]) -> None:
    """Accepted, as `safe_globals` is."""


def get_safe_globals() -> list[Any]:
    """[]"""
    return []


def clear_safe_globals() -> None:
    """Nothing to forget."""


__all__ = ["add_safe_globals", "clear_safe_globals", "get_safe_globals", "load", "safe_globals", "save"]
__getattr__ = refusing(__name__)
