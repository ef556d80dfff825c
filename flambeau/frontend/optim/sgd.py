"""Stochastic gradient descent, with momentum. Sutskever et al., ICML 2013."""
from __future__ import annotations

from typing import Any

from flambeau.frontend.functions.elementwise import where
from flambeau.frontend.optim.arguments import refuse_negative
from flambeau.frontend.optim.groups import decisive
from flambeau.frontend.optim.optimizer import Alike, Beside, Optimizer, hyper, makers, new_step
from flambeau.frontend.tape.writes import assign_
from flambeau.frontend.tensor.tensor import Tensor


class SGD(Optimizer):
    """p -= lr * g, or with momentum: buf = momentum * buf + (1 - dampening) * g; p -= lr * buf.

    The first buf is g itself. nesterov: p -= lr * (g + momentum * buf)."""

    def __init__(self, params: Any, lr: float | Tensor = 1e-3, momentum: float = 0, dampening: float = 0,
                 weight_decay: float = 0, nesterov: bool = False, *, maximize: bool = False,
                 foreach: bool | None = None, differentiable: bool = False, fused: bool | None = None):
        refuse_negative(("learning rate", lr), ("momentum value", momentum), ("weight_decay value", weight_decay))
        if nesterov and (momentum <= 0 or dampening != 0):
            raise ValueError("Nesterov momentum requires a momentum and zero dampening")
        super().__init__(params, {"lr": lr, "momentum": momentum, "dampening": dampening, "weight_decay": weight_decay,
                                  "nesterov": nesterov, "maximize": maximize, "foreach": foreach,
                                  "differentiable": differentiable, "fused": fused})

    def _update(self, group: dict[str, Any]) -> None:
        numbers = Beside(hyper(group, "lr"), hyper(group, "momentum") if decisive(group, "momentum") != 0 else None)

        def update(p: Tensor, grad: Tensor, buffer: Tensor | None = None, step: Tensor | None = None) -> None:
            lr, momentum = numbers(p)
            if buffer is not None:
                if step is None:
                    assign_(buffer, buffer * momentum + grad)
                else:
                    moved = buffer * momentum + grad * (1 - hyper(group, "dampening"))
                    assign_(buffer, where(step == 0, grad, moved))
                    assign_(step, step + 1)
                grad = grad + buffer * momentum if group["nesterov"] else buffer
            assign_(p, p - grad * lr)

        updated = Alike(update)
        for p, grad in self._with_gradients(group):
            updated(p, grad, *(() if numbers.numbers[1] is None else self._momentum_of(p, group)))

    def _momentum_of(self, p: Tensor, group: dict[str, Any]) -> list[Tensor]:
        """The momentum buffer of p. It starts as zeros, from which the first step gives the gradient itself unless it is
        dampened: then a step count, too, tells the first step from later ones."""
        made = makers(p, "momentum_buffer")
        if decisive(group, "dampening") != 0:
            started = self.state[p].get("momentum_buffer") is not None      # by steps that were not dampened
            made["step"] = lambda: new_step(started)
        state = self._state_of(p, made)
        return [state[name] for name in made]
