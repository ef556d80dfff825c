"""LoRA as a parametrization of frozen weights (Hu et al., 2021), on layers whose weights a hypernetwork gives."""
import math

import flambeau as torch
import flambeau.nn as nn
import flambeau.nn.functional as F
from flambeau.nn.utils import parametrize


class LoRAParametrization(nn.Module):
    def __init__(self, features_in, features_out, rank=2, alpha=2):
        super().__init__()
        self.lora_A = nn.Parameter(torch.zeros((rank, features_out)))
        self.lora_B = nn.Parameter(torch.zeros((features_in, rank)))
        nn.init.normal_(self.lora_A, mean=0, std=1)
        nn.init.normal_(self.lora_B, mean=0, std=0.1)
        self.scale = alpha / rank
        self.enabled = True

    def forward(self, original_weights):
        if self.enabled:
            return original_weights + torch.matmul(self.lora_B, self.lora_A).view(original_weights.shape) * self.scale
        return original_weights


class HyperLinear(nn.Module):
    def __init__(self, z_dim, n_in, n_out):
        super().__init__()
        self.n_in, self.n_out = n_in, n_out
        self.z = nn.Parameter(torch.randn(z_dim))
        self.generate = nn.Linear(z_dim, n_in * n_out + n_out)

    def forward(self, x):
        w, b = self.generate(self.z).split([self.n_in * self.n_out, self.n_out])
        return F.linear(x, w.view(self.n_out, self.n_in) / math.sqrt(self.n_in), b)


class RichBoyNet(nn.Module):
    def __init__(self):
        super(RichBoyNet, self).__init__()
        self.linear1 = nn.Linear(9, 12)
        self.hyper = HyperLinear(3, 12, 8)
        self.linear2 = nn.Linear(8, 4)

    def forward(self, img):
        x = img.view(-1, 9)
        return self.linear2(F.relu(self.hyper(F.relu(self.linear1(x)))))


def make():
    net = RichBoyNet()
    for layer in (net.linear1, net.linear2):
        features_in, features_out = layer.weight.shape
        parametrize.register_parametrization(layer, "weight", LoRAParametrization(features_in, features_out))
    for name, param in net.named_parameters():
        if "lora" not in name and "hyper" not in name:
            param.requires_grad = False
    return net, (torch.randn(3, 1, 3, 3),), (torch.tensor([0, 3, 1]),)


def loss(output, target):
    return nn.CrossEntropyLoss()(output, target)


def optimizers(model):
    return torch.optim.NAdam(filter(lambda p: p.requires_grad, model.parameters()), lr=1e-2)


def train_step(model, optimizer, inputs, targets):
    def closure():
        optimizer.zero_grad()
        value = loss(model(*inputs), *targets)
        value.backward()
        return value

    with parametrize.cached():
        return optimizer.step(closure)
