"""Loop kernels whose stages only store, some of it at computed places: true on every device."""
from __future__ import annotations

from dataclasses import replace

from flambeau.ir import dtypes as dt
from flambeau.ir.kernel.dataflow import values_read
from flambeau.ir.kernel.grammar import Address, Stage, Store
from flambeau.ir.kernel.loop_kernel import LoopKernel

__all__ = ["flattened", "is_scattered", "may_scatter"]


def is_scattered(store: Store) -> bool:
    """Whether several points may store to one place."""
    return store.combine == "add" or bool(store.address.dynamic)


def may_scatter(kernel: LoopKernel, inexact: bool) -> bool:
    """Whether the points of each stage may store in any order, one stage after another. inexact: sums of floats may be
    rounded in another order each time. What is stored last at a computed place must be its position along the one dim
    that is walked, which is the greatest that is stored there."""
    stored = {store.address.buffer for stage in kernel.stages for store in stage.stores}
    for stage in kernel.stages:
        own = {instr.id for instr in stage.body}
        if stage.reductions or not stage.stores or any(v not in own for instr in stage.body for v in values_read(instr)):
            return False
        if any(isinstance(i.attr, Address) and i.op == "load" and i.attr.buffer in stored for i in stage.body):
            return False
        if any(store.value not in own for store in stage.stores) or len(stage.stores) > 1:
            return False
        for store in stage.stores:
            dtype = kernel.params[store.address.buffer].dtype
            if store.combine == "add" and dtype.is_floating_point and not inexact:
                return False
            if store.combine == "set" and store.address.dynamic and not (
                    dtype is dt.i64 and _is_position(stage, store.value)):
                return False
    return any(is_scattered(store) for stage in kernel.stages for store in stage.stores)


def _is_position(stage: Stage, value: int) -> bool:
    """Whether a value is the number of the point along the only dim of a stage."""
    by_id = {instr.id: instr for instr in stage.body}
    instr = by_id[value]
    while instr.op == "add":                            # of a constant
        constants = [v for v in instr.operands if by_id[v].op == "const"]
        others = [v for v in instr.operands if by_id[v].op != "const"]
        if len(constants) != 1 or len(others) != 1:
            return False
        instr = by_id[others[0]]
    return instr.op == "index" and stage.dims == (instr.attr,)


def flattened(kernel: LoopKernel, stage: Stage) -> LoopKernel:
    """A kernel of one stage alone, all dims of it parallel: those that memory runs along fastest last."""
    dims = [*kernel.parallel, *stage.dims]
    loads = [i.attr for i in stage.body if i.op == "load" and isinstance(i.attr, Address)]
    addresses = sorted([*loads, *[store.address for store in stage.stores]], key=lambda a: -len(a.strides))
    strides = [dict(address.known_strides) for address in addresses]
    dims.sort(key=lambda d: [-abs(s.get(d, 0)) for s in strides[:1]])
    number = {dim: n for n, dim in enumerate(dims)}
    alone = replace(kernel, stages=(replace(stage, dims=()),), schedule=None)
    moved = alone.map(dim=lambda d: number[d])
    return replace(moved, extents=tuple([kernel.extents[d] for d in dims]), n_parallel=len(dims))
