"""Multi-head attention, with PyTorch's parameter layout and return values."""
from __future__ import annotations

from typing import Any

from flambeau.frontend.functions.attention import (
    Masks,
    Projections,
    attend,
    check_attended,
    in_batches,
    out_of_batches,
)
from flambeau.frontend.nn.init import xavier_normal_, xavier_uniform_, zeros_
from flambeau.frontend.nn.linear import NonDynamicallyQuantizableLinear
from flambeau.frontend.nn.module import Module
from flambeau.frontend.nn.parameter import Parameter, empty_parameter
from flambeau.frontend.tensor.tensor import Tensor
from flambeau.ir.dtypes import DType


class MultiheadAttention(Module):
    """softmax(q k^T / sqrt(head_dim)) v in num_heads parallel heads. Vaswani et al., NeurIPS 2017.

    query: [L, N, embed_dim], key: [S, N, kdim], value: [S, N, vdim]; with batch_first [N, L, embed_dim] and so on;
    without a batch [L, embed_dim]. Gives (output shaped like query, weights [N, L, S] or None). add_bias_kv: one more key
    and value that are learned; add_zero_attn: one more of zeros."""

    in_proj_weight: Parameter | None
    in_proj_bias: Parameter | None
    bias_k: Parameter | None
    bias_v: Parameter | None

    def __init__(self, embed_dim: int, num_heads: int, dropout: float = 0.0, bias: bool = True,
                 add_bias_kv: bool = False, add_zero_attn: bool = False, kdim: int | None = None,
                 vdim: int | None = None, batch_first: bool = False, device: Any = None, dtype: DType | None = None):
        super().__init__()
        if embed_dim <= 0 or num_heads <= 0:
            raise ValueError(f"embed_dim and num_heads must be greater than 0, got embed_dim={embed_dim} and "
                             f"num_heads={num_heads} instead")
        if embed_dim % num_heads:
            raise AssertionError(f"embed_dim must be divisible by num_heads, got {embed_dim} and {num_heads}")
        self.embed_dim, self.num_heads, self.head_dim = embed_dim, num_heads, embed_dim // num_heads
        self.kdim, self.vdim = embed_dim if kdim is None else kdim, embed_dim if vdim is None else vdim
        self.dropout, self.batch_first, self.add_zero_attn = dropout, batch_first, add_zero_attn
        self._qkv_same_embed_dim = packed = self.kdim == self.vdim == embed_dim
        widths = {"q_proj_weight": embed_dim, "k_proj_weight": self.kdim, "v_proj_weight": self.vdim}
        for name, width in widths.items():
            self.register_parameter(name, None if packed else empty_parameter((embed_dim, width), dtype, device))
        self.register_parameter("in_proj_weight", empty_parameter((3 * embed_dim, embed_dim), dtype, device)
                                if packed else None)
        self.register_parameter("in_proj_bias", empty_parameter((3 * embed_dim,), dtype, device) if bias else None)
        self.out_proj = NonDynamicallyQuantizableLinear(embed_dim, embed_dim, bias, device, dtype)
        for name in ("bias_k", "bias_v"):
            self.register_parameter(name, empty_parameter((1, 1, embed_dim), dtype, device) if add_bias_kv else None)
        self._reset_parameters()

    def _reset_parameters(self) -> None:
        for weight in (self.in_proj_weight, self.q_proj_weight, self.k_proj_weight, self.v_proj_weight):
            if weight is not None:
                xavier_uniform_(weight)
        for bias in (self.in_proj_bias, self.out_proj.bias):
            if bias is not None:
                zeros_(bias)
        for bias in (self.bias_k, self.bias_v):
            if bias is not None:
                xavier_normal_(bias)

    def forward(self, query: Tensor, key: Tensor, value: Tensor, key_padding_mask: Tensor | None = None,
                need_weights: bool = True, attn_mask: Tensor | None = None, average_attn_weights: bool = True,
                is_causal: bool = False) -> tuple[Tensor, Tensor | None]:
        """Masks: True (or -inf, being added) where attention is not allowed. key_padding_mask: [N, S];
        attn_mask: [L, S] or [N * num_heads, L, S]. is_causal is a hint and needs attn_mask."""
        masks = Masks(attn_mask, key_padding_mask)
        batched = check_attended(query, key, value, masks, self.num_heads, self.batch_first)
        if is_causal and attn_mask is None:
            raise RuntimeError("Need attn_mask if specifying the is_causal hint.")
        if query.shape[-1] != self.embed_dim:
            raise AssertionError(f"was expecting embedding dimension of {self.embed_dim}, but got {query.shape[-1]}")
        if not batched and key_padding_mask is not None:
            masks = masks._replace(padding=key_padding_mask.unsqueeze(0))
        into = self.in_proj_weight
        given = Projections(
            self.num_heads, [self.q_proj_weight, self.k_proj_weight, self.v_proj_weight] if into is None else into,
            self.in_proj_bias, self.bias_k, self.bias_v, self.out_proj.weight, self.out_proj.bias)
        output, weights = attend(*in_batches((query, key, value), batched, self.batch_first), given, masks,
                                 self.dropout if self.training else 0.0, need_weights, self.add_zero_attn)
        return out_of_batches(output, weights, batched, self.batch_first, average_attn_weights)


__all__ = ["MultiheadAttention"]
