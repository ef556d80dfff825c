"""Adam and AdamW. Kingma and Ba, ICLR 2015; Loshchilov and Hutter, ICLR 2019."""
from __future__ import annotations

from collections.abc import Callable
from typing import Any

from flambeau.frontend.functions.elementwise import maximum
from flambeau.frontend.inplace import assign_
from flambeau.frontend.optim.optimizer import Group, Optimizer, full_like, hyper, hyper_pair, new_step
from flambeau.frontend.tensor import Tensor
from flambeau.ir import dtypes as dt


class Adam(Optimizer):
    """p -= lr * m / (sqrt(v) + eps), m and v being bias-corrected running means of the gradient and its square.

    amsgrad uses the largest v so far. weight_decay is added to the gradient, or with decoupled_weight_decay shrinks p
    itself."""

    def __init__(self, params: Any, lr: float | Tensor = 1e-3, betas: tuple[float, float] = (0.9, 0.999),
                 eps: float = 1e-8, weight_decay: float = 0, amsgrad: bool = False, *, foreach: bool | None = None,
                 maximize: bool = False, capturable: bool = False, differentiable: bool = False,
                 fused: bool | None = None, decoupled_weight_decay: bool = False):
        for name, value in (("learning rate", lr), ("epsilon value", eps), ("weight_decay value", weight_decay)):
            if not isinstance(value, Tensor) and not value >= 0.0:
                raise ValueError(f"Invalid {name}: {value}")
        for index, beta in enumerate(betas):
            if not 0.0 <= beta < 1.0:
                raise ValueError(f"Invalid beta parameter at index {index}: {beta}")
        super().__init__(params, {"lr": lr, "betas": tuple(betas), "eps": eps, "weight_decay": weight_decay,
                                  "amsgrad": amsgrad, "foreach": foreach, "maximize": maximize,
                                  "capturable": capturable, "differentiable": differentiable, "fused": fused,
                                  "decoupled_weight_decay": decoupled_weight_decay})

    def _decouples(self, group: Group) -> bool:
        return bool(group["decoupled_weight_decay"])

    def _update(self, group: Group) -> None:
        lr, eps, (beta1, beta2) = hyper(group, "lr"), hyper(group, "eps"), hyper_pair(group, "betas")
        fresh1, fresh2 = 1 - beta1, 1 - beta2
        shrink = None
        if group["weight_decay"] != 0 and self._decouples(group):
            shrink = 1 - lr * hyper(group, "weight_decay")
        for p, grad in self._with_gradients(group):
            state = self._state_of(p, _state_made(p, group["amsgrad"]))
            step = assign_(state["step"], state["step"] + 1).to(dt.f64)
            mean = assign_(state["exp_avg"], state["exp_avg"] + (grad - state["exp_avg"]) * fresh1)
            square = assign_(state["exp_avg_sq"], state["exp_avg_sq"] * beta2 + grad * grad * fresh2)
            if group["amsgrad"]:
                square = assign_(state["max_exp_avg_sq"], maximum(state["max_exp_avg_sq"], square))
            step_size = lr / (1 - beta1**step)
            root = square.sqrt() / (1 - beta2**step).sqrt() + eps
            start = p if shrink is None else p * shrink
            assign_(p, start - mean * step_size / root)


class AdamW(Adam):
    """Adam whose weight decay shrinks the parameters themselves: p *= 1 - lr * weight_decay."""

    def __init__(self, params: Any, lr: float | Tensor = 1e-3, betas: tuple[float, float] = (0.9, 0.999),
                 eps: float = 1e-8, weight_decay: float = 1e-2, amsgrad: bool = False, *, maximize: bool = False,
                 foreach: bool | None = None, capturable: bool = False, differentiable: bool = False,
                 fused: bool | None = None):
        super().__init__(params, lr, betas, eps, weight_decay, amsgrad, foreach=foreach, maximize=maximize,
                         capturable=capturable, differentiable=differentiable, fused=fused,
                         decoupled_weight_decay=True)


def _state_made(p: Tensor, amsgrad: bool) -> dict[str, Callable[[], Tensor]]:
    """What the first step of p creates."""
    made: dict[str, Callable[[], Tensor]] = {
        "step": new_step, "exp_avg": lambda: full_like(p), "exp_avg_sq": lambda: full_like(p)}
    if amsgrad:
        made["max_exp_avg_sq"] = lambda: full_like(p)
    return made
