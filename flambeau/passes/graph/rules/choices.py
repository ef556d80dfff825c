"""Rules for comparisons, logic, choices and casts, and the removal of stop_gradient."""
from __future__ import annotations

from typing import Final

from flambeau.ir import dtypes as dt
from flambeau.ir.dtypes import DType
from flambeau.ir.graph import Node, Value
from flambeau.passes.graph.rewrite import Rewriter, Rule
from flambeau.passes.graph.rules.arithmetic import NUMBERS, constant_sides, inner, number, splat

__all__ = ["RULES"]


def _compared_with_itself(r: Rewriter, node: Node) -> Value | None:
    x, y = node.operands
    is_known = x is y and not x.dtype.is_floating_point       # NaN is not equal to itself
    return splat(r, node, node.op.name in ("eq", "le", "ge")) if is_known else None


def _logic_with_constant(r: Rewriter, node: Node) -> Value | None:
    if node.operands[0].dtype is not dt.bool_:
        return None
    for x, c in constant_sides(node):
        match node.op.name, bool(c):
            case ("logical_and" | "bitwise_and", True) | ("logical_or" | "bitwise_or", False) \
                    | ("logical_xor" | "bitwise_xor" | "ne", False) | ("eq", True):
                return x
            case ("logical_and" | "bitwise_and", False) | ("logical_or" | "bitwise_or", True):
                return splat(r, node, bool(c))
            case ("logical_xor" | "bitwise_xor" | "ne", True) | ("eq", False):
                return r.logical_not(x)
    return None


def _choice_of_one(r: Rewriter, node: Node) -> Value | None:
    condition, x, y = node.operands
    known = number(condition)
    if x is not y and known is None:
        return None
    chosen = x if x is y or known else y
    result = node.results[0].type
    return chosen if chosen.type == result else r.broadcast(chosen, result.shape, ()) if not chosen.shape else None


def _choice_of_negated(r: Rewriter, node: Node) -> Value | None:
    condition, x, y = node.operands
    negated = inner(condition, "logical_not")
    return r.where(negated, y, x) if negated is not None else None


def _choice_of_truths(r: Rewriter, node: Node) -> Value | None:
    condition, x, y = node.operands
    if x.dtype is not dt.bool_ or condition.type != node.results[0].type:
        return None
    match number(x), number(y):
        case True, False:
            return condition
        case False, True:
            return r.logical_not(condition)
    return None


# -- casts ------------------------------------------------------------------------------------------------------------


def _is_exact(source: DType, target: DType) -> bool:
    """Every number of `source` is one of `target`."""
    if source is target or source is dt.bool_:
        return True
    if target is dt.bool_ or (source.is_floating_point and not target.is_floating_point):
        return False
    if source.is_floating_point:
        return source.itemsize < target.itemsize
    if target.is_floating_point:
        digits = {dt.bf16: 8, dt.f16: 11, dt.f32: 24, dt.f64: 53}[target]
        return 8 * source.itemsize - (source.kind == "int") <= digits
    if source.kind == target.kind:
        return source.itemsize <= target.itemsize
    return source.kind == "uint" and source.itemsize < target.itemsize


def _cast_to_itself(r: Rewriter, node: Node) -> Value | None:
    x = node.operands[0]
    return x if x.dtype is node.results[0].dtype else None


def _cast_of_cast(r: Rewriter, node: Node) -> Value | None:
    """cast(cast(x, B), C) -> cast(x, C), where B holds every number of x. Ints wrap on the way to smaller ints and
    floats saturate, so an int that went through a float may only come back where nothing is cut."""
    x = inner(node.operands[0], "cast")
    if x is None:
        return None
    source, between, target = x.dtype, node.operands[0].dtype, node.results[0].dtype
    if not _is_exact(source, between):
        return None
    if source.is_integer and between.is_floating_point and target.is_integer and not _is_exact(source, target):
        return None
    return r.cast(x, target)


def _stopped(r: Rewriter, node: Node) -> Value | None:
    return node.operands[0]


# -- the table --------------------------------------------------------------------------------------------------------

_COMPARISONS: Final = ("eq", "ne", "lt", "le", "gt", "ge")
_LOGIC: Final = ("logical_and", "logical_or", "logical_xor", "bitwise_and", "bitwise_or", "bitwise_xor", "eq", "ne")

RULES: Final[tuple[Rule, ...]] = (
    Rule("x == x -> true (not floats)", _COMPARISONS, _compared_with_itself),
    Rule("x and true -> x", _LOGIC, _logic_with_constant, NUMBERS),
    Rule("where(c, x, x) -> x, where(true, x, y) -> x", ("where",), _choice_of_one),
    Rule("where(not c, x, y) -> where(c, y, x)", ("where",), _choice_of_negated, ("logical_not",)),
    Rule("where(c, true, false) -> c", ("where",), _choice_of_truths, NUMBERS),
    Rule("cast(x) -> x", ("cast",), _cast_to_itself),
    Rule("cast(cast(x)) -> cast(x)", ("cast",), _cast_of_cast, ("cast",)),
    Rule("stop_gradient(x) -> x", ("stop_gradient",), _stopped),
)
