"""Random programs of allocations, copies, launches, streams and frees on a simulated device, beside a model that does all
at once. Work waits in the simulated queues, so that a wait too few or memory freed too early gives wrong bytes.

    python -m tests.runtime.cuda_programs 1000 [first seed]
"""
from __future__ import annotations

import random
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import numpy as np

from flambeau.errors import OutOfMemoryError
from flambeau.ir import dtypes as dt
from flambeau.ir.types import TensorType
from flambeau.runtime.buffer import Buffer, as_ndarray
from flambeau.runtime.cuda.device import Device, here
from flambeau.runtime.cuda.executable import CudaExecutable, Loaded
from flambeau.runtime.cuda.memory import CudaMemory
from flambeau.runtime.cuda.simulated import SimulatedDriver
from flambeau.runtime.cuda.streams import Stream
from flambeau.runtime.program import Launch, Program, Signature, Slot, TensorSpec
from flambeau.runtime.recording import CALL, Recorder

CAPACITY = 1 << 20


class Mix:
    """out = sum of times * in, then the first number that is not an array; all i64. What a kernel does here, for the device
    and for the model."""

    def __init__(self, count: int, times: Sequence[int], takes_number: bool):
        self.count, self.times, self.takes_number = count, tuple(times), takes_number
        self.n_params = 2 + len(self.times) + takes_number          # status, inputs, number, result

    def of(self, arrays: Sequence[np.ndarray], number: float) -> np.ndarray:
        total = np.zeros(self.count, np.int64)
        for times, array in zip(self.times, arrays, strict=True):
            total += times * array
        return total + int(number)

    def __call__(self, at: Any, blocks: int, threads: int, values: Sequence[int]) -> None:
        _, *pointers, result = values
        number = at(pointers.pop(), 8).view(np.float64)[0] if self.takes_number else 0.0
        arrays = [at(pointer, 8 * self.count).view(np.int64) for pointer in pointers]
        at(result, 8 * self.count).view(np.int64)[:] = self.of(arrays, number)


@dataclass
class Made:
    """A program, and what it does: `model(args, states, numbers)` gives the results and changes the states."""

    executable: CudaExecutable
    model: Callable[[list[np.ndarray], list[np.ndarray], Sequence[float]], list[np.ndarray]]
    count: int
    n_args: int
    n_numbers: int
    n_outs: int
    states: list[tuple[Buffer, np.ndarray]]


def random_program(rng: random.Random, device: Device, memory: CudaMemory) -> Made:
    count = rng.choice([1, 3, 64, 500])
    n_args, n_states, n_numbers, n_outs = rng.randint(0, 3), rng.randint(0, 2), rng.randint(0, 2), rng.randint(1, 2)
    n_scratch, nbytes = rng.randint(0, 3), 8 * count
    stride = -(-nbytes // 64) * 64
    consts = [np.array([rng.randint(-9, 9) for _ in range(count)]) for _ in range(rng.randint(0, 1))]
    slots = [*[Slot("arg", n, nbytes, device.name) for n in range(n_args)],
             *[Slot("state", n, nbytes, device.name) for n in range(n_states)],
             *[Slot("const", n, nbytes, device.name) for n in range(len(consts))],
             *[Slot("arena", stride * n, nbytes, device.name) for n in range(n_scratch)],
             *[Slot("out", n, nbytes, device.name) for n in range(n_outs)],
             *[Slot("scalar", n, 8, device.name) for n in range(n_numbers)]]
    number_of = {(slot.kind, slot.index): n for n, slot in enumerate(slots)}
    readable = [n for n, slot in enumerate(slots) if slot.kind in ("arg", "state", "const")]
    storable = [n for n, slot in enumerate(slots) if slot.kind in ("arena", "out", "state")]
    work: list[tuple[Mix, list[int], int, int]] = []                # kernel, inputs, slot of its number or -1, result
    lacking = [number_of["out", n] for n in range(n_outs)]
    for _ in range(rng.choice([0, 1, 2, 5, 8])):
        result = rng.choice(storable)
        work.append(mix(rng, count, readable, n_numbers, number_of, result))
        readable = sorted({*readable, result})
    for result in lacking:
        work.append(mix(rng, count, readable, n_numbers, number_of, result))
        readable = sorted({*readable, result})
    launches, loaded = [], []
    for kernel, inputs, number, result in work:
        places = (*inputs, *([number] if number >= 0 else []), result)
        launches.append(Launch("mix", 1, 32, False, places))
        params = [SimpleNamespace(role="in") for _ in places[:-1]] + [SimpleNamespace(role="out")]
        loaded.append(Loaded(SimpleNamespace(params=params, sizes=()), kernel, 32, False))          # type: ignore[arg-type]
    kind = TensorType((count,), dt.i64, device.name)
    signature = Signature(*[tuple([TensorSpec(f"{name}{n}", kind) for n in range(how_many)])
                            for name, how_many in (("a", n_args), ("s", n_states))],
                          tuple([TensorSpec(f"n{n}", TensorType((), dt.f64)) for n in range(n_numbers)]),
                          tuple([TensorSpec(f"o{n}", kind) for n in range(n_outs)]))
    program = Program(tuple(slots), tuple(launches), signature, stride * n_scratch,
                      tuple([const.tobytes() for const in consts]), writes_state=n_states > 0)

    def model(args: list[np.ndarray], states: list[np.ndarray], numbers: Sequence[float]) -> list[np.ndarray]:
        found: dict[int, np.ndarray] = {}
        for n, slot in enumerate(slots):
            if slot.kind in ("arg", "state", "const"):
                found[n] = {"arg": args, "state": states, "const": consts}[slot.kind][slot.index]
        for kernel, inputs, number, result in work:
            given = numbers[slots[number].index] if number >= 0 else 0.0
            made = kernel.of([found[n] for n in inputs], given)
            if slots[result].kind == "state":
                states[slots[result].index][:] = made
            else:
                found[result] = made
        return [found[number_of["out", n]] for n in range(n_outs)]

    values = [np.array([rng.randint(-9, 9) for _ in range(count)]) for _ in range(n_states)]
    states = [(memory.from_host(value), value.copy()) for value in values]
    executable = CudaExecutable(program, loaded, device)
    if n_states:
        executable = executable.bind_states([buffer.ptr for buffer, _ in states])
    return Made(executable, model, count, n_args, n_numbers, n_outs, states)


def mix(rng: random.Random, count: int, readable: Sequence[int], n_numbers: int, number_of: dict[tuple[Any, int], int],
        result: int) -> tuple[Mix, list[int], int, int]:
    inputs = [rng.choice(readable) for _ in range(rng.randint(0, 3))] if readable else []
    number = number_of["scalar", rng.randrange(n_numbers)] if n_numbers and rng.random() < 0.5 else -1
    return Mix(count, [rng.randint(-2, 2) for _ in inputs], number >= 0), inputs, number, result


@dataclass
class Tensor:
    """Memory of the device, what it should hold, and which streams used it last: all those that work on it now wait for."""

    buffer: Buffer
    values: np.ndarray
    streams: set[Stream] = field(default_factory=set)


class Run:
    """One random program of a whole process, so to say."""

    def __init__(self, seed: int, steps: int = 60):
        self.rng = rng = random.Random(seed)
        self.cu = SimulatedDriver(devices=2, capacity=CAPACITY)
        self.cu.cuInit(0)
        self.cu.queues.random.seed(seed)
        self.cu.queues.chance = rng.choice([0, 0, 0.2, 0.6])
        self.devices = [Device(0, self.cu), Device(1, self.cu)]
        for device in self.devices:
            device.ring.BYTES = 1024                    # type: ignore[misc]  so that it is full now and then
            device.ring.MOST = 512                      # type: ignore[misc]
        self.device = self.devices[0]
        self.device.uses_graphs = rng.random() < 0.8
        self.memory, self.memory_1 = CudaMemory(self.device), CudaMemory(self.devices[1])
        self.streams = [self.device.default_stream, *[self.device.stream() for _ in range(rng.randint(0, 2))]]
        self.tensors: list[Tensor] = []
        self.elsewhere: list[tuple[Buffer, np.ndarray]] = []
        self.made: list[Made] = []
        self.pinned: list[tuple[Buffer, np.ndarray]] = []           # of the host, and what it should hold once all is done
        self.steps = steps
        self.recorders: dict[int, tuple[Made, Recorder]] = {}       # of programs that are timed
        self.counts: dict[int, int] = {}

    # what may be done

    def go(self) -> None:
        actions: list[tuple[Callable[[], None], int]] = [
            (self.new_tensor, 4), (self.new_program, 2), (self.call, 12), (self.drop, 4), (self.look, 3), (self.switch, 3),
            (self.copy, 3), (self.overwrite, 3), (self.synchronize, 1), (self.read_later, 1), (self.across, 1),
            (self.empty_cache, 1), (self.time, 1)]
        try:
            for _ in range(self.steps):
                (action,) = self.rng.choices([a for a, _ in actions], [w for _, w in actions])
                try:
                    action()
                except OutOfMemoryError:
                    live = sum(t.buffer.nbytes for t in self.tensors) + sum(b.nbytes for b, _ in self.elsewhere)
                    assert live > CAPACITY // 8, "memory ends although most of it is free"
                    self.tensors = self.tensors[len(self.tensors) // 2:]
            self.synchronize()
            self.end_of_times()
            for tensor in self.tensors:
                assert self.memory.to_host(tensor.buffer).view(np.int64).tolist() == tensor.values.tolist()
            for made in self.made:
                for buffer, values in made.states:
                    assert self.memory.to_host(buffer).view(np.int64).tolist() == values.tolist()
        finally:
            here.streams.clear()
            here.entered = None

    def use(self, *tensors: Tensor) -> None:
        """As a careful user does who works on tensors in the current stream."""
        current = self.device.current_stream()
        for tensor in tensors:
            for stream in tensor.streams - {current}:
                current.wait_stream(stream)
            self.memory.record_stream(tensor.buffer, current)
            tensor.streams = {current}

    def fresh(self) -> np.ndarray:
        count = self.rng.choice([1, 3, 64, 64, 500, 500, 12000])
        return np.array([self.rng.randint(-99, 99) for _ in range(min(count, 64))]).repeat(-(-count // 64))[:count].copy()

    def new_tensor(self) -> None:
        values = self.fresh()
        how = self.rng.choice(["pageable", "pinned", "zeros"])
        if how == "zeros":
            made = Tensor(self.memory.zeros(values.nbytes), np.zeros_like(values))
        else:
            source, there = values.copy(), how == "pinned" and self.rng.random() < 0.6
            if how == "pinned":
                pinned = self.memory.pinned(values.nbytes)
                source = as_ndarray(pinned, np.int64, values.shape)
                source[:] = values
            made = Tensor(self.memory.from_host(source, non_blocking=there), values)
            if not there:
                source[:] = 77                                      # it is the user's again
        made.streams = {self.device.current_stream()}
        self.tensors.append(made)

    def new_program(self) -> None:
        if len(self.made) < 3:
            self.made.append(random_program(self.rng, self.device, self.memory))
            self.synchronize()                                      # states and constants are there for all streams

    def call(self) -> None:
        if not self.made:
            return
        made = self.rng.choice(self.made)
        fitting = [t for t in self.tensors if len(t.values) == made.count]
        while len(fitting) < made.n_args:
            values = np.array([self.rng.randint(-99, 99) for _ in range(made.count)])
            fitting.append(Tensor(self.memory.from_host(values), values, {self.device.current_stream()}))
            self.tensors.append(fitting[-1])
        args = [self.rng.choice(fitting) for _ in range(made.n_args)]
        numbers = [float(self.rng.randint(-5, 5)) for _ in range(made.n_numbers)]
        if made.states and made.executable.instances:
            for stream in self.streams:
                self.device.current_stream().wait_stream(stream)
        for _ in range(self.rng.choice([1, 1, 3])):
            self.use(*args)
            outs = [self.memory.allocate(8 * made.count) for _ in range(made.n_outs)]
            made.executable.fast_call(*[a.buffer.ptr for a in args], *numbers, *[o.ptr for o in outs])
            if id(made) in self.recorders:
                self.counts[id(made)] += 1
            found = made.model([a.values for a in args], [values for _, values in made.states], numbers)
            results = [Tensor(o, v, {self.device.current_stream()}) for o, v in zip(outs, found, strict=True)]
            if self.rng.random() < 0.5:
                self.tensors += results

    def time(self) -> None:
        """Time a program's launches from now on, or no longer."""
        if not self.made:
            return
        made = self.rng.choice(self.made)
        if id(made) in self.recorders:
            made.executable.record_into(None)
            self.check_times(*self.recorders.pop(id(made)))
        else:
            recorder = Recorder(made.executable.program)
            self.recorders[id(made)], self.counts[id(made)] = (made, recorder), 0
            made.executable.record_into(recorder)

    def check_times(self, made: Made, recorder: Recorder) -> None:
        recorder.settle()
        assert set(recorder.counts.tolist()) <= {self.counts[id(made)]}, "every launch ran as often as the program"
        assert (recorder.nanoseconds >= 0).all()
        kernels = [event for event in recorder.events.tolist() if event[0] != CALL]
        assert sum(stop - start for _, start, stop, _ in kernels) == recorder.nanoseconds.sum()
        calls = sorted(event[1:3] for event in recorder.events.tolist() if event[0] == CALL and event[3] in recorder.lines)
        assert len(calls) == self.counts[id(made)] * bool(len(recorder.counts))

    def end_of_times(self) -> None:
        for made, recorder in self.recorders.values():
            self.check_times(made, recorder)

    def drop(self) -> None:
        if self.tensors:
            del self.tensors[self.rng.randrange(len(self.tensors))]

    def look(self) -> None:
        if self.tensors:
            tensor = self.rng.choice(self.tensors)
            self.use(tensor)
            assert self.memory.to_host(tensor.buffer).view(np.int64).tolist() == tensor.values.tolist()

    def switch(self) -> None:
        here.streams[self.device] = self.rng.choice(self.streams)

    def copy(self) -> None:
        pairs = [(a, b) for a in self.tensors for b in self.tensors if a is not b and len(a.values) == len(b.values)]
        if pairs:
            target, source = self.rng.choice(pairs)
            self.use(target, source)
            self.memory.copy(target.buffer, 0, source.buffer, 0, source.buffer.nbytes)
            target.values = source.values.copy()

    def overwrite(self) -> None:
        if self.tensors:
            tensor = self.rng.choice(self.tensors)
            self.use(tensor)
            values = np.array([self.rng.randint(-99, 99)])
            at = self.rng.randrange(len(tensor.values))
            self.memory.write(tensor.buffer, 8 * at, values)
            tensor.values = tensor.values.copy()
            tensor.values[at] = values[0]
            values[:] = 55

    def read_later(self) -> None:
        if self.tensors:
            tensor = self.rng.choice(self.tensors)
            self.use(tensor)
            pinned = self.memory.pinned(tensor.buffer.nbytes)
            self.memory.read(as_ndarray(pinned, np.int64, tensor.values.shape), tensor.buffer, non_blocking=True)
            self.pinned.append((pinned, tensor.values))

    def across(self) -> None:
        """To the other device and back."""
        if self.tensors:
            tensor = self.rng.choice(self.tensors)
            self.use(tensor)
            there = self.memory_1.allocate(tensor.buffer.nbytes)
            self.memory.copy(there, 0, tensor.buffer, 0, tensor.buffer.nbytes)
            back = self.memory.allocate(there.nbytes)
            self.memory.copy(back, 0, there, 0, there.nbytes)
            self.tensors.append(Tensor(back, tensor.values, {self.device.current_stream()}))

    def empty_cache(self) -> None:
        self.device.allocator.release()

    def synchronize(self) -> None:
        self.memory.synchronize()
        for buffer, values in self.pinned:
            assert as_ndarray(buffer, np.int64, values.shape).tolist() == values.tolist()
        self.pinned.clear()
        for tensor in self.tensors:
            tensor.streams = {self.device.current_stream()}


if __name__ == "__main__":
    many, first = int(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 0
    started, launches, graphs = time.time(), 0, 0
    for seed in range(first, first + many):
        run = Run(seed)
        try:
            run.go()
        except BaseException:
            print(f"seed {seed}")
            raise
        launches += run.cu.calls["cuLaunchKernel"]
        graphs += run.cu.calls["cuGraphLaunch"]
    print(f"{many} programs, {launches} launches, {graphs} graphs in {time.time() - started:.0f} s")
