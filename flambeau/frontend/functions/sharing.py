"""Memory shared with other libraries, both ways. On the CPU: NumPy, DLPack by way of it, and the buffer protocol. On GPUs:
DLPack and `__cuda_array_interface__`."""
from __future__ import annotations

from typing import Any

import numpy as np

from flambeau.frontend.functions.calls import public
from flambeau.frontend.functions.coerce import one_tensor
from flambeau.frontend.functions.creation import foreign, from_numpy
from flambeau.frontend.tape.autograd import grad_mode
from flambeau.frontend.tensor.tensor import Tensor
from flambeau.ir import dtypes as dt

_CPU, _CUDA = 1, 2                      # kinds of devices, as DLPack numbers them


def dlpack(self: Tensor, *, stream: Any = None, max_version: Any = None, dl_device: Any = None,
           copy: bool | None = None) -> Any:
    """A DLPack capsule over this tensor's memory. stream: of a GPU, the one that whoever takes it works on. Raises
    BufferError for one that requires grad, lies elsewhere than asked, or on the CPU is of bfloat16, which NumPy has not."""
    if self.requires_grad:
        raise BufferError("can't export tensors that require gradient, use tensor.detach()")
    if dl_device is not None and tuple(dl_device) != dlpack_device(self):
        raise BufferError(f"the tensor lives on {self._type.device!r}, not on DLPack's device {tuple(dl_device)}")
    if self._type.device != "cpu":
        return foreign().exported(self.clone() if copy else self, stream)
    if self.dtype is dt.bf16:
        raise BufferError("bfloat16 tensors can't be exported by DLPack, use tensor.float()")
    array = self.numpy()
    return (np.array(array) if copy else array).__dlpack__()


def check_leaves_tape(x: Tensor) -> None:
    """Raise RuntimeError for a tensor whose gradient would be lost outside, unless under `no_grad`."""
    if x._requires_grad and grad_mode.enabled:
        raise RuntimeError("can't call numpy() on a tensor that requires grad; use tensor.detach().numpy()")


def numpy(self: Tensor, *, force: bool = False) -> np.ndarray:
    """The data as an ndarray that shares memory (bfloat16, which NumPy lacks, is converted to float32).

    Raises RuntimeError for a tensor that requires grad (use detach(), or force), TraceError under trace."""
    if not force:
        check_leaves_tape(self)
    data = self._data()
    if self._type.device != "cpu":
        if not force:
            raise TypeError(f"can't convert {self._type.device} device type tensor to numpy. Use Tensor.cpu() to copy the "
                            "tensor to host memory first.")
        data = data.copy()
    if self.dtype is dt.bf16:
        return dt.bf16_to_f32(data)
    trace = self._storage.trace
    if trace is None:
        self._storage.share()
    return data if trace is None or trace.is_level else trace.given_out(self, data)


def dlpack_device(self: Tensor) -> tuple[int, int]:
    """The kind and the number of the device, as DLPack numbers them."""
    index = self.device.index
    return (_CPU, 0) if index is None else (_CUDA, index)


def cuda_array_interface(self: Tensor) -> dict[str, Any]:
    """Of a tensor on a GPU, for CuPy, Numba and others. Raises AttributeError on the CPU and for bfloat16."""
    if self._type.device == "cpu":
        raise AttributeError("Can't get __cuda_array_interface__ on non-CUDA tensor; use tensor.cuda() first")
    if self.requires_grad:
        raise RuntimeError("Can't get __cuda_array_interface__ on Variable that requires grad. Use tensor.detach() first")
    found: dict[str, Any] = foreign().cuda_array_interface(self)
    return found


def buffer(self: Tensor, flags: int) -> memoryview:
    """The buffer protocol (from Python 3.12 on)."""
    return memoryview(self.numpy())         # type: ignore[arg-type]


def from_dlpack(ext_tensor: Any, *, device: Any = None, copy: bool | None = None) -> Tensor:
    """A tensor over the memory of another library's (`__dlpack__`). Raises TypeError for what has none, RuntimeError
    for what can't be shared."""
    if not hasattr(type(ext_tensor), "__dlpack__"):
        raise TypeError(f"from_dlpack: expected an object with __dlpack__, got {type(ext_tensor).__name__}")
    if ext_tensor.__dlpack_device__()[0] == _CUDA:
        found: Tensor = foreign().from_dlpack(ext_tensor)
        return found.clone() if copy else found
    try:
        array = np.from_dlpack(ext_tensor)
    except (BufferError, RuntimeError, TypeError) as error:
        raise RuntimeError(f"from_dlpack: {error}") from None
    return from_numpy(np.array(array) if copy or not array.flags.writeable else array)


def to_dlpack(tensor: Tensor) -> Any:
    """A DLPack capsule over the tensor's memory."""
    return dlpack(one_tensor("to_dlpack", tensor))


def frombuffer(buffer: Any, *, dtype: Any, count: int = -1, offset: int = 0, requires_grad: bool = False) -> Tensor:
    """A 1-d tensor over the memory of an object with the buffer protocol: `count` elements (all) from byte `offset` on.

    Raises ValueError where that does not fit. Read-only memory is copied."""
    try:
        size = len(memoryview(buffer).cast("B"))
    except TypeError as error:
        raise TypeError(f"frombuffer: argument 'buffer' must have the buffer protocol ({error})") from None
    if not size:
        raise ValueError("both buffer length (0) and count (-1) must not be 0")
    array = np.frombuffer(buffer, dtype.storage, count, offset)
    made = Tensor._from_array(array if array.flags.writeable else array.copy(), dtype)
    made._storage.share()
    return made.requires_grad_() if requires_grad else made


METHODS = {"__cuda_array_interface__": property(cuda_array_interface), "__dlpack__": dlpack,
           "__dlpack_device__": dlpack_device, "__buffer__": buffer}
__all__ = ["from_dlpack", "frombuffer", "to_dlpack"]

public(globals(), __all__)
