"""autocast and GradScaler: dtypes and numbers as PyTorch's on the CPU, eager and compiled."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import flambeau as fb
from flambeau import nn

F = nn.functional
LOWER: dict[str, Callable[..., Any]] = {
    "matmul": lambda m, v, b: m @ m, "method": lambda m, v, b: m.mm(m), "bmm": lambda m, v, b: b.bmm(b),
    "addmm": lambda m, v, b: fb.addmm(m, m, m), "linear": lambda m, v, b: F.linear(m, m, v),
    "einsum": lambda m, v, b: fb.einsum("ij,jk->ik", m, m), "tensordot": lambda m, v, b: fb.tensordot(m, m, 1),
    "conv1d": lambda m, v, b: F.conv1d(b, b), "conv2d": lambda m, v, b: F.conv2d(b[None], b[:, None, :2, :2], groups=4),
    "attention": lambda m, v, b: F.scaled_dot_product_attention(b, b, b),
    "prelu": lambda m, v, b: F.prelu(m, v[:1]),
}
FULL: dict[str, Callable[..., Any]] = {
    "mse_loss": lambda m, v, b: F.mse_loss(m, m + 1), "cross_entropy": lambda m, v, b: F.cross_entropy(m, fb.arange(4)),
    "kl_div": lambda m, v, b: F.kl_div(m, m.abs(), reduction="sum"), "prod": lambda m, v, b: m.prod(),
    "trace": lambda m, v, b: m.trace(), "quantile": lambda m, v, b: m.quantile(0.5),
    "inverse": lambda m, v, b: fb.linalg.inv(m),
}
ALONE: dict[str, Callable[..., Any]] = {
    "mv": lambda m, v, b: m.mv(v), "dot": lambda m, v, b: v.dot(v), "add": lambda m, v, b: m + m,
    "softmax": lambda m, v, b: F.softmax(m, -1), "layer_norm": lambda m, v, b: F.layer_norm(m, (4,)),
    "sum": lambda m, v, b: m.sum(), "exp": lambda m, v, b: m.exp(),
}


def operands(dtype: fb.dtype) -> tuple[fb.Tensor, ...]:
    rng = np.random.default_rng(0)
    return tuple(fb.tensor(rng.normal(size=shape), dtype=dtype) for shape in ((4, 4), (4,), (4, 4, 4)))


@pytest.mark.parametrize("is_compiled", [False, True])
@pytest.mark.parametrize("name", [*LOWER, *FULL, *ALONE])
def test_dtypes(name: str, is_compiled: bool) -> None:
    function = {**LOWER, **FULL, **ALONE}[name]
    f = fb.compile(function) if is_compiled else function
    for lower in (fb.bfloat16, fb.float16):
        for given in (fb.float32, lower):
            if name == "inverse" and given is not fb.float32 and is_compiled and lower is fb.float16:
                continue
            expected = lower if name in LOWER else fb.float32 if name in FULL else given
            with fb.autocast("cpu", lower):
                found = f(*operands(given))
            assert found.dtype is expected
    with fb.autocast("cpu"):
        assert f(*operands(fb.float64)).dtype is fb.float64
    with fb.autocast("cpu"), fb.autocast("cpu", enabled=False):
        assert f(*operands(fb.float32)).dtype is fb.float32
    assert f(*operands(fb.float32)).dtype is fb.float32


def test_the_widest_dtype_of_what_is_joined() -> None:
    x, y = fb.ones(2), fb.ones(2, dtype=fb.bfloat16)
    with fb.autocast("cpu"):
        assert fb.cat([x, y]).dtype is fb.float32 and fb.stack([y, y]).dtype is fb.bfloat16


def test_a_compiled_function_knows_what_is_cast_around_it() -> None:
    layer = nn.Linear(3, 2)
    f = fb.compile(lambda x: layer(x))
    x = fb.randn(4, 3)
    for _ in range(2):
        plain = f(x)
        with fb.autocast("cpu"):
            lower = f(x)
        with fb.autocast("cpu", fb.float16):
            half = f(x)
        assert (plain.dtype, lower.dtype, half.dtype) == (fb.float32, fb.bfloat16, fb.float16)
    assert len(f.signatures) == 3 and "autocast" in (f.signatures[1].reason or "")
    with fb.autocast("cpu"):
        np.testing.assert_array_equal(lower.detach().float().numpy(), layer(x).detach().float().numpy())


def test_a_function_may_not_leave_it_on() -> None:
    with pytest.raises(fb.errors.CaptureError, match="autocast"):
        fb.compile(lambda x: (fb.set_autocast_enabled("cpu", True), x + 1)[1])(fb.ones(2))
    assert not fb.is_autocast_enabled("cpu")


def test_what_is_not_available_is_turned_off_with_a_warning() -> None:
    with pytest.warns(UserWarning, match="cuda"), fb.autocast("cuda"):
        assert not fb.is_autocast_enabled("cpu")
    with pytest.warns(UserWarning, match="not supported"), fb.autocast("cpu", fb.float64):
        assert (fb.ones(2, 2) @ fb.ones(2, 2)).dtype is fb.float32
    with pytest.raises(RuntimeError, match="unsupported autocast device_type 'tpu'"):
        fb.autocast("tpu")
    with pytest.warns(UserWarning, match="GradScaler"):
        scaler = fb.amp.GradScaler()
    assert not scaler.is_enabled() and scaler.get_scale() == 1.0 and scaler.state_dict() == {}


def test_it_decorates_and_asks() -> None:
    @fb.autocast("cpu")
    def product(x: fb.Tensor) -> fb.Tensor:
        assert fb.is_autocast_enabled("cpu") and fb.get_autocast_dtype("cpu") is fb.bfloat16
        assert fb.is_autocast_cpu_enabled() and fb.get_autocast_cpu_dtype() is fb.bfloat16
        assert fb.get_autocast_gpu_dtype() is fb.get_autocast_dtype("cuda") is fb.float16
        return x @ x

    assert product(fb.ones(2, 2)).dtype is fb.bfloat16 and not fb.is_autocast_enabled("cpu")


def test_custom_functions_say_what_they_take() -> None:
    class Doubled(fb.autograd.Function):
        @staticmethod
        @fb.amp.custom_fwd(device_type="cpu", cast_inputs=fb.float32)
        def forward(ctx: Any, x: fb.Tensor) -> fb.Tensor:
            assert x.dtype is fb.float32 and not fb.is_autocast_enabled("cpu")
            return x * 2

        @staticmethod
        @fb.amp.custom_bwd(device_type="cpu")
        def backward(ctx: Any, gradient: fb.Tensor) -> fb.Tensor:
            assert not fb.is_autocast_enabled("cpu")
            return gradient * 2

    x = fb.ones(2, dtype=fb.bfloat16, requires_grad=True)
    with fb.autocast("cpu"):
        y = Doubled.apply(x)
    y.sum().backward()
    assert y.dtype is fb.float32 and x.grad is not None and x.grad.tolist() == [2.0, 2.0]


def model() -> nn.Module:
    fb.manual_seed(0)
    return nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 4))


def scaled_step(net: nn.Module, optimizer: Any, scaler: Any) -> Callable[[fb.Tensor, fb.Tensor], fb.Tensor]:
    def step(x: fb.Tensor, y: fb.Tensor) -> fb.Tensor:
        optimizer.zero_grad()
        with fb.autocast("cpu", fb.float16):
            loss = F.cross_entropy(net(x), y)
        scaler.scale(loss).backward()
        scaler.unscale_(optimizer)
        nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        scaler.step(optimizer)
        scaler.update()
        return loss

    return step


def test_a_scaled_step_compiled_is_as_it_is_eagerly() -> None:
    rng, found = np.random.default_rng(0), []
    batches = [(rng.normal(size=(16, 8)).astype(np.float32), rng.integers(0, 4, 16)) for _ in range(12)]
    for is_compiled in (False, True):
        net = model()
        optimizer = fb.optim.AdamW(net.parameters(), lr=1e-2)
        scaler = fb.amp.GradScaler("cpu", init_scale=2.0**24, growth_interval=3)
        step = scaled_step(net, optimizer, scaler)
        step = fb.compile(step) if is_compiled else step
        scales = []
        for x, y in batches:
            step(fb.tensor(x), fb.tensor(y))
            scales.append(scaler.get_scale())
        found.append((scales, scaler.state_dict()["_growth_tracker"], [p.detach().numpy() for p in net.parameters()]))
    assert found[0][:2] == found[1][:2]
    assert found[0][0][0] == 2.0**23 and sorted(found[0][0], reverse=True) != found[0][0]    # it shrank, and it grew
    for p, q in zip(found[0][2], found[1][2], strict=True):
        np.testing.assert_allclose(q, p, rtol=1e-5, atol=1e-6)


def test_a_step_with_an_infinite_gradient_is_left_out() -> None:
    p = nn.Parameter(fb.ones(2))
    optimizer, scaler = fb.optim.Adam([p]), fb.amp.GradScaler("cpu", init_scale=4.0)

    @fb.compile
    def step(x: fb.Tensor) -> None:
        optimizer.zero_grad()
        scaler.scale((p * x).sum()).backward()
        scaler.step(optimizer)
        scaler.update()

    step(fb.tensor([1.0, float("inf")]))
    assert p.tolist() == [1.0, 1.0] and scaler.get_scale() == 2.0 and optimizer.state[p]["step"].item() == 0
    step(fb.ones(2))
    assert p.tolist() != [1.0, 1.0] and optimizer.state[p]["step"].item() == 1


def test_misuse_of_the_scaler() -> None:
    p = nn.Parameter(fb.ones(2))
    optimizer, scaler = fb.optim.SGD([p]), fb.amp.GradScaler("cpu")
    with pytest.raises(AssertionError, match="No inf checks"):
        scaler.update()
    scaler.scale(p.sum()).backward()
    scaler.unscale_(optimizer)
    with pytest.raises(RuntimeError, match="already been called"):
        scaler.unscale_(optimizer)
    scaler.step(optimizer)
    with pytest.raises(RuntimeError, match="after step"):
        scaler.unscale_(optimizer)
    with pytest.raises(RuntimeError, match="already been called since"):
        scaler.step(optimizer)
    scaler.update(8.0)
    assert scaler.get_scale() == 8.0
    other = fb.amp.GradScaler("cpu")
    other.load_state_dict(scaler.state_dict())
    assert other.state_dict() == scaler.state_dict()


@pytest.mark.torch
def test_training_agrees_with_torch() -> None:
    """bf16 products are rounded alike, so that losses agree to the accumulation's order."""
    import torch

    net, theirs = model(), torch.nn.Sequential(torch.nn.Linear(8, 16), torch.nn.ReLU(), torch.nn.Linear(16, 4))
    theirs.load_state_dict({key: torch.tensor(value.numpy()) for key, value in net.state_dict().items()})
    ours = copy.deepcopy(net)
    optimizer, expected = fb.optim.AdamW(ours.parameters(), lr=1e-2), torch.optim.AdamW(theirs.parameters(), lr=1e-2)

    @fb.compile
    def step(x: fb.Tensor, y: fb.Tensor) -> fb.Tensor:
        optimizer.zero_grad()
        with fb.autocast("cpu"):
            loss = F.cross_entropy(ours(x), y)
        loss.backward()
        optimizer.step()
        return loss

    rng = np.random.default_rng(0)
    for _ in range(20):
        x, y = rng.normal(size=(16, 8)).astype(np.float32), rng.integers(0, 4, 16)
        expected.zero_grad()
        with warnings.catch_warnings(), torch.autocast("cpu", torch.bfloat16):
            wanted = torch.nn.functional.cross_entropy(theirs(torch.tensor(x)), torch.tensor(y))
        wanted.backward()
        expected.step()
        assert step(fb.tensor(x), fb.tensor(y)).item() == pytest.approx(wanted.item(), rel=4e-3)


def test_names_that_load_at_first_use_may_be_used_first_in_a_compiled_function(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(vars(fb), "autocast", raising=False)
    monkeypatch.delitem(vars(fb), "linalg", raising=False)

    @fb.compile
    def f(x: fb.Tensor) -> fb.Tensor:
        with fb.autocast("cpu"):
            return fb.linalg.matmul(x, x)

    for _ in range(3):
        assert f(fb.ones(2, 2)).dtype is fb.bfloat16
    assert len(f.signatures) == 1
    monkeypatch.setitem(vars(fb), "autocast", lambda device: fb.no_grad())
    assert f(fb.ones(2, 2)).dtype is fb.float32 and len(f.signatures) == 2
