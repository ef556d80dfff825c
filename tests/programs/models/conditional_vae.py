"""Conditional VAE whose densities come as tensors of means and scales (Sohn et al., 2015)."""
import math

import flambeau as torch
import flambeau.nn as nn


def idx2onehot(idx, n):
    assert torch.max(idx).item() < n if not isinstance(idx, torch.Tensor) else True
    if idx.dim() == 1:
        idx = idx.unsqueeze(1)
    onehot = torch.zeros(idx.size(0), n).to(idx.device)
    onehot.scatter_(1, idx, 1)
    return onehot


def log_normal(x, mean, log_scale):
    return -0.5 * math.log(2 * math.pi) - log_scale - 0.5 * ((x - mean) / log_scale.exp()) ** 2


class Encoder(nn.Module):
    def __init__(self, layer_sizes, latent_size, num_labels):
        super().__init__()
        layer_sizes[0] += num_labels
        self.num_labels = num_labels
        self.MLP = nn.Sequential()
        for i, (in_size, out_size) in enumerate(zip(layer_sizes[:-1], layer_sizes[1:])):
            self.MLP.add_module(name="L{:d}".format(i), module=nn.Linear(in_size, out_size))
            self.MLP.add_module(name="A{:d}".format(i), module=nn.ELU())
        self.linear_means = nn.Linear(layer_sizes[-1], latent_size)
        self.linear_log_var = nn.Linear(layer_sizes[-1], latent_size)

    def forward(self, x, c=None):
        x = torch.cat((x, idx2onehot(c, n=self.num_labels)), dim=-1)
        x = self.MLP(x)
        return self.linear_means(x), self.linear_log_var(x)


class CVAE(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder = Encoder([8, 10], 2, 4)
        self.decoder = nn.Sequential(nn.Linear(2 + 4, 10), nn.CELU(0.5), nn.Linear(10, 16))

    def forward(self, x, c, eps):
        means, log_var = self.encoder(x, c)
        z = torch.addcmul(means, eps, torch.exp(0.5 * log_var))
        mean, log_scale = self.decoder(torch.cat((z, idx2onehot(c, n=4)), -1)).split(8, dim=-1)
        return mean, log_scale.clamp(-3, 3), means, log_var


def make():
    x = torch.randn(5, 8)
    return CVAE(), (x, torch.randint(0, 4, (5,)), torch.randn(5, 2)), (x,)


def loss(output, x):
    mean, log_scale, means, log_var = output
    KLD = -0.5 * torch.sum(1 + log_var - means.pow(2) - log_var.exp())
    return (KLD - log_normal(x, mean, log_scale).sum()) / x.size(0)
