"""What layers do besides products and norms: attention."""
from __future__ import annotations

import math

from flambeau.errors import ShapeError
from flambeau.frontend.functions.calls import public
from flambeau.frontend.functions.coerce import (
    cast,
    one_tensor,
    tensor_of,
    user_line,
)
from flambeau.frontend.functions.creation import positions
from flambeau.frontend.functions.elementwise import add, choose, mul
from flambeau.frontend.functions.noise import dropout
from flambeau.frontend.functions.products import matmul
from flambeau.frontend.functions.views import (
    matrix_transposed,
    repeat_interleave,
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


__all__ = ["scaled_dot_product_attention"]
public(globals(), __all__)
