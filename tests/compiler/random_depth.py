"""Seeded random deep programs: one block many times, with small differences that a compiler which plans a layer once could
miss: another constant, another width, a parameter or a tensor that several layers share, state that a layer changes.

All of it stays of order one, and nothing divides by what may be a rounding alone, so that compiled and eager numbers differ
by roundings alone.
"""
from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import flambeau as fb
import flambeau.nn.functional as F
from flambeau import nn, optim

Step = Callable[["Layer", fb.Tensor, fb.Tensor], fb.Tensor]

STEPS: dict[str, Step] = {
    "tanh": lambda layer, x, first: (x * layer.scale).tanh(),
    "gelu": lambda layer, x, first: F.gelu(x + layer.shift),
    "linear": lambda layer, x, first: x @ layer.weight + layer.bias,
    "norm": lambda layer, x, first: F.layer_norm(x, (x.shape[-1],), layer.gain, layer.bias, eps=0.1),
    "softmax": lambda layer, x, first: (x * layer.scale).softmax(layer.dim) * 2,
    "skip": lambda layer, x, first: x * 0.5 + first[:, :x.shape[1]] * layer.scale,
    "mean": lambda layer, x, first: x - x.mean(layer.dim, keepdim=True),
    "flip": lambda layer, x, first: x.flip(layer.dim),
    "turn": lambda layer, x, first: x.t().reshape(x.shape),
    "shift": lambda layer, x, first: fb.cat([x[1:], x[:1]]) * layer.scale,
    "state": lambda layer, x, first: layer.count(x),
    "where": lambda layer, x, first: fb.where(x > layer.shift, x, first[:, :x.shape[1]]),
    "cumsum": lambda layer, x, first: x.cumsum(layer.dim) * 0.1,
    "gather": lambda layer, x, first: x[layer.index],
}


class Layer(nn.Module):
    """Steps of a block, with numbers of its own."""

    def __init__(self, steps: list[str], rows: int, width: int, draw: random.Random):
        super().__init__()
        self.steps, self.scale, self.shift, self.dim = steps, 0.7, 0.1, 1
        self.weight = nn.Parameter(fb.randn(width, width) * 0.3)
        self.bias, self.gain = nn.Parameter(fb.randn(width) * 0.3), nn.Parameter(fb.ones(width))
        self.register_buffer("seen", fb.zeros(width))
        self.register_buffer("index", fb.tensor([draw.randrange(rows) for _ in range(rows)]))

    def count(self, x: fb.Tensor) -> fb.Tensor:
        """x less a running mean, which it changes in place."""
        self.seen.mul_(0.5).add_(x.detach().mean(0) * 0.5)
        return x - self.seen

    def forward(self, x: fb.Tensor, first: fb.Tensor) -> fb.Tensor:
        for step in self.steps:
            x = STEPS[step](self, x, first)
        return x


class Deep(nn.Module):
    """The same program for the same seed. `step` trains, or just runs, and gives numbers to compare."""

    def __init__(self, seed: int):
        super().__init__()
        draw = random.Random(seed)
        fb.manual_seed(seed)
        self.rows, self.width = draw.choice([1, 3, 4, 8]), draw.choice([1, 2, 4, 5, 8])
        steps = draw.choices(list(STEPS), k=draw.randint(1, 5))
        self.layers = nn.ModuleList([Layer(list(steps), self.rows, self.width, draw) for _ in range(draw.randint(2, 9))])
        self.narrow_from = draw.randrange(len(self.layers)) if draw.random() < 0.25 and self.width > 1 else None
        for _ in range(draw.randint(0, 3)):
            self.differ(draw)
        self.optimizer: optim.Optimizer | None = draw.choice([
            None, None, optim.SGD(self.parameters(), lr=0.05), optim.AdamW(self.parameters(), lr=0.05, eps=0.1)])

    def differ(self, draw: random.Random) -> None:
        """One layer is not like the others."""
        layer, other = draw.choice(self.layers), draw.choice(self.layers)
        match draw.randrange(7):
            case 0:
                layer.scale = 0.9
            case 1:
                layer.shift = draw.choice([0.0, -0.0, 1.0])
            case 2:
                layer.dim = 0
            case 3:
                layer.weight = other.weight
            case 4:
                layer.seen = other.seen
            case 5:
                layer.steps.insert(draw.randint(0, len(layer.steps)), draw.choice(list(STEPS)))
            case 6:
                layer.index = other.index

    def forward(self, x: fb.Tensor) -> list[fb.Tensor]:
        x = first = x @ self.layers[0].weight
        between: list[fb.Tensor] = []
        for number, layer in enumerate(self.layers):
            if number == self.narrow_from:          # from here on another shape: one row less, seen by all steps
                x = x[:max(1, self.rows - 1)].repeat(self.rows, 1)[:self.rows]
            x = layer(x, first)
            if number % 3 == 1:
                between.append(x.sum())
        return [x, *between]

    def step(self, x: fb.Tensor) -> list[fb.Tensor]:
        if self.optimizer is None:
            return self(x)
        self.optimizer.zero_grad()
        found = self(x)
        loss = (found[0] ** 2).mean() + sum([value * 0.01 for value in found[1:]], fb.zeros(()))
        loss.backward()
        self.optimizer.step()
        return [*found, loss]

    def numbers(self) -> dict[str, Any]:
        """All state."""
        return {name: value.detach().numpy().copy() for name, value in self.state_dict().items()}
