"""What a workload is: a train step of one model, or a call of one function, with its NumPy weights and data.

Weights carry PyTorch's state_dict names and layouts; each peer converts them to its own while it sets up.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

Arrays = dict[str, np.ndarray]
Batch = tuple[np.ndarray, ...]
BATCHES = 8  # a step never sees the same batch twice in a row, and all of them stay in cache level 2


@dataclass(frozen=True)
class Workload:
    """`rtol` bounds how far two peers' values may differ, relative to the larger, in the cross-check."""

    name: str
    title: str
    data: Callable[[np.random.Generator], list[Batch]]
    rtol: float


@dataclass(frozen=True)
class Train(Workload):
    """zero_grad, cross-entropy of the model, backward, optimizer step.

    module(nn, F, lib, dropout) -> Module: one source text for torch and Flambeau.
    jax_forward(layers, p, x, key, dropout) -> (logits, changed buffers): p has convolutions HWIO, images NHWC.
    """

    weights: Callable[[np.random.Generator], Arrays]
    module: Callable[..., Any]
    jax_forward: Callable[..., Any]
    jax_weights: Callable[[Arrays], Arrays]
    optimizer: str  # "Adam", "AdamW" or "SGD", all three with PyTorch's defaults but for `hyper`
    hyper: dict[str, float]
    dropout: float = 0.0  # timed with it, cross-checked without


@dataclass(frozen=True)
class Call(Workload):
    """make(lib, nn, F, optim) -> function of the batch's tensors. `jax_call` takes jax.numpy before them, if any."""

    make: Callable[..., Any]
    jax_call: Callable[..., Any] | None = None


def initial(rng: np.random.Generator, shapes: dict[str, tuple[int, ...]]) -> Arrays:
    """PyTorch's default ranges, by name: norms 1 and 0, embeddings N(0, 0.02), the rest uniform in +-1/sqrt(fan_in)."""
    return {name: _initial(rng, name, shape) for name, shape in shapes.items()}


def _initial(rng: np.random.Generator, name: str, shape: tuple[int, ...]) -> np.ndarray:
    owner, _, leaf = name.rpartition(".")
    if leaf == "num_batches_tracked":
        return np.zeros(shape, np.int64)
    is_norm = owner.rpartition(".")[2].startswith(("bn", "norm"))
    if is_norm:
        return (np.ones if leaf in ("weight", "running_var") else np.zeros)(shape, np.float32)
    if owner.endswith("embedding"):
        return rng.normal(0, 0.02, shape).astype(np.float32)
    bound = 1 / math.sqrt(math.prod(shape[1:])) if len(shape) > 1 else 0.05
    return rng.uniform(-bound, bound, shape).astype(np.float32)


def labelled_batches(rng: np.random.Generator, shape: tuple[int, ...], classes: int) -> list[Batch]:
    """Noisy class prototypes, so that the loss falls. -> BATCHES x (f32[shape], i64[shape[0]])."""
    prototypes = rng.normal(0, 1, (classes, *shape[1:]))
    batches: list[Batch] = []
    for _ in range(BATCHES):
        labels = rng.integers(0, classes, shape[0])
        batches.append(((prototypes[labels] + rng.normal(0, 1, shape)).astype(np.float32), labels))
    return batches


def channels_last(weights: Arrays, first_linear: str, image: tuple[int, int, int]) -> Arrays:
    """OIHW -> HWIO, and the linear layer that reads the flattened (C, H, W) image reads (H, W, C) instead."""
    moved = {name: w.transpose(2, 3, 1, 0) if w.ndim == 4 else w for name, w in weights.items()}
    flat = moved[first_linear]
    moved[first_linear] = flat.reshape(len(flat), *image).transpose(0, 2, 3, 1).reshape(flat.shape)
    return {name: np.ascontiguousarray(w) for name, w in moved.items()}
