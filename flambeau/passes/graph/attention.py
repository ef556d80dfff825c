"""Graph -> Graph, in place. Attention that a device has tiles for becomes tiled; what is left decomposes later.

    %3, %4 = attention(%0, %1, %2, scale=0.125)  ->  %3, %4 = attention(%0, %1, %2, scale=0.125, tiled=true)

Tiles compute in f32 or f64. 16-bit operands are widened before and results rounded after.
"""
from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from flambeau.ir import dtypes, ops
from flambeau.ir.graph import Graph, Node, Value
from flambeau.passes.graph.attention_patterns import recognise_attention
from flambeau.passes.graph.rewrite import Rewriter, graphs_within

__all__ = ["Fits", "tile_attention"]

Fits = Callable[[ops.Attention | ops.AttentionBackward, Sequence[Value]], bool]


def tile_attention(graph: Graph, fits: Fits) -> Graph:
    """Tile what `fits` (an op and its operands), also where it was written by hand. What came tiled and
    does not fit is tiled no more."""
    recognise_attention(graph)
    for current in graphs_within(graph):
        found = [(node, node.op) for node in current.toposort()
                 if isinstance(node.op, ops.Attention | ops.AttentionBackward)]
        if not found:
            continue
        rewriter = Rewriter(current)
        for node, op in found:
            suits = fits(op, node.operands)
            if op.tiled and not suits:
                rewriter.stand_for(node)
                rewriter.replace(node, rewriter.emit(replace(op, tiled=False), *node.operands))
            elif suits and not op.tiled and is_exact(op, node.operands):
                _tile(rewriter, node)
    return graph


def is_exact(op: ops.Attention | ops.AttentionBackward, operands: Sequence[Value]) -> bool:
    """Whether tiles compute it to rounding, whatever the numbers. Those of the derivative make weights again as
    exp(score - lse): where a mask adds -1e9 to a whole row, f32 has no digits left in lse for the sum of the row's weights,
    and each would be 1. Bools hide scores, and add nothing to them."""
    return isinstance(op, ops.Attention) or len(operands) == 6 or operands[3].dtype is dtypes.bool_


def _tile(rewriter: Rewriter, node: Node) -> None:
    rewriter.stand_for(node)
    assert isinstance(node.op, ops.Attention | ops.AttentionBackward)
    operands = [_widened(rewriter, v) for v in node.operands]
    made = rewriter.emit(replace(node.op, tiled=True), *operands)
    rewriter.replace(node, [rewriter.cast(new, old.dtype) for new, old in zip(made, node.results, strict=True)])


def _widened(rewriter: Rewriter, value: Value) -> Value:
    is_narrow = value.dtype.is_floating_point and value.dtype.itemsize == 2
    return rewriter.cast(value, dtypes.f32) if is_narrow else value
