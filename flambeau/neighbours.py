"""Packages that learn of our tensors when they are loaded. `watch()` looks on as modules are imported; nothing of a package
is loaded before the user's program loads it."""
from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import Any

_TOLD = {"einops._backends": "flambeau.frontend.einops"}        # where its classes are -> whose register() adds ours


def watch() -> None:
    """Tell those that are loaded, and from now on those that will be. A copy in a folder of the user's is told too."""
    for name, module in list(sys.modules.items()):
        _tell(name, module)
    sys.meta_path.insert(0, _Finder())


def _told(name: str) -> str | None:
    return next((ours for theirs, ours in _TOLD.items() if name.endswith(theirs)), None)


def _tell(name: str, module: ModuleType) -> None:
    ours = _told(name)
    if ours is not None:
        importlib.import_module(ours).register(module)


class _Finder:
    """Finds nothing of its own: what Python finds under these names is told of us once it has run."""

    def find_spec(self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
                  ) -> ModuleSpec | None:
        if _told(name) is None:
            return None
        spec = PathFinder.find_spec(name, path, target)
        if spec is not None and spec.loader is not None:
            loader: Any = spec.loader
            run = loader.exec_module

            def exec_module(module: ModuleType) -> None:
                run(module)
                _tell(name, module)

            loader.exec_module = exec_module
        return spec


__all__ = ["watch"]
