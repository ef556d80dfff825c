"""Reductions that a GPU cuts into parts give what they gave in one."""
from __future__ import annotations

import random
from collections.abc import Iterator, Sequence

import numpy as np
import pytest
from gpu_kernels import kernels_of

import flambeau as fb
import flambeau.nn.functional as F
from flambeau.compiler import Compiled
from flambeau.ir.kernel import Kernel
from flambeau.passes.cuda import split_reductions as split


@pytest.fixture
def always(monkeypatch: pytest.MonkeyPatch) -> None:
    """Split whatever can be split, into few parts."""
    monkeypatch.setattr(split, "choose_parts", _any_parts)


def _any_parts(kernel: split.LoopKernel, target: object) -> int:
    if not split.can_split(kernel, positions=True):
        return 1
    possible = [n for n in range(2, 9) if split.is_possible(kernel, n) or split.is_even(kernel, n)]
    return random.Random(repr(kernel.extents)).choice(possible) if possible else 1


def made(f, *args: fb.Tensor) -> tuple[list[np.ndarray], Compiled]:
    compiled = fb.compile(f, backend="cuda-emulator")
    found = compiled(*args)
    found = found if isinstance(found, tuple) else (found,)
    return [each.numpy() for each in found], compiled.signatures[0].compiled


WHOLE = {"sum": lambda x: x.sum(), "rows": lambda x: x.sum(1), "columns": lambda x: x.sum(0), "max": lambda x: x.amax(1),
         "min": lambda x: x.amin(0), "prod": lambda x: (x * 0.1 + 1).prod(1), "softmax": lambda x: F.softmax(x, 1),
         "any": lambda x: (x > 2.5).any(1), "all": lambda x: (x > -2.5).all(0), "argmax": lambda x: x.argmax(1),
         "argmin": lambda x: x.argmin(0), "first": lambda x: x.argmax(), "norm": lambda x: F.layer_norm(x, x.shape[1:]),
         "variance": lambda x: fb.var_mean(x, 0), "max and where": lambda x: fb.max(x, 1)}


@pytest.mark.parametrize("name", WHOLE)
def test_parts_agree_with_eager_code(name: str, always: None) -> None:
    rng = np.random.default_rng(len(name))
    for shape in ((11, 37), (8, 64), (7, 101)):
        x = fb.tensor(rng.normal(size=shape).astype(np.float32))
        found, program = made(WHOLE[name], x)
        wanted = WHOLE[name](x)
        for ours, theirs in zip(found, wanted if isinstance(wanted, tuple) else (wanted,), strict=True):
            np.testing.assert_allclose(ours, theirs.numpy(), rtol=1e-5, atol=1e-6)
        assert len(program.kernels) > 1


def test_positions_are_those_of_the_first(always: None) -> None:
    nan = float("nan")
    x = fb.tensor([[1, 3, 3, 0, 3], [nan, 5, nan, 7, 1], [-np.inf] * 5, [4, 4, 4, 4, 4]])
    for f in (lambda x: x.argmax(1), lambda x: x.argmin(1), lambda x: fb.max(x, 1)[1]):
        (found,), program = made(f, x)
        assert found.tolist() == f(x).tolist() and len(program.kernels) > 1


def test_long_sums_have_the_blocks_of_a_gpu() -> None:
    """Which kernels there are, not run."""
    def kernels(f, *shape: int) -> Sequence[Kernel]:
        return kernels_of(f, fb.zeros(*shape))

    first, second = kernels(lambda x: x.sum(), 10_000_019)               # a prime
    assert first.extents[0] > 132 and second.extents[-1] == first.extents[0]
    assert len(kernels(lambda x: x.sum(0), 100_000, 64)) == 2
    assert len(kernels(lambda x: F.softmax(x, 1), 2, 10_000_000)) == 5
    assert len(kernels(lambda x: F.softmax(x, 1), 512, 1024)) == 1
    assert len(kernels(lambda x: x.sum(1), 4, 100)) == 1


def test_random_reductions_in_parts(always: None, seeds: Iterator[int]) -> None:
    for seed in seeds:
        rng = random.Random(seed)
        shape = [rng.choice([1, 2, 3, 5, 8, 13, 30]) for _ in range(rng.randint(1, 3))]
        dims = tuple(sorted(rng.sample(range(len(shape)), rng.randint(1, len(shape)))))
        of = rng.choice(["sum", "amax", "amin", "mean"])
        x = fb.tensor(np.random.default_rng(seed).integers(-4, 5, shape).astype(rng.choice(["f4", "f8"])))

        def f(x: fb.Tensor, of: str = of, dims: tuple[int, ...] = dims) -> tuple[fb.Tensor, ...]:
            y = getattr(x, of)(dims, keepdim=True)
            return y, (x - y) * 2, (x - y).abs().sum(dims), x.argmax(dims[-1])

        found, _ = made(f, x)
        for ours, theirs in zip(found, f(x), strict=True):
            np.testing.assert_allclose(ours, theirs.numpy(), rtol=1e-5, atol=1e-5, err_msg=f"seed {seed}")
