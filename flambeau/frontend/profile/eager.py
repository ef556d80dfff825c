"""Eager ops while a profile is taken: what evaluates them, and what calls Modules, is exchanged for the same with a clock.
Nothing looks whether a profile is taken.

What is noted lies in flat lists of numbers and of objects that live on anyway, which leave the garbage collector no more
to do. Lines and bytes are looked up when the profile is over. The frames of Python are what is slow to look at: where many
ops are of one line and no code of the user's runs between them, in derivatives of ours and updates of optimizers, that is
done once. Ops on a GPU are timed by marks on its stream.
"""
from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from operator import attrgetter
from typing import Any, Final

from flambeau.frontend.active import active
from flambeau.frontend.nn import tree
from flambeau.frontend.nn.module import Module
from flambeau.frontend.optim.optimizer import Optimizer
from flambeau.frontend.tape import backward, dispatch
from flambeau.frontend.tape.autograd import tape_of
from flambeau.frontend.tensor.tensor import Tensor
from flambeau.frontend.where import Code, location_at, user_code
from flambeau.ir.location import Location, is_internal
from flambeau.ir.op import Op
from flambeau.ir.ops import Place
from flambeau.ir.records import dataclass
from flambeau.runtime.devices import memory_on
from flambeau.runtime.recording import line_of

_type_of = attrgetter("_type")

__all__ = ["EagerOps", "OpEvent", "Span", "programs_of_ops"]

_SPAN: Final = 5                        # fields of a Span
_OP: Final = 6                          # noted of an op, before its types


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
        self.noted: list[Any] = []              # of ops of the CPU, _OP each, and then the types of operands and results
        self.there: list[tuple[Any, ...]] = []  # of others, as their times become known
        self.spans: list[Any] = []              # the fields of Spans, one after the other
        self.lines: dict[int, str] = {}         # of events, by number: names of streams
        self._memories: dict[str, Any] = {}     # of devices that ops ran on
        self._names: dict[int, str] = {}
        self._roots: list[Module] = []          # their ids stay theirs

    def begin(self) -> None:
        self._before, self._call = dispatch.evaluators(), Module.__call__
        self._walk, self._step = backward.walk, Optimizer.step
        dispatch.exchange(*self._timed(*self._before))
        Module.__call__ = self._timed_call()            # type: ignore[method-assign]
        backward.walk, Optimizer.step = _one_line(self._walk), _one_step(self._step)    # type: ignore[method-assign]

    def end(self) -> None:
        dispatch.exchange(*self._before)
        Module.__call__ = self._call                    # type: ignore[method-assign]
        backward.walk, Optimizer.step = self._walk, self._step                          # type: ignore[method-assign]
        for memory in self._memories.values():
            memory.settle()

    def span(self, name: str, kind: str, start: int) -> None:
        """One that ends now."""
        self.spans += (name, kind, start, time.perf_counter_ns(), threading.get_ident())

    # what was noted

    def events(self, offset: int) -> list[OpEvent]:
        """offset: what the clock that programs are timed by is ahead of Python's."""
        there = [OpEvent(name, start - offset, stop - offset, line, at.location(code), nbytes, device)
                 for name, start, stop, line, at, code, nbytes, device in self.there]
        return [*self._here_events(), *there]

    def _here_events(self) -> Iterator[OpEvent]:
        noted, place = self.noted, 0
        while place < len(noted):
            count, op, start, stop, at, code = noted[place:place + _OP]
            types = noted[place + _OP:place + _OP + count]
            place += _OP + count
            if not isinstance(op, Op):
                yield OpEvent("copy_", start, stop, at.thread, at.location(code), sum(types))
            elif all(type.device == "cpu" for type in types):           # others are timed there
                yield OpEvent(op.name, start, stop, at.thread, at.location(code), sum(type.nbytes for type in types))

    def all_spans(self) -> list[Span]:
        return [Span(*self.spans[start:start + _SPAN]) for start in range(0, len(self.spans), _SPAN)]

    # what takes the place of what is timed

    def _timed(self, evaluate: Any, copyto: Any, elsewhere: Any) -> dispatch.Evaluators:
        noted, clock, here = self.noted, time.perf_counter_ns, _here

        def _timed_evaluate(op: Op, operands: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
            start = clock()
            results: tuple[Tensor, ...] = evaluate(op, operands)
            stop, at = clock(), here.at
            noted.extend((len(operands) + len(results), op, start, stop, at, at.code or user_code(),
                          *map(_type_of, operands), *map(_type_of, results)))
            return results

        def _timed_copy(target: Any, source: Any) -> None:
            start = clock()
            copyto(target, source)
            stop, at = clock(), here.at
            noted.extend((2, copyto, start, stop, at, at.code or user_code(), target.nbytes, source.nbytes))

        return _timed_evaluate, _timed_copy, lambda: _Elsewhere(self, elsewhere())

    def timed_there(self, name: str, device: str, tensors: Sequence[Tensor], work: Callable[[], Any]) -> Any:
        """work(), timed by the device of that name."""
        memory = self._memories.setdefault(device, memory_on(device))
        at, nbytes = _here.at, sum(t._type.nbytes for t in tensors)
        code = at.code or user_code()

        def tell(start: int, stop: int, stream: str) -> None:
            line = line_of(stream)
            self.lines[line] = stream
            self.there.append((name, start, stop, line, at, code, nbytes, device))

        start = time.perf_counter_ns()
        results = memory.timed(work, tell)
        self.span(name, "asked", start)
        return results

    def _timed_call(self) -> Any:
        call, names, spans = self._call, self._names, self.spans
        clock, here = time.perf_counter_ns, _here

        def __call__(module: Module, *args: Any, **kwargs: Any) -> Any:     # `where` knows it by this name
            if active.tracer is not None:
                return call(module, *args, **kwargs)
            if id(module) not in names:
                self._name(module)
            outer, before = (active.module, active.kind), here.at
            name, kind = active.module, active.kind = names[id(module)], type(module).__name__
            here.at = _At(before.thread, name, kind)
            start = clock()
            try:
                return call(module, *args, **kwargs)
            finally:
                spans.extend((name, kind, start, clock(), before.thread))
                here.at, (active.module, active.kind) = before, outer

        return __call__

    def _name(self, root: Module) -> None:
        """What tracing calls it and all below it (`tree.name_state`)."""
        self._roots.append(root)
        label = type(root).__name__.lower()
        for path, module in tree.named_modules(root):
            self._names.setdefault(id(module), tree.joined(label, path) if path else label)


class _At:
    """What ops are noted with while it holds in a thread: the Module whose call runs, and its class; code: what `user_code`
    would say of each op, None where that is to be looked at."""

    __slots__ = ("code", "kind", "module", "thread")

    def __init__(self, thread: int, module: str = "", kind: str = "", code: Code | None = None):
        self.thread, self.module, self.kind, self.code = thread, module, kind, code

    def knowing(self, code: Code) -> _At:
        return _At(self.thread, self.module, self.kind, code)

    def location(self, code: Code) -> Location | None:
        return location_at(*code, self.module, self.kind)


class _Here(threading.local):
    def __init__(self) -> None:
        self.at = _At(threading.get_ident())


_here = _Here()


def _one_line(walk: Callable[..., Any]) -> Callable[..., Any]:
    """`backward.walk`, whose ops are of one line if it runs no code of the user's."""
    def walked(roots: Sequence[Tensor], *args: Any, **kwargs: Any) -> Any:
        before = _here.at
        if before.code is None and active.tracer is None and backward.are_ours(roots, tape_of(roots)):
            _here.at = before.knowing(user_code())
        try:
            return walk(roots, *args, **kwargs)
        finally:
            _here.at = before

    return walked


def _one_step(step: Callable[..., Any]) -> Callable[..., Any]:
    """`Optimizer.step`: updates of optimizers that are ours."""
    def stepped(optimizer: Optimizer, closure: Callable[[], Any] | None = None) -> Any:
        before = _here.at
        is_ours = is_internal(type(optimizer)._update.__code__.co_filename) and not optimizer._hooks
        if before.code is None and closure is None and active.tracer is None and is_ours:
            code, instruction, called = user_code()
            _here.at = before.knowing((code, instruction, called or "step"))
        try:
            return step(optimizer) if closure is None else step(optimizer, closure)
        finally:
            _here.at = before

    return stepped


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
