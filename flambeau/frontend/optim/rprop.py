"""Rprop. Riedmiller and Braun, ICNN 1993; without weight backtracking (iRprop-): Igel and Huesken, NC 2000."""
from __future__ import annotations

from typing import Any

from flambeau.frontend.functions.elementwise import where
from flambeau.frontend.optim.arguments import require_nonnegative
from flambeau.frontend.optim.groups import decisive
from flambeau.frontend.optim.optimizer import Beside, Optimizer, hyper_pair, makers, new_step
from flambeau.frontend.tape.writes import assign_
from flambeau.frontend.tensor.tensor import Tensor


class Rprop(Optimizer):
    """p -= sign(g) * s. Each element's step s grows by etas[1] while g keeps its sign, and shrinks by etas[0] when it
    changes, where that step is not taken; s stays within step_sizes, and is lr at first."""

    def __init__(self, params: Any, lr: float | Tensor = 1e-2, etas: tuple[float, float] = (0.5, 1.2),
                 step_sizes: tuple[float, float] = (1e-6, 50), *, capturable: bool = False,
                 foreach: bool | None = None, maximize: bool = False, differentiable: bool = False):
        require_nonnegative(("learning rate", lr))
        if not 0.0 < etas[0] < 1.0 < etas[1]:
            raise ValueError(f"Invalid eta values: {etas[0]}, {etas[1]}")
        super().__init__(params, {"lr": lr, "etas": tuple(etas), "step_sizes": tuple(step_sizes), "foreach": foreach,
                                  "maximize": maximize, "differentiable": differentiable, "capturable": capturable})

    def _update(self, group: dict[str, Any]) -> None:
        numbers = Beside(*hyper_pair(group, "etas"), *hyper_pair(group, "step_sizes"))
        start = float(decisive(group, "lr"))
        for p, grad in self._with_gradients(group):
            shrink, grow, least, most = numbers(p)
            state = self._state_of(p, {"step": new_step} | makers(p, "prev") | makers(p, "step_size", value=start))
            assign_(state["step"], state["step"] + 1)
            agreement = grad * state["prev"]
            size = state["step_size"]
            size = where(agreement > 0, size * grow, where(agreement < 0, size * shrink, size)).clamp(least, most)
            assign_(state["step_size"], size)
            taken = assign_(state["prev"], where(agreement < 0, 0.0, grad))
            assign_(p, p - taken.sign() * size)
