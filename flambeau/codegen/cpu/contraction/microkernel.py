"""Register tiles: internal functions that sum a few rows x a few vectors of a contraction over k.

A microkernel keeps its whole tile in vector registers while the k loops run. It either runs a short epilogue on
the registers, or leaves the tile in memory (row-major, `row_stride` elements apart) for a later visit or a longer
epilogue. Rows are at constant distances from one base pointer, so every load of lhs is one displacement.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

import llvmlite.ir as ll

from flambeau.codegen.cpu.contraction.epilogue import EpiloguePoint, evaluate_epilogue
from flambeau.codegen.cpu.contraction.plan import Plan
from flambeau.codegen.cpu.contraction.tile_sums import DotSums, RowSums, Tile
from flambeau.codegen.cpu.llvm.emitter import (
    I1,
    I32,
    I64,
    PTR,
    Emitter,
    KernelArguments,
    RuntimeNumbers,
    is_float,
)
from flambeau.codegen.cpu.llvm.numbers import Int, number_of
from flambeau.ir.kernel import Address

__all__ = ["InnerEmitter", "epilogue_addresses", "internal_function", "microkernel"]


class InnerEmitter(Emitter):
    """Emits an internal function whose first arguments are the kernel's ctx, buffers and sizes; a microkernel has only the
    sizes, as its last."""

    @property
    def kernel(self) -> KernelArguments:
        nothing, zero = ll.Constant(PTR, None), ll.Constant(I64, 0)
        if self.function.function_type.return_type == I32:
            ctx, buffers, sizes = self.function.args[:3]
            return KernelArguments(ctx, buffers, sizes, zero, zero)
        return KernelArguments(nothing, nothing, self.function.args[-1], zero, zero)


def internal_function(
    module: ll.Module, name: str, result: ll.Type, arguments: Sequence[ll.Type], plan: Plan
) -> InnerEmitter:
    """Begin a function that only this module calls, kept out of line so that it has all registers to itself."""
    function = ll.Function(module, ll.FunctionType(result, list(arguments)), name)
    function.linkage = "internal"
    function.calling_convention = "fastcc"
    for attribute in ("noinline", "nounwind"):
        function.attributes.add(attribute)
    return InnerEmitter(function.append_basic_block("entry"), plan.target, RuntimeNumbers.of(plan.kernel))


def epilogue_addresses(plan: Plan) -> tuple[Address, ...]:
    """The distinct addresses of the epilogue's loads and stores."""
    loads = (i.attr for i in plan.kernel.epilogue.body if isinstance(i.attr, Address))
    return tuple(dict.fromkeys([*loads, *(store.address for store in plan.kernel.epilogue.stores)]))


def microkernel(module: ll.Module, name: str, plan: Plan, tile: Tile) -> ll.Function:
    """`void name(lhs, rhs, count, targets...)`: sums of one tile over one block of k. Lanes of the last vector come after
    that where tiles are masked, and the table of sizes comes last where the kernel has any.

    lhs and rhs point at the tile's first row and column at the block's first k point; count is how many points of
    its outermost loop the block has. targets: a pointer for each epilogue address at the tile's first point
    ("registers"), the tile's memory ("memory"), or the memory and an i1 that says whether an earlier visit left
    sums there ("update").
    """
    targets = {"registers": [PTR] * len(epilogue_addresses(plan)), "memory": [PTR], "update": [PTR, I1]}
    lanes = [I64] if plan.column_shapes[-1].masked else []
    sizes = [PTR] if plan.kernel.sizes else []
    b = internal_function(module, name, ll.VoidType(), [PTR, PTR, I64, *targets[tile.result], *lanes, *sizes], plan)
    lhs, rhs, count, *rest = b.function.args[: len(b.function.args) - len(sizes)]
    active = rest.pop() if lanes else None
    sums = DotSums(b, plan, tile) if plan.walks_k else RowSums(b, plan, tile, active if tile.masked else None)
    rows = sums.sum_over_k(lhs, rhs, count)
    if tile.result == "registers":
        _finish_in_registers(b, plan, tile, rows, dict(zip(epilogue_addresses(plan), rest, strict=True)), active)
    else:
        _leave_in_memory(b, plan, tile, rows, rest)
    b.ret_void()
    return b.function


def _points(plan: Plan, tile: Tile) -> Iterator[tuple[int, ...]]:
    return itertools.product(*map(range, tile.rows))


def _finish_in_registers(
    b: Emitter, plan: Plan, tile: Tile, rows: list[list[ll.Value]], origin: dict[Address, ll.Value],
    lanes_of_last: ll.Value | None,
) -> None:  # fmt: skip
    """The epilogue on every register (in dot tiles on every scalar), addressed from the tile's first point."""
    lanes = 1 if plan.walks_k else plan.lanes
    inner = plan.n_inner
    known: dict[object, ll.Value] = {}
    places: dict[tuple[Address, tuple[int, ...]], ll.Value] = {}
    pointers: dict[tuple[ll.Value, Int, Address], ll.Value] = {}

    def place(address: Address, steps: tuple[int, ...]) -> ll.Value:
        """So many steps along each m dim from the tile's first point, the next from the one before."""
        if not any(steps):
            return origin[address]
        if (address, steps) not in places:
            last = max(d for d, step in enumerate(steps) if step)
            before = place(address, (*steps[:last], steps[last] - 1, *steps[last + 1 :]))
            stride = number_of(address.step_of(plan.kernel.m[last]))
            places[address, steps] = b.element(before, stride, plan.kernel.params[address.buffer].dtype.name)
        return places[address, steps]

    for row, point in zip(rows, _points(plan, tile), strict=True):
        for number, value in enumerate(row):

            def pointer(
                address: Address, point: tuple[int, ...] = point, first: int = number * lanes
            ) -> ll.Value:
                strides = [number_of(address.step_of(d)) for d in plan.kernel.m]
                known_terms = [c * s for c, s in zip(point, strides, strict=True) if isinstance(s, int)]
                at: Int = sum(known_terms) + (0 if inner is None else first * number_of(address.step_of(inner)))
                steps = tuple([0 if isinstance(s, int) else c for c, s in zip(point, strides, strict=True)])
                key = place(address, steps), at, address
                if key not in pointers:
                    pointers[key] = b.element(key[0], at, plan.kernel.params[address.buffer].dtype.name)
                return pointers[key]

            active: int | ll.Value = min(lanes, tile.columns - number * lanes)
            if tile.masked and lanes_of_last is not None and number == len(row) - 1:
                active = lanes_of_last
            here = EpiloguePoint(value, lanes, active, inner, pointer, _no_index)
            evaluate_epilogue(b, plan.kernel, here, known)


def _no_index(dim: int) -> ll.Value:
    raise AssertionError(f"an epilogue that reads the index of dim {dim} does not run in registers")


def _leave_in_memory(
    b: Emitter, plan: Plan, tile: Tile, rows: list[list[ll.Value]], rest: Sequence[ll.Value]
) -> None:
    """Store the sums, row by row. With an i1 in `rest`, add them to the tile's memory where it is true."""
    memory = rest[0]
    lanes = 1 if plan.walks_k else plan.lanes
    flat = [
        (r * plan.row_stride + c * lanes, value) for r, row in enumerate(rows) for c, value in enumerate(row)
    ]
    values = [value for _, value in flat]
    if tile.result == "update":
        add = (lambda x, y: b.fast_sum(x, y)) if is_float(plan.acc) else b.add
        values = b.branch_values(
            rest[1],
            lambda: [add(value, b.load_vector(memory, at, plan.acc, lanes)) for at, value in flat],
            lambda: values,
        )
    for (at, _), value in zip(flat, values, strict=True):
        b.store_vector(value, memory, at, plan.acc)
