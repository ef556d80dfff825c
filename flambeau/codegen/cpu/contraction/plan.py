"""A scheduled ContractionKernel -> the numbers its code is emitted from: tiles, tasks, operand layouts, scratch.

Tiles are numbered row-major: m tiles over the m dims, n tiles over the outer n dims and then along the innermost
one; the last tile of a dim may be short. A task is `m_block` x `n_block` tiles of one batch point; consecutive
tasks share their columns of rhs, so it stays in cache while m advances.
"""

from __future__ import annotations

import math
from functools import cached_property

from flambeau.codegen.cpu.contraction.panels import Operand, Panels, row_major
from flambeau.codegen.cpu.llvm.emitter import storage_bytes
from flambeau.ir.kernel import Address, ContractionKernel, ContractionSchedule, Extent
from flambeau.ir.kernel.contraction_dims import merge_strides
from flambeau.ir.records import dataclass
from flambeau.ir.target import Target

_ALIGN = 64


@dataclass(frozen=True)
class Plan:
    """Everything static about one contraction. `extent` of a role's dims come from the kernel."""

    kernel: ContractionKernel
    target: Target

    @property
    def schedule(self) -> ContractionSchedule:
        schedule = self.kernel.schedule
        assert isinstance(schedule, ContractionSchedule), "contractions are scheduled by the passes, before codegen"
        return schedule

    def extents(self, dims: tuple[int, ...]) -> tuple[int, ...]:
        return tuple(self.kernel.extents[d] for d in dims)

    def left_over(self, extent: Extent, tile: int) -> int:
        """Rows of the last tile along an m dim, 0 if it is whole."""
        if isinstance(extent, int):
            return extent % tile
        return next(residue for name, modulus, residue in self.kernel.residues if (name, modulus) == (extent, tile))

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
    def has_runtime_rows(self) -> bool:
        """Whether the extent of the outermost m dim is a runtime number."""
        return any(isinstance(extent, str) for extent in self.extents(self.kernel.m[:1]))

    @cached_property
    def m_tile_counts(self) -> list[int | None]:
        """Tiles along each m dim, None for those of a runtime number."""
        if not self.has_runtime_rows:
            return list(self.tiles_along_m)
        sizes = zip(self.extents(self.kernel.m[1:]), self.schedule.m_tile[1:], strict=True)
        return [None, *[-(-extent // tile) for extent, tile in sizes]]

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
    def batch_count(self) -> int | None:
        """Points of the batch dims, None if they are a runtime number."""
        extents = self.extents(self.kernel.batch)
        return None if any(isinstance(extent, str) for extent in extents) else math.prod(extents)

    @cached_property
    def batch_points(self) -> int:
        return math.prod(self.extents(self.kernel.batch))

    @cached_property
    def m_blocks(self) -> int:
        assert isinstance(self.schedule.m_block, int), "a runtime number of tiles makes a runtime number of blocks"
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
        if self.k_points == 0:
            return ((0, 0, 0),)
        rows = [(self.kernel.extents[d], self.lhs.stride_of(d), self.rhs.stride_of(d)) for d in self.kernel.k]
        loops = merge_strides(rows) or ((1, 0, 0),)
        return tuple((extent, lhs, rhs) for extent, lhs, rhs in loops)

    @cached_property
    def block_level(self) -> int:
        """The k loop that blocks cut: the outermost one whose inner loops fit in a block. Loops further out give one
        point to each block."""
        level = 0
        if self.schedule.k_block:
            while level + 1 < len(self.k_loops) and self._points_from(level + 1) > self.schedule.k_block:
                level += 1
        return level

    @cached_property
    def k_step(self) -> int:
        """Points of loop `block_level` in one block (the last may have fewer): one pass over a tile."""
        extent = self.k_loops[self.block_level][0]
        if self.schedule.k_block:
            return max(
                1, min(extent, self.schedule.k_block // max(1, self._points_from(self.block_level + 1)))
            )
        return max(1, -(-extent // self.schedule.split_k))

    def _points_from(self, level: int) -> int:
        return math.prod(loop[0] for loop in self.k_loops[level:])

    @cached_property
    def tile_loops(self) -> tuple[tuple[int, int, int], ...]:
        """The k loops of a microkernel; the outermost runs over one block."""
        return self.k_loops[self.block_level :]

    @cached_property
    def outer_loops(self) -> tuple[tuple[int, int, int], ...]:
        """The k loops outside of a block."""
        return self.k_loops[: self.block_level]

    @cached_property
    def blocks_along(self) -> int:
        """Blocks of loop `block_level`."""
        return max(1, -(-self.k_loops[self.block_level][0] // self.k_step))

    @cached_property
    def k_blocks(self) -> int:
        return max(1, math.prod(loop[0] for loop in self.outer_loops)) * self.blocks_along

    @cached_property
    def blocks_per_split(self) -> int:
        return -(-self.k_blocks // self.schedule.split_k)

    @cached_property
    def splits(self) -> int:
        """Slices of k that have any block: at most schedule.split_k."""
        return -(-self.k_blocks // self.blocks_per_split)

    @cached_property
    def is_blocked(self) -> bool:
        """Whether a tile is visited several times, its sums kept in memory between."""
        return self.blocks_per_split > 1

    @cached_property
    def block_count(self) -> int | None:
        """Points of loop `block_level` in every block, None if the last has fewer."""
        extent = self.k_loops[self.block_level][0]
        return min(extent, self.k_step) if extent % self.k_step == 0 else None

    # -- operands and scratch -----------------------------------------------------------------------------------

    @cached_property
    def lhs(self) -> Operand:
        """lhs as the microkernel reads it; packed, only its k strides and its innermost m stride mean something."""
        return self.operand(self.kernel.lhs) if self.lhs_panels is None else self.packed(self.lhs_panels)

    @cached_property
    def rhs(self) -> Operand:
        """rhs as the microkernel reads it; packed, only its k strides and its innermost n stride mean something."""
        return self.operand(self.kernel.rhs) if self.rhs_panels is None else self.packed(self.rhs_panels)

    def packed(self, panels: Panels) -> Operand:
        strides = row_major(self.kernel.k, self.extents(self.kernel.k))
        inner = () if panels.inner is None else ((panels.inner, 1),)
        return Operand(
            panels.buffer, self.acc, 0, (*((d, s * panels.width) for d, s in strides.items()), *inner)
        )

    @cached_property
    def lhs_panels(self) -> Panels | None:
        if not self.schedule.pack_lhs:
            return None
        assert all(tile == 1 for tile in self.schedule.m_tile[:-1]), (
            "a packed lhs is tiled along its innermost m dim only"
        )
        width = self.schedule.m_tile[-1] if self.kernel.m else 1
        return self.panels(len(self.kernel.params), self.kernel.lhs, self.kernel.m, width)

    @cached_property
    def rhs_panels(self) -> Panels | None:
        if not self.schedule.pack_rhs:
            return None
        buffer = len(self.kernel.params) + self.schedule.pack_lhs
        return self.panels(buffer, self.kernel.rhs, self.kernel.n, self.columns)

    def panels(self, buffer: int, address: Address, dims: tuple[int, ...], width: int) -> Panels:
        outer = (*self.kernel.batch, *dims[:-1])
        inner = dims[-1] if dims else None
        extent = 1 if inner is None else self.kernel.extents[inner]
        return Panels(
            buffer, self.operand(address), outer, self.extents(outer), inner, extent, width, self.k_points
        )

    def operand(self, address: Address) -> Operand:
        """The operand as the kernel has it."""
        dtype = self.kernel.params[address.buffer].dtype.name
        return Operand(address.buffer, dtype, address.offset, address.known_strides)

    @cached_property
    def partial_buffer(self) -> int | None:
        """Number of the buffer that keeps the partial sums of splits, None without splits."""
        return (
            len(self.kernel.params) + self.schedule.pack_lhs + self.schedule.pack_rhs
            if self.splits > 1
            else None
        )

    @cached_property
    def n_scratch(self) -> int:
        """How many scratch buffers there are."""
        return self.schedule.pack_lhs + self.schedule.pack_rhs + (self.splits > 1)

    @cached_property
    def scratch_bytes(self) -> tuple[int, ...]:
        """Bytes of each scratch buffer, in the order of their numbers."""
        elements = [
            panels.count * panels.panel_elements for panels in (self.lhs_panels, self.rhs_panels) if panels
        ]
        if self.splits > 1:
            elements.append(self.splits * self.partial_elements)
        return tuple(max(1, -(-count * storage_bytes(self.acc) // _ALIGN)) * _ALIGN for count in elements)

    @cached_property
    def partial_elements(self) -> int:
        """Elements of the partial sums of one split: a slot of `tile_elements` for each tile."""
        return self.batch_points * self.m_tiles * self.n_tiles * self.tile_elements
