"""A scheduled ContractionKernel -> the numbers its code is emitted from: tiles, tasks, operand layouts, scratch.

Tiles are numbered row-major: m tiles over the m dims, n tiles over the outer n dims and then along the innermost
one; the last tile of a dim may be short. A task is `m_block` x `n_block` tiles of one batch point; consecutive
tasks share their columns of rhs, so it stays in cache while m advances.
"""

from __future__ import annotations

import math
from functools import cached_property

from flambeau.codegen.cpu.contraction.panels import Columns, Operand, Panels, row_major
from flambeau.codegen.cpu.llvm.emitter import storage_bytes
from flambeau.codegen.cpu.llvm.numbers import Int, Number, ceil_div, number_of
from flambeau.ir.kernel import Address, ContractionKernel, ContractionSchedule
from flambeau.ir.kernel.contraction_dims import merge_strides
from flambeau.ir.records import dataclass
from flambeau.ir.target import Target

_ALIGN = 64

KLoop = tuple[Int, Int, Int]


@dataclass(frozen=True)
class Plan:
    """Everything that code is made from. What a general kernel has a name for is a `Number`."""

    kernel: ContractionKernel
    target: Target

    @property
    def schedule(self) -> ContractionSchedule:
        schedule = self.kernel.schedule
        assert isinstance(schedule, ContractionSchedule), "contractions are scheduled by the passes, before codegen"
        return schedule

    def extents(self, dims: tuple[int, ...]) -> tuple[Int, ...]:
        return tuple(number_of(self.kernel.extents[d]) for d in dims)

    def residue(self, number: Int, modulus: int) -> int | None:
        """number % modulus, None where that is not known."""
        if modulus == 1:
            return 0
        if isinstance(number, int):
            return number % modulus
        if number.op == "mul":
            x, y = (self.residue(factor, modulus) for factor in number.operands if not isinstance(factor, str))
            return 0 if 0 in (x, y) else None if x is None or y is None else x * y % modulus
        known = ((rest, of) for name, of, rest in self.kernel.residues if number == Number.named(name))
        return next((rest % modulus for rest, of in known if of % modulus == 0), None)

    def left_over(self, extent: Int, tile: int) -> int:
        """Rows of the last tile along an m dim, 0 if it is whole."""
        left = self.residue(extent, tile)
        assert left is not None, "what tiles leave over is told of a runtime number of rows"
        return left

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
    def group(self) -> int:
        """Points of the innermost k dim that are multiplied at once."""
        return self.schedule.group

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
    def n_extent(self) -> Int:
        return 1 if self.n_inner is None else number_of(self.kernel.extents[self.n_inner])

    @cached_property
    def columns(self) -> int:
        """Columns of a whole tile."""
        return self.schedule.n_vectors * (1 if self.walks_k else self.lanes)

    @cached_property
    def columns_in_last(self) -> Int:
        """Columns of the last tile along the innermost n dim."""
        if isinstance(self.n_extent, Number) and (left := self.residue(self.n_extent, self.columns)) is not None:
            return left or self.columns
        return self.n_extent - (self.tiles_along_n - 1) * self.columns

    @cached_property
    def column_shapes(self) -> tuple[Columns, ...]:
        """Of a whole tile and of the last one, if that is shorter (or the only one)."""
        whole = Columns(self.columns)
        if isinstance(last := self.columns_in_last, int):
            if last == self.columns:
                return (whole,)
            return (Columns(last),) if self.tiles_along_n == 1 else (whole, Columns(last))
        width = self.schedule.last_vectors * self.lanes
        in_vectors = self.residue(self.n_extent, self.lanes) == 0
        if width == self.columns:               # in vectors all tiles are whole, else all are masked
            return (Columns(width, not in_vectors),)
        return whole, Columns(width, not in_vectors)

    @cached_property
    def tiles_along_n(self) -> Int:
        return ceil_div(self.n_extent, self.columns)

    @cached_property
    def n_tiles(self) -> Int:
        return math.prod(self.extents(self.n_outer)) * self.tiles_along_n

    @cached_property
    def tiles_along_m(self) -> tuple[Int, ...]:
        sizes = zip(self.extents(self.kernel.m), self.schedule.m_tile, strict=True)
        return tuple(ceil_div(extent, tile) for extent, tile in sizes)

    @cached_property
    def m_tiles(self) -> Int:
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
    def batch_points(self) -> Int:
        return math.prod(self.extents(self.kernel.batch))

    @cached_property
    def m_block(self) -> Int:
        return number_of(self.schedule.m_block)

    @cached_property
    def n_block(self) -> Int:
        return number_of(self.schedule.n_block)

    @cached_property
    def m_blocks(self) -> Int:
        return ceil_div(self.m_tiles, self.m_block)

    @cached_property
    def n_blocks(self) -> Int:
        return ceil_div(self.n_tiles, self.n_block)

    @cached_property
    def tasks(self) -> Int:
        """Tasks of one split of k."""
        return self.batch_points * self.m_blocks * self.n_blocks

    # -- k ------------------------------------------------------------------------------------------------------

    @cached_property
    def k_extents(self) -> tuple[Int, ...]:
        """Of the k dims, the innermost filled up to whole groups."""
        extents = self.extents(self.kernel.k)
        return extents if self.group == 1 else (*extents[:-1], ceil_div(extents[-1], self.group) * self.group)

    @cached_property
    def k_points(self) -> Int:
        return math.prod(self.k_extents)

    @cached_property
    def k_loops(self) -> tuple[KLoop, ...]:
        """(steps, lhs stride, rhs stride) outer to inner, merged where both operands' strides compose."""
        if self.schedule.k_loops:
            return self._told_k_loops()
        if self.k_points == 0:
            return ((0, 0, 0),)
        rows = [(extent, self.lhs.stride_of(d), self.rhs.stride_of(d))
                for d, extent in zip(self.kernel.k, self.k_extents, strict=True)]
        if self.group > 1:
            extent, lhs, rhs = rows[-1]
            rows[-1] = (extent // self.group, lhs * self.group, rhs * self.group)
        loops = merge_strides(rows) or ((1, 0, 0),)                     # type: ignore[arg-type]
        return tuple((extent, lhs, rhs) for extent, lhs, rhs in loops)

    def _told_k_loops(self) -> tuple[KLoop, ...]:
        """Of a general kernel, whose schedule says which dims compose: their strides are those of the innermost."""
        loops: list[KLoop] = []
        at = 0
        for count in self.schedule.k_loops:
            inner = self.kernel.k[at + count - 1]
            group = self.group if inner == self.kernel.k[-1] else 1
            points = math.prod(self.k_extents[at : at + count])
            loops.append((points // group, self.lhs.stride_of(inner) * group, self.rhs.stride_of(inner) * group))
            at += count
        return tuple(loops)

    @cached_property
    def sums_at_once(self) -> bool:
        """Whether all of k is one block."""
        return not self.schedule.k_block and self.schedule.split_k == 1

    @cached_property
    def has_runtime_k(self) -> bool:
        return any(not isinstance(extent, int) for extent, _, _ in self.k_loops)

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
        assert isinstance(extent, int), "blocks of k are of known numbers"
        if self.schedule.k_block:
            return max(
                1, min(extent, self.schedule.k_block // max(1, self._points_from(self.block_level + 1)))
            )
        return max(1, -(-extent // self.schedule.split_k))

    def _points_from(self, level: int) -> int:
        extents = [loop[0] for loop in self.k_loops[level:]]
        return math.prod([extent for extent in extents if isinstance(extent, int)])

    @cached_property
    def tile_loops(self) -> tuple[KLoop, ...]:
        """The k loops of a microkernel; the outermost runs over one block."""
        return self.k_loops[self.block_level :]

    @cached_property
    def outer_loops(self) -> tuple[KLoop, ...]:
        """The k loops outside of a block."""
        return self.k_loops[: self.block_level]

    @cached_property
    def blocks_along(self) -> int:
        """Blocks of loop `block_level`."""
        extent = self.k_loops[self.block_level][0]
        return 1 if self.sums_at_once or not isinstance(extent, int) else max(1, -(-extent // self.k_step))

    @cached_property
    def k_blocks(self) -> int:
        outer = self._points_from(0) // max(1, self._points_from(self.block_level))
        return 1 if self.sums_at_once else max(1, outer) * self.blocks_along

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
    def block_count(self) -> Int | None:
        """Points of loop `block_level` in every block, None if the last has fewer."""
        extent = self.k_loops[self.block_level][0]
        if self.sums_at_once or not isinstance(extent, int):
            return extent
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
        strides = row_major(self.kernel.k, self.k_extents)
        inner = () if panels.inner is None else ((panels.inner, self.group),)
        return Operand(
            panels.buffer, panels.dtype, 0, (*((d, s * panels.width) for d, s in strides.items()), *inner)
        )

    @cached_property
    def lhs_panels(self) -> Panels | None:
        if not self.schedule.pack_lhs:
            return None
        assert all(tile == 1 for tile in self.schedule.m_tile[:-1]), (
            "a packed lhs is tiled along its innermost m dim only"
        )
        width = self.schedule.m_tile[-1] if self.kernel.m else 1
        rows = self.extents(self.kernel.m[-1:])
        last = Columns((self.left_over(rows[0], width) or width) if rows else 1)
        return self.panels(len(self.kernel.params), self.kernel.lhs, self.kernel.m, width, last)

    @cached_property
    def rhs_panels(self) -> Panels | None:
        if not self.schedule.pack_rhs:
            return None
        buffer = len(self.kernel.params) + self.schedule.pack_lhs
        return self.panels(buffer, self.kernel.rhs, self.kernel.n, self.columns, self.column_shapes[-1])

    def panels(self, buffer: int, address: Address, dims: tuple[int, ...], width: int, last: Columns) -> Panels:
        outer = (*self.kernel.batch, *dims[:-1])
        inner = dims[-1] if dims else None
        extent = 1 if inner is None else number_of(self.kernel.extents[inner])
        source = self.operand(address)
        dtype = self.acc if self.group == 1 else source.dtype
        return Panels(
            buffer, dtype, source, outer, self.extents(outer), inner, extent, width, last, self.k_points, self.group
        )

    def operand(self, address: Address) -> Operand:
        """The operand as the kernel has it."""
        dtype = self.kernel.params[address.buffer].dtype.name
        return Operand(address.buffer, dtype, address.offset, strides_of(address))

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
        sizes = [
            panels.count * panels.panel_elements * storage_bytes(panels.dtype)
            for panels in (self.lhs_panels, self.rhs_panels)
            if panels
        ]
        if self.splits > 1:
            sizes.append(self.splits * self.partial_elements * storage_bytes(self.acc))
        known = [size for size in sizes if isinstance(size, int)]
        return tuple(max(1, -(-size // _ALIGN)) * _ALIGN for size in known)

    @cached_property
    def partial_elements(self) -> Int:
        """Elements of the partial sums of one split: a slot of `tile_elements` for each tile."""
        return self.batch_points * self.m_tiles * self.n_tiles * self.tile_elements


def strides_of(address: Address) -> tuple[tuple[int, Int], ...]:
    return tuple([(dim, number_of(stride)) for dim, stride in address.strides])
