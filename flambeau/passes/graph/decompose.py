"""Graph -> Graph, in place. Ops that say how they are made of simpler ones become those; an op that is just one of
its regions, as a custom op is its forward region, becomes what that holds.

    %1 = softmax(%0, dim=1)  ->  %1 = amax(%0); %2 = sub(%0, broadcast(%1)); %3 = exp(%2); ...

New ops keep the location and phase of the op they came from. Ensures: no op that is left has a decomposition.
"""
from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Any, Final

from flambeau.errors import VerificationError
from flambeau.ir.graph import Graph, Node, Value, inline
from flambeau.ir.op import Op, RegionOp
from flambeau.passes.graph.rewrite import Rewriter, graphs_within

__all__ = ["decompose"]

_DEEPEST: Final = 64                        # decompositions of decompositions


def decompose(graph: Graph) -> Graph:
    """Decompose the ops of `graph`, and of regions that stay, in place; the same graph."""
    for current in reversed(graphs_within(graph)):        # inner regions first: inlining copies them
        _Decomposer(current).run()
    return graph


class _Decomposer(Rewriter):
    at_node: Node | None = None             # a node with effects that is being replaced

    def run(self) -> None:
        pending = deque((node, 0) for node in self.graph.toposort())
        while pending:
            node, depth = pending.popleft()
            if type(node.op).decompose is Op.decompose and not isinstance(node.op, RegionOp):
                continue
            self.made: list[Node] = []
            results = self._parts(node)
            if results is not None:
                if depth >= _DEEPEST:
                    raise VerificationError(f"{node.op.name} decomposes into itself: {depth} times")
                pending.extend((made, depth + 1) for made in self.made)
                self.replace(node, results)
                if not node.is_pure:            # its effects are those of what took its place
                    self.erase(node)

    def _parts(self, node: Node) -> Sequence[Value] | None:
        self.stand_for(node)
        self.at_node = None if node.is_pure else node
        if isinstance(node.op, RegionOp):
            found = node.op.region_of(node.regions, [None] * len(node.operands))
            return None if found is None else self._inlined(node, *found)
        return node.op.decompose(self, node.operands)

    def _inlined(self, node: Node, region: Graph, first: int) -> Sequence[Value]:
        new_of = inline(region, self.graph, dict(zip(region.inputs, node.operands[first:], strict=True)), loc=node.loc,
                        phase=node.phase, origin=node.origin, at=self.at_node)
        outside = {value.node for value in node.operands}
        self.made = list({value.node: None for value in new_of.values() if value.node not in outside})
        return [new_of[value] for value in region.outputs]

    def emit(self, op: Op, *operands: Value, regions: tuple[Graph, ...] = ()) -> Any:
        node = self.graph.append(op, operands, loc=self.loc, phase=self.phase, origin=self.origin,
                                 regions=regions, at=self.at_node)
        self.made.append(node)
        return node.results[0] if len(node.results) == 1 else node.results
