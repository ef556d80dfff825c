"""Datasets and the DataLoader."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import pytest

from flambeau.errors import ShapeError
from flambeau.frontend import random
from flambeau.frontend.data import (
    BatchSampler,
    ChainDataset,
    ConcatDataset,
    DataLoader,
    Dataset,
    DistributedSampler,
    IterableDataset,
    RandomSampler,
    Sampler,
    SequentialSampler,
    StackDataset,
    Subset,
    SubsetRandomSampler,
    TensorDataset,
    WeightedRandomSampler,
    default_collate,
    default_convert,
    random_split,
)
from flambeau.frontend.tensor.tensor import Tensor
from flambeau.ir import dtypes as dt


def tensor_of(array: np.ndarray) -> Tensor:
    return Tensor._from_array(array, dt.from_numpy_dtype(array.dtype))


def rows(n: int) -> TensorDataset:
    """Sample i is ([i, i + 0.5], i)."""
    numbers = np.arange(n, dtype=np.float32)
    return TensorDataset(tensor_of(np.stack([numbers, numbers + 0.5], axis=1)), tensor_of(np.arange(n)))


class Squares(Dataset[int]):
    def __getitem__(self, index: int) -> int:
        return index * index

    def __len__(self) -> int:
        return 5


class Countdown(IterableDataset[int]):
    def __iter__(self) -> Iterator[int]:
        return iter(range(5, 0, -1))


def test_batches_keep_order_and_the_last_one_is_short() -> None:
    batches = list(DataLoader(rows(5), batch_size=2))
    assert [labels.tolist() for _, labels in batches] == [[0, 1], [2, 3], [4]]
    assert batches[0][0].tolist() == [[0.0, 0.5], [1.0, 1.5]]
    assert [batches[0][0].dtype, batches[0][1].dtype] == [dt.f32, dt.i64]


def test_drop_last_leaves_out_the_short_batch() -> None:
    loader = DataLoader(rows(5), batch_size=2, drop_last=True)
    assert len(loader) == len(list(loader)) == 2


@pytest.mark.parametrize(("drop_last", "length"), [(True, 0), (False, 1)])
def test_batch_larger_than_the_dataset(drop_last: bool, length: int) -> None:
    loader = DataLoader(rows(3), batch_size=8, drop_last=drop_last)
    assert len(loader) == len(list(loader)) == length


def test_empty_dataset_gives_no_batch() -> None:
    assert list(DataLoader(rows(0), batch_size=2)) == []


def test_batches_do_not_alias_the_dataset() -> None:
    dataset = rows(4)
    (batch, _), *_ = DataLoader(dataset, batch_size=4)
    batch.numpy()[...] = -1
    assert dataset.tensors[0].numpy().min() == 0


def epoch_of(loader: DataLoader) -> list[int]:
    return [label for _, labels in loader for label in labels.tolist()]


def test_shuffle_deals_every_sample_once_and_anew_each_epoch() -> None:
    loader = DataLoader(rows(50), batch_size=7, shuffle=True, generator=0)
    first, second = epoch_of(loader), epoch_of(loader)
    assert sorted(first) == sorted(second) == list(range(50))
    assert first != second
    assert first != list(range(50))


def test_same_seed_same_order() -> None:
    loaders = [DataLoader(rows(20), batch_size=4, shuffle=True, generator=3) for _ in range(2)]
    assert epoch_of(loaders[0]) == epoch_of(loaders[1])


def test_rows_stay_together_when_shuffled() -> None:
    for points, labels in DataLoader(rows(20), batch_size=4, shuffle=True, generator=1):
        assert points.numpy()[:, 0].tolist() == labels.tolist()


def test_user_dataset_is_collated() -> None:
    batches = [batch.tolist() for batch in DataLoader(Squares(), batch_size=2)]
    assert batches == [[0, 1], [4, 9], [16]]


def test_batch_size_none_gives_samples() -> None:
    assert list(DataLoader(Squares(), batch_size=None)) == [0, 1, 4, 9, 16]


def test_collate_fn_replaces_the_default() -> None:
    assert list(DataLoader(Squares(), batch_size=2, collate_fn=sum)) == [1, 13, 16]  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("drop_last", "expected"), [(False, [[5, 4], [3, 2], [1]]), (True, [[5, 4], [3, 2]])]
)
def test_stream_is_batched(drop_last: bool, expected: list[list[int]]) -> None:
    loader = DataLoader(Countdown(), batch_size=2, drop_last=drop_last)
    assert [batch.tolist() for batch in loader] == expected
    with pytest.raises(TypeError, match="has no length"):
        len(loader)


def test_stream_cannot_be_shuffled() -> None:
    with pytest.raises(ValueError, match="order of its own"):
        DataLoader(Countdown(), shuffle=True)


def test_batch_size_zero_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        DataLoader(rows(2), batch_size=0)


class Pair(NamedTuple):
    point: np.ndarray
    name: str


def test_collate_goes_through_tuples_mappings_and_names() -> None:
    samples = [
        {"pair": Pair(np.ones(2, np.float32) * i, f"n{i}"), "weight": 0.5 * i, "is_odd": i == 1}
        for i in (0, 1)
    ]
    batch = default_collate(samples)
    assert isinstance(batch["pair"], Pair)
    assert batch["pair"].point.tolist() == [[0.0, 0.0], [1.0, 1.0]]
    assert batch["pair"].name == ("n0", "n1")
    assert (batch["weight"].dtype, batch["weight"].tolist()) == (dt.f64, [0.0, 0.5])
    assert (batch["is_odd"].dtype, batch["is_odd"].tolist()) == (dt.bool_, [False, True])


def test_collate_stacks_0d_tensors() -> None:
    assert default_collate([tensor_of(np.array(2.0)), tensor_of(np.array(3.0))]).tolist() == [2.0, 3.0]


def test_collate_names_what_it_cannot_batch() -> None:
    with pytest.raises(TypeError, match="how to batch object"):
        default_collate([object()])


def test_rows_of_different_number_are_refused() -> None:
    with pytest.raises(ShapeError, match=r"\[2, 3\]"):
        TensorDataset(tensor_of(np.zeros(2)), tensor_of(np.zeros(3)))


def test_random_split_by_count_has_no_overlap() -> None:
    parts = random_split(Squares(), [2, 3], generator=0)
    assert [len(part) for part in parts] == [2, 3]
    assert sorted(sample for part in parts for sample in part) == [0, 1, 4, 9, 16]


def test_random_split_by_share_gives_the_rest_to_the_first_parts() -> None:
    assert [len(part) for part in random_split(rows(11), [0.5, 0.25, 0.25], generator=0)] == [6, 3, 2]


@pytest.mark.parametrize("lengths", [[2, 2], [0.5, 0.4], [-1, 6], [2.0, 3.0]])
def test_random_split_refuses_lengths_that_do_not_add_up(lengths: list[float]) -> None:
    with pytest.raises(ValueError, match="add up"):
        random_split(Squares(), lengths)


def test_concat_and_subset_count_through() -> None:
    both = Squares() + Subset(Squares(), [4, 0])
    assert isinstance(both, ConcatDataset)
    assert list(both) == [0, 1, 4, 9, 16, 16, 0]
    assert both[-2] == 16
    with pytest.raises(IndexError, match="7 samples"):
        both[7]


def test_orders_come_from_a_random_stream_too() -> None:
    """A Generator of ours, as PyTorch's loaders take one of its own."""
    def epochs(seed: int) -> list[list[int]]:
        loader = DataLoader(range(20), batch_size=None, shuffle=True, generator=random.Generator().manual_seed(seed))
        return [list(loader) for _ in range(2)]

    assert epochs(1) == epochs(1) != epochs(2) and epochs(1)[0] != epochs(1)[1]
    first, second = (random_split(range(9), [4, 5], random.Generator().manual_seed(3)) for _ in range(2))
    assert [part.indices for part in first] == [part.indices for part in second]
    with pytest.raises(TypeError, match="generator"):
        DataLoader(rows(3), generator="seed")  # type: ignore[arg-type]


def test_orders_follow_the_default_generator() -> None:
    def epoch(seed: int) -> list[int]:
        random.manual_seed(seed)
        return list(DataLoader(range(30), batch_size=None, shuffle=True))

    assert epoch(1) == epoch(1) != epoch(2)


@pytest.mark.parametrize(("sampler", "expected"), [
    (SequentialSampler("abc"), [0, 1, 2]),
    (BatchSampler(SequentialSampler("abcde"), 2, False), [[0, 1], [2, 3], [4]]),
    (BatchSampler(SequentialSampler("abcde"), 2, True), [[0, 1], [2, 3]]),
    (DistributedSampler("abcde", 2, 0, shuffle=False), [0, 2, 4]),
    (DistributedSampler("abcde", 2, 1, shuffle=False), [1, 3, 0]),
    (DistributedSampler("abcde", 2, 1, shuffle=False, drop_last=True), [1, 3]),
    (DistributedSampler("a", 5, 4, shuffle=False), [0]),
    (WeightedRandomSampler([0, 0, 3.0], 4), [2, 2, 2, 2]),
])
def test_samplers_that_have_one_order(sampler: Sampler[int], expected: list[int]) -> None:
    assert list(sampler) == expected
    assert len(sampler) == len(expected)                # type: ignore[arg-type]


@pytest.mark.parametrize(("sampler", "members"), [
    (RandomSampler(range(9), generator=1), list(range(9))),
    (RandomSampler(range(4), num_samples=8, generator=1), [0, 0, 1, 1, 2, 2, 3, 3]),
    (SubsetRandomSampler([5, 3, 8, 1], generator=1), [1, 3, 5, 8]),
    (WeightedRandomSampler([1.0, 2.0, 0.0, 1.0], 3, replacement=False, generator=1), [0, 1, 3]),
])
def test_samplers_that_shuffle(sampler: Sampler[int], members: list[int]) -> None:
    epochs = [list(sampler) for _ in range(6)]
    assert all(sorted(epoch) == members for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) > 1


def test_distributed_sampler_deals_each_epoch_anew() -> None:
    parts = [DistributedSampler(range(10), 2, rank) for rank in range(2)]
    first = [list(part) for part in parts]
    assert sorted(sum(first, [])) == list(range(10))
    for part in parts:
        part.set_epoch(1)
    assert [list(part) for part in parts] != first


def test_stack_chain_and_streams_in_batches() -> None:
    pairs = StackDataset(squares=Squares(), again=Squares())
    (batch, *_), count = DataLoader(pairs, batch_size=3), len(DataLoader(pairs, batch_size=3))
    assert (batch["squares"].tolist(), batch["again"].tolist(), count) == ([0, 1, 4], [0, 1, 4], 2)
    chain = Countdown() + Countdown()
    assert isinstance(chain, ChainDataset)
    assert list(chain) == [5, 4, 3, 2, 1] * 2
    with pytest.raises(ValueError, match="size mismatch"):
        StackDataset(Squares(), rows(2))


def test_batches_of_a_subset_of_tensors_are_rows() -> None:
    (points, labels), = DataLoader(Subset(rows(6), [4, 1]), batch_size=2)
    assert (labels.tolist(), points[:, 0].tolist()) == ([4, 1], [4.0, 1.0])


def test_convert_makes_tensors_of_arrays_only() -> None:
    found = default_convert({"x": np.ones(2), "n": 3, "t": ("a", np.float32(1))})
    assert (found["x"].tolist(), found["n"], found["t"][0], found["t"][1].dtype) == ([1, 1], 3, "a", dt.f32)


@pytest.mark.parametrize(("arguments", "message"), [
    ({"num_workers": -1}, "negative"), ({"timeout": -1}, "negative"), ({"prefetch_factor": 2}, "needs workers"),
    ({"persistent_workers": True}, "needs workers"), ({"shuffle": True, "sampler": [0]}, "exclude"),
    ({"batch_sampler": [[0]], "batch_size": 2}, "excludes"), ({"batch_size": None, "drop_last": True}, "drop_last"),
])
def test_loader_refuses_what_excludes_each_other(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        DataLoader(Squares(), **arguments)
