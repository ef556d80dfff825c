"""A Program without machine code: every launch is its kernel's NumPy meaning, on the memory that native code would
use. Slow and plain: the reference that native executables are held to, and the example of a backend."""
from __future__ import annotations

import ctypes
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from typing import assert_never

import numpy as np

from flambeau import config
from flambeau.errors import KernelError, VerificationError, kernel_error
from flambeau.ir.kernel import Kernel
from flambeau.ir.kernel.interpreter import Watched, interpret
from flambeau.ir.records import dataclass
from flambeau.runtime.buffer import Buffer, allocate, as_ndarray, poison
from flambeau.runtime.forking import ForkSafeLock
from flambeau.runtime.host_functions import RAISED, HostFunction, host_address, is_python, raise_kept
from flambeau.runtime.native.layout import ContextRecord
from flambeau.runtime.program import Branch, HostCall, Launch, Loop, Program, Slot, Step
from flambeau.runtime.recording import Recorder, watch

__all__ = ["InterpretedExecutable"]


class InterpretedExecutable:
    """Runs a program whose every launch is a whole kernel (one task, one slot for each param).

    kernels: that of each launch; where it is None, of a host call, the registered function is called. Called as
    `runtime.Executable` is: `fast_call(*arg_pointers, *scalars, *out_pointers, *sizes)`; a program with states must be
    bound first. A subclass may watch `run_kernel`. With `config.poison` results and scratch are filled before the launch
    that makes them, and reading what nothing stored is an error."""

    def __init__(self, program: Program, kernels: Sequence[Kernel | None], states: Sequence[int] = ()):
        program.check()
        self.program, self.kernels, self.states = program, tuple(kernels), tuple(states)
        if len(self.kernels) != len(program.launches):
            raise VerificationError("one kernel for each launch")
        self.hosts = {launch.symbol: HostFunction(host_address(launch.symbol))
                      for launch, kernel in zip(program.launches, self.kernels, strict=True) if kernel is None}
        self._steps = _ready(program.steps, enumerate(self.kernels))
        self._lock = ForkSafeLock() if program.writes_state else nullcontext()
        self.recorder: Recorder | None = None
        watch(self)

    def record_into(self, recorder: Recorder | None) -> None:
        """As `recording.Recordable` says: sums, without events."""
        self.recorder = recorder

    def bind_states(self, pointers: Sequence[int]) -> InterpretedExecutable:
        """The same program over these states, one pointer each; the caller keeps their memory alive."""
        expected = self.program.n_states
        if len(pointers) != expected:
            raise VerificationError(f"the program has {expected} states, not {len(pointers)}")
        return type(self)(self.program, self.kernels, pointers)

    def call(self, arg_ptrs: Sequence[int], scalars: Sequence[float] = (), out_ptrs: Sequence[int] = (),
             sizes: Sequence[int] = ()) -> None:
        """Run the program. The outputs' memory is the caller's: program.out_bytes says how much."""
        self.fast_call(*arg_ptrs, *scalars, *out_ptrs, *sizes)

    def fast_call(self, *values: float) -> None:
        """Run the program on pointers (as ints) and numbers. Raises KernelError as native code would, TypeError for a
        wrong number of values."""
        with self._lock:
            _Call(self, values).run(self._steps)

    def profile(self, arg_ptrs: Sequence[int], scalars: Sequence[float] = (), out_ptrs: Sequence[int] = (),
                sizes: Sequence[int] = (), *, repeats: int = 10) -> tuple[float, ...]:
        """Run the program `repeats` times, writing states each time; the median seconds of each of its launches, as
        `Executable.profile` tells them."""
        runs = []
        for _ in range(repeats):
            with self._lock:
                call = _Call(self, (*arg_ptrs, *scalars, *out_ptrs, *sizes))
                call.run(self._steps)
            runs.append(call.seconds)
        return tuple(float(np.median(times)) for times in zip(*runs, strict=True))

    def run_kernel(self, kernel: Kernel, arrays: Sequence[np.ndarray], sizes: Mapping[str, int]) -> None:
        """One launch. arrays: flat views of the memory behind each param, in its storage dtype."""
        interpret(kernel, arrays, sizes)


@dataclass(frozen=True)
class _Ready:
    """A step with the kernel that it launches and the number of that launch, or with its bodies."""

    step: Step
    kernel: Kernel | None = None
    number: int = -1
    bodies: tuple[tuple[_Ready, ...], ...] = ()


def _ready(steps: Sequence[Step], kernels: Iterator[tuple[int, Kernel | None]]) -> tuple[_Ready, ...]:
    """kernels: (number, kernel) of the launches to come."""
    made = []
    for step in steps:
        match step:
            case Launch() | HostCall():
                number, kernel = next(kernels)
                made.append(_Ready(step, kernel, number))
            case Loop(_, body):
                made.append(_Ready(step, bodies=(_ready(body, kernels),)))
            case Branch(_, then, otherwise):
                made.append(_Ready(step, bodies=(_ready(then, kernels), _ready(otherwise, kernels))))
            case _:
                assert_never(step)
    return tuple(made)


class _Call:
    """One call: its memory, and the walk over the steps."""

    def __init__(self, executable: InterpretedExecutable, values: Sequence[float]):
        program = executable.program
        if len(executable.states) != program.n_states:
            raise VerificationError("the program has states: call what bind_states(pointers) returns")
        first_out = program.n_args + program.n_scalars
        first_size = first_out + program.n_outs
        if len(values) != first_size + program.n_sizes:
            raise TypeError(f"the program takes {program.n_args} argument pointers, {program.n_scalars} scalars and "
                            f"{program.n_outs} output pointers, then {program.n_sizes} sizes; {len(values)} values came")
        self.executable, self.program = executable, program
        self.sizes = [int(value) for value in values[first_size:]]
        for size, value in zip(program.signature.sizes, self.sizes, strict=True):
            if not 0 <= value <= size.most:
                raise TypeError(f"size {size.name} of the program is not an int from 0 to {size.most}")
        self.scalars = np.array(values[program.n_args:first_out], np.float64)
        self.consts = [np.frombuffer(data, np.uint8) for data in program.consts]
        self.arena = allocate(program.arena_bytes)
        self.table: dict[str, Sequence[float]] = {
            "arg": values[:program.n_args], "out": values[first_out:first_size], "state": executable.states,
            "scalar": [self.scalars.ctypes.data + 8 * n for n in range(len(self.scalars))],
            "const": [array.ctypes.data for array in self.consts]}
        self.stored = _Stored(program) if config.poison else None
        self.recorder = executable.recorder
        self.seconds = [0.0] * len(program.launches)

    def run(self, steps: Sequence[_Ready]) -> None:
        for ready in steps:
            match ready.step:
                case Launch() | HostCall():
                    started = time.perf_counter()
                    self.launch(ready.step, ready.kernel)
                    seconds = time.perf_counter() - started
                    self.seconds[ready.number] += seconds
                    if self.recorder is not None:
                        self.recorder.nanoseconds[ready.number] += int(1e9 * seconds)
                        self.recorder.counts[ready.number] += 1
                case Loop(condition):
                    while self.is_true(condition):
                        self.run(ready.bodies[0])
                case Branch(condition):
                    self.run(ready.bodies[0 if self.is_true(condition) else 1])
                case _:
                    assert_never(ready.step)

    def pointer(self, number: int) -> int:
        slot = self.program.slots[number]
        return self.arena.ptr + slot.index if slot.kind == "arena" else int(self.table[slot.kind][slot.index])

    def is_true(self, condition: int) -> bool:
        if self.stored is not None and not self.stored.holds(self.program.slots[condition]):
            raise VerificationError("a loop or a branch asks for a bool that nothing stored")
        return ctypes.c_uint8.from_address(self.pointer(condition)).value != 0

    def launch(self, launch: Launch | HostCall, kernel: Kernel | None) -> None:
        pointers = [self.pointer(number) for number in launch.slots]
        sizes = [extent if isinstance(extent, int) else extent.times * self.sizes[extent.number]
                 for extent in launch.sizes]
        try:
            if kernel is None:
                self.call_host(launch, pointers, sizes)
            else:
                self.run_kernel(launch, kernel, pointers, sizes)
        except KernelError as error:
            message = self.program.message(launch, error.status, error.details, error.message)
            raise kernel_error(message, error.status, error.details) from None

    def run_kernel(self, launch: Launch | HostCall, kernel: Kernel, pointers: Sequence[int],
                   sizes: Sequence[int]) -> None:
        size_of = dict(zip(kernel.sizes, sizes[: len(kernel.sizes)], strict=True))     # more are numbers of its code
        arrays = []
        for param, address in zip(kernel.params, pointers, strict=True):
            elements = size_of[param.elements] if isinstance(param.elements, str) else param.elements
            memory = Buffer(address, elements * param.dtype.itemsize, "cpu", None)
            arrays.append(as_ndarray(memory, param.dtype.storage, (elements,)))
        if self.stored is not None:
            arrays = self.stored.watched(launch, kernel, arrays)
        try:
            self.executable.run_kernel(kernel, arrays, size_of)
        except VerificationError as error:
            where = kernel.locations[0] if kernel.locations else None
            raise VerificationError(f"kernel {kernel.name} {error.message}", where=where) from None

    def call_host(self, launch: Launch | HostCall, pointers: Sequence[int], sizes: Sequence[int]) -> None:
        context = ContextRecord(answer=RAISED)
        status = self.executable.hosts[launch.symbol](
            ctypes.addressof(context), (ctypes.c_void_p * len(pointers))(*pointers),
            (ctypes.c_int64 * len(sizes))(*sizes), 0, 1)
        if is_python(launch.symbol):
            status = context.answer
            raise_kept(status, True)
        if status:
            details = (context.detail0, context.detail1)
            raise kernel_error(self.program.message(launch, status, details), status, details)
        if self.stored is not None:
            self.stored.trust([self.program.slots[number] for number in launch.slots])


class _Stored:
    """Which bytes of the arena and of the outputs hold something, in one call."""

    def __init__(self, program: Program):
        self.slots = program.slots
        self.arena = np.zeros(program.arena_bytes, np.bool_)
        self.outs = [np.zeros(nbytes, np.bool_) for nbytes in program.out_bytes]

    def of(self, slot: Slot) -> np.ndarray:
        return self.outs[slot.index] if slot.kind == "out" else self.arena[slot.index:slot.index + slot.nbytes]

    def holds(self, slot: Slot) -> bool:
        """Whether all of the slot was stored."""
        return slot.kind not in ("arena", "out") or bool(self.of(slot)[:slot.nbytes].all())

    def trust(self, slots: Sequence[Slot]) -> None:
        """A host function ran on these: whatever they are, they hold something now."""
        for slot in slots:
            if slot.kind in ("arena", "out"):
                self.of(slot)[:slot.nbytes] = True

    def watched(self, launch: Launch | HostCall, kernel: Kernel, arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
        """The arrays of a launch as buffers that know what was stored to them; those of its results hold nothing,
        unless they lie in the memory of an operand."""
        slots = [self.slots[number] for number in launch.slots]
        held = [array for array, param in zip(arrays, kernel.params, strict=True) if param.role in ("in", "inout")]
        made = []
        for slot, param, array in zip(slots, kernel.params, arrays, strict=True):
            if slot.kind not in ("arena", "out"):
                made.append(array)
                continue
            defined = self.of(slot)[:array.nbytes]
            if param.role in ("out", "scratch") and not any(np.may_share_memory(array, other) for other in held):
                defined[...] = False
                poison(array.ctypes.data, array.nbytes)
            made.append(Watched.over(array, defined))
        return made
