"""Random nets of convolutions, compiled for inference and not, against eager calls: sizes, strides, paddings, dilations,
groups, what stands around them, and weights that change between calls. A net prints as its seed makes it again."""

from __future__ import annotations

import random
from typing import Any

import numpy as np

import flambeau as fb
import flambeau.nn.functional as F
from flambeau import nn

_EPS = float(np.finfo(np.float32).eps)


class Net(nn.Module):
    """A few convolutions; what follows each, in words."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        rng = self.random = random.Random(seed)
        channels = rng.choice((1, 3, 8, 16, 20, 33, 64))
        self.shape = (rng.choice((1, 1, 2, 3)), channels, rng.randint(1, 19), rng.randint(1, 19))
        self.convs, self.norms, self.ways = nn.ModuleList(), nn.ModuleList(), list[str]()
        size = self.shape[2:]
        for _ in range(rng.randint(1, 3)):
            made = self._convolution(channels, size)
            if made is None:
                break
            conv, size, outputs = made
            ways = [way for way in ("relu", "norm", "gelu", "scale") if rng.random() < 0.4]
            ways += ["residual"] * (outputs == channels and size == self.sizes[-1] and rng.random() < 0.7)
            self.convs.append(conv)
            self.norms.append(nn.BatchNorm2d(outputs) if "norm" in ways else nn.Identity())
            self.ways.append(" ".join(ways))
            channels = outputs
        for key, buffer in self.named_buffers():
            if "running" in key:
                buffer.uniform_(0.5, 1.5)

    sizes: list[tuple[int, ...]]

    def _convolution(self, channels: int, size: tuple[int, ...]) -> tuple[nn.Conv2d, tuple[int, ...], int] | None:
        rng = self.random
        self.sizes = [size]
        taps = (3, 3) if rng.random() < 0.6 else (rng.randint(1, 5), rng.randint(1, 5))
        stride = (1, 1) if rng.random() < 0.7 else (rng.randint(1, 3), rng.randint(1, 3))
        dilation = (1, 1) if rng.random() < 0.8 else (rng.randint(1, 2), rng.randint(1, 2))
        padding = (1, 1) if rng.random() < 0.6 else (rng.randint(0, 2), rng.randint(0, 2))
        after = tuple([(n + 2 * p - d * (t - 1) - 1) // s + 1
                       for n, p, d, t, s in zip(size, padding, dilation, taps, stride, strict=True)])
        if min(n + 2 * p - d * (t - 1) for n, p, d, t in zip(size, padding, dilation, taps, strict=True)) < 1:
            return None
        outputs = rng.choice((channels, channels, 1, 5, 16, 24, 64))
        groups = [1, 1, 1, 1, *[g for g in (2, 4, channels) if channels % g == 0 and outputs % g == 0]]
        conv = nn.Conv2d(channels, outputs, taps, stride, padding, dilation, rng.choice(groups), rng.random() < 0.5)
        return conv, after, outputs

    def forward(self, x: Any) -> Any:
        for conv, norm, ways in zip(self.convs, self.norms, self.ways, strict=True):
            y = norm(conv(x))
            y = y * 0.5 if "scale" in ways else y
            y = F.relu(y) if "relu" in ways else F.gelu(y) if "gelu" in ways else y
            x = y + x if "residual" in ways else y
        return x


def check(seed: int, threads: int = 1) -> None:
    """Raises AssertionError where a compiled net differs from the eager one."""
    fb.manual_seed(seed)
    net, rng = Net(seed).eval(), np.random.default_rng(seed)
    described = f"seed {seed}: x {net.shape}, {[(str(c), w) for c, w in zip(net.convs, net.ways, strict=True)]}"
    calls = [fb.compile(lambda x: net(x), keep=keep) for keep in (True, False)]
    with fb.no_grad(), fb.config.set(num_threads=threads):
        for _ in range(2):
            x = fb.tensor(rng.standard_normal(net.shape).astype(np.float32))
            wanted = net(x).numpy()
            for call in calls:
                found = call(x).numpy()
                assert found.shape == wanted.shape, described
                worst = 64 * _EPS * len(net.convs) * np.abs(wanted).max(initial=1.0)
                assert np.abs(found - wanted).max(initial=0.0) <= worst, described
                assert np.array_equal(call(x).numpy(), found), described
            for weight in net.parameters():
                weight.mul_(float(rng.uniform(0.5, 1.5)))
