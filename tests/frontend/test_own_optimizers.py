"""Optimizers as users write them, whose first step makes their state, in compiled steps from the first call on."""
from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import pytest

import flambeau as fb
from flambeau import nn, optim


def lazily(state: dict[str, Any], p: fb.Tensor, lr: float) -> None:
    if len(state) == 0:
        state["step"], state["mean"] = fb.tensor(0.0), fb.zeros_like(p)
    state["step"] += 1
    state["mean"].lerp_(p.grad, 0.1)
    p.addcdiv_(state["mean"], fb.full_like(p, 2.0), value=-lr / state["step"])


def buffered(state: dict[str, Any], p: fb.Tensor, lr: float) -> None:
    buffer = state.get("buffer")
    buffer = p.grad.clone().detach() if buffer is None else buffer.mul_(0.9).add_(p.grad)
    state["buffer"] = buffer
    p.add_(buffer, alpha=-lr)


def replaced(state: dict[str, Any], p: fb.Tensor, lr: float) -> None:
    state["step"] = state.get("step", fb.tensor(0.0)) + 1
    state["sum"] = p.grad if "sum" not in state else state["sum"] * 0.9 + p.grad
    p.sub_(state["sum"], alpha=lr / state["step"])


def renamed(state: dict[str, Any], p: fb.Tensor, lr: float) -> None:
    old = state.pop("old", None)
    state["new"] = p.grad * 1 if old is None else old + p.grad
    p.add_(state["new"], alpha=-lr)
    state["old"] = state.pop("new")


def counting(state: dict[str, Any], p: fb.Tensor, lr: float) -> None:
    state["step"] = state.get("step", 0) + 1
    p.add_(p.grad, alpha=-lr / state["step"])


def counting_groups(state: dict[str, Any], p: fb.Tensor, lr: float) -> None:
    lazily(state, p, lr)


class Own(optim.Optimizer):
    def __init__(self, params: Any, update: Callable[..., None]):
        super().__init__(params, {"lr": 0.1})
        self.update = update

    @fb.no_grad()
    def step(self, closure: Any = None) -> None:
        for group in self.param_groups:
            if self.update is counting_groups:
                group["steps"] = group.get("steps", 0) + 1
            for p in group["params"]:
                self.update(self.state[p], p, group["lr"])


class Wrapping(optim.Optimizer):
    """Around another optimizer, whose state and groups are its own."""

    def __init__(self, base: optim.Optimizer):
        self._hooks_before: dict[int, Any] = OrderedDict()
        self.base, self.defaults, self.param_groups, self.state = base, base.defaults, base.param_groups, base.state

    def step(self, closure: Any = None) -> None:
        self.base.step()


def trained(update: Callable[..., None], how: Callable[[Any], Any], warm: bool = False, wraps: bool = False
            ) -> tuple[list[float], list[Any], int]:
    """Losses, what the state holds at the end, and how many signatures there are."""
    fb.manual_seed(0)
    model, x = nn.Linear(2, 2), fb.ones(1, 2)
    optimizer: optim.Optimizer = Own(model.parameters(), update)
    if wraps:
        optimizer = Wrapping(optimizer)

    def step(x: fb.Tensor) -> fb.Tensor:
        optimizer.zero_grad()
        loss = (model(x) ** 2).sum()
        loss.backward()
        optimizer.step()
        return loss

    made = how(step)
    losses = [step(x).item()] if warm else []
    losses += [made(x).item() for _ in range(5)]
    state = [(key, fb.as_tensor(value).tolist()) for held in optimizer.state.values() for key, value in held.items()]
    return losses, state, len(getattr(made, "signatures", ()))


@pytest.mark.parametrize("warm", [False, True])
@pytest.mark.parametrize("update", [lazily, buffered, replaced, renamed])
def test_state_that_the_first_step_makes(update: Callable[..., None], warm: bool) -> None:
    losses, state, _ = trained(update, lambda f: f, warm)
    found, kept, signatures = trained(update, fb.compile, warm)
    assert found == pytest.approx(losses, rel=1e-5) and signatures == 2 - warm
    assert [key for key, _ in kept] == [key for key, _ in state]
    for (_, one), (_, other) in zip(kept, state, strict=True):
        assert fb.allclose(fb.tensor(one), fb.tensor(other), rtol=1e-5)


def test_an_optimizer_around_another() -> None:
    assert trained(lazily, fb.compile, wraps=True)[0] == pytest.approx(trained(lazily, lambda f: f)[0], rel=1e-5)


def test_a_count_of_pythons_says_where_it_is() -> None:
    with pytest.raises(fb.errors.CaptureError, match=r"state\[...\]\['step'\] from 1 to 2"):
        trained(counting, fb.compile)
    for warm in (False, True):
        with pytest.raises(fb.errors.CaptureError, match="param_groups"):
            trained(counting_groups, fb.compile, warm)


def test_tensors_of_one_kind_together() -> None:
    rows = [[fb.ones(1), fb.ones(2).double(), fb.ones(3)], [1, 2, 3], []]
    found = optim.Optimizer._group_tensors_by_device_and_dtype(rows, with_indices=True)
    assert {dtype: (lists[1:], places) for (_, dtype), (lists, places) in found.items()} == {
        fb.float32: ([[1, 3], []], [0, 2]), fb.float64: ([[2], []], [1])}


def test_tensors_of_no_dimensions_are_numbers() -> None:
    x, two = fb.ones(2), fb.tensor(2.0)

    def f(x: fb.Tensor, two: fb.Tensor) -> list[fb.Tensor]:
        return [x.add(x, alpha=two), fb.sub(x, x, alpha=two), x.addcmul(x, x, value=-two), x.addcdiv(x, x, value=two)]

    for call in (f, fb.compile(f)):
        assert [t.tolist() for t in call(x, two)] == [[3, 3], [-1, -1], [-1, -1], [3, 3]]
    with pytest.raises(TypeError, match="number"):
        x.add(x, alpha=two.clone().requires_grad_())
    assert fb.arange(fb.tensor(3)).tolist() == [0, 1, 2] and fb.arange(fb.tensor(3)).dtype == fb.int64
