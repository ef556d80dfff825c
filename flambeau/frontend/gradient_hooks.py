"""Hooks on gradients: `tensor.register_hook(f)` lets f see, and replace, the gradient of a tensor in backward().

A leaf keeps its hooks itself; a computed tensor's are kept by its record, and run as an operation of their own
between the record and its users, when all of the gradient has arrived.
"""
from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from flambeau.frontend.autograd import Hook, Record, origin_of
from flambeau.frontend.epoch import epoch
from flambeau.frontend.tensor import Tensor

_numbers = itertools.count()


class HookHandle:
    """What registering gives: `remove()` takes the hook off again."""

    def __init__(self, hooks: dict[int, Hook], hook: Hook):
        self.id, self._hooks = next(_numbers), hooks
        hooks[self.id] = hook
        epoch.bump()

    def remove(self) -> None:
        """Take the hook off; harmless the second time."""
        self._hooks.pop(self.id, None)
        epoch.bump()

    def __enter__(self) -> HookHandle:
        return self

    def __exit__(self, *exc: object) -> None:
        self.remove()


def register_hook(tensor: Tensor, hook: Hook) -> HookHandle:
    """Call `hook(gradient)` when backward() has this tensor's gradient; a tensor it returns takes its place.

    Raises RuntimeError for a tensor that does not require grad."""
    if not tensor._requires_grad:
        raise RuntimeError("cannot register a hook on a tensor that doesn't require gradient")
    if tensor._record is None:
        if tensor._hooks is None:
            tensor._hooks = {}
        return HookHandle(tensor._hooks, hook)
    record = tensor._record
    if record.hooks is None:
        record.hooks = {}
    return HookHandle(record.hooks.setdefault(tensor._index, {}), hook)


def run_hooks(hooks: dict[int, Hook] | None, gradient: Tensor) -> Tensor:
    """The gradient after all hooks. Raises RuntimeError if one changes its type."""
    for hook in list((hooks or {}).values()):
        changed = hook(gradient)
        if changed is not None:
            if not isinstance(changed, Tensor) or changed._type != gradient._type:
                raise RuntimeError(f"a gradient hook must return None or a tensor of type {gradient._type}, got "
                                   f"{getattr(changed, '_type', type(changed).__name__)}")
            gradient = changed
    return gradient


def leaf_gradient(leaf: Tensor, gradient: Tensor) -> Tensor:
    """A leaf's gradient after its hooks."""
    hooks = origin_of(leaf)._hooks
    return gradient if hooks is None else run_hooks(hooks, gradient)


class HookedResult:
    """The hooks of one result, as an operation of the backward walk: from the gradient its users sent to the one its
    record gets."""

    name = "hook"

    def __init__(self, record: Record, index: int):
        self.record, self.index = record, index
        self.op = self

    def vjp(self, b: Any, operands: Sequence[Tensor], results: Sequence[Tensor],
            cotangents: Sequence[Tensor | None]) -> Sequence[Tensor | None]:
        (gradient,) = cotangents
        assert gradient is not None and self.record.hooks is not None
        return (run_hooks(self.record.hooks[self.index], gradient),)


def with_hooks(order: Iterable[Record]) -> Iterator[Any]:
    """The walk with hooks in their places."""
    for record in order:
        for index, hooks in (record.hooks or {}).items():
            if hooks:
                yield HookedResult(record, index)
        yield record


def result_key(record: Record, index: int) -> tuple[Any, ...]:
    """What the cotangent that reaches a record's result is kept under: another key after hooks than before."""
    is_hooked = record.hooks is not None and bool(record.hooks.get(index))
    return (id(record), index, "hooked") if is_hooked else (id(record), index)
