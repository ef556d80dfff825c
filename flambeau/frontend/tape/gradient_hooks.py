"""Hooks on gradients: `tensor.register_hook(f)` lets f see, and replace, the gradient of a tensor in backward().

A leaf keeps its hooks itself, a computed tensor's are kept by its record. They run as an operation of their own in
the backward walk, between the tensor's users and what made it.
"""
from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import Any

from flambeau.frontend.active import active
from flambeau.frontend.epoch import Noticed, epoch
from flambeau.frontend.tape.autograd import Hook, Record, key_of, newest_first, origin_of
from flambeau.frontend.tape.dispatch import up_to_date
from flambeau.frontend.tensor.tensor import Tensor

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
    up_to_date(tensor)
    if not tensor._requires_grad:
        raise RuntimeError("cannot register a hook on a tensor that doesn't require gradient")
    if active.tracer is not None:
        active.tracer.meet(tensor)                  # as it was before
        active.tracer.settle(tensor)
    tensor = origin_of(tensor)
    if tensor._record is None:
        if tensor._hooks is None:
            tensor._hooks = Noticed()
        return HookHandle(tensor._hooks, hook)
    record = tensor._record
    if record.hooks is None:
        record.hooks = {}
    return HookHandle(record.hooks.setdefault(tensor._index, {}), hook)


class AfterAccumulation:
    """Stands among the hooks of a leaf for one that runs when its gradient lies in `.grad`."""

    def __init__(self, hook: Hook):
        self.hook = hook

    def __call__(self, gradient: Tensor) -> None:
        """Nothing yet."""


def register_post_accumulate_grad_hook(tensor: Tensor, hook: Any) -> HookHandle:
    """Call `hook(tensor)` whenever backward() has added to the `.grad` of this leaf.

    Raises RuntimeError for a tensor that does not require grad, or that was computed."""
    up_to_date(tensor)
    if not tensor._requires_grad:
        raise RuntimeError("cannot register a hook on a tensor that doesn't require gradient")
    if not tensor.is_leaf:
        raise RuntimeError("post accumulate grad hooks cannot be registered on non-leaf tensors")
    return register_hook(tensor, AfterAccumulation(hook))


def run_after_accumulation(leaf: Tensor) -> None:
    """The hooks that wait for a leaf's `.grad`."""
    for hook in list((leaf._hooks or {}).values()):
        if isinstance(hook, AfterAccumulation) and hook.hook(leaf) is not None:
            raise RuntimeError("a hook that runs after a gradient was added must return None")


def run_hooks(hooks: dict[int, Hook], gradient: Tensor) -> Tensor:
    """The gradient after all hooks. Raises TypeError, RuntimeError if one gives something of another type."""
    for hook in list(hooks.values()):
        changed = hook(gradient)
        if changed is None:
            continue
        if not isinstance(changed, Tensor):
            raise TypeError(f"a gradient hook must return None or a Tensor, got {type(changed).__name__}")
        if changed._type != gradient._type:
            raise RuntimeError(f"a gradient hook must return None or a tensor of type {gradient._type}, got "
                               f"{changed._type}")
        gradient = changed
    return gradient


class Hooked:
    """The hooks of one tensor, as an operation of the backward walk: from the gradient that its users sent, when all
    of it has arrived, to the one that its record or the leaf gets."""

    name = "hook"

    def __init__(self, tensor: Tensor, hooks: dict[int, Hook]):
        self.tensor, self.hooks, self.op = tensor, hooks, self
        key = key_of(tensor)
        self.keys = ((*key, "hooked"), key)

    def vjp(self, b: Any, operands: Sequence[Tensor], results: Sequence[Tensor],
            cotangents: Sequence[Tensor | None]) -> Sequence[Tensor | None]:
        (gradient,) = cotangents
        assert gradient is not None
        return (run_hooks(self.hooks, gradient),)


def with_hooks(roots: Sequence[Tensor], order: Sequence[Record], wanted: Sequence[Tensor] | None,
               of_leaves: bool) -> Iterator[Any]:
    """The walk with hooks in their places: those of a result before its record (of a wanted one, also if the walk
    ends there), those of a leaf, if they are to run, after the last record that uses it."""
    walked, ends = {id(record) for record in order}, {key_of(t) for t in wanted or ()}
    leaves = _hooked_leaves(roots, order, None if wanted is None else ends) if of_leaves else {}
    yield from leaves.get(None, ())
    last = {id(t._record): t._record for t in wanted or () if t._record is not None and id(t._record) not in walked}
    for record in newest_first((*order, *last.values())) if last else order:
        for index, hooks in (record.hooks or {}).items():
            if hooks and (id(record) in walked or (id(record), index) in ends):
                yield Hooked(record.saved_results()[index], hooks)
        if id(record) in walked:
            yield record
            yield from leaves.get(id(record), ())


def _hooked_leaves(roots: Sequence[Tensor], order: Sequence[Record],
                   wanted: set[Any] | None) -> dict[int | None, list[Hooked]]:
    """The hooks of leaves (wanted ones: all if None) by the record they run after; None where no record uses it."""
    last_user: dict[Tensor, int | None] = {}
    for user, tensors in ((None, roots), *[(id(record), record.operands) for record in order]):
        for t in tensors:
            if t._requires_grad and t._record is None and origin_of(t)._hooks and (wanted is None or key_of(t) in wanted):
                last_user[origin_of(t)] = user
    found: dict[int | None, list[Hooked]] = {}
    for leaf, user in last_user.items():
        found.setdefault(user, []).append(Hooked(leaf, leaf._hooks or {}))
    return found


def final_key(t: Tensor) -> tuple[Any, ...]:
    """What the gradient of a tensor is kept under once its hooks ran: key_of() gives what its users add up."""
    hooks = origin_of(t)._hooks if t._record is None else (t._record.hooks or {}).get(t._index)
    return (*key_of(t), "hooked") if hooks else key_of(t)


def result_key(record: Record, index: int) -> tuple[Any, ...]:
    """final_key() of a record's result."""
    is_hooked = record.hooks is not None and bool(record.hooks.get(index))
    return (id(record), index, "hooked") if is_hooked else (id(record), index)
