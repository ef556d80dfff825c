"""Steps with regions in them -> calls, each once, and the order in which they run.

A region has no memory of its own for what goes in and out. Its inputs are its operands, and its outputs are the node's
results, stored there by the calls that compute them:

    %2 = cond(%p, %x) { exp }, { return %x }    ->   Chosen(%p, [exp: %x -> %2], [copy: %x -> %2])

What a loop carries lies where its result will be, from before the first pass to after the last. The next value goes
straight there where all other readers of the old one can run first and each element is stored where it was loaded, as a
captured state is updated; else it is copied at the end of the body:

    %1 = while_loop(%0) { i < 10 }, { i + 1 }   ->   copy %0 -> %1; less: %1 -> %p; Repeated(%p, [add: %1 -> %1; less])

A copy whose two sides come to lie in the same memory is left out by `plan`.
"""
from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Container, Iterable, Sequence
from dataclasses import field

from flambeau.ir import ops
from flambeau.ir.graph import Graph, Node, Value
from flambeau.ir.records import dataclass
from flambeau.passes.lowering.lower import Call, Nested, Step, Steps, copy_call
from flambeau.passes.memory.order import Chosen, Order, Repeated
from flambeau.passes.memory.state_writes import in_place_writes

__all__ = ["Expansion", "Look", "Whole", "another", "copies_to_states"]

Prepare = Callable[[list[Call]], list[Call]]


@dataclass(frozen=True)
class Look:
    """A moment at which the program looks at a bool, to choose a body or to go on."""

    value: Value

    @property
    def operands(self) -> list[Value]:
        return [self.value]

    @property
    def results(self) -> list[Value]:
        return []


@dataclass(frozen=True)
class Whole:
    """The stretch of an order, from item `first` to before item `end`, that runs a node with regions."""

    node: Node
    first: int
    end: int


@dataclass
class Expansion:
    """prepare: makes copies ready to be built. elsewhere: values that have a place outside of the arena.

    calls: all of them, each once; `timeline` has looks between them, and the calls of bodies where they run first.
    same: what lies in the memory of another value; follow it by `place`. loops: stretches of the timeline that are
    repeated. copied: calls, by number, that only copy."""

    prepare: Prepare
    elsewhere: Container[Value] = ()
    calls: list[Call] = field(default_factory=list)
    timeline: list[Call | Look] = field(default_factory=list)
    same: dict[Value, Value] = field(default_factory=dict)
    loops: list[tuple[int, int]] = field(default_factory=list)
    copied: set[int] = field(default_factory=set)

    def place(self, value: Value) -> Value:
        """The value whose memory this one lies in."""
        while value in self.same:
            value = self.same[value]
        return value

    def order(self, steps: Sequence[Step], kept: Iterable[Value]) -> tuple[Order, tuple[Whole, ...]]:
        """Add the steps of a graph; how they run, and which part of that is which node with regions. kept: what the
        graph gives."""
        reads = Counter([*kept, *[value for step in steps for value in step.reads]])
        made_here = {value for step in steps for value in step.results}
        made: list[int | Repeated | Chosen] = []
        wholes: list[Whole] = []
        for step in steps:
            if isinstance(step, Call):
                made.append(self._add(step))
                continue
            first = len(made)
            if isinstance(step.node.op, ops.Cond):
                made.append(self._choice(step))
            else:
                made += self._loop(step, [v for v in step.node.operands if reads[v] == 1 and v in made_here])
            wholes.append(Whole(step.node, first, len(made)))
        return tuple(made), tuple(wholes)

    def _add(self, call: Call) -> int:
        self.calls.append(call)
        self.timeline.append(call)
        return len(self.calls) - 1

    def _copies(self, copies: list[Call]) -> tuple[int, ...]:
        numbers = tuple([self._add(call) for call in self.prepare(copies)] if copies else [])
        self.copied.update(numbers)
        return numbers

    def _choice(self, step: Nested) -> Chosen:
        condition, *operands = step.node.operands
        self.timeline.append(Look(condition))
        bodies = []
        for region, body in zip(step.node.regions, step.bodies, strict=True):
            self.same.update(zip(region.inputs, operands, strict=True))
            bodies.append(self._region(region, body, step.node.results))
        return Chosen(condition, bodies[0], bodies[1])

    def _loop(self, step: Nested, own: Sequence[Value]) -> tuple[int | Repeated | Chosen, ...]:
        """own: operands that nothing else reads, which may lie where the results will be from the start."""
        (condition, body), node = step.node.regions, step.node
        count = len(node.results)
        for value, result in zip(node.operands, node.results, strict=False):
            if value in own and value not in self.elsewhere and value not in self.same and self.place(result) is result:
                self.same[value] = result
        starts = self._copies([copy_call(value, result) for value, result in zip(node.operands, node.results, strict=False)
                               if self.place(value) is not self.place(result)])
        for region in (condition, body):
            self.same.update(zip(region.inputs, [*node.results, *node.operands[count:]], strict=True))
        first = len(self.timeline)
        told, _ = self.order(step.bodies[0], condition.outputs)
        repeated = self._region(body, step.bodies[1], node.results)
        self.timeline.append(Look(condition.outputs[0]))
        self.loops.append((first, len(self.timeline) - 1))
        return (*starts, *told, Repeated(condition.outputs[0], (*repeated, *told)))

    def _region(self, region: Graph, steps: Steps, results: Sequence[Value]) -> Order:
        """The steps of a region, and what brings its outputs to the results of its node."""
        input_at = {self.place(value): value for value in region.inputs}
        updates: dict[Value, Value] = {}            # of inputs that lie where a result does
        others: list[tuple[Value, Value]] = []
        for value, result in zip(region.outputs, results, strict=True):
            there = input_at.get(self.place(result))
            if there is None:
                others.append((value, result))
            else:
                updates[there] = value
        writes = in_place_writes(steps, [value for value, _ in others], updates, keeps_state=False)
        self.same.update({value: state for state, value in writes.direct.items()})
        made = {value for step in steps for value in step.results}
        copies = []
        for value, result in others:
            if value in made and value not in self.same:
                self.same[value] = result
            else:
                copies.append(copy_call(value, result))
        copies += copies_to_states(updates, writes.direct)
        order, _ = self.order([steps[number] for number in writes.order], region.outputs)
        return (*order, *self._copies(copies))


def copies_to_states(writes: dict[Value, Value], direct: dict[Value, Value]) -> list[Call]:
    """Copies of new values to states that no call stores to. A state whose old value goes to another state is saved
    first, as swapped states wait for each other."""
    saved, to_states = [], []
    for state, value in writes.items():
        if state in direct or value is state:
            continue
        if value in writes:
            temporary = another(value)
            saved.append(copy_call(value, temporary))
            value = temporary
        to_states.append(copy_call(value, state))
    return saved + to_states


def another(value: Value) -> Value:
    """A value of the same type that stands for a copy."""
    return Value(value.node, value.index, value.type)
