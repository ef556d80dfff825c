"""Comparing values as guards do: numbers and other immutable values with their type, NaN equal to itself, -0.0 not to 0.0;
structures by their parts."""
from __future__ import annotations

import array
import dataclasses
import datetime
import enum
import functools
import math
import operator
import pathlib
import types
from collections import deque
from collections.abc import Iterable
from typing import Any

import numpy as np

from flambeau.frontend.trace.guards.rare import RareTypes
from flambeau.ir.dtypes import DType
from flambeau.ir.types import TensorType

MISSING: Any = type("Missing", (), {"__repr__": lambda self: "nothing", "__slots__": ()})()
BY_VALUE = (int, float, complex, str, bytes, bool, type(None))
_IMMUTABLE = (np.generic, range, TensorType, DType, np.dtype, datetime.date, datetime.timedelta, datetime.time,
              pathlib.PurePath)
_RARELY_IMMUTABLE = RareTypes("decimal:Decimal", "fractions:Fraction")


def exact(number: float) -> Any:
    """A float as something that == tells apart where the number is another: NaN equals itself, -0.0 is not 0.0."""
    if number != number:
        return "nan"
    return number if number or math.copysign(1.0, number) > 0 else "-0.0"


def typed(value: Any) -> Any:
    """A hashable picture of a number, string or other immutable value, equal for equal values of the same type."""
    kind = type(value)
    if kind is float:
        return (kind, exact(value))
    if kind is complex:
        return (kind, exact(value.real), exact(value.imag))
    if isinstance(value, np.generic):
        return (kind, value.tobytes())
    return (kind, value)


def is_value(value: Any) -> bool:
    """True for what is compared by value and can't change: numbers, strings, None, types of tensors, dates."""
    kind = type(value)
    return kind in BY_VALUE or isinstance(value, _IMMUTABLE + _RARELY_IMMUTABLE()) and not isinstance(value, enum.Enum)


def is_same(then: Any, now: Any) -> bool | None:
    """True or False where that is plain; None for two structures of one type, whose parts decide."""
    if then is now:
        return True
    kind = type(then)
    if kind is not type(now):
        return False
    if kind in BY_VALUE or is_value(then):
        return bool(typed(then) == typed(now))
    if kind is frozenset:
        return bool(picture(then) == picture(now))
    return None if isinstance(then, _STRUCTURAL) or dataclasses.is_dataclass(then) else False


_STRUCTURAL = (list, tuple, dict, set, frozenset, deque, bytearray, array.array, np.ndarray, types.MethodType,
               functools.partial, types.MappingProxyType)
Way = str | tuple[Any, str]             # "", or (the way up to there, a step): spelled out only for messages
Step = tuple[str, Any]                  # where a part is found below its object (".scale", "[3]"), and the part


def spelled(way: Way) -> str:
    """`.model.layers[3]`; the middle of a very long way is left out."""
    steps = []
    while isinstance(way, tuple):
        way, step = way
        steps.append(step)
    steps.reverse()
    return "".join(steps if len(steps) <= 24 else [*steps[:12], " ... ", *steps[-12:]])


def all_are(now: Iterable[Any], then: Iterable[Any]) -> bool:
    return all(map(operator.is_, now, then))


def picture(value: Any) -> Any:
    if isinstance(value, (set, frozenset)):
        return frozenset(typed(v) if is_value(v) else (id(v), "by identity") for v in value)
    if isinstance(value, np.ndarray):
        return value.dtype.str, value.shape, value.tobytes()
    return bytes(value)
