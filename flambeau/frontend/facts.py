"""What PyTorch's programs ask of a tensor that is always the same here: dense, of plain numbers. And where it lies."""
from __future__ import annotations

from typing import Any, Final

from flambeau.frontend.functions.calls import public
from flambeau.frontend.tensor.pinned import is_pinned, pin_memory
from flambeau.frontend.tensor.tensor import Tensor
from flambeau.ir.dtypes import DType
from flambeau.runtime.devices import memory_on


class Layout:
    """How elements are arranged: `fb.strided`, the only one, or one that is named to be told apart."""

    def __init__(self, name: str):
        self._name = name

    def __repr__(self) -> str:
        return f"flambeau.{self._name}"

    def __reduce__(self) -> str:
        return self._name


class MemoryFormat(Layout):
    """`fb.channels_last` and its like: accepted everywhere; the compiler decides how images lie in memory."""


strided, sparse_coo, sparse_csr = Layout("strided"), Layout("sparse_coo"), Layout("sparse_csr")
contiguous_format, preserve_format = MemoryFormat("contiguous_format"), MemoryFormat("preserve_format")
channels_last, channels_last_3d = MemoryFormat("channels_last"), MemoryFormat("channels_last_3d")

_PROPERTIES: Final[dict[str, Any]] = {
    **dict.fromkeys(("is_ipu", "is_maia", "is_meta", "is_mkldnn", "is_mps", "is_mtia", "is_nested", "is_quantized",
                     "is_sparse", "is_sparse_csr", "is_vulkan", "is_xla", "is_xpu"), False),
    "layout": strided, "name": None, "names": None, "output_nr": 0, "volatile": False}
_ANSWERS: Final[dict[str, Any]] = dict.fromkeys(
    ("is_coalesced", "is_conj", "is_distributed", "is_inference", "is_neg", "is_shared"), False)


def _property(value: Any) -> property:
    return property(lambda self: value, doc=_always(value))


def _answer(value: Any) -> Any:
    def answer(self: Tensor) -> Any:
        return value

    answer.__doc__ = _always(value)
    return answer


def _always(value: Any) -> str:
    return f"{value!r}, whatever the tensor: for programs that ask."


def untyped_storage(self: Tensor) -> UntypedStorage:
    """The memory that the tensor shares with its views, counted in bytes."""
    return UntypedStorage(self)


def storage(self: Tensor) -> TypedStorage:
    """The memory that the tensor shares with its views, counted in elements."""
    return TypedStorage(self)


def get_device(input: Tensor) -> int:
    """The index of the device; -1 for the CPU."""
    index = input.device.index
    return -1 if index is None else index


def is_complex(input: Tensor) -> bool:
    """Whether the elements are complex numbers."""
    return input.is_complex()


def is_nonzero(input: Tensor) -> bool:
    """Whether the only element is not zero. Raises RuntimeError unless there is exactly one."""
    if input.numel() != 1:
        raise RuntimeError("Boolean value of Tensor with more than one value is ambiguous" if input.numel()
                           else "Boolean value of Tensor with no values is ambiguous")
    return bool(input.item())


def is_inference(input: Tensor) -> bool:
    """False: what is made in inference_mode() is a tensor like others."""
    return False


def is_same_size(input: Tensor, other: Tensor) -> bool:
    """Whether the shapes are equal."""
    return input._type.shape == other._type.shape


def is_set_to(input: Tensor, tensor: Tensor) -> bool:
    """Whether both are the same elements in the same order: equal shapes, strides and place in memory."""
    return (input._storage is tensor._storage and input.shape == tensor.shape and input.stride() == tensor.stride()
            and input.storage_offset() == tensor.storage_offset())


def is_signed(input: Tensor) -> bool:
    """Whether the dtype has negative numbers."""
    return input._type.dtype.is_signed


def itself(self: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    """Itself: there is nothing to do in main memory."""
    return self


def record_stream(self: Tensor, stream: Any) -> None:
    """Work on that stream of `fb.cuda` uses the tensor, whose memory is not used again before that work is done."""
    if self._type.device != "cpu" and self._storage.trace is None:
        memory: Any = memory_on(self._type.device)
        memory.record_stream(self._storage.buffer, stream._stream)


class UntypedStorage:
    """The memory under a tensor, which its views share: enough of it to tell whether two tensors share memory."""

    def __init__(self, of: Tensor):
        self._of = of if of._base is None else of._base

    def data_ptr(self) -> int:
        """Address of the first byte."""
        self._of._storage.share(address=True)
        return self._of._storage.buffer.ptr

    def nbytes(self) -> int:
        """Size in bytes."""
        return self._of.nbytes

    def size(self) -> int:
        """Size in bytes; of the typed storage, in elements."""
        return self.nbytes()

    __len__ = size


class TypedStorage(UntypedStorage):
    """The same, counted in elements."""

    @property
    def dtype(self) -> DType:
        return self._of.dtype

    def size(self) -> int:
        """Number of elements."""
        return self._of.numel()

    __len__ = size

    def tolist(self) -> list[Any]:
        """The elements."""
        return self._of.detach().reshape(-1).tolist()

    def __getitem__(self, index: int) -> Any:
        return self.tolist()[index]


public(globals(), ["get_device", "is_complex", "is_nonzero", "is_same_size", "is_set_to", "is_signed"])
METHODS: Final[dict[str, Any]] = {
    **{name: _property(value) for name, value in _PROPERTIES.items()},
    **{name: _answer(value) for name, value in _ANSWERS.items()},
    "get_device": get_device, "is_nonzero": is_nonzero, "is_same_size": is_same_size, "is_set_to": is_set_to,
    "is_signed": is_signed, "is_pinned": is_pinned,
    "is_cpu": property(lambda self: self.device.type == "cpu", doc="Whether it lies in main memory."),
    "pin_memory": pin_memory, "share_memory_": itself, "coalesce": itself, "to_dense": itself,
    "dense_dim": Tensor.dim, "sparse_dim": _answer(0), "untyped_storage": untyped_storage, "storage": storage,
    "record_stream": record_stream, "const_data_ptr": Tensor.data_ptr,
}


def is_storage(obj: object) -> bool:
    """Whether this is the storage of a tensor."""
    return isinstance(obj, UntypedStorage)


def typename(obj: Any) -> str:
    """The name of an object's type; of a tensor its dtype."""
    if isinstance(obj, Tensor):
        return f"flambeau.{obj.dtype.torch_name}"
    return f"{type(obj).__module__}.{type(obj).__qualname__}"


__all__ = ["channels_last", "channels_last_3d", "contiguous_format", "get_device", "is_complex", "is_inference",
           "is_nonzero", "is_same_size", "is_signed", "is_storage", "preserve_format", "sparse_coo", "sparse_csr",
           "strided", "typename"]
