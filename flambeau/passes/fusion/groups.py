"""Groups: ops that become one kernel, and which of them must run before which others.

A group walks one space of points: `extents`, some dims of which it may reduce over (`reduced`). Its values are
anchored: `anchor[node]` is the index of the node's results in the group's dims. Sets of nodes are bit masks over
positions in the graph's order, so that a question about paths between groups is a few operations on integers.
"""
from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import field
from typing import Final

from flambeau.errors import GraphError
from flambeau.ir import ops
from flambeau.ir.graph import Node
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
    reads: dict[Node, IndexTuple] = field(default_factory=dict)
    inlined: set[Node] = field(default_factory=set)
    pinned: int = 0                     # masks of nodes:
    members: int = 0
    of_memory: int = 0                  # whose operands must lie in memory: matmuls, convolutions
    readers: int = 0                    # what reads a member, members included
    pinned_readers: int = 0             # what reads a pinned member
    before: int = 0                     # every node of every group that must come first
    cost: int = 0
    places: dict[Node, frozenset[Place]] = field(default_factory=dict)      # where members are computed besides

    @property
    def size(self) -> int:
        return len(self.anchor) + len(self.inlined)

    @property
    def emitted(self) -> int:
        """How many values a point computes, each at every place where it is read."""
        return len(self.anchor) + sum([len(found) for found in self.places.values()])

    @property
    def has_reduction(self) -> bool:
        return bool(self.reads)

    @property
    def is_elementwise(self) -> bool:
        return self.kind.name == LOOP and not self.reads

    def nodes(self) -> Iterator[Node]:
        yield from self.anchor
        yield from self.inlined

    def join(self, other: Group) -> None:
        """Take over the other group's nodes, as far as masks and costs tell."""
        self.pinned |= other.pinned
        self.of_memory |= other.of_memory
        self.readers |= other.readers
        self.pinned_readers |= other.pinned_readers
        self.members |= other.members
        self.before = (self.before | other.before) & ~self.members
        self.cost += other.cost
        self.places.update(other.places)


class Precedence:
    """Positions and readers of nodes, and the order that data and effects impose on the groups seen so far."""

    def __init__(self, order: Sequence[Node], floats: set[Node]):
        """floats: nodes that belong to no group; what they read, their readers read."""
        self.order = order
        self.bit_of = {node: 1 << position for position, node in enumerate(order)}
        self.readers_of: dict[Node, int] = {}
        self._seen: list[Group] = []
        self._seen_members = 0
        for node in reversed(order):
            self.readers_of.setdefault(node, 0)
            through = self.readers_of[node] if node in floats else self.bit_of[node]
            for operand in node.operands:
                self.readers_of[operand.node] = self.readers_of.get(operand.node, 0) | through

    def nodes_in(self, mask: int) -> Iterator[Node]:
        """The nodes of a mask, first to last."""
        while mask:
            low = mask & -mask
            yield self.order[low.bit_length() - 1]
            mask ^= low

    def reached(self, start: int, within: int) -> tuple[int, int]:
        """(the nodes in `start` and all that they lead to within a set, all that reads one of them)."""
        found, readers, pending = 0, 0, start & within
        while pending:
            found |= pending
            for node in self.nodes_in(pending):
                readers |= self.readers_of[node]
            pending = readers & within & ~found
        return found, readers

    def pin(self, group: Group, start: int) -> None:
        """The members in `start`, and all that they lead to within the group, are pinned."""
        pinned, readers = self.reached(start & group.members & ~group.pinned, group.members & ~group.pinned)
        group.pinned |= pinned
        group.pinned_readers |= readers

    def enter(self, group: Group, producers: Iterable[Group]) -> None:
        """A new group, which reads these."""
        for producer in producers:
            group.before |= producer.members | producer.before
        self._seen.append(group)
        self._seen_members |= group.members

    def makes_cycle(self, producer: Group, consumer: Group) -> bool:
        """Whether a path leads from the producer to the consumer through a third group."""
        return bool(producer.readers & ~producer.members & ~consumer.members & consumer.before)

    def are_connected(self, a: Group, b: Group) -> bool:
        return bool(a.before & b.members or b.before & a.members)

    def merged(self, kept: Group, gone: Group) -> None:
        """`gone` joined `kept`: whatever came after either comes after both."""
        kept.join(gone)
        gone.members = 0
        if not kept.readers & self._seen_members & ~kept.members:
            return
        self._seen = [group for group in self._seen if group.members]
        everything = kept.members | kept.before
        for group in self._seen:
            if group.before & kept.members and group is not kept:
                group.before |= everything

