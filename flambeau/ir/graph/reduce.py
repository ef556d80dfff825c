"""Delta debugging: a graph that shows a fault -> a small one that shows it too.

    small, arrays = reduce(graph, arrays, fails)        fails(graph, arrays) -> bool, true for what is given

Larger steps come first: one result instead of all, everything before some place of the order as inputs that hold what was
computed there, then node by node: left out, or an input; then two at once, as long as it is not small; then dims become
smaller (`resize`). What a candidate computes is the interpreter's. (Zeller and Hildebrandt, Simplifying and isolating
failure-inducing input, 2002; steps that suit graphs.)
"""
from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final

import numpy as np

from flambeau.ir.graph.interpreter import evaluate_node
from flambeau.ir.graph.resize import smaller_sizes
from flambeau.ir.graph.structure import Graph, Node, Value, clone, inline

__all__ = ["Fails", "pruned", "reduce"]

Fails = Callable[[Graph, Sequence[np.ndarray]], bool]
_Case = tuple[Graph, list[np.ndarray]]
_SMALL: Final = 8                       # nodes


def reduce(graph: Graph, arrays: Sequence[np.ndarray], fails: Fails, seconds: float = float("inf")) -> _Case:
    """A graph that `fails` on its arrays, too, and none of whose next steps does; after so many seconds of CPU the smallest
    yet. graph: with sizes that are numbers; left as it was. arrays: in the order of its inputs, in storage layout."""
    until = time.process_time() + seconds
    current: _Case = (graph, list(arrays))
    tried = True
    while tried:
        tried = False
        for candidate in _smaller(*current):
            if time.process_time() > until:
                return current
            if fails(*candidate):
                current, tried = candidate, True
                break
    return current


def _smaller(graph: Graph, arrays: list[np.ndarray]) -> Iterator[_Case]:
    """Candidates, each with fewer nodes or roots, those that leave least first."""
    yield from _fewer_roots(graph, arrays)
    array_of = dict(zip(graph.inputs, arrays, strict=True))
    nodes = [node for node in graph.toposort() if node.op.name != "input"]
    for node in nodes:
        made = evaluate_node(node, [array_of[v] for v in node.operands], effects=False)
        array_of.update(zip(node.results, made, strict=True))
    for count in _doubling(len(nodes)):     # the last ones alone, fed with what the others computed
        yield from _without_beginning(graph, arrays, nodes[:-count], array_of)
    for count in _doubling(len(nodes)):     # the first ones alone
        yield from _without_end(graph, arrays, nodes[:count])
    instead = [(result, value) for node in reversed(nodes) for result in node.results if graph.has_uses(result)
               for value in _others(graph, node, result)]
    yield from (_with(graph, arrays, [pair]) for pair in instead)
    for node in reversed(nodes):
        if node.operands and any(map(graph.has_uses, node.results)):
            yield _as_inputs(graph, arrays, node.results, array_of)
    for root in dict.fromkeys(graph.roots()):           # what it is made of, instead
        if root.node.operands:
            rest = [value for value in graph.outputs if value.node is not root.node]
            parts = [value for value in root.node.operands if value.node.operands and value not in rest]
            kept = {state: value for state, value in graph.writes.items() if value.node is not root.node}
            yield pruned(graph, arrays, [*rest, *dict.fromkeys(parts)], kept)
    if len(nodes) > _SMALL:
        cuts = [node.results for node in nodes if node.operands and any(map(graph.has_uses, node.results))]
        yield from (_as_inputs(graph, arrays, [*a, *b], array_of) for a, b in itertools.combinations(cuts, 2))
        yield from (_with(graph, arrays, pair) for pair in itertools.combinations(instead, 2))
        for pair, cut in itertools.product(instead, cuts):
            yield _as_inputs(graph, arrays, cut, array_of, [pair])
    yield from smaller_sizes(graph, arrays)


def _others(graph: Graph, node: Node, result: Value) -> list[Value]:
    """What may stand for a result: operands of its type, then all else of that type that comes before."""
    earlier = [v for v in graph.inputs if v.type == result.type]
    for other in graph.toposort():
        if other is node:
            break
        earlier += [v for v in other.results if v.type == result.type and other.operands]
    return list(dict.fromkeys([*[v for v in node.operands if v.type == result.type], *earlier]))


def _fewer_roots(graph: Graph, arrays: list[np.ndarray]) -> Iterator[_Case]:
    roots = [("out", n) for n in range(len(graph.outputs))] + [("write", n) for n in range(len(graph.writes))]
    if len(roots) < 2:
        return
    writes = list(graph.writes.items())

    def kept(those: Sequence[tuple[str, int]]) -> _Case:
        return pruned(graph, arrays, [graph.outputs[n] for kind, n in those if kind == "out"],
                      dict(writes[n] for kind, n in those if kind == "write"))

    yield from (kept([root]) for root in roots)
    half = len(roots) // 2
    if half > 1:
        yield from (kept(roots[:half]), kept(roots[half:]))
    yield from (kept([other for other in roots if other != root]) for root in roots)


def _without_beginning(graph: Graph, arrays: list[np.ndarray], beginning: Sequence[Node],
                       array_of: Mapping[Value, np.ndarray]) -> Iterator[_Case]:
    """What the first nodes computed, where others read it, comes from outside."""
    within = set(beginning)
    read = [v for node in graph.toposort() if node not in within for v in node.operands if v.node in within]
    given = list(dict.fromkeys(v for v in read if v.node.operands))
    if given:
        yield _as_inputs(graph, arrays, given, array_of)


def _without_end(graph: Graph, arrays: list[np.ndarray], beginning: Sequence[Node]) -> Iterator[_Case]:
    """What the first nodes computed and others read is the result."""
    within = set(beginning)
    read = {v for node in graph.toposort() if node not in within for v in node.operands}
    results = [v for node in beginning for v in node.results if v in read or any(v is root for root in graph.roots())]
    if results and len(beginning) < len(graph) - len(graph.inputs):
        yield pruned(graph, arrays, results, {})


def _doubling(count: int) -> Iterator[int]:
    part = 1
    while part < count:
        yield part
        part *= 2


def _as_inputs(graph: Graph, arrays: list[np.ndarray], values: Sequence[Value], array_of: Mapping[Value, np.ndarray],
               instead: Sequence[tuple[Value, Value]] = ()) -> _Case:
    copy, new_of = clone(graph)
    for old, new in instead:
        copy.replace_uses(new_of[old], new_of[new])
    for value in values:
        copy.replace_uses(new_of[value], copy.add_input(value.type, f"cut{len(copy.inputs)}"))
    return pruned(copy, [*arrays, *[array_of[value] for value in values]], copy.outputs, copy.writes)


def _with(graph: Graph, arrays: list[np.ndarray], instead: Sequence[tuple[Value, Value]]) -> _Case:
    copy, new_of = clone(graph)
    for old, new in instead:
        copy.replace_uses(new_of[old], new_of[new])
    return pruned(copy, arrays, copy.outputs, copy.writes)


def pruned(graph: Graph, arrays: Sequence[np.ndarray], outputs: Sequence[Value], writes: Mapping[Value, Value]) -> _Case:
    """A copy with these roots and only what they need, inputs too; effects are left out."""
    needed: set[Node] = set()
    stack = [v.node for v in (*outputs, *writes.values(), *writes)]
    while stack:
        node = stack.pop()
        if node not in needed:
            needed.add(node)
            stack += [v.node for v in node.operands]
    small = Graph(name=graph.name)
    new_of = inline(graph, small, {}, nodes=_operands_first(graph, needed))
    kept = [(v, a) for v, a in zip(graph.inputs, arrays, strict=True) if v.node in needed]
    small.inputs = [new_of[v] for v, _ in kept]
    small.outputs = [new_of[v] for v in outputs]
    small.writes = {new_of[s]: new_of[v] for s, v in writes.items()}
    return small, [a for _, a in kept]


def _operands_first(graph: Graph, needed: set[Node]) -> list[Node]:
    """Inputs, as they are numbered, then the rest in order: a value that was replaced may come late."""
    order = [v.node for v in graph.inputs if v.node in needed]
    return [*order, *[node for node in graph.toposort() if node in needed and node.op.name != "input"]]
