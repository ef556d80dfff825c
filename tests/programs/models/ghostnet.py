"""GhostNet's module: cheap operations make half of the features (Han et al., 2020)."""
import math

import flambeau as torch
import flambeau.nn as nn
import flambeau.nn.functional as F


class GhostModule(nn.Module):
    def __init__(self, inp, oup, kernel_size=1, ratio=2, dw_size=3, stride=1, relu=True):
        super().__init__()
        self.oup = oup
        init_channels = math.ceil(oup / ratio)
        new_channels = init_channels * (ratio - 1)
        self.primary_conv = nn.Sequential(
            nn.Conv2d(inp, init_channels, kernel_size, stride, kernel_size // 2, bias=False),
            nn.BatchNorm2d(init_channels),
            nn.ReLU(inplace=True) if relu else nn.Sequential(),
        )
        self.cheap_operation = nn.Sequential(
            nn.Conv2d(init_channels, new_channels, dw_size, 1, dw_size // 2, groups=init_channels, bias=False),
            nn.BatchNorm2d(new_channels),
            nn.ReLU(inplace=True) if relu else nn.Sequential(),
        )

    def forward(self, x):
        x1 = self.primary_conv(x)
        x2 = self.cheap_operation(x1)
        out = torch.cat([x1, x2], dim=1)
        return out[:, : self.oup, :, :]


def hard_sigmoid(x, inplace: bool = False):
    if inplace:
        return x.add_(3.0).clamp_(0.0, 6.0).div_(6.0)
    return F.relu6(x + 3.0) / 6.0


class GhostNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.ghost1 = GhostModule(3, 7)
        self.ghost2 = GhostModule(7, 6, relu=False)
        self.gate = nn.Conv2d(6, 6, 1)
        self.fc = nn.Linear(6, 3)

    def forward(self, x):
        x = self.ghost2(self.ghost1(x))
        x = x * hard_sigmoid(self.gate(F.adaptive_avg_pool2d(x, 1)), inplace=True)
        return self.fc(x.amax(dim=(2, 3)))


def make():
    return GhostNet(), (torch.randn(2, 3, 6, 6),), (torch.tensor([0, 2]),)


def loss(output, target):
    return F.cross_entropy(output, target)
