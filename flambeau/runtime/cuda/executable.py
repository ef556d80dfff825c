"""A Program on a GPU, called with memory of the device; or with the host's, which is copied there and back.

Launches follow one another on the driver's stream, over one arena. Loops and branches ask for their condition. A kernel
that has no code for the device runs on the host, by its meaning, on copies.
"""
from __future__ import annotations

import ctypes
import math
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
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

__all__ = ["CopyingExecutable", "CudaExecutable", "Loaded"]

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
    device's memory. A program with states must be bound first. loaded: what each launch runs."""

    def __init__(self, program: Program, loaded: Sequence[Loaded], driver: Driver, states: Sequence[int] = (),
                 consts: _Consts | None = None):
        program.check({slot.device for slot in program.slots} | {"cpu"})
        self.program, self.loaded, self.driver, self.states = program, tuple(loaded), driver, tuple(states)
        if len(self.loaded) != len(program.launches):
            raise VerificationError("one function for each launch")
        self.consts = consts or _Consts(program, driver)
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
        return CudaExecutable(self.program, self.loaded, self.driver, pointers, self.consts)

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


class _Consts:
    """A program's constants on the device."""

    def __init__(self, program: Program, driver: Driver):
        self.driver = driver
        self.pointers = []
        for data in program.consts:
            self.pointers.append(driver.allocate(len(data)))
            driver.to_device(self.pointers[-1], np.frombuffer(data, np.uint8).ctypes.data, len(data))

    def __del__(self) -> None:
        for pointer in self.pointers:
            self.driver.free(pointer)


class CopyingExecutable:
    """A program called with memory of the host: arguments and states are copied to the device, results and states back.
    Nothing is copied back where a kernel failed."""

    def __init__(self, inner: CudaExecutable, states: Sequence[int] = ()):
        self.inner, self.program, self.driver, self.states = inner, inner.program, inner.driver, tuple(states)
        written = {(slot.kind, slot.index) for number, slot in enumerate(self.program.slots) if number in inner.written}
        signature = self.program.signature
        self.nbytes = {"arg": [signature.nbytes(spec) for spec in signature.args],
                       "state": [signature.nbytes(spec) for spec in signature.states],
                       "out": list(self.program.out_bytes)}
        self.results = sorted(place for place in written if place[0] in ("state", "out"))
        self._lock = ForkSafeLock() if self.program.writes_state else nullcontext()

    def bind_states(self, pointers: Sequence[int]) -> CopyingExecutable:
        """The same program over these states, one pointer each; the caller keeps their memory alive."""
        if len(pointers) != self.program.n_states:
            raise VerificationError(f"the program has {self.program.n_states} states, not {len(pointers)}")
        return CopyingExecutable(self.inner, pointers)

    def call(self, arg_ptrs: Sequence[int], scalars: Sequence[float] = (), out_ptrs: Sequence[int] = (),
             sizes: Sequence[int] = ()) -> None:
        """As `CudaExecutable.call`."""
        self.fast_call(*arg_ptrs, *scalars, *out_ptrs, *sizes)

    def fast_call(self, *values: float) -> None:
        """As `CudaExecutable.fast_call`, but waits."""
        with self._lock:
            self._on_copies(values, lambda bound, there: bound.fast_call(*there))

    def profile(self, arg_ptrs: Sequence[int], scalars: Sequence[float] = (), out_ptrs: Sequence[int] = (),
                sizes: Sequence[int] = (), *, repeats: int = 10) -> tuple[float, ...]:
        """As `CudaExecutable.profile`."""
        program, seconds = self.program, []

        def profile(bound: CudaExecutable, there: Sequence[float]) -> None:
            args, rest = there[:program.n_args], there[program.n_args:]
            scalars, rest = rest[:program.n_scalars], rest[program.n_scalars:]
            outs, sizes = rest[:program.n_outs], rest[program.n_outs:]
            seconds.append(bound.profile(args, scalars, outs, sizes, repeats=repeats))      # type: ignore[arg-type]

        with self._lock:
            self._on_copies((*arg_ptrs, *scalars, *out_ptrs, *sizes), profile)
        return seconds[0]

    def _on_copies(self, values: Sequence[float], run: Callable[[CudaExecutable, Sequence[float]], None]) -> None:
        program, driver = self.program, self.driver
        if len(self.states) != program.n_states:
            raise VerificationError("the program has states: call what bind_states(pointers) returns")
        first_out = program.n_args + program.n_scalars
        first_size = first_out + program.n_outs
        if len(values) != first_size + program.n_sizes:
            raise TypeError(f"the program takes {first_size + program.n_sizes} values, not {len(values)}")
        hosts = {"arg": values[:program.n_args], "state": self.states, "out": values[first_out:first_size]}
        there: dict[str, list[int]] = {kind: [] for kind in hosts}
        try:
            for kind, pointers in hosts.items():
                for pointer, nbytes in zip(pointers, self.nbytes[kind], strict=True):
                    there[kind].append(driver.allocate(nbytes))
                    if kind != "out":
                        driver.to_device(there[kind][-1], int(pointer), nbytes)
            run(self.inner.bind_states(there["state"]),
                (*there["arg"], *values[program.n_args:first_out], *there["out"], *values[first_size:]))
            for kind, index in self.results:
                driver.to_host(int(hosts[kind][index]), there[kind][index], self.nbytes[kind][index])
        finally:
            for pointer in [*there["arg"], *there["state"], *there["out"]]:
                driver.free(pointer)


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
        self.table: dict[str, Sequence[float]] = {
            "arg": values[:program.n_args], "state": executable.states, "out": values[first_out:first_size],
            "const": executable.consts.pointers}
        self.allocated: list[int] = []
        self.seconds = [0.0] * len(program.launches)

    def __enter__(self) -> _Call:
        program, driver = self.program, self.driver
        try:
            self.statuses = self.reserve(max(1, len(program.launches)) * _STATUS_BYTES)
            driver.clear(self.statuses, max(1, len(program.launches)) * _STATUS_BYTES)
            self.arena = self.reserve(program.arena_bytes)
            scalars = self.reserve(self.scalars.nbytes)
            driver.to_device(scalars, self.scalars.ctypes.data, self.scalars.nbytes)
            self.table["scalar"] = [scalars + 8 * number for number in range(len(self.scalars))]
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
        if self.timed:
            self.driver.synchronize()           # the copies are no launch's
        self.walk(self.program.steps)
        self.raise_failure()

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
        return self.arena + slot.index if slot.kind == "arena" else int(self.table[slot.kind][slot.index])

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
