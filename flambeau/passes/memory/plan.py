"""Calls -> where every value lives. Captured state is written in place where no call still needs its old value;
results of calls take over the memory of operands they are the last to read; the rest shares one arena by liveness.
"""
from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from flambeau.ir.graph import Graph, Value
from flambeau.passes.lowering.lower import Call, copy_call
from flambeau.passes.memory.arena import ALIGNMENT, lay_out
from flambeau.passes.memory.order import Order
from flambeau.passes.memory.state_writes import early_checks_of, in_place_writes, may_share, results_of

__all__ = ["ALIGNMENT", "Arrangement", "Home", "MemoryPlan", "arrange", "may_share", "plan"]


@dataclass(frozen=True, slots=True)
class Home:
    """kind and number of a buffer; in the arena `index` is a byte offset."""

    kind: Literal["arg", "state", "out", "scalar", "const", "arena"]
    index: int
    nbytes: int


@dataclass(frozen=True)
class Arrangement:
    """What runs, and where results go, before it is known how much scratch memory kernels need. calls: in execution
    order; the last `copies` move whole values to states and outputs. home_of: of every value outside of the arena."""

    calls: list[Call]
    home_of: dict[Value, Home]
    constants: list[Value]
    in_place_writes: int
    copied_writes: int
    copies: int


@dataclass
class MemoryPlan:
    """Calls in the order of their first execution (the last `copies` move whole values to states and outputs), the home
    of every value they touch, scratch homes per call, and the arena's size."""

    calls: list[Call]
    home_of: dict[Value, Home]
    scratch: list[tuple[Home, ...]]
    arena_bytes: int
    constants: list[Value]
    reused_bytes: int
    in_place_writes: int
    copied_writes: int
    copies: int
    unshared_bytes: int                     # what the arena would take without sharing
    order: Order | None = None              # None: one call after another


def arrange(graph: Graph, calls: Sequence[Call], prepare: Callable[[list[Call]], list[Call]]) -> Arrangement:
    """calls: those of the graph, ready to be built. prepare: makes ready what is added to them, checks and copies."""
    home_of, constants = _fixed_homes(graph)
    calls = [*prepare(early_checks_of(graph, calls)), *calls]
    writes = in_place_writes(graph, calls)
    for state, value in writes.direct.items():
        home_of[value] = home_of[state]
    copies = prepare(_copies(graph, calls, writes.direct, home_of))
    copied = sum(v is not s for s, v in graph.writes.items()) - len(writes.direct)
    return Arrangement([*(calls[i] for i in writes.order), *copies], home_of, constants, len(writes.direct), copied,
                       len(copies))


def plan(arranged: Arrangement, scratch_bytes: Sequence[Sequence[int]]) -> MemoryPlan:
    """scratch_bytes[i]: the extra buffers that call i, as it was built, asks for."""
    arena = lay_out(arranged.calls, scratch_bytes, arranged.home_of)
    home_of = arranged.home_of | {v: Home("arena", b.offset, v.type.nbytes) for v, b in arena.block_of.items()}
    scratch = [tuple([Home("arena", b.offset, b.nbytes) for b in group]) for group in arena.scratch]
    return MemoryPlan(arranged.calls, home_of, scratch, arena.nbytes, arranged.constants, arena.reused_bytes,
                      arranged.in_place_writes, arranged.copied_writes, arranged.copies, arena.unshared_bytes)


def _fixed_homes(graph: Graph) -> tuple[dict[Value, Home], list[Value]]:
    """Homes of inputs and of constants that live in memory."""
    home_of: dict[Value, Home] = {}
    count = {"arg": 0, "state": 0, "scalar": 0}
    for value in graph.inputs:
        kind = value.node.op.kind                           # type: ignore[attr-defined]
        home_of[value] = Home(kind, count[kind], value.type.nbytes)
        count[kind] += 1
    constants = [n.results[0] for n in graph.toposort() if n.op.name == "constant"]
    for number, value in enumerate(constants):
        home_of[value] = Home("const", number, value.type.nbytes)
    return home_of, constants


def _copies(graph: Graph, calls: Sequence[Call], direct: dict[Value, Value],
            home_of: dict[Value, Home]) -> list[Call]:
    """Outputs get homes, or copies of what has one already; then states that no call writes are copied to. A state
    whose old value goes to another state is saved first, as swapped states wait for each other."""
    made = {v for call in calls for v in results_of(call)}
    to_outputs, saved, to_states = [], [], []
    for number, value in enumerate(graph.outputs):
        target = value if value in made and value not in home_of else _another(value)
        home_of[target] = Home("out", number, value.type.nbytes)
        if target is not value:
            to_outputs.append(copy_call(value, target))
    for state, value in graph.writes.items():
        if state in direct or value is state:
            continue
        if value in graph.writes:
            temporary = _another(value)
            saved.append(copy_call(value, temporary))
            value = temporary
        to_states.append(copy_call(value, state))
    return to_outputs + saved + to_states


def _another(value: Value) -> Value:
    """A value of the same type that stands for a copy."""
    return Value(value.node, value.index, value.type)
