"""Functions of the host that programs call by name.

A HostCall of a program names one; whoever makes the program ready to run looks up its address here, so that programs
and artifacts stay data. The function is called as a kernel is,

    i32 f(ctx, buffers, sizes, 0, 1)

buffers: the addresses of its operands and results; sizes: its runtime extents, 64 bits each. A nonzero status is an
error, with 64-bit integers at ctx + 8 and ctx + 16 as its details. Machine code is called without the GIL.
"""
from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable
from typing import Any, Final

from flambeau.errors import VerificationError

__all__ = ["RAISED", "HostFunction", "host_address", "register_host_function", "register_host_functions"]

HostFunction: Final = ctypes.CFUNCTYPE(ctypes.c_int32, *[ctypes.c_void_p] * 3, *[ctypes.c_int64] * 2)
RAISED: Final = -1                  # the status of a Python function that raised, which it should not


def register_host_function(name: str, function: int | Callable[[int, int, int, int, int], int]) -> None:
    """Let programs call `function` by this name: the address of machine code, or a Python function of (ctx, buffers,
    sizes, begin, end), all ints, that gives a status. A name can be taken over by what does the same; programs that are
    ready keep theirs."""
    if isinstance(function, int):
        _addresses[name] = function
        return
    callback = HostFunction(_guarded(function))
    _callbacks.append(callback)         # for good: programs that are ready keep nothing but the address
    address = ctypes.cast(callback, ctypes.c_void_p).value
    assert address is not None, "a callback has an address"
    _addresses[name] = address


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


def _guarded(function: Callable[[int, int, int, int, int], int]) -> Callable[[int, int, int, int, int], int]:
    """ctypes would report 0, which is success, for a function that raised."""

    def call(context: int, buffers: int, sizes: int, begin: int, end: int) -> int:
        try:
            return function(context, buffers, sizes, begin, end)
        except BaseException:
            sys.excepthook(*sys.exc_info())
            return RAISED

    return call


_addresses: dict[str, int] = {}
_finders: dict[str, Callable[[str], int]] = {}
_callbacks: list[Any] = []
