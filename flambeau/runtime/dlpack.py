"""Memory shared with other libraries: DLPack's capsules, for the CPU and for GPUs, and `__cuda_array_interface__`.

Layouts are those of DLPack 0.8 (dlpack.h), which every library reads. On a GPU both sides say which stream works on the
memory: whoever gives it lets the other's stream wait for its own.
"""
from __future__ import annotations

import ctypes
import math
from collections.abc import Sequence
from importlib import import_module
from typing import Any, Final

from flambeau.ir import dtypes as dt
from flambeau.ir.dtypes import DTYPES, DType
from flambeau.ir.ops.views import row_major
from flambeau.ir.records import dataclass
from flambeau.runtime.buffer import Buffer

__all__ = ["Shared", "cuda_array_interface", "dlpack_device", "export_dlpack", "from_cuda_array_interface",
           "import_dlpack"]

_CPU, _CUDA, _CUDA_HOST = 1, 2, 3
_CODE_OF: Final = {"i": 0, "u": 1, "f": 2, "b": 6}
_LEGACY = 1                         # the default stream, as both protocols number it


class _Tensor(ctypes.Structure):
    _fields_ = (("data", ctypes.c_void_p), ("device_type", ctypes.c_int32), ("device_id", ctypes.c_int32),
                ("ndim", ctypes.c_int32), ("code", ctypes.c_uint8), ("bits", ctypes.c_uint8), ("lanes", ctypes.c_uint16),
                ("shape", ctypes.POINTER(ctypes.c_int64)), ("strides", ctypes.POINTER(ctypes.c_int64)),
                ("byte_offset", ctypes.c_uint64))


class _Managed(ctypes.Structure):
    _fields_ = (("tensor", _Tensor), ("context", ctypes.c_void_p), ("deleter", ctypes.c_void_p))


@dataclass(frozen=True)
class Shared:
    """A tensor over memory of another library's, kept alive by `buffer`. strides: in elements. offset: bytes from the start
    of the buffer to the first element."""

    buffer: Buffer
    dtype: DType
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    offset: int


def dlpack_device(device: str) -> tuple[int, int]:
    """What `__dlpack_device__` answers for a tensor on "cpu" or "cuda:0"."""
    kind, _, number = device.partition(":")
    return (_CUDA, int(number)) if kind == "cuda" else (_CPU, 0)


def export_dlpack(buffer: Buffer, dtype: DType, shape: Sequence[int], strides: Sequence[int], offset: int = 0,
                  stream: int | None = None) -> Any:
    """A capsule "dltensor". strides: in elements; offset: bytes to the first element. stream: whoever takes it works on
    that one, on a GPU: None is the legacy default, -1 one that sees to itself."""
    if buffer.device != "cpu" and stream != -1:
        _gpu(buffer.device).let_wait(_LEGACY if stream is None else stream)
    managed = _Managed()
    tensor = managed.tensor
    tensor.data, tensor.byte_offset = buffer.ptr + offset, 0
    tensor.device_type, tensor.device_id = dlpack_device(buffer.device)
    tensor.code = 4 if dtype is dt.bf16 else _CODE_OF[dtype.storage.kind]
    tensor.bits, tensor.lanes, tensor.ndim = 8 * dtype.itemsize, 1, len(shape)
    sizes = (ctypes.c_int64 * max(1, len(shape)))(*shape)
    steps = (ctypes.c_int64 * max(1, len(shape)))(*strides)
    tensor.shape, tensor.strides = sizes, steps
    managed.deleter = ctypes.cast(_forget, ctypes.c_void_p).value
    address = ctypes.addressof(managed)
    _given[address] = managed, sizes, steps, buffer
    return _new_capsule(address, b"dltensor", ctypes.cast(_drop_capsule, ctypes.c_void_p))


def import_dlpack(source: Any) -> Shared:
    """Of an object with `__dlpack__`, or a capsule. Raises BufferError for a device or a dtype that is not known here."""
    capsule = source
    if hasattr(type(source), "__dlpack__"):
        kind, number = source.__dlpack_device__()
        if kind == _CUDA:
            capsule = source.__dlpack__(stream=_gpu(f"cuda:{number}").current_handle())
        elif kind in (_CPU, _CUDA_HOST):
            capsule = source.__dlpack__()
        else:
            raise BufferError(f"memory of DLPack's device type {kind} is not known here")
    if not _is_capsule(capsule, b"dltensor"):
        raise BufferError(f"expected a DLPack capsule that nobody took yet, got {type(capsule).__name__}")
    address = _capsule_pointer(capsule, b"dltensor")
    tensor = _Managed.from_address(address).tensor
    if tensor.lanes != 1:
        raise BufferError(f"a DLPack tensor of vectors of {tensor.lanes}")
    if tensor.device_type not in (_CPU, _CUDA_HOST, _CUDA):
        raise BufferError(f"memory of DLPack's device type {tensor.device_type} is not known here")
    dtype = _dtype(tensor.code, tensor.bits)
    shape = tuple(tensor.shape[:tensor.ndim])
    strides = tuple(tensor.strides[:tensor.ndim]) if tensor.strides else row_major(shape)
    device = f"cuda:{tensor.device_id}" if tensor.device_type == _CUDA else "cpu"
    start = (tensor.data or 0) + tensor.byte_offset
    _rename_capsule(capsule, _USED)
    return _shared(start, device, dtype, shape, strides, _Taken(address))


def cuda_array_interface(buffer: Buffer, dtype: DType, shape: Sequence[int], strides: Sequence[int],
                         offset: int = 0) -> dict[str, Any]:
    """What `__cuda_array_interface__` answers (version 3). Raises AttributeError for memory that is not a GPU's, and for
    bfloat16, which it has no name for."""
    if not buffer.device.startswith("cuda"):
        raise AttributeError(f"can't get __cuda_array_interface__ of a tensor on {buffer.device!r}")
    if dtype is dt.bf16:
        raise AttributeError("__cuda_array_interface__ has no bfloat16")
    shape, strides = tuple(shape), tuple([step * dtype.itemsize for step in strides])
    contiguous = strides == tuple([step * dtype.itemsize for step in row_major(shape)])
    return {"shape": shape, "typestr": dtype.storage.str, "data": (buffer.ptr + offset if math.prod(shape) else 0, False),
            "version": 3, "strides": None if contiguous else strides, "stream": _gpu(buffer.device).current_handle()}


def from_cuda_array_interface(source: Any, device: str) -> Shared:
    """Of an object with `__cuda_array_interface__`, whose memory is that device's. The current stream waits for the one
    that it names."""
    said = source.__cuda_array_interface__
    known = [dtype for dtype in DTYPES.values() if dtype is not dt.bf16 and dtype.storage.str == said["typestr"]]
    if not known:
        raise TypeError(f"__cuda_array_interface__ of {said['typestr']!r} is not known here")
    (dtype,) = known
    if said.get("mask") is not None:
        raise TypeError("__cuda_array_interface__ with a mask is not known here")
    if said.get("stream") is not None:
        _gpu(device).wait_for(said["stream"])
    shape = tuple(said["shape"])
    given = said.get("strides")
    if given is not None and any(step % dtype.itemsize for step in given):
        raise TypeError(f"strides of {given} bytes are no multiples of {dtype.itemsize}")
    strides = row_major(shape) if given is None else tuple([step // dtype.itemsize for step in given])
    return _shared(said["data"][0], device, dtype, shape, strides, source)


def _shared(start: int, device: str, dtype: DType, shape: tuple[int, ...], strides: tuple[int, ...],
            owner: object) -> Shared:
    """Over the span from the lowest to the highest byte."""
    spans = [(extent - 1) * step for extent, step in zip(shape, strides, strict=True)]
    if 0 in shape:
        return Shared(Buffer(start, 0, device, owner), dtype, shape, strides, 0)
    low, high = sum([min(0, span) for span in spans]), sum([max(0, span) for span in spans]) + 1
    itemsize = dtype.itemsize
    buffer = Buffer(start + low * itemsize, (high - low) * itemsize, device, owner)
    return Shared(buffer, dtype, shape, strides, -low * itemsize)


def _dtype(code: int, bits: int) -> DType:
    for dtype in DTYPES.values():
        theirs = 4 if dtype is dt.bf16 else _CODE_OF.get(dtype.storage.kind)
        if theirs == code and 8 * dtype.itemsize == bits:
            return dtype
    raise BufferError(f"DLPack's type of code {code} and {bits} bits is not known here")


def _gpu(device: str) -> Any:
    """What lets streams wait for each other: loaded with the runtime of GPUs."""
    return import_module("flambeau.runtime.cuda.exchange").Exchange(int(device.partition(":")[2]))


# -- capsules ---------------------------------------------------------------------------------------------------------


_USED: Final = ctypes.create_string_buffer(b"used_dltensor")                # names stay where they are
_python = ctypes.pythonapi
_new_capsule = _python.PyCapsule_New
_new_capsule.restype, _new_capsule.argtypes = ctypes.py_object, (ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p)
_is_capsule = _python.PyCapsule_IsValid
_is_capsule.restype, _is_capsule.argtypes = ctypes.c_int, (ctypes.py_object, ctypes.c_char_p)
_capsule_pointer = _python.PyCapsule_GetPointer
_capsule_pointer.restype, _capsule_pointer.argtypes = ctypes.c_void_p, (ctypes.py_object, ctypes.c_char_p)
_rename_capsule = _python.PyCapsule_SetName
_rename_capsule.restype, _rename_capsule.argtypes = ctypes.c_int, (ctypes.py_object, ctypes.c_char_p)
_given: dict[int, tuple[object, ...]] = {}              # what was exported and is in use


@ctypes.CFUNCTYPE(None, ctypes.c_void_p)
def _forget(address: int) -> None:
    """Called by whoever took a tensor and is done with it."""
    _given.pop(address, None)


@ctypes.PYFUNCTYPE(None, ctypes.c_void_p)
def _drop_capsule(capsule: int) -> None:
    """A capsule goes: one that nobody took takes its tensor along."""
    valid = ctypes.PYFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_char_p)(("PyCapsule_IsValid", _python))
    pointer = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p, ctypes.c_char_p)(("PyCapsule_GetPointer", _python))
    if valid(capsule, b"dltensor"):
        _given.pop(pointer(capsule, b"dltensor"), None)


class _Taken:
    """Another library's tensor, which is told when we are done with it."""

    def __init__(self, address: int):
        self.address = address

    def __del__(self) -> None:
        deleter = _Managed.from_address(self.address).deleter
        if deleter:
            ctypes.CFUNCTYPE(None, ctypes.c_void_p)(deleter)(self.address)
