"""Calls -> where every value lives. Captured state is written in place where no call still needs its old value;
results of calls take over the memory of operands they are the last to read; the rest shares one arena by liveness.
"""
from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Literal

from flambeau.ir import ops
from flambeau.ir.graph import Graph, Value
from flambeau.ir.records import dataclass
from flambeau.passes.lowering.lower import Call, Step, copy_call
from flambeau.passes.memory.arena import ALIGNMENT, Arena, lay_out
from flambeau.passes.memory.early import computes_again
from flambeau.passes.memory.nested import Expansion, Look, Whole, another, copies_to_states
from flambeau.passes.memory.once import Once, Packs, once_of
from flambeau.passes.memory.order import Chosen, Order, Repeated
from flambeau.passes.memory.state_writes import early_checks_of, in_place_writes

__all__ = ["ALIGNMENT", "Arrangement", "Home", "MemoryPlan", "Whole", "arrange", "plan"]


@dataclass(frozen=True, slots=True)
class Home:
    """kind and number of a buffer; in an arena `index` is a byte offset. "kept": what runs once leaves it; "once": the
    arena of what does."""

    kind: Literal["arg", "state", "out", "scalar", "const", "arena", "kept", "once"]
    index: int
    nbytes: int


@dataclass(frozen=True)
class Arrangement:
    """What runs, and where results go, before it is known how much scratch memory kernels need. calls: in execution
    order, each once; the last `copies` move whole values to states and outputs. home_of: of every value outside of the
    arena. nested: how calls are ordered and where values lie, if there are nodes with regions; `wholes`: those."""

    calls: list[Call]
    home_of: dict[Value, Home]
    constants: list[Value]
    in_place_writes: int
    copied_writes: int
    copies: int
    nested: Expansion | None = None
    order: Order | None = None
    wholes: tuple[Whole, ...] = ()


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
    wholes: tuple[Whole, ...] = ()          # the parts of the order that are nodes with regions
    once: Once | None = None                # what runs once for each version of the states
    once_arena_bytes: int = 0


def arrange(graph: Graph, steps: Sequence[Step], prepare: Callable[[list[Call]], list[Call]]) -> Arrangement:
    """steps: those of the graph, their calls ready to be built. prepare: makes ready what is added to them, checks and
    copies."""
    home_of, constants = _fixed_homes(graph)
    steps = [*prepare(early_checks_of(graph, steps)), *steps]
    writes = in_place_writes(steps, graph.outputs, graph.writes, frees_early=computes_again(graph))
    for state, value in writes.direct.items():
        home_of[value] = home_of[state]
    copies = prepare(_copies(graph, steps, writes.direct, home_of))
    copied = sum(v is not s for s, v in graph.writes.items()) - len(writes.direct)
    ordered = [*(steps[i] for i in writes.order), *copies]
    calls = [step for step in ordered if isinstance(step, Call)]
    if len(calls) == len(ordered):
        return Arrangement(calls, home_of, constants, len(writes.direct), copied, len(copies))
    expansion = Expansion(prepare, home_of, same={value: state for state, value in writes.direct.items()})
    order, wholes = expansion.order(ordered, graph.roots())
    return Arrangement(expansion.calls, home_of, constants, len(writes.direct), copied, len(copies), expansion, order,
                       wholes)


def plan(arranged: Arrangement, scratch_bytes: Sequence[Sequence[int]], packings: Sequence[Packs] | None = None,
         most_kept: int = 0) -> MemoryPlan:
    """scratch_bytes[i]: the extra buffers that call i, as it was built, asks for. packings: of each call, where what
    depends on states alone runs once, as long as that keeps `most_kept` bytes or fewer; the program then writes no
    state."""
    nested = arranged.nested
    if packings is not None and nested is None and any(home.kind == "state" for home in arranged.home_of.values()):
        elsewhere = {value: home.kind for value, home in arranged.home_of.items()}
        once = once_of(arranged.calls, elsewhere, packings, scratch_bytes, most_kept)
        if once is not None:
            return _plan_apart(arranged, scratch_bytes, once)
    if nested is None:
        arena = lay_out(arranged.calls, scratch_bytes, arranged.home_of)
    else:
        arena = lay_out(nested.timeline, scratch_bytes, arranged.home_of, nested.place, nested.loops)
    home_of = arranged.home_of | {v: Home("arena", b.offset, v.type.nbytes) for v, b in arena.block_of.items()}
    scratch = [tuple([Home("arena", b.offset, b.nbytes) for b in group]) for group in arena.scratch]
    order, wholes = arranged.order, arranged.wholes
    if nested is not None:
        home_of.update({v: home_of[place] for v in nested.same if (place := nested.place(v)) in home_of})
        idle = {n for n in nested.copied if len({home_of[v] for v in arranged.calls[n].buffers}) == 1}
        order, wholes = _without(arranged.order or (), wholes, idle)
    return MemoryPlan(arranged.calls, home_of, scratch, arena.nbytes, arranged.constants, arena.reused_bytes,
                      arranged.in_place_writes, arranged.copied_writes, arranged.copies, arena.unshared_bytes, order,
                      wholes)


def _plan_apart(arranged: Arrangement, scratch_bytes: Sequence[Sequence[int]], once: Once) -> MemoryPlan:
    """What runs once and what runs at every call have arenas of their own."""
    home_of = dict(arranged.home_of)
    for number, value in enumerate(once.values):
        home_of[value] = Home("kept", number, value.type.nbytes)
    panel_of = {panel: Home("kept", number, scratch_bytes[panel[0]][panel[1]])
                for number, alike in enumerate(once.panels, len(once.values)) for panel in alike}
    scratch: list[tuple[Home, ...]] = [()] * len(arranged.calls)
    packed = {number: [source for source in range(len(arranged.calls[number].buffers)) if (number, source) in once.idle]
              for number, _ in once.packs}

    def laid_out(kind: Literal["arena", "once"], numbers: Sequence[int], timeline: Sequence[Call | Look]) -> Arena:
        asked = [[nbytes for place, nbytes in enumerate(scratch_bytes[n]) if (n, place) not in panel_of] for n in numbers]
        arena = lay_out(timeline, asked, home_of)
        home_of.update({v: Home(kind, b.offset, v.type.nbytes) for v, b in arena.block_of.items()})
        for n, blocks in zip(numbers, arena.scratch, strict=True):
            own = iter([Home(kind, block.offset, block.nbytes) for block in blocks])
            scratch[n] = tuple([panel_of.get((n, place)) or next(own) for place in range(len(scratch_bytes[n]))])
        return arena

    calls = arranged.calls
    early: list[Call | Look] = []
    for number, call in enumerate(calls):
        early += [call] if number in once.calls else [Look(call.buffers[source]) for source in packed.get(number, ())]
    first = laid_out("once", sorted(once.calls), early)
    late = [number for number in range(len(calls)) if number not in once.calls]
    each = laid_out("arena", late, [calls[number] for number in late])
    return MemoryPlan(calls, home_of, scratch, each.nbytes, arranged.constants, first.reused_bytes + each.reused_bytes,
                      arranged.in_place_writes, arranged.copied_writes, arranged.copies,
                      first.unshared_bytes + each.unshared_bytes, once=once, once_arena_bytes=first.nbytes)


def _without(order: Order, wholes: Sequence[Whole], idle: Collection[int]) -> tuple[Order, tuple[Whole, ...]]:
    """Leave out calls, by number, at every level."""
    kept: list[int | Repeated | Chosen] = []
    place = [0]                                 # how many items are left before each
    for item in order:
        match item:
            case Repeated(condition, body):
                kept.append(Repeated(condition, _without(body, (), idle)[0]))
            case Chosen(condition, then, otherwise):
                kept.append(Chosen(condition, _without(then, (), idle)[0], _without(otherwise, (), idle)[0]))
            case number if number not in idle:
                kept.append(number)
        place.append(len(kept))
    return tuple(kept), tuple([Whole(whole.node, place[whole.first], place[whole.end]) for whole in wholes])


def _fixed_homes(graph: Graph) -> tuple[dict[Value, Home], list[Value]]:
    """Homes of inputs and of constants that live in memory, in regions too."""
    home_of: dict[Value, Home] = {}
    count = {"arg": 0, "state": 0, "scalar": 0}
    for value in graph.inputs:
        kind = value.node.op.kind                           # type: ignore[attr-defined]
        home_of[value] = Home(kind, count[kind], value.type.nbytes)
        count[kind] += 1
    constants = _constants(graph)
    for number, value in enumerate(constants):
        home_of[value] = Home("const", number, value.type.nbytes)
    return home_of, constants


def _constants(graph: Graph) -> list[Value]:
    found = []
    for node in graph.toposort():
        if node.op.name == "constant":
            found.append(node.results[0])
        elif node.regions and not isinstance(node.op, ops.Fusion):
            found += [value for region in node.regions for value in _constants(region)]
    return found


def _copies(graph: Graph, calls: Sequence[Step], direct: dict[Value, Value],
            home_of: dict[Value, Home]) -> list[Call]:
    """Outputs get homes, or copies of what has one already; then states that no call writes are copied to."""
    made = {v for call in calls for v in call.results}
    to_outputs = []
    for number, value in enumerate(graph.outputs):
        target = value if value in made and value not in home_of else another(value)
        home_of[target] = Home("out", number, value.type.nbytes)
        if target is not value:
            to_outputs.append(copy_call(value, target))
    return to_outputs + copies_to_states(graph.writes, direct)
