"""The functions, each with the arguments that cuda-bindings gives it."""
from __future__ import annotations

import ctypes
import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from flambeau.errors import FlambeauError
from flambeau.runtime.cuda.simulated.memory import Kernel, Memory, Pinned, host_bytes
from flambeau.runtime.cuda.simulated.names import (
    CUDA_KERNEL_NODE_PARAMS,
    ENUMS,
    CUdevice_attribute,
    CUevent_flags,
    CUfunction_attribute,
    CUresult,
)
from flambeau.runtime.cuda.simulated.queues import Event, Queue, Queues, Record

__all__ = ["SimulatedDriver"]

_OK = (CUresult.CUDA_SUCCESS,)
_ATTRIBUTES = {1: 1024, 8: 49152, 10: 32, 16: 132, 18: 0, 33: 1, 34: 0, 38: 50 << 20, 39: 2048, 50: 0, 75: 9, 76: 0,
               81: 233472, 82: 65536, 84: 0, 97: 232448, 115: 1}
Answer = tuple[Any, ...]


class _Refused(Exception):
    """A call that ends with a status."""


class _Calls(type):
    """Every function answers with its status, is counted, and may be made to fail; without a context, after a fork and
    after a kernel that failed they all do."""

    def __new__(cls, name: str, bases: tuple[type, ...], members: dict[str, Any]) -> Any:
        for key, function in members.items():
            if key.startswith("cu") and callable(function):
                members[key] = cls.called(key, function)
        return super().__new__(cls, name, bases, members)

    @staticmethod
    def called(name: str, function: Callable[..., Any]) -> Callable[..., Answer]:
        free = name in ("cuInit", "cuGetErrorName", "cuGetErrorString", "cuDriverGetVersion")
        without = free or name.startswith(("cuDevice", "cuCtxSet", "cuCtxGetCurrent"))

        def call(self: SimulatedDriver, *args: Any) -> Answer:
            if not free:
                status = self.refuses(name, without)
                if status:
                    return (status, None)
            self.calls[name] += 1
            try:
                given = function(self, *args)
            except _Refused as refused:
                return (refused.args[0], None)
            return _OK if given is None else (CUresult.CUDA_SUCCESS, *(given if isinstance(given, tuple) else (given,)))

        call.__name__, call.__doc__ = name, function.__doc__
        call.parameters = function.__code__.co_varnames[1:function.__code__.co_argcount]    # type: ignore[attr-defined]
        return call


class SimulatedDriver(metaclass=_Calls):
    """kernels: what functions of loaded code do, by name. failures: statuses for calls to come, by name of the function.
    calls: how often each was called."""

    def __init__(self, devices: int = 2, capacity: int = 8 << 30, version: int = 13000):
        self.version, self.pinned, self.queues = version, Pinned(), Queues()
        self.memories = [Memory(number, capacity, self.pinned) for number in range(devices)]
        self.legacy = [self.queues.new(number) for number in range(devices)]                # the stream that is called 0
        self.kernels: dict[str, Kernel] = {}
        self.failures: dict[str, list[CUresult]] = {}
        self.calls: Counter[str] = Counter()
        self.broken: CUresult | None = None
        self.lock = threading.RLock()
        self.local = threading.local()
        self.process: int | None = None

    def refuses(self, name: str, without: bool) -> CUresult | None:
        if self.process != os.getpid():
            return CUresult.CUDA_ERROR_NOT_INITIALIZED
        if self.failures.get(name):
            return self.failures[name].pop(0)
        if self.broken:
            return self.broken
        return None if without or getattr(self.local, "context", None) is not None else CUresult.CUDA_ERROR_INVALID_CONTEXT

    def queue(self, stream: Any) -> Queue:
        """Of a stream of the current context."""
        number = self.local.context - 1
        queue: Queue = stream if stream else self.legacy[number]
        if isinstance(stream, int) and stream:              # a handle, as other libraries pass them on
            known = [queue for queue in self.queues.all if int(queue) == stream]
            if not known:
                raise _Refused(CUresult.CUDA_ERROR_INVALID_HANDLE)
            queue = known[0]
        if not isinstance(queue, Queue) or queue.device != number:
            raise _Refused(CUresult.CUDA_ERROR_INVALID_HANDLE)
        return queue

    def ask(self, stream: Any, work: Callable[[], None]) -> None:
        with self.lock:
            self.queues.ask(self.queue(stream), work)

    def settle(self, wait: Callable[[], Any]) -> Any:
        """Let work run. Raises what checks of the simulation find; anything else breaks the context, as a fault does."""
        with self.lock:
            try:
                return wait()
            except FlambeauError:
                raise
            except Exception:
                self.broken = CUresult.CUDA_ERROR_LAUNCH_FAILED
                raise _Refused(self.broken) from None

    # devices and contexts

    def cuInit(self, Flags: int) -> Any:
        if not self.memories:
            raise _Refused(CUresult.CUDA_ERROR_NO_DEVICE)
        if self.process not in (None, os.getpid()):
            raise _Refused(CUresult.CUDA_ERROR_NOT_INITIALIZED)
        self.process = os.getpid()

    def cuDriverGetVersion(self) -> int:
        return self.version

    def cuGetErrorName(self, error: CUresult) -> bytes:
        return CUresult(error).name.encode()

    def cuGetErrorString(self, error: CUresult) -> bytes:
        return CUresult(error).name.removeprefix("CUDA_ERROR_").replace("_", " ").lower().encode()

    def cuDeviceGetCount(self) -> int:
        return len(self.memories)

    def cuDeviceGet(self, ordinal: int) -> int:
        if not 0 <= ordinal < len(self.memories):
            raise _Refused(CUresult.CUDA_ERROR_INVALID_DEVICE)
        return ordinal

    def cuDeviceGetName(self, length: int, dev: int) -> bytes:
        return b"Flambeau's emulator".ljust(length, b"\0")

    def cuDeviceTotalMem(self, dev: int) -> int:
        return self.memories[dev].capacity

    def cuDeviceGetAttribute(self, attrib: CUdevice_attribute, dev: int) -> int:
        return _ATTRIBUTES[int(attrib)]

    def cuDevicePrimaryCtxRetain(self, dev: int) -> int:
        return dev + 1

    def cuCtxSetCurrent(self, ctx: int) -> None:
        self.local.context = ctx

    def cuCtxGetCurrent(self) -> Any:
        return getattr(self.local, "context", 0)

    def cuCtxSynchronize(self) -> None:
        with self.lock:
            for queue in self.queues.all:
                if queue.device == self.local.context - 1:
                    self.settle(lambda queue=queue: self.queues.drain(queue))               # type: ignore[misc]

    def cuCtxGetStreamPriorityRange(self) -> tuple[int, int]:
        return 0, -5

    # memory

    def cuMemAllocAsync(self, bytesize: int, hStream: Any) -> int:
        memory = self.memories[self.local.context - 1]
        with self.lock:
            pointer = memory.reserve(bytesize)
            if pointer is None:
                raise _Refused(CUresult.CUDA_ERROR_OUT_OF_MEMORY)
            self.ask(hStream, lambda: memory.appear(pointer))
        return pointer

    def cuMemFreeAsync(self, dptr: int, hStream: Any) -> None:
        memory = self.memories[self.local.context - 1]
        if dptr not in memory.sizes:
            raise _Refused(CUresult.CUDA_ERROR_INVALID_VALUE)
        self.ask(hStream, lambda: memory.vanish(dptr))

    def cuMemAlloc(self, bytesize: int) -> Any:
        memory = self.memories[self.local.context - 1]
        pointer = memory.reserve(bytesize)
        if pointer is None:
            raise _Refused(CUresult.CUDA_ERROR_OUT_OF_MEMORY)
        memory.appear(pointer)
        return pointer

    def cuMemFree(self, dptr: int) -> None:
        self.settle(self.queues.drain_all)
        self.memories[self.local.context - 1].vanish(dptr)

    def cuDeviceGetDefaultMemPool(self, dev: int) -> int:
        return dev

    def cuMemPoolTrimTo(self, pool: int, minBytesToKeep: int) -> None:
        """Everything freed is given back already."""

    def cuMemGetInfo(self) -> tuple[int, int]:
        memory = self.memories[self.local.context - 1]
        return memory.capacity - memory.used, memory.capacity

    def cuMemHostAlloc(self, bytesize: int, Flags: int) -> int:
        return self.pinned.allocate(bytesize)

    def cuMemFreeHost(self, p: int) -> None:
        self.settle(self.queues.drain_all)
        self.pinned.free(p)

    def cuMemHostGetDevicePointer(self, p: int, Flags: int) -> int:
        return self.pinned.device_pointer(p)

    # copies

    def at(self) -> Callable[[int, int], np.ndarray]:
        """The bytes of all devices, as each reaches the others."""
        def at(pointer: int, nbytes: int) -> np.ndarray:
            number = (pointer >> 48 & 0xFF) - 1
            return self.memories[number if 0 <= number < len(self.memories) else 0].at(pointer, nbytes)

        return at

    def cuMemcpyHtoDAsync(self, dstDevice: int, srcHost: int, ByteCount: int, hStream: Any) -> None:
        at = self.at()
        if self.pinned.holds(srcHost, ByteCount):
            def copy() -> None:
                at(dstDevice, ByteCount)[:] = self.pinned.at(srcHost, ByteCount)
        else:
            staged = host_bytes(srcHost, ByteCount)

            def copy() -> None:
                at(dstDevice, ByteCount)[:] = staged
        self.ask(hStream, copy)

    def cuMemcpyDtoHAsync(self, dstHost: int, srcDevice: int, ByteCount: int, hStream: Any) -> None:
        at = self.at()

        def copy() -> None:
            found = np.ascontiguousarray(at(srcDevice, ByteCount))
            ctypes.memmove(dstHost, found.ctypes.data, ByteCount)

        self.ask(hStream, copy)
        if not self.pinned.holds(dstHost, ByteCount):
            queue = self.queue(hStream)
            self.settle(lambda: self.queues.drain(queue))

    def cuMemcpyDtoDAsync(self, dstDevice: int, srcDevice: int, ByteCount: int, hStream: Any) -> None:
        at = self.at()

        def copy() -> None:
            at(dstDevice, ByteCount)[:] = at(srcDevice, ByteCount)

        self.ask(hStream, copy)

    def cuMemcpyPeerAsync(self, dstDevice: int, dstContext: Any, srcDevice: int, srcContext: Any, ByteCount: int,
                          hStream: Any) -> None:
        at = self.at()

        def copy() -> None:
            at(dstDevice, ByteCount)[:] = at(srcDevice, ByteCount)

        self.ask(hStream, copy)

    def cuMemsetD8Async(self, dstDevice: int, uc: int, N: int, hStream: Any) -> None:
        at = self.at()

        def fill() -> None:
            at(dstDevice, N)[:] = uc

        self.ask(hStream, fill)

    def cuMemsetD16Async(self, dstDevice: int, us: int, N: int, hStream: Any) -> None:
        at = self.at()

        def fill() -> None:
            at(dstDevice, 2 * N).view(np.uint16)[:] = us

        self.ask(hStream, fill)

    # streams and events

    def cuStreamCreateWithPriority(self, flags: int, priority: int) -> Queue:
        return self.queues.new(self.local.context - 1)

    def cuStreamSynchronize(self, hStream: Any) -> None:
        queue = self.queue(hStream)
        self.settle(lambda: self.queues.drain(queue))

    def cuStreamQuery(self, hStream: Any) -> None:
        queue = self.queue(hStream)
        if self.settle(lambda: self.queues.step(queue)):
            raise _Refused(CUresult.CUDA_ERROR_NOT_READY)

    def cuStreamWaitEvent(self, hStream: Any, hEvent: Event, Flags: int) -> None:
        with self.lock:
            queue = self.queue(hStream)
            if hEvent.record is not None and hEvent.record.queue is not queue:
                self.queues.ask(queue, hEvent.record)

    def cuEventCreate(self, Flags: int) -> Event:
        return Event(not Flags & CUevent_flags.CU_EVENT_DISABLE_TIMING)

    def cuEventDestroy(self, hEvent: Event) -> None:
        """What waits for it goes on to."""

    def cuEventRecord(self, hEvent: Event, hStream: Any) -> None:
        with self.lock:
            self.queues.record(hEvent, self.queue(hStream))

    def cuEventQuery(self, hEvent: Event) -> None:
        record = hEvent.record
        if record is not None and record.done_at is None:
            self.settle(lambda: self.queues.step(record.queue))
            raise _Refused(CUresult.CUDA_ERROR_NOT_READY)

    def cuEventSynchronize(self, hEvent: Event) -> None:
        record = hEvent.record
        if record is not None:
            self.settle(lambda: self.queues.finish(record))

    def cuEventElapsedTime(self, hStart: Event, hEnd: Event) -> float:
        first, last = hStart.record, hEnd.record
        if first is None or last is None or not (hStart.has_times and hEnd.has_times):
            raise _Refused(CUresult.CUDA_ERROR_INVALID_HANDLE)
        if first.done_at is None or last.done_at is None:
            raise _Refused(CUresult.CUDA_ERROR_NOT_READY)
        return 1000 * (last.done_at - first.done_at)

    # code

    def cuModuleLoadData(self, image: bytes) -> Any:
        if not image:
            raise _Refused(CUresult.CUDA_ERROR_INVALID_IMAGE)
        return image

    def cuModuleGetFunction(self, hmod: Any, name: bytes) -> Kernel:
        if name.decode() not in self.kernels:
            raise _Refused(CUresult.CUDA_ERROR_NOT_FOUND)
        return self.kernels[name.decode()]

    def cuFuncSetAttribute(self, hfunc: Kernel, attrib: CUfunction_attribute, value: int) -> None:
        """Taken as it is."""

    def cuLaunchKernel(self, f: Kernel, gridDimX: int, gridDimY: int, gridDimZ: int, blockDimX: int, blockDimY: int,
                       blockDimZ: int, sharedMemBytes: int, hStream: Any, kernelParams: int, extra: int) -> None:
        if not gridDimX or not blockDimX:
            raise _Refused(CUresult.CUDA_ERROR_INVALID_VALUE)
        values, at = _values(f, kernelParams), self.at()
        self.ask(hStream, lambda: f(at, gridDimX, blockDimX, values))

    # graphs

    def cuGraphCreate(self, flags: int) -> Any:
        return []

    def cuGraphAddKernelNode(self, hGraph: list[_Node], dependencies: Any, numDependencies: int,
                             nodeParams: CUDA_KERNEL_NODE_PARAMS) -> _Node:
        return _added(hGraph, _Node(_work(nodeParams), dependencies), numDependencies)

    def cuGraphAddEventRecordNode(self, hGraph: list[_Node], dependencies: Any, numDependencies: int,
                                  event: Event) -> _Node:
        return _added(hGraph, _Node(event, dependencies), numDependencies)

    def cuGraphInstantiate(self, hGraph: list[_Node], flags: int) -> Any:
        return {node: node.work for node in hGraph}

    def cuGraphExecKernelNodeSetParams(self, hGraphExec: dict[_Node, Any], hNode: _Node,
                                       nodeParams: CUDA_KERNEL_NODE_PARAMS) -> None:
        self.renew(hGraphExec, hNode, _work(nodeParams))

    def cuGraphExecEventRecordNodeSetEvent(self, hGraphExec: dict[_Node, Any], hNode: _Node, event: Event) -> None:
        self.renew(hGraphExec, hNode, event)

    @staticmethod
    def renew(executable: dict[_Node, Any], node: _Node, work: _Work) -> None:
        """A node of a graph gets other work of its kind."""
        if node not in executable or type(executable[node]) is not type(work):
            raise _Refused(CUresult.CUDA_ERROR_INVALID_VALUE)
        executable[node] = work

    def cuGraphLaunch(self, hGraphExec: dict[_Node, Any], hStream: Any) -> None:
        at, queue = self.at(), self.queue(hStream)
        work = {node: Record(queue) if isinstance(what, Event) else what for node, what in hGraphExec.items()}
        for node, what in hGraphExec.items():
            if isinstance(what, Event):
                what.record = work[node]

        def run() -> None:                                  # in any order that keeps what stands before each before it
            waiting = list(work)
            while waiting:
                ready = [node for node in waiting if not any(before in waiting for before in node.before)]
                node = self.queues.random.choice(ready)
                waiting.remove(node)
                what = work[node]
                if isinstance(what, Record):
                    what.done_at = time.perf_counter()
                    continue
                function, blocks, threads, values = what
                function(at, blocks, threads, values)

        self.ask(hStream, run)

    def cuGraphDestroy(self, hGraph: Any) -> None:
        """Executables made of it stay."""

    def cuGraphExecDestroy(self, hGraphExec: Any) -> None:
        """Launches that wait stay."""


_Launch = tuple[Kernel, int, int, list[int]]
_Work = _Launch | Event


class _Node:
    """Of a graph: a launch, or an event to record."""

    def __init__(self, work: _Work, dependencies: Sequence[_Node] | None):
        self.work, self.before = work, list(dependencies or ())


def _added(graph: list[_Node], node: _Node, n_dependencies: int) -> _Node:
    if n_dependencies != len(node.before) or any(before not in graph for before in node.before):
        raise _Refused(CUresult.CUDA_ERROR_INVALID_VALUE)
    graph.append(node)
    return node


def _work(params: CUDA_KERNEL_NODE_PARAMS) -> _Launch:
    return params.func, params.gridDimX, params.blockDimX, _values(params.func, params.kernelParams)


for _kind in (*ENUMS, CUDA_KERNEL_NODE_PARAMS):
    setattr(SimulatedDriver, _kind.__name__, _kind)


def _values(kernel: Kernel, params: int) -> list[int]:
    """What the pointers to parameters point to, now."""
    return [ctypes.c_int64.from_address(pointer).value
            for pointer in (ctypes.c_uint64 * kernel.n_params).from_address(params)]
