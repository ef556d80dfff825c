"""Which line of the user's code is running: the innermost frame outside the framework."""
from __future__ import annotations

import linecache
import os
import sys
from bisect import bisect_right
from types import CodeType, FrameType

from flambeau.errors import FlambeauError
from flambeau.ir.location import Location, is_internal

_PACKAGE = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep
_MODULES = tuple(_PACKAGE + "frontend" + os.sep + part + os.sep for part in ("nn", "optim", "distributions", "einops"))
# functions of ours around the one that the user called, whose names tell nobody
_WRAPPERS = frozenset("""
    _here _timed_copy _timed_evaluate applied call called dispatch dispatch_view function hooked inner method promoted
    record record_view stepped unwatched unwatched_if_plain walked wrapped wrapper
""".split())
_NAMES = {"tensor_backward": "backward", "getitem": "index", "reversed_dims": "T", "step": "optimizer step"}
_codes: dict[int, tuple[CodeType, str | None]] = {}     # by id: the name of a function of ours, "" of a wrapper, None of
                                                        # code of the user's. Code objects are slow to hash.
_location_of: dict[tuple[int, int, str, str], Location] = {}
_file_of: dict[Location, str] = {}                # in full, to read the line from
_short_of: dict[str, str] = {}


def is_of_modules(filename: str) -> bool:
    """True for the framework's own files that call its functions as a user would: layers, optimizers, distributions."""
    return filename.startswith(_MODULES)


def user_frame(depth: int = 1) -> FrameType | None:
    frame: FrameType | None = sys._getframe(depth)
    while frame is not None and is_internal(frame.f_code.co_filename):
        frame = frame.f_back
    return frame


def user_location(module: str = "", kind: str = "") -> Location | None:
    """file (relative to the working directory where it lies below it), line and function of the user's code, and what of
    ours it calls there. module, kind: whose call it is in, and of which class."""
    frame, called = _called_from(sys._getframe(1))
    return None if frame is None else _located(frame.f_code, frame.f_lineno, called, module, kind)


def by_whom(op: str) -> str:
    """What errors call an op: after what of ours the user called, where that is another function ("batch_norm: add")."""
    return _after(user_location(), op)


def told_by_whom(error: FlambeauError, op: str, location: Location | None) -> None:
    """Let an error that begins with the name of an op say first what the user called at `location`."""
    if error.message.startswith(f"{op}: "):
        error.message = _after(location, op) + error.message[len(op):]


def _after(location: Location | None, op: str) -> str:
    called = "" if location is None else location.called
    return op if not called or called.endswith(op.strip("_")) else f"{called}: {op}"


Code = tuple[CodeType | None, int, str]


def user_code() -> Code:
    """What `user_location` would look up, which `location_at` does later: the code, the instruction, and what is called."""
    frame, called = _called_from(sys._getframe(2))
    return (None, 0, called) if frame is None else (frame.f_code, frame.f_lasti, called)


def location_at(code: CodeType | None, instruction: int, called: str, module: str, kind: str) -> Location | None:
    """The location of what `user_code` gave."""
    if code is None:
        return None
    lines = [(start, line) for start, _, line in code.co_lines()]
    line = lines[bisect_right(lines, instruction, key=lambda known: known[0]) - 1][1]
    return _located(code, line or code.co_firstlineno, called, module, kind)


def _called_from(frame: FrameType | None) -> tuple[FrameType | None, str]:
    """The user's frame, and the function of ours that it calls."""
    called = ""
    while frame is not None:
        code = frame.f_code
        name = (_codes.get(id(code)) or _known(code))[1]
        if name is None:
            break
        called = name or called
        frame = frame.f_back
    return frame, called


def _known(code: CodeType) -> tuple[CodeType, str | None]:
    if len(_codes) > 50_000:
        _codes.clear()
        _location_of.clear()                # whose keys are ids of what is let go
    name = None if not is_internal(code.co_filename) else "" if code.co_name in _WRAPPERS else code.co_name
    found = _codes[id(code)] = code, name
    return found


def _located(code: CodeType, line: int, called: str, module: str, kind: str) -> Location:
    key = (id(code), line, module, called)
    found = _location_of.get(key)
    if found is None:
        if len(_location_of) > 50_000:
            _location_of.clear()
            _file_of.clear()
            _short_of.clear()
        _known(code)                        # it stays, so that its id does
        file = code.co_filename
        if file not in _short_of:
            _short_of[file] = _short(file)
        found = _location_of[key] = Location(_short_of[file], line, code.co_name, module,
                                             kind if called == "__call__" else _NAMES.get(called, called.strip("_")))
        _file_of[found] = file
    return found


def source_file(location: Location) -> str:
    """The path of its file, in full where it is known."""
    return _file_of.get(location, location.file)


def source_line(location: Location) -> str:
    """The text of that line, stripped; empty when the source can't be read."""
    return linecache.getline(source_file(location), location.line).strip()


def describe(location: Location | None) -> str | None:
    """`train.py:31: logits = h @ w` for error messages."""
    if location is None:
        return None
    text = source_line(location)
    return f"{location}: {text}" if text else str(location)


def _short(filename: str) -> str:
    if not os.path.isabs(filename):
        return filename
    try:
        relative = os.path.relpath(filename)
    except (OSError, ValueError):           # the working directory is gone, or on another drive
        return filename
    return os.path.basename(filename) if relative.startswith("..") else relative
