"""A GPU in its primary context, which other libraries of the process share; and what each thread works with.

Threads have a current device and, for each device, a current stream. A child of a fork has none of it: the driver does not
live on there.
"""
from __future__ import annotations

import os
import sys
import threading
from collections import deque
from collections.abc import Callable
from typing import Any, Final

from flambeau import config
from flambeau.errors import AcceleratorError
from flambeau.runtime.cuda.allocator import Allocator
from flambeau.runtime.cuda.api import checked, count_devices, emulated_api, nvidia_api, why_unavailable
from flambeau.runtime.cuda.pinned import Pinned, Ring
from flambeau.runtime.cuda.streams import Event, Stream
from flambeau.runtime.cuda.timeline import Timeline
from flambeau.runtime.devices import current_index
from flambeau.runtime.forking import ForkSafeLock, after_fork_in_child

__all__ = ["Device", "current_device", "device_count", "device_on", "emulated_device", "here", "is_in_use",
           "nvidia_device", "opened"]

_STREAMS = 32                       # of each priority: then they come again
_FORKED: Final = ("Cannot re-initialize CUDA in forked subprocess. To use CUDA with multiprocessing, you must use the "
                  "'spawn' start method")


class _Here(threading.local):
    """entered: the device whose context is current in this thread, as far as we know. streams: the current ones, by device,
    where they are not the default."""

    entered: Device | None = None

    def __init__(self) -> None:
        self.streams: dict[Device, Stream] = {}


here = _Here()


class Device:
    uses_graphs = True                  # launches in a row are asked for as one graph

    def __init__(self, number: int, cu: Any):
        self.number, self.cu, self.name, self.process = number, cu, f"cuda:{number}", os.getpid()
        count = checked(cu, cu.cuDeviceGetCount())
        if not 0 <= number < count:
            raise AcceleratorError(f"CUDA error: invalid device ordinal: there are {count} devices, not {number + 1}")
        self.handle = checked(cu, cu.cuDeviceGet(number))
        self.context = checked(cu, cu.cuDevicePrimaryCtxRetain(self.handle))
        self.not_ready = cu.CUresult.CUDA_ERROR_NOT_READY
        self.is_alone = count == 1          # else another library may have made another device current since
        self.default_stream = Stream(self, cu.CUstream(0) if hasattr(cu, "CUstream") else 0)
        self.streams = [self.default_stream]
        self._pools: dict[int, list[Stream]] = {}
        self._turns: dict[int, int] = {}
        self._events: deque[Event] = deque()
        self._lock = ForkSafeLock()
        self.enter()
        self.allocator = Allocator(self)
        self.pinned = Pinned(self)
        self.ring = Ring(self, self.pinned)
        self.timeline = Timeline(self)
        self._modules: list[Any] = []

    def __repr__(self) -> str:
        return f"<device {self.name}>"

    def enter(self) -> None:
        """Make the device current in this thread. Raises AcceleratorError in a child of a fork."""
        if here.entered is not self:
            self._enter()

    def _enter(self) -> None:
        if os.getpid() != self.process:
            raise AcceleratorError(_FORKED)
        checked(self.cu, self.cu.cuCtxSetCurrent(self.context))
        if self.is_alone:
            here.entered = self

    def is_there(self, is_ending: Callable[[], bool] = sys.is_finalizing,
                 fault: type[Exception] = AcceleratorError) -> bool:
        """Whether something can be asked of it: not at the end of the process, in a child of a fork, after a fault. (At the
        end this module has lost its names.)"""
        try:
            if is_ending():
                return False
            self.enter()
        except fault:
            return False
        return True

    # what it is

    def attribute(self, name: str) -> int:
        """CU_DEVICE_ATTRIBUTE_`name`."""
        which = getattr(self.cu.CUdevice_attribute, f"CU_DEVICE_ATTRIBUTE_{name}")
        return int(checked(self.cu, self.cu.cuDeviceGetAttribute(which, self.handle)))

    @property
    def capability(self) -> tuple[int, int]:
        """Compute capability, such as (9, 0)."""
        return self.attribute("COMPUTE_CAPABILITY_MAJOR"), self.attribute("COMPUTE_CAPABILITY_MINOR")

    @property
    def multiprocessors(self) -> int:
        return self.attribute("MULTIPROCESSOR_COUNT")

    @property
    def product(self) -> str:
        """The name that it is sold under."""
        name: bytes = checked(self.cu, self.cu.cuDeviceGetName(256, self.handle))
        return name.split(b"\0")[0].decode()

    def memory_info(self) -> tuple[int, int]:
        """Bytes that are free, and all of them."""
        self.enter()
        free, total = checked(self.cu, self.cu.cuMemGetInfo())
        return int(free), int(total)

    # streams and events

    def current_stream(self) -> Stream:
        return here.streams.get(self, self.default_stream)

    def stream(self, priority: int = 0) -> Stream:
        """One of a fixed number, in turn. Streams live as long as their device."""
        with self._lock:
            pool = self._pools.setdefault(priority, [])
            if len(pool) < _STREAMS:
                self.enter()
                flags = self.cu.CUstream_flags.CU_STREAM_NON_BLOCKING
                pool.append(Stream(self, checked(self.cu, self.cu.cuStreamCreateWithPriority(flags, priority)), priority))
                self.streams.append(pool[-1])
                return pool[-1]
            turn = self._turns[priority] = (self._turns.get(priority, -1) + 1) % _STREAMS
            return pool[turn]

    def external_stream(self, handle: int) -> Stream:
        """A stream of somebody else's, by the driver's handle: the same object for one handle."""
        if not handle:
            return self.default_stream
        with self._lock:
            known = [stream for stream in self.streams if int(stream.handle) == handle]
            if not known:
                known = [Stream(self, self.cu.CUstream(handle) if hasattr(self.cu, "CUstream") else handle)]
                self.streams += known
        return known[0]

    def foreign_stream(self, number: int) -> Stream:
        """As other libraries number streams: 1 is the legacy default stream, others are handles."""
        return self.default_stream if number == 1 else self.external_stream(number)

    @property
    def copies(self) -> Stream:
        """What is copied there from pinned memory while the current stream computes."""
        if self._copies is None:
            self._copies = self.stream(priority=-1)
        return self._copies

    _copies: Stream | None = None

    def event(self, timing: bool = False) -> Event:
        """One that nobody else has."""
        if not timing and self._events:
            try:
                return self._events.pop()
            except IndexError:
                """Another thread took it."""
        return Event(self, 0 if timing else int(self.cu.CUevent_flags.CU_EVENT_DISABLE_TIMING))

    def recycle(self, event: Event) -> None:
        """An event from `event()` that nobody looks at any more. Work that waits for it goes on to."""
        self._events.append(event)

    def drop_event(self, handle: Any) -> None:
        self._drop((self.cu.cuEventDestroy, handle))

    def drop_graph(self, graph: Any, executable: Any) -> None:
        """Launches that were asked for go on."""
        self._drop((self.cu.cuGraphExecDestroy, executable), (self.cu.cuGraphDestroy, graph))

    def _drop(self, *asked: tuple[Callable[[Any], Any], Any]) -> None:
        """Where it is there. Finalizers run in the middle of anything: the device that is current stays it."""
        current = () if self.is_alone else self.cu.cuCtxGetCurrent()
        if self.is_there():
            for function, what in asked:
                function(what)
            if current and not current[0]:
                self.cu.cuCtxSetCurrent(current[1])

    def synchronize(self) -> None:
        """Wait for all the work on the device. Raises KernelError for the first kernel that found bad data."""
        self.enter()
        failure: Exception | None = None
        for stream in list(self.streams):
            try:
                stream.synchronize()
            except AcceleratorError:
                raise
            except Exception as error:      # the others have to be told of and forgotten too
                failure = failure or error
        checked(self.cu, self.cu.cuCtxSynchronize())
        if failure is not None:
            raise failure

    # code

    def load(self, code: bytes, entry: str) -> Any:
        """A function of some code, which stays as long as the device. Raises AcceleratorError where it can't run it."""
        self.enter()
        module = checked(self.cu, self.cu.cuModuleLoadData(code))
        self._modules.append(module)
        return checked(self.cu, self.cu.cuModuleGetFunction(module, entry.encode()))


def device_on(number: int) -> Device:
    """The device of that number, NVIDIA's or the emulator's. Raises AcceleratorError where there is none, and in a child of
    a fork where the parent had one."""
    return emulated_device(number) if config.cuda == "emulator" else nvidia_device(number)


def nvidia_device(number: int) -> Device:
    return _open((False, number), nvidia_api)


def emulated_device(number: int) -> Device:
    """The device of that number which is not there."""
    return _open((True, number), emulated_api)


def _open(key: tuple[bool, int], api: Callable[[], Any]) -> Device:
    if _was_forked():
        raise AcceleratorError(_FORKED)
    if key not in opened:
        with _lock:
            if key not in opened:
                opened[key] = Device(key[1], api())
    return opened[key]


def _was_forked() -> bool:
    """Whether a parent of this process opened a device."""
    return any(device.process != os.getpid() for device in opened.values())


def is_in_use() -> bool:
    """Whether some device is, of NVIDIA's or the emulator's as the settings are."""
    return any(emulated == (config.cuda == "emulator") for emulated, _ in opened)


def current_device() -> Device:
    """Of this thread."""
    return device_on(current_index())


def device_count() -> int:
    """0 where there is no driver."""
    return 0 if why_unavailable() is not None else count_devices()


def _leave() -> None:
    here.entered = None
    here.streams.clear()


opened: dict[tuple[bool, int], Device] = {}
_lock = ForkSafeLock()
after_fork_in_child(_leave)
