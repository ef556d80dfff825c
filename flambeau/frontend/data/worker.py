"""What a worker of a DataLoader does: (epoch, number, indices) -> (epoch, number, kind, batch), until it is told to stop.
The same for processes and threads, and for the process that calls when there are no workers."""
from __future__ import annotations

import itertools
import random as python_random
import threading
import traceback
from collections.abc import Callable, Iterator
from typing import Any, Final

import numpy as np

from flambeau.frontend import random
from flambeau.frontend.data.datasets import IterableDataset, Subset, TensorDataset, samples_of
from flambeau.ir.records import dataclass

BATCH, END, ERROR = "batch", "end", "error"            # what came of a task
STOP: Final = None                                     # the task that is none


@dataclass(frozen=True)
class WorkerInfo:
    """Which worker runs this code: its id of num_workers, the seed it has, and its copy of the dataset."""

    id: int
    num_workers: int
    seed: int
    dataset: Any


_here = threading.local()


def get_worker_info() -> WorkerInfo | None:
    """In a worker of a DataLoader (a process or a thread) what is known of it; elsewhere None."""
    found: WorkerInfo | None = getattr(_here, "info", None)
    return found


class Exhausted(Exception):
    """An IterableDataset has no more samples."""


@dataclass(frozen=True)
class Fetcher:
    """How indices become batches. is_batched: whether a task is a list of indices or one. collate: None where the dataset
    makes whole batches itself."""

    dataset: Any
    is_batched: bool
    collate: Callable[[Any], Any]
    drop_last: bool
    is_default: bool

    def start(self) -> Callable[[Any], Any]:
        """The function that fetches, for one epoch. It raises Exhausted at the end of an IterableDataset."""
        if isinstance(self.dataset, IterableDataset):
            stream = iter(self.dataset)
            return lambda indices: self._next(stream, indices)
        return self._at

    def _at(self, indices: Any) -> Any:
        if not self.is_batched:
            return self.collate(self.dataset[indices])
        if self.is_default and (whole := _whole(self.dataset, indices)) is not None:
            return whole
        return self.collate(samples_of(self.dataset, indices))

    def _next(self, stream: Iterator[Any], indices: Any) -> Any:
        if not self.is_batched:
            for sample in stream:
                return self.collate(sample)
            raise Exhausted
        samples = list(itertools.islice(stream, len(indices)))
        if not samples or self.drop_last and len(samples) < len(indices):
            raise Exhausted
        return self.collate(samples)


def _whole(dataset: Any, indices: list[int]) -> list[Any] | None:
    """A batch of rows of tensors, which needs no samples; None for other datasets."""
    if type(dataset) is Subset:
        return _whole(dataset.dataset, [dataset.indices[index] for index in indices])
    return dataset.batch_of(indices) if type(dataset) is TensorDataset else None


@dataclass(frozen=True)
class Failure:
    """An exception on its way to the process that waits for the batch."""

    kind: type[BaseException]
    text: str
    where: str

    @classmethod
    def of(cls, error: BaseException, where: str) -> Failure:
        text = "".join(traceback.format_exception(error))
        return cls(type(error), text, where)

    def reraise(self) -> None:
        """Raise an exception of the same class, whose message has the worker's traceback."""
        message = f"Caught {self.kind.__name__} in {self.where}.\nOriginal {self.text}"
        try:
            error = _Message(message) if self.kind is KeyError else self.kind(message)
        except Exception:                   # a class whose exceptions are made of other things than a message
            raise RuntimeError(message) from None
        raise KeyError(error) if isinstance(error, _Message) else error


class _Message(str):
    """Text that a KeyError shows as it is."""

    __slots__ = ()

    def __repr__(self) -> str:
        return str(self)


def seed_process(base_seed: int, id: int) -> None:
    """Let the random numbers of this process be the worker's own."""
    python_random.seed(base_seed + id)
    random.manual_seed(base_seed + id)
    np.random.seed(np.random.SeedSequence((base_seed, id)).generate_state(4))


def work(tasks: Callable[[], Any], give: Callable[[Any], None], fetcher: Fetcher, info: WorkerInfo, where: str,
         init: Callable[[int], Any] | None) -> None:
    """Do tasks until STOP comes. give: hands a result over; it raises what a result that can't be handed over does."""
    _here.info = info
    failure: Failure | None = None
    try:
        if init is not None:
            init(info.id)
    except Exception as error:
        failure = Failure.of(error, where)
    now, fetch, has_ended = -1, None, False
    while (task := tasks()) is not STOP:
        epoch, number, indices = task
        if epoch != now:
            now, fetch, has_ended = epoch, None, False
        if failure is not None:
            give((epoch, number, ERROR, failure))
            continue
        try:
            if has_ended:
                raise Exhausted
            fetch = fetch or fetcher.start()
            give((epoch, number, BATCH, fetch(indices)))
        except Exhausted:
            has_ended = True
            give((epoch, number, END, None))
        except Exception as error:
            give((epoch, number, ERROR, Failure.of(error, where)))
