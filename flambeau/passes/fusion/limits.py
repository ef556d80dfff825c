"""How far fusion goes: what a device gains by a value that is not stored, and what it costs to compute it again."""
from __future__ import annotations

from flambeau.ir.records import dataclass

__all__ = ["Limits"]


@dataclass(frozen=True, slots=True)
class Limits:
    """ops: values that one group computes, at most. stored: ops a point that may be repeated to spare storing a value
    and loading it again. cheap: an elementwise producer that costs less is repeated in any larger space; repeats: a
    costly one at most this often."""

    ops: int = 192
    stored: int = 32
    cheap: int = 8
    repeats: int = 4
