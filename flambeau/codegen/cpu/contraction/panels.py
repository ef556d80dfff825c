"""Where the elements of a contraction's operands are: in the kernel's own buffers, or packed into panels."""

from __future__ import annotations

import math

from flambeau.codegen.cpu.llvm.numbers import Int, ceil_div
from flambeau.ir.records import dataclass

__all__ = ["Operand", "Panels", "row_major"]


@dataclass(frozen=True)
class Columns:
    """Of a tile: how many, in whole vectors where `masked`; then only some lanes of the last vector are there, how many is
    known when the kernel is called."""

    count: int
    masked: bool = False


@dataclass(frozen=True)
class Operand:
    """Where the elements of lhs or rhs are: param (or scratch) `buffer`, `offset` and `strides` in elements."""

    buffer: int
    dtype: str
    offset: int
    strides: tuple[tuple[int, Int], ...]

    def stride_of(self, dim: int) -> Int:
        return dict(self.strides).get(dim, 0)


@dataclass(frozen=True)
class Panels:
    """A packed operand: dense panels [outer point][tile of the inner dim][step][width][group] in scratch `buffer`. A step
    is `group` points along the innermost k dim, those beyond its end zero, and mostly 1.

    dtype: of their elements; outer_dims: the batch dims, then the role's own but its innermost; source: the operand as the
    kernel has it; last: the last tile of the inner dim; k_points: with what fills the last step.
    """

    buffer: int
    dtype: str
    source: Operand
    outer_dims: tuple[int, ...]
    outer_extents: tuple[Int, ...]
    inner: int | None
    inner_extent: Int
    width: int
    last: Columns
    k_points: Int
    group: int

    @property
    def tiles(self) -> Int:
        """Tiles along the inner dim."""
        return ceil_div(self.inner_extent, self.width)

    @property
    def count(self) -> Int:
        return math.prod(self.outer_extents) * self.tiles

    @property
    def panel_elements(self) -> Int:
        return self.k_points * self.width

    @property
    def width_of_last(self) -> Int:
        """Elements of the last tile along the inner dim."""
        return self.inner_extent - (self.tiles - 1) * self.width

    @property
    def strides(self) -> tuple[Int, ...]:
        """Elements from panel to panel along (outer dims..., tiles)."""
        steps = [self.panel_elements]
        for extent in reversed((*self.outer_extents, self.tiles)[1:]):      # the outermost may be a runtime number
            steps.append(steps[-1] * extent)
        return tuple(reversed(steps))


def row_major(dims: tuple[int, ...], extents: tuple[Int, ...]) -> dict[int, Int]:
    """dim -> row-major stride."""
    strides: dict[int, Int] = {}
    step: Int = 1
    for dim, extent in zip(reversed(dims), reversed(extents), strict=True):
        strides[dim] = step
        step *= extent
    return strides
