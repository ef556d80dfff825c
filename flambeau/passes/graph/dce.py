"""Graph -> Graph, in place. Erases nodes that no output, write or effect depends on. Inputs stay: they are the
signature."""
from __future__ import annotations

from flambeau.ir.graph import Graph, Node
from flambeau.passes.graph.rewrite import graphs_within, is_removable

__all__ = ["dce"]


def dce(graph: Graph) -> Graph:
    """Erase dead nodes of `graph` and of the regions in it, in place; the same graph."""
    for current in graphs_within(graph):
        _erase_dead(current)
    return graph


def _erase_dead(graph: Graph) -> None:
    live: set[Node] = {value.node for value in graph.roots()}
    for node in reversed(graph.toposort()):
        if node in live or not is_removable(node):
            live.add(node)
            live.update([value.node for value in node.operands])
    graph.erase_all([node for node in graph.toposort() if node not in live])
