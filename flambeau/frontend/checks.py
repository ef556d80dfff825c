"""Conditions that programs check in a way that PyTorch's tracers understand: here they are Python's own."""
from __future__ import annotations

from collections.abc import Callable
from typing import Any


def _assert(condition: Any, message: Any) -> None:
    """Raises AssertionError with the message unless the condition holds."""
    assert condition, message


def _check(cond: Any, message: Callable[[], Any] | None = None) -> None:
    """Raises RuntimeError, with what `message()` gives, unless the condition holds."""
    _expect(RuntimeError, cond, message)


def _check_index(cond: Any, message: Callable[[], Any] | None = None) -> None:
    """The same with IndexError."""
    _expect(IndexError, cond, message)


def _check_value(cond: Any, message: Callable[[], Any] | None = None) -> None:
    """The same with ValueError."""
    _expect(ValueError, cond, message)


def _check_type(cond: Any, message: Callable[[], Any] | None = None) -> None:
    """The same with TypeError."""
    _expect(TypeError, cond, message)


def _check_not_implemented(cond: Any, message: Callable[[], Any] | None = None) -> None:
    """The same with NotImplementedError."""
    _expect(NotImplementedError, cond, message)


def _check_is_size(i: Any, message: Callable[[], Any] | None = None, *, max: int | None = None) -> None:
    """Raises RuntimeError for a number below 0 or above max."""
    _expect(RuntimeError, 0 <= i and (max is None or i <= max), message)


def _expect(error: type[Exception], cond: Any, message: Callable[[], Any] | None) -> None:
    if not isinstance(cond, bool):
        raise TypeError(f"cond must be a bool, but got {type(cond)}")
    if not cond:
        raise error("Expected cond to be True, but got False" if message is None else str(message()))


__all__ = ["_assert", "_check", "_check_index", "_check_is_size", "_check_not_implemented", "_check_type", "_check_value"]
