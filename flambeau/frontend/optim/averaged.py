"""ASGD. Polyak and Juditsky, SIAM J. Control Optim. 1992."""
from __future__ import annotations

from typing import Any

from flambeau.frontend.functions.elementwise import where
from flambeau.frontend.optim.arguments import require_nonnegative
from flambeau.frontend.optim.groups import decisive
from flambeau.frontend.optim.optimizer import Optimizer, hyper, makers, new_step
from flambeau.frontend.tape.writes import assign_
from flambeau.frontend.tensor.tensor import Tensor
from flambeau.ir import dtypes as dt


class ASGD(Optimizer):
    """p = p * (1 - lambd * eta) - eta * g with eta = lr / (1 + lambd * lr * step)**alpha; the state "ax" is the mean
    of p from step t0 on."""

    def __init__(self, params: Any, lr: float | Tensor = 1e-2, lambd: float = 1e-4, alpha: float = 0.75,
                 t0: float = 1e6, weight_decay: float = 0, foreach: bool | None = None, maximize: bool = False,
                 differentiable: bool = False, capturable: bool = False):
        require_nonnegative(("learning rate", lr), ("weight_decay value", weight_decay))
        super().__init__(params, {"lr": lr, "lambd": lambd, "alpha": alpha, "t0": t0, "weight_decay": weight_decay,
                                  "foreach": foreach, "maximize": maximize, "differentiable": differentiable,
                                  "capturable": capturable})

    def _update(self, group: dict[str, Any]) -> None:
        lr, decay, power = hyper(group, "lr"), hyper(group, "lambd"), hyper(group, "alpha")
        start = float(decisive(group, "lr"))
        for p, grad in self._with_gradients(group):
            state = self._state_of(p, {"step": new_step, "eta": lambda: new_step(start), "mu": lambda: new_step(1.0)}
                                   | makers(p, "ax"))
            step = assign_(state["step"], state["step"] + 1).to(dt.f64)
            eta, mu = state["eta"].to(dt.f64), state["mu"].to(p.dtype)
            moved = assign_(p, p * (1 - decay * eta).to(p.dtype) - grad * eta.to(p.dtype))
            assign_(state["ax"], where(mu == 1, moved, state["ax"] + (moved - state["ax"]) * mu))
            assign_(state["eta"], (lr / (1 + decay * lr * step) ** power).to(dt.f32))
            assign_(state["mu"], (1 / (step - hyper(group, "t0")).clamp(min=1.0)).to(dt.f32))
