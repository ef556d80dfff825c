"""Feature pyramid: a top-down pathway with lateral connections (Lin et al., 2017)."""
from collections import OrderedDict

import flambeau as torch
import flambeau.nn.functional as F
from flambeau import nn


class LastLevelMaxPool(nn.Module):
    def forward(self, results, names):
        names.append("pool")
        results.append(F.max_pool2d(results[-1], kernel_size=1, stride=2, padding=0))
        return results, names


class FeaturePyramidNetwork(nn.Module):
    def __init__(self, in_channels_list, out_channels):
        super().__init__()
        self.inner_blocks = nn.ModuleList()
        self.layer_blocks = nn.ModuleList()
        for in_channels in in_channels_list:
            self.inner_blocks.append(nn.Conv2d(in_channels, out_channels, 1))
            self.layer_blocks.append(nn.Conv2d(out_channels, out_channels, 3, padding=1))
        for m in self.modules():
            if isinstance(m, nn.Conv2d):
                nn.init.kaiming_uniform_(m.weight, a=1)
                nn.init.constant_(m.bias, 0)
        self.extra_blocks = LastLevelMaxPool()

    def get_result_from_inner_blocks(self, x, idx):
        num_blocks = len(self.inner_blocks)
        if idx < 0:
            idx += num_blocks
        out = x
        for i, module in enumerate(self.inner_blocks):
            if i == idx:
                out = module(x)
        return out

    def forward(self, x):
        names = list(x.keys())
        x = list(x.values())
        last_inner = self.get_result_from_inner_blocks(x[-1], -1)
        results = [self.layer_blocks[-1](last_inner)]
        for idx in range(len(x) - 2, -1, -1):
            inner_lateral = self.get_result_from_inner_blocks(x[idx], idx)
            inner_top_down = F.interpolate(last_inner, size=inner_lateral.shape[-2:], mode="nearest")
            last_inner = inner_lateral + inner_top_down
            results.insert(0, self.layer_blocks[idx](last_inner))
        results, names = self.extra_blocks(results, names)
        return OrderedDict([(k, v) for k, v in zip(names, results)])


class Detector(nn.Module):
    def __init__(self):
        super().__init__()
        self.stages = nn.ModuleDict({
            "c2": nn.Sequential(nn.Conv2d(3, 4, 3, 2, 1), nn.ReLU()),
            "c3": nn.Sequential(nn.Conv2d(4, 6, 3, 2, 1), nn.ReLU()),
            "c4": nn.Sequential(nn.Conv2d(6, 8, 3, 2, 1), nn.ReLU()),
        })
        self.fpn = FeaturePyramidNetwork([4, 6, 8], 8)

    def forward(self, image):
        features = OrderedDict()
        x = image
        for name, stage in self.stages.items():
            x = stage(x)
            features[name] = x
        return self.fpn(features)


def make():
    return Detector(), (torch.randn(1, 3, 20, 22),), ()


def loss(output):
    return sum(level.square().mean() for level in output.values())
