"""The gradients that a segment gives, as a function of their own that has segments: what `create_graph=True` needs.

A trace is opened again when that is first asked for, and the segment's records are walked once more, this time on the
tape. The function computes anew what the forward had computed, so it takes what went into the call, and the cotangents.
Its own segments can be treated likewise: derivatives of any order.
"""
from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from flambeau.errors import FlambeauError, UnsupportedError, listening
from flambeau.frontend.active import traced_by
from flambeau.frontend.tape.autograd import grad_mode, set_grad_enabled
from flambeau.frontend.tape.backward import TensorBuilder
from flambeau.frontend.tape.dispatch import dispatch
from flambeau.frontend.tape.gradient_hooks import with_hooks
from flambeau.frontend.tensor.storage import Storage
from flambeau.frontend.tensor.tensor import Tensor
from flambeau.frontend.trace.guards.effects import difference
from flambeau.ir import ops
from flambeau.ir.answers import assuming
from flambeau.ir.dims import Dim, Size
from flambeau.ir.facts import Facts
from flambeau.ir.graph import Graph, Node, Value, clone, inline
from flambeau.ir.graph.sizes import with_sizes
from flambeau.ir.records import dataclass
from flambeau.ir.types import TensorType
from flambeau.passes.graph.autodiff import backpropagate
from flambeau.runtime.forking import ForkSafeLock

if TYPE_CHECKING:
    from flambeau.frontend.tape.autograd import Record
    from flambeau.frontend.trace.regions import NestingTrace
    from flambeau.frontend.trace.segments import Key, Place, Segment

COTANGENTS = 1 << 20                    # leaf numbers of cotangents begin here
SNAPSHOT_BYTES = 1024                   # as much of a tensor that a call overwrites is kept as it was before


@dataclass(frozen=True, eq=False)
class GradientFunction:
    """`graph` takes what `sources` name, (kind, index) of the call, cotangents being further arguments; its outputs are the
    gradients, `n_gradients`, and then what the segments read.

    cotangents: the index among the arguments of each. kept: of inputs that the call overwrote, (kind, index), the output
    that holds what they were."""

    graph: Graph
    sources: tuple[tuple[str, int], ...]
    cotangents: tuple[int, ...]
    n_gradients: int
    segments: tuple[Segment, ...]
    kept: Mapping[tuple[str, int], int]
    facts: Facts | None = None              # what is known of named sizes

    def at(self, sizes: Mapping[str, Size]) -> GradientFunction:
        """The same with other sizes for the named ones. Raises UnsupportedError for numbers that it is not for."""
        numbers = {name: size for name, size in sizes.items() if not isinstance(size, Dim)}
        if self.facts is not None and numbers.keys() >= self.facts.sizes.keys() and (why := self.facts.broken(numbers)):
            raise UnsupportedError(f"second derivatives of {self.graph.name} for these sizes: {why}",
                                   hint="compile with dynamic=False, or take both derivatives inside the compiled function")
        return replace(self, graph=with_sizes(self.graph, sizes), segments=tuple([s.at(sizes) for s in self.segments]))


class Reopened:
    """A finished trace, with a copy of its graph to go on with. snapshots: of inputs that calls overwrite, the
    output that holds what they were."""

    def __init__(self, trace: NestingTrace, snapshots: Mapping[Value, int]):
        self.trace, self.snapshots = trace, snapshots
        self.sources: dict[Value, tuple[str, int]] | None = None        # of the inputs, once it was opened
        self.overwritten: dict[tuple[str, int], TensorType] = {}
        self.kept: dict[tuple[str, int], int] = {}
        self.count = 0                                                  # of arguments, cotangents included
        self._lock = ForkSafeLock()         # one thread at a time has the trace, which all segments share

    @contextmanager
    def opened(self) -> Iterator[NestingTrace]:
        """Ops inside are recorded by the trace. A refusal stays one, also if the user's code caught it."""
        trace = self.trace
        with self._lock, traced_by(trace), assuming(trace.facts), set_grad_enabled(grad_mode.enabled):
            if self.sources is None:
                self._copy()
            trace.closed = False
            refusals: list[FlambeauError] = []
            listening.tell, before = refusals.append, listening.tell
            try:
                yield trace
            finally:
                trace.closed, listening.tell = True, before
            if refusals:
                raise refusals[0]

    def cotangent(self, type: TensorType) -> tuple[int, Tensor]:
        """A further argument that requires grad, and its number."""
        number, self.count = self.count, self.count + 1
        made = self.trace.input_tensor(type, f"grad{number}")
        made._requires_grad = True
        assert self.sources is not None, "the trace is open"
        value = self.trace.value_of(made)
        self.sources[value], self.trace.storage_of[value] = ("arg", number), made._storage
        return number, made

    def _copy(self) -> None:
        """Let the trace go on in a copy of its graph: the other was compiled, and is shown."""
        trace = self.trace
        graph, new_of = clone(trace.graph)
        counts: dict[str, int] = {"arg": 0, "state": 0, "scalar": 0}
        self.sources = {}
        for value in trace.graph.inputs:
            kind = value.node.op.kind                                   # type: ignore[attr-defined]
            source = self.sources[new_of[value]] = kind, counts[kind]
            if value in self.snapshots:
                self.kept[source] = self.snapshots[value]
            elif value in trace.graph.writes:
                self.overwritten[source] = value.type
            counts[kind] += 1
        self.count = counts["arg"]
        graph.writes, graph.outputs = {}, []
        trace.continue_in(graph, new_of)


def gradient_function(again: Reopened, records: Sequence[Record], entries: Mapping[Key, TensorType],
                      operands: Mapping[Key, Place], shells: Mapping[int, Tensor], name: str,
                      differentiate: Any) -> GradientFunction:
    """The gradients by the keys of `operands` that the records give, of which segment they are, as a function."""
    with again.opened() as trace:
        if any(hooks for record in records for hooks in (record.hooks or {}).values()):
            raise UnsupportedError(f"second derivatives through gradient hooks of the compiled function {name}",
                                   hint="take both derivatives inside the compiled function")
        changed = trace.watch.heap.changes() if any(getattr(record.op, "runs_code", False) for record in records) else ()
        for node, step, then, now in changed:
            raise UnsupportedError(f"{difference(node, step, then, now)} since the compiled function {name} was called, "
                                   "and derivatives of its gradients run code that reads it",
                                   hint="take both derivatives before it changes, or inside the compiled function")
        graph = trace.graph
        cotangents = {key: again.cotangent(type) for key, type in entries.items()}
        builder = TensorBuilder()
        with set_grad_enabled(True), trace.backward_phase():
            found = backpropagate(builder, with_hooks((), records, None, False),
                                  {key: ct for key, (_, ct) in cotangents.items()}, builder.parts_of,
                                  lambda key: key is not None)
            gradients = [dispatch(ops.Reshape(found[key]._type.shape), found[key]) for key in operands if key in found]
        graph.outputs = [trace.value_of(g) for g in gradients]
        leaves = {**shells, **{COTANGENTS + number: ct for number, ct in cotangents.values()}}
        shown: dict[int, tuple[int, Storage]] = {n: (n, g._storage) for n, g in enumerate(gradients)}
        roots = {n: g for n, g in enumerate(gradients) if g._requires_grad}
        segments = differentiate(trace, roots, leaves, shown, again).segments if roots else ()
        made, sources = _extracted(graph, again, name)
        for source in (*sources, *[(saved.kind, saved.index) for segment in segments for saved in segment.saved]):
            if source in again.overwritten:
                raise UnsupportedError(f"second derivatives through the compiled function {name} need what a tensor "
                                       f"{again.overwritten[source]} held before the call, which overwrote it",
                                       hint="take both derivatives inside the compiled function")
        return GradientFunction(made, sources, tuple([number for number, _ in cotangents.values()]),
                                len(gradients), segments, again.kept, trace.facts)


def _extracted(graph: Graph, again: Reopened, name: str) -> tuple[Graph, tuple[tuple[str, int], ...]]:
    """A graph of what computes the outputs, and where its inputs come from."""
    needed: set[Node] = set()
    stack = [value.node for value in graph.outputs]
    while stack:
        node = stack.pop()
        if node not in needed:
            needed.add(node)
            stack.extend(value.node for value in node.operands)
    assert again.sources is not None, "the trace was opened"
    used = [value for value in graph.inputs if value.node in needed]
    made = Graph(name=f"{name}_gradients")
    binding = {value: made.add_input(value.type, f"in{n}") for n, value in enumerate(used)}
    new_of = inline(graph, made, binding, nodes=[node for node in graph.toposort() if node in needed])
    made.outputs = [new_of[value] for value in graph.outputs]
    return made, tuple([again.sources[value] for value in used])


__all__ = ["COTANGENTS", "SNAPSHOT_BYTES", "GradientFunction", "Reopened", "gradient_function"]
