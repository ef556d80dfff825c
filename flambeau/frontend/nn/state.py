"""state_dict and load_state_dict: a tree of Modules to and from one flat dictionary with PyTorch's keys."""
from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from flambeau.frontend.nn.tree import joined
from flambeau.frontend.tape.autograd import no_grad
from flambeau.frontend.tensor.tensor import Tensor
from flambeau.ir import dtypes as dt

if TYPE_CHECKING:
    from flambeau.frontend.nn.module import Module


class IncompatibleKeys(NamedTuple):
    """What load_state_dict(strict=False) did not match."""

    missing_keys: list[str]
    unexpected_keys: list[str]

    def __repr__(self) -> str:
        if not self.missing_keys and not self.unexpected_keys:
            return "<All keys matched successfully>"
        return f"IncompatibleKeys(missing_keys={self.missing_keys}, unexpected_keys={self.unexpected_keys})"


def persistent(module: Module, prefix: str = "") -> Iterator[tuple[str, Tensor]]:
    """(key, tensor) of the parameters and persistent buffers of the tree, in PyTorch's order; shared ones repeat."""
    for name, tensor in module._parameters.items():
        if tensor is not None:
            yield joined(prefix, name), tensor
    for name, tensor in module._buffers.items():
        if tensor is not None and name not in module._non_persistent_buffers_set:
            yield joined(prefix, name), tensor
    for name, child in module._modules.items():
        if child is not None:
            yield from persistent(child, joined(prefix, name))


def load(module: Module, state: Mapping[str, Any], strict: bool, assign: bool) -> IncompatibleKeys:
    """Copy `state` into the tensors of the tree, in place: compiled functions go on with the new values.

    assign=True puts the given tensors in place of the old ones. Raises RuntimeError listing every key that is
    missing or unexpected (strict) and every shape that differs (always); tensors that do match are then copied."""
    if not isinstance(state, Mapping):
        raise TypeError(f"Expected state_dict to be dict-like, got {type(state)}.")
    own = dict(persistent(module))
    missing = [key for key in own if key not in state]
    unexpected = [key for key in state if key not in own]
    problems = []
    if strict and missing:
        problems.append(f"Missing key(s) in state_dict: {_quoted(missing)}. ")
    if strict and unexpected:
        problems.append(f"Unexpected key(s) in state_dict: {_quoted(unexpected)}. ")
    for key, target in own.items():
        if key in state:
            problem = _load_one(module, key, target, state[key], assign)
            if problem:
                problems.append(problem)
    if problems:
        raise RuntimeError(f"Error(s) in loading state_dict for {type(module).__name__}:\n\t" + "\n\t".join(problems))
    return IncompatibleKeys(missing, unexpected)


def _load_one(root: Module, key: str, target: Tensor, value: Any, assign: bool) -> str | None:
    """Copy one entry; the problem in words when it can't be."""
    if isinstance(value, np.ndarray):
        value = tensor_of(value)
    if not isinstance(value, Tensor):
        return (f'While copying the parameter named "{key}", expected a Tensor or ndarray from the state_dict but '
                f"received {type(value).__name__}")
    if tuple(value.shape) != tuple(target.shape):
        return (f"size mismatch for {key}: copying a param with shape {value.shape} from checkpoint, the shape in "
                f"current model is {target.shape}.")
    if assign:
        path, _, name = key.rpartition(".")
        root.get_submodule(path)._replace(name, value)
    else:
        with no_grad():
            target.copy_(value)
    return None


def tensor_of(array: np.ndarray) -> Tensor:
    """A tensor that owns a copy of an ndarray."""
    return Tensor._from_array(np.array(array, order="C"), dt.from_numpy_dtype(array.dtype))


def _quoted(keys: list[str]) -> str:
    return ", ".join(f'"{key}"' for key in keys)
