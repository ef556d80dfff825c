"""Modules and optimizers under @fb.compile: what is captured, what recompiles, and what does not."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import flambeau as fb
import flambeau.nn.functional as F
from flambeau import nn, optim
from flambeau.errors import CaptureError

RTOL = 1e-5  # f32: sums in another order, over five steps


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 3, padding=1, bias=False)   # before a norm its gradient is 0, but for rounding
        self.norm = nn.BatchNorm2d(4, momentum=None)
        self.fc = nn.Linear(64, 3)
        self.scales = [1.0, 2.0]

    def forward(self, x: fb.Tensor) -> fb.Tensor:
        x = F.relu(self.norm(self.conv(x)))
        return self.fc(x.flatten(1)) * self.scales[0]


def batches(n: int = 5) -> list[tuple[fb.Tensor, fb.Tensor]]:
    rng = np.random.default_rng(0)
    return [(fb.from_numpy(rng.normal(size=(8, 1, 4, 4)).astype(np.float32)),
             fb.from_numpy(rng.integers(0, 3, 8))) for _ in range(n)]


Step = Callable[[fb.Tensor, fb.Tensor], fb.Tensor]


def made(make: Callable[..., optim.Optimizer], **settings: Any) -> tuple[Net, optim.Optimizer, Step]:
    fb.manual_seed(0)
    model = Net()
    optimizer = make(model.parameters(), **settings)

    def step(x: fb.Tensor, labels: fb.Tensor) -> fb.Tensor:
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x), labels)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        return loss

    return model, optimizer, step


OPTIMIZERS: list[tuple[type[optim.Optimizer], dict[str, Any]]] = [
    (optim.SGD, {"lr": 0.1, "momentum": 0.9, "nesterov": True}),
    (optim.SGD, {"lr": 0.1, "momentum": 0.9, "dampening": 0.5, "weight_decay": 0.1}),
    (optim.Adam, {"lr": 0.01, "amsgrad": True, "weight_decay": 0.1}), (optim.AdamW, {"lr": 0.01}),
    (optim.RMSprop, {"lr": 0.001, "momentum": 0.9, "centered": True}), (optim.Adagrad, {"lr": 0.01, "lr_decay": 0.1})]


@pytest.mark.parametrize(("make", "settings"), OPTIMIZERS, ids=[case[0].__name__ for case in OPTIMIZERS])
def test_compiled_training_is_eager_training(make: type[optim.Optimizer], settings: dict[str, Any]) -> None:
    model, optimizer, step = made(make, **settings)
    other, other_optimizer, other_step = made(make, **settings)
    compiled = fb.compile(other_step)
    for x, labels in batches():
        assert compiled(x, labels).item() == pytest.approx(step(x, labels).item(), rel=RTOL)
    for key, value in model.state_dict().items():
        np.testing.assert_allclose(other.state_dict()[key].numpy(), value.numpy(), rtol=1e-3, atol=1e-5, err_msg=key)
    for number, state in optimizer.state_dict()["state"].items():
        assert set(other_optimizer.state_dict()["state"][number]) == set(state)
    assert len(compiled.signatures) == 1


@pytest.mark.parametrize("make", [optim.SGD, optim.Adam])
def test_schedules_of_rate_and_momentum_never_recompile(make: type[optim.Optimizer]) -> None:
    settings = {"momentum": 0.9} if make is optim.SGD else {}
    losses = []
    for compile in (lambda f: f, fb.compile):
        _, optimizer, step = made(make, lr=0.1, weight_decay=0.01, **settings)
        schedule = optim.lr_scheduler.OneCycleLR(optimizer, max_lr=0.05, total_steps=6)
        run = compile(step)
        losses.append([])
        for x, labels in batches():
            losses[-1].append(run(x, labels).item())
            schedule.step()
            optimizer.param_groups[0]["weight_decay"] *= 1.5
    np.testing.assert_allclose(losses[1], losses[0], rtol=RTOL)
    assert len(run.signatures) == 1


def test_a_flag_of_the_optimizer_recompiles_and_says_so() -> None:
    _, optimizer, step = made(optim.SGD, lr=0.1, momentum=0.9)
    compiled = fb.compile(step)
    x, labels = batches()[0]
    compiled(x, labels)
    for key, value in (("nesterov", True), ("weight_decay", 0.1), ("maximize", True)):
        optimizer.param_groups[0][key] = value
        compiled(x, labels)
    assert len(compiled.signatures) == 4
    assert "param_groups[0].nesterov from False to True" in compiled.explain()


def test_new_state_tensors_recompile_and_loading_does_not() -> None:
    _, optimizer, step = made(optim.Adam)
    compiled = fb.compile(step)
    (x, labels), *_ = batches()
    compiled(x, labels)
    saved = {"state": {n: {k: t.clone() for k, t in s.items()} for n, s in optimizer.state_dict()["state"].items()},
             "param_groups": optimizer.state_dict()["param_groups"]}
    compiled(x, labels)
    optimizer.load_state_dict(saved)
    compiled(x, labels)
    assert len(compiled.signatures) == 1
    assert optimizer.state_dict()["state"][0]["step"].item() == 2
    optimizer.state.clear()
    compiled(x, labels)
    assert len(compiled.signatures) == 2
    assert optimizer.state_dict()["state"][0]["step"].item() == 1


def test_freezing_and_unfreezing_recompiles_once() -> None:
    model, _, step = made(optim.SGD, lr=0.1)
    compiled = fb.compile(step)
    (x, labels), *_ = batches()
    compiled(x, labels)
    for flag in (False, True, False):
        model.conv.requires_grad_(flag)
        before = model.conv.weight.detach().numpy().copy()
        compiled(x, labels)
        assert (model.conv.weight.detach().numpy() == before).all() == (not flag)
    assert len(compiled.signatures) == 2


def test_a_list_on_a_module_is_guarded_by_its_contents() -> None:
    model = Net().eval()
    compiled = fb.compile(model)
    (x, _), *_ = batches()
    once = compiled(x).detach().numpy()
    model.scales[0] = 2.0
    np.testing.assert_allclose(compiled(x).detach().numpy(), 2 * once, rtol=1e-6)
    model.scales[0] = 1.0
    np.testing.assert_allclose(compiled(x).detach().numpy(), once, rtol=1e-6)
    model.train()
    assert (compiled(x).detach().numpy() != once).any()


def test_a_settings_object_on_a_submodule_is_guarded() -> None:
    @dataclasses.dataclass
    class Settings:
        factor: float = 2.0

    class Scale(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.settings = Settings()

        def forward(self, x: fb.Tensor) -> fb.Tensor:
            return x * self.settings.factor

    model = nn.Sequential(Scale())
    compiled = fb.compile(lambda x: model(x))
    assert compiled(fb.ones(1)).item() == 2
    model[0].settings.factor = 3.0
    assert compiled(fb.ones(1)).item() == 3


def test_a_forward_that_counts_in_python_raises() -> None:
    class Counting(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.calls = 0

        def forward(self, x: fb.Tensor) -> fb.Tensor:
            self.calls += 1
            return x

    model = Counting()
    with pytest.raises(CaptureError, match="changed at .calls from 0 to 1"):
        fb.compile(lambda x: model(x) + 1)(fb.ones(1))


def test_inputs_are_named_by_the_outermost_module() -> None:
    _, _, step = made(optim.AdamW)
    compiled = fb.compile(step)
    compiled(*batches()[0])
    text = compiled.ir("graph")
    for name in ("net.conv.weight", "net.norm.running_mean", "net.fc.bias", "net.fc.bias.exp_avg", "betas[0]", "lr"):
        assert f'"{name}"' in text, name


def test_a_deep_model_is_guarded_to_its_last_layer() -> None:
    model = nn.Sequential(*[nn.Dropout(0.0) for _ in range(150)], nn.Linear(1, 1), nn.Dropout(1.0))
    compiled = fb.compile(lambda x: model(x))
    assert compiled(fb.ones(1)).item() == 0
    model[-1].eval()
    assert compiled(fb.ones(1)).item() == model(fb.ones(1)).item() != 0


def test_hooks_are_part_of_the_signature() -> None:
    model = nn.Linear(1, 1)
    compiled = fb.compile(lambda x: model(x))
    plain = compiled(fb.ones(1)).item()
    handle = model.register_forward_hook(lambda module, args, output: output * 2)
    assert compiled(fb.ones(1)).item() == pytest.approx(2 * plain)
    handle.remove()
    assert compiled(fb.ones(1)).item() == plain
    assert len(compiled.signatures) == 2


def test_attention_compiles() -> None:
    layer = nn.MultiheadAttention(8, 2, batch_first=True)
    x = fb.from_numpy(np.random.default_rng(0).normal(size=(2, 5, 8)).astype(np.float32))
    mask = fb.from_numpy(np.triu(np.ones((5, 5), bool), 1))
    expected, weights = layer(x, x, x, attn_mask=mask)
    found, found_weights = fb.compile(lambda x: layer(x, x, x, attn_mask=mask))(x)
    np.testing.assert_allclose(found.detach().numpy(), expected.detach().numpy(), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(found_weights.detach().numpy(), weights.detach().numpy(), rtol=1e-5, atol=1e-6)


class Plain(optim.Optimizer):
    """An optimizer as users write them."""

    def __init__(self, params, lr: float, betas: tuple[float, float] = (0.9, 0.5)):
        super().__init__(params, {"lr": lr, "betas": betas})

    @fb.no_grad()
    def step(self) -> None:
        for group in self.param_groups:
            settings = {**group}
            for p in group["params"]:
                p.sub_(p.grad * group["lr"] * settings["betas"][0])


def test_numbers_that_an_optimizer_of_the_users_reads_never_recompile() -> None:
    weights = [fb.ones(2, requires_grad=True) for _ in range(2)]
    optimizers = [Plain([w], 0.1) for w in weights]

    def made(weight, optimizer):
        def step(x):
            weight.grad = None
            (weight * x).pow(2).sum().backward()
            optimizer.step()
            return optimizer.param_groups[0]["lr"]
        return step

    eager, compiled = made(weights[0], optimizers[0]), fb.compile(made(weights[1], optimizers[1]))
    for n in range(100):
        for optimizer in optimizers:
            optimizer.param_groups[0].update(lr=0.1 / (n + 1), betas=(0.9 - n / 200, 0.5))
        assert compiled(fb.ones(2)) == pytest.approx(eager(fb.ones(2)))
    np.testing.assert_allclose(weights[1].detach().numpy(), weights[0].detach().numpy(), rtol=1e-5)
    assert len(compiled.signatures) == 1


def test_a_group_of_the_users_own_is_guarded_by_value() -> None:
    weight, group = fb.ones(2, requires_grad=True), {"lr": 0.5}
    group["params"] = [weight]
    optimizer = Plain([group], 0.1)                     # as in PyTorch, it keeps the dict that it was given

    @fb.compile
    def step():
        return optimizer.param_groups[0]["lr"]

    assert step() == 0.5
    group["lr"] = 0.25
    assert step() == 0.25
