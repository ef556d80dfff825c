"""Neighbouring points of a stencil that are computed at once: the same bits, fewer loads."""

from __future__ import annotations

import random
from dataclasses import replace

import numpy as np
import pytest
from loop_kernels import Compiled

from flambeau.ir import dtypes
from flambeau.ir.kernel import Address, Instr, LoopKernel, Param, Stage, Store
from flambeau.ir.kernel.verifier import verify_kernel
from flambeau.passes.cpu.side_by_side import side_by_side
from flambeau.runtime.host import host_target

F32 = dtypes.f32


def depthwise(height: int, width: int, channels: int, taps: int = 3, stride: int = 1, result: int = 1) -> LoopKernel:
    """y[h, w, c] = max(sum of x[h * stride + r, w * stride + s, c] * w[r, s, c], 0), results `result` channels apart."""
    across, down = (width - 1) * stride + taps, (height - 1) * stride + taps
    body: list[Instr] = []

    def op(name: str, *operands: int, attr: object = None) -> int:
        body.append(Instr(len(body), name, F32, operands, attr))     # type: ignore[arg-type]
        return len(body) - 1

    total = None
    for r in range(taps):
        for s in range(taps):
            x = op("load", attr=Address(0, (r * across + s) * channels,
                                        ((0, stride * across * channels), (1, stride * channels), (2, 1))))
            term = op("mul", x, op("load", attr=Address(1, (r * taps + s) * channels, ((2, 1),))))
            total = term if total is None else op("add", total, term)
    assert total is not None
    shown = op("max", total, op("const", attr=0.0))
    out = Address(2, 0, ((0, width * channels * result), (1, channels * result), (2, result)))
    params = (Param("x", F32, down * across * channels, "in"), Param("w", F32, taps * taps * channels, "in"),
              Param("y", F32, height * width * channels * result, "out"))
    stage = Stage((), tuple(body), (), (Store(out, shown),))
    return LoopKernel("depthwise", params, (height, width, channels), 3, (stage,))


def loads(kernel: LoopKernel) -> int:
    return sum(instr.op == "load" for instr in kernel.stages[0].body)


def results(kernel: LoopKernel, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    x, w = (rng.standard_normal(p.elements).astype(np.float32) for p in kernel.params[:2])
    x[rng.integers(0, x.size, 3)] = (np.nan, np.inf, -0.0)
    y = np.full(kernel.params[2].elements, np.nan, np.float32)
    Compiled(kernel)(x, w, y)
    return y


@pytest.mark.parametrize("seed", range(6))
def test_random_stencils_give_the_same_bits(seed: int) -> None:
    rng = random.Random(seed)
    kernel = depthwise(rng.randint(1, 9), rng.choice((1, 4, 7, 12)), rng.choice((1, 5, 16, 33)), rng.choice((2, 3, 5)),
                       rng.randint(1, 2))
    made = side_by_side(kernel, host_target())
    verify_kernel(made)
    assert np.array_equal(results(made, seed), results(kernel, seed), equal_nan=True)


def test_points_in_a_column_share_taps_and_pixels() -> None:
    kernel = depthwise(28, 28, 64)
    made = side_by_side(kernel, host_target())
    assert (made.extents, len(made.stages[0].stores)) == ((4, 28, 64), 7)
    assert loads(kernel) == 18 and loads(made) == 9 + 9 * 3


def test_what_shares_little_or_is_no_stencil_stays() -> None:
    target = host_target()
    for kernel in (depthwise(13, 11, 64), depthwise(1, 1, 64)):
        assert side_by_side(kernel, target) is kernel
    whole = depthwise(28, 28, 64)
    (stage,) = whole.stages
    adding = replace(whole, stages=(replace(stage, stores=(replace(stage.stores[0], combine="add"),)),))
    assert side_by_side(adding, target) is adding
