"""LRScheduler, the base: it writes `group["lr"]`, which a compiled step reads at every call.

Each step derives the new rate from the current one, as PyTorch's do, so rates that the user changes in between and
schedulers that are chained combine.
"""
from __future__ import annotations

from types import FunctionType
from typing import Any

from flambeau.frontend.optim.optimizer import Optimizer


class LRScheduler:
    """Base: a subclass defines `get_lr()`, the rate of each group at `last_epoch`.

    last_epoch: -1 to start; another value resumes, and every group must then hold "initial_lr" (else KeyError)."""

    def __init__(self, optimizer: Optimizer, last_epoch: int = -1):
        if not isinstance(optimizer, Optimizer):
            raise TypeError(f"{type(optimizer).__name__} is not an Optimizer")
        self.optimizer, self.last_epoch = optimizer, last_epoch
        for n, group in enumerate(optimizer.param_groups):
            if last_epoch == -1:
                group.setdefault("initial_lr", group["lr"])
            elif "initial_lr" not in group:
                raise KeyError(f"param 'initial_lr' is not specified in param_groups[{n}] when resuming a scheduler")
        self.base_lrs = [group["initial_lr"] for group in optimizer.param_groups]
        self._is_initial = False
        self._start()

    def _start(self) -> None:
        """Set the rates of the first epoch."""
        self._step_count = 0
        self._is_initial = True
        self.step()
        self._is_initial = False

    def get_lr(self) -> list[float]:
        """The rate of each group at `last_epoch`, from those of the epoch before."""
        raise NotImplementedError(f"{type(self).__name__}: define get_lr()")

    def get_last_lr(self) -> list[float]:
        """The rates that the last step set."""
        return self._last_lr

    def _closed_form(self) -> list[float]:
        """The rates at `last_epoch`, whatever they were before; by `get_lr()` where a subclass has no such formula."""
        return self.get_lr()

    def step(self, epoch: int | None = None) -> None:
        """Go on to the next epoch (or batch), after the optimizer's step; or to `epoch`."""
        self._step_count += 1
        self.last_epoch = self.last_epoch + 1 if epoch is None else epoch
        self._set(self.get_lr() if epoch is None else self._closed_form())

    def _set(self, rates: list[float]) -> None:
        for group, rate in zip(self.optimizer.param_groups, rates, strict=True):
            group["lr"] = rate
        self._last_lr = self._rates()

    def _rates(self) -> list[float]:
        return [group["lr"] for group in self.optimizer.param_groups]

    def state_dict(self) -> dict[str, Any]:
        """Everything but the optimizer."""
        return {key: value for key, value in self.__dict__.items() if key != "optimizer"}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on where another scheduler's state_dict() was taken."""
        self.__dict__.update(state_dict)


def held_by(function: Any) -> dict[str, Any] | None:
    """The state of a callable object; None for a function, which has none."""
    return None if function is None or isinstance(function, FunctionType) else dict(function.__dict__)


def per_group(value: Any, groups: list[dict[str, Any]], name: str) -> list[float]:
    """One number for each group. Raises ValueError for a list of another length."""
    if not isinstance(value, (list, tuple)):
        return [value] * len(groups)
    if len(value) != len(groups):
        raise ValueError(f"expected {len(groups)} values for {name}, got {len(value)}")
    return list(value)
