"""A Program without machine code: every launch is its kernel's NumPy meaning, on the memory that native code would
use. Slow and plain: the reference that native executables are held to, and the example of a backend."""
from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from typing import Never

import numpy as np

from flambeau import config
from flambeau.errors import KernelError, VerificationError
from flambeau.ir.kernel import Kernel
from flambeau.ir.kernel.interpreter import Watched, interpret
from flambeau.runtime.buffer import Buffer, allocate, as_ndarray, poison
from flambeau.runtime.forking import ForkSafeLock
from flambeau.runtime.program import Launch, Program, Slot

__all__ = ["InterpretedExecutable"]


class InterpretedExecutable:
    """Runs a program whose every launch is a whole kernel (one task, one slot for each param).

    kernels: that of each launch. Called as `runtime.Executable` is: `fast_call(*arg_pointers, *scalars,
    *out_pointers)`; a program with states must be bound first. A subclass may watch `run_kernel`. With `config.poison`
    results and scratch are filled before the launch that makes them, and reading what nothing stored is an error."""

    def __init__(self, program: Program, kernels: Sequence[Kernel], states: Sequence[int] = ()):
        program.check()
        if len(kernels) != len(program.launches):
            raise VerificationError("one kernel for each launch")
        self.program, self.kernels, self.states = program, tuple(kernels), tuple(states)
        self._lock = ForkSafeLock() if program.writes_state else nullcontext()

    def bind_states(self, pointers: Sequence[int]) -> InterpretedExecutable:
        """The same program over these states, one pointer each; the caller keeps their memory alive."""
        expected = self.program.n_states
        if len(pointers) != expected:
            raise VerificationError(f"the program has {expected} states, not {len(pointers)}")
        return type(self)(self.program, self.kernels, pointers)

    def call(self, arg_ptrs: Sequence[int], scalars: Sequence[float] = (), out_ptrs: Sequence[int] = ()) -> None:
        """Run the program. The outputs' memory is the caller's: program.out_bytes says how much."""
        self.fast_call(*arg_ptrs, *scalars, *out_ptrs)

    def fast_call(self, *values: float) -> None:
        """Run the program on pointers (as ints) and numbers. Raises KernelError as native code would, TypeError for a
        wrong number of values."""
        program = self.program
        if len(self.states) != program.n_states:
            raise VerificationError("the program has states: call what bind_states(pointers) returns")
        first_out = program.n_args + program.n_scalars
        if len(values) != first_out + len(program.out_bytes):
            raise TypeError(f"the program takes {program.n_args} argument pointers, {program.n_scalars} scalars and "
                            f"{len(program.out_bytes)} output pointers; {len(values)} values came")
        scalars = np.array(values[program.n_args:first_out], np.float64)
        consts = [np.frombuffer(data, np.uint8) for data in program.consts]
        arena = allocate(program.arena_bytes)
        table = {"arg": values[:program.n_args], "out": values[first_out:], "state": self.states,
                 "scalar": [scalars.ctypes.data + 8 * n for n in range(len(scalars))],
                 "const": [array.ctypes.data for array in consts]}

        def pointer(slot: Slot) -> int:
            return arena.ptr + slot.index if slot.kind == "arena" else int(table[slot.kind][slot.index])

        stored = _Stored(program) if config.poison else None
        with self._lock:
            for launch, kernel in zip(program.launches, self.kernels, strict=True):
                self._run(launch, kernel, [pointer(program.slots[number]) for number in launch.slots], stored)

    def run_kernel(self, kernel: Kernel, arrays: Sequence[np.ndarray], sizes: Mapping[str, int]) -> None:
        """One launch. arrays: flat views of the memory behind each param, in its storage dtype."""
        interpret(kernel, arrays, sizes)

    def _run(self, launch: Launch, kernel: Kernel, pointers: Sequence[int], stored: _Stored | None) -> None:
        sizes = dict(zip(kernel.sizes, launch.sizes, strict=True))
        arrays = []
        for param, address in zip(kernel.params, pointers, strict=True):
            elements = sizes[param.elements] if isinstance(param.elements, str) else param.elements
            memory = Buffer(address, elements * param.dtype.itemsize, "cpu", None)
            arrays.append(as_ndarray(memory, param.dtype.storage, (elements,)))
        if stored is not None:
            arrays = stored.watched(launch, kernel, arrays)
        try:
            self.run_kernel(kernel, arrays, sizes)
        except KernelError as error:
            _raise_as_native(error, launch)
        except VerificationError as error:
            where = kernel.locations[0] if kernel.locations else None
            raise VerificationError(f"kernel {kernel.name} {error.message}", where=where) from None


class _Stored:
    """Which bytes of the arena and of the outputs hold something, in one call."""

    def __init__(self, program: Program):
        self.slots = program.slots
        self.arena = np.zeros(program.arena_bytes, np.bool_)
        self.outs = [np.zeros(nbytes, np.bool_) for nbytes in program.out_bytes]

    def watched(self, launch: Launch, kernel: Kernel, arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
        """The arrays of a launch as buffers that know what was stored to them; those of its results hold nothing,
        unless they lie in the memory of an operand."""
        slots = [self.slots[number] for number in launch.slots]
        held = [array for array, param in zip(arrays, kernel.params, strict=True) if param.role in ("in", "inout")]
        made = []
        for slot, param, array in zip(slots, kernel.params, arrays, strict=True):
            if slot.kind not in ("arena", "out"):
                made.append(array)
                continue
            memory = self.outs[slot.index] if slot.kind == "out" else self.arena[slot.index:slot.index + slot.nbytes]
            defined = memory[:array.nbytes]
            if param.role in ("out", "scratch") and not any(np.may_share_memory(array, other) for other in held):
                defined[...] = False
                poison(array.ctypes.data, array.nbytes)
            made.append(Watched.over(array, defined))
        return made


def _raise_as_native(error: KernelError, launch: Launch) -> Never:
    """The same status and details with the launch's own message."""
    message = dict(launch.errors).get(error.status, error.message)
    for number, detail in enumerate(error.details):
        message = message.replace(f"{{{number}}}", str(detail))
    raise KernelError(message, status=error.status, details=error.details) from None
