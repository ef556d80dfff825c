"""The digits demo: conv, BatchNorm, ReLU, max-pool, twice; dropout; linear. Batch 64 of 1x8x8, Adam."""

from __future__ import annotations

from typing import Any

import numpy as np

from benchmarks.workloads.base import Arrays, Train, channels_last, initial, labelled_batches

SHAPES: dict[str, tuple[int, ...]] = {
    "conv1.weight": (16, 1, 3, 3),
    "conv1.bias": (16,),
    "conv2.weight": (32, 16, 3, 3),
    "conv2.bias": (32,),
    "fc.weight": (10, 32 * 2 * 2),
    "fc.bias": (10,),
}
NORMS = {"bn1": 16, "bn2": 32}


def weights(rng: np.random.Generator) -> Arrays:
    shapes = dict(SHAPES)
    for norm, channels in NORMS.items():
        shapes |= {f"{norm}.{leaf}": (channels,) for leaf in ("weight", "bias", "running_mean", "running_var")}
        shapes[f"{norm}.num_batches_tracked"] = ()
    return initial(rng, shapes)


def module(nn: Any, F: Any, lib: Any, dropout: float) -> Any:
    class DigitsCNN(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv1 = nn.Conv2d(1, 16, 3, padding=1)
            self.bn1 = nn.BatchNorm2d(16)
            self.conv2 = nn.Conv2d(16, 32, 3, padding=1)
            self.bn2 = nn.BatchNorm2d(32)
            self.dropout = nn.Dropout(dropout)
            self.fc = nn.Linear(32 * 2 * 2, 10)

        def forward(self, x: Any) -> Any:
            x = F.max_pool2d(F.relu(self.bn1(self.conv1(x))), 2)
            x = F.max_pool2d(F.relu(self.bn2(self.conv2(x))), 2)
            return self.fc(self.dropout(x.flatten(1)))

    return DigitsCNN()


def jax_forward(layers: Any, p: Any, x: Any, key: Any, dropout: float) -> Any:
    x, stats1 = layers.batch_norm(layers.conv(x, p, "conv1", padding=1), p, "bn1")
    x = layers.max_pool(layers.relu(x))
    x, stats2 = layers.batch_norm(layers.conv(x, p, "conv2", padding=1), p, "bn2")
    x = layers.max_pool(layers.relu(x))
    x = layers.dropout(x.reshape(len(x), -1), key, dropout)
    return layers.linear(x, p, "fc"), stats1 | stats2


WORKLOAD = Train(
    name="digits",
    title="digits CNN with BatchNorm and dropout, batch 64 of 1x8x8, Adam",
    data=lambda rng: labelled_batches(rng, (64, 1, 8, 8), 10),
    rtol=1e-3,
    weights=weights,
    module=module,
    jax_forward=jax_forward,
    jax_weights=lambda arrays: channels_last(arrays, "fc.weight", (32, 2, 2)),
    optimizer="Adam",
    hyper={"lr": 1e-3},
    dropout=0.25,
)
