"""The memory under tensors. Several tensors may view one Storage; `version` counts its in-place changes."""
from __future__ import annotations

import weakref
from sys import getrefcount
from typing import Any, ClassVar

import numpy as np

from flambeau.ir.types import TensorType
from flambeau.runtime.buffer import Buffer, as_ndarray, from_ndarray
from flambeau.runtime.devices import memory_on
from flambeau.runtime.forking import ForkSafeLock

_watching = ForkSafeLock()          # functions that are first called in several threads watch the same parameters


class Storage:
    """One allocation, held by NumPy (eager results) or by a runtime Buffer (compiled results), each made from the
    other when asked for. Under trace it may hold nothing: `trace` then knows its value.

    array is the base layout: views of it are made by whoever owns the view. Changes in place count up `version`. Those
    that it does not count are told to whoever watches (`watch`): writes that autograd is not to know of, and that others
    got hold of the memory (`share`), who may change it at any time from then on."""

    is_elsewhere: ClassVar[bool] = False

    __slots__ = ("__weakref__", "_array", "_buffer", "_has_told", "_is_shared", "_layout", "_watchers", "origin",
                 "pointer", "trace", "version")

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

    def layout_of(self, view: TensorType) -> TensorType:
        """The type of the base, of which `view` is that of a view."""
        return TensorType(self.array.shape, view.dtype)

    # _is_shared, _has_told and _watchers are set on the few storages that have them: making a storage is on the way of
    # every eager op. The first two are only ever set: a thread that asked meanwhile must not take back another's word.

    def share(self, address: bool = False) -> None:
        """Others have the memory from now on: NumPy, another library, another storage, or whoever was told its address."""
        self._is_shared = True
        if address:
            self._has_told = True
        self.changed_unseen()

    def may_change_unseen(self, holder: Any) -> bool:
        """Whether others may change the memory without a word: they got it, and still hold it as far as can be told.
        holder: a tensor that may hold the array too."""
        if not hasattr(self, "_is_shared"):
            return False
        array, is_own = self._array, self._layout is not None
        also = (self._buffer is not None and not is_own) + (holder._array is array)
        return hasattr(self, "_has_told") or array is not None and _is_held(array, also, is_own)

    def watch(self, watcher: Watcher) -> None:
        """Count `watcher.version` up at changes that `version` does not count, as long as the watcher lives."""
        with _watching:
            others = [ref for ref in getattr(self, "_watchers", ()) if ref() not in (None, watcher)]
            self._watchers = [*others, weakref.ref(watcher)]

    def changed_unseen(self) -> None:
        """What lies in the memory changed, or may have, and `version` does not tell."""
        for ref in getattr(self, "_watchers", ()):
            watcher = ref()
            if watcher is not None:
                watcher.version += 1


class Watcher:
    """Counts what storages tell it."""

    __slots__ = ("__weakref__", "version")

    def __init__(self) -> None:
        self.version = 0


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

    def layout_of(self, view: TensorType) -> TensorType:
        return self.base

    def fetched(self, offset: int, type: TensorType) -> np.ndarray:
        """A copy on the host of what lies row-major from element `offset` on. Waits for it to be computed."""
        assert self._buffer is not None, "memory of a device is there from the start"
        data = memory_on(self._buffer.device).to_host(self._buffer, offset * type.dtype.itemsize, type.nbytes)
        array: np.ndarray = data.view(type.dtype.storage).reshape(type.static_shape)
        array.flags.writeable = False
        return array


def _is_held(array: np.ndarray, also: int, is_own: bool) -> bool:
    """Whether anything but one object, and `also` others, holds the memory of an array. is_own: it lies over a buffer that
    is nobody else's."""
    found = getrefcount(array) - also != _HELD
    while not found and not array.flags.owndata:
        if not isinstance(array.base, np.ndarray):
            return not is_own               # memory of another kind
        array = array.base
        found = getrefcount(array) != _HELD_AS_BASE
    return found


def _references() -> tuple[int, int]:
    """How often `_is_held` finds an array that one object holds, and one that only a view of it holds."""
    storage = Storage(np.zeros(2)[1:])

    def count(array: Any) -> tuple[int, int]:
        held = getrefcount(array)
        array = array.base
        return held, getrefcount(array)

    array = storage._array
    return count(array)


_HELD, _HELD_AS_BASE = _references()
