"""What passes from a trace to its calls: one frozen plan of how Python ties to the graph.

A call checks that everything is as the plan says, gives the machine code the memory of arguments and states, the
numbers and new memory for the outputs, repeats what the function did to Python, and makes the results. The plan holds
one record for each leaf of the arguments, input, result and effect, in the order of the graph. `print(plan)` shows it.
"""
from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any, Literal, TypeVar

from flambeau.frontend.pytree import Structure, flatten
from flambeau.frontend.tape.casting import mode_in_words
from flambeau.frontend.tensor.strides import Strides
from flambeau.frontend.tensor.tensor import Tensor
from flambeau.frontend.trace.containers import HandedArgument, HandedMemory
from flambeau.frontend.trace.gradients import Current, Home
from flambeau.frontend.trace.guards.effects import Handed, Slot
from flambeau.frontend.trace.guards.heap import Heap
from flambeau.frontend.trace.outside import Outside
from flambeau.frontend.trace.segments import Segment
from flambeau.frontend.trace.sizes import NamedSizes
from flambeau.ir.dims import Dim, Size
from flambeau.ir.dtypes import DType
from flambeau.ir.graph import Graph, Node, inline
from flambeau.ir.graph.sizes import record_with_sizes, type_with_sizes, with_sizes
from flambeau.ir.ops.views import row_major
from flambeau.ir.records import dataclass
from flambeau.ir.types import TensorType

R = TypeVar("R")

# -- what goes in -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False, slots=True)
class Leaf:
    """What a leaf of the arguments must be: a "tensor" of class `cls`, type `expected` and that place on the tape, a
    "number" of class `expected`, a "value" equal to `expected`, or the "object" `expected`. repeats: the earlier leaf
    that is the same tensor."""

    name: str
    kind: Literal["tensor", "number", "value", "object"]
    cls: type[Any]
    expected: Any
    requires_grad: bool = False
    is_tape_leaf: bool = True
    repeats: int | None = None

    def __str__(self) -> str:
        if self.repeats is not None:
            return f"{self.name} is leaf {self.repeats} again"
        match self.kind:
            case "tensor":
                tape = "" if not self.requires_grad else ", requires grad" if self.is_tape_leaf else ", computed"
                return f"{self.name} is a {self.cls.__name__} {self.expected}{tape}"
            case "number":
                return f"{self.name} is any {self.expected.__name__}"
            case "value":
                return f"{self.name} is {self.expected!r}"
            case _:
                return f"{self.name} is one {self.cls.__name__}"


@dataclass(frozen=True, slots=True)
class LeftGradient:
    """What the .grad of an argument becomes: an output (None: nothing), or is that added to what is there."""

    output: int | None
    is_added: bool


@dataclass(frozen=True, eq=False, slots=True)
class Argument:
    """A tensor among the arguments, an input of the graph. Where the trace depends on them: strides, as it must lie in
    memory; hooks, its gradient hooks; has_no_grad, its .grad must be None; on_tape, the captured tensor it must be (by
    id), 1 for any that was computed and 0 for any other."""

    leaf: int
    is_written: bool
    strides: Strides | None
    hooks: tuple[Any, ...] | None
    has_no_grad: bool
    on_tape: int | None
    gradient: LeftGradient | None

    @property
    def is_particular(self) -> bool:
        """True when more than its leaf says must hold."""
        return self.has_no_grad or any(fact is not None for fact in (self.strides, self.hooks, self.on_tape))

    def __str__(self) -> str:
        facts = ["written" if self.is_written else "", f"strides {self.strides}" if self.strides else "",
                 ".grad is None" if self.has_no_grad else "", "these gradient hooks" if self.hooks else ""]
        if self.gradient is not None:
            given = "None" if self.gradient.output is None else f"output {self.gradient.output}"
            facts.append(f".grad gets {given}{' added' if self.gradient.is_added else ''}")
        return ", ".join([f"leaf {self.leaf}", *filter(None, facts)])


@dataclass(frozen=True, eq=False, slots=True)
class SlotRead:
    """A part of Python's objects whose leaves come in after those of the arguments."""

    slot: Slot
    structure: Structure | None

    def leaves(self) -> list[Any] | None:
        """What is there now; None where that nests in another way."""
        value = self.slot.get()
        if self.structure is None and isinstance(value, Tensor):
            return [value]
        leaves, _, structure = flatten(value)
        return leaves if structure == self.structure else None

    def __str__(self) -> str:
        return self.slot.name


def hooks_of(leaf: Tensor) -> tuple[Any, ...]:
    """The gradient hooks of a leaf, in order."""
    return tuple((leaf._hooks or {}).values())


def place_on_tape(leaf: Tensor, outside: Container[int]) -> int:
    """What `Argument.on_tape` tells apart. outside: the captured tensors, by id."""
    return id(leaf) if id(leaf) in outside else int(leaf._record is not None)


@dataclass(frozen=True, eq=False, slots=True)
class Number:
    """A runtime number, an input of the graph: leaf `key`, or `owner[key]`. is_guarded: it must be `value`."""

    owner: dict[str, Any] | None
    key: Any
    value: float | int
    is_guarded: bool

    def read(self, leaves: Sequence[Any]) -> Any:
        """What it is at a call."""
        return leaves[self.key] if self.owner is None else self.owner[self.key]

    def __str__(self) -> str:
        return (f"leaf {self.key}" if self.owner is None else f"{self.key!r} of a dict") + \
            (f", must be {self.value!r}" if self.is_guarded else "")


@dataclass(frozen=True, eq=False, slots=True)
class State:
    """A captured tensor, an input of the graph: one whose memory is its own, or the gradient of a leaf."""

    memory: Tensor | Home | Current
    type: TensorType
    is_written: bool

    def __str__(self) -> str:
        what = {Home: "a new gradient", Current: "the gradient that is there"}.get(type(self.memory), "a captured tensor")
        return f"{what} {self.type}{', written' if self.is_written else ''}"


# -- what comes out -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Made:
    """A new tensor over an output, of class `cls`, which retains its gradient or has one already (another output)."""

    output: int
    type: TensorType
    requires_grad: bool
    retains_grad: bool
    gradient: int | None
    cls: Any = Tensor

    def __str__(self) -> str:
        facts = ["requires grad" if self.requires_grad else "", "retains its gradient" if self.retains_grad else "",
                 "" if self.gradient is None else f".grad is output {self.gradient}"]
        what = "tensor" if self.cls is Tensor else self.cls.__name__
        return ", ".join([f"a new {what} {self.type} over output {self.output}", *filter(None, facts)])


@dataclass(frozen=True, slots=True)
class MadeNumber:
    """A Python number out of an output."""

    output: int
    type: TensorType
    is_integer: bool

    def __str__(self) -> str:
        return f"the number in output {self.output}, {'an int' if self.is_integer else 'a float'}"


@dataclass(frozen=True, slots=True)
class Given:
    """The caller's leaf itself."""

    leaf: int

    def __str__(self) -> str:
        return f"leaf {self.leaf}"


@dataclass(frozen=True, slots=True)
class Again:
    """An earlier part of the result, by its position."""

    position: int

    def __str__(self) -> str:
        return f"result {self.position} again"


@dataclass(frozen=True, slots=True)
class Found:
    """What a .grad that was read was before the call: number `read` of `CallPlan.reads`."""

    read: int

    def __str__(self) -> str:
        return f".grad {self.read} of those that are read, as it was"


@dataclass(frozen=True, eq=False, slots=True)
class GradientOf:
    """The .grad that the call leaves on a captured tensor."""

    leaf: Tensor

    def __str__(self) -> str:
        return f".grad of a captured tensor {self.leaf._type}"


@dataclass(frozen=True, slots=True)
class ArgumentGradient:
    """The .grad that the call leaves on an argument."""

    leaf: int

    def __str__(self) -> str:
        return f".grad of leaf {self.leaf}"


@dataclass(frozen=True, eq=False, slots=True)
class Fixed:
    """Always this object."""

    value: Any

    def __str__(self) -> str:
        return f"always one {type(self.value).__name__}"


@dataclass(frozen=True, eq=False, slots=True)
class Copied:
    """A copy of this container of values, each time."""

    value: Any

    def __str__(self) -> str:
        return f"a copy of one {type(self.value).__name__}"


Result = Made | MadeNumber | Given | Again | Found | GradientOf | ArgumentGradient | Fixed | Copied

# -- what is done to Python ---------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False, slots=True)
class GradientRead:
    """`leaf.grad` was read when it was of `type` (None: there was none). state: the number of its memory among the
    states (None: only looked at). A gradient that is a view of other memory must stay `view`; others may be replaced
    by one of the same layout."""

    leaf: Tensor
    type: TensorType | None
    state: int | None
    view: Tensor | None

    def __str__(self) -> str:
        return f".grad of a captured tensor {self.leaf._type} is " + ("None" if self.type is None else str(self.type))

    def holds(self, pointers: Sequence[int]) -> bool | None:
        """Whether the gradient still is where it was; None when it lies somewhere else, in the same layout."""
        grad = self.leaf._grad
        if grad is None or self.type is None:
            return grad is None and self.type is None
        if self.state is None:
            return True
        if grad._type != self.type:
            return False
        if self.view is not None:
            return grad is self.view or grad._storage is self.view._storage and grad._chain == self.view._chain
        if grad._base is not None or not (grad._storage.is_elsewhere or grad._data().flags.c_contiguous):
            return False
        return True if grad._storage.buffer.ptr == pointers[self.state] else None


@dataclass(frozen=True, eq=False, slots=True)
class GradientWrite:
    """After a call `leaf.grad` is `value`: None, a tensor, what is in a Home, an argument, or what another was before."""

    leaf: Tensor
    value: Tensor | Home | Given | Found | None

    def __str__(self) -> str:
        value = {Tensor: "a captured tensor", Home: "its new gradient"}.get(type(self.value), str(self.value))
        return f".grad of a captured tensor {self.leaf._type} becomes {value}"


@dataclass(frozen=True, eq=False, slots=True)
class Flag:
    """After a call this tensor from outside requires grad, or does not."""

    tensor: Tensor
    requires_grad: bool

    def __str__(self) -> str:
        return f"requires_grad of a captured tensor {self.tensor._type} becomes {self.requires_grad}"


@dataclass(frozen=True, eq=False)
class CallPlan:
    """How Python ties to the graph of one signature."""

    name: str
    # when it applies
    structure: Structure | None             # of (args, kwargs)
    leaves: tuple[Leaf, ...]
    distinct: tuple[tuple[int, ...], ...]   # leaves of one type that must be different tensors
    mode: object                            # whether gradients are recorded, or what autocast does beside it
    default_dtype: DType
    num_threads: int | None                 # where the function asks for it
    outside: tuple[Outside, ...]            # every tensor from outside, gradients aside
    heap: Heap                              # the Python state that the trace depends on
    # inputs and outputs of the graph
    arguments: tuple[Argument, ...]
    states: tuple[State, ...]
    numbers: tuple[Number, ...]
    outputs: tuple[TensorType, ...]
    # what a call does to Python, and gives
    reads: tuple[GradientRead, ...]
    gradients: tuple[GradientWrite, ...]
    flags: tuple[Flag, ...]
    results: tuple[Result, ...]
    result_structure: Structure | None      # of the result, or of a tuple: it, and what is `handed` back
    slots: tuple[SlotRead, ...]
    handed: tuple[Handed | HandedArgument | HandedMemory, ...]
    segments: tuple[Segment, ...]           # of the backward of results that require grad
    anomaly_mode: tuple[bool, bool] | None  # where the function asks for it
    looks: Mapping[int, bool]               # nodes, by place, of which it says whether anomalies in them are told

    @cached_property
    def writes_in_place(self) -> bool:
        """True when a call changes arguments or captured tensors."""
        return any(a.is_written for a in self.arguments) or any(s.is_written for s in self.states)

    def all_leaves(self, leaves: Sequence[Any]) -> Sequence[Any]:
        """The leaves of the arguments and of the slots; too few, where a slot holds something that nests in another
        way."""
        if not self.slots:
            return leaves
        return [*leaves, *[leaf for read in self.slots for leaf in read.leaves() or ()]]

    def at(self, sizes: Mapping[str, Size]) -> CallPlan:
        """The same with other sizes for the named ones."""
        def records(some: tuple[R, ...]) -> tuple[R, ...]:
            return tuple([record_with_sizes(record, sizes) for record in some])

        arguments = [record_with_sizes(argument, sizes) for argument in self.arguments]
        leaves = records(self.leaves)
        for number, (was, a) in enumerate(zip(self.arguments, arguments, strict=True)):
            if was.strides is not None and was.strides == row_major(self.leaves[a.leaf].expected.shape):
                arguments[number] = replace(a, strides=row_major(leaves[a.leaf].expected.shape))
        return replace(self, leaves=leaves, arguments=tuple(arguments), results=records(self.results),
                       states=records(self.states), reads=records(self.reads),
                       outputs=tuple([type_with_sizes(type, sizes) for type in self.outputs]),
                       segments=tuple([segment.at(sizes) for segment in self.segments]))

    def __str__(self) -> str:
        """One record a line."""
        lines = [f"call of {self.name}, {mode_in_words(self.mode)}:"]
        effects = (*self.gradients, *self.flags, *self.handed)
        for title, records in (("slot", self.slots), ("leaf", self.leaves), ("argument", self.arguments),
                               ("state", self.states), ("number", self.numbers), ("output", self.outputs),
                               ("read", self.reads), ("effect", effects), ("result", self.results),
                               ("backward", self.segments)):
            lines += [f"  {title} {number}: {record}" for number, record in enumerate(records)]
        return "\n".join(lines)


@dataclass(frozen=True, eq=False)
class Traced:
    """What tracing gives: the graph for the compiler, and the plan for the calls. joint: the graph with the derivatives of
    its results, if they are taken outside. mark: how many nodes there were when the last backward had been traced. named:
    where sizes of arguments have names."""

    graph: Graph
    plan: CallPlan
    joint: Graph | None = None
    mark: int = 0
    named: NamedSizes | None = None

    @property
    def autodiff(self) -> Graph:
        """The graph up to and with the derivatives, to be looked at."""
        return self.joint or (_prefix(self.graph, self.mark) if self.mark else self.graph)

    def of_sizes(self, named: NamedSizes) -> Traced:
        """The same, knowing its named sizes: those that turned out to be others, or numbers, have no names any more. If all
        are numbers, it is a trace like any other."""
        named.check()
        facts = named.facts
        settled = self.at(facts.values) if facts.values else self
        is_named = any(isinstance(facts.settled(Dim(name)), Dim) for name in facts.sizes)
        asked = {argument.leaf for argument in self.plan.arguments if argument.strides is not None}
        steps = {name: (leaf, dim) for name, (leaf, dim) in named.steps.items() if leaf in asked}
        return replace(settled, named=replace(named, steps=steps)) if is_named else settled

    def at(self, sizes: Mapping[str, Size]) -> Traced:
        """The same with other sizes for the named ones."""
        has_derivatives = self.joint is not None or self.mark > 0
        return Traced(with_sizes(self.graph, sizes), self.plan.at(sizes),
                      with_sizes(self.autodiff, sizes) if has_derivatives else None)


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
