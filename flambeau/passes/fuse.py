"""Graph -> Graph. Groups ops into kernels: each group becomes one `fusion` node whose region is what it computes.

    %3 = matmul(%x, %w); %4 = add(%3, broadcast(%b)); %5 = relu(%4)
    ->  %5 = fusion(%x, %w, %b) "contraction" { matmul, broadcast, add, relu }

A group walks one space of points: the shape of its largest values (`extents`), some dims of which it may reduce over
(`reduced`). Values in a group are anchored: their index is known in terms of the group's dims (see spaces.py). Groups
start as single ops and are merged along uses, producers first, where

- same space: pushing the producer's index through the views on the way gives every dim of the consumer, so that one
  loop nest computes both (elementwise chains, softmax's stages, a matmul's or a convolution's epilogue);
- inline: an elementwise producer that nothing else reads is recomputed wherever its consumer looks;
- row: an elementwise producer of per-row values is computed beside the reductions of its consumer.

Requires: decomposed ops. Ensures: every node is an input, an array constant, or a fusion.
"""
from __future__ import annotations

from collections.abc import Iterable

from flambeau.ir import ops
from flambeau.ir.graph import Graph, Node, Value
from flambeau.ir.index import Index, Symbol
from flambeau.passes.outline import Group, Kind, outline
from flambeau.passes.spaces import FREE, IndexTuple, identity, is_view, pull, push, single, solve, substitute, symbols

MAX_OPS = 192           # in one group: LLVM's time grows faster than the kernel
CONTRACTIONS = ("matmul", "conv2d", "conv2d_input_grad", "conv2d_weight_grad")


def kind_of(node: Node) -> Kind:
    if node.op.name in CONTRACTIONS:
        return "contraction"
    return "loop" if node.op.is_pointwise or isinstance(node.op, ops.Reduction) else "scatter"


def is_leaf(node: Node) -> bool:
    """Inputs, and constants that live in memory: read by every group, computed by none."""
    return node.op.name == "input" or (isinstance(node.op, ops.Constant) and not node.op.is_pointwise)


def is_free(node: Node) -> bool:
    """Ops that cost nothing to repeat in every reader: views, scalars, counting."""
    return is_view(node) or isinstance(node.op, (ops.Constant, ops.Iota))


def fuse(graph: Graph) -> Graph:
    """The pass: group, merge, and outline every group into a region."""
    planner = _Planner(graph)
    planner.merge_along_uses()
    planner.merge_siblings()
    return outline(graph, planner.group_of)


class _Planner:
    def __init__(self, graph: Graph):
        self.graph = graph
        self.order = {node: position for position, node in enumerate(graph.toposort())}
        self.materialized_views = self._views_to_materialize()
        self.group_of: dict[Node, Group] = {}
        self.fresh = [0]
        for node in graph.toposort():
            if not is_leaf(node) and not self.floats(node):
                self.group_of[node] = self._seed(node)

    def floats(self, node: Node) -> bool:
        """True for nodes that belong to no group: each reader repeats them."""
        return is_free(node) and node not in self.materialized_views

    def _views_to_materialize(self) -> set[Node]:
        """Free nodes whose values must lie in memory: graph results, and operands that a contraction can't address."""
        chosen = {value.node for value in self.graph.roots() if is_free(value.node)}
        for node in self.graph.toposort():
            if node.op.name in CONTRACTIONS:
                for operand in node.operands:
                    if is_free(operand.node) and not self._is_addressable(node, operand):
                        chosen.add(operand.node)
        return chosen

    def _is_addressable(self, node: Node, operand: Value) -> bool:
        """Whether affine strides lead from a contraction's operand to memory."""
        index: IndexTuple | None = identity(operand.type.static_shape)
        current = operand
        while is_view(current.node):
            assert index is not None
            index = pull(current.node, index)
            if index is None:
                return False
            current = current.node.operands[0]
        return not isinstance(current.node.op, (ops.Constant, ops.Iota)) or is_leaf(current.node)

    def _seed(self, node: Node) -> Group:
        """A group of one op, in its own space."""
        if isinstance(node.op, ops.Reduction):
            shape = node.operands[0].type.static_shape
            dims = frozenset(node.op.reduced)
            full = identity(shape)
            row = tuple([i for d, i in enumerate(full) if d not in dims])
            return Group("loop", shape, dims, {node: row}, {node: full})
        shape = node.results[0].type.static_shape
        return Group(kind_of(node), shape, frozenset(), {node: identity(shape)})

    # -- merging ----------------------------------------------------------------------------------------------------

    def merge_along_uses(self) -> None:
        for node in self.graph.toposort():
            if node not in self.group_of:
                continue
            for path, operand in self._reads(node):
                producer = self.group_of.get(operand.node)
                consumer = self.group_of[node]
                if producer is not None and producer is not consumer:
                    self._try_merge(producer, consumer, operand, path, node)

    def _reads(self, node: Node) -> list[tuple[tuple[tuple[Node, ...], int], Value]]:
        """((views from producer to consumer, operand position), produced value) of each grouped operand."""
        found: list[tuple[tuple[tuple[Node, ...], int], Value]] = []
        for position, operand in enumerate(node.operands):
            path: list[Node] = []
            while self.floats(operand.node) and is_view(operand.node):
                path.append(operand.node)
                operand = operand.node.operands[0]
            if operand.node in self.group_of:
                found.append(((tuple(reversed(path)), position), operand))
        return found

    def _try_merge(self, producer: Group, consumer: Group, value: Value, path: tuple[tuple[Node, ...], int],
                   user: Node) -> None:
        if producer.size + consumer.size > MAX_OPS or producer.kind == "scatter" or kind_of(user) == "contraction":
            return
        merged = self._same_space(producer, consumer, value, path, user) if consumer.kind == "loop" else None
        if merged is None and producer.is_elementwise:
            merged = self._inline(producer, consumer) or self._row(producer, consumer, value, path, user)
        if merged is not None and not self._makes_cycle(producer, consumer):
            for node in merged.nodes():
                self.group_of[node] = merged

    def _operand_index(self, group: Group, user: Node, position: int) -> IndexTuple | None:
        """How `user` reads its operand, in its group's dims."""
        index = group.anchor.get(user)
        if index is None:
            return None
        if isinstance(user.op, ops.Reduction):
            return group.reads[user]
        if isinstance(user.op, ops.Elementwise | ops.Cast) or user.op.name == "stop_gradient" or is_view(user):
            operand = user.operands[position].type
            if is_view(user):
                return pull(user, index)
            return index if operand.shape else ()
        return None

    def _same_space(self, producer: Group, consumer: Group, value: Value, path: tuple[tuple[Node, ...], int],
                    user: Node) -> Group | None:
        """Express the consumer's dims in the producer's."""
        target = self._operand_index(consumer, user, path[1])
        pushed: IndexTuple | None = producer.anchor.get(value.node)
        if target is None or pushed is None:
            return None
        for view in path[0]:
            pushed = push(view, pushed, self.fresh)
            if pushed is None:
                return None
        binding = solve(target, pushed)
        if binding is None or not self._covers(consumer, binding):
            return None
        free = sorted({s for index in binding.values() for s in symbols((index,)) if s[0] == FREE},
                      key=lambda s: s[1])
        bound = self._bind_free(producer, consumer, binding, free)
        if bound is None:
            return None
        binding = {symbol: substitute((index,), bound)[0] for symbol, index in binding.items()}
        reduced = self._merged_reduced(producer, consumer, binding)
        if reduced is None or (producer.kind == "contraction" and reduced):
            return None
        anchor = dict(producer.anchor)
        anchor.update({node: substitute(index, binding) for node, index in consumer.anchor.items()})
        if not self._is_bijective(producer, consumer, binding):
            return None
        reads = {**producer.reads, **{n: substitute(i, binding) for n, i in consumer.reads.items()}}
        return Group(producer.kind, producer.extents, reduced, anchor, reads, producer.inlined | consumer.inlined)

    def _covers(self, consumer: Group, binding: dict[Symbol, Index]) -> bool:
        """Every dim of the consumer that is longer than 1 must be known."""
        return all(("dim", d) in binding for d, size in enumerate(consumer.extents) if size != 1)

    def _bind_free(self, producer: Group, consumer: Group, binding: dict[Symbol, Index],
                   free: list[Symbol]) -> dict[Symbol, Index] | None:
        """Dims that a Broadcast added can only be the dims the producer reduced over, in order."""
        if not free:
            return {}
        reduced = [d for d in sorted(producer.reduced) if producer.extents[d] != 1]
        extents = {s: e for index in binding.values() for s, _, e in index.terms}
        if len(free) != len(reduced) or any(extents[s] != producer.extents[d]
                                            for s, d in zip(free, reduced, strict=True)):
            return None
        return {s: Index.dim(d, producer.extents[d]) for s, d in zip(free, reduced, strict=True)}

    def _merged_reduced(self, producer: Group, consumer: Group, binding: dict[Symbol, Index]) -> frozenset[int] | None:
        """The dims the merged group reduces over; None when the two don't fit."""
        mapped: set[int] = set()
        for d in consumer.reduced:
            if consumer.extents[d] == 1:
                continue
            for symbol in symbols((binding[("dim", d)],)):
                mapped.add(symbol[1])
        mine = {d for d in producer.reduced if producer.extents[d] != 1}
        if not consumer.has_reduction:
            return producer.reduced
        if producer.has_reduction:
            return producer.reduced if mapped == mine else None
        if any(single(binding[("dim", d)]) is None for d in consumer.reduced if consumer.extents[d] != 1):
            return None
        return frozenset(mapped)

    def _is_bijective(self, producer: Group, consumer: Group, binding: dict[Symbol, Index]) -> bool:
        """Both walk the same points: the consumer's dims hold each of the producer's (row dims, for a consumer of
        reduced values only) once."""
        seen: set[Symbol] = set()
        points = 1
        for d, size in enumerate(consumer.extents):
            if size == 1:
                continue
            points *= size
            found = symbols((binding[("dim", d)],))
            if found & seen:
                return False
            seen |= found
        covered = 1
        for _, d in seen:
            covered *= producer.extents[d]
        missing = {d for d, size in enumerate(producer.extents) if size != 1} - {d for _, d in seen}
        return points == covered and missing <= set(producer.reduced)

    def _inline(self, producer: Group, consumer: Group) -> Group | None:
        """Recompute the producer wherever the consumer reads it. Requires: nothing else reads it."""
        for node in producer.anchor:
            if any(self._group_or_none(user) is not consumer and self._group_or_none(user) is not producer
                   for user in self._readers(node)) or self._is_root(node):
                return None
        if self._repeats_work(producer, consumer):
            return None
        return Group(consumer.kind, consumer.extents, consumer.reduced, dict(consumer.anchor), dict(consumer.reads),
                     consumer.inlined | producer.inlined | set(producer.anchor))

    def _repeats_work(self, producer: Group, consumer: Group) -> bool:
        """Inlining costly maths into a larger space would repeat it at every point the codegen can't hoist it from."""
        cost = sum(getattr(node.op, "cost", 1) for node in producer.nodes())
        points, original = _product(consumer.extents), _product(producer.extents)
        return cost > 8 and points > 4 * original and original > 1

    def _row(self, producer: Group, consumer: Group, value: Value, path: tuple[tuple[Node, ...], int],
             user: Node) -> Group | None:
        """Anchor an elementwise producer of per-row values among the rows of a consumer that reduces."""
        index = self._operand_index(consumer, user, path[1])
        if index is None or not consumer.reduced or producer.inlined:
            return None
        for view in reversed(path[0]):
            index = pull(view, index)
            if index is None:
                return None
        found = producer.anchor.get(value.node)
        binding = solve(found, index) if found is not None else None
        rows = {("dim", d) for d, size in enumerate(consumer.extents) if size != 1 and d not in consumer.reduced}
        if binding is None or not self._covers(producer, binding) or symbols(tuple(binding.values())) != rows:
            return None
        if any(single(i) is None and i.terms for i in binding.values()):
            return None
        anchor = dict(consumer.anchor)
        anchor.update({node: substitute(i, binding) for node, i in producer.anchor.items()})
        return Group(consumer.kind, consumer.extents, consumer.reduced, anchor, dict(consumer.reads),
                     set(consumer.inlined))

    def _group_or_none(self, node: Node) -> Group | None:
        return self.group_of.get(node)

    def _readers(self, node: Node) -> list[Node]:
        """Grouped nodes that read `node`, directly or through floating views."""
        found: list[Node] = []
        stack = [node]
        while stack:
            for user in self.graph._succ[stack.pop()]:
                if user in self.group_of:
                    found.append(user)
                else:
                    stack.append(user)
        return found

    def _is_root(self, node: Node) -> bool:
        roots = self.graph.roots()
        return any(value.node is node for value in roots)

    def _makes_cycle(self, producer: Group, consumer: Group) -> bool:
        """Whether a path leads from the producer to the consumer through a third group."""
        last = max(self.order[node] for node in consumer.nodes())
        seen: set[int] = set()
        stack: list[Group] = []

        def visit(group: Group) -> bool:
            for node in group.nodes():
                for reader in self._readers(node):
                    target = self.group_of[reader]
                    if target is consumer and group is not producer:
                        return True
                    if target not in (producer, consumer) and id(target) not in seen and self.order[reader] < last:
                        seen.add(id(target))
                        stack.append(target)
            return False

        if visit(producer):
            return True
        while stack:
            if visit(stack.pop()):
                return True
        return False

    # -- siblings ---------------------------------------------------------------------------------------------------

    def merge_siblings(self) -> None:
        """Reductions over one value in one space share its loads: merge groups that read the same value alike."""
        for value in [v for node in self.graph.toposort() for v in node.results]:
            groups: list[Group] = []
            for user, _ in self.graph.uses(value):
                group = self.group_of.get(user)
                if group is not None and group.kind == "loop" and all(group is not g for g in groups):
                    groups.append(group)
            for first in range(len(groups)):
                for second in range(first + 1, len(groups)):
                    self._try_merge_siblings(groups, first, second, value)

    def _try_merge_siblings(self, groups: list[Group], first: int, second: int, value: Value) -> None:
        a, b = groups[first], groups[second]
        if a is b or a.extents != b.extents or a.reduced != b.reduced or a.size + b.size > MAX_OPS:
            return
        if not (a.has_reduction and b.has_reduction) or not self._read_alike(a, b, value):
            return
        if self._connected(a, b) or self._connected(b, a):
            return
        merged = Group("loop", a.extents, a.reduced, {**a.anchor, **b.anchor}, {**a.reads, **b.reads},
                       a.inlined | b.inlined)
        for node in merged.nodes():
            self.group_of[node] = merged
        groups[first] = groups[second] = merged

    def _read_alike(self, a: Group, b: Group, value: Value) -> bool:
        def index_in(group: Group) -> IndexTuple | None:
            for user, position in self.graph.uses(value):
                if self.group_of.get(user) is group:
                    found = self._operand_index(group, user, position)
                    if found is not None:
                        return found
            return None
        first = index_in(a)
        return first is not None and first == index_in(b)

    def _connected(self, source: Group, target: Group) -> bool:
        seen = {id(source)}
        stack = [source]
        while stack:
            for node in stack.pop().nodes():
                for reader in self._readers(node):
                    group = self.group_of[reader]
                    if group is target:
                        return True
                    if id(group) not in seen:
                        seen.add(id(group))
                        stack.append(group)
        return False


def _product(sizes: Iterable[int]) -> int:
    total = 1
    for size in sizes:
        total *= size
    return total
