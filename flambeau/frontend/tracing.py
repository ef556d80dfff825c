"""One call -> a Traced graph: binds arguments, runs the function under trace, and collects what it did."""
from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from flambeau.errors import CaptureError, TraceError, UnsupportedError
from flambeau.frontend.active import active
from flambeau.frontend.autograd import grad_mode
from flambeau.frontend.guards import Watch
from flambeau.frontend.heap import Heap
from flambeau.frontend.promotion import get_default_dtype, set_default_dtype
from flambeau.frontend.pytree import Structure, flatten, unflatten
from flambeau.frontend.scalars import Scalar, is_runtime_number, plain, settled
from flambeau.frontend.segments import Differentiable, differentiate
from flambeau.frontend.storage import Storage
from flambeau.frontend.tensor import Tensor
from flambeau.frontend.trace import Outside, ScalarInput, Trace
from flambeau.ir.dtypes import DType
from flambeau.ir.graph import Graph, Node, Value, inline


@dataclass
class OutputSpec:
    """One leaf of the result. kind: "out" (output number `index`), "number" (likewise, as a Python number), "arg"
    (the caller's leaf `index`), "object" (`value` as it is: captured tensors, constants)."""

    kind: str
    index: int = -1
    value: Any = None
    requires_grad: bool = False
    is_integer: bool = False


@dataclass
class GradWrite:
    """After a call `tensor.grad` is `grad`: None, or a tensor that the graph has written."""

    tensor: Tensor
    grad: Tensor | None


@dataclass
class ReadGrad:
    """`tensor.grad` was read when it was `grad`, state number `state` (-1: only looked at)."""

    tensor: Tensor
    grad: Tensor | None
    state: int


@dataclass
class TracedCall:
    """What tracing gives: the graph, and how its inputs, outputs and effects tie to Python."""

    graph: Graph
    arg_leaves: list[int]                   # leaf number of each "arg" input
    states: list[Tensor]                    # tensor of each "state" input
    scalars: list[ScalarInput]
    structure: Structure | None             # of the result
    outputs: list[OutputSpec]
    written_args: list[int]                 # leaves changed in place
    written_states: list[int]               # state numbers changed in place
    grads: list[GradWrite]
    arg_grads: list[tuple[int, int, bool]]
    """(leaf, output number or -1 for None, add to what is there): gradients left on arguments"""
    unset_grads: list[int]                  # leaves whose .grad must be None
    laid_out: list[int]                     # leaves whose strides decide what a write through a view changes
    read_grads: list[ReadGrad]
    outside: list[Outside]                  # every tensor from outside, gradients aside
    flags: list[tuple[Tensor, bool]]        # requires_grad of tensors from outside, as the function leaves it
    heap: Heap                              # the Python state that the trace depends on
    differentiable: Differentiable | None = None
    autodiff: Graph | None = None


class Binder:
    """Runs `function` once under a Trace."""

    def __init__(self, function: Callable[..., Any], name: str, leaves: Sequence[Any], paths: Sequence[str],
                 structure: Structure | None):
        self.function, self.leaves, self.paths, self.structure = function, leaves, paths, structure
        self.watch = Watch(function)
        self.trace = Trace(name, self.watch)
        self.shell_of: dict[int, Tensor] = {}
        self.input_of: dict[Storage, Value] = {}

    def run(self) -> TracedCall:
        bound = [self._bind(number, leaf) for number, leaf in enumerate(self.leaves)]
        args, kwargs = unflatten(self.structure, bound)
        modes = grad_mode.enabled, get_default_dtype()
        is_done = False
        try:
            with self.watch:
                active.tracer = self.trace
                try:
                    result = self.function(*args, **kwargs)
                finally:
                    active.tracer = None
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
            for outside in self.trace.outside.values():
                outside.restore_tape(self.trace)
            if not is_done:
                self.watch.restore()

    # -- going in ---------------------------------------------------------------------------------------------------

    def _bind(self, number: int, leaf: Any) -> Any:
        label = _label(self.paths[number])
        if isinstance(leaf, Tensor):
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
            self.trace.failed(CaptureError(
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

    def _check_hyperparameters(self) -> None:
        for scalar in self.trace.scalars.values():
            if scalar.owner is not None and scalar.owner[scalar.key] != scalar.value:
                raise CaptureError(f"{scalar.key!r} changed from {scalar.value!r} to {scalar.owner[scalar.key]!r} while it "
                                   "was traced: a compiled function can't repeat such a side effect",
                                   hint="step the scheduler outside the compiled function")

    def _finish(self, result: Any) -> TracedCall:
        trace, graph = self.trace, self.trace.graph
        leaves, _, structure = flatten(result)
        specs, values = self._outputs(leaves)
        differentiable = None
        wants_grad = {n: leaf for n, leaf in enumerate(leaves) if isinstance(leaf, Tensor) and specs[n].kind == "out"
                      and leaf._requires_grad}
        for n in wants_grad:
            specs[n].requires_grad = True
        grads = self._grad_writes()
        arg_grads = self._arg_grads(values)
        graph.outputs = values
        written_args, written_states = self._writes()
        autodiff = _prefix(graph, trace.autodiff_mark) if trace.autodiff_mark else None
        if wants_grad:
            differentiable = differentiate(trace, wants_grad, self.shell_of)
            if any(segment.graph is not None for segment in differentiable.segments):
                autodiff = differentiable.joint
        arg_leaves = list(self.shell_of)
        return TracedCall(
            graph, arg_leaves, [c.tensor for c in trace.captured.values()], list(trace.scalars.values()), structure,
            specs, written_args, written_states, grads, arg_grads,
            [n for n, shell in self.shell_of.items() if id(shell) in trace.unset_grads],
            [n for n, shell in self.shell_of.items() if n in written_args
             or trace.has_writes and trace.strides_in(shell._storage) is not None],
            self._read_grads(), self._outside(),
            [(o.tensor, o.tensor._requires_grad) for o in trace.outside.values()
             if o.tensor._requires_grad is not o.requires_grad
             and (o.tensor._record is None or o.tensor._record.tracer is not trace)],
            self.watch.heap, differentiable, autodiff)

    def _outputs(self, leaves: Sequence[Any]) -> tuple[list[OutputSpec], list[Value]]:
        trace = self.trace
        specs: list[OutputSpec] = []
        values: list[Value] = []
        seen: dict[int, int] = {}
        leaf_of_shell = {id(shell): number for number, shell in self.shell_of.items()}
        for leaf in leaves:
            if isinstance(leaf, Scalar):
                specs.append(OutputSpec("number", len(values), is_integer=leaf.is_whole))
                values.append(trace.value_of(leaf.tensor))
            elif hasattr(type(leaf), "__next__"):
                raise TraceError(f"{trace.graph.name} returned an iterator ({type(leaf).__name__}), which a compiled "
                                 "function could give only once", hint="return a list or a tuple")
            elif not isinstance(leaf, Tensor) or leaf._storage.trace is None and id(leaf) not in trace.made:
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

    def _grad_writes(self) -> list[GradWrite]:
        """Gradients left on captured tensors: each gets a tensor of its own that the graph writes at every call."""
        trace, made = self.trace, []
        for tensor, grad in trace.grads():
            if tensor._storage.trace is not None:
                continue
            if grad is None or grad._storage.trace is None:
                made.append(GradWrite(tensor, grad))
                continue
            kept = tensor._grad
            if kept is None or kept._type != tensor._type or kept._base is not None or not kept._data().flags.c_contiguous:
                kept = Tensor._from_array(np.zeros(tensor._type.static_shape, tensor.dtype.storage), tensor.dtype)
            label = trace.name_of.get(id(tensor))
            trace.name_of[id(kept)] = f"{label}.grad" if label else "grad"
            value = trace.value_of(grad)
            trace.capture(kept)
            trace.set_value(kept, value)
            made.append(GradWrite(tensor, kept))
        return made

    def _read_grads(self) -> list[ReadGrad]:
        number_of = {id(c.tensor): n for n, c in enumerate(self.trace.captured.values())}
        return [ReadGrad(t, grad, number_of.get(id(grad), -1)) for t, grad in self.trace.read_grads.values()]

    def _outside(self) -> list[Outside]:
        gradients = {id(grad) for _, grad in self.trace.read_grads.values()}
        return [o for o in self.trace.outside.values() if id(o.tensor) not in gradients]

    def _arg_grads(self, values: list[Value]) -> list[tuple[int, int, bool]]:
        found = []
        grads = {id(t): grad for t, grad in self.trace.grads()}
        for number, shell in self.shell_of.items():
            if id(shell) not in grads:
                continue
            grad = grads[id(shell)]
            found.append((number, -1 if grad is None else len(values), id(shell) in self.trace.added_grads))
            if grad is not None:
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


def _label(path: str) -> str:
    """`[0][1]['x']` (args or kwargs, then position) -> a short name."""
    return path.replace("[0]", "arg", 1) if path.startswith("[0]") else path.replace("[1]", "", 1)


__all__ = ["Binder", "GradWrite", "OutputSpec", "TracedCall"]
