"""Optimizer: parameter groups with hyperparameters, and state per parameter.

Under trace every numeric hyperparameter is a runtime number (`hyper`), so that schedules never recompile, and state
that the first step creates is made outside the trace, so that the first call captures what later calls update.
"""
from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from flambeau.errors import UnsupportedError
from flambeau.frontend.active import active, traced_by
from flambeau.frontend.functions import creation
from flambeau.frontend.functions.coerce import tensor_of
from flambeau.frontend.nn.conversion import clear_grad
from flambeau.frontend.optim.groups import Group, OptimizerState, Part, decisive
from flambeau.frontend.optim.hooks import Hooked, between_hooks
from flambeau.frontend.scalars import Scalar, plain
from flambeau.frontend.tape.autograd import enable_grad, no_grad
from flambeau.frontend.tape.moves import place_like, placed
from flambeau.frontend.tape.unwatched import are_plain, unwatched, watching
from flambeau.frontend.tensor.complex_tensor import ComplexTensor
from flambeau.frontend.tensor.tensor import Tensor
from flambeau.frontend.trace.guards.markers import Stated
from flambeau.frontend.trace.guards.node import Node
from flambeau.frontend.trace.guards.values import Way
from flambeau.ir import dtypes as dt
from flambeau.ir.dtypes import DType

_OURS = __name__.rpartition(".")[0] + "."
_NO_STATE: dict[str, Any] = {}


def hyper(group: dict[str, Any], key: str) -> Any:
    """A numeric hyperparameter: the number, under trace a runtime Scalar."""
    tracer = active.tracer
    return plain(group[key]) if tracer is None else tracer.scalar(group, key)


def hyper_pair(group: dict[str, Any], key: str) -> tuple[Any, Any]:
    """A pair of numeric hyperparameters (Adam's betas), each as `hyper` gives one."""
    tracer = active.tracer
    if tracer is None:
        first, second = group[key]
        return plain(first), plain(second)
    owner: Any = Part(group, key)
    return tracer.scalar(owner, f"{key}[0]"), tracer.scalar(owner, f"{key}[1]")


class Beside:
    """Numbers as operands beside tensors: `self(p)` gives them for tensors like p. A runtime Scalar is cast once, not for
    every parameter; anything else is left as it is, as is a Scalar beside a tensor without dims, whose dtype it must not
    change."""

    def __init__(self, *numbers: Any):
        self.numbers = numbers
        self._in_dtype: dict[DType, tuple[Any, ...]] = {}

    def __call__(self, p: Tensor) -> tuple[Any, ...]:
        if not p._type.shape:
            return self.numbers
        found = self._in_dtype.get(p.dtype)
        if found is None:
            wide = dt.f32 if p.dtype.itemsize == 2 else p.dtype     # beside 16 bits numbers keep their digits
            found = tuple([tensor_of(n, wide) if type(n) is Scalar else n for n in self.numbers])
            self._in_dtype[p.dtype] = found
        return found


class Alike:
    """`self(p, grad, ...)` calls `update(p, grad, ...)`, for one parameter after another of a group: elementwise ops that
    write to these tensors and depend on nothing else of a parameter but dtypes, and on whether it has dims. A trace then
    runs it for the first of a kind alone."""

    def __init__(self, update: Callable[..., None]):
        self._update = update
        self._known: dict[Any, Any] = {}

    def __call__(self, *tensors: Tensor) -> None:
        tracer: Any = active.tracer
        if tracer is None or tracer.is_level or tracer.around is not None:
            self._update(*tensors)
        else:
            tracer.repeat(self._update, tensors, self._known)


def full_like(p: Tensor, value: float = 0.0, shape: tuple[int, ...] | None = None) -> Tensor:
    """State of a parameter's dtype and shape (or of `shape`), `value` everywhere; made at once also under trace."""
    stored = dt.to_storage(np.asarray(value, p.dtype.compute), p.dtype)
    return Tensor._from_array(np.full(p._type.static_shape if shape is None else shape, stored, p.dtype.storage), p.dtype)


def new_step(start: float = 0.0) -> Tensor:
    """A step count: 0-d float32, as in PyTorch; made at once also under trace."""
    return Tensor._from_array(np.array(start, np.float32), dt.f32)


Maker = Callable[[], Tensor]


def makers(p: Tensor, *names: str, value: float = 0.0) -> dict[str, Maker]:
    """For `_state_of`: entries of a parameter's type, `value` everywhere at first."""
    return {name: lambda: full_like(p, value) for name in names}


def traced_like(value: Tensor) -> Tensor:
    """A tensor of the trace that is made anew at every call, filled with what `value` is filled with."""
    (number,) = {n.item() for n in np.unique(value._storage.array)}
    return creation.full(value._type.static_shape, number, dtype=value.dtype, device=value.device)


class Optimizer(Hooked, Stated):
    """Base of all optimizers. A subclass gives its defaults to `__init__` and defines `_update(group)`, or `step`.

    params: tensors, (name, tensor) pairs, or dicts with "params" and hyperparameters of their own.
    Raises ValueError for none, for duplicates and for tensors that are not leaves."""

    structural: tuple[str, ...] = ("momentum", "dampening", "weight_decay")
    """Hyperparameters whose being zero changes which operations a step does: that much of them is guarded."""
    _made_in: Any = None            # the trace that made it: its state starts anew at every call

    def __init__(self, params: Any, defaults: Mapping[str, Any]):
        if isinstance(params, (Tensor, str)) or not hasattr(params, "__iter__") and not hasattr(params, "__getitem__"):
            way = "; pass its .parameters()" if hasattr(params, "parameters") else \
                "; pass a list of it" if isinstance(params, Tensor) else ""
            raise TypeError("params argument given to the optimizer should be an iterable of Tensors or dicts, but "
                            f"got {type(params).__name__}{way}")
        if defaults.get("differentiable"):
            raise UnsupportedError("differentiable=True: optimizer steps are not recorded",
                                   hint="write the update with tensor operations to differentiate through it")
        if active.tracer is not None:
            self._made_in = active.tracer
        self.defaults, self._hooks = dict(defaults), {}
        self.state: defaultdict[Tensor, dict[str, Any]] = defaultdict(dict)
        self.param_groups: list[dict[str, Any]] = []
        groups = list(params)
        if not groups:
            raise ValueError("optimizer got an empty parameter list; a generator of parameters gives them once, and "
                             "Modules in a plain list are not found: use nn.ModuleList")
        for group in groups if isinstance(groups[0], dict) else [Group(params=groups)]:
            self.add_param_group(group)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Optimize more parameters; hyperparameters not given are the defaults."""
        if not isinstance(param_group, dict):
            raise TypeError(f"param_group must be a dict, but got {type(param_group)}")
        given = param_group["params"]
        if isinstance(given, (set, frozenset)):
            raise TypeError("optimizer parameters need to be organized in ordered collections; sets change their order")
        params = [given] if isinstance(given, Tensor) else list(given)
        if params and all(isinstance(p, tuple) for p in params):
            param_group["param_names"] = [name for name, _ in params]
            params = [p for _, p in params]
        params = [p._pair if isinstance(p, ComplexTensor) else p for p in params]
        for p in params:
            self._check(p)
        if len({id(p) for p in params}) < len(params):
            raise ValueError("optimizer contains a parameter group with duplicate parameters")
        known = {id(p) for group in self.param_groups for p in group["params"]}
        if known & {id(p) for p in params}:
            raise ValueError("some parameters appear in more than one parameter group")
        param_group["params"] = params
        for key, value in self.defaults.items():
            param_group.setdefault(key, value)
        self.param_groups.append(param_group)

    def _check(self, p: Any) -> None:
        if not isinstance(p, Tensor):
            raise TypeError(f"optimizer can only optimize Tensors, but one of the params is {type(p).__name__}; pass "
                            "module.parameters() or a list of tensors")
        if not p.is_leaf:
            raise ValueError(f"can't optimize a non-leaf Tensor: {p._type} was computed from others; pass those, or "
                             "detach().requires_grad_()")

    # -- a step -----------------------------------------------------------------------------------------------------

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "step" in cls.__dict__:
            cls.step = between_hooks(cls.step)          # type: ignore[method-assign]

    @between_hooks
    @no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Update every parameter that has a gradient, in place. closure: computes the gradients and gives the loss,
        which is then returned."""
        loss = None
        if closure is not None:
            with enable_grad():
                loss = closure()
        for group in self.param_groups:
            if watching and self._is_plain(group):
                unwatched(self._update, group)
            else:
                self._update(group)
        return loss

    def _is_plain(self, group: dict[str, Any]) -> bool:
        """True where updating these parameters runs no code of the user's."""
        if not type(self).__module__.startswith(_OURS) or type(group) not in (Group, dict) or \
                type(self.state) is not defaultdict or not are_plain(dict.values(group)):
            return False
        return all(are_plain((p.grad, *self.state.get(p, _NO_STATE).values())) for p in group["params"])

    def _update(self, group: dict[str, Any]) -> None:
        raise NotImplementedError(f"{type(self).__name__}: define _update(group) or step()")

    def _with_gradients(self, group: dict[str, Any]) -> Iterator[tuple[Tensor, Tensor]]:
        """(parameter, what to descend along): the gradient, negated for maximize, plus weight decay."""
        decays = decisive(group, "weight_decay") != 0 and not self._decouples(group)
        decay = Beside(hyper(group, "weight_decay")) if decays else None
        for p in group["params"]:
            grad = p.grad
            if grad is None:
                continue
            if group.get("maximize"):
                grad = -grad
            yield p, grad if decay is None else grad + p * decay(p)[0]

    def _shrinking(self, group: dict[str, Any]) -> Beside | None:
        """By what decoupled weight decay multiplies parameters; None where there is none."""
        if decisive(group, "weight_decay") == 0 or not self._decouples(group):
            return None
        return Beside(1 - hyper(group, "lr") * hyper(group, "weight_decay"))

    def _decouples(self, group: dict[str, Any]) -> bool:
        """True when weight decay is no part of the gradient (AdamW)."""
        return False

    def _state_of(self, p: Tensor, made: Mapping[str, Callable[[], Tensor]]) -> dict[str, Any]:
        """The state of p, with entries that are missing made now, where p lies."""
        state, tracer = self.state[p], active.tracer
        for key, make in made.items():
            if state.get(key) is None:
                if tracer is not None and tracer is self._made_in:
                    state[key] = placed(traced_like(make()), place_like(p))
                else:
                    with traced_by(None):
                        state[key] = placed(make(), place_like(p))
        label = None if tracer is None else tracer.name_of.get(id(p))
        if tracer is not None and label is not None:
            for key, value in state.items():
                tracer.name_of.setdefault(id(value), f"{label}.{key}")
        return state

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Drop the gradients of all parameters, or fill them with zeros."""
        for group in self.param_groups:
            for p in group["params"]:
                clear_grad(p, set_to_none)

    @staticmethod
    def _group_tensors_by_device_and_dtype(tensorlistlist: Sequence[Sequence[Any]], with_indices: bool = False
                                           ) -> dict[tuple[Any, DType], tuple[list[list[Any]], list[int]]]:
        """Lists of tensors that belong together, split by the dtypes of the first: {(device, dtype): (lists, places)}."""
        places: dict[tuple[Any, DType], list[int]] = {}
        for place, first in enumerate(tensorlistlist[0]):
            places.setdefault((first.device, first.dtype), []).append(place)
        return {key: ([[row[n] for n in found] if row else [] for row in tensorlistlist], found if with_indices else [])
                for key, found in places.items()}

    # -- saving and showing -----------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """{"state": {parameter number: its state}, "param_groups": [hyperparameters and parameter numbers]}; shares
        memory."""
        for hook in self._hooks_of("state_dict_pre"):
            hook(self)
        number_of = {id(p): n for n, p in enumerate(p for group in self.param_groups for p in group["params"])}
        groups = [{**{k: v for k, v in group.items() if k != "params"},
                   "params": [number_of[id(p)] for p in group["params"]]} for group in self.param_groups]
        found = {"state": {number_of[id(p)]: dict(state) for p, state in self.state.items() if id(p) in number_of},
                 "param_groups": groups}
        for hook in self._hooks_of("state_dict_post"):
            found = hook(self, found) or found
        return found

    @no_grad()
    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Take over state and hyperparameters. Tensors go where their parameter lies, and are copied in place where
        there are some of the same type, so that compiled functions go on with them. Raises ValueError when groups or
        their sizes differ."""
        for hook in self._hooks_of("load_pre"):
            state_dict = hook(self, dict(state_dict)) or state_dict
        saved_groups = state_dict["param_groups"]
        if len(saved_groups) != len(self.param_groups):
            raise ValueError("loaded state dict has a different number of parameter groups")
        if any(len(s["params"]) != len(g["params"]) for s, g in zip(saved_groups, self.param_groups, strict=True)):
            raise ValueError("loaded state dict contains a parameter group that doesn't match the size of optimizer's "
                             "group")
        kept: set[int] = set()
        for saved, group in zip(saved_groups, self.param_groups, strict=True):
            for number, p in zip(saved["params"], group["params"], strict=True):
                if number in state_dict["state"]:
                    kept.add(id(p))
                    self._load_state(p, state_dict["state"][number])
            group.update({k: v for k, v in saved.items() if k != "params"})
        for p in [p for p in self.state if id(p) not in kept]:
            del self.state[p]
        for hook in self._hooks_of("load_post"):
            hook(self)

    def _load_state(self, p: Tensor, saved: Mapping[str, Any]) -> None:
        own = self.state[p]
        for key in [k for k in own if k not in saved]:
            del own[key]
        for key, value in saved.items():
            if not isinstance(value, Tensor):
                own[key] = list(value) if isinstance(value, list) else value
                continue
            dtype = value.dtype if key == "step" or not p.is_floating_point() else p.dtype
            old = own.get(key)
            if isinstance(old, Tensor) and old._type == value._type.with_dtype(dtype).on(p._type.device):
                old.copy_(value)
            else:
                own[key] = _copied(value, dtype).to(p.device)

    def __repr__(self) -> str:
        lines = [f"{type(self).__name__} ("]
        for n, group in enumerate(self.param_groups):
            lines.append(f"Parameter Group {n}")
            lines += [f"    {key}: {group[key]}" for key in sorted(group) if key != "params"]
        return "\n".join([*lines, ")"])

    def _state_node(self, path: tuple[str, Way]) -> Node:
        return OptimizerState(self, path)


def _copied(value: Tensor, dtype: DType) -> Tensor:
    """A tensor of its own memory in `dtype`."""
    return value.detach().clone().to(dtype)
