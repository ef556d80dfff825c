"""Hooks of Modules: user functions that see, and may replace, what goes into and comes out of a Module, forward and
backward. Those of one module lie in dicts of its own, those of all modules in `Attributed.hooks_of_all`.
"""
from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import Any, Final

from flambeau.frontend.epoch import Noticed, epoch
from flambeau.frontend.nn.boundary import Boundary
from flambeau.frontend.tape.autograd import is_grad_enabled
from flambeau.frontend.tensor.tensor import Tensor
from flambeau.frontend.trace.guards.markers import Attributed
from flambeau.warned import warn

Hook = Callable[..., Any]
_numbers = itertools.count()
_NONE: Final[Mapping[int, Any]] = MappingProxyType({})


class RemovableHandle:
    """What registering a hook returns: `remove()` takes it off again, as does leaving a `with` block."""

    registered = 0              # hooks of Modules, ever

    def __init__(self, hooks: dict[int, Any], hook: Any, prepend: bool = False, flags: tuple[dict[int, Any], ...] = ()):
        self.id = next(_numbers)
        self._hooks, self._flags = hooks, flags
        later = dict(hooks) if prepend else {}
        if prepend:
            hooks.clear()
        for flag in flags:
            flag[self.id] = True
        hooks[self.id] = hook
        hooks.update(later)
        RemovableHandle.registered += 1
        epoch.bump()

    def remove(self) -> None:
        """Take the hook off; harmless the second time."""
        for hooks in (self._hooks, *self._flags):
            hooks.pop(self.id, None)
        epoch.bump()

    def __enter__(self) -> RemovableHandle:
        return self

    def __exit__(self, *exc: object) -> None:
        self.remove()


class Hooked(Attributed):
    """The part of Module that registers hooks. A module has a dict of a kind once it has had a hook of it, but for those
    of forward, which every module has."""

    _forward_hooks: dict[int, Hook]
    _forward_pre_hooks: dict[int, Hook]
    _forward_hooks_with_kwargs: Mapping[int, bool] = _NONE
    _forward_hooks_always_called: Mapping[int, bool] = _NONE
    _forward_pre_hooks_with_kwargs: Mapping[int, bool] = _NONE
    _backward_hooks: Mapping[int, Hook] = _NONE
    _backward_pre_hooks: Mapping[int, Hook] = _NONE
    _state_dict_hooks: Mapping[int, Hook] = _NONE
    _state_dict_pre_hooks: Mapping[int, Hook] = _NONE
    _load_state_dict_pre_hooks: Mapping[int, Hook] = _NONE
    _load_state_dict_post_hooks: Mapping[int, Hook] = _NONE

    def _own(self, registry: str) -> dict[int, Any]:
        """The module's dict of that kind, made at its first use."""
        fields = self.__dict__
        if registry not in fields:
            fields[registry] = Noticed()
            epoch.bump()
        found: dict[int, Any] = fields[registry]
        return found

    def register_forward_hook(self, hook: Hook, *, prepend: bool = False, with_kwargs: bool = False,
                              always_call: bool = False) -> RemovableHandle:
        """Call `hook(module, args, output)` after forward; what it returns, if not None, replaces the output.
        with_kwargs: `hook(module, args, kwargs, output)`. always_call: also when something raised, with what there is."""
        flags = [name for name, is_set in (("_forward_hooks_with_kwargs", with_kwargs),
                                           ("_forward_hooks_always_called", always_call)) if is_set]
        return RemovableHandle(self._forward_hooks, hook, prepend, tuple(map(self._own, flags)))

    def register_forward_pre_hook(self, hook: Hook, *, prepend: bool = False,
                                  with_kwargs: bool = False) -> RemovableHandle:
        """Call `hook(module, args)` before forward; what it returns, if not None, replaces the arguments.
        with_kwargs: `hook(module, args, kwargs)`, which returns None or (args, kwargs)."""
        flags = (self._own("_forward_pre_hooks_with_kwargs"),) if with_kwargs else ()
        return RemovableHandle(self._forward_pre_hooks, hook, prepend, flags)

    def register_full_backward_hook(self, hook: Hook, prepend: bool = False) -> RemovableHandle:
        """Call `hook(module, grad_input, grad_output)`, tuples of tensors or None, when the gradients of the tensors
        among the positional arguments are known; what it returns, if not None, replaces them."""
        return RemovableHandle(self._own("_backward_hooks"), hook, prepend)

    register_backward_hook = register_full_backward_hook

    def register_full_backward_pre_hook(self, hook: Hook, prepend: bool = False) -> RemovableHandle:
        """Call `hook(module, grad_output)` when the gradients of the module's outputs are known; what it returns, if not
        None, replaces them."""
        return RemovableHandle(self._own("_backward_pre_hooks"), hook, prepend)

    def register_state_dict_post_hook(self, hook: Hook) -> RemovableHandle:
        """Call `hook(module, state_dict, prefix, local_metadata)` when state_dict() has put down what this module holds;
        it may change the dict, and returns None."""
        return RemovableHandle(self._own("_state_dict_hooks"), _MustReturnNone(hook))

    def _register_state_dict_hook(self, hook: Hook) -> RemovableHandle:
        """register_state_dict_post_hook, but what it returns, if not None, takes the dict's place."""
        return RemovableHandle(self._own("_state_dict_hooks"), hook)

    def register_state_dict_pre_hook(self, hook: Hook) -> RemovableHandle:
        """Call `hook(module, prefix, keep_vars)` before state_dict() looks at this module."""
        return RemovableHandle(self._own("_state_dict_pre_hooks"), hook)

    def _register_load_state_dict_pre_hook(self, hook: Hook, with_module: bool = False) -> RemovableHandle:
        """register_load_state_dict_pre_hook; without with_module the hook is not told of the module."""
        return RemovableHandle(self._own("_load_state_dict_pre_hooks"), hook if with_module else _Unaware(hook))

    def register_load_state_dict_pre_hook(self, hook: Hook) -> RemovableHandle:
        """Call `hook(module, state_dict, prefix, local_metadata, strict, missing_keys, unexpected_keys, error_msgs)`
        before this module takes its values; it may change the dict."""
        return self._register_load_state_dict_pre_hook(hook, with_module=True)

    def register_load_state_dict_post_hook(self, hook: Hook) -> RemovableHandle:
        """Call `hook(module, incompatible_keys)` when this module and those below it have taken their values; it may
        change the lists of keys, and returns None."""
        return RemovableHandle(self._own("_load_state_dict_post_hooks"), hook)


class _MustReturnNone:
    """A public state_dict hook."""

    def __init__(self, hook: Hook):
        self.hook = hook

    def __call__(self, *args: Any) -> None:
        if self.hook(*args) is not None:
            raise RuntimeError("state_dict post-hook must return None")


class _Unaware:
    """A hook that does not take the module."""

    def __init__(self, hook: Hook):
        self.hook = hook

    def __call__(self, module: Any, *args: Any) -> Any:
        return self.hook(*args)


# -- a call between its hooks -----------------------------------------------------------------------------------------


def call_with_hooks(module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """module.forward between its hooks: pre-hooks may replace the arguments, hooks the output."""
    call = _Call(module, args, kwargs)
    try:
        return call.run()
    except Exception:
        call.run_always_called()
        raise


class _Call:
    """One call of a module with hooks, and how far it came."""

    def __init__(self, module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]):
        self.module, self.args, self.kwargs = module, args, kwargs
        self.output: Any = None
        self.called: set[int] = set()

    def run(self) -> Any:
        module = self.module
        for _, hook, with_kwargs, _ in _hooks(module, "forward_pre"):
            if with_kwargs:
                changed = hook(module, self.args, self.kwargs)
                if changed is not None:
                    if not (isinstance(changed, tuple) and len(changed) == 2):
                        raise RuntimeError("forward pre-hook must return None or a tuple (args, kwargs), got "
                                           f"{changed!r}")
                    self.args, self.kwargs = changed
            else:
                changed = hook(module, self.args)
                if changed is not None:
                    self.args = changed if isinstance(changed, tuple) else (changed,)
        boundary = _boundary(module)
        if boundary is not None:
            self.args = boundary.enter(self.args)
        self.output = module.forward(*self.args, **self.kwargs)
        for number, hook, with_kwargs, _ in _hooks(module, "forward"):
            self.called.add(number)
            self._hand_to(hook, with_kwargs)
        if boundary is not None:
            self.output = _left(boundary, self.output)
        return self.output

    def _hand_to(self, hook: Hook, with_kwargs: bool) -> None:
        kwargs = (self.kwargs,) if with_kwargs else ()
        changed = hook(self.module, self.args, *kwargs, self.output)
        if changed is not None:
            self.output = changed

    def run_always_called(self) -> None:
        """Something raised: those hooks that run even then, if they have not."""
        for number, hook, with_kwargs, always in _hooks(self.module, "forward"):
            if always and number not in self.called:
                try:
                    self._hand_to(hook, with_kwargs)
                except Exception as error:
                    warn("FB005", "a module forward hook with always_call=True raised an exception that gives way to the "
                                  f"one of forward: {error}", stacklevel=3)


def _hooks(module: Any, kind: str) -> Iterator[tuple[int, Hook, bool, bool]]:
    """(number, hook, with_kwargs, always_call) of one kind: those of all modules first."""
    for number, (of_kind, hook, with_kwargs, always) in list(Attributed.hooks_of_all.items()):
        if of_kind == kind:
            yield number, hook, with_kwargs, always
    with_kwargs_of = getattr(module, f"_{kind}_hooks_with_kwargs", _NONE)
    always_called = getattr(module, f"_{kind}_hooks_always_called", _NONE)
    for number, hook in list(getattr(module, f"_{kind}_hooks").items()):
        yield number, hook, number in with_kwargs_of, number in always_called


def _boundary(module: Any) -> Boundary | None:
    """What stands around forward, if there are backward hooks."""
    hooks, pre_hooks = [[entry[1] for entry in _hooks(module, kind)] for kind in ("backward", "backward_pre")]
    return Boundary(module, hooks, pre_hooks) if (hooks or pre_hooks) and is_grad_enabled() else None


def _left(boundary: Boundary, output: Any) -> Any:
    if isinstance(output, tuple):
        return boundary.leave(output)
    if isinstance(output, Tensor):
        return boundary.leave((output,))[0]
    warn("FB006", "For backward hooks to be called, module output should be a Tensor or a tuple of Tensors but received "
                  f"{type(output)}", stacklevel=4)
    return output


# -- hooks of all modules ---------------------------------------------------------------------------------------------


def _for_all(kind: str, hook: Hook, with_kwargs: bool = False, always_call: bool = False) -> RemovableHandle:
    return RemovableHandle(Attributed.hooks_of_all, (kind, hook, with_kwargs, always_call))


def register_module_forward_pre_hook(hook: Hook) -> RemovableHandle:
    """register_forward_pre_hook of every Module; these run before a module's own."""
    return _for_all("forward_pre", hook)


def register_module_forward_hook(hook: Hook, *, with_kwargs: bool = False, always_call: bool = False) -> RemovableHandle:
    """register_forward_hook of every Module."""
    return _for_all("forward", hook, with_kwargs, always_call)


def register_module_full_backward_hook(hook: Hook) -> RemovableHandle:
    """register_full_backward_hook of every Module."""
    return _for_all("backward", hook)


register_module_backward_hook = register_module_full_backward_hook


def register_module_full_backward_pre_hook(hook: Hook) -> RemovableHandle:
    """register_full_backward_pre_hook of every Module."""
    return _for_all("backward_pre", hook)


def register_module_parameter_registration_hook(hook: Hook) -> RemovableHandle:
    """Call `hook(module, name, parameter)` when a parameter is registered; what it returns, if not None, replaces it."""
    return _for_all("parameter", hook)


def register_module_buffer_registration_hook(hook: Hook) -> RemovableHandle:
    """Call `hook(module, name, buffer)` when a buffer is registered; what it returns, if not None, replaces it."""
    return _for_all("buffer", hook)


def register_module_module_registration_hook(hook: Hook) -> RemovableHandle:
    """Call `hook(module, name, submodule)` when a submodule is registered; what it returns, if not None, replaces it."""
    return _for_all("module", hook)


def registered(kind: str, module: Any, name: str, value: Any) -> Any:
    """What is to be registered, after the hooks of all modules."""
    for of_kind, hook, *_ in list(Attributed.hooks_of_all.values()):
        if of_kind == kind:
            changed = hook(module, name, value)
            value = value if changed is None else changed
    return value


__all__ = [
    "register_module_backward_hook", "register_module_buffer_registration_hook", "register_module_forward_hook",
    "register_module_forward_pre_hook", "register_module_full_backward_hook", "register_module_full_backward_pre_hook",
    "register_module_module_registration_hook", "register_module_parameter_registration_hook"]
