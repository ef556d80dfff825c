"""Products that read one weight in one layout keep it packed once; those in other layouts keep their own."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

import flambeau as fb
from flambeau import nn


def packings(call: Any) -> int:
    """Launches of what runs once."""
    once = call.signatures[-1].compiled.program.once
    return 0 if once is None else len(once.launches)


def test_steps_of_a_loop_keep_one_packed_weight() -> None:
    weight, x = fb.randn(64, 64) / 8, fb.randn(16, 64)

    def steps(count: int) -> Callable[[fb.Tensor], fb.Tensor]:
        def run(h: fb.Tensor) -> fb.Tensor:
            for _ in range(count):
                h = fb.tanh(h @ weight.t())
            return h
        return run

    one, many = fb.compile(steps(1)), fb.compile(steps(7))
    with fb.no_grad():
        one(x)
        np.testing.assert_allclose(many(x).numpy(), steps(7)(x).numpy(), rtol=1e-5, atol=1e-6)
        assert one.stats().kept_bytes > 0
        assert many.stats().kept_bytes == one.stats().kept_bytes
        assert packings(many) == packings(one) == 1
        weight.mul_(0.5)
        np.testing.assert_allclose(many(x).numpy(), steps(7)(x).numpy(), rtol=1e-5, atol=1e-6)


def test_a_recurrent_layer_keeps_about_its_weights() -> None:
    layer, x = nn.LSTM(32, 32, 2, batch_first=True), fb.randn(16, 12, 32)
    call = fb.compile(lambda x: layer(x)[0])
    with fb.no_grad():
        np.testing.assert_allclose(call(x).numpy(), layer(x)[0].numpy(), rtol=1e-5, atol=1e-6)
    assert call.stats().kept_bytes <= 1.5 * sum(p.nbytes for p in layer.parameters())


def test_random_products_with_parts_of_one_weight_do_not_mix_their_panels(seeds: Iterator[int]) -> None:
    for seed in seeds:
        check_random(seed)


def check_random(seed: int) -> None:
    """Some of many parts, transposes and rows of one weight, now and then the same one again."""
    rng, data = random.Random(seed), np.random.default_rng(seed)
    size = rng.choice((16, 32, 48))
    weight = fb.from_numpy(data.standard_normal((2, size, size)).astype("f4"))
    x = fb.from_numpy(data.standard_normal((rng.choice((1, 8, 17, 32)), size)).astype("f4"))
    dtype = rng.choice((fb.float32, fb.float32, fb.bfloat16))
    if dtype is fb.bfloat16:
        weight, x = weight.to(dtype), x.to(dtype)

    def part(weight: fb.Tensor, which: int) -> fb.Tensor:
        of, kind, at = which % 2, which // 2 % 4, which // 8 * 8
        square = weight[of]
        return (square, square.t(), square[:, at:], square.t()[:, at:])[kind]

    chosen = [rng.randrange(16) for _ in range(rng.randint(2, 6))]

    def products(x: fb.Tensor) -> list[fb.Tensor]:
        return [x @ part(weight, which) for which in chosen]

    call = fb.compile(products)
    with fb.no_grad():
        for _ in range(2):
            for found, wanted in zip(call(x), products(x), strict=True):
                found, wanted = found.float().numpy(), wanted.float().numpy()
                assert np.allclose(found, wanted, rtol=2e-2 if dtype is fb.bfloat16 else 1e-4, atol=1e-3), f"seed {seed}"
            weight.mul_(-1.5)
