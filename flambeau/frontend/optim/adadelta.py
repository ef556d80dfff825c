"""Adadelta. Zeiler, arXiv:1212.5701."""
from __future__ import annotations

from typing import Any

from flambeau.frontend.optim.arguments import require_nonnegative
from flambeau.frontend.optim.optimizer import Beside, Optimizer, hyper, makers, new_step
from flambeau.frontend.tape.writes import assign_
from flambeau.frontend.tensor.tensor import Tensor


class Adadelta(Optimizer):
    """p -= lr * d, where d = g * sqrt(u + eps) / sqrt(v + eps), v and u being running means of g**2 and d**2."""

    def __init__(self, params: Any, lr: float | Tensor = 1.0, rho: float = 0.9, eps: float = 1e-6,
                 weight_decay: float = 0, foreach: bool | None = None, *, capturable: bool = False,
                 maximize: bool = False, differentiable: bool = False):
        require_nonnegative(("learning rate", lr), ("epsilon value", eps), ("weight_decay value", weight_decay))
        if not 0.0 <= rho <= 1.0:
            raise ValueError(f"Invalid rho value: {rho}")
        super().__init__(params, {"lr": lr, "rho": rho, "eps": eps, "weight_decay": weight_decay,
                                  "maximize": maximize, "capturable": capturable, "foreach": foreach,
                                  "differentiable": differentiable})

    def _update(self, group: dict[str, Any]) -> None:
        kept = hyper(group, "rho")
        numbers = Beside(hyper(group, "lr"), kept, 1 - kept, hyper(group, "eps"))
        for p, grad in self._with_gradients(group):
            lr, rho, fresh, eps = numbers(p)
            state = self._state_of(p, {"step": new_step} | makers(p, "square_avg", "acc_delta"))
            assign_(state["step"], state["step"] + 1)
            square = assign_(state["square_avg"], state["square_avg"] * rho + grad * grad * fresh)
            delta = (state["acc_delta"] + eps).sqrt() / (square + eps).sqrt() * grad
            assign_(state["acc_delta"], state["acc_delta"] * rho + delta * delta * fresh)
            assign_(p, p - delta * lr)
