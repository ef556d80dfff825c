"""Elementwise ops beyond the elementary functions, one row each; most of them PyTorch has in torch.special.

Each is written in scalar ops that every backend has, so a row is all there is of it."""
from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

import numpy as np

from flambeau.ir.ops.families import Elementwise, ScalarExpression, declare, map_float, plus, scaled, square
from flambeau.ir.ops.sampling import AWAY_FROM_ZERO, POSITIVE
from flambeau.ir.ops.surface import Surface
from flambeau.ir.quantiles import inverse_error

if TYPE_CHECKING:
    from flambeau.ir.builder import Builder
    from flambeau.ir.graph import Value

_HALF_SQRT_PI: Final = math.sqrt(math.pi) / 2
_INSIDE_ONE: Final = ((-0.95, -0.6), (-0.5, -0.1), (0.1, 0.5), (0.6, 0.95))

# -- of one operand ---------------------------------------------------------------------------------------------------


def _np_sinc(x: np.ndarray) -> np.ndarray:
    size = np.abs(x)
    near = np.rint(size)
    sine = np.sin(np.pi * (size - near))
    return np.where(x == 0, 1.0, np.where(np.fmod(near, 2.0) == 0, sine, 0.0 - sine) / (np.pi * size))


def _sinc_expression(e: ScalarExpression, x: int) -> int:
    """The sine is taken of |x| less the integer near it, which is exact: pi * x would lose the digits that matter."""
    zero, half, pi = e.const(0.0), e.const(0.5), e.const(math.pi)
    size = e("abs", x)
    near = e("round", size)
    sine = e("sin", e("mul", pi, e("sub", size, near)))
    turns = e("mul", half, near)
    signed = e("select", e.test("eq", turns, e("floor", turns)), sine, e("sub", zero, sine))
    return e("select", e.test("eq", x, zero), e.const(1.0), e("div", signed, e("mul", pi, size)))


def _sinc_partial(b: Builder, g: Value, y: Value, x: Value) -> Value:
    """g * (cos(pi * x) - sinc(x)) / x, and 0 at 0."""
    zero = b.scalar(0.0, x)
    at_zero = b.eq(x, zero)
    slope = b.div(b.sub(b.cos(scaled(b, x, math.pi)), y), b.where(at_zero, b.scalar(1.0, x), x))
    return b.mul(g, b.where(at_zero, zero, slope))


sinc = declare("sinc", 1, _np_sinc, _sinc_expression, _sinc_partial, within=[AWAY_FROM_ZERO], tolerance=4.0,
               surface=Surface("sin(pi * x) / (pi * x), and 1 at 0", special=("sinc",)))


def _erfinv_expression(e: ScalarExpression, p: int) -> int:
    """A quotient of polynomials good to a few digits (in the tail one of sqrt(-log((1 - |p|) / 2))), then two steps of
    Newton's method on whichever of erf and erfc is small. The quotients are MATLAB's and PyTorch's."""
    def polynomial(z: int, *coefficients: float) -> int:
        value = e.const(coefficients[0])
        for c in coefficients[1:]:
            value = e("add", e("mul", value, z), e.const(c))
        return value

    s, one = e("abs", p), e.const(1.0)
    rest, z = e("sub", one, s), e("mul", s, s)
    middle = e("mul", s, e("div", polynomial(z, -0.140543331, 0.914624893, -1.645349621, 0.886226899),
                           polynomial(z, 0.012229801, -0.329097515, 1.442710462, -2.118377725, 1.0)))
    w = e("sqrt", e("neg", e("log", e("mul", rest, e.const(0.5)))))
    tail = e("div", polynomial(w, 1.641345311, 3.429567803, -1.624906493, -1.970840454),
             polynomial(w, 1.637067800, 3.543889200, 1.0))
    in_middle = e.test("lt", s, e.const(0.7))
    x = e("select", in_middle, middle, tail)
    for _ in range(2):
        residual = e("select", in_middle, e("sub", e("erf", x), s), e("sub", rest, e("erfc", x)))
        x = e("sub", x, e("mul", e("mul", residual, e.const(_HALF_SQRT_PI)), e("exp", e("mul", x, x))))
    beyond = e("select", e.test("eq", s, one), e.const(math.inf), e.const(math.nan))
    return e("copysign", e("select", e.test("lt", s, one), x, beyond), p)


erfinv = declare("erfinv", 1, inverse_error, _erfinv_expression,
                 lambda b, g, y, x: b.mul(g, scaled(b, b.exp(square(b, y)), _HALF_SQRT_PI)),
                 within=[_INSIDE_ONE], tolerance=4.0,
                 surface=Surface("The number whose error function is x: NaN outside [-1, 1]", special=("erfinv",)))


def _np_entr(x: np.ndarray) -> np.ndarray:
    return np.where(x > 0, -x * np.log(x), np.where(x == 0, 0.0, np.where(x < 0, -np.inf, x)))


def _entr_expression(e: ScalarExpression, x: int) -> int:
    zero = e.const(0.0)
    outside = e("select", e.test("isnan", x), x, e.const(-math.inf))
    at_most_0 = e("select", e.test("eq", x, zero), zero, outside)
    return e("select", e.test("gt", x, zero), e("mul", e("neg", x), e("log", x)), at_most_0)


entr = declare("entr", 1, _np_entr, _entr_expression,
               lambda b, g, y, x: b.neg(b.mul(g, plus(b, b.log(x), 1.0))), within=[POSITIVE],
               surface=Surface("-x * log(x): 0 at 0, -inf below", is_special=True))

ndtr = declare("ndtr", 1, lambda x: 0.5 * map_float(math.erfc)(-x * math.sqrt(0.5)),
               lambda e, x: e("mul", e.const(0.5), e("erfc", e("mul", x, e.const(-math.sqrt(0.5))))),
               lambda b, g, y, x: b.mul(g, scaled(b, b.exp(scaled(b, square(b, x), -0.5)), 1 / math.sqrt(2 * math.pi))),
               tolerance=4.0, surface=Surface("The normal distribution function", is_special=True))

# -- of two -----------------------------------------------------------------------------------------------------------


def _logaddexp2_expression(e: ScalarExpression, x: int, y: int) -> int:
    """Equal infinities have the gap NaN; their sum is themselves."""
    gap = e("neg", e("abs", e("sub", x, y)))
    found = e("add", e("max", x, y), e("mul", e("log1p", e("exp2", gap)), e.const(1 / math.log(2))))
    return e("select", e.test("eq", x, y), e("add", x, e.const(1.0)), found)


logaddexp2 = declare("logaddexp2", 2, np.logaddexp2, _logaddexp2_expression,
                     lambda b, g, z, x, y: b.div(g, plus(b, b.exp2(b.sub(y, x)), 1.0)),
                     lambda b, g, z, x, y: b.div(g, plus(b, b.exp2(b.sub(x, y)), 1.0)),
                     surface=Surface("log2(2**input + 2**other), without overflow on the way", is_in_place=False))


def _np_xlog1py(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return np.where((x == 0) & ~np.isnan(y), 0.0, x * np.log1p(y))


def _xlog1py_expression(e: ScalarExpression, x: int, y: int) -> int:
    flat = e.test("and", e.test("eq", x, e.const(0.0)), e.test("eq", y, y))
    return e("select", flat, e.const(0.0), e("mul", x, e("log1p", y)))


def _xlog1py_partial(b: Builder, g: Value, z: Value, x: Value, y: Value) -> Value:
    """g * log1p(y), and 0 where nothing is multiplied by the logarithm of what has none."""
    zero = b.scalar(0.0, x)
    flat = b.logical_and(b.eq(x, zero), b.le(y, b.scalar(-1.0, y)))
    return b.where(flat, zero, b.xlog1py(g, y))


xlog1py = declare("xlog1py", 2, _np_xlog1py, _xlog1py_expression, _xlog1py_partial,
                  lambda b, g, z, x, y: b.div(b.mul(g, x), plus(b, y, 1.0)), within=[AWAY_FROM_ZERO, POSITIVE],
                  surface=Surface("input * log1p(other), and 0 where input is 0 (unless other is NaN)", is_special=True))

if not TYPE_CHECKING:                       # `from special_functions import *` gives the rows alone
    __all__ = [name for name, value in globals().items() if isinstance(value, Elementwise)]
