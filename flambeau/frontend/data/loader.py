"""The DataLoader: a dataset, in an order, as batches, which workers may make ahead of time."""
from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Generic, TypeVar

from flambeau.frontend.data.collation import default_collate, default_convert
from flambeau.frontend.data.datasets import Dataset, IterableDataset
from flambeau.frontend.data.prefetching import Epoch, Prefetcher
from flambeau.frontend.data.randomness import Generator, checked, seed_from
from flambeau.frontend.data.samplers import BatchSampler, Endless, RandomSampler, SequentialSampler
from flambeau.frontend.data.worker import Exhausted, Fetcher
from flambeau.frontend.data.workers import Processes, Threads, Workers
from flambeau.frontend.tensor.pinned import can_pin, pin_batch

T_co = TypeVar("T_co", covariant=True)


class DataLoader(Generic[T_co]):
    """Batches of a dataset: an iterable that starts anew each time it is iterated over.

    batch_size: None gives the samples themselves. shuffle: another order in each epoch. sampler: indices in an order of
    its own; batch_sampler: lists of indices, in place of batch_size, shuffle, sampler and drop_last. drop_last: leave out a
    last batch that is not full, so that a compiled step sees one shape. collate_fn: list of samples -> batch.
    generator: where orders and the workers' seeds come from: a Generator (Flambeau's or NumPy's), a seed, or None for the
    default generator, so that `manual_seed` decides.

    num_workers: how many workers make batches, each `prefetch_factor` (2) of them ahead of time; 0 makes them where they
    are asked for. persistent_workers: keep them from epoch to epoch. Worker `id` draws from the seed base_seed + id
    (Python's, NumPy's and our numbers); `worker_init_fn(id)` runs in it first, `get_worker_info()` tells which it is.
    Batches come in the order of the sampler, or with in_order=False as they are done. What a worker raises is raised
    here with its traceback. timeout: seconds to wait for a batch (0: for ever).

    multiprocessing_context: how worker processes are started, a name ("fork", "spawn", "forkserver") or a context; or
    "thread": workers are threads of this process, which start at once and copy nothing, and share the dataset and all
    random numbers. pin_memory: batches lie in pinned memory, from which `to("cuda", non_blocking=True)` returns at once;
    where there is no GPU they stay where they are.

    Raises ValueError for arguments that exclude each other.
    """

    def __init__(
        self,
        dataset: Dataset[T_co] | Sequence[T_co],
        batch_size: int | None = 1,
        shuffle: bool | None = None,
        sampler: Iterable[Any] | None = None,
        batch_sampler: Iterable[Sequence[Any]] | None = None,
        num_workers: int = 0,
        collate_fn: Callable[[Any], Any] | None = None,
        pin_memory: bool = False,
        drop_last: bool = False,
        timeout: float = 0,
        worker_init_fn: Callable[[int], Any] | None = None,
        multiprocessing_context: Any = None,
        generator: Generator = None,
        *,
        prefetch_factor: int | None = None,
        persistent_workers: bool = False,
        pin_memory_device: str = "",
        in_order: bool = True,
    ) -> None:
        _check_workers(num_workers, timeout, prefetch_factor, persistent_workers, multiprocessing_context)
        is_stream = isinstance(dataset, IterableDataset)
        if is_stream:
            _check_stream(shuffle, sampler, batch_sampler)
        if sampler is not None and shuffle:
            raise ValueError("DataLoader: sampler and shuffle exclude each other")
        if batch_sampler is not None:
            if batch_size != 1 or shuffle or sampler is not None or drop_last:
                raise ValueError("DataLoader: batch_sampler excludes batch_size, shuffle, sampler and drop_last")
            batch_size, drop_last = None, False
        elif batch_size is None:
            if drop_last:
                raise ValueError("DataLoader: batch_size=None makes no batches, of which drop_last could leave one out")
        elif batch_size < 1:
            raise ValueError(f"DataLoader: batch_size is at least 1 or None, not {batch_size}")
        self.generator = checked(generator)
        if sampler is None:
            sized: Any = dataset
            sampler = Endless() if is_stream else RandomSampler(sized, generator=self.generator) if shuffle else \
                SequentialSampler(sized)
        order: Any = sampler
        if batch_size is not None and batch_sampler is None:
            batch_sampler = BatchSampler(order, batch_size, drop_last)
        self.dataset: Any = dataset
        self.batch_size, self.drop_last = batch_size, drop_last
        self.sampler, self.batch_sampler = sampler, batch_sampler
        is_batched = batch_sampler is not None
        self.collate_fn: Callable[[Any], Any] = collate_fn or (default_collate if is_batched else default_convert)
        self.num_workers, self.timeout, self.in_order = num_workers, timeout, in_order
        self.prefetch_factor = prefetch_factor or (2 if num_workers else None)
        self.persistent_workers, self.worker_init_fn = persistent_workers, worker_init_fn
        self.multiprocessing_context = multiprocessing_context
        self.pin_memory, self.pin_memory_device = pin_memory, pin_memory_device
        self._kept: Prefetcher | None = None

    def __len__(self) -> int:
        """Batches in an epoch. Raises TypeError where the dataset or the sampler has no length."""
        if isinstance(self.dataset, IterableDataset):
            if not hasattr(self.dataset, "__len__"):
                raise TypeError("a DataLoader over an IterableDataset has no length")
            n = len(self.dataset)
            if self.batch_size is None:
                return n
            return n // self.batch_size if self.drop_last else -(-n // self.batch_size)
        return len(self._order())           # type: ignore[arg-type]

    def _order(self) -> Iterable[Any]:
        return self.sampler if self.batch_sampler is None else self.batch_sampler

    def _fetcher(self) -> Fetcher:
        return Fetcher(self.dataset, self.batch_sampler is not None, self.collate_fn, self.drop_last,
                       self.collate_fn is default_collate)

    def __iter__(self) -> Iterator[Any]:
        order = iter(self._order())
        # Drawn from a given generator in any case: its orders don't depend on how many workers there are.
        seed = seed_from(self.generator) if self.num_workers or self.generator is not None else 0
        batches = self._batches(order, seed)
        return map(pin_batch, batches) if self.pin_memory and can_pin() else batches

    def _batches(self, order: Iterator[Any], seed: int) -> Iterator[Any]:
        if not self.num_workers:
            return self._here(order)
        if not self.persistent_workers:
            return Epoch(self._started(seed), order, owns=True)
        if self._kept is None:
            self._kept = self._started(seed)
        return Epoch(self._kept, order, owns=False)

    def _here(self, order: Iterator[Any]) -> Iterator[Any]:
        fetch = self._fetcher().start()
        try:
            for indices in order:
                yield fetch(indices)
        except Exhausted:
            return

    def _started(self, seed: int) -> Prefetcher:
        init = self.worker_init_fn
        context = self.multiprocessing_context
        workers: Workers = Threads(self.num_workers, self._fetcher(), seed, init) if context == "thread" else \
            Processes(self.num_workers, self._fetcher(), seed, init, context)
        return Prefetcher(workers, self.num_workers, self.prefetch_factor or 2, self.timeout, self.in_order)


def _check_workers(num_workers: int, timeout: float, prefetch_factor: int | None, persistent_workers: bool,
                   context: Any) -> None:
    if num_workers < 0:
        raise ValueError(f"DataLoader: num_workers can't be negative, got {num_workers}")
    if timeout < 0:
        raise ValueError(f"DataLoader: timeout can't be negative, got {timeout}")
    if not num_workers:
        for name, value in (("prefetch_factor", prefetch_factor), ("persistent_workers", persistent_workers),
                            ("multiprocessing_context", context)):
            if value not in (None, False):
                raise ValueError(f"DataLoader: {name} needs workers: num_workers is 0")
    if prefetch_factor is not None and prefetch_factor < 1:
        raise ValueError(f"DataLoader: prefetch_factor is at least 1, got {prefetch_factor}")


def _check_stream(shuffle: bool | None, sampler: Any, batch_sampler: Any) -> None:
    if shuffle:
        raise ValueError("DataLoader: an IterableDataset has an order of its own and can't be shuffled")
    for name, value in (("sampler", sampler), ("batch_sampler", batch_sampler)):
        if value is not None:
            raise ValueError(f"DataLoader: an IterableDataset has an order of its own and takes no {name}")
