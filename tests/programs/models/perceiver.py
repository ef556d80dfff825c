"""Perceiver: latents attend to Fourier-encoded inputs, with shared weights (Jaegle et al., 2021)."""
from functools import wraps
from math import pi

import flambeau as torch
import flambeau.nn.functional as F
from flambeau import einsum, nn


def exists(val):
    return val is not None


def default(val, d):
    return val if exists(val) else d


def cache_fn(f):
    cache = None

    @wraps(f)
    def cached_fn(*args, _cache=True, **kwargs):
        if not _cache:
            return f(*args, **kwargs)
        nonlocal cache
        if cache is not None:
            return cache
        cache = f(*args, **kwargs)
        return cache

    return cached_fn


def fourier_encode(x, max_freq, num_bands=4):
    x = x.unsqueeze(-1)
    device, dtype, orig_x = x.device, x.dtype, x
    scales = torch.linspace(1.0, max_freq / 2, num_bands, device=device, dtype=dtype)
    scales = scales[(*((None,) * (len(x.shape) - 1)), Ellipsis)]
    x = x * scales * pi
    x = torch.cat([x.sin(), x.cos()], dim=-1)
    return torch.cat((x, orig_x), dim=-1)


class GEGLU(nn.Module):
    def forward(self, x):
        x, gates = x.chunk(2, dim=-1)
        return x * F.gelu(gates)


class Attention(nn.Module):
    def __init__(self, query_dim, context_dim=None, heads=2, dim_head=4, dropout=0.1):
        super().__init__()
        inner_dim = dim_head * heads
        context_dim = default(context_dim, query_dim)
        self.scale, self.heads = dim_head**-0.5, heads
        self.to_q = nn.Linear(query_dim, inner_dim, bias=False)
        self.to_kv = nn.Linear(context_dim, inner_dim * 2, bias=False)
        self.dropout = nn.Dropout(dropout)
        self.to_out = nn.Linear(inner_dim, query_dim)

    def forward(self, x, context=None, mask=None):
        h = self.heads
        q = self.to_q(x)
        context = default(context, x)
        k, v = self.to_kv(context).chunk(2, dim=-1)
        b = x.shape[0]
        split = lambda t: t.reshape(b, t.shape[1], h, -1).permute(0, 2, 1, 3).reshape(b * h, t.shape[1], -1)
        q, k, v = map(split, (q, k, v))
        sim = einsum("b i d, b j d -> b i j", q, k) * self.scale
        if exists(mask):
            mask = mask.reshape(b, -1)
            max_neg_value = -torch.finfo(sim.dtype).max
            mask = mask[:, None, None, :].expand(b, h, 1, -1).reshape(b * h, 1, -1)
            sim.masked_fill_(~mask, max_neg_value)
        attn = self.dropout(sim.softmax(dim=-1))
        out = einsum("b i j, b j d -> b i d", attn, v)
        out = out.view(b, h, out.shape[1], -1).permute(0, 2, 1, 3).flatten(2)
        return self.to_out(out)


class Perceiver(nn.Module):
    def __init__(self, *, depth=2, latents=3, latent_dim=8, channels=2):
        super().__init__()
        input_dim = channels + 2 * 9
        self.latents = nn.Parameter(torch.randn(latents, latent_dim))
        get_cross_attn = cache_fn(lambda: Attention(latent_dim, input_dim))
        get_ff = cache_fn(lambda: nn.Sequential(nn.Linear(latent_dim, 16), GEGLU(), nn.Linear(8, latent_dim)))
        self.layers = nn.ModuleList([])
        for i in range(depth):
            self.layers.append(nn.ModuleList([get_cross_attn(_cache=True), get_ff(_cache=i > -1)]))
        self.to_logits = nn.Sequential(nn.LayerNorm(latent_dim), nn.Linear(latent_dim, 3))

    def forward(self, data, mask=None):
        b, *axis, _, device, dtype = *data.shape, data.device, data.dtype
        axis_pos = list(map(lambda size: torch.linspace(-1.0, 1.0, steps=size, device=device, dtype=dtype), axis))
        pos = torch.stack(torch.meshgrid(*axis_pos, indexing="ij"), dim=-1)
        enc_pos = fourier_encode(pos, max_freq=10.0).flatten(-2)
        enc_pos = enc_pos.unsqueeze(0).expand(b, *enc_pos.shape)
        data = torch.cat((data, enc_pos), dim=-1).flatten(1, -2)
        x = self.latents.unsqueeze(0).repeat(b, 1, 1)
        for cross_attn, ff in self.layers:
            x = cross_attn(x, context=data, mask=mask) + x
            x = ff(x) + x
        return self.to_logits(x.mean(dim=1))


def make():
    mask = torch.ones(2, 3, 4).bool()
    mask[1, :, 2:] = False
    return Perceiver(), (torch.randn(2, 3, 4, 2), mask), (torch.tensor([1, 0]),)


def loss(output, target):
    return F.cross_entropy(output, target)
