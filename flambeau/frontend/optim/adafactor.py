"""Adafactor. Shazeer and Stern, ICML 2018, with PyTorch's learning rate and without update momentum."""
from __future__ import annotations

from typing import Any

from flambeau.frontend.functions.dtypes import finfo
from flambeau.frontend.optim.arguments import require_nonnegative
from flambeau.frontend.optim.groups import decisive
from flambeau.frontend.optim.optimizer import Maker, Optimizer, full_like, hyper, makers, new_step
from flambeau.frontend.tape.writes import assign_
from flambeau.frontend.tensor.tensor import Tensor
from flambeau.ir import dtypes as dt


class Adafactor(Optimizer):
    """p -= a * u, u being g over the root of a running mean of g**2, which for matrices is kept as its row and column
    means alone; u is scaled down to a root mean square of d, and a = max(eps[1], rms(p)) * min(lr, 1 / sqrt(step)).

    weight_decay shrinks p itself. eps[0] None: that of the parameter's dtype."""

    def __init__(self, params: Any, lr: float | Tensor = 1e-2, beta2_decay: float = -0.8,
                 eps: tuple[float | None, float] = (None, 1e-3), d: float = 1.0, weight_decay: float = 0.0, *,
                 foreach: bool | None = None, maximize: bool = False):
        require_nonnegative(("learning rate", lr), ("epsilon1", 0 if eps[0] is None else eps[0]), ("epsilon2", eps[1]),
                            ("weight_decay value", weight_decay))
        if not beta2_decay <= 0.0:
            raise ValueError(f"beta2_decay should be <= 0 but is: {beta2_decay}")
        if not d >= 1.0:
            raise ValueError(f"Clipping threshold d should be >= 1 but is: {d}")
        super().__init__(params, {"lr": lr, "beta2_decay": beta2_decay, "eps": tuple(eps), "d": d,
                                  "weight_decay": weight_decay, "foreach": foreach, "maximize": maximize})

    def _decouples(self, group: dict[str, Any]) -> bool:
        return True

    def _update(self, group: dict[str, Any]) -> None:
        lr, least, shrink = hyper(group, "lr"), decisive(group, "eps")[1], self._shrinking(group)
        for p, grad in self._with_gradients(group):
            state = self._state_of(p, _state_made(p))
            step = assign_(state["step"], state["step"] + 1).to(dt.f64)
            fresh = (step ** hyper(group, "beta2_decay")).to(p.dtype)
            floor = decisive(group, "eps")[0]
            update = grad * _variance(state, grad, fresh, finfo(p.dtype).eps if floor is None else floor)
            start = p if shrink is None else p * shrink(p)[0]
            size = (p.square().mean().sqrt()).clamp(min=least) * step.rsqrt().clamp(max=lr).to(p.dtype)
            excess = (update.square().mean().sqrt() / hyper(group, "d")).to(p.dtype).clamp(min=1.0)
            assign_(p, start - update * (size / excess))


def _state_made(p: Tensor) -> dict[str, Maker]:
    if p.dim() < 2:
        return {"step": new_step} | makers(p, "variance")
    rows, columns = p.shape[-2:]
    lead = tuple(p.shape[:-2])
    return {"step": new_step, "row_var": lambda: full_like(p, shape=(*lead, rows, 1)),
            "col_var": lambda: full_like(p, shape=(*lead, 1, columns))}


def _variance(state: dict[str, Tensor], grad: Tensor, fresh: Tensor, floor: float) -> Tensor:
    """1 / sqrt(the mean of grad**2), its running means updated."""
    square = grad * grad
    if grad.dim() < 2:
        estimate = assign_(state["variance"], state["variance"] + (square - state["variance"]) * fresh)
    else:
        rows = assign_(state["row_var"], state["row_var"] + (square.mean(-1, True) - state["row_var"]) * fresh)
        columns = assign_(state["col_var"], state["col_var"] + (square.mean(-2, True) - state["col_var"]) * fresh)
        estimate = rows * columns / rows.mean(-2, True).clamp(min=floor)
    return estimate.clamp(min=floor * floor).rsqrt()
