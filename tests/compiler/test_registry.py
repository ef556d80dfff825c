"""Every sample of every op, compiled: the result is the op's NumPy meaning."""
from __future__ import annotations

import math

import numpy as np
import pytest
from checked import check

from flambeau.ir import ops
from flambeau.ir.graph import Graph
from flambeau.ir.op import OPS, Sample

assert ops, "importing ops fills the registry"
WITHOUT_SAMPLES = ("input", "fusion", "custom", "cond", "while_loop")
BATCH = 24          # samples compiled as one graph: LLVM is entered once for all their kernels


def _batches() -> dict[str, list[Sample]]:
    found: dict[str, list[Sample]] = {}
    for name, entry in OPS.items():
        samples = [] if name in WITHOUT_SAMPLES else list(entry.samples())
        for first in range(0, len(samples), BATCH):
            found[f"{name}-{first // BATCH}"] = samples[first:first + BATCH]
    return found


BATCHES = _batches()


UP_TO_SIGN = ("eigh", "svd", "svd_full")        # of vectors, which the last bit may decide


def _roundings(sample: Sample) -> float:
    """Vector maths errs by 4 ulp, an op made of several steps by twice that; of a reordered k-term sum's k roundings
    about sqrt(k) show."""
    if isinstance(sample.op, ops.Elementwise):
        return 8.0 * sample.tolerance
    longest = max([t.numel for t in sample.types], default=1)
    return 8.0 * sample.tolerance * math.sqrt(max(1, longest))


@pytest.mark.parametrize("backend", ["cpu", "cuda-emulator"])
@pytest.mark.parametrize("samples", BATCHES.values(), ids=BATCHES.keys())
def test_compiled_samples_agree_with_the_meaning(samples: list[Sample], backend: str) -> None:
    graph = Graph(name=samples[0].op.name)
    arrays: list[np.ndarray] = []
    roundings: list[float] = []
    for sample in samples:
        operands = [graph.add_input(t, f"x{len(arrays) + i}") for i, t in enumerate(sample.types)]
        results = graph.append(sample.op, operands).results
        if sample.op.name in UP_TO_SIGN:
            results = [graph.append(ops.abs, [result]).results[0] for result in results]
        graph.outputs += results
        arrays += sample.operands
        roundings += [_roundings(sample)] * (len(graph.outputs) - len(roundings))
    check(graph, arrays, roundings, by_element=isinstance(samples[0].op, ops.Elementwise), backend=backend)
