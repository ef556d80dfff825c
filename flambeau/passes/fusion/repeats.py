"""Where a group computes its values, and how often: a value read at several places is computed at each of them.

A place is an index and the guard under which it is read, as lowering keeps them (lowering/loops.py). What an op reads is
asked of its own `scalar` rule, so that the count is what lowering will emit.

    y = cat([x[:1], x[:-1]]) reads x at two places; a chain of n of them in one kernel would compute 2**n values
"""
from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

from flambeau.ir import ops
from flambeau.ir.graph import Node
from flambeau.passes.fusion.groups import Group, Place
from flambeau.passes.fusion.merges import Binding, Use
from flambeau.passes.lowering.loops import Body
from flambeau.passes.lowering.spaces import IndexTuple, identity, substitute

Places = dict[Node, frozenset[Place]]


class Reads:
    """Which places of its operands an op reads."""

    def __init__(self) -> None:
        self._next_id = 0
        self._body = Body(self)                                                     # type: ignore[arg-type]
        self._known: dict[tuple[Node, Place], tuple[tuple[int, Place], ...]] = {}

    def fresh_id(self) -> int:
        self._next_id += 1
        return self._next_id - 1

    def of(self, node: Node, place: Place) -> tuple[tuple[int, Place], ...]:
        """(operand's position, place) for everything that `node` reads to compute its result at `place`."""
        index, guard = place
        if isinstance(node.op, ops.Elementwise):
            return tuple([(i, (index if v.type.shape else (), guard)) for i, v in enumerate(node.operands)])
        if not node.op.is_pointwise:                        # scattered sums walk their operands
            return tuple([(i, (identity(v.type.static_shape), None)) for i, v in enumerate(node.operands)])
        found = self._known.get((node, place))
        if found is None:
            context = _Recorder(self._body, node, guard)
            node.op.scalar(context, index, tuple([v.type for v in node.operands]), node.results[0].type)
            found = self._known[node, place] = tuple(dict.fromkeys(context.found))
        return found

    def through(self, path: Sequence[Node], place: Place) -> Place:
        """The place that views, first the one nearest to the value, lead to."""
        for view in reversed(path):
            ((_, place),) = self.of(view, place)
        return place


class _Recorder:
    """The ScalarContext of an op that is asked what it reads."""

    def __init__(self, body: Body, node: Node, guard: int | None):
        self._body, self._node, self._guard = body, node, guard
        self.found: list[tuple[int, Place]] = []
        self.const, self.value_of, self.emit = body.const, body.value_of, body.emit
        self.index_of, self.within, self.both = body.index_of, body.within, body.both

    def operand(self, position: int, index: IndexTuple, guard: int | None = None) -> int:
        place, value = (index, self._body.both(self._guard, guard)), self._node.operands[position]
        self.found.append((position, place))
        return self._body.emit("operand", value.dtype, attr=(value, place))


def places_of(group: Group, node: Node) -> frozenset[Place]:
    """Every place where a group computes a member."""
    found = group.places.get(node, frozenset())
    return found | {(group.anchor[node], None)} if node in group.anchor else found


def places_read(reads: Reads, group: Group, uses: Iterable[Use], binding: Binding | None) -> dict[Node, set[Place]]:
    """Where a consuming group reads the values of another, by these uses. binding: its dims in terms of those it
    moves to, if it does."""
    found: dict[Node, set[Place]] = {}
    for use in uses:
        if use.user in group.reads:
            operands: list[Place] = [(group.reads[use.user], None)]
        elif isinstance(use.user.op, ops.Elementwise):
            has_dims = bool(use.user.operands[use.position].type.shape)
            operands = [place if has_dims else ((), place[1]) for place in places_of(group, use.user)]
        else:
            operands = [read for place in places_of(group, use.user)
                        for position, read in reads.of(use.user, place) if position == use.position]
        for operand in operands:
            place = reads.through(use.path, operand) if use.path else operand
            if binding is not None:
                place = substitute(place[0], binding), place[1]
            found.setdefault(use.value.node, set()).add(place)
    return found


def spread(reads: Reads, members: Iterable[Node], start: Mapping[Node, set[Place]],
           own: Callable[[Node], frozenset[Place]], uses_of: Callable[[Node], Iterable[Use]],
           limit: int) -> Places | None:
    """Where else the members of a producing group are computed once something reads them at `start`; None for more
    than `limit` values in all. own: where they are computed anyway."""
    found = {node: elsewhere for node, places in start.items() if (elsewhere := places - own(node))}
    if not found:
        return {}
    inside = frozenset(members)
    for node in sorted(inside, key=lambda n: n.seq, reverse=True):
        places = found.get(node, ())
        limit -= len(places)
        if limit < 0:
            return None
        uses = [use for use in uses_of(node) if use.value.node in inside] if places else ()
        if not uses:
            continue
        for place in places:
            for position, read in reads.of(node, place):
                for use in uses:
                    if use.position == position:
                        there = reads.through(use.path, read)
                        if there not in own(use.value.node):
                            found.setdefault(use.value.node, set()).add(there)
    return {node: frozenset(places) for node, places in found.items() if places}


def moved(places: Places, binding: Binding | None) -> Places:
    """A group's places once its dims are others."""
    if binding is None:
        return places
    return {node: frozenset([(substitute(index, binding), guard) for index, guard in found])
            for node, found in places.items()}
