"""MLP 784-512-256-10, batch 128, Adam."""

from __future__ import annotations

from typing import Any

import numpy as np

from benchmarks.workloads.base import Arrays, Train, initial, labelled_batches

WIDTHS = (784, 512, 256, 10)


def weights(rng: np.random.Generator) -> Arrays:
    shapes: dict[str, tuple[int, ...]] = {}
    for i, (fan_in, fan_out) in enumerate(zip(WIDTHS, WIDTHS[1:], strict=False), 1):
        shapes |= {f"fc{i}.weight": (fan_out, fan_in), f"fc{i}.bias": (fan_out,)}
    return initial(rng, shapes)


def module(nn: Any, F: Any, lib: Any, dropout: float) -> Any:
    class MLP(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc1 = nn.Linear(784, 512)
            self.fc2 = nn.Linear(512, 256)
            self.fc3 = nn.Linear(256, 10)

        def forward(self, x: Any) -> Any:
            return self.fc3(F.relu(self.fc2(F.relu(self.fc1(x)))))

    return MLP()


def jax_forward(layers: Any, p: Any, x: Any, key: Any, dropout: float) -> Any:
    x = layers.relu(layers.linear(x, p, "fc1"))
    x = layers.relu(layers.linear(x, p, "fc2"))
    return layers.linear(x, p, "fc3"), {}


WORKLOAD = Train(
    name="mlp",
    title="MLP 784-512-256-10, batch 128, Adam",
    data=lambda rng: labelled_batches(rng, (128, 784), 10),
    rtol=2e-4,
    weights=weights,
    module=module,
    jax_forward=jax_forward,
    jax_weights=lambda arrays: arrays,
    optimizer="Adam",
    hyper={"lr": 1e-3},
)
