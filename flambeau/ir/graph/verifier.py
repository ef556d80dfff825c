"""Graph -> nothing, or GraphError. Checks every rule of the graph level; the message names the node and its line.

Rules: operands are results of nodes of the same graph, and edges say the same as operand tuples; no cycle, and the
kept order is one; result types are what the op infers; regions are isolated, write nothing, and fit their node by
what the op says of them; inputs, outputs and writes are values of the graph, a write holds the type of its state.
"""
from __future__ import annotations

from collections.abc import Sequence
from typing import NoReturn

from flambeau.errors import FlambeauError, GraphError
from flambeau.ir.answers import assuming, known
from flambeau.ir.attributes import attributes_of, op_key
from flambeau.ir.devices import infer, infer_regions
from flambeau.ir.graph import Graph, Input, Node, Value
from flambeau.ir.graph.text import print_node
from flambeau.ir.op import RegionOp, listed
from flambeau.ir.types import TensorType

__all__ = ["verify"]

_PHASES = ("forward", "backward")


def verify(graph: Graph) -> None:
    """Raise GraphError at the first rule that `graph`, or a region in it, breaks. Of names of sizes it takes what the graph
    knows, or else what is known here (`answers.assuming`); no condition comes of it."""
    facts = graph.facts or known()
    with assuming(None if facts is None else facts.copy()):
        pending = [(graph, "")]
        while pending:
            current, inside = pending.pop()
            _Checker(current, inside).check()
            pending += [(region, f"in region @{region.name}: ") for node in current.toposort() for region in node.regions]


class _Checker:
    def __init__(self, graph: Graph, inside: str) -> None:
        self.graph, self.inside = graph, inside

    def check(self) -> None:
        nodes = list(self.graph._node)
        for node in nodes:
            self._results(node)
            self._operands(node)
            self._edges(node)
        self._order(nodes)
        for node in nodes:
            self._attributes(node)
            self._types(node)
        self._inputs(nodes)
        self._roots()

    def fail(self, node: Node, message: str, hint: str | None = None) -> NoReturn:
        where = str(node.loc) if node.loc else None
        raise GraphError(f"{self.inside}{self._spelt(node)}: {message}", where=where, hint=hint)

    def _spelt(self, node: Node) -> str:
        """The node's line, numbered as the printer does as long as creation order is the printed one."""
        nodes = sorted({*self.graph._node, node}, key=lambda n: n.seq)
        number_of = {v: i for i, v in enumerate(v for n in nodes for v in n.results)}
        return print_node(node, number_of)

    # -- nodes ------------------------------------------------------------------------------------------------------

    def _results(self, node: Node) -> None:
        for index, value in enumerate(node.results):
            if value.node is not node or value.index != index:
                self.fail(node, f"result {index} says it is result {value.index} of {value.node!r}")
        if node.phase not in _PHASES:
            self.fail(node, f"phase {node.phase!r} is none of {_PHASES}")

    def _operands(self, node: Node) -> None:
        for position, value in enumerate(node.operands):
            if value.node not in self.graph._node:
                self.fail(node, f"operand {position} ({value!r}) is not in graph @{self.graph.name}")
            if value.index >= len(value.node.results) or value.node.results[value.index] is not value:
                self.fail(node, f"operand {position} ({value!r}) is no result of its node")

    def _edges(self, node: Node) -> None:
        found = {position: (producer, data.get("result"))
                 for producer, edges in self.graph._pred[node].items() for position, data in edges.items()}
        for position, value in enumerate(node.operands):
            if found.pop(position, None) != (value.node, value.index):
                self.fail(node, f"the edge of operand {position} does not come from {value!r}")
        if found:
            position, (producer, _) = found.popitem()
            self.fail(node, f"an edge from {producer!r} is for operand {position}, which there is not")

    def _order(self, nodes: Sequence[Node]) -> None:
        """No cycle; the order kept by the graph, if any, holds every node once, after its operands."""
        waiting = {node: len(self.graph._pred[node]) for node in nodes}
        ready = [node for node, count in waiting.items() if not count]
        for node in ready:
            for user in self.graph._succ[node]:
                waiting[user] -= 1
                if not waiting[user]:
                    ready.append(user)
        if len(ready) != len(nodes):
            self.fail(next(node for node, count in waiting.items() if count), "depends on its own result")
        seen: set[Node] = set()
        for node in self.graph.toposort():
            if any(value.node not in seen for value in node.operands):
                self.fail(node, "the order kept by the graph has it before its operands")
            seen.add(node)
        if len(seen) != len(nodes) or seen != set(nodes):
            raise GraphError(f"graph @{self.graph.name} keeps an order of {len(seen)} nodes and has {len(nodes)}")

    def _attributes(self, node: Node) -> None:
        try:
            op_key(node.op)
        except TypeError as error:
            self.fail(node, str(error))

    # -- types ------------------------------------------------------------------------------------------------------

    def _types(self, node: Node) -> None:
        found = [value.type for value in node.results]
        inferred = self._inferred(node)
        if list(inferred) != found:
            self.fail(node, f"the op gives {listed(inferred)}")

    def _inferred(self, node: Node) -> Sequence[TensorType]:
        operands = [value.type for value in node.operands]
        try:
            if isinstance(node.op, RegionOp):
                self._regions(node)
                return infer_regions(node.op, operands, node.regions)
            if node.regions:
                self.fail(node, f"takes no regions, and has {len(node.regions)}")
            return infer(node.op, operands)
        except GraphError:
            raise
        except FlambeauError as error:
            self.fail(node, error.message.removeprefix(f"{node.op.name}: "), error.hint)
        except (TypeError, ValueError, ArithmeticError, LookupError, AttributeError, NotImplementedError, AssertionError,
                MemoryError) as error:
            attributes = ", ".join(f"{name}={value!r}" for name, value in attributes_of(node.op))
            self.fail(node, f"no type for operands ({listed(operands)}) and attributes ({attributes}): {error}")

    def _regions(self, node: Node) -> None:
        assert isinstance(node.op, RegionOp)
        node.op.check_count(node.regions)
        for region in node.regions:
            if region.writes:
                self.fail(node, f"region @{region.name} writes {next(iter(region.writes))!r}: a region writes nothing")
            for value in region.inputs:
                if isinstance(value.node.op, Input) and value.node.op.kind != "arg":
                    self.fail(node, f"region @{region.name} has an input of kind {value.node.op.kind}: what a region reads "
                                    "comes in as an operand")

    # -- the graph as a whole ---------------------------------------------------------------------------------------

    def _inputs(self, nodes: Sequence[Node]) -> None:
        graph, listed = self.graph, set(self.graph.inputs)
        for position, value in enumerate(graph.inputs):
            self._owned(value, f"input {position}")
            if not isinstance(value.node.op, Input):
                self.fail(value.node, f"is listed as input {position} of graph @{graph.name}")
        if len(listed) != len(graph.inputs):
            twice = next(v for v in graph.inputs if graph.inputs.count(v) > 1)
            self.fail(twice.node, f"is listed twice among the inputs of graph @{graph.name}")
        for node in nodes:
            if isinstance(node.op, Input):
                if node.operands:
                    self.fail(node, f"an input takes no operands, this one has {len(node.operands)}")
                if node.results[0] not in listed:
                    self.fail(node, f"is not listed among the inputs of graph @{graph.name}")

    def _roots(self) -> None:
        for position, value in enumerate(self.graph.outputs):
            self._owned(value, f"output {position}")
        for state, value in self.graph.writes.items():
            self._owned(state, "a written state")
            self._owned(value, "the value of a write")
            if not isinstance(state.node.op, Input) or state.node.op.kind == "scalar":
                self.fail(state.node, "is written, but is no input of kind state or arg")
            if state.type != value.type:
                self.fail(state.node, f"holds {state.type}, is written {value.type}")

    def _owned(self, value: Value, role: str) -> None:
        if value.node not in self.graph._node or value.node.results[value.index] is not value:
            raise GraphError(f"{role} of graph @{self.graph.name}, {value!r}, is not in the graph",
                             where=str(value.node.loc) if value.node.loc else None)

