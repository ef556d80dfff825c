"""The NumPy meaning of the loop level's scalar ops, one row per op, over whole arrays of operands.

Operands and results are in the dtype's compute type (`dtypes.to_compute`): a bf16 value is a float32 array whose
numbers are all bf16 numbers. Functions that no hardware rounds correctly are taken in f64 and rounded once, so an
f32 kernel can be held against them to a fraction of an ulp. Written without looking at any backend: if they
shared code, they would share mistakes.
"""
from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Final

import numpy as np

from flambeau.errors import KernelError
from flambeau.ir import dtypes
from flambeau.ir.dtypes import DType

Array = np.ndarray

STATUS_INDEX: Final = 1
STATUS_INT_DIVISION: Final = 2


def rounded(values: Array, dtype: DType) -> Array:
    """`values` in the compute type of `dtype`, each a number that `dtype` can hold (bf16: rounded to even)."""
    values = np.asarray(values).astype(dtype.compute, copy=False)
    return dtypes.bf16_to_f32(dtypes.f32_to_bf16(values)) if dtype is dtypes.bf16 else values


def constant(value: float | int | bool, dtype: DType) -> Array:
    """The 0-d array of `value` in `dtype`."""
    return rounded(np.array(value, np.float64 if dtype.kind == "float" else dtype.storage), dtype)


def cast(values: Array, target: DType) -> Array:
    """Float to int saturates and takes NaN to 0; int to int wraps; to bool is `!= 0`."""
    if target is dtypes.bool_:
        return values != 0
    if target.is_integer:
        return _saturated(values, target) if values.dtype.kind == "f" else values.astype(target.storage)
    if target is dtypes.f16:                # through f64, which holds every number that f16 does not overflow on
        values = values.astype(np.float64)
    return rounded(values, target)


def _saturated(values: Array, target: DType) -> Array:
    info = np.iinfo(target.storage)
    wide = np.trunc(values.astype(np.float64))
    above, below = wide >= float(info.max) + (0.0 if info.bits == 64 else 1.0), wide < float(info.min)
    inside = np.where(above | below | np.isnan(wide), 0.0, wide).astype(target.storage)
    return np.where(above, target.storage.type(info.max), np.where(below, target.storage.type(info.min), inside))


def _nonzero_divisor(op: Callable[[Array, Array], Array]) -> Callable[[Array, Array], Array]:
    """`op`, which on integers first looks for a zero divisor, as a kernel does. Raises KernelError."""

    def checked(lhs: Array, rhs: Array) -> Array:
        if rhs.dtype.kind in "iu" and bool(np.any(rhs == 0)):
            raise KernelError("integer division by zero", status=STATUS_INT_DIVISION)
        return op(lhs, rhs)

    return checked


def _truncdiv(lhs: Array, rhs: Array) -> Array:
    if lhs.dtype.kind == "f":
        return np.trunc(lhs / rhs)
    floor = np.floor_divide(lhs, rhs)
    inexact = np.remainder(lhs, rhs) != 0
    return floor + (inexact & ((lhs < 0) != (rhs < 0))).astype(floor.dtype)


def _extremum(ufunc: Callable[[Array, Array], Array], sign: int) -> Callable[[Array, Array], Array]:
    """The ufunc, for which +0 is greater than -0. `sign` is -1 for the minimum, which is -max(-lhs, -rhs)."""

    def chosen(lhs: Array, rhs: Array) -> Array:
        found = ufunc(lhs, rhs)
        if found.dtype.kind != "f":
            return found
        return np.where((lhs == 0) & (rhs == 0), sign * (sign * lhs + sign * rhs), found)

    return chosen


def _two_sum(lhs: Array, rhs: Array) -> tuple[Array, Array]:
    """(sum, its rounding error), exactly. Knuth, TAOCP vol. 2, section 4.2.2, theorem B."""
    total = lhs + rhs
    virtual = total - lhs
    return total, (lhs - (total - virtual)) + (rhs - virtual)


def _two_product(lhs: Array, rhs: Array) -> tuple[Array, Array]:
    """(product, its rounding error), exactly, for f64 of moderate size. Dekker 1971, by Veltkamp splitting."""
    product = lhs * rhs
    lhs_high, rhs_high = ((134217729.0 * x) - (134217729.0 * x - x) for x in (lhs, rhs))
    lhs_low, rhs_low = lhs - lhs_high, rhs - rhs_high
    error = lhs_low * rhs_low - (((product - lhs_high * rhs_high) - lhs_low * rhs_high) - lhs_high * rhs_low)
    return product, error


def _fma(lhs: Array, rhs: Array, addend: Array) -> Array:
    """lhs * rhs + addend with one rounding: exact for the floats narrower than f64, within an ulp for f64."""
    if lhs.dtype.kind != "f":
        return lhs * rhs + addend
    wide = [x.astype(np.float64) for x in (lhs, rhs, addend)]
    product, product_error = _two_product(wide[0], wide[1])
    total, sum_error = _two_sum(product, wide[2])
    error = sum_error + product_error
    plain = wide[0] * wide[1] + wide[2]
    exact = np.isfinite(error) & np.isfinite(total)
    if lhs.dtype == np.float64:
        return np.where(exact, total + error, plain)
    return np.where(exact, _to_odd(total, error), plain)


def _to_odd(total: Array, error: Array) -> Array:
    """`total + error` rounded to odd, so that rounding again to a shorter type is as if done once.
    Boldo and Melquiond, "Emulation of a FMA and correctly rounded sums", 2008, section III."""
    inexact_and_even = (error != 0) & ((np.asarray(total).view(np.int64) & 1) == 0)
    toward = np.where(error > 0, np.inf, -np.inf)
    return np.where(inexact_and_even, np.nextafter(total, toward), total)


def _pow(base: Array, exponent: Array) -> Array:
    """Floats: C's pow. Ints wrap, and a negative exponent gives the reciprocal truncated: 1 and -1 alone survive."""
    if base.dtype.kind == "f":
        return np.power(base.astype(np.float64), exponent.astype(np.float64))
    if base.dtype.kind == "u":
        return np.power(base, exponent)
    reciprocal = np.where(base == 1, 1, np.where(base == -1, 1 - 2 * (exponent & 1), 0))
    return np.where(exponent < 0, reciprocal, np.power(base, np.maximum(exponent, 0))).astype(base.dtype)


def _mod(x: Array, y: Array) -> Array:
    """The remainder with the sign of y, though a zero has x's."""
    rest = np.fmod(x, y)
    return np.where((rest != 0) & ((rest < 0) != (y < 0)), rest + y, rest)


def _sigmoid(x: Array) -> Array:
    tail = np.exp(-np.abs(x))               # in (0, 1], so neither side overflows
    return np.where(x >= 0, 1.0, tail) / (1.0 + tail)


def _elementwise(function: Callable[[float], float]) -> Callable[[Array], Array]:
    ufunc = np.frompyfunc(function, 1, 1)
    return lambda x: np.asarray(ufunc(x), np.float64)


# In the operands' own type: IEEE, or exact.
_PLAIN: Final[dict[str, Callable[..., Array]]] = {
    "add": np.add, "sub": np.subtract, "mul": np.multiply, "div": np.divide,
    "floordiv": _nonzero_divisor(np.floor_divide), "mod": _nonzero_divisor(_mod),
    "fmod": _nonzero_divisor(np.fmod), "truncdiv": _nonzero_divisor(_truncdiv),
    "neg": np.negative, "abs": np.abs, "sign": np.sign, "min": _extremum(np.minimum, -1), "max": _extremum(np.maximum, 1),
    "fma": _fma, "pow": _pow, "sqrt": np.sqrt,
    "floor": np.floor, "ceil": np.ceil, "trunc": np.trunc, "round": np.rint,
    "eq": np.equal, "ne": np.not_equal, "lt": np.less, "le": np.less_equal, "gt": np.greater,
    "ge": np.greater_equal,
    "and": np.bitwise_and, "or": np.bitwise_or, "xor": np.bitwise_xor, "not": np.invert,
    "shl": np.left_shift, "shr": np.right_shift,        # NumPy's already give 0 or the sign past the width
    "isnan": np.isnan, "isinf": np.isinf, "isfinite": np.isfinite,
    "select": np.where,
}

# In f64, rounded once.
_WIDE: Final[dict[str, Callable[..., Array]]] = {
    "rsqrt": lambda x: 1.0 / np.sqrt(x),
    "exp": np.exp, "exp2": np.exp2, "expm1": np.expm1,
    "log": np.log, "log2": np.log2, "log10": np.log10, "log1p": np.log1p,
    "sin": np.sin, "cos": np.cos, "tan": np.tan, "asin": np.arcsin, "acos": np.arccos, "atan": np.arctan,
    "atan2": np.arctan2, "sinh": np.sinh, "cosh": np.cosh, "tanh": np.tanh,
    "asinh": np.arcsinh, "acosh": np.arccosh, "atanh": np.arctanh,
    "erf": _elementwise(math.erf), "erfc": _elementwise(math.erfc), "sigmoid": _sigmoid,
}

COMPUTED_OPS: Final = frozenset(_PLAIN) | frozenset(_WIDE)      # what `evaluate` knows


def evaluate(op: str, operands: Sequence[Array], dtype: DType) -> Array:
    """`op` of `operands` (broadcast together), in the compute type of `dtype`, the op's result type.

    Raises KernelError with status 2 if an integer divisor is 0, KeyError if `op` needs more than its operands.
    """
    if op in _WIDE:
        return rounded(_WIDE[op](*(x.astype(np.float64) for x in operands)), dtype)
    return rounded(_PLAIN[op](*operands), dtype)
