"""A level: what one transform makes of the ops of the function that it runs.

While a level is entered it is the `active.tracer`, as a trace is for a compiled function. Tensors made in it are
*shells*: they have the type the function sees, and their storage holds what stands for them one level below (the
level, or trace, or eager mode that was active before). An op on shells becomes ops on those. So levels nest in any order,
inside compiled functions too, and an op needs to know of none.

Storages of shells are never written: an in-place op puts another value in their place, as in a trace.
"""
from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

from flambeau.frontend.active import Tracer, active
from flambeau.frontend.control import check_alike, leaves_of
from flambeau.frontend.func.rounds import passed
from flambeau.frontend.functions.rounds import Done, Rounds, while_rounds
from flambeau.frontend.random import default_generators
from flambeau.frontend.tape.autograd import Record, alias_of, anomaly, grad_mode, key_of, origin_of
from flambeau.frontend.tape.backward import TensorBuilder
from flambeau.frontend.tape.custom import Function
from flambeau.frontend.tape.dispatch import constant, dispatch, dispatch_view, is_watched, write
from flambeau.frontend.tape.writes import assign_, through_views
from flambeau.frontend.tensor.storage import Storage
from flambeau.frontend.tensor.strides import strides_of
from flambeau.frontend.tensor.tensor import Tensor
from flambeau.frontend.trace.guards.markers import CompiledMarker
from flambeau.frontend.where import user_location
from flambeau.ir import ops
from flambeau.ir.location import Location
from flambeau.ir.op import Op
from flambeau.ir.ops import View
from flambeau.ir.types import TensorType

_numbers = itertools.count()


class Held(Storage):
    """The storage of a shell. value: the tensor below that stands for it; extra: what else the level knows of it; number:
    how old it is."""

    __slots__ = ("extra", "number", "value")

    def __init__(self, level: Level, value: Tensor, extra: Any):
        super().__init__(trace=level)
        self.value, self.extra, self.number = value, extra, next(_numbers)
        if level.fresh is not None:
            level.fresh.append(self)


class Level(CompiledMarker):
    """What levels share. A subclass says how ops and views pass (`applied`, `viewed`).

    name: how messages call the transform; nothing: the `extra` of tensors from outside."""

    name: str
    nothing: Any = None
    is_recording = True             # whether ops on what this level differentiates are put on its tape
    is_level, closed = True, False
    runs_all = False                # whether functions run of which nothing may be chosen

    def __init__(self) -> None:
        self.around: Tracer | None = None
        self.outer_mode = True      # the grad mode below is that of the function's code where this is True, else off
        self.name_of: dict[int, str] = {}
        self.argument_of: dict[int, Tensor] = {}
        self.fresh: list[Held] | None = None    # in a function that may not change what is older: storages made since
        self.met: dict[int, Tensor] | None = None       # while a function is probed: shells that it reads
        self.arguments: list[tuple[Tensor, Tensor]] = []        # (shell, the tensor it was made for)

    # -- going in and down ------------------------------------------------------------------------------------------

    @contextmanager
    def entered(self) -> Iterator[None]:
        """Ops inside pass through this level, to whatever is active now."""
        saved, mode, before = active.tracer, grad_mode.enabled, self.around
        self.around, active.tracer = saved, self    # type: ignore[assignment]
        if saved is not None:
            self.name_of = saved.name_of
        try:
            yield
        finally:
            active.tracer, self.around = saved, before
            grad_mode.set(mode)

    def below(self, function: Callable[..., Any], *args: Any) -> Any:
        """function(*args), its ops one level further down."""
        saved, mode = active.tracer, grad_mode.enabled
        active.tracer = self.around
        grad_mode.set(mode and self.outer_mode)
        try:
            return function(*args)
        finally:
            active.tracer = saved
            grad_mode.set(mode)

    # -- shells -----------------------------------------------------------------------------------------------------

    def shell(self, value: Tensor, extra: Any, type: TensorType | None = None) -> Tensor:
        """A tensor of this level."""
        return Tensor._make(Held(self, value, extra), type or value._type)

    def held(self, t: Tensor) -> tuple[Tensor, Any]:
        """(the tensor below that stands for t now, what else is known of it)"""
        storage = t._storage
        if storage.trace is not self:
            return t, self.nothing
        if self.met is not None:
            self.met[id(t)] = t
        value, extra = storage.value, storage.extra             # type: ignore[attr-defined]
        for op in t._chain:
            value, extra = self.viewed(op, value, extra)
        return value, extra

    def argument(self, t: Tensor, extra: Any, value: Tensor | None = None) -> Tensor:
        """The shell of an argument; what the function writes to it is written to `value`, which is t if none is given."""
        value = t if value is None else value
        shell = self.shell(value, extra, self.type_of(value, extra))
        self.arguments.append((shell, value))
        return shell

    def type_of(self, value: Tensor, extra: Any) -> TensorType:
        """The type that the function sees."""
        return value._type

    def write_back(self) -> None:
        """What the function changed of its arguments in place is changed below."""
        for shell, value in self.arguments:
            if shell._storage.version:
                self.below(assign_, value, self.held(shell)[0])

    # -- what subclasses say ----------------------------------------------------------------------------------------

    def applied(self, op: Op, operands: Sequence[Tensor]) -> Sequence[tuple[Tensor, Any, TensorType]]:
        """For each result (tensor below, extra, type here)."""
        raise NotImplementedError

    def viewed(self, op: View, value: Tensor, extra: Any) -> tuple[Tensor, Any]:
        """A view of what is held."""
        raise NotImplementedError

    def refuse_write(self, target: Tensor, value: Tensor) -> None:
        """Raise RuntimeError where a tensor from outside can't take a value of this level."""

    @property
    def hides_values(self) -> bool:
        """True where Python can't look at the numbers in a tensor."""
        return self.around is not None and self.around.hides_values

    def hides(self, t: Tensor) -> bool:
        """The same of one tensor, which may be shared by all that hide theirs."""
        return bool(self.below(active.hides, self.held(t)[0]))

    def differentiates(self, t: Tensor, tangents: bool) -> bool:
        """Whether this level, or one around, may take a derivative with respect to t."""
        return t._requires_grad or bool(self.below(active.differentiates, self.held(t)[0], tangents))

    # -- what dispatch asks for -------------------------------------------------------------------------------------

    def record(self, op: Op, operands: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return tuple([self.shell(*found) for found in self.applied(op, operands)])

    def record_view(self, op: View, x: Tensor) -> Tensor:
        if x._storage.trace is not self:
            return self.below(dispatch_view, op, x)
        if self.met is not None:
            self.met[id(x)] = x
        (type,) = op.infer(x._type)
        base = x if x._base is None else x._base
        view = Tensor._make(x._storage, type, None, base, (*x._chain, op))
        view._history = base._history
        return view

    def recorded(self, operands: tuple[Tensor, ...]) -> tuple[Tensor, ...] | None:
        """The operands of a record of this level's tape; None where there is none. What comes from outside is a constant
        of it."""
        if not self.is_recording or not any(t._requires_grad and t._storage.trace is self for t in operands):
            return None
        return tuple([t if t._storage.trace is self else self.shell(alias_of(t, self.version_of(t)), self.nothing)
                      for t in operands])

    def write(self, target: Tensor, value: Tensor) -> None:
        if self.fresh is not None and not self.may_change(target):
            raise RuntimeError(f"a function that is given to cond or a loop under {self.name} changed a tensor in place "
                               "that it did not make; return the new value")
        if target._storage.trace is not self:
            self.refuse_write(target, value)
            self.below(write, target, self.held(value)[0])
            return
        storage: Any = target._storage
        if target._chain:
            b = TensorBuilder()
            saved, self.is_recording = self.is_recording, False
            try:
                base = target if target._base is None else target._base
                old = self.shell(storage.value, storage.extra, base._type)
                value = through_views(b, old, target._chain, value, b.emit)
            finally:
                self.is_recording = saved
        found, extra = self.held(value)
        if value._storage.trace is not self:
            found = self.below(dispatch, ops.Reshape(found._type.shape), found)        # it may change outside
        storage.value, storage.extra = found, extra
        storage.version += is_watched(target)

    def apply_function(self, function: type[Function], args: tuple[Any, ...]) -> Any:
        """`Function.apply` of the user's Functions."""
        raise NotImplementedError

    def put_off(self, question: Callable[[], None], tensors: Sequence[Tensor]) -> None:
        question()                              # what is written here is other memory

    def settle(self, t: Tensor) -> None:
        if self.around is not None:
            self.around.settle(self.held(t)[0])

    def version_of(self, t: Tensor) -> int:
        if t._storage.trace is self or self.around is None:
            return t._storage.version
        return self.around.version_of(t)

    saved_version_of = version_of

    def copied(self, t: Tensor) -> Tensor:
        return self.shell(*self.held(t), t._type)

    def keep(self, made: Tensor, source: Tensor) -> None:
        """`made` is what detach() gives: off the tapes of all levels."""
        if source._storage.trace is self:
            value, extra = self.held(source)
            made._storage, made._base, made._chain = Held(self, *self.detached(value, extra)), None, ()
        elif self.around is not None:
            self.below(self.around.keep, made, source)

    def detached(self, value: Tensor, extra: Any) -> tuple[Tensor, Any]:
        """What is held of a tensor that was detached."""
        return self.below(value.detach), extra

    def strides_in(self, storage: Storage) -> tuple[int, ...] | None:
        """How a shell's elements lie, as far as that is known."""
        return self.below(strides_of, storage.value)        # type: ignore[attr-defined]

    # -- values -----------------------------------------------------------------------------------------------------

    def data_of(self, t: Tensor) -> Any:
        """The elements of a tensor, where they can be looked at."""
        return self.below(self.held(t)[0]._data)

    def known(self, t: Tensor) -> Any:
        """None: what a trace around this level knows is not asked for."""
        return None

    def no_data_error(self, t: Tensor) -> Exception:
        """Why a tensor has no value outside of its level."""
        return RuntimeError(f"a tensor ({t._type}) that was made in a function under {self.name} was kept, and used "
                            "outside of it; return it from the function")

    def shown(self, t: Tensor) -> str:
        """What printing a tensor of this level shows."""
        return f"{self.name}({self.below(repr, self.held(t)[0])})"

    # -- the rest of what a tracer is asked -------------------------------------------------------------------------

    @property
    def location(self) -> Location | None:
        if self.around is None:
            return user_location() if anomaly.is_on else None
        return self.around.location

    @property
    def differentiated(self) -> Location | None:
        return None if self.around is None else self.around.differentiated

    @differentiated.setter
    def differentiated(self, location: Location | None) -> None:
        if self.around is not None:
            self.around.differentiated = location

    def backward_phase(self) -> Any:
        return nullcontext() if self.around is None else self.around.backward_phase()

    def meet(self, t: Tensor) -> None:
        if t._storage.trace is not self and self.around is not None:
            self.around.meet(t)

    def check_leaf(self, t: Tensor, what: str) -> None:
        if t._storage.trace is not self and self.around is not None:
            self.around.check_leaf(t, what)

    def get_grad(self, t: Tensor, adding: bool = False) -> Tensor | None:
        owner = origin_of(t)
        if owner._storage.trace is self or self.around is None:
            return owner._grad
        return self.around.get_grad(t, adding)

    def set_grad(self, t: Tensor, grad: Tensor | None, adding: bool = False) -> None:
        owner = origin_of(t)
        if owner._storage.trace is not self and grad is not None and grad._storage.trace is self:
            raise RuntimeError(f".grad of a tensor from outside was set in a function under {self.name}; return what "
                               "fb.autograd.grad() gives instead")
        if owner._storage.trace is self or self.around is None:
            owner._grad = grad
        else:
            self.around.set_grad(t, grad, adding)

    def was_there(self, t: Tensor) -> bool:
        return t._storage.trace is not self

    def is_from_outside(self, t: Tensor) -> bool:
        return t._storage.trace is not self

    def is_leaf(self, t: Tensor) -> bool:
        return t._record is None

    def record_of(self, t: Tensor) -> Record | None:
        return t._record

    def scalar(self, owner: dict[str, Any], key: str) -> Any:
        return dict.__getitem__(owner, key) if self.around is None else self.around.scalar(owner, key)

    def cond(self, pred: Tensor, true_fn: Any, false_fn: Any, operands: Any) -> Any:
        """`fb.cond` where no value can be looked at: both functions run, and elements are chosen. They change nothing."""
        runs_all, self.runs_all = self.runs_all, True
        try:
            with self.changing_nothing():
                given = [leaves_of(function(*[_masked(t, pred, is_true) for t in operands]), f"cond: {name}")
                         for function, name, is_true in ((true_fn, "true_fn", True), (false_fn, "false_fn", False))]
        finally:
            self.runs_all = runs_all
        check_alike(*given)
        return given[0].tree([None if a is None or b is None else dispatch(ops.where, pred, a, b)
                              for a, b in zip(given[0].tensors, given[1].tensors, strict=True)])

    def while_loop(self, cond_fn: Any, body_fn: Any, carried: Any) -> Any:
        return self.rounds(while_rounds(cond_fn, body_fn, carried, None)).last

    def rounds(self, r: Rounds) -> Done:
        """Rounds of loops, where no value can be looked at."""
        return passed(self, r)

    def parts(self, t: Tensor) -> list[Tensor]:
        """What stands for t below, as tensors that a loop may carry; `whole` makes a shell of them again."""
        return [self.held(t)[0]]

    def whole(self, parts: Sequence[Tensor]) -> Tensor:
        return self.shell(parts[0], self.nothing)

    def turned(self, t: Tensor) -> Tensor:
        """Of a tensor with rows in front, a part below, with the rows in front; and back."""
        return t

    @contextmanager
    def changing_nothing(self) -> Iterator[None]:
        """A function inside may change only tensors of this level that it made: it runs once, or for all examples."""
        saved, self.fresh = self.fresh, []
        try:
            yield
        finally:
            self.fresh = saved

    def may_change(self, target: Tensor) -> bool:
        """Whether such a function may: the tensors of other levels are their own affair, unless it runs for nothing too."""
        if target._storage.trace is not self:
            return not self.runs_all or any(target is generator.state for generator in default_generators())
        return any(target._storage is made for made in self.fresh or ())

    def probe(self, run: Any, function: Any, who: str) -> tuple[list[Tensor], dict[Storage, Any], bool]:
        """As of a trace; the tensors from outside are those of this level."""
        tracer: Any = self.around
        assert tracer is not None, "a trace takes what is probed, and throws it away"

        def inside() -> None:
            with self.entered(), self.changing_nothing(), self.meeting() as found:
                run()
            met[:] = found

        met: list[Tensor] = []
        _, held, changes = self.below(tracer.probe, inside, function, who)
        sources = {key_of(t): t for t in met if t._requires_grad}
        return list(sources.values()), {**held, **self.held_by(met)}, changes

    @contextmanager
    def meeting(self) -> Iterator[list[Tensor]]:
        """Tells the tensors of this level that ops inside are applied to and that were there before."""
        saved, self.met = self.met, {}
        start, record, found = next(_numbers), Record(Op(), (), ()).number, list[Tensor]()
        try:
            yield found
            found += [t for t in self.met.values() if t._storage.number < start         # type: ignore[attr-defined]
                      and (t._record is None or t._record.number < record)]
        finally:
            self.met = saved
            if saved is not None:
                saved.update((id(t), t) for t in found)

    def held_by(self, tensors: Sequence[Tensor]) -> dict[Storage, Any]:
        """What the memory of tensors holds now."""
        mine = [t for t in tensors if t._storage.trace is self]
        rest = [t for t in tensors if t._storage.trace is not self]
        tracer: Any = self.around
        below = tracer.held_by(rest) if tracer is not None else {}
        return {**below, **{t._storage: (t._storage.value, t._storage.extra) for t in mine}}      # type: ignore[attr-defined]

    @contextmanager
    def holding(self, values: Mapping[Storage, Any]) -> Iterator[None]:
        """Memory holds what it held when a function ran that runs again."""
        mine: dict[Any, Any] = {s: now for s, now in values.items() if s.trace is self}
        now = {storage: (storage.value, storage.extra) for storage in mine}
        tracer: Any = self.around
        with nullcontext() if tracer is None else tracer.holding({s: v for s, v in values.items() if s not in mine}):
            for storage, (value, extra) in mine.items():
                storage.value, storage.extra = value, extra
            try:
                yield
            finally:
                for storage, (value, extra) in now.items():
                    storage.value, storage.extra = value, extra


def zeros(type: TensorType) -> Tensor:
    """A tensor of zeros."""
    zero = constant(0, type.dtype)
    return dispatch(ops.Broadcast(type.static_shape, ()), zero) if type.shape else zero


def _masked(operand: Any, pred: Tensor, is_true: bool) -> Any:
    """An operand of a choice whose functions both run, to which no gradient flows where it chooses the other: what that
    computes may have no finite derivative."""
    if not (isinstance(operand, Tensor) and operand.is_floating_point() and active.differentiates(operand, False)):
        return operand
    stopped = operand.detach()
    return dispatch(ops.where, pred, *((operand, stopped) if is_true else (stopped, operand)))


__all__ = ["Held", "Level", "zeros"]
