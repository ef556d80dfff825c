"""ContractionKernel -> kernels that give a GPU's multiprocessors more to do, or that suit a vector.

    c[m, n] = f(sum over k of a[m, k] * b[k, n])           few tiles of m and n, and a long k
    ->  partial[p, m, n] = sum over the k of part p;       p is a batch dim, so that there are p times as many blocks
        c[m, n] = f(sum over p of partial[p, m, n])        in one order: the same bits every time

    c[m] = f(sum over k of a[m, k] * b[k])  ->  a loop over m whose lanes share k: each element of a is read once anyway

Gradients of weights are the first kind: m and n are channels and taps, k all places of all images.
"""
from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from typing import Final

from flambeau.ir.dtypes import DType
from flambeau.ir.gpu import GpuTarget
from flambeau.ir.graph import Value
from flambeau.ir.kernel import Address, ContractionKernel, Instr, LoopKernel, Param, Reduction, Stage, Store
from flambeau.ir.kernel.base import map_address, map_stage
from flambeau.ir.types import TensorType
from flambeau.passes.cuda.contraction_cost import sum_cycles, tile_cycles
from flambeau.passes.cuda.schedule_contraction import canonical, tiles_for

__all__ = ["divide_contraction"]

_MOST_PARTS: Final = 256
_SHORTEST: Final = 64                   # points of k that a part has at least
_GAIN: Final = 0.8                      # of the time before, at most

Split = tuple[ContractionKernel | LoopKernel, tuple[Value, ...]]        # a kernel, and the value behind each of its params


def divide_contraction(kernel: ContractionKernel, buffers: tuple[Value, ...], target: GpuTarget) -> list[Split]:
    """The kernel, or those that take its place. `affine` values must not have been expanded yet."""
    made = canonical(kernel)
    if 0 in made.extents or made.schedule is not None:
        return [(kernel, buffers)]
    if not (_points(made, made.m) > 1 and _points(made, made.n) > 1) and _points(made, made.k) > 1:
        return [(_as_loop(made), buffers)]
    costs = {(dim, parts): _cost(made, dim, parts, target) for dim, parts in _cuts(made)}
    cut = min(costs, key=lambda cut: costs[cut], default=None)
    if cut is None or costs[cut] > _GAIN * _cycles(made, target):
        return [(kernel, buffers)]
    return _in_parts(made, buffers, *cut)


def _points(kernel: ContractionKernel, dims: tuple[int, ...]) -> int:
    return math.prod([kernel.extents[d] for d in dims])


def _cuts(kernel: ContractionKernel) -> Iterator[tuple[int, int]]:
    """(a dim of k, into how many equal parts it may be cut). Whole chunks of eight stay whole."""
    points = _points(kernel, kernel.k)
    for dim in kernel.k:
        extent = kernel.extents[dim]
        for parts in range(2, min(_MOST_PARTS, extent) + 1):
            if extent % parts == 0 and points // parts >= _SHORTEST and (extent % 8 or extent // parts % 8 == 0):
                yield dim, parts


def _cycles(kernel: ContractionKernel, target: GpuTarget) -> float:
    return min(tile_cycles(kernel, tile, target) for tile in tiles_for(kernel, target))


def _cost(kernel: ContractionKernel, dim: int, parts: int, target: GpuTarget) -> float:
    results = _points(kernel, (*kernel.batch, *kernel.m, *kernel.n))
    return _cycles(_partial(kernel, dim, parts), target) + sum_cycles(results, parts, kernel.acc_dtype.itemsize, target)


def _partial(kernel: ContractionKernel, dim: int, parts: int) -> ContractionKernel:
    """Sums over each part of a k dim, stored row-major: [part, batch, m, n]. Its last param is theirs."""
    part, length = len(kernel.extents), kernel.extents[dim] // parts
    extents = tuple([length if d == dim else extent for d, extent in enumerate(kernel.extents)])

    def cut(address: Address) -> Address:
        stride = address.stride_of(dim)
        others = tuple([(d, s) for d, s in address.strides if d != dim or length > 1])
        return replace(address, strides=(*others, (part, stride * length))) if stride else address

    used = sorted({kernel.lhs.buffer, kernel.rhs.buffer})
    lhs, rhs = (replace(cut(address), buffer=used.index(address.buffer)) for address in (kernel.lhs, kernel.rhs))
    extents = (*extents, parts)
    place = _row_major(extents, (part, *kernel.batch, *kernel.m, *kernel.n), len(used))
    elements = parts * _points(kernel, (*kernel.batch, *kernel.m, *kernel.n))
    params = (*[kernel.params[n] for n in used], Param("partial", kernel.acc_dtype, elements, "out"))
    epilogue = Stage((), (Instr(0, "acc", kernel.acc_dtype),), (), (Store(place, 0),))
    return replace(kernel, name=f"{kernel.name}_parts", params=params, extents=extents, batch=(part, *kernel.batch),
                   lhs=lhs, rhs=rhs, epilogue=epilogue)


def _row_major(extents: tuple[int, ...], dims: tuple[int, ...], buffer: int) -> Address:
    strides, stride = [], 1
    for d in reversed(dims):
        if extents[d] != 1:
            strides.append((d, stride))
        stride *= extents[d]
    return Address(buffer, 0, tuple(sorted(strides)))


def _in_parts(kernel: ContractionKernel, buffers: tuple[Value, ...], dim: int, parts: int) -> list[Split]:
    partial = _partial(kernel, dim, parts)
    place, param = partial.epilogue.stores[0].address, partial.params[-1]
    assert isinstance(param.elements, int), "contractions have static sizes"
    between = Value(buffers[-1].node, 0, TensorType((param.elements,), param.dtype, buffers[-1].type.device))
    used = [buffers[n] for n in sorted({kernel.lhs.buffer, kernel.rhs.buffer})]
    loop = _Loop(kernel, partial.extents, (len(kernel.extents),))
    loaded = loop.instr("load", param.dtype, (), loop.address(replace(place, buffer=len(kernel.params))))
    whole = loop.of(loaded, (*kernel.params, replace(param, role="in")))
    return [(partial, (*used, between)), (whole, (*buffers, between))]


def _as_loop(kernel: ContractionKernel) -> LoopKernel:
    """The same sums, one after another at each point."""
    loop, dtype = _Loop(kernel, kernel.extents, kernel.k), kernel.acc_dtype
    sides = []
    for address in (kernel.lhs, kernel.rhs):
        its = kernel.params[address.buffer].dtype
        loaded = loop.instr("load", its, (), loop.address(address))
        sides.append(loaded if its is dtype else loop.instr("cast", dtype, (loaded,)))
    return loop.of(loop.instr("mul", dtype, tuple(sides)), kernel.params)


class _Loop:
    """Writes a loop kernel over the points of a contraction that sums over `inner` dims and runs the epilogue."""

    def __init__(self, kernel: ContractionKernel, extents: tuple[int, ...], inner: tuple[int, ...]):
        self.kernel = kernel
        points = (*kernel.batch, *kernel.m, *kernel.n)
        self.dims = [[d for d in dims if extents[d] != 1] for dims in (points, inner)]
        both = [*self.dims[0], *self.dims[1]]
        self.number = {d: number for number, d in enumerate(both)}
        self.extents = tuple([extents[d] for d in both])
        self.next = 1 + max([instr.id for instr in kernel.epilogue.body], default=-1)
        self.body: list[Instr] = []

    def address(self, address: Address) -> Address:
        return map_address(address, dim=self.number.get)

    def instr(self, op: str, dtype: DType, operands: tuple[int, ...], attr: Address | None = None) -> int:
        self.next += 1
        self.body.append(Instr(self.next - 1, op, dtype, operands, attr))
        return self.next - 1

    def of(self, value: int, params: tuple[Param, ...]) -> LoopKernel:
        """The loop whose sums are those of `value`."""
        kernel, total = self.kernel, self.next
        sums = {instr.id for instr in kernel.epilogue.body if instr.op == "acc"}
        rest = map_stage(kernel.epilogue, dim=self.number.get, value=lambda v: total if v in sums else v)
        rest = replace(rest, body=tuple([instr for instr in rest.body if instr.op != "acc"]))
        outer = len(self.dims[0])
        reduce = Stage(tuple(range(outer, len(self.extents))), tuple(self.body),
                       (Reduction(total, "sum", value, kernel.acc_dtype),))
        return LoopKernel(f"{kernel.name}_sums", params, self.extents, outer, (reduce, rest), locations=kernel.locations)
