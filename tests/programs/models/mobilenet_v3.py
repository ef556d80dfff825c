"""MobileNetV3's block: hard swish, hard sigmoid and squeeze-excite (Howard et al., 2019)."""
from functools import partial

import flambeau as torch
import flambeau.nn as nn


class SqueezeExcitation(nn.Module):
    def __init__(self, input_channels, squeeze_channels, activation=nn.ReLU, scale_activation=nn.Hardsigmoid):
        super().__init__()
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc1 = nn.Conv2d(input_channels, squeeze_channels, 1)
        self.fc2 = nn.Conv2d(squeeze_channels, input_channels, 1)
        self.activation = activation()
        self.scale_activation = scale_activation()

    def _scale(self, input):
        scale = self.avgpool(input)
        scale = self.activation(self.fc1(scale))
        return self.scale_activation(self.fc2(scale))

    def forward(self, input):
        return self._scale(input) * input


class InvertedResidual(nn.Module):
    def __init__(self, cin, expanded, cout, kernel, use_se, use_hs, stride, norm_layer):
        super().__init__()
        self.use_res_connect = stride == 1 and cin == cout
        activation_layer = nn.Hardswish if use_hs else nn.ReLU
        layers = []
        if expanded != cin:
            layers += [nn.Conv2d(cin, expanded, 1, bias=False), norm_layer(expanded), activation_layer(inplace=True)]
        layers += [
            nn.Conv2d(expanded, expanded, kernel, stride, (kernel - 1) // 2, groups=expanded, bias=False),
            norm_layer(expanded),
            activation_layer(inplace=True),
        ]
        if use_se:
            layers.append(SqueezeExcitation(expanded, max(expanded // 4, 4)))
        layers += [nn.Conv2d(expanded, cout, 1, bias=False), norm_layer(cout)]
        self.block = nn.Sequential(*layers)

    def forward(self, input):
        result = self.block(input)
        if self.use_res_connect:
            result += input
        return result


class MobileNetV3(nn.Module):
    def __init__(self, num_classes=4):
        super().__init__()
        norm_layer = partial(nn.BatchNorm2d, eps=0.001, momentum=0.01)
        self.features = nn.Sequential(
            nn.Conv2d(3, 8, 3, 2, 1, bias=False),
            norm_layer(8),
            nn.Hardswish(),
            InvertedResidual(8, 16, 8, 3, True, False, 1, norm_layer),
            InvertedResidual(8, 16, 12, 5, True, True, 2, norm_layer),
        )
        self.classifier = nn.Sequential(
            nn.Linear(12, 16), nn.Hardswish(inplace=True), nn.Dropout(p=0.2, inplace=True), nn.Linear(16, num_classes)
        )

    def forward(self, x):
        x = self.features(x)
        x = nn.functional.adaptive_avg_pool2d(x, 1)
        return self.classifier(torch.flatten(x, 1))


def make():
    return MobileNetV3(), (torch.randn(2, 3, 12, 12),), (torch.tensor([0, 3]),)


def loss(output, target):
    return nn.functional.nll_loss(output.log_softmax(dim=-1), target)
