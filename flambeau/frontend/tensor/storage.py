"""The memory under tensors. Several tensors may view one Storage; `version` counts its in-place changes."""
from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from flambeau.ir.types import TensorType
from flambeau.runtime.buffer import Buffer, as_ndarray, from_ndarray
from flambeau.runtime.devices import memory_on


class Storage:
    """One allocation, held by NumPy (eager results) or by a runtime Buffer (compiled results), each made from the
    other when asked for. Under trace it may hold nothing: `trace` then knows its value.

    array is the base layout: views of it are made by whoever owns the view."""

    is_elsewhere: ClassVar[bool] = False

    __slots__ = ("__weakref__", "_array", "_buffer", "_layout", "origin", "pointer", "trace", "version")

    def __init__(self, array: np.ndarray | None = None, buffer: Buffer | None = None,
                 layout: tuple[np.dtype, tuple[int, ...]] | None = None, trace: Any = None, origin: str = ""):
        self._array, self._buffer, self._layout = array, buffer, layout
        self.trace, self.origin, self.version = trace, origin, 0
        self.pointer = 0 if buffer is None else buffer.ptr      # of contiguous memory, once it was looked up

    @property
    def array(self) -> np.ndarray:
        """The base as an ndarray (zero-copy)."""
        if self._array is None:
            assert self._buffer is not None and self._layout is not None, "a traced storage holds no data"
            self._array = as_ndarray(self._buffer, *self._layout)
        return self._array

    @property
    def buffer(self) -> Buffer:
        """The allocation as a runtime Buffer (kept, so that its pointer is looked up once)."""
        if self._buffer is None:
            self._buffer = from_ndarray(self.array)
            if self.array.flags.c_contiguous:
                self.pointer = self._buffer.ptr
        return self._buffer


def over(buffer: Buffer, type: TensorType) -> Storage:
    """The storage of a tensor of that type whose elements lie row-major from the start of a buffer on."""
    if buffer.device == "cpu":
        return Storage(None, buffer, (type.dtype.storage, type.static_shape))
    return DeviceStorage(buffer, type)


class DeviceStorage(Storage):
    """Memory of another device than the CPU, one after the other in row-major order. NumPy never sees it: `array` is a
    copy, made anew each time it is asked for, and read-only, so that nobody writes to a copy in vain."""

    __slots__ = ("base",)

    is_elsewhere = True
    base: TensorType                        # what chains of views start from, whatever became of the tensor that made it

    def __init__(self, buffer: Buffer, base: TensorType):
        super().__init__(None, buffer, (base.dtype.storage, base.static_shape))
        self.base = base

    @property
    def array(self) -> np.ndarray:
        return self.fetched(0, self.base)

    def fetched(self, offset: int, type: TensorType) -> np.ndarray:
        """A copy on the host of what lies row-major from element `offset` on. Waits for it to be computed."""
        assert self._buffer is not None, "memory of a device is there from the start"
        data = memory_on(self._buffer.device).to_host(self._buffer, offset * type.dtype.itemsize, type.nbytes)
        array: np.ndarray = data.view(type.dtype.storage).reshape(type.static_shape)
        array.flags.writeable = False
        return array
