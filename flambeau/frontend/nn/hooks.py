"""Forward hooks: user functions that see, and may replace, what goes into and comes out of a Module."""
from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

from flambeau.frontend.epoch import epoch

_numbers = itertools.count()


class RemovableHandle:
    """What registering a hook returns: `remove()` takes it off again, as does leaving a `with` block."""

    def __init__(self, hooks: dict[int, Any], hook: Any, prepend: bool):
        self.id = next(_numbers)
        self._hooks = hooks
        later = dict(hooks) if prepend else {}
        if prepend:
            hooks.clear()
        hooks[self.id] = hook
        hooks.update(later)
        epoch.bump()

    def remove(self) -> None:
        """Take the hook off; harmless the second time."""
        self._hooks.pop(self.id, None)
        epoch.bump()

    def __enter__(self) -> RemovableHandle:
        return self

    def __exit__(self, *exc: object) -> None:
        self.remove()


def call_with_hooks(module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """module.forward between its hooks: pre-hooks may replace the arguments, hooks the output."""
    for hook, with_kwargs in list(module._forward_pre_hooks.values()):
        if with_kwargs:
            changed = hook(module, args, kwargs)
            if changed is not None:
                if not (isinstance(changed, tuple) and len(changed) == 2):
                    raise RuntimeError(f"forward pre-hook must return None or a tuple (args, kwargs), got {changed!r}")
                args, kwargs = changed
        else:
            changed = hook(module, args)
            if changed is not None:
                args = changed if isinstance(changed, tuple) else (changed,)
    output = module.forward(*args, **kwargs)
    for hook, with_kwargs in list(module._forward_hooks.values()):
        changed = hook(module, args, kwargs, output) if with_kwargs else hook(module, args, output)
        if changed is not None:
            output = changed
    return output


Hook = Callable[..., Any]
