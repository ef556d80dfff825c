"""What a function does that stumbles over a complex tensor, dtype or number: it hands over to the function of the same name
in `complex_table.py`, which is loaded then. Functions that take real tensors ask nothing about complex ones before."""
from __future__ import annotations

import importlib
import opcode
import sys
from types import CodeType
from typing import Any, Final

import numpy as np

COMPLEX: Final = "flambeau.frontend.functions.complex_"        # modules of functions that take complex tensors
STUMBLES: Final = (AttributeError, TypeError)           # what ComplexTensor's empty slots, and complex numbers, raise


def has_complex(value: Any) -> bool:
    """Whether there is a complex tensor, dtype or number among arguments."""
    if isinstance(value, (tuple, list)):
        return any(map(has_complex, value))
    if isinstance(value, np.ndarray):
        return value.dtype.kind == "c"
    return hasattr(type(value), "is_complex_operand") or isinstance(value, (complex, np.complexfloating))


def complex_table() -> Any:
    """The module of what functions do with complex tensors."""
    return importlib.import_module("flambeau.frontend.functions.complex_table")


def complex_instead(error: Exception, name: str, *args: Any, **kwargs: Any) -> Any:
    """What the function of that name gives for complex operands. Raises `error` where there are none, or where another
    function that was given one called this one: then it is that one's to hand over, since what a function is made of may
    be another thing for complex numbers (a norm is not the root of a sum of squares)."""
    if not has_complex((*args, *kwargs.values())) or _was_called_by_another():
        raise error
    try:
        return complex_table().hand_over(name, args, kwargs)
    except Exception as stumble:
        refusal = in_words(stumble, name, args, kwargs)
        if refusal is None:
            raise
        raise refusal from stumble


CALLS: Final[set[CodeType]] = set()         # the code of what `calls.called` makes, which keeps what it was given


def _was_called_by_another() -> bool:
    """Whether a function of ours that was given complex operands runs between here and user's code, or what stands for
    such a function already."""
    frame = sys._getframe(2).f_back
    while frame is not None:
        module = frame.f_globals.get("__name__", "")
        if not module.startswith("flambeau.") or module.startswith(COMPLEX):
            return False
        if frame.f_code in CALLS and has_complex((*frame.f_locals["args"], *frame.f_locals["kwargs"].values())):
            return True
        frame = frame.f_back
    return False


# -- an error of Python's in words ------------------------------------------------------------------------------------

_RAISE: Final = opcode.opmap["RAISE_VARARGS"]


def in_words(error: Exception, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Exception | None:
    """What to raise instead of an error that Python or NumPy made of arguments that make no sense: a sentence that names
    the function and what it was given. None where the error is somebody's word already."""
    if not isinstance(error, RecursionError) and not _stumbled(error):     # complex dims are handed on for ever
        return None
    kind = next((kind for kind in (IndexError, ValueError) if isinstance(error, kind)), TypeError)
    given = [type(value).__name__ for value in args] + [f"{word}={type(value).__name__}" for word, value in kwargs.items()]
    refusal = kind(f"{name}: can't take ({', '.join(given)}): {error}")
    refusal.__cause__ = error
    return refusal


def _stumbled(error: Exception) -> bool:
    """Whether this package stumbled: none of the user's code (a callback, a subclass) ran where the error comes from, and
    no `raise` of ours made it."""
    module, place = "", error.__traceback__
    while place is not None:
        module, code, last = place.tb_frame.f_globals.get("__name__", ""), place.tb_frame.f_code.co_code, place.tb_lasti
        if not module.startswith(("flambeau.", "numpy.")):
            return False
        place = place.tb_next
    return module.startswith("numpy.") or bool(module) and code[last] != _RAISE


__all__ = ["CALLS", "COMPLEX", "STUMBLES", "complex_instead", "complex_table", "has_complex", "in_words"]
