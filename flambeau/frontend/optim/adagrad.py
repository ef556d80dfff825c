"""Adagrad. Duchi, Hazan and Singer, JMLR 2011."""
from __future__ import annotations

from typing import Any

from flambeau.frontend.optim.arguments import require_nonnegative
from flambeau.frontend.optim.groups import decisive
from flambeau.frontend.optim.optimizer import Beside, Optimizer, hyper, makers, new_step
from flambeau.frontend.tape.writes import assign_
from flambeau.frontend.tensor.tensor import Tensor
from flambeau.ir import dtypes as dt


class Adagrad(Optimizer):
    """p -= lr / (1 + (step - 1) * lr_decay) * g / (sqrt(sum of g**2 so far) + eps)."""

    def __init__(self, params: Any, lr: float | Tensor = 1e-2, lr_decay: float = 0, weight_decay: float = 0,
                 initial_accumulator_value: float = 0, eps: float = 1e-10, foreach: bool | None = None, *,
                 maximize: bool = False, differentiable: bool = False, fused: bool | None = None):
        require_nonnegative(("learning rate", lr), ("lr_decay value", lr_decay), ("weight_decay value", weight_decay),
                            ("initial_accumulator_value value", initial_accumulator_value), ("epsilon value", eps))
        super().__init__(params, {"lr": lr, "lr_decay": lr_decay, "eps": eps, "weight_decay": weight_decay,
                                  "initial_accumulator_value": initial_accumulator_value, "foreach": foreach,
                                  "maximize": maximize, "differentiable": differentiable, "fused": fused})

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Optimize more parameters; Adagrad's state exists from here on, as in PyTorch."""
        super().add_param_group(param_group)
        for p in param_group["params"]:
            self._own_state(p, param_group)

    def _own_state(self, p: Tensor, group: dict[str, Any]) -> dict[str, Any]:
        start = decisive(group, "initial_accumulator_value")
        return self._state_of(p, {"step": new_step} | makers(p, "sum", value=start))

    def _update(self, group: dict[str, Any]) -> None:
        lr, lr_decay, numbers = hyper(group, "lr"), hyper(group, "lr_decay"), Beside(hyper(group, "eps"))
        for p, grad in self._with_gradients(group):
            (eps,) = numbers(p)
            state = self._own_state(p, group)
            step = assign_(state["step"], state["step"] + 1).to(dt.f64)
            total = assign_(state["sum"], state["sum"] + grad * grad)
            rate = (lr / ((step - 1) * lr_decay + 1)).to(p.dtype)
            assign_(p, p - grad * rate / (total.sqrt() + eps))
