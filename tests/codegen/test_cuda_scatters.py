"""Sums at computed places on a GPU: atomic, or in one order where that is asked for."""
from __future__ import annotations

import random
from collections.abc import Iterator

import numpy as np
import pytest
from gpu_kernels import kernels_of
from test_cuda_text import emulated

import flambeau as fb
import flambeau.nn.functional as F
from flambeau.errors import KernelError, VerificationError

DTYPES = (fb.float32, fb.float64, fb.bfloat16, fb.float16, fb.int8, fb.uint8, fb.int16, fb.int32, fb.int64)


def index_add(x: fb.Tensor, i: fb.Tensor, y: fb.Tensor) -> fb.Tensor:
    return x.index_add(0, i, y)


def embedding_gradient(i: fb.Tensor, w: fb.Tensor) -> fb.Tensor:
    w = w.detach().requires_grad_()
    (F.embedding(i, w) * 2).sum().backward()
    return w.grad


@pytest.fixture
def deterministic() -> Iterator[None]:
    fb.use_deterministic_algorithms(True)
    yield
    fb.use_deterministic_algorithms(False)


def test_random_scatters_add_what_eager_code_does(seeds: Iterator[int]) -> None:
    """Small integers, exact in every dtype and order."""
    for seed in seeds:
        rng, data = random.Random(seed), np.random.default_rng(seed)
        rows, columns, moved = rng.choice([1, 5, 16]), rng.choice([1, 3, 8, 33]), rng.choice([1, 7, 40])
        dtype = rng.choice(DTYPES)

        def made(*shape: int, dtype: fb.dtype = dtype, data: np.random.Generator = data) -> fb.Tensor:
            return fb.tensor(data.integers(0, 3, shape)).to(dtype)

        i, along = fb.tensor(data.integers(0, rows, moved)), fb.tensor(data.integers(0, rows, (moved, columns)))
        f, *args = rng.choice([
            (index_add, made(rows, columns), i, made(moved, columns)),
            (lambda x, i, y: x.scatter_add(0, i, y), made(rows, columns), along, made(moved, columns)),
            (lambda x, i, y: x.scatter(0, i, y), made(rows, columns), along, made(moved, columns)),
            (lambda x, i, y: x.index_put((i,), y, accumulate=True), made(rows, columns), i, made(moved, columns)),
            (lambda x, i, y: x.index_put((i,), y), made(rows, columns), i, made(moved, columns))])
        fb.use_deterministic_algorithms(rng.random() < 0.3)
        found = fb.compile(f, backend="cuda-emulator")(*args)
        fb.use_deterministic_algorithms(False)
        assert found.tolist() == f(*args).tolist(), f"seed {seed}: {dtype}"


def test_gradients_of_embeddings_add_up() -> None:
    i, w = fb.tensor([[1, 1, 4], [0, 1, 4]]), fb.randn(6, 40)
    found = fb.compile(embedding_gradient, backend="cuda-emulator")(i, w)
    assert found[:, 7].tolist() == [2.0, 6.0, 0.0, 0.0, 4.0, 0.0]


def test_the_mode_is_part_of_what_is_compiled() -> None:
    x, i, y = fb.zeros(4, 8), fb.tensor([1, 1, 3]), fb.ones(3, 8)
    f = fb.compile(index_add, backend="cuda-emulator")
    f(x, i, y)
    try:
        fb.use_deterministic_algorithms(True)
        assert f(x, i, y)[1].tolist() == [2.0] * 8 and f(x, i, y)[3].tolist() == [1.0] * 8
    finally:
        fb.use_deterministic_algorithms(False)
    f(x, i, y)
    first, second = f.signatures
    assert second.reason == "use_deterministic_algorithms(True) was called"
    assert first.compiled.kernels[0].schedule.atomic and not second.compiled.kernels[0].schedule.atomic
    assert len(first.compiled.program.launches) == len(second.compiled.program.launches) + 1
    on_the_cpu = fb.compile(index_add)
    on_the_cpu(x, i, y)
    with fb.config.set(deterministic=True):
        on_the_cpu(x, i, y)
    assert len(on_the_cpu.signatures) == 1


def test_ints_and_positions_are_exact_in_any_order(deterministic: None) -> None:
    i, whole = fb.tensor([1, 1, 3]), fb.ones(3, 8).to(fb.int32)
    assert kernels_of(index_add, fb.zeros(4, 8).to(fb.int32), i, whole)[0].schedule.atomic
    assert kernels_of(lambda x, i, y: x.index_put((i,), y), fb.zeros(4, 8), i, fb.ones(3, 8))[0].schedule.atomic
    assert not kernels_of(index_add, fb.zeros(4, 8), i, fb.ones(3, 8))[0].schedule.atomic


def test_a_bad_place_is_reported_and_nothing_is_added_there() -> None:
    f = fb.compile(index_add, backend="cuda-emulator")
    with pytest.raises((IndexError, KernelError), match="out of range"):
        f(fb.zeros(4, 8), fb.tensor([1, 4, 3]), fb.ones(3, 8))


def test_what_is_added_to_is_touched_by_nobody_else() -> None:
    assert emulated("atomic_add_f32(b0, uint32(t % 2), float32(1))")[:3].tolist() == [32.0, 33.0, 2.0]
    for other in ("b0[uint32(t + 1)] = float32(t)", "x = b0[uint32(t + 1)]"):
        racing = f"if t < 8:\n    {other}\nif t < 8:\n    atomic_add_f32(b0, t, float32(1))"
        with pytest.raises(VerificationError, match="adds to what another thread touched"):
            emulated(racing)
        later = f"if t < 8:\n    atomic_add_f32(b0, t, float32(1))\nif t < 7:\n    {other}"
        with pytest.raises(VerificationError, match="what another thread stored"):
            emulated(later)
