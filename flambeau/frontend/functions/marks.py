"""Which functions are also methods of Tensor. A decorator beside the definition says so; `methods.py` attaches them, under
every name that the function has in its module."""
from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

F = TypeVar("F", bound=Callable[..., Any])


def method(function: F) -> F:
    """`x.NAME(...)`, x being the function's first argument."""
    function.__dict__["_is_method"] = True
    return function


def in_place(function: F) -> F:
    """`x.NAME_(...)`: the result, written over x."""
    function.__dict__["_is_in_place"] = True
    return function


def methods_of(namespace: Mapping[str, Any]) -> dict[str, Callable[..., Any]]:
    """The functions of a module that are methods, by all their names."""
    return _marked(namespace, "_is_method")


def in_place_of(namespace: Mapping[str, Any]) -> dict[str, Callable[..., Any]]:
    """The functions of a module that have an in-place method, by all their names (without the `_`)."""
    return _marked(namespace, "_is_in_place")


def _marked(namespace: Mapping[str, Any], mark: str) -> dict[str, Callable[..., Any]]:
    return {name: value for name, value in namespace.items()
            if not name.startswith("_") and getattr(value, "__dict__", {}).get(mark)}
