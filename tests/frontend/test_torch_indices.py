"""x[...] with whatever may stand there, at random, against PyTorch: values, gradients, assignments, errors."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from against_torch import theirs

import flambeau as fb

pytestmark = pytest.mark.torch


def drawn_item(rng: random.Random, shape: list[int], dim: int) -> Any:
    """A part of an index; arrays stand for tensors."""
    size = shape[dim] if dim < len(shape) else 2
    match rng.randrange(11):
        case 0 | 1:
            return rng.randrange(-size, size) if size else 0
        case 2 | 3 | 4:
            ends = [rng.choice([None, -2, -1, 0, 1, 2, 7]) for _ in range(2)]
            return slice(*ends, rng.choice([None, 1, 2, 3]))
        case 5:
            return None
        case 6:
            return range(rng.randint(0, size))
        case 7:
            return [rng.randrange(-size, size) for _ in range(rng.randint(1, 3))] if size else []
        case 8:
            places = rng.choice([(), (2,), (3,), (2, 3), (1,), (0,)])
            return np.array([rng.randrange(-size, size) if size else 0 for _ in range(int(np.prod(places)))],
                            np.int64).reshape(places)
        case 9:
            return np.array([rng.random() < 0.5 for _ in range(size)], np.bool_)
        case _:
            return rng.random() < 0.5


def drawn(seed: int) -> tuple[np.ndarray, list[Any]]:
    rng = random.Random(seed)
    shape = [rng.randint(0, 5) for _ in range(rng.randint(0, 4))]
    items = [drawn_item(rng, shape, d) for d in range(rng.randint(0, len(shape) + 1))]
    if rng.random() < 0.3:
        items.insert(rng.randint(0, len(items)), Ellipsis)
    return np.arange(float(np.prod(shape))).reshape(shape), items


def outcome(lib: Any, make: Any, seed: int) -> Any:
    """What x[index], its gradient and x[index] = number give; the error of the first that raises."""
    data, items = drawn(seed)
    index = tuple([make(item) if isinstance(item, np.ndarray) else item for item in items])
    x = make(data).requires_grad_()
    try:
        found = x[index]
        (found * found).sum().backward()
        y = make(data)
        y[index] = 7.0
    except (IndexError, TypeError, ValueError, RuntimeError) as error:
        return IndexError if isinstance(error, IndexError) else RuntimeError
    gradient = np.zeros(data.shape) if x.grad is None else x.grad.numpy()
    return [found.detach().numpy(), gradient, y.numpy()]


def test_random_indices_do_what_they_do_there(seeds: Iterator[int]) -> None:
    for seed in seeds:
        for each in range(40 * seed, 40 * seed + 40):
            mine, other = outcome(fb, fb.tensor, each), outcome(theirs(), theirs().tensor, each)
            if mine is IndexError and isinstance(other, list) and not other[0].size:
                continue                    # there, what gives no elements may be anywhere
            if isinstance(other, type) or isinstance(mine, type):
                assert mine is other, f"case {each}: {drawn(each)}"
                continue
            for a, b in zip(mine, other, strict=True):
                np.testing.assert_array_equal(a, b, err_msg=f"case {each}: {drawn(each)}")


def nothing_written(lib: Any) -> list[Any]:
    """Results and gradients where values are put at no place at all."""
    none, row = lib.zeros(0, dtype=lib.int64), lib.zeros(2, 0, dtype=lib.int64)

    def assigned(x: Any, place: Any, value: Any) -> Any:
        x[place] = value
        return x

    programs = [
        lambda x, p: assigned(x, lib.zeros(2, 3, dtype=lib.bool), p[0]),
        lambda x, p: assigned(x, none, p),
        lambda x, p: assigned(x, (slice(None), none), p[:1]),
        lambda x, p: x.index_put((none,), p[0], accumulate=True),
        lambda x, p: x.index_copy(1, none, p[:0].expand(2, 0)),
        lambda x, p: x.scatter(1, row, p[:0].expand(2, 0)),
        lambda x, p: x.scatter_reduce(1, row, p[:0].expand(2, 0), "amax"),
        lambda x, p: x.put(none, p[:0]),
        lambda x, p: x.masked_scatter(lib.zeros(2, 3, dtype=lib.bool), p[:0]),
    ]
    found = []
    for program in programs:
        x, p = lib.ones(2, 3), lib.ones(3, requires_grad=True)
        y = program(x, p)
        (y + 1).sum().backward()
        found.append([y.tolist(), p.grad.tolist()])
    return found


def test_values_that_go_nowhere_have_gradients_of_zero() -> None:
    assert nothing_written(fb) == nothing_written(theirs())
