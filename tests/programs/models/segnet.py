"""SegNet: the decoder puts values back where pooling took them (Badrinarayanan et al., 2015)."""
import flambeau as torch
import flambeau.nn as nn
import flambeau.nn.functional as F


class SegNet(nn.Module):
    def __init__(self, in_chn=3, out_chn=4, BN_momentum=0.5):
        super().__init__()
        self.MaxEn = nn.MaxPool2d(2, stride=2, return_indices=True)
        self.ConvEn11 = nn.Conv2d(in_chn, 6, kernel_size=3, padding=1)
        self.BNEn11 = nn.BatchNorm2d(6, momentum=BN_momentum)
        self.ConvEn21 = nn.Conv2d(6, 8, kernel_size=3, padding=1)
        self.BNEn21 = nn.BatchNorm2d(8, momentum=BN_momentum)
        self.MaxDe = nn.MaxUnpool2d(2, stride=2)
        self.ConvDe21 = nn.Conv2d(8, 6, kernel_size=3, padding=1)
        self.BNDe21 = nn.BatchNorm2d(6, momentum=BN_momentum)
        self.ConvDe11 = nn.Conv2d(6, out_chn, kernel_size=3, padding=1)

    def forward(self, x):
        x = F.relu(self.BNEn11(self.ConvEn11(x)))
        x, ind1 = self.MaxEn(x)
        size1 = x.size()
        x = F.relu(self.BNEn21(self.ConvEn21(x)))
        x, ind2 = self.MaxEn(x)

        x = self.MaxDe(x, ind2, output_size=size1)
        x = F.relu(self.BNDe21(self.ConvDe21(x)))
        x = self.MaxDe(x, ind1)
        x = self.ConvDe11(x)
        return F.softmax(x, dim=1)


def make():
    return SegNet(), (torch.randn(2, 3, 8, 8),), (torch.randint(0, 4, (2, 8, 8)),)


def loss(output, target):
    return F.nll_loss(torch.log(output.clamp(min=1e-6)), target, reduction="sum") / target.numel()
