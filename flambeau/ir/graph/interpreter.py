"""The NumPy interpreter: a Graph's meaning. Slow, simple, and what every compiled result is checked against."""
from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from flambeau.errors import VerificationError
from flambeau.ir.evaluation import apply
from flambeau.ir.graph.sizes import sizes_of, with_sizes
from flambeau.ir.op import Effect, RegionOp

if TYPE_CHECKING:
    from flambeau.ir.graph import Graph, Node


class _Arrays:
    """Regions on plain arrays."""

    def __init__(self, effects: bool) -> None:
        self.effects = effects

    def outputs(self, region: Graph, operands: Sequence[np.ndarray]) -> tuple[np.ndarray, ...]:
        return interpret(region, operands, self.effects)[0]

    def holds(self, predicate: np.ndarray) -> bool:
        return bool(predicate)


def evaluate_node(node: Node, arrays: Sequence[np.ndarray], effects: bool = True) -> tuple[np.ndarray, ...]:
    """The results of one node, as storage arrays. effects: whether it prints and calls back, too."""
    if isinstance(node.op, RegionOp):
        return tuple(node.op.evaluate_regions(_Arrays(effects), node.regions, arrays))
    if not effects and node.op.effect is Effect.IO and not node.results:
        return ()
    return apply(node.op, arrays, [v.type for v in node.operands], [v.type for v in node.results])


def _at_sizes(graph: Graph, inputs: Sequence[np.ndarray]) -> Graph:
    sizes = sizes_of([v.type for v in graph.inputs], [array.shape for array in inputs])
    if sizes is None:
        raise VerificationError(f"{graph.name} takes {', '.join([str(v.type) for v in graph.inputs])}, got arrays of "
                                f"{', '.join([str(list(array.shape)) for array in inputs])}")
    broken = None if graph.facts is None else graph.facts.broken(sizes)
    if broken is not None:
        raise VerificationError(f"{graph.name}: {broken}")
    return with_sizes(graph, sizes)


def interpret(graph: Graph, inputs: Sequence[np.ndarray],
              effects: bool = True) -> tuple[tuple[np.ndarray, ...], tuple[np.ndarray, ...]]:
    """(outputs, written states in the order of `graph.writes`), as storage arrays. `inputs` are storage arrays in
    the order of `graph.inputs`; none is changed. Names of sizes are what the shapes of the inputs say. effects: whether it
    prints and calls back, too."""
    if len(inputs) != len(graph.inputs):
        raise VerificationError(f"{graph.name} takes {len(graph.inputs)} inputs, got {len(inputs)}")
    if not all(v.type.is_static for v in graph.inputs):
        return interpret(_at_sizes(graph, inputs), inputs, effects)
    array_of = dict(zip(graph.inputs, inputs, strict=True))
    for node in graph.toposort():
        if node.op.name != "input":
            results = evaluate_node(node, [array_of[v] for v in node.operands], effects)
            array_of.update(zip(node.results, results, strict=True))
    return (tuple(array_of[v] for v in graph.outputs), tuple(array_of[v] for v in graph.writes.values()))
