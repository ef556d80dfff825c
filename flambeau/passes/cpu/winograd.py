"""ContractionKernel -> the same with a WinogradSchedule, where that takes fewer cycles than its plain sums.

Counted are the products at each point as the cost model of contractions counts them, weights that come from beyond L2,
transforms of images and of results, per tile and vector, and of weights that are not kept, and what patches that do not fit
L2 take to memory and back, unless tasks have room to transform their own.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from typing import Final

from flambeau.ir import dtypes as dt
from flambeau.ir.kernel import Address, ContractionKernel, Instr, Param, Stage, Store, WinogradSchedule
from flambeau.ir.kernel.contraction_dims import as_windows
from flambeau.ir.target import Target
from flambeau.passes.cpu.contraction_cost import Shape, row_choice, rows_that_fit

__all__ = ["by_winograd"]

_GAIN: Final = 0.9                      # of the cycles of plain sums, which round less
_LEAST_SPARED: Final = 50_000.0         # cycles of a call, for code that takes some milliseconds more to compile
_FEWEST_CHANNELS: Final = 20            # with fewer, transforms take what products spare
_MOST_VECTORS: Final = 3
_F32_BYTES: Final = 4
_TRANSFORM_CYCLES: Final = {2: (35.0, 30.0), 4: (120.0, 110.0)}    # by side of a tile: of a vector of images, of results
_WEIGHTS_CYCLES: Final = 350.0          # of a vector of weights: collected one by one, and transformed
_L3_BYTES_PER_CYCLE: Final = 10.0
_MEMORY_BYTES_PER_CYCLE: Final = 5.0
_STACK_BYTES: Final = 240 << 10         # of what the kernel ABI allows, beside a tile's results
_TASKS_PER_CORE: Final = 8
_PARALLEL_CYCLES: Final = 30_000.0


def by_winograd(kernel: ContractionKernel, target: Target, cycles: float) -> ContractionKernel | None:
    """kernel: not canonical; cycles: of its plain sums."""
    windows = as_windows(kernel)
    if windows is None or min(windows.extents[d] for d in (windows.k[2], windows.n[0])) < _FEWEST_CHANNELS:
        return None
    taken, schedule = min(_choices(windows, target), key=lambda choice: choice[0])
    return replace(windows, schedule=schedule) if taken < min(_GAIN * cycles, cycles - _LEAST_SPARED) else None


def _choices(kernel: ContractionKernel, target: Target) -> Iterator[tuple[float, WinogradSchedule]]:
    """(cycles, schedule)."""
    *images, height, width = (kernel.extents[d] for d in kernel.m)
    channels, results, lanes = kernel.extents[kernel.k[2]], kernel.extents[kernel.n[0]], target.lanes(_F32_BYTES)
    for tile, (of_images, of_results) in _TRANSFORM_CYCLES.items():
        points, tiles = (tile + 2) ** 2, math.prod(images) * -(-height // tile) * -(-width // tile)
        transforms = tiles * (-(-channels // lanes) * of_images + -(-results // lanes) * of_results)
        product = Shape(_product(tiles, results, channels), target)
        if not kernel.keeps_rhs:
            transforms += channels * -(-results // lanes) * _WEIGHTS_CYCLES
        patches = points * tiles * channels * _F32_BYTES
        weights = points * channels * results * _F32_BYTES
        for n_vectors in range(1, min(_MOST_VECTORS, -(-results // lanes)) + 1):
            blocks = -(-tiles // rows_that_fit(target, n_vectors))
            rows = -(-tiles // blocks)
            products = points * row_choice(product, (rows,), n_vectors, True, False).cycles
            total = max(products, _traffic(weights, target)) + transforms
            on_stack = points * rows * (channels + lanes * (2 + n_vectors)) * _F32_BYTES <= _STACK_BYTES
            own_images = on_stack and patches > target.l2_bytes and blocks >= _TASKS_PER_CORE * target.cores
            if patches > target.l2_bytes and not own_images:
                total += 2 * patches / _MEMORY_BYTES_PER_CYCLE
            by_columns = weights > target.l2_bytes // 2 and not own_images
            yield total, WinogradSchedule(tile, rows, n_vectors, by_columns, own_images, total >= _PARALLEL_CYCLES)


def _traffic(weights: int, target: Target) -> float:
    """Cycles in which so many bytes of weights come from beyond L2."""
    if weights <= target.l2_bytes // 2:
        return 0.0
    return weights / (_L3_BYTES_PER_CYCLE if weights <= target.l3_bytes // 8 else _MEMORY_BYTES_PER_CYCLE)


def _product(m: int, n: int, k: int) -> ContractionKernel:
    """[m, k] x [k, n], of f32, with packed weights."""
    params = (Param("x", dt.f32, m * k, "in"), Param("w", dt.f32, k * n, "in"), Param("y", dt.f32, m * n, "out"))
    epilogue = Stage((), (Instr(0, "acc", dt.f32),), (), (Store(Address(2, 0, ((0, n), (1, 1))), 0),))
    return ContractionKernel("product", params, (m, n, k), (), (0,), (1,), (2,), Address(0, 0, ((0, k), (2, 1))),
                             Address(1, 0, ((2, n), (1, 1))), dt.f32, epilogue, keeps_rhs=True)
