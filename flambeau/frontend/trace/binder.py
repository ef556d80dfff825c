"""One call -> a graph and a plan: binds arguments, runs the function under trace, and refuses what can't be repeated."""
from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import Any

import numpy as np

from flambeau.errors import CaptureError, FlambeauError, TraceError, UnsupportedError, listening
from flambeau.frontend.active import active
from flambeau.frontend.pytree import Structure, entries_of, flatten, unflatten
from flambeau.frontend.scalars import Scalar, is_runtime_number, plain, settled
from flambeau.frontend.tape.anomaly import set_detect_anomaly
from flambeau.frontend.tape.autograd import anomaly, grad_mode
from flambeau.frontend.tape.casting import Casting
from flambeau.frontend.tensor.promotion import get_default_dtype, set_default_dtype
from flambeau.frontend.tensor.tensor import Tensor
from flambeau.frontend.trace.call_plan import SlotRead, Traced
from flambeau.frontend.trace.containers import Containers, HandedArgument, path_of
from flambeau.frontend.trace.guards.effects import Effect, Slot, made_entries, refusal
from flambeau.frontend.trace.guards.watch import Watch
from flambeau.frontend.trace.planner import Planner, leaf_name
from flambeau.frontend.trace.regions import NestingTrace
from flambeau.frontend.trace.sizes import NamedSizes
from flambeau.ir.answers import assuming
from flambeau.ir.dims import Dim
from flambeau.ir.dtypes import DType

Names = Callable[[Sequence[Any]], "NamedSizes | None"]         # of leaves


def trace_call(function: Callable[..., Any], name: str, leaves: Sequence[Any], paths: Sequence[str],
               structure: Structure | None, slots: tuple[Slot, ...] = (),
               named: Names = lambda leaves: None) -> Traced:
    """Trace `function` on arguments that were flattened to `leaves`, again as long as more of what it finds in Python's
    objects than `slots` must come in as arguments. named: names for sizes of theirs, and of what is in the slots, anew for
    each time."""
    while True:
        binder, traced = _traced(function, name, leaves, paths, structure, slots, named)
        if traced is not None:
            return traced
        slots += binder.new_slots


def _traced(function: Callable[..., Any], name: str, leaves: Sequence[Any], paths: Sequence[str],
            structure: Structure | None, slots: Sequence[Slot], named: Names) -> tuple[Binder, Traced | None]:
    binder = Binder(function, name, leaves, paths, structure, slots, named=named)
    try:
        traced = binder.run()
    except FlambeauError:
        raise
    except Exception as error:              # perhaps of code that takes nothing but real numbers: json, decimal
        if not binder.trace.numbers():
            raise
        binder = Binder(function, name, leaves, paths, structure, slots, numbers_are_fixed=True, named=named)
        try:
            traced = binder.run()
        except FlambeauError as refused:    # what stops it where numbers are real is what stops it
            raise refused from None
        except Exception:                   # or of none, or of code that takes nothing but runtime numbers
            raise error from None
    captured = binder.arguments_that_are_captured()
    if captured and traced is not None:
        binder = Binder(function, name, leaves, paths, structure, slots, binder.numbers_are_fixed, captured, named)
        traced = binder.run()
    return binder, traced


class Binder:
    """Runs `function` once under a Trace."""

    def __init__(self, function: Callable[..., Any], name: str, leaves: Sequence[Any], paths: Sequence[str],
                 structure: Structure | None, slots: Sequence[Slot] = (), numbers_are_fixed: bool = False,
                 captured: frozenset[int] = frozenset(), named: Names = lambda leaves: None):
        self.function, self.structure = function, structure
        self.n_arguments = len(leaves)      # of the leaves; those of slots come after them
        self.slots = [Filled(slot) for slot in slots]
        self.leaves = [*leaves, *[leaf for filled in self.slots for leaf in filled.leaves]]
        self.paths = [*paths, *[path for filled in self.slots for path in filled.paths]]
        self.new_slots: tuple[Slot, ...] = ()
        self.captured = captured            # leaves that stand for themselves: captured tensors given as arguments
        self.numbers_are_fixed = numbers_are_fixed
        self.watch = Watch()
        self.objects: list[tuple[Any, str]] = []            # arguments that are no tensors, with their labels
        self.trace = NestingTrace(name, self.watch, numbers_are_fixed)
        self.named = named([None if number in captured else leaf for number, leaf in enumerate(self.leaves)])
        if self.named is not None:
            self.trace.facts = self.trace.graph.facts = self.named.facts
            self.named.facts.number = self.trace.size_number
        self.shell_of: dict[int, Tensor] = {}               # the stand-ins of tensor arguments, by leaf

    def run(self) -> Traced | None:
        """None: new_slots must be slots, too."""
        with assuming(self.trace.facts):
            traced = self._run()
        return traced if traced is None or self.named is None else traced.of_sizes(self.named)

    def _run(self) -> Traced | None:
        bound = [self._bind(number, leaf) for number, leaf in enumerate(self.leaves)]
        args, kwargs = unflatten(self.structure, bound[:self.n_arguments])
        containers = Containers((args, kwargs))
        stand_ins = iter(bound[self.n_arguments:])
        for filled in self.slots:
            filled.fill(stand_ins)
        self.watch.add_function(self.function)              # what it can get to is remembered from here on
        for leaf, label in self.objects:
            self.watch.add_argument(leaf, label)
        modes = grad_mode.enabled, grad_mode.casting, get_default_dtype()
        looks = anomaly.state
        is_done = False
        try:
            with self.watch:
                active.tracer, listening.tell = self.trace, self.trace.fail
                try:
                    result = self.function(*args, **kwargs)
                except Exception as error:
                    if self.trace.failure in (None, error):
                        raise
                    raise self.trace.failure from error         # caught, and told as something else
                finally:
                    active.tracer = listening.tell = None
                    self._take_back_modes(*modes)
                    if self.trace.said is not None:
                        self._take_back_anomaly_mode(looks)
                self.trace.check()
                effects = self.trace.unwatched(self._effects, (), {})
                if self.new_slots:
                    return None
                changes = self._changes_of_arguments((args, kwargs), bound[:self.n_arguments], containers)
                self._check_hyperparameters()
                self._check_tapes()
                planner = Planner(self.trace, self.watch, self.leaves, self.structure, self.paths, self.captured,
                                  self.shell_of, effects, [SlotRead(f.slot, f.structure) for f in self.slots], changes,
                                  containers.is_one, self.named)
                listening.tell = self.trace.fail            # backward functions and hooks of the user's run once more
                try:
                    planner.finish(result)
                finally:
                    listening.tell = None
            self.trace.check()
            self.watch.verify(effects)
            traced = planner.traced()
            is_done = True
            self.watch.take_back(effects)
            self._release(effects)
            return traced
        finally:
            self.trace.close()
            self.watch.heap.clear_caches()
            if not is_done:
                self.watch.restore()
            for filled in self.slots:
                filled.put_back()

    def arguments_that_are_captured(self) -> frozenset[int]:
        """Tensor arguments that the code also reaches by name: `is` would take them for others."""
        known = self.watch.tensors()
        return frozenset(n for n, leaf in enumerate(self.leaves)
                         if isinstance(leaf, Tensor) and (id(leaf) in known or self.trace.has_met(leaf)))

    # -- what is left in Python's objects ---------------------------------------------------------------------------

    def _effects(self) -> list[Effect]:
        """What calls leave there. What they find there, and no slot is, becomes new_slots. Raises CaptureError for
        numbers that depend on those that were there: a counter."""
        effects = self.watch.effects()
        if any(isinstance(effect.part, Dim) for effect in effects):
            raise TraceError(f"a size with a name became a key in {self.trace.graph.name}")
        known = {filled.slot.place: filled for filled in self.slots}
        inside = {id(container) for filled in self.slots for container in filled.containers}
        for effect in effects:
            told = known.get(effect.place)
            leaves = flatten(effect.value, entries=made_entries(self.watch.heap))[0]
            if id(effect.node.object) in inside or any(id(leaf) in inside for leaf in leaves) or any(
                    isinstance(leaf, Scalar) and self._comes_from_slots(leaf) for leaf in leaves):
                raise refusal(effect.told if told is None else told.slot.told, "it was traced")
        self.new_slots = tuple([s for effect in effects for s in effect.slots() if s.place not in known])
        return effects

    def _comes_from_slots(self, number: Scalar) -> bool:
        return any(source[0] == "arg" and source[1] >= self.n_arguments for source in number.sources)

    def _release(self, effects: Sequence[Effect]) -> None:
        """Guards no more compare what comes in as arguments, and what is not looked at."""
        heap = self.watch.heap
        for filled in self.slots:
            if filled.slot.key in heap.nodes:           # else no code got there this time
                heap.release(filled.slot.key, frozenset([filled.slot.part]))
            heap.forget([*filled.containers, *self.shell_of.values()])
        for effect in effects:
            only_added = effect.how != "put"
            heap.release(effect.key, None if only_added else frozenset() if effect.is_read else frozenset([effect.part]))

    # -- going in ---------------------------------------------------------------------------------------------------

    def _bind(self, number: int, leaf: Any) -> Any:
        label = _label(self.paths[number]) if number < self.n_arguments else self.paths[number]
        if number in self.captured:
            return leaf
        if isinstance(leaf, Tensor):
            for earlier, like in enumerate(self.leaves[:number]):
                if like is leaf:
                    return self.shell_of[earlier]
            names = self.named
            with_names = () if names is None else (names.types.get(number), names.strides.get(number))
            shell = self.shell_of[number] = self.trace.argument(leaf, label, *with_names)
            return shell
        if is_runtime_number(leaf):
            return self.trace.argument_number(plain(leaf), number, label, type(settled(leaf)))
        if number >= self.n_arguments:
            return leaf
        if hasattr(type(leaf), "__next__"):
            raise TraceError(f"argument {label} of {self.trace.graph.name} is an iterator ({type(leaf).__name__}), which a "
                             "compiled function would use up only once", hint="pass a list or a tuple")
        if isinstance(leaf, np.ndarray):
            raise TraceError(f"argument {label} of {self.trace.graph.name} is a NumPy array, which would be frozen into "
                             "the compiled function", hint="pass fb.from_numpy(array)")
        if hasattr(type(leaf), "__dlpack__"):
            raise TraceError(f"argument {label} of {self.trace.graph.name} is a tensor of another framework "
                             f"({type(leaf).__module__}.{type(leaf).__name__}), which would be frozen into the compiled "
                             "function", hint="pass fb.from_numpy(array) of its memory as a NumPy array")
        if isinstance(leaf, (complex, np.complexfloating)):
            raise TraceError(f"argument {label} of {self.trace.graph.name} is the complex number {leaf!r}: numbers are "
                             "real", hint="pass its real and imaginary parts")
        self.objects.append((leaf, label))
        return leaf

    # -- coming out -------------------------------------------------------------------------------------------------

    def _changes_of_arguments(self, tree: Any, bound: Sequence[Any], containers: Containers
                              ) -> list[tuple[HandedArgument, Any]]:
        """The containers among the arguments that the function changed, and what they hold now. Raises CaptureError for
        changes that calls can't make again."""
        changes = containers.changes(lambda way: leaf_name(path_of(tree, way)))
        if changes:
            return changes
        leaves, _, structure = flatten(tree)
        if structure != self.structure or any(a is not b for a, b in zip(leaves, bound, strict=True)):
            raise CaptureError(f"{self.trace.graph.name} changed a container among its arguments while it was traced: a "
                               "compiled function can't repeat such a side effect", hint="return the new value instead")
        return []

    def _take_back_modes(self, grad_enabled: bool, casting: Casting | None, dtype: DType) -> None:
        now = grad_mode.enabled, grad_mode.casting, get_default_dtype()
        if now != (grad_enabled, casting, dtype):
            grad_mode.cast(casting)
            grad_mode.set(grad_enabled)
            set_default_dtype(dtype)
            self.trace.fail(CaptureError(
                f"{self.trace.graph.name} changed the grad mode, autocast or the default dtype and left it so: a compiled "
                "function can't repeat such a side effect",
                hint="use `with fb.set_grad_enabled(...):`, or change it outside the compiled function"))

    def _take_back_anomaly_mode(self, before: tuple[bool, bool]) -> None:
        if anomaly.state != before:
            set_detect_anomaly(*before)
            self.trace.fail(CaptureError(
                f"{self.trace.graph.name} changed the anomaly mode and left it so: a compiled function can't repeat such a "
                "side effect", hint="use `with fb.autograd.detect_anomaly():`, or call set_detect_anomaly outside"))

    def _check_tapes(self) -> None:
        """What outlives the call must not have become part of the tape of this trace."""
        shells = [(shell, self.leaves[number]) for number, shell in self.shell_of.items()]
        if self.trace.extends_tapes() or any(shell._record is not None for shell, _ in shells):
            raise UnsupportedError(f"{self.trace.graph.name} changes an argument or a captured tensor in place by "
                                   "something that requires grad, which would put it on a tape",
                                   hint="return the new value, detach() what is written, or write under no_grad()")
        if any(shell._requires_grad is not like._requires_grad for shell, like in shells):
            raise CaptureError(f"{self.trace.graph.name} changed requires_grad of an argument: a compiled function can't "
                               "repeat such a side effect", hint="use x.detach().requires_grad_() inside")

        if self.trace.hooks_changed():
            raise CaptureError(f"{self.trace.graph.name} registered or removed a gradient hook of an argument or of a "
                               "captured tensor: a compiled function can't repeat such a side effect",
                               hint="do it outside, or remove() the hook after backward() inside")

    def _check_hyperparameters(self) -> None:
        changed = self.trace.changed_number()
        if changed is not None:
            raise CaptureError(f"{changed.key!r} changed from {changed.value!r} to {changed.now()!r} while it was traced: "
                               "a compiled function can't repeat such a side effect",
                               hint="step the scheduler outside the compiled function")


class Filled:
    """A slot while a function is traced: it holds what stands for the leaves of what is there."""

    def __init__(self, slot: Slot):
        self.slot, self.value = slot, slot.get()
        self.leaves, self.paths, self.structure = flatten(self.value, slot.name)
        self.containers: list[Any] = []     # that stand for others

    def fill(self, leaves: Iterator[Any]) -> None:
        """Put the next of these there."""
        made = unflatten(self.structure, list(islice(leaves, len(self.leaves))))
        flatten(made, entries=self._noted)
        self.slot.put(made)

    def _noted(self, tree: Any) -> Any:
        entries = entries_of(tree)
        if entries is not None and not (isinstance(tree, tuple)):
            self.containers.append(tree)
        return entries

    def put_back(self) -> None:
        """The slot holds what it held."""
        self.slot.put(self.value)


def _label(path: str) -> str:
    """`[0][1]['x']` (args or kwargs, then position) -> a short name."""
    return path.replace("[0]", "arg", 1) if path.startswith("[0]") else path.replace("[1]", "", 1)


__all__ = ["Binder", "trace_call"]
