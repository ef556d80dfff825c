"""Ctrl-C that isn't lost: `with not_swallowed():` an interrupt that strikes where Python can't raise comes again.

Python runs the handler of SIGINT wherever the main thread happens to be. In a finalizer, a weakref's or the collector's
callback, or a callback of ctypes nobody is there to catch the KeyboardInterrupt: Python prints "Exception ignored in ..."
and the program goes on, as if nothing had been pressed. It asks `sys.unraisablehook` what to say, though, and there we
learn of it and send the signal again, from a thread and a moment later, until it strikes where it can be raised.
"""
from __future__ import annotations

import _thread
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

__all__ = ["not_swallowed"]

_MOMENT_S = 0.01            # in which most finalizers end; if this one doesn't, there is another moment after it


@contextmanager
def not_swallowed() -> Iterator[None]:
    """Inside the block, an interrupt that a finalizer or callback swallows is raised again soon after it, perhaps after the
    block. Does nothing in threads other than the main one, where no signal is handled."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    former, main, is_over = sys.unraisablehook, threading.get_ident(), False

    def hook(told: Any) -> None:
        if issubclass(told.exc_type, KeyboardInterrupt) and not is_over:
            _thread.start_new_thread(_interrupt_soon, (main,))      # one call of C: nothing here can be interrupted in turn
        else:
            former(told)

    sys.unraisablehook = hook
    try:
        yield
    finally:
        is_over = True                      # who set another one inside may set this one again
        if sys.unraisablehook is hook:
            sys.unraisablehook = former


def _interrupt_soon(thread: int) -> None:
    time.sleep(_MOMENT_S)
    if hasattr(signal, "pthread_kill"):
        signal.pthread_kill(thread, signal.SIGINT)      # ends a wait, as the first would have
    else:
        _thread.interrupt_main()
