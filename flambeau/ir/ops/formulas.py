"""Functions that are long formulas: written once, in scalar ops, and evaluated by NumPy in float64 where the meaning is
asked for. Tests hold them against other libraries instead of against a second writing.

The polynomials of the files that use this are Chebyshev interpolations on an interval, computed with 50 digits and written
in powers of t, which is the interval taken to [-1, 1]; each is good to 2**-53 of its greatest value."""
from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, Final

import numpy as np

from flambeau.ir import dtypes
from flambeau.ir.ops.families import Elementwise, declare


class ArrayExpression:
    """What a ScalarExpression is, over float64 arrays: `e("mul", x, e.const(2))` is the product."""

    dtype = dtypes.f64

    def __call__(self, op: str, *operands: Any) -> Any:
        return _MEANINGS[op](*operands)

    test = __call__

    def const(self, value: float) -> Any:
        return np.float64(value)


def _erf(function: Callable[[float], float]) -> Callable[[Any], Any]:
    ufunc = np.frompyfunc(function, 1, 1)
    return lambda x: np.asarray(ufunc(x)).astype(np.float64)


_MEANINGS: Final[dict[str, Callable[..., Any]]] = {
    "add": np.add, "sub": np.subtract, "mul": np.multiply, "div": np.divide, "neg": np.negative, "abs": np.abs,
    "min": np.minimum, "max": np.maximum, "sqrt": np.sqrt, "exp": np.exp, "expm1": np.expm1, "log": np.log,
    "log1p": np.log1p, "pow": np.power, "sin": np.sin, "cos": np.cos, "erfc": _erf(math.erfc), "floor": np.floor,
    "round": np.rint, "copysign": np.copysign, "select": np.where, "eq": np.equal, "ne": np.not_equal, "lt": np.less,
    "le": np.less_equal, "gt": np.greater, "ge": np.greater_equal, "and": np.logical_and, "or": np.logical_or,
    "isnan": np.isnan, "isinf": np.isinf,
}


def meaning(expression: Callable[..., Any]) -> Callable[..., np.ndarray]:
    """An expression over arrays, in float64."""
    def evaluate(*operands: np.ndarray) -> np.ndarray:
        return np.asarray(expression(ArrayExpression(), *[np.asarray(x, np.float64) for x in operands]))

    return evaluate


def formula(name: str, arity: int, expression: Callable[..., Any], *partials: Any, **options: Any) -> Elementwise:
    """A row whose meaning is its expression; every dtype is computed in float64, for the formulas are made for that, and
    what they go through may overflow in fewer bits (bfloat16 has float32's range)."""
    return declare(name, arity, meaning(expression), expression, *partials, is_wide=True, **options)


# -- what formulas are written with -----------------------------------------------------------------------------------


def polynomial(e: Any, t: Any, coefficients: Sequence[float]) -> Any:
    """c[0] + c[1] t + c[2] t**2 + ..."""
    value = e.const(coefficients[-1])
    for c in reversed(coefficients[:-1]):
        value = e("add", e("mul", value, t), e.const(c))
    return value


def fitted(e: Any, x: Any, low: float, high: float, coefficients: Sequence[float]) -> Any:
    """The polynomial of x on [low, high]."""
    scale = 2.0 / (high - low)
    return polynomial(e, e("sub", e("mul", x, e.const(scale)), e.const((low + high) / (high - low))), coefficients)


def times(e: Any, x: Any, factor: float) -> Any:
    return e("mul", x, e.const(factor))


def plus(e: Any, x: Any, addend: float) -> Any:
    return e("add", x, e.const(addend))


def sum_of(e: Any, first: Any, *rest: Any) -> Any:
    for x in rest:
        first = e("add", first, x)
    return first


def product_of(e: Any, first: Any, *rest: Any) -> Any:
    for x in rest:
        first = e("mul", first, x)
    return first


def off_integer(e: Any, x: Any) -> Any:
    """x less the integer near it, exactly: what sines of pi * x are taken of."""
    return e("sub", x, e("round", x))
