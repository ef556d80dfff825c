"""Sums of very many terms are as near to the true one as short sums are, along every axis."""
from __future__ import annotations

import numpy as np
import pytest

import flambeau as fb

COUNT = 4_000_000
NEAR = 5 * 2.0**-23                     # relative: what blocks of 32 equal terms may lose
TERMS = {
    "equal": np.full(COUNT, 0.1, np.float32),
    "thirds": np.full(COUNT, 1 / 3, np.float32),
    "random": np.random.default_rng(0).random(COUNT).astype(np.float32),
}
SHAPES = {
    (COUNT,): [(0,)],
    (COUNT // 1000, 1000): [(0,), (1,), (0, 1)],
    (1000, COUNT // 1000): [(0,), (1,)],
    (COUNT // 10, 10): [(0,), (1,), (0, 1)],
    (7, COUNT // 7): [(1,), (0, 1)],
    (100, COUNT // 1000, 10): [(0, 2), (1, 2), (0, 1), (1,)],
    (20, 20, COUNT // 400): [(0, 1), (1, 2), (0, 1, 2)],
}


@pytest.mark.parametrize("terms", TERMS.values(), ids=TERMS.keys())
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_error_does_not_grow_with_the_terms(shape: tuple[int, ...], terms: np.ndarray) -> None:
    array = terms[:int(np.prod(shape))].reshape(shape)
    x, wide = fb.from_numpy(array), array.astype(np.float64)
    compiled = fb.compile(lambda x: [x.sum(dims) for dims in SHAPES[shape]])
    for dims, found in zip(SHAPES[shape], compiled(x), strict=True):
        np.testing.assert_allclose(found.numpy(), wide.sum(dims), rtol=NEAR, err_msg=str(dims))


def test_means_norms_and_variances_of_many_terms() -> None:
    array = TERMS["random"]
    x, wide = fb.from_numpy(array), array.astype(np.float64)
    found = fb.compile(lambda x: [x.mean(), x.norm(), x.var(), (x * x).sum(), (x - 0.5).abs().mean()])(x)
    expected = [wide.mean(), np.linalg.norm(wide), wide.var(ddof=1), (wide * wide).sum(), np.abs(wide - 0.5).mean()]
    np.testing.assert_allclose([t.item() for t in found], expected, rtol=NEAR)


def test_bias_gradients_of_many_rows() -> None:
    def gradient(bias: fb.Tensor, x: fb.Tensor) -> fb.Tensor:
        bias = bias.detach().requires_grad_()
        ((x + bias) * 0.1).sum().backward()
        assert bias.grad is not None
        return bias.grad

    x = fb.zeros(COUNT // 20, 20)
    found = fb.compile(gradient)(fb.zeros(20), x)
    np.testing.assert_allclose(found.numpy(), np.full(20, COUNT // 20 * float(np.float32(0.1))), rtol=NEAR)


@pytest.mark.parametrize("dtype", [fb.float32, fb.float64])
def test_infinities_in_long_sums(dtype: fb.dtype) -> None:
    x = fb.full((100_000,), 0.1, dtype=dtype)
    x[5] = float("inf")
    total = fb.compile(lambda x: x.sum())
    assert total(x).item() == float("inf")
    x[70_000] = -float("inf")
    assert np.isnan(total(x).item())


def test_long_sums_in_f64_are_compensated() -> None:
    x = fb.full((1_000_000,), 0.1, dtype=fb.float64)
    np.testing.assert_allclose(fb.compile(lambda x: x.sum())(x).item(), 100_000.0, rtol=8 * 2.0**-52)


@pytest.mark.parametrize("terms", ["equal", "random"])
@pytest.mark.parametrize(("m", "k", "n"), [(1, 1_000_000, 1), (16, 60_000, 16), (64, 5000, 64), (1, 200_000, 20),
                                           (64, 1000, 64), (128, 20_000, 8), (7, 2049, 130)])
def test_products_of_long_rows(m: int, k: int, n: int, terms: str) -> None:
    """However the operands lie in memory."""
    lhs, rhs = TERMS[terms][:m * k].reshape(m, k), TERMS[terms][-k * n:].reshape(k, n)
    expected = lhs.astype(np.float64) @ rhs.astype(np.float64)
    across, beside = fb.from_numpy(np.ascontiguousarray(lhs.T)), fb.from_numpy(np.ascontiguousarray(rhs.T))
    x, y = fb.from_numpy(lhs), fb.from_numpy(rhs)
    for found in fb.compile(lambda x, y, a, b: [x @ y, x @ b.t(), a.t() @ y])(x, y, across, beside):
        np.testing.assert_allclose(found.numpy(), expected, rtol=10 * 2.0**-23)


LARGE = {fb.float32: 3e38, fb.bfloat16: 2.0**127}


@pytest.mark.parametrize("dtype", LARGE, ids=str)
@pytest.mark.parametrize("count", [1, 3, 64, 1000])
def test_sums_that_overflow_on_the_way_are_finite(dtype: fb.dtype, count: int) -> None:
    """As many large numbers as their negatives, and one more."""
    large = LARGE[dtype]
    numbers = np.array([large] * count + [-large] * count + [large], np.float32)

    def sums(x: fb.Tensor) -> list[fb.Tensor]:
        columns = fb.stack([x, x.flip(0)], 1)
        return [x.sum(), columns.sum(0), columns.sum(1), (x * 0.5).sum(), x.amax()]

    x = fb.from_numpy(numbers).to(dtype)
    for found, expected in zip(fb.compile(sums)(x), sums(x), strict=True):
        near = {"rtol": 4 * count * (2.0**-8 if dtype is fb.bfloat16 else 2.0**-23), "atol": 0.0}     # the parts round
        np.testing.assert_allclose(found.to(fb.float64).numpy(), expected.to(fb.float64).numpy(), **near)
    assert np.isfinite(fb.compile(sums)(x)[0].item())


def test_sums_of_infinities_and_of_too_much() -> None:
    total = fb.compile(lambda x: [x.sum(), x.sum(1)])
    inf = float("inf")
    for rows in ([[3e38, 3e38], [1.0, 2.0]], [[inf, 1.0], [2.0, 3.0]], [[inf, -inf], [0.0, 1.0]]):
        whole, each = total(fb.tensor(rows))
        exact = np.array(rows, np.float32).astype(np.float64)
        with np.errstate(all="ignore"):
            np.testing.assert_array_equal(whole.numpy(), exact.sum().astype(np.float32))
            np.testing.assert_array_equal(each.numpy(), exact.sum(1).astype(np.float32))
