"""Graph -> Graph, in place. Marks what need not be computed at every call: values that are made of captured tensors alone,
which the program does not write, where calls would compute them again.

    %3 = mul(%scale, rsqrt(%var)); %4 = mul(%x, broadcast(%3))  ->  %4 = mul(%x, kept(broadcast(%3)))
    %2 = matmul(%x, permute(%w))                                ->  %2 = matmul(%x, kept(permute(%w)))

Fusion keeps apart what leads to a `kept` and what reads it; the memory plan then finds the kernels, and the parts of
kernels that pack an operand, that depend on nothing else, and the program runs them once for each version of the captured
tensors (decision 051). An operand of a contraction is marked even where nothing computes it, since it may be packed.

What costs no more than reading it (a few sums and products, of as many elements as what reads them walks) is left where it
is.

Requires: a graph that is only run with states that nobody writes meanwhile; ops decomposed.
"""
from __future__ import annotations

from math import prod

from flambeau.ir import ops
from flambeau.ir.graph import Graph, Node, Value
from flambeau.ir.ops.sources import Count
from flambeau.passes.lowering.spaces import is_view

__all__ = ["keep", "settled"]

_WORTH = 8                              # ops on an element that are slower than loading it


def keep(graph: Graph) -> Graph:
    """The pass."""
    fixed = settled(graph)
    roots = {value.node for value in graph.roots()}
    for node in graph.toposort():
        if node in fixed or isinstance(node.op, ops.Kept) or node.regions:
            continue
        for position, operand in enumerate(node.operands):
            if operand.node in fixed and not is_view(node) and _is_worth_it(node, operand, fixed, roots):
                made = graph.append(ops.Kept(), (operand,), loc=node.loc, phase=node.phase,
                                    origin=operand.node.origin or node.origin, at=node)
                graph.set_operand(node, position, made.result)
    return graph


def settled(graph: Graph) -> set[Node]:
    """The nodes that are computed from states alone which the graph does not write, states included."""
    written = {state for state, value in graph.writes.items() if value is not state}
    fixed: set[Node] = set()
    neutral: set[Node] = set()          # numbers and counts: alike for all
    for node in graph.toposort():
        if node.op.name == "input":
            if node.op.kind == "state" and node.result not in written:              # type: ignore[attr-defined]
                fixed.add(node)
        elif not node.is_pure or node.regions or isinstance(node.op, Count):
            continue
        elif all(v.node in fixed or v.node in neutral for v in node.operands):
            (fixed if any(v.node in fixed for v in node.operands) else neutral).add(node)
    return fixed


def _is_worth_it(node: Node, operand: Value, fixed: set[Node], roots: set[Node]) -> bool:
    source = operand
    while is_view(source.node):
        source = source.node.operands[0]
    if isinstance(node.op, ops.Bilinear) and node.operands[0] is not node.operands[1]:
        return True
    if source.node.op.name == "input" or source.node not in fixed or source.node in roots:
        return False
    made, cost = _made_of(source.node, fixed), 0
    for part in made:
        if not isinstance(part.op, ops.Elementwise | ops.Cast):
            return True                 # it sums, gathers or draws
        cost += getattr(part.op, "cost", 1)
    walked = max([prod(v.type.static_shape) for v in node.results], default=0)
    return cost >= _WORTH or walked > prod(source.type.static_shape)


def _made_of(node: Node, fixed: set[Node]) -> list[Node]:
    """What computes a node, itself included; views and inputs cost nothing."""
    found, pending = {node: None}, [node]
    while pending:
        for value in pending.pop().operands:
            if value.node in fixed and value.node not in found and value.node.op.name != "input":
                found[value.node] = None
                pending.append(value.node)
    return [part for part in found if not is_view(part)]
