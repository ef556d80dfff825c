"""`fb.__version__`: the version of PyTorch whose programs run here, then our own, as PEP 440's local part of it.

Programs choose their way by the version (`torch.__version__ >= "2.0"`), and should choose it here as they do in PyTorch.
"""
from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

_FORM = re.compile(r"v?(\d+(?:\.\d+)*)((?:[-_.]?(?:a|b|c|rc|alpha|beta|pre|dev)[-_.]?\d*)*)(?:\+([\w.-]+))?")


def _key(version: Any) -> tuple[Any, ...] | None:
    """Compares as PEP 440 does: numbers, a release after what leads to it, a local part after none. None: not a version."""
    if not isinstance(version, str) and isinstance(version, Iterable):
        version = ".".join(map(str, version))
    found = _FORM.fullmatch(str(version).strip().lower())
    if found is None:
        return None
    numbers = [int(n) for n in found[1].split(".")]
    while numbers and not numbers[-1]:
        numbers.pop()
    return numbers, not found[2], found[2], found[3] or ""


class TorchVersion(str):
    """A string that compares as a version, with strings, tuples of numbers and what prints as a version: "2.13" comes
    after "2.2". With what is no version it compares as a string."""

    __slots__ = ()
    __hash__ = str.__hash__

    def __eq__(self, other: object) -> bool:
        key = _key(other)
        return str.__eq__(self, other) is True if key is None else _key(str(self)) == key

    def __ne__(self, other: object) -> bool:
        return not self == other

    def __lt__(self, other: Any) -> bool:
        key = _key(other)
        return str.__lt__(self, other) if key is None else (_key(str(self)) or ()) < key

    def __le__(self, other: Any) -> bool:
        return self == other or self < other

    def __gt__(self, other: Any) -> bool:
        return not self <= other

    def __ge__(self, other: Any) -> bool:
        return not self < other


__version__ = TorchVersion("2.13.0+flambeau0.1.0.dev0")
