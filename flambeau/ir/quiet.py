"""NumPy without floating-point warnings: overflow and NaN are values here, not events."""
from __future__ import annotations

import contextvars
from collections.abc import Callable
from typing import Any, Final

import numpy as np

# `np.errstate` costs more than adding up small arrays does. NumPy keeps the setting in a context variable, so a
# Context in which it is off needs no setting and restoring. One that is in use can't be entered again (by another
# thread, a signal handler, a finalizer): each call takes one from the pool, and makes one when there is none.
_POOL: Final[list[contextvars.Context]] = []


def quietly(function: Callable[..., Any], *args: Any) -> Any:
    """`function(*args)` under `np.errstate(all="ignore")`. function: computes arrays, and sets no context variable."""
    try:
        context = _POOL.pop()
    except IndexError:
        context = contextvars.Context()
        context.run(np.seterr, all="ignore")
    try:
        return context.run(function, *args)
    finally:
        _POOL.append(context)
