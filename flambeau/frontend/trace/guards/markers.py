"""What classes of the framework say about how they are guarded."""
from __future__ import annotations

from typing import Any, ClassVar

from flambeau.frontend.epoch import Noticed
from flambeau.frontend.trace.guards.node import Node
from flambeau.frontend.trace.guards.values import Way


class Attributed:
    """Mixed into classes that bump the epoch when an attribute changes (Module). hooks_of_all: what runs when any of them
    is called, guarded with each."""

    hooks_of_all: ClassVar[dict[int, Any]] = Noticed()


class Stated:
    """Mixed into classes that say themselves what is guarded of them (Optimizer)."""

    def _state_node(self, path: tuple[str, Way]) -> Node:
        raise NotImplementedError("Stated: define _state_node")


class CompiledMarker:
    """Base of compiled functions: their own caches are no user state."""
