"""Gradients made smaller where they are too large."""
from __future__ import annotations

import math
from collections.abc import Iterable

from flambeau.errors import TraceError
from flambeau.frontend.active import active
from flambeau.frontend.functions.creation import zeros
from flambeau.frontend.functions.stacking import stack
from flambeau.frontend.tape.autograd import no_grad
from flambeau.frontend.tensor.tensor import Tensor
from flambeau.frontend.where import describe, user_location
from flambeau.warned import warn


def _gradients(parameters: Tensor | Iterable[Tensor]) -> list[Tensor]:
    given = [parameters] if isinstance(parameters, Tensor) else list(parameters)
    if not given:
        warn("FB007", "no parameters were given to clip the gradients of: the iterable is empty", stacklevel=4)
    return [grad for grad in [p.grad for p in given] if grad is not None]


@no_grad()
def get_total_norm(tensors: Tensor | Iterable[Tensor], norm_type: float = 2.0, error_if_nonfinite: bool = False,
                   foreach: bool | None = None) -> Tensor:
    """The norm of all tensors taken as one vector (0-d). norm_type: 2, any p, 0 (how many of their norms are not 0), inf
    or -inf. foreach is accepted.

    error_if_nonfinite: raise RuntimeError for an inf or NaN norm; not in compiled functions, where it raises TraceError."""
    given = [tensors] if isinstance(tensors, Tensor) else list(tensors)
    norm_type = float(norm_type)
    if not given:
        return zeros(())
    if math.isinf(norm_type):
        extremes = [t.abs().max() if norm_type > 0 else t.abs().min() for t in given]
        total = stack(extremes).max() if norm_type > 0 else stack(extremes).min()
    elif norm_type == 2:
        total = stack([(t * t).sum() for t in given]).sum().sqrt()
    elif norm_type == 0:
        total = stack([(t != 0).sum().to(t.dtype) for t in given]).ne(0).sum().to(given[0].dtype)
    else:
        total = stack([(t.abs() ** norm_type).sum() for t in given]).sum() ** (1.0 / norm_type)
    if error_if_nonfinite:
        _refuse_nonfinite(total, norm_type)
    return total


def _refuse_nonfinite(total: Tensor, norm_type: float) -> None:
    if active.hides_values:
        raise TraceError("error_if_nonfinite asks for the value of the norm, which a compiled function does not have while "
                         "it is traced", where=describe(user_location()), hint="return the norm and look at it outside")
    if not math.isfinite(total.item()):
        raise RuntimeError(f"The total norm of order {norm_type} for gradients from `parameters` is non-finite, so it "
                           "cannot be clipped. Pass error_if_nonfinite=False to scale by it all the same")


@no_grad()
def clip_grads_with_norm_(parameters: Tensor | Iterable[Tensor], max_norm: float, total_norm: Tensor,
                          foreach: bool | None = None) -> None:
    """Scale all gradients in place by max_norm / total_norm, where that is less than 1."""
    factor = (max_norm / (total_norm + 1e-6)).clamp(max=1.0)
    for grad in _gradients(parameters):
        grad.mul_(factor)


@no_grad()
def clip_grad_norm_(parameters: Tensor | Iterable[Tensor], max_norm: float, norm_type: float = 2.0,
                    error_if_nonfinite: bool = False, foreach: bool | None = None) -> Tensor:
    """Scale all gradients in place so that their norm, taken as one vector, is at most max_norm.

    Returns the norm they had (0-d). error_if_nonfinite: raise RuntimeError for an inf or NaN norm."""
    given = [parameters] if isinstance(parameters, Tensor) else list(parameters)
    total = get_total_norm(_gradients(given), norm_type, error_if_nonfinite, foreach)
    if given:
        clip_grads_with_norm_(given, max_norm, total, foreach)
    return total


def clip_grad_norm(parameters: Tensor | Iterable[Tensor], max_norm: float, norm_type: float = 2.0,
                   error_if_nonfinite: bool = False, foreach: bool | None = None) -> Tensor:
    """clip_grad_norm_, under the name that PyTorch keeps for old programs and warns of."""
    warn("FB008", "nn.utils.clip_grad_norm is now deprecated in favor of nn.utils.clip_grad_norm_", stacklevel=2)
    total: Tensor = clip_grad_norm_(parameters, max_norm, norm_type, error_if_nonfinite, foreach)
    return total


@no_grad()
def clip_grad_value_(parameters: Tensor | Iterable[Tensor], clip_value: float, foreach: bool | None = None) -> None:
    """Clip every element of the gradients to [-clip_value, clip_value], in place."""
    for grad in _gradients(parameters):
        grad.clamp_(-clip_value, clip_value)


__all__ = ["clip_grad_norm", "clip_grad_norm_", "clip_grad_value_", "clip_grads_with_norm_", "get_total_norm"]
