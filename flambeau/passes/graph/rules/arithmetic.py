"""Rules for elementwise ops. Each holds for every number, NaN, infinities and zeros of either sign included."""
from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Final

import numpy as np

from flambeau.ir import dtypes as dt
from flambeau.ir import ops
from flambeau.ir.dtypes import DType
from flambeau.ir.graph import Node, Value
from flambeau.passes.graph.rewrite import Rewriter, Rule

__all__ = ["NUMBERS", "RULES", "constant_sides", "inner", "number", "splat"]

Number = float | int | bool
NUMBERS: Final = ("constant", "broadcast")              # the ops that make what `number` knows
_ROUNDING: Final = frozenset({"floor", "ceil", "trunc", "round"})


def number(value: Value) -> Number | None:
    """The number that every element of `value` is, if that is known: a constant of one element, or one spread out."""
    op = value.node.op
    if type(op) is ops.Broadcast:
        op = value.node.operands[0].node.op
    return op.value.item() if type(op) is ops.Constant and op.value.array.size == 1 else None


def constant_sides(node: Node) -> Iterator[tuple[Value, Number]]:
    """(the other operand, number) for each operand of a commutative op that is a number."""
    x, y = node.operands
    for other, side in ((x, y), (y, x)):
        found = number(side)
        if found is not None and other.type == node.results[0].type:
            yield other, found


def _right(node: Node) -> tuple[Value, Number | None]:
    """The left operand if it has the result's type, and the number that the right one is."""
    x, y = node.operands
    return x, number(y) if x.type == node.results[0].type else None


def _is_zero(value: Number | None, dtype: DType, sign: int) -> bool:
    """Zero: of that sign where dtype is a float."""
    return value is not None and value == 0 and (not dtype.is_floating_point or math.copysign(1, value) == sign)


def inner(value: Value, *names: str) -> Value | None:
    """x if `value` is a unary op of one of these names on x."""
    return value.node.operands[0] if value.node.op.name in names else None


def splat(r: Rewriter, node: Node, value: Number) -> Value:
    """A constant of the node's type."""
    return r.full(node.results[0].type, value)


def _is_float(node: Node) -> bool:
    return node.operands[-1].dtype.is_floating_point


# -- numbers ----------------------------------------------------------------------------------------------------------


def _times_one(r: Rewriter, node: Node) -> Value | None:
    return next((x for x, c in constant_sides(node) if c == 1), None)


def _times_minus_one(r: Rewriter, node: Node) -> Value | None:
    return next((r.neg(x) for x, c in constant_sides(node) if c == -1), None)


def _times_zero(r: Rewriter, node: Node) -> Value | None:
    if _is_float(node):
        return None                         # NaN and infinities times 0 are NaN, negative numbers -0.0
    return next((splat(r, node, 0) for _, c in constant_sides(node) if c == 0), None)


def _over_one(r: Rewriter, node: Node) -> Value | None:
    x, c = _right(node)
    return x if c == 1 else None


def _over_minus_one(r: Rewriter, node: Node) -> Value | None:
    x, c = _right(node)
    return r.neg(x) if c == -1 else None


def _over_power_of_two(r: Rewriter, node: Node) -> Value | None:
    x, c = _right(node)
    if c is None or not math.isfinite(c) or abs(math.frexp(c)[0]) != 0.5:
        return None
    factor, limits = 1 / c, _float_limits(x.dtype)
    return r.mul(x, r.scalar(factor, x)) if limits[0] <= abs(factor) <= limits[1] else None


def _float_limits(dtype: DType) -> tuple[float, float]:
    """The smallest normal and the greatest finite number."""
    if dtype is dt.bf16:
        return 2.0**-126, 2.0**127
    limits = np.finfo(dtype.compute)
    return float(limits.tiny), float(limits.max)


def _plus_zero(r: Rewriter, node: Node) -> Value | None:
    """x + 0.0 must stay for floats: it makes 0.0 of -0.0."""
    return next((x for x, c in constant_sides(node) if _is_zero(c, x.dtype, -1)), None)


def _minus_zero(r: Rewriter, node: Node) -> Value | None:
    x, c = _right(node)
    return x if _is_zero(c, x.dtype, 1) else None


def _zero_minus(r: Rewriter, node: Node) -> Value | None:
    zero, x = node.operands
    is_negation = x.type == node.results[0].type and _is_zero(number(zero), x.dtype, -1)
    return r.neg(x) if is_negation else None


def _minus_itself(r: Rewriter, node: Node) -> Value | None:
    x, y = node.operands
    return splat(r, node, 0) if x is y and not _is_float(node) else None


def _plus_negated(r: Rewriter, node: Node) -> Value | None:
    x, y = node.operands
    negated = inner(y, "neg")
    if negated is not None:
        return r.sub(x, negated)
    negated = inner(x, "neg")
    return r.sub(y, negated) if negated is not None else None


def _minus_negated(r: Rewriter, node: Node) -> Value | None:
    negated = inner(node.operands[1], "neg")
    return r.add(node.operands[0], negated) if negated is not None else None


def _both_negated(r: Rewriter, node: Node) -> Value | None:
    x, y = (inner(value, "neg") for value in node.operands)
    return r.emit(node.op, x, y) if x is not None and y is not None else None


def _negated_times_constant(r: Rewriter, node: Node) -> Value | None:
    if not _is_float(node):
        return None
    for x, c in constant_sides(node):
        negated = inner(x, "neg")
        if negated is not None:
            return r.mul(negated, r.scalar(-c, x))
    return None


def _integers_regrouped(r: Rewriter, node: Node) -> Value | None:
    """(x op c) op d -> x op (c op d), which wrapping keeps exact. Both constants of rank 0."""
    if _is_float(node):
        return None
    inner, d = node.operands
    if inner.node.op is not node.op or d.shape or number(d) is None:
        return None
    x, c = inner.node.operands
    is_constant = not c.shape and number(c) is not None
    return r.emit(node.op, x, r.emit(node.op, c, d)) if is_constant and number(x) is None else None


def _power(r: Rewriter, node: Node) -> Value | None:
    x, exponent = _right(node)
    match exponent:
        case 0:
            return splat(r, node, 1)        # of NaN too, as in C
        case 1:
            return x
        case 2:
            return r.mul(x, x)
        case 3 if x.dtype in (dt.f32, dt.f64):
            return r.mul(r.mul(x, x), x)
        case -1 if x.dtype.is_floating_point:
            return r.reciprocal(x)
    return None


# -- signs, rounding, extrema -----------------------------------------------------------------------------------------


def _twice_undone(r: Rewriter, node: Node) -> Value | None:
    return inner(node.operands[0], node.op.name)


def _twice_is_once(r: Rewriter, node: Node) -> Value | None:
    return node.operands[0] if node.operands[0].node.op is node.op else None


def _rounded_twice(r: Rewriter, node: Node) -> Value | None:
    return node.operands[0] if node.operands[0].node.op.name in _ROUNDING else None


def _even_of_negated(r: Rewriter, node: Node) -> Value | None:
    negated = inner(node.operands[0], "neg")
    return r.emit(node.op, negated) if negated is not None else None


def _of_itself(r: Rewriter, node: Node) -> Value | None:
    x, y = node.operands
    return x if x is y else None


# -- ints -------------------------------------------------------------------------------------------------------------


def _shift_by_zero(r: Rewriter, node: Node) -> Value | None:
    x, c = _right(node)
    return x if c == 0 else None


def _integer_over_one(r: Rewriter, node: Node) -> Value | None:
    return None if _is_float(node) else _over_one(r, node)      # floor divides floats


def _remainder_of_one(r: Rewriter, node: Node) -> Value | None:
    x, c = _right(node)
    return splat(r, node, 0) if c == 1 and not x.dtype.is_floating_point else None


# -- the table --------------------------------------------------------------------------------------------------------

RULES: Final[tuple[Rule, ...]] = (
    Rule("x * 1 -> x", ("mul",), _times_one, NUMBERS),
    Rule("x * -1 -> neg(x)", ("mul",), _times_minus_one, NUMBERS),
    Rule("x * 0 -> 0 (ints)", ("mul",), _times_zero, NUMBERS),
    Rule("x / 1 -> x", ("div",), _over_one, NUMBERS),
    Rule("x / -1 -> neg(x)", ("div",), _over_minus_one, NUMBERS),
    Rule("x / 2**k -> x * 2**-k", ("div",), _over_power_of_two, NUMBERS),
    Rule("x + -0.0 -> x, x + 0 -> x (ints)", ("add",), _plus_zero, NUMBERS),
    Rule("x - 0 -> x", ("sub",), _minus_zero, NUMBERS),
    Rule("-0.0 - x -> neg(x), 0 - x -> neg(x) (ints)", ("sub",), _zero_minus, NUMBERS),
    Rule("x - x -> 0 (ints)", ("sub", "bitwise_xor"), _minus_itself),
    Rule("x + neg(y) -> x - y", ("add",), _plus_negated, ("neg",)),
    Rule("x - neg(y) -> x + y", ("sub",), _minus_negated, ("neg",)),
    Rule("neg(x) * neg(y) -> x * y", ("mul", "div"), _both_negated, ("neg",)),
    Rule("neg(x) * c -> x * -c (floats)", ("mul",), _negated_times_constant, ("neg",)),
    Rule("(x op c) op d -> x op (c op d) (ints)", ("add", "mul"), _integers_regrouped, NUMBERS),
    Rule("pow(x, 0 | 1 | 2 | 3 | -1) -> 1 | x | x*x | x*x*x | 1/x", ("pow",), _power, NUMBERS),
    Rule("neg(neg(x)) -> x", ("neg", "logical_not", "bitwise_not"), _twice_undone),
    Rule("abs(abs(x)) -> abs(x)", ("abs", "relu", "sign"), _twice_is_once),
    Rule("floor(round(x)) -> round(x)", tuple(sorted(_ROUNDING)), _rounded_twice),
    Rule("abs(neg(x)) -> abs(x)", ("abs", "cos", "cosh"), _even_of_negated, ("neg",)),
    Rule("maximum(x, x) -> x", ("maximum", "minimum", "logical_and", "logical_or", "bitwise_and", "bitwise_or"),
         _of_itself),
    Rule("x << 0 -> x", ("shift_left", "shift_right"), _shift_by_zero, NUMBERS),
    Rule("x // 1 -> x (ints)", ("floor_divide", "trunc_divide"), _integer_over_one, NUMBERS),
    Rule("x % 1 -> 0 (ints)", ("remainder", "fmod"), _remainder_of_one, NUMBERS),
)
