"""The loop level's scalar ops, one row per op: what it takes and gives, its NumPy meaning over whole arrays of operands,
what it costs. A backend adds how it is computed, in one table of its own; nothing else lists these ops.

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
from flambeau.ir.records import dataclass

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


# -- the table --------------------------------------------------------------------------------------------------------

FLOAT: Final = frozenset({"float"})
INTEGER: Final = frozenset({"int", "uint"})
BOOL: Final = frozenset({"bool"})
NUMBER: Final = FLOAT | INTEGER
BITS: Final = INTEGER | BOOL
ANY: Final = NUMBER | BOOL


@dataclass(frozen=True)
class ScalarOp:
    """One op of the scalar language.

    - `kinds`: the kinds of dtype it takes; operands have one dtype, and so has the result. Empty where the rule is the
      op's own (`ir.kernel.types`).
    - `meaning`: over arrays of operands; None for what needs more than its operands.
    - `is_wide`: no hardware rounds it correctly, so the meaning is taken in f64 and rounded once.
    - `is_test`: gives bool.
    - `weight`: about how many vector instructions it takes.
    """

    arity: int
    kinds: frozenset[str] = frozenset()
    meaning: Callable[..., Array] | None = None
    is_wide: bool = False
    is_test: bool = False
    weight: int = 1


def _wide(arity: int, weight: int, meaning: Callable[..., Array]) -> ScalarOp:
    return ScalarOp(arity, FLOAT, meaning, is_wide=True, weight=weight)


def _test(arity: int, kinds: frozenset[str], meaning: Callable[..., Array]) -> ScalarOp:
    return ScalarOp(arity, kinds, meaning, is_test=True)


SCALAR_OPS: Final[dict[str, ScalarOp]] = {
    # leaves
    "const": ScalarOp(0, weight=0),         # attr: Python float | int | bool
    "index": ScalarOp(0),                   # attr: dim number; the i64 value of that iteration dim
    "load": ScalarOp(0),                    # attr: Address
    "affine": ScalarOp(0),                  # attr: Address of no buffer (-1), unguarded; its i64 value. It moves with the
                                            # dims as an address does; `finish` spells it out before code is made
    "acc": ScalarOp(0),                     # contraction epilogue only: the accumulator at this point
    "cast": ScalarOp(1),                    # to Instr.dtype: saturating float -> int, NaN -> 0; int -> int wraps; to
                                            # bool is != 0
    # arithmetic (int: two's complement wrap; float: IEEE)
    "add": ScalarOp(2, NUMBER, np.add),
    "sub": ScalarOp(2, NUMBER, np.subtract),
    "mul": ScalarOp(2, NUMBER, np.multiply),
    "div": ScalarOp(2, FLOAT, np.divide, weight=4),
    "floordiv": ScalarOp(2, NUMBER, _nonzero_divisor(np.floor_divide), weight=32),  # Python's (floor) semantics
    "mod": ScalarOp(2, NUMBER, _nonzero_divisor(_mod), weight=32),      # too; a zero rest has the dividend's sign
    "fmod": ScalarOp(2, NUMBER, _nonzero_divisor(np.fmod), weight=32),  # C's (truncating) semantics
    "truncdiv": ScalarOp(2, NUMBER, _nonzero_divisor(_truncdiv), weight=32),
    "neg": ScalarOp(1, NUMBER, np.negative),
    "abs": ScalarOp(1, NUMBER, np.abs),
    "sign": ScalarOp(1, NUMBER, np.sign),
    "copysign": ScalarOp(2, FLOAT, np.copysign),                        # the first's magnitude, the second's sign
    "min": ScalarOp(2, ANY, _extremum(np.minimum, -1)),                 # propagate NaN
    "max": ScalarOp(2, ANY, _extremum(np.maximum, 1)),
    "fma": ScalarOp(3, NUMBER, _fma),
    "pow": ScalarOp(2, NUMBER, _pow, weight=32),
    # roots, exponentials, logarithms
    "sqrt": ScalarOp(1, FLOAT, np.sqrt, weight=4),
    "rsqrt": _wide(1, 4, lambda x: 1.0 / np.sqrt(x)),
    "exp": _wide(1, 16, np.exp),
    "exp2": _wide(1, 16, np.exp2),
    "expm1": _wide(1, 24, np.expm1),
    "log": _wide(1, 16, np.log),
    "log2": _wide(1, 16, np.log2),
    "log10": _wide(1, 16, np.log10),
    "log1p": _wide(1, 24, np.log1p),
    # angles
    "sin": _wide(1, 24, np.sin),
    "cos": _wide(1, 24, np.cos),
    "tan": _wide(1, 24, np.tan),
    "asin": _wide(1, 24, np.arcsin),
    "acos": _wide(1, 24, np.arccos),
    "atan": _wide(1, 24, np.arctan),
    "atan2": _wide(2, 24, np.arctan2),
    "sinh": _wide(1, 16, np.sinh),
    "cosh": _wide(1, 16, np.cosh),
    "tanh": _wide(1, 16, np.tanh),
    "asinh": _wide(1, 32, np.arcsinh),
    "acosh": _wide(1, 32, np.arccosh),
    "atanh": _wide(1, 32, np.arctanh),
    # the error function
    "erf": _wide(1, 16, _elementwise(math.erf)),
    "erfc": _wide(1, 16, _elementwise(math.erfc)),
    "sigmoid": _wide(1, 16, _sigmoid),
    # rounding
    "floor": ScalarOp(1, FLOAT, np.floor),
    "ceil": ScalarOp(1, FLOAT, np.ceil),
    "trunc": ScalarOp(1, FLOAT, np.trunc),
    "round": ScalarOp(1, FLOAT, np.rint),                               # half to even
    # tests
    "eq": _test(2, ANY, np.equal),
    "ne": _test(2, ANY, np.not_equal),
    "lt": _test(2, ANY, np.less),
    "le": _test(2, ANY, np.less_equal),
    "gt": _test(2, ANY, np.greater),
    "ge": _test(2, ANY, np.greater_equal),
    "isnan": _test(1, FLOAT, np.isnan),
    "isinf": _test(1, FLOAT, np.isinf),
    "isfinite": _test(1, FLOAT, np.isfinite),
    # bitwise on ints, logical on bool
    "and": ScalarOp(2, BITS, np.bitwise_and),
    "or": ScalarOp(2, BITS, np.bitwise_or),
    "xor": ScalarOp(2, BITS, np.bitwise_xor),
    "not": ScalarOp(1, BITS, np.invert),
    "shl": ScalarOp(2, INTEGER, np.left_shift),                         # shifts past the width give 0 (shr: the sign),
    "shr": ScalarOp(2, INTEGER, np.right_shift),                        # as NumPy's do
    # a choice: (bool, a, b)
    "select": ScalarOp(3, meaning=np.where),
    # operands (bool, i64), attr: nonzero status; where the bool is false the kernel ends with that status, the i64 as
    # its detail. No value. A check is made before the loads and stores that come after it and read what it reads.
    "check": ScalarOp(2),
    # Philox-4x32-10, operands (counter_lo u64, counter_hi u64, key u64); attr: which u32 word, 0..3
    "philox": ScalarOp(3, weight=32),
}


def evaluate(op: str, operands: Sequence[Array], dtype: DType) -> Array:
    """`op` of `operands` (broadcast together), in the compute type of `dtype`, the op's result type.

    Raises KernelError with status 2 if an integer divisor is 0, KeyError if `op` needs more than its operands.
    """
    row = SCALAR_OPS[op]
    if row.meaning is None:
        raise KeyError(op)
    return rounded(row.meaning(*[x.astype(np.float64) for x in operands] if row.is_wide else operands), dtype)
