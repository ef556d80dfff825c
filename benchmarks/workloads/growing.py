"""Families of workloads that grow in one number, for compile_time.py: depth, unrolled steps, ops in a row."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarks.workloads import transformer
from benchmarks.workloads.base import Arrays, Batch, Call, Train, Workload, initial, labelled_batches

BATCH, CLASSES = 8, 10


@dataclass(frozen=True)
class Family:
    """of_size(n) is the workload called name + n."""

    name: str
    title: str
    grows_in: str
    sizes: tuple[int, ...]
    of_size: Callable[[int], Workload]


# ---- a chain of elementwise ops --------------------------------------------------------------------------


def chain(steps: int) -> Call:
    def unrolled(x: Any) -> Any:
        for i in range(steps):
            x = x * 1.01 + i
        return x

    return Call(
        name=f"chain{steps}",
        title=f"{steps} times x * 1.01 + i",
        data=lambda rng: [(rng.normal(0, 1, 1024).astype(np.float32),)],
        rtol=1e-5,
        make=lambda lib, nn, F, optim: unrolled,
        jax_call=lambda jnp, x: unrolled(x),
    )


# ---- an MLP ----------------------------------------------------------------------------------------------

WIDTH = 64


def deep_mlp(depth: int) -> Train:
    def module(nn: Any, F: Any, lib: Any, dropout: float) -> Any:
        layers = [layer for _ in range(depth - 1) for layer in (nn.Linear(WIDTH, WIDTH), nn.ReLU())]
        return nn.Sequential(*layers, nn.Linear(WIDTH, CLASSES))

    def weights(rng: np.random.Generator) -> Arrays:
        ends = [WIDTH] * (depth - 1) + [CLASSES]
        shapes: dict[str, tuple[int, ...]] = {}
        for i, outputs in enumerate(ends):
            shapes |= {f"{2 * i}.weight": (outputs, WIDTH), f"{2 * i}.bias": (outputs,)}
        return initial(rng, shapes)

    def jax_forward(layers: Any, p: Any, x: Any, key: Any, dropout: float) -> Any:
        for i in range(depth - 1):
            x = layers.relu(layers.linear(x, p, str(2 * i)))
        return layers.linear(x, p, str(2 * (depth - 1))), {}

    return _train(
        f"mlp{depth}", f"MLP of {depth} layers of {WIDTH}", (BATCH, WIDTH), module, weights, jax_forward
    )


# ---- a GRU, unrolled by Python's loop --------------------------------------------------------------------

HIDDEN = 32


def gru(steps: int) -> Train:
    def module(nn: Any, F: Any, lib: Any, dropout: float) -> Any:
        class Reader(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.inner = nn.Linear(HIDDEN, 3 * HIDDEN)
                self.outer = nn.Linear(HIDDEN, 3 * HIDDEN)
                self.head = nn.Linear(HIDDEN, CLASSES)

            def forward(self, x: Any) -> Any:
                h = x[:, 0] * 0
                for step in range(steps):
                    given, kept = self.outer(x[:, step]).chunk(3, dim=-1), self.inner(h).chunk(3, dim=-1)
                    reset, update = lib.sigmoid(given[0] + kept[0]), lib.sigmoid(given[1] + kept[1])
                    h = (1 - update) * lib.tanh(given[2] + reset * kept[2]) + update * h
                return self.head(h)

        return Reader()

    def weights(rng: np.random.Generator) -> Arrays:
        ends = {"inner": 3 * HIDDEN, "outer": 3 * HIDDEN, "head": CLASSES}
        shapes: dict[str, tuple[int, ...]] = {}
        for name, outputs in ends.items():
            shapes |= {f"{name}.weight": (outputs, HIDDEN), f"{name}.bias": (outputs,)}
        return initial(rng, shapes)

    def jax_forward(layers: Any, p: Any, x: Any, key: Any, dropout: float) -> Any:
        h = x[:, 0] * 0
        for step in range(steps):
            given = layers.parts(layers.linear(x[:, step], p, "outer"), 3)
            kept = layers.parts(layers.linear(h, p, "inner"), 3)
            reset, update = layers.sigmoid(given[0] + kept[0]), layers.sigmoid(given[1] + kept[1])
            h = (1 - update) * layers.tanh(given[2] + reset * kept[2]) + update * h
        return layers.linear(h, p, "head"), {}

    return _train(
        f"gru{steps}",
        f"GRU of {HIDDEN}, {steps} steps unrolled",
        (BATCH, steps, HIDDEN),
        module,
        weights,
        jax_forward,
    )


# ---- DenseNet: Huang et al., CVPR 2017 -------------------------------------------------------------------

BLOCKS = {121: (6, 12, 24, 16), 21: (2, 2, 2, 2)}  # layers: of two convolutions each, in four blocks
GROWTH, STEM = 8, 16
IMAGE = (BATCH, 3, 16, 16)


def densenet(depth: int) -> Train:
    """The small one of the paper: growth 8, images of 16 x 16, a stem of one 3 x 3 convolution."""
    plan, channels = _densenet_plan(BLOCKS[depth])

    def module(nn: Any, F: Any, lib: Any, dropout: float) -> Any:
        class DenseNet(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.stem = nn.Conv2d(3, STEM, 3, padding=1)
                for name, inputs, outputs, size in plan:
                    setattr(self, f"bn_{name}", nn.BatchNorm2d(inputs))
                    setattr(self, f"conv_{name}", nn.Conv2d(inputs, outputs, size, padding=size // 2))
                self.bn = nn.BatchNorm2d(channels)
                self.head = nn.Linear(channels, CLASSES)

            def forward(self, x: Any) -> Any:
                x = y = self.stem(x)
                for name, *_ in plan:
                    y = y if name.startswith("wide") else x
                    y = getattr(self, f"conv_{name}")(F.relu(getattr(self, f"bn_{name}")(y)))
                    if name.startswith("wide"):
                        x = lib.cat([x, y], 1)
                    elif name.startswith("between"):
                        x = F.avg_pool2d(y, 2)
                return self.head(F.relu(self.bn(x)).mean((2, 3)))

        return DenseNet()

    def weights(rng: np.random.Generator) -> Arrays:
        shapes: dict[str, tuple[int, ...]] = {"stem.weight": (STEM, 3, 3, 3), "stem.bias": (STEM,)}
        for name, inputs, outputs, size in plan:
            shapes |= _norm(f"bn_{name}", inputs)
            shapes |= {f"conv_{name}.weight": (outputs, inputs, size, size), f"conv_{name}.bias": (outputs,)}
        shapes |= _norm("bn", channels) | {"head.weight": (CLASSES, channels), "head.bias": (CLASSES,)}
        return initial(rng, shapes)

    def jax_forward(layers: Any, p: Any, x: Any, key: Any, dropout: float) -> Any:
        x, changed = layers.conv(x, p, "stem", 1), {}
        y = x
        for name, _, _, size in plan:
            y, statistics = layers.batch_norm(y if name.startswith("wide") else x, p, f"bn_{name}")
            changed |= statistics
            y = layers.conv(layers.relu(y), p, f"conv_{name}", size // 2)
            if name.startswith("wide"):
                x = layers.joined(x, y)
            elif name.startswith("between"):
                x = layers.avg_pool(y)
        x, statistics = layers.batch_norm(x, p, "bn")
        return layers.linear(layers.relu(x).mean((1, 2)), p, "head"), changed | statistics

    moved = lambda arrays: {k: w.transpose(2, 3, 1, 0) if w.ndim == 4 else w for k, w in arrays.items()}
    title = f"DenseNet-{depth}, growth {GROWTH}, images {IMAGE[2]}x{IMAGE[3]}"
    return _train(f"densenet{depth}", title, IMAGE, module, weights, jax_forward, moved)


def _densenet_plan(blocks: tuple[int, ...]) -> tuple[list[tuple[str, int, int, int]], int]:
    """-> (name, inputs, outputs, kernel size) of each convolution after its norm, and how many channels are left."""
    plan, channels = [], STEM
    for block, layers in enumerate(blocks):
        for layer in range(layers):
            plan.append((f"narrow{block}_{layer}", channels, 4 * GROWTH, 1))
            plan.append((f"wide{block}_{layer}", 4 * GROWTH, GROWTH, 3))
            channels += GROWTH
        if block < len(blocks) - 1:
            plan.append((f"between{block}", channels, channels // 2, 1))
            channels //= 2
    return plan, channels


def _norm(name: str, channels: int) -> dict[str, tuple[int, ...]]:
    each = dict.fromkeys(("weight", "bias", "running_mean", "running_var"), (channels,))
    return {f"{name}.{leaf}": shape for leaf, shape in {**each, "num_batches_tracked": ()}.items()}


# ---- all of them -----------------------------------------------------------------------------------------


def _train(
    name: str,
    title: str,
    shape: tuple[int, ...],
    module: Callable[..., Any],
    weights: Callable[[np.random.Generator], Arrays],
    jax_forward: Callable[..., Any],
    jax_weights: Callable[[Arrays], Arrays] = lambda arrays: arrays,
) -> Train:
    def data(rng: np.random.Generator) -> list[Batch]:
        return labelled_batches(rng, shape, CLASSES)

    return Train(
        name=name,
        title=f"{title}, batch {BATCH}, AdamW",
        data=data,
        rtol=1e-3,
        weights=weights,
        module=module,
        jax_forward=jax_forward,
        jax_weights=jax_weights,
        optimizer="AdamW",
        hyper={"lr": 1e-3, "weight_decay": 0.01},
    )


FAMILIES = {
    family.name: family
    for family in (
        Family("gpt", "GPT train step", "layers", (1, 2, 4, 8, 16, 32, 64, 96), transformer.of_depth),
        Family("mlp", "MLP train step", "layers", (25, 50, 100, 200), deep_mlp),
        Family("gru", "GRU train step, unrolled", "steps", (25, 50, 100, 200), gru),
        Family("chain", "x = x * 1.01 + i", "steps", (100, 1000, 5000), chain),
        Family("densenet", "DenseNet train step", "layers", (21, 121), densenet),
    )
}


def of_name(name: str) -> Workload | None:
    """gpt96 -> the GPT of 96 layers; None for what is no such name."""
    found = re.fullmatch(r"([a-z]+)(\d+)", name)
    family = FAMILIES.get(found[1]) if found else None
    return None if family is None or found is None else family.of_size(int(found[2]))
