"""Packages that learn of our tensors or graphs when they are loaded. `watch()` looks on as modules are imported; nothing
of a package is loaded before the user's program loads it."""
from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

_TOLD = {                                   # a module -> where the function is that is called with it once it has run
    "einops._backends": ("flambeau.frontend.einops.backend", "register"),
    "einops.layers.torch": ("flambeau.frontend.einops.layers", "adopt"),
    "networkx": ("flambeau.ir.graph.structure", "join_networkx"),
}
_MADE = {                                   # a module -> where the function is that says how we make it, or leaves it
    "einops.layers.flambeau": ("flambeau.frontend.einops.layers", "spec_of"),
    "einops.layers.torch": ("flambeau.frontend.einops.layers", "spec_of"),
}
_LAST = ("_backends", "layers.flambeau", "layers.torch", "networkx")


def watch() -> None:
    """Tell those that are loaded, and from now on those that will be. A copy in a folder of the user's is told too."""
    for name, module in list(sys.modules.items()):
        _tell(name, module)
    sys.meta_path.insert(0, _Finder())


def _asked(table: dict[str, tuple[str, str]], name: str) -> Any:
    """Our function for a module, or None."""
    for theirs, (module, function) in table.items():
        if name == theirs or name.endswith(f".{theirs}"):
            return getattr(importlib.import_module(module), function)
    return None


def _tell(name: str, module: ModuleType) -> None:
    tell = _asked(_TOLD, name)
    if tell is not None:
        tell(module)


class _Finder:
    """Finds little of its own: what Python finds under these names is told of us once it has run."""

    def find_spec(self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
                  ) -> ModuleSpec | None:
        if not name.endswith(_LAST):
            return None
        make = _asked(_MADE, name)
        made: ModuleSpec | None = make and make(name)
        if made is not None:
            return made
        others = [other.find_spec for other in sys.meta_path if other is not self and hasattr(other, "find_spec")]
        spec = next(filter(None, (find_spec(name, path, target) for find_spec in others)), None)
        if spec is not None and spec.loader is not None and _asked(_TOLD, name):
            loader: Any = spec.loader
            run = loader.exec_module

            def exec_module(module: ModuleType) -> None:
                run(module)
                _tell(name, module)

            loader.exec_module = exec_module
        return spec


__all__ = ["watch"]
