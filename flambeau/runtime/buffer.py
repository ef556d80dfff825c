"""Memory of a device: where it is, how long it is, and who keeps it alive. No dtype, no shape: those are the
Tensor's."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from flambeau import config
from flambeau.errors import UnsupportedError, VerificationError
from flambeau.ir.records import dataclass
from flambeau.runtime.forking import ForkSafeLock
from flambeau.runtime.native.builtin import builtins_possible, make_builtin
from flambeau.runtime.native.layout import BufferSlots
from flambeau.runtime.native.support import support

if TYPE_CHECKING:           # numpy.typing takes 20 ms to import
    from numpy.typing import DTypeLike, NDArray

__all__ = [
    "Buffer",
    "MemoryStats",
    "allocate",
    "allocator",
    "as_ndarray",
    "from_ndarray",
    "memory_stats",
    "poison",
    "release_kept_memory",
    "reset_peak_memory",
    "zeros",
]


class Buffer:
    """nbytes bytes at address ptr on `device`. `owner` is any object that keeps them allocated."""

    __slots__ = ("__weakref__", "device", "nbytes", "owner", "ptr")

    ptr: int
    nbytes: int
    device: str
    owner: object

    def __init__(self, ptr: int, nbytes: int, device: str, owner: object) -> None:
        self.ptr = ptr
        self.nbytes = nbytes
        self.device = device
        self.owner = owner

    def __repr__(self) -> str:
        return f"Buffer({self.nbytes} bytes at {self.ptr:#x} on {self.device})"


def allocate(nbytes: int) -> Buffer:
    """A fresh buffer of uninitialised, 64-byte aligned memory, freed with the last reference to it.

    Raises MemoryError if there is not so much memory, TypeError or OverflowError if nbytes is not a size.
    """
    return (_allocator or allocator())(nbytes)


def zeros(nbytes: int) -> Buffer:
    """A fresh buffer like `allocate`'s, filled with zero bytes."""
    buffer = allocate(nbytes)
    ctypes.memset(buffer.ptr, 0, nbytes)
    return buffer


def allocator() -> Callable[[int], Buffer]:
    """`allocate` without the wrapper, for hot paths: a native builtin where this Python can take one. With
    `config.poison` it fills what it gives."""
    global _allocator
    with _lock:
        if _allocator is None:
            native = _native_allocator() if builtins_possible() else None
            plain = native or _allocate_with_numpy
            _allocator = _poisoning(plain) if config.poison else plain
    return _allocator


def poison(address: int, nbytes: int) -> None:
    """Fill memory with what no program means: a NaN in every float dtype, a large number in every integer one, and
    neither true nor false."""
    pairs, odd = divmod(nbytes, 2)
    as_ndarray(Buffer(address, nbytes, "cpu", None), np.uint16, (pairs,)).fill(_POISON)
    if odd:
        ctypes.memset(address + nbytes - 1, _POISON & 0xFF, 1)


def _poisoning(plain: Callable[[int], Buffer]) -> Callable[[int], Buffer]:
    def allocate_poisoned(*nbytes: int) -> Buffer:
        buffer = plain(*nbytes)
        poison(buffer.ptr, buffer.nbytes)
        return buffer

    return allocate_poisoned


def _forget_allocator() -> None:
    global _allocator
    _allocator = None


def from_ndarray(array: NDArray[Any]) -> Buffer:
    """The memory of `array`, shared with it and kept alive by it.

    For a C-contiguous array that is its bytes, from its first element on; for any other it is the span from
    the lowest to the highest byte of its elements, so the first element may lie at an offset.
    Raises UnsupportedError if the elements are not aligned to their size.
    """
    if not array.flags.aligned:
        raise UnsupportedError(f"array of {array.dtype} is not aligned in memory", hint="pass array.copy()")
    if not array.flags.c_contiguous:
        low, high = np.lib.array_utils.byte_bounds(array)
        return Buffer(low, high - low, "cpu", array)
    try:
        address = ctypes.addressof(_Span0.from_buffer(array))  # A third of the time of array.ctypes.data.
    except (TypeError, ValueError):
        address = array.ctypes.data  # Read-only memory, or a dtype that the buffer protocol does not know.
    return Buffer(address, array.nbytes, "cpu", array)


def as_ndarray(
    buffer: Buffer,
    dtype: DTypeLike,
    shape: tuple[int, ...],
    strides_bytes: tuple[int, ...] | None = None,
    offset_bytes: int = 0,
) -> NDArray[Any]:
    """A view of the buffer as an array, C-contiguous unless strides are given; it keeps the buffer alive."""
    if buffer.device != "cpu":
        raise VerificationError(f"memory on {buffer.device} is not NumPy's to look at")
    dtype = np.dtype(dtype)
    low, high = _extent(dtype.itemsize, shape, strides_bytes, offset_bytes)
    fits = 0 <= low and high <= buffer.nbytes
    if not fits:
        raise VerificationError(f"a view of bytes [{low}, {high}) leaves a buffer of {buffer.nbytes} bytes")
    span = _Span.from_address(buffer.ptr)
    span.buffer = buffer
    return np.ndarray(shape, dtype, span, offset_bytes, strides_bytes)


class _Span0(ctypes.c_char * 0):  # type: ignore[misc]
    """No bytes at all, at an address to be asked for."""


class _Span(ctypes.c_char * (2**62)):  # type: ignore[misc]
    """All memory from an address on, for NumPy to make views of, whose sizes are checked before.

    One class for all sizes: ctypes would make a class for each, which is slow.
    """

    buffer: Buffer


def _extent(
    itemsize: int, shape: tuple[int, ...], strides: tuple[int, ...] | None, offset: int
) -> tuple[int, int]:
    """The first byte of the view and the byte after its last one, from the start of its buffer."""
    if 0 in shape:
        return offset, offset
    if strides is None:
        count = 1
        for extent in shape:
            count *= extent
        return offset, offset + count * itemsize
    spans = [(extent - 1) * stride for extent, stride in zip(shape, strides, strict=True)]
    low = offset + sum(min(span, 0) for span in spans)
    return low, offset + sum(max(span, 0) for span in spans) + itemsize


@dataclass(frozen=True)
class MemoryStats:
    """Bytes of allocated buffers: alive now, most at any time, and freed but kept (large ones) for reuse."""

    live_bytes: int
    peak_bytes: int
    kept_bytes: int


def memory_stats() -> MemoryStats:
    """What the native allocator has given out and kept."""
    return MemoryStats(*_read_stats(restart=False))


def reset_peak_memory() -> None:
    """Count the peak from the bytes alive now."""
    _read_stats(restart=True)


def release_kept_memory() -> None:
    """Give the freed blocks that are kept for reuse back to the system."""
    support().release_kept()


def _read_stats(restart: bool) -> tuple[int, int, int]:
    numbers = (ctypes.c_int64 * 3)()
    support().memory(ctypes.addressof(numbers), int(restart))
    return numbers[0], numbers[1], numbers[2]


def _native_allocator() -> Callable[[int], Buffer] | None:
    """The native builtin, or None if a buffer it makes does not read back as it should."""
    native = support()
    offsets = _slot_offsets()
    if offsets is None:
        return None
    slots = BufferSlots(type=id(Buffer), cpu=id(_CPU), **offsets)
    _kept_alive.append(slots)
    owner = (ctypes.addressof(slots), _raise_wrong_count)
    made = make_builtin("allocate", native.library["flambeau_allocate"], owner)
    sample = made(3)
    right = type(sample) is Buffer and (sample.nbytes, sample.device) == (3, "cpu") and sample.ptr % 64 == 0
    return made if right and type(sample.owner).__name__ == "PyCapsule" else None


def _slot_offsets() -> dict[str, int] | None:
    """Where a Buffer's memory holds each attribute, found by looking for the addresses of known objects."""
    values = {name: object() for name in ("ptr", "nbytes", "device", "owner")}
    sample = Buffer(**values)  # type: ignore[arg-type]
    words = (ctypes.c_size_t * (Buffer.__basicsize__ // 8)).from_address(id(sample))
    places = {word: 8 * i for i, word in enumerate(words)}
    if any(list(words).count(id(value)) != 1 for value in values.values()):
        return None
    return {name: places[id(value)] for name, value in values.items()}


def _raise_wrong_count(_code: int, count: int) -> None:
    raise TypeError(f"allocate takes one argument, nbytes, but {count} were given")


def _allocate_with_numpy(nbytes: int) -> Buffer:
    """The allocator for Pythons that take no builtins of ours."""
    memory = np.empty(nbytes + 64, np.uint8)
    start = memory.ctypes.data
    return Buffer(start + -start % 64, nbytes, "cpu", memory)


_POISON = 0x7FFA            # in every 16 bits: f16, bf16, f32 and f64 all read a quiet NaN
_CPU = "cpu"
_kept_alive: list[BufferSlots] = []
_allocator: Callable[[int], Buffer] | None = None
_lock = ForkSafeLock()
config.watch("poison", _forget_allocator)
