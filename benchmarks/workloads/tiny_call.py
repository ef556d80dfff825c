"""The call of a compiled `x + 1` on 8 floats: what a call costs when there is nothing to compute."""

from __future__ import annotations

from typing import Any

import numpy as np

from benchmarks.workloads.base import Call


def make(lib: Any, nn: Any, F: Any, optim: Any) -> Any:
    return lambda x: x + 1


WORKLOAD = Call(
    name="call",
    title="compiled `x + 1` on 8 floats",
    data=lambda rng: [(rng.normal(0, 1, 8).astype(np.float32),)],
    rtol=1e-6,
    make=make,
    jax_call=lambda jnp, x: x + 1,
)
