"""One counter that every change to guarded Python state bumps, so that an unchanged program costs one comparison."""
from __future__ import annotations

from typing import Any


class Epoch:
    """value: grows whenever a Module attribute, a parameter's storage or a requires_grad flag changes."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value = 0

    def bump(self) -> None:
        self.value += 1


epoch = Epoch()
grad_epoch = Epoch()            # of every `.grad` that is read or set outside of compiled functions


class Noticed(dict[Any, Any]):
    """A dict whose changes bump the epoch: the parameters, buffers, submodules and hooks of a Module, the gradient
    hooks of a tensor."""

    __slots__ = ()

    def __setitem__(self, key: Any, value: Any) -> None:
        super().__setitem__(key, value)
        epoch.bump()

    def __delitem__(self, key: Any) -> None:
        super().__delitem__(key)
        epoch.bump()

    def __ior__(self, other: Any) -> Noticed:               # type: ignore[misc]
        self.update(other)
        return self

    def setdefault(self, key: Any, default: Any = None) -> Any:
        epoch.bump()
        return super().setdefault(key, default)

    def pop(self, *args: Any) -> Any:
        epoch.bump()
        return super().pop(*args)

    def popitem(self) -> tuple[Any, Any]:
        epoch.bump()
        return super().popitem()

    def clear(self) -> None:
        super().clear()
        epoch.bump()

    def update(self, *args: Any, **kwargs: Any) -> None:
        super().update(*args, **kwargs)
        epoch.bump()
