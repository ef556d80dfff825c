"""The graph level: typed SSA as a networkx.MultiDiGraph whose nodes are operations and whose edges are values.

The operand tuple on a node is the truth; edges (producer -> consumer, key = operand position, data = result index)
follow it through this file's mutation API, so networkx's own algorithms (ancestors, condensation, cycle checks,
drawing) work on the same object. The compiler needs none of them, and networkx takes longer to load than NumPy: `Graph`
keeps its nodes and edges as networkx does, and gets its class as a base when something loads it (`join_networkx`).
"""
from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from flambeau.errors import VerificationError
from flambeau.ir.devices import infer, infer_regions
from flambeau.ir.graph.origin import Origin, Rewrite
from flambeau.ir.graph.text import print_graph
from flambeau.ir.location import Location
from flambeau.ir.markup import folded
from flambeau.ir.op import Effect, Op, RegionOp, register
from flambeau.ir.records import dataclass
from flambeau.ir.types import TensorType

if TYPE_CHECKING:
    from networkx import MultiDiGraph

    from flambeau.ir.facts import Facts
else:
    class MultiDiGraph:
        """The base of `Graph` until networkx is there, which whoever asks for a method of its graphs loads."""

        def __getattr__(self, name: str) -> Any:
            if name.startswith("_"):        # protocols of Python's and of notebooks
                raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
            join_networkx(import_module("networkx"))
            return getattr(self, name)

        def __getitem__(self, node: Node) -> Any:
            return self.adj[node]


InputKind = Literal["arg", "state", "scalar"]


@register("input")
@dataclass(frozen=True)
class Input(Op):
    """A value that comes from outside. kind: "arg" (call argument), "state" (captured tensor that the graph may
    write back), "scalar" (a Python number, f64[], that never recompiles)."""

    label: str
    kind: InputKind
    type: TensorType

    def infer(self, *operands: TensorType) -> tuple[TensorType, ...]:
        return (self.type,)

    @classmethod
    def samples(cls) -> Iterator[object]:  # type: ignore[override]
        return iter(())


class Value:
    """One result of one node."""

    __slots__ = ("index", "node", "type")

    def __init__(self, node: Node, index: int, type: TensorType):
        self.node, self.index, self.type = node, index, type

    @property
    def shape(self) -> tuple[int, ...]:
        return self.type.shape  # type: ignore[return-value]

    @property
    def dtype(self):  # type: ignore[no-untyped-def]
        return self.type.dtype

    def __repr__(self) -> str:
        return f"<{self.node.op.name}#{self.node.seq}.{self.index} : {self.type}>"


class Node:
    """One operation. `phase` is "forward" or "backward"; `regions` are Graphs isolated from this one: their inputs
    are bound to operands by position. `origin`: which traced nodes it stands for (None before passes run)."""

    __slots__ = ("loc", "op", "operands", "origin", "phase", "regions", "results", "seq")

    def __init__(self, op: Op, operands: tuple[Value, ...], types: Sequence[TensorType], loc: Location | None,
                 phase: str, regions: tuple[Graph, ...], seq: int, origin: Origin | None):
        self.op, self.operands, self.loc, self.phase, self.regions, self.seq = op, operands, loc, phase, regions, seq
        self.origin = origin
        self.results = (Value(self, 0, types[0]),) if len(types) == 1 else tuple(
            [Value(self, i, t) for i, t in enumerate(types)])

    @property
    def result(self) -> Value:
        """The only result."""
        if len(self.results) != 1:
            raise VerificationError(f"{self.op.name} has {len(self.results)} results")
        return self.results[0]

    @property
    def is_pure(self) -> bool:
        """True where computing the results is all it does: neither its op nor a node of its regions has an effect."""
        if self.op.effect is not Effect.PURE:
            return False
        return not self.regions or all(node.is_pure for region in self.regions for node in region._node)

    def __repr__(self) -> str:
        return f"<node {self.op.name}#{self.seq}>"


class Graph(MultiDiGraph):
    """A function in SSA form: `inputs`, nodes, `outputs`, and `writes` (state input -> the value it holds after).

    Mutate only through append / set_operand / replace_uses / erase. Nodes are kept acyclic by construction:
    an operand must already be in the graph. Nodes with effects happen in the order of `toposort()`, which is the one
    they were appended in, whatever data says; what takes the place of one is appended `at` it."""

    def __init__(self, incoming_graph_data: None = None, name: str = "main", **attributes: object):
        assert incoming_graph_data is None, "a Graph is made of ops, by append"
        self.graph: dict[str, object] = {"name": name, **attributes}            # these five are networkx's
        self._node: dict[Node, dict[str, object]] = {}
        self._adj: dict[Node, dict[Node, dict[int, dict[str, int]]]] = {}
        self._pred: dict[Node, dict[Node, dict[int, dict[str, int]]]] = {}
        self.__networkx_cache__: dict[str, object] = {}
        self._succ = self._adj
        self.inputs: list[Value] = []
        self.outputs: list[Value] = []
        self.writes: dict[Value, Value] = {}
        self.rewrites: list[Rewrite] = []   # which rules were applied to it; `passes.pipeline.run` takes them from here
        self.facts: Facts | None = None     # what is known of the names of its sizes, if it has any
        self._next_seq = 0
        self._sorted: list[Node] | None = []
        self._has_holes = False             # _sorted still lists nodes that were erased

    def __str__(self) -> str:
        """The text form; `flambeau.ir.graph.parser` gives the graph back."""
        return print_graph(self) if self._is_program() else super().__str__()

    def _repr_html_(self) -> str:
        return folded(f"graph {self.name}: {len(self.inputs)} inputs, {len(self) - len(self.inputs)} ops", str(self))

    def __call__(self, *arrays: np.ndarray) -> Any:
        """What the graph means, by the NumPy interpreter. arrays: for each input in order, in the storage layout of its
        dtype; gives the output, or a tuple of them. What the graph writes is written to the arrays of those inputs.
        Raises VerificationError for arrays that are not as the inputs say."""
        if len(arrays) != len(self.inputs):
            raise VerificationError(f"{self.name} takes {len(self.inputs)} inputs, got {len(arrays)}")
        given = [np.asarray(array) for array in arrays]
        for value, array in zip(self.inputs, given, strict=True):
            if value.type.is_static and (array.shape, array.dtype) != (value.type.static_shape, value.dtype.storage):
                label = value.node.op.label                         # type: ignore[attr-defined]
                raise VerificationError(f"{self.name}: input {label!r} is {value.type}, got an array of {array.dtype}"
                                        f"{list(array.shape)}")
        interpret = import_module("flambeau.ir.graph.interpreter").interpret        # which is about graphs
        outputs, written = interpret(self, given)
        for state, array in zip(self.writes, written, strict=True):
            np.copyto(given[self.inputs.index(state)], array)
        return outputs[0] if len(outputs) == 1 else outputs

    # -- building ---------------------------------------------------------------------------------------------------

    def append(self, op: Op, operands: Sequence[Value] = (), *, loc: Location | None = None, phase: str = "forward",
               origin: Origin | None = None, regions: tuple[Graph, ...] = (),
               types: Sequence[TensorType] | None = None, at: Node | None = None) -> Node:
        """Add one operation after its operands; `types` overrides inference (copies, the parser). at: a node in whose
        place of the order it comes, behind what was put there before; else it is the last."""
        if types is None:
            types = infer(op, [v.type for v in operands]) if not regions else _inferred(op, operands, regions)
        node = Node(op, tuple(operands), types, loc, phase, regions, self._next_seq if at is None else at.seq, origin)
        self._next_seq += 1
        self._insert(node)
        if at is not None:
            self._sorted = None
        elif self._sorted is not None:
            self._sorted.append(node)
        return node

    def take(self, nodes: Iterable[Node], new_of: dict[Value, Value], share_regions: bool = False) -> None:
        """Append copies of another graph's nodes, in order, with copies of their regions, or the same. new_of: what values
        are here; the results come in. Most nodes of a deep program are made by this: it writes edges as `append` does, in
        one loop."""
        known, succ, pred = self._node, self._succ, self._pred
        for node in nodes:
            operands = tuple([new_of[v] for v in node.operands])
            regions = node.regions
            if regions and not share_regions:
                regions = tuple([clone(region)[0] for region in regions])
            results = node.results
            types = (results[0].type,) if len(results) == 1 else [v.type for v in results]
            new = Node(node.op, operands, types, node.loc, node.phase, regions, self._next_seq, node.origin)
            self._next_seq += 1
            if self._sorted is not None:
                self._sorted.append(new)
            makers: dict[Node, dict[int, dict[str, int]]] = {}
            for position, value in enumerate(operands):
                users = succ[value.node]
                edges = users.get(new)
                if edges is None:
                    edges = users[new] = makers[value.node] = {}
                edges[position] = {"result": value.index}
            known[new], succ[new], pred[new] = {}, {}, makers
            if len(results) == 1:
                new_of[results[0]] = new.results[0]
            else:
                new_of.update(zip(results, new.results, strict=True))
        self.__networkx_cache__.clear()

    def _insert(self, node: Node) -> None:
        """A node and the edges that lead to it, as networkx's `add_node` and `add_edge` write them: most of what making a
        large graph takes, if those are called."""
        makers: dict[Node, dict[int, dict[str, int]]] = {}
        for position, value in enumerate(node.operands):
            users = self._succ.get(value.node)
            if users is None:
                raise VerificationError(f"{node.op.name}: operand {position} ({value!r}) is not in this graph")
            edges = users.get(node)
            if edges is None:
                edges = users[node] = makers[value.node] = {}
            edges[position] = {"result": value.index}
        self._node[node], self._succ[node], self._pred[node] = {}, {}, makers
        self.__networkx_cache__.clear()

    def _delete(self, node: Node) -> None:
        """A node and all its edges, as networkx's `remove_node`."""
        for user in self._succ.pop(node):
            del self._pred[user][node]
        for maker in self._pred.pop(node):
            del self._succ[maker][node]
        del self._node[node]
        self.__networkx_cache__.clear()

    def __len__(self) -> int:
        return len(self._node)

    def __iter__(self) -> Iterator[Node]:
        return iter(self._node)

    def __contains__(self, node: object) -> bool:
        return isinstance(node, Node) and node in self._node        # networkx asks of lists, too

    @property
    def name(self) -> str:
        return str(self.graph["name"])

    @name.setter
    def name(self, name: str) -> None:
        self.graph["name"] = name

    def add_input(self, type: TensorType, label: str = "", kind: InputKind = "arg",
                  loc: Location | None = None) -> Value:
        value = self.append(Input(label, kind, type), loc=loc, types=(type,)).results[0]
        self.inputs.append(value)
        return value

    def inline(self, source: Graph, binding: Mapping[Value, Value], loc: Location | None = None,
               phase: str | None = None, at: Node | None = None) -> dict[Value, Value]:
        """Append the nodes of `source`, as the function `inline` does."""
        return inline(source, self, binding, loc=loc, phase=phase, at=at)

    # -- changing ---------------------------------------------------------------------------------------------------

    def set_operand(self, node: Node, position: int, value: Value) -> None:
        old = node.operands[position]
        if old is value:
            return
        edges = self._succ[old.node][node]
        del edges[position]
        if not edges:
            del self._succ[old.node][node], self._pred[node][old.node]
        node.operands = (*node.operands[:position], value, *node.operands[position + 1:])
        edges = self._succ[value.node].setdefault(node, {})
        edges[position] = {"result": value.index}
        self._pred[node][value.node] = edges
        self.__networkx_cache__.clear()
        if value.node.seq > node.seq:
            self._sorted = None

    def replace_uses(self, old: Value, new: Value) -> None:
        """Every use of `old` (operands, outputs, written values) becomes `new`. Types must agree."""
        if old.type != new.type:
            raise VerificationError(f"replace {old!r} by {new!r}: types differ")
        for user, position in self.uses(old):
            self.set_operand(user, position, new)
        self.outputs = [new if v is old else v for v in self.outputs]
        for state, value in self.writes.items():
            if value is old:
                self.writes[state] = new

    def erase(self, node: Node) -> None:
        """Remove a node that nothing uses."""
        if self._succ[node]:
            raise VerificationError(f"{node!r} is still used by {next(iter(self._succ[node]))!r}")
        self._delete(node)
        self._has_holes = True

    def erase_all(self, nodes: Iterable[Node]) -> None:
        """Remove nodes whose results are only used among themselves."""
        for node in list(nodes):
            self._delete(node)
        self._has_holes = True

    # -- reading ----------------------------------------------------------------------------------------------------

    def uses(self, value: Value) -> list[tuple[Node, int]]:
        """(consumer, operand position) of every use by a node, in consumer order."""
        found = [(user, position) for user, edges in self._succ[value.node].items()
                 for position, data in edges.items() if data["result"] == value.index]
        if len(found) > 1:
            found.sort(key=lambda use: (use[0].seq, use[1]))
        return found

    def has_uses(self, value: Value) -> bool:
        """True when a node, an output or a write reads `value`."""
        return (any(data["result"] == value.index for edges in self._succ[value.node].values()
                    for data in edges.values())
                or any(v is value for v in self.outputs) or any(v is value for v in self.writes.values()))

    def roots(self) -> list[Value]:
        """The values that must be computed: outputs and written state."""
        return [*self.outputs, *self.writes.values()]

    def toposort(self) -> list[Node]:
        """All nodes, operands before users; stable (creation order wherever that is an order, and always among nodes
        with effects). Kept between calls."""
        if self._sorted is None:
            self._sorted = _stable_toposort(self)
        elif self._has_holes:
            self._sorted = [node for node in self._sorted if node in self._node]
        self._has_holes = False
        return self._sorted

    def copy(self, as_view: bool = False) -> MultiDiGraph:
        """An independent graph with the same nodes in the same order (ops, types and locations are shared). Of a part or a
        reversed graph, which networkx makes and which is no program, a networkx.MultiDiGraph."""
        return clone(self)[0] if self._is_program() else import_module("networkx").MultiDiGraph(self)

    def _is_program(self) -> bool:
        """False for what networkx made of a graph: the nodes of another, none of them appended here."""
        return self._next_seq > 0 or not len(self)


def join_networkx(networkx: ModuleType) -> None:
    """Graphs, those that there are too, are networkx's from now on."""
    if networkx.__name__ == "networkx" and networkx.MultiDiGraph not in Graph.__mro__:
        Graph.__bases__ = (networkx.MultiDiGraph,)


def _inferred(op: Op, operands: Sequence[Value], regions: Sequence[Graph]) -> tuple[TensorType, ...]:
    """The types of what an op with regions gives."""
    assert isinstance(op, RegionOp), f"{op.name} takes no regions"
    return infer_regions(op, [v.type for v in operands], regions)


def _stable_toposort(graph: Graph) -> list[Node]:
    """Depth-first over operands from nodes in creation order, iteratively. A node with effects also waits for the one
    before it."""
    done: set[Node] = set()
    order: list[Node] = []
    created = sorted(graph._node, key=lambda node: node.seq)
    effects = [node for node in created if (node.regions or node.op.effect is not Effect.PURE) and not node.is_pure]
    earlier_of = dict(zip(effects[1:], effects, strict=False))
    for start in created:
        if start not in earlier_of and start not in done and done.issuperset([value.node for value in start.operands]):
            done.add(start)                 # as nearly all stand already
            order.append(start)
            continue
        stack: list[tuple[Node, int]] = [(start, 0)]
        while stack:
            node, position = stack.pop()
            if node in done:
                continue
            if len(stack) >= len(graph._node):
                raise VerificationError(f"graph {graph.name} has a cycle through {node!r}")
            operands = node.operands
            while position < len(operands) and operands[position].node in done:
                position += 1
            earlier = earlier_of.get(node)
            if position < len(operands):
                stack.append((node, position + 1))
                stack.append((operands[position].node, 0))
            elif earlier is not None and earlier not in done:
                stack.append((node, position))
                stack.append((earlier, 0))
            else:
                done.add(node)
                order.append(node)
    for seq, node in enumerate(order):
        node.seq = seq
    graph._next_seq = len(order)
    return order


def clone(graph: Graph) -> tuple[Graph, dict[Value, Value]]:
    """A copy of `graph` (regions included) and the map from old values to new ones."""
    copy = Graph(name=graph.name)
    copy.facts = graph.facts
    new_of = inline(graph, copy, {})
    copy.inputs = [new_of[v] for v in graph.inputs]
    copy.outputs = [new_of[v] for v in graph.outputs]
    copy.writes = {new_of[state]: new_of[value] for state, value in graph.writes.items()}
    return copy, new_of


def inline(source: Graph, target: Graph, binding: Mapping[Value, Value],
           nodes: Iterable[Node] | None = None, loc: Location | None = None,
           phase: str | None = None, origin: Origin | None = None, at: Node | None = None) -> dict[Value, Value]:
    """Append the nodes of `source` (or those given, in order) to `target`; values in `binding` are not copied but
    stand for the target values given. Returns the map from source values to target values. loc, origin: of nodes
    that have none; phase: of all, in place of their own; at: see Graph.append."""
    new_of = dict(binding)
    nodes = source.toposort() if nodes is None else nodes
    if loc is phase is origin is at is None and not binding:
        target.take(nodes, new_of)
        return new_of
    for node in nodes:
        if binding and node.results and all(v in new_of for v in node.results):
            continue
        regions = tuple([clone(region)[0] for region in node.regions]) if node.regions else ()
        made = target.append(node.op, [new_of[v] for v in node.operands], loc=node.loc or loc,
                             phase=phase or node.phase, origin=node.origin or origin, regions=regions,
                             types=[v.type for v in node.results], at=at)
        new_of.update(zip(node.results, made.results, strict=True))
    return new_of
