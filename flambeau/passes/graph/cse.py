"""Graph -> Graph, in place. Nodes that compute the same become one: same op, attributes, operands and regions.

    %1 = exp(%0); %2 = exp(%0); %3 = add(%1, %2)  ->  %1 = exp(%0); %3 = add(%1, %1)

One walk in topological order finds chains of them too. Nodes with effects stay apart.
"""
from __future__ import annotations

from collections.abc import Hashable
from typing import Final

from flambeau.ir.attributes import op_key
from flambeau.ir.graph import Graph, Node
from flambeau.ir.graph.hash import structural_hash
from flambeau.ir.graph.origin import union
from flambeau.passes.graph.rewrite import Rewriter, graphs_within, is_removable

__all__ = ["cse"]

_COMMUTATIVE: Final = frozenset({"add", "mul", "eq", "ne", "logical_and", "logical_or", "logical_xor", "bitwise_and",
                                 "bitwise_or", "bitwise_xor"})


def cse(graph: Graph) -> Graph:
    """Merge equal nodes of `graph`, and of each region in it, in place; the same graph."""
    for current in reversed(graphs_within(graph)):
        _merge_equal(current)
    return graph


def _merge_equal(graph: Graph) -> None:
    rewriter = Rewriter(graph)
    first_of: dict[Hashable, Node] = {}
    for node in list(graph.toposort()):
        if is_removable(node):
            first = first_of.setdefault(_key(node), node)
            if first is not node:
                first.origin = union(first.origin, node.origin)
                rewriter.replace(node, first.results)


def _key(node: Node) -> Hashable:
    """As `ir.hash.node_key`, with the operands of commutative ops in either order."""
    operands = node.operands
    if node.op.name in _COMMUTATIVE and operands[0].node.seq > operands[1].node.seq:
        operands = operands[::-1]
    if not node.regions:
        return (op_key(node.op), operands)
    return (op_key(node.op), operands, *map(structural_hash, node.regions))
