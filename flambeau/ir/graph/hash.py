"""Graph -> a key that is equal for two graphs exactly when they compute the same thing by the same ops.

Names (of the graph and its inputs), locations, phases, the order of independent nodes and nodes that nothing reads
do not count; ops, attributes, operands, the kinds and order of inputs, outputs and writes, and the order of effects
do. Nodes are numbered by a walk from the roots to the operands, so the key does not depend on how a graph was built.
"""
from __future__ import annotations

import hashlib
from collections.abc import Callable, Hashable, Iterator
from typing import TYPE_CHECKING, Any, Final

from flambeau.ir.attributes import attribute_key, op_key
from flambeau.ir.graph.text import sizes_lines

if TYPE_CHECKING:
    from flambeau.ir.graph import Graph, Node, Value
    from flambeau.ir.location import Location

__all__ = ["attribute_key", "node_key", "op_key", "structural_hash", "text_key"]

_VERSION: Final = "flambeau graph 1"        # changes whenever the encoding does


def structural_hash(graph: Graph) -> str:
    """32 hex digits, the same in every process."""
    canonical = _Canonical(graph)
    return hashlib.blake2b(repr(canonical.form()).encode(), digest_size=16).hexdigest()


def text_key(graph: Graph) -> str:
    """64 hex digits, the same in every process and equal only for graphs that print alike: names, locations, phases and the
    order of nodes count. Raises TypeError for an attribute that has no text."""
    return hashlib.sha256(repr(_text_form(graph)).encode()).hexdigest()


def _text_form(graph: Graph) -> tuple[object, ...]:
    """Ops, types and locations are listed once, and nodes hold their numbers: few of them differ."""
    ops, types, places = _Rows(op_key), _Rows(str), _Rows(_place)
    nodes: list[tuple[object, ...]] = []
    number_of: dict[Value, object] = {}
    for number, node in enumerate(graph.toposort()):
        op, results, loc = node.op, node.results, node.loc
        regions = [_text_form(region) for region in node.regions]
        nodes.append((ops.numbers.get(id(op)) or ops.add(op), [number_of[value] for value in node.operands],
                      [types.numbers.get(id(value.type)) or types.add(value.type) for value in results], node.phase,
                      loc and (places.numbers.get(id(loc)) or places.add(loc)), regions))
        for value in results:
            number_of[value] = (number, value.index) if value.index else number
    known = [] if graph.facts is None else [_VERSION, *sizes_lines(graph.facts)]
    return (_VERSION, *known, graph.name, [number_of[value] for value in graph.inputs], ops.rows, types.rows, places.rows,
            nodes, [number_of[value] for value in graph.outputs],
            [(number_of[state], number_of[value]) for state, value in graph.writes.items()])


def _place(loc: Location) -> Hashable:
    return (loc.file, loc.line, loc.function, loc.module, loc.called)


class _Rows:
    """What many nodes share. numbers: from 1 on, by id of objects that outlive this one."""

    def __init__(self, key: Callable[[Any], Hashable]) -> None:
        self.rows: list[Hashable] = []
        self.numbers: dict[int, int] = {}
        self._key = key
        self._known: dict[Hashable, int] = {}

    def add(self, item: object) -> int:
        """Its number; objects of one key have one."""
        row = self._key(item)
        number = self._known.setdefault(row, len(self.rows) + 1)
        if number > len(self.rows):
            self.rows.append(row)
        self.numbers[id(item)] = number
        return number


def node_key(node: Node) -> Hashable:
    """Equal for two nodes of a graph that compute the same: same op, attributes, operands and regions."""
    if not node.regions:
        return (op_key(node.op), node.operands)
    return (op_key(node.op), node.operands, *map(structural_hash, node.regions))


class _Canonical:
    """Numbers the nodes of a graph: inputs first, then the rest as a walk from the roots finishes with them."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.number_of: dict[Node, int] = {value.node: i for i, value in enumerate(graph.inputs)}

    def form(self) -> tuple[object, ...]:
        graph = self.graph
        effects = [node for node in graph.toposort() if not node.is_pure]
        inputs = [(v.node.op.kind, str(v.type)) for v in graph.inputs]  # type: ignore[attr-defined]
        roots = [*(value.node for value in graph.roots()), *effects]
        nodes = [self._node(node) for root in roots for node in self._walk(root)]
        writes = [(self._ref(state), self._ref(value)) for state, value in graph.writes.items()]
        outputs = [self._ref(value) for value in graph.outputs]
        return (_VERSION, inputs, nodes, outputs, writes, [self.number_of[node] for node in effects])

    def _walk(self, root: Node) -> Iterator[Node]:
        """Nodes below `root` that have no number yet, operands first; each gets the next number."""
        number_of = self.number_of
        stack = [(root, 0)] if root not in number_of else []
        while stack:
            node, position = stack.pop()
            operands = node.operands
            while position < len(operands) and operands[position].node in number_of:
                position += 1
            if position < len(operands):
                stack.append((node, position + 1))
                stack.append((operands[position].node, 0))
            elif node not in number_of:
                number_of[node] = len(number_of)
                yield node

    def _ref(self, value: Value) -> Hashable:
        number = self.number_of[value.node]
        return (number, value.index) if value.index else number

    def _node(self, node: Node) -> tuple[object, ...]:
        types = [str(value.type) for value in node.results]
        return (op_key(node.op), *map(self._ref, node.operands), types, *map(structural_hash, node.regions))
