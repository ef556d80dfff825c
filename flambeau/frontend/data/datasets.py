"""Datasets: samples by number, or in an order of their own."""
from __future__ import annotations

import bisect
import itertools
import math
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import numpy as np

from flambeau.errors import ShapeError
from flambeau.frontend.data.collation import tensor_from
from flambeau.frontend.data.randomness import Generator, numpy_generator
from flambeau.frontend.tensor.tensor import Tensor

T_co = TypeVar("T_co", covariant=True)


class Dataset(Generic[T_co]):
    """Samples by number: define `__getitem__(index)` and `__len__()`. `__getitems__(indices)`, where it is there, gives
    a list of samples at once."""

    def __getitem__(self, index: Any) -> T_co:
        raise NotImplementedError(f"{type(self).__name__} needs __getitem__(index)")

    if TYPE_CHECKING:                   # a dataset without a length has no such method

        def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[T_co]:
        for index in range(len(self)) if hasattr(self, "__len__") else itertools.count():
            try:
                sample = self[index]
            except IndexError:
                return
            yield sample

    def __add__(self, other: Dataset[Any]) -> ConcatDataset:
        return ConcatDataset([self, other])


class IterableDataset(Dataset[T_co]):
    """Samples in an order of their own: define `__iter__()`."""

    def __iter__(self) -> Iterator[T_co]:
        raise NotImplementedError(f"{type(self).__name__} needs __iter__()")

    def __add__(self, other: Dataset[Any]) -> ChainDataset:     # type: ignore[override]
        return ChainDataset([self, other])


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

    def batch_of(self, indices: Sequence[int]) -> list[Tensor]:
        """The rows `indices` of each tensor, as one batch: a single copy instead of one a row."""
        return [_rows(tensor, indices) for tensor in self.tensors]

    def __len__(self) -> int:
        return len(self.tensors[0])


def _rows(tensor: Tensor, indices: Sequence[int]) -> Tensor:
    return tensor_from(tensor._data()[np.asarray(indices, dtype=np.int64)], tensor.dtype)


class StackDataset(Dataset[Any]):
    """Sample i is made of sample i of each dataset: a tuple of them, or a dict when they are given by name. Raises
    ValueError if their lengths differ."""

    def __init__(self, *args: Dataset[Any], **kwargs: Dataset[Any]) -> None:
        if bool(args) == bool(kwargs):
            raise ValueError("StackDataset: give datasets, either all by position or all by name")
        self.datasets: Any = args or kwargs
        lengths = [len(dataset) for dataset in self._parts()]
        if len(set(lengths)) > 1:
            raise ValueError(f"StackDataset: size mismatch between datasets: {lengths}")
        self._length = lengths[0]

    def _parts(self) -> list[Dataset[Any]]:
        return list(self.datasets.values() if isinstance(self.datasets, dict) else self.datasets)

    def _made(self, samples: Iterable[Any]) -> Any:
        return dict(zip(self.datasets, samples, strict=True)) if isinstance(self.datasets, dict) else tuple(samples)

    def __getitem__(self, index: int) -> Any:
        return self._made(dataset[index] for dataset in self._parts())

    def __getitems__(self, indices: Sequence[int]) -> list[Any]:
        columns = [samples_of(dataset, indices) for dataset in self._parts()]
        return [self._made(samples) for samples in zip(*columns, strict=True)]

    def __len__(self) -> int:
        return self._length


class Subset(Dataset[T_co]):
    """The samples of `dataset` with these numbers, in this order."""

    def __init__(self, dataset: Dataset[T_co], indices: Sequence[int]) -> None:
        self.dataset = dataset
        self.indices = indices

    def __getitem__(self, index: Any) -> T_co:
        if isinstance(index, list):
            return self.dataset[[self.indices[i] for i in index]]
        return self.dataset[self.indices[index]]

    def __getitems__(self, indices: Sequence[int]) -> list[T_co]:
        return samples_of(self.dataset, [self.indices[index] for index in indices])

    def __len__(self) -> int:
        return len(self.indices)


def samples_of(dataset: Any, indices: Sequence[int]) -> list[Any]:
    """The samples with these numbers, by `__getitems__` where the dataset has it."""
    at_once = getattr(dataset, "__getitems__", None)
    if not at_once:
        return [dataset[index] for index in indices]
    samples: list[Any] = at_once(indices)
    if len(samples) != len(indices):
        raise ValueError(f"{type(dataset).__name__}.__getitems__ gave {len(samples)} samples for {len(indices)} indices")
    return samples


class ConcatDataset(Dataset[Any]):
    """The samples of several datasets, one dataset after the other."""

    def __init__(self, datasets: Iterable[Dataset[Any]]) -> None:
        self.datasets = list(datasets)
        if not self.datasets:
            raise ValueError("ConcatDataset: give at least one dataset")
        if any(isinstance(dataset, IterableDataset) for dataset in self.datasets):
            raise TypeError("ConcatDataset: an IterableDataset has no numbers; ChainDataset takes it")
        self.cumulative_sizes = list(itertools.accumulate(len(dataset) for dataset in self.datasets))

    def __getitem__(self, index: int) -> Any:
        position = index + len(self) if index < 0 else index
        if not 0 <= position < len(self):
            raise IndexError(f"index {index} is out of range for {len(self)} samples")
        part = bisect.bisect_right(self.cumulative_sizes, position)
        return self.datasets[part][position - (self.cumulative_sizes[part - 1] if part else 0)]

    def __len__(self) -> int:
        return self.cumulative_sizes[-1]


class ChainDataset(IterableDataset[Any]):
    """The samples of several iterable datasets, one dataset after the other."""

    def __init__(self, datasets: Iterable[Dataset[Any]]) -> None:
        super().__init__()
        self.datasets = datasets

    def __iter__(self) -> Iterator[Any]:
        for dataset in self.datasets:
            if not isinstance(dataset, IterableDataset):
                raise TypeError(f"ChainDataset: takes IterableDatasets, got a {type(dataset).__name__}")
            yield from dataset

    def __len__(self) -> int:
        return sum(len(dataset) for dataset in self.datasets)


def random_split(
    dataset: Dataset[T_co], lengths: Sequence[int | float], generator: Generator = None
) -> list[Subset[T_co]]:
    """Deal the samples out at random, without overlap.

    lengths: how many samples each part gets, or the share of each, adding up to 1; what rounding leaves over
    goes to the first parts, one each. generator: as DataLoader's. Raises ValueError if the lengths don't add up.
    """
    counts = _counts(lengths, len(dataset))
    order = numpy_generator(generator).permutation(len(dataset)).tolist()
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
