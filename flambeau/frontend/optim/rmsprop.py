"""RMSprop. Hinton, "Neural networks for machine learning", lecture 6e; centered: Graves, arXiv:1308.0850."""
from __future__ import annotations

from typing import Any

from flambeau.frontend.optim.arguments import require_nonnegative
from flambeau.frontend.optim.groups import decisive
from flambeau.frontend.optim.optimizer import Beside, Maker, Optimizer, hyper, makers, new_step
from flambeau.frontend.tape.writes import assign_
from flambeau.frontend.tensor.tensor import Tensor


class RMSprop(Optimizer):
    """p -= lr * g / (sqrt(v) + eps), v being a running mean of g**2; centered: less the square of g's running mean."""

    def __init__(self, params: Any, lr: float | Tensor = 1e-2, alpha: float = 0.99, eps: float = 1e-8,
                 weight_decay: float = 0, momentum: float = 0, centered: bool = False, capturable: bool = False,
                 foreach: bool | None = None, maximize: bool = False, differentiable: bool = False):
        require_nonnegative(("learning rate", lr), ("epsilon value", eps), ("momentum value", momentum),
                            ("weight_decay value", weight_decay), ("alpha value", alpha))
        super().__init__(params, {"lr": lr, "momentum": momentum, "alpha": alpha, "eps": eps, "centered": centered,
                                  "weight_decay": weight_decay, "capturable": capturable, "foreach": foreach,
                                  "maximize": maximize, "differentiable": differentiable})

    def _update(self, group: dict[str, Any]) -> None:
        kept = hyper(group, "alpha")
        numbers = Beside(hyper(group, "lr"), kept, 1 - kept, hyper(group, "eps"),
                         hyper(group, "momentum") if decisive(group, "momentum") != 0 else None)
        for p, grad in self._with_gradients(group):
            lr, alpha, fresh, eps, momentum = numbers(p)
            state = self._state_of(p, _state_made(p, momentum is not None, group["centered"]))
            assign_(state["step"], state["step"] + 1)
            square = assign_(state["square_avg"], state["square_avg"] * alpha + grad * grad * fresh)
            if group["centered"]:
                mean = assign_(state["grad_avg"], state["grad_avg"] + (grad - state["grad_avg"]) * fresh)
                square = square - mean * mean
            root = square.sqrt() + eps
            if momentum is None:
                assign_(p, p - grad * lr / root)
            else:
                buffer = assign_(state["momentum_buffer"], state["momentum_buffer"] * momentum + grad / root)
                assign_(p, p - buffer * lr)


def _state_made(p: Tensor, momentum: bool, centered: bool) -> dict[str, Maker]:
    names = ["square_avg", *(["momentum_buffer"] if momentum else []), *(["grad_avg"] if centered else [])]
    return {"step": new_step} | makers(p, *names)
