"""LoopKernel -> LoopKernel. Fewer, longer dims: neighbours whose strides compose in every address become one.

    i0 < 64, i1 < 8: x[i0*8 + i1], y[i0*8 + i1]   ->   i0 < 512: x[i0], y[i0]

A kernel left with one parallel dim that every address walks with stride 0 or 1 takes its size at run time, so that
updates of differently shaped parameters are one piece of machine code.
"""
from __future__ import annotations

from dataclasses import replace
from typing import TypeVar

from flambeau.ir import dtypes as dt
from flambeau.ir.kernel import Address, Instr, Kernel, LoopKernel
from flambeau.passes.lowering.loops import AFFINE

K = TypeVar("K", bound=Kernel)


def collapse(kernel: LoopKernel) -> LoopKernel:
    """Merge neighbouring dims of one role wherever every address allows it. A kernel whose index values are spelled out
    stays as it is."""
    if any(instr.op == "index" for instr in kernel.instrs()):
        return kernel
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
    return all(a.stride_of(outer) == extent * a.stride_of(inner) for a in kernel.addresses())


def _merge(kernel: LoopKernel, outer: int) -> LoopKernel:
    """Dims outer and outer+1 become one; later dims move down by one."""
    inner = outer + 1
    extents = kernel.extents
    merged = (*extents[:outer], extents[outer] * extents[inner], *extents[inner + 1:])  # type: ignore[operator]

    n_parallel = kernel.n_parallel - (outer < kernel.n_parallel)
    moved = kernel.map(dim=lambda d: None if d == outer else d - (d >= inner))
    return replace(moved, extents=merged, n_parallel=n_parallel)


def expand_affine(kernel: K) -> K:
    """Turn `affine` values into index, mul and add."""
    if all(instr.op != AFFINE for instr in kernel.instrs()):
        return kernel
    next_id = 1 + max([i.id for i in kernel.instrs()] + [r.id for s in kernel.code for r in s.reductions], default=0)
    made = []
    for stage in kernel.code:
        body: list[Instr] = []
        for instr in stage.body:
            if instr.op != AFFINE:
                body.append(instr)
                continue
            next_id = _expand(instr, body, next_id)
        made.append(replace(stage, body=tuple(body)))
    return kernel.with_code(made)


def _expand(instr: Instr, body: list[Instr], next_id: int) -> int:
    address = instr.attr
    assert isinstance(address, Address)

    def emit(op: str, *operands: int, attr: int | None = None) -> int:
        nonlocal next_id
        next_id += 1
        body.append(Instr(next_id - 1, op, dt.i64, operands, attr))
        return next_id - 1

    terms = [(emit("index", attr=dim), stride) for dim, stride in address.known_strides] + list(address.dynamic)
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
    for address in kernel.addresses():
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


def renumbered(kernel: K) -> K:
    """The kernel with ids from 0 in the order of its code, so that equal kernels have equal text."""
    number: dict[int, int] = {}
    return kernel.map(value=lambda id: number.setdefault(id, len(number)))
