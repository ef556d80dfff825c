"""A Program on a GPU, called with memory of the device. A call returns once its work is asked for.

All work of a call goes to the current stream of the thread, over the stream's scratch memory as arena. Loops and branches
ask for their condition. A kernel that has no code for the device runs on the host, by its meaning, on copies.
"""
from __future__ import annotations

import ctypes
import threading
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from typing import assert_never

import numpy as np

from flambeau.errors import KernelError, VerificationError, kernel_error
from flambeau.ir.kernel import Kernel
from flambeau.ir.kernel.interpreter import interpret
from flambeau.runtime.cuda.allocator import Block, config_poisons
from flambeau.runtime.cuda.api import checked
from flambeau.runtime.cuda.device import Device, here
from flambeau.runtime.cuda.instance import Instance
from flambeau.runtime.cuda.layout import HostStep, If, Layout, Loaded, Segment, Walked, While, evaluated
from flambeau.runtime.cuda.streams import Stream
from flambeau.runtime.cuda.timed import TimedInstance
from flambeau.runtime.native.support import support
from flambeau.runtime.program import HostCall, Launch, Program
from flambeau.runtime.recording import Recorder, watch

__all__ = ["CudaExecutable", "Loaded"]


class Instances(dict[Stream, list[Instance]]):
    """Those that no call is using. recorder: where their launches' times go, if they are timed."""

    def __init__(self, recorder: Recorder | None = None):
        super().__init__()
        self.recorder = recorder


class CudaExecutable:
    """Called as `runtime.Executable` is: `fast_call(*arg_pointers, *scalars, *out_pointers, *sizes)`, pointers into the
    device's memory. A program with states must be bound first. What kernels find wrong is raised when somebody waits for
    the work."""

    def __init__(self, program: Program, loaded: Sequence[Loaded], device: Device):
        places = {slot.device for slot in program.slots} | {"cpu"}
        program.check(places, asked=places)
        self._setup(Layout(program, loaded), device, (), _Consts(program, device))

    def _setup(self, layout: Layout, device: Device, states: tuple[int, ...], consts: _Consts) -> None:
        self.layout, self.program, self.device, self.states = layout, layout.program, device, states
        self.consts, self.arena_bytes = consts, self.program.arena_bytes
        self.instances = self._untimed = Instances()
        self._lock = threading.RLock() if self.program.writes_state else nullcontext()
        watch(self)

    def bind_states(self, pointers: Sequence[int]) -> CudaExecutable:
        """The same program over these states, one pointer each; the caller keeps their memory alive."""
        if len(pointers) != self.program.n_states:
            raise VerificationError(f"the program has {self.program.n_states} states, not {len(pointers)}")
        bound = CudaExecutable.__new__(CudaExecutable)
        bound._setup(self.layout, self.device, tuple(pointers), self.consts)
        return bound

    def record_into(self, recorder: Recorder | None) -> None:
        """As `recording.Recordable` says."""
        self.instances = self._untimed if recorder is None else Instances(recorder)
        if recorder is not None:
            recorder.settle, recorder.device = self.device.timeline.read, self.device.name

    def call(self, arg_ptrs: Sequence[int], scalars: Sequence[float] = (), out_ptrs: Sequence[int] = (),
             sizes: Sequence[int] = ()) -> None:
        """Run the program. The outputs' memory is the caller's: program.out_bytes says how much."""
        self.fast_call(*arg_ptrs, *scalars, *out_ptrs, *sizes)

    def fast_call(self, *values: float) -> None:
        """Ask for the program's work on pointers (as ints) and numbers. Raises TypeError for a wrong number of values."""
        device = self.device
        if here.entered is not device:
            device.enter()
        stream = here.streams.get(device, device.default_stream)
        with self._lock:
            instances = self.instances
            waiting = instances.get(stream)
            instance = waiting.pop() if waiting else self._new_instance(stream, instances)
            try:
                if values != instance.last:
                    instance.take(values)
                arena = self._arena(instance, stream) if self.arena_bytes else None
                try:
                    if self.layout.is_plain:
                        for segment in self.layout.steps:
                            instance.run(segment)                       # type: ignore[arg-type]
                    else:
                        _Walk(self, instance).walk(self.layout.steps)
                finally:
                    if instance.report is not None:
                        stream.expect(instance.report)
                    if arena is not None:
                        stream.scratch.append(arena)
            finally:
                instances[stream].append(instance)

    def _new_instance(self, stream: Stream, instances: Instances) -> Instance:
        if len(self.states) != self.program.n_states:
            raise VerificationError("the program has states: call what bind_states(pointers) returns")
        instances.setdefault(stream, [])
        given = self.layout, stream, self.states, self.consts.used_on(stream)
        return Instance(*given) if instances.recorder is None else TimedInstance(*given, instances.recorder)

    def _arena(self, instance: Instance, stream: Stream) -> Block:
        """The stream's scratch memory, larger if need be. Calls that are made within this one get other."""
        nbytes = self.arena_bytes
        try:
            arena = stream.scratch.pop()
        except IndexError:
            arena = None
        if arena is None or arena.size < nbytes:
            del arena                           # its memory may become part of what takes its place
            arena = self.device.allocator.allocate(nbytes, stream)
        elif config_poisons():
            self.device.allocator.fill(arena.ptr, arena.size, stream)
        if instance.arena != arena.ptr:
            instance.set_arena(arena.ptr)
        return arena

    def profile(self, arg_ptrs: Sequence[int], scalars: Sequence[float] = (), out_ptrs: Sequence[int] = (),
                sizes: Sequence[int] = (), *, repeats: int = 10) -> tuple[float, ...]:
        """Run the program `repeats` times, writing states each time; the median seconds of each of its launches, as
        `Executable.profile` tells them."""
        timed, recorder = self.bind_states(self.states), Recorder(self.program, most_events=0)
        timed.record_into(recorder)
        runs = []
        with self._lock:
            for _ in range(repeats):
                recorder.nanoseconds[:] = 0
                timed.call(arg_ptrs, scalars, out_ptrs, sizes)
                self.device.current_stream().synchronize()
                recorder.settle()
                runs.append(recorder.nanoseconds.copy())
        return tuple([1e-9 * float(nanoseconds) for nanoseconds in np.median(runs, axis=0)])


class _Consts:
    """A program's constants on the device."""

    def __init__(self, program: Program, device: Device):
        self.blocks: list[Block] = []
        stream = self.stream = device.current_stream()
        self.users = {stream}
        device.enter()
        for data in program.consts:
            block = device.allocator.allocate(len(data), stream)
            self.blocks.append(block)
            source = np.frombuffer(data, np.uint8).ctypes.data
            if data:
                checked(device.cu, device.cu.cuMemcpyHtoDAsync(block.ptr, source, len(data), stream.handle))
        self.keep = program.consts              # for as long as copies may be on their way

    def used_on(self, stream: Stream) -> list[int]:
        """Their pointers, for work on that stream."""
        if stream not in self.users:
            self.users.add(stream)
            stream.wait_stream(self.stream)
            for block in self.blocks:
                block.use(stream)
        return [block.ptr for block in self.blocks]


class _Walk:
    """One call of a program that asks the device what to do next."""

    def __init__(self, executable: CudaExecutable, instance: Instance):
        self.program, self.layout, self.instance = executable.program, executable.layout, instance
        self.device, self.cu, self.stream = instance.device, instance.cu, instance.stream

    def walk(self, steps: Sequence[Walked]) -> None:
        for step in steps:
            match step:
                case Segment():
                    self.instance.run(step)
                case HostStep(number):
                    self.run_on_host(number)
                case While(condition, body):
                    while self.is_true(condition):
                        self.walk(body)
                case If(condition, then, otherwise):
                    self.walk(then if self.is_true(condition) else otherwise)
                case _:
                    assert_never(step)

    def wait(self) -> None:
        """Ends where work failed: what it left may mean nothing."""
        if self.instance.report is not None:
            self.stream.expect(self.instance.report)
        self.stream.synchronize()

    def is_true(self, condition: int) -> bool:
        landing = self.device.pinned.allocate(1)
        checked(self.cu, self.cu.cuMemcpyDtoHAsync(landing.address, self.instance.pointer(condition), 1,
                                                   self.stream.handle))
        landing.used_by(self.stream)
        self.wait()
        return ctypes.c_uint8.from_address(landing.address).value != 0

    def run_on_host(self, number: int) -> None:
        """The kernel's meaning, on copies."""
        started = support().clock_ns()
        launch, kernel = self.layout.launches[number], self.layout.loaded[number].kernel
        sizes = [evaluated(extent, self.instance.sizes) for extent in launch.sizes]
        self._interpret(launch, kernel, dict(zip(kernel.sizes, sizes, strict=True)))
        self.instance.ran_on_host(number, started, support().clock_ns())

    def _interpret(self, launch: Launch | HostCall, kernel: Kernel, sizes: Mapping[str, int]) -> None:
        cu, handle = self.cu, self.stream.handle
        self.wait()
        pointers = [self.instance.pointer(slot) for slot in launch.slots]
        arrays = []
        for param, pointer in zip(kernel.params, pointers, strict=True):
            elements = sizes[param.elements] if isinstance(param.elements, str) else param.elements
            array = np.empty(elements, param.dtype.storage)
            if array.nbytes:
                checked(cu, cu.cuMemcpyDtoHAsync(array.ctypes.data, pointer, array.nbytes, handle))
            arrays.append(array)
        self.wait()
        try:
            interpret(kernel, arrays, sizes)
        except KernelError as error:
            message = self.program.message(launch, error.status, error.details, error.message)
            raise kernel_error(message, error.status, error.details) from None
        for param, pointer, array in zip(kernel.params, pointers, arrays, strict=True):
            if param.role in ("out", "inout") and array.nbytes:
                checked(cu, cu.cuMemcpyHtoDAsync(pointer, array.ctypes.data, array.nbytes, handle))
        self.wait()                             # the arrays go
