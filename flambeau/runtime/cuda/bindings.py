"""The driver of NVIDIA's GPUs, through cuda-bindings. Imported when a GPU is asked for.

Memory comes from the driver's pool, in the order of the one stream that all work goes to.
"""
from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import Any

from cuda.bindings import driver as cu

from flambeau.errors import FlambeauError
from flambeau.runtime.cuda.driver import Driver

__all__ = ["CudaDriver"]


class CudaDriver(Driver):
    """The device of that number, in its primary context, which is shared with other libraries of the process."""

    def __init__(self, number: int = 0):
        _checked(cu.cuInit(0))
        self.device = _checked(cu.cuDeviceGet(number))
        self.context = _checked(cu.cuDevicePrimaryCtxRetain(self.device))
        self.enter()
        self.stream = _checked(cu.cuStreamCreate(cu.CUstream_flags.CU_STREAM_NON_BLOCKING))
        self.modules: list[Any] = []

    @property
    def capability(self) -> tuple[int, int]:
        """Compute capability, such as (9, 0)."""
        which = cu.CUdevice_attribute
        major, minor = (_checked(cu.cuDeviceGetAttribute(attribute, self.device)) for attribute in (
            which.CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR, which.CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR))
        return int(major), int(minor)

    @property
    def multiprocessors(self) -> int:
        attribute = cu.CUdevice_attribute.CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT
        return int(_checked(cu.cuDeviceGetAttribute(attribute, self.device)))

    def enter(self) -> None:
        """Make the device current in this thread."""
        _checked(cu.cuCtxSetCurrent(self.context))

    def allocate(self, nbytes: int) -> int:
        self.enter()
        return int(_checked(cu.cuMemAllocAsync(max(1, nbytes), self.stream)))

    def free(self, pointer: int) -> None:
        self.enter()
        _checked(cu.cuMemFreeAsync(pointer, self.stream))

    def to_device(self, target: int, source: int, nbytes: int) -> None:
        self.enter()
        if nbytes:                          # pageable memory is staged before the call returns
            _checked(cu.cuMemcpyHtoDAsync(target, source, nbytes, self.stream))

    def to_host(self, target: int, source: int, nbytes: int) -> None:
        self.enter()
        if nbytes:
            _checked(cu.cuMemcpyDtoHAsync(target, source, nbytes, self.stream))
        self.synchronize()

    def copy(self, target: int, source: int, nbytes: int) -> None:
        self.enter()
        if nbytes:
            _checked(cu.cuMemcpyDtoDAsync(target, source, nbytes, self.stream))

    def clear(self, pointer: int, nbytes: int) -> None:
        self.enter()
        if nbytes:
            _checked(cu.cuMemsetD8Async(pointer, 0, nbytes, self.stream))

    def load(self, code: bytes, entry: str) -> Any:
        self.enter()
        module = _checked(cu.cuModuleLoadData(code))
        self.modules.append(module)         # for as long as the driver lives
        return _checked(cu.cuModuleGetFunction(module, entry.encode()))

    def launch(self, function: Any, blocks: int, threads: int, pointers: Sequence[int], sizes: Sequence[int]) -> None:
        if not blocks:
            return
        self.enter()
        kinds = (*[ctypes.c_void_p] * len(pointers), *[ctypes.c_int64] * len(sizes))
        _checked(cu.cuLaunchKernel(function, blocks, 1, 1, threads, 1, 1, 0, self.stream, ((*pointers, *sizes), kinds), 0))

    def synchronize(self) -> None:
        self.enter()
        _checked(cu.cuStreamSynchronize(self.stream))


def _checked(answer: tuple[Any, ...]) -> Any:
    """What a function of the driver gave. Raises FlambeauError with the driver's words, MemoryError where memory ends."""
    status, *given = answer
    if status != cu.CUresult.CUDA_SUCCESS:
        _, name = cu.cuGetErrorName(status)
        _, words = cu.cuGetErrorString(status)
        said = f"the CUDA driver says {name.decode()}: {words.decode()}"
        if status == cu.CUresult.CUDA_ERROR_OUT_OF_MEMORY:
            raise MemoryError(said)
        raise FlambeauError(said)
    return given[0] if given else None
