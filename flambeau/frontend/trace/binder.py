"""One call -> a Traced graph: binds arguments, runs the function under trace, and collects what it did."""
from __future__ import annotations

import copy
import types
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from flambeau.errors import CaptureError, FlambeauError, TraceError, UnsupportedError, listening
from flambeau.frontend.active import active
from flambeau.frontend.pytree import Structure, flatten, unflatten, with_keys
from flambeau.frontend.scalars import Scalar, forced, is_runtime_number, plain, settled
from flambeau.frontend.tape.autograd import grad_mode, origin_of
from flambeau.frontend.tensor.promotion import get_default_dtype, set_default_dtype
from flambeau.frontend.tensor.storage import Storage
from flambeau.frontend.tensor.tensor import Tensor
from flambeau.frontend.trace.gradients import Current, GradWrite, Home, ReadGrad, home_of
from flambeau.frontend.trace.guards.heap import Heap
from flambeau.frontend.trace.guards.values import is_same, is_value
from flambeau.frontend.trace.guards.watch import Watch
from flambeau.frontend.trace.segments import Differentiable, differentiate
from flambeau.frontend.trace.trace import Outside, ScalarInput, Trace
from flambeau.ir.dtypes import DType
from flambeau.ir.graph import Graph, Node, Value, inline


@dataclass
class OutputSpec:
    """One leaf of the result. kind: "out" (output number `index`), "number" (likewise, as a Python number), "arg"
    (the caller's leaf `index`), "repeat" (the result's leaf `index` again), "grad" (the .grad that `value`, a GradWrite
    or ReadGrad, is about), "arg grad" (that of leaf `index`), "object" (`value` as it is: captured tensors, constants),
    "copy" (a copy of `value`)."""

    kind: str
    index: int = -1
    value: Any = None
    requires_grad: bool = False
    is_integer: bool = False


@dataclass
class TracedCall:
    """What tracing gives: the graph, and how its inputs, outputs and effects tie to Python."""

    graph: Graph
    arg_leaves: list[int]                   # leaf number of each "arg" input
    states: list[Tensor | Home | Current]   # what each "state" input is
    scalars: list[ScalarInput]
    structure: Structure | None             # of the result
    outputs: list[OutputSpec]
    written_args: list[int]                 # leaves changed in place
    written_states: list[int]               # state numbers changed in place
    grads: list[GradWrite]
    arg_grads: list[tuple[int, int, bool]]
    """(leaf, output number or -1 for None, add to what is there): gradients left on arguments"""
    unset_grads: list[int]                  # leaves whose .grad must be None
    arg_hooks: list[tuple[int, list[Any]]]  # leaves whose gradient hooks were traced, and those
    result_grads: list[tuple[int, int]]     # (position, output number): .grad of tensors made inside
    retained: list[int]                     # positions of results that retain their gradient
    laid_out: list[int]                     # leaves whose strides decide what a write through a view changes
    read_grads: list[ReadGrad]
    outside: list[Outside]                  # every tensor from outside, gradients aside
    flags: list[tuple[Tensor, bool]]        # requires_grad of tensors from outside, as the function leaves it
    captured: frozenset[int]                # leaves that are captured tensors
    heap: Heap                              # the Python state that the trace depends on
    differentiable: Differentiable | None = None
    autodiff: Graph | None = None


def trace_call(function: Callable[..., Any], name: str, leaves: Sequence[Any], paths: Sequence[str],
               structure: Structure | None) -> TracedCall:
    """Trace `function` on arguments that were flattened to `leaves`."""
    binder = Binder(function, name, leaves, paths, structure)
    try:
        traced = binder.run()
    except FlambeauError:
        raise
    except Exception as error:              # perhaps of code that takes nothing but real numbers: json, decimal
        if not binder.trace.scalars:
            raise
        binder = Binder(function, name, leaves, paths, structure, numbers_are_fixed=True)
        try:
            traced = binder.run()
        except Exception:                   # or of none, or of code that takes nothing but runtime numbers
            raise error from None
    captured = binder.arguments_that_are_captured()
    if captured:
        binder = Binder(function, name, leaves, paths, structure, binder.trace.numbers_are_fixed, captured)
        traced = binder.run()
    return traced


class Binder:
    """Runs `function` once under a Trace."""

    def __init__(self, function: Callable[..., Any], name: str, leaves: Sequence[Any], paths: Sequence[str],
                 structure: Structure | None, numbers_are_fixed: bool = False, captured: frozenset[int] = frozenset()):
        self.function, self.leaves, self.paths, self.structure = function, leaves, paths, structure
        self.captured = captured            # leaves that stand for themselves: captured tensors given as arguments
        self.watch = Watch(function)
        self.trace = Trace(name, self.watch, numbers_are_fixed)
        self.shell_of: dict[int, Tensor] = {}
        self.input_of: dict[Storage, Value] = {}
        self.read_of: dict[int, ReadGrad] = {}

    def run(self) -> TracedCall:
        bound = [self._bind(number, leaf) for number, leaf in enumerate(self.leaves)]
        args, kwargs = unflatten(self.structure, bound)
        modes = grad_mode.enabled, get_default_dtype()
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
                self._check_failure()
                self._check_arguments((args, kwargs), bound)
                self._check_hyperparameters()
                self._check_tapes()
                traced = self._finish(result)
            self._check_failure()
            self.watch.verify()
            is_done = True
            return traced
        finally:
            self.trace.closed = True
            self.watch.heap.clear_caches()
            for outside in self.trace.outside.values():
                outside.restore_tape(self.trace)
            if not is_done:
                self.watch.restore()

    def arguments_that_are_captured(self) -> frozenset[int]:
        """Tensor arguments that the code also reaches by name: `is` would take them for others."""
        met = self.watch.tensors() | self.trace.outside.keys()
        return frozenset(n for n, leaf in enumerate(self.leaves) if isinstance(leaf, Tensor) and id(leaf) in met)

    # -- going in ---------------------------------------------------------------------------------------------------

    def _bind(self, number: int, leaf: Any) -> Any:
        label = _label(self.paths[number])
        if number in self.captured:
            return leaf
        if isinstance(leaf, Tensor):
            for earlier, like in enumerate(self.leaves[:number]):
                if like is leaf:
                    return self.shell_of[earlier]
            shell = self.trace.argument(leaf, label)
            self.shell_of[number] = shell
            self.input_of[shell._storage] = self.trace.current_value(shell._storage)
            return shell
        if is_runtime_number(leaf):
            return self.trace.argument_number(plain(leaf), number, label, type(settled(leaf)))
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
        self.watch.add_argument(leaf, label)
        return leaf

    # -- coming out -------------------------------------------------------------------------------------------------

    def _check_arguments(self, tree: Any, bound: Sequence[Any]) -> None:
        """A container argument that the function changed can't be changed again on later calls."""
        leaves, _, structure = flatten(tree)
        if structure != self.structure or any(a is not b for a, b in zip(leaves, bound, strict=True)):
            raise CaptureError(f"{self.trace.graph.name} changed a container among its arguments while it was traced: a "
                               "compiled function can't repeat such a side effect", hint="return the new value instead")

    def _check_failure(self) -> None:
        """An error of the trace stays one, also if user code caught it."""
        if self.trace.failure is not None:
            raise self.trace.failure

    def _take_back_modes(self, grad_enabled: bool, dtype: DType) -> None:
        now = grad_mode.enabled, get_default_dtype()
        if now != (grad_enabled, dtype):
            grad_mode.enabled = grad_enabled
            set_default_dtype(dtype)
            self.trace.fail(CaptureError(
                f"{self.trace.graph.name} changed the grad mode or the default dtype and left it so: a compiled function "
                "can't repeat such a side effect",
                hint="use `with fb.set_grad_enabled(...):`, or change it outside the compiled function"))

    def _check_tapes(self) -> None:
        """What outlives the call must not have become part of the tape of this trace."""
        shells = [(shell, self.leaves[number]) for number, shell in self.shell_of.items()]
        if any(o.tensor._record is not None and o.tensor._record.tracer is self.trace
               for o in self.trace.outside.values()) or any(shell._record is not None for shell, _ in shells):
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
        for scalar in self.trace.scalars.values():
            if scalar.owner is not None and not is_same(scalar.value, plain(scalar.owner[scalar.key])):
                raise CaptureError(f"{scalar.key!r} changed from {scalar.value!r} to {scalar.owner[scalar.key]!r} while it "
                                   "was traced: a compiled function can't repeat such a side effect",
                                   hint="step the scheduler outside the compiled function")

    def _finish(self, result: Any) -> TracedCall:
        trace, graph = self.trace, self.trace.graph
        leaves, _, structure = flatten(result)
        structure = with_keys(structure, forced)
        grads, homes = self._grad_writes()
        specs, values = self._outputs(leaves, grads)
        differentiable = None
        wants_grad = {n: leaf for n, leaf in enumerate(leaves) if isinstance(leaf, Tensor) and specs[n].kind == "out"
                      and leaf._requires_grad}
        for n in wants_grad:
            specs[n].requires_grad = True
        arg_grads, result_grads = self._arg_grads(values), self._result_grads(leaves, specs, values)
        graph.outputs = values
        written_args, written_states = self._writes()
        autodiff = _prefix(graph, trace.autodiff_mark) if trace.autodiff_mark else None
        if wants_grad:
            shown = {s.index: leaf._storage for s, leaf in zip(specs, leaves, strict=True) if s.kind == "out"}
            differentiable = differentiate(trace, wants_grad, self.shell_of, shown)
            if any(segment.graph is not None for segment in differentiable.segments):
                autodiff = differentiable.joint
        arg_leaves = list(self.shell_of)
        return TracedCall(
            graph, arg_leaves, self._states(homes), list(trace.scalars.values()), structure,
            specs, written_args, written_states, grads, arg_grads,
            [n for n, shell in self.shell_of.items() if id(origin_of(shell)) in trace.unset_grads],
            [(n, hooks_of(self.leaves[n])) for n in arg_leaves if trace.autodiff_mark and self.leaves[n]._requires_grad],
            result_grads,
            [n for n in wants_grad if leaves[n]._retains_grad],
            [n for n, shell in self.shell_of.items() if n in written_args
             or shell._storage in trace.asked_strides or trace.has_writes and not trace.is_row_major(shell._storage)],
            self._read_grads(), self._outside(),
            [(o.tensor, o.tensor._requires_grad) for o in trace.outside.values()
             if o.tensor._requires_grad is not o.requires_grad
             and (o.tensor._record is None or o.tensor._record.tracer is not trace)],
            self.captured, self.watch.heap, differentiable, autodiff)

    def _states(self, homes: dict[int, Home]) -> list[Tensor | Home | Current]:
        """What each state is: gradients by the leaf they belong to, everything else as it is."""
        current = {id(grad): Current(t) for t, grad in self.trace.read_grads.values() if grad is not None}
        made: list[Tensor | Home | Current] = []
        for captured in self.trace.captured.values():
            key = id(captured.tensor)
            made.append(homes.get(key) or current.get(key) or captured.tensor)
        return made

    def _outputs(self, leaves: Sequence[Any], grads: Sequence[GradWrite]) -> tuple[list[OutputSpec], list[Value]]:
        trace = self.trace
        reads = zip(self._read_grads(), trace.read_grads.values(), strict=True)
        grad_of: dict[int, Any] = {id(grad): read for read, (_, grad) in reads if grad is not None}
        for write in grads:
            if isinstance(write.value, Home):
                grad_of[id(trace.get_grad(write.leaf))] = write
        arg_grad_of = {id(trace._grads[id(like)][1]): n for n, like in self._arguments() if id(like) in trace._grads}
        specs: list[OutputSpec] = []
        values: list[Value] = []
        seen: dict[int, int] = {}
        leaf_of_shell = {id(shell): number for number, shell in self.shell_of.items()}
        for leaf in leaves:
            if isinstance(leaf, Scalar):
                specs.append(OutputSpec("number", len(values), is_integer=leaf.is_whole))
                values.append(trace.value_of(leaf.tensor))
            elif not isinstance(leaf, Tensor):
                specs.append(self._other_output(leaf))
            elif id(leaf) in grad_of:
                specs.append(OutputSpec("grad", value=grad_of[id(leaf)]))
            elif id(leaf) in arg_grad_of:
                specs.append(OutputSpec("arg grad", arg_grad_of[id(leaf)]))
            elif leaf._storage.trace is None and id(leaf) not in trace.made:
                specs.append(OutputSpec("object", value=leaf))
            elif id(leaf) in leaf_of_shell and leaf._record is None:
                specs.append(OutputSpec("arg", leaf_of_shell[id(leaf)]))
            elif id(leaf) in seen:
                specs.append(OutputSpec("repeat", seen[id(leaf)]))
            else:
                seen[id(leaf)] = len(specs)
                specs.append(OutputSpec("out", len(values)))
                values.append(trace.value_of(leaf))
        return specs, values

    def _other_output(self, leaf: Any) -> OutputSpec:
        """A result that is no tensor: a fixed value, an object from outside, or a simple container made anew at each
        call."""
        name, kind = self.trace.graph.name, type(leaf)
        if hasattr(kind, "__next__"):
            raise TraceError(f"{name} returned an iterator ({kind.__name__}), which a compiled function could give only "
                             "once", hint="return a list or a tuple")
        if is_value(leaf) or isinstance(leaf, (type, types.ModuleType)) or self.watch.knows(leaf) \
                or any(leaf is given for given in self.leaves) or isinstance(leaf, slice) and _holds_values(
                    (leaf.start, leaf.stop, leaf.step)):
            return OutputSpec("object", value=leaf)
        if isinstance(leaf, (set, frozenset, deque, bytearray, np.ndarray)) and _holds_values(leaf):
            return OutputSpec("copy", value=copy.copy(leaf))
        raise TraceError(f"{name} returned a {kind.__name__} that it had made: a compiled function could only give the "
                         "same one at every call", hint="return tensors and numbers in tuples, lists, dicts or dataclasses")

    def _arguments(self) -> list[tuple[int, Tensor]]:
        """What the arguments are on the tape, each once, with their (first) leaf number."""
        first: dict[int, tuple[int, Tensor]] = {}
        for number, shell in self.shell_of.items():
            first.setdefault(id(origin_of(shell)), (number, origin_of(shell)))
        return list(first.values())

    def _grad_writes(self) -> tuple[list[GradWrite], dict[int, Home]]:
        """Gradients left on captured tensors, and the homes of new ones by the id of what stands for their memory."""
        trace = self.trace
        writes: list[GradWrite] = []
        homes: dict[int, Home] = {}
        home_of_grad: dict[int, Home] = {}
        reads = {id(grad): read for read, (_, grad) in zip(self._read_grads(), trace.read_grads.values(), strict=True)}
        leaf_of_shell = {id(shell): number for number, shell in self.shell_of.items()}
        for leaf, grad in trace.grads():
            if leaf._storage.trace is not None or id(leaf) in trace.argument_of:
                continue
            if grad is None or grad._storage.trace is None:
                writes.append(GradWrite(leaf, grad if id(grad) not in reads else reads[id(grad)]))
            elif grad._storage in self.input_of:
                if id(grad) not in leaf_of_shell:
                    raise UnsupportedError(f"{trace.graph.name} sets .grad to a part of an argument",
                                           hint="set it to a clone(), or pass the part as an argument of its own")
                writes.append(GradWrite(leaf, leaf_of_shell[id(grad)]))
            else:
                home = home_of_grad.get(id(grad))
                if home is None:
                    home = home_of_grad[id(grad)] = home_of(leaf)
                    memory = Tensor._make(Storage(), grad._type)
                    homes[id(memory)] = home
                    label = trace.name_of.get(id(leaf))
                    trace.name_of[id(memory)] = f"{label}.grad" if label else "grad"
                    value = trace.value_of(grad)
                    trace.capture(memory)
                    trace.set_value(memory, value)
                writes.append(GradWrite(leaf, home))
        return writes, homes

    def _read_grads(self) -> list[ReadGrad]:
        """What is known by now of the gradients that were read."""
        number_of = {storage: n for n, storage in enumerate(self.trace.captured)}
        for key, (leaf, grad) in self.trace.read_grads.items():
            read = self.read_of.setdefault(key, ReadGrad(leaf))
            if grad is not None:
                read.type, read.state = grad._type, number_of.get(grad._storage, -1)
                read.view = grad if grad._base is not None else None
        return list(self.read_of.values())

    def _outside(self) -> list[Outside]:
        gradients = {id(grad) for _, grad in self.trace.read_grads.values()}
        return [o for o in self.trace.outside.values() if id(o.tensor) not in gradients]

    def _arg_grads(self, values: list[Value]) -> list[tuple[int, int, bool]]:
        found = []
        grads = {id(t): grad for t, grad in self.trace.grads()}
        for number, like in self._arguments():
            if id(like) not in grads:
                continue
            grad = grads[id(like)]
            found.append((number, -1 if grad is None else len(values), id(like) in self.trace.added_grads))
            if grad is not None:
                values.append(self.trace.value_of(grad))
        return found

    def _result_grads(self, leaves: Sequence[Any], specs: Sequence[OutputSpec],
                      values: list[Value]) -> list[tuple[int, int]]:
        found = []
        grads = {id(t): grad for t, grad in self.trace.grads()}
        for position, (leaf, spec) in enumerate(zip(leaves, specs, strict=True)):
            grad = grads.get(id(leaf))
            if spec.kind == "out" and grad is not None:
                found.append((position, len(values)))
                values.append(self.trace.value_of(grad))
        return found

    def _writes(self) -> tuple[list[int], list[int]]:
        """Fill graph.writes with every input whose storage has another value now."""
        trace = self.trace
        written_args, written_states = [], []
        for number, shell in self.shell_of.items():
            before, now = self.input_of[shell._storage], trace.current_value(shell._storage)
            if now is not before:
                trace.graph.writes[before] = now
                written_args.append(number)
        for number, captured in enumerate(trace.captured.values()):
            now = trace.current_value(captured.tensor._storage)
            if now is not captured.input:
                trace.graph.writes[captured.input] = now
                written_states.append(number)
        return written_args, written_states


def _prefix(graph: Graph, mark: int) -> Graph:
    """The graph as it was when the last backward had been traced: its nodes, and as outputs what was read later."""
    early = [node for node in graph.toposort() if node.seq < mark or node.op.name == "input"]
    inside: set[Node] = set(early)
    prefix = Graph(name=graph.name)
    new_of = inline(graph, prefix, {}, nodes=early)
    prefix.inputs = [new_of[v] for v in graph.inputs]
    read_later = {v: None for node in graph.toposort() if node not in inside for v in node.operands if v.node in inside}
    read_later.update({v: None for v in graph.roots() if v.node in inside})
    prefix.outputs = [new_of[v] for v in read_later if v.node.op.name != "input"]
    return prefix


def hooks_of(leaf: Tensor) -> list[Any]:
    """The gradient hooks of a leaf, in order."""
    return list((leaf._hooks or {}).values())


def _holds_values(items: Iterable[Any]) -> bool:
    return all(is_value(item) and not isinstance(item, Scalar) for item in items)


def _label(path: str) -> str:
    """`[0][1]['x']` (args or kwargs, then position) -> a short name."""
    return path.replace("[0]", "arg", 1) if path.startswith("[0]") else path.replace("[1]", "", 1)


__all__ = ["Binder", "OutputSpec", "TracedCall"]
