"""Module 2: Tensor, around a float64 tensor of ours. Reductions keep their dim; `sum()` of all has shape (1,)."""
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

import flambeau as fb
from flambeau.minitorch import operators
from flambeau.minitorch.autodiff import History, Variable, compared, recorded
from flambeau.minitorch.tensor_data import TensorData, UserIndex, UserShape
from flambeau.minitorch.tensor_ops import SimpleBackend, TensorBackend

TensorLike = Any                # a Tensor or a number


@dataclass(init=False, repr=False, eq=False)
class Tensor(Variable):
    """Numbers in any number of dims. `back` as for Scalar; None, a constant, if it is left out."""

    value: fb.Tensor
    backend = SimpleBackend         # without an annotation: a field of the dataclass would be an operand

    def __init__(self, v: TensorData | fb.Tensor, back: History | None = None, name: str | None = None,
                 backend: TensorBackend | None = None):
        self.value = v.value() if isinstance(v, TensorData) else v
        if backend is not None and backend is not SimpleBackend:
            self.backend = backend
        if back is not None and back.last_fn is not None:
            self.value = recorded(back, self, self.value.detach())
        elif back is not None:
            self.value.requires_grad_()
        if name is not None:
            self.name = name

    @property
    def f(self) -> TensorBackend:
        """The backend."""
        return self.backend

    @staticmethod
    def make(storage: Any, shape: UserShape, strides: Sequence[int] | None = None,
             backend: TensorBackend | None = None) -> Tensor:
        """A tensor over a storage."""
        return Tensor(TensorData(storage, shape, strides), backend=backend)

    def _like(self, value: fb.Tensor) -> Tensor:
        return Tensor(value, backend=self.__dict__.get("backend"))

    def _new(self, tensor_data: TensorData) -> Tensor:
        return self._like(tensor_data.value())

    def _given(self, derivative: Any) -> fb.Tensor:
        found = value_like(derivative)
        return found.expand(self.value.shape) if isinstance(found, fb.Tensor) else fb.full_like(self.value, found)

    def _told(self, derivative: fb.Tensor) -> Tensor:
        return self._like(derivative)

    # -- what it is -------------------------------------------------------------------------------------------------

    @property
    def _tensor(self) -> TensorData:
        return TensorData.of(self.value)

    def tuple(self) -> Any:
        """Storage, shape and strides."""
        return self._tensor.tuple()

    @property
    def shape(self) -> Any:
        """The sizes, a tuple."""
        return tuple(self.value.shape)

    @property
    def size(self) -> int:
        """Number of elements."""
        return self.value.numel()

    @property
    def dims(self) -> int:
        """Number of dims."""
        return self.value.dim()

    def to_numpy(self) -> np.ndarray:
        """The elements as an array, in row-major order."""
        return self.value.detach().contiguous().numpy()

    def item(self) -> float:
        """The only element."""
        assert self.size == 1, f"{self.size} elements"
        return float(self.value.item())

    def __getitem__(self, key: int | UserIndex) -> float:
        return self._tensor.get(key)

    def __setitem__(self, key: int | UserIndex, val: float) -> None:
        self._tensor.index(key)
        self.value.detach()[key] = val

    def __repr__(self) -> str:
        return self._tensor.to_string()

    # -- autodiff ---------------------------------------------------------------------------------------------------

    @property
    def grad(self) -> Tensor | None:
        """What backward() has left, of a leaf."""
        grad = self.value.grad
        return None if grad is None else self._like(grad)

    @grad.setter
    def grad(self, given: Tensor | None) -> None:
        self.value.grad = None if given is None else self._given(given).clone()

    def zero_grad_(self) -> None:
        """Forget the gradient."""
        self.value.grad = None

    def requires_grad(self) -> bool:
        """True unless it is a constant."""
        return self.value.requires_grad

    def requires_grad_(self, x: bool = True) -> None:
        """Make it a leaf, or a constant."""
        if not x or not self.value.is_leaf:
            self.value = self.value.detach()
        self.value.requires_grad_(x)

    def detach(self) -> Tensor:
        """The same elements as a constant."""
        return self._like(self.value.detach())

    def expand(self, other: Tensor) -> Tensor:
        """A derivative of what this tensor was broadcast to, as one of this tensor."""
        whole = fb.broadcast_to(other.value, fb.broadcast_shapes(self.value.shape, other.value.shape))
        return self._like(whole.sum_to_size(self.value.shape))

    # -- functions --------------------------------------------------------------------------------------------------

    def _then(self, fn: Any, *others: Any) -> Tensor:
        return self._like(fn(self.value, *[value_like(b) for b in others]))

    def _compared(self, fn: Any, b: TensorLike, swapped: bool = False) -> Tensor:
        other = b.value if isinstance(b, Tensor) else fb.tensor([float(b)], dtype=fb.float64)
        return self._like(compared(fn, other, self.value) if swapped else compared(fn, self.value, other))

    def __add__(self, b: TensorLike) -> Tensor:
        return self._then(operators.add, b)

    def __sub__(self, b: TensorLike) -> Tensor:
        return self._then(lambda x, y: x - y, b)

    def __mul__(self, b: TensorLike) -> Tensor:
        return self._then(operators.mul, b)

    def __truediv__(self, b: TensorLike) -> Tensor:
        return self._then(lambda x, y: x / y, b)

    def __rtruediv__(self, b: TensorLike) -> Tensor:
        return self._then(lambda x, y: y / x, b)

    def __rsub__(self, b: TensorLike) -> Tensor:
        return self._then(lambda x, y: y - x, b)

    __radd__, __rmul__ = __add__, __mul__

    def __matmul__(self, b: Tensor) -> Tensor:
        return self._then(fb.matmul, b)

    def __neg__(self) -> Tensor:
        return self._then(operators.neg)

    def __lt__(self, b: TensorLike) -> Tensor:
        return self._compared(operators.lt, b)

    def __gt__(self, b: TensorLike) -> Tensor:
        return self._compared(operators.lt, b, swapped=True)

    def __eq__(self, b: TensorLike) -> Tensor:  # type: ignore[override]
        return self._compared(operators.eq, b)

    __hash__ = object.__hash__

    def is_close(self, y: Tensor) -> Tensor:
        """1 where they differ by less than 0.01, or else 0."""
        return self._compared(operators.is_close, y)

    def sigmoid(self) -> Tensor:
        """1 / (1 + e^-x)"""
        return self._then(operators.sigmoid)

    def relu(self) -> Tensor:
        """x where it is positive, or else 0."""
        return self._then(operators.relu)

    def log(self) -> Tensor:
        """log(x + 1e-6)"""
        return self._then(operators.log)

    def exp(self) -> Tensor:
        """e^x"""
        return self._then(operators.exp)

    def sum(self, dim: int | None = None) -> Tensor:
        """The sum along dim, or of all."""
        return self._then(lambda x: x.sum().reshape(1) if dim is None else x.sum(dim, keepdim=True))

    def mean(self, dim: int | None = None) -> Tensor:
        """The mean along dim, or of all."""
        return self._then(lambda x: x.mean().reshape(1) if dim is None else x.mean(dim, keepdim=True))

    def all(self, dim: int | None = None) -> Tensor:
        """The product along dim, or of all: 1 where all are 1."""
        return self._then(lambda x: x.prod().reshape(1) if dim is None else x.prod(dim, keepdim=True))

    def permute(self, *order: int) -> Tensor:
        """The dims in another order."""
        return self._then(lambda x: x.permute(order))

    def view(self, *shape: int) -> Tensor:
        """The same elements in another shape. Raises RuntimeError where they don't lie in row-major order."""
        return self._then(lambda x: x.view(shape))

    def contiguous(self) -> Tensor:
        """The same elements in row-major order."""
        return self._then(lambda x: x.contiguous())

    def zeros(self, shape: UserShape | None = None) -> Tensor:
        """Zeros of that shape, or of this one's."""
        return self._like(fb.zeros(self.shape if shape is None else tuple(shape), dtype=fb.float64))


def value_like(b: TensorLike) -> Any:
    """The tensor of ours in a Tensor; a number as it is."""
    return b.value if isinstance(b, Tensor) else b


__all__ = ["History", "Tensor", "TensorLike"]
