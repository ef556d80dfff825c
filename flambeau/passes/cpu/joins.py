"""Graph -> Graph, in place. Which joined tensors are copied part by part, in a kernel of their own.

    %128 = concat(%0, ..., %127, dim=0)  ->  %128 = concat(%0, ..., %127, dim=0, by_parts=true)

In a loop over the result each point asks for every part whether it lies there: work in the order of parts times points, as
often as something reads the result where it is computed. Few parts, or few points, are cheaper so than one kernel more.
"""
from __future__ import annotations

from dataclasses import replace
from math import prod
from typing import Final

from flambeau.ir import ops
from flambeau.ir.graph import Graph, Node
from flambeau.passes.graph.rewrite import Rewriter, graphs_within

__all__ = ["join_by_parts"]

_FEWEST_PARTS: Final = 8
_LEAST_WORK: Final = 1 << 15            # parts times points
_SHORTEST_RUN: Final = 16               # elements of a part that lie beside each other


def join_by_parts(graph: Graph) -> Graph:
    """Mark those that gain by it; the same graph."""
    for current in graphs_within(graph):
        found = [node for node in current.toposort() if isinstance(node.op, ops.Concat) and _gains(node.op, node)]
        rewriter = Rewriter(current) if found else None
        for node in found:
            assert rewriter is not None and isinstance(node.op, ops.Concat)
            rewriter.stand_for(node)
            rewriter.replace(node, [rewriter.emit(replace(node.op, by_parts=True), *node.operands)])
    return graph


def _gains(op: ops.Concat, node: Node) -> bool:
    shape, parts = node.results[0].type.shape, len(node.operands)
    if op.by_parts or parts < _FEWEST_PARTS or not all(isinstance(size, int) for size in shape) or \
            parts * prod(shape) < _LEAST_WORK or len({*node.operands}) < parts:
        return False
    runs = [prod(part.type.static_shape[op.dim:]) for part in node.operands]
    return min(run for run in runs if run) >= _SHORTEST_RUN
