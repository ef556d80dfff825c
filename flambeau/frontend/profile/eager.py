"""Eager ops while a profile is taken: what evaluates them, and what calls Modules, is exchanged for the same with a clock.
Nothing looks whether a profile is taken.

What is noted lies in flat lists of numbers and of objects that live on anyway: an op is noted in less than a microsecond,
and leaves the garbage collector no more to do. Lines and names are looked up when the profile is over. Ops on a GPU are
timed by marks on its stream.
"""
from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

from flambeau.frontend.active import active
from flambeau.frontend.nn import tree
from flambeau.frontend.nn.module import Module
from flambeau.frontend.tape import dispatch
from flambeau.frontend.tensor.tensor import Tensor
from flambeau.frontend.where import location_at, user_code
from flambeau.ir.location import Location
from flambeau.ir.op import Op
from flambeau.ir.ops import Place
from flambeau.ir.records import dataclass
from flambeau.runtime.devices import memory_on
from flambeau.runtime.recording import line_of

__all__ = ["EagerOps", "OpEvent", "Span", "programs_of_ops"]

_SPAN: Final = 5                        # fields of a Span
_OP: Final = 10                         # noted of an op


@dataclass(frozen=True, slots=True)
class OpEvent:
    """One eager op. start, stop: nanoseconds of time.perf_counter_ns; thread: that evaluated it, or the line of a GPU's
    stream; nbytes: of operands and results."""

    name: str
    start: int
    stop: int
    thread: int
    loc: Location | None
    nbytes: int
    device: str = "cpu"


@dataclass(frozen=True, slots=True)
class Span:
    """The time that a Module's call took, or a part of the program with a name."""

    name: str
    kind: str
    start: int
    stop: int
    thread: int


class EagerOps:
    """Installed between `begin` and `end`. That a list takes in a tuple is whole whatever threads do."""

    def __init__(self) -> None:
        self.noted: list[Any] = []              # of ops of the CPU, _OP each
        self.there: list[tuple[Any, ...]] = []  # of others: the same, with what time they took as it becomes known
        self.spans: list[Any] = []              # the fields of Spans, one after the other
        self.lines: dict[int, str] = {}         # of events, by number: names of streams
        self._memories: dict[str, Any] = {}     # of devices that ops ran on
        self._names: dict[int, str] = {}
        self._roots: list[Module] = []          # their ids stay theirs

    def begin(self) -> None:
        self._before, self._call = dispatch.evaluators(), Module.__call__
        dispatch.exchange(*self._timed(*self._before))
        Module.__call__ = self._timed_call()            # type: ignore[method-assign]

    def end(self) -> None:
        dispatch.exchange(*self._before)
        Module.__call__ = self._call                    # type: ignore[method-assign]
        for memory in self._memories.values():
            memory.settle()

    def span(self, name: str, kind: str, start: int) -> None:
        """One that ends now."""
        self.spans += (name, kind, start, time.perf_counter_ns(), threading.get_ident())

    # what was noted

    def events(self, offset: int) -> list[OpEvent]:
        """offset: what the clock that programs are timed by is ahead of Python's."""
        return [*[_event(fields) for fields in _rows(self.noted, _OP)],
                *[_event(fields, (start - offset, stop - offset, line), device)
                  for fields, device, (start, stop, line) in self.there]]

    def all_spans(self) -> list[Span]:
        return [Span(*fields) for fields in _rows(self.spans, _SPAN)]

    # what takes the place of what is timed

    def _timed(self, evaluate: Any, copyto: Any, elsewhere: Any) -> dispatch.Evaluators:
        noted, clock, thread = self.noted, time.perf_counter_ns, threading.get_ident

        def _timed_evaluate(op: Op, operands: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
            start = clock()
            results: tuple[Tensor, ...] = evaluate(op, operands)
            stop = clock()
            nbytes = 0
            for t in results:
                if t._array is None:                    # it is timed there
                    return results
                nbytes += t._array.nbytes
            for t in operands:
                array = t._array
                if array is None and t._storage.is_elsewhere:
                    return results
                nbytes += t._type.nbytes if array is None else array.nbytes
            noted.extend((op.name, start, stop, thread(), nbytes, active.module, active.kind, *user_code()))
            return results

        def _timed_copy(target: Any, source: Any) -> None:
            start = clock()
            copyto(target, source)
            noted.extend(("copy_", start, clock(), thread(), target.nbytes + source.nbytes, active.module, active.kind,
                            *user_code()))

        return _timed_evaluate, _timed_copy, lambda: _Elsewhere(self, elsewhere())

    def timed_there(self, name: str, device: str, tensors: Sequence[Tensor], work: Callable[[], Any]) -> Any:
        """work(), timed by the device of that name."""
        memory = self._memories.setdefault(device, memory_on(device))
        fields = (name, 0, 0, 0, sum(t._type.nbytes for t in tensors), active.module, active.kind, *user_code())

        def tell(start: int, stop: int, stream: str) -> None:
            line = line_of(stream)
            self.lines[line] = stream
            self.there.append((fields, device, (start, stop, line)))

        start = time.perf_counter_ns()
        results = memory.timed(work, tell)
        self.span(name, "asked", start)
        return results

    def _timed_call(self) -> Any:
        call, names, spans = self._call, self._names, self.spans
        clock, thread = time.perf_counter_ns, threading.get_ident

        def __call__(module: Module, *args: Any, **kwargs: Any) -> Any:     # `where` knows it by this name
            if active.tracer is not None:
                return call(module, *args, **kwargs)
            if id(module) not in names:
                self._name(module)
            outer = active.module, active.kind
            name, kind = active.module, active.kind = names[id(module)], type(module).__name__
            start = clock()
            try:
                return call(module, *args, **kwargs)
            finally:
                spans.extend((name, kind, start, clock(), thread()))
                active.module, active.kind = outer

        return __call__

    def _name(self, root: Module) -> None:
        """What tracing calls it and all below it (`tree.name_state`)."""
        self._roots.append(root)
        label = type(root).__name__.lower()
        for path, module in tree.named_modules(root):
            self._names.setdefault(id(module), tree.joined(label, path) if path else label)


class _Elsewhere:
    """As `tape.device_ops`, timed by devices. Its methods have names that `where` passes by."""

    def __init__(self, eager: EagerOps, ops: Any):
        self.eager, self.ops = eager, ops

    def evaluate(self, op: Op, operands: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        devices = [t._type.device for t in operands if t._type.device != "cpu"]
        device = devices[0] if devices else op.device if isinstance(op, Place) else "cpu"
        results: tuple[Tensor, ...] = self.eager.timed_there(op.name, device, operands,
                                                             lambda: self.ops.evaluate(op, operands))
        return results

    def write(self, target: Tensor, value: Tensor) -> None:
        self.eager.timed_there("copy_", target._type.device, (target, value), lambda: self.ops.write(target, value))


def programs_of_ops() -> set[int]:
    """The ids of the programs that eager ops on devices are: their times are those of the ops."""
    ops = sys.modules.get("flambeau.frontend.tape.device_ops")
    return set() if ops is None else {id(program) for program in ops.programs()}


def _event(fields: Sequence[Any], there: tuple[int, int, int] | None = None, device: str = "cpu") -> OpEvent:
    name, start, stop, thread, nbytes, module, kind, *code = fields
    start, stop, thread = there or (start, stop, thread)
    return OpEvent(name, start, stop, thread, location_at(code[0], code[1], code[2], module, kind), nbytes, device)


def _rows(flat: list[Any], width: int) -> Iterator[list[Any]]:
    return (flat[start:start + width] for start in range(0, len(flat), width))
