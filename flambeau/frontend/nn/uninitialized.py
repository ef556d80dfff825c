"""Parameters and buffers whose shape is not known yet: lazy modules give it to them at the first forward."""
from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from flambeau.errors import ShapeError
from flambeau.frontend.epoch import epoch
from flambeau.frontend.functions.coerce import sizes_of
from flambeau.frontend.nn.parameter import Parameter
from flambeau.frontend.tape.moves import placed
from flambeau.frontend.tensor.device import place_named, place_of
from flambeau.frontend.tensor.promotion import as_dtype, get_default_dtype
from flambeau.frontend.tensor.storage import Storage
from flambeau.frontend.tensor.tensor import Tensor
from flambeau.ir.dtypes import DType

# Not a Tensor itself: Python changes the class of an object only between classes whose first base with fields is one.
if TYPE_CHECKING:
    _Mixed = Tensor
else:
    _Mixed = object


class _Unknown:
    """Stands where a tensor has its type. Whatever asks for more than the dtype hears that there is none."""

    __slots__ = ("device", "dtype")

    def __init__(self, dtype: DType, device: str = "cpu"):
        self.dtype, self.device = dtype, device

    def __getattr__(self, name: str) -> Any:
        raise _not_there()


def _not_there() -> ShapeError:
    return ShapeError("an uninitialized parameter or buffer has neither shape nor data: call the module's forward, which "
                      "initializes it, before it is used or its state is loaded into an initialized one")


class UninitializedTensorMixin(_Mixed):
    """What the two kinds share."""

    __slots__ = ()
    cls_to_become: type[Tensor] = Tensor

    @staticmethod
    def _uninitialized(cls: type[Tensor], dtype: DType, device: Any) -> Tensor:
        unknown: Any = _Unknown(dtype, place_of(device) or "cpu")
        return Tensor._make(Storage(np.empty(0, dtype.storage)), unknown, None, cls=cls)

    def materialize(self, shape: tuple[int, ...], device: Any = None, dtype: DType | None = None) -> None:
        """Become a parameter, or tensor, of this shape. Its values are yet to be set; dtype, device None: those it has."""
        place = place_named(self._type.device if device is None else device)
        dtype = as_dtype(dtype, "materialize") or self._type.dtype
        made = Tensor._from_array(np.zeros(sizes_of((shape,), "materialize"), dtype.storage), dtype)
        made = placed(made, place)
        self._storage, self._array, self._type = made._storage, made._array, made._type
        self.__class__ = self.cls_to_become     # type: ignore[assignment]
        epoch.bump()

    def convert(self, fn: Callable[[Tensor], Tensor]) -> None:
        """Take the dtype and the device that fn makes of this one's."""
        dtype = self._type.dtype
        converted = fn(placed(Tensor._from_array(np.empty(0, dtype.storage), dtype), place_named(self._type.device)))
        self._type = _Unknown(converted.dtype, converted._type.device)        # type: ignore[assignment]

    def _data(self) -> np.ndarray:
        raise _not_there()

    def detach(self) -> Tensor:
        """Itself, for state_dict()."""
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Tensor:
        if id(self) not in memo:
            memo[id(self)] = _rebuilt(type(self), self._type.dtype, self._requires_grad, self._type.device)
        found: Tensor = memo[id(self)]
        return found

    def __reduce_ex__(self, protocol: Any = 2) -> tuple[Any, ...]:
        return _rebuilt, (type(self), self._type.dtype, self._requires_grad, self._type.device)

    def __repr__(self) -> str:
        return f"<{type(self).__name__}>"


class UninitializedParameter(UninitializedTensorMixin, Parameter):
    """A parameter that has no shape yet; `materialize(shape)` makes it a Parameter."""

    __slots__ = ()
    cls_to_become = Parameter

    def __new__(cls, requires_grad: bool = True, device: Any = None,
                dtype: DType | None = None) -> UninitializedParameter:
        self = cls._uninitialized(cls, as_dtype(dtype, "UninitializedParameter") or get_default_dtype(), device)
        assert isinstance(self, UninitializedParameter)
        self._requires_grad = bool(requires_grad)
        return self

    def __init__(self, requires_grad: bool = True, device: Any = None, dtype: DType | None = None):
        pass                    # all is done in __new__


class UninitializedBuffer(UninitializedTensorMixin, Tensor):
    """A buffer that has no shape yet; `materialize(shape)` makes it a Tensor."""

    __slots__ = ()

    def __new__(cls, requires_grad: bool = False, device: Any = None, dtype: DType | None = None,
                persistent: bool = True) -> UninitializedBuffer:
        self = cls._uninitialized(cls, as_dtype(dtype, "UninitializedBuffer") or get_default_dtype(), device)
        assert isinstance(self, UninitializedBuffer)
        self._requires_grad = bool(requires_grad)
        return self

    def __init__(self, requires_grad: bool = False, device: Any = None, dtype: DType | None = None,
                 persistent: bool = True):
        pass                    # all is done in __new__


def _rebuilt(cls: type[Any], dtype: DType, requires_grad: bool, device: str = "cpu") -> Tensor:
    made: Tensor = cls(requires_grad, device=device, dtype=dtype)
    return made


def is_lazy(tensor: object) -> bool:
    """True for a parameter or buffer that has no shape yet."""
    return isinstance(tensor, UninitializedTensorMixin)


__all__ = ["UninitializedBuffer", "UninitializedParameter", "is_lazy"]
