"""Random LoopKernels of one stage, whose operands run along several of its dims."""
from __future__ import annotations

import random

import numpy as np
from loop_kernels import Script, at, draw

from flambeau.ir import dtypes as dt
from flambeau.ir.kernel import BlockSchedule, LoopKernel

_DTYPES = (dt.f32, dt.f32, dt.f64, dt.bf16, dt.f16, dt.u8, dt.i64, dt.bool_)


def random_transpose(seed: int) -> tuple[LoopKernel, list[np.ndarray]]:
    """A kernel, scheduled, and arrays for it."""
    rng, data = random.Random(seed), np.random.default_rng(seed)
    extents = [rng.choice([1, 3, 16, 31, 32, 33, 50, 64]) for _ in range(rng.choice([2, 2, 3]))]
    dtype, dims, s = rng.choice(_DTYPES), range(len(extents)), Script()
    arrays: list[np.ndarray] = []

    def param(order: list[int], role: str) -> tuple[int, dict[int, int]]:
        strides, size = {}, 1
        for dim in reversed(order):
            if extents[dim] > 1:
                strides[dim] = size
            size *= extents[dim]
        arrays.append(draw(data, dtype, size, 0, 3))
        return s.param(size, dtype, role), strides

    value = s.load(*param(rng.sample(dims, len(dims)), "in"))
    for _ in range(rng.randint(0, 2)):
        other = s.load(*param(rng.sample(dims, len(dims)), "in"))
        value = s.op("max" if dtype is dt.bool_ else rng.choice(["add", "mul", "max"]), value, other)
    out, strides = param(list(dims), "out")
    s.stage((), stores=[(at(out, strides), value)])
    schedule = BlockSchedule(rng.choice([32, 128, 256, 1024]), tile_dim=rng.randrange(len(extents) - 1))
    return s.kernel(extents, len(extents), schedule), arrays                            # type: ignore[arg-type]
