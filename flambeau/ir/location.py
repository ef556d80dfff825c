"""Where in the user's code an op came from."""
from __future__ import annotations

from flambeau.ir.records import dataclass


@dataclass(frozen=True, slots=True)
class Location:
    """A line of a file, and the function it is in ("" where that is not known)."""

    file: str
    line: int
    function: str = ""

    def __str__(self) -> str:
        return f"{self.file}:{self.line}"
