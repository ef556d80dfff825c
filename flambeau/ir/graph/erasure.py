"""Graph -> the same graph without devices, for passes and lowering: a program lies wholly on one, as its caller knows."""
from __future__ import annotations

from flambeau.ir.devices import NOWHERE
from flambeau.ir.graph.structure import Graph, Input, clone
from flambeau.ir.ops.conversions import Place
from flambeau.ir.ops.elementwise import stop_gradient

__all__ = ["erased"]


def erased(graph: Graph) -> Graph:
    """A copy of `graph`, node for node, all of whose values are on "cpu"."""
    copy, _ = clone(graph)
    pending = [copy]
    while pending:
        current = pending.pop()
        for node in current._node:
            pending += node.regions
            if isinstance(node.op, Input):
                node.op = Input(node.op.label, node.op.kind, node.op.type.on(NOWHERE))
            elif isinstance(node.op, Place):
                node.op = stop_gradient     # as much an identity as that, and rules take it out
            for value in node.results:
                value.type = value.type.on(NOWHERE)
    return copy
