"""Guards: which Python state a trace depends on, and whether it still holds.

While a function is traced, a profile hook sees every Python call. Each piece of code that runs adds the names it holds
to a `Scope`, and a `Heap` remembers everything that can be reached by such names, before the code can change it. At
the end of the trace whatever changed is an effect that later calls would not repeat: an error, and it is put back.
"""
from __future__ import annotations

import builtins
import operator
import os
import sys
import threading
import types
from collections.abc import Callable, Iterator, Sequence, Set
from contextlib import contextmanager
from itertools import islice
from typing import Any

from flambeau.errors import TraceError, UnsupportedError
from flambeau.frontend.epoch import epoch
from flambeau.frontend.scalars import is_runtime_number
from flambeau.frontend.tape.unwatched import watching
from flambeau.frontend.trace.guards.attributes import TensorFacts
from flambeau.frontend.trace.guards.contents import WHOLE
from flambeau.frontend.trace.guards.effects import Effect, difference, effects_of, place, refusal
from flambeau.frontend.trace.guards.heap import Heap, Scope, functions_running
from flambeau.frontend.trace.guards.node import Node
from flambeau.frontend.trace.guards.reads import Reads, is_user_code, is_user_module, reads_of
from flambeau.frontend.trace.guards.values import MISSING
from flambeau.frontend.where import describe, user_location
from flambeau.ir.location import is_internal

_ELSEWHERE = frozenset([("threading", "Thread.start"), ("concurrent.futures.thread", "ThreadPoolExecutor.submit"),
                        ("multiprocessing.process", "BaseProcess.start")])
_READERS = frozenset([getattr, hasattr, setattr, delattr, vars, dir])
_ENVIRONMENT = frozenset(["environ", "environb", "getenv"])
_INLINED = 40               # nodes that a specialised call compares itself
_GENERATED = 300            # nodes that are checked by generated code; the rest in a loop


class Watch:
    """Finds what a function reads while it is traced: `watch.add_function(function)`, `with watch: function(...)`."""

    def __init__(self, is_part: bool = False):
        self.scope = Scope()
        self.heap = Heap(self.scope, is_tracing=not is_part)        # who watches the whole looks after random numbers
        self.hook: Any = None           # what the framework's own entry points switch off and restore
        self._previous: Any = None
        self._aside: types.FrameType | None = None      # what runs now is not the function's: an import, a signal handler
        self._settled: dict[int, types.CodeType] = {}
        self._opening: set[int] = set()       # codes that read attributes by computed names, by id

    def __enter__(self) -> Watch:
        self._previous = sys.getprofile()
        self.hook = self._profile
        watching.add(threading.get_ident())
        sys.setprofile(self.hook)
        return self

    def __exit__(self, *exc: object) -> None:
        self.hook = None
        sys.setprofile(None)
        watching.discard(threading.get_ident())
        if callable(self._previous):
            sys.setprofile(self._previous)
        elif hasattr(self._previous, "enable"):         # cProfile hooks in below Python and can't be handed back
            self._previous.enable()

    @contextmanager
    def part(self, function: Callable[..., Any], who: str, arguments: Sequence[Any] = ()) -> Iterator[None]:
        """While `function` runs, which is traced once, however often calls run it. Raises CaptureError for state that it
        changed, even if it is of this trace alone (a list that the code around it made), or put back by code that
        follows; TraceError for iterators that it could use."""
        if self.hook is None:
            raise UnsupportedError(f"second derivatives through {who.partition(':')[0]}, outside of the compiled function "
                                   "that it is in", hint="take both derivatives inside the compiled function")
        inner, around = Watch(is_part=True), self.hook
        inner.add_function(function)
        settled, ran, watched = self._settled, self.scope.ran, self._profile
        for number, value in enumerate(arguments):
            inner.add_argument(value, f"operand {number}")

        def hook(frame: types.FrameType, event: str, argument: Any) -> None:
            watched(frame, event, argument)         # but no part around this one: what runs here changes nothing of its
            if event == "call":
                code = id(frame.f_code)
                if code in settled and code not in ran:         # not the user's
                    return
            elif event == "c_call" and argument not in _READERS:
                return
            inner._profile(frame, event, argument)

        self.hook = hook
        sys.setprofile(hook)
        try:
            yield
            sys.setprofile(None)
            inner._check_effects(f"{who} was traced, which calls run or don't, once or often")
        finally:
            self.hook = around
            sys.setprofile(around)

    def add_function(self, function: Callable[..., Any]) -> None:
        """Guard what this function, which is about to run, can get to."""
        self.heap.add_root(function, (_name_of(function), ""))

    def add_argument(self, value: Any, name: str) -> None:
        """Guard what code reads of an argument that is no tensor and no number."""
        self.heap.add_root(value, (name, ""))

    def _profile(self, frame: types.FrameType, event: str, argument: Any) -> None:
        if event != "call":
            if event == "c_call" and argument in _READERS or \
                    event == "return" and (self._opening or frame is self._aside):
                self._see(frame, event, argument)
            return
        code = frame.f_code
        if id(code) in self._settled or self._aside is not None:
            return
        if id(code) in self.scope.ran:
            self._open(frame)
        elif _is_import(frame) or _is_signal_handler(frame):
            self._aside = frame                 # what a module defines is there when it has run
        elif is_user_code(code, frame.f_globals):
            if not self._start(frame):
                self._settle(code)
        elif (frame.f_globals.get("__name__"), code.co_qualname) not in _ELSEWHERE:
            self._settle(code)
        elif not is_internal(frame.f_back.f_code.co_filename if frame.f_back is not None else ""):
            # made, it tells the trace (errors.listening); raised, it would come out of a call that did nothing wrong
            TraceError("work was given to another thread or process while a function was traced, where it can't be traced",
                       where=describe(user_location()), hint="do it outside the compiled function")

    def _see(self, frame: types.FrameType, event: str, argument: Any) -> None:
        """More that code with computed names gets at hand: what it has when it reads, and results of calls."""
        if event == "c_call":
            code = frame.f_code
            if id(code) in self._opening or id(code) in self.scope.ran and argument.__name__ not in code.co_names:
                self._open(frame)
        elif frame is self._aside:
            self._aside = None
            self.heap.meet_generators()         # of modules that were loaded just now
        elif argument is not None and frame.f_back is not None:
            caller = frame.f_back.f_code
            if id(caller) in self._opening:
                self.heap.open_from([argument], _names_in(caller))

    def _settle(self, code: types.CodeType) -> None:
        """There is nothing to do when this code runs again."""
        self._settled[id(code)] = code

    def _start(self, frame: types.FrameType) -> bool:
        """A piece of code runs for the first time. True when each later run must be looked at, too."""
        code, heap = frame.f_code, self.heap
        if code.co_freevars and not heap.knows_function(code) and id(code) not in self.scope.defined_here:
            for function in functions_running(frame):
                heap.add_root(function, (function.__name__, ""))
        reads, fresh = self.scope.add(code)
        heap.add_globals(frame.f_globals, reads.globals)
        heap.add_globals(_BUILTINS, _own_builtins(reads, frame.f_globals))
        heap.add_globals(sys.modules, _module_names(reads, frame.f_globals))
        heap.start(code)
        heap.widen(fresh)
        if not _ENVIRONMENT.isdisjoint((*reads.globals, *reads.attributes)):
            heap.add_root(os.environ._data, ("os.environ", ""))         # type: ignore[attr-defined]
        if reads.is_open:
            self._opening.add(id(code))
            self._open(frame)
        return reads.is_open

    def _open(self, frame: types.FrameType) -> None:
        """Code that reads attributes by computed names has these objects at hand, and what they hold."""
        code = frame.f_code
        values = [frame.f_globals.get(name) for name in code.co_names]
        self.heap.open_from([*frame.f_locals.values(), *values], _names_in(code))

    def effects(self) -> list[Effect]:
        """State that the traced code changed, as calls can. Raises CaptureError for what they can't change."""
        self.heap.adopt_modules()
        return effects_of(self.heap, "it was traced")

    def verify(self, effects: Sequence[Effect]) -> None:
        """Raise CaptureError for state that was changed since these effects were found, TraceError for iterators that
        the code could use up only once."""
        known = {effect.place: effect for effect in effects}
        for effect in self.effects():
            before = known.get(effect.place)
            if before is None or before.part is not WHOLE and before.now is not effect.now:
                raise refusal(effect.told, "it was traced")
        self._check_iterators()
        if self.heap.was_drawn_from():
            raise TraceError("a random number was drawn from Python's or NumPy's generator while a function was traced: it "
                             "would be the same at every call",
                             hint="draw with fb.rand and its like, or draw outside and pass the number as an argument; a "
                                  "layer that is left out at random: fb.cond(fb.rand(()) < p, lambda: x, lambda: layer(x))")
        for node in self.heap.nodes.values():
            node.settle()

    def _check_effects(self, when: str) -> None:
        """Raise CaptureError for state that was changed, TraceError for iterators."""
        self.heap.adopt_modules()
        for node, step, then, now in self.heap.changes():
            if not isinstance(node, TensorFacts) or step != ".requires_grad":
                raise refusal(difference(node, step, then, now), when)
        self._check_iterators()

    def _check_iterators(self) -> None:
        for value, path in self.heap.iterators:
            raise TraceError(f"{place(path, '')} is an iterator ({type(value).__name__}): what it gives would be frozen "
                             "into the compiled function", hint="pass what it gives as an argument")

    def tensors(self) -> Set[int]:
        """The tensors that code reaches by name, by id."""
        return self.heap.tensors()

    def knows(self, value: Any) -> bool:
        """True for an object that was there before the trace."""
        return self.heap.has_met(value)

    def take_back(self, effects: Sequence[Effect]) -> None:
        """Put back what calls will change."""
        for effect in effects:
            effect.node.restore()

    def restore(self) -> None:
        """Put back whatever the traced code changed."""
        self.heap.restore()


def _name_of(function: Any) -> str:
    """What messages call a function, or the object that a method is of."""
    owner = getattr(function, "__self__", None)
    named = type(owner) if owner is not None and not isinstance(owner, types.ModuleType) else function
    return getattr(named, "__name__", type(function).__name__)


def _names_in(code: types.CodeType) -> frozenset[str] | None:
    """By which names code gets from one object to the next; None for those that go through all that there are."""
    return None if reads_of(code).is_deep else frozenset(code.co_names)


def _own_builtins(reads: Reads, namespace: dict[str, Any]) -> list[str]:
    """The names that code finds among the built-ins, where somebody put them (gettext's `_`)."""
    return [name for name in reads.globals if name not in namespace and name in _BUILTINS and name not in _PYTHONS]


_BUILTINS = vars(builtins)
_PYTHONS = frozenset(["Ellipsis", "NotImplemented"]).union(
    name for name, value in _BUILTINS.items()
    if name.startswith("__") or getattr(value, "__module__", None) in ("builtins", "io", "_io", "_sitebuiltins"))


def _module_names(reads: Reads, namespace: dict[str, Any]) -> list[str]:
    """The modules of the user's that code imports or looks up, under the names they are loaded by."""
    package = namespace.get("__package__") or ""
    names = [name for name in reads.modules for name in (name, f"{package}.{name}".strip("."))]
    if "__name__" in reads.globals:
        names.append(namespace.get("__name__", ""))
    return [name for name in names if name and is_user_module(name)]


class GuardSet:
    """All guards of one compiled signature. `quick()` compares by identity what may change without notice;
    `holds()` decides. generation: how often something was replaced by its equal, which `tests` then compare with."""

    def __init__(self, heap: Heap):
        self.generation = -1
        self._misses = 0                # how often `quick` failed where all was equal
        self._adopt(heap)
        self._epoch = -1                # the first call looks at everything: compiling took a while

    def _adopt(self, heap: Heap) -> None:
        self.heap = heap
        self.generation += 1
        nodes = list(heap.nodes.values())
        self._stable = [node for node in nodes if node.stable]
        volatile = [node for node in nodes if not node.stable and node.test(_unnamed)]       # tuples can't change
        self._epoch = epoch.value
        self.quick = _generated(volatile)
        self._volatile = volatile

    def tests(self, name: Callable[[Any], str], failure: str) -> list[str] | None:
        """The comparisons of `quick` as lines of Python that do `failure` when something differs; `name` makes a
        constant. None when they are too many to repeat."""
        if len(self._volatile) > _INLINED:
            return None
        return [line.replace("return False", failure) for node in self._volatile for line in node.test(name)]

    def holds(self) -> bool:
        """Everything is as it was when the function was traced, or equal to it."""
        now = epoch.value
        stable = [] if self._epoch == now else self._stable
        if self.quick() and all(node.differing() is None for node in stable):
            self._epoch = now
            return True
        if not self.heap.holds(self._volatile) or not self.heap.holds(stable):
            return False
        self._epoch = now
        self._misses += 1
        if self._misses & (self._misses - 1) == 0:          # ever more seldom: it may be replaced at every call
            self._adopt(self.heap.again())
        return True

    def broken(self) -> str | None:
        """The first thing that does not hold, in words."""
        return next((difference(*change) for change in self.heap.changes()), None)

    def number_changed(self) -> bool:
        """True when that is a number."""
        return any(is_runtime_number(then) and is_runtime_number(now) for _, _, then, now in islice(self.heap.changes(), 1))


def _is_import(frame: types.FrameType) -> bool:
    """A module's own code runs, as `import` runs it; what eval and exec run is called the same."""
    return (frame.f_code.co_name == "<module>" and frame.f_back is not None
            and frame.f_back.f_code.co_filename.startswith("<frozen importlib"))


def _is_signal_handler(frame: types.FrameType) -> bool:
    """Python calls one between two steps of any code, with the frame that it interrupts."""
    interrupted = frame.f_back
    return interrupted is not None and any(
        value is interrupted or type(value) is tuple and any(part is interrupted for part in value)
        for value in frame.f_locals.values())


def _unnamed(value: Any) -> str:
    """Stands for a constant where only the number of comparisons counts."""
    return "c"


def _generated(nodes: list[Node]) -> Callable[[], bool]:
    """A function that is true while each part of these nodes is the same object."""
    constants: dict[str, Any] = {"is_": operator.is_, "MISSING": MISSING}

    def name(value: Any) -> str:
        constants[f"c{len(constants)}"] = value
        return f"c{len(constants) - 1}"

    lines = [line for node in nodes[:_GENERATED] for line in node.test(name)]
    if len(nodes) > _GENERATED:
        lines.append(f"for node in {name(nodes[_GENERATED:])}:")
        lines.append("    if node.differing() is not None: return False")
    source = "def quick():\n" + "".join(f"    {line}\n" for line in [*lines, "return True"])
    exec(compile(source, "<flambeau guards>", "exec"), constants)
    quick: Callable[[], bool] = constants["quick"]
    return quick


__all__ = ["GuardSet", "Watch"]
