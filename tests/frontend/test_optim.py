"""Optimizers against references written out in NumPy, f64; their groups, state and state_dict."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import flambeau as fb
from flambeau import nn, optim

STEPS = 6
RTOL = 1e-12  # six steps of f64, each a dozen roundings
Reference = Callable[[np.ndarray, list[np.ndarray]], Iterator[np.ndarray]]


def sgd(lr: float, momentum: float = 0, dampening: float = 0, weight_decay: float = 0, nesterov: bool = False,
        maximize: bool = False) -> Reference:
    def run(p: np.ndarray, gradients: list[np.ndarray]) -> Iterator[np.ndarray]:
        buffer = None
        for g in gradients:
            g = (-g if maximize else g) + weight_decay * p
            if momentum:
                buffer = g if buffer is None else momentum * buffer + (1 - dampening) * g
                g = g + momentum * buffer if nesterov else buffer
            p = p - lr * g
            yield p
    return run


def adam(lr: float, betas: tuple[float, float] = (0.9, 0.999), eps: float = 1e-8, weight_decay: float = 0,
         amsgrad: bool = False, maximize: bool = False, decoupled: bool = False) -> Reference:
    def run(p: np.ndarray, gradients: list[np.ndarray]) -> Iterator[np.ndarray]:
        m = v = largest = np.zeros_like(p)
        for t, g in enumerate(gradients, 1):
            g = -g if maximize else g
            if decoupled:
                p = p * (1 - lr * weight_decay)
            else:
                g = g + weight_decay * p
            m = betas[0] * m + (1 - betas[0]) * g
            v = betas[1] * v + (1 - betas[1]) * g**2
            largest = np.maximum(largest, v)
            corrected = (largest if amsgrad else v) / (1 - betas[1] ** t)
            p = p - lr * (m / (1 - betas[0] ** t)) / (np.sqrt(corrected) + eps)
            yield p
    return run


def rmsprop(lr: float, alpha: float = 0.99, eps: float = 1e-8, weight_decay: float = 0, momentum: float = 0,
            centered: bool = False, maximize: bool = False) -> Reference:
    def run(p: np.ndarray, gradients: list[np.ndarray]) -> Iterator[np.ndarray]:
        v = mean = buffer = np.zeros_like(p)
        for g in gradients:
            g = (-g if maximize else g) + weight_decay * p
            v = alpha * v + (1 - alpha) * g**2
            mean = alpha * mean + (1 - alpha) * g
            scaled = g / (np.sqrt(v - mean**2 if centered else v) + eps)
            buffer = momentum * buffer + scaled
            p = p - lr * (buffer if momentum else scaled)
            yield p
    return run


def adagrad(lr: float, lr_decay: float = 0, weight_decay: float = 0, initial_accumulator_value: float = 0,
            eps: float = 1e-10) -> Reference:
    def run(p: np.ndarray, gradients: list[np.ndarray]) -> Iterator[np.ndarray]:
        total = np.full_like(p, initial_accumulator_value)
        for t, g in enumerate(gradients):
            g = g + weight_decay * p
            total = total + g**2
            p = p - lr / (1 + t * lr_decay) * g / (np.sqrt(total) + eps)
            yield p
    return run


CASES: list[tuple[type[optim.Optimizer], Callable[..., Reference], dict[str, Any]]] = [
    (optim.SGD, sgd, {"lr": 0.1}),
    (optim.SGD, sgd, {"lr": 0.1, "momentum": 0.9}),
    (optim.SGD, sgd, {"lr": 0.1, "momentum": 0.9, "dampening": 0.5, "weight_decay": 0.1}),
    (optim.SGD, sgd, {"lr": 0.1, "momentum": 0.9, "nesterov": True, "weight_decay": 0.1}),
    (optim.SGD, sgd, {"lr": 0.1, "maximize": True, "weight_decay": 0.1}),
    (optim.Adam, adam, {"lr": 0.1}),
    (optim.Adam, adam, {"lr": 0.1, "betas": (0.5, 0.7), "eps": 0.1, "weight_decay": 0.1}),
    (optim.Adam, adam, {"lr": 0.1, "amsgrad": True, "maximize": True}),
    (optim.AdamW, lambda **kw: adam(decoupled=True, **kw), {"lr": 0.1, "weight_decay": 0.1}),
    (optim.AdamW, lambda **kw: adam(decoupled=True, **kw), {"lr": 0.1, "weight_decay": 0.1, "amsgrad": True}),
    (optim.RMSprop, rmsprop, {"lr": 0.1}),
    (optim.RMSprop, rmsprop, {"lr": 0.1, "alpha": 0.5, "momentum": 0.9, "weight_decay": 0.1}),
    (optim.RMSprop, rmsprop, {"lr": 0.1, "alpha": 0.5, "centered": True, "eps": 0.1, "maximize": True}),
    (optim.Adagrad, adagrad, {"lr": 0.1}),
    (optim.Adagrad, adagrad, {"lr": 0.1, "lr_decay": 0.5, "weight_decay": 0.1, "initial_accumulator_value": 0.2}),
]
NAMES = [f"{case[0].__name__}-{'-'.join(case[2])}" for case in CASES]


def gradients(shape: tuple[int, ...] = (3, 4)) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.normal(size=shape) for _ in range(STEPS)]


def start(dtype: str = "float64") -> fb.Tensor:
    return fb.from_numpy(np.random.default_rng(1).normal(size=(3, 4)).astype(dtype)).requires_grad_()


@pytest.mark.parametrize(("kind", "reference", "settings"), CASES, ids=NAMES)
def test_updates_follow_the_formula(kind: type[optim.Optimizer], reference: Callable[..., Reference],
                                    settings: dict[str, Any]) -> None:
    p = start()
    optimizer = kind([p], **settings)  # type: ignore[arg-type]
    expected = reference(**settings)(p.detach().numpy().copy(), gradients())
    for g, wanted in zip(gradients(), expected, strict=True):
        p.grad = fb.from_numpy(g)
        optimizer.step()
        np.testing.assert_allclose(p.detach().numpy(), wanted, rtol=RTOL)


@pytest.mark.torch
@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize(("kind", "reference", "settings"), CASES, ids=NAMES)
def test_updates_agree_with_torch(kind: type[optim.Optimizer], reference: Any, settings: dict[str, Any],
                                  dtype: str) -> None:
    import torch

    p = start(dtype)
    theirs = torch.from_numpy(p.detach().numpy().copy()).requires_grad_()
    optimizer = kind([p], **settings)  # type: ignore[arg-type]
    other = getattr(torch.optim, kind.__name__)([theirs], foreach=False, **settings)
    for g in gradients():
        p.grad, theirs.grad = fb.from_numpy(g.astype(dtype)), torch.from_numpy(g.astype(dtype))
        optimizer.step()
        other.step()
    # f32: each step rounds p, m, v and a few products; their sum over the steps stays below 32 ulp of what p was, of
    # order one, though it may end near zero
    rtol = RTOL if dtype == "float64" else 32 * np.finfo(np.float32).eps
    np.testing.assert_allclose(p.detach().numpy(), theirs.detach().numpy(), rtol=rtol, atol=rtol / 4)
    ours, expected = optimizer.state_dict(), other.state_dict()
    assert set(expected["param_groups"][0]) <= set(ours["param_groups"][0])
    for key, value in expected["state"].get(0, {}).items():
        if value is not None:
            np.testing.assert_allclose(ours["state"][0][key].numpy(), value.numpy(), rtol=rtol)


@pytest.mark.parametrize(("kind", "reference", "settings"), CASES, ids=NAMES)
def test_state_dict_resumes(kind: type[optim.Optimizer], reference: Any, settings: dict[str, Any]) -> None:
    p, q = start(), start()
    first, second = kind([p], **settings), kind([q], lr=9.0)  # type: ignore[arg-type, call-arg]

    def run(optimizer: optim.Optimizer, tensor: fb.Tensor, g: np.ndarray) -> None:
        tensor.grad = fb.from_numpy(g)
        optimizer.step()

    for g in gradients()[:3]:
        run(first, p, g)
    with fb.no_grad():
        q.copy_(p)
    second.load_state_dict(first.state_dict())
    assert second.param_groups[0]["lr"] == settings["lr"]
    assert second.param_groups[0]["params"][0] is q
    for g in gradients()[3:]:
        run(first, p, g)
        run(second, q, g)
    np.testing.assert_array_equal(p.detach().numpy(), q.detach().numpy())


def test_load_state_dict_copies_in_place() -> None:
    p = start()
    optimizer = optim.Adam([p])
    p.grad = fb.ones_like(p)
    optimizer.step()
    saved = {n: {k: t.clone() for k, t in state.items()} for n, state in optimizer.state_dict()["state"].items()}
    mean = optimizer.state[p]["exp_avg"]
    optimizer.step()
    optimizer.load_state_dict({"state": saved, "param_groups": optimizer.state_dict()["param_groups"]})
    assert optimizer.state[p]["exp_avg"] is mean
    np.testing.assert_array_equal(mean.numpy(), saved[0]["exp_avg"].numpy())
    assert optimizer.state[p]["step"].item() == 1


def test_state_dict_has_numbers_for_parameters() -> None:
    a, b = start(), start()
    optimizer = optim.SGD([{"params": [a]}, {"params": [b], "lr": 0.5}], lr=0.1, momentum=0.9)
    a.grad = b.grad = fb.ones_like(a)
    optimizer.step()
    state = optimizer.state_dict()
    assert [group["params"] for group in state["param_groups"]] == [[0], [1]]
    assert [group["lr"] for group in state["param_groups"]] == [0.1, 0.5]
    assert set(state["state"]) == {0, 1}
    with pytest.raises(ValueError, match="different number of parameter groups"):
        optim.SGD([a]).load_state_dict(state)


def test_sgd_resumes_from_a_state_dict_without_step_count() -> None:
    """PyTorch keeps no step count; a momentum buffer alone means that the first step is over."""
    p = start()
    optimizer = optim.SGD([p], lr=0.1, momentum=0.9, dampening=0.5)
    buffer = np.full((3, 4), 2.0)
    groups = optimizer.state_dict()["param_groups"]
    optimizer.load_state_dict({"state": {0: {"momentum_buffer": fb.from_numpy(buffer)}}, "param_groups": groups})
    before = p.detach().numpy().copy()
    p.grad = fb.from_numpy(gradients()[0])
    optimizer.step()
    np.testing.assert_allclose(p.detach().numpy(), before - 0.1 * (0.9 * buffer + 0.5 * gradients()[0]), rtol=RTOL)


def test_parameters_without_gradient_are_left_alone() -> None:
    p, q = start(), start()
    optimizer = optim.AdamW([p, q])
    before = q.detach().numpy().copy()
    p.grad = fb.ones_like(p)
    optimizer.step()
    np.testing.assert_array_equal(q.detach().numpy(), before)
    assert q not in optimizer.state
    optimizer.zero_grad()
    assert p.grad is None


def test_zero_grad_can_fill_with_zeros() -> None:
    p = start()
    p.grad = grad = fb.ones_like(p)
    optim.SGD([p]).zero_grad(set_to_none=False)
    assert p.grad is grad and not grad.numpy().any()


def test_closure_runs_with_gradients_and_its_loss_is_returned() -> None:
    p = start()
    optimizer = optim.SGD([p], lr=0.5)

    def closure() -> fb.Tensor:
        optimizer.zero_grad()
        loss = (p * p).sum()
        loss.backward()
        return loss

    before = p.detach().numpy().copy()
    loss = optimizer.step(closure)
    assert math.isclose(loss.item(), float((before**2).sum()))
    np.testing.assert_array_equal(p.detach().numpy(), np.zeros((3, 4)))


def test_groups_have_their_own_settings() -> None:
    a, b = start(), start()
    optimizer = optim.SGD([a], lr=1.0)
    optimizer.add_param_group({"params": b, "lr": 0.0})
    before = b.detach().numpy().copy()
    a.grad = b.grad = fb.ones_like(a)
    optimizer.step()
    np.testing.assert_array_equal(b.detach().numpy(), before)
    np.testing.assert_array_equal(a.detach().numpy(), before - 1)
    assert repr(optimizer).startswith("SGD (\nParameter Group 0\n    dampening: 0\n")


def test_names_may_be_given() -> None:
    layer = nn.Linear(1, 1)
    optimizer = optim.SGD(layer.named_parameters())
    assert optimizer.param_groups[0]["param_names"] == ["weight", "bias"]


@pytest.mark.parametrize(("params", "error"), [
    ([], ValueError), (fb.zeros(1), TypeError), ([1.0], TypeError), (["a"], TypeError)])
def test_bad_parameters_are_refused(params: Any, error: type[Exception]) -> None:
    with pytest.raises(error):
        optim.SGD(params)


def test_duplicates_and_computed_tensors_are_refused() -> None:
    p = start()
    with pytest.raises(ValueError, match="duplicate"):
        optim.SGD([p, p])
    with pytest.raises(ValueError, match="more than one"):
        optim.SGD([{"params": [p]}, {"params": [p]}])
    with pytest.raises(ValueError, match="non-leaf"):
        optim.SGD([p * 2])


@pytest.mark.parametrize(("kind", "settings"), [
    (optim.SGD, {"lr": -1}), (optim.SGD, {"momentum": -1}), (optim.SGD, {"nesterov": True}),
    (optim.Adam, {"betas": (1.0, 0.9)}), (optim.Adam, {"eps": -1}), (optim.RMSprop, {"alpha": -1}),
    (optim.Adagrad, {"lr_decay": -1})])
def test_bad_settings_are_refused(kind: Any, settings: dict[str, Any]) -> None:
    with pytest.raises(ValueError):
        kind([start()], **settings)


@pytest.mark.parametrize("dtype", [fb.bfloat16, fb.float16, fb.float32])
@pytest.mark.parametrize("kind", [optim.SGD, optim.Adam, optim.AdamW, optim.NAdam, optim.RAdam, optim.Adamax, optim.Adagrad,
                                  optim.Adadelta, optim.RMSprop, optim.Rprop, optim.ASGD, optim.Adafactor])
def test_a_parameter_without_dims_keeps_its_dtype_compiled(kind: type[optim.Optimizer], dtype: Any) -> None:
    def trained(how: Callable[[Any], Any]) -> tuple[float, Any]:
        p = nn.Parameter(fb.tensor(1.5, dtype=dtype))
        optimizer = kind([p], lr=0.1)

        def step(x: fb.Tensor) -> None:
            optimizer.zero_grad()
            (p * x).sum().backward()
            optimizer.step()

        run = how(step)
        for number in range(4):
            run(fb.tensor([1.0, 0.5 - number], dtype=dtype))
        return p.item(), p.dtype

    (eager, _), (compiled, kept) = trained(lambda f: f), trained(fb.compile)
    assert kept == dtype and compiled == pytest.approx(eager, rel=2 * fb.finfo(dtype).eps)
