"""Compiled graph -> something to call that checks itself: `fb.compile(f, verify=True)`.

At each call, on the live data:

1. the traced graph and the fused one are interpreted; where they differ, the passes are run again one by one, and the
   first that changes a result is named;
2. the kernels run one by one on the program's own memory. Each must find its operands as they were left (else the
   memory plan is wrong), and what it stores is held against the meaning of its fused region; where they differ, the
   kernel's own meaning tells whether lowering or code generation is to blame. A node with regions that are run as loops
   or branches is held against its meaning as a whole.

Each kernel runs once, so state is written once; a call that raises puts back what it found. What rounding may differ
by comes from `ir.rounding`: it follows each number's own history, and is no tolerance that someone chose.
"""
from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Never

import numpy as np

from flambeau.errors import FlambeauError, KernelError, VerificationError
from flambeau.ir import ops
from flambeau.ir.graph import Graph, Node, Value, clone
from flambeau.ir.graph.interpreter import interpret
from flambeau.ir.graph.rounding import Bounded, bounded, difference, evaluated
from flambeau.ir.kernel.interpreter import interpret as interpret_kernel
from flambeau.ir.records import dataclass
from flambeau.passes.lowering.lower import Call
from flambeau.passes.memory.order import Chosen, Order, Repeated
from flambeau.passes.memory.plan import Home, MemoryPlan
from flambeau.passes.pipeline import Pass
from flambeau.runtime.buffer import Buffer, allocate, as_ndarray, poison
from flambeau.runtime.forking import ForkSafeLock
from flambeau.runtime.program import Program

if TYPE_CHECKING:
    from flambeau.backends import Runnable

__all__ = ["CheckedCall", "VerifiedExecutable"]

Shrink = Callable[[Graph, Sequence[np.ndarray], VerificationError], object]
_SLACK = 16.0               # between two whole graphs: many ops, and rules that compute the same in other ways


@dataclass(frozen=True)
class CheckedCall:
    """One kernel call as a program of its own, whose arguments are the call's buffers and its scratch."""

    call: Call
    runnable: Runnable


class VerifiedExecutable:
    """Called as any other Runnable. source: the graph as traced; fused: after `passes`; program: the whole step's; plain:
    what runs it unchecked; shrink: gives the small program that an error is told with."""

    def __init__(self, source: Graph, fused: Graph, passes: Sequence[Pass], memory: MemoryPlan,
                 steps: Sequence[CheckedCall], program: Program, plain: Runnable, states: Sequence[int] = (),
                 shrink: Shrink | None = None):
        self.source, self.fused, self.passes, self.memory, self.shrink = source, fused, tuple(passes), memory, shrink
        self.steps, self.program, self.plain, self.states = tuple(steps), program, plain, tuple(states)
        self._lock = ForkSafeLock()

    def bind_states(self, pointers: Sequence[int]) -> VerifiedExecutable:
        """The same program over these states, one pointer each; the caller keeps their memory alive."""
        return VerifiedExecutable(self.source, self.fused, self.passes, self.memory, self.steps, self.program,
                                  self.plain.bind_states(pointers), pointers, self.shrink)

    def call(self, arg_ptrs: Sequence[int], scalars: Sequence[float] = (), out_ptrs: Sequence[int] = ()) -> None:
        """Run the program, checked. The outputs' memory is the caller's: program.out_bytes says how much."""
        self.fast_call(*arg_ptrs, *scalars, *out_ptrs)

    def profile(self, arg_ptrs: Sequence[int], scalars: Sequence[float] = (), out_ptrs: Sequence[int] = (),
                sizes: Sequence[int] = (), *, repeats: int = 10) -> tuple[float, ...]:
        """The median seconds of each launch, without checks."""
        return self.plain.profile(arg_ptrs, scalars, out_ptrs, sizes, repeats=repeats)

    def fast_call(self, *values: float) -> None:
        """Run the program, checked, on pointers (as ints) and numbers. Raises VerificationError for the first pass or
        kernel that is wrong, with a small program that shows it, KernelError for bad data; both leave states and arguments
        as they were."""
        with self._lock:
            run = _Run(self, _Memory(self, values))
            try:
                run.run()
            except VerificationError as error:
                if self.shrink is not None and error.blame:
                    error.repro = self.shrink(self.source, run.inputs, error)
                raise


class _Memory:
    """Where every buffer of one call lies."""

    def __init__(self, executable: VerifiedExecutable, values: Sequence[float]):
        program = executable.program
        first_out = program.n_args + program.n_scalars
        if len(values) != first_out + program.n_outs or len(executable.states) != program.n_states:
            raise TypeError(f"the program takes {program.n_args} argument pointers, {program.n_scalars} scalars, "
                            f"{program.n_outs} output pointers and {program.n_states} bound states")
        self._scalars = [np.array(value, np.float64) for value in values[program.n_args:first_out]]
        self._consts = [np.frombuffer(data, np.uint8) for data in program.consts]
        self._arena = allocate(program.arena_bytes)
        poison(self._arena.ptr, program.arena_bytes)
        self._table: dict[str, Sequence[float]] = {
            "arg": values[:program.n_args], "out": values[first_out:], "state": executable.states,
            "scalar": [array.ctypes.data for array in self._scalars],
            "const": [array.ctypes.data for array in self._consts]}

    def pointer(self, home: Home) -> int:
        return self._arena.ptr + home.index if home.kind == "arena" else int(self._table[home.kind][home.index])

    def view(self, value: Value, home: Home) -> np.ndarray:
        """The memory itself as an array of the value's type."""
        memory = Buffer(self.pointer(home), value.type.nbytes, "cpu", None)
        return as_ndarray(memory, value.dtype.storage, value.type.static_shape)


class _Run:
    """One call."""

    def __init__(self, executable: VerifiedExecutable, memory: _Memory):
        self.executable, self.memory = executable, memory
        self.home_of = executable.memory.home_of
        self.inputs = [self.view(v).copy() for v in executable.fused.inputs]
        # what every value held when it was made
        self.held: dict[Value, np.ndarray] = dict(zip(executable.fused.inputs, self.inputs, strict=True))
        for value in executable.memory.constants:
            self.held[value] = self.view(value).copy()
        self._meanings: dict[Node, Mapping[Value, Bounded] | None] = {}

    def view(self, value: Value) -> np.ndarray:
        return self.memory.view(value, self.home_of[value])

    def run(self) -> None:
        self.data_is_right = _check_passes(self.executable, self.inputs)
        first_copy = len(self.executable.steps) - self.executable.memory.copies
        try:
            for part in _parts(self.executable.memory):
                if isinstance(part, int):
                    self.step(part, is_copy=part >= first_copy)
                else:
                    self.whole(*part)
        except KernelError:
            changed = next((v for v, a in zip(self.executable.fused.inputs, self.inputs, strict=True)
                            if self.view(v).tobytes() != a.tobytes()), None)
            self.restore()
            if changed is not None:
                raise VerificationError(f"{self.executable.fused.name}: a kernel found bad data after "
                                        f"{changed!r} was written: the memory plan is wrong",
                                        blame="memory plan") from None
            raise
        except BaseException:
            self.restore()
            raise

    def restore(self) -> None:
        for state in self.executable.fused.writes:
            self.view(state)[...] = self.held[state]

    def step(self, number: int, is_copy: bool) -> None:
        call = self.executable.steps[number].call
        sides = list(zip(call.buffers, call.kernel.params, strict=True))
        for value, param in sides:
            if param.role in ("in", "inout") and self.view(value).tobytes() != self.held[value].tobytes():
                self.fail(call, f"finds its operand {param.name}, {value.type}, changed since it was made: the memory "
                                "plan is wrong", "memory plan")
        operands = [self.held[v] for v, param in sides if param.role in ("in", "inout")]
        try:
            self.play((number,))
        except KernelError as error:
            if not self.data_is_right:
                raise
            blame = "lowering" if self.interpreted(call) is None else "code generation"
            self.fail(call, f"raises {error.message!r} on data that is right; {blame} is to blame", blame)
        for value, param in sides:
            if param.role in ("out", "inout"):
                found = self.view(value).copy()
                if is_copy and found.tobytes() != operands[0].tobytes():
                    self.fail(call, f"does not copy {value.type}", "code generation")
                self.check(number, value, found)
                if value not in self.executable.fused.writes:
                    self.held[value] = found

    def play(self, order: Order) -> None:
        """Run steps as the program would."""
        for item in order:
            match item:
                case Repeated(condition, body):
                    while self.view(condition):
                        self.play(body)
                case Chosen(condition, then, otherwise):
                    self.play(then if self.view(condition) else otherwise)
                case number:
                    step, scratch = self.executable.steps[number], self.executable.memory.scratch[number]
                    homes = (*[self.home_of[v] for v in step.call.buffers], *scratch)
                    step.runnable.fast_call(*[self.memory.pointer(home) for home in homes])

    def whole(self, node: Node, order: Order) -> None:
        """A node with regions as one step: its kernels run, and its results are held against what it means."""
        for position, value in enumerate(node.operands):
            if self.view(value).tobytes() != self.held[value].tobytes():
                self.fail_whole(node, f"finds its operand {position}, {value.type}, changed since it was made: the memory "
                                      "plan is wrong", "memory plan")
        try:
            meaning = evaluated(node, [Bounded(self.held[v]) for v in node.operands])
        except (FlambeauError, ArithmeticError):
            meaning = None
        self.play(order)
        for value in node.results:
            if not self.executable.fused.has_uses(value):       # its memory may hold something else by now
                continue
            found = self.view(value).copy()
            if meaning is not None and (words := difference(found, meaning[value.index], value.dtype, _SLACK)):
                self.fail_whole(node, f"computes its result {value.index}, {value.type}, wrongly: {words}", "a region")
            self.held[value] = found

    def fail_whole(self, node: Node, message: str, blame: str) -> Never:
        raise VerificationError(f"{self.executable.fused.name}: {node.op.name} {message}",
                                where=str(node.loc) if node.loc is not None else None, blame=blame)

    def check(self, number: int, value: Value, found: np.ndarray) -> None:
        """Hold a stored result of a fusion against what the fusion means. (Other values lie between the kernels that
        one fusion was split into.)"""
        node = value.node
        if not isinstance(node.op, ops.Fusion) or node.results[value.index] is not value:
            return
        meaning = self.meaning(node)
        if meaning is None:
            return                      # bad data, in a part of the fusion that its kernel need not read
        made = node.regions[0].outputs[value.index]
        if words := difference(found, meaning[made], value.dtype):
            call, meant = self.executable.steps[number].call, meaning[made]
            blame = "lowering" if self.is_wrong(self.interpreted(call), call, value, meant) else \
                "code generation" if self.is_wrong(self.run_apart(number), call, value, meant) else "memory plan"
            self.fail(call, f"computes {made.node.op.name} wrongly: {words}; {blame} is to blame", blame, made.node)

    def meaning(self, node: Node) -> Mapping[Value, Bounded] | None:
        if node not in self._meanings:
            try:
                self._meanings[node] = bounded(node.regions[0], [Bounded(self.held[v]) for v in node.operands])
            except (FlambeauError, ArithmeticError):
                self._meanings[node] = None
        return self._meanings[node]

    def is_wrong(self, arrays: Sequence[np.ndarray] | None, call: Call, value: Value, meant: Bounded) -> bool:
        """Whether the buffers of a call hold something else than is meant; None: it failed."""
        if arrays is None:
            return True
        found = next(a for a, buffer in zip(arrays, call.buffers, strict=True) if buffer is value)
        return difference(found.reshape(value.type.static_shape), meant, value.dtype) != ""

    def interpreted(self, call: Call) -> list[np.ndarray] | None:
        """What the kernel's buffers hold once it was interpreted; None where that fails."""
        arrays = self.apart(call)
        try:
            interpret_kernel(call.kernel, arrays, call.sizes)
        except (FlambeauError, AssertionError, IndexError):
            return None
        return arrays

    def run_apart(self, number: int) -> list[np.ndarray] | None:
        """What the buffers of a call hold once it ran where none shares memory with another."""
        step = self.executable.steps[number]
        arrays, scratch = self.apart(step.call), [allocate(home.nbytes) for home in self.executable.memory.scratch[number]]
        try:
            step.runnable.fast_call(*[array.ctypes.data for array in arrays], *[buffer.ptr for buffer in scratch])
        except KernelError:
            return None
        return arrays

    def apart(self, call: Call) -> list[np.ndarray]:
        """What the buffers of a call held before it, each in memory of its own."""
        arrays = []
        for buffer, param in zip(call.buffers, call.kernel.params, strict=True):
            array = np.empty(buffer.type.numel, buffer.dtype.storage)
            if param.role in ("in", "inout"):
                array[...] = self.held[buffer].ravel()
            else:
                poison(array.ctypes.data, array.nbytes)
            arrays.append(array)
        return arrays

    def fail(self, call: Call, message: str, blame: str, node: Node | None = None) -> Never:
        kernel = call.kernel
        where = str(node.loc) if node is not None and node.loc is not None else next(iter(kernel.locations), None)
        raise VerificationError(f"{self.executable.fused.name}: kernel {kernel.name} {message}", where=where, blame=blame)


def _parts(memory: MemoryPlan) -> Iterator[int | tuple[Node, Order]]:
    """The calls, by number, and the nodes with regions, as they run one after another."""
    order = tuple(range(len(memory.calls))) if memory.order is None else memory.order
    whole_at = {whole.first: whole for whole in memory.wholes}
    place = 0
    while place < len(order):
        whole, item = whole_at.get(place), order[place]
        if whole is not None:
            yield whole.node, order[place:whole.end]
            place = whole.end
        else:
            assert isinstance(item, int), "loops and branches belong to nodes"
            yield item
            place += 1


def _check_passes(executable: VerifiedExecutable, inputs: Sequence[np.ndarray]) -> bool:
    """Whether the traced graph has no fault to find with the data; if it has, that is left to the kernels: work that is not
    needed, and dropped, need not fail. Raises VerificationError for the first pass that changes a result."""
    source = executable.source
    try:
        found = bounded(source, [Bounded(array) for array in inputs])
    except (FlambeauError, ArithmeticError):
        return False
    meant = [found[value] for value in source.roots()]
    if _first_difference(source, executable.fused, inputs, meant) is None:
        return True
    current = clone(source)[0]
    for number, step in enumerate(executable.passes, 1):
        current = step.function(current)
        if (wrong := _first_difference(source, current, inputs, meant)) is not None:
            place, words = wrong
            root = source.roots()[place]
            name = f"output {place}" if place < len(source.outputs) else f"write {place - len(source.outputs)}"
            raise VerificationError(
                f"{source.name}: pass {number}, {step.name}, changes {name}, {root.node.op.name} : {root.type}: {words}",
                where=str(root.node.loc) if root.node.loc else None, blame=f"pass {number}, {step.name}")
    raise VerificationError(f"{source.name}: the passes change its results, but not when they are run again")


def _first_difference(source: Graph, graph: Graph, inputs: Sequence[np.ndarray],
                      meant: Sequence[Bounded]) -> tuple[int, str] | None:
    """(number of the root, what differs) of the first result of `graph` that is not the source's."""
    try:
        outputs, writes = interpret(graph, inputs, effects=False)
    except (FlambeauError, ArithmeticError, LookupError, ValueError, TypeError) as error:
        return 0, f"evaluating it raises {type(error).__name__}: {error}"
    order = {value: number for number, value in enumerate(source.inputs)}
    written = dict(zip([graph.inputs.index(state) for state in graph.writes], writes, strict=True))
    arrays = [*outputs, *[written[order[state]] for state in source.writes]]
    for place, (array, value, meaning) in enumerate(zip(arrays, source.roots(), meant, strict=True)):
        if words := difference(array, meaning, value.dtype, _SLACK):
            return place, words
    return None
