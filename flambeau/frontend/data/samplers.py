"""Samplers: in which order a dataset's samples are taken."""
from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator, Sequence, Sized
from typing import Any, Generic, TypeVar

import numpy as np

from flambeau.frontend.data.randomness import Generator, checked, numpy_generator
from flambeau.frontend.tensor.tensor import Tensor

T_co = TypeVar("T_co", covariant=True)


class Sampler(Generic[T_co]):
    """Indices of samples, or lists of them: define `__iter__()`, and `__len__()` where it is known."""

    def __init__(self, data_source: Sized | None = None) -> None:
        pass

    def __iter__(self) -> Iterator[T_co]:
        raise NotImplementedError(f"{type(self).__name__} needs __iter__()")


class SequentialSampler(Sampler[int]):
    """0, 1, 2, ..."""

    def __init__(self, data_source: Sized) -> None:
        self.data_source = data_source

    def __iter__(self) -> Iterator[int]:
        return iter(range(len(self.data_source)))

    def __len__(self) -> int:
        return len(self.data_source)


class RandomSampler(Sampler[int]):
    """Another random order at each iteration.

    num_samples: how many in an epoch (all of them if None; beyond that a new order begins). replacement: each drawn by
    itself, so that some come twice. generator: a Generator (Flambeau's or NumPy's), a seed, or None for the default one.
    Raises TypeError or ValueError for arguments that are neither."""

    def __init__(self, data_source: Sized, replacement: bool = False, num_samples: int | None = None,
                 generator: Generator = None) -> None:
        if not isinstance(replacement, bool):
            raise TypeError(f"RandomSampler: replacement must be a bool, got {replacement!r}")
        if num_samples is not None:
            _check_count("RandomSampler", num_samples)
        self.data_source, self.replacement = data_source, replacement
        self._num_samples, self.generator = num_samples, checked(generator)

    @property
    def num_samples(self) -> int:
        return len(self.data_source) if self._num_samples is None else self._num_samples

    def __iter__(self) -> Iterator[int]:
        rng, n = numpy_generator(self.generator), len(self.data_source)
        if self.replacement:
            return iter(rng.integers(n, size=self.num_samples).tolist())
        orders = (rng.permutation(n).tolist() for _ in range(-(-self.num_samples // n) if n else 0))
        return itertools.islice(itertools.chain.from_iterable(orders), self.num_samples)

    def __len__(self) -> int:
        return self.num_samples


def _check_count(name: str, num_samples: Any) -> None:
    if isinstance(num_samples, bool) or not isinstance(num_samples, (int, np.integer)) or num_samples <= 0:
        raise ValueError(f"{name}: num_samples must be a positive integer, got {num_samples!r}")


class SubsetRandomSampler(Sampler[int]):
    """These indices, in another random order at each iteration."""

    def __init__(self, indices: Sequence[int], generator: Generator = None) -> None:
        self.indices, self.generator = indices, checked(generator)

    def __iter__(self) -> Iterator[int]:
        order = numpy_generator(self.generator).permutation(len(self.indices)).tolist()
        return (self.indices[place] for place in order)

    def __len__(self) -> int:
        return len(self.indices)


class WeightedRandomSampler(Sampler[int]):
    """`num_samples` indices drawn with these weights, which need not add up to 1. Without replacement, each at most once.
    Raises ValueError for weights that are not one row of nonnegative numbers, or too few of them."""

    def __init__(self, weights: Sequence[float] | Tensor, num_samples: int, replacement: bool = True,
                 generator: Generator = None) -> None:
        _check_count("WeightedRandomSampler", num_samples)
        if not isinstance(replacement, bool):
            raise ValueError(f"WeightedRandomSampler: replacement must be a bool, got {replacement!r}")
        rows = np.asarray(weights.tolist() if isinstance(weights, Tensor) else weights, np.float64)
        if rows.ndim != 1:
            raise ValueError(f"WeightedRandomSampler: weights must be one row, got shape {rows.shape}")
        if not (rows >= 0).all() or not 0 < rows.sum() < np.inf:
            raise ValueError("WeightedRandomSampler: weights must be finite, nonnegative, and not all zero")
        if not replacement and num_samples > np.count_nonzero(rows):
            raise ValueError(f"WeightedRandomSampler: can't draw {num_samples} samples without replacement from "
                             f"{np.count_nonzero(rows)} positive weights")
        self.weights, self.num_samples = rows, num_samples
        self.replacement, self.generator = replacement, checked(generator)

    def __iter__(self) -> Iterator[int]:
        rng = numpy_generator(self.generator)
        shares = self.weights / self.weights.sum()
        drawn = rng.choice(len(shares), self.num_samples, replace=self.replacement, p=shares)
        return iter(drawn.tolist())

    def __len__(self) -> int:
        return self.num_samples


class BatchSampler(Sampler[list[int]]):
    """Lists of `batch_size` indices of another sampler; drop_last leaves out a last one that is not full."""

    def __init__(self, sampler: Sampler[int] | Iterable[int], batch_size: int, drop_last: bool) -> None:
        if isinstance(batch_size, bool) or not isinstance(batch_size, (int, np.integer)) or batch_size <= 0:
            raise ValueError(f"batch_size must be an integer of at least 1, got {batch_size!r}")
        if not isinstance(drop_last, bool):
            raise ValueError(f"drop_last must be a bool, got {drop_last!r}")
        self.sampler, self.batch_size, self.drop_last = sampler, batch_size, drop_last

    def __iter__(self) -> Iterator[list[int]]:
        return self._batches(iter(self.sampler))

    def _batches(self, indices: Iterator[int]) -> Iterator[list[int]]:
        while batch := list(itertools.islice(indices, self.batch_size)):
            if len(batch) == self.batch_size or not self.drop_last:
                yield batch

    def __len__(self) -> int:
        n: int = len(self.sampler)                  # type: ignore[arg-type]
        return n // self.batch_size if self.drop_last else -(-n // self.batch_size)


class DistributedSampler(Sampler[int]):
    """Every num_replicas-th sample, from the rank-th on: one process's part. Parts are equally long: some samples come
    twice, or drop_last leaves out the rest. shuffle: the order depends on seed and epoch alone; call
    `set_epoch(epoch)` before each for another. Raises ValueError for a rank that is none of num_replicas."""

    def __init__(self, dataset: Sized, num_replicas: int | None = None, rank: int | None = None,
                 shuffle: bool = True, seed: int = 0, drop_last: bool = False) -> None:
        if num_replicas is None or rank is None:
            raise RuntimeError("DistributedSampler: there are no process groups here: give num_replicas and rank")
        if not 0 <= rank < num_replicas:
            raise ValueError(f"DistributedSampler: rank {rank} is not in [0, {num_replicas - 1}]")
        self.dataset, self.num_replicas, self.rank = dataset, num_replicas, rank
        self.epoch, self.drop_last, self.shuffle, self.seed = 0, drop_last, shuffle, seed
        n = len(dataset)
        self.num_samples = n // num_replicas if drop_last else math.ceil(n / num_replicas)
        self.total_size = self.num_samples * num_replicas

    def __iter__(self) -> Iterator[int]:
        n = len(self.dataset)
        order = np.random.default_rng((self.seed, self.epoch)).permutation(n) if self.shuffle else np.arange(n)
        whole = np.resize(order, self.total_size)           # cut, or begun anew
        return iter(whole[self.rank :: self.num_replicas].tolist())

    def __len__(self) -> int:
        return self.num_samples

    def set_epoch(self, epoch: int) -> None:
        """Which epoch's order comes next."""
        self.epoch = epoch


class Endless(Sampler[None]):
    """What stands for the indices of an IterableDataset, which has none."""

    def __iter__(self) -> Iterator[None]:
        return itertools.repeat(None)
