"""A finished trace and the function's result -> the graph's outputs and writes, and the plan of its calls.

Outputs come in this order: those of the result, gradients left on arguments, gradients of tensors in the result, and
whatever the backward reads that would be gone.
"""
from __future__ import annotations

import copy
import dataclasses
import types
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from flambeau import config
from flambeau.errors import TraceError, UnsupportedError
from flambeau.frontend.pytree import Structure, flatten, with_keys
from flambeau.frontend.scalars import Scalar, forced, is_runtime_number, settled
from flambeau.frontend.tape.autograd import grad_mode, origin_of
from flambeau.frontend.tensor.promotion import get_default_dtype
from flambeau.frontend.tensor.strides import strides_of
from flambeau.frontend.tensor.tensor import Tensor
from flambeau.frontend.trace.call_plan import (
    Again,
    Argument,
    ArgumentGradient,
    CallPlan,
    Copied,
    Fixed,
    Flag,
    Found,
    Given,
    GradientOf,
    GradientRead,
    GradientWrite,
    Leaf,
    LeftGradient,
    Made,
    MadeNumber,
    Number,
    Result,
    SlotRead,
    State,
    Traced,
    hooks_of,
    place_on_tape,
)
from flambeau.frontend.trace.containers import HandedArgument, HandedMemory, memory_of
from flambeau.frontend.trace.gradients import Current, Home, home_of
from flambeau.frontend.trace.guards.effects import Effect, Handed, made_entries, refusal
from flambeau.frontend.trace.guards.values import MISSING, is_value
from flambeau.frontend.trace.guards.watch import Watch
from flambeau.frontend.trace.outside import Outside
from flambeau.frontend.trace.regions import NestingTrace
from flambeau.frontend.trace.segments import Differentiable, Segment, differentiate
from flambeau.frontend.trace.sizes import NamedSizes
from flambeau.ir.dims import Dim
from flambeau.ir.graph import Graph, Value
from flambeau.ir.ops.views import row_major


class Planner:
    """Of one trace. leaves: of the arguments, `shells` their stand-ins by number, `captured` those that had none. effects:
    what it left in Python's objects; slots: what was there before, whose leaves are the last of `leaves`; changes: what it
    left in containers among the arguments, which `is_argument` knows. named: names of sizes."""

    def __init__(self, trace: NestingTrace, watch: Watch, leaves: Sequence[Any], structure: Structure | None,
                 paths: Sequence[str], captured: frozenset[int], shells: Mapping[int, Tensor],
                 effects: Sequence[Effect], slots: Sequence[SlotRead], changes: Sequence[tuple[HandedArgument, Any]],
                 is_argument: Callable[[Any], bool], named: NamedSizes | None):
        self.effects, self.slots, self.changes, self.is_argument = effects, slots, changes, is_argument
        self.trace, self.watch, self.leaves, self.structure = trace, watch, leaves, structure
        self.paths, self.captured, self.shells = paths, captured, shells
        self.types, self.strides = ({}, {}) if named is None else (named.types, named.strides)
        self.leaf_of_shell = {id(shell): number for number, shell in shells.items()}
        self.read_of = {id(grad): Found(n) for n, (_, grad) in enumerate(trace.reads_grads()) if grad is not None}
        self.homes: dict[int, Home] = {}            # by the id of what stands for their memory
        self.values: list[Value] = []               # the outputs
        self.left: dict[int, LeftGradient] = {}     # gradients of arguments, by leaf
        self.segments: tuple[Segment, ...] = ()
        self.joint: Graph | None = None

    def finish(self, result: Any) -> None:
        """Give the graph its outputs and writes. Raises TraceError and UnsupportedError for results and gradients that
        calls can't give."""
        trace, graph = self.trace, self.trace.graph
        parts, _, structure = flatten(result)
        if self.effects or self.changes or trace.moved:
            parts, structure = self._with_effects(parts, structure)
        self.result_structure = with_keys(structure, lambda key: int(key) if type(key) is Dim else forced(key))
        self.gradients = self._gradients()
        results = self._results(parts)
        self._leave_gradients()
        self.results = self._with_gradients(parts, results)
        graph.outputs = self.values
        self.written = trace.write_inputs()
        differentiable = trace.unwatched(self._differentiable, (parts,), {})
        if differentiable is not None:
            self.segments = differentiable.segments
            if any(segment.graph is not None for segment in self.segments):
                self.joint = differentiable.joint

    def traced(self) -> Traced:
        """Requires: finish()."""
        trace, heap = self.trace, self.watch.heap
        read = {id(grad) for _, grad in trace.reads_grads()}
        outside = tuple([o for o in trace.outside.values() if id(o.tensor) not in read])
        numbers = tuple([Number(s.owner, s.key, s.value, s.guarded) for s in trace.numbers()])
        leaves, distinct = self._leaves({n.key for n in numbers if n.owner is None and n.is_guarded})
        plan = CallPlan(
            name=trace.graph.name, structure=self.structure, leaves=leaves, distinct=distinct,
            mode=grad_mode.mode, default_dtype=get_default_dtype(),
            num_threads=config.num_threads if heap.scope.names("get_num_threads") else None, outside=outside, heap=heap,
            arguments=self._arguments(outside), states=self._states(), numbers=numbers,
            outputs=tuple([value.type for value in trace.graph.outputs]), reads=self._reads(), gradients=self.gradients,
            flags=tuple([Flag(tensor, flag) for tensor, flag in trace.flags()]), results=self.results,
            result_structure=self.result_structure, segments=self.segments,
            slots=tuple(self.slots), anomaly_mode=trace.asked_anomaly, looks=trace.looks(),
            handed=(*[Handed(effect.node.bare(), effect.part, effect.how) for effect in self.effects],
                    *[handed for handed, _ in self.changes], *[HandedMemory(t) for t, _ in trace.moved.values()]))
        return Traced(trace.graph, plan, self.joint, trace.autodiff_mark)

    def _with_effects(self, parts: list[Any], structure: Structure | None) -> tuple[list[Any], Structure]:
        """The result, and after it what is left in Python's objects."""
        structures, shared = [structure], set[int]()
        stays = made_entries(self.watch.heap)

        def entries(tree: Any) -> Any:
            found = stays(tree)
            if found is not None and isinstance(tree, (list, dict)):
                if id(tree) in shared or self.is_argument(tree):
                    raise refusal(f"one {type(tree).__name__} was put in two places", "it was traced")
                shared.add(id(tree))
            return found

        for value in (*[effect.value for effect in self.effects], *[contents for _, contents in self.changes],
                      *[memory_of(t) for t, _ in self.trace.moved.values()]):
            leaves, _, of_value = flatten(value, entries=entries)
            parts, structures = [*parts, *leaves], [*structures, of_value]
        return parts, Structure(tuple, (), tuple(structures))

    # -- what goes in -----------------------------------------------------------------------------------------------

    def _leaves(self, by_value: set[Any]) -> tuple[tuple[Leaf, ...], tuple[tuple[int, ...], ...]]:
        """What each leaf must be, and which of one type must be different tensors."""
        first_of: dict[int, int] = {}
        alike: dict[Any, list[int]] = {}
        made = []
        for number, leaf in enumerate(self.leaves):
            repeats = None
            if isinstance(leaf, Tensor):
                first = first_of.setdefault(id(leaf), number)
                if first != number:
                    repeats = first
                else:
                    kind = (leaf.dtype, leaf.ndim) if self.types else leaf._type
                    alike.setdefault((kind, leaf._requires_grad), []).append(number)
            found = _leaf(leaf, leaf_name(self.paths[number]), number in by_value, number in self.captured, repeats)
            made.append(found if number not in self.types else dataclasses.replace(found, expected=self.types[number]))
        return tuple(made), tuple([tuple(group) for group in alike.values() if len(group) > 1])

    def _arguments(self, outside: Sequence[Outside]) -> tuple[Argument, ...]:
        trace, made = self.trace, []
        has_hooks = {n for n in self.shells if trace.autodiff_mark and self.leaves[n]._requires_grad}
        no_grad = {n for n, shell in self.shells.items() if trace.needs_no_grad(shell)}
        has_tape = has_hooks or self.left or no_grad or self.segments      # gradients reach arguments
        known = {id(o.tensor) for o in outside}
        for number, shell in self.shells.items():
            leaf = self.leaves[number]
            is_written = trace.input_of(shell) in self.written
            strides: Any = None             # by name, where sizes have names
            if is_written or trace.depends_on_layout(shell):
                strides = self.strides.get(number) or (
                    row_major(shell._type.static_shape) if number in self.types else strides_of(leaf))
            made.append(Argument(
                number, is_written, strides,
                hooks_of(leaf) if number in has_hooks else None, number in no_grad,
                place_on_tape(leaf, known) if has_tape and leaf._requires_grad else None, self.left.get(number)))
        return tuple(made)

    def _states(self) -> tuple[State, ...]:
        """What each state is: gradients by the leaf they belong to, everything else as it is."""
        current = {id(grad): Current(t) for t, grad in self.trace.reads_grads() if grad is not None}
        made = []
        met = {id(outside.tensor) for outside in self.trace.outside.values()}
        for storage, captured in self.trace.captured.items():
            tensor = captured.tensor
            memory = self.homes.get(id(tensor)) or current.get(id(tensor)) or tensor
            if memory is tensor and id(tensor) not in met:      # a view was read, which stays where it is if this one moves
                memory = Tensor._make(storage, captured.input.type)
            made.append(State(memory, captured.input.type, captured.input in self.written))
        return tuple(made)

    def _reads(self) -> tuple[GradientRead, ...]:
        number_of = {storage: n for n, storage in enumerate(self.trace.captured)}
        return tuple([
            GradientRead(leaf, None, None, None) if grad is None else
            GradientRead(leaf, grad._type, number_of.get(grad._storage), grad if grad._base is not None else None)
            for leaf, grad in self.trace.reads_grads()])

    # -- gradients --------------------------------------------------------------------------------------------------

    def _gradients(self) -> tuple[GradientWrite, ...]:
        """Gradients left on captured tensors. New ones become states."""
        trace = self.trace
        writes = []
        home_of_grad: dict[int, Home] = {}
        for leaf, grad in trace.grads():
            if leaf._storage.trace is not None and id(leaf) not in trace.moved or trace.is_argument(leaf):
                continue
            if grad is None or grad._storage.trace is None:
                writes.append(GradientWrite(leaf, self.read_of.get(id(grad), grad)))
            elif trace.input_of(grad) is not None:
                if id(grad) not in self.leaf_of_shell:
                    raise UnsupportedError(f"{trace.graph.name} sets .grad to a part of an argument",
                                           hint="set it to a clone(), or pass the part as an argument of its own")
                writes.append(GradientWrite(leaf, Given(self.leaf_of_shell[id(grad)])))
            else:
                home = home_of_grad.get(id(grad))
                if home is None:
                    home = home_of_grad[id(grad)] = home_of(leaf)
                    self.homes[id(trace.capture_gradient(leaf, grad))] = home
                writes.append(GradientWrite(leaf, home))
        return tuple(writes)

    def _arguments_on_tape(self) -> list[tuple[int, Tensor]]:
        """What the arguments are on the tape, each once, with their (first) leaf number."""
        first: dict[int, tuple[int, Tensor]] = {}
        for number, shell in self.shells.items():
            first.setdefault(id(origin_of(shell)), (number, origin_of(shell)))
        return list(first.values())

    def _leave_gradients(self) -> None:
        """Gradients of arguments become outputs."""
        grads = {id(t): grad for t, grad in self.trace.grads()}
        for number, like in self._arguments_on_tape():
            if id(like) in grads:
                grad = grads[id(like)]
                output = None if grad is None else self._output(grad)
                self.left[number] = LeftGradient(output, self.trace.adds_to_grad(like))

    def _with_gradients(self, parts: Sequence[Any], results: Sequence[Result]) -> tuple[Result, ...]:
        """Gradients of tensors that the function made become outputs."""
        grads = {id(t): grad for t, grad in self.trace.grads()}
        found: list[Result] = []
        for part, result in zip(parts, results, strict=True):
            grad = grads.get(id(part))
            if isinstance(result, Made) and grad is not None:
                result = dataclasses.replace(result, gradient=self._output(grad))
            found.append(result)
        return tuple(found)

    def _differentiable(self, parts: Sequence[Any]) -> Differentiable | None:
        """The backward of the results that require grad; the graph gets what it reads as further outputs."""
        made = [(n, part, result) for n, (part, result) in enumerate(zip(parts, self.results, strict=True))
                if isinstance(result, Made)]
        roots = {n: part for n, part, result in made if result.requires_grad}
        shown = {result.output: (n, part._storage) for n, part, result in made}
        return differentiate(self.trace, roots, self.shells, shown) if roots else None

    # -- what comes out ---------------------------------------------------------------------------------------------

    def _output(self, tensor: Tensor) -> int:
        """The number of a new output."""
        self.values.append(self.trace.value_of(tensor))
        return len(self.values) - 1

    def _results(self, parts: Sequence[Any]) -> list[Result]:
        trace = self.trace
        grads = {id(t): grad for t, grad in trace.grads()}
        gradient_of: dict[int, Result] = {id(grads[id(like)]): ArgumentGradient(number)
                                          for number, like in self._arguments_on_tape() if id(like) in grads}
        gradient_of.update(self.read_of)
        gradient_of.update({id(grads[id(write.leaf)]): GradientOf(write.leaf) for write in self.gradients
                            if isinstance(write.value, Home)})
        results: list[Result] = []
        seen: dict[int, Again] = {}
        for part in parts:
            if isinstance(part, Scalar):
                results.append(MadeNumber(self._output(part.tensor), part.tensor._type, part.is_whole))
            elif not isinstance(part, Tensor):
                results.append(self._other(part))
            elif id(part) in gradient_of:
                results.append(gradient_of[id(part)])
            elif trace.was_there(part):
                results.append(Fixed(part))
            elif id(part) in self.leaf_of_shell and part._record is None:
                results.append(Given(self.leaf_of_shell[id(part)]))
            elif id(part) in seen:
                results.append(seen[id(part)])
            else:
                seen[id(part)] = Again(len(results))
                output = self._output(part)
                results.append(Made(output, self.values[output].type, part._requires_grad,
                                    part._requires_grad and part._retains_grad, None,
                                    Tensor if getattr(part, "__dict__", None) else type(part)))
        return results

    def _other(self, part: Any) -> Result:
        """A result that is no tensor: a fixed value, an object from outside, or a simple container made anew at each
        call."""
        name, kind = self.trace.graph.name, type(part)
        if hasattr(kind, "__next__"):
            raise TraceError(f"{name} returned an iterator ({kind.__name__}), which a compiled function could give only "
                             "once", hint="return a list or a tuple")
        if is_value(part) or part is MISSING or isinstance(part, (Dim, type, types.ModuleType)) or self.watch.knows(part) \
                or any(part is given for given in self.leaves) or isinstance(part, slice) and _holds_values(
                    (part.start, part.stop, part.step)):
            return Fixed(part)
        if isinstance(part, (set, frozenset, deque, bytearray, np.ndarray)) and _holds_values(part):
            return Copied(copy.copy(part))
        raise TraceError(f"{name} returned a {kind.__name__} that it had made: a compiled function could only give the "
                         "same one at every call", hint="return tensors and numbers in tuples, lists, dicts or dataclasses")


def _leaf(leaf: Any, name: str, by_value: bool, is_captured: bool, repeats: int | None) -> Leaf:
    if is_captured:
        return Leaf(name, "object", type(leaf), leaf, repeats=repeats)
    if isinstance(leaf, Tensor):
        return Leaf(name, "tensor", type(leaf), leaf._type, leaf._requires_grad, leaf._record is None, repeats)
    number = settled(leaf)
    if is_runtime_number(leaf) and not by_value:
        return Leaf(name, "number", type(leaf), type(number))
    if isinstance(number, (int, float, str, bytes, type(None), complex, np.generic, frozenset)):
        return Leaf(name, "value", type(leaf), number)
    return Leaf(name, "object", type(leaf), leaf)


def leaf_name(path: str) -> str:
    """`[0][1].x` -> `argument 1.x`; `[1]['key']` -> `argument 'key'`."""
    if path.startswith("[0]["):
        position, _, rest = path[4:].partition("]")
        return f"argument {position}{rest}"
    return f"argument {path[4:-1]}" if path.startswith("[1][") else path or "argument"


def _holds_values(items: Iterable[Any]) -> bool:
    return all(is_value(item) and not isinstance(item, Scalar) for item in items)


__all__ = ["Planner", "leaf_name"]
