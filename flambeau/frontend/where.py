"""Which line of the user's code is running: the innermost frame outside the framework."""
from __future__ import annotations

import linecache
import os
import sys
from types import FrameType

from flambeau.ir.location import Location, is_internal

_PACKAGE = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep
_MODULES = tuple(_PACKAGE + "frontend" + os.sep + part + os.sep for part in ("nn", "optim", "distributions", "einops"))
# functions of ours around the one that the user called, whose names tell nobody
_WRAPPERS = frozenset("_here _timed_copy _timed_evaluate applied call called dispatch dispatch_view function hooked inner "
                      "method promoted record record_view unwatched unwatched_if_plain wrapped wrapper".split())
_NAMES = {"tensor_backward": "backward", "getitem": "index", "reversed_dims": "T", "step": "optimizer step"}
_location_of: dict[tuple[object, int, str, str], Location] = {}
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
    frame: FrameType | None = sys._getframe(1)
    called = ""
    while frame is not None:
        code = frame.f_code
        if not is_internal(code.co_filename):
            break
        if code.co_name not in _WRAPPERS:
            called = code.co_name
        frame = frame.f_back
    if frame is None:
        return None
    key = (frame.f_code, frame.f_lineno, module, called)
    found = _location_of.get(key)
    if found is None:
        if len(_location_of) > 50_000:
            _location_of.clear()
            _file_of.clear()
            _short_of.clear()
        file = frame.f_code.co_filename
        if file not in _short_of:
            _short_of[file] = _short(file)
        found = _location_of[key] = Location(_short_of[file], frame.f_lineno, frame.f_code.co_name, module,
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
