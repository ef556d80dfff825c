"""Attention: softmax(query key^T) value, plain and in heads with projections. Vaswani et al., NeurIPS 2017."""
from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from flambeau.errors import ShapeError
from flambeau.frontend.active import active
from flambeau.frontend.functions.calls import public
from flambeau.frontend.functions.coerce import (
    broadcast_shapes,
    cast,
    expanded,
    one_tensor,
    reshaped,
    root_of,
    tensor_of,
    user_line,
)
from flambeau.frontend.functions.creation import positions, zeros
from flambeau.frontend.functions.elementwise import add, choose, mul, where
from flambeau.frontend.functions.joining import repeat_interleave
from flambeau.frontend.functions.noise import dropout
from flambeau.frontend.functions.padding import pad
from flambeau.frontend.functions.products import linear, matmul
from flambeau.frontend.functions.reductions import mean, softmax
from flambeau.frontend.functions.stacking import cat
from flambeau.frontend.functions.views import matrix_transposed, transpose
from flambeau.frontend.scalars import Scalar
from flambeau.frontend.tape.autograd import grad_mode
from flambeau.frontend.tape.dispatch import dispatch
from flambeau.frontend.tensor.tensor import Tensor
from flambeau.ir import dtypes as dt
from flambeau.ir import ops
from flambeau.ir.dims import hint
from flambeau.ir.dtypes import DType
from flambeau.ir.ops.attention import is_worthwhile


def scaled_dot_product_attention(query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor | None = None,
                                 dropout_p: float = 0.0, is_causal: bool = False, scale: float | None = None,
                                 enable_gqa: bool = False) -> Tensor:
    """softmax(query @ key.mT * scale + mask) @ value over [..., L, E], [..., S, E], [..., S, V].

    attn_mask: bools (true takes part) or floats to add, broadcast to [..., L, S]; is_causal: row i sees columns up
    to i; scale: 1 / sqrt(E) by default; enable_gqa: fewer key and value heads (dim -3), each repeated.
    Rows that may see nothing give 0. Raises RuntimeError for different dtypes, and for a mask of another dtype."""
    dtype = one_tensor("scaled_dot_product_attention", query)._type.dtype
    _check_dots(query, key, value, attn_mask, enable_gqa)
    if is_causal and attn_mask is not None:
        raise RuntimeError("scaled_dot_product_attention: pass attn_mask or is_causal, not both")
    factor = 1 / root_of(max(query._type.static_shape[-1], 1)) if scale is None else scale
    if dropout_p == 0.0 and _in_one_op(query, key, value, attn_mask, is_causal):
        if isinstance(factor, Scalar):      # a number of the run is no part of an op
            query, factor = mul(query, factor), 1.0
        return _attention(query, key, value, attn_mask, is_causal, float(factor), enable_gqa)
    if enable_gqa:
        key, value = [_repeated(t, query) for t in (key, value)]
    if dtype.itemsize == 2:                 # scores and their gradients may be beyond f16 where the result is not
        query, key, value = (cast(t, dt.f32) for t in (query, key, value))
    scores = matmul(mul(query, factor), matrix_transposed(key))
    if is_causal:
        rows, columns = positions(*scores._type.static_shape[-2:])
        scores = _masked(scores, dispatch(ops.le, columns, rows))
    elif attn_mask is not None:
        scores = _masked(scores, attn_mask) if attn_mask.dtype is dt.bool_ else add(scores, attn_mask)
    weights = safe_softmax(scores)
    if dropout_p != 0.0:
        weights = dropout(weights, dropout_p)
    return cast(matmul(weights, value), dtype)


def _check_dots(query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor | None, enable_gqa: bool) -> None:
    name = "scaled_dot_product_attention"
    for t in (query, key, value):
        if one_tensor(name, t).ndim < (3 if enable_gqa else 2):
            raise ShapeError(f"{name}: takes [..., L, E], got {t._type}", where=user_line())
        if t.dtype is not query.dtype:
            raise RuntimeError(f"{name}: Expected query, key, and value to have the same dtype, but got {query._type}, "
                               f"{key._type} and {value._type}")
    if not query.dtype.is_floating_point:
        raise RuntimeError(f"{name}: takes floating-point tensors, got {query._type}")
    if attn_mask is not None and one_tensor(name, attn_mask).dtype not in (dt.bool_, dt.f32, query.dtype):
        raise RuntimeError(f"{name}: Expected attn_mask dtype to be bool or float or to match query dtype, but got "
                           f"{attn_mask.dtype} and a query of {query.dtype}")


def _repeated(t: Tensor, query: Tensor) -> Tensor:
    """Key or value heads, each for as many heads of the query as there are more of those."""
    _check_groups(query, t, t)
    heads, given = query._type.static_shape[-3], t._type.static_shape[-3]
    return t if heads == given else repeat_interleave(t, heads // given, -3)


def _in_one_op(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, causal: bool) -> bool:
    """Whether a trace is to have one op for it, of sizes where tiles are faster than a matrix of weights. The cotangent of
    a mask is such a matrix, and what is added to scores keeps derivatives from being tiled (passes/graph/attention.py)."""
    if active.tracer is None or mask is not None and mask._requires_grad:
        return False
    differentiated = grad_mode.enabled and any(t._requires_grad or active.differentiates(t) for t in (query, key, value))
    if differentiated and mask is not None and mask._type.dtype.is_floating_point:
        return False
    (rows, size), (columns, value_size) = query._type.static_shape[-2:], value._type.static_shape[-2:]
    return is_worthwhile(hint(rows), hint(columns), hint(size), hint(value_size), causal, differentiated)


def _attention(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, causal: bool, scale: float,
               grouped: bool = False) -> Tensor:
    """The op, over batch dims of one shape. Groups of query heads that share a key head are a batch dim of their own, along
    which keys and values are expanded."""
    shapes = [t._type.static_shape for t in (query, key, value)]
    rows, columns = shapes[0][-2], shapes[1][-2]
    given = [] if mask is None else [expanded(mask, (*mask._type.static_shape[:-2], rows, columns)) if mask.ndim > 1 else
                                     expanded(mask, (rows, columns))]
    operands = [query, key, value, *given]
    heads = shapes[0][-3] if grouped else 0
    if grouped:
        _check_groups(query, key, value)
        operands = [_grouped(t, heads, shapes[1][-3]) for t in operands]
    batch = broadcast_shapes(*[t._type.static_shape[:-2] for t in operands], name="scaled_dot_product_attention")
    operands = [expanded(t, (*batch, *t._type.static_shape[-2:])) for t in operands]
    out: Tensor = dispatch(ops.Attention(scale, causal), *operands)[0]
    return reshaped(out, (*batch[:-2], heads, *out._type.static_shape[-2:])) if grouped else out


def _check_groups(query: Tensor, key: Tensor, value: Tensor) -> None:
    for t in (key, value):
        heads, given = query._type.static_shape[-3], t._type.static_shape[-3]
        if not given or heads % given:
            raise RuntimeError("scaled_dot_product_attention: the number of heads in key and value must divide that in "
                               f"query, got {t._type} for {query._type}")


def _grouped(t: Tensor, heads: int, groups: int) -> Tensor:
    """[..., H, T, *] -> [..., groups, H / groups, T, *], or with a dim of one in the place of heads that are shared."""
    if t.ndim < 3:
        return t
    *batch, given, rows, size = t._type.static_shape
    into = (groups, heads // groups) if given == heads else (given, 1)
    return reshaped(t, (*batch, *into, rows, size))


def safe_softmax(scores: Tensor) -> Tensor:
    """softmax along the last dim, and 0 in rows that are -inf throughout."""
    return dispatch(ops.SafeSoftmax(scores.ndim - 1), scores)


def _masked(scores: Tensor, allowed: Tensor) -> Tensor:
    """-inf where not allowed."""
    return choose(allowed, scores, tensor_of(float("-inf"), scores._type.dtype))


# -- in heads ---------------------------------------------------------------------------------------------------------


class Projections(NamedTuple):
    """What multi-head attention learns. into: one weight [3 * E, E], or those of q [E, E], k [E, kdim] and v [E, vdim];
    into_bias [3 * E]; key, value: one more key and value [1, 1, E]; out [E, E], out_bias [E]."""

    heads: int
    into: Tensor | Sequence[Tensor]
    into_bias: Tensor | None
    key: Tensor | None
    value: Tensor | None
    out: Tensor
    out_bias: Tensor | None


class Masks(NamedTuple):
    """Where attention is not allowed: of elements [L, S] or [N * heads, L, S], and of keys [N, S]; bools, or floats to be
    added."""

    attention: Tensor | None
    padding: Tensor | None


def attend(query: Tensor, key: Tensor, value: Tensor, given: Projections, masks: Masks, dropout_p: float,
           need_weights: bool, add_zero: bool = False, static: tuple[Tensor | None, Tensor | None] = (None, None),
           ) -> tuple[Tensor, Tensor | None]:
    """[N, L, E], [N, S, kdim], [N, S, vdim] -> [N, L, E], weights [N, heads, L, S]. A row that is masked whole has NaN
    weights if they are asked for, as in PyTorch, else none."""
    batch, length, size = query._type.static_shape
    q, k, v = _projected(query, key, value, given)
    extra = 0
    if given.key is not None and given.value is not None:
        k, v = [cat([t, expanded(b, (batch, 1, size))], 1) for t, b in ((k, given.key), (v, given.value))]
        extra += 1
    q, k, v = [_heads(t, given.heads) for t in (q, k, v)]
    k, v = [t if s is None else _static(s, t, batch, given.heads) for t, s in zip((k, v), static, strict=True)]
    if add_zero:
        k, v = [cat([t, zeros((*t._type.static_shape[:2], 1, t._type.static_shape[3]), dtype=t.dtype, device=t.device)], 2)
                for t in (k, v)]
        extra += 1
    mask = _added(masks, q, batch, given.heads, extra)
    if not need_weights and dropout_p == 0.0 and _in_one_op(q, k, v, mask, False):
        mixed = _attention(q, k, v, mask, False, math.sqrt(given.heads / size))
        return linear(reshaped(transpose(mixed, 1, 2), (batch, length, size)), given.out, given.out_bias), None
    scores = matmul(mul(q, math.sqrt(given.heads / size)), transpose(k, -2, -1))
    scores = scores if mask is None else add(scores, mask)
    weights = softmax(scores, dim=-1) if need_weights else safe_softmax(scores)
    weights = dropout(weights, dropout_p)
    mixed = reshaped(transpose(matmul(weights, v), 1, 2), (batch, length, size))
    return linear(mixed, given.out, given.out_bias), weights if need_weights else None


def _projected(query: Tensor, key: Tensor, value: Tensor, given: Projections) -> list[Tensor]:
    size, into, bias = query._type.static_shape[-1], given.into, given.into_bias
    if isinstance(into, Tensor):
        if query is key is value:
            together = linear(query, into, bias)
            return [together[..., n * size:(n + 1) * size] for n in range(3)]
        into = [into[n * size:(n + 1) * size] for n in range(3)]
    biases = [None if bias is None else bias[n * size:(n + 1) * size] for n in range(3)]
    return [linear(x, w, b) for x, w, b in zip((query, key, value), into, biases, strict=True)]


def _heads(x: Tensor, heads: int) -> Tensor:
    """[N, T, E] -> [N, heads, T, E / heads]."""
    batch, length, size = x._type.static_shape
    return transpose(reshaped(x, (batch, length, heads, size // heads)), 1, 2)


def _static(given: Tensor, computed: Tensor, batch: int, heads: int) -> Tensor:
    """Keys or values of the user's, [N * heads, S, E / heads], in the place of computed ones."""
    rows, length, size = given._type.static_shape
    if (rows, size) != (batch * heads, computed._type.static_shape[-1]):
        raise AssertionError(f"expecting static_k and static_v of [{batch * heads}, S, {computed._type.shape[-1]}], but "
                             f"got {given._type}")
    return reshaped(given, (batch, heads, length, size))


def _added(masks: Masks, q: Tensor, batch: int, heads: int, extra: int) -> Tensor | None:
    """Both masks as one that is added to scores [N, heads, L, S + extra]; None when there is none."""
    parts = []
    for mask, name in zip(masks, ("attn_mask", "key_padding_mask"), strict=True):
        if mask is not None:
            added = _additive(mask, q.dtype, name)
            added = pad(added, (0, extra)) if extra else added
            shape = added._type.static_shape
            if name == "key_padding_mask":
                added = reshaped(added, (batch, 1, 1, shape[-1]))
            elif len(shape) == 3:
                added = reshaped(added, (batch, heads, *shape[1:]))
            parts.append(added)
    return add(parts[0], parts[1]) if len(parts) == 2 else parts[0] if parts else None


def _additive(mask: Tensor, dtype: DType, name: str) -> Tensor:
    """A bool mask (True: not allowed) as 0 and -inf; a float mask as it is."""
    if mask.dtype is dt.bool_:
        return cast(where(mask, -math.inf, 0.0), dtype)
    if not mask.dtype.is_floating_point:
        raise AssertionError(f"only bool and floating types of {name} are supported, got {mask.dtype}")
    return cast(mask, dtype)


def check_attended(query: Tensor, key: Tensor, value: Tensor, masks: Masks, heads: int, batch_first: bool = False) -> bool:
    """Whether there is a batch. Raises AssertionError for ranks and shapes that don't fit, RuntimeError for an attention
    mask of another shape."""
    rank, padding = query.ndim, masks.padding
    if rank not in (2, 3):
        raise AssertionError(f"query should be unbatched 2D or batched 3D tensor but received {rank}-D query tensor")
    what = "batched (3-D)" if rank == 3 else "unbatched (2-D)"
    if key.ndim != rank or value.ndim != rank:
        raise AssertionError(f"For {what} `query`, expected `key` and `value` to be {rank}-D but found {key.ndim}-D and "
                             f"{value.ndim}-D tensors respectively")
    if padding is not None and padding.ndim != rank - 1:
        raise AssertionError(f"For {what} `query`, expected `key_padding_mask` to be `None` or {rank - 1}-D but found "
                             f"{padding.ndim}-D tensor instead")
    where_time, where_batch = (1, 0) if batch_first and rank == 3 else (0, 1)
    batch = query.shape[where_batch] if rank == 3 else 1
    length, keys = query.shape[where_time], key.shape[where_time]
    if tuple(key.shape[:-1]) != tuple(value.shape[:-1]):
        raise AssertionError(f"key's sequence and batch dims {key.shape[:-1]} do not match value's {value.shape[:-1]}")
    if padding is not None and tuple(padding.shape) != ((batch, keys) if rank == 3 else (keys,)):
        raise AssertionError(f"Expected key_padding_mask of {(batch, keys) if rank == 3 else (keys,)}, but got "
                             f"{tuple(padding.shape)}")
    mask = masks.attention
    if mask is not None:
        wanted = {2: (length, keys), 3: (batch * heads, length, keys)}.get(mask.ndim)
        if wanted is None:
            raise AssertionError(f"expected `attn_mask` to be `None`, 2-D or 3-D but found {mask.ndim}-D tensor instead")
        if tuple(mask.shape) != wanted:
            raise RuntimeError(f"The shape of the {mask.ndim}D attn_mask is {mask.shape}, but should be {wanted}.")
    return rank == 3


def multi_head_attention_forward(
        query: Tensor, key: Tensor, value: Tensor, embed_dim_to_check: int, num_heads: int, in_proj_weight: Tensor | None,
        in_proj_bias: Tensor | None, bias_k: Tensor | None, bias_v: Tensor | None, add_zero_attn: bool, dropout_p: float,
        out_proj_weight: Tensor, out_proj_bias: Tensor | None, training: bool = True,
        key_padding_mask: Tensor | None = None, need_weights: bool = True, attn_mask: Tensor | None = None,
        use_separate_proj_weight: bool = False, q_proj_weight: Tensor | None = None, k_proj_weight: Tensor | None = None,
        v_proj_weight: Tensor | None = None, static_k: Tensor | None = None, static_v: Tensor | None = None,
        average_attn_weights: bool = True, is_causal: bool = False) -> tuple[Tensor, Tensor | None]:
    """What nn.MultiheadAttention computes, with its parameters passed one by one: query [L, N, E], key [S, N, kdim], value
    [S, N, vdim], or all without the batch -> (output like query, weights [N, L, S] or None).

    Masks: True (or -inf, being added) where attention is not allowed. is_causal is a hint and needs attn_mask."""
    masks = Masks(attn_mask, key_padding_mask)
    batched = check_attended(query, key, value, masks, num_heads)
    if is_causal and attn_mask is None:
        raise RuntimeError("Need attn_mask if specifying the is_causal hint.")
    size = query.shape[-1]
    if size != embed_dim_to_check:
        raise AssertionError(f"was expecting embedding dimension of {embed_dim_to_check}, but got {size}")
    if size % num_heads:
        raise AssertionError(f"embed_dim {size} not divisible by num_heads {num_heads}")
    separate = (q_proj_weight, k_proj_weight, v_proj_weight)
    into: Tensor | Sequence[Tensor] | None = in_proj_weight
    if use_separate_proj_weight:
        into = [w for w in separate if w is not None]
    if into is None or not isinstance(into, Tensor) and len(into) < 3:
        raise AssertionError("the projection weights are None: q_proj_weight, k_proj_weight and v_proj_weight with "
                             "use_separate_proj_weight, in_proj_weight without")
    given = Projections(num_heads, into, in_proj_bias, bias_k, bias_v, out_proj_weight, out_proj_bias)
    inputs = in_batches((query, key, value), batched, batch_first=False)
    if not batched and key_padding_mask is not None:
        masks = masks._replace(padding=key_padding_mask.unsqueeze(0))
    output, weights = attend(*inputs, given, masks, dropout_p if training else 0.0, need_weights, add_zero_attn,
                             (static_k, static_v))
    return out_of_batches(output, weights, batched, False, average_attn_weights)


def in_batches(inputs: tuple[Tensor, Tensor, Tensor], batched: bool, batch_first: bool) -> tuple[Tensor, Tensor, Tensor]:
    """As `attend` takes them: [N, T, *]. What was one tensor stays one."""
    if batched and batch_first:
        return inputs
    made = {id(t): transpose(t, 0, 1) if batched else t.unsqueeze(0) for t in inputs}
    query, key, value = [made[id(t)] for t in inputs]
    return query, key, value


def out_of_batches(output: Tensor, weights: Tensor | None, batched: bool, batch_first: bool,
                   average: bool) -> tuple[Tensor, Tensor | None]:
    """And back; weights are averaged over the heads if asked for."""
    if weights is not None:
        weights = mean(weights, dim=1) if average else weights
        weights = weights if batched else weights.squeeze(0)
    if not batched:
        return output.squeeze(0), weights
    return output if batch_first else transpose(output, 0, 1), weights


__all__ = ["multi_head_attention_forward", "scaled_dot_product_attention"]
public(globals(), __all__)
