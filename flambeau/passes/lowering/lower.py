"""Fused graph -> kernel calls, in order: every fusion becomes a kernel and the values it reads and writes."""
from __future__ import annotations

from dataclasses import dataclass, replace

from flambeau.ir import ops
from flambeau.ir.graph import Graph, Node, Value
from flambeau.ir.kernel import Address, Instr, Kernel, LoopKernel, Param, Stage, Store
from flambeau.ir.kinds import kind_named
from flambeau.ir.target import Target
from flambeau.ir.types import TensorType
from flambeau.passes.cpu.split_reductions import split_reductions
from flambeau.passes.lowering.dims import collapse, expand_affine, renumbered, with_runtime_size
from flambeau.passes.lowering.loops import Lowered
from flambeau.passes.lowering.undivide import undivide


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
    """One fusion as its kind lowers it: a call, or several where that gives the target's cores more to do."""
    assert isinstance(node.op, ops.Fusion), f"{node!r} is no fusion"
    calls: list[Call] = kind_named(node.op.kind).lower(node, name, target)
    return calls


def lower_loops(lowered: Lowered, phase: str, target: Target) -> list[Call]:
    """What a region is in loops, with few and long dims, as one call or several."""
    assert isinstance(lowered.kernel, LoopKernel)
    whole = collapse(lowered.kernel.with_code(undivide(lowered.kernel.code)))
    return [_finished(kernel, buffers, phase) for kernel, buffers in split_reductions(whole, lowered.buffers, target)]


def lower_contraction(lowered: Lowered, phase: str) -> list[Call]:
    """A contraction and its epilogue."""
    kernel = lowered.kernel.with_code(undivide(lowered.kernel.code))
    return [Call(expand_affine(kernel), lowered.buffers, (), phase)]


def _finished(kernel: LoopKernel, buffers: tuple[Value, ...], phase: str) -> Call:
    kernel, sizes = with_runtime_size(expand_affine(collapse(kernel)))
    return _without_unread(Call(renumbered(kernel), buffers, sizes, phase))


def _without_unread(call: Call) -> Call:
    """Drop params that nothing in the kernel addresses (operands whose elements folded away)."""
    kernel = call.kernel
    kept = sorted({address.buffer for address in kernel.addresses()})
    if len(kept) == len(kernel.params):
        return call
    number = {old: new for new, old in enumerate(kept)}
    moved = kernel.map(address=lambda a: replace(a, buffer=number[a.buffer]))
    return replace(call, kernel=replace(moved, params=tuple([kernel.params[n] for n in kept])),
                   buffers=tuple([call.buffers[n] for n in kept]))


def copy_call(source: Value, target: Value) -> Call:
    """A call that copies one buffer to another of the same type."""
    dtype = source.dtype
    params = (Param("source", dtype, "n", "in"), Param("target", dtype, "n", "out"))
    load = Instr(0, "load", dtype, (), Address(0, 0, ((0, 1),)))
    stage = Stage((), (load,), (), (Store(Address(1, 0, ((0, 1),)), 0),))
    return Call(LoopKernel("copy", params, ("n",), 1, (stage,)), (source, target), (source.type.numel,))


__all__ = ["Call", "Lowered", "TensorType", "copy_call", "lower", "lower_contraction", "lower_fusion", "lower_loops"]
