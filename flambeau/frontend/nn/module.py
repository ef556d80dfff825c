"""Module: a tree of parameters, buffers and submodules, with PyTorch's names and state_dict keys.

Every change to the tree bumps `epoch`, so that a compiled function looks at its modules again only then.
"""
from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, ClassVar, TypeVar

from flambeau.frontend.active import active
from flambeau.frontend.epoch import Noticed, epoch
from flambeau.frontend.nn import conversion, tree
from flambeau.frontend.nn.adoption import adopted, foreign
from flambeau.frontend.nn.blame import CALLS, blame
from flambeau.frontend.nn.hooks import call_with_hooks, registered
from flambeau.frontend.nn.parameter import Buffer, Parameter
from flambeau.frontend.nn.state import Saved
from flambeau.frontend.tensor.tensor import Tensor

M = TypeVar("M", bound="Module")
_REGISTRIES = ("_parameters", "_buffers", "_modules")
_DICTS = (*_REGISTRIES, "_forward_hooks", "_forward_pre_hooks")


class Module(Saved):
    """Base of all networks: assign Parameters and Modules as attributes in `__init__`, define `forward`.

    Parameters and submodules that are assigned are registered: found by parameters(), moved by to(), saved by
    state_dict(). Call `super().__init__()` first."""

    training: bool
    call_super_init: bool = False           # __init__ hands its arguments on to the next class
    compiler: ClassVar[Callable[..., Any]]  # what compile() does; the face brings it

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        if (args or kwargs) and not self.call_super_init:
            what = f"unexpected keyword argument '{next(iter(kwargs))}'" if kwargs else f"arguments {args!r}, it takes none"
            raise TypeError(f"{type(self).__name__}.__init__() got {what}")
        self.__dict__.update(training=True, **{name: Noticed() for name in _DICTS}, _non_persistent_buffers_set=set())
        if self.call_super_init:
            super().__init__(*args, **kwargs)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """What calling the module computes; every subclass defines its own."""
        raise NotImplementedError(f'Module [{type(self).__name__}] is missing the required "forward" function')

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if active.tracer is not None:
            return traced_call(self, args, kwargs)
        fields = self.__dict__
        if "_compiled_call_impl" in fields:
            return fields["_compiled_call_impl"](*args, **kwargs)
        try:
            if (fields["_forward_hooks"] or fields["_forward_pre_hooks"] or self.hooks_of_all or self._backward_hooks
                    or self._backward_pre_hooks):
                return call_with_hooks(self, args, kwargs)
            return self.forward(*args, **kwargs)
        except Exception as error:
            blame(error, self)
            raise

    def _call_impl(self, *args: Any, **kwargs: Any) -> Any:
        """What a call does, with hooks; `compile()` compiles this."""
        return call_with_hooks(self, args, kwargs)

    def compile(self, *args: Any, **kwargs: Any) -> None:
        """Compile the calls of this module from now on, as `fb.compile` does; arguments are its."""
        self.__dict__["_compiled_call_impl"] = self.compiler(self._call_impl, *args, **kwargs)

    # -- attributes -------------------------------------------------------------------------------------------------

    def __getattr__(self, name: str) -> Any:
        """Only for names that are no plain attribute."""
        fields = self.__dict__
        for registry in _REGISTRIES:
            members = fields.get(registry)
            if members is not None and name in members:
                return members[name]
        hint = "" if "_modules" in fields else "; was super().__init__() called?"
        raise AttributeError(f"'{type(self).__name__}' object has no attribute '{name}'{hint}", name=name, obj=self)

    def __setattr__(self, name: str, value: Any) -> None:
        fields = self.__dict__
        if isinstance(value, Parameter):
            self._forget(name, "_parameters", "parameters")
            self.register_parameter(name, value)
        elif isinstance(value, Module):
            self._forget(name, "_modules", "modules")
            self.register_module(name, value)
        elif isinstance(value, Buffer) and not any(name in fields.get(r, ()) for r in ("_parameters", "_modules")):
            self.register_buffer(name, value, value.persistent)
        elif type(value) in foreign:
            setattr(self, name, adopted(value))
        elif self._assign_registered(name, value):
            epoch.bump()
        elif name not in fields or fields[name] is not value:
            object.__setattr__(self, name, value)
            epoch.bump()

    def __delattr__(self, name: str) -> None:
        for registry in _REGISTRIES:
            if name in self.__dict__.get(registry, ()):
                del self.__dict__[registry][name]
                self._non_persistent_buffers_set.discard(name)
                break
        else:
            object.__delattr__(self, name)
        epoch.bump()

    def _forget(self, name: str, keep: str, what: str) -> None:
        """Take `name` out of wherever it is, except the registry `keep`, where it holds its place."""
        fields = self.__dict__
        if keep not in fields:
            raise AttributeError(f"cannot assign {what} before Module.__init__() call")
        fields.pop(name, None)
        for registry in _REGISTRIES:
            if registry != keep:
                fields[registry].pop(name, None)
        fields["_non_persistent_buffers_set"].discard(name)

    def _assign_registered(self, name: str, value: Any) -> bool:
        """Assign to a name that is a parameter, module or buffer; False when it is none."""
        fields = self.__dict__
        for registry, wanted in (("_parameters", "Parameter"), ("_modules", "Module"), ("_buffers", "Tensor")):
            members = fields.get(registry)
            if members is not None and name in members:
                if value is not None and not (wanted == "Tensor" and isinstance(value, Tensor)):
                    raise TypeError(f"cannot assign '{type(value).__name__}' as {registry[1:-1]} '{name}' "
                                    f"(nn.{wanted} or None expected)")
                members[name] = value
                return True
        return False

    def __dir__(self) -> list[str]:
        return sorted({*super().__dir__(), *self._parameters, *self._buffers, *self._modules})

    # -- registration -----------------------------------------------------------------------------------------------

    def register_parameter(self, name: str, param: Parameter | None) -> None:
        """Add a parameter, or None to reserve its name. Raises KeyError for a name that is taken or holds a dot,
        TypeError for anything but a Parameter, ValueError for one that was computed by recorded operations."""
        self._check_name(name, "_parameters", "parameter")
        if param is not None:
            if not isinstance(param, Parameter):
                raise TypeError(f"cannot assign '{type(param).__name__}' object to parameter '{name}' "
                                "(nn.Parameter or None required)")
            if param.grad_fn is not None:
                raise ValueError(f"cannot assign non-leaf Tensor to parameter '{name}'; model parameters must be "
                                 "created explicitly")
        self._parameters[name] = registered("parameter", self, name, param) if self.hooks_of_all else param
        epoch.bump()

    def register_buffer(self, name: str, tensor: Tensor | None, persistent: bool = True) -> None:
        """Add a tensor that is state but no parameter (running statistics). persistent: part of state_dict().

        Raises KeyError for a name that is taken or holds a dot, TypeError for anything but a Tensor or None."""
        self._check_name(name, "_buffers", "buffer")
        if tensor is not None and not isinstance(tensor, Tensor):
            raise TypeError(f"cannot assign '{type(tensor).__name__}' object to buffer '{name}' "
                            "(Tensor or None required)")
        self._buffers[name] = registered("buffer", self, name, tensor) if self.hooks_of_all else tensor
        (self._non_persistent_buffers_set.discard if persistent else self._non_persistent_buffers_set.add)(name)
        epoch.bump()

    def register_module(self, name: str, module: Module | None) -> None:
        """Add a submodule, or None to reserve its name. Raises as register_buffer does."""
        if module is not None:
            module = checked_module(module)
        self._check_name(name, "_modules", "module")
        self._modules[name] = registered("module", self, name, module) if self.hooks_of_all else module
        epoch.bump()

    def add_module(self, name: str, module: Module | None) -> None:
        """register_module."""
        self.register_module(name, module)

    def _check_name(self, name: str, registry: str, what: str) -> None:
        if registry not in self.__dict__:
            raise AttributeError(f"cannot assign {what} before Module.__init__() call")
        if not isinstance(name, str):
            raise TypeError(f"{what} name should be a string. Got {type(name).__name__}")
        if "." in name:
            raise KeyError(f"{what} name can't contain \".\": {name!r}")
        if name == "":
            raise KeyError(f"{what} name can't be empty string \"\"")
        if hasattr(self, name) and name not in self.__dict__[registry]:
            raise KeyError(f"attribute '{name}' already exists")

    # -- walking the tree -------------------------------------------------------------------------------------------

    def named_parameters(self, prefix: str = "", recurse: bool = True,
                         remove_duplicate: bool = True) -> Iterator[tuple[str, Parameter]]:
        """(dotted name, parameter) of this module and, with recurse, all below it; shared ones once."""
        return tree.named_members(self, lambda m: m._parameters.items(), prefix, recurse, remove_duplicate)

    def parameters(self, recurse: bool = True) -> Iterator[Parameter]:
        """Every parameter once, in order of registration."""
        return (parameter for _, parameter in self.named_parameters(recurse=recurse))

    def named_buffers(self, prefix: str = "", recurse: bool = True,
                      remove_duplicate: bool = True) -> Iterator[tuple[str, Tensor]]:
        """(dotted name, buffer) of this module and, with recurse, all below it."""
        return tree.named_members(self, lambda m: m._buffers.items(), prefix, recurse, remove_duplicate)

    def buffers(self, recurse: bool = True) -> Iterator[Tensor]:
        """Every buffer once."""
        return (buffer for _, buffer in self.named_buffers(recurse=recurse))

    def named_children(self) -> Iterator[tuple[str, Module]]:
        """(name, module) of the direct submodules, each once."""
        return tree.named_members(self, lambda m: m._modules.items(), "", False, True)

    def children(self) -> Iterator[Module]:
        """The direct submodules."""
        return (child for _, child in self.named_children())

    def named_modules(self, memo: set[Module] | None = None, prefix: str = "",
                      remove_duplicate: bool = True) -> Iterator[tuple[str, Module]]:
        """(dotted name, module) of this module (name "") and all below it, parents first."""
        return tree.named_modules(self, memo, prefix, remove_duplicate)

    def modules(self, remove_duplicate: bool = True) -> Iterator[Module]:
        """This module and all below it; remove_duplicate: each once."""
        return (module for _, module in self.named_modules(remove_duplicate=remove_duplicate))

    def _named_members(self, get_members_fn: Callable[[Any], Any], prefix: str = "", recurse: bool = True,
                       remove_duplicate: bool = True) -> Iterator[tuple[str, Any]]:
        """(dotted name, member) of what `get_members_fn(module)` gives as pairs, for this module and all below it."""
        return tree.named_members(self, get_members_fn, prefix, recurse, remove_duplicate)

    def get_submodule(self, target: str) -> Module:
        """The module of that dotted name ("" is this one). Raises AttributeError where the path breaks."""
        module = self
        for name in target.split(".") if target else ():
            child = module._modules.get(name)
            if child is None:
                raise AttributeError(f"{module._get_name()} has no submodule `{name}`")
            module = child
        return module

    def set_submodule(self, target: str, module: Module, strict: bool = False) -> None:
        """Put a module in the place of that dotted name, or, unless strict, at a new name in a module that is there.

        Raises ValueError for an empty name or what is no Module, AttributeError where the path breaks or the name is no
        module's."""
        if not target:
            raise ValueError("Cannot set the submodule without a target name!")
        module = adopted(module)
        if not isinstance(module, Module):
            raise ValueError(f"`module` is not an nn.Module, found {type(module)}")
        path, _, name = target.rpartition(".")
        parent = self.get_submodule(path)
        if strict and not hasattr(parent, name):
            raise AttributeError(f"{parent._get_name()} has no attribute `{name}`")
        if hasattr(parent, name) and not isinstance(getattr(parent, name), Module):
            raise AttributeError(f"`{name}` is not an nn.Module")
        setattr(parent, name, module)

    def get_parameter(self, target: str) -> Parameter:
        """The parameter of that dotted name. Raises AttributeError when there is none."""
        path, _, name = target.rpartition(".")
        module = self.get_submodule(path)
        found = module._parameters.get(name)
        if found is None:
            raise AttributeError(f"{module._get_name()} has no parameter `{name}`")
        return found

    def get_buffer(self, target: str) -> Tensor:
        """The buffer of that dotted name. Raises AttributeError when there is none."""
        path, _, name = target.rpartition(".")
        module = self.get_submodule(path)
        found = module._buffers.get(name)
        if found is None:
            raise AttributeError(f"{module._get_name()} has no buffer `{name}`")
        return found

    # -- modes and conversions --------------------------------------------------------------------------------------

    def train(self: M, mode: bool = True) -> M:
        """Switch this module and all below it to training mode (dropout drops, batch norm measures)."""
        if not isinstance(mode, bool):
            raise ValueError("training mode is expected to be boolean")
        self.training = mode
        for child in self.children():
            child.train(mode)
        return self

    def eval(self: M) -> M:
        """Switch to evaluation mode: train(False)."""
        return self.train(False)

    def requires_grad_(self: M, requires_grad: bool = True) -> M:
        """Freeze (False) or unfreeze every parameter."""
        for parameter in self.parameters():
            parameter.requires_grad_(requires_grad)
        return self

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Drop the gradients of all parameters, or fill them with zeros."""
        for parameter in self.parameters():
            conversion.clear_grad(parameter, set_to_none)

    def apply(self: M, fn: Callable[[Module], Any]) -> M:
        """Call fn on every module below this one, then on this one (to initialise weights)."""
        for child in self.children():
            child.apply(fn)
        fn(self)
        return self

    def _apply(self: M, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> M:
        """Give each parameter and buffer, and its gradient, the data that fn makes of it; all below this first."""
        if recurse:
            for child in self.children():
                child._apply(fn)
        for tensor in (*self._parameters.values(), *self._buffers.values()):
            if tensor is not None:
                conversion.apply_to(tensor, fn)
        return self

    def to(self: M, *args: Any, **kwargs: Any) -> M:
        """`to(dtype)`, `to(device)`, `to(device, dtype)` or `to(tensor)`: convert parameters and buffers in place.
        dtype must be floating-point and changes only floating-point tensors."""
        return self._apply(conversion.converting(*args, **kwargs))

    def float(self: M) -> M:
        """Floating-point parameters and buffers become float32."""
        return self._apply(conversion.to_dtype(conversion.f32))

    def double(self: M) -> M:
        """Floating-point parameters and buffers become float64."""
        return self._apply(conversion.to_dtype(conversion.f64))

    def half(self: M) -> M:
        """Floating-point parameters and buffers become float16."""
        return self._apply(conversion.to_dtype(conversion.f16))

    def bfloat16(self: M) -> M:
        """Floating-point parameters and buffers become bfloat16."""
        return self._apply(conversion.to_dtype(conversion.bf16))

    def type(self: M, dst_type: Any) -> M:
        """All parameters and buffers in another dtype, those that are not floating-point too."""
        return self._apply(lambda t: t.type(dst_type))  # type: ignore[operator]

    def to_empty(self: M, *, device: Any = None, recurse: bool = True) -> M:
        """New memory for all parameters and buffers, whose contents are not set."""
        return self._apply(lambda t: conversion.empty_like(t, device=device), recurse)

    def cpu(self: M) -> M:
        """Parameters and buffers move to the CPU."""
        return self.to("cpu")

    def cuda(self: M, device: Any = None) -> M:
        """Parameters and buffers move to a GPU, by default the current one. Raises UnsupportedError where there is none."""
        return self._apply(lambda t: t.cuda(device))

    def xpu(self: M, device: Any = None) -> M:
        """Raises UnsupportedError: there is no such device."""
        return self.to("xpu")

    def ipu(self: M, device: Any = None) -> M:
        """Raises UnsupportedError: there is no such device."""
        return self.to("ipu")

    def mtia(self: M, device: Any = None) -> M:
        """Raises UnsupportedError: there is no such device."""
        return self.to("mtia")

    def share_memory(self: M) -> M:
        """This module as it is: its parameters stay where they are, and a process that is forked has a copy of them."""
        return self

    # -- copying and showing ----------------------------------------------------------------------------------------

    def __getstate__(self) -> dict[str, Any]:
        """What is copied and pickled: all but what was compiled."""
        return {name: value for name, value in self.__dict__.items() if name != "_compiled_call_impl"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        for name in _DICTS:                     # of a pickle that an older version wrote
            self.__dict__.setdefault(name, Noticed())
        self.__dict__.update(state)
        epoch.bump()

    def extra_repr(self) -> str:
        """What stands between the parentheses of the repr; one line or several."""
        return ""

    def _get_name(self) -> str:
        return type(self).__name__

    def __repr__(self) -> str:
        return tree.described(self)


def traced_call(module: Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """A call that is traced: what it owns gets names, and its ops are told to be its."""
    tracer = active.tracer
    assert tracer is not None, "nothing is traced"
    if id(module) not in tracer.name_of:
        tree.name_state(tracer, module)
    outer = active.module, active.kind
    active.module, active.kind = tracer.name_of[id(module)], type(module).__name__
    try:
        return module._call_impl(*args, **kwargs)
    except Exception as error:
        blame(error, module)
        raise
    finally:
        active.module, active.kind = outer


CALLS[Module.__call__.__code__], CALLS[traced_call.__code__] = "self", "module"


def checked_module(value: object) -> Module:
    """The Module that a container takes for `value`. Raises TypeError for what is none."""
    module = adopted(value)
    if not isinstance(module, Module):
        raise TypeError(f"{type(module).__name__} is not a Module subclass")
    return module
