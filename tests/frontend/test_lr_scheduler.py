"""Learning-rate schedulers against closed forms, and against PyTorch where it is installed."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import flambeau as fb
from flambeau import optim
from flambeau.optim import lr_scheduler


def optimizer(lr: float = 0.5) -> optim.SGD:
    return optim.SGD([fb.zeros(1, requires_grad=True)], lr=lr, momentum=0.9)


def rates(make: Callable[[optim.Optimizer], Any], steps: int) -> list[float]:
    opt = optimizer()
    scheduler = make(opt)
    found = [opt.param_groups[0]["lr"]]
    for _ in range(steps):
        opt.step()
        scheduler.step()
        found.append(opt.param_groups[0]["lr"])
        assert scheduler.get_last_lr() == [found[-1]]
    return found


CLOSED: list[tuple[str, dict[str, Any], Callable[[int], float]]] = [
    ("StepLR", {"step_size": 3, "gamma": 0.1}, lambda t: 0.5 * 0.1 ** (t // 3)),
    ("MultiStepLR", {"milestones": [2, 5, 5], "gamma": 0.5}, lambda t: 0.5 * 0.5 ** ((t >= 2) + 2 * (t >= 5))),
    ("ExponentialLR", {"gamma": 0.9}, lambda t: 0.5 * 0.9**t),
    ("LambdaLR", {"lr_lambda": lambda t: 1 / (1 + t)}, lambda t: 0.5 / (1 + t)),
    ("LinearLR", {"start_factor": 0.25, "total_iters": 4}, lambda t: 0.5 * (0.25 + 0.75 * min(t, 4) / 4)),
    ("CosineAnnealingLR", {"T_max": 5, "eta_min": 0.1},
     lambda t: 0.1 + 0.4 * (1 + math.cos(math.pi * t / 5)) / 2),
]


@pytest.mark.parametrize(("name", "settings", "closed"), CLOSED, ids=[case[0] for case in CLOSED])
def test_rates_follow_the_closed_form(name: str, settings: dict[str, Any], closed: Callable[[int], float]) -> None:
    found = rates(lambda opt: getattr(lr_scheduler, name)(opt, **settings), 12)
    np.testing.assert_allclose(found, [closed(t) for t in range(13)], rtol=1e-12, atol=1e-16)


ONE_CYCLE: list[dict[str, Any]] = [
    {"max_lr": 1.0, "total_steps": 10},
    {"max_lr": 1.0, "epochs": 2, "steps_per_epoch": 5, "anneal_strategy": "linear", "pct_start": 0.4},
    {"max_lr": 1.0, "total_steps": 10, "three_phase": True, "cycle_momentum": False},
]


def test_one_cycle_rises_and_falls_and_moves_momentum_the_other_way() -> None:
    opt = optimizer()
    scheduler = lr_scheduler.OneCycleLR(opt, max_lr=1.0, total_steps=11, pct_start=0.4)
    group = opt.param_groups[0]
    lr, momentum = [group["lr"]], [group["momentum"]]
    for _ in range(10):
        scheduler.step()
        lr.append(group["lr"])
        momentum.append(group["momentum"])
    top = float(0.4 * 11) - 1
    assert lr[0] == pytest.approx(1 / 25) and momentum[0] == pytest.approx(0.95)
    assert lr[-1] == pytest.approx(1 / 25 / 1e4)
    assert momentum[-1] == pytest.approx(0.95)
    assert lr[3] == pytest.approx(1 + (1 / 25 - 1) / 2 * (math.cos(math.pi * 3 / top) + 1))
    assert max(lr) == max(lr[3:5]) and min(momentum) == min(momentum[3:5])
    with pytest.raises(ValueError, match="total steps"):
        for _ in range(2):
            scheduler.step()


def test_one_cycle_moves_beta1() -> None:
    opt = optim.Adam([fb.zeros(1, requires_grad=True)])
    lr_scheduler.OneCycleLR(opt, max_lr=1.0, total_steps=11)
    assert opt.param_groups[0]["betas"] == pytest.approx((0.95, 0.999))


def test_plateau_waits_for_patience_and_cooldown() -> None:
    opt = optimizer(1.0)
    scheduler = lr_scheduler.ReduceLROnPlateau(opt, factor=0.5, patience=1, cooldown=1, min_lr=0.2)
    found = []
    for metric in [3.0, 2.0, 2.0, 2.0, 2.0, 2.0, 2.0, 2.0, fb.tensor(2.0), 2.0, 2.0, 1.0]:
        scheduler.step(metric)
        found.append(opt.param_groups[0]["lr"])
    assert found == [1, 1, 1, 0.5, 0.5, 0.5, 0.25, 0.25, 0.25, 0.2, 0.2, 0.2]
    assert scheduler.best == 1.0


def test_state_dict_resumes() -> None:
    opt = optimizer()
    scheduler = lr_scheduler.StepLR(opt, 2)
    scheduler.step()
    other = optimizer()
    resumed = lr_scheduler.StepLR(other, 7)
    resumed.load_state_dict(scheduler.state_dict())
    resumed.step()
    assert other.param_groups[0]["lr"] == pytest.approx(0.05)
    with pytest.raises(KeyError, match="initial_lr"):
        lr_scheduler.StepLR(optimizer(), 2, last_epoch=3)


@pytest.mark.torch
@pytest.mark.parametrize(("name", "settings"), [
    *[(name, settings) for name, settings, _ in CLOSED], *[("OneCycleLR", settings) for settings in ONE_CYCLE]])
def test_rates_agree_with_torch(name: str, settings: dict[str, Any]) -> None:
    import torch

    theirs = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.5, momentum=0.9)
    other = getattr(torch.optim.lr_scheduler, name)(theirs, **settings)
    ours = optimizer()
    scheduler = getattr(lr_scheduler, name)(ours, **settings)
    for _ in range(9):
        ours.step(), theirs.step()
        scheduler.step(), other.step()
        for key in ("lr", "momentum"):
            assert ours.param_groups[0][key] == pytest.approx(theirs.param_groups[0][key], rel=1e-12)


@pytest.mark.torch
@pytest.mark.parametrize("settings", [
    {"patience": 0}, {"mode": "max", "threshold_mode": "abs", "threshold": 0.3, "patience": 1}, {"cooldown": 2}])
def test_plateau_agrees_with_torch(settings: dict[str, Any]) -> None:
    import torch

    theirs = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.5)
    other = torch.optim.lr_scheduler.ReduceLROnPlateau(theirs, **settings)
    ours = optimizer()
    scheduler = lr_scheduler.ReduceLROnPlateau(ours, **settings)
    for metric in np.random.default_rng(0).normal(size=40):
        scheduler.step(metric), other.step(metric)
        assert ours.param_groups[0]["lr"] == pytest.approx(theirs.param_groups[0]["lr"], rel=1e-12)
