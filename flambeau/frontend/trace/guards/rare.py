"""Types of modules that few programs load. While a module is not loaded there is nothing of its types, and looking for such
loads nothing."""
from __future__ import annotations

import sys


class RareTypes:
    """For `isinstance(value, types())`: those of the types, each `module:name`, whose modules are loaded by now."""

    def __init__(self, *names: str):
        self._missing = [tuple(name.split(":")) for name in names]
        self._found: tuple[type, ...] = ()

    def __call__(self) -> tuple[type, ...]:
        for place in self._missing:
            if place[0] in sys.modules:
                self._look()
                break
        return self._found

    def _look(self) -> None:
        for place in list(self._missing):
            found = getattr(sys.modules.get(place[0]), place[1], None)      # None while the module still loads
            if isinstance(found, type):
                self._found += (found,)
                self._missing.remove(place)


__all__ = ["RareTypes"]
