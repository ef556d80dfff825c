"""How long a tile takes to compute a contraction on a GPU, in cycles of a multiprocessor.

Per point of k a block needs the most of

    m * n / 128                 multiply-adds, of which a multiprocessor does 128 in a cycle; tensor cores do 1024,
                                of TF32 half as many
    2 per warp and 16 bytes     loads from shared memory: rows + columns of each thread, or a quarter of a cycle for each
                                row and column of each warp where they are matrices
    (m + n) * bytes / 40        both slices from L2, which all multiprocessors share

plus a share of what is not the most. The busiest multiprocessor has ceil(blocks / multiprocessors) of them; fewer than
eight warps at a time don't hide how long an answer takes, and each turn of blocks begins with a wait for memory. The
constants rank tiles, by what NVIDIA says of its processors: no GPU was measured.
"""
from __future__ import annotations

import math
from typing import Final

from flambeau.ir.gpu import GpuTarget
from flambeau.ir.kernel import ContractionKernel, TileSchedule

__all__ = ["sum_cycles", "tile_cycles"]

_FMAS: Final = 128.0                    # of f32, each cycle
_MATRIX_FMAS: Final = 1024.0            # of bf16 and f16
_L2_BYTES: Final = 40.0                 # each cycle, of one multiprocessor while all ask
_SHARED_CYCLES: Final = 2.0             # of a load of up to 16 bytes by each thread of a warp
_MATRIX_CYCLES: Final = 1 / 64          # of a row of 16 bits, as part of four matrices in four cycles
_INTERFERENCE: Final = 0.1              # share of the other limits that shows beside the tightest
_WARPS: Final = 8                       # that hide latency
_START: Final = 1500.0                  # cycles until a block has its first slices and has stored its last sums
_LAUNCH: Final = 5000.0                 # cycles that one more kernel takes
_STORED: Final = 32.0                   # sums stored each cycle


def tile_cycles(kernel: ContractionKernel, tile: TileSchedule, target: GpuTarget) -> float:
    """Of the whole kernel, on a target that does nothing else."""
    batch, m, n, k = (math.prod([kernel.extents[d] for d in dims])
                      for dims in (kernel.batch, kernel.m, kernel.n, kernel.k))
    blocks = max(1, batch * -(-m // tile.m) * -(-n // tile.n))
    threads = tile.m // tile.rows * (tile.n // tile.columns) * (1 if tile.unit == "fma" else 32)
    resident = max(1, min(tile.resident, target.threads // threads))
    at_once = max(1, -(-blocks // target.multiprocessors))     # no blocks where a dim has no points
    warps = max(1, threads // 32)
    idle = max(1.0, _WARPS / (min(at_once, resident) * warps))
    sums = -(-k // tile.k) * tile.k * _point_cycles(kernel, tile, warps) + tile.m * tile.n / _STORED
    return at_once * sums * idle + -(-at_once // resident) * _START


def sum_cycles(results: int, parts: int, itemsize: int, target: GpuTarget) -> float:
    """Of a second kernel, which sums so many parts of each result, stored before by the first."""
    return _LAUNCH + 2 * results * parts * itemsize / (_L2_BYTES * target.multiprocessors)


def _point_cycles(kernel: ContractionKernel, tile: TileSchedule, warps: int) -> float:
    itemsize = kernel.acc_dtype.itemsize
    moved = sum(points * kernel.params[address.buffer].dtype.itemsize
                for points, address in ((tile.m, kernel.lhs), (tile.n, kernel.rhs)))
    if tile.unit != "fma":
        wide = 2 if tile.unit == "tf32" else 1
        limits = (wide * tile.m * tile.n / _MATRIX_FMAS, wide * _MATRIX_CYCLES * warps * (tile.rows + tile.columns),
                  moved / _L2_BYTES)
    else:
        vector = math.gcd(4, 16 // itemsize)
        loads = tile.rows / math.gcd(vector, tile.rows) + tile.columns / math.gcd(vector, tile.columns)
        limits = (tile.m * tile.n / _FMAS * max(1, itemsize // 4), _SHARED_CYCLES * warps * loads, moved / _L2_BYTES)
    return max(limits) + _INTERFERENCE * (sum(limits) - max(limits))
