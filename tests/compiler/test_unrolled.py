"""Unrolled loops: weights that steps share, and what the steps give, joined."""
from __future__ import annotations

import random
from collections.abc import Iterator, Sequence

import numpy as np

import flambeau as fb
import flambeau.nn.functional as F
from flambeau import nn


def random_parts(rng: random.Random) -> tuple[list[tuple[int, ...]], int]:
    """Shapes that join along the dim."""
    rank, count = rng.randint(1, 3), rng.randint(8, 12)
    dim = rng.randrange(rank)
    around = [rng.choice([1, 3, 16, 40]) for _ in range(rank)]
    sizes = [rng.choice([0, 1, 17, 64]) for _ in range(count)] if rng.random() < 0.5 else [rng.choice([1, 20, 64])] * count
    return [(*around[:dim], size, *around[dim + 1:]) for size in sizes], dim


def test_random_joined_parts_keep_every_bit(seeds: Iterator[int]) -> None:
    for seed in seeds:
        rng, data = random.Random(seed), np.random.default_rng(seed)
        shapes, dim = random_parts(rng)
        dtype = rng.choice([np.float32, np.float64, np.int8, np.int64, np.bool_])
        parts = [fb.from_numpy((data.standard_normal(shape) * 3).astype(dtype)) for shape in shapes]
        turned = len(shapes[0]) == 2 and rng.random() < 0.3

        def join(*xs: fb.Tensor, dim: int = dim, turned: bool = turned) -> tuple[fb.Tensor, fb.Tensor]:
            xs = tuple([x.transpose(0, 1) for x in xs]) if turned else xs
            joined = fb.cat([fb.where(x > 0, x, x * 0) if n % 2 else x for n, x in enumerate(xs)], dim ^ turned)
            return joined, joined.sum()

        compiled, eager = fb.compile(join)(*parts), join(*parts)
        assert np.array_equal(compiled[0].numpy(), eager[0].numpy()), (seed, shapes, dim)
        assert np.allclose(compiled[1].numpy(), eager[1].numpy(), rtol=1e-3, atol=1e-3), (seed, shapes, dim)


def test_random_loops_with_shared_weights_have_the_gradients_of_eager_code(seeds: Iterator[int]) -> None:
    for seed in seeds:
        rng = random.Random(seed)
        fb.manual_seed(seed)
        steps, rows, wide = rng.randint(1, 9), rng.choice([1, 2, 5]), rng.choice([1, 3, 16, 24])
        cell = rng.choice([nn.RNNCell, nn.GRUCell])(wide, wide).to(fb.float64)
        x, start = fb.randn(steps, rows, wide, dtype=fb.float64), fb.randn(rows, wide, dtype=fb.float64).requires_grad_()
        kind, gives_all, has_penalty = rng.choice(["cell", "shared", "tied"]), rng.random() < 0.5, rng.random() < 0.4

        def loss(x: fb.Tensor, start: fb.Tensor, cell: nn.Module = cell, kind: str = kind, gives_all: bool = gives_all,
                 has_penalty: bool = has_penalty) -> Sequence[fb.Tensor | None]:
            h, weight, outputs = start, cell.weight_hh[:start.shape[1]], []
            for t, row in enumerate(x):
                tied = weight.t() if kind == "tied" and t % 2 else weight
                h = cell(row, h) if kind == "cell" else fb.tanh(F.linear(h, tied))
                outputs.append(h)
            total = ((fb.stack(outputs) if gives_all else h) ** 2).sum()
            total = total + (weight ** 2).sum() if has_penalty else total
            return *fb.autograd.grad(total, [*cell.parameters(), start], allow_unused=True), total

        for found, wanted in zip(fb.compile(loss)(x, start), loss(x, start), strict=True):
            assert (found is None) == (wanted is None), seed
            assert found is None or fb.allclose(found, wanted, rtol=1e-9, atol=1e-9), (seed, kind, steps, rows, wide)


def test_the_gradient_of_a_recurrent_weight_is_one_product() -> None:
    fb.manual_seed(0)
    layer = nn.LSTM(8, 32)
    x = fb.randn(12, 2, 8)

    @fb.compile
    def gradients(x: fb.Tensor) -> Sequence[fb.Tensor]:
        return fb.autograd.grad((layer(x)[0] ** 2).sum(), [layer.weight_hh_l0])

    gradients(x)
    kernels = gradients.ir("kernels")
    assert kernels.count("contraction @") == 1 + 12 + 11 + 1        # all inputs; each step; back through all but one; this
