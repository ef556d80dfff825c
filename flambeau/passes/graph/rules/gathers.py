"""Rules for gathers: pick first, compute on what was picked."""
from __future__ import annotations

from typing import Final

from flambeau.ir import ops
from flambeau.ir.dims import hint
from flambeau.ir.graph import Node, Value
from flambeau.ir.ops.views import product
from flambeau.passes.graph.rewrite import Rewriter, Rule

__all__ = ["RULES"]

_FEWER: Final = 4               # a gather that picks one in so many elements, or fewer, goes first
# On integers: what is not picked may be what fails.
_MAY_FAIL: Final = ("floor_divide", "trunc_divide", "remainder", "fmod")


def _pick_before_computing(r: Rewriter, node: Node) -> Value | None:
    """The score of one class a row needs no other class's. Operands that are the same along dim need no gather; one
    gather is left, to check the indices."""
    (x, indices), result = node.operands, node.results[0].type
    made, dim = x.node, node.op.dim  # type: ignore[attr-defined]
    if not isinstance(made.op, ops.Elementwise):
        return None
    if made.op.name in _MAY_FAIL and not x.dtype.is_floating_point:
        return None
    if hint(product(x.shape)) < _FEWER * hint(product(result.shape)):
        return None
    is_same = [_is_same_along(operand, dim) for operand in made.operands]
    if all(is_same):
        return None
    picked = []
    for operand, same in zip(made.operands, is_same, strict=True):
        if not operand.shape:
            picked.append(operand)
        elif same:
            spread = operand.node
            picked.append(r.broadcast(spread.operands[0], result.shape, spread.op.dims))  # type: ignore[attr-defined]
        else:
            picked.append(r.emit(node.op, operand, indices))
    return r.emit(made.op, *picked)


def _is_same_along(x: Value, dim: int) -> bool:
    """Whether x is a number, or spread along dim."""
    op = x.node.op
    return not x.shape or (isinstance(op, ops.Broadcast) and dim in op.expanded(x.node.operands[0].type))


RULES: Final = (
    Rule("take_along(f(x, y)) -> f(take_along(x), take_along(y))", ("take_along",), _pick_before_computing),
)
