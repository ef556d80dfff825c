"""`fb.jit`: what PyTorch programs mark for TorchScript. Nothing is scripted here, and what is marked stays what it is."""
from __future__ import annotations

import builtins
from typing import Any, Final, TypeVar

import flambeau
from flambeau.frontend.nn.module import Module as ScriptModule

T = TypeVar("T")


def script(obj: T, *args: Any, **kwargs: Any) -> T:
    """`obj` itself. To compile it: fb.compile."""
    return obj


def _unchanged(obj: T) -> T:
    """What is marked, as it is."""
    return obj


export = unused = script_method = script_if_tracing = interface = _unchanged


def ignore(drop: Any = False, **kwargs: Any) -> Any:
    """`@ignore` or `@ignore(drop=True)`: the function as it is."""
    return drop if callable(drop) else _unchanged


def is_scripting() -> bool:
    """False."""
    return False


def is_tracing() -> bool:
    """False: compiled or not, it is the same program."""
    return False


def annotate(the_type: Any, the_value: T) -> T:
    """The value."""
    return the_value


def Attribute(value: T, type: Any) -> T:
    """The value."""
    return value


def isinstance(obj: Any, target_type: Any) -> bool:
    """Python's."""
    return builtins.isinstance(obj, target_type)


def trace(func: Any, example_inputs: Any = None, **kwargs: Any) -> Any:
    """`fb.compile(func)`, which traces at the first call with each type of arguments."""
    return flambeau.compile(func)


__all__ = ["Attribute", "Final", "ScriptModule", "annotate", "export", "ignore", "interface", "is_scripting", "is_tracing",
           "isinstance", "script", "script_if_tracing", "script_method", "trace", "unused"]
