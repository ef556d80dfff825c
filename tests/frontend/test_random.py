"""Random numbers: the state, the distributions, and that eager and traced draws are one stream."""

from __future__ import annotations

import math

import numpy as np
import pytest

import flambeau as fb
import flambeau.nn.functional as F
from flambeau.ir.philox import philox_4x32


def test_seed_starts_the_same_stream_again() -> None:
    fb.manual_seed(5)
    first = [
        fb.rand(3).tolist(),
        fb.randn(2, 2).tolist(),
        fb.randint(0, 9, (4,)).tolist(),
        fb.randperm(6).tolist(),
    ]
    fb.manual_seed(5)
    assert first == [
        fb.rand(3).tolist(),
        fb.randn(2, 2).tolist(),
        fb.randint(0, 9, (4,)).tolist(),
        fb.randperm(6).tolist(),
    ]
    assert fb.rand(3).tolist() != first[0] and fb.initial_seed() == 5


def test_state_can_be_taken_and_put_back() -> None:
    fb.manual_seed(1)
    state = fb.get_rng_state()
    a = fb.rand(4).tolist()
    with fb.fork_rng():
        fb.rand(100)
    b = fb.rand(4).tolist()
    fb.set_rng_state(state)
    assert [fb.rand(4).tolist(), fb.rand(4).tolist()] == [a, b]
    assert state.dtype is fb.int64 and tuple(state.shape) == (2,)
    with pytest.raises(RuntimeError):
        fb.set_rng_state(fb.zeros(3))


def test_generators_are_independent() -> None:
    fb.manual_seed(3)
    mine = fb.Generator().manual_seed(3)
    assert fb.rand(4, generator=mine).tolist() == fb.rand(4).tolist()
    before = fb.get_rng_state().tolist()
    fb.rand(4, generator=mine)
    assert fb.get_rng_state().tolist() == before
    assert mine.initial_seed() == 3 and fb.Generator().manual_seed(-1).initial_seed() == 2**64 - 1


def test_uniform_numbers_are_the_documented_bits() -> None:
    fb.manual_seed(11)
    fb.rand(1)  # the second draw has offset 1
    found = fb.rand(5)
    words = philox_4x32(np.arange(5), 1, 11)[0]
    assert found.tolist() == [float(np.float32(w >> 8) * np.float32(2**-24)) for w in words.tolist()]


@pytest.mark.parametrize("dtype", [fb.float16, fb.bfloat16, fb.float32, fb.float64])
def test_uniform_numbers_fill_the_unit_interval(dtype: fb.dtype) -> None:
    fb.manual_seed(0)
    u = fb.rand(40_000, dtype=dtype).double().numpy()
    assert u.min() >= 0 and u.max() < 1
    # The mean of n uniforms has standard deviation sqrt(1 / 12n); 5 of them, and half the step of the dtype.
    step = {fb.float16: 2**-11, fb.bfloat16: 2**-8}.get(dtype, 0)
    assert abs(u.mean() - 0.5) < 5 * math.sqrt(1 / (12 * 40_000)) + step
    counts, _ = np.histogram(u, 16, (0, 1))
    assert ((counts - 2500) ** 2 / 2500).sum() < 45  # chi-squared with 15 degrees: beyond 45 once in 10,000


def test_normal_numbers_have_the_right_moments_and_tails() -> None:
    fb.manual_seed(0)
    z = fb.randn(100_000).double().numpy()
    assert abs(z.mean()) < 5 / math.sqrt(100_000) and abs(z.std() - 1) < 5 / math.sqrt(200_000)
    for bound, share in ((1.0, 0.31731), (2.0, 0.0455), (3.0, 0.0027)):
        found = (np.abs(z) > bound).mean()
        assert abs(found - share) < 5 * math.sqrt(share / 100_000)
    assert np.isfinite(z).all()


def test_integers_cover_their_range() -> None:
    fb.manual_seed(0)
    x = fb.randint(-3, 4, (7_000,)).numpy()
    values, counts = np.unique(x, return_counts=True)
    assert values.tolist() == list(range(-3, 4)) and ((counts - 1000) ** 2 / 1000).sum() < 30
    assert fb.randint(5, (2, 3), dtype=fb.int32).dtype is fb.int32
    with pytest.raises(RuntimeError):
        fb.randint(3, 3, (1,))


def test_permutations_hold_every_number_once() -> None:
    fb.manual_seed(0)
    seen = {tuple(fb.randperm(4).tolist()) for _ in range(400)}
    assert len(seen) == 24 and all(sorted(p) == [0, 1, 2, 3] for p in seen)
    assert fb.randperm(0).tolist() == []


def test_dropout_keeps_with_the_right_probability_and_scale() -> None:
    fb.manual_seed(0)
    x = fb.ones(20_000, requires_grad=True)
    y = F.dropout(x, 0.3)
    kept = y.detach().numpy() != 0
    assert abs(kept.mean() - 0.7) < 5 * math.sqrt(0.21 / 20_000)
    np.testing.assert_allclose(y.detach().numpy()[kept], 1 / 0.7, rtol=1e-6)
    y.sum().backward()
    assert np.array_equal(x.grad.numpy(), y.detach().numpy())


def test_dropout_is_u_at_least_p() -> None:
    fb.manual_seed(4)
    u = fb.rand(1000)
    fb.manual_seed(4)
    kept = F.dropout(fb.ones(1000), 0.37) != 0
    assert fb.equal(kept, u >= 0.37)


def test_dropout_at_its_ends() -> None:
    x = fb.ones(5)
    assert F.dropout(x, 0.5, training=False) is x and F.dropout(x, 0.0) is x
    assert F.dropout(x, 1.0).tolist() == [0.0] * 5
    F.dropout(x, 1.0, inplace=True)
    assert x.tolist() == [0.0] * 5


def test_dropout2d_drops_whole_channels() -> None:
    fb.manual_seed(0)
    y = F.dropout2d(fb.ones(8, 16, 3, 3), 0.5)
    assert set(y.amax((2, 3)).reshape(-1).tolist()) == {0.0, 2.0} and fb.equal(y.amax((2, 3)), y.amin((2, 3)))


def test_bernoulli_and_multinomial_follow_their_weights() -> None:
    fb.manual_seed(0)
    assert abs(fb.bernoulli(fb.full((20_000,), 0.2)).mean().item() - 0.2) < 5 * math.sqrt(0.16 / 20_000)
    assert fb.bernoulli(fb.tensor([0.0, 1.0] * 50)).tolist() == [0.0, 1.0] * 50
    drawn = fb.multinomial(fb.tensor([1.0, 0.0, 3.0]), 8000, replacement=True).numpy()
    counts = np.bincount(drawn, minlength=3)
    assert counts[1] == 0 and abs(counts[0] - 2000) < 5 * math.sqrt(8000 * 0.25 * 0.75)
    for _ in range(20):
        assert sorted(fb.multinomial(fb.tensor([1.0, 2.0, 0.0, 3.0]), 3).tolist()) == [0, 1, 3]
    assert fb.multinomial(fb.ones(2, 5), 4).shape == (2, 4)
    with pytest.raises(RuntimeError):
        fb.multinomial(fb.tensor([1.0, 0.0]), 2)


def test_compiled_draws_without_replacement_are_the_eager_ones() -> None:
    def draw(weights: fb.Tensor) -> fb.Tensor:
        return fb.multinomial(weights, 3)

    weights = fb.tensor([[1.0, 0.0, 3.0, 2.0], [5.0, 1.0, 1.0, 0.0]])
    fb.manual_seed(0)
    eager = draw(weights)
    fb.manual_seed(0)
    assert fb.compile(draw)(weights).tolist() == eager.tolist()
    with pytest.raises(fb.errors.KernelError, match="index -1 is out of range"):
        fb.compile(draw)(fb.tensor([1.0, 0.0, 0.0, 2.0]))


def test_inplace_draws_fill_the_tensor() -> None:
    fb.manual_seed(0)
    x = fb.empty(1000)
    assert x.uniform_(-2, 3) is x and -2 <= x.min().item() < -1.9 and 2.9 < x.max().item() <= 3
    assert abs(x.normal_(5, 0.1).mean().item() - 5) < 0.02
    assert set(x.bernoulli_(0.5).tolist()) == {0.0, 1.0}
    assert x.exponential_(2.0).min().item() >= 0 and abs(x.mean().item() - 0.5) < 0.1
    assert set(fb.zeros(100, dtype=fb.int64).random_(3).tolist()) == {0, 1, 2}
    assert fb.normal(0.0, 1.0, (2, 3)).shape == (2, 3) and fb.normal(fb.zeros(4), 2.0).shape == (4,)


def test_draws_need_floats() -> None:
    with pytest.raises(RuntimeError):
        fb.rand(2, dtype=fb.int64)
    with pytest.raises(RuntimeError):
        fb.zeros(2, dtype=fb.int64).normal_()


def test_a_generator_lives_on_the_cpu() -> None:
    assert fb.Generator("cpu:0").device == "cpu"
    with pytest.raises(fb.errors.UnsupportedError, match="cuda"):
        fb.Generator("cuda")



POISSON = {rate: [math.exp(k * math.log(rate) - rate - math.lgamma(k + 1)) for k in range(80)] for rate in (0.5, 9.0, 12.0)}
BINOMIAL = {(n, p): [math.comb(n, k) * p**k * (1 - p) ** (n - k) for k in range(n + 1)]
            for n, p in ((7, 0.2), (60, 0.35), (50, 0.9))}


def draws(name: str, *parameters: float) -> tuple[fb.Tensor, list[float]]:
    """40,000 numbers, and the probability of each count."""
    given = [fb.full((40000,), value, dtype=fb.float64) for value in parameters]
    return getattr(fb, name)(*given), POISSON[parameters[0]] if name == "poisson" else BINOMIAL[parameters]


COUNTS = [("poisson", rate) for rate in POISSON] + [("binomial", *of) for of in BINOMIAL]


@pytest.mark.parametrize("case", COUNTS, ids=str)
def test_counts_follow_their_distribution_compiled_too(case: tuple) -> None:
    fb.manual_seed(7)
    found, weights = draws(*case)
    shares = np.bincount(found.numpy().astype(int), minlength=len(weights))[:len(weights)] / 40000
    assert np.abs(np.cumsum(shares) - np.cumsum(weights)).max() < 1.95 / math.sqrt(40000)      # one in 1000 seeds
    fb.manual_seed(7)
    assert (fb.compile(lambda: draws(*case)[0])() == found).all()


def test_counts_need_rates_that_make_sense() -> None:
    assert fb.poisson(fb.zeros(3)).tolist() == [0, 0, 0] and fb.poisson(fb.zeros(0)).numel() == 0
    assert fb.binomial(fb.tensor([9.0, 9.0, 0.0]), fb.tensor([0.0, 1.0, 0.5])).tolist() == [0, 9, 0]
    for wrong in (lambda: fb.poisson(fb.tensor([-1.0])), lambda: fb.poisson(fb.tensor([1])),
                  lambda: fb.binomial(fb.tensor([3.0]), fb.tensor([1.5])), lambda: fb.bernoulli(fb.tensor([1.5])),
                  lambda: fb.zeros(2).geometric_(1.0), lambda: fb.zeros(2).log_normal_(0, 0),
                  lambda: fb.normal(0.0, -1.0, 2)):
        with pytest.raises(RuntimeError):
            wrong()


@pytest.mark.parametrize(("name", "arguments", "median"), [
    ("geometric_", (0.1,), 7.0), ("cauchy_", (3.0, 2.0), 3.0), ("log_normal_", (0.5, 0.7), math.exp(0.5))])
def test_fills_have_their_median_compiled_too(name: str, arguments: tuple, median: float) -> None:
    def filled() -> fb.Tensor:
        return getattr(fb.zeros(20000), name)(*arguments)

    fb.manual_seed(3)
    found = filled()
    assert abs(np.median(found.numpy()) - median) < 0.1
    fb.manual_seed(3)
    np.testing.assert_allclose(fb.compile(filled)().numpy(), found.numpy(), rtol=1e-6)


def test_random_fills_all_of_a_dtype() -> None:
    assert fb.zeros(500, dtype=fb.int8).random_().max() > 100 and fb.zeros(500).random_().max() > 2**22
    assert set(fb.zeros(50, dtype=fb.int64).random_(2, 4).tolist()) == {2, 3}
    with pytest.raises(RuntimeError, match="not below"):
        fb.zeros(3).random_(4, 4)


@pytest.mark.parametrize("weights", [[1.0, -1.0, 3.0], [0.0, 0.0, 0.0], [1.0, math.inf, 0.0], [math.nan, 1.0, 1.0]])
def test_weights_that_make_no_sense_raise_compiled_too(weights: list[float]) -> None:
    rows = fb.tensor([[1.0, 2.0, 3.0], weights])
    for again in (False, True):
        with pytest.raises(RuntimeError, match="multinomial"):
            fb.multinomial(rows, 2, again)
        with pytest.raises(fb.errors.KernelError):
            fb.compile(lambda rows, again=again: fb.multinomial(rows, 2, again))(rows)
