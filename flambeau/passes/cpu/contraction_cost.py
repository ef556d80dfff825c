"""How long a register tile takes to compute a contraction, in cycles of one core.

Per k point a tile of r rows x v vectors needs the most of

    r * v / 2          multiply-adds on two ports (r * v where a product and a sum are two instructions)
    (r + v) / 2        loads on two ports: r splats of lhs, v vectors of rhs
    v * bytes / 24     rhs vectors that come from L2, where a sweep over n tiles leaves none in L1
    4 / sets           latency, over the independent sets of sums that a small tile keeps

plus a share of what is not the most, and once per tile its stores, its epilogue and the call. Short tiles at the
edges count with their own shape, so a width that no tile divides is covered by the sizes that waste least. Dot tiles
(vectors along k) count alike, plus their horizontal sums. Where neighbours along k are multiplied at once, a step of k is
all of a group, and its elements are one word. Packing costs cycles per element copied; an operand read
in place where its lines are far apart costs a factor. The constants were measured on AVX-512 cores (Sapphire Rapids,
some on Zen 4); they rank schedules and do not predict time.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from typing import Final

from flambeau.ir.kernel import Address, ContractionKernel, ContractionSchedule
from flambeau.ir.records import dataclass
from flambeau.ir.target import Target

__all__ = ["Choice", "Shape", "dot_choice", "row_choice", "rows_that_fit"]

_LATENCY: Final = 4.0  # cycles from a multiply-add to one that reads it
_CHAINS: Final = 8  # multiply-adds in flight that hide it; microkernels keep that many
_INTERFERENCE: Final = 0.1  # share of the other limits that shows beside the tightest
_LONE_VECTOR_FACTOR: Final = 1.4  # with one vector every multiply-add loads its own splat
_L2_BYTES_PER_CYCLE: Final = 24.0  # what a core sustains while it multiplies
_L1_SHARE: Final = 0.7  # of L1 for rhs, beside some rows of lhs
_CALL_CYCLES: Final = 30.0  # decode a tile's position, call, return
_INNER_LOOP_CYCLES: Final = 6.0  # enter and leave an inner k loop
_DOT_SUM_CYCLES: Final = 4.0  # add the lanes of one vector
_COPY_CYCLES: Final = 0.7  # per element: copy a row
_TRANSPOSE_CYCLES: Final = 1.0  # per element: transpose blocks
_GATHER_CYCLES: Final = 3.0  # per element: pack one by one
_WORD_SHARE: Final = 0.5  # of copying a row: each further row that goes into its words
_KEEP_CYCLES: Final = 0.02  # per element: memory that panels take which are packed once
_STRIDED_CYCLES: Final = 4.0  # per element: load or store one lane of an epilogue
_CONVERT_CYCLES: Final = 1.0  # per load of a type that has to be widened
_MASK_BY_ELEMENT_CYCLES: Final = 1.0  # per element of a masked load where there is no instruction for it
# rhs in place, by its share of L2, where many m tiles read it: it skips through pages and fills only some sets.
_IN_PLACE_FACTORS: Final = ((0.125, 1.05), (0.4, 1.1), (0.75, 1.3), (math.inf, 1.6))
_FAR_LHS_FACTOR: Final = 1.15  # each k point of lhs in another page
_ALIASED_FACTOR: Final = 1.2  # lines a multiple of a page apart share a set of L1
_PAGE_BYTES: Final = 4096
_SHAPE_PENALTY: Final = 0.01  # each shape of tile is another microkernel to compile
_SPREAD_PENALTY: Final = 0.01  # rows of several image rows share fewer lines and pages
_PREFETCH_POINTS: Final = 8
_LONG_SUM: Final = 3  # k is that many times m and n


@dataclass(frozen=True)
class Choice:
    """A schedule (tile and packing; no blocks yet), its cycles, and those of one whole tile."""

    cycles: float
    tile_cycles: float
    schedule: ContractionSchedule


@dataclass(frozen=True)
class Shape:
    """What the model asks of a kernel and a target. group: points of k in a step."""

    kernel: ContractionKernel
    target: Target
    group: int = 1

    @cached_property
    def acc_bytes(self) -> int:
        """Bytes of one accumulator: halves are summed in f32."""
        dtype = self.kernel.acc_dtype
        return max(4, dtype.itemsize) if dtype.is_floating_point else dtype.itemsize

    @cached_property
    def lanes(self) -> int:
        return self.target.lanes(self.acc_bytes)

    @cached_property
    def n_extent(self) -> int:
        """Extent of the innermost n dim."""
        return self.kernel.extents[self.kernel.n[-1]] if self.kernel.n else 1

    @cached_property
    def m_points(self) -> int:
        return self.points(self.kernel.m)

    @cached_property
    def n_points(self) -> int:
        return self.points(self.kernel.n)

    @cached_property
    def k_steps(self) -> int:
        k = self.kernel.k
        return self.outer_k_points * (-(-self.kernel.extents[k[-1]] // self.group) if k else 1)

    @cached_property
    def outer_k_points(self) -> int:
        """Of all k dims but the innermost."""
        return self.points(self.kernel.k[:-1])

    @cached_property
    def batch_points(self) -> int:
        return self.points(self.kernel.batch)

    def points(self, dims: Sequence[int]) -> int:
        return math.prod(self.kernel.extents[d] for d in dims)

    def n_stride(self, address: Address) -> int:
        """Stride along the innermost n dim."""
        return address.stride_of(self.kernel.n[-1]) if self.kernel.n else 1

    def converts(self, address: Address) -> bool:
        """Whether the operand's elements are widened to be multiplied."""
        return self.group == 1 and self.kernel.params[address.buffer].dtype.itemsize != self.acc_bytes

    def step_bytes(self, address: Address, dims: Sequence[int]) -> int:
        """Bytes, either way, from one point of the innermost of `dims` to the next."""
        itemsize = self.kernel.params[address.buffer].dtype.itemsize
        return abs(address.stride_of(dims[-1])) * itemsize if dims else 0

    @cached_property
    def epilogue_cycles(self) -> float:
        """Per vector of sums along n."""
        return _epilogue_cycles(self, self.lanes)

    @cached_property
    def tile_cycles(self) -> float:
        """Per tile, whatever its size."""
        return self.outer_k_points * _INNER_LOOP_CYCLES + _CALL_CYCLES

    @cached_property
    def lhs_packing(self) -> float:
        """Cycles per element (or word) of lhs."""
        return _pack_cycles(self, self.kernel.lhs, self.kernel.m, self.kernel.keeps_lhs)

    @cached_property
    def rhs_packing(self) -> float:
        """Cycles per element (or word) of rhs."""
        return _pack_cycles(self, self.kernel.rhs, self.kernel.n, self.kernel.keeps_rhs)

    @cached_property
    def lhs_is_far(self) -> bool:
        """Whether neighbouring k points of lhs lie in different pages more often than not."""
        return self.step_bytes(self.kernel.lhs, self.kernel.k) >= _PAGE_BYTES // 2

    @cached_property
    def row_bytes(self) -> int:
        """Bytes from one row of lhs to the next."""
        return self.step_bytes(self.kernel.lhs, self.kernel.m)

    @cached_property
    def rhs_lies_in_place(self) -> bool:
        """Whether vectors of rhs can be loaded where it lies."""
        return self.n_extent == 1 or self.n_stride(self.kernel.rhs) == 1

    @cached_property
    def rhs_stays_in_l1(self) -> bool:
        """Whether all of rhs (of one batch point) lies in L1 beside some rows of lhs."""
        return self.k_steps * self.n_points * self.acc_bytes <= _L1_SHARE * self.target.l1_bytes

    @cached_property
    def masks_are_cheap(self) -> bool:
        """AVX and AVX-512 load part of a vector in one instruction; SSE and NEON go element by element."""
        return self.target.is_x86 and self.target.vector_bytes >= 32

    @cached_property
    def streams_operands(self) -> bool:
        """Whether the sum is so long that every task would read both operands from beyond L2, while all its results
        fit there. Such a sum is split over k and goes block by block, each block in L2 when it is read."""
        m, n, k = self.m_points, self.n_points, self.k_steps
        if self.batch_points != 1 or k < _LONG_SUM * max(m, n):
            return False
        fits = m * n * self.acc_bytes <= self.target.l2_bytes // 2
        return fits and k * (m + n) * self.acc_bytes > self.target.l2_bytes


def rows_that_fit(target: Target, n_vectors: int) -> int:
    """Rows of a register tile of so many vectors."""
    spare = 1 if target.has_fma else 2
    return max(1, (target.n_vector_registers - n_vectors - spare) // n_vectors)


def row_choice(
    shape: Shape, m_tile: tuple[int, ...], n_vectors: int, pack_rhs: bool, pack_lhs: bool
) -> Choice:
    """A tile with vectors along n."""
    vectors_along_n = -(-shape.n_extent // shape.lanes)

    def tile(rows: int, vectors: int) -> float:
        per_k = _k_point_cycles(shape, rows, vectors, pack_lhs, pack_rhs)
        return shape.k_steps * per_k + shape.tile_cycles + rows * vectors * shape.epilogue_cycles

    cycles, shapes = _sum_over_tiles(shape, m_tile, vectors_along_n, n_vectors, tile)
    if shape.n_extent % shape.lanes and not pack_rhs and not shape.masks_are_cheap:
        visits = shape.points(shape.kernel.n[:-1]) * shape.m_points / max(1, math.prod(m_tile))
        cycles += visits * shape.k_steps * shape.lanes * _MASK_BY_ELEMENT_CYCLES
    cycles *= _in_place_factor(shape, m_tile, pack_lhs, pack_rhs)
    if pack_lhs:
        cycles += shape.m_points * shape.k_steps * shape.lhs_packing
    if pack_rhs:
        cycles += shape.n_points * shape.k_steps * shape.rhs_packing
    spread = _SPREAD_PENALTY * (math.prod(m_tile[:-1]) > 1)
    cycles *= shape.batch_points * (1 + _SHAPE_PENALTY * shapes + spread)
    prefetch = 0 if shape.rhs_stays_in_l1 else _PREFETCH_POINTS
    schedule = ContractionSchedule(m_tile, n_vectors, pack_rhs=pack_rhs, pack_lhs=pack_lhs, prefetch=prefetch,
                                   group=shape.group)
    return Choice(cycles, tile(math.prod(m_tile), n_vectors), schedule)


def dot_choice(shape: Shape, m_tile: tuple[int, ...], columns: int) -> Choice:
    """A tile with vectors along k."""
    kernel = shape.kernel
    steps = -(-kernel.extents[kernel.k[-1]] // shape.lanes) * shape.points(kernel.k[:-1])
    per_sum = _DOT_SUM_CYCLES + _epilogue_cycles(shape, 1)

    def tile(rows: int, columns: int) -> float:
        per_step = _k_point_cycles(shape, rows, columns, False, False)
        return steps * per_step + shape.tile_cycles + rows * columns * per_sum

    cycles, shapes = _sum_over_tiles(shape, m_tile, shape.n_extent, columns, tile)
    cycles *= shape.batch_points * (1 + _SHAPE_PENALTY * shapes)
    return Choice(cycles, tile(math.prod(m_tile), columns), ContractionSchedule(m_tile, columns, vectors="k"))


def _sum_over_tiles(
    shape: Shape, m_tile: tuple[int, ...], n_units: int, n_tile: int, tile: Callable[[int, int], float]
) -> tuple[float, int]:
    """(cycles of all tiles of one batch point, how many shapes of tile there are)."""
    cycles, shapes = 0.0, 0
    extents = [shape.kernel.extents[d] for d in shape.kernel.m]
    outer_n = shape.points(shape.kernel.n[:-1])
    for (count, rows), (n_count, units) in itertools.product(
        _tile_sizes(extents, m_tile), _tile_sizes([n_units], [n_tile])
    ):
        cycles += count * n_count * outer_n * tile(rows, units)
        shapes += 1
    return cycles, shapes


def _tile_sizes(extents: Sequence[int], tiles: Sequence[int]) -> Iterator[tuple[int, int]]:
    """(how many tiles, points of each) for every shape of tile, whole and short."""
    per_dim = [
        ((extent // tile, tile), (1, extent % tile)) for extent, tile in zip(extents, tiles, strict=True)
    ]
    for parts in itertools.product(*per_dim):
        count, points = math.prod(part[0] for part in parts), math.prod(part[1] for part in parts)
        if count and points:
            yield count, points


def _k_point_cycles(shape: Shape, rows: int, vectors: int, pack_lhs: bool, pack_rhs: bool) -> float:
    products = rows * vectors / (2.0 if shape.target.has_fma else 1.0)
    if not shape.kernel.acc_dtype.is_floating_point:
        products = rows * vectors * 2.0
    loads = (rows + vectors) / 2.0 * (_LONE_VECTOR_FACTOR if vectors == 1 else 1.0)
    if not pack_lhs and shape.converts(shape.kernel.lhs):
        loads += rows * _CONVERT_CYCLES
    if not pack_rhs and shape.converts(shape.kernel.rhs):
        loads += vectors * _CONVERT_CYCLES
    issue = (rows * vectors + rows + vectors + 3) / 5.0
    fetched = 0.0 if shape.rhs_stays_in_l1 else vectors * shape.target.vector_bytes / _L2_BYTES_PER_CYCLE
    sets = 1 << (max(1, _CHAINS // (rows * vectors)).bit_length() - 1)
    slowest = max(products, loads, issue, fetched, _LATENCY / sets)
    # What is not the bottleneck still gets in its way now and then, loads most of all.
    return slowest + _INTERFERENCE * (products + 2 * loads + issue + fetched)


def _epilogue_cycles(shape: Shape, lanes: int) -> float:
    """Per vector of sums: the body, and each access by its stride along the vector dim."""
    cycles = len(shape.kernel.epilogue.body) * 0.5
    for address in list(shape.kernel.addresses())[2:]:
        contiguous = lanes == 1 or shape.n_extent == 1 or shape.n_stride(address) in (0, 1)
        cycles += 1.0 if contiguous and not address.dynamic else lanes * _STRIDED_CYCLES
    return cycles


def _pack_cycles(shape: Shape, address: Address, dims: Sequence[int], is_kept: bool) -> float:
    """Per element of the operand at `address`, packed along the innermost of `dims`."""
    if is_kept:
        return _KEEP_CYCLES
    if not dims or address.stride_of(dims[-1]) in (0, 1):
        return _COPY_CYCLES * (1 + _WORD_SHARE * (shape.group - 1))
    dims_of_runs = shape.kernel.k if shape.group == 1 else shape.kernel.k[-1:]
    runs = (d for d in dims_of_runs if address.stride_of(d) == 1)
    return _TRANSPOSE_CYCLES if any(shape.kernel.extents[d] >= shape.lanes * shape.group for d in runs) else (
        _GATHER_CYCLES * shape.group)


def _in_place_factor(shape: Shape, m_tile: tuple[int, ...], pack_lhs: bool, pack_rhs: bool) -> float:
    """What reading operands where they lie costs more than reading panels."""
    factor = 1.0
    if not pack_lhs and shape.lhs_is_far:
        factor *= _FAR_LHS_FACTOR
    if not pack_lhs and _rows_share_a_set(shape, m_tile):
        factor *= _ALIASED_FACTOR
    if pack_rhs or shape.rhs_stays_in_l1 or shape.m_points <= math.prod(m_tile) or shape.streams_operands:
        return factor
    rhs_bytes = shape.k_steps * shape.n_points * shape.acc_bytes
    factor *= next(cost for share, cost in _IN_PLACE_FACTORS if rhs_bytes < share * shape.target.l2_bytes)
    k_bytes = shape.step_bytes(shape.kernel.rhs, shape.kernel.k)
    aliased = k_bytes and k_bytes % _PAGE_BYTES == 0 and shape.k_steps > 64
    return factor * (_ALIASED_FACTOR if aliased else 1.0)


def _rows_share_a_set(shape: Shape, m_tile: tuple[int, ...]) -> bool:
    """Whether the rows of a tile are so many pages apart that one set of L1 cannot hold their lines."""
    if not m_tile or not shape.row_bytes:
        return False
    ways = shape.target.l1_bytes // _PAGE_BYTES - 2
    return m_tile[-1] > ways * (_PAGE_BYTES // math.gcd(_PAGE_BYTES, shape.row_bytes))
