"""Streams and events, as `torch.cuda`'s: work goes to the current stream of the thread that asks for it."""
from __future__ import annotations

from types import TracebackType
from typing import Any

from flambeau.cuda.devices import index_of, runtime_device
from flambeau.frontend.tensor.device import Device
from flambeau.runtime.cuda import device as runtime
from flambeau.runtime.cuda.streams import Event as RuntimeEvent
from flambeau.runtime.cuda.streams import Stream as RuntimeStream
from flambeau.runtime.devices import current_index, set_current_index

__all__ = ["Event", "ExternalStream", "Stream", "StreamContext", "current_stream", "default_stream",
           "get_stream_from_external", "is_current_stream_capturing", "set_stream", "stream"]


class Stream:
    """Work that is done in order, beside that of other streams. priority: lower numbers go first, 0 and -1 to -5."""

    def __init__(self, device: Any = None, priority: int = 0, **kwargs: Any):
        if kwargs:
            raise TypeError(f"Stream: got unexpected arguments {', '.join(kwargs)}")
        self._stream = runtime_device(device).stream(min(0, priority))

    @classmethod
    def _over(cls, stream: RuntimeStream) -> Stream:
        made = Stream.__new__(cls)
        made._stream = stream
        return made

    @property
    def device(self) -> Device:
        return Device("cuda", self.device_index)

    @property
    def device_index(self) -> int:
        return self._stream.device.number

    @property
    def cuda_stream(self) -> int:
        """The driver's handle."""
        return int(self._stream.handle)

    stream_id = native_handle = cuda_stream

    @property
    def device_type(self) -> int:
        return 1

    @property
    def priority(self) -> int:
        return self._stream.priority

    @property
    def _as_parameter_(self) -> Any:
        return self.cuda_stream

    def query(self) -> bool:
        """Whether all the work that was asked for is done."""
        return self._stream.is_done()

    def synchronize(self) -> None:
        """Wait for the work that was asked for. Raises KernelError for the first kernel that found bad data."""
        self._stream.synchronize()

    def wait_event(self, event: Event) -> None:
        """Work asked for from now on waits for the event. Returns at once."""
        if event._event is not None:
            self._stream.wait_event(event._event)

    def wait_stream(self, stream: Stream) -> None:
        """Work asked for from now on waits for what was asked of another stream until now. Returns at once."""
        self._stream.wait_stream(stream._stream)

    def record_event(self, event: Event | None = None) -> Event:
        """An event, a new one if none is given, at this point of the stream."""
        event = Event() if event is None else event
        event.record(self)
        return event

    def __enter__(self) -> Stream:
        self._context = StreamContext(self)
        self._context.__enter__()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._context.__exit__(kind, error, trace)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Stream) and other._stream is self._stream

    def __hash__(self) -> int:
        return hash(self._stream)

    def __repr__(self) -> str:
        return f"<flambeau.cuda.Stream device={self.device} cuda_stream={self.cuda_stream:#x}>"


class ExternalStream(Stream):
    """A stream of another library's, by the driver's handle."""

    def __init__(self, stream_ptr: int, device: Any = None, **kwargs: Any):
        self._stream = runtime_device(device).external_stream(stream_ptr)


def get_stream_from_external(data_ptr: int, device: Any = None) -> Stream:
    """The same."""
    return ExternalStream(data_ptr, device)


class Event:
    """A point in a stream. enable_timing: `elapsed_time` may be asked. blocking: accepted; waits ask and sleep anyway."""

    def __init__(self, enable_timing: bool = False, blocking: bool = False, interprocess: bool = False,
                 external: bool = False):
        if interprocess:
            raise NotImplementedError("Event: events are not shared between processes")
        self.enable_timing = bool(enable_timing)
        self._event: RuntimeEvent | None = None

    @property
    def device(self) -> Device | None:
        """None before it is recorded."""
        return None if self._event is None else Device("cuda", self._event.device.number)

    @property
    def cuda_event(self) -> int:
        """The driver's handle; 0 before it is recorded."""
        return 0 if self._event is None else int(self._event.handle or 0)

    _as_parameter_ = cuda_event

    def record(self, stream: Stream | None = None) -> None:
        """At this point of a stream, the current one if none is given."""
        target = runtime.current_device().current_stream() if stream is None else stream._stream
        if self._event is None or self._event.device is not target.device:
            self._event = target.device.event(self.enable_timing)
        self._event.record(target)

    def wait(self, stream: Stream | None = None) -> None:
        """Work asked of the stream from now on waits for this event."""
        (current_stream() if stream is None else stream).wait_event(self)

    def query(self) -> bool:
        """Whether the work before it is done."""
        return self._event is None or self._event.is_done()

    def synchronize(self) -> None:
        """Wait for the work before it. Raises KernelError for the first kernel that found bad data."""
        if self._event is not None:
            self._event.synchronize()

    def elapsed_time(self, end_event: Event) -> float:
        """Milliseconds from this event to another, both recorded, done, and made with `enable_timing=True`."""
        if not (self.enable_timing and end_event.enable_timing):
            raise ValueError("Both events must be created with argument 'enable_timing=True'.")
        if self._event is None or end_event._event is None:
            raise ValueError("Both events must be recorded before calculating elapsed time.")
        if not (self.query() and end_event.query()):
            raise RuntimeError("Both events must be completed before calculating elapsed time.")
        return self._event.milliseconds_to(end_event._event)

    def ipc_handle(self) -> bytes:
        raise NotImplementedError("Event.ipc_handle: events are not shared between processes")

    def __repr__(self) -> str:
        return f"<flambeau.cuda.Event {self.cuda_event:#x}>" if self._event else "<flambeau.cuda.Event uninitialized>"


class StreamContext:
    """`with stream(s):` lets work go to that stream inside, and "cuda" mean its device. None changes nothing."""

    def __init__(self, stream: Stream | None):
        self.stream = stream

    def __enter__(self) -> None:
        here = runtime.here
        if self.stream is not None:
            chosen = self.stream._stream
            self._before = current_index(), chosen.device, here.streams.get(chosen.device)
            set_stream(self.stream)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        here = runtime.here
        if self.stream is not None:
            number, device, stream = self._before
            set_current_index(number)
            if stream is None:
                here.streams.pop(device, None)
            else:
                here.streams[device] = stream


def stream(stream: Stream | None) -> StreamContext:
    """`with stream(s):` lets work go to that stream inside."""
    return StreamContext(stream)


def set_stream(stream: Stream) -> None:
    """Let work of this thread go to that stream from now on. `with stream(s):` is the better way."""
    if stream is not None:
        chosen = stream._stream
        runtime.here.streams[chosen.device] = chosen
        set_current_index(chosen.device.number)


def current_stream(device: Any = None) -> Stream:
    """Where work on a GPU goes that this thread asks for."""
    return Stream._over(runtime.device_on(index_of(device)).current_stream())


def default_stream(device: Any = None) -> Stream:
    """Where work goes if nothing else is said."""
    return Stream._over(runtime.device_on(index_of(device)).default_stream)


def is_current_stream_capturing() -> bool:
    """False: programs become graphs by themselves."""
    return False
