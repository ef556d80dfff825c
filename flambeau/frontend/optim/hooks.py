"""Hooks of optimizers: functions of the user's around `step`, `state_dict` and `load_state_dict`."""
from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import Any

from flambeau.frontend.nn.hooks import RemovableHandle

Hook = Callable[..., Any]


class Hooked:
    """Base of Optimizer: the tables of its hooks, each made when the first of its kind is registered. One that wraps
    another optimizer and never calls `__init__` has none yet."""

    _hooks: Mapping[str, dict[int, Hook]] = MappingProxyType({})

    def register_step_pre_hook(self, hook: Hook) -> RemovableHandle:
        """hook(optimizer, args, kwargs), before each step, args beginning with the optimizer; it may give (args, kwargs)
        to go on with."""
        return self._register("step_pre", hook)

    def register_step_post_hook(self, hook: Hook) -> RemovableHandle:
        """hook(optimizer, args, kwargs), after each step."""
        return self._register("step_post", hook)

    def register_state_dict_pre_hook(self, hook: Hook, prepend: bool = False) -> RemovableHandle:
        """hook(optimizer), before `state_dict()`."""
        return self._register("state_dict_pre", hook, prepend)

    def register_state_dict_post_hook(self, hook: Hook, prepend: bool = False) -> RemovableHandle:
        """hook(optimizer, state_dict), which may give another dict in its place."""
        return self._register("state_dict_post", hook, prepend)

    def register_load_state_dict_pre_hook(self, hook: Hook, prepend: bool = False) -> RemovableHandle:
        """hook(optimizer, state_dict), which may give another dict to load."""
        return self._register("load_pre", hook, prepend)

    def register_load_state_dict_post_hook(self, hook: Hook, prepend: bool = False) -> RemovableHandle:
        """hook(optimizer), after `load_state_dict`."""
        return self._register("load_post", hook, prepend)

    def _register(self, kind: str, hook: Hook, prepend: bool = False) -> RemovableHandle:
        tables = self.__dict__.setdefault("_hooks", {})
        return RemovableHandle(tables.setdefault(kind, {}), hook, prepend)

    def _hooks_of(self, kind: str) -> Iterator[Hook]:
        return iter(list(self._hooks.get(kind, {}).values()))


def between_hooks(step: Callable[..., Any]) -> Callable[..., Any]:
    """`step` of an optimizer's class between the hooks of the optimizer."""
    @functools.wraps(step)
    def hooked(*args: Any, **kwargs: Any) -> Any:
        self: Hooked = args[0]
        if not self._hooks:
            return step(*args, **kwargs)
        for hook in self._hooks_of("step_pre"):
            changed = hook(self, args, kwargs)
            if changed is not None:
                if not (isinstance(changed, tuple) and len(changed) == 2):
                    raise RuntimeError(f"a step pre-hook must return None or a tuple of (args, kwargs), got {changed!r}")
                args, kwargs = changed
        result = step(*args, **kwargs)
        for hook in self._hooks_of("step_post"):
            hook(self, args, kwargs)
        return result

    return hooked
