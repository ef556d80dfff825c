"""Module 2: indices, strides and shapes of tensors."""
from __future__ import annotations

import itertools
import math
import random
from collections.abc import Iterator, Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

import flambeau as fb

MAX_DIMS = 32
Storage: TypeAlias = npt.NDArray[np.float64]
Index: TypeAlias = npt.NDArray[np.int32]
OutIndex: TypeAlias = Index
Shape: TypeAlias = Index
Strides: TypeAlias = Index
UserIndex: TypeAlias = Sequence[int]
UserShape: TypeAlias = Sequence[int]
UserStrides: TypeAlias = Sequence[int]


class IndexingError(RuntimeError):
    """An index, a shape or strides that don't fit."""


def index_to_position(index: Any, strides: Any) -> int:
    """Where the element of an index lies in the storage."""
    return int(sum(i * s for i, s in zip(index, strides, strict=True)))


def to_index(ordinal: int, shape: Any, out_index: Any) -> None:
    """Write the index of the element of that number, counted in row-major order, into out_index."""
    for dim in range(len(shape) - 1, -1, -1):
        ordinal, out_index[dim] = divmod(ordinal, int(shape[dim]))


def broadcast_index(big_index: Any, big_shape: Any, shape: Any, out_index: Any) -> None:
    """Write the index into a tensor of `shape` that big_index reads once it is broadcast to big_shape."""
    added = len(big_shape) - len(shape)
    for dim, size in enumerate(shape):
        out_index[dim] = big_index[added + dim] if size > 1 else 0


def shape_broadcast(shape1: UserShape, shape2: UserShape) -> tuple[int, ...]:
    """The shape that both are broadcast to. Raises IndexingError where there is none."""
    try:
        return tuple(fb.broadcast_shapes(tuple(shape1), tuple(shape2)))
    except (RuntimeError, ValueError) as error:
        raise IndexingError(f"shapes {tuple(shape1)} and {tuple(shape2)} don't broadcast") from error


def strides_from_shape(shape: UserShape) -> tuple[int, ...]:
    """Strides of a row-major tensor."""
    return tuple([math.prod(shape[dim + 1:]) for dim in range(len(shape))])


def strided(storage: Storage, shape: Any, strides: Any) -> Storage:
    """The elements of a storage in a shape, which share its memory."""
    steps = tuple([int(s) * storage.itemsize for s in strides])
    return np.lib.stride_tricks.as_strided(storage, tuple(map(int, shape)), steps)


class TensorData:
    """A storage with a shape and strides: f64, dense, without an offset."""

    def __init__(self, storage: Any, shape: UserShape, strides: UserStrides | None = None):
        assert isinstance(shape, tuple), "shape must be a tuple"
        strides = strides_from_shape(shape) if strides is None else strides
        assert isinstance(strides, tuple), "strides must be a tuple"
        if len(strides) != len(shape):
            raise IndexingError(f"strides {strides} and shape {shape} differ in length")
        self._storage: Storage = storage if isinstance(storage, np.ndarray) else np.array(storage, np.float64)
        self.shape, self.strides = shape, strides
        self._shape, self._strides = np.array(shape, np.int32), np.array(strides, np.int32)
        self.dims, self.size = len(shape), math.prod(shape)
        assert len(self._storage) == self.size, f"{len(self._storage)} elements for shape {shape}"

    @classmethod
    def of(cls, value: fb.Tensor) -> TensorData:
        """Over the memory of a tensor of ours; of a copy where its elements overlap or have gaps."""
        order = sorted(range(value.dim()), key=lambda dim: -value.stride(dim))
        array = value.detach().numpy()
        if not array.transpose(order).flags.c_contiguous:
            array, order = np.ascontiguousarray(array).reshape(array.shape), list(range(value.dim()))
        strides = tuple([step // array.itemsize for step in array.strides])
        return cls(array.transpose(order).reshape(-1), array.shape, strides)

    def value(self) -> fb.Tensor:
        """A tensor of ours over the same memory."""
        return fb.from_numpy(strided(self._storage, self.shape, self.strides))

    def is_contiguous(self) -> bool:
        """True where the strides never grow."""
        return all(a >= b for a, b in itertools.pairwise(self.strides))

    shape_broadcast = staticmethod(shape_broadcast)

    def index(self, index: int | UserIndex) -> int:
        """Where an element lies in the storage. Raises IndexingError for what is no index of this shape."""
        places = (index,) if isinstance(index, int) else tuple(index)
        if len(places) != self.dims:
            raise IndexingError(f"index {places} has another length than shape {self.shape}")
        for place, size in zip(places, self.shape, strict=True):
            if not 0 <= place < size:
                raise IndexingError(f"index {places} is out of range for shape {self.shape}")
        return index_to_position(places, self.strides)

    def indices(self) -> Iterator[UserIndex]:
        """Every index, in row-major order."""
        return itertools.product(*map(range, self.shape))

    def sample(self) -> UserIndex:
        """A random index."""
        return tuple([random.randint(0, size - 1) for size in self.shape])

    def get(self, key: int | UserIndex) -> float:
        """The element at an index."""
        return float(self._storage[self.index(key)])

    def set(self, key: int | UserIndex, val: float) -> None:
        """Overwrite the element at an index."""
        self._storage[self.index(key)] = val

    def tuple(self) -> Any:
        """Storage, shape and strides."""
        return self._storage, self._shape, self._strides

    def permute(self, *order: int) -> TensorData:
        """The same storage with the dims in another order."""
        assert sorted(order) == list(range(self.dims)), f"order {order} is no permutation of the dims of {self.shape}"
        return TensorData(self._storage, tuple([self.shape[d] for d in order]), tuple([self.strides[d] for d in order]))

    def to_string(self) -> str:
        """The elements with two decimals."""
        return np.array2string(strided(*self.tuple()), separator=" ", formatter={"float_kind": lambda x: f"{x:3.2f}"})


__all__ = ["MAX_DIMS", "Index", "IndexingError", "OutIndex", "Shape", "Storage", "Strides", "TensorData", "UserIndex",
           "UserShape", "UserStrides", "broadcast_index", "index_to_position", "shape_broadcast", "strides_from_shape",
           "to_index"]
