"""A compiled call on the tape: one record for each segment of its backward, with what that reads saved."""
from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import field
from typing import TYPE_CHECKING, Any, assert_never

import numpy as np

from flambeau.errors import UnsupportedError
from flambeau.frontend.call.anomalies import is_watching, watched
from flambeau.frontend.call.memory import CallMemory, wrap
from flambeau.frontend.epoch import grad_epoch
from flambeau.frontend.tape.autograd import Record, SpentRecord, grad_mode
from flambeau.frontend.tape.dispatch import up_to_date
from flambeau.frontend.tensor.storage import Storage
from flambeau.frontend.tensor.tensor import Tensor
from flambeau.frontend.trace.call_plan import CallPlan
from flambeau.frontend.trace.second import COTANGENTS, GradientFunction
from flambeau.frontend.trace.segments import Differentiated, Place, Saved, Segment
from flambeau.ir.graph import Graph
from flambeau.ir.op import Op
from flambeau.ir.records import dataclass
from flambeau.ir.types import TensorType
from flambeau.runtime.buffer import Buffer
from flambeau.runtime.forking import ForkSafeLock

if TYPE_CHECKING:
    from flambeau.compiler import Compiled

_NOWHERE = Storage()


@dataclass(slots=True)
class Call:
    """What one call of a plan read and made. held: (address, copy made of it) of each tensor argument; found: each .grad
    that was read, as it was before; given: (args, kwargs); made: the leaves of the result."""

    plan: CallPlan
    leaves: Sequence[Any]
    held: Sequence[tuple[int, np.ndarray | None]]
    numbers: Sequence[float]
    buffers: Sequence[Buffer]
    found: Sequence[Tensor | None]
    given: Any
    memory: CallMemory
    made: list[Any] = field(default_factory=list)
    went_in: CallInputs | None = None

    def inputs(self, snapshots: Sequence[int]) -> CallInputs:
        """What went into the call, to be read again, and some of its outputs."""
        if self.went_in is None or len(self.went_in.kept) != len(snapshots):        # of another segment
            leaves, plan = self.leaves, self.plan
            versions = [leaves[argument.leaf]._storage.version for argument in plan.arguments]
            states = [s.memory._storage.version if isinstance(s.memory, Tensor) else 0 for s in plan.states]
            kept = {n: self.buffers[n] for n in snapshots}
            self.went_in = CallInputs(plan, leaves, self.held, self.numbers, kept, versions, states, self.memory)
        return self.went_in

    def tensor(self, output: int, cls: type[Tensor] = Tensor) -> Tensor:
        """A new tensor over an output."""
        return wrap(self.buffers[output], self.plan.outputs[output], cls)

    def read(self, saved: Saved) -> tuple[int, Any, Storage | None, int]:
        """(address, what keeps it alive, storage that must not change, its version)"""
        storage: Storage | None = None      # not its tensor, which may be given other memory
        owner: Any
        match saved.kind:
            case "arg":
                storage = self.leaves[self.plan.arguments[saved.index].leaf]._storage
                pointer, owner = self.held[saved.index]
                owner = owner if owner is not None else storage
            case "state":
                memory = self.plan.states[saved.index].memory
                owner = storage = memory._storage
                pointer = storage.buffer.ptr
                if not isinstance(memory, Tensor):
                    grad_epoch.bump()       # a gradient that is saved must not be written by the next call
            case "scalar":
                pointer, owner = self.memory.number(self.numbers[saved.index])
            case "out":
                owner = self.buffers[saved.index]
                pointer = owner.ptr
            case "result":
                storage = self.made[saved.index]._storage
                owner = storage.buffer
                pointer = owner.ptr
            case _:
                assert_never(saved.kind)
        if storage is None or not saved.is_checked:
            return pointer, owner, None, 0
        return pointer, owner, storage, storage.version


class CallInputs:
    """What went into a call, as long as it can be read: for derivatives of what the call's backward gives."""

    __slots__ = ("at", "held", "kept", "leaves", "numbers", "of_arguments", "of_states", "plan")

    def __init__(self, plan: CallPlan, leaves: Sequence[Any], held: Sequence[tuple[int, np.ndarray | None]],
                 numbers: Sequence[float], kept: dict[int, Buffer], of_arguments: Sequence[int], of_states: Sequence[int],
                 at: CallMemory):
        self.plan, self.leaves, self.held, self.numbers, self.kept = plan, leaves, held, numbers, kept
        self.of_arguments, self.of_states, self.at = of_arguments, of_states, at

    def memory(self, kind: str, index: int) -> tuple[int, Any, Storage | None, int]:
        """(address, what keeps it alive, storage that must not change, its version). Raises RuntimeError for what was
        changed since."""
        owner: Any = None
        if kind == "out":
            return self.kept[index].ptr, self.kept[index], None, 0
        if kind == "scalar":
            pointer, owner = self.at.number(self.numbers[index])
            return pointer, owner, None, 0
        if kind == "arg":
            storage, version = self.leaves[self.plan.arguments[index].leaf]._storage, self.of_arguments[index]
            pointer, owner = self.held[index]
        else:
            memory, version = self.plan.states[index].memory, self.of_states[index]
            if not isinstance(memory, Tensor):
                raise UnsupportedError(f"second derivatives through the compiled function {self.plan.name} that depend on "
                                       "a .grad it left", hint="take both derivatives inside the compiled function")
            storage = memory._storage
            pointer = storage.buffer.ptr
        if storage.version != version:
            raise RuntimeError("one of the tensors needed for gradient computation has been modified by an inplace "
                               f"operation since the compiled function {self.plan.name} read it")
        return pointer, storage if owner is None else owner, storage, version


class GradientCall:
    """One call of a GradientFunction, as CompiledSegment.record takes it; before: that of the function whose gradients it
    gives."""

    def __init__(self, function: GradientFunction, before: CallInputs | GradientCall, cotangents: Sequence[Tensor],
                 buffers: Sequence[Buffer], made: Sequence[Tensor]):
        self.function, self.before, self.buffers, self.made = function, before, buffers, made
        self.at: CallMemory = before.at
        self.given = dict(zip(function.cotangents, cotangents, strict=True))
        self.placed = {n: self.at.address_of(ct) for n, ct in self.given.items()}
        self.versions = {n: ct._storage.version for n, ct in self.given.items()}

    @property
    def leaves(self) -> Any:
        """The leaves of the first call, and the cotangents, by number."""
        return self

    def __getitem__(self, number: int) -> Any:
        found = self.given.get(number - COTANGENTS)
        return self.before.leaves[number] if found is None else found

    def inputs(self, snapshots: Sequence[int]) -> GradientCall:
        return self

    def memory(self, kind: str, index: int) -> tuple[int, Any, Storage | None, int]:
        """As CallInputs.memory."""
        if kind == "arg" and index in self.given:
            (pointer, copy), storage = self.placed[index], self.given[index]._storage
            if storage.version != self.versions[index]:
                raise RuntimeError("a gradient that was given to a compiled function's backward has been modified by an "
                                   "inplace operation since")
            return pointer, storage if copy is None else copy, storage, storage.version
        kept = self.function.kept.get((kind, index))
        return self.before.memory(kind, index) if kept is None else self.before.memory("out", kept)

    def read(self, saved: Saved) -> tuple[int, Any, Storage | None, int]:
        """As Call.read: outputs are this call's own."""
        if saved.kind == "out":
            return self.buffers[saved.index].ptr, self.buffers[saved.index], None, 0
        if saved.kind == "result":
            buffer = self.made[saved.index]._storage.buffer
            return buffer.ptr, buffer, None, 0
        return self.memory(saved.kind, saved.index)


class CompiledSegment:
    """The backward graph of one segment, compiled when it is first needed."""

    def __init__(self, name: str, segment: Segment, compile: Callable[[Graph], Compiled], memory: CallMemory,
                 device: str):
        self.name, self.segment, self.compile, self.memory, self.device = name, segment, compile, memory, device
        self.compiled: Compiled | None = None
        self._lock = ForkSafeLock()
        self.hooks = {n: CompiledSegment(name, result.hook, compile, memory, device)
                      for n, result in enumerate(segment.results)
                      if result.hook is not None}
        self._gradients: tuple[GradientFunction, Compiled, list[CompiledSegment]] | None = None
        self.spent: SpentRecord | None = None       # the record of every call, where that is one
        if segment.error is not None and all(place.kind == "state" for place in segment.operands):
            self.spent = SpentRecord(name, segment.error, tuple([place.what for place in segment.operands]))

    def ready(self) -> Compiled:
        """Compiled now, if it wasn't."""
        if self.compiled is None:
            assert self.segment.graph is not None
            with self._lock:
                if self.compiled is None:
                    self.compiled = self.compile(self.segment.graph)
        return self.compiled

    def run(self, compiled: Compiled) -> Callable[..., None]:
        """The call of one of its programs, none of which has states."""
        run = compiled.executable.fast_call
        return watched(compiled, run, (), self.device) if is_watching() else run

    def gradients(self) -> tuple[GradientFunction, Compiled, list[CompiledSegment]]:
        """The gradients as a function that has segments of its own, compiled now if it wasn't."""
        if self._gradients is None:
            assert self.segment.again is not None, "a segment with a graph can be walked again"
            with self._lock:
                if self._gradients is None:
                    function = self.segment.again()
                    parts = [CompiledSegment(self.name, segment, self.compile, self.memory, self.device)
                             for segment in function.segments]
                    self._gradients = function, self.compile(function.graph), parts
        return self._gradients

    def record(self, call: Call | GradientCall, inner: dict[int, Tensor]) -> None:
        """Put this part of a call on the tape; `inner` are the tensors between its segments, by number."""
        segment = self.segment
        results = tuple([self._result(result, call, inner) for result in segment.results])
        operands = tuple([_tensor_at(place, call, inner) for place in segment.operands])
        for t in operands:
            if t._base is not None:
                up_to_date(t)
        if operands and not any(t._requires_grad for t in operands):        # cotangents that nothing is asked of
            return
        record: Record
        if segment.error is not None:
            record = self.spent or SpentRecord(self.name, segment.error, operands)
        else:
            record = CompiledRecord(self.backward(call), operands, results)
            if self.hooks:
                record.hooks = {n: {-1: CompiledHook(hook.backward(call))} for n, hook in self.hooks.items()}
        for index, result in enumerate(results):
            result._requires_grad, result._record, result._index = True, record, index

    def backward(self, call: Call | GradientCall) -> CompiledBackward:
        """The derivative of this part of a call."""
        segment = self.segment
        return CompiledBackward(self, [call.read(saved) for saved in segment.saved], call.inputs(segment.snapshots))

    @staticmethod
    def _result(result: Differentiated, call: Call | GradientCall, inner: dict[int, Tensor]) -> Tensor:
        if result.place.kind == "inner":
            inner[result.place.what] = Tensor._make(_NOWHERE, result.type)
        return _tensor_at(result.place, call, inner)


def _tensor_at(place: Place, call: Call | GradientCall, inner: dict[int, Tensor]) -> Tensor:
    match place.kind:
        case "out":
            found = call.made[place.what]
        case "inner":
            found = inner[place.what]
        case "arg":
            found = call.leaves[place.what]
        case "state":
            found = place.what
        case _:
            assert_never(place.kind)
    assert isinstance(found, Tensor)
    return found


def spent_results(segments: Sequence[CompiledSegment]) -> dict[int, SpentRecord]:
    """The results (by position) that can't be differentiated any more, if that is all there is; else none."""
    if any(s.spent is None for s in segments):
        return {}
    return {result.place.what: s.spent for s in segments for result in s.segment.results
            if result.place.kind == "out" and s.spent is not None}


class CompiledRecord(Record):
    """A part of a compiled call on the tape. Freed, it lets go of what the call saved; one that reads nothing that is
    freed can be walked again, as in eager code."""

    __slots__ = ()

    def free(self) -> None:
        super().free()
        if self.op.segment.segment.reads_saved:         # type: ignore[attr-defined]
            self.op.saved = self.op.inputs = None           # type: ignore[attr-defined]


class CompiledBackward(Op):
    """The tape's op for one segment: its derivative is the compiled backward, run on what the call saved."""

    name = "CompiledBackward"

    def __init__(self, segment: CompiledSegment, saved: list[tuple[int, Any, Storage | None, int]],
                 inputs: CallInputs | GradientCall):
        self.segment = segment
        self.inputs: CallInputs | GradientCall | None = inputs
        self.saved: list[tuple[int, Any, Storage | None, int]] | None = saved

    def vjp(self, b: Any, operands: Sequence[Any], results: Sequence[Any],
            cotangents: Sequence[Any]) -> Sequence[Any]:
        saved = self.saved
        if saved is None:
            raise RuntimeError("backward a second time through a compiled function whose saved tensors were already "
                               "freed; use retain_graph=True in the first backward")
        if grad_mode.enabled and self.segment.segment.again is not None:
            return self._on_tape(results, cotangents)
        compiled = self.segment.ready()
        graph = compiled.source
        for (_, _, storage, version), value in zip(saved, graph.inputs, strict=False):
            if storage is not None and storage.version != version:
                raise RuntimeError("one of the tensors needed for gradient computation has been modified by an inplace "
                                   f"operation: {value.type}, saved by the compiled function {self.segment.name}")
        memory = self.segment.memory
        filled = [_zeros(r._type, memory) if ct is None else ct for ct, r in zip(cotangents, results, strict=True)]
        given = [memory.address_of(ct) for ct in filled]
        buffers = [memory.allocate(v.type.nbytes) for v in graph.outputs]
        pointers = [pointer for pointer, _ in given]
        self.segment.run(compiled)(*[s[0] for s in saved], *pointers, *[out.ptr for out in buffers])
        return [wrap(buffer, v.type) for buffer, v in zip(buffers, graph.outputs, strict=True)]

    def _on_tape(self, results: Sequence[Any], cotangents: Sequence[Any]) -> Sequence[Any]:
        """The gradients, on the tape."""
        function, compiled, segments = self.segment.gradients()
        memory = self.segment.memory
        given = [_zeros(r._type, memory) if ct is None else ct for ct, r in zip(cotangents, results, strict=True)]
        graph = compiled.source
        buffers = [memory.allocate(v.type.nbytes) for v in graph.outputs]
        count = function.n_gradients
        made = [wrap(buffer, v.type) for buffer, v in zip(buffers[:count], graph.outputs[:count], strict=True)]
        assert self.inputs is not None, "what is freed has no saved tensors either"
        call = GradientCall(function, self.inputs, given, buffers, made)
        inputs = [call.memory(*source) for source in function.sources]
        self.segment.run(compiled)(*[pointer for pointer, *_ in inputs], *[buffer.ptr for buffer in buffers])
        inner: dict[int, Tensor] = {}
        for segment in segments:
            segment.record(call, inner)
        call.made = call.buffers = ()           # their records keep the call: no cycle
        return made


def _zeros(type: TensorType, memory: CallMemory) -> Tensor:
    return wrap(memory.zeros(type.nbytes), type)


class CompiledHook:
    """The gradient hooks that a compiled function registered on one of its results."""

    def __init__(self, op: CompiledBackward):
        self.op = op

    def __call__(self, gradient: Tensor) -> Tensor:
        (changed,) = self.op.vjp(None, (), (gradient,), (gradient,))
        assert isinstance(changed, Tensor)
        return changed


__all__ = ["Call", "CompiledBackward", "CompiledSegment", "spent_results"]
