"""ContractionKernel -> the same kernel, its dims in the order that a GPU reads memory in, and the tile that the cost model
likes best."""
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from flambeau.ir import dtypes as dt
from flambeau.ir.gpu import GpuTarget
from flambeau.ir.kernel import Address, ContractionKernel, TileSchedule
from flambeau.ir.kernel.contraction_dims import canonicalize, neighbours, swap_roles
from flambeau.passes.cuda.contraction_cost import tile_cycles

__all__ = ["MATRIX_TILES", "TF32_TILES", "TILES", "TILES_OF_8_BYTES", "canonical", "schedule_contraction", "tiles_for"]

TILES: Final = (
    TileSchedule(128, 128, 8, 8, 8, stages=2, resident=2),
    TileSchedule(128, 64, 16, 8, 4, stages=2, resident=2),
    TileSchedule(64, 128, 16, 4, 8, stages=2, resident=2),
    TileSchedule(64, 64, 16, 4, 4, stages=2, resident=3),
    TileSchedule(128, 32, 16, 8, 4, stages=2, resident=4),
    TileSchedule(32, 128, 16, 4, 8, stages=2, resident=4),
    TileSchedule(32, 64, 32, 4, 4, stages=2, resident=4),
    TileSchedule(32, 32, 32, 4, 2, stages=2, resident=6),
    TileSchedule(8, 128, 16, 2, 4, stages=2, resident=6),
    TileSchedule(128, 8, 16, 4, 2, stages=2, resident=6),
    TileSchedule(16, 16, 32, 2, 1, stages=2, resident=6),
)
TILES_OF_8_BYTES: Final = (             # sums of f64 and i64 take two registers each
    TileSchedule(64, 64, 16, 4, 4, stages=2, resident=2),
    TileSchedule(32, 32, 16, 4, 2, stages=2, resident=4),
    TileSchedule(16, 16, 32, 2, 1, stages=2, resident=6),
)


MATRIX_TILES: Final = (                 # for tensor cores
    TileSchedule(128, 128, 32, 64, 32, stages=3, resident=2, unit="mma"),
    TileSchedule(128, 64, 32, 32, 32, stages=4, resident=2, unit="mma"),
    TileSchedule(64, 128, 32, 32, 32, stages=4, resident=2, unit="mma"),
    TileSchedule(64, 64, 64, 32, 32, stages=3, resident=4, unit="mma"),
    TileSchedule(64, 64, 32, 32, 32, stages=4, resident=4, unit="mma"),
    TileSchedule(128, 32, 32, 32, 32, stages=4, resident=4, unit="mma"),
    TileSchedule(32, 128, 32, 32, 32, stages=4, resident=4, unit="mma"),
    TileSchedule(16, 64, 64, 16, 16, stages=4, resident=4, unit="mma"),
    TileSchedule(64, 16, 64, 16, 16, stages=4, resident=4, unit="mma"),
    TileSchedule(32, 32, 64, 16, 16, stages=4, resident=4, unit="mma"),
)
TF32_TILES: Final = (                   # for f32 on them, where the user allows it
    TileSchedule(128, 128, 16, 64, 32, stages=3, resident=2, unit="tf32"),
    TileSchedule(128, 64, 16, 32, 32, stages=4, resident=2, unit="tf32"),
    TileSchedule(64, 128, 16, 32, 32, stages=4, resident=2, unit="tf32"),
    TileSchedule(64, 64, 16, 32, 32, stages=4, resident=4, unit="tf32"),
    TileSchedule(32, 32, 32, 16, 16, stages=4, resident=4, unit="tf32"),
)
_MOST: Final = 80                       # registers for sums of a thread, and for elements that it fetches one by one


def schedule_contraction(kernel: ContractionKernel, target: GpuTarget) -> ContractionKernel:
    """Canonical dims, operands in the order in which results lie in memory, and a schedule. A kernel that has a schedule
    stays as it is."""
    if kernel.schedule is not None:
        return kernel
    kernel = canonical(kernel)
    return replace(kernel, schedule=min(tiles_for(kernel, target), key=lambda tile: tile_cycles(kernel, tile, target)))


def canonical(kernel: ContractionKernel) -> ContractionKernel:
    """Few, long dims in the order of memory, results along n."""
    return _along_memory(canonicalize(_facing_results(kernel)))


def tiles_for(kernel: ContractionKernel, target: GpuTarget) -> Sequence[TileSchedule]:
    """The schedules that compute a kernel."""
    kinds = {kernel.params[address.buffer].dtype for address in (kernel.lhs, kernel.rhs)}
    if len(kinds) == 1 and kinds <= {dt.bf16, dt.f16} and kernel.acc_dtype is dt.f32:
        return [tile for tile in MATRIX_TILES if _held(kernel, tile) <= _MOST]
    if kinds == {dt.f32} and kernel.acc_dtype is dt.f32 and target.tf32:
        return TF32_TILES
    return TILES if kernel.acc_dtype.itemsize <= 4 else TILES_OF_8_BYTES


def _held(kernel: ContractionKernel, tile: TileSchedule) -> int:
    """Registers for sums of a thread, and for elements that it fetches one by one and the places where these lie."""
    threads = 32 * (tile.m // tile.rows) * (tile.n // tile.columns)
    single = [points for address, dims, points in ((kernel.lhs, kernel.m, tile.m), (kernel.rhs, kernel.n, tile.n))
              if neighbours(kernel, address, dims) == neighbours(kernel, address, kernel.k) == 1]
    return (tile.m * tile.n + 2 * tile.k * sum(single)) // threads


def _facing_results(kernel: ContractionKernel) -> ContractionKernel:
    """With n the role along which results lie side by side: neighbouring threads store neighbours."""
    places = [store.address for store in kernel.epilogue.stores]

    def runs_along(dims: Sequence[int]) -> bool:
        return any(place.stride_of(d) == 1 for place in places for d in dims if kernel.extents[d] != 1)

    return swap_roles(kernel) if runs_along(kernel.m) and not runs_along(kernel.n) else kernel


def _along_memory(kernel: ContractionKernel) -> ContractionKernel:
    """With the dim innermost that an operand is contiguous along: of k and of m. (n is in order already.)"""
    return replace(kernel, m=_contiguous_last(kernel, kernel.m, (kernel.lhs,)),
                   k=_contiguous_last(kernel, kernel.k, (kernel.lhs, kernel.rhs)))


def _contiguous_last(kernel: ContractionKernel, dims: tuple[int, ...], addresses: Sequence[Address]) -> tuple[int, ...]:
    for address in addresses:
        found = [d for d in dims if address.stride_of(d) == 1 and kernel.extents[d] != 1]
        if found:
            return (*(d for d in dims if d != found[0]), found[0])
    return dims
