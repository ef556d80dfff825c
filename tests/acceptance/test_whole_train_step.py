"""The demo's whole train step (convolutions, BatchNorm, dropout, Adam): compiled, it is the eager one.

How far two runs may drift apart is measured, not chosen: eager runs whose parameters move by one unit in the last
place after each step say what rounding alone does to this network.
"""
from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import pytest

pytest.importorskip("sklearn", reason="scikit-learn is not installed")

import flambeau as fb
import flambeau.nn.functional as F
from flambeau import optim
from flambeau.demo import digits_cnn

BATCH = 4                       # small, since eager steps are slow; the model is the demo's
FACTOR = 32                     # times the divergence that rounding causes
DISTURBED_RUNS = 2
# A bias directly before BatchNorm has no effect on the loss: its gradient is rounding noise, which Adam normalises
# to steps of the size of the learning rate. What it may do is limited below, not compared.
BIASES_BEFORE_BATCH_NORM = ("features.0.bias", "features.3.bias")
Arrays = dict[str, np.ndarray]


@dataclass
class Outcome:
    losses: np.ndarray
    state: Arrays               # parameters and BatchNorm's statistics at the end
    n_signatures: int = 0


@pytest.fixture(scope="module")
def digits() -> digits_cnn.Digits:
    return digits_cnn.load_digits()


def batches(digits: digits_cnn.Digits, n: int, dtype: type) -> Iterator[tuple[fb.Tensor, fb.Tensor]]:
    rng = np.random.default_rng(0)
    for _ in range(n):
        chosen = rng.integers(0, len(digits.train_images), BATCH)
        images = digits_cnn.shift_each(digits.train_images[chosen], rng).astype(dtype)
        yield fb.from_numpy(images), fb.from_numpy(digits.train_labels[chosen])


def make_step(model: digits_cnn.DigitsCNN, optimizer: optim.Adam) -> Callable[..., fb.Tensor]:
    def train_step(images: fb.Tensor, labels: fb.Tensor) -> fb.Tensor:
        optimizer.zero_grad()
        loss = F.cross_entropy(model(images), labels)
        loss.backward()
        optimizer.step()
        return loss
    return train_step


def move_by_one_ulp(model: digits_cnn.DigitsCNN, rng: np.random.Generator) -> None:
    for parameter in model.parameters():
        array = parameter.detach().numpy()
        towards = np.where(rng.random(array.shape) < 0.5, -np.inf, np.inf).astype(array.dtype)
        with fb.no_grad():
            parameter.copy_(fb.from_numpy(np.nextafter(array, towards)))


def run(digits: digits_cnn.Digits, n_steps: int, dtype: type, compiled: bool = False,
        disturbance: int | None = None) -> Outcome:
    """Train from the same seed. disturbance: seed of the one-ulp moves."""
    fb.manual_seed(0)
    model = digits_cnn.DigitsCNN()
    if dtype is np.float64:
        model = model.double()
    optimizer = optim.Adam(model.parameters(), lr=digits_cnn.LEARNING_RATE)
    step = make_step(model, optimizer)
    if compiled:
        step = fb.compile(step)
    rng = np.random.default_rng(disturbance)
    losses = []
    for number, (images, labels) in enumerate(batches(digits, n_steps, dtype)):
        optimizer.param_groups[0]["lr"] = digits_cnn.LEARNING_RATE / (1 + number / 50)
        losses.append(step(images, labels).item())
        if disturbance is not None:
            move_by_one_ulp(model, rng)
    state = {name: np.array(tensor.detach().numpy()) for name, tensor in model.state_dict().items()}
    return Outcome(np.array(losses), state, len(getattr(step, "signatures", ())))


def distance(one: Outcome, other: Outcome) -> dict[str, float]:
    """Largest difference of each parameter and statistic, and of the losses."""
    found = {name: float(np.abs(one.state[name] - other.state[name]).max()) for name in one.state}
    return {"losses": float(np.abs(one.losses - other.losses).max()), **found}


def depends_on_a_free_bias(name: str) -> bool:
    """BatchNorm's running mean follows the bias before it."""
    return name in BIASES_BEFORE_BATCH_NORM or name.endswith("running_mean")


def assert_compiled_follows_eager(digits: digits_cnn.Digits, n_steps: int, dtype: type) -> None:
    eager = run(digits, n_steps, dtype)
    compiled = run(digits, n_steps, dtype, compiled=True)
    assert compiled.n_signatures == 1, "a changing learning rate compiled again"
    found = distance(eager, compiled)
    # A value so near a kink (of ReLU, of max pooling) that rounding decides its side makes runs leave each other by orders
    # of magnitude. Some of the disturbed runs cross it and some don't, so there are several: always the same ones.
    roundings = [distance(eager, run(digits, n_steps, dtype, disturbance=seed)) for seed in range(DISTURBED_RUNS)]
    allowed = {name: FACTOR * max(rounding[name] for rounding in roundings) for name in found}
    beyond = {name: f"{found[name]:.1e} > {allowed[name]:.1e}" for name in found if found[name] > allowed[name]
              and not depends_on_a_free_bias(name)}
    assert not beyond, f"further from eager than {FACTOR} times rounding: {beyond}"
    steps_taken = n_steps * digits_cnn.LEARNING_RATE
    for name in BIASES_BEFORE_BATCH_NORM:           # Adam moves no element further than about its learning rate
        assert found[name] <= 2 * steps_taken
    print({name: f"{found[name]:.1e} (free)" for name in found if depends_on_a_free_bias(name)})


def test_200_compiled_steps_equal_eager_ones_in_f64(digits: digits_cnn.Digits) -> None:
    assert_compiled_follows_eager(digits, 200, np.float64)


def test_100_compiled_steps_equal_eager_ones_in_f32(digits: digits_cnn.Digits) -> None:
    assert_compiled_follows_eager(digits, 100, np.float32)


def test_dropout_draws_of_both_are_the_same(digits: digits_cnn.Digits) -> None:
    """Without dropout the first loss is another one, so the comparison above does see the draws."""
    eager, compiled = run(digits, 1, np.float64), run(digits, 1, np.float64, compiled=True)
    np.testing.assert_allclose(compiled.losses, eager.losses, rtol=1e-13)
    fb.manual_seed(0)
    model = digits_cnn.DigitsCNN().double()
    model.classifier[1].p = 0.0
    ((images, labels),) = batches(digits, 1, np.float64)
    assert abs(F.cross_entropy(model(images), labels).item() - eager.losses[0]) > 1e-4


def test_train_and_eval_compile_once_each_and_say_why(digits: digits_cnn.Digits) -> None:
    fb.manual_seed(0)
    model = digits_cnn.DigitsCNN()
    step = fb.compile(make_step(model, optim.Adam(model.parameters())))
    for images, labels in batches(digits, 3, np.float32):
        model.train()
        step(images, labels)
        model.eval()
        step(images, labels)
    assert len(step.signatures) == 2
    assert step.signatures[0].reason is None
    assert "training" in step.signatures[1].reason
    assert "from True to False" in step.signatures[1].reason
    assert step.signatures[1].reason in step.explain()
