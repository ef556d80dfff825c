"""Graph -> Graph, in place. Erases nodes that no output, write or effect depends on. Inputs stay: they are the
signature.

    %2, %3 = cond(%p, %0, %1) { return a, b }; return %2   ->   %2 = cond(%p, %0) { return a }

A node with regions loses the results that nothing reads, what its regions compute for those alone, and the operands
that its regions then don't read.
"""
from __future__ import annotations

from flambeau.ir.graph import Graph, Node
from flambeau.ir.op import RegionOp
from flambeau.passes.graph.rewrite import is_removable

__all__ = ["dce"]


def dce(graph: Graph) -> Graph:
    """Erase dead nodes of `graph` and of the regions in it, in place; the same graph."""
    _erase_dead(graph)
    holders = [node for node in graph.toposort() if node.regions]
    for node in reversed(holders):                          # users first: they may stop reading a result
        if node in graph._node:
            _shrink(graph, node)
    return graph


def _shrink(graph: Graph, node: Node) -> None:
    """Trim a node and its regions, which may have more to trim once the other was."""
    while True:
        node = _trimmed(graph, node)
        for region in node.regions:
            dce(region)
        smaller = _trimmed(graph, node)
        if smaller is node:
            return
        node = smaller


def _erase_dead(graph: Graph) -> None:
    live: set[Node] = {value.node for value in graph.roots()}
    for node in reversed(graph.toposort()):
        if node in live or not is_removable(node):
            live.add(node)
            live.update([value.node for value in node.operands])
    graph.erase_all([node for node in graph.toposort() if node not in live])


def _trimmed(graph: Graph, node: Node) -> Node:
    """The node that takes the place of one with unused results or operands, or that node."""
    assert isinstance(node.op, RegionOp)
    left = node.op.trimmed(node.regions, [graph.has_uses(value) for value in node.results])
    if left is None:
        return node
    made = graph.append(node.op, [node.operands[n] for n in left.operands], loc=node.loc, phase=node.phase,
                        origin=node.origin, regions=left.regions, at=node)
    for n, value in zip(left.results, made.results, strict=True):
        graph.replace_uses(node.results[n], value)
    graph.erase(node)
    _erase_dead(graph)
    return made
