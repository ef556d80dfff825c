"""ContractionKernel -> the same kernel, canonical and scheduled, by a cost model of register tiles.

The model counts cycles of one core and prefers the smallest sum over all tiles, short edge tiles included, so a
width that no tile divides is covered by the split that wastes least. Per k point a tile of r rows x v vectors needs

    max( r*v / 2        multiply-adds on two ports (r*v where a product and a sum are two instructions)
         (r + v) / 2    loads on two ports: r splats of lhs, v vectors of rhs
         v * bytes / 24 rhs vectors that come from L2, where a sweep over n tiles leaves none in L1
         4 / sets       latency, over the independent sets of sums that a small tile keeps )

and once per tile its stores, its epilogue and the call. A tile fits if r*v sums, v vectors of rhs and a splat (and a
product, without FMA) have a register each. Dot tiles (vectors along k) are counted alike, plus the horizontal sums.
Packing costs cycles per element copied; reading a large or awkwardly strided operand in place costs a factor. Both
orders of the operands are tried. Then tasks are cut to some tens of microseconds of work whose rhs stays in L2.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final

from flambeau.ir.contraction import addresses, canonicalize, swap_roles
from flambeau.ir.kernel import Address, ContractionKernel, ContractionSchedule
from flambeau.ir.target import Target

__all__ = ["choose_schedule", "schedule_contraction"]

_LATENCY: Final = 4.0                    # cycles from a multiply-add to one that reads it
_INTERFERENCE: Final = 0.1               # share of the other limits that shows beside the tightest
_LONE_VECTOR_FACTOR: Final = 1.4         # with one vector every multiply-add loads its own splat
_L2_BYTES_PER_CYCLE: Final = 24.0        # what a core sustains while it multiplies
_CHAINS: Final = 8                       # multiply-adds in flight that hide it; microkernels keep that many
_CALL_CYCLES: Final = 30.0               # decode a tile's position, call, return
_INNER_LOOP_CYCLES: Final = 6.0          # enter and leave an inner k loop
_DOT_SUM_CYCLES: Final = 4.0             # add the lanes of one vector
_COPY_CYCLES: Final = 0.6                # per element: copy a row
_TRANSPOSE_CYCLES: Final = 1.0           # per element: transpose blocks of vectors
_GATHER_CYCLES: Final = 3.0              # per element: pack one by one
_STRIDED_CYCLES: Final = 1.5             # per element: load or store one lane of an epilogue
_CONVERT_CYCLES: Final = 1.0             # per element load of a type that has to be widened
# rhs in place below a share of L2, read by many m tiles: it skips through pages and fills only some sets.
_IN_PLACE_FACTORS: Final = ((0.125, 1.0), (0.4, 1.1), (0.75, 1.3), (math.inf, 1.6))
_ALIASED_FACTOR: Final = 1.2             # lines a multiple of 4 KiB apart share a set of L1
_SHAPE_PENALTY: Final = 0.01             # each further tile shape is another microkernel to compile
_SPREAD_PENALTY: Final = 0.01
_CYCLES_PER_US: Final = 3000.0
_TASK_US: Final = 20.0
_SMALLEST_TASK_US: Final = 5.0
_TASKS_PER_CORE: Final = 8
_PREFETCH_POINTS: Final = 8
_PAGE_BYTES: Final = 4096
_MOST_VECTORS: Final = 14
_LONG_SUM: Final = 8                      # k this many times m and n: split sums cost less than streaming operands
_PARTIAL_BYTES: Final = 128 << 10        # sums of one task kept on the stack between k blocks (limit 256 KiB)


def schedule_contraction(kernel: ContractionKernel, target: Target) -> ContractionKernel:
    """Canonical dims, the better order of operands, and a schedule. A kernel that has a schedule stays as it is."""
    if kernel.schedule is not None:
        return kernel
    plain = canonicalize(kernel)
    best = _best(plain, target)
    swapped = canonicalize(swap_roles(plain))
    other = _best(swapped, target)
    kernel, choice = (swapped, other) if other.cycles < 0.97 * best.cycles else (plain, best)
    return replace(kernel, schedule=_cut_into_tasks(kernel, target, choice))


def choose_schedule(kernel: ContractionKernel, target: Target) -> ContractionSchedule:
    """The schedule for a canonical kernel with its operands in the order they have. Does not look at `schedule`."""
    kernel = replace(kernel, schedule=None)
    return _cut_into_tasks(kernel, target, _best(kernel, target))


@dataclass(frozen=True)
class _Choice:
    """A tile and what it costs: cycles of the whole contraction, of one whole tile, and bytes of one element."""

    cycles: float
    tile_cycles: float
    schedule: ContractionSchedule


@dataclass(frozen=True)
class _Shape:
    """What the model needs to know of a kernel."""

    kernel: ContractionKernel
    target: Target

    @property
    def acc_bytes(self) -> int:
        return max(4, self.kernel.acc_dtype.itemsize) if self.kernel.acc_dtype.is_floating_point else self.kernel.acc_dtype.itemsize

    @property
    def lanes(self) -> int:
        return self.target.lanes(self.acc_bytes)

    def points(self, dims: Sequence[int]) -> int:
        return math.prod(self.kernel.extents[d] for d in dims)

    @property
    def n_extent(self) -> int:
        return self.kernel.extents[self.kernel.n[-1]] if self.kernel.n else 1

    def element_bytes(self, address: Address) -> int:
        return self.kernel.params[address.buffer].dtype.itemsize

    def n_stride(self, address: Address) -> int:
        return address.stride_of(self.kernel.n[-1]) if self.kernel.n else 1


def _best(kernel: ContractionKernel, target: Target) -> _Choice:
    shape = _Shape(kernel, target)
    if not shape.points((*kernel.batch, *kernel.m, *kernel.n)):
        return _Choice(0.0, 1.0, ContractionSchedule((1,) * len(kernel.m), 1))
    return min(_candidates(shape), key=lambda choice: choice.cycles)


def _candidates(shape: _Shape) -> Iterator[_Choice]:
    can_read_in_place = shape.n_extent == 1 or shape.n_stride(shape.kernel.rhs) == 1
    for n_vectors in _vector_counts(shape):
        for m_tile in _row_tiles(shape, _rows_that_fit(shape.target, n_vectors)):
            if can_read_in_place:
                yield _row_choice(shape, m_tile, n_vectors, pack_rhs=False)
            if not can_read_in_place or shape.points(shape.kernel.m) > math.prod(m_tile) or not _masks_are_cheap(shape.target):
                yield _row_choice(shape, m_tile, n_vectors, pack_rhs=True)
    if _is_contiguous_in_k(shape):
        for columns in (1, 2, 4):
            for rows in (1, 2, 4):
                if columns > shape.n_extent or rows * columns + rows + columns > shape.target.n_vector_registers:
                    continue
                for m_tile in _row_tiles(shape, rows):
                    yield _dot_choice(shape, m_tile, columns)


# -- tiles ------------------------------------------------------------------------------------------------------


def _vector_counts(shape: _Shape) -> list[int]:
    """Vectors in a tile that split those of the innermost n dim evenly."""
    total = -(-shape.n_extent // shape.lanes)
    return sorted({-(-total // parts) for parts in range(1, total + 1) if -(-total // parts) <= _MOST_VECTORS} & {*range(1, 5), 6, 8, 14} | {min(total, 2), 1})


def _rows_that_fit(target: Target, n_vectors: int) -> int:
    spare = 1 if target.has_fma else 2
    return max(1, (target.n_vector_registers - n_vectors - spare) // n_vectors)


def _even_sizes(extent: int, limit: int) -> list[int]:
    """Tile sizes up to `limit` that cut `extent` into tiles of one size, the last perhaps shorter."""
    sizes = {-(-extent // parts) for parts in range(max(1, -(-extent // limit)), extent + 1)} if extent < 64 else set(range(1, limit + 1))
    return sorted(size for size in sizes if size <= limit) or [1]


def _row_tiles(shape: _Shape, limit: int) -> Iterator[tuple[int, ...]]:
    """Tiles over the two innermost m dims (further out one point each) of at most `limit` rows, large ones only."""
    dims = shape.kernel.m
    if not dims:
        yield ()
        return
    extents = [shape.kernel.extents[d] for d in dims]
    outer = (1,) * (len(dims) - 1)
    for inner in _even_sizes(extents[-1], limit):
        if 2 * inner * (extents[-2] if len(dims) > 1 else 1) <= limit and inner < extents[-1]:
            continue
        yield (*outer, inner)
        if len(dims) > 1:
            for second in _even_sizes(extents[-2], limit // inner):
                if second > 1:
                    yield (*outer[1:], second, inner)


def _tile_sizes(extents: Sequence[int], tiles: Sequence[int]) -> Iterator[tuple[int, int]]:
    """(how many tiles, rows of each) for every shape of tile, whole and short."""
    per_dim = [
        [(extent // tile, tile), (1, extent % tile)] if extent % tile else [(extent // tile, tile)]
        for extent, tile in zip(extents, tiles, strict=True)
    ]
    for parts in itertools.product(*per_dim):
        count, rows = math.prod(part[0] for part in parts), math.prod(part[1] for part in parts)
        if count and rows:
            yield count, rows


# -- cycles -----------------------------------------------------------------------------------------------------


def _row_choice(shape: _Shape, m_tile: tuple[int, ...], n_vectors: int, pack_rhs: bool) -> _Choice:
    """A tile with vectors along n."""
    kernel, target = shape.kernel, shape.target
    k, loops = shape.points(kernel.k), _inner_loops(shape)
    total_vectors = -(-shape.n_extent // shape.lanes)
    outer_n = shape.points(kernel.n[:-1])
    epilogue = _epilogue_cycles(shape, shape.lanes)

    def tile(rows: int, vectors: int) -> float:
        per_k = _k_point_cycles(shape, rows, vectors)
        return k * per_k + loops * _INNER_LOOP_CYCLES + _CALL_CYCLES + rows * vectors * epilogue

    extents = [kernel.extents[d] for d in kernel.m]
    cycles, shapes = 0.0, 0
    for (count, rows), (n_count, vectors) in itertools.product(
        _tile_sizes(extents, m_tile), _tile_sizes([total_vectors], [n_vectors])
    ):
        cycles += count * n_count * outer_n * tile(rows, vectors)
        shapes += 1
    if shape.n_extent % shape.lanes and not pack_rhs and not _masks_are_cheap(target):
        cycles += shape.points(kernel.m) * outer_n * k * shape.lanes / max(1, math.prod(m_tile))
    pack_lhs = _wants_packed_lhs(shape, m_tile)
    if _rows_share_a_set(shape, m_tile) and not pack_lhs:
        cycles *= _ALIASED_FACTOR
    if pack_lhs:
        cycles += shape.points(kernel.m) * k * _pack_cycles(shape, kernel.lhs, kernel.m)
    if pack_rhs:
        cycles += shape.points(kernel.n) * k * _pack_cycles(shape, kernel.rhs, kernel.n)
    else:
        cycles *= _in_place_factor(shape, m_tile)
    # Rows next to each other share cache lines and pages more often than rows of several image rows do.
    spread = _SPREAD_PENALTY * (math.prod(m_tile[:-1]) > 1)
    cycles *= shape.points(kernel.batch) * (1 + _SHAPE_PENALTY * shapes + spread)
    prefetch = 0 if _stays_in_l1(shape) else _PREFETCH_POINTS
    schedule = ContractionSchedule(m_tile, n_vectors, pack_rhs=pack_rhs, pack_lhs=pack_lhs, prefetch=prefetch)
    return _Choice(cycles, tile(math.prod(m_tile), n_vectors), schedule)


def _k_point_cycles(shape: _Shape, rows: int, vectors: int) -> float:
    products = rows * vectors / (2.0 if shape.target.has_fma else 1.0)
    if not shape.kernel.acc_dtype.is_floating_point:
        products = rows * vectors * 2.0
    loads = (rows + vectors) / 2.0 * (_LONE_VECTOR_FACTOR if vectors == 1 else 1.0)
    if shape.element_bytes(shape.kernel.lhs) != shape.acc_bytes:
        loads += rows * _CONVERT_CYCLES
    fetched = 0.0 if _stays_in_l1(shape) else vectors * shape.target.vector_bytes / _L2_BYTES_PER_CYCLE
    sets = 1 << (max(1, _CHAINS // (rows * vectors)).bit_length() - 1)
    issue = (rows * vectors + rows + vectors + 3) / 5.0
    slowest = max(products, loads, issue, fetched, _LATENCY / sets)
    # What is not the bottleneck still gets in its way now and then, so of equals the tile with fewer loads wins.
    return slowest + _INTERFERENCE * (products + 2 * loads + issue + fetched)


def _stays_in_l1(shape: _Shape) -> bool:
    """Whether all of rhs (of one batch point) lies in L1 beside some rows of lhs."""
    return shape.points((*shape.kernel.k, *shape.kernel.n)) * shape.acc_bytes <= 0.7 * shape.target.l1_bytes


def _dot_choice(shape: _Shape, m_tile: tuple[int, ...], columns: int) -> _Choice:
    """A tile with vectors along k."""
    kernel = shape.kernel
    inner_k = kernel.extents[kernel.k[-1]]
    steps = -(-inner_k // shape.lanes) * shape.points(kernel.k[:-1])
    epilogue = _epilogue_cycles(shape, 1)

    def tile(rows: int, columns: int) -> float:
        per_step = _k_point_cycles(shape, rows, columns)
        sums = rows * columns * (_DOT_SUM_CYCLES + epilogue)
        return steps * per_step + _inner_loops(shape) * _INNER_LOOP_CYCLES + _CALL_CYCLES + sums

    extents = [kernel.extents[d] for d in kernel.m]
    cycles, shapes = 0.0, 0
    for (count, rows), (n_count, cols) in itertools.product(
        _tile_sizes(extents, m_tile), _tile_sizes([shape.n_extent], [columns])
    ):
        cycles += count * n_count * shape.points(kernel.n[:-1]) * tile(rows, cols)
        shapes += 1
    if _row_bytes(shape, kernel.rhs, kernel.n) % 4096 == 0 and columns > 2:
        cycles *= 1.05
    cycles *= shape.points(kernel.batch) * (1 + _SHAPE_PENALTY * shapes)
    schedule = ContractionSchedule(m_tile, columns, vectors="k")
    return _Choice(cycles, tile(math.prod(m_tile), columns), schedule)


def _epilogue_cycles(shape: _Shape, lanes: int) -> float:
    """Per vector of sums: the body, and each access by its stride along the vector dim."""
    body = len(shape.kernel.epilogue.body) * 0.5
    for address in list(addresses(shape.kernel))[2:]:
        contiguous = lanes == 1 or shape.n_extent == 1 or shape.n_stride(address) in (0, 1)
        body += 1.0 if contiguous and not address.dynamic else lanes * _STRIDED_CYCLES
    return body


def _inner_loops(shape: _Shape) -> int:
    """How often the innermost k loop starts."""
    return shape.points(shape.kernel.k[:-1])


def _pack_cycles(shape: _Shape, address: Address, dims: Sequence[int]) -> float:
    """Per element of the operand at `address`, packed along the innermost of `dims`."""
    kernel = shape.kernel
    if not dims or address.stride_of(dims[-1]) in (0, 1):
        return _COPY_CYCLES
    runs = (d for d in kernel.k if address.stride_of(d) == 1)
    return _TRANSPOSE_CYCLES if any(kernel.extents[d] >= shape.lanes for d in runs) else _GATHER_CYCLES


def _wants_packed_lhs(shape: _Shape, m_tile: tuple[int, ...]) -> bool:
    """Whether neighbouring k points of lhs are a page apart, so that each is a miss of its own. Only worth a copy that
    several n tiles share."""
    kernel, lhs = shape.kernel, shape.kernel.lhs
    if not m_tile or any(tile > 1 for tile in m_tile[:-1]) or shape.points(kernel.k) < 64:
        return False
    if -(-shape.points(kernel.n) // (4 * shape.lanes)) < 2:
        return False
    k_bytes = abs(_row_bytes(shape, lhs, kernel.k))
    return k_bytes >= _PAGE_BYTES // 2 and k_bytes % (_PAGE_BYTES // 2) == 0


def _rows_share_a_set(shape: _Shape, m_tile: tuple[int, ...]) -> bool:
    """Whether the rows of a tile are so many pages apart that one set of L1 cannot hold their lines."""
    row_bytes = abs(_row_bytes(shape, shape.kernel.lhs, shape.kernel.m))
    if not m_tile or not row_bytes:
        return False
    ways = shape.target.l1_bytes // _PAGE_BYTES - 2
    return m_tile[-1] > ways * (_PAGE_BYTES // math.gcd(_PAGE_BYTES, row_bytes))


def _row_bytes(shape: _Shape, address: Address, dims: Sequence[int]) -> int:
    """Bytes from one point of the innermost of `dims` to the next."""
    return address.stride_of(dims[-1]) * shape.element_bytes(address) if dims else 0


def _in_place_factor(shape: _Shape, m_tile: tuple[int, ...]) -> float:
    """What reading rhs where it lies costs more than reading packed panels."""
    kernel = shape.kernel
    if shape.points(kernel.m) <= math.prod(m_tile) or _reads_in_bands(shape):
        return 1.0
    rhs_bytes = shape.points((*kernel.k, *kernel.n)) * shape.element_bytes(kernel.rhs)
    factor = next(factor for share, factor in _IN_PLACE_FACTORS if rhs_bytes < share * shape.target.l2_bytes)
    k_bytes = abs(_row_bytes(shape, kernel.rhs, kernel.k))
    aliased = k_bytes and k_bytes % _PAGE_BYTES == 0 and shape.points(kernel.k) > 64
    return factor * (_ALIASED_FACTOR if aliased else 1.0)


def _reads_in_bands(shape: _Shape) -> bool:
    """Whether the sum is so long that it will be split and blocked: then each block of rhs is in L2 when it is read."""
    kernel = shape.kernel
    return shape.points(kernel.k) > _LONG_SUM * max(shape.points(kernel.m), shape.points(kernel.n))


def _is_contiguous_in_k(shape: _Shape) -> bool:
    kernel = shape.kernel
    if not kernel.k or kernel.extents[kernel.k[-1]] < shape.lanes:
        return False
    return kernel.lhs.stride_of(kernel.k[-1]) == 1 and kernel.rhs.stride_of(kernel.k[-1]) == 1


def _masks_are_cheap(target: Target) -> bool:
    """AVX and AVX-512 load part of a vector in one instruction; SSE and NEON go element by element."""
    return target.is_x86 and target.vector_bytes >= 32


# -- tasks ------------------------------------------------------------------------------------------------------


def _cut_into_tasks(kernel: ContractionKernel, target: Target, choice: _Choice) -> ContractionSchedule:
    """Block sizes, k blocks and splits of k for a chosen tile."""
    shape, schedule = _Shape(kernel, target), choice.schedule
    m_tiles, n_tiles = _tile_counts(shape, schedule)
    k = shape.points(kernel.k)
    rows = math.prod(schedule.m_tile)
    columns = schedule.n_vectors * (1 if schedule.vectors == "k" else shape.lanes)
    total_us = choice.cycles / _CYCLES_PER_US
    task_us = min(_TASK_US, max(_SMALLEST_TASK_US, total_us / (_TASKS_PER_CORE * target.cores)))
    parallel = total_us >= 2 * _SMALLEST_TASK_US
    if _should_split(shape, schedule, m_tiles * n_tiles, total_us):
        return replace(schedule, parallel=parallel, **_split(shape, schedule, m_tiles, n_tiles, total_us))
    panel_bytes = max(1, k * columns * shape.acc_bytes)
    tile_us = choice.tile_cycles / _CYCLES_PER_US
    n_block = max(1, min(n_tiles, target.l2_bytes // 2 // panel_bytes, int(2 * task_us / tile_us)))
    n_block = -(-n_tiles // -(-n_tiles // n_block))
    m_block = max(1, min(m_tiles, round(task_us / (tile_us * n_block))))
    m_block = -(-m_tiles // -(-m_tiles // m_block))
    tile_bytes = (rows + columns) * k * shape.acc_bytes
    k_block = 0
    if tile_bytes > target.l2_bytes // 3 and schedule.vectors == "n":
        blocks = -(-tile_bytes // (target.l2_bytes // 6))
        k_block = -(-k // blocks)
        most = max(1, _PARTIAL_BYTES // (rows * columns * shape.acc_bytes))
        n_block, m_block = min(n_block, most), max(1, min(max(m_block, 4), m_tiles, most // min(n_block, most)))
    return replace(schedule, m_block=m_block, n_block=n_block, k_block=k_block, parallel=parallel)


def _tile_counts(shape: _Shape, schedule: ContractionSchedule) -> tuple[int, int]:
    kernel = shape.kernel
    along_m = (-(-kernel.extents[d] // t) for d, t in zip(kernel.m, schedule.m_tile, strict=True))
    columns = schedule.n_vectors * (1 if schedule.vectors == "k" else shape.lanes)
    return max(1, math.prod(along_m)), max(1, shape.points(kernel.n[:-1]) * -(-shape.n_extent // columns))


def _should_split(shape: _Shape, schedule: ContractionSchedule, tiles: int, total_us: float) -> bool:
    """Long sums of few tiles: too few tasks for the cores, or operands that every task would stream from memory."""
    kernel = shape.kernel
    k, m, n = (shape.points(dims) for dims in (kernel.k, kernel.m, kernel.n))
    if not kernel.k or total_us < 4 * _SMALLEST_TASK_US or k < 256:
        return False
    few = tiles * shape.points(kernel.batch) < 2 * shape.target.cores and k > max(m, n)
    streams = k * (m + n) * shape.acc_bytes > 4 * shape.target.l2_bytes and k > _LONG_SUM * max(m, n)
    return few or (streams and shape.points(kernel.batch) == 1 and m * n * shape.acc_bytes <= shape.target.l2_bytes // 2)


def _split(
    shape: _Shape, schedule: ContractionSchedule, m_tiles: int, n_tiles: int, total_us: float
) -> dict[str, int]:
    """Every task sums all tiles over its slice of k, block by block."""
    kernel, target = shape.kernel, shape.target
    k = shape.points(kernel.k)
    splits = max(1, min(4 * target.cores, int(total_us / _TASK_US), k // 128))
    # lhs and rhs of one block together take a quarter of L2. Windows overlap, so lhs is counted by its rows that do not.
    per_point = (min(shape.points(kernel.m), 256) + shape.points(kernel.n)) * shape.acc_bytes
    k_block = max(64, target.l2_bytes // 4 // per_point)
    if schedule.vectors == "k" or k_block * splits >= k:
        k_block = 0
    return {"split_k": splits, "m_block": m_tiles, "n_block": n_tiles, "k_block": k_block}
