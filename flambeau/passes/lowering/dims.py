"""LoopKernel -> LoopKernel. Fewer, longer dims: neighbours whose strides compose in every address become one.

    i0 < 64, i1 < 8: x[i0*8 + i1], y[i0*8 + i1]   ->   i0 < 512: x[i0], y[i0]

A kernel left with one parallel dim that every address walks with stride 0 or 1 takes its size at run time, so that
updates of differently shaped parameters are one piece of machine code.
"""
from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import TypeVar

from flambeau.ir import dtypes as dt
from flambeau.ir.kernel import Address, ContractionKernel, Instr, LoopKernel, Stage
from flambeau.passes.lowering.loops import AFFINE

K = TypeVar("K", LoopKernel, ContractionKernel)


def addresses(kernel: LoopKernel) -> Iterator[Address]:
    """Every address of the kernel, those of `affine` index values included."""
    for stage in kernel.stages:
        for instr in stage.body:
            if isinstance(instr.attr, Address):
                yield instr.attr
        for store in stage.stores:
            yield store.address


def map_addresses(kernel: LoopKernel, function: Callable[[Address], Address]) -> LoopKernel:
    stages = []
    for stage in kernel.stages:
        body = tuple([replace(i, attr=function(i.attr)) if isinstance(i.attr, Address) else i for i in stage.body])
        stores = tuple([replace(s, address=function(s.address)) for s in stage.stores])
        stages.append(replace(stage, body=body, stores=stores))
    return replace(kernel, stages=tuple(stages))


def collapse(kernel: LoopKernel) -> LoopKernel:
    """Merge neighbouring dims of one role wherever every address allows it."""
    outer = 0
    while outer + 1 < len(kernel.extents):
        if _composes(kernel, outer, outer + 1):
            kernel = _merge(kernel, outer)
        else:
            outer += 1
    return kernel


def _composes(kernel: LoopKernel, outer: int, inner: int) -> bool:
    if (outer < kernel.n_parallel) != (inner < kernel.n_parallel):
        return False
    extent = kernel.extents[inner]
    assert isinstance(extent, int), "sizes become symbolic after dims are merged"
    return all(a.stride_of(outer) == extent * a.stride_of(inner) for a in addresses(kernel))


def _merge(kernel: LoopKernel, outer: int) -> LoopKernel:
    """Dims outer and outer+1 become one; later dims move down by one."""
    inner = outer + 1
    extents = kernel.extents
    merged = (*extents[:outer], extents[outer] * extents[inner], *extents[inner + 1:])  # type: ignore[operator]

    def renumber(address: Address) -> Address:
        strides = tuple([(d - (d >= inner), s) for d, s in address.strides if d != outer])
        return replace(address, strides=strides)

    stages = tuple([replace(s, dims=tuple([d - (d >= inner) for d in s.dims if d != outer])) for s in kernel.stages])
    n_parallel = kernel.n_parallel - (outer < kernel.n_parallel)
    return map_addresses(replace(kernel, extents=merged, n_parallel=n_parallel, stages=stages), renumber)


def expand_affine(kernel: K) -> K:
    """Turn `affine` pseudo-instructions into index, mul and add."""
    stages = kernel.stages if isinstance(kernel, LoopKernel) else (kernel.epilogue,)
    if all(instr.op != AFFINE for stage in stages for instr in stage.body):
        return kernel
    next_id = 1 + max([i.id for i in kernel.instrs()] + [r.id for s in stages for r in s.reductions], default=0)
    made = []
    for stage in stages:
        body: list[Instr] = []
        for instr in stage.body:
            if instr.op != AFFINE:
                body.append(instr)
                continue
            next_id = _expand(instr, body, next_id)
        made.append(replace(stage, body=tuple(body)))
    return replace(kernel, stages=tuple(made)) if isinstance(kernel, LoopKernel) else replace(kernel, epilogue=made[0])


def _expand(instr: Instr, body: list[Instr], next_id: int) -> int:
    address = instr.attr
    assert isinstance(address, Address)

    def emit(op: str, *operands: int, attr: int | None = None) -> int:
        nonlocal next_id
        next_id += 1
        body.append(Instr(next_id - 1, op, dt.i64, operands, attr))
        return next_id - 1

    terms = [(emit("index", attr=dim), stride) for dim, stride in address.strides] + list(address.dynamic)
    parts = [term if stride == 1 else emit("mul", term, emit("const", attr=stride)) for term, stride in terms]
    if address.offset or len(parts) < 2:
        parts.append(emit("const", attr=address.offset))
    total = parts[0]
    for part in parts[1:-1]:
        total = emit("add", total, part)
    body.append(Instr(instr.id, "add", dt.i64, (total, parts[-1])))
    return next_id


def with_runtime_size(kernel: LoopKernel) -> tuple[LoopKernel, tuple[int, ...]]:
    """(the kernel with its only dim sized at run time, the size); unchanged with () where an address needs more than
    stride 0 or 1, a param is not as long as the dim or not only walked, or there are inner dims or no points at all."""
    if len(kernel.extents) != 1 or kernel.n_parallel != 1 or kernel.extents[0] == 0:
        return kernel, ()
    (size,) = kernel.extents
    assert isinstance(size, int)
    walked, pointed_at = set(), set()
    for address in addresses(kernel):
        if address.dynamic or address.guard is not None:
            return kernel, ()
        if address.strides == ((0, 1),) and address.offset == 0:
            walked.add(address.buffer)
        elif address.strides:
            return kernel, ()
        else:
            pointed_at.add(address.buffer)
    if walked & pointed_at:
        return kernel, ()
    params = []
    for number, param in enumerate(kernel.params):
        if number in walked and param.elements != size:
            return kernel, ()
        params.append(replace(param, elements="n") if number in walked else param)
    return replace(kernel, params=tuple(params), extents=("n",)), (size,)


def canonical_stages(kernel: LoopKernel) -> tuple[Stage, ...]:
    """The stages with ids renumbered from 0 in order, so that equal kernels have equal text."""
    number: dict[int, int] = {}

    def of(id: int) -> int:
        return number.setdefault(id, len(number))

    def address(a: Address) -> Address:
        return replace(a, dynamic=tuple([(of(v), s) for v, s in a.dynamic]),
                       guard=None if a.guard is None else of(a.guard))

    stages = []
    for stage in kernel.stages:
        body = []
        for i in stage.body:
            operands = tuple([of(o) for o in i.operands])
            attr = address(i.attr) if isinstance(i.attr, Address) else i.attr
            body.append(Instr(of(i.id), i.op, i.dtype, operands, attr))
        stores = tuple([replace(s, address=address(s.address), value=of(s.value)) for s in stage.stores])
        reductions = tuple([replace(r, value=of(r.value), id=of(r.id)) for r in stage.reductions])
        stages.append(Stage(stage.dims, tuple(body), reductions, stores))
    return tuple(stages)
