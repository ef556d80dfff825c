"""nn.utils: gradient clipping, and parameters as one vector."""
from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from flambeau.frontend.functions.creation import zeros
from flambeau.frontend.functions.views import cat, stack
from flambeau.frontend.tape.autograd import no_grad
from flambeau.frontend.tensor.tensor import Tensor


def _gradients(parameters: Tensor | Iterable[Tensor]) -> list[Tensor]:
    given = [parameters] if isinstance(parameters, Tensor) else parameters
    return [grad for grad in [p.grad for p in given] if grad is not None]


@no_grad()
def get_total_norm(tensors: Tensor | Iterable[Tensor], norm_type: float = 2.0) -> Tensor:
    """The norm of all tensors taken as one vector (0-d). norm_type: 2, any p > 0, or inf."""
    given = [tensors] if isinstance(tensors, Tensor) else list(tensors)
    if not given:
        return zeros(())
    if math.isinf(norm_type):
        return stack([t.abs().max() for t in given]).max()
    if norm_type == 2:
        return stack([(t * t).sum() for t in given]).sum().sqrt()
    return stack([(t.abs() ** norm_type).sum() for t in given]).sum() ** (1.0 / norm_type)


@no_grad()
def clip_grad_norm_(parameters: Tensor | Iterable[Tensor], max_norm: float, norm_type: float = 2.0,
                    error_if_nonfinite: bool = False) -> Tensor:
    """Scale all gradients in place so that their norm, taken as one vector, is at most max_norm.

    Returns the norm they had (0-d). error_if_nonfinite: raise RuntimeError for an inf or NaN norm."""
    grads = _gradients(parameters)
    total = get_total_norm(grads, norm_type)
    if error_if_nonfinite and not math.isfinite(total.item()):
        raise RuntimeError(f"The total norm of order {norm_type} for gradients is non-finite, so it cannot be clipped")
    factor = (max_norm / (total + 1e-6)).clamp(max=1.0)
    for grad in grads:
        grad.mul_(factor)
    return total


@no_grad()
def clip_grad_value_(parameters: Tensor | Iterable[Tensor], clip_value: float) -> None:
    """Clip every element of the gradients to [-clip_value, clip_value], in place."""
    for grad in _gradients(parameters):
        grad.clamp_(-clip_value, clip_value)


def parameters_to_vector(parameters: Iterable[Tensor]) -> Tensor:
    """All parameters, flattened and concatenated: [total number of elements]."""
    return cat([p.reshape(-1) for p in parameters])


def vector_to_parameters(vec: Tensor, parameters: Iterable[Tensor]) -> None:
    """Copy the pieces of `vec` into the parameters, in place. Raises ValueError when the sizes differ."""
    targets: Sequence[Tensor] = list(parameters)
    if sum(p.numel() for p in targets) != vec.numel():
        raise ValueError(f"a vector of {vec.numel()} elements for {sum(p.numel() for p in targets)} parameter elements")
    start = 0
    with no_grad():
        for p in targets:
            p.copy_(vec[start:start + p.numel()].reshape(p.shape))
            start += p.numel()


__all__ = ["clip_grad_norm_", "clip_grad_value_", "get_total_norm", "parameters_to_vector", "vector_to_parameters"]
