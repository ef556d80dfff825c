"""The memory under tensors. Several tensors may view one Storage; `version` counts its in-place changes."""
from __future__ import annotations

from typing import Any

import numpy as np

from flambeau.runtime.buffer import Buffer, as_ndarray, from_ndarray


class Storage:
    """One allocation, held by NumPy (eager results) or by a runtime Buffer (compiled results), each made from the
    other when asked for. Under trace it may hold nothing: `trace` then knows its value.

    array is the base layout: views of it are made by whoever owns the view."""

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
