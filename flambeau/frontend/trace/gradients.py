"""`.grad` of leaves from compiled call to compiled call: which memory the machine code reads and writes.

A function that leaves a new gradient writes it into the leaf's `Home`, the same tensor at every call, for as long as
only the leaf holds it: a gradient that the user kept, or gave, is never overwritten. A function that reads or adds to
the gradient it finds works on `Current`, whatever tensor that is.

Eager code that reads or sets a `.grad` bumps `grad_epoch`, so that nothing is looked at while nobody does.
"""
from __future__ import annotations

import weakref
from collections.abc import Sequence
from sys import getrefcount

from flambeau.errors import VerificationError
from flambeau.frontend.tensor.storage import Storage, over
from flambeau.frontend.tensor.tensor import Tensor
from flambeau.ir import dtypes as dt
from flambeau.ir.types import TensorType
from flambeau.runtime.buffer import allocate
from flambeau.runtime.devices import memory_on


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
        is_there = type.device.startswith("cuda:")
        buffer = memory_on(type.device).allocate(type.nbytes) if is_there else allocate(type.nbytes)
        self.pointer = buffer.ptr
        self.grad = Tensor._make(over(buffer, type), type)

    @property
    def _storage(self) -> Storage:
        return self.grad._storage

    @property
    def _type(self) -> TensorType:
        return self.grad._type

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

__all__ = ["Current", "Home", "home_of"]
