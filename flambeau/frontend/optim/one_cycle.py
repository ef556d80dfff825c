"""OneCycleLR: one rise and one fall of the learning rate over the whole training."""
from __future__ import annotations

import math
from bisect import bisect_left
from typing import Any

from flambeau.frontend.optim.optimizer import Optimizer
from flambeau.frontend.optim.scheduler import LRScheduler, per_group


class OneCycleLR(LRScheduler):
    """Up from max_lr / div_factor to max_lr, then down to a 1/final_div_factor of the start; momentum the other way.

    Takes total_steps, or epochs and steps_per_epoch; step() after every batch. Raises ValueError after the last.
    Smith and Topin, arXiv:1708.07120."""

    def __init__(self, optimizer: Optimizer, max_lr: float | list[float], total_steps: int | None = None,
                 epochs: int | None = None, steps_per_epoch: int | None = None, pct_start: float = 0.3,
                 anneal_strategy: str = "cos", cycle_momentum: bool = True,
                 base_momentum: float | list[float] = 0.85, max_momentum: float | list[float] = 0.95,
                 div_factor: float = 25.0, final_div_factor: float = 1e4, three_phase: bool = False,
                 last_epoch: int = -1):
        if total_steps is None:
            if epochs is None or steps_per_epoch is None:
                raise ValueError("You must define either total_steps OR (epochs AND steps_per_epoch)")
            total_steps = epochs * steps_per_epoch
        if total_steps <= 0:
            raise ValueError(f"Expected positive integer total_steps, but got {total_steps}")
        if not 0 <= pct_start <= 1:
            raise ValueError(f"Expected float between 0 and 1 pct_start, but got {pct_start}")
        if anneal_strategy not in ("cos", "linear"):
            raise ValueError(f"anneal_strategy must be one of 'cos' or 'linear', instead got {anneal_strategy}")
        self.total_steps, self._anneal_func_type, self.cycle_momentum = total_steps, anneal_strategy, cycle_momentum
        self._phases = _one_cycle_phases(total_steps, pct_start, three_phase)
        groups = optimizer.param_groups
        for group, peak in zip(groups, per_group(max_lr, groups, "max_lr"), strict=True):
            if last_epoch == -1:
                group["initial_lr"] = peak / div_factor
                group["max_lr"], group["min_lr"] = peak, group["initial_lr"] / final_div_factor
        if cycle_momentum:
            if "momentum" not in groups[0] and "betas" not in groups[0]:
                raise ValueError("optimizer must support momentum or beta1 with `cycle_momentum` option enabled")
            low, high = per_group(base_momentum, groups, "base_momentum"), per_group(max_momentum, groups,
                                                                                   "max_momentum")
            for group, least, most in zip(groups, low, high, strict=True):
                if last_epoch == -1:
                    set_momentum(group, most)
                    group["base_momentum"], group["max_momentum"] = least, most
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float]:
        """The rates; momentum is set as a side effect, in the groups."""
        number = self.last_epoch
        if number > self.total_steps:
            raise ValueError(f"Tried to step {number} times. The specified number of total steps is {self.total_steps}")
        share, (start_lr, end_lr, start_momentum, end_momentum) = self._place(number)
        for group in self.optimizer.param_groups if self.cycle_momentum else ():
            set_momentum(group, self._anneal(group[start_momentum], group[end_momentum], share))
        return [self._anneal(group[start_lr], group[end_lr], share) for group in self.optimizer.param_groups]

    def _place(self, number: int) -> tuple[float, tuple[str, str, str, str]]:
        """How much of its phase is over at step `number`, and between which values the phase goes."""
        ends = [phase[0] for phase in self._phases]
        place = min(bisect_left(ends, number), len(ends) - 1)
        begin = ends[place - 1] if place else 0.0
        return (number - begin) / (ends[place] - begin), self._phases[place][1:]

    def _anneal(self, start: float, end: float, share: float) -> float:
        if self._anneal_func_type == "linear":
            return (end - start) * share + start
        return end + (start - end) / 2.0 * (math.cos(math.pi * share) + 1)


def _one_cycle_phases(total: int, pct_start: float, three_phase: bool) -> list[tuple[float, str, str, str, str]]:
    """(last step, rate at its start, at its end, momentum at its start, at its end), the values as group keys."""
    up = ("initial_lr", "max_lr", "max_momentum", "base_momentum")
    if three_phase:
        return [(float(pct_start * total) - 1, *up),
                (float(2 * pct_start * total) - 2, "max_lr", "initial_lr", "base_momentum", "max_momentum"),
                (total - 1, "initial_lr", "min_lr", "max_momentum", "max_momentum")]
    return [(float(pct_start * total) - 1, *up), (total - 1, "max_lr", "min_lr", "base_momentum", "max_momentum")]


def set_momentum(group: dict[str, Any], value: float) -> None:
    """Momentum, or the first of Adam's betas, of a group."""
    if "betas" in group:
        group["betas"] = (value, *group["betas"][1:])
    else:
        group["momentum"] = value
