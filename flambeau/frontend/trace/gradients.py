"""`.grad` of leaves from compiled call to compiled call: which memory the machine code reads and writes.

A function that leaves a new gradient writes it into the leaf's `Home`, the same tensor at every call, for as long as
only the leaf holds it: a gradient that the user kept, or gave, is never overwritten. A function that reads or adds to
the gradient it finds works on `Current`, whatever tensor that is.

Eager code that reads or sets a `.grad` bumps `grad_epoch`, so that nothing is looked at while nobody does.
"""
from __future__ import annotations

import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from sys import getrefcount

from flambeau.errors import VerificationError
from flambeau.frontend.tensor.storage import Storage
from flambeau.frontend.tensor.tensor import Tensor
from flambeau.ir import dtypes as dt
from flambeau.ir.types import TensorType
from flambeau.runtime.buffer import allocate


class Home:
    """The gradient that compiled calls leave on one leaf; a state of compiled functions that has new memory when
    somebody else holds the old. pointer: its address."""

    __slots__ = ("grad", "pointer")

    grad: Tensor
    pointer: int

    def __init__(self, type: TensorType):
        self.renew(type)

    def renew(self, type: TensorType) -> None:
        """Other memory, of a type."""
        buffer = allocate(type.nbytes)
        self.pointer = buffer.ptr
        self.grad = Tensor._make(Storage(None, buffer, (type.dtype.storage, type.static_shape)), type)

    @property
    def _storage(self) -> Storage:
        return self.grad._storage

    @property
    def _type(self) -> TensorType:
        return self.grad._type

    @property
    def nbytes(self) -> int:
        return self.grad.nbytes

    def is_held(self, leaves: Sequence[Tensor]) -> bool:
        """True when anybody but `leaves` could see it being written."""
        grad = self.grad
        storage = grad._storage
        array = storage._array
        held = getrefcount(grad)
        for leaf in leaves:
            if leaf._grad is grad:
                held -= 1
        return (held != _TENSOR or getrefcount(storage) != _STORAGE or grad._requires_grad or grad._grad is not None
                or array is not None and getrefcount(array) - (grad._array is array) != _ARRAY)


class Current:
    """`leaf.grad` as it is, as a state of a compiled function."""

    __slots__ = ("leaf",)

    def __init__(self, leaf: Tensor):
        self.leaf = leaf

    @property
    def grad(self) -> Tensor:
        grad = self.leaf._grad
        if grad is None:
            raise VerificationError("a gradient that a compiled function adds to is None: its guard failed")
        return grad

    @property
    def _storage(self) -> Storage:
        return self.grad._storage

    @property
    def _type(self) -> TensorType:
        return self.grad._type

    @property
    def nbytes(self) -> int:
        return self.grad.nbytes


@dataclass(eq=False)
class GradWrite:
    """After a call `leaf.grad` is `value`: None, a tensor, what is in a Home, an argument (its leaf number), or what
    another .grad was before (a ReadGrad)."""

    leaf: Tensor
    value: Tensor | Home | int | ReadGrad | None


@dataclass(eq=False)
class ReadGrad:
    """`leaf.grad` was read when it was `grad`. state: the number of its memory among the states (-1: only looked at).
    A gradient that is a view of other memory must stay `grad`; others may be replaced by one of the same layout."""

    leaf: Tensor
    type: TensorType | None = None          # None: there was none
    state: int = -1
    view: Tensor | None = None

    def holds(self, pointers: Sequence[int]) -> bool | None:
        """Whether the gradient still is where it was; None when it lies somewhere else, in the same layout."""
        grad = self.leaf._grad
        if grad is None or self.type is None:
            return grad is None and self.type is None
        if self.state < 0:
            return True
        if grad._type != self.type:
            return False
        if self.view is not None:
            return grad is self.view or grad._storage is self.view._storage and grad._chain == self.view._chain
        if grad._base is not None or not grad._data().flags.c_contiguous:
            return False
        return True if grad._storage.buffer.ptr == pointers[self.state] else None


def home_of(leaf: Tensor) -> Home:
    """The one home of a leaf's gradients, whichever functions write them."""
    key = id(leaf)
    if key not in _homes:
        _homes[key] = (weakref.ref(leaf, lambda _: _homes.pop(key, None)), Home(leaf._type))
    return _homes[key][1]


def _references() -> tuple[int, int, int]:
    """How often a gradient that only its home holds is held where `is_held` counts, and so its storage and array."""
    home = Home(TensorType((1,), dt.f32))
    grad = home.grad
    grad._data()
    storage = grad._storage
    array = storage._array
    return getrefcount(grad), getrefcount(storage), getrefcount(array) - (grad._array is array)


_homes: dict[int, tuple[weakref.ref[Tensor], Home]] = {}
_TENSOR, _STORAGE, _ARRAY = _references()

__all__ = ["Current", "GradWrite", "Home", "ReadGrad", "home_of"]
