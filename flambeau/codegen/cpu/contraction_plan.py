"""A scheduled ContractionKernel -> the numbers its code is emitted from: tiles, tasks, operand layouts, scratch.

Tiles are numbered row-major: m tiles over the m dims, n tiles over the outer n dims and then along the innermost
one; the last tile of a dim may be short. A task is `m_block` x `n_block` tiles of one batch point; consecutive
tasks share their columns of rhs, so it stays in cache while m advances.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

from flambeau.codegen.cpu.emitter import storage_bytes
from flambeau.ir.contraction import merge_strides
from flambeau.ir.kernel import Address, ContractionKernel, ContractionSchedule
from flambeau.ir.target import Target

_ALIGN = 64
_PACK_ELEMENTS_PER_TASK = 32 << 10
# Rows of a packed lhs end with this many idle elements, so that a power-of-two K cannot put all rows of a tile
# into one set of the L1 cache.
_ROW_GAP_BYTES = 64


@dataclass(frozen=True)
class Operand:
    """Where the elements of lhs or rhs are: param (or scratch) `buffer`, `offset` and `strides` in elements."""

    buffer: int
    dtype: str
    offset: int
    strides: tuple[tuple[int, int], ...]

    def stride_of(self, dim: int) -> int:
        return dict(self.strides).get(dim, 0)


@dataclass(frozen=True)
class Scratch:
    """Buffers beyond the kernel's params, by their number in the ABI's table, None where not needed."""

    lhs: int | None
    rhs: int | None
    partial: int | None
    nbytes: tuple[int, ...]


@dataclass(frozen=True)
class Plan:
    """Everything static about one contraction. `extent` of a role's dims come from the kernel."""

    kernel: ContractionKernel
    target: Target

    @property
    def schedule(self) -> ContractionSchedule:
        schedule = self.kernel.schedule
        assert schedule is not None, "contractions are scheduled by the passes, before codegen"
        return schedule

    def extents(self, dims: tuple[int, ...]) -> tuple[int, ...]:
        return tuple(self.kernel.extents[d] for d in dims)

    # -- element types ------------------------------------------------------------------------------------------

    @cached_property
    def acc(self) -> str:
        """The dtype sums are kept in: acc_dtype, or f32 for the half floats."""
        name = self.kernel.acc_dtype.name
        assert name != "bool", "a contraction of bools is lowered over integers"
        return "f32" if name in ("f16", "bf16") else name

    @cached_property
    def lanes(self) -> int:
        """Accumulators in one vector."""
        return self.target.lanes(storage_bytes(self.acc))

    @cached_property
    def walks_k(self) -> bool:
        """Whether vectors run along k (dot products) and not along n."""
        return self.schedule.vectors == "k"

    # -- tiles --------------------------------------------------------------------------------------------------

    @cached_property
    def n_outer(self) -> tuple[int, ...]:
        return self.kernel.n[:-1]

    @cached_property
    def n_inner(self) -> int | None:
        return self.kernel.n[-1] if self.kernel.n else None

    @cached_property
    def n_extent(self) -> int:
        return 1 if self.n_inner is None else self.kernel.extents[self.n_inner]

    @cached_property
    def columns(self) -> int:
        """Columns of a whole tile."""
        return self.schedule.n_vectors * (1 if self.walks_k else self.lanes)

    @cached_property
    def columns_in_last(self) -> int:
        """Columns of the last tile along the innermost n dim."""
        return self.n_extent - (self.tiles_along_n - 1) * self.columns

    @cached_property
    def tiles_along_n(self) -> int:
        return -(-self.n_extent // self.columns)

    @cached_property
    def n_tiles(self) -> int:
        return math.prod(self.extents(self.n_outer)) * self.tiles_along_n

    @cached_property
    def tiles_along_m(self) -> tuple[int, ...]:
        sizes = zip(self.extents(self.kernel.m), self.schedule.m_tile, strict=True)
        return tuple(-(-extent // tile) for extent, tile in sizes)

    @cached_property
    def m_tiles(self) -> int:
        return math.prod(self.tiles_along_m)

    @cached_property
    def rows(self) -> int:
        """Rows of a whole tile."""
        return math.prod(self.schedule.m_tile)

    @cached_property
    def row_stride(self) -> int:
        """Elements from row to row of a spilled tile."""
        return self.columns if not self.walks_k else 1 << (self.columns - 1).bit_length()

    @cached_property
    def tile_elements(self) -> int:
        return self.rows * self.row_stride

    @cached_property
    def epilogue_lanes(self) -> int:
        """Vector length the epilogue works in."""
        return self.row_stride if self.walks_k else self.lanes

    # -- tasks --------------------------------------------------------------------------------------------------

    @cached_property
    def batch_points(self) -> int:
        return math.prod(self.extents(self.kernel.batch))

    @cached_property
    def m_blocks(self) -> int:
        return -(-self.m_tiles // self.schedule.m_block)

    @cached_property
    def n_blocks(self) -> int:
        return -(-self.n_tiles // self.schedule.n_block)

    @cached_property
    def tasks(self) -> int:
        """Tasks of one split of k."""
        return self.batch_points * self.m_blocks * self.n_blocks

    # -- k ------------------------------------------------------------------------------------------------------

    @cached_property
    def k_points(self) -> int:
        return math.prod(self.extents(self.kernel.k))

    @cached_property
    def k_loops(self) -> tuple[tuple[int, int, int], ...]:
        """(extent, lhs stride, rhs stride) outer to inner, merged where both operands' strides compose."""
        rows = [(self.kernel.extents[d], self.lhs.stride_of(d), self.rhs.stride_of(d)) for d in self.kernel.k]
        loops = merge_strides(rows) or ((1, 0, 0),)
        return tuple((extent, lhs, rhs) for extent, lhs, rhs in loops)

    @cached_property
    def k_step(self) -> int:
        """Points of the outermost k loop that one pass over a tile takes."""
        outer = self.k_loops[0][0]
        if not self.schedule.k_block:
            return self.k_slice
        inner = math.prod(loop[0] for loop in self.k_loops[1:])
        return max(1, min(outer, self.schedule.k_block // max(1, inner)))

    @cached_property
    def k_slice(self) -> int:
        """Points of the outermost k loop that one split takes (the last may have fewer, or none)."""
        return -(-self.k_loops[0][0] // self.schedule.split_k)

    @cached_property
    def is_blocked(self) -> bool:
        """Whether a tile is visited several times, its sums kept in memory between."""
        return self.k_step < self.k_slice

    @cached_property
    def has_dynamic_k(self) -> bool:
        """Whether the outermost k loop's trip count differs from call to call."""
        return self.is_blocked or self.schedule.split_k > 1

    # -- operands and scratch -----------------------------------------------------------------------------------

    @cached_property
    def pack_element_bytes(self) -> int:
        return storage_bytes(self.acc)

    @cached_property
    def lhs(self) -> Operand:
        """lhs as the microkernel reads it."""
        if self.scratch.lhs is None:
            return self.operand(self.kernel.lhs)
        dims = (*self.kernel.batch, *self.kernel.m)
        strides = {d: s * self.packed_row for d, s in row_major(dims, self.extents(dims)).items()}
        strides |= row_major(self.kernel.k, self.extents(self.kernel.k))
        return Operand(self.scratch.lhs, self.acc, 0, tuple(strides.items()))

    @cached_property
    def rhs(self) -> Operand:
        """rhs as the microkernel reads it. Packed: panels [batch point][n tile][k][columns], k strides as here."""
        if self.scratch.rhs is None:
            return self.operand(self.kernel.rhs)
        strides = row_major(self.kernel.k, self.extents(self.kernel.k))
        scaled = tuple((d, s * self.columns) for d, s in strides.items())
        inner = ((self.n_inner, 1),) if self.n_inner is not None else ()
        return Operand(self.scratch.rhs, self.acc, 0, (*scaled, *inner))

    def operand(self, address: Address) -> Operand:
        """The operand as the kernel has it."""
        dtype = self.kernel.params[address.buffer].dtype.name
        return Operand(address.buffer, dtype, address.offset, address.strides)

    @cached_property
    def packed_row(self) -> int:
        """Elements from row to row of a packed lhs."""
        gap = _ROW_GAP_BYTES // self.pack_element_bytes
        return -(-self.k_points // gap) * gap + gap

    @cached_property
    def panel_elements(self) -> int:
        """Elements of one panel (one n tile, all of k) of a packed rhs."""
        return self.k_points * self.columns

    @cached_property
    def pack_k_chunk(self) -> int:
        """Points of the outermost k dim that one rhs packing task copies."""
        if not self.kernel.k:
            return 1
        outer = self.kernel.extents[self.kernel.k[0]]
        per_point = max(1, self.panel_elements // max(1, outer))
        return max(1, min(outer, _PACK_ELEMENTS_PER_TASK // per_point))

    @cached_property
    def pack_k_chunks(self) -> int:
        return -(-self.kernel.extents[self.kernel.k[0]] // self.pack_k_chunk) if self.kernel.k else 1

    @cached_property
    def lhs_rows(self) -> int:
        """Rows of a packed lhs."""
        return self.batch_points * math.prod(self.extents(self.kernel.m))

    @cached_property
    def pack_rows_per_task(self) -> int:
        return max(1, _PACK_ELEMENTS_PER_TASK // max(1, self.packed_row))

    @cached_property
    def scratch(self) -> Scratch:
        wanted = {
            "lhs": self.schedule.pack_lhs * self.lhs_rows * self.packed_row,
            "rhs": self.schedule.pack_rhs * self.batch_points * self.n_tiles * self.panel_elements,
            "partial": (self.schedule.split_k > 1) * self.schedule.split_k * self.partial_elements,
        }
        numbers, nbytes, first = {}, [], len(self.kernel.params)
        for name, elements in wanted.items():
            numbers[name] = first + len(nbytes) if elements else None
            if elements:
                nbytes.append(-(-elements * self.pack_element_bytes // _ALIGN) * _ALIGN)
        return Scratch(**numbers, nbytes=tuple(nbytes))

    @cached_property
    def partial_elements(self) -> int:
        """Elements of the partial sums of one split: a slot of `tile_elements` for each tile."""
        return self.batch_points * self.m_tiles * self.n_tiles * self.tile_elements


def row_major(dims: tuple[int, ...], extents: tuple[int, ...]) -> dict[int, int]:
    """dim -> row-major stride."""
    strides, step = {}, 1
    for dim, extent in zip(reversed(dims), reversed(extents), strict=True):
        strides[dim] = step
        step *= extent
    return strides
