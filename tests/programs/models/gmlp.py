"""gMLP: no attention; a gate that mixes the places of a sequence, begun as the identity (Liu et al., 2021)."""
import flambeau as torch
from flambeau import nn
from flambeau.nn import functional as F


class SpatialGatingUnit(nn.Module):
    def __init__(self, channels, length, causal):
        super().__init__()
        self.causal = causal
        self.norm = nn.LayerNorm(channels // 2)
        self.proj = nn.Conv1d(length, length, kernel_size=1)
        nn.init.uniform_(self.proj.weight, -1e-3 / length, 1e-3 / length)
        nn.init.ones_(self.proj.bias)

    def forward(self, x):
        kept, gate = x.chunk(2, dim=-1)
        weight = self.proj.weight
        if self.causal:
            ahead = torch.ones(weight.shape[:2], device=x.device).triu_(1).bool()
            weight = weight.masked_fill(ahead[..., None], 0.0)
        gate = F.conv1d(self.norm(gate), weight, self.proj.bias)
        return kept * gate


class GMLPBlock(nn.Module):
    def __init__(self, dim, hidden, length, causal):
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.proj_in = nn.Linear(dim, hidden)
        self.sgu = SpatialGatingUnit(hidden, length, causal)
        self.proj_out = nn.Linear(hidden // 2, dim)

    def forward(self, x):
        return x + self.proj_out(self.sgu(F.gelu(self.proj_in(self.norm(x)))))


class GMLP(nn.Module):
    def __init__(self, vocabulary=9, dim=8, depth=3, length=6, causal=True, survival=0.8):
        super().__init__()
        self.survival = survival
        self.embed = nn.Embedding(vocabulary, dim)
        self.layers = nn.ModuleList([GMLPBlock(dim, 2 * dim, length, causal) for _ in range(depth)])
        self.norm = nn.LayerNorm(dim)
        self.to_logits = nn.Linear(dim, vocabulary, bias=False)
        self.to_logits.weight = self.embed.weight

    def forward(self, tokens):
        x = self.embed(tokens)
        for layer in self.layers:
            if self.training:                                               # a layer's work kept or left out, per sample
                keep = torch.rand(x.size(0), 1, 1).lt(self.survival)
                x = torch.where(keep, layer(x), x)
            else:
                x = layer(x)
        return self.to_logits(self.norm(x))


def make():
    tokens = torch.randint(0, 9, (2, 7))
    return GMLP(), (tokens[:, :-1],), (tokens[:, 1:],)


def loss(logits, target):
    return F.cross_entropy(logits.transpose(1, 2), target)
