"""Groups -> fusion nodes: each group's ops move into a region, isolated from the graph around it."""
from __future__ import annotations

from collections.abc import Callable, Mapping

from flambeau.errors import VerificationError
from flambeau.ir import ops
from flambeau.ir.graph import Graph, Node, Value
from flambeau.ir.graph.origin import union
from flambeau.passes.fusion.groups import NESTED, Group
from flambeau.passes.lowering.spaces import IndexTuple


def outline(graph: Graph, group_of: Mapping[Node, Group], earlier_of: Mapping[Node, Node],
            fuse: Callable[[Graph], Graph]) -> Graph:
    """A graph in which every group is one `fusion` node, but for nodes with regions, whose regions are fused; `graph` is
    left as it was. earlier_of: of a node with effects the one before it."""
    fused = Graph(name=graph.name)
    fused.facts = graph.facts
    new_of: dict[Value, Value] = {}
    for value in graph.inputs:
        new_of[value] = fused.append(value.node.op, loc=value.node.loc, origin=value.node.origin).result
    fused.inputs = [new_of[value] for value in graph.inputs]
    roots = set(graph.roots())
    for group in ordered(graph, group_of, earlier_of):
        if group.kind is NESTED:
            _keep(fused, group, new_of, fuse)
        else:
            _outline_group(graph, fused, group, group_of, new_of, roots)
    fused.outputs = [_materialized(value, fused, new_of) for value in graph.outputs]
    fused.writes = {new_of[state]: _materialized(value, fused, new_of) for state, value in graph.writes.items()}
    return fused


def _materialized(value: Value, fused: Graph, new_of: dict[Value, Value]) -> Value:
    """The fused graph's value; array constants are copied over when they are first needed."""
    if value not in new_of:
        if not isinstance(value.node.op, ops.Constant):
            raise VerificationError(f"{value!r} was computed by no group")
        new_of[value] = fused.append(value.node.op, loc=value.node.loc, origin=value.node.origin).result
    return new_of[value]


def _keep(fused: Graph, group: Group, new_of: dict[Value, Value], fuse: Callable[[Graph], Graph]) -> None:
    """A node with regions goes over as it is, its regions fused."""
    (node,) = group.members
    operands = [_materialized(value, fused, new_of) for value in node.operands]
    regions = tuple([fuse(region) for region in node.regions])
    made = fused.append(node.op, operands, loc=node.loc, phase=node.phase, origin=node.origin, regions=regions)
    new_of.update(zip(node.results, made.results, strict=True))


def ordered(graph: Graph, group_of: Mapping[Node, Group], earlier_of: Mapping[Node, Node]) -> list[Group]:
    """Groups, each after the groups whose values it reads, and after earlier effects."""
    entered: set[int] = set()
    done: set[int] = set()
    order: list[Group] = []
    for start in graph.toposort():
        if start not in group_of or id(group_of[start]) in done:
            continue
        stack: list[tuple[Group, bool]] = [(group_of[start], False)]
        while stack:
            group, ready = stack.pop()
            if id(group) in done:
                continue
            if ready:
                done.add(id(group))
                order.append(group)
                continue
            if id(group) in entered:            # and not done: we are among what it reads
                raise VerificationError(f"groups read each other in a circle, through {group!r}")
            entered.add(id(group))
            stack.append((group, True))
            for node in sorted(group.members, key=lambda n: n.seq):
                if node in earlier_of:
                    stack.append((group_of[earlier_of[node]], False))
                for maker in _makers(node, group_of):
                    other = group_of[maker]
                    if other is not group and id(other) not in done:
                        stack.append((other, False))
    return order


def _makers(node: Node, group_of: Mapping[Node, Group]) -> list[Node]:
    """The nodes of groups that a node reads, directly or through nodes that belong to none."""
    found: list[Node] = []
    stack = [value.node for value in node.operands]
    while stack:
        current = stack.pop()
        if current in group_of:
            found.append(current)
        else:
            stack += [value.node for value in current.operands]
    return found


def _outline_group(graph: Graph, fused: Graph, group: Group, group_of: Mapping[Node, Group],
                   new_of: dict[Value, Value], roots: set[Value]) -> None:
    region = Graph(name=f"{group.kind.name}_region")
    members = _members(group, group_of)
    inner_of = _Inner(region, lambda value: _materialized(value, fused, new_of))
    region.take(members, inner_of, share_regions=True)
    outputs = [v for node in members if node in group.anchor for v in node.results
               if group.kind.is_alone or v in roots or _is_read_outside(graph, v, group, group_of)]
    region.outputs = [inner_of[v] for v in outputs]
    if not outputs and all(node.is_pure for node in members):
        raise VerificationError(f"a {group.kind.name} group of {[n.op.name for n in members]} computes nothing that is "
                                "read")
    anchors = tuple([_plain(group.anchor[v.node]) for v in outputs])
    reductions = [node for node in members if node in group.reads]
    rows = tuple([(_plain(group.anchor[node]), _plain(group.reads[node])) for node in reductions])
    op = ops.Fusion(group.kind.name, group.extents, tuple(sorted(group.reduced)), anchors, rows)
    first = max(group.anchor, key=lambda node: node.seq)
    made = fused.append(op, inner_of.operands, loc=first.loc, phase=first.phase,
                        origin=union(*[node.origin for node in members]), regions=(region,))
    new_of.update(zip(outputs, made.results, strict=True))


class _Inner(dict[Value, Value]):
    """What values are in a region. Those from another group, or from memory, become its inputs when they are first read."""

    def __init__(self, region: Graph, outside: Callable[[Value], Value]):
        super().__init__()
        self.operands: list[Value] = []
        self._region, self._outside = region, outside

    def __missing__(self, value: Value) -> Value:
        outer = self._outside(value)
        made = self[value] = self._region.add_input(value.type, f"in{len(self.operands)}")
        self.operands.append(outer)
        return made


def _plain(index: IndexTuple) -> tuple[tuple[int, tuple[tuple[int, int], ...]], ...]:
    """An index as an attribute: per part (offset, ((dim, coefficient), ...))."""
    return tuple([(part.offset, tuple([(dim, c) for (_, dim), c, _ in part.terms])) for part in index])


def _members(group: Group, group_of: Mapping[Node, Group]) -> list[Node]:
    """The group's nodes and the free nodes they read through, operands first."""
    found: set[Node] = set()
    stack = list(group.members)
    while stack:
        node = stack.pop()
        if node in found:
            continue
        found.add(node)
        for value in node.operands:
            maker = value.node
            if maker not in group_of and (maker.operands or maker.op.name != "input" and maker.op.is_pointwise):
                stack.append(maker)         # else another group's, a member, or memory
    return sorted(found, key=lambda node: node.seq)


def _is_read_outside(graph: Graph, value: Value, group: Group, group_of: Mapping[Node, Group]) -> bool:
    stack = [value]
    while stack:
        current = stack.pop()
        is_only = len(current.node.results) == 1
        for user, edges in graph._succ[current.node].items():
            owner = group_of.get(user)
            if owner is not group and (is_only or True in [edge["result"] == current.index for edge in edges.values()]):
                if owner is not None:
                    return True
                stack.extend(user.results)
    return False
