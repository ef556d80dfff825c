"""Quantiles of the normal distribution and the inverse of the error function in NumPy, on arrays of f64.

Wichura, "Algorithm AS 241: The Percentage Points of the Normal Distribution", Applied Statistics 37 (1988), pages 477-484:
quotients of two polynomials of degree 7, good to 16 digits.
"""
from __future__ import annotations

from typing import Final

import numpy as np

# Coefficients of numerator and denominator, highest degree first: for shares within 0.425 of 1/2, by 0.425**2 less the
# distance squared; for smaller tails, by sqrt(-log(tail)) less 1.6; for those below exp(-25), by it less 5.
_MIDDLE: Final = (
    (2509.0809287301226727, 33430.575583588128105, 67265.770927008700853, 45921.953931549871457, 13731.693765509461125,
     1971.5909503065514427, 133.14166789178437745, 3.387132872796366608),
    (5226.495278852854561, 28729.085735721942674, 39307.89580009271061, 21213.794301586595867, 5394.1960214247511077,
     687.1870074920579083, 42.313330701600911252, 1.0))
_TAIL: Final = (
    (7.7454501427834140764e-4, 0.0227238449892691845833, 0.24178072517745061177, 1.27045825245236838258,
     3.64784832476320460504, 5.7694972214606914055, 4.6303378461565452959, 1.42343711074968357734),
    (1.05075007164441684324e-9, 5.475938084995344946e-4, 0.0151986665636164571966, 0.14810397642748007459,
     0.68976733498510000455, 1.6763848301838038494, 2.05319162663775882187, 1.0))
_FAR: Final = (
    (2.01033439929228813265e-7, 2.71155556874348757815e-5, 0.0012426609473880784386, 0.026532189526576123093,
     0.29656057182850489123, 1.7848265399172913358, 5.4637849111641143699, 6.6579046435011037772),
    (2.04426310338993978564e-15, 1.4215117583164458887e-7, 1.8463183175100546818e-5, 7.868691311456132591e-4,
     0.0148753612908506148525, 0.13692988092273580531, 0.59983220655588793769, 1.0))


def normal_quantile(share: np.ndarray) -> np.ndarray:
    """Where the normal distribution function is `share`: infinite at 0 and 1, NaN outside of them."""
    return _quantile(share - 0.5, np.minimum(share, 1.0 - share))


def inverse_error(x: np.ndarray) -> np.ndarray:
    """The number whose error function is x: infinite at -1 and 1, NaN outside of them."""
    return _quantile(x / 2, (1.0 - np.abs(x)) / 2) / np.sqrt(2.0)


def _quantile(distance: np.ndarray, tail: np.ndarray) -> np.ndarray:
    """By the share's distance from 1/2, and the share of the tail beyond it, each as exact as the caller knows it."""
    with np.errstate(all="ignore"):
        found = np.asarray(distance * _quotient(_MIDDLE, 0.180625 - distance * distance))
        outer = np.abs(distance) > 0.425
        if outer.any():
            root = np.sqrt(-np.log(tail[outer]))
            size = np.where(root <= 5.0, _quotient(_TAIL, root - 1.6), _quotient(_FAR, root - 5.0))
            found[outer] = np.copysign(np.where(root == np.inf, np.inf, size), distance[outer])
    return found


def _quotient(coefficients: tuple[tuple[float, ...], tuple[float, ...]], x: np.ndarray) -> np.ndarray:
    above, below = (np.polyval(np.asarray(row), x) for row in coefficients)
    return np.asarray(above / below)


__all__ = ["inverse_error", "normal_quantile"]
