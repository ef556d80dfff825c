"""Operands on several devices: PyTorch's error for tensors of the user's, and none for what functions make for themselves.

An op is met here only where its operands lie on a device and on the CPU. A rank-0 tensor of the CPU is a number. Any other
is either the user's, who must move it, or was made on the way by the function that the user called (positions, masks),
which goes along. Which of them it is, the functions that are running tell: the user's are among the arguments of the one
that was called.
"""
from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from types import FrameType
from typing import Any, Final

from flambeau.frontend.tensor.tensor import Tensor
from flambeau.frontend.where import is_of_modules
from flambeau.ir.location import is_internal
from flambeau.ir.op import Op

__all__ = ["check_mixing", "device_among"]

_TAKES_BOTH: Final = frozenset(["getitem", "setitem", "__getitem__", "__setitem__", "index_put", "index_put_", "copy_",
                                "set_data", "to", "load_state_dict", "ctc_loss"])
"""Functions that take tensors of the CPU beside those of a device: as indices or lengths, or to copy from."""

_INDEXES: Final = frozenset(["getitem", "setitem", "__getitem__", "__setitem__", "index_put", "index_put_"])


def device_among(op: Op, operands: Sequence[Tensor]) -> str:
    """The one device that is not the CPU. Raises RuntimeError where there are two."""
    names = {t._type.device: None for t in operands if t._type.device != "cpu"}
    if len(names) > 1:
        raise _two_devices(op, *list(names)[:2])
    return next(iter(names))


def check_mixing(op: Op, operands: Sequence[Tensor], device: str) -> None:
    """Raise RuntimeError where a user's tensor of the CPU that is no number stands beside those of a device."""
    if all(t._type.device != "cpu" or not t._type.shape for t in operands):
        return
    for arguments in _calls():
        places = {t._type.device for t in _tensors(arguments) if t._type.shape or t._type.device != "cpu"}
        if len(places) > 1:
            raise _two_devices(op, device, "cpu")


def _two_devices(op: Op, first: str, second: str) -> RuntimeError:
    return RuntimeError("Expected all tensors to be on the same device, but found at least two devices, "
                        f"{first} and {second}! (in {op.name})")


def _calls() -> Iterator[list[Any]]:
    """The arguments of each function of ours that the user, or a Module, called."""
    inner: FrameType = sys._getframe(2)
    while inner.f_back is not None:
        outer = inner.f_back
        file = outer.f_code.co_filename
        is_users = not is_internal(file)
        is_call = (is_users or is_of_modules(file)) and not is_of_modules(inner.f_code.co_filename)
        if is_call:
            if not _takes_both(inner):
                yield _arguments(inner)
            elif _name(inner) in _INDEXES:
                _check_indices(list(_tensors(_arguments(inner))))
        if is_users:
            return
        inner = outer


def _takes_both(frame: FrameType) -> bool:
    return frame.f_code.co_name in _TAKES_BOTH or _name(frame) in _TAKES_BOTH


def _name(frame: FrameType) -> str:
    """Of the function, or of the one that functions/calls.py has wrapped in it."""
    name: str = getattr(frame.f_locals.get("function"), "__name__", frame.f_code.co_name)
    return name


def _check_indices(given: Sequence[Tensor]) -> None:
    """Raise RuntimeError for a tensor of the CPU and indices or values of a device: it would not be found there."""
    indexed, *others = given
    if indexed._type.device == "cpu" and any(t._type.device != "cpu" and t._type.shape for t in others):
        raise RuntimeError("indices should be either on cpu or on the same device as the indexed tensor (cpu)")


def _arguments(frame: FrameType) -> list[Any]:
    code = frame.f_code
    count = code.co_argcount + code.co_kwonlyargcount + bool(code.co_flags & 0x04) + bool(code.co_flags & 0x08)
    return [frame.f_locals.get(name) for name in code.co_varnames[:count]]


def _tensors(values: Any) -> Iterator[Tensor]:
    for value in values:
        if isinstance(value, Tensor):
            yield getattr(value, "_pair", value)
        elif isinstance(value, (list, tuple)):
            yield from _tensors(value)
        elif isinstance(value, dict):
            yield from _tensors(value.values())
