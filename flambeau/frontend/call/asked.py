"""What `fb.compiler` has under PyTorch's names: programs ask whether they are compiled, and mark their functions.

There are no breaks in a graph: a function that is marked as not to be compiled is compiled with the function that calls it.
"""
from __future__ import annotations

from collections.abc import Callable
from typing import Any

from flambeau.frontend.active import active


def is_compiling() -> bool:
    """Whether this runs while a function is compiled."""
    return active.tracer is not None


def is_exporting() -> bool:
    """False."""
    return False


def disable(fn: Any = None, recursive: bool = True, *, reason: str | None = None) -> Any:
    """The function as it is, or a decorator that leaves it so. Called by itself it runs at once; a compiled function that
    calls it takes its operations in, with the same results."""
    return fn if fn is not None else _itself


def allow_in_graph(fn: Any) -> Any:
    """The function as it is: every function may be in a graph."""
    return fn


def reset() -> None:
    """Nothing to do: each compiled function keeps its own programs, and lets go of them with itself."""


def _itself(fn: Callable[..., Any]) -> Callable[..., Any]:
    return fn


is_dynamo_compiling = is_compiling
cudagraph_mark_step_begin = reset


__all__ = ["allow_in_graph", "cudagraph_mark_step_begin", "disable", "is_compiling", "is_dynamo_compiling", "is_exporting",
           "reset"]
