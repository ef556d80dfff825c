"""Mixture of experts: top-k routing, dispatch by one-hot products, a load-balancing loss (Shazeer et al., 2017)."""
import flambeau as torch
import flambeau.nn as nn
import flambeau.nn.functional as F


class Expert(nn.Module):
    def __init__(self, dim):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(dim, 2 * dim), nn.ReLU(), nn.Linear(2 * dim, dim), nn.Dropout(0.1))

    def forward(self, x):
        return self.net(x)


class TopkRouter(nn.Module):
    def __init__(self, dim, num_experts, top_k):
        super().__init__()
        self.top_k = top_k
        self.topkroute_linear = nn.Linear(dim, num_experts)

    def forward(self, x):
        logits = self.topkroute_linear(x)
        top_k_logits, indices = logits.topk(self.top_k, dim=-1)
        zeros = torch.full_like(logits, float("-inf"))
        sparse_logits = zeros.scatter(-1, indices, top_k_logits)
        return F.softmax(sparse_logits, dim=-1), indices, logits


class SparseMoE(nn.Module):
    def __init__(self, dim=6, num_experts=3, top_k=2):
        super().__init__()
        self.router = TopkRouter(dim, num_experts, top_k)
        self.experts = nn.ModuleList([Expert(dim) for _ in range(num_experts)])
        self.w1 = nn.Parameter(torch.randn(num_experts, dim, dim) * 0.2)

    def forward(self, x):
        gating, indices, logits = self.router(x)
        final = torch.zeros_like(x)
        for i, expert in enumerate(self.experts):
            final += gating[..., i : i + 1] * expert(x)
        flat, capacity = x.flatten(0, 1), 3
        mask = F.one_hot(indices[..., 0].flatten(), len(self.experts))
        position = (mask.cumsum(dim=0) * mask - 1).clamp_(min=0)
        kept = mask * (position < capacity)
        dispatch = kept.unsqueeze(-1) * F.one_hot(position.clamp(max=capacity - 1), capacity)
        tokens = torch.einsum("nec,nd->ecd", dispatch.to(flat.dtype), flat)
        routed = torch.einsum("nec,ecd->nd", dispatch.float(), torch.bmm(tokens, self.w1)).view_as(x)
        density = F.one_hot(indices, len(self.experts)).float().mean(dim=(0, 1, 2))
        aux = len(self.experts) * (density * logits.softmax(-1).mean(dim=(0, 1))).sum()
        return final + routed, aux


def make():
    x = torch.randn(2, 5, 6)
    return SparseMoE(), (x,), (x.roll(1, 1),)


def loss(output, target):
    y, aux = output
    return F.huber_loss(y, target) + 0.01 * aux
