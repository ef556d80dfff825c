"""Fused graph -> fused graph, in place. What was computed of named sizes alone becomes constants in the kernels that read
it, once the sizes are numbers.

    %1 = fusion() { count(size=32) -> cast -> 1/x }       %2 = fusion(%0) { mul(%a, constant(0.03125)) }
    %2 = fusion(%0, %1) { mul(%a, %b) }               ->

A program for one size has them there from the start; fusing named sizes leaves a kernel for them, and loads of its results.
"""
from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from flambeau.errors import KernelError
from flambeau.ir import ops
from flambeau.ir.graph import Graph, Node, Value
from flambeau.ir.graph.interpreter import evaluate_node
from flambeau.ir.graph.structure import inline
from flambeau.ir.literal import Literal
from flambeau.ir.op import Op
from flambeau.ir.ops.families import Elementwise
from flambeau.ir.types import TensorType
from flambeau.passes.graph.rewrite import Rewriter, graphs_within, is_removable

__all__ = ["settle_numbers"]


def settle_numbers(graph: Graph) -> Graph:
    """Requires: sizes that are numbers. Ensures: each value is what it was."""
    for current in graphs_within(graph):
        rewriter = Rewriter(current)
        for node in [node for node in current.toposort() if isinstance(node.op, ops.Fusion)]:
            if _is_number(node, rewriter):
                _evaluate(rewriter, node)
            else:
                _sink(rewriter, node)
        rewriter.apply({}, [])
    return graph


def _is_number(node: Node, rewriter: Rewriter) -> bool:
    """Whether a kernel makes single numbers of constants alone, that other kernels read."""
    known = all(_constant(v) is not None for v in node.operands)
    single = all(v.type.numel == 1 and v not in rewriter.roots for v in node.results)
    kept = any(isinstance(inner.op, ops.Kept) for inner in node.regions[0].toposort())
    return known and single and not kept and is_removable(node)


def _constant(value: Value) -> ops.Constant | None:
    op = value.node.op
    return op if isinstance(op, ops.Constant) and op.value.array.size == 1 else None


def _evaluate(rewriter: Rewriter, node: Node) -> None:
    arrays = [value.node.op.value.array for value in node.operands]         # type: ignore[attr-defined]
    try:
        results = evaluate_node(node, arrays)
    except KernelError:                     # reported at run time
        return
    rewriter.replace(node, [_put(rewriter, node, ops.Constant(Literal(np.asarray(array), v.dtype)), [v.type])[0]
                            for array, v in zip(results, node.results, strict=True)])


def _put(rewriter: Rewriter, node: Node, op: Op, types: Sequence[TensorType], operands: Sequence[Value] = (),
         regions: tuple[Graph, ...] = ()) -> Sequence[Value]:
    """The results of an op in a node's place."""
    return rewriter.graph.append(op, operands, loc=node.loc, phase=node.phase, origin=node.origin, regions=regions,
                                 types=types, at=node).results


def _sink(rewriter: Rewriter, node: Node) -> None:
    """Constants that a kernel reads only as numbers become constants in its region."""
    (region,) = node.regions
    sunk = {inner: op for inner, outer in zip(region.inputs, node.operands, strict=True)
            if (op := _constant(outer)) is not None and _is_read_as_number(region, inner)}
    if not sunk:
        return
    made, binding, operands = Graph(name=region.name), dict[Value, Value](), list[Value]()
    for inner, outer in zip(region.inputs, node.operands, strict=True):
        if inner in sunk:
            binding[inner] = made.append(sunk[inner], loc=outer.node.loc).result
        else:
            binding[inner] = made.add_input(inner.type, f"in{len(operands)}")
            operands.append(outer)
    new_of = inline(region, made, binding)
    made.outputs = [new_of[value] for value in region.outputs]
    rewriter.replace(node, _put(rewriter, node, node.op, [v.type for v in node.results], operands, (made,)))
    for value in node.operands:
        if value not in operands:
            rewriter.push(value.node)


def _is_read_as_number(region: Graph, value: Value) -> bool:
    """By elementwise ops, maybe spread out before: not as an operand that has to lie in memory."""
    if value in region.outputs:
        return False
    for user, _ in region.uses(value):
        spread = isinstance(user.op, ops.Broadcast | ops.Reshape) and _is_read_as_number(region, user.results[0])
        if not spread and not isinstance(user.op, Elementwise):
            return False
    return True
