"""Code of ours that runs none of the user's, while a function is traced: the profile hook of the trace rests.

The hook is called for every call that Python or C code makes (`trace/guards/watch.py`). It asks which code of the user's
runs, and of a hundred calls ninety-nine are our own: resting in those halves what tracing takes.
"""
from __future__ import annotations

from collections.abc import Callable, Iterable
from types import EllipsisType, NoneType
from typing import Any, Final

from flambeau.frontend.active import active
from flambeau.frontend.tensor.complex_tensor import ComplexTensor
from flambeau.frontend.tensor.device import Device
from flambeau.frontend.tensor.tensor import Tensor
from flambeau.ir.dims import Dim
from flambeau.ir.dtypes import DType

PLAIN: Final[set[type]] = {Tensor, ComplexTensor, Device, DType, Dim, NoneType, EllipsisType, bool, int, float, complex,
                           str}
"""What runs no code of the user's, whatever is asked of it; subclasses do. Modules above add their own."""

watching: Final[set[int]] = set()           # the threads that trace, by ident: empty in most of a process's life


def are_plain(values: Iterable[Any]) -> bool:
    """True where no code of the user's can hide in any of the values, or in what tuples, lists and slices hold."""
    for value in values:
        kind = type(value)
        if kind in PLAIN:
            continue
        if kind is slice:
            value = (value.start, value.stop, value.step)
        elif kind is not tuple and kind is not list:
            return False
        if not are_plain(value):
            return False
    return True


def unwatched(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """`function(...)`, which runs no code of the user's."""
    tracer: Any = active.tracer
    return function(*args, **kwargs) if tracer is None or tracer.is_level else tracer.unwatched(function, args, kwargs)


def unwatched_if_plain(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """`function(...)`, which runs code of the user's only if an argument does."""
    if are_plain(args) and (not kwargs or are_plain(kwargs.values())):
        return unwatched(function, *args, **kwargs)
    return function(*args, **kwargs)
