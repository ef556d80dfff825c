"""Why kernels are not one kernel. The pass is run again with somebody who writes down what it answers."""
from __future__ import annotations

from collections.abc import Sequence
from math import prod

from flambeau.ir.answers import distinct
from flambeau.ir.graph import Graph, Node
from flambeau.ir.records import dataclass
from flambeau.passes.fusion.fuse import Planner
from flambeau.passes.fusion.groups import NESTED, Group, kind_of
from flambeau.passes.fusion.limits import Limits
from flambeau.passes.fusion.merges import Apart, Use
from flambeau.passes.fusion.outline import ordered

__all__ = ["Unfused", "reasons"]


@dataclass(frozen=True)
class Unfused:
    """Kernel `producer` makes what kernel `consumer` reads, and they are two: both by their place among the fusions of the
    fused graph. why: in words."""

    producer: int
    consumer: int
    why: str


def reasons(graph: Graph, limits: Limits, kinds: Sequence[str] | None = None) -> list[Unfused]:
    """graph: as `fuse` gets it. Regions of loops and branches are left out. kinds: of the fusions that are to be explained;
    none is where it makes others of this graph (of one whose sizes had names, the pass saw less)."""
    with distinct():
        planner = _Recorder(graph, limits)
        planner.merge_along_uses()
        planner.merge_siblings()
    groups = planner.in_fused_order()
    if kinds is not None and [group.kind.name for group in groups] != list(kinds):
        return []
    number_of = {group: number for number, group in enumerate(groups)}
    found: dict[tuple[int, int], Unfused] = {}
    for node in planner.nodes:
        if node not in planner.group_of:
            continue
        for use in planner._uses(node):
            producer, consumer = planner.group_of[use.value.node], planner.group_of[node]
            if producer is not consumer and producer in number_of and consumer in number_of:
                pair = number_of[producer], number_of[consumer]
                found.setdefault(pair, Unfused(*pair, planner.why(producer, consumer, use)))
    return list(found.values())


class _Recorder(Planner):
    def __init__(self, graph: Graph, limits: Limits):
        super().__init__(graph, limits)
        self.answers: dict[tuple[Node, Node], Apart] = {}

    def _try_merge(self, producer: Group, consumer: Group, use: Use) -> Apart | None:
        answer = super()._try_merge(producer, consumer, use)
        if answer is not None:
            self.answers[use.value.node, use.user] = answer
        return answer

    def in_fused_order(self) -> list[Group]:
        """The groups that become fusions, as their nodes stand in the fused graph."""
        return [group for group in ordered(self.graph, self.group_of, self.earlier_of) if group.kind is not NESTED]

    def why(self, producer: Group, consumer: Group, use: Use) -> str:
        reads = kind_of(use.user).reads
        if reads != "computed":
            return f"a {consumer.kind.name} kernel reads {'values' if reads == 'whole' else 'its operands'} from memory"
        answer = self.answers.get((use.value.node, use.user), Apart.SPACES)
        if answer is not Apart.SPACES:
            return answer.value
        return self._why_not_inline(producer, consumer)

    def _why_not_inline(self, producer: Group, consumer: Group) -> str:
        """What hinders that it is computed where it is read, as `merges.may_inline` asks."""
        if not producer.is_elementwise:
            return "it sums, and what reads the sums walks other points"
        readers = {id(self.group_of[node]) for node in producer.readers if node in self.group_of} - {id(producer)}
        if producer.is_root:
            return "it is a result of the function, and is walked in another order"
        if len(readers) > 1:
            return f"read by {len(readers)} kernels"
        if not producer.readers.isdisjoint(consumer.of_memory):
            return "it is read from memory, at places that are computed"
        larger = prod(consumer.extents) / max(1, prod(producer.extents))
        return f"it would be computed {larger:.0f} times" if larger > 1 else Apart.SPACES.value
