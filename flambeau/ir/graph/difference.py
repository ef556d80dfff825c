"""Graph, Graph -> text. What a pass made of a graph: lines that went, lines that came, and where they are now.

A value that is the same op for the same traced op (the first of several) has one name in both graphs, whatever stands
between; where nothing was traced, one that is computed alike. So a line differs only where its op does, or what that reads.
Fusions are shown with what is in them; a line that moved into one is no difference, its frame is.
"""
from __future__ import annotations

import difflib
from collections.abc import Hashable, Iterator
from typing import TYPE_CHECKING, Any

from flambeau.ir.attributes import op_key, spelt_attributes
from flambeau.ir.graph.text import format_attribute

if TYPE_CHECKING:
    from flambeau.ir.graph.structure import Graph, Node, Value

__all__ = ["difference"]


def difference(before: Graph, after: Graph, names: tuple[str, str] = ("before", "after"), context: int = 3) -> str:
    """A unified diff of the two; empty where they compute the same in the same way. context: lines around each change."""
    numbers: dict[Hashable, int] = {}
    names_of: dict[Hashable, int] = {}
    is_traced = any(node.origin is not None for graph in (before, after) for node in graph)
    first, second = ([*_Listing(graph, numbers, names_of, is_traced).lines()] for graph in (before, after))
    before_plain, after_plain = ([line.strip() for line in lines] for lines in (first, second))
    if before_plain == after_plain:
        return ""
    found = [f"--- {names[0]}", f"+++ {names[1]}"]
    matched = difflib.SequenceMatcher(None, before_plain, after_plain, autojunk=False)
    for group in matched.get_grouped_opcodes(context):
        (_, i, _, k, _), (_, _, j, _, m) = group[0], group[-1]
        found.append(f"@@ -{i + 1},{j - i} +{k + 1},{m - k} @@")
        for tag, i, j, k, m in group:
            if tag == "equal":
                found += [f" {line}" for line in second[k:m]]
            else:
                found += [f"-{line}" for line in first[i:j]] + [f"+{line}" for line in second[k:m]]
    return "\n".join(found) + "\n"


class _Listing:
    """The lines of a graph. numbers: of nodes by what they compute; names: of their results. The first graph fills both,
    the second goes on with them. is_traced: nodes are told apart by the traced ops that they stand for."""

    def __init__(self, graph: Graph, numbers: dict[Hashable, int], names: dict[Hashable, int], is_traced: bool) -> None:
        self.graph, self.numbers, self.names = graph, numbers, names
        self.key_of: dict[Value, Hashable] = {}
        self.places = {node: place for place, node in enumerate(_within(graph))} if is_traced else None
        self.seen: set[Hashable] = set()

    def lines(self) -> Iterator[str]:
        yield from self._of(self.graph, "")
        for state, value in self.graph.writes.items():
            yield f"write {self._name(value)} to {self._name(state)}"
        yield f"return {', '.join([self._name(value) for value in self.graph.outputs])}"

    def _of(self, graph: Graph, indent: str) -> Iterator[str]:
        for node in graph.toposort():
            if node.op.name == "fusion":
                yield from self._fusion(node, indent)
            elif node.results or node.op.name != "input":
                yield from self._node(node, indent)

    def _fusion(self, node: Node, indent: str) -> Iterator[str]:
        (region,) = node.regions
        self.key_of.update({inner: self.key_of[outer] for inner, outer in zip(region.inputs, node.operands, strict=True)})
        yield f"{indent}fusion {node.op.kind} {{"                                        # type: ignore[attr-defined]
        for inner in region.toposort():
            if inner.op.name != "input":
                yield from self._node(inner, indent + "  ")
        self.key_of.update({outer: self.key_of[inner] for outer, inner in zip(node.results, region.outputs, strict=True)})
        yield f"{indent}}} -> {', '.join([self._name(value) for value in node.results])}"

    def _node(self, node: Node, indent: str) -> Iterator[str]:
        op: Any = node.op
        key: Hashable
        if op.name == "input":
            key = ("input", op.kind, op.label)
        elif self.places is not None:
            origin = self.places.get(node, -1) if node.origin is None else min(node.origin.numbers(), default=-1)
            key = (op_key(op), *[str(value.type) for value in node.results], origin)
            while key in self.seen:                 # one op became several that are alike
                key = (key, 0)
            self.seen.add(key)
        else:
            key = (op_key(op), *[self.key_of[value] for value in node.operands], *map(str, node.regions))
        key_id = self.numbers.setdefault(key, len(self.numbers))        # short, however deep the graph is
        for value in node.results:
            self.key_of[value] = (key_id, value.index)
        if op.name == "input":
            call = f'input {op.kind} "{op.label}"'
        else:
            parts = [self._name(value) for value in node.operands]
            parts += [f"{name}={format_attribute(value)}" for name, value in spelt_attributes(op)]
            call = f"{op.name}({', '.join(parts)})"
        results = ", ".join([self._name(value) for value in node.results])
        types = ", ".join([str(value.type) for value in node.results])
        yield f"{indent}{f'{results} = ' if results else ''}{call}{f' : {types}' if types else ''}" + (
            f"  {node.phase}" if node.phase != "forward" else "")
        for region in node.regions:
            yield from (f"{indent}    {line}" for line in _Listing(region, {}, {}, False).lines())

    def _name(self, value: Value) -> str:
        key = self.key_of[value]
        return f"%{self.names.setdefault(key, len(self.names))}"


def _within(graph: Graph) -> Iterator[Node]:
    """The nodes of a graph and then of the regions in it: in the order that passes number them."""
    waiting = [graph]
    for current in waiting:                         # grows while it is walked
        for node in current.toposort():
            yield node
            waiting.extend(node.regions)
