"""An array as an attribute of an op: immutable, hashable, equal bit by bit."""
from __future__ import annotations

import hashlib
from typing import Any

import numpy as np

from flambeau.errors import TypeInferenceError
from flambeau.ir.dtypes import DType, to_compute, to_storage
from flambeau.ir.types import TensorType


class Literal:
    """An array as an attribute: immutable, hashable, equal bit by bit (so -0.0 is not 0.0, and NaN is NaN).

    array: in the dtype's storage form, read-only. Made by `literal`.
    """

    __slots__ = ("_digest", "array", "dtype")

    def __init__(self, array: np.ndarray, dtype: DType):
        assert array.dtype == dtype.storage, f"a {dtype} literal holds {dtype.storage}, got {array.dtype}"
        self.array, self.dtype = np.array(array, order="C"), dtype
        self.array.flags.writeable = False
        self._digest = ""

    @property
    def type(self) -> TensorType:
        return TensorType(self.array.shape, self.dtype)

    @property
    def digest(self) -> str:
        """A name for dtype, shape and bits, the same in every process."""
        if not self._digest:
            head = f"{self.dtype}{self.array.shape}".encode()
            self._digest = hashlib.blake2b(head + self.array.tobytes(), digest_size=16).hexdigest()
        return self._digest

    def item(self) -> float | int | bool:
        """The number of a one-element literal."""
        return to_compute(self.array, self.dtype).item()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Literal) and (self is other or self.digest == other.digest)

    def __hash__(self) -> int:
        return hash(self.digest)

    def __repr__(self) -> str:
        return f"Literal({to_compute(self.array, self.dtype).tolist() if self.array.size < 9 else '...'}, {self.dtype})"

    def __reduce__(self) -> tuple[Any, ...]:
        return (Literal, (self.array, self.dtype))


def literal(value: Any, dtype: DType) -> Literal:
    """value: a Python number, converted to `dtype` (ints wrap, as PyTorch's do not: out of range raises
    TypeInferenceError), or an array already in `dtype`'s storage."""
    if isinstance(value, (np.ndarray, np.generic)) and value.dtype == dtype.storage:
        return Literal(np.asarray(value), dtype)
    numbers = np.asarray(value)
    if dtype.is_floating_point:
        with np.errstate(over="ignore"):    # PyTorch rounds to 16 bits by way of float32
            rounded = numbers.astype(np.float32 if dtype.itemsize == 2 else dtype.compute)
            return Literal(np.asarray(to_storage(rounded, dtype)), dtype)
    if dtype.is_integer and numbers.size:
        limits = np.iinfo(dtype.storage)
        if not (limits.min <= numbers.min() and numbers.max() <= limits.max):
            raise TypeInferenceError(f"constant: {value!r} is outside the range of {dtype}")
    return Literal(numbers.astype(dtype.storage), dtype)
