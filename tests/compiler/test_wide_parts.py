"""Sums cut into parts have the range of sums that are not: parts that are too large for f32 add up to what is right."""
from __future__ import annotations

import time
from collections.abc import Iterator

import numpy as np
import pytest
from checked import compiled, run
from programs import Program, program

from flambeau import config
from flambeau.compiler import Compiled
from flambeau.ir import ops
from flambeau.ir.graph import Value
from flambeau.passes.cpu import split_reductions as split

EPS = 2.0**-24
LARGEST = float(np.finfo(np.float32).max)
SECONDS = 0.5


@pytest.fixture
def always(monkeypatch: pytest.MonkeyPatch) -> None:
    """Split whatever can be split."""
    monkeypatch.setattr(split, "LAUNCH_NS", 0.0)
    monkeypatch.setattr(split, "GAIN", np.inf)
    monkeypatch.setattr(split, "_cores", lambda target: 4)


@pytest.fixture
def threads_as_before() -> Iterator[None]:
    before = config.num_threads
    yield
    config.set(num_threads=before)


def numbers(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Of both signs: all magnitudes, near the largest, runs of one sign, or the largest alone."""
    signs = rng.choice([-1.0, 1.0], shape)
    low, high = [(-44.0, 38.5), (36.0, 38.5), (38.0, 38.5), (-3.0, 3.0)][rng.integers(4)]
    if rng.random() < 0.5:                              # parts have a sign each, and nothing of them cancels out
        signs = np.where(np.sort(rng.random(int(np.prod(shape)))) < rng.uniform(0.4, 0.6), 1.0, -1.0).reshape(shape)
    return np.clip(signs * 10.0 ** rng.uniform(low, high, shape), -LARGEST, LARGEST).astype(np.float32)


def drawn(rng: np.random.Generator) -> tuple[np.ndarray, tuple[int, ...]]:
    """An array, and the dims to sum over."""
    rank = int(rng.integers(1, 4))
    shape = tuple([int(rng.choice([2, 3, 4, 8, 12, 16, 33, 36, 64, 96, 100])) for _ in range(rank)])
    dims = tuple(sorted(rng.choice(rank, int(rng.integers(1, rank + 1)), replace=False).tolist()))
    return numbers(rng, shape), dims


def summed(array: np.ndarray, dims: tuple[int, ...], halved: bool) -> tuple[Compiled, bool]:
    """The sum over dims of the numbers, or of half of each, beside the largest; `halved`."""
    def build(p: Program) -> list[Value]:
        x = p.arg(f"f32[{','.join(map(str, array.shape))}]")
        terms = p.b.mul(x, p.b.full(x.type, 0.5)) if halved else x
        return [p.b.sum(terms, dims), p.b.emit(ops.AMax(dims), x)]

    return compiled(program(build).graph), halved


def assert_right(found: np.ndarray, array: np.ndarray, dims: tuple[int, ...]) -> None:
    """Within the rounding of 32 terms in a row of what is exact, and infinite only where that is out of range."""
    wide = array.astype(np.float64)
    exact, near = wide.sum(dims), 40 * EPS * np.abs(wide).sum(dims) + 2.0**-149
    inside, outside = np.abs(exact) + near < LARGEST, np.abs(exact) - near > LARGEST
    assert np.all(np.isfinite(found[inside])) and np.all(np.abs(found[inside] - exact[inside]) <= near[inside])
    assert np.all(found[outside] == np.sign(exact[outside]) * np.inf)
    assert not np.any(np.isnan(found))


def check_one(seed: int) -> bool:
    """One sum drawn from `seed`, on one to three threads, and the same bits again; whether it was cut."""
    rng = np.random.default_rng(seed)
    array, dims = drawn(rng)
    made, halved = summed(array, dims, rng.random() < 0.3)
    config.set(num_threads=1 + seed % 3)
    (found, extrema), (again, _) = run(made, [array]).outputs, run(made, [array]).outputs
    assert found.tobytes() == again.tobytes()
    np.testing.assert_array_equal(extrema, array.max(dims))
    assert_right(found, array * np.float32(0.5) if halved else array, dims)
    return any(call.kernel.name.endswith("_parts") for call in made.memory.calls)


def test_sums_in_parts_are_right_for_numbers_of_all_sizes(always: None, threads_as_before: None) -> None:
    start, seed, cut = time.process_time(), 0, 0
    while time.process_time() - start < SECONDS or not cut:
        try:
            cut += check_one(seed)
        except AssertionError as error:
            raise AssertionError(f"seed {seed}") from error
        seed += 1


@pytest.mark.parametrize(("shape", "dims"), [((100, 16, 33), (0, 1)), ((64, 12), (0,)), ((3, 4096), (1,))])
def test_parts_out_of_range_add_up_to_what_is_not(always: None, shape: tuple[int, ...], dims: tuple[int, ...]) -> None:
    """As many large numbers as their negatives but one, in order: most parts are out of range, and the sum is not."""
    array = np.full(shape, 3e38, np.float32)
    reduced = np.moveaxis(array, dims, range(len(dims)))            # a view
    flat = np.arange(int(np.prod([shape[d] for d in dims]))).reshape([shape[d] for d in dims])
    reduced[flat >= flat.size // 2] *= -1
    reduced[(-1,) * len(dims)] = 0.0
    made, _ = summed(array, dims, False)
    assert any(call.kernel.name.endswith("_parts") for call in made.memory.calls)
    found = run(made, [array]).outputs[0]
    np.testing.assert_array_equal(found, np.full_like(found, 3e38))


def test_infinities_and_nans_stay_in_parts(always: None) -> None:
    inf, array = np.inf, np.zeros((64, 5), np.float32)
    array[3], array[60] = [inf, -inf, inf, np.nan, 3e38], [1.0, 1.0, -inf, 1.0, 3e38]
    made, _ = summed(array, (0,), False)
    np.testing.assert_array_equal(run(made, [array]).outputs[0], np.array([inf, -inf, np.nan, np.nan, inf], np.float32))
