"""The tape and the backward walk. A Record holds an op and its operands; tensors hold their Record, so a tape is
freed with its tensors. `backward` sends cotangents through `passes.autodiff.backpropagate`, whose derivative rules
run on tensors: evaluated at once in eager mode, appended to the graph (phase "backward") under trace."""
from __future__ import annotations

import functools
import inspect
import itertools
import operator
import threading
import weakref
from collections.abc import Callable, Iterable, Sequence
from types import TracebackType
from typing import Any, TypeVar

from flambeau.frontend.active import active
from flambeau.frontend.tape.casting import Casting
from flambeau.frontend.tensor.storage import Storage
from flambeau.frontend.tensor.tensor import Tensor
from flambeau.frontend.where import user_location
from flambeau.ir.op import Op

F = TypeVar("F", bound=Callable[..., Any])


class _GradMode(threading.local):
    """enabled: whether ops are recorded; casting: the autocast at work. mode: both as one object, which compiled calls
    compare; `enabled` itself where nothing is cast."""

    enabled: bool = True
    casting: Casting | None = None
    mode: object = True

    def set(self, enabled: bool) -> None:
        self.enabled = enabled
        self.mode = enabled if self.casting is None else self.casting.modes[enabled]

    def cast(self, casting: Casting | None) -> None:
        self.casting = casting
        self.set(self.enabled)


class _Anomaly:
    """Anomaly mode (see anomaly.py), of all threads."""

    is_on = checks = False

    @property
    def state(self) -> tuple[bool, bool]:
        return self.is_on, self.checks


grad_mode, anomaly = _GradMode(), _Anomaly()
FREED = -2          # Tensor._saved_version of what a backward without retain_graph has used up
_FREED_STORAGE = Storage()
_numbers = itertools.count()
Hook = Callable[[Tensor], Tensor | None]


class Record:
    """One recorded operation. `operands` are aliases of what it was given: they share the storages, remember its
    versions, and keep their place on the tape although the tensors themselves may move on (in-place ops).

    Results are kept as (storage, type, ...), not as tensors, so that tape and tensors form no cycle."""

    __slots__ = ("_saved_results", "hooks", "loc", "name", "number", "op", "operands", "retained", "tracer")

    def __init__(self, op: Op, operands: tuple[Tensor, ...], results: tuple[Tensor, ...]):
        self.op, self.name, self.number = op, getattr(op, "name", type(op).__name__), next(_numbers)
        tracer = self.tracer = active.tracer
        version_of = _eager_version if tracer is None else tracer.version_of
        # The line that its derivative is stamped with.
        self.loc = tracer.location if tracer is not None else user_location() if anomaly.is_on else None
        self.operands = tuple([alias_of(t, version_of(t)) for t in operands])
        self._saved_results = tuple([(r._storage, r._type, r._array, r._base, r._chain, version_of(r)) for r in results])
        self.retained: dict[int, weakref.ref[Tensor]] | None = None
        self.hooks: dict[int, dict[int, Hook]] | None = None

    def free(self) -> None:
        """Let go of what was saved (a second backward that needs it is an error)."""
        for alias in self.operands:
            alias._saved_version = FREED
            if alias._storage.trace is None:            # a traced storage holds no memory, and is looked at again
                alias._storage, alias._array, alias._base = _FREED_STORAGE, None, None
        self._saved_results = tuple([(_FREED_STORAGE, saved[1], None, None, (), FREED)
                                     for saved in self._saved_results])

    def retain(self, index: int, tensor: Tensor) -> None:
        """Let backward() leave the gradient of a result in `tensor.grad`."""
        if self.retained is None:
            self.retained = {}
        self.retained[index] = weakref.ref(tensor)

    def forget_operands(self) -> None:
        """Let go of the operands' memory: the derivative asks for their types only."""
        for alias in self.operands:
            alias._storage, alias._array, alias._base, alias._chain = _FREED_STORAGE, None, None, ()

    def result_moved(self, index: int, target: Tensor) -> None:
        """A saved result lies in `target` now, which was just overwritten by it."""
        version = _eager_version(target) if self.tracer is None else self.tracer.version_of(target)
        t, saved = alias_of(target, version), list(self._saved_results)
        saved[index] = (t._storage, t._type, t._array, t._base, t._chain, version)
        self._saved_results = tuple(saved)

    def saved_results(self) -> tuple[Tensor, ...]:
        """The results again, linked to this record (a derivative rule may use them, also twice differentiated)."""
        made = []
        for index, (storage, type, array, base, chain, version) in enumerate(self._saved_results):
            alias = Tensor._make(storage, type, array, base, chain)
            alias._saved_version = version
            if type.dtype.is_floating_point:
                alias._requires_grad, alias._record, alias._index = True, self, index
            made.append(alias)
        return tuple(made)

    def __repr__(self) -> str:
        return f"<record of {self.name}>"


class SpentRecord(Record):
    """The record of results of a compiled function that can't be differentiated any more, and why: a backward inside
    has freed what they need, or it was changed in place."""

    __slots__ = ("error",)

    def __init__(self, name: str, error: RuntimeError, operands: tuple[Tensor, ...]):
        super().__init__(Op(), operands, ())
        self.name, self.error = name, error
        self.forget_operands()

    def saved_results(self) -> tuple[Tensor, ...]:
        raise type(self.error)(f"{self.error} (inside the compiled function {self.name})")


def _eager_version(t: Tensor) -> int:
    return t._storage.version


def alias_of(t: Tensor, version: int) -> Tensor:
    """`t` as it is now. Of its base only the storage is kept: a base written through a view would close a cycle."""
    base = t._base
    if base is not None and base._record is not None:
        base = Tensor._make(base._storage, base._type, base._array)
    alias = Tensor._make(t._storage, t._type, t._array, base, t._chain)
    alias._saved_version = version
    if t._requires_grad:
        alias._requires_grad, alias._record, alias._index = True, t._record, t._index
        if t._record is None:
            alias._origin = origin_of(t)
    return alias


def record_of(t: Tensor, record: Record | None, index: int, requires_grad: bool = True) -> None:
    """Let `t` go on from a record's result, with the gradient it retains; hooks stay with what they were set on."""
    if t._retains_grad and t._record is not None:
        retained = t._record.retained
        if retained is not None:
            retained.pop(t._index, None)
        if record is not None:
            record.retain(index, t)
    t._record, t._index, t._requires_grad = record, index, requires_grad


def origin_of(t: Tensor) -> Tensor:
    """The leaf that an alias stands for; other tensors stand for themselves."""
    return t if t._origin is None else t._origin


class set_grad_enabled:
    """Turn recording on or off: `set_grad_enabled(False)` at once, `with set_grad_enabled(False):` for a block, or
    `@set_grad_enabled(False)` for a function."""

    def __init__(self, mode: bool):
        self.mode, self.saved = bool(mode), grad_mode.enabled
        grad_mode.set(self.mode)

    def __enter__(self) -> None:
        grad_mode.set(self.mode)

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, tb: TracebackType | None) -> None:
        grad_mode.set(self.saved)

    def __call__(self, function: F) -> F:
        grad_mode.set(self.saved)

        @functools.wraps(function)
        def wrapped(*args: Any, **kwargs: Any) -> Any:
            with set_grad_enabled(self.mode):
                return function(*args, **kwargs)

        return wrapped  # type: ignore[return-value]


class _Mode:
    """A context manager and decorator that sets grad mode: `with no_grad():`, `@no_grad()` or `@no_grad`."""

    mode: bool

    def __new__(cls, function: Callable[..., Any] | None = None) -> Any:
        self = object.__new__(cls)
        return self(function) if function is not None else self

    def __enter__(self) -> None:
        stack = self.__dict__.setdefault("stack", [])
        stack.append(grad_mode.enabled)
        grad_mode.set(self.mode)

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, tb: TracebackType | None) -> None:
        grad_mode.set(self.__dict__["stack"].pop())

    def __call__(self, function: F) -> F:
        mode = type(self)
        if inspect.isgeneratorfunction(function):
            return _stepwise(function, mode)  # type: ignore[return-value]

        @functools.wraps(function)
        def wrapped(*args: Any, **kwargs: Any) -> Any:
            with mode():
                return function(*args, **kwargs)

        return wrapped  # type: ignore[return-value]


def _stepwise(function: Callable[..., Any], mode: type[_Mode]) -> Callable[..., Any]:
    """A generator function whose steps run in a mode; what runs between them does not."""
    @functools.wraps(function)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        steps = function(*args, **kwargs)
        advance: Callable[[], Any] = functools.partial(next, steps)
        try:
            while True:
                with mode():
                    try:
                        value = advance()
                    except StopIteration as stop:
                        return stop.value
                try:
                    advance = functools.partial(steps.send, (yield value))
                except GeneratorExit:
                    raise
                except BaseException as error:
                    advance = functools.partial(steps.throw, error)
        finally:
            with mode():
                steps.close()

    return wrapped


class no_grad(_Mode):
    """Nothing is recorded inside: results require no grad. A context (`with fb.no_grad():`) and a decorator."""

    mode = False


class enable_grad(_Mode):
    """Recording is on inside, also within no_grad."""

    mode = True


def inference_mode(mode: bool | Callable[..., Any] = True) -> Any:
    """no_grad(), as a context or a decorator; with False, enable_grad()."""
    if isinstance(mode, bool):
        return no_grad() if mode else enable_grad()
    return no_grad(mode)


def is_grad_enabled() -> bool:
    """Whether what is computed now is recorded, so that `backward()` can follow it."""
    return grad_mode.enabled


def tape_of(roots: Sequence[Tensor]) -> list[Record]:
    """Every record reachable from `roots`, the newest first (so users before operands, and PyTorch's order of hooks).

    Under trace the walk stops at records from outside: they are not the compiled function's history."""
    tracer = active.tracer
    found: dict[int, Record] = {id(t._record): t._record for t in roots if t._record is not None}
    stack = list(found.values())
    while stack:
        for operand in stack.pop().operands:
            parent = operand._record
            if parent is not None and id(parent) not in found and (tracer is None or parent.tracer is tracer):
                found[id(parent)] = parent
                stack.append(parent)
    return newest_first(found.values())


def newest_first(records: Iterable[Record]) -> list[Record]:
    """In the order of a backward walk."""
    return sorted(records, key=operator.attrgetter("number"), reverse=True)


def key_of(t: Tensor) -> tuple[int, int]:
    """What cotangents are added up under: a result of a record, or a leaf tensor."""
    return (id(t._record), t._index) if t._record is not None else (id(origin_of(t)), -1)
