"""EfficientNet's MBConv with squeeze-excite and stochastic depth (Tan and Le, 2019)."""
import math
from dataclasses import dataclass

import flambeau as torch
import flambeau.nn.functional as F
from flambeau import Tensor, nn


def drop_path(x: Tensor, drop_prob: float = 0.0, training: bool = False, scale_by_keep: bool = True) -> Tensor:
    if drop_prob == 0.0 or not training:
        return x
    keep_prob = 1 - drop_prob
    shape = (x.shape[0],) + (1,) * (x.ndim - 1)
    random_tensor = x.new_empty(shape).bernoulli_(keep_prob)
    if keep_prob > 0.0 and scale_by_keep:
        random_tensor.div_(keep_prob)
    return x * random_tensor


class DropPath(nn.Module):
    def __init__(self, drop_prob: float = 0.0):
        super().__init__()
        self.drop_prob = drop_prob

    def forward(self, x):
        return drop_path(x, self.drop_prob, self.training)

    def extra_repr(self):
        return f"drop_prob={round(self.drop_prob, 3):0.3f}"


@dataclass
class MBConvConfig:
    expand_ratio: float
    kernel: int
    stride: int
    input_channels: int
    out_channels: int
    num_layers: int

    def depth(self, mult: float) -> int:
        return int(math.ceil(self.num_layers * mult))


class Conv2dSame(nn.Conv2d):
    def forward(self, x):
        ih, iw = x.size()[-2:]
        kh, kw = self.weight.size()[-2:]
        pad_h = max((math.ceil(ih / self.stride[0]) - 1) * self.stride[0] + kh - ih, 0)
        pad_w = max((math.ceil(iw / self.stride[1]) - 1) * self.stride[1] + kw - iw, 0)
        if pad_h > 0 or pad_w > 0:
            x = F.pad(x, [pad_w // 2, pad_w - pad_w // 2, pad_h // 2, pad_h - pad_h // 2])
        return F.conv2d(x, self.weight, self.bias, self.stride, 0, self.dilation, self.groups)


class MBConv(nn.Module):
    def __init__(self, cnf: MBConvConfig, drop_prob: float):
        super().__init__()
        mid = int(cnf.input_channels * cnf.expand_ratio)
        self.expand = nn.Conv2d(cnf.input_channels, mid, 1, bias=False)
        self.bn0 = nn.BatchNorm2d(mid, momentum=0.01, eps=1e-3)
        self.depthwise = Conv2dSame(mid, mid, cnf.kernel, stride=cnf.stride, groups=mid, bias=False)
        self.bn1 = nn.BatchNorm2d(mid, momentum=0.01, eps=1e-3)
        self.se_reduce = nn.Conv2d(mid, max(1, cnf.input_channels // 4), 1)
        self.se_expand = nn.Conv2d(max(1, cnf.input_channels // 4), mid, 1)
        self.project = nn.Conv2d(mid, cnf.out_channels, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(cnf.out_channels, momentum=0.01, eps=1e-3)
        self.drop_path = DropPath(drop_prob) if drop_prob > 0.0 else nn.Identity()
        self.has_skip = cnf.stride == 1 and cnf.input_channels == cnf.out_channels

    def forward(self, x):
        shortcut = x
        x = F.silu(self.bn0(self.expand(x)))
        x = F.silu(self.bn1(self.depthwise(x)), inplace=True)
        squeezed = self.se_expand(F.silu(self.se_reduce(x.mean((2, 3), keepdim=True))))
        x = x * squeezed.sigmoid()
        x = self.bn2(self.project(x))
        if self.has_skip:
            x = self.drop_path(x) + shortcut
        return x


class EfficientNet(nn.Module):
    def __init__(self, configs, depth_mult=1.0, num_classes=6, drop_path_rate=0.2):
        super().__init__()
        self.stem = Conv2dSame(3, 8, 3, stride=2, bias=False)
        self.bn = nn.BatchNorm2d(8)
        total = sum(c.depth(depth_mult) for c in configs)
        blocks = []
        for c in configs:
            for _ in range(c.depth(depth_mult)):
                blocks.append(MBConv(c, drop_path_rate * (len(blocks) + 1) / total))
        self.blocks = nn.ModuleList(blocks)
        self.head = nn.Linear(configs[-1].out_channels, num_classes)

    def forward(self, x):
        x = F.silu(self.bn(self.stem(x)))
        for block in self.blocks:
            x = block(x)
        x = F.dropout(x.flatten(2).mean(-1), p=0.1, training=self.training)
        return self.head(x)


def make():
    configs = [MBConvConfig(2, 3, 1, 8, 8, 1), MBConvConfig(2, 5, 2, 8, 12, 1)]
    return EfficientNet(configs), (torch.randn(2, 3, 11, 13),), (torch.rand(2, 6).softmax(dim=1),)


def loss(output, target):
    return F.cross_entropy(output, target)
