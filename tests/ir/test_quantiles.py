"""Quantiles in NumPy, against the standard library's, one at a time."""
from __future__ import annotations

import math
from statistics import NormalDist

import numpy as np

from flambeau.ir.quantiles import inverse_error, normal_quantile

_RNG = np.random.default_rng(0)
_SMALL = 10.0 ** -_RNG.uniform(0.31, 300, 200)


def test_quantiles_are_the_standard_librarys() -> None:
    share = np.concatenate([_RNG.uniform(0, 1, 500), _SMALL, 1 - _SMALL[_SMALL > 1e-16]])
    expected = np.array([NormalDist().inv_cdf(s) for s in share])
    np.testing.assert_allclose(normal_quantile(share), expected, rtol=4e-16 * 4)


def test_inverse_error_undoes_the_error_function() -> None:
    small = np.concatenate([_RNG.uniform(-0.5, 0.5, 500), _SMALL])
    np.testing.assert_allclose([math.erf(v) for v in inverse_error(small)], small, rtol=2e-15)
    tails = 2.0 ** -_RNG.uniform(1, 52, 200)
    np.testing.assert_allclose([math.erfc(v) for v in inverse_error(1 - tails)], 1 - (1 - tails), rtol=2e-13)


def test_at_the_ends_and_beyond() -> None:
    assert np.array_equal(normal_quantile(np.array([0.0, 0.5, 1.0, 2.0])), [-np.inf, 0.0, np.inf, np.nan], equal_nan=True)
    ends = inverse_error(np.array([-1.0, -0.0, 1.0, -1.5, np.nan]))
    assert np.array_equal(ends, [-np.inf, 0.0, np.inf, np.nan, np.nan], equal_nan=True) and np.signbit(ends[1])
    assert inverse_error(np.zeros((0, 2))).shape == (0, 2) and inverse_error(np.array(0.5)).shape == ()
