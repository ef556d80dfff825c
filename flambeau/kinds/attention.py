"""Attention, and its derivative: all that is between q, k, v and the result in one kernel, tile by tile."""
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import llvmlite.ir as ll

from flambeau.codegen.artifact import Phase
from flambeau.codegen.cpu.attention.backward import emit_backward
from flambeau.codegen.cpu.attention.forward import emit_forward
from flambeau.ir import ops
from flambeau.ir.graph import Node, Value
from flambeau.ir.index_maps import Index
from flambeau.ir.kernel import Address
from flambeau.ir.kernel.attention_kernel import AttentionKernel
from flambeau.ir.kinds import Implementation, Kind
from flambeau.ir.target import Target
from flambeau.passes.cpu.attention import schedule_attention
from flambeau.passes.lowering.loops import Body, RegionLowering, locations, params_of
from flambeau.passes.lowering.lower import Call, call_of
from flambeau.passes.lowering.spaces import is_view, pull


def _lower(node: Node, name: str) -> Sequence[Call]:
    lowering = RegionLowering(node, name)
    region = lowering.region
    (inner,) = (n for n in region.toposort() if isinstance(n.op, ops.Attention | ops.AttentionBackward))
    q, k, v, *rest = inner.operands
    backward = isinstance(inner.op, ops.AttentionBackward)
    named = {"q": q, "k": k, "v": v}
    if backward:
        *mask, named["out"], named["lse"], named["g"] = rest
    else:
        mask = rest
    named |= {"mask": mask[0]} if mask else {}
    *batch, rows, size = q.type.static_shape
    columns, value = v.type.static_shape[-2:]
    extents = (*batch, rows, columns, size, value)
    op: Any = inner.op
    nowhere = Address(0, 0, ())
    shell = AttentionKernel(name, params_of(region), extents, float(op.scale), op.causal, op.safe, nowhere, nowhere,
                            nowhere, locations=locations(region))
    places: dict[str, Any] = {place: _place(lowering, shell, place, given) for place, given in named.items()}
    for place, result in zip(("dq", "dk", "dv") if backward else ("out", "lse"), inner.results, strict=True):
        if result in region.outputs:
            places[place] = _stored(lowering, shell, place, result)
    kernel = _collapsed(replace(shell, **places))
    return [call_of(node, kernel)]


def _index(shell: AttentionKernel, place: str) -> tuple[Index, ...]:
    return tuple([Index.dim(d, int(shell.extents[d])) for d in shell.dims_of(place)])


def _place(lowering: RegionLowering, shell: AttentionKernel, place: str, value: Value) -> Address:
    """Where an operand lies that is read through views."""
    index = _index(shell, place)
    while is_view(value.node):
        pulled = pull(value.node, index)
        assert pulled is not None, f"{value!r} has no affine address; fuse should have materialized it"
        index, value = pulled, value.node.operands[0]
    return Body(lowering).address(lowering.param_of[value], value, index)


def _stored(lowering: RegionLowering, shell: AttentionKernel, place: str, value: Value) -> Address:
    param = len(lowering.region.inputs) + lowering.region.outputs.index(value)
    return Body(lowering).address(param, value, _index(shell, place))


def _collapsed(kernel: AttentionKernel) -> AttentionKernel:
    """Dims of the batch that have one point go, and neighbours that memory joins become one."""
    for outer in reversed(range(len(kernel.extents) - 4)):
        sizes, inner = [int(e) for e in kernel.extents], outer + 1
        joins = inner < len(sizes) - 4 and all(a.stride_of(outer) == sizes[inner] * a.stride_of(inner)
                                               for a in kernel.addresses())
        if joins or sizes[outer] == 1:
            sizes[inner] *= sizes[outer] if joins else 1
            moved = kernel.map(dim=partial(_without, outer))
            kernel = replace(moved, extents=(*sizes[:outer], *sizes[inner:]))
    return kernel


def _without(gone: int, dim: int) -> int | None:
    return None if dim == gone else dim - (dim > gone)


def _emit(kernel: AttentionKernel, module: ll.Module, symbol: str, target: Target) -> tuple[list[Phase], Sequence[int]]:
    return (emit_backward if kernel.is_backward else emit_forward)(kernel, module, symbol, target)


KIND = Kind("attention", AttentionKernel, _lower, reads="strided",
            implementations={"cpu": Implementation(_emit, schedule_attention, weight=1)})
