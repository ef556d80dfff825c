"""Tensors over memory of a GPU that another library has too: DLPack and `__cuda_array_interface__`, both ways. Loaded with
the first of them."""
from __future__ import annotations

from typing import Any

from flambeau.frontend.tensor.device import current_index
from flambeau.frontend.tensor.storage import over
from flambeau.frontend.tensor.strides import Strides, is_row_major, strides_of
from flambeau.frontend.tensor.tensor import Tensor
from flambeau.ir.dtypes import DType
from flambeau.ir.types import TensorType
from flambeau.runtime import dlpack
from flambeau.runtime.buffer import Buffer

__all__ = ["cuda_array_interface", "exported", "from_cuda_array", "from_dlpack"]


def exported(x: Tensor, stream: Any) -> Any:
    """A DLPack capsule over a tensor of a GPU. stream: the one that whoever takes it works on."""
    return dlpack.export_dlpack(*_layout(x), stream=stream)


def cuda_array_interface(x: Tensor) -> dict[str, Any]:
    """What `__cuda_array_interface__` answers for a tensor of a GPU. Raises AttributeError for bfloat16."""
    return dlpack.cuda_array_interface(*_layout(x))


def _layout(x: Tensor) -> tuple[Buffer, DType, tuple[int, ...], Strides, int]:
    """Memory, dtype, shape, strides in elements, and bytes to the first element."""
    kind = x._type
    return x._storage.buffer, kind.dtype, kind.static_shape, strides_of(x), x.storage_offset() * kind.dtype.itemsize


def from_dlpack(source: Any) -> Tensor:
    """A tensor over the memory of an object with `__dlpack__`. Raises BufferError for what has no name here, and for steps
    backwards."""
    return _shared_tensor(dlpack.import_dlpack(source))


def from_cuda_array(data: Any, place: str | None) -> Tensor:
    """Of an object with `__cuda_array_interface__`, whose memory is that of the device at `place`, or else of the current
    one."""
    return _shared_tensor(dlpack.from_cuda_array_interface(data, place or f"cuda:{current_index()}"))


def _shared_tensor(shared: dlpack.Shared) -> Tensor:
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
