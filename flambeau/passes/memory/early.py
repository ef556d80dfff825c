"""Calls that free at least as much memory as they take run as soon as they can, in graphs that compute values again to
need less memory: what is computed again late must not wait for its last reader until all else has been, too."""
from __future__ import annotations

from collections.abc import Collection, Sequence

from flambeau.ir.graph import Graph, Value
from flambeau.passes.graph.rewrite import graphs_within
from flambeau.passes.lowering.lower import Step

__all__ = ["computes_again", "freed_early"]


def computes_again(graph: Graph) -> bool:
    """True for graphs that hold an `after`."""
    return any(node.op.name == "after" for current in graphs_within(graph) for node in current.toposort())


def freed_early(steps: Sequence[Step], order: Sequence[int], needed: Sequence[Sequence[int]],
                fixed: Collection[Value]) -> list[int]:
    """The steps in `order`, but each that frees what it takes as soon as those it needs have run. needed[i]: those before
    step i. fixed: values whose memory is not in the arena, or that live to the end."""
    readers = _readers(steps)
    users: list[list[int]] = [[] for _ in steps]
    waits = [len(before) for before in needed]
    for number, before in enumerate(needed):
        for other in before:
            users[other].append(number)
    made = {value for step in steps for value in step.results} - set(fixed)
    done: set[int] = set()
    found: list[int] = []
    ready: set[int] = {n for n, count in enumerate(waits) if not count}

    def run(number: int) -> None:
        done.add(number)
        found.append(number)
        ready.discard(number)
        for value in {*steps[number].operands}:
            readers[value].discard(number)
        for user in users[number]:
            waits[user] -= 1
            if not waits[user]:
                ready.add(user)

    def frees(number: int) -> bool:
        step = steps[number]
        freed = sum(v.type.nbytes for v in {*step.operands} if v in made and readers[v] == {number})
        return 0 < freed >= sum(v.type.nbytes for v in {*step.results} if v in made)

    for number in order:
        if number not in done:
            run(number)
        while (early := next((n for n in sorted(ready) if frees(n)), None)) is not None:
            run(early)
    return found


def _readers(steps: Sequence[Step]) -> dict[Value, set[int]]:
    readers: dict[Value, set[int]] = {}
    for number, step in enumerate(steps):
        for value in step.operands:
            readers.setdefault(value, set()).add(number)
    return readers
