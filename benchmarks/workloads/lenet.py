"""A LeNet: conv5x5, pool, conv5x5, pool, two linear layers. Batch 64 of 1x28x28, SGD with momentum."""

from __future__ import annotations

from typing import Any

import numpy as np

from benchmarks.workloads.base import Arrays, Train, channels_last, initial, labelled_batches

SHAPES: dict[str, tuple[int, ...]] = {
    "conv1.weight": (16, 1, 5, 5),
    "conv1.bias": (16,),
    "conv2.weight": (32, 16, 5, 5),
    "conv2.bias": (32,),
    "fc1.weight": (128, 32 * 7 * 7),
    "fc1.bias": (128,),
    "fc2.weight": (10, 128),
    "fc2.bias": (10,),
}


def weights(rng: np.random.Generator) -> Arrays:
    return initial(rng, SHAPES)


def module(nn: Any, F: Any, lib: Any, dropout: float) -> Any:
    class LeNet(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv1 = nn.Conv2d(1, 16, 5, padding=2)
            self.conv2 = nn.Conv2d(16, 32, 5, padding=2)
            self.fc1 = nn.Linear(32 * 7 * 7, 128)
            self.fc2 = nn.Linear(128, 10)

        def forward(self, x: Any) -> Any:
            x = F.max_pool2d(F.relu(self.conv1(x)), 2)
            x = F.max_pool2d(F.relu(self.conv2(x)), 2)
            return self.fc2(F.relu(self.fc1(x.flatten(1))))

    return LeNet()


def jax_forward(layers: Any, p: Any, x: Any, key: Any, dropout: float) -> Any:
    x = layers.max_pool(layers.relu(layers.conv(x, p, "conv1", padding=2)))
    x = layers.max_pool(layers.relu(layers.conv(x, p, "conv2", padding=2)))
    x = layers.relu(layers.linear(x.reshape(len(x), -1), p, "fc1"))
    return layers.linear(x, p, "fc2"), {}


WORKLOAD = Train(
    name="lenet",
    title="LeNet 5x5 (16, 32 channels), batch 64 of 1x28x28, SGD with momentum",
    data=lambda rng: labelled_batches(rng, (64, 1, 28, 28), 10),
    rtol=2e-4,
    weights=weights,
    module=module,
    jax_forward=jax_forward,
    jax_weights=lambda arrays: channels_last(arrays, "fc1.weight", (32, 7, 7)),
    optimizer="SGD",
    hyper={"lr": 0.01, "momentum": 0.9},
)
