"""Running extremes, searches, scatters, statistics, combinations against PyTorch's: values, dtypes, gradients, compiled."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from against_torch import check, to_numpy

import flambeau as fb

pytestmark = pytest.mark.torch

Case = tuple[Callable[..., Any], tuple[str, ...]]


def at(lib: Any, *rows: Any) -> Any:
    return lib.tensor(list(rows))


FLOATS: dict[str, Case] = {
    "cummax": (lambda lib, x: lib.cummax(x, 1), ("f32[3,7]",)),
    "cummin": (lambda lib, x: x.cummin(-1), ("f64[2,9]",)),
    "cummax of equal ones": (lambda lib, x: (x > 0).cummax(0), ("f32[9]",)),
    "logcumsumexp": (lambda lib, x: lib.logcumsumexp(x * 50, 0), ("f64[7,2]",)),
    "logcumsumexp of infinities": (lambda lib, x: lib.logcumsumexp(lib.where(x > 1, x, -lib.inf), 0), ("f64[9]",)),
    "diff": (lambda lib, x, y: lib.diff(x, 2, 0, prepend=y), ("f32[4,3]", "f32[1,3]")),
    "diff of bools": (lambda lib, x: lib.diff(x > 0), ("f32[2,6]",)),
    "gradient": (lambda lib, x: lib.gradient(x, spacing=0.5, edge_order=2), ("f64[4,5]",)),
    "gradient at points": (lambda lib, x, t: lib.gradient(x, spacing=(t.abs().cumsum(0),), dim=1, edge_order=2),
                           ("f64[3,5]", "f64[5]")),
    "trapezoid": (lambda lib, y, x: lib.trapezoid(y, x, dim=0), ("f32[4,3]", "f32[4]")),
    "trapz": (lambda lib, y: lib.trapz(y, dx=0.25), ("f32[4,3]",)),
    "cumulative_trapezoid": (lambda lib, y, x: lib.cumulative_trapezoid(y, x), ("f64[2,5]", "f64[2,5]")),
    "nanmean": (lambda lib, x: lib.nanmean(lib.where(x > 1, lib.nan, x), 1), ("f32[3,5]",)),
    "cov": (lambda lib, x: lib.cov(x, correction=0, aweights=lib.arange(1.0, 6.0).double()), ("f64[3,5]",)),
    "corrcoef": (lambda lib, x: x.corrcoef(), ("f64[3,6]",)),
    "histc": (lambda lib, x: lib.histc(x, 5, -1, 1), ("f32[40]",)),
    "histogram": (lambda lib, x, w: lib.histogram(x.detach(), 4, weight=w.detach().abs(), density=True),
                  ("f64[3,8]", "f64[3,8]")),
    "histogram between edges": (lambda lib, x: lib.histogram(x.detach(), at(lib, -1.0, 0.0, 0.5, 2.0)), ("f32[30]",)),
    "histogramdd": (lambda lib, x: lib.histogramdd(x.detach(), (3, 2), range=(-1, 1, -2, 2)).hist, ("f64[20,2]",)),
    "searchsorted": (lambda lib, x, y: lib.searchsorted(x.sort(-1)[0], y, right=True), ("f32[2,6]", "f32[2,4]")),
    "bucketize": (lambda lib, x: lib.bucketize(x, at(lib, -1.0, 0.0, 1.0), out_int32=True), ("f32[3,4]",)),
    "isin": (lambda lib, x, y: lib.isin(x.round(), y.round(), invert=True), ("f32[3,4]", "f32[2,2]")),
    "nonzero_static": (lambda lib, x: (x > 0).nonzero_static(size=9, fill_value=7), ("f32[2,3]",)),
    "segment_reduce": (lambda lib, x: [lib.segment_reduce(x, how, lengths=at(lib, 2, 0, 3), initial=1.5)
                                       for how in ("sum", "prod", "max", "min")], ("f64[5,2]",)),
    "segment means": (lambda lib, x: lib.segment_reduce(x, "mean", offsets=at(lib, [0, 1, 3], [0, 2, 3]), axis=1),
                      ("f64[2,3,2]",)),
    "linspace": (lambda lib, x: lib.linspace(x.detach(), 3, 5) + lib.logspace(0, x.detach(), 5, 2), ("f32[]",)),
    "renorm": (lambda lib, x: x.renorm(1.5, 0, 2.0), ("f64[3,4]",)),
    "masked_scatter": (lambda lib, x, y: x.masked_scatter(x > 0, y), ("f32[3,4]", "f32[14]")),
    "put": (lambda lib, x, y: x.put(at(lib, [0, -1], [3, 3]), y, accumulate=True), ("f32[3,2]", "f32[2,2]")),
    "select_scatter": (lambda lib, x, y: x.select_scatter(y, 1, -1), ("f32[3,2]", "f32[3]")),
    "slice_scatter": (lambda lib, x, y: x.slice_scatter(y, 1, 1, None, 2), ("f32[2,6]", "f32[2,3]")),
    "diagonal_scatter": (lambda lib, x, y: x.diagonal_scatter(y, 1), ("f32[3,3]", "f32[2]")),
    "scatter multiply": (lambda lib, x: x.detach().scatter(0, at(lib, [1, 0, 1]), 3.0, reduce="multiply"), ("f32[2,3]",)),
    "kron": (lambda lib, x, y: lib.kron(x, y), ("f32[2,3]", "f32[2]")),
    "chain_matmul": (lambda lib, x, y, z: lib.chain_matmul(x, y, z), ("f64[2,9]", "f64[9,1]", "f64[1,4]")),
    "addbmm": (lambda lib, x, y, z: lib.addbmm(x, y, z, beta=0.5, alpha=2), ("f64[2,3]", "f64[4,2,5]", "f64[4,5,3]")),
    "cross": (lambda lib, x, y: x.cross(y, dim=1), ("f64[2,3]", "f64[1,3]")),
    "block_diag": (lambda lib, x, y: lib.block_diag(x, y, x[0, 0]), ("f32[2,3]", "f64[2]")),
    "cartesian_prod": (lambda lib, x, y: lib.cartesian_prod(x, y), ("f32[2]", "f32[3]")),
    "combinations": (lambda lib, x: lib.combinations(x, 3, with_replacement=True), ("f32[4]",)),
    "vander": (lambda lib, x: lib.vander(x.detach(), 4, increasing=True), ("f64[3]",)),
    "unravel_index": (lambda lib, x: lib.unravel_index((x.abs() * 5).long(), (3, 4)), ("f32[2,3]",)),
    "stacks": (lambda lib, x, y: (lib.column_stack([x, y]), lib.dstack([x, x]), lib.atleast_3d(x), *lib.dsplit(
        lib.dstack([y, y]), 2)), ("f32[3]", "f32[3,2]")),
    "diagflat": (lambda lib, x: lib.diagflat(x, -1), ("f32[2,2]",)),
    "ldexp": (lambda lib, x: lib.ldexp(x, at(lib, 3, 0, 4)), ("f32[2,3]",)),
    "frexp": (lambda lib, x: lib.frexp(x * 1e-40)[0] + lib.frexp(x)[1], ("f32[8]",)),
    "nextafter": (lambda lib, x, y: lib.nextafter(x, y), ("f32[8]", "f32[8]")),
    "logit": (lambda lib, x: x.logit(0.2), ("f64[9]",)),
    "repeat_interleave": (lambda lib, x: x.repeat_interleave(at(lib, 2, 0, 1), 0, output_size=3), ("f32[3,2]",)),
    "polygamma": (lambda lib, x: (lib.polygamma(3, x), (x.abs() + 1).polygamma(4)), ("f64[9]",)),
    "mvlgamma": (lambda lib, x: x.abs().add(2).mvlgamma(3), ("f32[9]",)),
    "orthogonal polynomials": (lambda lib, x: [getattr(lib.special, f"{name}")(x.detach(), n) for n in (0, 1, 5, at(
        lib, 2.0, 7.0, 0.0)) for name in ("chebyshev_polynomial_t", "chebyshev_polynomial_u", "hermite_polynomial_he",
                                          "legendre_polynomial_p", "laguerre_polynomial_l",
                                          "shifted_chebyshev_polynomial_w")], ("f64[3]",)),
    "integers": (lambda lib, x: (lib.gcd(x * 12, x + 4), lib.lcm(x - 3, x * 2)), ("i64[7]",)),
} | {
    f"scatter_reduce {how}, {own}": (
        lambda lib, x, y, how=how, own=own: x.scatter_reduce(0, at(lib, [0, 2], [0, 0], [3, 0]), y, how, include_self=own),
        ("f64[4,3]", "f64[3,2]"))
    for how in ("sum", "prod", "mean", "amax", "amin") for own in (True, False)
} | {
    f"index_reduce {how}": (lambda lib, x, y, how=how: x.index_reduce(1, at(lib, 1, 1, 0), y, how),
                          ("f64[2,3]", "f64[2,3]"))
    for how in ("prod", "mean", "amax", "amin")
}  # fmt: skip


@pytest.mark.parametrize("name", FLOATS)
def test_values_and_gradients_agree(name: str) -> None:
    function, specs = FLOATS[name]
    check(function, *specs, tolerance=16)


@pytest.mark.parametrize("name", FLOATS)
def test_compiled_is_as_eager(name: str) -> None:
    function, specs = FLOATS[name]
    rng = np.random.default_rng(len(name))
    operands = []
    for spec in specs:
        shape = tuple(int(n) for n in spec[4:-1].split(",") if n)
        drawn = rng.integers(-3, 9, shape) if spec[0] == "i" else rng.uniform(-2, 2, shape)
        operands.append(fb.tensor(drawn, dtype={"f32": fb.float32, "f64": fb.float64, "i64": fb.int64}[spec[:3]]))
    expected, found = function(fb, *operands), fb.compile(function)(fb, *operands)
    results = [(found, expected)] if isinstance(expected, fb.Tensor) else list(zip(found, expected, strict=True))
    for a, b in results:
        assert a.dtype is b.dtype
        np.testing.assert_allclose(to_numpy(a), to_numpy(b), rtol=1e-5, atol=1e-6)


def test_frexp_and_nextafter_of_all_magnitudes() -> None:
    numbers = np.float32(2.0) ** np.arange(-149, 128, dtype=np.float32)
    x = np.concatenate([numbers, np.nextafter(numbers, np.float32(0)), -numbers, [0, -0.0, np.inf, -np.inf, np.nan]])
    x = x.astype(np.float32)
    mantissa, exponent = fb.compile(fb.frexp)(fb.tensor(x))
    expected = np.frexp(x)
    np.testing.assert_array_equal(mantissa.numpy(), expected[0])
    np.testing.assert_array_equal(exponent.numpy()[np.isfinite(x)], expected[1][np.isfinite(x)])
    for to in (np.inf, -np.inf, 0.0):
        found = fb.compile(fb.nextafter)(fb.tensor(x), fb.tensor(to))
        np.testing.assert_array_equal(found.numpy(), np.nextafter(x, np.float32(to)))


def test_nan_is_extreme_and_belongs_nowhere() -> None:
    x = fb.tensor([1.0, np.nan, 3.0, np.nan])
    assert fb.cummax(x, 0).indices.tolist() == fb.cummin(x, 0).indices.tolist() == [0, 1, 1, 3]
    assert fb.searchsorted(fb.tensor([1.0, 2.0]), x).tolist() == [0, 2, 2, 2]
    assert not fb.isin(x, x).all() and fb.histc(x[:3], 2, 0, 4).tolist() == [1, 1]
    found = fb.zeros(2).scatter_reduce(0, fb.tensor([0, 0, 1, 1]), x, "amin")
    assert found.isnan().all()


def test_sizes_that_depend_on_data_are_eager() -> None:
    x = fb.tensor([3, 3, 1, 1, 1, 3])
    values, inverse, counts = fb.unique_consecutive(x, return_inverse=True, return_counts=True)
    assert (values.tolist(), inverse.tolist(), counts.tolist()) == ([3, 1, 3], [0, 0, 1, 1, 1, 2], [2, 3, 1])
    assert fb.argwhere(x == 1).tolist() == [[2], [3], [4]]
    with pytest.raises(fb.errors.TraceError, match="depends on data"):
        fb.compile(fb.unique_consecutive)(x)
    with pytest.raises(RuntimeError, match="source has 1"):
        x.masked_scatter(x == 3, x[:1])
