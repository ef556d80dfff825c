"""Fused graph -> kernel calls, in order: every fusion becomes a kernel and the values it reads and writes."""
from __future__ import annotations

from dataclasses import dataclass, replace

from flambeau.ir import ops
from flambeau.ir.graph import Graph, Node, Value
from flambeau.ir.kernel import Address, Instr, Kernel, LoopKernel, Param, Stage, Store
from flambeau.ir.target import Target
from flambeau.ir.types import TensorType
from flambeau.passes.cpu.split_reductions import split_reductions
from flambeau.passes.lowering.contractions import ContractionLowering
from flambeau.passes.lowering.dims import canonical_stages, collapse, expand_affine, with_runtime_size
from flambeau.passes.lowering.loops import Lowered, RegionLowering
from flambeau.passes.lowering.scatters import ScatterLowering
from flambeau.passes.lowering.undivide import undivide

_LOWERING = {"loop": RegionLowering, "contraction": ContractionLowering, "scatter": ScatterLowering}


@dataclass(frozen=True)
class Call:
    """One kernel at work: `buffers[i]` is the value behind kernel param i; `sizes` are its runtime extents."""

    kernel: Kernel
    buffers: tuple[Value, ...]
    sizes: tuple[int, ...] = ()
    phase: str = "forward"


def lower(graph: Graph, target: Target) -> list[Call]:
    """The calls of a fused graph, in its order."""
    fusions = [node for node in graph.toposort() if isinstance(node.op, ops.Fusion)]
    return [call for number, node in enumerate(fusions) for call in lower_fusion(node, f"k{number}", target)]


def lower_fusion(node: Node, name: str, target: Target) -> list[Call]:
    """One fusion as a kernel, or as several where that gives the target's cores more to do."""
    assert isinstance(node.op, ops.Fusion)
    lowered = _LOWERING[node.op.kind](node, name).lower()
    if not isinstance(lowered.kernel, LoopKernel):
        (epilogue,) = undivide((lowered.kernel.epilogue,))
        return [Call(expand_affine(replace(lowered.kernel, epilogue=epilogue)), lowered.buffers, (), node.phase)]
    whole = collapse(replace(lowered.kernel, stages=undivide(lowered.kernel.stages)))
    return [_finished(kernel, buffers, node.phase)
            for kernel, buffers in split_reductions(whole, lowered.buffers, target)]


def _finished(kernel: LoopKernel, buffers: tuple[Value, ...], phase: str) -> Call:
    kernel, sizes = with_runtime_size(expand_affine(collapse(kernel)))
    return _without_unread(Call(replace(kernel, stages=canonical_stages(kernel)), buffers, sizes, phase))


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
