"""A small LeNet reads digits on images of 28 x 28: drawn here from a font of 5 x 7, stretched, slanted, moved and noisy.

    python examples/lenet.py --epochs 4
"""

from __future__ import annotations

import argparse

import numpy as np
from training import Tell, fit

import flambeau as fb
import flambeau.nn.functional as F
from flambeau import nn

SIZE = 28
# Each digit is seven rows of five pixels, one letter a row: the bits of its place in the alphabet (@ is 0, A is 1, ...).
FONT = ["NQQQQQN", "DLDDDDN", "NQABDH_", "NQANAQN", "BFJR_BB", "_P^AAQN", "NPP^QQN", "_ABDDHH", "NQQNQQN", "NQQOAAN"]
GLYPHS = np.array([[[ord(row) - 64 >> bit & 1 for bit in (4, 3, 2, 1, 0)] for row in digit] for digit in FONT])


def images(n: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """n images, f32[n, 1, 28, 28], and what they show, i64[n]."""
    labels = rng.integers(0, 10, n)
    drawn = rng.normal(0, 0.2, (n, 1, SIZE, SIZE)).astype(np.float32)
    for image, label in zip(drawn[:, 0], labels, strict=True):
        height, width, slant = rng.integers(15, 22), rng.integers(9, 16), rng.uniform(-0.25, 0.25)
        glyph = GLYPHS[label][np.arange(height) * 7 // height][:, np.arange(width) * 5 // width]
        top, left = (SIZE - height) // 2 + rng.integers(-3, 4), (SIZE - width) // 2 + rng.integers(-3, 4)
        for row, pixels in enumerate(glyph):
            start = int(np.clip(left + slant * (row - height / 2), 0, SIZE - width))
            image[top + row, start:start + width] += rng.uniform(0.6, 1.0) * pixels
    return drawn, labels


class LeNet(nn.Module):
    """images: f32[n, 1, 28, 28] -> logits: f32[n, 10]."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 4, 3, padding=1)
        self.conv2 = nn.Conv2d(4, 8, 3, padding=1)
        self.linear1 = nn.Linear(8 * 7 * 7, 64)
        self.dropout = nn.Dropout(0.25)
        self.linear2 = nn.Linear(64, 10)

    def forward(self, images: fb.Tensor) -> fb.Tensor:
        x = F.relu(self.conv1(images))
        x = F.max_pool2d(F.relu(self.conv2(x)), 4)
        x = self.dropout(F.relu(self.linear1(x.flatten(1))))
        return self.linear2(x)


def run(epochs: int, seed: int, n_train: int = 4000, batch_size: int = 32, tell: Tell | None = None) -> float:
    """Train; returns the share of 1000 other images read correctly."""
    fb.manual_seed(seed)
    rng = np.random.default_rng(seed)
    train, test = images(n_train, rng), images(1000, rng)
    return fit(LeNet(), F.cross_entropy, lambda logits: logits.argmax(dim=1), train, test, epochs, rng, batch_size, tell)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--quick", action="store_true", help="one epoch, to see that it runs")
    options = parser.parse_args()
    print(f"test accuracy: {run(1 if options.quick else options.epochs, options.seed):.1%}")


if __name__ == "__main__":
    main()
