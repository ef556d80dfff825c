"""What is done alike to one tensor after another, as an optimizer does to its parameters: traced for the first, and its ops
appended anew, to values of their own, for those that follow. Recording an op through Python takes ten times as long.
"""
from __future__ import annotations

import sys
from collections.abc import Callable, Hashable, Sequence
from typing import TYPE_CHECKING, Any

from flambeau.frontend.tape.autograd import grad_mode
from flambeau.frontend.tape.unwatched import PLAIN
from flambeau.frontend.tape.writes import assign_
from flambeau.frontend.tensor.complex_tensor import ComplexTensor
from flambeau.frontend.tensor.tensor import Tensor
from flambeau.ir.graph import Input, Node, Value
from flambeau.ir.op import Effect, Op
from flambeau.ir.ops.families import Elementwise
from flambeau.ir.records import dataclass
from flambeau.ir.types import TensorType

if TYPE_CHECKING:
    from flambeau.frontend.trace.trace import Trace

__all__ = ["Segment", "repeat"]


def repeat(trace: Trace, update: Callable[..., None], tensors: Sequence[Tensor],
           known: dict[Hashable, Segment | None]) -> None:
    """`update(*tensors)`, which does to all tensors of one form the same elementwise ops, and writes to no others. known:
    of each form, what was traced for the first."""
    form = _form(trace, tensors)
    if form is None or (form in known and known[form] is None):
        update(*tensors)
    elif (segment := known.get(form)) is not None:
        segment.append_to(trace, tensors)
    else:
        known[form] = _traced(trace, update, tensors)


@dataclass(frozen=True)
class Segment:
    """Ops of a graph by what they are applied to: a number is that of a tensor's value at the start, or behind those of an
    op's result; a `Value` is the same for all tensors. first: the tensors that are inputs of the graph already, as far as
    they are read; code: an op with its operands and the type of its result, or the number of a tensor that becomes an
    input; written: (tensor, its value)."""

    first: tuple[int, ...]
    code: tuple[int | tuple[Op, tuple[int | Value, ...], TensorType], ...]
    written: tuple[tuple[int, int], ...]

    def append_to(self, trace: Trace, tensors: Sequence[Tensor]) -> None:
        """The same for other tensors."""
        hook = trace.watch.hook
        if hook is not None:
            sys.setprofile(None)            # no user code runs in here
        try:
            self._append(trace, tensors)
        finally:
            if hook is not None:
                sys.setprofile(hook)

    def _append(self, trace: Trace, tensors: Sequence[Tensor]) -> None:
        append, loc, phase = trace.graph.append, trace._here(), trace._phase
        shape = tensors[0]._type.shape
        type_of: dict[TensorType, tuple[TensorType]] = {}                      # of results, by those of the first tensors
        values: list[Any] = [None] * len(tensors)
        for number in self.first:
            values[number] = trace.value_of(tensors[number])
        for step in self.code:
            if type(step) is int:
                values[step] = trace.value_of(tensors[step])
            else:
                op, operands, made = step                                       # type: ignore[misc]
                types = type_of.get(made)
                if types is None:               # as elementwise ops infer it
                    types = type_of[made] = (made.with_shape(shape) if made.shape else made,)
                given: list[Value] = [values[v] if isinstance(v, int) else v for v in operands]
                values.append(append(op, given, loc=loc, phase=phase, types=types).results[0])
        for number, result in self.written:
            assign_(tensors[number], trace._shell(values[result], loc))


def _form(trace: Trace, tensors: Sequence[Tensor]) -> Hashable:
    """Equal for tensors that elementwise ops treat alike; None where other things may happen: to views, tensors on a tape,
    of classes of the user's, on other devices, or of several shapes."""
    if grad_mode.enabled or not all(_is_usual(t) for t in tensors) or len({t._storage for t in tensors}) != len(tensors):
        return None
    shape = tensors[0]._type.shape
    if any(t._type.shape not in ((), shape) for t in tensors):
        return None
    return tuple([(t._type.dtype, not t._type.shape, trace.current(t) is None) for t in tensors])


def _is_usual(t: Tensor) -> bool:
    return type(t) in PLAIN and not isinstance(t, ComplexTensor) and t._base is None and t._saved_version == -1 and \
        t._type.device == "cpu" and t._type.is_static


def _traced(trace: Trace, update: Callable[..., None], tensors: Sequence[Tensor]) -> Segment | None:
    """`update(*tensors)`; what it appended. None where that is no chain of elementwise ops from these tensors, and from
    what comes of numbers alone, to what is written."""
    graph, written = trace.graph, trace.written_to()
    before = [trace.current(t) for t in tensors]
    start = len(graph.toposort())
    update(*tensors)
    nodes = graph.toposort()[start:]
    if trace.graph is not graph or not trace.written_to() - written <= {t._storage for t in tensors}:
        return None
    begins = [_input(trace, t) if value is None else value for t, value in zip(tensors, before, strict=True)]
    number_of = {value: number for number, value in enumerate(begins) if value is not None}
    if len(number_of) != sum(value is not None for value in begins):
        return None
    code: list[int | tuple[Op, tuple[int | Value, ...], TensorType]] = []
    read: dict[int, None] = {}
    count, numbers = len(tensors), set[Node]()
    for node in nodes:
        result = node.results[0] if node.results else None
        if isinstance(node.op, Input):
            if result in number_of:
                code.append(number_of[result])
            continue
        if node.op.effect is not Effect.PURE:
            return None
        if not any(value in number_of for value in node.operands):
            continue                        # made of numbers, once for all
        operands = tuple([number_of.get(value, value) for value in node.operands])
        if not isinstance(node.op, Elementwise) or not all(isinstance(v, int) or _is_of_numbers(v, numbers)
                                                           for v in operands):
            return None
        read |= {v: None for v in operands if isinstance(v, int) and v < len(tensors) and before[v] is not None}
        code.append((node.op, operands, node.result.type))
        number_of[node.result], count = count, count + 1
    ends = [trace.current(t) for t in tensors]
    changed = [(number, value) for number, value in enumerate(ends) if value is not None and value is not begins[number]]
    if any(value not in number_of for _, value in changed):
        return None
    return Segment(tuple(read), tuple(code), tuple([(number, number_of[value]) for number, value in changed]))


def _input(trace: Trace, t: Tensor) -> Value | None:
    """What a tensor was when it was met."""
    captured = trace.captured.get(t._storage)
    return None if captured is None else captured.input


def _is_of_numbers(value: Value, known: set[Node]) -> bool:
    """Whether no tensor from outside goes into it. known: nodes of which that is known to hold."""
    stack = [value.node]
    while stack:
        node = stack.pop()
        if node in known:
            continue
        if isinstance(node.op, Input) and node.op.kind != "scalar":
            return False
        known.add(node)
        stack += [operand.node for operand in node.operands]
    return True
