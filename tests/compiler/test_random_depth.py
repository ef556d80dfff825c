"""Random deep programs, compiled and eager, on poisoned memory. A failure names its seed."""
from __future__ import annotations

import time

import numpy as np
import pytest
from random_depth import Deep

import flambeau as fb
from flambeau import config

SHARDS, SECONDS = 4, 1.0


def check(seed: int) -> None:
    eager, compiled = Deep(seed), Deep(seed)
    run = fb.compile(compiled.step)
    for _ in range(2):
        x = fb.randn(eager.rows, eager.width)
        wanted, found = eager.step(x), run(x)
        for mine, theirs in zip(found, wanted, strict=True):
            np.testing.assert_allclose(mine.detach().numpy(), theirs.detach().numpy(), rtol=2e-3, atol=2e-3,
                                       err_msg=f"seed {seed}")
    for (name, mine), theirs in zip(compiled.numbers().items(), eager.numbers().values(), strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-2, atol=1e-2, err_msg=f"seed {seed}: {name}")


@pytest.mark.parametrize("shard", range(SHARDS))
def test_compiled_is_eager(shard: int) -> None:
    with config.set(poison=True):
        check(shard)
        end, seed = time.perf_counter() + SECONDS, shard + SHARDS
        while time.perf_counter() < end:
            check(seed)
            seed += SHARDS
