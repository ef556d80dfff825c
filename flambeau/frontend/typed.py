"""PyTorch's old way to make tensors and to name their types: `fb.Tensor(2, 3)`, `fb.LongTensor([1, 2])`."""
from __future__ import annotations

from typing import Any, Final

import numpy as np

from flambeau.frontend.functions.coerce import sizes_of
from flambeau.frontend.functions.creation import empty, tensor
from flambeau.frontend.tensor.promotion import get_default_dtype, set_default_dtype
from flambeau.frontend.tensor.tensor import Tensor
from flambeau.ir import dtypes as dt
from flambeau.ir.dtypes import DType


def made(args: tuple[Any, ...], dtype: DType, name: str = "Tensor", device: Any = None) -> Tensor:
    """Sizes -> a tensor whose elements are not set; data -> a tensor of them; nothing -> an empty one."""
    if not args:
        return empty(0, dtype=dtype, device=device)
    if len(args) == 1 and isinstance(args[0], Tensor):
        if args[0].dtype is not dtype:
            raise TypeError(f"expected {name} of {dtype!r} (got {args[0].dtype!r}); use x.to({dtype!r})")
        return args[0].detach()
    if len(args) == 1 and (isinstance(args[0], (list, np.ndarray)) or type(args[0]) is tuple):
        return tensor(args[0], dtype=dtype, device=device)
    return empty(sizes_of(args, name), dtype=dtype, device=device)


class TypedTensor(type):
    """The class of `fb.FloatTensor` and its like: calls make tensors of one dtype, isinstance() asks for it."""

    dtype: DType

    def __call__(cls, *args: Any, device: Any = None) -> Tensor:
        return made(args, cls.dtype, cls.__name__)

    def __instancecheck__(cls, instance: object) -> bool:
        return isinstance(instance, Tensor) and instance.dtype is cls.dtype


_NAMES: Final = {
    "FloatTensor": dt.f32, "DoubleTensor": dt.f64, "HalfTensor": dt.f16, "BFloat16Tensor": dt.bf16, "LongTensor": dt.i64,
    "IntTensor": dt.i32, "ShortTensor": dt.i16, "CharTensor": dt.i8, "ByteTensor": dt.u8, "BoolTensor": dt.bool_}
TYPES: Final = {name: TypedTensor(name, (), {"dtype": dtype, "__module__": "flambeau",
                                             "__doc__": f"Tensors of {dtype!r}, as PyTorch once named them."})
                for name, dtype in _NAMES.items()}
globals().update(TYPES)


def set_default_tensor_type(t: Any) -> None:
    """The default dtype by a type's name or class: `fb.DoubleTensor` or "torch.DoubleTensor". Raises TypeError for
    types of integers."""
    name = t.rpartition(".")[2] if isinstance(t, str) else getattr(t, "__name__", repr(t))
    if name not in _NAMES or not _NAMES[name].is_floating_point:
        raise TypeError(f"only floating-point types are supported as the default type, got {name}")
    set_default_dtype(_NAMES[name])


def new_tensor_of_class(cls: type[Tensor], *args: Any, device: Any = None) -> Tensor:
    """`fb.Tensor(...)` itself: in the default dtype."""
    found = made(args, get_default_dtype())
    return found if cls is Tensor else Tensor._make(found._storage, found._type, found._array, cls=cls)


__all__ = ["set_default_tensor_type"]
__all__ += list(TYPES)
