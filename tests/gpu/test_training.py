"""Training on the GPU: the CPU's losses, no memory that grows, errors where work is waited for, streams and events."""
from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import flambeau as fb
from benchmarks.gpu.training import MODELS, OPTIMIZERS, losses, mlp, train_step

pytestmark = pytest.mark.gpu


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("make", MODELS, ids=lambda make: make.__name__)
def test_a_hundred_steps_have_the_losses_of_the_cpu(make: Callable[[bool], Any], optimizer: str, small: bool) -> None:
    steps = 3 if small else 100
    here, there = (losses(make, optimizer, device, steps, small) for device in ("cpu", "cuda"))
    np.testing.assert_allclose(there[:20], here[:20], rtol=1e-4)
    np.testing.assert_allclose(there, here, rtol=2e-2, atol=1e-3)       # roundings grow with the steps
    assert np.mean(there[-3:]) < there[0] or small


def test_memory_does_not_grow(small: bool) -> None:
    fb.manual_seed(0)
    step = train_step(mlp(True), "AdamW", "cuda")
    for _ in range(5):
        step()
    fb.cuda.synchronize()
    before = fb.cuda.memory_allocated()
    for number in range(30 if small else 10_000):
        loss = step()
        if number % 500 == 0:
            loss.item()
    fb.cuda.synchronize()
    assert fb.cuda.memory_allocated() <= before + 512


def test_a_bad_index_is_told_when_the_work_is_waited_for() -> None:
    table = fb.arange(5.0, device="cuda")
    look_up = fb.compile(lambda i: table[i] * 2)
    assert look_up(fb.tensor([4, 0], device="cuda")).tolist() == [8.0, 0.0]
    bad = look_up(fb.tensor([4, 5], device="cuda"))
    with pytest.raises(IndexError, match="index 5 is out of range"):
        bad.tolist()
    assert look_up(fb.tensor([1], device="cuda")).tolist() == [2.0]         # and the device goes on


def test_streams_wait_for_each_other_and_events_tell_times(small: bool) -> None:
    n = 32 if small else 1 << 20
    x, other = fb.ones(n, device="cuda"), fb.cuda.Stream()
    double = fb.compile(lambda x: x * 2)
    begun, ended = fb.cuda.Event(enable_timing=True), fb.cuda.Event(enable_timing=True)
    begun.record()
    y = double(x)
    ready = fb.cuda.Event()
    ready.record()
    with fb.cuda.stream(other):
        other.wait_event(ready)
        z = double(y)
        done = other.record_event()
    fb.cuda.current_stream().wait_event(done)
    total = (z + y).sum()
    ended.record()
    ended.synchronize()
    assert total.item() == 6 * n and begun.elapsed_time(ended) >= 0


def test_calls_over_and_over_are_graphs_with_the_numbers_of_each_call(small: bool) -> None:
    """Many small launches, which are asked for as one graph from the second call on; arguments and numbers change."""
    def many(x: fb.Tensor, scale: float) -> fb.Tensor:
        for _ in range(6):
            x = (x @ x) * scale
        return x

    compiled = fb.compile(many)
    for number in range(3 if small else 50):
        x = fb.eye(4) * (1 + number % 3)
        scale = 0.5 + number % 2
        np.testing.assert_allclose(compiled(x.to("cuda"), scale).tolist(), many(x, scale).tolist(), rtol=1e-4)


def test_the_demo_trains_there(small: bool, tmp_path: Any) -> None:
    pytest.importorskip("sklearn", reason="scikit-learn is not installed")
    pytest.importorskip("matplotlib", reason="matplotlib is not installed")
    if small:
        pytest.skip("hundreds of steps are too many for the emulated device")
    from flambeau.demo import show

    assert show.run(seed=0, epochs=5, out=tmp_path, device="cuda") > 95
    assert "def kernel_" in (tmp_path / "ir" / "4-cuda.txt").read_text()


def test_the_demos_step_is_the_cpus(small: bool) -> None:
    from flambeau.demo import digits_cnn

    rng = np.random.default_rng(0)
    images, labels = rng.random((2 if small else 64, 1, 8, 8), np.float32), rng.integers(0, 10, 2 if small else 64)
    losses = []
    for device in ("cpu", "cuda"):
        training = digits_cnn.make_training(0, 10, device)
        fb.manual_seed(1)
        loss, _ = training.train_step(fb.from_numpy(images).to(device), fb.from_numpy(labels).to(device))
        losses.append(loss.item())
        assert digits_cnn.predict(training, images).shape == labels.shape
    assert losses[1] == pytest.approx(losses[0], rel=1e-4)
