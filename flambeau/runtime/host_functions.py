"""Functions of the host that programs call by name.

A HostCall of a program names one; whoever makes the program ready to run looks up its address here, so that programs
and artifacts stay data. The function is called as a kernel is,

    i32 f(ctx, buffers, sizes, 0, 1)

buffers: the addresses of its operands and results; sizes: its runtime extents, 64 bits each. A nonzero status is an
error, with 64-bit integers at ctx + 8 and ctx + 16 as its details. Machine code is called without the GIL.

A Python function is called by ctypes, which returns whatever lies on the stack where Python raises before the first line,
as it does for a Ctrl-C that waits for the GIL to come back. So what counts is the status that it leaves in the context.
What it raises is kept, for the thread that called the program, until whoever called that asks (`raise_kept`).
"""
from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable
from typing import Any, Final

from flambeau.errors import VerificationError
from flambeau.runtime.native.layout import ContextRecord

__all__ = ["RAISED", "HostFunction", "host_address", "is_python", "raise_kept", "register_host_function",
           "register_host_functions"]

HostFunction: Final = ctypes.CFUNCTYPE(ctypes.c_int32, *[ctypes.c_void_p] * 3, *[ctypes.c_int64] * 2)
RAISED: Final = -1                  # the status of a Python function that raised, which it should not


def register_host_function(name: str, function: int | Callable[[int, int, int, int, int], int]) -> None:
    """Let programs call `function` by this name: the address of machine code, or a Python function of (ctx, buffers,
    sizes, begin, end), all ints, that gives a status. A name can be taken over by what does the same; programs that are
    ready keep theirs."""
    if isinstance(function, int):
        _addresses[name] = function
        _python.discard(name)
        return
    callback = HostFunction(_guarded(function))
    _callbacks.append(callback)         # for good: programs that are ready keep nothing but the address
    address = ctypes.cast(callback, ctypes.c_void_p).value
    assert address is not None, "a callback has an address"
    _addresses[name] = address
    _python.add(name)


def register_host_functions(prefix: str, find: Callable[[str], int]) -> None:
    """Let programs call `prefix.whatever`: `find` gives the address for such a name, of code that lives as long as the
    process, or raises LookupError. It is asked whenever a program that names it is made ready."""
    _finders[prefix] = find


def host_address(name: str) -> int:
    """Raises VerificationError if there is no function of that name."""
    if name in _addresses:
        return _addresses[name]
    try:
        return _finders[name.partition(".")[0]](name)
    except LookupError:
        raise VerificationError(f"there is no host function {name!r}") from None


def is_python(name: str) -> bool:
    """Whether it is a Python function: `answer` of its context, which was RAISED before the call, is its status."""
    return name in _python


def raise_kept(status: int, is_python: bool) -> None:
    """What a Python function raised in this thread that ended with `status`, if it is one and did. Where nothing is kept,
    it was interrupted before its first line: a KeyboardInterrupt in the main thread, where signals are handled."""
    if not is_python or status != RAISED:
        return
    error, _raised.error = _raised.error, None
    if error is not None:
        raise error
    if threading.current_thread() is threading.main_thread():
        raise KeyboardInterrupt


class _Raised(threading.local):
    error: BaseException | None = None


_raised = _Raised()


def _guarded(function: Callable[[int, int, int, int, int], int]) -> Callable[[int, int, int, int, int], int]:
    """What ctypes is to call: it raises nothing, once it has begun."""

    def call(context: int, buffers: int, sizes: int, begin: int, end: int) -> int:
        try:
            status = function(context, buffers, sizes, begin, end)
            ContextRecord.from_address(context).answer = status
            return status
        except BaseException as error:
            _raised.error = error
            return RAISED

    return call


_addresses: dict[str, int] = {}
_python: set[str] = set()           # of those names
_finders: dict[str, Callable[[str], int]] = {}
_callbacks: list[Any] = []
