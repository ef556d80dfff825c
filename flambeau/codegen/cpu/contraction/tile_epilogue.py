"""The epilogue over a tile of sums in memory: one internal function for every shape of tile, rolled loops over its rows
and vectors, so that a long epilogue is emitted twice at most (whole vectors and the last short one)."""

from __future__ import annotations

import llvmlite.ir as ll

from flambeau.codegen.cpu.contraction.epilogue import EpiloguePoint, evaluate_epilogue
from flambeau.codegen.cpu.contraction.microkernel import epilogue_addresses, internal_function
from flambeau.codegen.cpu.contraction.plan import Plan
from flambeau.codegen.cpu.contraction.tiles import Position, address_pointer
from flambeau.codegen.cpu.llvm.emitter import I32, I64, PTR, Emitter
from flambeau.codegen.cpu.llvm.numbers import number_of
from flambeau.ir.kernel import Address

__all__ = ["call_tile_epilogue", "tile_epilogue"]


def call_tile_epilogue(b: Emitter, epilogue: ll.Function, where: Position, tile: ll.Value) -> None:
    """Run the epilogue on the tile at pointer `tile`; a nonzero status ends the calling phase."""
    coordinates = [*where.batch, *where.m, *where.n_outer, where.n, *where.m_sizes, where.n_size]
    status = b.call(epilogue, [*b.function.args[:3], tile, *coordinates], cconv="fastcc")
    with b.if_then(b.icmp_signed("!=", status, ll.Constant(I32, 0)), likely=False):
        b.ret(status)


def tile_epilogue(module: ll.Module, name: str, plan: Plan) -> ll.Function:
    """`i32 name(ctx, buffers, sizes, tile, coordinates..., sizes...)`: every row of the tile, vector by vector."""
    counts = [len(plan.kernel.batch), len(plan.kernel.m), len(plan.n_outer), 1, len(plan.kernel.m), 1]
    b = internal_function(module, name, I32, [PTR] * 4 + [I64] * sum(counts), plan)
    values = iter(b.function.args[4:])
    batch, m, outer, (n,), m_sizes, (n_size,) = ([next(values) for _ in range(c)] for c in counts)
    zero = b.index(0)
    where = Position(batch, m, outer, n, m_sizes, n_size, zero, zero, zero)
    pointers = {a: address_pointer(b, plan, a, where) for a in epilogue_addresses(plan)}
    dims = (*plan.kernel.batch, *plan.kernel.m, *plan.n_outer)
    index = dict(zip(dims, (*batch, *m, *outer), strict=True))
    _TileEpilogue(b, plan, where).rows(b.function.args[3], pointers, index, 0)
    b.succeed()
    return b.function


class _TileEpilogue:
    def __init__(self, b: Emitter, plan: Plan, where: Position) -> None:
        self.b, self.plan, self.where = b, plan, where

    def rows(
        self, tile: ll.Value, pointers: dict[Address, ll.Value], index: dict[int, ll.Value], level: int
    ) -> None:
        """Loop over the rows of m dim `level` and inward."""
        b, plan = self.b, self.plan
        if level == len(plan.kernel.m):
            self.columns(tile, pointers, index)
            return
        dim = plan.kernel.m[level]
        # Rows in memory are numbered by the tile's own extents, which are shorter at the edges.
        row_elements = b.index(plan.row_stride)
        for size in self.where.m_sizes[level + 1 :]:
            row_elements = b.mul(row_elements, size)

        def row(i: ll.Value) -> None:
            i = b.opaque(i)
            here = b.element(tile, b.mul(i, row_elements), plan.acc)
            self.rows(here, self.moved(pointers, dim, i), index | {dim: b.add(index[dim], i)}, level + 1)

        b.loop(0, self.where.m_sizes[level], 1, row, name="row")

    def columns(self, row: ll.Value, pointers: dict[Address, ll.Value], index: dict[int, ll.Value]) -> None:
        """One row: whole vectors, then the short one that only a last tile can have."""
        b, lanes, shapes = self.b, self.plan.epilogue_lanes, self.plan.column_shapes
        whole, sizes = b.and_(self.where.n_size, b.index(-lanes)), [shape.count for shape in shapes]
        if any(size >= lanes for size in sizes):
            b.loop(0, whole, lanes, lambda at: self.vector(row, b.opaque(at), lanes, pointers, index), name="column")
        rest = b.and_(self.where.n_size, b.index(lanes - 1))
        if shapes[-1].masked:
            with b.if_then(b.icmp_signed("!=", rest, b.index(0))):
                self.vector(row, whole, rest, pointers, index)
        for tail in sorted({size % lanes for size in sizes} - {0}):
            with b.if_then(b.icmp_signed("==", rest, b.index(tail))):
                self.vector(row, whole, tail, pointers, index)

    def vector(
        self,
        row: ll.Value,
        at: ll.Value,
        active: int | ll.Value,
        pointers: dict[Address, ll.Value],
        index: dict[int, ll.Value],
    ) -> None:
        b, plan, inner = self.b, self.plan, self.plan.n_inner
        if inner is not None:
            pointers, index = self.moved(pointers, inner, at), index | {inner: b.add(self.where.n, at)}
        acc = b.load_vector(row, at, plan.acc, plan.epilogue_lanes)
        zero = b.index(0)  # the index of a dim that has one point
        point = EpiloguePoint(
            acc, plan.epilogue_lanes, active, inner, pointers.__getitem__, lambda dim: index.get(dim, zero)
        )
        evaluate_epilogue(b, plan.kernel, point)

    def moved(self, pointers: dict[Address, ll.Value], dim: int, steps: ll.Value) -> dict[Address, ll.Value]:
        """Every pointer `steps` points further along `dim`."""
        b, result = self.b, {}
        for address, pointer in pointers.items():
            stride = number_of(address.step_of(dim))
            dtype = self.plan.kernel.params[address.buffer].dtype.name
            result[address] = pointer if stride == 0 else b.element(pointer, b.mul(steps, b.index(stride)), dtype)
        return result
