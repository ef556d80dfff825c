"""Layers of other libraries: where one is given to a Module of ours, a layer of ours that does the same takes its place."""
from __future__ import annotations

from collections.abc import Callable
from typing import Any
from weakref import WeakKeyDictionary

foreign: dict[type, Callable[[Any], Any]] = {}      # exactly this class of another library -> what makes ours of a layer
_made: WeakKeyDictionary[Any, Any] = WeakKeyDictionary()


def adopted(value: Any) -> Any:
    """Our layer for one of another library, the same one each time it is given; anything else as it is."""
    make = foreign.get(type(value))
    if make is None:
        return value
    ours = _made.get(value)
    if ours is None:
        ours = _made[value] = make(value)
    return ours


__all__ = ["adopted", "foreign"]
