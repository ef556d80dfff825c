"""One counter that every change to guarded Python state bumps, so that an unchanged program costs one comparison."""
from __future__ import annotations


class Epoch:
    """value: grows whenever a Module attribute, a parameter's storage or a requires_grad flag changes."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value = 0

    def bump(self) -> None:
        self.value += 1


epoch = Epoch()
