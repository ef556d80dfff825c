"""Tracebacks that end at the user's line: what Python prints of an error that nobody catches leaves out our own frames.

    Traceback (most recent call last):
      File "train.py", line 31, in <module>
        logits = h @ w_out
                 ~~^~~~~~~
    flambeau.errors.ShapeError: contracting dims differ: ...
    (6 frames of Flambeau's are left out; FLAMBEAU_TRACEBACK=full shows them)

`FLAMBEAU_TRACEBACK=full` or `config.set(traceback="full")` shows all. Errors that are our own mistakes (AssertionError,
VerificationError) are shown whole, and errors that never were in our code are not touched. The exception is shortened as it
is printed, no sooner: a debugger, and whoever catches it, find every frame.
"""
from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterator
from types import TracebackType
from typing import Any

import numpy as np

from flambeau import config
from flambeau.ir.location import is_internal

__all__ = ["install", "shortened"]

_LIBRARY = (os.path.dirname(os.__file__) + os.sep, os.path.dirname(np.__file__) + os.sep,      # what we call
            "<frozen ", "<__array_function__")


def shortened(error: BaseException) -> int:
    """Leave our frames out of the tracebacks of `error` and of what led to it; how many went."""
    return sum(_shorten(link) for link in _chain(error)) if _applies(error) else 0


def install() -> None:
    """Print what nobody catches in short, in the main thread and in others; whatever printed before prints it."""
    global _installed
    if _installed:
        return
    _installed = True
    former, former_of_threads = sys.excepthook, threading.excepthook

    def hook(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> Any:
        _tell(error)
        return former(kind, error, error.__traceback__ or trace)

    def hook_of_threads(told: Any) -> Any:
        if told.exc_value is not None:
            _tell(told.exc_value)
            told = threading.ExceptHookArgs((told.exc_type, told.exc_value, told.exc_value.__traceback__, told.thread))
        return former_of_threads(told)

    sys.excepthook, threading.excepthook = hook, hook_of_threads


def _tell(error: BaseException) -> None:
    count = shortened(error)
    if count:
        frames = f"{count} frame{'s' * (count > 1)} of Flambeau's {'are' if count > 1 else 'is'}"
        error.add_note(f"({frames} left out; FLAMBEAU_TRACEBACK=full shows {'them' if count > 1 else 'it'})")


def _applies(error: BaseException) -> bool:
    return config.traceback != "full" and not isinstance(error, AssertionError)


def _chain(error: BaseException) -> Iterator[BaseException]:
    """The error, and those that it was raised from or while."""
    seen: set[int] = set()
    link: BaseException | None = error
    while link is not None and id(link) not in seen:
        seen.add(id(link))
        yield link
        link = link.__cause__ or (None if link.__suppress_context__ else link.__context__)


def _shorten(error: BaseException) -> int:
    links: list[TracebackType] = []
    trace = error.__traceback__
    while trace is not None:
        links.append(trace)
        trace = trace.tb_next
    kept, is_ours = list[TracebackType](), False
    for link in links:
        file = link.tb_frame.f_code.co_filename
        is_ours = is_internal(file) or is_ours and file.startswith(_LIBRARY)
        if not is_ours:
            kept.append(link)
    if not kept or len(kept) == len(links):             # nobody's but ours, as in a thread of ours
        return 0
    following: TracebackType | None = None
    for link in reversed(kept):
        following = TracebackType(following, link.tb_frame, link.tb_lasti, link.tb_lineno)
    error.__traceback__ = following
    return len(links) - len(kept)


_installed = False
