"""The tape of a trace -> backward graphs, for `backward()` on a compiled function's results.

The tape is cut into segments. Records that the same results depend on form one segment: whichever results are
differentiated later, a segment is walked as a whole or not at all. So a result that is not differentiated contributes
nothing (not zeros), a result that another one was computed from has its own gradient, and what `backward()` frees, or
can't walk any more, is known by segment.
"""
from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import field, replace
from typing import TYPE_CHECKING, Any, Literal

from flambeau.errors import FlambeauError, UnsupportedError
from flambeau.frontend.active import traced_by
from flambeau.frontend.tape.autograd import Hook, Record, key_of, origin_of, set_grad_enabled, tape_of
from flambeau.frontend.tape.backward import TensorBuilder
from flambeau.frontend.tape.dispatch import up_to_date
from flambeau.frontend.tape.gradient_hooks import run_hooks, with_hooks
from flambeau.frontend.tensor.storage import Storage
from flambeau.frontend.tensor.tensor import Tensor
from flambeau.frontend.trace.second import SNAPSHOT_BYTES, GradientFunction, Reopened, gradient_function
from flambeau.ir import ops
from flambeau.ir.dims import Size
from flambeau.ir.graph import Graph, Node, Value, inline
from flambeau.ir.graph.sizes import type_with_sizes, with_sizes
from flambeau.ir.records import dataclass
from flambeau.ir.types import TensorType
from flambeau.passes.graph.autodiff import backpropagate

if TYPE_CHECKING:
    from flambeau.frontend.trace.regions import NestingTrace
    from flambeau.frontend.trace.trace import Trace

Key = tuple[Any, ...]


@dataclass(frozen=True, eq=False, slots=True)
class Place:
    """Where a gradient comes from or goes to: `what` is a position among the result's leaves ("out"), the number of a
    tensor between two segments ("inner"), a leaf of the arguments ("arg") or a tensor from outside ("state")."""

    kind: Literal["out", "inner", "arg", "state"]
    what: Any

    def __str__(self) -> str:
        return f"captured tensor {self.what._type}" if self.kind == "state" else f"{_SPELLED[self.kind]} {self.what}"


_SPELLED = {"out": "result", "inner": "inner", "arg": "leaf"}


@dataclass(frozen=True, slots=True)
class Saved:
    """Where a value that the backward reads is found after a call: input number `index` of its kind ("arg", "state",
    "scalar"), output `index` ("out"), or the memory of result `index` ("result"). is_checked: what operations had saved
    there, so it must not be changed."""

    kind: Literal["arg", "state", "scalar", "out", "result"]
    index: int
    is_checked: bool = False


@dataclass(frozen=True, eq=False, slots=True)
class Differentiated:
    """A result of a segment: a tensor that a gradient arrives at. hook: the gradient hooks that were registered on it, as
    a segment from the gradient that arrives to the one that takes its place; those registered later, outside, come
    after them."""

    place: Place
    type: TensorType
    hook: Segment | None = None


@dataclass(frozen=True, eq=False, slots=True)
class Segment:
    """`graph` takes what `saved` names, then the cotangents of `results`, and gives those of `operands`. `error`: what
    walking this part of the tape raises instead. reads_saved: it reads what backward() frees."""

    results: tuple[Differentiated, ...]
    operands: tuple[Place, ...]
    saved: tuple[Saved, ...] = ()
    graph: Graph | None = None
    error: RuntimeError | None = None
    reads_saved: bool = False
    again: Callable[[], GradientFunction] | None = None     # the gradients as a function that has segments itself
    snapshots: tuple[int, ...] = ()                         # the outputs that this may read

    def at(self, sizes: Mapping[str, Size]) -> Segment:
        """The same with other sizes for the named ones."""
        results = [replace(r, type=type_with_sizes(r.type, sizes), hook=None if r.hook is None else r.hook.at(sizes))
                   for r in self.results]
        again = self.again
        return replace(self, results=tuple(results), graph=None if self.graph is None else with_sizes(self.graph, sizes),
                       again=None if again is None else lambda: again().at(sizes))

    def __str__(self) -> str:
        to = ", ".join(map(str, self.operands)) or "nothing"
        of = ", ".join(str(result.place) for result in self.results)
        return f"from {of} to {to}" + (" can't be walked any more" if self.error is not None else "")


@dataclass(frozen=True, eq=False)
class Differentiable:
    """The backward half of a function whose results require grad. Segments come after those they get operands from."""

    segments: tuple[Segment, ...]
    joint: Graph                            # forward and backward together, to be looked at


def differentiate(trace: NestingTrace, roots: Mapping[int, Tensor], shells: Mapping[int, Tensor],
                  shown: Mapping[int, tuple[int, Storage]], again: Reopened | None = None) -> Differentiable:
    """Trace the backward of the results `roots` (by position) of a finished trace, and move it to graphs of its own.
    The trace's graph gets what they read as further outputs.

    shells: the stand-ins of the arguments, by leaf. shown: which result (its position) an output becomes, and where that
    lies, by output number. again: of a trace that was opened again.
    Raises UnsupportedError when the backward changes something."""
    graph = trace.graph
    first = graph._next_seq
    effects = trace.effects()
    with traced_by(trace), set_grad_enabled(False), trace.backward_phase():
        cutter = _Cutter(trace, roots, shells)
        walked = cutter.walk()
    if trace.effects() != effects:
        raise UnsupportedError(f"the backward of {graph.name} (a gradient hook, or a Function's backward) changes a tensor "
                               "in place or sets .grad, which a backward() outside of it can't repeat",
                               hint="call backward() inside the compiled function")
    parts = [part for w in walked for part in (w, *w.hooks.values()) if part.error is None]
    joint = graph.copy() if parts else graph
    local = {node for node in graph.toposort() if node.seq >= first and node.op.name != "input"}
    read_by: list[tuple[_Walked, list[Value]]] = []
    for part in parts:
        part.graph, read = _cut(graph, part.seeds, part.gradients, local)
        read_by.append((part, read))
    gone = {v.node for v in graph.inputs if v.node.seq >= first and v.node.op.kind == "arg"}      # type: ignore[attr-defined]
    graph.inputs = [v for v in graph.inputs if v.node not in gone]
    trace.erase({*local, *gone})
    source_of = _sources(trace, shown)
    for part, read in read_by:
        part.saved = tuple([source_of(value) for value in read])
    if again is None:
        again = Reopened(trace, _snapshots(graph, [value for _, read in read_by for value in read], source_of))
    for w in walked:
        if w.graph is not None:
            w.again, w.snapshots = cutter.again(w.reach, again), tuple(again.snapshots.values())
    return Differentiable(tuple([w.segment() for w in walked]), joint)


def _snapshots(graph: Graph, read: Sequence[Value], source_of: Callable[[Value], Saved]) -> dict[Value, int]:
    """Of small inputs that the function overwrites (the state of random numbers) and what is read depends on: the output
    that holds what they were."""
    wanted = {value.node: value for value in graph.writes if value.type.nbytes <= SNAPSHOT_BYTES}
    if not wanted:
        return {}
    found: set[Node] = set()
    stack = [value.node for value in read]
    while stack:
        node = stack.pop()
        if node not in found:
            found.add(node)
            stack.extend(value.node for value in node.operands)
    sources = {value: source_of(value) for node, value in wanted.items() if node in found}
    return {value: saved.index for value, saved in sources.items() if saved.kind == "out"}


def _sources(trace: Trace, shown: Mapping[int, tuple[int, Storage]]) -> Callable[[Value], Saved]:
    """Where each forward value can be read after a call; those that would be gone become outputs. The memory of inputs
    and results serves if that is where the value was saved, for then it can be told whether it was changed since."""
    graph = trace.graph
    place_of: dict[Value, Saved] = {}
    counts: dict[str, int] = defaultdict(int)
    for value in graph.inputs:
        kind = value.node.op.kind                                               # type: ignore[attr-defined]
        now, saved_in = graph.writes.get(value, value), trace.saved_in
        if kind == "scalar" or now in trace.read_live and now not in saved_in:
            place_of[now] = Saved(kind, counts[kind])
        elif saved_in.get(now) == {trace.storage_of[value]}:
            place_of[now] = Saved(kind, counts[kind], True)
        counts[kind] += 1
    for index, (position, storage) in shown.items():
        if trace.saved_in.get(graph.outputs[index]) == {storage}:
            place_of.setdefault(graph.outputs[index], Saved("result", position, True))

    def source_of(value: Value) -> Saved:
        if value not in place_of:
            place_of[value] = Saved("out", len(graph.outputs))
            graph.outputs = [*graph.outputs, value]
        return place_of[value]

    return source_of


@dataclass
class _Walked:
    """A segment in the making: its cotangents and its gradients are values of the trace's graph, `hooks` are those of
    its results by number."""

    places: list[tuple[Place, TensorType]]
    operands: list[Place]
    seeds: list[Value] = field(default_factory=list)
    gradients: list[Value] = field(default_factory=list)
    hooks: dict[int, _Walked] = field(default_factory=dict)
    error: RuntimeError | None = None
    reads_saved: bool = False
    graph: Graph | None = None
    saved: tuple[Saved, ...] = ()
    reach: int = 0
    again: Callable[[], GradientFunction] | None = None
    snapshots: tuple[int, ...] = ()

    def segment(self) -> Segment:
        """As calls see it."""
        results = [Differentiated(place, type, self.hooks[n].segment() if n in self.hooks else None)
                   for n, (place, type) in enumerate(self.places)]
        return Segment(tuple(results), tuple(self.operands), self.saved, self.graph, self.error, self.reads_saved,
                       self.again, self.snapshots)


class _Cutter:
    """Finds the segments, and walks each."""

    def __init__(self, trace: Trace, roots: Mapping[int, Tensor], shells: Mapping[int, Tensor]):
        self.trace, self.shells = trace, shells
        self.leaf_of = {id(origin_of(shell)): number for number, shell in shells.items()}
        for root in roots.values():
            up_to_date(root)
        self.order = tape_of(list(roots.values()))
        self.records_of: dict[int, list[Record]] = defaultdict(list)
        self.reach = _reach(list(roots.values()), self.order)
        self.place_of: dict[Key, Place] = {key_of(root): Place("out", position) for position, root in roots.items()}
        self.entries: dict[int, dict[Key, TensorType]] = defaultdict(dict)     # by reach: where gradients come in
        for root in roots.values():
            if root._record is not None:
                self.entries[self.reach[id(root._record)]][key_of(root)] = root._type
        for record in self.order:
            for t in self._recorded(record):
                reach = self.reach[id(t._record)]
                if reach != self.reach[id(record)]:
                    self.entries[reach].setdefault(key_of(t), t._type)
                    self.place_of.setdefault(key_of(t), Place("inner", len(self.place_of)))

    def walk(self) -> list[_Walked]:
        """All segments. What an operand is computed by reaches more results than its user does, and
        comes before it."""
        for record in self.order:
            self.records_of[self.reach[id(record)]].append(record)
        order = sorted(self.records_of, key=int.bit_count, reverse=True)
        return [self._segment(reach, self.records_of[reach]) for reach in order]

    def again(self, reach: int, opened: Reopened) -> Callable[[], GradientFunction]:
        """How the gradients of one segment become a function."""
        records, name = self.records_of[reach], self.trace.graph.name
        return lambda: gradient_function(opened, records, self.entries[reach], self._starts(records), self.shells, name,
                                         differentiate)

    def _segment(self, reach: int, records: Sequence[Record]) -> _Walked:
        trace, entries = self.trace, self.entries[reach]
        walked = _Walked([(self.place_of[key], type) for key, type in entries.items()], [], reach=reach)
        hooks_of = {(id(record), index): hooks for record in records
                    for index, hooks in (record.hooks or {}).items() if hooks}
        cotangents: dict[Key, Tensor] = {}
        builder = TensorBuilder()
        try:
            for n, (key, type) in enumerate(entries.items()):
                if key in hooks_of and self.place_of[key].kind == "out":
                    walked.hooks[n] = self._hooks(self.place_of[key], type, hooks_of[key])
                    key = (*key, "hooked")              # where the gradient is after its hooks
                cotangents[key] = trace.input_tensor(type, f"grad{n}")
            walked.seeds = [trace.value_of(ct) for ct in cotangents.values()]
            reads = trace.saved_reads
            found = trace.watched(backpropagate, builder, with_hooks((), records, None, False), cotangents,
                                  builder.parts_of, lambda key: key is not None)
        except RuntimeError as error:
            if isinstance(error, FlambeauError):
                raise
            return _Walked(walked.places, list(self._starts(records).values()), error=error.with_traceback(None))
        walked.reads_saved = trace.saved_reads > reads
        for key, place in self._starts(records).items():
            if key in found:
                walked.operands.append(place)
                walked.gradients.append(trace.value_of(found[key]))
        return walked

    def _hooks(self, place: Place, type: TensorType, hooks: dict[int, Hook]) -> _Walked:
        """The hooks of a segment's result as a segment of their own."""
        gradient = self.trace.input_tensor(type, "grad")
        return _Walked([(place, type)], [place], [self.trace.value_of(gradient)],
                       [self.trace.value_of(self.trace.watched(run_hooks, hooks, gradient))])

    def _recorded(self, record: Record) -> Iterable[Tensor]:
        """The operands that this trace computed."""
        return (t for t in record.operands if t._record is not None and t._record.tracer is self.trace)

    def _starts(self, records: Sequence[Record]) -> dict[Key, Place]:
        """Where a segment's gradients go, by the keys they are added up under."""
        inside = {id(record) for record in records}
        computed = {key_of(o.tensor): o.tensor for o in self.trace.outside.values() if o.tensor._record is not None}
        found: dict[Key, Place] = {}
        for t in (t for record in records for t in record.operands if t._requires_grad):
            key, start = key_of(t), origin_of(t)
            if t._record is not None and t._record.tracer is self.trace:
                if id(t._record) not in inside:
                    found[key] = self.place_of[key]
            elif id(start) in self.leaf_of:
                found[key] = Place("arg", self.leaf_of[id(start)])
            elif t._record is not None:
                found[key] = Place("state", computed.get(key, t))
            elif start._storage.trace is None or id(start) in self.trace.moved:
                found[key] = Place("state", start)
            elif key in self.place_of:                          # a leaf made inside, and returned
                found[key] = self.place_of[key]
        return found


def _reach(roots: Sequence[Tensor], order: Sequence[Record]) -> dict[int, int]:
    """By id of record, the set of roots (as bits) that depend on it."""
    reach: dict[int, int] = defaultdict(int)
    bit_of: dict[Key, int] = {}
    for root in roots:
        if root._record is not None:
            reach[id(root._record)] |= bit_of.setdefault(key_of(root), 1 << len(bit_of))
    for record in order:
        for t in record.operands:
            if t._record is not None:
                reach[id(t._record)] |= reach[id(record)]
    return reach


def _cut(graph: Graph, seeds: Sequence[Value], gradients: Sequence[Value],
         local: set[Node]) -> tuple[Graph, list[Value]]:
    """A graph of what computes `gradients` from `seeds`; (it, the forward values it reads). Constants and views are
    taken along: what they are made of is saved, if anything."""
    backward = Graph(name=f"{graph.name}_backward")
    found: set[Node] = set()
    saved: dict[Value, None] = {}
    stack = list(gradients)
    is_seed = set(seeds)
    while stack:
        value = stack.pop()
        if value in is_seed or value.node in found:
            continue
        node = value.node
        if node in local or isinstance(node.op, ops.Constant) or _is_free_view(node) or _is_part_of_input(value):
            found.add(value.node)
            stack.extend(value.node.operands)
        else:
            saved[value] = None
    residuals = sorted(saved, key=lambda v: (v.node.seq, v.index))
    binding = {value: backward.add_input(value.type, f"saved{n}") for n, value in enumerate(residuals)}
    binding.update({seed: backward.add_input(seed.type, f"grad{n}") for n, seed in enumerate(seeds)})
    new_of = inline(graph, backward, binding, nodes=sorted(found, key=lambda node: node.seq))
    backward.outputs = [new_of[v] for v in gradients]
    return backward, residuals


def _is_free_view(node: Node) -> bool:
    """True of a view of all its operand, which costs less to make again than to save."""
    return isinstance(node.op, ops.View) and node.op.shares_memory and node.op.keeps_all


def _is_part_of_input(value: Value) -> bool:
    """True of a slice of an input, which need not be copied to be saved."""
    is_slice = isinstance(value.node.op, ops.Slice)
    while isinstance(value.node.op, ops.Slice) or _is_free_view(value.node):
        (value,) = value.node.operands
    return is_slice and value.node.op.name == "input"


__all__ = ["Differentiable", "Differentiated", "Place", "Saved", "Segment", "differentiate"]
