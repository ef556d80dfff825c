"""Averages of models: stochastic weight averaging (Izmailov et al., UAI 2018) and exponential moving averages."""
from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from copy import deepcopy
from itertools import chain
from typing import Any

from flambeau.frontend.functions.creation import tensor
from flambeau.frontend.functions.elementwise import where
from flambeau.frontend.nn.batchnorm import _BatchNorm
from flambeau.frontend.nn.module import Module
from flambeau.frontend.optim.optimizer import Optimizer
from flambeau.frontend.optim.scheduler import LRScheduler, per_group
from flambeau.frontend.tape.autograd import no_grad
from flambeau.frontend.tape.writes import assign_
from flambeau.frontend.tensor.tensor import Tensor
from flambeau.ir import dtypes as dt

Average = Callable[[Tensor, Tensor, Any], Tensor]
Averages = Callable[[Sequence[Tensor], Sequence[Tensor], Any], None]


def get_ema_avg_fn(decay: float = 0.999) -> Average:
    """averaged = decay * averaged + (1 - decay) * new. Raises ValueError unless decay is in [0, 1]."""
    _require_decay(decay)

    @no_grad()
    def average(averaged: Tensor, new: Tensor, count: Any) -> Tensor:
        return averaged * decay + new * (1 - decay)

    return average


def get_swa_avg_fn() -> Average:
    """The mean of all: averaged + (new - averaged) / (count + 1), count being how many there were before."""
    @no_grad()
    def average(averaged: Tensor, new: Tensor, count: Any) -> Tensor:
        return averaged + (new - averaged) / (count + 1)

    return average


def get_ema_multi_avg_fn(decay: float = 0.999) -> Averages:
    """get_ema_avg_fn for lists of tensors, in place."""
    return _over_lists(get_ema_avg_fn(decay))


def get_swa_multi_avg_fn() -> Averages:
    """get_swa_avg_fn for lists of tensors, in place."""
    return _over_lists(get_swa_avg_fn())


def _require_decay(decay: float) -> None:
    if not 0.0 <= decay <= 1.0:
        raise ValueError(f"Invalid decay value {decay} provided. Please provide a value in [0,1] range.")


def _over_lists(average: Average) -> Averages:
    @no_grad()
    def averages(averaged: Sequence[Tensor], new: Sequence[Tensor], count: Any) -> None:
        for old, value in zip(averaged, new, strict=True):
            old.copy_(average(old, value, count))

    return averages


class AveragedModel(Module):
    """A copy of a model, as `module`, whose parameters are averages of those that `update_parameters(model)` is given.

    The first are copied; avg_fn(averaged, new, count) says the next average of a tensor, multi_avg_fn does so for
    lists, in place; without either it is the mean. use_buffers: buffers are averaged too, else copied. The buffer
    n_averaged counts. `update_parameters` may be part of a compiled step."""

    n_averaged: Tensor

    def __init__(self, model: Module, device: Any = None, avg_fn: Average | None = None,
                 multi_avg_fn: Averages | None = None, use_buffers: bool = False):
        super().__init__()
        if avg_fn is not None and multi_avg_fn is not None:
            raise AssertionError("Only one of avg_fn and multi_avg_fn should be provided")
        self.module = deepcopy(model)
        if device is not None:
            self.module.to(device)
        self.register_buffer("n_averaged", tensor(0, dtype=dt.i64))
        self.avg_fn, self.multi_avg_fn, self.use_buffers = avg_fn, multi_avg_fn, use_buffers

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return self.module(*args, **kwargs)

    @no_grad()
    def update_parameters(self, model: Module) -> None:
        """Take in the parameters of `model`."""
        averages = self.multi_avg_fn or _over_lists(self.avg_fn or get_swa_avg_fn())
        own: Iterable[Tensor] = chain(self.module.parameters(), self.module.buffers() if self.use_buffers else ())
        given: Iterable[Tensor] = chain(model.parameters(), model.buffers() if self.use_buffers else ())
        pairs = [(old, new.detach()) for old, new in zip(own, given, strict=False)]
        is_first = self.n_averaged == 0             # not asked in Python, so that this can be traced
        held = [old.clone() for old, _ in pairs]
        averages(held, [new for _, new in pairs], self.n_averaged)
        for (old, new), averaged in zip(pairs, held, strict=True):
            assign_(old, where(is_first, new.to(old.dtype), averaged))
        if not self.use_buffers:
            for old, new in zip(self.module.buffers(), model.buffers(), strict=False):
                old.copy_(new.detach())
        self.n_averaged.add_(1)


@no_grad()
def update_bn(loader: Iterable[Any], model: Module, device: Any = None) -> None:
    """Make the running statistics of all BatchNorms of `model` the means over what `loader` gives: inputs, or lists and
    tuples whose first entry is the input."""
    momenta = {module: module.momentum for module in model.modules() if isinstance(module, _BatchNorm)}
    if not momenta:
        return
    was_training = model.training
    model.train()
    for module in momenta:
        module.reset_running_stats()
        module.momentum = None
    for batch in loader:
        given = batch[0] if isinstance(batch, (list, tuple)) else batch
        model(given if device is None else given.to(device))
    for module, momentum in momenta.items():
        module.momentum = momentum
    model.train(was_training)


class SWALR(LRScheduler):
    """From the rate at hand to swa_lr over anneal_epochs epochs, "linear" or along half a cosine ("cos"); there it
    stays."""

    def __init__(self, optimizer: Optimizer, swa_lr: float | list[float], anneal_epochs: int = 10,
                 anneal_strategy: str = "cos", last_epoch: int = -1):
        for group, rate in zip(optimizer.param_groups, per_group(swa_lr, optimizer.param_groups, "swa_lr"),
                               strict=True):
            group["swa_lr"] = rate
        if anneal_strategy not in ("cos", "linear"):
            raise ValueError(f"anneal_strategy must by one of 'cos' or 'linear', instead got {anneal_strategy}")
        if not isinstance(anneal_epochs, int) or anneal_epochs < 0:
            raise ValueError(f"anneal_epochs must be equal or greater than 0, got {anneal_epochs}")
        self._anneal_strategy, self.anneal_epochs = anneal_strategy, anneal_epochs
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float]:
        number = self._step_count - 1
        if self.anneal_epochs == 0:
            number = max(1, number)
        before, now = self._share(number - 1), self._share(number)
        rates = []
        for group in self.optimizer.param_groups:
            end, rate = group["swa_lr"], group["lr"]
            start = end if before == 1 else (rate - before * end) / (1 - before)
            rates.append(end * now + start * (1 - now))
        return rates

    def _share(self, number: int) -> float:
        """How much of the way is gone at a step."""
        share = max(0.0, min(1.0, number / max(1, self.anneal_epochs)))
        return share if self._anneal_strategy == "linear" else (1 - math.cos(math.pi * share)) / 2


__all__ = ["SWALR", "AveragedModel", "get_ema_avg_fn", "get_ema_multi_avg_fn", "get_swa_avg_fn", "get_swa_multi_avg_fn",
           "update_bn"]
