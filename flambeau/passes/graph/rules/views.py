"""Rules for views (index maps), and for elementwise ops that work on spread-out operands."""
from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from flambeau.ir import ops
from flambeau.ir.answers import known
from flambeau.ir.dims import Size, hint, same_shape
from flambeau.ir.graph import Node, Value
from flambeau.ir.op import OPS
from flambeau.ir.ops.views import product
from flambeau.ir.types import TensorType
from flambeau.passes.graph.rewrite import Rewriter, Rule

__all__ = ["RULES"]


def _under(node: Node, kind: type) -> tuple[object, Value] | None:
    """(op, operand) of the node's operand, if that is an op of `kind`."""
    inner = node.operands[0].node
    return (inner.op, inner.operands[0]) if type(inner.op) is kind else None


# -- views that change nothing ----------------------------------------------------------------------------------------


def _same_type(r: Rewriter, node: Node) -> Value | None:
    """For views that are the identity whenever the type stays."""
    x = node.operands[0]
    return x if x.type == node.results[0].type else None


def _permute_in_order(r: Rewriter, node: Node) -> Value | None:
    dims = node.op.dims  # type: ignore[attr-defined]
    return node.operands[0] if dims == tuple(range(len(dims))) else None


def _flip_of_nothing(r: Rewriter, node: Node) -> Value | None:
    x = node.operands[0]
    longer = [d for d in node.op.dims if x.shape[d] != 1]  # type: ignore[attr-defined]
    return x if not longer else None


def _concat_of_one(r: Rewriter, node: Node) -> Value | None:
    dim = node.op.dim  # type: ignore[attr-defined]
    parts = [x for x in node.operands if x.shape[dim] != 0]
    if len(node.operands) == 1 or len(parts) == 1:
        return parts[0] if parts else node.operands[0]
    return r.emit(node.op, *parts) if parts and len(parts) < len(node.operands) else None


def _update_of_all(r: Rewriter, node: Node) -> Value | None:
    x, update = node.operands
    return update if x.type == update.type else None


# -- views of views ---------------------------------------------------------------------------------------------------


def _broadcast_of_broadcast(r: Rewriter, node: Node) -> Value | None:
    found = _under(node, ops.Broadcast)
    if found is None:
        return None
    inner, x = found
    dims = tuple([node.op.dims[d] for d in inner.dims])  # type: ignore[attr-defined]
    return r.emit(ops.Broadcast(node.results[0].type.shape, dims), x)


def _broadcast_of_inserted(r: Rewriter, node: Node) -> Value | None:
    """A reshape below that only inserts dims of size 1: the broadcast inserts them itself."""
    found = _under(node, ops.Reshape)
    if found is None:
        return None
    reshape, x = found
    places = _places_of(x.shape, reshape.shape)  # type: ignore[attr-defined]
    if places is None:
        return None
    return r.emit(ops.Broadcast(node.results[0].type.shape,
                                tuple([node.op.dims[d] for d in places])), x)  # type: ignore[attr-defined]


def _places_of(shape: Sequence[Size], longer: Sequence[Size]) -> tuple[int, ...] | None:
    """Where the dims of `shape` stand in `longer`, which has dims of size 1 between them; None if it has others."""
    places: list[int] = []
    for d, size in enumerate(longer):
        if len(places) < len(shape) and shape[len(places)] == size:
            places.append(d)
        elif size != 1:
            return None
    return tuple(places) if len(places) == len(shape) else None


def _reshape_of_reshape(r: Rewriter, node: Node) -> Value | None:
    found = _under(node, ops.Reshape)
    return r.reshape(found[1], node.results[0].type.shape) if found else None


def _permute_of_permute(r: Rewriter, node: Node) -> Value | None:
    found = _under(node, ops.Permute)
    if found is None:
        return None
    inner, x = found
    return r.permute(x, tuple([inner.dims[d] for d in node.op.dims]))  # type: ignore[attr-defined]


def _flip_of_flip(r: Rewriter, node: Node) -> Value | None:
    found = _under(node, ops.Flip)
    if found is None:
        return None
    inner, x = found
    dims = tuple(sorted({*node.op.dims} ^ {*inner.dims}))  # type: ignore[attr-defined]
    return r.emit(ops.Flip(dims), x)


def _slice_of_slice(r: Rewriter, node: Node) -> Value | None:
    found = _under(node, ops.Slice)
    if found is None:
        return None
    (inner, x), outer = found, node.op
    starts = tuple([a + b * s for a, b, s in zip(inner.starts, outer.starts, inner.strides,  # type: ignore[attr-defined]
                                                 strict=True)])
    strides = tuple([s * t for s, t in zip(inner.strides, outer.strides, strict=True)])  # type: ignore[attr-defined]
    return _sliced(r, x, starts, strides, node.results[0].type)


def _sliced(r: Rewriter, x: Value, starts: Sequence[int], strides: Sequence[int], result: TensorType) -> Value:
    """As many elements of x as `result` has, from `starts` by `strides`."""
    limits = tuple([start + (size - 1) * stride + 1 if size else start
                    for start, stride, size in zip(starts, strides, result.shape, strict=True)])
    starts = tuple([min(start, size) for start, size in zip(starts, x.shape, strict=True)])
    limits = tuple([min(limit, size) for limit, size in zip(limits, x.shape, strict=True)])
    return r.emit(ops.Slice(starts, limits, tuple(strides)), x)


def _pad_of_pad(r: Rewriter, node: Node) -> Value | None:
    found = _under(node, ops.Pad)
    if found is None or any(node.op.interior) or any(found[0].interior):  # type: ignore[attr-defined]
        return None
    (inner, x), outer = found, node.op
    low = tuple([a + b for a, b in zip(inner.low, outer.low, strict=True)])  # type: ignore[attr-defined]
    high = tuple([a + b for a, b in zip(inner.high, outer.high, strict=True)])  # type: ignore[attr-defined]
    return r.emit(ops.Pad(low, high, outer.interior), x)  # type: ignore[attr-defined]


def _slice_of_pad(r: Rewriter, node: Node) -> Value | None:
    """Where it takes none of the zeros."""
    found = _under(node, ops.Pad)
    if found is None or 0 in node.results[0].shape:
        return None
    (pad, x), cut = found, node.op
    starts, strides = [], []
    for d, (taken, size) in enumerate(zip(node.results[0].shape, x.shape, strict=True)):
        step = pad.interior[d] + 1  # type: ignore[attr-defined]
        stride = cut.strides[d] if taken > 1 else step  # type: ignore[attr-defined]
        start, between = divmod(cut.starts[d] - pad.low[d], step)  # type: ignore[attr-defined]
        if between or stride % step or start < 0 or start + (taken - 1) * (stride // step) >= size:
            return None
        starts.append(start)
        strides.append(stride // step)
    return _sliced(r, x, starts, strides, node.results[0].type)


def _slice_of_concat(r: Rewriter, node: Node) -> Value | None:
    """Where it takes elements of one operand only."""
    concat, cut, result = node.operands[0].node, node.op, node.results[0].type
    if type(concat.op) is not ops.Concat or 0 in result.shape:
        return None
    dim, before = concat.op.dim, 0
    first = cut.starts[dim]  # type: ignore[attr-defined]
    last = first + (result.shape[dim] - 1) * cut.strides[dim]  # type: ignore[attr-defined]
    for x in concat.operands:
        size = x.shape[dim]
        if before <= first and last < before + size:
            starts = list(cut.starts)  # type: ignore[attr-defined]
            starts[dim] = first - before
            return _sliced(r, x, starts, cut.strides, result)  # type: ignore[attr-defined]
        before += size
    return None


# -- views of what is spread out --------------------------------------------------------------------------------------


def _reshape_of_spread(r: Rewriter, node: Node) -> Value | None:
    """One element, spread over any shape."""
    found = _under(node, ops.Broadcast)
    if found is None or found[1].shape:
        return None
    return r.broadcast(found[1], node.results[0].type.shape, ())


def _permute_of_broadcast(r: Rewriter, node: Node) -> Value | None:
    """permute(broadcast(x)) -> broadcast(permute(x)): fewer elements to permute."""
    found = _under(node, ops.Broadcast)
    if found is None:
        return None
    broadcast, x = found
    place_of = {d: place for place, d in enumerate(node.op.dims)}  # type: ignore[attr-defined]
    dims = [place_of[d] for d in broadcast.dims]  # type: ignore[attr-defined]
    order = sorted(range(len(dims)), key=dims.__getitem__)
    return r.broadcast(r.permute(x, order), node.results[0].type.shape, sorted(dims))


def _slice_of_broadcast(r: Rewriter, node: Node) -> Value | None:
    """slice(broadcast(x)) -> broadcast(slice(x)), with slices only along dims that x really has."""
    found = _under(node, ops.Broadcast)
    if found is None:
        return None
    broadcast, x = found
    result, cut = node.results[0].shape, node.op
    starts, strides, shape = [], [], []
    for size, d in zip(x.shape, broadcast.dims, strict=True):  # type: ignore[attr-defined]
        is_cut = size == node.operands[0].shape[d]
        starts.append(cut.starts[d] if is_cut else 0)  # type: ignore[attr-defined]
        strides.append(cut.strides[d] if is_cut else 1)  # type: ignore[attr-defined]
        shape.append(result[d] if is_cut else size)
    small = x if same_shape(tuple(shape), x.shape) else _sliced(r, x, starts, strides, x.type.with_shape(tuple(shape)))
    return r.broadcast(small, result, broadcast.dims)  # type: ignore[attr-defined]


# -- elementwise ops on what is spread out ----------------------------------------------------------------------------


def _spread_scalar(r: Rewriter, node: Node) -> Value | None:
    """Elementwise ops take a rank-0 operand as it is, as long as another one has the result's shape."""
    shape = node.results[0].type.shape
    scalars = {i: v.node.operands[0] for i, v in enumerate(node.operands)
               if type(v.node.op) is ops.Broadcast and not v.node.operands[0].shape}
    if not scalars or not any(v.shape == shape for i, v in enumerate(node.operands) if i not in scalars):
        return None
    for position, scalar in scalars.items():
        r.set_operand(node, position, scalar)
    return node.results[0]


def _spread_later(r: Rewriter, node: Node) -> Value | None:
    """f(broadcast(x), broadcast(y), s) -> broadcast(f(x, y, s)), for operands spread out alike, if it is less work."""
    shaped = [v for v in node.operands if v.shape]
    if not shaped or type(shaped[0].node.op) is not ops.Broadcast:
        return None
    spread, small = shaped[0].node.op, shaped[0].node.operands[0]
    if not _is_smaller(small.type, node.results[0].type):
        return None
    for value in shaped[1:]:
        if value.node.op != spread or value.node.operands[0].shape != small.shape:
            return None
    inner = [v.node.operands[0] if v.shape else v for v in node.operands]
    return r.broadcast(r.emit(node.op, *inner), spread.shape, spread.dims)


def _is_smaller(small: TensorType, large: TensorType) -> bool:
    if known() is None and not (small.is_static and large.is_static):
        return small.rank < large.rank and all(size in large.shape for size in small.shape)
    return hint(product(small.shape)) < hint(product(large.shape))


# -- the table --------------------------------------------------------------------------------------------------------

_ELEMENTWISE: Final = tuple(sorted(
    name for name, op in OPS.items() if isinstance(op, ops.Elementwise) or op is ops.Cast))

RULES: Final[tuple[Rule, ...]] = (
    Rule("reshape(x) -> x, broadcast(x) -> x, slice(x) -> x, pad(x) -> x", ("reshape", "broadcast", "slice", "pad"),
         _same_type),
    Rule("permute(x, in order) -> x", ("permute",), _permute_in_order),
    Rule("flip(x, no dims) -> x", ("flip",), _flip_of_nothing),
    Rule("concat(x) -> x", ("concat",), _concat_of_one),
    Rule("update_slice(x, all) -> all", ("update_slice",), _update_of_all),
    Rule("broadcast(broadcast(x)) -> broadcast(x)", ("broadcast",), _broadcast_of_broadcast, ("broadcast",)),
    Rule("broadcast(reshape(x)) -> broadcast(x)", ("broadcast",), _broadcast_of_inserted, ("reshape",)),
    Rule("reshape(reshape(x)) -> reshape(x)", ("reshape",), _reshape_of_reshape, ("reshape",)),
    Rule("permute(permute(x)) -> permute(x)", ("permute",), _permute_of_permute, ("permute",)),
    Rule("flip(flip(x)) -> flip(x)", ("flip",), _flip_of_flip, ("flip",)),
    Rule("slice(slice(x)) -> slice(x)", ("slice",), _slice_of_slice, ("slice",)),
    Rule("pad(pad(x)) -> pad(x)", ("pad",), _pad_of_pad, ("pad",)),
    Rule("slice(pad(x)) -> slice(x)", ("slice",), _slice_of_pad, ("pad",)),
    Rule("slice(concat(x, y)) -> slice(x)", ("slice",), _slice_of_concat, ("concat",)),
    Rule("reshape(broadcast(rank 0)) -> broadcast", ("reshape",), _reshape_of_spread, ("broadcast",)),
    Rule("permute(broadcast(x)) -> broadcast(permute(x))", ("permute",), _permute_of_broadcast, ("broadcast",)),
    Rule("slice(broadcast(x)) -> broadcast(slice(x))", ("slice",), _slice_of_broadcast, ("broadcast",)),
    Rule("f(x, broadcast(rank 0)) -> f(x, rank 0)", _ELEMENTWISE, _spread_scalar, ("broadcast",)),
    Rule("f(broadcast(x)) -> broadcast(f(x))", _ELEMENTWISE, _spread_later, ("broadcast",)),
)
