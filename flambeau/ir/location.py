"""Where in the user's code an op came from."""
from __future__ import annotations

from flambeau.ir.records import dataclass


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
