"""RealNVP: affine couplings with alternating masks; its inverse is run too (Dinh et al., 2016)."""
import math

import flambeau as torch
import flambeau.nn as nn


class RealNVP(nn.Module):
    def __init__(self, nets, nett, masks):
        super(RealNVP, self).__init__()
        self.mask = nn.Parameter(masks, requires_grad=False)
        self.t = torch.nn.ModuleList([nett() for _ in range(len(masks))])
        self.s = torch.nn.ModuleList([nets() for _ in range(len(masks))])

    def g(self, z):
        x = z
        for i in range(len(self.t)):
            x_ = x * self.mask[i]
            s = self.s[i](x_) * (1 - self.mask[i])
            t = self.t[i](x_) * (1 - self.mask[i])
            x = x_ + (1 - self.mask[i]) * (x * torch.exp(s) + t)
        return x

    def f(self, x):
        log_det_J, z = x.new_zeros(x.shape[0]), x
        for i in reversed(range(len(self.t))):
            z_ = self.mask[i] * z
            s = self.s[i](z_) * (1 - self.mask[i])
            t = self.t[i](z_) * (1 - self.mask[i])
            z = (1 - self.mask[i]) * (z - t) * torch.exp(-s) + z_
            log_det_J -= s.sum(dim=1)
        return z, log_det_J

    def forward(self, x):
        z, logp = self.f(x)
        return z, logp, self.g(z)


def make():
    masks = torch.tensor([[0, 1], [1, 0]] * 2, dtype=torch.float32)
    nets = lambda: nn.Sequential(nn.Linear(2, 6), nn.LeakyReLU(), nn.Linear(6, 2), nn.Tanh())
    nett = lambda: nn.Sequential(nn.Linear(2, 6), nn.LeakyReLU(), nn.Linear(6, 2))
    x = torch.randn(6, 2)
    return RealNVP(nets, nett, masks), (x,), (x,)


def loss(output, x):
    z, log_det, back = output
    prior = -0.5 * (z**2).sum(1) - math.log(2 * math.pi)
    return -(prior + log_det).mean() + (back - x).abs().max().detach()


def optimizers(model):
    return torch.optim.Adam([p for p in model.parameters() if p.requires_grad == True], lr=1e-3)  # noqa: E712


def train_step(model, optimizer, inputs, targets):
    value = loss(model(*inputs), *targets)
    optimizer.zero_grad()
    value.backward(retain_graph=True)
    optimizer.step()
    return value
