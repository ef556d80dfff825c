"""Muon. Jordan, "Muon: an optimizer for hidden layers in neural networks", 2024; the rates that match AdamW's: Liu et
al., arXiv:2502.16982."""
from __future__ import annotations

from math import sqrt
from typing import Any

from flambeau.frontend.functions.products import addmm
from flambeau.frontend.optim.arguments import require_nonnegative
from flambeau.frontend.optim.optimizer import Beside, Optimizer, hyper, makers
from flambeau.frontend.tape.writes import assign_
from flambeau.frontend.tensor.tensor import Tensor
from flambeau.ir import dtypes as dt


class Muon(Optimizer):
    """For matrices: p -= rate * the momentum with its singular values brought near 1, by ns_steps Newton-Schulz
    iterations of the polynomial a x + b x**3 + c x**5, in bf16.

    weight_decay shrinks p itself. adjust_lr_fn: "original" (None) scales lr by sqrt(max(1, rows / columns)),
    "match_rms_adamw" by 0.2 * sqrt(max(rows, columns)). Raises ValueError for parameters that are not matrices."""

    def __init__(self, params: Any, lr: float = 1e-3, weight_decay: float = 0.1, momentum: float = 0.95,
                 nesterov: bool = True, ns_coefficients: tuple[float, float, float] = (3.4445, -4.775, 2.0315),
                 eps: float = 1e-7, ns_steps: int = 5, adjust_lr_fn: str | None = None):
        require_nonnegative(("learning rate", lr), ("momentum value", momentum), ("weight_decay value", weight_decay))
        if adjust_lr_fn not in (None, "original", "match_rms_adamw"):
            raise ValueError(f"Adjust learning rate function {adjust_lr_fn} is not supported")
        if ns_steps >= 100:
            raise ValueError("Number of steps must be less than 100 for computational efficiency")
        if len(ns_coefficients) != 3:
            raise ValueError("Coefficients must be a tuple of exactly 3 values")
        super().__init__(params, {"lr": lr, "weight_decay": weight_decay, "momentum": momentum, "nesterov": nesterov,
                                  "ns_coefficients": tuple(ns_coefficients), "eps": eps, "ns_steps": ns_steps,
                                  "adjust_lr_fn": adjust_lr_fn})
        for group in self.param_groups:
            for p in group["params"]:
                if p.dim() != 2:
                    raise ValueError(f"Muon only supports 2D parameters whereas we found a parameter with size: "
                                     f"{tuple(p.shape)}")

    def _decouples(self, group: dict[str, Any]) -> bool:
        return True

    def _update(self, group: dict[str, Any]) -> None:
        lr, momentum, shrink = hyper(group, "lr"), hyper(group, "momentum"), self._shrinking(group)
        numbers = Beside(momentum, 1 - momentum)
        for p, grad in self._with_gradients(group):
            kept, fresh = numbers(p)
            buffer = self._state_of(p, makers(p, "momentum_buffer"))["momentum_buffer"]
            buffer = assign_(buffer, buffer + (grad - buffer) * fresh)
            update = grad + (buffer - grad) * kept if group["nesterov"] else buffer
            rows, columns = p.shape
            scale = 0.2 * sqrt(max(rows, columns)) if group["adjust_lr_fn"] == "match_rms_adamw" else sqrt(
                max(1, rows / columns))
            start = p if shrink is None else p * shrink(p)[0]
            assign_(p, start - _orthogonalized(update, group).to(p.dtype) * Beside(lr * scale)(p)[0])


def _orthogonalized(update: Tensor, group: dict[str, Any]) -> Tensor:
    """Nearly the closest matrix of orthonormal rows (or columns, where there are more rows). bf16[rows, columns]."""
    a, b, c = group["ns_coefficients"]
    is_tall = update.shape[0] > update.shape[1]
    x = update.to(dt.bf16)
    x = x.T if is_tall else x
    x = x / x.norm().clamp(min=group["eps"])
    for _ in range(int(group["ns_steps"])):
        gram = x @ x.T
        x = addmm(x, addmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.T if is_tall else x
