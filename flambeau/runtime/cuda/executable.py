"""A Program on a GPU, called with memory of the host: arguments and states are copied there, results and states back.

Launches follow one another on the driver's stream, over one arena. Loops and branches ask for their condition. A kernel
that has no code for the device runs on the host, by its meaning, on copies.
"""
from __future__ import annotations

import ctypes
import math
import statistics
import time
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from typing import Any, assert_never

import numpy as np

from flambeau.errors import KernelError, VerificationError, kernel_error
from flambeau.ir.kernel import Kernel
from flambeau.ir.kernel.interpreter import interpret
from flambeau.ir.records import dataclass
from flambeau.runtime.cuda.driver import Driver
from flambeau.runtime.forking import ForkSafeLock
from flambeau.runtime.program import Branch, Extent, HostCall, Launch, Loop, Program, Step

__all__ = ["CudaExecutable", "Loaded"]

_STATUS_BYTES = 16                          # of each launch: a status, and its detail


@dataclass(frozen=True, slots=True)
class Loaded:
    """What a launch runs: a function of the driver's, or None where the host runs the kernel. threads: of a block.
    reports: whether it may leave a status."""

    kernel: Kernel
    function: Any
    threads: int
    reports: bool


class CudaExecutable:
    """Called as `runtime.Executable` is: `fast_call(*arg_pointers, *scalars, *out_pointers, *sizes)`, pointers into the
    host's memory. A program with states must be bound first. loaded: what each launch runs."""

    def __init__(self, program: Program, loaded: Sequence[Loaded], driver: Driver, states: Sequence[int] = ()):
        program.check()
        self.program, self.loaded, self.driver, self.states = program, tuple(loaded), driver, tuple(states)
        if len(self.loaded) != len(program.launches):
            raise VerificationError("one function for each launch")
        self._lock = ForkSafeLock() if program.writes_state else nullcontext()
        self.written: set[int] = set()                  # slots that some launch stores to
        for launch, part in zip(program.launches, self.loaded, strict=True):
            roles = [param.role for param in part.kernel.params]
            self.written |= {slot for slot, role in zip(launch.slots, roles, strict=True) if role in ("out", "inout")}
        self.number_of = {id(launch): number for number, launch in enumerate(program.launches)}
        self.reporting = [number for number, part in enumerate(self.loaded) if part.reports]

    def bind_states(self, pointers: Sequence[int]) -> CudaExecutable:
        """The same program over these states, one pointer each; the caller keeps their memory alive."""
        if len(pointers) != self.program.n_states:
            raise VerificationError(f"the program has {self.program.n_states} states, not {len(pointers)}")
        return CudaExecutable(self.program, self.loaded, self.driver, pointers)

    def call(self, arg_ptrs: Sequence[int], scalars: Sequence[float] = (), out_ptrs: Sequence[int] = (),
             sizes: Sequence[int] = ()) -> None:
        """Run the program. The outputs' memory is the caller's: program.out_bytes says how much."""
        self.fast_call(*arg_ptrs, *scalars, *out_ptrs, *sizes)

    def fast_call(self, *values: float) -> None:
        """Run the program on pointers (as ints) and numbers. Raises KernelError where a kernel finds bad data, TypeError
        for a wrong number of values."""
        with self._lock, _Call(self, values) as call:
            call.run()

    def profile(self, arg_ptrs: Sequence[int], scalars: Sequence[float] = (), out_ptrs: Sequence[int] = (),
                sizes: Sequence[int] = (), *, repeats: int = 10) -> tuple[float, ...]:
        """Run the program `repeats` times, writing states each time; the median seconds of each of its launches, as
        `Executable.profile` tells them, each waited for."""
        runs = []
        for _ in range(repeats):
            with self._lock, _Call(self, (*arg_ptrs, *scalars, *out_ptrs, *sizes), timed=True) as call:
                call.run()
                runs.append(call.seconds)
        return tuple(statistics.median(times) for times in zip(*runs, strict=True))


class _Call:
    """One call: its memory on the device, and the walk over the steps."""

    def __init__(self, executable: CudaExecutable, values: Sequence[float], timed: bool = False):
        self.executable, self.program, self.driver, self.timed = executable, executable.program, executable.driver, timed
        program = self.program
        if len(executable.states) != program.n_states:
            raise VerificationError("the program has states: call what bind_states(pointers) returns")
        first_out = program.n_args + program.n_scalars
        first_size = first_out + program.n_outs
        if len(values) != first_size + program.n_sizes:
            raise TypeError(f"the program takes {first_size + program.n_sizes} values, not {len(values)}")
        self.sizes = [int(value) for value in values[first_size:]]
        self.scalars = np.array(values[program.n_args:first_out], np.float64)
        self.hosts: dict[str, Sequence[float]] = {
            "arg": values[:program.n_args], "state": executable.states, "out": values[first_out:first_size],
            "scalar": [self.scalars.ctypes.data + 8 * n for n in range(len(self.scalars))]}
        self.place_of: dict[tuple[str, int], int] = {}
        self.allocated: list[int] = []
        self.seconds = [0.0] * len(program.launches)

    def __enter__(self) -> _Call:
        program, driver = self.program, self.driver
        try:
            self.statuses = self.reserve(max(1, len(program.launches)) * _STATUS_BYTES)
            driver.clear(self.statuses, max(1, len(program.launches)) * _STATUS_BYTES)
            self.arena = self.reserve(program.arena_bytes)
            nbytes: dict[tuple[str, int], int] = {}
            for slot in program.slots:
                if slot.kind != "arena":
                    nbytes[slot.kind, slot.index] = max(slot.nbytes, nbytes.get((slot.kind, slot.index), 0))
            for (kind, index), size in nbytes.items():
                place = self.place_of[kind, index] = self.reserve(size)
                if kind == "const":
                    driver.to_device(place, np.frombuffer(program.consts[index], np.uint8).ctypes.data, size)
                elif kind != "out":
                    driver.to_device(place, int(self.hosts[kind][index]), size)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *exc: object) -> None:
        for pointer in self.allocated:
            self.driver.free(pointer)

    def reserve(self, nbytes: int) -> int:
        pointer = self.driver.allocate(nbytes)
        self.allocated.append(pointer)
        return pointer

    def run(self) -> None:
        """All steps, then what they made to the host. Nothing is copied back where a kernel failed."""
        if self.timed:
            self.driver.synchronize()           # the copies are no launch's
        self.walk(self.program.steps)
        self.raise_failure()
        for number, slot in enumerate(self.program.slots):
            if slot.kind in ("out", "state") and number in self.executable.written:
                self.driver.to_host(int(self.hosts[slot.kind][slot.index]), self.pointer(number), slot.nbytes)

    def walk(self, steps: Sequence[Step]) -> None:
        for step in steps:
            match step:
                case Launch() | HostCall():
                    self.launch(step, self.executable.number_of[id(step)])
                case Loop(condition, body):
                    while self.is_true(condition):
                        self.walk(body)
                case Branch(condition, then, otherwise):
                    self.walk(then if self.is_true(condition) else otherwise)
                case _:
                    assert_never(step)

    def pointer(self, number: int) -> int:
        slot = self.program.slots[number]
        return self.arena + slot.index if slot.kind == "arena" else self.place_of[slot.kind, slot.index]

    def size(self, extent: Extent) -> int:
        return extent if isinstance(extent, int) else extent.times * self.sizes[extent.number]

    def is_true(self, condition: int) -> bool:
        """Waits for the work before, and ends where some of it failed: its condition may mean nothing."""
        self.raise_failure()
        answer = ctypes.c_uint8()
        self.driver.to_host(ctypes.addressof(answer), self.pointer(condition), 1)
        return answer.value != 0

    def launch(self, launch: Launch | HostCall, number: int) -> None:
        started = time.perf_counter()
        self.ask(launch, number)
        if self.timed:
            self.driver.synchronize()
            self.seconds[number] += time.perf_counter() - started

    def ask(self, launch: Launch | HostCall, number: int) -> None:
        """The device for a launch, or the host where it has no code for the device."""
        loaded = self.executable.loaded[number]
        pointers = [self.pointer(slot) for slot in launch.slots]
        sizes = [self.size(extent) for extent in launch.sizes]
        if loaded.function is None:
            self.run_on_host(launch, loaded.kernel, pointers, dict(zip(loaded.kernel.sizes, sizes, strict=True)))
            return
        assert isinstance(launch, Launch), f"{launch.symbol} is a function of the host"
        blocks = launch.tasks if isinstance(launch.tasks, int) else math.prod(
            [-(-self.size(factor.extent) // factor.block) for factor in launch.tasks])
        status = self.statuses + _STATUS_BYTES * number
        self.driver.launch(loaded.function, blocks, loaded.threads, [status, *pointers], sizes)

    def run_on_host(self, launch: Launch | HostCall, kernel: Kernel, pointers: Sequence[int],
                    sizes: Mapping[str, int]) -> None:
        """The kernel's meaning, on copies."""
        self.raise_failure()
        arrays = []
        for param, pointer in zip(kernel.params, pointers, strict=True):
            elements = sizes[param.elements] if isinstance(param.elements, str) else param.elements
            array = np.empty(elements, param.dtype.storage)
            self.driver.to_host(array.ctypes.data, pointer, array.nbytes)
            arrays.append(array)
        try:
            interpret(kernel, arrays, sizes)
        except KernelError as error:
            message = self.program.message(launch, error.status, error.details, error.message)
            raise kernel_error(message, error.status, error.details) from None
        for param, pointer, array in zip(kernel.params, pointers, arrays, strict=True):
            if param.role in ("out", "inout"):
                self.driver.to_device(pointer, array.ctypes.data, array.nbytes)

    def raise_failure(self) -> None:
        """Raises KernelError for the first launch that reported a status, once all work is done."""
        if not self.executable.reporting:
            return
        found = np.empty((len(self.program.launches), 2), np.int64)
        self.driver.to_host(found.ctypes.data, self.statuses, found.nbytes)
        for number in self.executable.reporting:
            status, detail = int(found[number, 0]), int(found[number, 1])
            if status:
                launch = self.program.launches[number]
                raise kernel_error(self.program.message(launch, status, (detail, 0)), status, (detail, 0))
