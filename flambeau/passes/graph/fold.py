"""Graph -> Graph, in place. Evaluates ops on constants by their NumPy meaning, where the result is small.

    %0 = constant(2.0); %1 = constant(3.0); %2 = mul(%0, %1)  ->  %2 = constant(6.0)

A result that is larger than its operands stays unevaluated: a broadcast constant is cheaper than an array in memory.
A `cond` on a constant becomes the region that it chooses; constants that regions are given become constants in them.
"""
from __future__ import annotations

from typing import Final

import numpy as np

from flambeau.errors import KernelError
from flambeau.ir import ops
from flambeau.ir.dtypes import DType, to_compute, to_storage
from flambeau.ir.graph import Graph, Node
from flambeau.ir.graph.interpreter import evaluate_node
from flambeau.ir.literal import Literal
from flambeau.ir.op import RegionOp
from flambeau.passes.graph.rewrite import Rewriter, graphs_within, is_removable

__all__ = ["fold"]

_MOST_ELEMENTS: Final = 1024                # of an operand or a result


def fold(graph: Graph) -> Graph:
    """Evaluate what is constant in `graph` and in the regions in it, in place; the same graph."""
    for current in graphs_within(graph):
        _sink_constants(current)
    for current in reversed(graphs_within(graph)):
        _fold_constants(current)
    return graph


def _sink_constants(graph: Graph) -> None:
    """Constants that a node with regions is given become constants in each of its regions."""
    for node in graph.toposort():
        if not isinstance(node.op, RegionOp):
            continue
        for position, value in enumerate(node.operands):
            number = node.op.input_of(node.regions, position)
            if number is None or not isinstance(value.node.op, ops.Constant):
                continue
            for region in node.regions:
                if region.has_uses(region.inputs[number]):
                    region.replace_uses(region.inputs[number], region.append(value.node.op, loc=value.node.loc).result)


def _fold_constants(graph: Graph) -> None:
    rewriter = Rewriter(graph)
    pending = list(graph.toposort())
    for node in pending:                    # grows while it is walked
        if isinstance(node.op, RegionOp):
            pending += _choose(rewriter, node)
        elif node.operands and type(node.operands[0].node.op) is ops.Constant and _is_constant(node) and _is_small(node):
            arrays = _evaluated(node)
            if arrays is not None:
                rewriter.stand_for(node)
                literals = [_literal(array, v.dtype) for array, v in zip(arrays, node.results, strict=True)]
                rewriter.replace(node, [rewriter.emit(ops.Constant(value)) for value in literals])


def _choose(rewriter: Rewriter, node: Node) -> list[Node]:
    """Put the nodes of the only region that a node does in its place, if its constants leave just one; those nodes."""
    assert isinstance(node.op, RegionOp)
    known = [v.node.op.value if isinstance(v.node.op, ops.Constant) else None for v in node.operands]
    found = node.op.region_of(node.regions, known)
    if found is None or all(value is None for value in known):
        return []
    region, first = found
    given = dict(zip(region.inputs, node.operands[first:], strict=True))
    new_of = rewriter.graph.inline(region, given, loc=node.loc, phase=node.phase, at=node)
    rewriter.replace(node, [new_of[value] for value in region.outputs])
    if node in rewriter.graph._node:        # its effects are those of what took its place
        rewriter.erase(node)
    return list({v.node: None for old, v in new_of.items() if old not in given})


def _is_constant(node: Node) -> bool:
    return False not in [type(v.node.op) is ops.Constant for v in node.operands]


def _is_small(node: Node) -> bool:
    if not is_removable(node) or not all(value.type.is_static for value in node.results):
        return False
    read = max(value.type.numel for value in node.operands)
    return read <= _MOST_ELEMENTS and all(value.type.numel <= max(1, read) for value in node.results)


def _evaluated(node: Node) -> tuple[np.ndarray, ...] | None:
    """The results as storage arrays; None where evaluation is an error, which is then reported at run time."""
    arrays = [value.node.op.value.array for value in node.operands]  # type: ignore[attr-defined]
    try:
        return evaluate_node(node, arrays)
    except KernelError:
        return None


def _literal(array: np.ndarray, dtype: DType) -> Literal:
    """With NaNs of the usual bits: which ones arithmetic gives differs between machines."""
    if dtype.is_floating_point:
        numbers = to_compute(array, dtype)
        array = to_storage(np.where(np.isnan(numbers), numbers.dtype.type(np.nan), numbers), dtype)
    return Literal(array, dtype)
