"""Where in the user's code an op came from, and which code is a user's."""
from __future__ import annotations

import functools
import os
from types import FrameType

from flambeau.ir.records import dataclass

__all__ = ["Location", "is_internal", "is_internal_frame"]

_PACKAGE = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep
_INTERNAL = tuple(_PACKAGE + part for part in
                  ("frontend" + os.sep, "ir" + os.sep, "passes" + os.sep, "codegen" + os.sep, "runtime" + os.sep,
                   "kinds" + os.sep, "compiler", "nn" + os.sep, "optim" + os.sep, "__init__", "autograd", "errors", "func.",
                   "config", "backends", "verified", "linking", "linalg", "provenance", "kept",
                   "__main__", "scripts", "profile_script", "explain"))


@dataclass(frozen=True, slots=True)
class Location:
    """A line of a file, the function it is in, the Module whose call it belongs to, by its dotted name in the outermost
    one ("gpt.blocks.3.ln1"), and what the line calls: a function of ours, or a class of Modules. "" where these are not
    known."""

    file: str
    line: int
    function: str = ""
    module: str = ""
    called: str = ""

    def __str__(self) -> str:
        return f"{self.file}:{self.line}"


@functools.cache
def is_internal(filename: str) -> bool:
    """True for the framework's own files, but those that use it as others would: the demo, the course."""
    return filename.startswith(_INTERNAL) or filename.startswith("<flambeau")


def is_internal_frame(frame: FrameType) -> bool:
    """The same of code that runs. What was made by exec in a module (a dataclass's __hash__) is that module's; what was
    typed in is a user's."""
    filename = frame.f_code.co_filename
    if filename[:1] == "<" and not is_internal(filename):
        filename = frame.f_globals.get("__file__") or filename
    return is_internal(filename)
