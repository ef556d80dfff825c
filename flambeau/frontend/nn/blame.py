"""In which Module an error came up: a note on the exception, which Python prints after it.

    flambeau.errors.ShapeError: linear: input f32[2,8] must end in 9, the input features of weight f32[2,9]
    in Net.head.2, Linear(in_features=9, out_features=2, bias=True)
"""
from __future__ import annotations

from types import CodeType
from typing import Any, Final

CALLS: Final[dict[CodeType, str]] = {}      # code that calls a Module, and the name there of what it calls
_SAID: Final = "_said_in_module"            # the note that an error has


def blame(error: Exception, outer: Any) -> None:
    """Note in which Module within `outer`, whose call it is on its way out of, the error came up."""
    inner, place = outer, error.__traceback__
    while place is not None:
        name = CALLS.get(place.tb_frame.f_code)
        inner = inner if name is None else place.tb_frame.f_locals[name]
        place = place.tb_next
    try:
        note = _note(inner, outer)
    except Exception:                       # a Module half made, or a method of the user's: the error itself matters more
        return
    said = getattr(error, _SAID, None)
    if said is not None and note is None:   # it is none of the outer one's own: what is said is right
        return
    note = note or f"in {type(outer).__name__}"
    notes = getattr(error, "__notes__", [])
    if said in notes:
        notes[notes.index(said)] = note
    else:
        error.add_note(note)
    setattr(error, _SAID, note)


def _note(inner: Any, outer: Any) -> str | None:
    """In words; None where `inner` has no name in `outer`."""
    if inner is outer:
        return f"in {type(outer).__name__}({outer.extra_repr()})"
    path = next((path for path, module in outer.named_modules() if module is inner), "")
    return f"in {type(outer).__name__}.{path}, {type(inner).__name__}({inner.extra_repr()})" if path else None


__all__ = ["CALLS", "blame"]
