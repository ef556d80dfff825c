"""LoopKernel -> LoopKernel: a few neighbouring points of a stencil at once, which load what they share once.

    parallel %i0 = 56, %i1 = 56, %i2 = 32                        parallel %i0 = 56, %i1 = 14, %i2 = 32
    stage { 9 loads of x[%i0*1856 + %i1*32 + %i2 + ...],    ->   stage { 18 of x[%i0*1856 + %i1*128 + %i2 + ...],
            9 of w[%i2 + ...], sum, store }                              9 of w[%i2 + ...], 4 sums, 4 stores }

A depthwise convolution is that: sums of shifted images, in vectors of channels, whose loads are most of the work. Each
point is computed as it was, so bits stay the same.
"""
from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import count
from typing import Final

from flambeau.ir.kernel import Address, Instr, LoopKernel, Stage, Store
from flambeau.ir.target import Target
from flambeau.passes.cpu.loop_cost import Cost
from flambeau.passes.cpu.schedule_loops import vector_dim_of

__all__ = ["side_by_side"]

_FEWEST_LOADS: Final = 8                # along vectors, at a point
_SPARED: Final = 0.4                    # of the loads, at least
_MOST_POINTS: Final = 8
_MOST_INSTRS: Final = 224               # of them together


def side_by_side(kernel: LoopKernel, target: Target) -> LoopKernel:
    """The kernel, or one that computes several points of a parallel dim at once."""
    if not _is_plain(kernel):
        return kernel
    vector_dim, tiled, _ = vector_dim_of(Cost(kernel, target))
    if vector_dim is None or tiled is not None:
        return kernel
    loads = _loads(kernel, vector_dim)
    if loads < _FEWEST_LOADS:
        return kernel
    best, fewest = kernel, (1 - _SPARED) * loads
    for dim, points in _choices(kernel, vector_dim):
        made = _together(kernel, dim, points)
        each = _loads(made, vector_dim) / points
        if each < fewest and len(made.stages[0].body) <= _MOST_INSTRS:
            best, fewest = made, each
    return best


def _is_plain(kernel: LoopKernel) -> bool:
    """Whether it is one stage at each point of known parallel dims, of loads and stores at known places."""
    if kernel.sizes or len(kernel.stages) != 1 or kernel.stages[0].dims or 0 in kernel.extents:
        return False
    stage = kernel.stages[0]
    plain = all(not address.dynamic and address.guard is None for address in kernel.addresses())
    return (plain and not stage.reductions and all(store.combine == "set" for store in stage.stores)
            and all(instr.op != "check" for instr in stage.body) and all(p.role in ("in", "out") for p in kernel.params))


def _loads(kernel: LoopKernel, vector_dim: int) -> int:
    """Vectors that are loaded at a point."""
    addresses = (instr.attr for instr in kernel.stages[0].body if instr.op == "load")
    return sum(isinstance(address, Address) and address.step_of(vector_dim) != 0 for address in addresses)


def _choices(kernel: LoopKernel, vector_dim: int) -> Iterator[tuple[int, int]]:
    """(a parallel dim, points that divide it)."""
    indexed = {instr.attr for instr in kernel.stages[0].body if instr.op == "index"}
    for dim in range(kernel.n_parallel):
        extent = kernel.extents[dim]
        if isinstance(extent, int) and dim != vector_dim and dim not in indexed:
            yield from ((dim, points) for points in range(2, _MOST_POINTS + 1) if extent % points == 0)


def _together(kernel: LoopKernel, dim: int, points: int) -> LoopKernel:
    """So many points of `dim` at once. What two of them compute alike is computed once."""
    (stage,), names = kernel.stages, count()
    body: list[Instr] = []
    known: dict[tuple[object, ...], int] = {}
    stores: list[Store] = []
    for point in range(points):
        renamed: dict[int, int] = {}
        for instr in stage.body:
            attr = _moved(instr.attr, dim, point, points) if isinstance(instr.attr, Address) else instr.attr
            operands = tuple([renamed[value] for value in instr.operands])
            key = instr.op, instr.dtype, operands, type(attr), repr(attr)
            if key not in known:
                known[key] = next(names)
                body.append(Instr(known[key], instr.op, instr.dtype, operands, attr))
            renamed[instr.id] = known[key]
        stores += [replace(store, address=_moved(store.address, dim, point, points), value=renamed[store.value])
                   for store in stage.stores]
    extents = list(kernel.extents)
    extent = extents[dim]
    assert isinstance(extent, int) and extent % points == 0, "points divide a known extent"
    extents[dim] = extent // points
    return replace(kernel, extents=tuple(extents), stages=(Stage((), tuple(body), (), tuple(stores)),))


def _moved(address: Address, dim: int, point: int, points: int) -> Address:
    """The address at number `point` of every `points` points along `dim`."""
    strides = tuple([(d, stride * points if d == dim else stride) for d, stride in address.known_strides])
    return replace(address, offset=address.offset + point * address.stride_of(dim), strides=strides)
