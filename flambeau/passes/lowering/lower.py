"""Fused graph -> kernel calls, in order: every fusion becomes a kernel and the values it reads and writes.

    steps = lower(fused, prepare)               # prepare: what a device does to calls; without, they are to be finished
    calls = [finish(call) for call in steps]    # as they are built

A node with regions becomes a `Nested` of the calls of each region.

A backend may cut kernels up, merge their dims and renumber them before it finishes calls: index values that code needs are
still `affine`, which moves with the dims as an address does.
"""
from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import count
from typing import Union, cast

from flambeau.ir import ops
from flambeau.ir.graph import Graph, Node, Value
from flambeau.ir.graph.origin import Origin
from flambeau.ir.kernel import Address, Instr, Kernel, LoopKernel, Param, Stage, Store
from flambeau.ir.kinds import kind_named, kind_of
from flambeau.ir.op import RegionOp
from flambeau.ir.records import dataclass
from flambeau.passes.lowering.alike import Alike
from flambeau.passes.lowering.dims import collapse, expand_affine, renumbered, with_runtime_size
from flambeau.passes.lowering.loops import Fault, faults


@dataclass(frozen=True)
class Call:
    """One kernel at work: `buffers[i]` is the value behind kernel param i; `sizes` are its runtime extents. has_effects:
    it does more than storing results, and keeps its place among the others that do. origin: which traced ops it
    computes. faults: how bad data may end it."""

    kernel: Kernel
    buffers: tuple[Value, ...]
    sizes: tuple[int, ...] = ()
    phase: str = "forward"
    has_effects: bool = False
    origin: Origin | None = None
    faults: tuple[Fault, ...] = ()

    @property
    def results(self) -> list[Value]:
        """The values that it stores."""
        return [v for v, p in zip(self.buffers, self.kernel.params, strict=True) if p.role in ("out", "inout")]

    @property
    def operands(self) -> list[Value]:
        """The values that it reads."""
        return [v for v, p in zip(self.buffers, self.kernel.params, strict=True) if p.role in ("in", "inout")]

    @property
    def reads(self) -> Sequence[Value]:
        """The values that it reads, as often as it names them."""
        return self.operands

    @property
    def can_fail(self) -> bool:
        """Whether it may end with an error."""
        return self.kernel.can_fail

    def may_share(self, read: Value, written: Value) -> bool:
        """Whether `written` may lie in the memory of `read`: each element is stored where it was loaded, and no later
        stage loads it again."""
        params = self.kernel.params
        ins = [n for n, v in enumerate(self.buffers) if v is read and params[n].role == "in"]
        outs = [n for n, v in enumerate(self.buffers) if v is written and params[n].role == "out"]
        if len(ins) != 1 or len(outs) != 1 or params[ins[0]].elements != params[outs[0]].elements:
            return False
        return self.kernel.may_share(ins[0], outs[0])


@dataclass(frozen=True)
class Nested:
    """A node with regions, and the steps of each region."""

    node: Node
    bodies: tuple[Steps, ...]

    @property
    def results(self) -> list[Value]:
        return list(self.node.results)

    @property
    def operands(self) -> list[Value]:
        return list(dict.fromkeys(self.node.operands))

    @property
    def reads(self) -> Sequence[Value]:
        return self.node.operands

    @property
    def has_effects(self) -> bool:
        return not self.node.is_pure

    @property
    def can_fail(self) -> bool:
        return any(step.can_fail for body in self.bodies for step in body)

    def may_share(self, read: Value, written: Value) -> bool:
        """Whether `written` may take the place of `read` step by step, as what a loop carries does, or a branch that
        changes what it is given. Nothing else of the node may be `read`."""
        if self.node.operands.count(read) != 1:
            return False
        if isinstance(self.node.op, ops.WhileLoop):
            return self.node.operands.index(read) == written.index
        return isinstance(self.node.op, ops.Cond) and self.node.operands[0] is not read


Step = Union[Call, Nested]                  # noqa: UP007 (evaluated before Nested is known)
Steps = tuple[Step, ...]


def lower(graph: Graph, prepare: Callable[[list[Call]], list[Call]] = lambda calls: calls) -> list[Step]:
    """The steps of a fused graph, in its order. prepare: makes the calls of one fusion ready, or of several that are
    alike."""
    return _lowered(graph, count(), Alike(lambda node, name: prepare(lower_fusion(node, name))))


def _lowered(graph: Graph, numbers: Iterator[int], fusions: Alike) -> list[Step]:
    steps: list[Step] = []
    for node in graph.toposort():
        if isinstance(node.op, ops.Fusion):
            steps += fusions.calls(node, f"k{next(numbers)}")
        elif isinstance(node.op, RegionOp):
            steps.append(Nested(node, tuple([tuple(_lowered(region, numbers, fusions)) for region in node.regions])))
    return steps


def lower_fusion(node: Node, name: str) -> list[Call]:
    """One fusion as its kind lowers it."""
    assert isinstance(node.op, ops.Fusion), f"{node!r} is no fusion"
    calls = kind_named(node.op.kind).lower(node, name)
    told = faults(node.regions[0]) if any(call.can_fail for call in calls) else ()
    return [replace(call, origin=node.origin, has_effects=not node.is_pure, faults=told) for call in calls]


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


__all__ = ["Call", "Nested", "Step", "Steps", "call_of", "copy_call", "finish", "finish_code", "finish_loops", "lone_op",
           "lower", "lower_fusion"]
