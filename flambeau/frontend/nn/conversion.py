"""Changing what a Module's tensors are made of: dtype and device, keeping the Parameter objects."""
from __future__ import annotations

from collections.abc import Callable
from typing import Any

from flambeau.frontend.functions.creation import empty_like
from flambeau.frontend.tape.autograd import no_grad
from flambeau.frontend.tensor.device import place_named
from flambeau.frontend.tensor.promotion import as_dtype
from flambeau.frontend.tensor.tensor import Tensor
from flambeau.ir.dtypes import DType, bf16, f16, f32, f64


def apply_to(tensor: Tensor, fn: Callable[[Tensor], Tensor]) -> None:
    """Give a tensor, and its gradient, the data that fn makes of it, off the tape. It stays the same object."""
    with no_grad():
        new = fn(tensor)
        if new is tensor:
            return
        grad = tensor.grad
        tensor.data = new.detach()
        if grad is not None:
            tensor.grad = fn(grad).detach()


def to_dtype(dtype: DType) -> Callable[[Tensor], Tensor]:
    """Floating-point tensors become `dtype`, others stay."""
    return lambda t: t.to(dtype) if t.is_floating_point() else t


def converting(*args: Any, **kwargs: Any) -> Callable[[Tensor], Tensor]:
    """What Module.to makes of each tensor; the arguments in any of PyTorch's orders. Raises TypeError for a dtype that is
    not floating-point, UnsupportedError for a device that is not there."""
    device, dtype = _target(args, kwargs)
    if dtype is not None and not dtype.is_floating_point:
        raise TypeError(f"nn.Module.to only accepts floating point dtypes, but got desired dtype={dtype!r}")
    if device is None:
        return to_dtype(dtype) if dtype is not None else lambda t: t
    place = place_named(device) or "cpu"
    return lambda t: t.to(device=place, dtype=dtype if t.is_floating_point() else None)


def _target(args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, DType | None]:
    device, dtype = kwargs.pop("device", None), as_dtype(kwargs.pop("dtype", None), "to")
    for idle in ("non_blocking", "memory_format"):
        kwargs.pop(idle, None)
    if kwargs:
        raise TypeError(f"to: unknown argument {next(iter(kwargs))!r}")
    for given in args:
        if isinstance(given, (DType, type)):
            dtype = as_dtype(given, "to")
        elif isinstance(given, Tensor):
            device, dtype = given.device, given.dtype
        elif given is not None and not isinstance(given, bool):
            device = given
    return device, dtype


def clear_grad(parameter: Tensor, set_to_none: bool) -> None:
    """Drop a gradient, or fill it with zeros (off the tape)."""
    if set_to_none:
        parameter.grad = None
        return
    grad = parameter.grad
    if grad is not None:
        if grad.grad_fn is not None:
            parameter.grad = grad = grad.detach()
        with no_grad():
            grad.zero_()


__all__ = ["apply_to", "bf16", "clear_grad", "converting", "empty_like", "f16", "f32", "f64", "to_dtype"]
