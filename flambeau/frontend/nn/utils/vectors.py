"""All parameters as one vector, and back; modules whose parameters are not filled in."""
from __future__ import annotations

import inspect
from collections.abc import Iterable
from typing import Any

from flambeau.frontend.functions.stacking import cat
from flambeau.frontend.nn.module import Module
from flambeau.frontend.tape.autograd import no_grad
from flambeau.frontend.tensor.tensor import Tensor


def parameters_to_vector(parameters: Iterable[Tensor]) -> Tensor:
    """All parameters, flattened and concatenated: [total number of elements]."""
    return cat([p.reshape(-1) for p in parameters])


def vector_to_parameters(vec: Tensor, parameters: Iterable[Tensor]) -> None:
    """Copy the pieces of `vec` into the parameters, in place. Raises TypeError for what is no tensor, ValueError when the
    sizes differ."""
    if not isinstance(vec, Tensor):
        raise TypeError(f"expected a Tensor, but got: {type(vec)}")
    targets = list(parameters)
    if sum(p.numel() for p in targets) != vec.numel():
        raise ValueError(f"a vector of {vec.numel()} elements for {sum(p.numel() for p in targets)} parameter elements")
    start = 0
    with no_grad():
        for p in targets:
            p.copy_(vec[start:start + p.numel()].reshape(p.shape))
            start += p.numel()


def skip_init(module_cls: type[Module], *args: Any, **kwargs: Any) -> Module:
    """`module_cls(*args, **kwargs)`, for code that fills the parameters in itself. They are initialized all the same: it
    costs little, and no value is left to chance.

    Raises RuntimeError for a class that is no Module, or whose __init__ takes no `device`."""
    if not issubclass(module_cls, Module):
        raise RuntimeError(f"Expected a Module; got {module_cls}")
    if "device" not in inspect.signature(module_cls).parameters:
        raise RuntimeError("Module must support a 'device' arg to skip initialization")
    return module_cls(*args, **kwargs)


__all__ = ["parameters_to_vector", "skip_init", "vector_to_parameters"]
