"""Function -> Graph. Runs the user's function once on traced tensors and writes down every op.

Tensors from outside become captured state: inputs that the graph reads and, when the function changed them in
place, writes back. Each storage has one current value of its base's shape; views are derived from it, so an in-place
write through any view is seen through all of them.
"""
from __future__ import annotations

import sys
import weakref
from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from contextlib import contextmanager
from typing import Any

import numpy as np

from flambeau.errors import FlambeauError, TraceError, UnsupportedError
from flambeau.frontend.active import active
from flambeau.frontend.scalars import Scalar, is_runtime_number, plain
from flambeau.frontend.tape.autograd import Record, origin_of
from flambeau.frontend.tape.custom import Function, apply_recorded
from flambeau.frontend.tape.dispatch import dispatch, is_watched
from flambeau.frontend.tape.mixing import check_mixing
from flambeau.frontend.tape.writes import through_views
from flambeau.frontend.tensor.storage import Storage
from flambeau.frontend.tensor.strides import is_row_major, strides_of
from flambeau.frontend.tensor.tensor import Tensor
from flambeau.frontend.trace.guards.values import is_same
from flambeau.frontend.trace.guards.watch import Watch
from flambeau.frontend.trace.known import known_array
from flambeau.frontend.trace.outside import Captured, Outside, ScalarInput, hook_keys
from flambeau.frontend.trace.repeats import repeat
from flambeau.frontend.where import describe, told_by_whom, user_location
from flambeau.ir import dtypes as dt
from flambeau.ir.builder import Builder
from flambeau.ir.dims import Dim
from flambeau.ir.facts import LARGEST, Facts
from flambeau.ir.graph import Graph, Input, Location, Node, Value
from flambeau.ir.op import Op
from flambeau.ir.ops import Cast, Place, View
from flambeau.ir.ops.sources import Count
from flambeau.ir.types import TensorType

SCALAR_TYPE = TensorType((), dt.f64)


class Trace:
    """The state of one trace; installed as `active.tracer` while the user's function runs."""

    around: Any = None                  # the trace that this one is within
    is_level, hides_values = False, True

    def __init__(self, name: str, watch: Watch, numbers_are_fixed: bool = False):
        self.numbers_are_fixed = numbers_are_fixed      # guarded by value, every one
        self.facts: Facts | None = None                 # what is known of named sizes
        self.graph = Graph(name=name)
        self.watch = watch
        self._resting: Any = None           # the hook of `watch`, while it does
        self.closed = False
        self.captured: dict[Storage, Captured] = {}
        self._scalars: dict[Any, ScalarInput] = {}
        self._read_grads: dict[int, tuple[Tensor, Tensor | None]] = {}
        self._current: dict[Storage, Value] = {}
        self._known: dict[Value, np.ndarray] = {}
        self._given: dict[Storage, list[weakref.ref[np.ndarray]]] = {}      # arrays that Python was given of known memory
        self._versions: dict[Storage, int] = {}
        self._put_off: dict[Storage, list[Callable[[], None]]] = {}         # questions about sizes
        self.outside: dict[int, Outside] = {}           # tensors from outside that ops were applied to, by id
        self.argument_of: dict[int, Tensor] = {}        # the caller's tensor, by id of what it is on the tape
        self.stand_ins: dict[int, Tensor] = {}          # of arguments, by id
        self.hooks_of_argument: dict[int, tuple[Tensor, tuple[int, ...]]] = {}
        self.moved: dict[int, tuple[Tensor, tuple[Any, ...]]] = {}      # tensors from outside that got other memory
        self.made: dict[int, Tensor] = {}               # tensors made here over memory from outside, by id
        self._strides: dict[Storage, tuple[int, ...]] = {}
        self._asked_strides: set[Storage] = set()        # where the function depends on how a tensor lies in memory
        self._added_grads: set[int] = set()              # arguments whose .grad was added to, whatever it was
        self._unset_grads: set[int] = set()              # arguments whose .grad must be None at the start
        self._views: dict[tuple[Storage, tuple[View, ...]], tuple[Value, Value]] = {}
        self._grads: dict[int, tuple[Tensor, Tensor | None]] = {}
        self._scalar_of: dict[Any, Scalar] = {}
        self._phase = "forward"
        self.said: bool | None = None           # whether numbers are looked at, where the function says so itself
        self._saids: list[tuple[int, bool | None]] = []     # from which op on it said what
        self.asked_anomaly: tuple[bool, bool] | None = None     # the anomaly mode, if the function asked for it
        self.location: Location | None = None       # of the newest op
        self.differentiated: Location | None = None     # of the op whose derivative rule runs
        self.name_of: dict[int, str] = {}
        self.saved_reads = 0                    # how often an operation's saved operands or results were read
        self.saved_in: dict[Value, set[Storage]] = {}       # where values lie that were read as an operation had saved them
        self.read_live: set[Value] = set()      # values of tensors from outside that were read as they are
        self.storage_of: dict[Value, Storage] = {}          # of each input
        self._input_of: dict[Storage, Value] = {}           # of each argument
        self.failure: Exception | None = None           # the first error of this trace, whoever caught it
        self.autodiff_mark = 0          # how many nodes there were when the last backward had been traced

    # -- what dispatch asks for -------------------------------------------------------------------------------------

    def record(self, op: Op, operands: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        if self.watch.hook is not None:
            sys.setprofile(None)            # no user code runs in here
        loc = self._here()
        try:
            values = [self.value_of(t) for t in operands]
            node = self.graph.append(op, values, loc=loc, phase=self._phase)
            if node.results and node.results[0].type.device != "cpu":
                check_mixing(op, operands, node.results[0].type.device)
            return tuple([self._shell(v, loc) for v in node.results])
        except Exception as error:
            raise self._located(error, op, loc) from None
        finally:
            if self.watch.hook is not None:
                sys.setprofile(self.watch.hook)

    def unwatched(self, function: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        """`function(...)`, which runs no code of the user's."""
        hook = self.watch.hook
        if hook is None:
            return function(*args, **kwargs)
        sys.setprofile(None)
        self.watch.hook, self._resting = None, hook
        try:
            return function(*args, **kwargs)
        finally:
            self.watch.hook, self._resting = hook, None
            sys.setprofile(hook)

    def watched(self, function: Callable[..., Any], *args: Any) -> Any:
        """`function(...)`, which may run code of the user's, within what `unwatched` calls."""
        hook = self._resting
        if hook is None:
            return function(*args)
        self.watch.hook, self._resting = hook, None
        sys.setprofile(hook)
        try:
            return function(*args)
        finally:
            sys.setprofile(None)
            self.watch.hook, self._resting = None, hook

    def is_placeless(self, t: Tensor) -> bool:
        """Whether nothing from outside but numbers goes into a tensor, so that it has no place of its own."""
        found = {self.value_of(t).node}
        stack = list(found)
        while stack:
            node = stack.pop()
            if isinstance(node.op, Input) and node.op.kind != "scalar":
                return False
            new = {value.node for value in node.operands} - found
            found |= new
            stack += new
        return self.around is None or not found & {value.node for value in self.graph.inputs}

    def record_view(self, op: View, x: Tensor) -> Tensor:
        if self.watch.hook is not None:
            sys.setprofile(None)            # no user code runs in here
        loc = self._here()
        try:
            (type,) = op.infer(x._type)
            base = x if x._base is None else x._base
            view = Tensor._make(x._storage, type, None, base, (*x._chain, op))
            view._history = base._history
            self._base_value(x)
            if x._storage.trace is not self:
                self.made[id(view)] = view
            self.value_of(view)             # appended here, at the user's line
            return view
        except Exception as error:
            raise self._located(error, op, loc) from None
        finally:
            if self.watch.hook is not None:
                sys.setprofile(self.watch.hook)

    def recorded(self, operands: tuple[Tensor, ...]) -> tuple[Tensor, ...] | None:
        """The operands that a record of this trace's tape has."""
        return operands

    def apply_function(self, function: type[Function], args: tuple[Any, ...]) -> Any:
        return apply_recorded(function, args)

    def write(self, target: Tensor, value: Tensor) -> None:
        storage = target._storage
        self.settle(target)
        self.check_given(storage)
        new = self.value_of(value)
        base_value = self._base_value(target)
        b = Builder(self.graph, self._here(), self._phase)
        if new.type.device != base_value.type.device and new.type.device == "cpu":
            new = b.emit(Place(base_value.type.device), new)        # what was made of numbers alone goes along
        self._current[storage] = through_views(b, base_value, target._chain, new, b.emit)
        self._versions[storage] = self._versions.get(storage, 0) + is_watched(target)

    def repeat(self, update: Callable[..., None], tensors: Sequence[Tensor], known: dict[Any, Any]) -> None:
        """`update(*tensors)`, as the function `repeat` does it."""
        repeat(self, update, tensors, known)

    def put_off(self, question: Callable[[], None], tensors: Sequence[Tensor]) -> None:
        """Ask about sizes once somebody can tell the answer: when the memory of one of the tensors is written, or one's
        gradient is asked for."""
        for t in tensors:
            self._put_off.setdefault(t._storage, []).append(question)

    def settle(self, t: Tensor) -> None:
        """Ask what was put off about a tensor's memory."""
        for question in self._put_off.pop(t._storage, ()):
            question()
        if self.around is not None:
            self.around.settle(t)

    def version_of(self, t: Tensor) -> int:
        return self._versions.get(t._storage, 0)

    def saved_version_of(self, t: Tensor) -> int:
        """version_of() what an operation had saved, which is about to be read."""
        self.saved_reads += 1
        return self.version_of(t)

    def effects(self) -> tuple[object, object]:
        """What was changed so far, to be compared: storages and gradients."""
        return {storage: version for storage, version in self._versions.items() if version}, \
            {key: id(grad) for key, (_, grad) in self._grads.items()}

    def get_grad(self, t: Tensor, adding: bool = False) -> Tensor | None:
        """`t.grad` as far as it is known; adding: to add another gradient to it. A leaf that is an argument and captured
        as well has one."""
        if not adding:
            self.meet(t)
        t = origin_of(t)
        if id(t) in self._grads:
            if id(t) in self._added_grads and not adding:
                self._expect_no_grad(t)
            return self._grads[id(t)][1]
        if id(t) in self.argument_of:
            if adding:
                self._added_grads.add(id(t))
            else:
                self._expect_no_grad(t)
            return None
        if t._storage.trace is None or id(t) in self.moved:
            self._read_grads.setdefault(id(t), (t, t._grad))
        return t._grad

    def set_grad(self, t: Tensor, grad: Tensor | None, adding: bool = False) -> None:
        if not adding:
            self.meet(t)
        t = origin_of(t)
        if not adding and id(t) in self._added_grads:
            self._expect_no_grad(t)         # else the old gradient was added to, before it is replaced
            self._added_grads.discard(id(t))
        self._grads[id(t)] = (t, grad)

    def check_leaf(self, t: Tensor, what: str) -> None:
        """Raise UnsupportedError for an argument that was computed outside, where `what` would have to go on working."""
        like = self.argument_of.get(id(origin_of(t)))
        if like is not None and like._record is not None:
            raise UnsupportedError(f"{what} of an argument that was computed outside of the compiled function",
                                   where=describe(user_location()), hint=f"call {what} outside")

    def _expect_no_grad(self, t: Tensor) -> None:
        if self.argument_of[id(t)]._grad is not None:
            raise UnsupportedError(".grad of an argument was read, which has one from before the call",
                                   where=describe(user_location()),
                                   hint="set it to None before the call, or capture the tensor instead of passing it")
        self._unset_grads.add(id(t))

    def grads(self) -> list[tuple[Tensor, Tensor | None]]:
        """(tensor, its .grad at the end) for every tensor whose .grad was set."""
        return list(self._grads.values())

    @contextmanager
    def backward_phase(self) -> Iterator[None]:
        """Nodes appended inside are marked as derivatives."""
        saved = self._phase, self.differentiated
        self._phase, self.differentiated = "backward", None
        try:
            yield
        finally:
            self._phase, self.differentiated = saved
            self.autodiff_mark = self.graph._next_seq

    @property
    def is_in_backward(self) -> bool:
        return self._phase == "backward"

    def say(self, checks: bool | None) -> None:
        """Whether the numbers of what is appended from now on are looked at when the function runs; None: as the mode is
        then."""
        self.said = checks
        self._saids.append((self.graph._next_seq, checks))

    def looks(self) -> dict[int, bool]:
        """The nodes of which the function said whether they are looked at, by their place in the graph's order."""
        said = [None, *[checks for _, checks in self._saids]]
        starts = [first for first, _ in self._saids]
        found = [said[bisect_right(starts, node.seq)] for node in self.graph.toposort()] if starts else []
        return {place: checks for place, checks in enumerate(found) if checks is not None}

    def _here(self) -> Location | None:
        """The user's line of what is appended now; a derivative has that of the op it belongs to."""
        self.location = self.differentiated or user_location(active.module, active.kind)
        return self.location

    # -- values -----------------------------------------------------------------------------------------------------

    def value_of(self, t: Tensor) -> Value:
        """The graph value of a tensor now (views follow their base)."""
        value = self._base_value(t)
        if not t._chain:
            return value
        key = (t._storage, t._chain)
        cached = self._views.get(key)
        if cached is not None and cached[0] is value:
            return cached[1]
        loc = self._here()
        view = value
        for step, op in enumerate(t._chain, 1):
            prefix = (t._storage, t._chain[:step])
            cached = self._views.get(prefix)
            if cached is None or cached[0] is not value:
                made = self.graph.append(op, (view,), loc=loc, phase=self._phase).result
                cached = self._views[prefix] = (value, made)
            view = cached[1]
        return view

    def _base_value(self, t: Tensor) -> Value:
        storage = t._storage
        self.meet(t)
        value = self._current.get(storage)
        if value is None:
            if storage.trace is not None:
                raise self.no_data_error(t) if storage.trace is self else storage.trace.no_data_error(t)
            owner = origin_of(t)
            base = owner if owner._base is None else owner._base
            if base._storage is not storage:            # it got other memory since the view was made
                base = Tensor._make(storage, storage.layout_of(t._type))
            value = self._capture(base)
        if t._saved_version >= 0:
            self.saved_in.setdefault(value, set()).add(storage)
        elif id(t) in self.outside or id(t) in self.stand_ins:
            self.read_live.add(value)
        return value

    def current(self, t: Tensor) -> Value | None:
        """What a tensor's memory holds now; None where the graph does not know it yet."""
        return self._current.get(t._storage)

    def written_to(self) -> set[Storage]:
        """The memory that was written to so far."""
        return set(self._versions)

    def meet(self, t: Tensor) -> None:
        """Remember a tensor from outside as it is now, if it is one."""
        if t._storage.trace is None and id(t) not in self.outside and id(t) not in self.made:
            met = origin_of(t)
            if met._saved_version == -1:
                self.outside.setdefault(id(met), Outside.of(met))

    def hooks_changed(self) -> bool:
        """True when gradient hooks of tensors from outside are others than before."""
        return (any(hook_keys(o.tensor) != o.hooks for o in self.outside.values())
                or any(hook_keys(t) != hooks for t, hooks in self.hooks_of_argument.values()))

    def _capture(self, base: Tensor) -> Value:
        label = self.name_of.get(id(base)) or f"captured{len(self.captured)}"
        value = self.graph.add_input(base._type, label, "state")
        self.captured[base._storage] = Captured(base, value)
        self._current[base._storage] = value
        self.storage_of[value] = base._storage
        return value

    def was_there(self, t: Tensor) -> bool:
        """True for tensors that are older than the trace, arguments aside."""
        return t._storage.trace is not self and id(t) not in self.made or id(t) in self.moved

    def may_move(self, t: Tensor, value: Tensor) -> bool:
        """A tensor from outside is about to get the memory of `value` (`p.data = value`), which calls give it anew. False
        for an argument, and for memory that calls have already, or of another type."""
        storage = value._storage
        if self.around is not None or id(origin_of(t)) in self.argument_of or t._base is not None or \
                value._type != t._type or storage.trace is not self or storage in self._input_of:
            return False
        self.meet(t)
        self.moved.setdefault(id(t), (t, (t._storage, t._array)))
        return True

    def copied(self, t: Tensor) -> Tensor:
        """What t holds now, in a storage of its own."""
        return self._shell(self.value_of(t), user_location())

    def capture_gradient(self, leaf: Tensor, grad: Tensor) -> Tensor:
        """What stands for memory that `grad`, the new gradient of a leaf, is written to: a state."""
        memory = Tensor._make(Storage(), grad._type)
        label = self.name_of.get(id(leaf))
        self.name_of[id(memory)] = f"{label}.grad" if label else "grad"
        value = self.value_of(grad)
        self._capture(memory)
        self._current[memory._storage] = value
        return memory

    def argument(self, like: Tensor, label: str, type: TensorType | None = None,
                 named_strides: tuple[Any, ...] | None = None) -> Tensor:
        """A traced stand-in for a tensor argument. type, named_strides: with names for sizes that vary."""
        value = self.graph.add_input(like._type if type is None else type, label, "arg")
        shell = self._shell(value, None, like.__class__)
        self.storage_of[value] = shell._storage
        self._input_of[shell._storage] = value
        self.stand_ins[id(shell)] = shell
        shell._requires_grad = like._requires_grad
        if hasattr(like, "__dict__"):
            shell.__dict__.update(like.__dict__)
        if like._record is None:
            shell._origin = like            # its gradients and hooks are this leaf's
        self.argument_of[id(origin_of(shell))] = like
        self.hooks_of_argument[id(like)] = like, hook_keys(like)
        strides = strides_of(like)
        if named_strides is not None:
            self._strides[shell._storage] = named_strides
        elif not is_row_major(like._type.static_shape, strides):
            self._strides[shell._storage] = strides
        return shell

    def keep(self, made: Tensor, source: Tensor) -> None:
        """`made` is another tensor over the memory of `source`, off its tape."""
        if source._storage.trace is not self:
            self._base_value(source)
            self.made[id(made)] = made

    def input_tensor(self, type: TensorType, label: str) -> Tensor:
        """A new traced argument of the given type."""
        return self._shell(self.graph.add_input(type, label, "arg"), None)

    def strides_in(self, storage: Storage) -> tuple[int, ...] | None:
        """How an argument that is not contiguous lies in memory; None for other storages."""
        self._asked_strides.add(storage)
        return self._strides.get(storage)

    def record_of(self, t: Tensor) -> Record | None:
        """The operation that made this tensor, outside or in here."""
        like = self.argument_of.get(id(t), t)
        return t._record if t._record is not None else like._record

    def is_from_outside(self, t: Tensor) -> bool:
        """True for captured tensors and arguments."""
        return t._storage.trace is not self or id(origin_of(t)) in self.argument_of or id(t) in self.moved

    def is_leaf(self, t: Tensor) -> bool:
        """True when no operation made this tensor, outside or in here."""
        like = self.argument_of.get(id(t), t)
        return t._record is None and like._record is None

    def _shell(self, value: Value, loc: Location | None, cls: type[Tensor] | None = None) -> Tensor:
        storage = Storage(trace=self, origin=loc)       # type: ignore[arg-type]
        self._current[storage] = value
        return Tensor._make(storage, value.type, cls=cls)

    # -- what the function did --------------------------------------------------------------------------------------

    def check(self) -> None:
        """An error of the trace stays one, also if user code caught it."""
        if self.failure is not None:
            raise self.failure

    def close(self) -> None:
        """Nothing is traced any more: tensors from outside get back the tape they had."""
        self.closed = True
        for t, (storage, array) in self.moved.values():
            t._storage, t._array, t._base, t._chain = storage, array, None, ()
        for outside in self.outside.values():
            if outside.is_on_tape_of(self):
                outside.restore_tape()

    def erase(self, nodes: Set[Node]) -> None:
        """Take nodes that nothing else uses from the graph."""
        self.graph.erase_all(nodes)
        self._views = {key: made for key, made in self._views.items() if made[1].node not in nodes}

    def continue_in(self, graph: Graph, new_of: Mapping[Value, Value]) -> None:
        """Append to `graph` from now on, a copy of this one's; new_of: what values are there. Those that were erased are
        gone."""
        self.graph = graph
        self._views = {}
        self._current = {storage: new_of[v] for storage, v in self._current.items() if v in new_of}
        self._input_of = {storage: new_of[v] for storage, v in self._input_of.items()}
        self.storage_of = {new_of[v]: storage for v, storage in self.storage_of.items() if v in new_of}
        self.saved_in = {new_of[v]: storages for v, storages in self.saved_in.items() if v in new_of}
        self.read_live = {new_of[v] for v in self.read_live if v in new_of}
        for captured in self.captured.values():
            captured.input = new_of[captured.input]
        for number in self._scalars.values():
            number.input = new_of[number.input]

    def has_met(self, t: Tensor) -> bool:
        """True for a tensor from outside that an op was applied to."""
        return id(t) in self.outside

    def extends_tapes(self) -> bool:
        """True when a tensor from outside is on the tape of this trace."""
        return any(outside.is_on_tape_of(self) for outside in self.outside.values())

    def flags(self) -> list[tuple[Tensor, bool]]:
        """(tensor from outside, its requires_grad) where the function changed that."""
        return [(o.tensor, o.tensor._requires_grad) for o in self.outside.values()
                if o.tensor._requires_grad is not o.requires_grad and not o.is_on_tape_of(self)]

    def numbers(self) -> list[ScalarInput]:
        """The runtime numbers, in the order of the graph's inputs."""
        return list(self._scalars.values())

    def changed_number(self) -> ScalarInput | None:
        """A hyperparameter that the function changed."""
        return next((s for s in self._scalars.values() if s.owner is not None and not is_same(s.value, plain(s.now()))),
                    None)

    def write_inputs(self) -> set[Value]:
        """Fill graph.writes with every input whose storage has another value now; those inputs."""
        inputs = [*self._input_of.items(), *[(storage, captured.input) for storage, captured in self.captured.items()]]
        self.graph.writes.update({v: self._current[storage] for storage, v in inputs if self._current[storage] is not v})
        return set(self.graph.writes)

    def input_of(self, stand_in: Tensor) -> Value | None:
        """The input of the graph that is an argument's memory; None for other tensors."""
        return self._input_of.get(stand_in._storage)

    def depends_on_layout(self, stand_in: Tensor) -> bool:
        """True when the function does something else for an argument that lies in memory in another order."""
        storage = stand_in._storage
        return storage in self._asked_strides or bool(self._versions) and storage in self._strides

    def reads_grads(self) -> list[tuple[Tensor, Tensor | None]]:
        """(tensor from outside, the .grad that was read) in the order of reading."""
        return list(self._read_grads.values())

    def needs_no_grad(self, stand_in: Tensor) -> bool:
        """True when the .grad of an argument must be None at the start."""
        return id(origin_of(stand_in)) in self._unset_grads

    def adds_to_grad(self, t: Tensor) -> bool:
        """True when a gradient was added to the .grad of an argument, whatever that was."""
        return id(t) in self._added_grads

    def is_argument(self, t: Tensor) -> bool:
        """True for what an argument is on the tape."""
        return id(t) in self.argument_of

    # -- numbers ----------------------------------------------------------------------------------------------------

    def scalar(self, owner: dict[str, Any], key: str) -> Any:
        """The number `owner[key]` as a runtime scalar; anything that is no plain number is given as it is."""
        value = dict.__getitem__(owner, key) if isinstance(owner, dict) else owner[key]      # a Group would ask us
        if not is_runtime_number(value):
            return plain(value)
        return self._number(("item", id(owner), key), owner, key, plain(value), str(key))

    def argument_number(self, value: float | int, leaf: int, label: str, kind: type | None = None) -> Any:
        return self._number(("arg", leaf), None, leaf, value, label, kind)

    def _number(self, source: Any, owner: dict[str, Any] | None, key: Any, value: float | int, label: str,
                kind: type | None = None) -> Any:
        known = self._scalar_of.get(source)
        if known is None:
            graph_input = self.graph.add_input(SCALAR_TYPE, label, "scalar")
            self._scalars[source] = ScalarInput(owner, key, graph_input, value)
            known = Scalar(self._shell(graph_input, None), value, isinstance(value, int), frozenset([source]),
                           self._force, stands_for=kind)
            self._scalar_of[source] = known
        return known.force() if self.numbers_are_fixed else known

    def size_number(self, size: Dim) -> Scalar:
        """The number that a named size is at each call, for arithmetic that makes no size."""
        assert self.facts is not None, f"nothing is known of {size}"
        if not -LARGEST <= size <= LARGEST:
            raise UnsupportedError(f"the number of elements {self.facts.hint(size)}", where=describe(user_location()),
                                   hint=f"arithmetic with sizes goes up to {LARGEST}")
        tensor = dispatch(Cast(dt.f64), dispatch(Count(size)))
        return Scalar(tensor, self.facts.hint(size), True, frozenset([("size", size)]), self._force, LARGEST)

    def _force(self, sources: frozenset[Any]) -> None:
        for source in sources:
            if source[0] == "size":
                assert self.facts is not None, "a size has a name"
                self.facts.fixed(source[1])
            else:
                self._scalars[source].guarded = True

    # -- errors -----------------------------------------------------------------------------------------------------

    def known(self, t: Tensor) -> np.ndarray | None:
        """The data of a tensor that is computed from constants alone, for reading; None for any other."""
        if active.tracer is not self or t._storage.trace is not self:
            return None
        return known_array(self.value_of(t), self._known)

    def given_out(self, t: Tensor, data: np.ndarray) -> np.ndarray:
        """The data of a known tensor for numpy(), which shares memory in eager code: a copy that only reads."""
        copy = data.copy()
        copy.flags.writeable = False
        self._given.setdefault(t._storage, []).append(weakref.ref(copy))
        return copy

    def check_given(self, storage: Storage) -> None:
        """Raises TraceError where memory is about to change that an array shows, as that can't follow."""
        if storage in self._given and any(array() is not None for array in self._given[storage]):
            raise TraceError(f"a tensor was changed in place in {self.graph.name} while an array that its numpy() gave was "
                             "in use; in a compiled function they share no memory", where=describe(user_location()),
                             hint="take numpy().copy(), or change a clone()")

    def data_of(self, t: Tensor) -> Any:
        """What known() gives. Raises TraceError for a tensor that has no data in a trace."""
        found = self.known(t)
        if found is not None:
            return found
        raise self.concrete_data_error(t) if t._storage.trace is None else t._storage.trace.no_data_error(t)

    def shown(self, t: Tensor) -> str:
        """What printing a tensor of a trace that is over shows. Raises TraceError during it."""
        if not self.closed:
            raise self.no_data_error(t)
        return f"tensor(<traced {t._type}, made at {t._storage.origin or 'unknown line'}>)"

    def no_data_error(self, t: Tensor) -> Exception:
        """Why a traced tensor can't be looked at: it leaked, or Python asked it for a value."""
        where = describe(user_location())
        origin = t._storage.origin
        if self.closed:
            return TraceError(
                f"a traced tensor ({t._type}) was kept after its compiled function ({self.graph.name}) had returned; "
                f"it was made at {describe(origin) or 'an argument'}",  # type: ignore[arg-type]
                where=where, hint="return it from the compiled function instead of storing it outside")
        return TraceError(
            f"the value of a traced tensor ({t._type}) was asked for in {self.graph.name}, but a traced tensor has no "
            "value until the compiled function runs: if/while on a tensor, bool(), int(), float(), item(), numpy() "
            "and print need one", where=where,
            hint="use fb.where(cond, a, b) or fb.cond for a choice, fb.while_loop to repeat something, fb.debug_print to "
                 "print, return the tensor to look at it outside, or take this part out of the compiled function")

    def concrete_data_error(self, t: Tensor) -> Exception:
        """A captured tensor's value would be baked into the trace."""
        return TraceError(
            f"the value of a tensor from outside ({t._type}) was asked for while {self.graph.name} was traced; it would "
            "be frozen into the compiled function", where=describe(user_location()),
            hint="use the tensor in ops, or pass the number as an argument")

    def fail(self, error: Exception) -> None:
        """Remember the first refusal, which ends the trace even if the user's code goes on."""
        self.failure = self.failure or error

    def _located(self, error: Exception, op: Op, loc: Location | None) -> Exception:
        if isinstance(error, FlambeauError) and error.where is None:
            error.where = describe(loc)
            told_by_whom(error, op.name, loc)
        return error


__all__ = ["Captured", "ScalarInput", "Trace"]
