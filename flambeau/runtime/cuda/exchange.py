"""Streams of other libraries, as DLPack and `__cuda_array_interface__` number them: 1 is the legacy default stream, 2 the
thread's default one, others are the driver's handles."""
from __future__ import annotations

from flambeau.runtime.cuda.device import device_on

__all__ = ["Exchange"]

_LEGACY = 1


class Exchange:
    def __init__(self, number: int):
        self.device = device_on(number)

    def current_handle(self) -> int:
        """Of the current stream."""
        return int(self.device.current_stream().handle) or _LEGACY

    def let_wait(self, handle: int) -> None:
        """Work of theirs on that stream waits for ours until now."""
        if handle != self.current_handle():
            self.device.foreign_stream(handle).wait_stream(self.device.current_stream())

    def wait_for(self, handle: int) -> None:
        """Work of ours waits for theirs on that stream until now."""
        if handle != self.current_handle():
            self.device.current_stream().wait_stream(self.device.foreign_stream(handle))
