"""Eager ops while a profile is taken: what evaluates them, and what calls Modules, is exchanged for the same with a clock.
Nothing looks whether a profile is taken."""
from __future__ import annotations

import threading
import time
from typing import Any

from flambeau.frontend.active import active
from flambeau.frontend.nn import tree
from flambeau.frontend.nn.module import Module
from flambeau.frontend.tape import dispatch
from flambeau.frontend.tensor.tensor import Tensor
from flambeau.frontend.where import user_location
from flambeau.ir.location import Location
from flambeau.ir.op import Op
from flambeau.ir.records import dataclass

__all__ = ["EagerOps", "OpEvent", "Span"]


@dataclass(frozen=True, slots=True)
class OpEvent:
    """One eager op. start, stop: nanoseconds of time.perf_counter_ns; nbytes: of operands and results."""

    name: str
    start: int
    stop: int
    thread: int
    loc: Location | None
    nbytes: int


@dataclass(frozen=True, slots=True)
class Span:
    """The time that a Module's call took, or a part of the program with a name."""

    name: str
    kind: str
    start: int
    stop: int
    thread: int


class EagerOps:
    """Installed between `begin` and `end`. A list's append is whole whatever threads do."""

    def __init__(self) -> None:
        self.ops: list[tuple[Any, ...]] = []
        self.spans: list[Span] = []
        self._names: dict[int, str] = {}
        self._roots: list[Module] = []          # their ids stay theirs

    def begin(self) -> None:
        self._evaluate, self._copy = dispatch.exchanged(self._timed_evaluate, self._timed_copy)
        self._call = Module.__call__
        Module.__call__ = self._timed_call()            # type: ignore[method-assign]

    def end(self) -> None:
        dispatch.exchanged(self._evaluate, self._copy)
        Module.__call__ = self._call                    # type: ignore[method-assign]

    def events(self) -> list[OpEvent]:
        return [OpEvent(name, start, stop, thread, loc, sum(t.nbytes for t in types))
                for name, start, stop, thread, loc, types in self.ops]

    def _timed_evaluate(self, op: Op, operands: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        start = time.perf_counter_ns()
        results: tuple[Tensor, ...] = self._evaluate(op, operands)
        stop = time.perf_counter_ns()
        self.ops.append((op.name, start, stop, threading.get_ident(), user_location(active.module, active.kind),
                         [t._type for t in (*operands, *results)]))
        return results

    def _timed_copy(self, target: Any, source: Any) -> None:
        start = time.perf_counter_ns()
        self._copy(target, source)
        stop = time.perf_counter_ns()
        self.ops.append(("copy_", start, stop, threading.get_ident(), user_location(active.module, active.kind),
                         [target, source]))

    def _timed_call(self) -> Any:
        call, names, spans = self._call, self._names, self.spans

        def __call__(module: Module, *args: Any, **kwargs: Any) -> Any:     # `where` knows it by this name
            if active.tracer is not None:
                return call(module, *args, **kwargs)
            if id(module) not in names:
                self._name(module)
            outer = active.module, active.kind
            active.module, active.kind = names[id(module)], type(module).__name__
            start = time.perf_counter_ns()
            try:
                return call(module, *args, **kwargs)
            finally:
                spans.append(Span(active.module, active.kind, start, time.perf_counter_ns(), threading.get_ident()))
                active.module, active.kind = outer

        return __call__

    def _name(self, root: Module) -> None:
        """What tracing calls it and all below it (`tree.name_state`)."""
        self._roots.append(root)
        label = type(root).__name__.lower()
        for path, module in tree.named_modules(root):
            self._names.setdefault(id(module), tree.joined(label, path) if path else label)
