"""Datasets and batches, with PyTorch's names. Batches are assembled in NumPy and become tensors at the end.

Everything runs in the calling process: a compiled step leaves little to overlap with, and NumPy's copying is
quick beside it.
"""

from __future__ import annotations

import bisect
import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Generic, TypeVar

import numpy as np

from flambeau.errors import ShapeError, UnsupportedError
from flambeau.frontend import random
from flambeau.frontend.tensor.tensor import Tensor
from flambeau.ir import dtypes as dt

__all__ = [
    "ConcatDataset",
    "DataLoader",
    "Dataset",
    "IterableDataset",
    "Subset",
    "TensorDataset",
    "default_collate",
    "random_split",
]

T_co = TypeVar("T_co", covariant=True)
Generator = random.Generator | np.random.Generator | int | None


class Dataset(Generic[T_co]):
    """Samples by number: define `__getitem__(index)` and `__len__()`."""

    def __getitem__(self, index: int) -> T_co:
        raise NotImplementedError(f"{type(self).__name__} needs __getitem__(index)")

    def __len__(self) -> int:
        raise NotImplementedError(f"{type(self).__name__} needs __len__()")

    def __iter__(self) -> Iterator[T_co]:
        return (self[index] for index in range(len(self)))

    def __add__(self, other: Dataset[Any]) -> ConcatDataset:
        return ConcatDataset([self, other])


class IterableDataset(Generic[T_co]):
    """Samples in an order of their own: define `__iter__()`."""

    def __iter__(self) -> Iterator[T_co]:
        raise NotImplementedError(f"{type(self).__name__} needs __iter__()")


class TensorDataset(Dataset[tuple[Tensor, ...]]):
    """Sample i is row i of each tensor. Raises ShapeError if their first dims differ."""

    def __init__(self, *tensors: Tensor) -> None:
        if not tensors:
            raise ValueError("TensorDataset: give at least one tensor")
        lengths = [len(tensor) for tensor in tensors]
        if len(set(lengths)) > 1:
            raise ShapeError(f"TensorDataset: tensors have different numbers of rows: {lengths}")
        self.tensors = tensors

    def __getitem__(self, index: Any) -> tuple[Tensor, ...]:
        return tuple(tensor[index] for tensor in self.tensors)

    def __getitems__(self, indices: Sequence[int]) -> tuple[Tensor, ...]:
        """The rows `indices` of each tensor, as one batch: a single copy instead of one a row."""
        return tuple(_rows(tensor, indices) for tensor in self.tensors)

    def __len__(self) -> int:
        return len(self.tensors[0])


class Subset(Dataset[T_co]):
    """The samples of `dataset` with these numbers, in this order."""

    def __init__(self, dataset: Dataset[T_co], indices: Sequence[int]) -> None:
        self.dataset = dataset
        self.indices = indices

    def __getitem__(self, index: int) -> T_co:
        return self.dataset[self.indices[index]]

    def __len__(self) -> int:
        return len(self.indices)


class ConcatDataset(Dataset[Any]):
    """The samples of several datasets, one dataset after the other."""

    def __init__(self, datasets: Iterable[Dataset[Any]]) -> None:
        self.datasets = list(datasets)
        if not self.datasets:
            raise ValueError("ConcatDataset: give at least one dataset")
        self._ends = list(itertools.accumulate(len(dataset) for dataset in self.datasets))

    def __getitem__(self, index: int) -> Any:
        position = index + len(self) if index < 0 else index
        if not 0 <= position < len(self):
            raise IndexError(f"index {index} is out of range for {len(self)} samples")
        part = bisect.bisect_right(self._ends, position)
        return self.datasets[part][position - (self._ends[part - 1] if part else 0)]

    def __len__(self) -> int:
        return self._ends[-1]


def random_split(
    dataset: Dataset[T_co], lengths: Sequence[int | float], generator: Generator = None
) -> list[Subset[T_co]]:
    """Deal the samples out at random, without overlap.

    lengths: how many samples each part gets, or the share of each, adding up to 1; what rounding leaves over
    goes to the first parts, one each. Raises ValueError if the lengths don't add up.
    """
    counts = _counts(lengths, len(dataset))
    order = _numpy_generator(generator).permutation(len(dataset)).tolist()
    ends = list(itertools.accumulate(counts))
    return [Subset(dataset, order[end - count : end]) for count, end in zip(counts, ends, strict=True)]


def _counts(lengths: Sequence[int | float], n_samples: int) -> list[int]:
    if math.isclose(sum(lengths), 1) and all(0 <= share <= 1 for share in lengths):
        counts = [math.floor(n_samples * share) for share in lengths]
        for part in range(n_samples - sum(counts)):
            counts[part % len(counts)] += 1
        return counts
    if sum(lengths) != n_samples or not all(isinstance(length, int) and length >= 0 for length in lengths):
        raise ValueError(
            f"random_split: lengths {list(lengths)} don't add up to {n_samples} samples, nor to 1"
        )
    return [int(length) for length in lengths]


class DataLoader(Generic[T_co]):
    """Batches of a dataset: an iterable that starts anew each time it is iterated over.

    shuffle: another order in each epoch, drawn from `generator`: a Generator (Flambeau's or NumPy's), a seed, or
    None for an unpredictable one. drop_last: leave out a last batch that is not full, so that a compiled step sees one
    shape. collate_fn: list of samples -> batch. batch_size=None gives the samples themselves.
    """

    def __init__(
        self,
        dataset: Dataset[T_co] | IterableDataset[T_co] | Sequence[T_co],
        batch_size: int | None = 1,
        shuffle: bool = False,
        *,
        drop_last: bool = False,
        collate_fn: Callable[[list[T_co]], Any] | None = None,
        generator: Generator = None,
        num_workers: int = 0,
    ) -> None:
        if batch_size is not None and batch_size < 1:
            raise ValueError(f"DataLoader: batch_size is at least 1 or None, not {batch_size}")
        if num_workers:
            raise UnsupportedError(
                f"DataLoader: num_workers={num_workers}: batches are made in the calling process",
                hint="leave num_workers at 0",
            )
        if shuffle and isinstance(dataset, IterableDataset):
            raise ValueError("DataLoader: an IterableDataset has an order of its own and can't be shuffled")
        self.dataset, self.batch_size = dataset, batch_size
        self.shuffle, self.drop_last = shuffle, drop_last
        self.collate_fn = collate_fn
        self.generator = _numpy_generator(generator)

    def __len__(self) -> int:
        """Batches in an epoch. Raises TypeError for an IterableDataset, which has no length."""
        if isinstance(self.dataset, IterableDataset):
            raise TypeError("a DataLoader over an IterableDataset has no length")
        n_samples = len(self.dataset)
        if self.batch_size is None:
            return n_samples
        return n_samples // self.batch_size if self.drop_last else -(-n_samples // self.batch_size)

    def __iter__(self) -> Iterator[Any]:
        if isinstance(self.dataset, IterableDataset):
            return self._from_stream(iter(self.dataset))
        n_samples = len(self.dataset)
        order = self.generator.permutation(n_samples) if self.shuffle else np.arange(n_samples)
        return self._from_order(self.dataset, order.tolist())

    def _from_order(self, dataset: Dataset[T_co] | Sequence[T_co], order: list[int]) -> Iterator[Any]:
        if self.batch_size is None:
            yield from (dataset[index] for index in order)
            return
        for start in range(0, len(self) * self.batch_size, self.batch_size):
            chosen = order[start : start + self.batch_size]
            if self.collate_fn is None and isinstance(dataset, TensorDataset):
                yield list(dataset.__getitems__(chosen))
            else:
                yield self._collate([dataset[index] for index in chosen])

    def _from_stream(self, samples: Iterator[T_co]) -> Iterator[Any]:
        if self.batch_size is None:
            yield from samples
            return
        while batch := list(itertools.islice(samples, self.batch_size)):
            if len(batch) == self.batch_size or not self.drop_last:
                yield self._collate(batch)

    def _collate(self, samples: list[T_co]) -> Any:
        return (self.collate_fn or default_collate)(samples)


def default_collate(samples: Sequence[Any]) -> Any:
    """Samples -> one batch. Tensors, arrays and numbers are stacked along a new first dim; tuples, lists and
    mappings are collated field by field; strings stay a list. Raises TypeError for anything else.
    """
    first = samples[0]
    match first:
        case Tensor():
            return _tensor(np.stack([sample._data() for sample in samples]), first.dtype)
        case str() | bytes():
            return list(samples)
        case np.ndarray() | np.generic() | bool() | int():
            return _from_numpy(np.stack([np.asarray(sample) for sample in samples]))
        case float():
            return _from_numpy(np.array(samples, dtype=np.float64))
        case Mapping():
            return {key: default_collate([sample[key] for sample in samples]) for key in first}
        case tuple() if hasattr(first, "_fields"):
            return type(first)(*map(default_collate, zip(*samples, strict=True)))
        case tuple() | list():
            return [default_collate(list(field)) for field in zip(*samples, strict=True)]
    raise TypeError(f"default_collate: don't know how to batch {type(first).__name__}; pass a collate_fn")


def _rows(tensor: Tensor, indices: Sequence[int]) -> Tensor:
    return _tensor(tensor._data()[np.asarray(indices, dtype=np.int64)], tensor.dtype)


def _from_numpy(array: np.ndarray) -> Tensor:
    return _tensor(array, dt.from_numpy_dtype(array.dtype))


def _tensor(array: np.ndarray, dtype: dt.DType) -> Tensor:
    return Tensor._from_array(np.ascontiguousarray(array).reshape(array.shape), dtype)


def _numpy_generator(generator: Generator) -> np.random.Generator:
    """NumPy's generators as they are; ours moves on by a draw, which is the seed of one."""
    if isinstance(generator, np.random.Generator):
        return generator
    if isinstance(generator, random.Generator):
        return np.random.default_rng(int(generator.bits((1,), dt.u64)._data()[0]))
    if generator is not None and not isinstance(generator, (int, np.integer)):
        raise TypeError(f"generator must be a Generator, a seed or None, got {type(generator).__name__}")
    return np.random.default_rng(generator)
