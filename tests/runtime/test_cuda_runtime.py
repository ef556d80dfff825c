"""The runtime of GPUs on the simulated driver: memory, streams, graphs, errors; and the simulated driver beside the real
package, where that is installed."""
from __future__ import annotations

import gc
import os
import re
import signal
import threading
import time
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from flambeau import config
from flambeau.errors import AcceleratorError, KernelError, OutOfMemoryError, VerificationError
from flambeau.ir import dtypes as dt
from flambeau.ir.types import TensorType
from flambeau.runtime.buffer import Buffer, as_ndarray
from flambeau.runtime.cuda import api
from flambeau.runtime.cuda.allocator import size_class
from flambeau.runtime.cuda.device import Device, here
from flambeau.runtime.cuda.executable import CudaExecutable, Loaded
from flambeau.runtime.cuda.graphs import Graph
from flambeau.runtime.cuda.memory import CudaMemory
from flambeau.runtime.cuda.pinned import PinnedBlock, Ring
from flambeau.runtime.cuda.simulated import SimulatedDriver
from flambeau.runtime.cuda.simulated.names import ENUMS
from flambeau.runtime.cuda.streams import Event, Stream
from flambeau.runtime.native.support import support
from flambeau.runtime.program import Launch, Program, Signature, Slot, TensorSpec
from flambeau.runtime.recording import CALL, Recorder
from tests.runtime.cuda_programs import Mix, Run

HAS_BINDINGS = find_spec("cuda") is not None and find_spec("cuda.bindings") is not None


@pytest.fixture
def cu() -> SimulatedDriver:
    made = SimulatedDriver(devices=1, capacity=1 << 20)
    made.cuInit(0)
    return made


@pytest.fixture
def device(cu: SimulatedDriver) -> Iterator[Device]:
    yield Device(0, cu)
    here.streams.clear()
    here.entered = None


@pytest.fixture
def memory(device: Device) -> CudaMemory:
    return CudaMemory(device)


# -- random programs --------------------------------------------------------------------------------------------------


def test_random_programs_end_as_if_all_were_done_at_once() -> None:
    started, seed = time.monotonic(), 0
    while time.monotonic() - started < 4:
        try:
            Run(seed).go()
        except BaseException:
            print(f"Run({seed})")
            raise
        seed += 1


def _never(*_: Any) -> None:
    """Does nothing."""


@pytest.mark.parametrize(("kind", "method", "instead"), [
    (Graph, "renew", _never),
    (Event, "is_done", lambda self: True),
    (PinnedBlock, "used_by", lambda self, stream: stream.device.event()),
    (Stream, "wait_event", _never),
    (Ring, "copy", lambda self, *copy, made=Ring.copy: setattr(self, "at", 0) or made(self, *copy)),
    (CudaMemory, "record_stream", _never),
], ids=["stale graphs", "no events", "pinned memory used again", "no waits", "numbers written too early", "no users"])
def test_random_programs_find_faults(kind: type, method: str, instead: Callable[..., Any],
                                     monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kind, method, instead)
    with pytest.raises((AssertionError, VerificationError, ValueError)):            # ValueError: of what is no number
        for seed in range(200):
            Run(seed).go()


# -- the simulated driver is like the real one ------------------------------------------------------------------------


@pytest.mark.skipif(not HAS_BINDINGS, reason="cuda-bindings is not installed")
def test_functions_and_numbers_are_those_of_cuda_bindings() -> None:
    from cuda.bindings import driver as real
    for name, ours in vars(SimulatedDriver).items():
        if hasattr(ours, "parameters"):
            said = re.match(rf"{name}\((.*?)\)\n", getattr(real, name).__doc__.strip() + "\n", re.S)
            assert said, name
            parts = [part for part in re.split(r",(?![^[]*\])", said[1]) if part]
            theirs = [re.sub(r":.*", "", part).split()[-1].lstrip("*") for part in parts]
            assert [p.lower() for p in ours.parameters] == [p.lower() for p in theirs], name
    for enum in ENUMS:
        for member in enum:
            assert int(getattr(getattr(real, enum.__name__), member.name)) == member, member
    params = real.CUDA_KERNEL_NODE_PARAMS()
    for field in vars(SimulatedDriver.CUDA_KERNEL_NODE_PARAMS()):                           # type: ignore[attr-defined]
        assert hasattr(params, field), field


def test_nothing_is_done_before_somebody_waits(memory: CudaMemory, cu: SimulatedDriver) -> None:
    pinned = memory.pinned(8)
    seen = as_ndarray(pinned, np.int64, (1,))
    seen[:] = 1
    buffer = memory.from_host(seen, non_blocking=True)
    seen[:] = 2                                                     # too early: the copy is not done
    assert memory.to_host(buffer).view(np.int64) == [2]
    del buffer
    memory.gpu.allocator.release()
    assert not cu.memories[0].arrays


def test_too_early_is_an_error(memory: CudaMemory, cu: SimulatedDriver) -> None:
    buffer = memory.zeros(8)
    cu.cuMemFreeAsync(buffer.ptr, 0)
    with pytest.raises(Exception, match="not memory of the device"):
        memory.to_host(buffer)


# -- memory -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("nbytes", [0, 1, 512, 513, 5000, 100_000, (1 << 20) + 1, 17 << 20, 3 << 30])
def test_sizes_waste_little(nbytes: int) -> None:
    size = size_class(nbytes)
    assert size % 512 == 0 and size >= nbytes and size_class(size) == size
    assert size - nbytes <= max(512, nbytes // 8)


def test_freed_memory_is_used_again_without_the_driver(memory: CudaMemory, cu: SimulatedDriver) -> None:
    first = memory.allocate(1000)
    place = first.ptr
    del first
    assert calls_of(cu, lambda: memory.allocate(900)) == {} and memory.allocate(900).ptr == place


def test_statistics_count_what_is_there(memory: CudaMemory) -> None:
    a, b = memory.allocate(1000), memory.allocate(10)
    found = memory.stats()
    assert (found["allocated"], found["allocated_bytes.all.current"], found["allocation.all.current"]) == (1010, 1536, 2)
    del a
    found = memory.stats()
    assert (found["allocated"], found["peak"], found["reserved"]) == (10, 1010, 1536)
    memory.gpu.allocator.restart()
    assert memory.stats()["peak"] == 10
    memory.gpu.allocator.release()
    assert memory.stats()["reserved"] == 512 and b.nbytes == 10


def test_memory_ends_with_words_of_pytorch(memory: CudaMemory) -> None:
    kept = memory.allocate(300 << 10)
    freed = memory.allocate(600 << 10)
    del freed
    assert memory.allocate(650 << 10).nbytes == 650 << 10           # what was kept goes back to the driver first
    with pytest.raises(OutOfMemoryError, match=r"CUDA out of memory. Tried to allocate 2.00 MiB. GPU 0 has a total "
                                               r"capacity of 1.00 MiB of which .* is free"):
        memory.allocate(2 << 20)
    assert issubclass(OutOfMemoryError, RuntimeError)
    assert memory.allocate(10).nbytes == 10 and kept.nbytes         # life goes on


def test_memory_that_a_cycle_holds_is_found_before_it_ends(memory: CudaMemory) -> None:
    cycle: list[Any] = [memory.allocate(700 << 10)]
    cycle.append(cycle)
    del cycle
    assert memory.allocate(600 << 10).nbytes == 600 << 10 and memory.stats()["num_ooms"] == 0


def test_poison_fills_what_is_given(memory: CudaMemory) -> None:
    with config.set(poison=True):
        buffer = memory.allocate(6)
        assert np.isnan(memory.to_host(buffer).view(np.float16)).all()
        del buffer
        assert np.isnan(memory.to_host(memory.allocate(4)).view(np.float32)).all()


def test_threads_and_the_collector_may_free_anywhere(memory: CudaMemory) -> None:
    def work() -> None:
        for number in range(300):
            cycle: list[Any] = [memory.allocate(number % 5000)]
            cycle.append(cycle)
            if number % 50 == 0:
                gc.collect()

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    gc.collect()
    found = memory.stats()
    assert found["allocated"] == 0 and found["allocation.all.allocated"] == 1200 == found["allocation.all.freed"]


def test_small_copies_wait_for_room(memory: CudaMemory, device: Device, cu: SimulatedDriver) -> None:
    many = [np.full(50_000, n % 250, np.uint8) for n in range(50)]                          # more than twice what there is
    streams = [device.default_stream, device.stream()]
    buffers = []
    for n, array in enumerate(many):
        here.streams[device] = streams[n % 2]
        target = memory.allocate(8)
        device.ring.copy(target.ptr, array.ctypes.data, 8, streams[n % 2])
        device.ring.at += 50_000                                    # as if all of it were copied
        array[:] = 255
        buffers.append(target)
    device.synchronize()
    assert [int(memory.to_host(buffer)[0]) for buffer in buffers] == [n % 250 for n in range(50)]
    assert cu.calls["cuEventRecord"] >= 4


# -- programs ---------------------------------------------------------------------------------------------------------


def chain(device: Device, length: int = 6, count: int = 8, kernel: Any = None, reports: bool = False,
          numbers: int = 0) -> CudaExecutable:
    """out = arg + n0, over as many launches, each over the arena."""
    nbytes, name = 8 * count, device.name
    slots = [Slot("arg", 0, nbytes, name), Slot("out", 0, nbytes, name), Slot("arena", 0, nbytes, name),
             Slot("scalar", 0, 8, name)][:3 + numbers]
    launches, loaded = [], []
    for n in range(length):
        source, target = (0 if n == 0 else 2), (1 if n == length - 1 else 2)
        with_number = numbers and n == 0
        places = (source, *([3] if with_number else []), target)
        launches.append(Launch("k", 1, 32, False, places, errors=((7, "element {0} is bad"),), location=0))
        params = [SimpleNamespace(role="in")] * (len(places) - 1) + [SimpleNamespace(role="out")]
        work = kernel or Mix(count, [1], bool(with_number))
        loaded.append(Loaded(SimpleNamespace(params=params, sizes=()), work, 32, reports))  # type: ignore[arg-type]
    kind = TensorType((count,), dt.i64, name)
    signature = Signature((TensorSpec("x", kind),), (), (TensorSpec("n", TensorType((), dt.f64)),) * numbers,
                          (TensorSpec("y", kind),))
    program = Program(tuple(slots), tuple(launches), signature, nbytes, locations=("model.py:3",))
    return CudaExecutable(program, loaded, device)


def ints(memory: CudaMemory, *values: int) -> Buffer:
    return memory.from_host(np.array(values))


def found(memory: CudaMemory, buffer: Buffer) -> list[int]:
    return memory.to_host(buffer).view(np.int64).tolist()


def calls_of(cu: SimulatedDriver, run: Callable[[], object]) -> dict[str, int]:
    before = cu.calls.copy()
    with config.set(poison=False):
        run()
    return dict(cu.calls - before)


def test_a_repeated_call_is_one_call_of_the_driver(device: Device, memory: CudaMemory, cu: SimulatedDriver) -> None:
    step = chain(device, count=3)
    x, y, z = ints(memory, 1, 2, 3), memory.allocate(24), memory.allocate(24)
    assert calls_of(cu, lambda: step.fast_call(x.ptr, y.ptr))["cuLaunchKernel"] == 6       # the first time one by one
    step.fast_call(x.ptr, y.ptr)
    assert calls_of(cu, lambda: step.fast_call(x.ptr, y.ptr)) == {"cuGraphLaunch": 1}
    assert calls_of(cu, lambda: step.fast_call(x.ptr, z.ptr)) == {"cuGraphLaunch": 1, "cuGraphExecKernelNodeSetParams": 1}
    assert found(memory, y) == found(memory, z) == [1, 2, 3]


class Slow:
    """A kernel that takes a millisecond."""

    n_params = 3

    def __call__(self, at: Any, blocks: int, threads: int, values: Any) -> None:
        time.sleep(1e-3)


def test_launches_are_timed_on_the_device_as_a_graph_too(device: Device, memory: CudaMemory, cu: SimulatedDriver) -> None:
    step, x, y = chain(device, kernel=Slow()), memory.zeros(64), memory.zeros(64)
    plain = [calls_of(cu, lambda: step.fast_call(x.ptr, y.ptr)) for _ in range(3)][-1]
    recorder = Recorder(step.program)
    step.record_into(recorder)
    first, _, third = [calls_of(cu, lambda: step.fast_call(x.ptr, y.ptr)) for _ in range(3)]
    assert first["cuLaunchKernel"] == 6 and first["cuEventRecord"] == 7 + 1            # and one that tells both clocks
    assert (third["cuGraphLaunch"], third["cuGraphExecEventRecordNodeSetEvent"]) == (1, 7) and "cuLaunchKernel" not in third
    recorder.settle()
    assert recorder.counts.tolist() == [3] * 6 and (recorder.nanoseconds >= 3e6).all() and recorder.device == "cuda:0"
    (line,) = recorder.lines
    kernels = [event for event in recorder.events.tolist() if event[0] != CALL]
    calls = [event for event in recorder.events.tolist() if event[0] == CALL and event[3] == line]
    assert [what for what, *_ in kernels] == [0, 2, 4, 6, 8, 10] * 3 and {thread for *_, thread in kernels} == {line}
    for number, (_, start, stop, _) in enumerate(calls):
        assert [start, stop] == [kernels[6 * number][1], kernels[6 * number + 5][2]]
    step.record_into(None)
    assert calls_of(cu, lambda: step.fast_call(x.ptr, y.ptr)) == plain == {"cuGraphLaunch": 1}
    assert recorder.counts.tolist() == [3] * 6


def test_times_are_by_the_clock_of_the_host(device: Device, memory: CudaMemory) -> None:
    told: list[tuple[int, int, str]] = []
    before = support().clock_ns()
    memory.timed(lambda: memory.zeros(8), lambda *times: told.append(times))
    memory.settle()
    ((start, stop, stream),) = told
    assert before < start <= stop < support().clock_ns() and stream == "stream 0x0 of cuda:0"


def test_what_a_device_that_failed_does_not_tell_is_lost(device: Device, memory: CudaMemory, cu: SimulatedDriver) -> None:
    step, recorder = chain(device, kernel=lambda *_: 1 // 0), Recorder(chain(device).program)
    step.layout.loaded[0].function.n_params = 3
    step.record_into(recorder)
    step.fast_call(memory.zeros(64).ptr, memory.zeros(64).ptr)
    recorder.settle()
    assert not recorder.counts.any()


def test_numbers_of_many_waiting_calls_stay_their_own(device: Device, memory: CudaMemory) -> None:
    step, x = chain(device, count=1, numbers=1), ints(memory, 5)
    outs = [memory.allocate(8) for _ in range(200)]
    for number, out in enumerate(outs):
        step.fast_call(x.ptr, float(number), out.ptr)
    assert [found(memory, out)[0] for out in outs] == [5 + n for n in range(200)]


def test_a_call_does_not_ask_for_memory(device: Device, memory: CudaMemory, cu: SimulatedDriver) -> None:
    step, x, y = chain(device, numbers=1), memory.zeros(64), memory.zeros(64)
    step.fast_call(x.ptr, 0.0, y.ptr)
    made = calls_of(cu, lambda: [step.fast_call(x.ptr, float(n), y.ptr) for n in range(9)])
    assert not {"cuMemAllocAsync", "cuMemFreeAsync", "cuMemHostAlloc", "cuStreamSynchronize"} & made.keys()
    assert made["cuMemcpyHtoDAsync"] == 8


class Bad:
    """A kernel that finds element 5 bad where its input is negative."""

    n_params = 3

    def __call__(self, at: Any, blocks: int, threads: int, values: Any) -> None:
        status, source, target = values
        if (at(source, 8).view(np.int64) < 0).any():
            at(status, 16).view(np.int64)[:] = 7, 5
        at(target, 8)[:] = at(source, 8)


def test_reports_come_when_somebody_waits_and_once(device: Device, memory: CudaMemory) -> None:
    step = chain(device, count=1, kernel=Bad(), reports=True)
    bad, good, y = ints(memory, -1), ints(memory, 1), memory.allocate(8)
    step.fast_call(bad.ptr, y.ptr)
    step.fast_call(good.ptr, y.ptr)
    with pytest.raises(KernelError, match=r"element 5 is bad \(in the kernel of model.py:3\)"):
        memory.synchronize()
    memory.synchronize()
    step.fast_call(good.ptr, y.ptr)
    assert found(memory, y) == [1]
    stream = device.stream()
    here.streams[device] = stream
    stream.wait_stream(device.default_stream)
    step.fast_call(bad.ptr, y.ptr)
    device.default_stream.wait_stream(stream)
    with pytest.raises(KernelError):
        device.default_stream.synchronize()


def test_a_wait_for_an_event_leaves_reports_of_later_work(device: Device, memory: CudaMemory) -> None:
    step = chain(device, count=1, kernel=Bad(), reports=True)
    bad, good, y = ints(memory, -1), ints(memory, 1), memory.allocate(8)
    step.fast_call(good.ptr, y.ptr)
    event = device.event()
    event.record(device.default_stream)
    step.fast_call(bad.ptr, y.ptr)
    event.synchronize()
    del step                                                        # its words are still written to
    others = [chain(device, count=1, kernel=Bad(), reports=True) for _ in range(3)]
    for other in others:
        other.fast_call(good.ptr, y.ptr)
    with pytest.raises(KernelError, match="element 5"):
        memory.synchronize()
    memory.synchronize()


def test_faults_of_the_device_are_errors_in_its_words(device: Device, memory: CudaMemory, cu: SimulatedDriver) -> None:
    class Faulty(Bad):
        def __call__(self, *args: Any) -> None:
            raise ZeroDivisionError

    step, x = chain(device, count=1, kernel=Faulty()), ints(memory, 1)
    step.fast_call(x.ptr, x.ptr)
    with pytest.raises(AcceleratorError, match="CUDA error: launch failed"):
        memory.synchronize()
    with pytest.raises(RuntimeError, match="launch failed"):
        memory.zeros(8)


def test_a_refused_launch_leaves_later_calls_in_order(device: Device, memory: CudaMemory, cu: SimulatedDriver) -> None:
    x, y = ints(memory, 1), memory.allocate(8)
    for name in ("cuLaunchKernel", "cuGraphInstantiate", "cuMemcpyHtoDAsync", "cuGraphLaunch"):
        step = chain(device, count=1, numbers=1)
        cu.failures[name] = [cu.CUresult.CUDA_ERROR_INVALID_VALUE]                          # type: ignore[attr-defined]
        for number in range(3):
            try:
                step.fast_call(x.ptr, float(number), y.ptr)
            except AcceleratorError:
                continue
            assert found(memory, y) == [1 + number]
        assert not cu.failures[name], f"{name} was not called"
        assert [len(waiting) for waiting in step.instances.values()] == [1]


def test_threads_share_a_program(device: Device, memory: CudaMemory) -> None:
    step, wrong = chain(device, count=1, numbers=1), []

    def work(base: int) -> None:
        here.streams[device] = stream = device.stream()
        stream.wait_stream(device.default_stream)
        x = ints(memory, base)
        for number in range(50):
            y = memory.allocate(8)
            step.fast_call(x.ptr, float(number), y.ptr)
            if number % 5 == 0 and found(memory, y) != [base + number]:
                wrong.append((base, number))

    threads = [threading.Thread(target=work, args=(1000 * n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_a_call_within_a_call_has_memory_of_its_own(device: Device, memory: CudaMemory) -> None:
    """As from a function of the host in the middle of a program."""
    step, x, y = chain(device, count=1), ints(memory, 1), memory.allocate(8)
    step.fast_call(x.ptr, y.ptr)
    stream = device.current_stream()
    outer = stream.scratch.pop()
    step.fast_call(x.ptr, y.ptr)
    assert stream.scratch[-1].ptr != outer.ptr


def test_ctrl_c_ends_a_wait(device: Device) -> None:
    class Endless:
        def cuStreamQuery(self, stream: Any) -> tuple[Any, ...]:
            return (device.not_ready,)

    device.cu = Endless()
    timer = threading.Timer(0.05, lambda: os.kill(os.getpid(), signal.SIGINT))
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        device.default_stream.synchronize()


# -- streams and events -----------------------------------------------------------------------------------------------


def test_events_tell_what_is_done_and_how_long_it_took(device: Device, memory: CudaMemory) -> None:
    first, last = device.event(timing=True), device.event(timing=True)
    assert first.is_done()                                          # it was never recorded
    first.record(device.default_stream)
    memory.zeros(8)
    last.record(device.default_stream)
    assert not last.is_done()
    last.synchronize()
    assert last.is_done() and first.milliseconds_to(last) >= 0


def test_what_ends_on_another_device_leaves_this_one_current() -> None:
    cu = SimulatedDriver(devices=2, capacity=1 << 20)
    cu.cuInit(0)
    here_, there = Device(0, cu), Device(1, cu)
    event = there.event(timing=True)
    event.record(there.default_stream)
    used = CudaMemory(here_).allocate(8)
    used.use(there.default_stream)                                  # type: ignore[attr-defined]
    here_.enter()
    del event
    gc.collect()
    assert cu.cuCtxGetCurrent()[1] == here_.context
    del used                                                        # an event of the other device's says when it is free
    again = CudaMemory(here_).allocate(8)
    assert again.nbytes == 8 and cu.cuCtxGetCurrent()[1] == here_.context
    here.entered = None


def test_copies_from_pinned_memory_run_beside_the_kernels(device: Device, memory: CudaMemory, cu: SimulatedDriver) -> None:
    pinned = memory.pinned(100_000)
    source = as_ndarray(pinned, np.uint8, (100_000,))
    source[:] = 3
    buffer = memory.from_host(source, non_blocking=True)
    assert buffer.stream is device.copies                                                   # type: ignore[attr-defined]
    del source, pinned                                              # the copy is still on its way
    other = as_ndarray(memory.pinned(100_000), np.uint8, (100_000,))
    other[:] = 9
    assert (memory.to_host(buffer) == 3).all()


def test_streams_come_again(device: Device) -> None:
    assert len({id(device.stream()) for _ in range(100)}) == 32


# -- what can be missing ----------------------------------------------------------------------------------------------


def test_an_old_driver_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(AcceleratorError, match=r"too old: it is for CUDA 11.8, and 13.0 is needed"):
        api._initialised(SimulatedDriver(version=11080))
    with pytest.raises(AcceleratorError, match="no device"):
        api._initialised(SimulatedDriver(devices=0))
    missing = SimpleNamespace(cuInit=lambda flags: (_ for _ in ()).throw(RuntimeError("libcuda.so.1 is not there")))
    with pytest.raises(AcceleratorError, match="Found no NVIDIA driver on your system: libcuda.so.1"):
        api._initialised(missing)
    monkeypatch.setattr(api, "find_spec", lambda name: None)
    monkeypatch.setattr(api, "_found", {})
    with pytest.raises(AcceleratorError, match=r'(?s)cuda-bindings.*pip install "flambeau\[cuda\]"'):
        api.nvidia_api()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_child_of_a_fork_is_told(device: Device, memory: CudaMemory) -> None:
    buffer = memory.zeros(8)
    child = os.fork()
    if not child:
        try:
            memory.to_host(buffer)
        except AcceleratorError as error:
            os._exit(0 if "'spawn' start method" in str(error) else 2)
        os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
