"""Fused graph -> kernel calls, in order: every fusion becomes a kernel and the values it reads and writes.

    calls = lower(fused)                        # one for each fusion; knows no device
    calls = [finish(call) for call in calls]    # as they are built

Between the two a backend may cut kernels up, merge their dims and renumber them: index values that code needs are still
`affine`, which moves with the dims as an address does.
"""
from __future__ import annotations

from dataclasses import dataclass, replace
from typing import cast

from flambeau.ir import ops
from flambeau.ir.graph import Graph, Node, Value
from flambeau.ir.kernel import Address, Instr, Kernel, LoopKernel, Param, Stage, Store
from flambeau.ir.kinds import kind_named, kind_of
from flambeau.passes.lowering.dims import collapse, expand_affine, renumbered, with_runtime_size


@dataclass(frozen=True)
class Call:
    """One kernel at work: `buffers[i]` is the value behind kernel param i; `sizes` are its runtime extents."""

    kernel: Kernel
    buffers: tuple[Value, ...]
    sizes: tuple[int, ...] = ()
    phase: str = "forward"


def lower(graph: Graph) -> list[Call]:
    """The calls of a fused graph, in its order, each to be finished."""
    fusions = [node for node in graph.toposort() if isinstance(node.op, ops.Fusion)]
    return [call for number, node in enumerate(fusions) for call in lower_fusion(node, f"k{number}")]


def lower_fusion(node: Node, name: str) -> list[Call]:
    """One fusion as its kind lowers it."""
    assert isinstance(node.op, ops.Fusion), f"{node!r} is no fusion"
    return list(kind_named(node.op.kind).lower(node, name))


def call_of(node: Node, kernel: Kernel) -> Call:
    """The call of a kernel whose params are a fusion's operands, then its results."""
    return Call(kernel, (*node.operands, *node.results), (), node.phase)


def finish(call: Call) -> Call:
    """The call as it is built, each kind in its own way. A call that is finished stays as it is."""
    kind = kind_of(call.kernel)
    finished: Call = call if kind.finish is None else kind.finish(call)
    return finished


def finish_code(call: Call) -> Call:
    """`affine` values spelled out."""
    return replace(call, kernel=expand_affine(call.kernel))


def finish_loops(call: Call) -> Call:
    """`affine` values spelled out, dims merged as far as they go, a size known at run time where one kernel serves many,
    and no param that nothing reads."""
    if call.sizes:
        return call
    kernel, sizes = with_runtime_size(expand_affine(collapse(cast(LoopKernel, call.kernel))))
    return _without_unread(replace(call, kernel=renumbered(kernel), sizes=sizes))


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


def lone_op(node: Node) -> tuple[Node, tuple[int, ...]]:
    """The op of a fusion that holds nothing else, and the param behind each of its operands (equal ones share it)."""
    region = node.regions[0]
    (inner,) = (n for n in region.toposort() if n.op.name != "input")
    return inner, tuple([region.inputs.index(value) for value in inner.operands])


def copy_call(source: Value, target: Value) -> Call:
    """A call that copies one buffer to another of the same type."""
    dtype = source.dtype
    params = (Param("source", dtype, "n", "in"), Param("target", dtype, "n", "out"))
    load = Instr(0, "load", dtype, (), Address(0, 0, ((0, 1),)))
    stage = Stage((), (load,), (), (Store(Address(1, 0, ((0, 1),)), 0),))
    return Call(LoopKernel("copy", params, ("n",), 1, (stage,)), (source, target), (source.type.numel,))


__all__ = ["Call", "call_of", "copy_call", "finish", "finish_code", "finish_loops", "lone_op", "lower", "lower_fusion"]
