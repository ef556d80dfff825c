"""Builtin functions made at run time: callables that enter native code in nanoseconds, without ctypes."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable
from typing import Any

__all__ = ["builtins_possible", "make_builtin"]

_METH_FASTCALL = 0x80


class _MethodDefinition(ctypes.Structure):
    _fields_ = [
        ("name", ctypes.c_char_p),
        ("function", ctypes.c_void_p),
        ("flags", ctypes.c_int),
        ("doc", ctypes.c_char_p),
    ]


def builtins_possible() -> bool:
    """Whether this Python can take them: CPython, with the GIL that our native code relies on."""
    return sys.implementation.name == "cpython" and "free-threading build" not in sys.version


def make_builtin(name: str, address: int, owner: tuple[Any, ...]) -> Callable[..., Any]:
    """A builtin with METH_FASTCALL code at `address`; its `self` is `owner`, which it keeps alive."""
    definition = _definitions.get(address)
    if definition is None:
        # A method definition must outlive all builtins made from it, so these are never dropped.
        definition = _definitions[address] = _MethodDefinition(name.encode(), address, _METH_FASTCALL, None)
    new = ctypes.pythonapi.PyCFunction_NewEx
    new.restype = ctypes.py_object
    new.argtypes = [ctypes.c_void_p, ctypes.py_object, ctypes.c_void_p]
    made: Callable[..., Any] = new(ctypes.addressof(definition), owner, None)
    return made


_definitions: dict[int, _MethodDefinition] = {}
