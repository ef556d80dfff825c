"""Changing what a Module's tensors are made of: dtype and device, keeping the Parameter objects."""
from __future__ import annotations

from typing import TYPE_CHECKING, Any

from flambeau.errors import UnsupportedError
from flambeau.frontend.tape.autograd import no_grad
from flambeau.frontend.tensor.promotion import as_dtype
from flambeau.frontend.tensor.tensor import Tensor
from flambeau.ir.dtypes import DType, bf16, f16, f32, f64

if TYPE_CHECKING:
    from flambeau.frontend.nn.module import Module


def convert(module: Module, *args: Any, **kwargs: Any) -> None:
    """Module.to: the arguments in any of PyTorch's orders. Raises TypeError for a dtype that is not floating-point."""
    device, dtype = _target(args, kwargs)
    if device not in (None, "cpu"):
        raise UnsupportedError(f"to: there is no device {device!r}", hint="this build computes on 'cpu'")
    if dtype is None:
        return
    if not dtype.is_floating_point:
        raise TypeError(f"nn.Module.to only accepts floating point dtypes, but got desired dtype={dtype!r}")
    with no_grad():
        for owner in module.modules():
            for tensor in (*owner._parameters.values(), *owner._buffers.values()):
                if tensor is not None and tensor.is_floating_point() and tensor.dtype is not dtype:
                    grad = tensor.grad
                    tensor.data = tensor.detach().to(dtype)
                    tensor.grad = None if grad is None else grad.to(dtype)


def _target(args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[str | None, DType | None]:
    device, dtype = kwargs.pop("device", None), as_dtype(kwargs.pop("dtype", None), "to")
    kwargs.pop("non_blocking", None)
    if kwargs:
        raise TypeError(f"to: unknown argument {next(iter(kwargs))!r}")
    for given in args:
        if isinstance(given, (DType, type)):
            dtype = as_dtype(given, "to")
        elif isinstance(given, Tensor):
            device, dtype = given.device, given.dtype
        elif given is not None and not isinstance(given, bool):
            device = given
    return None if device is None else str(device), dtype


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


__all__ = ["bf16", "clear_grad", "convert", "f16", "f32", "f64"]
