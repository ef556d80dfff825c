"""ContractionKernel -> the same kernel, canonical and scheduled: the tile that the cost model likes best.

Every tile that fits the registers is tried, in place and packed, with vectors along n and (where both operands are
contiguous along k) along k, multiplied one by one or, where the processor can, in groups, and in both orders of the
operands. A tile fits if its sums, its vectors of rhs and a
splat (and a product, without FMA) have a register each. Then the work is cut into tasks of some tens of microseconds
whose part of rhs stays in L2; sums too long for L2 go in blocks of k, and long sums of few tiles are split over k.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Final

from flambeau.ir.kernel import ContractionKernel, ContractionSchedule
from flambeau.ir.kernel.contraction_dims import canonicalize, swap_roles
from flambeau.ir.target import Target
from flambeau.passes.cpu.contraction_cost import Choice, Shape, dot_choice, row_choice, rows_that_fit
from flambeau.passes.cpu.winograd import by_winograd

__all__ = ["choose_schedule", "schedule_contraction", "schedules_in_groups"]

_SWAP_GAIN: Final = 0.97  # swapped operands have to be this much cheaper
_VECTOR_COUNTS: Final = (1, 2, 3, 4, 6, 8, 14)
_DOT_SIZES: Final = (1, 2, 4)
_CYCLES_PER_US: Final = 3000.0
_TASK_US: Final = 20.0
_SMALLEST_TASK_US: Final = 5.0
_TASKS_PER_CORE: Final = 8
_SPLITS_PER_CORE: Final = 4
_SHORTEST_SPLIT: Final = 128  # steps of k
_PARTIAL_BYTES: Final = 128 << 10  # sums of one task kept on the stack between k blocks (limit 256 KiB)


def schedule_contraction(kernel: ContractionKernel, target: Target) -> ContractionKernel:
    """Canonical dims, the better order of operands, and a schedule. A kernel that has a schedule stays as it is."""
    if kernel.schedule is not None:
        return kernel
    plain = canonicalize(kernel)
    swapped = canonicalize(swap_roles(plain))
    best, other = _best(plain, target), _best(swapped, target)
    given = kernel
    kernel, choice = (swapped, other) if other.cycles < _SWAP_GAIN * best.cycles else (plain, best)
    if target.winograd and (found := by_winograd(given, target, choice.cycles)) is not None:
        return found
    return replace(kernel, schedule=_cut_into_tasks(Shape(kernel, target, choice.schedule.group), choice))


def choose_schedule(kernel: ContractionKernel, target: Target) -> ContractionSchedule:
    """The schedule for a canonical kernel with its operands in the order they have. Ignores the one it may have."""
    kernel = replace(kernel, schedule=None)
    choice = _best(kernel, target)
    return _cut_into_tasks(Shape(kernel, target, choice.schedule.group), choice)


def _best(kernel: ContractionKernel, target: Target) -> Choice:
    shape = Shape(kernel, target)
    if not shape.batch_points * shape.m_points * shape.n_points:
        return Choice(0.0, 1.0, ContractionSchedule((1,) * len(shape.kernel.m), 1))
    choices = [*_candidates(shape), *_grouped(kernel, target)]
    return min(choices, key=lambda choice: choice.cycles)


def schedules_in_groups(kernel: ContractionKernel, target: Target) -> Iterator[ContractionSchedule]:
    """Every schedule that multiplies several points of k at once, for a canonical kernel without one."""
    shape = Shape(kernel, target, kernel.group_size)
    return (_cut_into_tasks(shape, choice) for choice in _grouped(kernel, target))


def _grouped(kernel: ContractionKernel, target: Target) -> Iterator[Choice]:
    if kernel.k and 0 not in kernel.extents and target.multiplies_groups(kernel.group_size):
        yield from _candidates(Shape(kernel, target, kernel.group_size))


# -- tiles ------------------------------------------------------------------------------------------------------


def _candidates(shape: Shape) -> Iterator[Choice]:
    for n_vectors in _vector_counts(shape):
        for m_tile in _row_tiles(shape, rows_that_fit(shape.target, n_vectors)):
            for pack_rhs in _rhs_packings(shape, m_tile):
                for pack_lhs in _lhs_packings(shape, m_tile):
                    yield row_choice(shape, m_tile, n_vectors, pack_rhs, pack_lhs)
    if shape.group == 1 and _is_contiguous_in_k(shape):
        for columns in _DOT_SIZES:
            for rows in _DOT_SIZES:
                fits = rows * columns + rows + columns <= shape.target.n_vector_registers
                if fits and columns <= shape.n_extent:
                    yield from (dot_choice(shape, m_tile, columns) for m_tile in _row_tiles(shape, rows))


def _rhs_packings(shape: Shape, m_tile: tuple[int, ...]) -> list[bool]:
    if shape.group > 1:
        return [True]
    in_place = shape.rhs_lies_in_place
    is_reread = shape.m_points > math.prod(m_tile)
    is_worth_it = is_reread or not shape.masks_are_cheap or shape.kernel.keeps_rhs
    return [False] * in_place + [True] * (not in_place or is_worth_it)


def _lhs_packings(shape: Shape, m_tile: tuple[int, ...]) -> list[bool]:
    """Panels of lhs hold rows of its innermost m dim only."""
    can_pack = bool(m_tile) and all(tile == 1 for tile in m_tile[:-1])
    if shape.group > 1 and not shape.kernel.lhs_lies_in_groups:
        return [True] * can_pack
    is_worth_it = shape.lhs_is_far or shape.converts(shape.kernel.lhs) or shape.kernel.keeps_lhs
    return [False, True] if can_pack and is_worth_it else [False]


def _vector_counts(shape: Shape) -> list[int]:
    """Vectors in a tile that split those of the innermost n dim evenly."""
    total = -(-shape.n_extent // shape.lanes)
    even = {-(-total // parts) for parts in range(1, total + 1)}
    return sorted((even & set(_VECTOR_COUNTS)) | {1, min(total, 2)})


def _even_sizes(extent: int, limit: int) -> list[int]:
    """Tile sizes up to `limit` that cut `extent` into tiles of one size, the last perhaps shorter."""
    if extent >= 4 * limit:
        return list(range(1, limit + 1))
    return sorted({-(-extent // parts) for parts in range(-(-extent // limit), extent + 1)})


def _row_tiles(shape: Shape, limit: int) -> Iterator[tuple[int, ...]]:
    """Tiles over the two innermost m dims (further out one point each) of at most `limit` rows, large ones only."""
    extents = [shape.kernel.extents[d] for d in shape.kernel.m]
    if not extents:
        yield ()
        return
    ones = (1,) * (len(extents) - 1)
    outer = extents[-2] if len(extents) > 1 else 1
    for inner in _even_sizes(extents[-1], limit):
        if inner < extents[-1] and 2 * inner * outer <= limit:
            continue
        yield (*ones, inner)
        if len(extents) > 1:
            yield from ((*ones[1:], size, inner) for size in _even_sizes(outer, limit // inner) if size > 1)


def _is_contiguous_in_k(shape: Shape) -> bool:
    kernel = shape.kernel
    if not kernel.k or kernel.extents[kernel.k[-1]] < shape.lanes:
        return False
    return kernel.lhs.stride_of(kernel.k[-1]) == 1 and kernel.rhs.stride_of(kernel.k[-1]) == 1


# -- tasks ------------------------------------------------------------------------------------------------------


def _cut_into_tasks(shape: Shape, choice: Choice) -> ContractionSchedule:
    """Block sizes, k blocks and splits of k for a chosen tile."""
    schedule, total_us = choice.schedule, choice.cycles / _CYCLES_PER_US
    schedule = replace(schedule, parallel=total_us >= 2 * _SMALLEST_TASK_US)
    m_tiles, n_tiles = _tile_counts(shape, schedule)
    if _should_split(shape, m_tiles * n_tiles, total_us):
        return _split_over_k(shape, schedule, m_tiles, n_tiles, total_us)
    columns = _columns(shape, schedule)
    task_us = min(_TASK_US, max(_SMALLEST_TASK_US, total_us / (_TASKS_PER_CORE * shape.target.cores)))
    tile_us = choice.tile_cycles / _CYCLES_PER_US
    panel_bytes = max(1, shape.k_steps * columns * shape.acc_bytes)
    n_block = _even(n_tiles, min(shape.target.l2_bytes // 2 // panel_bytes, int(2 * task_us / tile_us)))
    m_block = _even(m_tiles, round(task_us / (tile_us * n_block)))
    rows = math.prod(schedule.m_tile)
    tile_bytes = (rows + columns) * shape.k_steps * shape.acc_bytes
    if schedule.vectors == "k" or tile_bytes <= shape.target.l2_bytes // 3:
        return replace(schedule, m_block=m_block, n_block=n_block)
    k_block = -(-shape.k_steps // -(-tile_bytes // (shape.target.l2_bytes // 6)))
    most_tiles = max(1, _PARTIAL_BYTES // (rows * columns * shape.acc_bytes))
    n_block = min(n_block, most_tiles)
    m_block = max(1, min(max(m_block, 4), m_tiles, most_tiles // n_block))
    return replace(schedule, m_block=m_block, n_block=n_block, k_block=k_block)


def _even(tiles: int, at_most: int) -> int:
    """Tiles in a block, at most (and at least one) that many, so that all blocks are about as large."""
    blocks = -(-tiles // max(1, min(tiles, at_most)))
    return -(-tiles // blocks)


def _columns(shape: Shape, schedule: ContractionSchedule) -> int:
    return schedule.n_vectors * (1 if schedule.vectors == "k" else shape.lanes)


def _tile_counts(shape: Shape, schedule: ContractionSchedule) -> tuple[int, int]:
    extents: Sequence[int] = [shape.kernel.extents[d] for d in shape.kernel.m]
    along_m = math.prod(-(-extent // tile) for extent, tile in zip(extents, schedule.m_tile, strict=True))
    along_n = shape.points(shape.kernel.n[:-1]) * -(-shape.n_extent // _columns(shape, schedule))
    return max(1, along_m), max(1, along_n)


def _should_split(shape: Shape, tiles: int, total_us: float) -> bool:
    """Long sums of few tiles: too few tasks for the cores, or operands that every task would stream from memory."""
    k = shape.k_steps
    if total_us < 4 * _SMALLEST_TASK_US or k < 2 * _SHORTEST_SPLIT:
        return False
    too_few = tiles * shape.batch_points < 2 * shape.target.cores and k > max(shape.m_points, shape.n_points)
    return too_few or shape.streams_operands


def _split_over_k(
    shape: Shape, schedule: ContractionSchedule, m_tiles: int, n_tiles: int, total_us: float
) -> ContractionSchedule:
    """Every task sums all tiles over its slice of k, block by block."""
    l2, k = shape.target.l2_bytes, shape.k_steps
    splits = max(
        1, min(_SPLITS_PER_CORE * shape.target.cores, int(total_us / _TASK_US), k // _SHORTEST_SPLIT)
    )
    # lhs and rhs of one block take a quarter of L2. Rows that are windows overlap, so not all of them count.
    per_point = (min(shape.m_points, 256) + shape.n_points) * shape.acc_bytes
    k_block = max(64, l2 // 4 // per_point)
    if schedule.vectors == "k" or k_block * splits >= k:
        k_block = 0
    return replace(schedule, split_k=splits, m_block=m_tiles, n_block=n_tiles, k_block=k_block)
