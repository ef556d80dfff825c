"""What graph passes share: replace a node by values, forget what nothing reads, and repeat rules to a fixed point."""
from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from flambeau.errors import VerificationError
from flambeau.ir.answers import Undecided, proving
from flambeau.ir.builder import Builder
from flambeau.ir.graph import Graph, Input, Node, Value
from flambeau.ir.graph.origin import Rewrite, union
from flambeau.ir.op import Effect, Op
from flambeau.ir.records import dataclass

__all__ = ["Rewriter", "Rule", "graphs_within", "is_removable"]

_DEEPEST_PATTERN = 4
_MOST_REWRITES_PER_NODE = 64                # far above what rules that shrink a graph need


@dataclass(frozen=True)
class Rule:
    """One rewrite, for nodes of the named ops. `apply` gives the value to put in the node's place, the node's own
    result where it changed an operand instead, or None where the rule does not hold. reads: it holds only where one of
    these ops makes an operand, and is not asked elsewhere; () where any may."""

    rewrite: str                            # "x * 1 -> x"
    ops: tuple[str, ...]
    apply: Callable[[Rewriter, Node], Value | None]
    reads: tuple[str, ...] = ()


def is_removable(node: Node) -> bool:
    """True for nodes that may go when nothing reads their results: they are no input, which is part of the signature,
    and neither they nor their regions have an effect."""
    op = node.op
    return op.effect is Effect.PURE and not isinstance(op, Input) and (not node.regions or node.is_pure)


def _between(node: Node, ends: set[Node]) -> list[Node]:
    """The nodes through which `node` reads one of the `ends`, as far as a rule may look."""
    leads: dict[Node, bool] = dict.fromkeys(ends, True)

    def visit(current: Node, depth: int) -> bool:
        if current not in leads:
            leads[current] = False
            leads[current] = depth > 0 and True in [visit(v.node, depth - 1) for v in current.operands]
        return leads[current]

    for value in node.operands:
        visit(value.node, _DEEPEST_PATTERN)
    return [found for found, does in leads.items() if does and found not in ends]


def graphs_within(graph: Graph) -> list[Graph]:
    """`graph` and every region in it, outermost first."""
    found = [graph]
    for current in found:                   # grows while it is walked
        found += [region for node in current.toposort() if node.regions for region in node.regions]
    return found


class Rewriter(Builder):
    """A Builder over a graph that a pass changes in place. It knows the graph's roots (outputs and written values),
    and keeps a worklist of nodes that may match a rule: new ones, and those whose operands changed."""

    def __init__(self, graph: Graph):
        super().__init__(graph)
        self.roots = set(graph.roots())
        self._states_of: dict[Value, list[Value]] = {}      # that are written with a value
        for state, value in graph.writes.items():
            self._states_of.setdefault(value, []).append(state)
        self.made: list[Node] = []          # by the rule that is being applied
        self._queue: deque[Node] = deque()
        self._queued: set[Node] = set()

    def emit(self, op: Op, *operands: Value, regions: tuple[Graph, ...] = ()) -> Any:
        node = self.graph.append(op, operands, loc=self.loc, phase=self.phase, origin=self.origin, regions=regions)
        self.made.append(node)
        self.push(node)
        return node.results[0] if len(node.results) == 1 else node.results

    def push(self, node: Node) -> None:
        """Look at `node` again."""
        if node not in self._queued:
            self._queued.add(node)
            self._queue.append(node)

    def is_read(self, node: Node) -> bool:
        """True when a node reads a result of this one, or a root is one."""
        return bool(self.graph._succ[node]) or any(value in self.roots for value in node.results)

    # -- changing ---------------------------------------------------------------------------------------------------

    def set_operand(self, node: Node, position: int, value: Value) -> None:
        """Change one operand, of the same meaning; what is then read by nothing goes."""
        old = node.operands[position].node
        self.graph.set_operand(node, position, value)
        if not isinstance(old.op, Input):
            node.origin = union(node.origin, old.origin)
        self.push(node)
        self.push(old)

    def replace(self, node: Node, values: Sequence[Value]) -> None:
        """Put `values` in the place of the node's results, and erase it."""
        for old, new in zip(node.results, values, strict=True):
            if old.type != new.type:
                raise VerificationError(f"{node!r}: a rewrite gives {new.type} for {old.type}")
            if old is not new:
                self._replace(old, new)
        if is_removable(node) and not self.is_read(node):
            self.erase(node)

    def _replace(self, old: Value, new: Value) -> None:
        graph = self.graph
        for user, position in graph.uses(old):
            graph.set_operand(user, position, new)
            self.push(user)
        if old in self.roots:
            graph.outputs = [new if v is old else v for v in graph.outputs]
            states = self._states_of.pop(old, ())
            graph.writes.update(dict.fromkeys(states, new))
            self._states_of.setdefault(new, []).extend(states)
            self.roots.discard(old)
            self.roots.add(new)

    def erase(self, node: Node) -> None:
        """Remove a node that nothing reads; its operands may follow."""
        for value in node.operands:
            self.push(value.node)
        self.graph.erase(node)

    # -- rules ------------------------------------------------------------------------------------------------------

    def apply(self, rules_of: Mapping[str, Sequence[Rule]], nodes: Iterable[Node]) -> Counter[str]:
        """Apply rules, by op name, until none holds; how often each did. Nodes that nothing reads are erased.
        A set of rules that does not come to an end is an error."""
        for node in nodes:
            self.push(node)
        with proving():                     # of sizes with names, a rule needs to know for all of them, or is left
            return self._applied(rules_of, _MOST_REWRITES_PER_NODE * (len(self._queue) + 16))

    def _applied(self, rules_of: Mapping[str, Sequence[Rule]], limit: int) -> Counter[str]:
        times: Counter[str] = Counter()
        nodes, users = self.graph._node, self.graph._succ
        for _ in range(limit):
            if not self._queue:
                return times
            node = self._queue.popleft()
            self._queued.discard(node)
            if node not in nodes:
                continue
            if not users[node] and is_removable(node) and not self.is_read(node):
                self.erase(node)
            elif (rules := rules_of.get(node.op.name)) is not None:
                self._apply_first(rules, node, times)
        raise AssertionError(f"rules came to no end after {limit} steps; most often: {times.most_common(3)}")

    def _absorb(self, node: Node, value: Value) -> None:
        """`value` stands for `node` now, and what was made for it also for the nodes between `node` and what it reads:
        a product of a product by two numbers that became one."""
        ends = {v.node for made in self.made for v in made.operands}.difference(self.made)
        if value.node not in self.made:
            ends.add(value.node)
        inner = _between(node, ends)
        for kept in (self.made if value.node in self.made else (*self.made, value.node)):
            if not isinstance(kept.op, Input):
                kept.origin = union(kept.origin, node.origin, *[n.origin for n in inner])

    def _apply_first(self, rules: Sequence[Rule], node: Node, times: Counter[str]) -> None:
        read = {*[value.node.op.name for value in node.operands]}
        for rule in rules:
            if rule.reads and read.isdisjoint(rule.reads):
                continue
            self.stand_for(node)
            self.made.clear()
            try:
                value = rule.apply(self, node)
                if value is None:
                    continue
                is_new = value.node is node or value.type == node.results[0].type
            except Undecided:
                continue
            assert is_new, f"{node!r}: {rule.rewrite} gives {value.type} for {node.results[0].type}"
            times[rule.rewrite] += 1
            self.graph.rewrites.append(Rewrite(rule.rewrite, node.origin, node.loc))
            if value.node is not node:
                self._absorb(node, value)
                self.replace(node, (value,))
            return
