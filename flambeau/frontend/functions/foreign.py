"""Tensors over memory of a GPU that another library made."""
from __future__ import annotations

from typing import Any

from flambeau.frontend.tensor.device import current_index
from flambeau.frontend.tensor.storage import over
from flambeau.frontend.tensor.strides import is_row_major
from flambeau.frontend.tensor.tensor import Tensor
from flambeau.ir.types import TensorType
from flambeau.runtime import dlpack

__all__ = ["from_cuda_array", "shared_tensor"]


def shared_tensor(shared: dlpack.Shared) -> Tensor:
    """A tensor over it. Raises BufferError for steps backwards."""
    buffer, dtype, itemsize = shared.buffer, shared.dtype, shared.dtype.itemsize
    if is_row_major(shared.shape, shared.strides):
        kind = TensorType(shared.shape, dtype, buffer.device)
        return Tensor._make(over(buffer, kind), kind)
    if min(shared.strides) < 0:
        raise BufferError(f"tensors have no negative strides, and these are {shared.strides}")
    kind = TensorType((buffer.nbytes // itemsize,), dtype, buffer.device)
    flat: Any = Tensor._make(over(buffer, kind), kind)
    found: Tensor = flat.as_strided(shared.shape, shared.strides, shared.offset // itemsize)
    return found


def from_cuda_array(data: Any, place: str | None) -> Tensor:
    """Of an object with `__cuda_array_interface__`, whose memory is that of the device at `place`, or else of the current
    one."""
    return shared_tensor(dlpack.from_cuda_array_interface(data, place or f"cuda:{current_index()}"))
