"""Multi-head attention, with PyTorch's parameter layout and return values."""
from __future__ import annotations

import math
from typing import Any

from flambeau.errors import UnsupportedError
from flambeau.frontend.functions.elementwise import where
from flambeau.frontend.functions.layers import safe_softmax
from flambeau.frontend.functions.noise import dropout
from flambeau.frontend.functions.products import linear
from flambeau.frontend.functions.reductions import softmax
from flambeau.frontend.nn.init import xavier_uniform_, zeros_
from flambeau.frontend.nn.linear import Linear
from flambeau.frontend.nn.module import Module
from flambeau.frontend.nn.parameter import Parameter, empty_parameter
from flambeau.frontend.tensor.tensor import Tensor
from flambeau.ir import dtypes as dt
from flambeau.ir.dtypes import DType


class MultiheadAttention(Module):
    """softmax(q k^T / sqrt(head_dim)) v in num_heads parallel heads. Vaswani et al., NeurIPS 2017.

    query: [L, N, embed_dim], key: [S, N, kdim], value: [S, N, vdim]; with batch_first [N, L, embed_dim] and so on;
    without a batch [L, embed_dim]. Gives (output shaped like query, weights [N, L, S] or None)."""

    in_proj_weight: Parameter | None
    in_proj_bias: Parameter | None

    def __init__(self, embed_dim: int, num_heads: int, dropout: float = 0.0, bias: bool = True,
                 add_bias_kv: bool = False, add_zero_attn: bool = False, kdim: int | None = None,
                 vdim: int | None = None, batch_first: bool = False, device: Any = None, dtype: DType | None = None):
        super().__init__()
        if embed_dim <= 0 or num_heads <= 0:
            raise ValueError(f"embed_dim and num_heads must be greater than 0, got embed_dim={embed_dim} and "
                             f"num_heads={num_heads} instead")
        if embed_dim % num_heads:
            raise ValueError("embed_dim must be divisible by num_heads")
        if add_bias_kv or add_zero_attn:
            raise UnsupportedError("MultiheadAttention: add_bias_kv and add_zero_attn are not there")
        self.embed_dim, self.num_heads, self.head_dim = embed_dim, num_heads, embed_dim // num_heads
        self.kdim, self.vdim = kdim or embed_dim, vdim or embed_dim
        self.dropout, self.batch_first = dropout, batch_first
        packed = self.kdim == self.vdim == embed_dim
        widths = {"q_proj_weight": embed_dim, "k_proj_weight": self.kdim, "v_proj_weight": self.vdim}
        for name, width in widths.items():
            self.register_parameter(name, None if packed else empty_parameter((embed_dim, width), dtype, device))
        self.register_parameter("in_proj_weight", empty_parameter((3 * embed_dim, embed_dim), dtype, device)
                                if packed else None)
        self.register_parameter("in_proj_bias", empty_parameter((3 * embed_dim,), dtype, device) if bias else None)
        self.out_proj = Linear(embed_dim, embed_dim, bias, device, dtype)
        self._reset_parameters()

    def _reset_parameters(self) -> None:
        for weight in (self.in_proj_weight, self.q_proj_weight, self.k_proj_weight, self.v_proj_weight):
            if weight is not None:
                xavier_uniform_(weight)
        for bias in (self.in_proj_bias, self.out_proj.bias):
            if bias is not None:
                zeros_(bias)

    def forward(self, query: Tensor, key: Tensor, value: Tensor, key_padding_mask: Tensor | None = None,
                need_weights: bool = True, attn_mask: Tensor | None = None, average_attn_weights: bool = True,
                is_causal: bool = False) -> tuple[Tensor, Tensor | None]:
        """Masks: True (or -inf, being added) where attention is not allowed. key_padding_mask: [N, S];
        attn_mask: [L, S] or [N * num_heads, L, S]. is_causal is a hint and needs attn_mask."""
        if is_causal and attn_mask is None:
            raise RuntimeError("Need attn_mask if specifying the is_causal hint.")
        batched = query.ndim == 3
        if query.ndim not in (2, 3) or key.ndim != query.ndim or value.ndim != query.ndim:
            raise ValueError(f"query, key and value must all be 2-D or all 3-D, got {query.ndim}-D, {key.ndim}-D and "
                             f"{value.ndim}-D")
        if not batched:
            query, key, value = query.unsqueeze(0), key.unsqueeze(0), value.unsqueeze(0)
            key_padding_mask = None if key_padding_mask is None else key_padding_mask.unsqueeze(0)
        elif not self.batch_first:
            query, key, value = query.transpose(0, 1), key.transpose(0, 1), value.transpose(0, 1)
        mask = self._mask(query, key, attn_mask, key_padding_mask)
        output, weights = self._attend(query, key, value, mask, need_weights)
        if not batched:
            output, weights = output.squeeze(0), weights.squeeze(0)
        elif not self.batch_first:
            output = output.transpose(0, 1)
        if not need_weights:
            return output, None
        return output, weights.mean(dim=-3) if average_attn_weights else weights

    def _attend(self, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None,
                need_weights: bool) -> tuple[Tensor, Tensor]:
        """[N, L, E], [N, S, kdim], [N, S, vdim] -> ([N, L, E], weights [N, heads, L, S]). A row that is masked whole
        has NaN weights if they are asked for, as in PyTorch, else none."""
        q, k, v = [self._heads(x) for x in self._project(query, key, value)]
        scores = (q * math.sqrt(1.0 / self.head_dim)) @ k.transpose(-2, -1)
        scores = scores if mask is None else scores + mask
        weights = softmax(scores, dim=-1) if need_weights else safe_softmax(scores)
        weights = dropout(weights, self.dropout, self.training)
        mixed = (weights @ v).transpose(1, 2).reshape(*query.shape[:2], self.embed_dim)
        return self.out_proj(mixed), weights

    def _project(self, *inputs: Tensor) -> list[Tensor]:
        size = self.embed_dim
        weights = [self.q_proj_weight, self.k_proj_weight, self.v_proj_weight]
        if self.in_proj_weight is not None:
            if inputs[0] is inputs[1] is inputs[2]:
                together = linear(inputs[0], self.in_proj_weight, self.in_proj_bias)
                return [together[..., n * size:(n + 1) * size] for n in range(3)]
            weights = [self.in_proj_weight[n * size:(n + 1) * size] for n in range(3)]
        biases = [None if self.in_proj_bias is None else self.in_proj_bias[n * size:(n + 1) * size] for n in range(3)]
        return [linear(x, w, b) for x, w, b in zip(inputs, weights, biases, strict=True)]

    def _heads(self, x: Tensor) -> Tensor:
        """[N, T, E] -> [N, heads, T, head_dim]."""
        return x.reshape(x.shape[0], x.shape[1], self.num_heads, self.head_dim).transpose(1, 2)

    def _mask(self, query: Tensor, key: Tensor, attn_mask: Tensor | None,
              key_padding_mask: Tensor | None) -> Tensor | None:
        """Both masks as one that is added to scores [N, heads, L, S]; None when there is none."""
        parts = []
        if attn_mask is not None:
            added = _additive(attn_mask, query.dtype)
            if added.ndim == 3:
                added = added.reshape(query.shape[0], self.num_heads, query.shape[1], key.shape[1])
            parts.append(added)
        if key_padding_mask is not None:
            parts.append(_additive(key_padding_mask, query.dtype).reshape(query.shape[0], 1, 1, key.shape[1]))
        return parts[0] + parts[1] if len(parts) == 2 else parts[0] if parts else None


def _additive(mask: Tensor, dtype: DType) -> Tensor:
    """A bool mask (True: not allowed) as 0 and -inf; a float mask as it is."""
    if mask.dtype is not dt.bool_:
        return mask.to(dtype)
    return where(mask, -math.inf, 0.0).to(dtype)


__all__ = ["MultiheadAttention"]
