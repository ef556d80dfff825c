"""state_dict and load_state_dict: a tree of Modules to and from one flat dictionary with PyTorch's keys."""
from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple, TypeVar

import numpy as np

from flambeau.frontend.nn.hooks import Hooked
from flambeau.frontend.nn.parameter import Parameter
from flambeau.frontend.tape.autograd import no_grad
from flambeau.frontend.tensor.tensor import Tensor
from flambeau.ir import dtypes as dt

_EXTRA = "_extra_state"


class IncompatibleKeys(NamedTuple):
    """What load_state_dict(strict=False) did not match."""

    missing_keys: list[str]
    unexpected_keys: list[str]

    def __repr__(self) -> str:
        if not self.missing_keys and not self.unexpected_keys:
            return "<All keys matched successfully>"
        return f"IncompatibleKeys(missing_keys={self.missing_keys}, unexpected_keys={self.unexpected_keys})"


class Saved(Hooked):
    """The part of Module that is saved and loaded. A module that keeps its state in another form overrides
    `_save_to_state_dict` and `_load_from_state_dict`, or get_extra_state and set_extra_state."""

    T_destination = TypeVar("T_destination", bound=dict[str, Any])      # a name that annotations of users' code use
    dump_patches: bool = False
    _version: int = 1                       # of the form of the state, kept in `state_dict()._metadata`
    _parameters: dict[str, Any]
    _buffers: dict[str, Any]
    _modules: dict[str, Any]
    _non_persistent_buffers_set: set[str]

    def get_extra_state(self) -> Any:
        """What state_dict() keeps beside parameters and buffers; only of modules that define it."""
        raise RuntimeError("get_extra_state() is for modules that define it")

    def set_extra_state(self, state: Any) -> None:
        """Take back what get_extra_state() gave; a module that defines that defines this too."""
        raise RuntimeError("a module whose state_dict() has an extra state must define set_extra_state()")

    def state_dict(self, *args: Any, destination: Any = None, prefix: str = "", keep_vars: bool = False) -> Any:
        """Parameters and persistent buffers by dotted name, sharing memory; detached unless keep_vars.

        destination: a dict that they are put into. `_metadata` on the result has each module's version."""
        given = dict(zip(("destination", "prefix", "keep_vars"), args, strict=False))
        destination, prefix = given.get("destination", destination), given.get("prefix", prefix)
        keep_vars = given.get("keep_vars", keep_vars)
        if destination is None:
            destination = OrderedDict()
            destination._metadata = OrderedDict()
        metadata = {"version": self._version}
        if hasattr(destination, "_metadata"):
            destination._metadata[prefix[:-1]] = metadata
        for hook in list(self._state_dict_pre_hooks.values()):
            hook(self, prefix, keep_vars)
        self._save_to_state_dict(destination, prefix, keep_vars)
        for name, child in self._modules.items():
            if child is not None:
                child.state_dict(destination=destination, prefix=f"{prefix}{name}.", keep_vars=keep_vars)
        for hook in list(self._state_dict_hooks.values()):
            changed = hook(self, destination, prefix, metadata)
            destination = destination if changed is None else changed
        return destination

    def _save_to_state_dict(self, destination: Any, prefix: str, keep_vars: bool) -> None:
        """Put this module's own tensors into the dict, under keys that begin with prefix."""
        for name, tensor in _persistent(self):
            destination[prefix + name] = tensor if keep_vars else tensor.detach()
        if type(self).get_extra_state is not Saved.get_extra_state:
            destination[prefix + _EXTRA] = self.get_extra_state()

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True,
                        assign: bool = False) -> IncompatibleKeys:
        """Copy values (tensors or ndarrays) into the parameters and buffers of the same names, in place: compiled functions
        go on with the new values. assign: the given tensors take the place of the old ones.

        Returns the missing and unexpected keys. Raises RuntimeError when there are any (strict), or shapes differ;
        tensors that do match are then copied."""
        if not isinstance(state_dict, Mapping):
            raise TypeError(f"Expected state_dict to be dict-like, got {type(state_dict)}.")
        loading = _Loading(OrderedDict(state_dict), getattr(state_dict, "_metadata", None) or {}, assign)
        loading.load(self, loading.state, "")
        problems = loading.problems
        if strict:
            if loading.keys.missing_keys:
                problems.insert(0, f"Missing key(s) in state_dict: {_quoted(loading.keys.missing_keys)}. ")
            if loading.keys.unexpected_keys:
                problems.insert(0, f"Unexpected key(s) in state_dict: {_quoted(loading.keys.unexpected_keys)}. ")
        if problems:
            raise RuntimeError(f"Error(s) in loading state_dict for {type(self).__name__}:\n\t" + "\n\t".join(problems))
        return loading.keys

    def _load_from_state_dict(self, state_dict: Any, prefix: str, local_metadata: dict[str, Any], strict: bool,
                              missing_keys: list[str], unexpected_keys: list[str], error_msgs: list[str]) -> None:
        """Take this module's own values, those whose keys begin with prefix, and add to the lists what went wrong."""
        for hook in list(self._load_state_dict_pre_hooks.values()):
            hook(self, state_dict, prefix, local_metadata, strict, missing_keys, unexpected_keys, error_msgs)
        own, assign = dict(_persistent(self)), local_metadata.get("assign_to_params_buffers", False)
        for name, target in own.items():
            key = prefix + name
            if key in state_dict:
                problem = self._take(name, key, target, state_dict[key], assign)
                if problem:
                    error_msgs.append(problem)
            elif strict:
                missing_keys.append(key)
        extra = prefix + _EXTRA
        has_extra = type(self).set_extra_state is not Saved.set_extra_state
        if has_extra and extra in state_dict:
            self.set_extra_state(state_dict[extra])
        elif has_extra and strict:
            missing_keys.append(extra)
        elif extra in state_dict and strict:
            unexpected_keys.append(extra)
        if strict:
            for key in state_dict:
                if key.startswith(prefix) and key != extra:
                    first, *deeper = key[len(prefix):].split(".", 1)
                    if first not in (self._modules if deeper else own):
                        unexpected_keys.append(key)

    def _take(self, name: str, key: str, target: Tensor, value: Any, assign: bool) -> str | None:
        """Copy one value; the problem in words when it can't be."""
        if isinstance(value, np.ndarray):
            value = tensor_of(value)
        if not isinstance(value, Tensor):
            return (f'While copying the parameter named "{key}", expected a Tensor or ndarray from the state_dict but '
                    f"received {type(value).__name__}")
        if not target.ndim and value.ndim == 1 and value.numel() == 1:      # as versions of PyTorch before 0.4 wrote them
            value = value[0]
        if tuple(value.shape) != tuple(target.shape):
            return (f"size mismatch for {key}: copying a param with shape {value.shape} from checkpoint, the shape in "
                    f"current model is {target.shape}.")
        if assign:
            if isinstance(target, Parameter) and not isinstance(value, Parameter):
                value = Parameter(value, target.requires_grad)
            setattr(self, name, value)
        else:
            with no_grad():
                target.copy_(value)
        return None


class _Loading:
    """One load_state_dict: what it found wrong so far."""

    def __init__(self, state: Any, metadata: Mapping[str, Any], assign: bool):
        self.state, self.metadata, self.assign = state, metadata, assign
        self.keys = IncompatibleKeys([], [])
        self.problems: list[str] = []

    def load(self, module: Any, state: Any, prefix: str) -> None:
        """Hand their values to a module and those below it."""
        metadata = dict(self.metadata.get(prefix[:-1], {}))
        if self.assign:
            metadata["assign_to_params_buffers"] = True
        module._load_from_state_dict(state, prefix, metadata, True, *self.keys, self.problems)
        for name, child in module._modules.items():
            if child is not None:
                below = f"{prefix}{name}."
                self.load(child, {key: value for key, value in state.items() if key.startswith(below)}, below)
        for hook in list(module._load_state_dict_post_hooks.values()):
            if hook(module, self.keys) is not None:
                raise RuntimeError("a load_state_dict post-hook changes the lists of keys in place, and returns None")


def _persistent(module: Saved) -> Iterator[tuple[str, Tensor]]:
    """(name, tensor) of the module's own parameters and persistent buffers, in PyTorch's order."""
    for name, tensor in module._parameters.items():
        if tensor is not None:
            yield name, tensor
    for name, tensor in module._buffers.items():
        if tensor is not None and name not in module._non_persistent_buffers_set:
            yield name, tensor


def tensor_of(array: np.ndarray) -> Tensor:
    """A tensor that owns a copy of an ndarray."""
    return Tensor._from_array(np.array(array, order="C"), dt.from_numpy_dtype(array.dtype))


def _quoted(keys: list[str]) -> str:
    return ", ".join(f'"{key}"' for key in keys)
