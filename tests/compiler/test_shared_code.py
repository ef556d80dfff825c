"""Programs whose kernels differ only by numbers share machine code, and each computes with its own."""
from __future__ import annotations

import random
import time
from collections.abc import Callable

import numpy as np
import pytest

import flambeau as fb
from flambeau.backends.cpu import CpuBackend
from flambeau.frontend.tensor.tensor import Tensor
from flambeau.ir.kernel import Kernel
from flambeau.ir.target import Target

SECONDS = 1.0


class OwnCode(CpuBackend):
    """Compiles every kernel with its own numbers."""

    def general(self, kernel: Kernel, target: Target) -> tuple[Kernel, tuple[int, ...]]:
        return kernel, ()


OWN_CODE = OwnCode()


def same(function: Callable[..., Tensor], *args: Tensor) -> int:
    """Asserts that results are those of code without runtime numbers, bit by bit, and close to those of eager code; how
    many pieces of code there are."""
    compiled = fb.compile(function)
    found = compiled(*args).numpy()
    np.testing.assert_array_equal(found, fb.compile(function, backend=OWN_CODE)(*args).numpy())
    np.testing.assert_allclose(found, function(*args).numpy(), rtol=1e-2, atol=1e-3)
    return compiled.stats().n_kernels


def test_steps_that_differ_by_a_constant_share_code():
    def chain(x):
        for i in range(600):
            x = x * 0.99 + (i + 3) * 0.125
        return x

    assert same(chain, fb.randn(50)) <= 3


def test_steps_that_read_other_rows_share_code():
    weight = fb.randn(8, 8) / 8

    def steps(x):
        h = fb.zeros(4, 8)
        for t in range(40):
            h = fb.tanh(x[t] + h @ weight)
        return h

    few = same(steps, fb.randn(40, 4, 8))
    assert few <= 6


def test_integers_and_short_floats_come_as_numbers():
    for dtype in (fb.int64, fb.int32, fb.uint8, fb.float64, fb.float16, fb.bfloat16):
        def shifted(x, dtype=dtype):
            parts = [fb.where(x > 7 + k, x, x + (5 + k)) for k in range(6)]
            return fb.stack(parts).sum(1).to(fb.float32)

        same(shifted, fb.arange(40).to(dtype))


# -- random programs --------------------------------------------------------------------------------------------------


def program(seed: int) -> tuple[Callable[..., Tensor], tuple[Tensor, ...]]:
    """Unrolled steps over rows, columns and windows of a tensor, with numbers that differ from step to step."""
    rng = random.Random(seed)
    steps, rows, columns = rng.randint(2, 9), rng.choice([1, 2, 3, 5, 16]), rng.choice([1, 3, 8, 16, 17, 33, 64])
    data = np.random.default_rng(seed)
    x = fb.tensor(data.standard_normal((steps + 2, rows, columns)).astype(np.float32))
    weight = fb.tensor(data.standard_normal((columns, columns)).astype(np.float32) / columns)
    numbers = [round(rng.uniform(-2, 2), rng.choice([0, 1, 3])) for _ in range(4 * (steps + 2))]
    kinds = [rng.choice(["scale", "row", "product", "window", "column", "clip", "reduce", "roll", "cat", "weight"])
             for _ in range(rng.randint(1, 4))]

    def run(x, weight):
        h, out = x[0] * 0.5, []
        for t in range(steps):
            a, b, c, d = numbers[4 * t : 4 * t + 4]
            for kind in kinds:
                match kind:
                    case "scale":
                        h = h * a + b
                    case "row":
                        h = h + x[t + 1] * c
                    case "product":
                        h = fb.tanh(h @ weight) + d
                    case "window":
                        h = h + x[t : t + 2].sum(0) - x[t + 2] * b
                    case "column":
                        h = h + x[t, :, t % columns : t % columns + 1] * a
                    case "clip":
                        h = fb.where(h > c, h, h * 0.3 + d).clamp(-4.0 - t, 4.0 + t)
                    case "reduce":
                        h = h - h.mean(-1, keepdim=True) * b
                    case "roll":
                        h = fb.cat([h[:, t % columns :], h[:, : t % columns]], 1)
                    case "cat":
                        h = fb.cat([h, x[t] + c], 0)[t % rows : t % rows + rows]
                    case "weight":
                        h = h @ (weight * a).T + x[t]
            out.append(h * c)
        return fb.stack(out)

    return run, (x, weight)


def sizes(seed: int) -> tuple[Callable[..., Tensor], tuple[Tensor, ...]]:
    """The same ops on tensors of several sizes, so that extents, strides and blocks differ."""
    rng = random.Random(seed)
    data = np.random.default_rng(seed)
    unit, rank = rng.choice([1, 7, 8, 16, 32, 64]), rng.choice([2, 2, 3])
    ops = [rng.choice(["scale", "rows", "columns", "turn", "narrow", "bias", "norm", "all", "flip", "ints", "gather",
                       "joined"]) for _ in range(rng.randint(1, 4))]

    def drawn() -> Tensor:
        shape = [rng.choice([1, 2, 3, 5, 9, 33]) for _ in range(rank)]
        for at in rng.sample(range(rank), rng.randint(1, 2)):
            shape[at] = unit * rng.randint(1, 6)
        return fb.tensor(data.standard_normal(shape).astype(np.float32))

    def run(*tensors):
        out = []
        for number, x in enumerate(tensors):
            for op in ops:
                match op:
                    case "scale":
                        x = x * (0.7 + number) + 0.1
                    case "rows":
                        x = x - x.sum(-1, keepdim=True) * 0.01
                    case "columns":
                        x = x * 0.5 + x.mean(0, keepdim=True)
                    case "turn":
                        x = x.transpose(-1, -2) + 0.25
                    case "narrow":
                        x = x[..., x.shape[-1] // 3 :]
                    case "bias":
                        x = fb.tanh(x) + x[0]
                    case "norm":
                        x = (x - x.mean(-1, keepdim=True)) / (x.var(-1, keepdim=True, correction=0) + 0.5)
                    case "all":
                        x = x / (1 + x.abs().max())
                    case "flip":
                        x = x.flip(0) - x * 0.3
                    case "ints":
                        x = fb.where((x * 8).to(fb.int64) > 3, x, x + 0.125)
                    case "gather":
                        x = x[fb.arange(x.shape[0]).flip(0)]
                    case "joined":
                        x = fb.cat([x, x * 0.5], -1)[..., 1:]
            out.append(x.reshape(-1))
        return fb.cat(out)

    return run, tuple(drawn() for _ in range(rng.randint(2, 5)))


@pytest.mark.parametrize("shard", range(2))
@pytest.mark.parametrize("draw", [program, sizes])
def test_random_programs(shard, draw):
    """More with other seeds."""
    end = time.monotonic() + SECONDS
    for seed in range(10_000 * shard, 10_000 * shard + 10_000):
        run, args = draw(seed)
        same(run, *args)
        if time.monotonic() > end:
            break
