"""Where a node comes from: which of the nodes that were traced it stands for, through all passes."""
from __future__ import annotations

from flambeau.ir.location import Location
from flambeau.ir.records import dataclass


class Origin:
    """Some traced nodes, by number: their places in the order of the traced graph. A union costs nothing until it is
    asked for its numbers, since most never are."""

    __slots__ = ("_number", "_parts")

    def __init__(self, number: int | None = None, parts: tuple[Origin, ...] = ()):
        self._number, self._parts = number, parts

    def numbers(self) -> frozenset[int]:
        """The places of the traced nodes."""
        found, seen, stack = set(), set(), [self]
        while stack:
            origin = stack.pop()
            if id(origin) not in seen:
                seen.add(id(origin))
                stack.extend(origin._parts)
                if origin._number is not None:
                    found.add(origin._number)
        return frozenset(found)

    def __repr__(self) -> str:
        return f"Origin({sorted(self.numbers())})"


def union(*origins: Origin | None) -> Origin | None:
    """What all of them stand for together; None where nothing is known."""
    parts = tuple(dict.fromkeys(origin for origin in origins if origin is not None))
    return Origin(parts=parts) if len(parts) > 1 else parts[0] if parts else None


@dataclass(frozen=True, slots=True)
class Rewrite:
    """One use of a rule. origin: what the node that it replaced stood for; loc: its user line."""

    rule: str                               # "x * 1 -> x"
    origin: Origin | None
    loc: Location | None
