"""Integer arithmetic that never traps and never is poison: division, remainders, powers, shifts.

A zero divisor is replaced by 1 here; whoever must report it asks `safe_divisor` for the lanes.
"""

from __future__ import annotations

from collections.abc import Callable

import llvmlite.ir as ll

from flambeau.codegen.cpu.llvm.emitter import F32, F64, Emitter, vector_type
from flambeau.codegen.cpu.vmath.vec import Vec, known_number, where, while_any

_LONGEST_CHAIN = 64  # a constant exponent up to this is a chain of products


def safe_divisor(divisor: Vec) -> tuple[Vec, Vec]:
    """(divisor with zeros replaced by 1, the lanes that were zero)."""
    is_zero = divisor.equals(0)
    return where(is_zero, 1, divisor), is_zero


def truncdiv(a: Vec, b: Vec, signed: bool) -> Vec:
    """Quotient toward zero; MIN / -1 wraps to MIN; b = 0 divides by 1."""
    divisor, _ = safe_divisor(b)
    if not signed:
        return _divide(a, divisor, signed)
    # MIN / -1 overflows, which traps on x86: divide by -1 by negating.
    by_minus_one = divisor.equals(-1)
    quotient = _divide(a, where(by_minus_one, 1, divisor), signed)
    return where(by_minus_one, -a, quotient)


def fmod(a: Vec, b: Vec, signed: bool) -> Vec:
    """Remainder with the sign of a (C)."""
    divisor, _ = safe_divisor(b)
    return a - truncdiv(a, b, signed) * divisor


def floordiv(a: Vec, b: Vec, signed: bool) -> Vec:
    """Python's //: toward minus infinity."""
    quotient = truncdiv(a, b, signed)
    if not signed:
        return quotient
    divisor, _ = safe_divisor(b)
    rest = a - quotient * divisor
    crosses = rest.differs(0) & ((rest ^ divisor) < 0)
    return where(crosses, quotient - 1, quotient)


def mod(a: Vec, b: Vec, signed: bool) -> Vec:
    """Python's %: with the sign of b."""
    rest = fmod(a, b, signed)
    if not signed:
        return rest
    divisor, _ = safe_divisor(b)
    crosses = rest.differs(0) & ((rest ^ divisor) < 0)
    return where(crosses, rest + divisor, rest)


def _divide(a: Vec, b: Vec, signed: bool) -> Vec:
    """Truncating quotient of lanes that cannot trap.

    No x86 vector unit divides integers, but a float quotient cut to an integer is exact when the mantissa is wider
    than the operands: f32 serves 16 bits, f64 32 bits. LLVM's own form serves 64 bits, scalars and constants.
    """
    e = a.emitter
    if a.lanes == 1 or a.bit_width == 64 or isinstance(b.value, ll.Constant):
        return a.of((e.sdiv if signed else e.udiv)(a.value, b.value))
    kind = vector_type(F32 if a.bit_width <= 16 else F64, a.lanes)
    convert: Callable[..., ll.Value] = e.sitofp if signed else e.uitofp
    quotient = e.fdiv(convert(a.value, kind), convert(b.value, kind))
    return a.of((e.fptosi if signed else e.fptoui)(quotient, a.value.type))


def power(a: Vec, b: Vec, signed: bool) -> Vec:
    """a^b modulo 2^bits by squaring. A negative exponent gives the truncated real power: 1, -1 or 0 (0^-k is 0)."""
    known = known_number(b)
    if isinstance(known, int) and 0 <= known <= _LONGEST_CHAIN:
        return _chain(a, known)
    exponent = where(b < 0, 0, b) if signed else b
    result, _, _ = while_any([a.constant(1), a, exponent], lambda r, s, n: n.differs(0), _square_step)
    if not signed:
        return result
    odd_sign = where((b & 1).differs(0), a, 1)
    unit = where(a.equals(1) | a.equals(-1), odd_sign, 0)
    return where(b < 0, unit, result)


def _square_step(result: Vec, square: Vec, exponent: Vec) -> list[Vec]:
    taken = where((exponent & 1).differs(0), result * square, result)
    return [taken, square * square, exponent.logical_right(1)]


def _chain(a: Vec, exponent: int) -> Vec:
    result, square = None, a
    while exponent:
        if exponent & 1:
            result = square if result is None else result * square
        exponent >>= 1
        square = square * square if exponent else square
    return a.constant(1) if result is None else result


def shift_left(a: Vec, amount: Vec) -> Vec:
    """a << amount; 0 for amounts of the bit width and more, and for negative ones."""
    fits = amount.below(a.bit_width)
    return where(fits, a << where(fits, amount, 0), 0)


def shift_right(a: Vec, amount: Vec, signed: bool) -> Vec:
    """a >> amount; amounts outside the width leave the sign (signed) or 0."""
    fits = amount.below(a.bit_width)
    if signed:
        return a >> where(fits, amount, a.bit_width - 1)
    return where(fits, a.logical_right(where(fits, amount, 0)), 0)


def extreme(a: Vec, b: Vec, name: str, signed: bool) -> Vec:
    """Integer min or max."""
    return a.of(a.emitter.overloaded(("s" if signed else "u") + name, a.value, b.value))


def compare(e: Emitter, operator: str, a: Vec, b: Vec, signed: bool) -> Vec:
    """Integer comparison by sign."""
    build = e.icmp_signed if signed else e.icmp_unsigned
    return a.of(build(operator, a.value, b.value))
