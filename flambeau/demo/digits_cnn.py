"""A convolutional network that reads handwritten digits: the model, its data and its compiled training step.

The data are scikit-learn's bundled digits, 1,797 scans of 8x8 pixels: nothing is downloaded. A fifth of them,
the same share of every digit, is held out and never trained on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

import flambeau as fb
import flambeau.nn.functional as F
from flambeau import nn, optim

BATCH_SIZE = 64
EPOCHS = 20
LEARNING_RATE = 3e-3

Step = Any       # a compiled function (images, labels) -> (loss, correct), or one that times it
Batch = tuple[np.ndarray, np.ndarray]


class DigitsCNN(nn.Module):
    """images: f32[n, 1, 8, 8] with pixels in [0, 1] -> logits: f32[n, 10]."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(1, 32, kernel_size=3, padding=1),
            nn.BatchNorm2d(32),
            nn.ReLU(),
            nn.Conv2d(32, 32, kernel_size=3, padding=1),
            nn.BatchNorm2d(32),
            nn.ReLU(),
            nn.MaxPool2d(2),
        )
        self.classifier = nn.Sequential(
            nn.Flatten(),
            nn.Dropout(0.25),
            nn.Linear(32 * 4 * 4, 64),
            nn.ReLU(),
            nn.Linear(64, 10),
        )

    def forward(self, images: fb.Tensor) -> fb.Tensor:
        return self.classifier(self.features(images))


@dataclass(frozen=True)
class Digits:
    """Images are f32[n, 1, 8, 8] with pixels in [0, 1], labels are i64[n]."""

    train_images: np.ndarray
    train_labels: np.ndarray
    test_images: np.ndarray
    test_labels: np.ndarray

    @property
    def steps_per_epoch(self) -> int:
        """Full batches only: one shape means one compilation."""
        return len(self.train_images) // BATCH_SIZE


def load_digits() -> Digits:
    """Split the scans into four fifths to train on and one fifth to test on, stratified by digit.

    The split is the same in every run, so that accuracies of different seeds compare.
    """
    # scikit-learn is an optional dependency and takes a second to import.
    from sklearn import datasets, model_selection

    scans = datasets.load_digits()
    images = (scans.images / 16).astype(np.float32)[:, None]
    labels = scans.target.astype(np.int64)
    parts = model_selection.train_test_split(images, labels, test_size=0.2, stratify=labels, random_state=0)
    train_images, test_images, train_labels, test_labels = map(np.ascontiguousarray, parts)
    return Digits(train_images, train_labels, test_images, test_labels)


def shift_each(images: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Move every image by -1, 0 or 1 pixel in both directions; what moves in from outside is 0."""
    height, width = images.shape[-2:]
    padded = np.pad(images, ((0, 0), (0, 0), (1, 1), (1, 1)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (height, width), axis=(-2, -1))
    down, right = rng.integers(0, 3, size=(2, len(images)))
    return np.ascontiguousarray(windows[np.arange(len(images)), :, down, right])


def batches(digits: Digits, rng: np.random.Generator) -> Iterator[Batch]:
    """One epoch of shuffled, shifted training batches."""
    order = rng.permutation(len(digits.train_images))
    for start in range(0, digits.steps_per_epoch * BATCH_SIZE, BATCH_SIZE):
        chosen = order[start : start + BATCH_SIZE]
        yield shift_each(digits.train_images[chosen], rng), digits.train_labels[chosen]


@dataclass(frozen=True)
class Training:
    """A model with its compiled steps.

    train_step: (images, labels) -> (loss, number of images read correctly); classify: images -> digits; both on `device`.
    """

    model: DigitsCNN
    train_step: Step
    classify: Callable[[fb.Tensor], fb.Tensor]
    schedule: optim.lr_scheduler.OneCycleLR
    device: str = "cpu"


def make_training(seed: int, total_steps: int, device: str = "cpu") -> Training:
    """A fresh model, its optimizer, a learning rate that rises and falls once, and the compiled steps."""
    fb.manual_seed(seed)
    model = DigitsCNN().to(device)
    optimizer = optim.Adam(model.parameters(), lr=LEARNING_RATE)
    schedule = optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=LEARNING_RATE, total_steps=total_steps, cycle_momentum=False
    )

    @fb.compile
    def train_step(images: fb.Tensor, labels: fb.Tensor) -> tuple[fb.Tensor, fb.Tensor]:
        optimizer.zero_grad()
        logits = model(images)
        loss = F.cross_entropy(logits, labels)
        loss.backward()
        optimizer.step()
        return loss, (logits.argmax(dim=1) == labels).sum()

    @fb.compile
    def classify(images: fb.Tensor) -> fb.Tensor:
        with fb.no_grad():
            return model(images).argmax(dim=1)

    return Training(model, train_step, classify, schedule, device)


class Progress(NamedTuple):
    """How one step went, on its own batch before the update. accuracy: from 0 to 1."""

    loss: float
    accuracy: float


def train(training: Training, digits: Digits, epochs: int, seed: int) -> Iterator[Progress]:
    """Train, one compiled call a step, and tell how each went."""
    rng = np.random.default_rng(seed)
    training.model.train()
    for _ in range(epochs):
        for images, labels in batches(digits, rng):
            loss, n_correct = training.train_step(*(fb.from_numpy(a).to(training.device) for a in (images, labels)))
            training.schedule.step()
            yield Progress(loss.item(), n_correct.item() / BATCH_SIZE)


def predict(training: Training, images: np.ndarray) -> np.ndarray:
    """The digit the model reads in each image: i64[n]."""
    training.model.eval()
    return training.classify(fb.from_numpy(images).to(training.device)).cpu().numpy()
