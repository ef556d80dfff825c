"""Sorts on a GPU: by counting, in tiles, and of tiles that are merged, all of them stable."""
from __future__ import annotations

import random
from collections.abc import Iterator

import numpy as np
import pytest

import flambeau as fb
from flambeau.kinds import on_cuda

DTYPES = (fb.float32, fb.float64, fb.bfloat16, fb.float16, fb.int8, fb.uint8, fb.int32, fb.int64, fb.bool)


def random_sort(seed: int) -> tuple[fb.Tensor, dict[str, object], int | None]:
    """(what, how, how many are kept) with many equal elements, zeros of both signs and NaN among floats."""
    rng, data = random.Random(seed), np.random.default_rng(seed)
    dtype = rng.choice(DTYPES)
    shape = [rng.choice([1, 2, 3]) for _ in range(rng.randint(0, 2))] + [rng.choice([1, 5, 33, 64, 65, 100, 130, 300])]
    dim = rng.randrange(len(shape))
    shape[dim], shape[-1] = shape[-1], shape[dim]
    x = data.integers(-4 if dtype.is_signed else 0, 5, shape).astype(np.float64)
    if dtype.is_floating_point:
        x[data.random(shape) < 0.1] = np.nan
        x[data.random(shape) < 0.1] = -0.0
        x[data.random(shape) < 0.05] = -np.inf
    keep = rng.randint(1, shape[dim]) if rng.random() < 0.4 else None
    return fb.tensor(x).to(dtype), {"dim": dim, "descending": rng.random() < 0.5}, keep


def sorted_by(x: fb.Tensor, how: dict[str, object], keep: int | None) -> tuple[fb.Tensor, fb.Tensor]:
    if keep is None:
        return fb.sort(x, stable=True, **how)
    return fb.topk(x, keep, how["dim"], how["descending"])


@pytest.fixture
def small_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows of a hundred elements take several launches."""
    monkeypatch.setattr(on_cuda, "sort_tile", lambda kernel: 1 if kernel.length < 8 else 16 + 16 * kernel.descending)


def check(seed: int) -> int:
    x, how, keep = random_sort(seed)
    compiled = fb.compile(lambda x: sorted_by(x, how, keep), backend="cuda-emulator")
    found, wanted = compiled(x), sorted_by(x, how, keep)
    for ours, theirs in zip(found, wanted, strict=True):
        assert str(ours.tolist()) == str(theirs.tolist()), f"seed {seed}"            # which tells zeros apart
    return len(compiled.signatures[0].compiled.program.launches)


def test_random_sorts_are_those_of_eager_code(seeds: Iterator[int]) -> None:
    for seed in seeds:
        check(seed)


def test_random_sorts_of_tiles_are_those_of_eager_code(small_tiles: None, seeds: Iterator[int]) -> None:
    launches = [check(seed) for seed in seeds]
    assert len(launches) < 20 or max(launches) > 2


def test_only_what_is_kept_goes_from_launch_to_launch(small_tiles: None) -> None:
    x = fb.tensor(np.random.default_rng(0).integers(0, 50, 500))
    f = fb.compile(lambda x: fb.topk(x, 3), backend="cuda-emulator")
    assert f(x)[1].tolist() == fb.topk(x, 3)[1].tolist()
    text = f.ir("cuda")
    assert text.count(", s0, s0_at, s1, s1_at)") == 5 and "if point < 48:" in text          # of 16 tiles, and 3 of each


def test_medians_and_order_statistics_follow() -> None:
    x = fb.tensor(np.random.default_rng(1).normal(size=(3, 75)).astype(np.float32))
    for f in (lambda x: fb.median(x, 1), lambda x: fb.kthvalue(x, 20, 1), lambda x: (fb.argsort(x, 1), fb.msort(x)),
              lambda x: fb.mode((x * 2).to(fb.int32), 1)):
        for ours, theirs in zip(fb.compile(f, backend="cuda-emulator")(x), f(x), strict=True):
            assert ours.tolist() == theirs.tolist()
