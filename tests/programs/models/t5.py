"""T5: buckets of relative positions shared by layers, cross attention (Raffel et al., 2019)."""
import math

import flambeau as torch
from flambeau import nn


class T5LayerNorm(nn.Module):
    def __init__(self, hidden_size, eps=1e-6):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(hidden_size))
        self.variance_epsilon = eps

    def forward(self, hidden_states):
        variance = hidden_states.to(torch.float32).pow(2).mean(-1, keepdim=True)
        hidden_states = hidden_states * torch.rsqrt(variance + self.variance_epsilon)
        if self.weight.dtype in [torch.float16, torch.bfloat16]:
            hidden_states = hidden_states.to(self.weight.dtype)
        return self.weight * hidden_states


def relative_position_bucket(relative_position, bidirectional=True, num_buckets=8, max_distance=16):
    relative_buckets = 0
    if bidirectional:
        num_buckets //= 2
        relative_buckets += (relative_position > 0).to(torch.long) * num_buckets
        relative_position = torch.abs(relative_position)
    else:
        relative_position = -torch.min(relative_position, torch.zeros_like(relative_position))
    max_exact = num_buckets // 2
    is_small = relative_position < max_exact
    relative_position_if_large = max_exact + (
        torch.log(relative_position.float() / max_exact) / math.log(max_distance / max_exact) * (num_buckets - max_exact)
    ).to(torch.long)
    relative_position_if_large = torch.min(
        relative_position_if_large, torch.full_like(relative_position_if_large, num_buckets - 1))
    relative_buckets += torch.where(is_small, relative_position, relative_position_if_large)
    return relative_buckets


class T5Attention(nn.Module):
    def __init__(self, d_model, n_heads, is_decoder, has_bias):
        super().__init__()
        self.n_heads, self.is_decoder, self.has_bias = n_heads, is_decoder, has_bias
        self.q, self.k, self.v, self.o = (nn.Linear(d_model, d_model, bias=False) for _ in range(4))
        if has_bias:
            self.relative_attention_bias = nn.Embedding(8, n_heads)

    def compute_bias(self, query_length, key_length, device=None):
        context_position = torch.arange(query_length, dtype=torch.long, device=device)[:, None]
        memory_position = torch.arange(key_length, dtype=torch.long, device=device)[None, :]
        bucket = relative_position_bucket(memory_position - context_position, bidirectional=not self.is_decoder)
        return self.relative_attention_bias(bucket).permute([2, 0, 1]).unsqueeze(0)

    def forward(self, x, key_value_states=None, position_bias=None):
        b = x.shape[0]
        shape = lambda states: states.view(b, -1, self.n_heads, states.shape[-1] // self.n_heads).transpose(1, 2)
        source = x if key_value_states is None else key_value_states
        q, k, v = shape(self.q(x)), shape(self.k(source)), shape(self.v(source))
        scores = torch.matmul(q, k.transpose(3, 2))
        if self.has_bias and position_bias is None:
            position_bias = self.compute_bias(q.shape[2], k.shape[2], device=x.device)
        if position_bias is not None:
            scores += position_bias
        if self.is_decoder and key_value_states is None:
            mask = torch.ones(scores.shape[-2:], dtype=torch.bool).tril().logical_not()
            scores = scores.masked_fill(mask, torch.finfo(scores.dtype).min)
        attn = nn.functional.softmax(scores.float(), dim=-1).type_as(scores)
        out = torch.matmul(attn, v).transpose(1, 2).contiguous().view(b, -1, x.shape[-1])
        return self.o(out), position_bias


class T5(nn.Module):
    def __init__(self, vocab=11, d=8, heads=2):
        super().__init__()
        self.shared = nn.Embedding(vocab, d)
        self.encoder = nn.ModuleList([T5Attention(d, heads, False, has_bias=bool(i == 0)) for i in range(2)])
        self.decoder = T5Attention(d, heads, True, has_bias=True)
        self.cross = T5Attention(d, heads, True, has_bias=False)
        self.norm = T5LayerNorm(d)
        self.scale = d**-0.5

    def forward(self, input_ids, decoder_input_ids):
        x, bias = self.shared(input_ids), None
        for layer in self.encoder:
            out, bias = layer(self.norm(x), position_bias=bias)
            x = x + out
        y = self.shared(decoder_input_ids)
        y = y + self.decoder(self.norm(y))[0]
        y = y + self.cross(self.norm(y), key_value_states=x)[0]
        return (self.norm(y) * self.scale) @ self.shared.weight.T


def make():
    labels = torch.tensor([[4, 1, 9, -100], [2, 2, -100, -100]])
    decoder_input_ids = labels.new_zeros(labels.shape)
    decoder_input_ids[..., 1:] = labels[..., :-1].clone()
    decoder_input_ids.masked_fill_(decoder_input_ids == -100, 0)
    return T5(), (torch.randint(0, 11, (2, 5)), decoder_input_ids), (labels,)


def loss(logits, labels):
    return nn.CrossEntropyLoss(ignore_index=-100)(logits.view(-1, logits.size(-1)), labels.view(-1))
