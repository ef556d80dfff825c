"""Graph -> Graph. Reverse mode: walk operations backwards, sending each result's cotangent to its operands.

`backpropagate` is the algorithm, written once over anything that has ops, operands and results: the nodes of a
Graph (`vjp` below), and the tape of the eager frontend, whose builder evaluates at once or appends to the trace.
"""
from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from flambeau.errors import VerificationError
from flambeau.ir.builder import Builder

if TYPE_CHECKING:
    from flambeau.ir.graph import Graph, Node, Value

V = TypeVar("V", bound=Hashable)


def backpropagate(b: Any, reversed_operations: Iterable[Any], seeds: Mapping[Any, Any],
                  parts_of: Callable[[Any], tuple[Sequence[Any], Sequence[Any], Sequence[Any]]],
                  wants: Callable[[Any], bool]) -> dict[Any, Any]:
    """Cotangent by key. `seeds` gives those of the outputs; `parts_of(operation)` gives (operands, results, keys):
    the values a derivative rule reads, and for each operand the key its cotangent is added up under;
    `keys` are those of operands followed by those of results. `wants(key)` says whether a cotangent is needed."""
    cotangent_of = dict(seeds)
    for operation in reversed_operations:
        operands, results, keys = parts_of(operation)
        result_keys = keys[len(operands):]
        cotangents = [cotangent_of.get(key) for key in result_keys]
        if all(ct is None for ct in cotangents) or not any(wants(key) for key in keys[:len(operands)]):
            continue
        contributions = operation.op.vjp(b, operands, results, cotangents)
        if len(contributions) != len(operands):
            raise VerificationError(f"{operation.op.name}: vjp gave {len(contributions)} cotangents")
        for key, ct in zip(keys, contributions, strict=False):
            if ct is not None and wants(key):
                old = cotangent_of.get(key)
                cotangent_of[key] = ct if old is None else b.add(old, ct)
    return cotangent_of


def vjp(graph: Graph, outputs: Sequence[Value], cotangents: Sequence[Value | None],
        wrt: Sequence[Value]) -> list[Value | None]:
    """Append to `graph` the cotangents of `wrt`, given those of `outputs`; None where nothing flows.

    The new nodes are marked phase "backward" and carry the location of the operation they differentiate."""
    reached = _depends_on(graph, wrt)
    b = _LocatedBuilder(graph, phase="backward")
    seeds: dict[Value, Value] = {}
    for output, ct in zip(outputs, cotangents, strict=True):
        if ct is not None:
            seeds[output] = b.add(seeds[output], ct) if output in seeds else ct
    needed = _ancestors(outputs)
    order = [node for node in reversed(graph.toposort()) if node in needed and node.operands]
    found = backpropagate(b, order, seeds, b.parts_of, lambda value: value in reached)
    return [found.get(value) for value in wrt]


class _LocatedBuilder(Builder):
    """Stamps derivative ops with the location of the op being differentiated."""

    def parts_of(self, node: Node) -> tuple[Sequence[Value], Sequence[Value], Sequence[Value]]:
        self.loc = node.loc
        self.regions = node.regions
        return node.operands, node.results, (*node.operands, *node.results)


def _ancestors(values: Sequence[Value]) -> set[Node]:
    seen: set[Node] = set()
    stack = [value.node for value in values]
    while stack:
        node = stack.pop()
        if node not in seen:
            seen.add(node)
            stack.extend(v.node for v in node.operands)
    return seen


def _depends_on(graph: Graph, sources: Sequence[Value]) -> set[Value]:
    """Floating-point values computed from `sources`, themselves included."""
    reached = set(sources)
    for node in graph.toposort():
        if any(v in reached for v in node.operands):
            reached.update(v for v in node.results if v.dtype.is_floating_point)
    return reached
