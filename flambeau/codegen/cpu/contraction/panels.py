"""Where the elements of a contraction's operands are: in the kernel's own buffers, or packed into panels."""

from __future__ import annotations

import math

from flambeau.ir.records import dataclass

__all__ = ["Operand", "Panels", "row_major"]


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
class Panels:
    """A packed operand: dense panels [outer point][tile of the inner dim][k][width] in scratch `buffer`.

    outer_dims: the batch dims, then the role's own but its innermost; source: the operand as the kernel has it.
    """

    buffer: int
    source: Operand
    outer_dims: tuple[int, ...]
    outer_extents: tuple[int, ...]
    inner: int | None
    inner_extent: int
    width: int
    k_points: int

    @property
    def tiles(self) -> int:
        """Tiles along the inner dim."""
        return -(-self.inner_extent // self.width)

    @property
    def count(self) -> int:
        return math.prod(self.outer_extents) * self.tiles

    @property
    def panel_elements(self) -> int:
        return self.k_points * self.width

    @property
    def width_of_last(self) -> int:
        """Elements of the last tile along the inner dim."""
        return self.inner_extent - (self.tiles - 1) * self.width

    @property
    def strides(self) -> tuple[int, ...]:
        """Elements from panel to panel along (outer dims..., tiles)."""
        steps = [self.panel_elements]
        for extent in reversed((*self.outer_extents, self.tiles)[1:]):      # the outermost may be a runtime number
            steps.append(steps[-1] * extent)
        return tuple(reversed(steps))


@dataclass(frozen=True)
class Scratch:
    """Buffers beyond the kernel's params, by their number in the ABI's table, None where not needed."""

    lhs: int | None
    rhs: int | None
    partial: int | None
    nbytes: tuple[int, ...]


def row_major(dims: tuple[int, ...], extents: tuple[int, ...]) -> dict[int, int]:
    """dim -> row-major stride."""
    strides, step = {}, 1
    for dim, extent in zip(reversed(dims), reversed(extents), strict=True):
        strides[dim] = step
        step *= extent
    return strides
