"""The numbers of traced tensors that are computed from constants alone: what Python may look at while it is traced."""
from __future__ import annotations

import numpy as np

from flambeau.ir.graph import Input, Node, Value
from flambeau.ir.graph.interpreter import evaluate_node
from flambeau.ir.op import RegionOp
from flambeau.ir.ops import Place


def known_array(value: Value, arrays: dict[Value, np.ndarray]) -> np.ndarray | None:
    """The elements of a value as a storage array that nobody may write to; None where they depend on an input, or on what
    has an effect. arrays: what was found before, added to."""
    pending = [value.node]
    needed: dict[Node, None] = {}
    while pending:
        node = pending.pop()
        if node in needed or node.results[0] in arrays:
            continue
        if isinstance(node.op, (Input, RegionOp)) or not node.is_pure:
            return None
        needed[node] = None
        pending += [v.node for v in node.operands]
    for node in sorted(needed, key=lambda n: n.seq):
        given = [arrays[v] for v in node.operands]
        found = given if isinstance(node.op, Place) else evaluate_node(node, given)
        for result, array in zip(node.results, found, strict=True):
            arrays[result] = array.view()
            arrays[result].flags.writeable = False
    return arrays[value]
