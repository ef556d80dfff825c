"""Graph -> Graph. Groups ops into kernels: each group becomes one `fusion` node whose region is what it computes.

    %3 = matmul(%x, %w); %4 = add(%3, broadcast(%b)); %5 = relu(%4)
    ->  %5 = fusion(%x, %w, %b) "contraction" { matmul, broadcast, add, relu }

Every op starts as a group of its own. Groups are merged along uses, producers first, as `merges` allows; then
reductions that read the same values alike share their loads.

A node with regions stays, and its regions are fused; a node with effects is fused with nothing, and keeps its place among
the others.

Requires: decomposed ops. Ensures: every node is an input, an array constant, a fusion, or one with regions.
"""
from __future__ import annotations

from collections.abc import Callable, Collection, Hashable, Mapping, Sequence, Set
from math import prod
from operator import attrgetter
from typing import Any, NamedTuple

from flambeau.ir import ops
from flambeau.ir.answers import distinct, known
from flambeau.ir.attributes import op_key
from flambeau.ir.dims import hint
from flambeau.ir.graph import Graph, Node, Value
from flambeau.ir.index_maps import Index, Symbol
from flambeau.ir.types import Shape
from flambeau.passes.fusion.groups import LOOP, Group, Place, Readers, is_free, is_leaf, kind_of
from flambeau.passes.fusion.limits import Limits
from flambeau.passes.fusion.merges import (
    Apart,
    Binding,
    SameSpace,
    Use,
    may_inline,
    operand_index,
    row,
    same_space,
)
from flambeau.passes.fusion.outline import outline
from flambeau.passes.fusion.precedence import Between, Precedence
from flambeau.passes.fusion.repeats import Places, Reads, moved, places_of, places_read, spread
from flambeau.passes.lowering.spaces import IndexTuple, identity, is_view, pull, substitute

_MODERATE = Limits()


def fuse(graph: Graph, limits: Limits = _MODERATE) -> Graph:
    """The pass: group, merge, and outline every group into a region."""
    with distinct():                        # a dim that may have one point is walked
        planner = Planner(graph, limits)
        planner.merge_along_uses()
        planner.merge_siblings()
    return outline(graph, planner.group_of, planner.earlier_of, lambda region: fuse(region, limits))


class Standing(NamedTuple):
    """Where an op stands among the dims of a group, where it reads, and what the two reduce."""

    anchor: IndexTuple
    read: IndexTuple
    reduced: frozenset[int]


class Planner:
    """Groups of a graph's nodes, as they are merged."""

    def __init__(self, graph: Graph, limits: Limits):
        self.graph, self.limits = graph, limits
        self.nodes = graph.toposort()
        leaves = {node for node in self.nodes if is_leaf(node)}
        free = {node for node in self.nodes if is_free(node)}
        self.floats = leaves | (free - _views_to_materialize(graph, free - leaves))
        effects = [node for node in self.nodes if not node.is_pure]
        self.earlier_of = dict(zip(effects[1:], effects, strict=False))
        self.order, self.readers = Precedence(), Readers(graph, self.floats)
        self.kept = _leading_to_kept(self.nodes)
        self.roots = {value.node for value in graph.roots()}
        self.group_of: dict[Node, Group] = {}
        self.fresh = [0]
        self.has_numbers = known() is None      # else what is asked of sizes may become a condition
        self._places: dict[Hashable, Standing | None] = {}
        self.saves_memory = any(node.op is ops.after for node in self.nodes)
        self.reads = Reads()
        self._uses_of: dict[Node, list[Use]] = {}

    def _seed(self, node: Node) -> Group:
        """A group of one op, in its own space."""
        kind = kind_of(node)
        shape, readers = node.results[0].type.static_shape if node.results else (), self.readers.of(node)
        if isinstance(node.op, ops.Reduction):
            shape = node.operands[0].type.static_shape
            full, dims = identity(shape), frozenset(node.op.reduced)
            at = tuple([i for d, i in enumerate(full) if d not in dims])
            group = Group(kind, shape, dims, {node: at}, readers, {node}, {node: full})
        elif kind.is_alone:
            group = Group(kind, (), frozenset(), {node: ()}, readers, {node})
        else:
            group = Group(kind, shape, frozenset(), {node: identity(shape)}, readers, {node})
        group.cost = getattr(node.op, "cost", 1)
        group.is_root, group.has_effects, group.is_kept = node in self.roots, not node.is_pure, node in self.kept
        if kind.reads != "computed" or node.op.reads_memory:
            group.of_memory = {node}
        if kind.reads != "computed" or group.has_reduction:
            group.pinned, group.pinned_readers = {node}, set(readers)
        return group

    # -- along uses -------------------------------------------------------------------------------------------------

    def merge_along_uses(self) -> None:
        for node in self.nodes:
            if node in self.floats:
                continue
            uses = self._uses(node)
            if not (uses and self.has_numbers and self._join_at_once(node, uses)):
                if node not in self.group_of:
                    self._enter(node, uses)
                if kind_of(node).reads != "computed":
                    continue
            for use in uses:
                producer, consumer = self.group_of[use.value.node], self.group_of[node]
                if producer is not consumer:
                    self._try_merge(producer, consumer, use)

    def _enter(self, node: Node, uses: Sequence[Use]) -> Group:
        """A group of one op, behind those that it reads."""
        group = self.group_of[node] = self._seed(node)
        before = [use.value.node for use in uses]
        if node in self.earlier_of:
            before.append(self.earlier_of[node])
        self.order.enter(group, [self.group_of[other] for other in before])
        return group

    def _join_at_once(self, node: Node, uses: Sequence[Use]) -> bool:
        """Whether an op became part of the first group that it reads, as most do: one that computes or sums element by
        element, and reads that group's values at one place, as they stand. It is what `_try_merge` of a group of the op
        alone comes to, and mostly there is no need to make one."""
        op, first = node.op, uses[0].value.node
        producer, is_sum = self.group_of[first], isinstance(op, ops.Reduction)
        at = producer.anchor.get(first)
        if at is None or not (is_sum or isinstance(op, ops.Elementwise)) or not producer.kind.has_epilogue \
                or producer.has_effects or producer.is_kept is not (node in self.kept) \
                or producer.emitted >= self.limits.ops or op.reads_memory or not node.is_pure or kind_of(node).name != LOOP:
            return False
        shape, others = node.operands[0].type.shape if is_sum else node.results[0].type.shape, list[Group]()
        for use in uses:
            group = self.group_of[use.value.node]
            if group is not producer:
                others.append(group)
            elif use.path or use.value.type.shape != shape or producer.anchor.get(use.value.node) != at:
                return False
        found = self._places_in(producer, at, shape, node, uses[0])
        if found is None or found.read != at:
            return False
        if self.order.may_follow(producer, others):
            self.order.follow(producer, others)
            readers = self.readers.of(node)
            producer.readers |= readers
            producer.members.add(node)
            producer.is_root |= node in self.roots
            producer.cost += getattr(op, "cost", 1)
            if is_sum or node in producer.pinned_readers:
                producer.pinned.add(node)
                producer.pinned_readers |= readers
            self.group_of[node] = producer
        else:
            group = self._enter(node, uses)
            between = self.order.between(producer, group)
            if between is None:
                return False
            crossing = producer.pinned_readers & group.members
            self._absorb(producer, group, between)
            self.readers.pin(producer, crossing)
        producer.anchor[node], producer.reduced = found.anchor, found.reduced
        if is_sum:
            producer.reads[node] = found.read
        return True

    def _places_in(self, producer: Group, at: IndexTuple, shape: Shape, node: Node, use: Use) -> Standing | None:
        """Where an op that reads a group's values of some shape `at` a place stands among the group's dims; None where the
        two do not walk the same points. Asked once for all that are alike."""
        own = op_key(node.op) if isinstance(node.op, ops.Reduction) else None
        key = (own, at, shape, producer.extents, producer.reduced, producer.has_reduction, producer.kind.name)
        if key not in self._places:
            alone = self._seed(node)
            found = same_space(producer, alone, use, self.fresh, ())
            anchor, read = alone.anchor[node], alone.reads.get(node, alone.anchor[node])
            binding = found.binding if found is not None else None
            if binding is not None:
                anchor, read = substitute(anchor, binding), substitute(read, binding)
            self._places[key] = None if found is None else Standing(anchor, read, found.reduced)
        return self._places[key]

    def _uses(self, node: Node) -> list[Use]:
        """How a node reads the groups it depends on."""
        found = self._uses_of.get(node)
        if found is None:
            found = self._uses_of[node] = []
            floats = self.floats
            for position, operand in enumerate(node.operands):
                if operand.node not in floats:
                    found.append(Use(operand, (), node, position))
                    continue
                path: list[Node] = []
                while operand.node in floats and is_view(operand.node):
                    path.append(operand.node)
                    operand = operand.node.operands[0]
                if operand.node not in floats:
                    found.append(Use(operand, tuple(reversed(path)), node, position))
        return found

    def _try_merge(self, producer: Group, consumer: Group, use: Use) -> Apart | None:
        """Merge the two if that is right; why it is not."""
        if not producer.kind.has_epilogue:
            return Apart.NO_EPILOGUE
        if producer.emitted + consumer.emitted > self.limits.ops:
            return Apart.TOO_LARGE
        if producer.has_effects or consumer.has_effects:
            return Apart.EFFECT
        if producer.is_kept is not consumer.is_kept:
            return Apart.KEPT
        crossing = self._crossing(producer, consumer)
        found = same_space(producer, consumer, use, self.fresh, crossing)
        if found is not None:
            between = self.order.between(producer, consumer)
            if between is None:
                return Apart.CYCLE
            return None if self._join_space(producer, consumer, found, between) else Apart.REPEATS
        if may_inline(producer, consumer, self.limits):
            return None if self._inline(producer, consumer) else Apart.REPEATS
        binding = row(producer, consumer, use)
        if binding is None:
            return Apart.SPACES
        between = self.order.between(producer, consumer)
        if between is None:
            return Apart.CYCLE
        return None if self._join_row(producer, consumer, binding, between) else Apart.REPEATS

    def _crossing(self, producer: Group, consumer: Group) -> list[Use]:
        """Every use by the consumer of a value that is pinned once the two are one: the producer's pinned values, and
        all that they lead to in the consumer."""
        if producer.pinned_readers.isdisjoint(consumer.members):
            return []
        if len(consumer.members) == 1:
            return [use for node in consumer.members for use in self._uses(node) if use.value.node in producer.pinned]
        readers = producer.pinned_readers & consumer.members
        found, more = self.readers.reached(readers, consumer.members)
        return [use for node in in_order((readers | more) & consumer.members) for use in self._uses(node)
                if use.value.node in producer.pinned or use.value.node in found]

    def _join_space(self, producer: Group, consumer: Group, found: SameSpace, between: Between) -> bool:
        places = self._spread(producer, consumer, lambda node: places_of(producer, node), self.limits.stored, found.binding)
        if places is None:
            return False
        crossing = producer.pinned_readers & consumer.members
        consumer.places = moved(consumer.places, found.binding)
        _add_places(producer, places)
        kept, gone = producer, consumer
        if found.binding is not None:
            _anchor(kept, gone, found.binding)
        else:
            if producer.size < consumer.size:
                kept, gone = consumer, producer
            kept.kind = producer.kind
            kept.anchor.update(gone.anchor)
            kept.reads.update(gone.reads)
        kept.reduced = found.reduced
        kept.inlined |= gone.inlined
        self._absorb(kept, gone, between)
        self.readers.pin(kept, crossing)
        return True

    def _inline(self, producer: Group, consumer: Group) -> bool:
        larger = max(1, hint(prod(producer.extents)) // max(1, hint(prod(consumer.extents))))
        limit = (producer.emitted + self.limits.stored) * larger
        places = self._spread(producer, consumer, lambda node: frozenset(), limit)
        if places is not None:
            producer.places = places
            consumer.inlined |= producer.members
            self._absorb(consumer, producer)
        return places is not None

    def _join_row(self, producer: Group, consumer: Group, binding: Binding, between: Between) -> bool:
        own = moved({node: places_of(producer, node) for node in producer.members}, binding)
        places = self._spread(producer, consumer, own.__getitem__, self.limits.stored)
        if places is not None:
            producer.places = moved(producer.places, binding)
            _add_places(producer, places)
            _anchor(consumer, producer, binding)
            self._absorb(consumer, producer, between)
        return places is not None

    def _spread(self, producer: Group, consumer: Group, own: Callable[[Node], frozenset[Place]], limit: int,
                binding: Binding | None = None) -> Places | None:
        """The places where the producer's values have to be computed for the consumer, besides their own; None where
        that takes more than it spares."""
        boundary = in_order(producer.readers & consumer.members)
        uses = [use for node in boundary for use in self._uses(node) if self.group_of[use.value.node] is producer]
        start = places_read(self.reads, consumer, uses, binding)
        return spread(self.reads, producer.members, start, own, self._uses, min(limit, self.limits.ops - consumer.emitted))

    def _absorb(self, kept: Group, gone: Group, between: Between | None = None) -> None:
        for node in gone.members:
            self.group_of[node] = kept
        self.order.merge(kept, gone, between)

    # -- siblings ---------------------------------------------------------------------------------------------------

    def merge_siblings(self) -> None:
        """Reductions over one value in one space share its loads."""
        families = self._families()
        connected = self.order.connected([group for family in families for group in family])
        for family in families:
            least = min([group.emitted for group in family])                # groups only grow
            place = {group: number for number, group in enumerate(family)}
            rest = connected.mask(family)
            for group in family:
                rest &= ~connected.mask([group])
                for other in sorted(connected.groups(rest & ~connected.of(group)), key=place.__getitem__):
                    kept = self._now(group)
                    if kept.emitted + least > self.limits.ops:
                        break
                    self._try_merge_siblings(kept, self._now(other))

    def _families(self) -> list[list[Group]]:
        """Groups with reductions that read one value at the same index in the same space, in the order of its readers."""
        families: list[list[Group]] = []
        for node in self.nodes:
            users = self.graph._succ[node]
            if len(users) < 2 or sum([self._reduces(user) for user in users]) < 2:
                continue
            for value in node.results:
                if self.saves_memory and not value.type.shape:
                    continue                # a load that costs nothing: apart, each can run early
                alike: dict[Any, dict[Group, None]] = {}
                for user, position in self.graph.uses(value):
                    if self._reduces(user):
                        group = self.group_of[user]
                        index = operand_index(group, user, position)
                        if index is not None:
                            alike.setdefault((group.extents, group.reduced, index), {})[group] = None
                families += [list(groups) for groups in alike.values() if len(groups) > 1]
        return families

    def _now(self, group: Group) -> Group:
        """The group that it became part of."""
        return self.group_of[next(iter(group.members))]

    def _reduces(self, node: Node) -> bool:
        """Whether a node's group is a loop with a reduction."""
        group = self.group_of.get(node)
        return group is not None and group.kind.name == LOOP and group.has_reduction

    def _try_merge_siblings(self, a: Group, b: Group) -> None:
        if a is b or a.is_kept is not b.is_kept or a.emitted + b.emitted > self.limits.ops or \
                self.order.are_connected(a, b):
            return
        a.anchor.update(b.anchor)
        a.reads.update(b.reads)
        a.inlined |= b.inlined
        self._absorb(a, b)


def _leading_to_kept(nodes: Sequence[Node]) -> set[Node]:
    """What the operands of `ops.Kept` are computed from."""
    found: set[Node] = set()
    for node in reversed(nodes):
        if isinstance(node.op, ops.Kept) or node in found:
            found.update([value.node for value in node.operands])
    return found


def in_order(nodes: Collection[Node]) -> list[Node]:
    """As they stand in the graph's order."""
    return sorted(nodes, key=_place) if len(nodes) > 1 else list(nodes)


_place = attrgetter("seq")


def _add_places(group: Group, places: Places) -> None:
    for node, more in places.items():
        group.places[node] = group.places.get(node, frozenset()) | more


def _views_to_materialize(graph: Graph, free: Set[Node]) -> set[Node]:
    """Free nodes whose values must lie in memory: graph results, and operands that a kernel can't address. free: those that
    are no leaves."""
    chosen = {value.node for value in graph.roots() if is_free(value.node)}
    for node in graph.toposort():
        operands = [operand for operand in node.operands if operand.node in free]
        if not operands or node.op.kernel_kind is None and not node.regions or (reads := kind_of(node).reads) == "computed":
            continue
        chosen.update([operand.node for operand in operands if not (reads == "strided" and _is_addressable(operand))])
    return chosen


def _is_addressable(operand: Value) -> bool:
    """Whether affine strides lead from a kernel's operand to memory."""
    index: IndexTuple | None = identity(operand.type.static_shape)
    while is_view(operand.node):
        assert index is not None
        index = pull(operand.node, index)
        if index is None:
            return False
        operand = operand.node.operands[0]
    return not isinstance(operand.node.op, (ops.Constant, ops.Iota)) or is_leaf(operand.node)


def _anchor(target: Group, source: Group, binding: Mapping[Symbol, Index]) -> None:
    """The source's nodes get their place in the target's space. Many share one index."""
    moved: dict[IndexTuple, IndexTuple] = {}

    def move(index: IndexTuple) -> IndexTuple:
        if index not in moved:
            moved[index] = substitute(index, binding)
        return moved[index]

    target.anchor.update([(node, move(index)) for node, index in source.anchor.items()])
    target.reads.update([(node, move(index)) for node, index in source.reads.items()])
