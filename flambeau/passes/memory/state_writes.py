"""Which written values a call may store straight into captured state, and the order of calls that makes it safe."""
from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import field
from itertools import pairwise

from flambeau.errors import VerificationError
from flambeau.ir.graph import Graph, Value
from flambeau.ir.records import dataclass
from flambeau.passes.lowering.lower import Call, Step
from flambeau.passes.memory.checks import early_checks, failing_calls
from flambeau.passes.memory.early import freed_early


@dataclass
class Writes:
    """direct: state -> the value that is stored straight into it. order: the calls, by number, as they must run."""

    direct: dict[Value, Value] = field(default_factory=dict)
    order: list[int] = field(default_factory=list)


def early_checks_of(graph: Graph, calls: Sequence[Step]) -> list[Call]:
    """Checks to run before the calls, for those of them that would only fail once a state is written."""
    failing = failing_calls(calls)
    if not failing:
        return []
    maker = {v: i for i, call in enumerate(calls) for v in call.results}
    before = _Before(calls, maker)
    writers = {maker[v] for v in graph.writes.values() if v in maker}
    late = [f for f in failing if any(w == f or before.leads(w, f) for w in writers)]
    return early_checks(calls, late)


def in_place_writes(calls: Sequence[Step], outputs: Collection[Value], writes: Mapping[Value, Value],
                    keeps_state: bool = True, frees_early: bool = False) -> Writes:
    """A write goes straight into its state where every other reader of the old value can run first, and every call
    that may fail too: a call that raises leaves all state as it was, if `keeps_state`. outputs: what needs memory of its
    own. frees_early: see there."""
    maker = {v: i for i, call in enumerate(calls) for v in call.results}
    readers: dict[Value, list[int]] = {}
    for i, call in enumerate(calls):
        for value in call.operands:
            readers.setdefault(value, []).append(i)
    failing = failing_calls(calls) if keeps_state else []
    before = _Before(calls, maker)
    found, taken = Writes(), set(outputs)
    kept_old = {v for s, v in writes.items() if v is not s} | set(outputs)
    for state, value in writes.items():
        writer = maker.get(value)
        if writer is None or value in taken or state in kept_old:
            continue
        if writer in readers.get(state, ()) and not calls[writer].may_share(state, value):
            continue
        earlier = [r for r in readers.get(state, ()) if r != writer] + failing
        if writer in failing or any(before.leads(writer, r) for r in earlier):
            continue
        found.direct[state] = value
        taken.add(value)
        for reader in earlier:
            before.add(reader, writer)
    found.order = before.order()
    if frees_early:
        found.order = freed_early(calls, found.order, [[*{*direct}] for direct in before.direct],
                                  {*outputs, *found.direct.values()})
    return found


class _Before:
    """Which calls must run before which, by data, by effects and by what `add` says. Sets of calls are bit masks."""

    def __init__(self, calls: Sequence[Step], maker: Mapping[Value, int]):
        self.direct = [sorted({maker[v] for v in call.operands if v in maker}) for call in calls]
        self.after: list[list[int]] = [[] for _ in calls]   # the other way round
        self.ancestors = [0] * len(calls)
        for i, makers in enumerate(self.direct):            # the given order is one by data
            for m in makers:
                if m >= i:
                    raise VerificationError(f"call {i} reads what call {m} makes")
                self.ancestors[i] |= self.ancestors[m] | 1 << m
                self.after[m].append(i)
        effects = [i for i, call in enumerate(calls) if call.has_effects]
        for earlier, later in pairwise(effects):
            self.add(earlier, later)

    def leads(self, source: int, target: int) -> bool:
        return bool(self.ancestors[target] >> source & 1)

    def add(self, first: int, second: int) -> None:
        """`first` runs before `second`, which must not lead to it."""
        if self.leads(first, second):
            return
        self.direct[second].append(first)
        self.after[first].append(second)
        gained, pending = self.ancestors[first] | 1 << first, [second]
        while pending:
            i = pending.pop()
            if gained & ~self.ancestors[i]:
                self.ancestors[i] |= gained
                pending += self.after[i]

    def order(self) -> list[int]:
        """All calls, each after those it needs, near the given order."""
        done = [False] * len(self.direct)
        order: list[int] = []
        for start in range(len(self.direct)):
            stack = [(start, 0)]
            while stack:
                number, position = stack.pop()
                if done[number]:
                    continue
                needed = self.direct[number]
                while position < len(needed) and done[needed[position]]:
                    position += 1
                if position < len(needed):
                    stack += [(number, position + 1), (needed[position], 0)]
                else:
                    done[number] = True
                    order.append(number)
        return order
