"""Parameter: a Tensor that a Module registers when it is assigned, and that optimizers update."""
from __future__ import annotations

from typing import ClassVar, Final

import numpy as np

from flambeau.errors import ShapeError
from flambeau.frontend.epoch import epoch
from flambeau.frontend.functions.coerce import sizes_of
from flambeau.frontend.tape.moves import placed
from flambeau.frontend.tape.unwatched import PLAIN
from flambeau.frontend.tensor.complex_tensor import ComplexTensor
from flambeau.frontend.tensor.device import place_of
from flambeau.frontend.tensor.promotion import as_dtype, get_default_dtype
from flambeau.frontend.tensor.tensor import Tensor
from flambeau.ir.dtypes import DType
from flambeau.ir.types import TensorType

_OF_TENSORS: Final = frozenset(name for base in Tensor.__mro__ for name, member in vars(base).items()
                               if hasattr(type(member), "__set__"))            # slots and properties


class Parameter(Tensor):
    """`Parameter(data)` shares memory with `data`, is a leaf of autograd and requires grad.

    It takes attributes of yours (`weight._no_weight_decay = True`). Raises TypeError when data is not a Tensor,
    RuntimeError when it should require grad but has no float dtype."""

    notices_attributes: ClassVar[bool] = True           # setting one bumps the epoch: guards need not look at each call

    def __new__(cls, data: Tensor | None = None, requires_grad: bool = True) -> Parameter:
        if data is None:
            dtype = get_default_dtype()
            data = Tensor._from_array(np.empty(0, dtype.storage), dtype)
        if not isinstance(data, Tensor):
            raise TypeError(f"Parameter: data must be a Tensor, got {type(data).__name__}")
        if isinstance(data, ComplexTensor):
            made = object.__new__(ComplexParameter)
            made._pair = Parameter(data._pair, requires_grad)
            return made
        self = Tensor._make(data._storage, data._type, data._array, data._bare_base(), data._chain, cls=cls)
        assert isinstance(self, Parameter)
        self.requires_grad_(requires_grad)
        return self

    def __init__(self, data: Tensor | None = None, requires_grad: bool = True):
        pass                    # all is done in __new__; Tensor's own __init__ refuses to be called

    def requires_grad_(self, requires_grad: bool = True) -> Parameter:
        """Ask for gradients or not (a frozen parameter). Compiled functions notice the change."""
        if self._requires_grad != requires_grad:
            super().requires_grad_(requires_grad)
            epoch.bump()
        return self

    def __setattr__(self, name: str, value: object) -> None:
        object.__setattr__(self, name, value)
        if name not in _OF_TENSORS:
            epoch.bump()

    def __delattr__(self, name: str) -> None:
        object.__delattr__(self, name)
        epoch.bump()

    def __repr__(self) -> str:
        return f"Parameter containing:\n{super().__repr__()}"


class ComplexParameter(ComplexTensor, Parameter):      # type: ignore[misc]
    """What `Parameter(data)` makes of complex data: its pair is a parameter, which optimizers update."""

    __slots__ = ()

    __hash__ = Tensor.__hash__

    def __repr__(self) -> str:
        return f"Parameter containing:\n{ComplexTensor.__repr__(self)}"


class Buffer(Tensor):
    """`module.mean = Buffer(data)` registers a buffer, as `register_buffer` does. Shares memory with `data`.

    persistent: part of state_dict()."""

    persistent: bool

    def __new__(cls, data: Tensor | None = None, *, persistent: bool = True) -> Buffer:
        if data is None:
            dtype = get_default_dtype()
            data = Tensor._from_array(np.empty(0, dtype.storage), dtype)
        if not isinstance(data, Tensor):
            raise TypeError(f"Buffer: data must be a Tensor, got {type(data).__name__}")
        self = Tensor._make(data._storage, data._type, data._array, data._bare_base(), data._chain, cls=cls)
        assert isinstance(self, Buffer)
        self.persistent = persistent
        return self

    def __init__(self, data: Tensor | None = None, *, persistent: bool = True):
        pass                    # all is done in __new__; Tensor's own __init__ refuses to be called


def empty_parameter(shape: tuple[int, ...], dtype: DType | None, device: object = None) -> Parameter:
    """A parameter of that shape whose values are to be filled in. dtype None: the default float."""
    shape = sizes_of(shape, "Parameter")
    dtype = as_dtype(dtype, "Parameter") or get_default_dtype()
    place = place_of(device)
    if mistake := TensorType(shape, dtype).size_mistake:
        raise ShapeError(f"parameter: {mistake}")
    return Parameter(placed(Tensor._from_array(np.zeros(shape, dtype.storage), dtype), place))


PLAIN.update([Buffer, ComplexParameter, Parameter])

__all__ = ["Buffer", "Parameter"]
