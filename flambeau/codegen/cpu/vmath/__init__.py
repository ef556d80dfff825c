"""Vector maths as explicit LLVM IR: every op of the kernel level's scalar vocabulary, at any lane count.

`emit` is the one entry. Values are in compute form (see `emitter`): f16 and bf16 arrive and leave as f32, and
results are rounded to their dtype; bool is i1. Special values (NaN, infinities, -0.0, subnormals) follow IEEE and C.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

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
from flambeau.codegen.cpu.vmath.vec import Vec, fma, magnitude, square_root, where, with_sign_of

__all__ = ["FORMS", "Vec", "cast", "emit", "emit_philox", "safe_divisor"]

Form = Callable[..., Vec]


class Forms(NamedTuple):
    """How one scalar op is computed: on floats, on integers (a last argument says whether they are signed) and on
    bools, each where the op's row in `SCALAR_OPS` takes it. is_exact: a float result needs no rounding to f16 or bf16,
    being one of the operands or a small integer."""

    floats: Form | None = None
    integers: Form | None = None
    bools: Form | None = None
    is_exact: bool = False


def _sign(a: Vec, signed: bool) -> Vec:
    return where(a.equals(0), a, where(a < 0, a.constant(-1), 1) if signed else a.constant(1))


def _compares(symbol: str) -> Forms:
    def floats(a: Vec, b: Vec) -> Vec:
        build = a.emitter.fcmp_unordered if symbol == "!=" else a.emitter.fcmp_ordered
        return a.of(build(symbol, a.value, b.value))

    def integers(a: Vec, b: Vec, signed: bool) -> Vec:
        return integer.compare(a.emitter, symbol, a, b, signed)

    return Forms(floats, integers, lambda a, b: integers(a, b, False), is_exact=True)


# One row per scalar op of `ir.kernel.scalar`, but for those of `emit` that need more than their operands.
FORMS: dict[str, Forms] = {
    "add": Forms(lambda a, b: a + b, lambda a, b, s: a + b),
    "sub": Forms(lambda a, b: a - b, lambda a, b, s: a - b),
    "mul": Forms(lambda a, b: a * b, lambda a, b, s: a * b),
    "div": Forms(lambda a, b: a / b),
    "floordiv": Forms(division.floordiv, integer.floordiv),
    "mod": Forms(division.mod, integer.mod),
    "fmod": Forms(division.fmod, integer.fmod),
    "truncdiv": Forms(division.truncdiv, integer.truncdiv),
    "neg": Forms(lambda a: -a, lambda a, s: -a, is_exact=True),
    "abs": Forms(magnitude, lambda a, s: where(a < 0, -a, a) if s else a, is_exact=True),
    "sign": Forms(rounding.sign, _sign, is_exact=True),
    "copysign": Forms(with_sign_of, is_exact=True),
    "min": Forms(rounding.minimum, lambda a, b, s: integer.extreme(a, b, "min", s), lambda a, b: a & b, is_exact=True),
    "max": Forms(rounding.maximum, lambda a, b, s: integer.extreme(a, b, "max", s), lambda a, b: a | b, is_exact=True),
    "fma": Forms(fma, lambda a, b, c, s: a * b + c),
    "pow": Forms(pow_, integer.power),
    "sqrt": Forms(square_root),
    "rsqrt": Forms(rsqrt),
    "exp": Forms(exp),
    "exp2": Forms(exp2),
    "expm1": Forms(expm1),
    "log": Forms(log),
    "log2": Forms(log2),
    "log10": Forms(log10),
    "log1p": Forms(log1p),
    "sin": Forms(sin),
    "cos": Forms(cos),
    "tan": Forms(tan),
    "asin": Forms(asin),
    "acos": Forms(acos),
    "atan": Forms(atan),
    "atan2": Forms(atan2),
    "sinh": Forms(sinh),
    "cosh": Forms(cosh),
    "tanh": Forms(tanh),
    "asinh": Forms(asinh),
    "acosh": Forms(acosh),
    "atanh": Forms(atanh),
    "erf": Forms(erf),
    "erfc": Forms(erfc),
    "sigmoid": Forms(sigmoid),
    "floor": Forms(rounding.floor, is_exact=True),
    "ceil": Forms(rounding.ceil, is_exact=True),
    "trunc": Forms(rounding.trunc, is_exact=True),
    "round": Forms(rounding.round_half_even, is_exact=True),
    "eq": _compares("=="),
    "ne": _compares("!="),
    "lt": _compares("<"),
    "le": _compares("<="),
    "gt": _compares(">"),
    "ge": _compares(">="),
    "isnan": Forms(Vec.is_nan, is_exact=True),
    "isinf": Forms(rounding.is_infinite, is_exact=True),
    "isfinite": Forms(rounding.is_finite, is_exact=True),
    "and": Forms(None, lambda a, b, s: a & b, lambda a, b: a & b),
    "or": Forms(None, lambda a, b, s: a | b, lambda a, b: a | b),
    "xor": Forms(None, lambda a, b, s: a ^ b, lambda a, b: a ^ b),
    "not": Forms(None, lambda a, s: ~a, lambda a: ~a),
    "shl": Forms(None, lambda a, b, s: integer.shift_left(a, b)),
    "shr": Forms(None, integer.shift_right),
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
    forms = FORMS[op]
    if is_float(name):
        assert forms.floats is not None, f"{op} has no meaning for {name}"
        result = forms.floats(*values).value
        return result if forms.is_exact else emitter.round_to(result, name)
    if name == "bool":
        assert forms.bools is not None, f"{op} has no meaning for bool"
        return forms.bools(*values).value
    assert forms.integers is not None, f"{op} has no meaning for {name}"
    return forms.integers(*values, is_signed(name)).value


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


def _name(dtype: Any) -> str:
    return dtype if isinstance(dtype, str) else dtype.name


def _rounded(number: float | int | bool, name: str) -> float | int:
    """The constant as its dtype holds it: f16 and bf16 constants are rounded before they widen."""
    if name not in ("f16", "bf16"):
        return number
    return round_to_half(float(number)) if name == "f16" else round_to_bf16(float(number))
