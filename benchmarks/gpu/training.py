"""The same training on the CPU and on the GPU: losses must agree."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import flambeau as fb
import flambeau.nn.functional as F
from flambeau import nn, optim

Made = tuple[nn.Module, fb.Tensor, fb.Tensor]


def mlp(small: bool) -> Made:
    width, batch = (8, 6) if small else (256, 128)
    layers = nn.Linear(12, width), nn.LayerNorm(width), nn.GELU(), nn.Dropout(0.1), nn.Linear(width, 4)
    return nn.Sequential(*layers), fb.randn(batch, 12), fb.randint(0, 4, (batch,))


def network(small: bool) -> Made:
    side, channels, batch = (6, 2, 2) if small else (28, 16, 32)
    model = nn.Sequential(
        nn.Conv2d(1, channels, 3, padding=1),
        nn.BatchNorm2d(channels),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(channels * (side // 2) ** 2, 4),
    )
    return model, fb.randn(batch, 1, side, side), fb.randint(0, 4, (batch,))


def transformer(small: bool) -> Made:
    width, heads, length, batch = (8, 2, 4, 2) if small else (64, 4, 32, 8)
    block = nn.TransformerEncoderLayer(width, heads, 2 * width, 0.1, batch_first=True)
    model = nn.Sequential(nn.Embedding(10, width), block, nn.Flatten(), nn.Linear(width * length, 4))
    return model, fb.randint(0, 10, (batch, length)), fb.randint(0, 4, (batch,))


MODELS: tuple[Callable[[bool], Made], ...] = (mlp, network, transformer)
OPTIMIZERS: dict[str, Callable[..., Any]] = {
    "AdamW": lambda parameters: optim.AdamW(parameters, lr=1e-3),
    "SGD": lambda parameters: optim.SGD(parameters, lr=1e-2, momentum=0.9),
}


def train_step(made: Made, optimizer: str, device: str) -> Callable[[], fb.Tensor]:
    """A call is a step on the same batch."""
    model, x, y = (each.to(device) for each in made)
    opt = OPTIMIZERS[optimizer](model.parameters())
    fb.manual_seed(1)  # each device has a generator, and the weights took of the CPU's

    @fb.compile
    def step(x: fb.Tensor, y: fb.Tensor) -> fb.Tensor:
        opt.zero_grad()
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        opt.step()
        return loss

    return lambda: step(x, y)


def losses(make: Callable[[bool], Made], optimizer: str, device: str, steps: int, small: bool) -> list[float]:
    fb.manual_seed(0)
    step = train_step(make(small), optimizer, device)
    return [float(step()) for _ in range(steps)]


def section(small: bool, until: float) -> Iterator[dict[str, Any]]:
    """How far the losses are apart, at the beginning and over 100 steps; then memory, over 10,000."""
    steps = 3 if small else 100
    for make in MODELS:
        for optimizer in OPTIMIZERS:
            if time.monotonic() > until:
                return
            here, there = (losses(make, optimizer, device, steps, small) for device in ("cpu", "cuda"))
            apart = [abs(a - b) / abs(b) for a, b in zip(there, here, strict=True)]
            yield {
                "name": f"{make.__name__} {optimizer}",
                "steps": steps,
                "first": there[0],
                "last": there[-1],
                "apart in 20 steps": max(apart[:20]),
                "apart": max(apart),
            }
    step = train_step(mlp(True), "AdamW", "cuda")
    done, before = 0, 0
    while done < (20 if small else 10_000) and time.monotonic() < until:
        step().item() if done % 500 == 0 else step()
        done += 1
        if done == 5:
            fb.cuda.synchronize()
            before = fb.cuda.memory_allocated()
    fb.cuda.synchronize()
    yield {"name": "memory", "steps": done, "grown bytes": fb.cuda.memory_allocated() - before}
