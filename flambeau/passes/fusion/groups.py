"""Groups: ops that become one kernel.

A group walks one space of points: `extents`, some dims of which it may reduce over (`reduced`). Its values are
anchored: `anchor[node]` is the index of the node's results in the group's dims.
"""
from __future__ import annotations

from collections.abc import Set
from dataclasses import field
from typing import Final

from flambeau.errors import GraphError
from flambeau.ir import ops
from flambeau.ir.graph import Graph, Node
from flambeau.ir.kernel import Kernel
from flambeau.ir.kinds import Kind, kind_named
from flambeau.ir.op import RegionOp
from flambeau.ir.records import dataclass
from flambeau.passes.lowering.spaces import IndexTuple, is_view

Place = tuple[IndexTuple, int | None]           # an index, and the guard under which it is read
LOOP: Final = "loop"                            # the kind that this pass makes larger; others it may add loops to


def _lower_nothing(*_: object) -> list[object]:
    raise AssertionError("a node with regions is lowered as what its regions are")


NESTED: Final = Kind("nested", Kernel, _lower_nothing)          # nodes with regions: they stay as they are, alone


def kind_of(node: Node) -> Kind:
    """The kind of kernel that computes a node, or NESTED. Raises GraphError if there is none."""
    if isinstance(node.op, RegionOp):
        return NESTED
    name = node.op.kernel_kind
    if name is None:
        raise GraphError(f"{node.op.name} is computed by no kernel, and is still there after decompose",
                         where=str(node.loc) if node.loc else None,
                         hint="an op says how it is computed by scalar, decompose or kernel_kind")
    return kind_named(name)


def is_leaf(node: Node) -> bool:
    """Inputs, and constants that live in memory: read by every group, computed by none."""
    return node.op.name == "input" or (isinstance(node.op, ops.Constant) and not node.op.is_pointwise)


def is_free(node: Node) -> bool:
    """Ops that cost nothing to repeat in every reader: views, scalars, counting."""
    return is_view(node) or isinstance(node.op, (ops.Constant, ops.Iota))


@dataclass(eq=False)
class Group:
    """`reads[node]` is the index of a reduction's operand. Nodes in `inlined` have no anchor: they are computed
    wherever they are read. Nodes in `pinned` come after a reduction or a contraction of this group, so that their
    value is only known at their anchor; every other value can be computed from memory at any index. `places` are
    where members are computed besides their anchor, because something reads them there (see repeats.py)."""

    kind: Kind
    extents: tuple[int, ...]
    reduced: frozenset[int]
    anchor: dict[Node, IndexTuple]
    readers: set[Node]                                                      # what reads a member, members included
    members: set[Node]
    reads: dict[Node, IndexTuple] = field(default_factory=dict)
    inlined: set[Node] = field(default_factory=set)
    pinned: set[Node] = field(default_factory=set)
    pinned_readers: set[Node] = field(default_factory=set)                  # what reads a pinned member
    of_memory: set[Node] = field(default_factory=set)                       # members whose operands must lie in memory
    is_root: bool = False                                                   # a result of the graph is among its values
    has_effects: bool = False
    is_kept: bool = False                                                   # something of it leads to an `ops.Kept`
    cost: int = 0
    places: dict[Node, frozenset[Place]] = field(default_factory=dict)      # where members are computed besides
    at: int = 0                                                             # what `Precedence` keeps:
    earlier: set[Group] = field(default_factory=set)
    later: set[Group] = field(default_factory=set)
    previous: Group | None = None
    next: Group | None = None

    def __repr__(self) -> str:
        return f"<{self.kind.name} group {[node.op.name for node in self.members]}>"

    @property
    def size(self) -> int:
        return len(self.members)

    @property
    def emitted(self) -> int:
        """How many values a point computes, each at every place where it is read."""
        return len(self.anchor) + (sum(map(len, self.places.values())) if self.places else 0)

    @property
    def has_reduction(self) -> bool:
        return bool(self.reads)

    @property
    def is_elementwise(self) -> bool:
        return self.kind.name == LOOP and not self.reads

    def join(self, other: Group) -> None:
        """Take over the other group's nodes, as far as sets and costs tell."""
        self.pinned |= other.pinned
        self.pinned_readers |= other.pinned_readers
        self.of_memory |= other.of_memory
        self.readers |= other.readers
        self.members |= other.members
        self.is_root |= other.is_root
        self.cost += other.cost
        self.places.update(other.places)


class Readers:
    """Which nodes of groups read a node, directly or through nodes that belong to none."""

    def __init__(self, graph: Graph, floats: Set[Node]):
        self._graph, self._floats = graph, floats

    def of(self, node: Node) -> set[Node]:
        users = self._graph._succ[node]
        if self._floats.isdisjoint(users):
            return set(users)
        found: set[Node] = set()
        pending = [node]
        while pending:
            for user in self._graph._succ[pending.pop()]:
                if user in self._floats:
                    pending.append(user)
                else:
                    found.add(user)
        return found

    def reached(self, start: set[Node], within: set[Node], but: Set[Node] = frozenset()) -> tuple[set[Node], set[Node]]:
        """(the nodes in `start` and all that they lead to within a set but for some of it, all that reads one of them)."""
        found, readers, pending = set[Node](), set[Node](), (start & within) - but
        while pending:
            found |= pending
            read = set[Node]().union(*[self.of(node) for node in pending])
            readers |= read
            pending = (read & within) - found - but
        return found, readers

    def pin(self, group: Group, start: set[Node]) -> None:
        """The members in `start`, and all that they lead to within the group, are pinned."""
        if start:
            pinned, readers = self.reached(start, group.members, group.pinned)
            group.pinned |= pinned
            group.pinned_readers |= readers
