"""The demo from start to end: train with a live bar, test, draw, and tell what the compiler did."""

from __future__ import annotations

import itertools
import statistics
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

import flambeau as fb
from flambeau.demo import digits_cnn, pictures
from flambeau.demo.account import Comparison, account_of
from flambeau.progress import progress_bar

_EAGER_STEPS = 6
IR_LEVELS = ("graph", "autodiff", "fused", "kernels")
CODE_LEVELS = {"cpu": ("llvm", "asm"), "cuda": ("cuda",)}


def run(seed: int, epochs: int, out: Path, device: str = "cpu") -> float:
    """Train, test and tell; returns the test accuracy in percent, which is also the last line printed."""
    digits = digits_cnn.load_digits()
    print(
        f"Flambeau reads handwritten digits: {len(digits.train_images)} scans of 8x8 pixels to train on, "
        f"{len(digits.test_images)} held out, seed {seed}.\n"
        "The whole training step (forward, backward, Adam) is compiled on the first call.\n"
    )
    training = digits_cnn.make_training(seed, epochs * digits.steps_per_epoch, device)
    timed = TimedStep(training.train_step)
    losses = train_with_bar(replace(training, train_step=timed), digits, epochs, seed)
    predictions = digits_cnn.predict(training, digits.test_images)
    accuracy = 100 * float(np.mean(predictions == digits.test_labels))
    comparison = compare_with_eager(digits, epochs, seed, losses, timed.seconds, device)
    written = write_everything(training, digits, losses, predictions, out)
    print()
    print(account_of(training.train_step.stats(), comparison, len(losses), written))
    print(f"\ntest accuracy: {accuracy:.1f}%")
    return accuracy


class TimedStep:
    """A training step that also notes how long each call took, up to the loss being there to read."""

    def __init__(self, step: digits_cnn.Step) -> None:
        self.step = step
        self.seconds: list[float] = []

    def __call__(self, images: fb.Tensor, labels: fb.Tensor) -> tuple[fb.Tensor, fb.Tensor]:
        started = time.perf_counter()
        loss, n_correct = self.step(images, labels)
        loss.item()
        self.seconds.append(time.perf_counter() - started)
        return loss, n_correct


def train_with_bar(
    training: digits_cnn.Training, digits: digits_cnn.Digits, epochs: int, seed: int
) -> list[float]:
    """Train under a progress bar; the loss of each step."""
    steps: list[digits_cnn.Progress] = []
    with progress_bar(epochs * digits.steps_per_epoch) as bar:
        for step in digits_cnn.train(training, digits, epochs, seed):
            steps.append(step)
            loss, accuracy = map(statistics.fmean, zip(*steps[-digits.steps_per_epoch :], strict=True))
            epoch = 1 + (len(steps) - 1) // digits.steps_per_epoch
            bar.update(len(steps), f"epoch {epoch:>2}/{epochs}  loss {loss:.4f}  accuracy {accuracy:6.1%}")
    return [step.loss for step in steps]


def compare_with_eager(
    digits: digits_cnn.Digits, epochs: int, seed: int, losses: list[float], compiled_seconds: list[float],
    device: str = "cpu",
) -> Comparison:
    """Run the first steps again from the same seed with the compiler off: the same numbers, more slowly."""
    training = digits_cnn.make_training(seed, epochs * digits.steps_per_epoch, device)
    eager = TimedStep(training.train_step)
    with fb.config.set(disable_jit=True):
        steps = digits_cnn.train(replace(training, train_step=eager), digits, epochs, seed)
        eager_losses = [step.loss for step in itertools.islice(steps, _EAGER_STEPS)]
    return Comparison(
        compiled_seconds=statistics.median(compiled_seconds),
        eager_seconds=statistics.median(eager.seconds),
        n_compared=len(eager_losses),
        largest_difference=max(abs(a - b) for a, b in zip(losses, eager_losses, strict=False)),
    )


def write_everything(
    training: digits_cnn.Training,
    digits: digits_cnn.Digits,
    losses: list[float],
    predictions: np.ndarray,
    out: Path,
) -> list[tuple[Path, str]]:
    """Pictures and the program at every level, under `out`; what was written, with words for it."""
    (out / "ir").mkdir(parents=True, exist_ok=True)
    pictures.draw_losses(losses, digits.steps_per_epoch, out / "loss.png")
    pictures.draw_digits(digits.test_images, digits.test_labels, predictions, out / "digits.png")
    traced = training.train_step.graph("autodiff")
    pictures.draw_graph(traced, out / "forward.png", "Forward", ("input", "state", "forward"))
    pictures.draw_graph(traced, out / "backward.png", "Backward and Adam", ("backward", "update"))
    levels = (*IR_LEVELS, *CODE_LEVELS[training.device.partition(":")[0]])
    for number, level in enumerate(levels):
        text = training.train_step.ir(level)
        (out / "ir" / f"{number}-{level}.txt").write_text(text + "\n", encoding="utf-8")
    (out / "explain.txt").write_text(str(training.train_step.explain()) + "\n", encoding="utf-8")
    return [
        (out / "loss.png", "the loss curve"),
        (out / "digits.png", "test digits with what the network read"),
        (out / "forward.png", "the traced graph, forward"),
        (out / "backward.png", "its derivative and the optimizer's update"),
        (out / "ir", f"the step at every level: {', '.join(levels)}"),
        (out / "explain.txt", "what train_step.explain() tells"),
    ]
