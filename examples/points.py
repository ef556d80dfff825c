"""Points of a square in two classes, told apart by a small perceptron, on each of MiniTorch's six data sets.

    python examples/points.py --dataset Spiral
"""

from __future__ import annotations

import argparse
import random

from training import Tell, lines

import flambeau as fb
import flambeau.nn.functional as F
from flambeau import nn, optim
from flambeau.minitorch import datasets


def points(dataset: str, n: int) -> tuple[fb.Tensor, fb.Tensor]:
    """n points, f32[n, 2], around the origin, and the class of each, f32[n]."""
    graph = datasets[dataset](n)
    return 2 * fb.tensor(graph.X) - 1, fb.tensor(graph.y, dtype=fb.float32)


class Classifier(nn.Module):
    """points: f32[n, 2] -> logits of class 1: f32[n]."""

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        self.layer1 = nn.Linear(2, width)
        self.layer2 = nn.Linear(width, width)
        self.layer3 = nn.Linear(width, 1)

    def forward(self, points: fb.Tensor) -> fb.Tensor:
        hidden = F.relu(self.layer1(points))
        hidden = F.relu(self.layer2(hidden))
        return self.layer3(hidden).squeeze(1)


def run(dataset: str, epochs: int, seed: int, tell: Tell | None = None) -> float:
    """Train on 200 points; returns the share of 200 others told apart (Spiral has no others: of those between)."""
    fb.manual_seed(seed)
    random.seed(seed)
    x, y = points(dataset, 200)
    new_x, new_y = points(dataset, 202)

    model = Classifier()
    optimizer = optim.AdamW(model.parameters(), lr=1e-2)

    @fb.compile
    def train_step(x: fb.Tensor, y: fb.Tensor) -> fb.Tensor:
        optimizer.zero_grad()
        loss = F.binary_cross_entropy_with_logits(model(x), y)
        loss.backward()
        optimizer.step()
        return loss

    tell = tell or lines(50, f"{dataset:<7} epoch")
    for epoch in range(1, epochs + 1):
        tell(epoch, epochs, model, loss=train_step(x, y).item())

    with fb.no_grad():
        return float(((model(new_x) > 0) == (new_y > 0)).float().mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dataset", choices=list(datasets), help="only that one")
    parser.add_argument("--epochs", type=int, default=250)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--quick", action="store_true", help="forty epochs of Simple, to see that it runs")
    options = parser.parse_args()
    chosen = ["Simple"] if options.quick else [options.dataset] if options.dataset else list(datasets)
    for dataset in chosen:
        accuracy = run(dataset, 40 if options.quick else options.epochs, options.seed)
        print(f"{dataset:<7} test accuracy: {accuracy:.1%}")


if __name__ == "__main__":
    main()
