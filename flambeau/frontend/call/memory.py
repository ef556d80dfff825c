"""The memory of compiled calls, by where a plan computes: the host's, or a device's.

    memory = memory_at(device)              what `Entry`, `Bindings` and backward calls ask
    memory.allocate(nbytes)                 of a result
    memory.address_of(tensor)               of an argument, and what was copied for it

A program takes addresses of contiguous memory on its device. A tensor that lies otherwise is copied there.
"""
from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

import numpy as np

from flambeau.errors import UnsupportedError
from flambeau.frontend.tape.dispatch import copied, write
from flambeau.frontend.tensor.storage import DeviceStorage, over
from flambeau.frontend.tensor.strides import aligned_address, strides_of
from flambeau.frontend.tensor.tensor import Tensor
from flambeau.ir.types import TensorType
from flambeau.runtime.buffer import Buffer, allocate, zeros
from flambeau.runtime.devices import memory_on

__all__ = ["CallMemory", "check_writable", "memory_at", "memory_of", "wrap"]


class CallMemory(ABC):
    """Where the programs of one plan find what they work on. allocate: a new buffer of so many bytes."""

    allocate: Callable[[int], Buffer]

    @abstractmethod
    def zeros(self, nbytes: int) -> Buffer:
        """The same, filled with zero bytes."""

    @abstractmethod
    def address_of(self, tensor: Tensor) -> tuple[int, Any]:
        """(address of a contiguous argument, the copy made for it if it was not contiguous)."""

    @abstractmethod
    def write_back(self, tensor: Tensor, copy: Any) -> None:
        """What a call wrote to a copy becomes the tensor's."""

    @abstractmethod
    def number(self, value: float) -> tuple[int, Any]:
        """(address of an f64, what keeps it alive)."""


class _Host(CallMemory):
    allocate = staticmethod(allocate)

    def zeros(self, nbytes: int) -> Buffer:
        return zeros(nbytes)

    def address_of(self, tensor: Tensor) -> tuple[int, Any]:
        return memory_of(tensor)

    def write_back(self, tensor: Tensor, copy: np.ndarray) -> None:
        np.copyto(tensor._data(), copy)

    def number(self, value: float) -> tuple[int, Any]:
        array = np.array(value, np.float64)
        return int(array.__array_interface__["data"][0]), array


class _Device(CallMemory):
    def __init__(self, device: str):
        self.memory = memory_on(device)
        self.allocate = self.memory.allocate

    def zeros(self, nbytes: int) -> Buffer:
        return self.memory.zeros(nbytes)

    def address_of(self, tensor: Tensor) -> tuple[int, Any]:
        assert isinstance(tensor._storage, DeviceStorage), f"a program of a device is given {tensor._type}"
        address = aligned_address(tensor)
        if address is not None:
            return address, None
        copy = copied(tensor)
        return copy._storage.pointer, copy

    def write_back(self, tensor: Tensor, copy: Tensor) -> None:
        write(tensor, copy)
        tensor._storage.version -= 1        # the call counts it

    def number(self, value: float) -> tuple[int, Any]:
        buffer = self.memory.from_host(np.array([value], np.float64))
        return buffer.ptr, buffer


_HOST = _Host()


def memory_at(device: str) -> CallMemory:
    """Of a plan that computes on `device`."""
    return _Device(device) if device.startswith("cuda:") else _HOST


def memory_of(tensor: Tensor) -> tuple[int, np.ndarray | None]:
    """(address of a contiguous argument in the host's memory, the copy made for it if it was not contiguous)."""
    if tensor._base is None and tensor._storage.pointer:
        return tensor._storage.pointer, None
    array = tensor._data()
    if array.flags.c_contiguous:
        if tensor._base is None:
            return tensor._storage.buffer.ptr, None
        return int(array.__array_interface__["data"][0]), None
    copy = np.ascontiguousarray(array)
    return int(copy.__array_interface__["data"][0]), copy


def check_writable(tensor: Tensor, name: str) -> None:
    """Raise UnsupportedError for memory that a call must not write to."""
    if tensor._storage.is_elsewhere:
        shape, strides = tensor._type.static_shape, strides_of(tensor)
        is_fine = all(size <= 1 or step for size, step in zip(shape, strides, strict=True))
    else:
        is_fine = tensor._data().flags.writeable
    if not is_fine:
        raise UnsupportedError(f"{name} is changed in place, but its elements share memory (made by expand), or its "
                               "memory is read-only", hint="clone() it first")


def wrap(buffer: Buffer, type: TensorType, cls: type[Tensor] = Tensor) -> Tensor:
    """A tensor over memory that a program wrote. On a device what has no place of its own (it was made of numbers alone,
    and not asked to be there) is fetched."""
    if buffer.device != "cpu" and type.device == "cpu":
        data = memory_on(buffer.device).to_host(buffer)
        array = data.view(type.dtype.storage).reshape(type.static_shape)
        return Tensor._from_array(array, type.dtype, cls)
    return Tensor._make(over(buffer, type), type, cls=cls)
