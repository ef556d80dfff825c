"""Where the tiles of a contraction are: walks the tiles of a task, and gives each tile's coordinates and addresses."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence

import llvmlite.ir as ll

from flambeau.codegen.cpu.contraction.packing import offset_of, panel_offset, unflatten
from flambeau.codegen.cpu.contraction.panels import Operand, Panels
from flambeau.codegen.cpu.contraction.plan import Plan
from flambeau.codegen.cpu.llvm.emitter import I64, Emitter
from flambeau.codegen.cpu.llvm.numbers import Int, Number, number_of
from flambeau.ir.kernel import Address
from flambeau.ir.records import dataclass

__all__ = [
    "Position",
    "address_pointer",
    "clipped",
    "lhs_pointer",
    "rhs_pointer",
    "row_shapes",
    "walk_tiles",
]


@dataclass(frozen=True)
class Position:
    """A tile: coordinates of its first point, its extent along each m dim and n, and its numbers: among all tiles, of
    its place in the task, and of its shape (row shapes times column shapes). All are runtime values."""

    batch: list[ll.Value]
    m: list[ll.Value]
    n_outer: list[ll.Value]
    n: ll.Value
    m_sizes: list[ll.Value]
    n_size: ll.Value
    number: ll.Value
    slot: ll.Value
    shape: ll.Value


def row_shapes(plan: Plan) -> list[tuple[int, ...]]:
    """Rows along each m dim, for every kind of tile: whole ones, and short ones where a tile does not divide."""
    choices = []
    for extent, tile in zip(plan.extents(plan.kernel.m), plan.schedule.m_tile, strict=True):
        left = plan.left_over(extent, tile)
        choices.append(([tile] if isinstance(extent, Number) or extent >= tile else []) + ([left] if left else []))
    return list(itertools.product(*choices))


def walk_tiles(b: Emitter, plan: Plan, task: ll.Value, visit: Callable[[Position], None]) -> None:
    """Call visit for each tile of a task (of one split): its m tiles, and inside them its n tiles."""
    m_size, n_size, m_tiles, n_tiles = map(b.index, (plan.m_block, plan.n_block, plan.m_tiles, plan.n_tiles))
    batch, n_block, m_block = unflatten(b, task, [plan.batch_points, plan.n_blocks, plan.m_blocks])
    batch_point = unflatten(b, batch, plan.extents(plan.kernel.batch))
    m_first, n_first = b.mul(m_block, m_size), b.mul(n_block, n_size)
    m_last = b.add(m_first, clipped(b, m_first, m_size, m_tiles))
    n_last = b.add(n_first, clipped(b, n_first, n_size, n_tiles))

    def m_tile(m_number: ll.Value) -> None:
        m, m_sizes, row_shape = _rows_at(b, plan, m_number)
        base = b.mul(b.add(b.mul(batch, m_tiles), m_number), n_tiles)
        first_slot = b.mul(b.sub(m_number, m_first), n_size)

        def n_tile(n_number: ll.Value) -> None:
            n_outer, n, n_size, shape = _columns_at(b, plan, n_number, row_shape)
            slot = b.add(first_slot, b.sub(n_number, n_first))
            visit(Position(batch_point, m, n_outer, n, m_sizes, n_size, b.add(base, n_number), slot, shape))

        _range(b, n_first, n_last, plan.n_block, n_tile, "n")

    _range(b, m_first, m_last, plan.m_block, m_tile, "m")


def lhs_pointer(b: Emitter, plan: Plan, where: Position, k_offset: ll.Value) -> ll.Value:
    """lhs at the tile's first row, `k_offset` elements into k."""
    return _operand_pointer(b, plan.lhs, _lhs_coordinates(plan, where), plan.lhs_panels, k_offset)


def rhs_pointer(b: Emitter, plan: Plan, where: Position, k_offset: ll.Value) -> ll.Value:
    """rhs at the tile's first column, `k_offset` elements into k."""
    return _operand_pointer(b, plan.rhs, _rhs_coordinates(plan, where), plan.rhs_panels, k_offset)


def address_pointer(b: Emitter, plan: Plan, address: Address, where: Position) -> ll.Value:
    """Element of an epilogue address at the tile's first point, dynamic terms left out."""
    value_of = dict(_lhs_coordinates(plan, where)) | dict(_rhs_coordinates(plan, where))
    at = offset_of(b, list(value_of.values()), [number_of(address.step_of(d)) for d in value_of])
    dtype = plan.kernel.params[address.buffer].dtype.name
    return b.element(b.buffer(address.buffer), b.add(at, b.index(address.offset)), dtype)


def clipped(b: Emitter, first: ll.Value, size: ll.Value, end: ll.Value) -> ll.Value:
    """min(size, end - first), and no less than 0."""
    rest = b.sub(end, first)
    if isinstance(rest, ll.Constant) and isinstance(size, ll.Constant):
        return b.index(max(0, min(size.constant, rest.constant)))
    zero = b.index(0)
    rest = b.select(b.icmp_signed(">", rest, zero), rest, zero)
    return b.select(b.icmp_signed("<", rest, size), rest, size)


def _range(
    b: Emitter, first: ll.Value, last: ll.Value, at_most: Int, body: Callable[[ll.Value], None], name: str
) -> None:
    if at_most == 1:
        body(first)
    else:
        b.loop(first, last, 1, lambda i: body(b.opaque(i)), name=name)


def _rows_at(b: Emitter, plan: Plan, number: ll.Value) -> tuple[list[ll.Value], list[ll.Value], ll.Value]:
    """First point and extents of m tile `number`, and the number of its row shape: a bit for each m dim that its
    tile does not divide, set where the tile is short."""
    starts, sizes, shape = [], [], b.index(0)
    extents, tiles = plan.extents(plan.kernel.m), plan.schedule.m_tile
    for coordinate, extent, tile in zip(
        unflatten(b, number, plan.tiles_along_m), extents, tiles, strict=True
    ):
        starts.append(b.mul(coordinate, b.index(tile)))
        left = plan.left_over(extent, tile)
        if left == 0 or (isinstance(extent, int) and extent < tile):
            sizes.append(b.index(tile if left == 0 else left))
            continue
        is_short = b.icmp_signed("==", coordinate, b.index(extent // tile))
        sizes.append(b.select(is_short, b.index(left), b.index(tile)))
        shape = b.add(b.mul(shape, b.index(2)), b.zext(is_short, I64))
    return starts, sizes, shape


def _columns_at(
    b: Emitter, plan: Plan, number: ll.Value, row_shape: ll.Value
) -> tuple[list[ll.Value], ll.Value, ll.Value, ll.Value]:
    """Outer n coordinates, first column, columns and shape of n tile `number`."""
    *outer, along = unflatten(b, number, [*plan.extents(plan.n_outer), plan.tiles_along_n])
    first, shapes = b.mul(along, b.index(plan.columns)), plan.column_shapes
    if len(shapes) == 1 and not shapes[0].masked:
        return outer, first, b.index(shapes[0].count), row_shape
    is_last = b.icmp_signed("==", along, b.index(plan.tiles_along_n - 1))
    size = b.select(is_last, b.index(plan.columns_in_last), b.index(plan.columns))
    if len(shapes) == 1:
        return outer, first, size, row_shape
    return outer, first, size, b.add(b.mul(row_shape, b.index(2)), b.zext(is_last, I64))


def _lhs_coordinates(plan: Plan, where: Position) -> list[tuple[int, ll.Value]]:
    return list(zip((*plan.kernel.batch, *plan.kernel.m), (*where.batch, *where.m), strict=True))


def _rhs_coordinates(plan: Plan, where: Position) -> list[tuple[int, ll.Value]]:
    inner = [] if plan.n_inner is None else [(plan.n_inner, where.n)]
    return [*zip((*plan.kernel.batch, *plan.n_outer), (*where.batch, *where.n_outer), strict=True), *inner]


def _operand_pointer(
    b: Emitter,
    operand: Operand,
    coordinates: Sequence[tuple[int, ll.Value]],
    panels: Panels | None,
    k_offset: ll.Value,
) -> ll.Value:
    if panels is not None:
        value_of = dict(coordinates)
        first = b.index(0) if panels.inner is None else value_of[panels.inner]
        at = panel_offset(b, panels, [value_of[d] for d in panels.outer_dims], first)
    else:
        at = offset_of(b, [value for _, value in coordinates], [operand.stride_of(d) for d, _ in coordinates])
        at = b.add(at, b.index(operand.offset))
    return b.element(b.buffer(operand.buffer), b.add(at, k_offset), operand.dtype)
