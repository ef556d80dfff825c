"""Adam and AdamW. Kingma and Ba, ICLR 2015; Loshchilov and Hutter, ICLR 2019."""
from __future__ import annotations

from typing import Any

from flambeau.frontend.active import active
from flambeau.frontend.functions.pointwise import maximum
from flambeau.frontend.optim.arguments import require_betas, require_nonnegative
from flambeau.frontend.optim.optimizer import (
    Alike,
    Beside,
    Maker,
    Optimizer,
    hyper,
    hyper_pair,
    makers,
    new_step,
)
from flambeau.frontend.tape.dispatch import dispatch_number
from flambeau.frontend.tape.writes import assign_
from flambeau.frontend.tensor.tensor import Tensor
from flambeau.ir import dtypes as dt
from flambeau.ir.dtypes import DType


class Adam(Optimizer):
    """p -= lr * m / (sqrt(v) + eps), m and v being bias-corrected running means of the gradient and its square.

    amsgrad uses the largest v so far. weight_decay is added to the gradient, or with decoupled_weight_decay shrinks p
    itself."""

    def __init__(self, params: Any, lr: float | Tensor = 1e-3, betas: tuple[float, float] = (0.9, 0.999),
                 eps: float = 1e-8, weight_decay: float = 0, amsgrad: bool = False, *, foreach: bool | None = None,
                 maximize: bool = False, capturable: bool = False, differentiable: bool = False,
                 fused: bool | None = None, decoupled_weight_decay: bool = False):
        require_nonnegative(("learning rate", lr), ("epsilon value", eps), ("weight_decay value", weight_decay))
        require_betas(betas)
        super().__init__(params, {"lr": lr, "betas": tuple(betas), "eps": eps, "weight_decay": weight_decay,
                                  "amsgrad": amsgrad, "foreach": foreach, "maximize": maximize,
                                  "capturable": capturable, "differentiable": differentiable, "fused": fused,
                                  "decoupled_weight_decay": decoupled_weight_decay})

    def _decouples(self, group: dict[str, Any]) -> bool:
        return bool(group["decoupled_weight_decay"])

    def _update(self, group: dict[str, Any]) -> None:
        lr, eps, (beta1, beta2) = hyper(group, "lr"), hyper(group, "eps"), hyper_pair(group, "betas")
        numbers = Beside(1 - beta1, beta2, 1 - beta2, eps)
        shrink = self._shrinking(group)
        correct = _Correction(lr, beta1, beta2)

        def update(p: Tensor, grad: Tensor, step: Tensor, mean: Tensor, square: Tensor, most: Tensor | None = None) -> None:
            fresh1, kept2, fresh2, floor = numbers(p)
            step_size, scale = correct(assign_(step, step + 1), p.dtype)
            assign_(mean, mean + (grad - mean) * fresh1)
            assign_(square, square * kept2 + grad * grad * fresh2)
            largest = square if most is None else assign_(most, maximum(most, square))
            start = p if shrink is None else p * shrink(p)[0]
            assign_(p, start - mean * step_size / (largest.sqrt() / scale + floor))

        updated = Alike(update)
        for p, grad in self._with_gradients(group):
            made = _state_made(p, group["amsgrad"])
            state = self._state_of(p, made)
            updated(p, grad, *[state[name] for name in made])


class _Correction:
    """For the bias of running means that started at zero. Computed in f64, since beta**step is near 1; in eager mode
    once for all parameters of one step count and dtype."""

    def __init__(self, lr: Any, beta1: Any, beta2: Any):
        self.lr, self.beta1, self.beta2, self.one = lr, beta1, beta2, dispatch_number(1, dt.f64)
        self._known: dict[tuple[float, DType], tuple[Tensor, Tensor]] = {}

    def __call__(self, step: Tensor, dtype: DType) -> tuple[Tensor, Tensor]:
        """(lr / (1 - beta1**step), sqrt(1 - beta2**step)) in `dtype`."""
        if active.tracer is not None:
            return self._computed(step, dtype)
        key = (step.item(), dtype)
        if key not in self._known:
            self._known[key] = self._computed(step, dtype)
        return self._known[key]

    def _computed(self, step: Tensor, dtype: DType) -> tuple[Tensor, Tensor]:
        step = step.to(dt.f64)
        step_size, scale = self.lr / (self.one - self.beta1**step), (self.one - self.beta2**step).sqrt()
        return step_size.to(dtype), scale.to(dtype)


class AdamW(Adam):
    """Adam whose weight decay shrinks the parameters themselves: p *= 1 - lr * weight_decay."""

    def __init__(self, params: Any, lr: float | Tensor = 1e-3, betas: tuple[float, float] = (0.9, 0.999),
                 eps: float = 1e-8, weight_decay: float = 1e-2, amsgrad: bool = False, *, maximize: bool = False,
                 foreach: bool | None = None, capturable: bool = False, differentiable: bool = False,
                 fused: bool | None = None):
        super().__init__(params, lr, betas, eps, weight_decay, amsgrad, foreach=foreach, maximize=maximize,
                         capturable=capturable, differentiable=differentiable, fused=fused,
                         decoupled_weight_decay=True)


def _state_made(p: Tensor, amsgrad: bool) -> dict[str, Maker]:
    """What the first step of p creates."""
    names = ("exp_avg", "exp_avg_sq", "max_exp_avg_sq") if amsgrad else ("exp_avg", "exp_avg_sq")
    return {"step": new_step} | makers(p, *names)
