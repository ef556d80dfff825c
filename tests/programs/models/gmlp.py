"""gMLP: a spatial gate in place of attention (Liu et al., 2021)."""
import flambeau as torch
from flambeau import nn
from flambeau.nn import functional as F


class SpatialGatingUnit(nn.Module):
    def __init__(self, dim, dim_seq, causal=False, heads=2, init_eps=1e-3):
        super().__init__()
        dim_out = dim // 2
        self.heads = heads
        self.causal = causal
        self.norm = nn.LayerNorm(dim_out)
        init_eps /= dim_seq
        self.weight = nn.Parameter(torch.zeros(heads, dim_seq, dim_seq).uniform_(-init_eps, init_eps))
        self.bias = nn.Parameter(torch.ones(heads, dim_seq))

    def forward(self, x, gate_res=None):
        n, h = x.shape[1], self.heads
        res, gate = x.chunk(2, dim=-1)
        gate = self.norm(gate)
        weight, bias = self.weight, self.bias
        if self.causal:
            weight, bias = weight[:, :n, :n], bias[:, :n]
            mask = torch.ones(weight.shape[-2:], device=x.device).triu_(1).bool()
            weight = weight.masked_fill(mask[None, ...], 0.0)
        b = gate.size(0)
        gate = gate.view(b, n, h, -1).permute(0, 2, 1, 3)
        gate = torch.einsum("b h n d, h m n -> b h m d".replace(" ", ""), gate, weight)
        gate = gate + bias[None, :, :, None]
        gate = gate.transpose(1, 2).reshape(b, n, -1)
        if gate_res is not None:
            gate = gate + gate_res
        return F.gelu(gate, approximate="tanh") * res


class gMLP(nn.Module):
    def __init__(self, *, num_tokens, dim, seq_len, ff_mult=2):
        super().__init__()
        self.to_embed = nn.Embedding(num_tokens, dim)
        self.proj_in = nn.Linear(dim, dim * ff_mult)
        self.sgu = SpatialGatingUnit(dim * ff_mult, seq_len, causal=True)
        self.attn = nn.Linear(dim, dim * ff_mult // 2)
        self.proj_out = nn.Linear(dim * ff_mult // 2, dim)
        self.to_logits = nn.Sequential(nn.LayerNorm(dim), nn.Linear(dim, num_tokens))

    def forward(self, x):
        x = self.to_embed(x)
        x = x + self.proj_out(self.sgu(F.gelu(self.proj_in(x)), gate_res=self.attn(x)))
        return self.to_logits(x)


def make():
    tokens = torch.randint(0, 20, (2, 7))
    return gMLP(num_tokens=20, dim=8, seq_len=8), (tokens[:, :-1],), (tokens[:, 1:],)


def loss(logits, target):
    return F.cross_entropy(logits.transpose(1, 2), target)
