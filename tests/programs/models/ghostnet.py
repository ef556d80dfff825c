"""GhostNet's bottleneck: half of the channels are cheap depthwise copies of the others (Han et al., 2020)."""
import math

import flambeau as torch
from flambeau import nn


def round_channels(channels, divisor=4):
    rounded = max(divisor, int(channels + divisor / 2) // divisor * divisor)
    return rounded + divisor if rounded < 0.9 * channels else rounded


def depthwise(channels, kernel, stride=1):
    return nn.Conv2d(channels, channels, kernel, stride, kernel // 2, groups=channels, bias=False)


class GhostModule(nn.Module):
    def __init__(self, cin, cout, ratio=2, kernel=3, relu=True):
        super().__init__()
        self.cout = cout
        primary = math.ceil(cout / ratio)
        self.primary_conv = nn.Sequential(nn.Conv2d(cin, primary, 1, bias=False), nn.BatchNorm2d(primary))
        self.cheap_operation = nn.Sequential(
            nn.Conv2d(primary, primary * (ratio - 1), kernel, padding=kernel // 2, groups=primary, bias=False),
            nn.BatchNorm2d(primary * (ratio - 1)),
        )
        for branch in (self.primary_conv, self.cheap_operation):
            branch.append(nn.ReLU(inplace=True) if relu else nn.Sequential())

    def forward(self, x):
        intrinsic = self.primary_conv(x)
        ghosts = self.cheap_operation(intrinsic)
        return torch.cat([intrinsic, ghosts], dim=1)[:, :self.cout, :, :]


class SqueezeExcite(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.avg_pool = nn.AdaptiveAvgPool2d((1, 1))
        self.reduce = nn.Conv2d(channels, round_channels(channels / 4), 1)
        self.expand = nn.Conv2d(round_channels(channels / 4), channels, 1)

    def forward(self, x):
        gate = self.expand(self.reduce(self.avg_pool(x)).relu_())
        return x * nn.functional.relu6(gate + 3.0, inplace=True).div(6.0)


class GhostBottleneck(nn.Module):
    def __init__(self, cin, hidden, cout, kernel, stride, squeeze):
        super().__init__()
        self.ghost1 = GhostModule(cin, hidden)
        if stride > 1:
            self.down = nn.Sequential(depthwise(hidden, kernel, stride), nn.BatchNorm2d(hidden))
        self.se = SqueezeExcite(hidden) if squeeze else None
        self.ghost2 = GhostModule(hidden, cout, relu=False)
        if stride == 1 and cin == cout:
            self.shortcut = nn.Identity()
        else:
            self.shortcut = nn.Sequential(
                depthwise(cin, kernel, stride), nn.BatchNorm2d(cin),
                nn.Conv2d(cin, cout, 1, bias=False), nn.BatchNorm2d(cout),
            )

    def forward(self, x):
        out = self.ghost1(x)
        if hasattr(self, "down"):
            out = self.down(out)
        if self.se is not None:
            out = self.se(out)
        out = self.ghost2(out)
        out += self.shortcut(x)
        return out


class GhostNet(nn.Module):
    # kernel, expansion, channels, squeeze-excite, stride
    settings = [[3, 8, 8, False, 1], [5, 13, 10, True, 2]]

    def __init__(self, num_classes=4, width=1.0, dropout=0.2):
        super().__init__()
        channels = round_channels(8 * width)
        layers = [nn.Conv2d(3, channels, 3, 2, 1, bias=False), nn.BatchNorm2d(channels), nn.ReLU(inplace=True)]
        for k, exp, c, se, s in self.settings:
            layers.append(GhostBottleneck(channels, exp, c, k, s, se))
            channels = c
        self.features = nn.Sequential(*layers)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(channels, num_classes)
        for m in self.modules():
            if isinstance(m, nn.Conv2d):
                nn.init.kaiming_normal_(m.weight, mode="fan_out", nonlinearity="relu")
            elif isinstance(m, nn.BatchNorm2d):
                m.weight.data.fill_(1)
                m.bias.data.zero_()

    def forward(self, x):
        x = self.pool(self.features(x))
        return self.classifier(self.dropout(x.view(x.size(0), -1)))


def make():
    return GhostNet(), (torch.randn(2, 3, 12, 12),), (torch.randint(0, 4, (2,)),)


def loss(output, target):
    return nn.CrossEntropyLoss()(output, target)
