"""What layers do besides products and norms: attention and padding."""
from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from flambeau.errors import ShapeError
from flambeau.frontend.functions.calls import public
from flambeau.frontend.functions.coerce import (
    cast,
    expanded,
    one_tensor,
    spread,
    tensor_of,
    user_line,
)
from flambeau.frontend.functions.creation import positions
from flambeau.frontend.functions.elementwise import add, choose, mul
from flambeau.frontend.functions.noise import dropout
from flambeau.frontend.functions.products import matmul
from flambeau.frontend.functions.views import (
    clone,
    flip,
    matrix_transposed,
    padded,
    repeat_interleave,
    sliced,
)
from flambeau.frontend.tape.dispatch import dispatch
from flambeau.frontend.tensor.tensor import Tensor
from flambeau.ir import dtypes as dt
from flambeau.ir import ops

# -- attention --------------------------------------------------------------------------------------------------------


def scaled_dot_product_attention(query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor | None = None,
                                 dropout_p: float = 0.0, is_causal: bool = False, scale: float | None = None,
                                 enable_gqa: bool = False) -> Tensor:
    """softmax(query @ key.mT * scale + mask) @ value over [..., L, E], [..., S, E], [..., S, V].

    attn_mask: bools (true takes part) or floats to add, broadcast to [..., L, S]; is_causal: row i sees columns up
    to i; scale: 1 / sqrt(E) by default; enable_gqa: fewer key and value heads (dim -3), each repeated.
    Rows that may see nothing give 0."""
    for t in (query, key, value):
        if one_tensor("scaled_dot_product_attention", t).ndim < (3 if enable_gqa else 2):
            raise ShapeError(f"scaled_dot_product_attention: takes [..., L, E], got {t._type}", where=user_line())
    if is_causal and attn_mask is not None:
        raise RuntimeError("scaled_dot_product_attention: pass attn_mask or is_causal, not both")
    if enable_gqa:
        times = query._type.static_shape[-3] // key._type.static_shape[-3]
        key, value = repeat_interleave(key, times, -3), repeat_interleave(value, times, -3)
    factor = 1 / math.sqrt(max(query._type.static_shape[-1], 1)) if scale is None else scale
    dtype = query._type.dtype
    if dtype.itemsize == 2:                 # scores and their gradients may be beyond f16 where the result is not
        query, key, value = (cast(t, dt.f32) for t in (query, key, value))
    scores = matmul(mul(query, factor), matrix_transposed(key))
    if is_causal:
        rows, columns = positions(*scores._type.static_shape[-2:])
        scores = _masked(scores, dispatch(ops.le, columns, rows))
    elif attn_mask is not None:
        scores = _masked(scores, attn_mask) if attn_mask.dtype is dt.bool_ else add(scores, attn_mask)
    weights = safe_softmax(scores)
    if dropout_p > 0.0:
        weights = dropout(weights, dropout_p)
    return cast(matmul(weights, value), dtype)


def safe_softmax(scores: Tensor) -> Tensor:
    """softmax along the last dim, and 0 in rows that are -inf throughout."""
    return dispatch(ops.SafeSoftmax(scores.ndim - 1), scores)


def _masked(scores: Tensor, allowed: Tensor) -> Tensor:
    """-inf where not allowed."""
    return choose(allowed, scores, tensor_of(float("-inf"), scores._type.dtype))


# -- padding ----------------------------------------------------------------------------------------------------------


def pad(input: Tensor, pad: Sequence[int], mode: str = "constant", value: float | None = None) -> Tensor:
    """Elements before and after dims, from the last dim on: (left, right, top, bottom, ...). Negative ones crop.

    mode: "constant" (`value`, 0 by default), "reflect", "replicate" or "circular"."""
    x, amounts = one_tensor("pad", input), [int(a) for a in pad]
    if len(amounts) % 2 or len(amounts) > 2 * x.ndim:
        raise RuntimeError(f"pad: {tuple(amounts)} must be pairs for at most the {x.ndim} dims of {x._type}")
    pairs = [(0, 0)] * (x.ndim - len(amounts) // 2) + list(zip(amounts[-2::-2], amounts[::-2], strict=True))
    for d, (low, high) in enumerate(pairs):
        if low < 0 or high < 0:
            x = sliced(x, d, max(-low, 0), max(x._type.static_shape[d] - max(-high, 0), max(-low, 0)))
    pairs = [(max(low, 0), max(high, 0)) for low, high in pairs]
    if mode != "constant" and mode not in _BORDERS:
        raise NotImplementedError(f"pad: mode {mode!r} is none of constant, reflect, replicate, circular")
    if not any(low or high for low, high in pairs):
        return clone(x)
    if mode == "constant":
        return _with_constant(x, pairs, 0 if value is None else value)
    for d, (low, high) in enumerate(pairs):
        if low or high:
            x = _with_border(x, d, low, high, mode)
    return x


def _with_constant(x: Tensor, pairs: list[tuple[int, int]], value: float) -> Tensor:
    zeros_around = padded(x, pairs)
    if value == 0:
        return zeros_around
    shape = x._type.static_shape
    inside = padded(spread(tensor_of(True, dt.bool_), shape, ()), pairs)
    return dispatch(ops.where, inside, zeros_around, tensor_of(value, x.dtype))


def _reflected(size: int, low: int, high: int) -> list[tuple[int, int, bool]]:
    return [(1, low + 1, True), (0, size, False), (size - 1 - high, size - 1, True)]


def _circular(size: int, low: int, high: int) -> list[tuple[int, int, bool]]:
    return [(size - low, size, False), (0, size, False), (0, high, False)]


_BORDERS: dict[str, Any] = {"reflect": _reflected, "circular": _circular, "replicate": None}


def _with_border(x: Tensor, dim: int, low: int, high: int, mode: str) -> Tensor:
    """x with parts of itself before and after along dim."""
    size = x._type.static_shape[dim]
    if mode == "replicate":
        if size == 0:
            raise ShapeError(f"pad: dim {dim} of {x._type} is empty and can't be replicated", where=user_line())
        edges = [(sliced(x, dim, 0, 1), low), (x, 0), (sliced(x, dim, size - 1, size), high)]
        parts = [part if part is x else expanded(part, _sized(x, dim, count)) for part, count in edges
                 if part is x or count]
        return dispatch(ops.Concat(dim), *parts)
    if max(low, high) > size - (mode == "reflect"):
        raise ShapeError(f"pad: {(low, high)} is too much for mode {mode!r} and size {size} of dim {dim}",
                         where=user_line())
    parts = []
    for start, stop, reverse in _BORDERS[mode](size, low, high):
        if stop > start:
            part = sliced(x, dim, start, stop)
            parts.append(flip(part, dim) if reverse else part)
    return dispatch(ops.Concat(dim), *parts)


def _sized(x: Tensor, dim: int, count: int) -> tuple[int, ...]:
    return tuple([count if d == dim else size for d, size in enumerate(x._type.static_shape)])


__all__ = ["pad", "scaled_dot_product_attention"]
public(globals(), __all__)
