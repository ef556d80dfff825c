"""Tensors on their way from one device to another."""
from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from typing import Any

import numpy as np

from flambeau.errors import UnsupportedError
from flambeau.frontend.active import active
from flambeau.frontend.tape.autograd import grad_mode
from flambeau.frontend.tape.dispatch import attach_record, check_unchanged, dispatch, up_to_date
from flambeau.frontend.tensor.device import place_named
from flambeau.frontend.tensor.tensor import Tensor
from flambeau.frontend.where import describe, user_location
from flambeau.ir import ops
from flambeau.ir.op import Op

__all__ = ["moved", "place_like", "placed"]


def placed(x: Tensor, place: str | None) -> Tensor:
    """What a factory made, where it is wanted. place: as `place_of` says it, None for the CPU."""
    return x if place is None else moved(x, place)


def place_like(x: Tensor, device: Any = None) -> str | None:
    """Where a function makes a tensor that is to be like x: as `place_of`, but by default where x lies."""
    if device is not None:
        return place_named(device)
    return None if x._type.device == "cpu" else x._type.device


def moved(x: Tensor, device: str, non_blocking: bool = False) -> Tensor:
    """x on the device of that full name: itself where it is there. Its gradient comes back to where x lies.

    Raises UnsupportedError in a compiled function, unless x has no place of its own yet (made there, of numbers only)."""
    source = x._type.device
    if source == device:
        return x
    tracer = active.tracer
    if tracer is not None and not tracer.is_level:
        if source != "cpu" or not tracer.is_placeless(x):           # type: ignore[attr-defined]
            raise UnsupportedError(f"a tensor {x._type} was moved to {device!r} in a compiled function, which computes on "
                                   "one device", where=describe(user_location()),
                                   hint="move it before the call, or make it there: fb.zeros(..., device=...)")
        found: Tensor = dispatch(ops.Place(device), x)
    elif tracer is not None and x._storage.trace is not None:
        if source != "cpu":
            raise UnsupportedError(f"a tensor {x._type} was moved to {device!r} in a function under a transform",
                                   where=describe(user_location()), hint="move it before, or move what comes of it")
        found = dispatch(ops.Place(device), x)
    else:
        found = _moved_now(x, source, device, non_blocking)
    return found


def _moved_now(x: Tensor, source: str, device: str, non_blocking: bool) -> Tensor:
    if x._saved_version != -1 or x._base is not None:
        check_unchanged(x, "to")
        if grad_mode.enabled:
            up_to_date(x)
    result = _copy(x, source, device, non_blocking)
    if x._requires_grad and grad_mode.enabled:
        attach_record(Moved(device), (x,), (result,))
    return result


def _copy(x: Tensor, source: str, device: str, non_blocking: bool) -> Tensor:
    if device == "cpu":
        array = x._data()
        return Tensor._from_array(np.array(array, order="C"), x._type.dtype)
    device_ops: Any = import_module("flambeau.frontend.tape.device_ops")
    made: Tensor
    made = device_ops.uploaded(x, device, non_blocking)         # by way of the host, where it comes from another device
    return made


class Moved(Op):
    """The tape's op for a tensor that was moved: its gradient is moved back. Only the tape has it."""

    name = "ToCopy"

    def __init__(self, device: str):
        self.device = device

    def vjp(self, b: Any, operands: Sequence[Any], results: Sequence[Any], cotangents: Sequence[Any]) -> Sequence[Any]:
        return (moved(cotangents[0], operands[0]._type.device),)
