"""The digits demo's network and train step: two convolutions with BatchNorm, max-pool, dropout, two linear layers."""

from __future__ import annotations

from typing import Any

import numpy as np

from benchmarks.workloads.base import Arrays, Train, channels_last, initial, labelled_batches

SHAPES: dict[str, tuple[int, ...]] = {
    "conv1.weight": (32, 1, 3, 3),
    "conv1.bias": (32,),
    "conv2.weight": (32, 32, 3, 3),
    "conv2.bias": (32,),
    "fc1.weight": (64, 32 * 4 * 4),
    "fc1.bias": (64,),
    "fc2.weight": (10, 64),
    "fc2.bias": (10,),
}


def weights(rng: np.random.Generator) -> Arrays:
    shapes = dict(SHAPES)
    for norm in ("bn1", "bn2"):
        shapes |= {f"{norm}.{leaf}": (32,) for leaf in ("weight", "bias", "running_mean", "running_var")}
        shapes[f"{norm}.num_batches_tracked"] = ()
    return initial(rng, shapes)


def module(nn: Any, F: Any, lib: Any, dropout: float) -> Any:
    class DigitsCNN(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv1 = nn.Conv2d(1, 32, 3, padding=1)
            self.bn1 = nn.BatchNorm2d(32)
            self.conv2 = nn.Conv2d(32, 32, 3, padding=1)
            self.bn2 = nn.BatchNorm2d(32)
            self.dropout = nn.Dropout(dropout)
            self.fc1 = nn.Linear(32 * 4 * 4, 64)
            self.fc2 = nn.Linear(64, 10)

        def forward(self, x: Any) -> Any:
            x = F.relu(self.bn1(self.conv1(x)))
            x = F.max_pool2d(F.relu(self.bn2(self.conv2(x))), 2)
            return self.fc2(F.relu(self.fc1(self.dropout(x.flatten(1)))))

    return DigitsCNN()


def jax_forward(layers: Any, p: Any, x: Any, key: Any, dropout: float) -> Any:
    x, stats1 = layers.batch_norm(layers.conv(x, p, "conv1", padding=1), p, "bn1")
    x, stats2 = layers.batch_norm(layers.conv(layers.relu(x), p, "conv2", padding=1), p, "bn2")
    x = layers.max_pool(layers.relu(x))
    x = layers.dropout(x.reshape(len(x), -1), key, dropout)
    return layers.linear(layers.relu(layers.linear(x, p, "fc1")), p, "fc2"), stats1 | stats2


WORKLOAD = Train(
    name="digits",
    title="digits demo: CNN with BatchNorm and dropout, batch 64 of 1x8x8, Adam",
    data=lambda rng: labelled_batches(rng, (64, 1, 8, 8), 10),
    rtol=2e-4,
    weights=weights,
    module=module,
    jax_forward=jax_forward,
    jax_weights=lambda arrays: channels_last(arrays, "fc1.weight", (32, 4, 4)),
    optimizer="Adam",
    hyper={"lr": 3e-3},
    dropout=0.25,
)
