"""Three spiral arms, told apart by a small perceptron: the shortest complete program.

python examples/mlp.py --epochs 200
"""

from __future__ import annotations

import argparse
import math

import numpy as np

import flambeau as fb
import flambeau.nn.functional as F
from flambeau import nn, optim


def spirals(n_per_arm: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Points on three noisy spiral arms. Returns f32[3 * n_per_arm, 2] and the arm of each, i64[3 * n_per_arm]."""
    arm = np.repeat(np.arange(3), n_per_arm)
    radius = np.sqrt(rng.uniform(0.01, 1, len(arm)))
    angle = 4 * radius + 2 * math.pi / 3 * arm + rng.normal(0, 0.12, len(arm))
    points = np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1)
    return points.astype(np.float32), arm


class MLP(nn.Module):
    """points: f32[n, 2] -> logits: f32[n, 3]."""

    def __init__(self, width: int = 64) -> None:
        super().__init__()
        self.fc1 = nn.Linear(2, width)
        self.fc2 = nn.Linear(width, width)
        self.out = nn.Linear(width, 3)

    def forward(self, points: fb.Tensor) -> fb.Tensor:
        hidden = F.relu(self.fc1(points))
        hidden = F.relu(self.fc2(hidden))
        return self.out(hidden)


def run(epochs: int, seed: int) -> float:
    """Train on one draw of the spirals, test on another; returns the share told apart correctly."""
    fb.manual_seed(seed)
    rng = np.random.default_rng(seed)
    points, arms = (fb.from_numpy(array) for array in spirals(300, rng))
    new_points, new_arms = spirals(300, rng)

    model = MLP()
    optimizer = optim.AdamW(model.parameters(), lr=1e-2)

    @fb.compile
    def train_step(points: fb.Tensor, arms: fb.Tensor) -> fb.Tensor:
        optimizer.zero_grad()
        loss = F.cross_entropy(model(points), arms)
        loss.backward()
        optimizer.step()
        return loss

    for epoch in range(1, epochs + 1):
        loss = train_step(points, arms)
        if epoch in (1, epochs) or epoch % 50 == 0:
            print(f"epoch {epoch:>3}  loss {loss.item():.4f}")

    with fb.no_grad():
        guesses = model(fb.from_numpy(new_points)).argmax(dim=1).numpy()
    return float((guesses == new_arms).mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--quick", action="store_true", help="twenty epochs, to see that it runs")
    options = parser.parse_args()
    accuracy = run(20 if options.quick else options.epochs, options.seed)
    print(f"test accuracy: {accuracy:.1%}")


if __name__ == "__main__":
    main()
