"""Rules for ops that fold dims away. Sums may be regrouped; nothing else about a number changes."""
from __future__ import annotations

import math
from typing import Final

import numpy as np

from flambeau.ir import dtypes as dt
from flambeau.ir import ops
from flambeau.ir.dims import Dim, Size, same
from flambeau.ir.dtypes import DType
from flambeau.ir.graph import Node, Value
from flambeau.ir.literal import literal
from flambeau.passes.graph.rewrite import Rewriter, Rule

__all__ = ["RULES"]

_FOLDS: Final = ("sum", "prod", "amax", "amin", "any", "all")       # folding one element gives that element


def _reduced(node: Node) -> tuple[int, ...]:
    assert isinstance(node.op, ops.Reduction)
    return node.op.reduced


def _fold(r: Rewriter, node: Node, x: Value, dims: tuple[int, ...]) -> Value:
    """The same fold over other dims of another operand."""
    return r.emit(type(node.op)(dims), x) if dims else x  # type: ignore[call-arg]


def _of_single_elements(r: Rewriter, node: Node) -> Value | None:
    """Over no dims, or dims of size 1: the shape changes, the elements stay; a sum starts from +0, so -0 becomes +0."""
    x = node.operands[0]
    if not all(x.shape[d] == 1 for d in _reduced(node)):
        return None
    made = r.reshape(x, node.results[0].type.shape)
    starts_from_zero = node.op.name == "sum" and x.dtype.is_floating_point and _reduced(node)
    return r.add(made, r.scalar(0.0, made)) if starts_from_zero else made


def _place_of_single(r: Rewriter, node: Node) -> Value | None:
    x = node.operands[0]
    return r.zeros(node.results[0].type) if all(x.shape[d] == 1 for d in _reduced(node)) else None


def _twice(r: Rewriter, node: Node) -> Value | None:
    """sum(sum(x)) -> sum(x), where nothing else reads the inner one."""
    inner = node.operands[0].node
    if inner.op.name != node.op.name or inner.results[0] in r.roots or len(r.graph.uses(inner.results[0])) > 1:
        return None
    x = inner.operands[0]
    kept = [d for d in range(len(x.shape)) if d not in _reduced(inner)]
    return _fold(r, node, x, tuple(sorted((*_reduced(inner), *(kept[d] for d in _reduced(node))))))


def _of_permuted(r: Rewriter, node: Node) -> Value | None:
    """sum(permute(x)) -> permute(sum(x)): fewer elements to permute."""
    permute = node.operands[0].node
    if type(permute.op) is not ops.Permute:
        return None
    order, reduced = permute.op.dims, _reduced(node)
    folded = _fold(r, node, permute.operands[0], tuple(sorted([order[d] for d in reduced])))
    kept = [dim for d, dim in enumerate(order) if d not in reduced]
    place_of = {dim: place for place, dim in enumerate(sorted(kept))}
    return r.permute(folded, [place_of[dim] for dim in kept])


def _all_of_reshaped(r: Rewriter, node: Node) -> Value | None:
    """Over every dim, the shape does not matter."""
    reshape = node.operands[0].node
    if type(reshape.op) is not ops.Reshape or node.results[0].shape:
        return None
    x = reshape.operands[0]
    return _fold(r, node, x, tuple(range(len(x.shape))))


def _of_broadcast(r: Rewriter, node: Node) -> Value | None:
    """fold(broadcast(x)) -> broadcast(fold(x) * how often each element stands there). Extrema need no factor."""
    spread = node.operands[0].node
    if type(spread.op) is not ops.Broadcast:
        return None
    x, shape, reduced = spread.operands[0], node.operands[0].shape, set(_reduced(node))
    repeated = reduced & set(spread.op.expanded(x.type))
    count = math.prod([shape[d] for d in repeated])
    inner = tuple([i for i, d in enumerate(spread.op.dims) if d in reduced])
    if not repeated or count == 0 or (node.op.name == "sum" and not _may_count(x, inner, count)):
        return None
    folded = _fold(r, node, x, inner)
    if node.op.name == "sum" and not same(count, 1):
        folded = r.mul(folded, _count(r, count, x.dtype))
    place_of = {d: place for place, d in enumerate(d for d in range(len(shape)) if d not in reduced)}
    dims = tuple([place_of[d] for d in spread.op.dims if d not in reduced])
    return r.broadcast(folded, node.results[0].type.shape, dims)


def _may_count(x: Value, inner: tuple[int, ...], count: Size) -> bool:
    """A product in place of a sum of equal numbers: the count is a number of the dtype, and nothing that was added
    up in a wider type is rounded in between."""
    if not x.dtype.is_floating_point:
        return True
    adds = any(x.shape[i] != 1 for i in inner)
    return _holds(x.dtype, count) and (x.dtype.itemsize > 2 or not adds)


def _count(r: Rewriter, count: Size, dtype: DType) -> Value:
    """The number, a constant where it is known; ints wrap as their sums do."""
    if isinstance(count, Dim):
        return r.number(count, dtype)
    stored = np.asarray(count).astype(dtype.storage) if dtype.is_integer else count
    return r.constant(stored, dtype)


def _holds(dtype: DType, count: Size) -> bool:
    """Whether it is a number of the dtype; where it has names, all that it may be."""
    if isinstance(count, Dim):
        return count <= {dt.bf16: 1 << 8, dt.f16: 1 << 11, dt.f32: 1 << 24, dt.f64: 1 << 53}[dtype]
    return literal(count, dtype).item() == count


RULES: Final[tuple[Rule, ...]] = (
    Rule("sum(x, dims of size 1) -> reshape(x)", _FOLDS, _of_single_elements),
    Rule("argmax(x, dim of size 1) -> 0", ("argmax", "argmin"), _place_of_single),
    Rule("sum(sum(x)) -> sum(x)", _FOLDS, _twice, _FOLDS),
    Rule("sum(permute(x)) -> permute(sum(x))", _FOLDS, _of_permuted, ("permute",)),
    Rule("sum(reshape(x), all dims) -> sum(x, all dims)", _FOLDS, _all_of_reshaped, ("reshape",)),
    Rule("sum(broadcast(x)) -> broadcast(sum(x) * count)", ("sum", "amax", "amin", "any", "all"), _of_broadcast,
         ("broadcast",)),
)
