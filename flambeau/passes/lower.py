"""Fused graph -> kernel calls, in order: every fusion becomes a kernel and the values it reads and writes."""
from __future__ import annotations

from dataclasses import dataclass, replace

from flambeau.ir import ops
from flambeau.ir.graph import Graph, Node, Value
from flambeau.ir.kernel import Address, Instr, Kernel, LoopKernel, Param, Stage, Store
from flambeau.ir.types import TensorType
from flambeau.passes.dims import canonical_stages, collapse, expand_affine, with_runtime_size
from flambeau.passes.lower_contractions import ContractionLowering
from flambeau.passes.lower_loops import Lowered, RegionLowering
from flambeau.passes.lower_scatters import ScatterLowering

_LOWERING = {"loop": RegionLowering, "contraction": ContractionLowering, "scatter": ScatterLowering}


@dataclass(frozen=True)
class Call:
    """One kernel at work: `buffers[i]` is the value behind kernel param i; `sizes` are its runtime extents."""

    kernel: Kernel
    buffers: tuple[Value, ...]
    sizes: tuple[int, ...] = ()
    phase: str = "forward"


def lower(graph: Graph) -> list[Call]:
    """The calls of a fused graph, in its order."""
    return [lower_fusion(node, f"k{number}") for number, node in
            enumerate(n for n in graph.toposort() if isinstance(n.op, ops.Fusion))]


def lower_fusion(node: Node, name: str) -> Call:
    """One fusion as a kernel."""
    assert isinstance(node.op, ops.Fusion)
    lowered = _LOWERING[node.op.kind](node, name).lower()
    kernel: Kernel = lowered.kernel
    sizes: tuple[int, ...] = ()
    if isinstance(kernel, LoopKernel):
        kernel, sizes = with_runtime_size(expand_affine(collapse(kernel)))
        kernel = replace(kernel, stages=canonical_stages(kernel))
    else:
        kernel = expand_affine(kernel)
    return _without_unread(Call(kernel, lowered.buffers, sizes, node.phase))


def _without_unread(call: Call) -> Call:
    """Drop params that nothing in the kernel addresses (operands whose elements folded away)."""
    kernel = call.kernel
    if not isinstance(kernel, LoopKernel):
        return call
    used = {i.attr.buffer for i in kernel.instrs() if isinstance(i.attr, Address)}
    used |= {s.address.buffer for stage in kernel.stages for s in stage.stores}
    if len(used) == len(kernel.params):
        return call
    kept = sorted(used)
    number = {old: new for new, old in enumerate(kept)}

    def moved(address: Address) -> Address:
        return replace(address, buffer=number[address.buffer])

    stages = tuple([replace(
        s, body=tuple([replace(i, attr=moved(i.attr)) if isinstance(i.attr, Address) else i for i in s.body]),
        stores=tuple([replace(t, address=moved(t.address)) for t in s.stores])) for s in kernel.stages])
    params = tuple([kernel.params[n] for n in kept])
    return replace(call, kernel=replace(kernel, params=params, stages=stages),
                   buffers=tuple([call.buffers[n] for n in kept]))


def copy_call(source: Value, target: Value) -> Call:
    """A call that copies one buffer to another of the same type."""
    dtype = source.dtype
    params = (Param("source", dtype, "n", "in"), Param("target", dtype, "n", "out"))
    load = Instr(0, "load", dtype, (), Address(0, 0, ((0, 1),)))
    stage = Stage((), (load,), (), (Store(Address(1, 0, ((0, 1),)), 0),))
    return Call(LoopKernel("copy", params, ("n",), 1, (stage,)), (source, target), (source.type.numel,))


__all__ = ["Call", "Lowered", "TensorType", "copy_call", "lower", "lower_fusion"]
