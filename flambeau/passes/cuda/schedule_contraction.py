"""ContractionKernel -> TileSchedule: tiles as large as leave work for every multiprocessor."""
from __future__ import annotations

import math
from typing import Final

from flambeau.ir.gpu import GpuTarget
from flambeau.ir.kernel import ContractionKernel, TileSchedule

__all__ = ["schedule_contraction"]

_TILES: Final = (                       # best first, where there are enough
    TileSchedule(128, 128, 8, 8, 8),
    TileSchedule(64, 64, 16, 4, 4),
    TileSchedule(32, 32, 32, 2, 2),
    TileSchedule(16, 16, 32, 1, 1),
)


def schedule_contraction(kernel: ContractionKernel, target: GpuTarget) -> TileSchedule:
    """The largest tile of which each multiprocessor gets one; the smallest where there are too few of any."""
    batch, m, n = (math.prod([kernel.extents[d] for d in dims]) for dims in (kernel.batch, kernel.m, kernel.n))
    for tile in _TILES:
        if batch * -(-m // tile.m) * -(-n // tile.n) >= target.multiprocessors:
            return tile
    return _TILES[-1]
