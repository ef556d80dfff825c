"""The same weights and the same data give PyTorch's loss curve, eager and compiled."""
from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import flambeau as fb
import flambeau.nn.functional as F
from flambeau import nn, optim

pytestmark = pytest.mark.torch

STEPS = 40
F64_RTOL = 1e-7                 # asked for; rounding alone gives about 1e-13
# In f32 the bound is PyTorch's own error: how far its f32 curve is from its f64 one.
FACTOR = 32


def mlp(nn: Any) -> Any:
    return nn.Sequential(nn.Linear(20, 32), nn.Tanh(), nn.Linear(32, 32), nn.GELU(), nn.LayerNorm(32), nn.Linear(32, 5))


def lenet(nn: Any) -> Any:
    return nn.Sequential(
        nn.Conv2d(1, 6, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(6, 16, 5), nn.BatchNorm2d(16), nn.ReLU(),
        nn.MaxPool2d(2), nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 16), nn.ReLU(), nn.Linear(16, 5))


MODELS: dict[str, tuple[Callable[[Any], Any], tuple[int, ...], Callable[[Any, Any], Any]]] = {
    "mlp": (mlp, (20,), lambda optim, parameters: optim.AdamW(parameters, lr=3e-3, weight_decay=0.01)),
    "lenet": (lenet, (1, 16, 16), lambda optim, parameters: optim.SGD(parameters, lr=0.05, momentum=0.9,
                                                                      weight_decay=1e-3)),
}


def data(shape: tuple[int, ...]) -> list[tuple[np.ndarray, np.ndarray]]:
    rng = np.random.default_rng(0)
    return [(rng.standard_normal((16, *shape)), rng.integers(0, 5, 16)) for _ in range(STEPS)]


def torch_curve(name: str, dtype: type) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Losses, and the weights that training started from (drawn in f32, so that both dtypes start alike)."""
    import torch

    build, shape, make_optimizer = MODELS[name]
    torch.manual_seed(0)
    model = build(torch.nn)
    start = {key: value.numpy().copy() for key, value in model.state_dict().items()}
    if dtype is np.float64:
        model = model.double()
    optimizer = make_optimizer(torch.optim, model.parameters())
    losses = []
    for x, y in data(shape):
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(model(torch.from_numpy(x.astype(dtype))), torch.from_numpy(y))
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return np.array(losses), start


def own_curve(name: str, dtype: type, start: dict[str, np.ndarray], compiled: bool) -> np.ndarray:
    build, shape, make_optimizer = MODELS[name]
    model = build(nn)
    model.load_state_dict({key: fb.from_numpy(value.copy()) for key, value in start.items()})
    if dtype is np.float64:
        model = model.double()
    optimizer = make_optimizer(optim, model.parameters())

    def step(x: fb.Tensor, y: fb.Tensor) -> fb.Tensor:
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        return loss

    run = fb.compile(step) if compiled else step
    return np.array([run(fb.from_numpy(x.astype(dtype)), fb.from_numpy(y)).item() for x, y in data(shape)])


@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "compiled"])
@pytest.mark.parametrize("name", MODELS)
def test_loss_curve_is_that_of_pytorch_in_f64(name: str, compiled: bool) -> None:
    expected, start = torch_curve(name, np.float64)
    assert np.ptp(expected) > 0.1, "a curve that does not move shows nothing"
    np.testing.assert_allclose(own_curve(name, np.float64, start, compiled), expected, rtol=F64_RTOL)


@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "compiled"])
@pytest.mark.parametrize("name", MODELS)
def test_loss_curve_is_as_near_to_the_exact_one_as_that_of_pytorch_in_f32(name: str, compiled: bool) -> None:
    exact, start = torch_curve(name, np.float64)
    theirs, _ = torch_curve(name, np.float32)
    own = own_curve(name, np.float32, start, compiled)
    bound = FACTOR * np.abs(theirs - exact).max()
    assert bound < 1e-3
    np.testing.assert_allclose(own, exact, rtol=0, atol=bound)
