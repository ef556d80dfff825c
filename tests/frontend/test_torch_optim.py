"""Every optimizer, scheduler and average of models beside PyTorch's, eager and compiled."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import flambeau as fb
from flambeau import nn, optim

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.torch

MATRICES, ALL = [(4, 3), (3, 5)], [(4, 3), (5,), (2, 3, 4), ()]
UPDATES: list[tuple[str, dict[str, Any]]] = [
    ("SGD", {"lr": 0.1, "momentum": 0.9, "nesterov": True}),
    ("Adam", {"lr": 0.1, "amsgrad": True, "weight_decay": 0.1}),
    ("AdamW", {"lr": 0.1, "maximize": True}),
    ("RMSprop", {"lr": 0.1, "centered": True, "momentum": 0.5}),
    ("Adagrad", {"lr": 0.1, "lr_decay": 0.1}),
    ("Adadelta", {}), ("Adadelta", {"lr": 0.5, "rho": 0.8, "weight_decay": 0.1, "maximize": True}),
    ("Adamax", {}), ("Adamax", {"lr": 0.1, "betas": (0.5, 0.7), "weight_decay": 0.1}),
    ("NAdam", {"lr": 0.1, "weight_decay": 0.1, "decoupled_weight_decay": True}),
    ("NAdam", {"lr": 0.1, "weight_decay": 0.1, "momentum_decay": 0.1}),
    ("RAdam", {"lr": 0.1, "weight_decay": 0.1, "decoupled_weight_decay": True}),
    ("RAdam", {"betas": (0.5, 0.6), "lr": 0.1, "weight_decay": 0.1, "maximize": True}),
    ("ASGD", {}), ("ASGD", {"lr": 0.1, "lambd": 0.1, "t0": 3, "weight_decay": 0.1}),
    ("Rprop", {}), ("Rprop", {"etas": (0.3, 1.5), "step_sizes": (1e-3, 0.05), "maximize": True}),
    ("Adafactor", {}), ("Adafactor", {"lr": 0.1, "weight_decay": 0.1, "maximize": True, "d": 2.0, "eps": (1e-3, 1e-2)}),
]


def parameters(shapes: list[tuple[int, ...]], dtype: str) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [np.asarray(rng.normal(size=shape), dtype) for shape in shapes]


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize(("name", "settings"), UPDATES, ids=[f"{n}-{'-'.join(s)}" for n, s in UPDATES])
def test_updates(name: str, settings: dict[str, Any], dtype: str) -> None:
    start = parameters(ALL, dtype)
    theirs = [torch.tensor(a, requires_grad=True) for a in start]
    eager = [fb.tensor(a, requires_grad=True) for a in start]
    traced = [fb.tensor(a, requires_grad=True) for a in start]
    expected = getattr(torch.optim, name)(theirs, **settings)
    optimizer, compiled = (getattr(optim, name)(params, **settings) for params in (eager, traced))

    @fb.compile(fullgraph=True)
    def step(gradients: list[fb.Tensor]) -> None:
        for p, g in zip(traced, gradients, strict=True):
            p.grad = g
        compiled.step()

    rng = np.random.default_rng(1)
    for _ in range(8):
        gradients = [np.asarray(rng.normal(size=shape), dtype) for shape in ALL]
        for p, q, g in zip(theirs, eager, gradients, strict=True):
            p.grad, q.grad = torch.tensor(g), fb.tensor(g)
        expected.step(), optimizer.step(), step([fb.tensor(g) for g in gradients])
    # f32: as in test_optim; a rate that divides by a small root widens it
    tolerance = 1e-11 if dtype == "float64" else 64 * np.finfo(np.float32).eps
    for p, q, r in zip(theirs, eager, traced, strict=True):
        np.testing.assert_allclose(q.detach().numpy(), p.detach().numpy(), rtol=tolerance, atol=tolerance / 4)
        np.testing.assert_allclose(r.detach().numpy(), p.detach().numpy(), rtol=tolerance, atol=tolerance / 4)
    ours, saved = optimizer.state_dict(), expected.state_dict()
    assert set(ours["param_groups"][0]) >= set(saved["param_groups"][0])
    for key, value in saved["state"][0].items():
        if value is not None:
            np.testing.assert_allclose(ours["state"][0][key].numpy(), value.numpy(), rtol=64 * tolerance, atol=tolerance)


@pytest.mark.parametrize("settings", [{}, {"lr": 0.1, "nesterov": False, "adjust_lr_fn": "match_rms_adamw"}])
def test_muon_orthogonalizes_as_bf16_allows(settings: dict[str, Any]) -> None:
    """Five iterations in bf16 enlarge its last bit: the update itself agrees to some per cent."""
    start, rng = parameters(MATRICES, "float64"), np.random.default_rng(1)
    theirs, ours = ([make(a, requires_grad=True) for a in start] for make in (torch.tensor, fb.tensor))
    expected, optimizer = torch.optim.Muon(theirs, **settings), optim.Muon(ours, **settings)
    for p, q in zip(theirs, ours, strict=True):
        g = rng.normal(size=p.shape)
        p.grad, q.grad = torch.tensor(g), fb.tensor(g)
    expected.step(), optimizer.step()
    for a, p, q in zip(start, theirs, ours, strict=True):
        moved, wanted = q.detach().numpy() - a, p.detach().numpy() - a
        assert np.linalg.norm(moved - wanted) < 0.1 * np.linalg.norm(wanted)
    with pytest.raises(ValueError, match="2D"):
        optim.Muon([fb.zeros(3, requires_grad=True)])


@pytest.mark.parametrize("settings", [
    {}, {"lr": 0.1, "max_iter": 5, "history_size": 2}, {"line_search_fn": "strong_wolfe"},
    {"line_search_fn": "strong_wolfe", "history_size": 3, "max_iter": 7}])
def test_lbfgs_takes_the_same_steps(settings: dict[str, Any]) -> None:
    start = np.random.default_rng(4).normal(size=6)

    def losses(module: Any, x: Any) -> tuple[list[float], Any]:
        optimizer, found = module.optim.LBFGS([x], **settings), []

        def closure() -> Any:
            optimizer.zero_grad()
            loss = ((1 - x[:-1]) ** 2 + 100 * (x[1:] - x[:-1] ** 2) ** 2).sum()
            loss.backward()
            found.append(loss.item())
            return loss

        for _ in range(3):
            optimizer.step(closure)
        return found, optimizer.state_dict()["state"][0]

    expected, their_state = losses(torch, torch.tensor(start, requires_grad=True))
    found, state = losses(fb, fb.tensor(start, requires_grad=True))
    assert len(found) == len(expected)
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-9)
    assert set(their_state) - {"al"} == set(state) and state["func_evals"] == their_state["func_evals"]


def test_lbfgs_is_not_traced_but_its_closure_may_be() -> None:
    x = fb.tensor([3.0, -2.0], requires_grad=True)
    optimizer = optim.LBFGS([x])

    @fb.compile
    def closure() -> fb.Tensor:
        optimizer.zero_grad()
        loss = ((x - 1) ** 2).sum()
        loss.backward()
        return loss

    optimizer.step(closure)
    np.testing.assert_allclose(x.detach().numpy(), 1, atol=1e-5)
    with pytest.raises(fb.errors.TraceError, match="LBFGS"):
        fb.compile(lambda: optimizer.step(closure))()


Make = Callable[[Any, Any], Any]
SCHEDULES: dict[str, Make] = {
    "constant": lambda s, o: s.ConstantLR(o, 0.5, 3),
    "polynomial": lambda s, o: s.PolynomialLR(o, 7, 2.0),
    "multiplicative": lambda s, o: s.MultiplicativeLR(o, lambda epoch: 0.9 + epoch / 100),
    "restarts": lambda s, o: s.CosineAnnealingWarmRestarts(o, 3, 2, 0.01),
    "restarts-equal": lambda s, o: s.CosineAnnealingWarmRestarts(o, 4),
    "cyclic": lambda s, o: s.CyclicLR(o, 0.1, 1.0, 3, 5),
    "cyclic-halved": lambda s, o: s.CyclicLR(o, [0.1, 0.2], [1.0, 2.0], 4, mode="triangular2"),
    "cyclic-exp": lambda s, o: s.CyclicLR(o, 0.1, 1.0, 3, 5, mode="exp_range", gamma=0.9, cycle_momentum=False),
    "cyclic-own": lambda s, o: s.CyclicLR(o, 0.1, 1.0, 3, 5, scale_fn=lambda x: 0.8**x, scale_mode="iterations"),
    "sequential": lambda s, o: s.SequentialLR(
        o, [s.LinearLR(o, 0.1, 1.0, 4), s.CosineAnnealingLR(o, 10), s.StepLR(o, 2, 0.5)], [5, 14]),
    "sequential-restarts": lambda s, o: s.SequentialLR(
        o, [s.ConstantLR(o, 0.1, 4), s.CosineAnnealingWarmRestarts(o, 3, 2)], [5]),
    "sequential-others": lambda s, o: s.SequentialLR(
        o, [s.PolynomialLR(o, 4), s.MultiStepLR(o, [2, 3]), s.LambdaLR(o, lambda e: 0.95**e)], [5, 12]),
    "chained": lambda s, o: s.ChainedScheduler([s.LinearLR(o, 0.1, 1.0, 4), s.StepLR(o, 3)]),
}
CLOSED_FORMS: dict[str, Make] = {
    "step": lambda s, o: s.StepLR(o, 3), "milestones": lambda s, o: s.MultiStepLR(o, [2, 5, 5]),
    "exponential": lambda s, o: s.ExponentialLR(o, 0.9), "linear": lambda s, o: s.LinearLR(o, 0.2, 1.0, 6),
    "cosine": lambda s, o: s.CosineAnnealingLR(o, 5, 0.1),
    **{name: SCHEDULES[name] for name in ("constant", "polynomial", "restarts")},
}


def rates(module: Any, schedulers: Any, make: Make, jump: Callable[[int], int] | None) -> np.ndarray:
    p, q = (module.zeros(1, requires_grad=True) for _ in range(2))
    optimizer = module.optim.SGD([{"params": [p]}, {"params": [q], "lr": 0.2}], lr=0.5, momentum=0.9)
    scheduler, found = make(schedulers, optimizer), []
    for n in range(22):
        optimizer.step()
        scheduler.step(*([] if jump is None else [jump(n)]))
        found.append([group[key] for group in optimizer.param_groups for key in ("lr", "momentum")])
        assert list(scheduler.get_last_lr()) == found[-1][::2]
        scheduler = restored(scheduler, make(schedulers, copy.deepcopy(optimizer))) if n == 9 else scheduler
    return np.array(found)


def restored(scheduler: Any, other: Any) -> Any:
    """The scheduler after a round trip of its state through another one."""
    saved = scheduler.state_dict()
    other.load_state_dict(copy.deepcopy(saved))
    scheduler.load_state_dict(other.state_dict())
    return scheduler


@pytest.mark.filterwarnings("ignore")           # PyTorch's, of step(epoch)
@pytest.mark.parametrize(("make", "jump"), [
    *[(make, None) for make in SCHEDULES.values()], *[(make, lambda n: n * 7 % 11) for make in CLOSED_FORMS.values()]],
    ids=[*SCHEDULES, *[f"{name}-jumping" for name in CLOSED_FORMS]])
def test_rates(make: Make, jump: Callable[[int], int] | None) -> None:
    expected = rates(torch, torch.optim.lr_scheduler, make, jump)
    np.testing.assert_allclose(rates(fb, optim.lr_scheduler, make, jump), expected, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("settings", [{}, {"anneal_epochs": 4, "anneal_strategy": "linear"}, {"anneal_epochs": 0}])
def test_swa_rates(settings: dict[str, Any]) -> None:
    expected = rates(torch, torch.optim.swa_utils, lambda s, o: s.SWALR(o, 0.05, **settings), None)
    found = rates(fb, optim.swa_utils, lambda s, o: s.SWALR(o, 0.05, **settings), None)
    np.testing.assert_allclose(found, expected, rtol=1e-12)


def model(module: Any) -> Any:
    return module.nn.Sequential(module.nn.Linear(3, 4), module.nn.BatchNorm1d(4), module.nn.Linear(4, 2)).double()


@pytest.mark.parametrize("is_compiled", [False, True])
@pytest.mark.parametrize("kind", ["mean", "avg", "multi", "buffers"])
def test_averages_of_models(kind: str, is_compiled: bool) -> None:
    def averaged(module: Any, source: Any) -> Any:
        utils = module.optim.swa_utils
        options = {"mean": {}, "avg": {"avg_fn": utils.get_ema_avg_fn(0.7)}, "buffers": {"use_buffers": True},
                   "multi": {"multi_avg_fn": utils.get_ema_multi_avg_fn(0.7)}}[kind]
        return utils.AveragedModel(source, **options)

    theirs, ours = model(torch), model(fb)
    ours.load_state_dict({key: fb.tensor(value.numpy()) for key, value in theirs.state_dict().items()})
    expected, found = averaged(torch, theirs), averaged(fb, ours)
    update = fb.compile(found.update_parameters) if is_compiled else found.update_parameters
    rng = np.random.default_rng(0)
    for _ in range(4):
        data = rng.normal(size=(5, 3))
        with torch.no_grad(), fb.no_grad():
            theirs(torch.tensor(data)), ours(fb.tensor(data))
            for p, q in zip(theirs.parameters(), ours.parameters(), strict=True):
                change = rng.normal(size=p.shape)
                p.add_(torch.tensor(change)), q.add_(fb.tensor(change))
        expected.update_parameters(theirs)
        update(ours)
    assert list(found.state_dict()) == list(expected.state_dict())
    for key, value in expected.state_dict().items():
        np.testing.assert_allclose(found.state_dict()[key].numpy(), value.numpy(), rtol=1e-12, err_msg=key)
    batches = [rng.normal(size=(6, 3)) for _ in range(3)]
    torch.optim.swa_utils.update_bn([torch.tensor(b) for b in batches], expected)
    optim.swa_utils.update_bn([[fb.tensor(b)] for b in batches], found)
    for key, value in expected.state_dict().items():
        np.testing.assert_allclose(found.state_dict()[key].numpy(), value.numpy(), rtol=1e-12, err_msg=key)
    assert found(fb.tensor(data)).shape == (5, 2)


def test_hooks_of_a_step_and_of_its_state() -> None:
    def told(module: Any) -> list[str]:
        p = module.ones(2, requires_grad=True)
        optimizer, said = module.optim.SGD([p], lr=0.1), []
        optimizer.register_step_pre_hook(lambda o, args, kwargs: said.append(f"before {len(args)} {kwargs}"))
        handle = optimizer.register_step_post_hook(lambda o, args, kwargs: said.append("after"))
        optimizer.register_state_dict_pre_hook(lambda o: said.append("save"))
        optimizer.register_state_dict_post_hook(lambda o, state: {**state, "more": 1})
        optimizer.register_load_state_dict_pre_hook(lambda o, state: said.append(f"load {state.pop('more')}"))
        optimizer.register_load_state_dict_post_hook(lambda o: said.append("loaded"))
        optimizer.step()
        handle.remove()
        optimizer.step()
        optimizer.load_state_dict(optimizer.state_dict())
        return said

    assert told(fb) == told(torch) == ["before 1 {}", "after", "before 1 {}", "save", "load 1", "loaded"]


def test_a_hook_runs_in_a_compiled_step() -> None:
    p = nn.Parameter(fb.ones(2))
    optimizer = optim.SGD([p], lr=0.1)

    @fb.compile
    def step(x: fb.Tensor) -> None:
        optimizer.zero_grad()
        (p * x).sum().backward()
        optimizer.step()

    step(fb.ones(2))
    optimizer.register_step_post_hook(fb.no_grad()(lambda o, args, kwargs: p.mul_(2.0) is None))
    step(fb.ones(2))
    np.testing.assert_allclose(p.detach().numpy(), (0.9 - 0.1) * 2, rtol=1e-6)
