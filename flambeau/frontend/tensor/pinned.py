"""Pinned memory of the host, from which a GPU copies by itself while the program goes on."""
from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from flambeau.frontend.tensor.device import current_index
from flambeau.frontend.tensor.storage import Storage
from flambeau.frontend.tensor.tensor import Tensor
from flambeau.runtime.buffer import as_ndarray
from flambeau.runtime.devices import pinning_memory

__all__ = ["can_pin", "is_pinned", "pin_batch", "pin_memory"]


def is_pinned(self: Tensor, device: Any = None) -> bool:
    """Whether the memory is pinned, so that copies to a GPU need not wait."""
    memory = pinning_memory(current_index(), only_if_in_use=True)
    storage = self._storage
    return memory is not None and self._type.device == "cpu" and storage.trace is None and memory.is_pinned(storage.buffer)


def pin_memory(self: Tensor, device: Any = None) -> Tensor:
    """A copy in pinned memory, from which `to("cuda", non_blocking=True)` returns at once; itself where there is no GPU, or
    it is pinned. Raises RuntimeError for a tensor of a GPU."""
    if self._type.device != "cpu":
        raise RuntimeError(f"cannot pin '{self._type}': only dense CPU tensors can be pinned")
    memory = pinning_memory(current_index())
    if memory is None or self._storage.trace is not None or is_pinned(self):
        return self
    data = self._data()
    buffer = memory.pinned(self._type.nbytes)
    layout = data.dtype, data.shape
    as_ndarray(buffer, *layout)[...] = data
    return Tensor._make(Storage(None, buffer, layout), self._type)


def can_pin() -> bool:
    """Whether there is a GPU to pin memory for."""
    return pinning_memory(current_index()) is not None


def pin_batch(batch: Any) -> Any:
    """The same of every tensor in a batch: in mappings, sequences, and objects that have a pin_memory() of their own."""
    if isinstance(batch, Tensor) or hasattr(type(batch), "pin_memory"):
        return batch.pin_memory()
    if isinstance(batch, (str, bytes, np.ndarray)):
        return batch
    if isinstance(batch, Mapping):
        pinned = {key: pin_batch(value) for key, value in batch.items()}
        return _like(batch, pinned)
    if isinstance(batch, tuple) and hasattr(batch, "_fields"):
        return type(batch)(*[pin_batch(value) for value in batch])
    if isinstance(batch, Sequence):
        return _like(batch, [pin_batch(value) for value in batch])
    return batch


def _like(batch: Any, made: Any) -> Any:
    """A container of the batch's class where it can be made from one."""
    try:
        return type(batch)(made)
    except TypeError:
        return made
