"""Elementwise ops that could be composed of simpler ones, but whose derivative could not: at an edge of the domain the
chain rule would multiply 0 by infinity. Each states the derivative itself, which selects where it has no limit.
"""
from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

import numpy as np

from flambeau.ir.ops.families import Elementwise, ScalarExpression, declare
from flambeau.ir.ops.sampling import AWAY_FROM_ZERO, POSITIVE
from flambeau.ir.ops.surface import Surface

if TYPE_CHECKING:
    from flambeau.ir.builder import Builder
    from flambeau.ir.graph import Value

_LEAST_LOG: Final = -100.0                  # what binary cross entropy takes for log(0)
_LEAST_SLOPE: Final = 1e-12                 # and for the derivative's divisor p * (1 - p)


def _selected(b: Builder, condition: Value, g: Value) -> Value:
    """g where the condition holds, else 0."""
    return b.where(condition, g, b.scalar(0.0, g))


# -- roots ------------------------------------------------------------------------------------------------------------


def _root_partial(b: Builder, g: Value, y: Value, x: Value) -> Value:
    slope = b.div(b.mul(g, b.scalar(0.5, g)), y)
    return b.where(b.eq(y, b.scalar(0.0, y)), b.scalar(0.0, y), slope)


root = declare("root", 1, np.sqrt, "sqrt", _root_partial, within=[POSITIVE], exact=True)
"""sqrt, with the derivative 0 at 0: the least of a norm's subgradients."""


def _hypot_expression(e: ScalarExpression, x: int, y: int) -> int:
    """big * sqrt(1 + (small / big)**2); infinite beside a NaN too, as IEEE 754 has it."""
    x, y = e("abs", x), e("abs", y)
    big, small = e("max", x, y), e("min", x, y)
    ratio = e("div", small, big)
    found = e("mul", big, e("sqrt", e("add", e.const(1.0), e("mul", ratio, ratio))))
    found = e("select", e.test("eq", big, e.const(0.0)), big, found)
    infinite = e.test("or", e.test("isinf", x), e.test("isinf", y))
    return e("select", infinite, e.const(float("inf")), found)


hypot = declare("hypot", 2, np.hypot, _hypot_expression, lambda b, g, z, x, y: b.mul(g, b.div(x, z)),
                lambda b, g, z, x, y: b.mul(g, b.div(y, z)), within=[AWAY_FROM_ZERO, AWAY_FROM_ZERO],
                surface=Surface("sqrt(input**2 + other**2), without overflow on the way"))

# -- bounds -----------------------------------------------------------------------------------------------------------


def _np_clamp_min(x: np.ndarray, low: np.ndarray) -> np.ndarray:
    return np.where((x < low) | np.isnan(low), low, x) if x.dtype.kind == "f" else np.where(x < low, low, x)


def _np_clamp_max(x: np.ndarray, high: np.ndarray) -> np.ndarray:
    return np.where((x > high) | np.isnan(high), high, x) if x.dtype.kind == "f" else np.where(x > high, high, x)


def _bounded(beyond: str) -> Callable[..., int]:
    """The bound where x lies beyond it, or where it is NaN, else x: of equal zeros, x."""

    def expression(e: ScalarExpression, x: int, bound: int) -> int:
        found = e("select", e.test(beyond, x, bound), bound, x)
        return e("select", e.test("isnan", bound), bound, found) if e.dtype.is_floating_point else found

    return expression


clamp_min = declare("clamp_min", 2, _np_clamp_min, _bounded("lt"),
                    lambda b, g, z, x, low: _selected(b, b.ge(x, low), g),
                    lambda b, g, z, x, low: _selected(b, b.lt(x, low), g), domain="number", exact=True)
clamp_max = declare("clamp_max", 2, _np_clamp_max, _bounded("gt"),
                    lambda b, g, z, x, high: _selected(b, b.le(x, high), g),
                    lambda b, g, z, x, high: _selected(b, b.gt(x, high), g), domain="number", exact=True)


def _np_hardtanh(x: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    at_least = np.where(x < low, low, x)
    return np.where(at_least > high, high, at_least)


def _hardtanh_expression(e: ScalarExpression, x: int, low: int, high: int) -> int:
    at_least = e("select", e.test("lt", x, low), low, x)
    return e("select", e.test("gt", at_least, high), high, at_least)


hardtanh = declare("hardtanh", 3, _np_hardtanh, _hardtanh_expression,
                   lambda b, g, z, x, low, high: b.where(b.logical_or(b.le(x, low), b.ge(x, high)),
                                                         b.scalar(0.0, g), g), None, None,
                   domain="number", within=[((-0.9, 0.9),), ((-1.2, -1.1),), ((1.1, 1.2),)], exact=True)
"""x within two numbers, not NaN; no derivative at the bounds, nor by them."""

# -- interpolation ----------------------------------------------------------------------------------------------------


def _np_lerp(x: np.ndarray, y: np.ndarray, weight: np.ndarray) -> np.ndarray:
    return np.where(np.abs(weight) < 0.5, x + weight * (y - x), y + (weight - 1) * (y - x))


def _lerp_expression(e: ScalarExpression, x: int, y: int, weight: int) -> int:
    gap = e("sub", y, x)
    from_x = e("fma", weight, gap, x)
    from_y = e("fma", e("sub", weight, e.const(1.0)), gap, y)
    return e("select", e.test("lt", e("abs", weight), e.const(0.5)), from_x, from_y)


lerp = declare("lerp", 3, _np_lerp, _lerp_expression,
               lambda b, g, z, x, y, w: b.mul(g, b.sub(b.scalar(1.0, w), w)),
               lambda b, g, z, x, y, w: b.mul(g, w), lambda b, g, z, x, y, w: b.mul(g, b.sub(y, x)))
"""From x to y by weight, measured from the end that is nearer: exact at both."""

# -- logarithms -------------------------------------------------------------------------------------------------------


def _np_xlogy(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return np.where((x == 0) & ~np.isnan(y), 0.0, x * np.log(y))


def _xlogy_expression(e: ScalarExpression, x: int, y: int) -> int:
    flat = e.test("and", e.test("eq", x, e.const(0.0)), e.test("eq", y, y))
    return e("select", flat, e.const(0.0), e("mul", x, e("log", y)))


def _xlogy_partial(b: Builder, g: Value, z: Value, x: Value, y: Value) -> Value:
    """g * log(y), and 0 where nothing is multiplied by the logarithm of what has none."""
    zero = b.scalar(0.0, x)
    flat = b.logical_and(b.eq(x, zero), b.le(y, zero))
    return b.where(flat, zero, b.xlogy(g, y))


xlogy = declare("xlogy", 2, _np_xlogy, _xlogy_expression, _xlogy_partial,
                lambda b, g, z, x, y: b.div(b.mul(g, x), y), within=[AWAY_FROM_ZERO, POSITIVE],
                surface=Surface("input * log(other), and 0 where input is 0 (unless other is NaN)",
                                special=("xlogy",)))


def _np_binary_cross_entropy(p: np.ndarray, t: np.ndarray) -> np.ndarray:
    return (t - 1) * np.maximum(np.log1p(-p), _LEAST_LOG) - t * np.maximum(np.log(p), _LEAST_LOG)


def _binary_cross_entropy_expression(e: ScalarExpression, p: int, t: int) -> int:
    least = e.const(_LEAST_LOG)
    yes, no = e("max", e("log", p), least), e("max", e("log1p", e("neg", p)), least)
    return e("sub", e("mul", e("sub", t, e.const(1.0)), no), e("mul", t, yes))


def _binary_cross_entropy_partial(b: Builder, g: Value, z: Value, p: Value, t: Value) -> Value:
    """g * (p - t) / (p * (1 - p)), the divisor at least 1e-12."""
    spread = b.mul(b.sub(b.scalar(1.0, p), p), p)
    return b.div(b.mul(g, b.sub(p, t)), b.clamp_min(spread, b.scalar(_LEAST_SLOPE, p)))


def _binary_cross_entropy_target(b: Builder, g: Value, z: Value, p: Value, t: Value) -> Value:
    """g * (log(1 - p) - log(p)), infinite where PyTorch's is."""
    return b.mul(g, b.sub(b.log1p(b.neg(p)), b.log(p)))


binary_cross_entropy = declare("binary_cross_entropy", 2, _np_binary_cross_entropy, _binary_cross_entropy_expression,
                               _binary_cross_entropy_partial, _binary_cross_entropy_target,
                               within=[((0.1, 0.9),), ((0.1, 0.9),)], tolerance=4.0)

if not TYPE_CHECKING:                       # `from guarded import *` gives the rows, not what they are made with
    __all__ = [name for name, value in globals().items() if isinstance(value, Elementwise)]
