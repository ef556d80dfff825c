"""Vector maths as explicit LLVM IR: every op of the kernel level's scalar vocabulary, at any lane count.

`emit` is the one entry. Values are in compute form (see `emitter`): f16 and bf16 arrive and leave as f32, and
results are rounded to their dtype; bool is i1. Special values (NaN, infinities, -0.0, subnormals) follow IEEE and C.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import llvmlite.ir as ll

from flambeau.codegen.cpu.llvm.emitter import (
    Emitter,
    compute_type,
    constant,
    is_float,
    is_signed,
    round_to_bf16,
    round_to_half,
)
from flambeau.codegen.cpu.vmath import division, integer, rounding
from flambeau.codegen.cpu.vmath.conversion import cast
from flambeau.codegen.cpu.vmath.error_function import erf, erfc
from flambeau.codegen.cpu.vmath.exponential import cosh, exp, exp2, expm1, sigmoid, sinh, tanh
from flambeau.codegen.cpu.vmath.logarithm import acosh, asinh, atanh, log, log1p, log2, log10
from flambeau.codegen.cpu.vmath.philox import philox
from flambeau.codegen.cpu.vmath.power import pow_, rsqrt
from flambeau.codegen.cpu.vmath.trigonometric import acos, asin, atan, atan2, cos, sin, tan
from flambeau.codegen.cpu.vmath.vec import Vec, fma, magnitude, square_root, where

__all__ = ["Vec", "cast", "emit", "emit_philox", "safe_divisor"]

_COMPARISONS = {"eq": "==", "ne": "!=", "lt": "<", "le": "<=", "gt": ">", "ge": ">="}

# Float ops whose result needs no rounding to f16 or bf16, being one of the operands or a small integer.
_EXACT = {"neg", "abs", "sign", "min", "max", "floor", "ceil", "trunc", "round"}

_FLOAT: dict[str, Callable[..., Vec]] = {
    "add": lambda a, b: a + b, "sub": lambda a, b: a - b, "mul": lambda a, b: a * b, "div": lambda a, b: a / b,
    "neg": lambda a: -a, "abs": magnitude, "sign": rounding.sign, "fma": fma,
    "min": rounding.minimum, "max": rounding.maximum,
    "floordiv": division.floordiv, "mod": division.mod, "fmod": division.fmod, "truncdiv": division.truncdiv,
    "pow": pow_, "sqrt": square_root, "rsqrt": rsqrt,
    "exp": exp, "exp2": exp2, "expm1": expm1, "log": log, "log2": log2, "log10": log10, "log1p": log1p,
    "sin": sin, "cos": cos, "tan": tan, "asin": asin, "acos": acos, "atan": atan, "atan2": atan2,
    "sinh": sinh, "cosh": cosh, "tanh": tanh, "asinh": asinh, "acosh": acosh, "atanh": atanh,
    "erf": erf, "erfc": erfc, "sigmoid": sigmoid,
    "floor": rounding.floor, "ceil": rounding.ceil, "trunc": rounding.trunc, "round": rounding.round_half_even,
    "isnan": Vec.is_nan, "isinf": rounding.is_infinite, "isfinite": rounding.is_finite,
}  # fmt: skip

# Each takes (*operands, signed).
_INTEGER: dict[str, Callable[..., Vec]] = {
    "add": lambda a, b, s: a + b, "sub": lambda a, b, s: a - b, "mul": lambda a, b, s: a * b,
    "fma": lambda a, b, c, s: a * b + c, "neg": lambda a, s: -a,
    "abs": lambda a, s: where(a < 0, -a, a) if s else a,
    "sign": lambda a, s: where(a.equals(0), a, where(a < 0, a.constant(-1), 1) if s else a.constant(1)),
    "min": lambda a, b, s: integer.extreme(a, b, "min", s), "max": lambda a, b, s: integer.extreme(a, b, "max", s),
    "floordiv": integer.floordiv, "mod": integer.mod, "fmod": integer.fmod, "truncdiv": integer.truncdiv,
    "pow": integer.power, "shl": lambda a, b, s: integer.shift_left(a, b), "shr": integer.shift_right,
    "floor": lambda a, s: a, "ceil": lambda a, s: a, "trunc": lambda a, s: a, "round": lambda a, s: a,
    "and": lambda a, b, s: a & b, "or": lambda a, b, s: a | b, "xor": lambda a, b, s: a ^ b, "not": lambda a, s: ~a,
}  # fmt: skip

# bool: arithmetic is logic, as in NumPy.
_LOGIC: dict[str, Callable[..., Vec]] = {
    "and": lambda a, b: a & b, "or": lambda a, b: a | b, "xor": lambda a, b: a ^ b, "not": lambda a: ~a,
    "min": lambda a, b: a & b, "max": lambda a, b: a | b, "mul": lambda a, b: a & b, "add": lambda a, b: a | b,
    "abs": lambda a: a, "sign": lambda a: a,
}  # fmt: skip


def emit(
    emitter: Emitter, op: str, dtype: Any, lanes: int, operands: Sequence[ll.Value], attr: Any = None
) -> ll.Value:
    """Build `op` on operands of `dtype` (a DType or its name) and return the result in compute form.

    lanes: lane count of the operands (1: scalars). attr: the number for "const", the result's dtype for "cast", the
    word 0..3 for "philox". dtype is the operands' type; "select" takes (mask, a, b) and the type of a and b, "cast"
    the source type, "philox" is u64 -> u32. Comparisons and is* give i1. Integer divisors of 0 act as 1: the caller
    reports them (`safe_divisor`). Asserts that the op and the dtype go together.
    """
    name = _name(dtype)
    match op:
        case "const":
            return constant(compute_type(name), _rounded(attr, name), lanes)
        case "cast":
            return cast(emitter, operands[0], name, _name(attr))
        case "select":
            return emitter.select(*operands)
        case "philox":
            return emit_philox(emitter, *operands)[attr]
    values = [Vec(emitter, operand) for operand in operands]
    assert all(value.lanes == lanes for value in values), f"{op}: operands must have {lanes} lanes"
    if op in _COMPARISONS:
        return _compare(op, name, *values).value
    if is_float(name):
        assert op in _FLOAT, f"{op} has no meaning for {name}"
        result = _FLOAT[op](*values).value
        return result if op in _EXACT or op.startswith("is") else emitter.round_to(result, name)
    if op in ("isnan", "isinf", "isfinite"):
        return constant(compute_type("bool"), op == "isfinite", lanes)
    if name == "bool":
        assert op in _LOGIC, f"{op} has no meaning for bool"
        return _LOGIC[op](*values).value
    assert op in _INTEGER, f"{op} has no meaning for {name}"
    return _INTEGER[op](*values, is_signed(name)).value


def safe_divisor(emitter: Emitter, divisor: ll.Value) -> tuple[ll.Value, ll.Value]:
    """(divisor with zeros replaced by 1, i1 lanes that were zero): what a caller needs to report the zeros."""
    safe, is_zero = integer.safe_divisor(Vec(emitter, divisor))
    return safe.value, is_zero.value


def emit_philox(
    emitter: Emitter, counter_lo: ll.Value, counter_hi: ll.Value, key: ll.Value
) -> tuple[ll.Value, ll.Value, ll.Value, ll.Value]:
    """All four u32 words. Asked again for the same operands in the same block, gives the same values."""
    where_built = (emitter.block.name, *(id(operand) for operand in (counter_lo, counter_hi, key)))
    if where_built not in emitter.memo:
        words = philox(*(Vec(emitter, operand) for operand in (counter_lo, counter_hi, key)))
        # The operands are kept beside the words, or their ids could be reused.
        emitter.memo[where_built] = (tuple(word.value for word in words), (counter_lo, counter_hi, key))
    return emitter.memo[where_built][0]


def _compare(op: str, name: str, a: Vec, b: Vec) -> Vec:
    if not is_float(name):
        return integer.compare(a.emitter, _COMPARISONS[op], a, b, is_signed(name))
    build = a.emitter.fcmp_unordered if op == "ne" else a.emitter.fcmp_ordered
    return a.of(build(_COMPARISONS[op], a.value, b.value))


def _name(dtype: Any) -> str:
    return dtype if isinstance(dtype, str) else dtype.name


def _rounded(number: float | int | bool, name: str) -> float | int:
    """The constant as its dtype holds it: f16 and bf16 constants are rounded before they widen."""
    if name not in ("f16", "bf16"):
        return number
    return round_to_half(float(number)) if name == "f16" else round_to_bf16(float(number))
