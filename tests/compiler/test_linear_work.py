"""Writes at computed places take work in proportion to what is written and to what it is written into."""
from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest

import flambeau as fb

SIZE, UPDATES = 3000, 2000


def assigned(x: fb.Tensor, index: fb.Tensor, updates: fb.Tensor) -> fb.Tensor:
    x = x.clone()
    x[index] = updates
    return x


def assigned_differentiably(x: fb.Tensor, index: fb.Tensor, updates: fb.Tensor) -> fb.Tensor:
    updates = updates.detach().requires_grad_()
    (assigned(x, index, updates * 2) ** 2).sum().backward()
    assert updates.grad is not None
    return updates.grad


WRITES: dict[str, Callable[[fb.Tensor, fb.Tensor, fb.Tensor], fb.Tensor]] = {
    "x[i] = v": assigned,
    "x[i] = v, gradient": assigned_differentiably,
    "scatter": lambda x, index, updates: x.scatter(0, index, updates),
    "scatter_add": lambda x, index, updates: x.scatter_add(0, index, updates),
    "index_add": lambda x, index, updates: x.index_add(0, index, updates),
    "index_copy": lambda x, index, updates: x.index_copy(0, index, updates),
    "index_put": lambda x, index, updates: x.index_put((index,), updates),
    "index_put, accumulated": lambda x, index, updates: x.index_put((index,), updates, accumulate=True),
}


def points(function: fb.CompiledFunction) -> int:
    """How many points the kernels of the first signature walk."""
    kernels = function.signatures[0].compiled.kernels
    return sum(math.prod(extent for extent in kernel.extents if isinstance(extent, int)) if len(kernel.stages) == 1
               else sum(kernel.extents) for kernel in kernels)


@pytest.mark.parametrize("write", WRITES.values(), ids=WRITES.keys())
def test_work_is_linear(write: Callable[..., fb.Tensor]) -> None:
    rng = np.random.default_rng(0)
    x = fb.from_numpy(rng.integers(-9, 9, SIZE).astype(np.float32))
    index = fb.from_numpy(rng.integers(0, SIZE, UPDATES))           # some of them twice
    updates = fb.from_numpy(rng.integers(-9, 9, UPDATES).astype(np.float32))
    compiled = fb.compile(write)
    assert compiled(x, index, updates).tolist() == write(x, index, updates).tolist()
    assert points(compiled) <= 8 * (SIZE + UPDATES)


@pytest.mark.parametrize("dim", [0, 1])
def test_scatter_along_a_dim_keeps_the_last_of_equal_places(dim: int) -> None:
    rng = np.random.default_rng(0)
    x = fb.from_numpy(rng.standard_normal((7, 9)).astype(np.float32))
    index = fb.from_numpy(rng.integers(0, 3, (5, 6)))
    source = fb.from_numpy(rng.standard_normal((5, 6)).astype(np.float32))
    expected = x.numpy().copy()
    for place in np.ndindex(5, 6):
        where = list(place)
        where[dim] = int(index.numpy()[place])
        expected[tuple(where)] = source.numpy()[place]
    found = fb.compile(lambda x, index, source: x.scatter(dim, index, source))(x, index, source)
    np.testing.assert_array_equal(found.numpy(), expected)


def test_a_place_outside_is_an_error() -> None:
    with pytest.raises(fb.errors.KernelError, match="index 9"):
        fb.compile(assigned)(fb.zeros(4), fb.tensor([1, 9]), fb.zeros(2))


@pytest.mark.parametrize("n", [0, 1, 2, 3, 512, 513, 700, 1024, 1025])
def test_randperm_compiled_is_the_eager_one(n: int) -> None:
    def two() -> tuple[fb.Tensor, fb.Tensor]:
        return fb.randperm(n), fb.randperm(n, dtype=fb.int32)

    fb.manual_seed(1)
    eager = two()
    fb.manual_seed(1)
    compiled = fb.compile(two)()
    for mine, other in zip(compiled, eager, strict=True):
        assert mine.tolist() == other.tolist() and sorted(mine.tolist()) == list(range(n))


def test_short_floats_scattered_often_do_not_stagnate() -> None:
    """256 + 1 is 256 in bfloat16: sums are kept wider."""
    def counted(index: fb.Tensor) -> fb.Tensor:
        return fb.zeros(2, dtype=fb.bfloat16).index_add(0, index, fb.ones(1024, dtype=fb.bfloat16))

    index = fb.zeros(1024, dtype=fb.int64)
    assert fb.compile(counted)(index).tolist() == counted(index).tolist() == [1024.0, 0.0]
