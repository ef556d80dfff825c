"""Adam's kin. Adamax: Kingma and Ba, ICLR 2015, section 7; NAdam: Dozat, ICLR 2016 workshop; RAdam: Liu et al., ICLR
2020.

What depends on the step count alone is computed in f64, since beta**step is near 1, and is then cast.
"""
from __future__ import annotations

from typing import Any

from flambeau.frontend.functions.elementwise import where
from flambeau.frontend.functions.pointwise import maximum
from flambeau.frontend.optim.arguments import require_betas, require_nonnegative
from flambeau.frontend.optim.optimizer import (
    Beside,
    Optimizer,
    hyper,
    hyper_pair,
    makers,
    new_step,
)
from flambeau.frontend.tape.writes import assign_
from flambeau.frontend.tensor.tensor import Tensor
from flambeau.ir import dtypes as dt


class Adamax(Optimizer):
    """p -= lr / (1 - beta1**step) * m / u, m being a running mean of g and u = max(beta2 * u, |g| + eps)."""

    def __init__(self, params: Any, lr: float | Tensor = 2e-3, betas: tuple[float, float] = (0.9, 0.999),
                 eps: float = 1e-8, weight_decay: float = 0, foreach: bool | None = None, *, maximize: bool = False,
                 differentiable: bool = False, capturable: bool = False):
        require_nonnegative(("learning rate", lr), ("epsilon value", eps), ("weight_decay value", weight_decay))
        require_betas(betas)
        super().__init__(params, {"lr": lr, "betas": tuple(betas), "eps": eps, "weight_decay": weight_decay,
                                  "foreach": foreach, "maximize": maximize, "differentiable": differentiable,
                                  "capturable": capturable})

    def _update(self, group: dict[str, Any]) -> None:
        lr, (beta1, beta2) = hyper(group, "lr"), hyper_pair(group, "betas")
        numbers = Beside(1 - beta1, beta2, hyper(group, "eps"))
        for p, grad in self._with_gradients(group):
            fresh1, kept2, eps = numbers(p)
            state = self._state_of(p, {"step": new_step} | makers(p, "exp_avg", "exp_inf"))
            step = assign_(state["step"], state["step"] + 1).to(dt.f64)
            mean = assign_(state["exp_avg"], state["exp_avg"] + (grad - state["exp_avg"]) * fresh1)
            largest = assign_(state["exp_inf"], maximum(state["exp_inf"] * kept2, grad.abs() + eps))
            assign_(p, p - mean * (lr / (1 - beta1**step)).to(p.dtype) / largest)


class NAdam(Optimizer):
    """Adam with Nesterov's momentum: the step is taken along a mean of m and g, weighted by a momentum that grows as
    beta1 * (1 - 0.96**(step * momentum_decay) / 2)."""

    def __init__(self, params: Any, lr: float | Tensor = 2e-3, betas: tuple[float, float] = (0.9, 0.999),
                 eps: float = 1e-8, weight_decay: float = 0, momentum_decay: float = 4e-3,
                 decoupled_weight_decay: bool = False, *, foreach: bool | None = None, maximize: bool = False,
                 capturable: bool = False, differentiable: bool = False):
        require_nonnegative(("learning rate", lr), ("epsilon value", eps), ("weight_decay value", weight_decay),
                            ("momentum_decay value", momentum_decay))
        require_betas(betas)
        super().__init__(params, {"lr": lr, "betas": tuple(betas), "eps": eps, "weight_decay": weight_decay,
                                  "momentum_decay": momentum_decay, "decoupled_weight_decay": decoupled_weight_decay,
                                  "maximize": maximize, "foreach": foreach, "capturable": capturable,
                                  "differentiable": differentiable})

    def _update(self, group: dict[str, Any]) -> None:
        lr, (beta1, beta2) = hyper(group, "lr"), hyper_pair(group, "betas")
        decay = hyper(group, "momentum_decay")
        numbers, shrink = Beside(1 - beta1, beta2, 1 - beta2, hyper(group, "eps")), self._shrinking(group)
        for p, grad in self._with_gradients(group):
            fresh1, kept2, fresh2, eps = numbers(p)
            state = self._state_of(p, {"step": new_step, "mu_product": lambda: new_step(1.0)}
                                   | makers(p, "exp_avg", "exp_avg_sq"))
            step = assign_(state["step"], state["step"] + 1).to(dt.f64)
            momentum = beta1 * (1 - 0.5 * 0.96 ** (step * decay))
            following = beta1 * (1 - 0.5 * 0.96 ** ((step + 1) * decay))
            product = assign_(state["mu_product"], state["mu_product"] * momentum.to(dt.f32)).to(dt.f64)
            mean = assign_(state["exp_avg"], state["exp_avg"] + (grad - state["exp_avg"]) * fresh1)
            square = assign_(state["exp_avg_sq"], state["exp_avg_sq"] * kept2 + grad * grad * fresh2)
            floor = (square / (1 - beta2**step).to(p.dtype)).sqrt() + eps
            along = (lr * (1 - momentum) / (1 - product)).to(p.dtype)
            ahead = (lr * following / (1 - product * following)).to(p.dtype)
            start = p if shrink is None else p * shrink(p)[0]
            assign_(p, start - grad * along / floor - mean * ahead / floor)

    def _decouples(self, group: dict[str, Any]) -> bool:
        return bool(group["decoupled_weight_decay"])


class RAdam(Optimizer):
    """Adam whose steps are rectified by the variance of the adaptive rate, and not adaptive as long as that is
    undefined (rho <= 5)."""

    def __init__(self, params: Any, lr: float | Tensor = 1e-3, betas: tuple[float, float] = (0.9, 0.999),
                 eps: float = 1e-8, weight_decay: float = 0, decoupled_weight_decay: bool = False, *,
                 foreach: bool | None = None, maximize: bool = False, capturable: bool = False,
                 differentiable: bool = False):
        require_nonnegative(("learning rate", lr), ("epsilon value", eps), ("weight_decay value", weight_decay))
        require_betas(betas)
        super().__init__(params, {"lr": lr, "betas": tuple(betas), "eps": eps, "weight_decay": weight_decay,
                                  "maximize": maximize, "foreach": foreach, "capturable": capturable,
                                  "decoupled_weight_decay": decoupled_weight_decay, "differentiable": differentiable})

    def _update(self, group: dict[str, Any]) -> None:
        lr, (beta1, beta2) = hyper(group, "lr"), hyper_pair(group, "betas")
        numbers, shrink = Beside(1 - beta1, beta2, 1 - beta2, hyper(group, "eps")), self._shrinking(group)
        longest = 2 / (1 - beta2) - 1                               # rho of infinitely many steps
        for p, grad in self._with_gradients(group):
            fresh1, kept2, fresh2, eps = numbers(p)
            state = self._state_of(p, {"step": new_step} | makers(p, "exp_avg", "exp_avg_sq"))
            step = assign_(state["step"], state["step"] + 1).to(dt.f64)
            mean = assign_(state["exp_avg"], state["exp_avg"] + (grad - state["exp_avg"]) * fresh1)
            square = assign_(state["exp_avg_sq"], state["exp_avg_sq"] * kept2 + grad * grad * fresh2)
            remaining = 1 - beta2**step
            rho = longest - 2 * step * beta2**step / remaining
            rectified = (rho - 4) * (rho - 2) * longest / ((longest - 4) * (longest - 2) * rho)
            scale = (where(rho > 5, rectified, 1.0).sqrt() * remaining.sqrt()).to(p.dtype)
            rate = where(rho > 5, scale / (square.sqrt() + eps), 1.0)
            start = p if shrink is None else p * shrink(p)[0]
            assign_(p, start - mean * (lr / (1 - beta1**step)).to(p.dtype) * rate)

    def _decouples(self, group: dict[str, Any]) -> bool:
        return bool(group["decoupled_weight_decay"])
