"""U-Net of volumes with group norm (Cicek et al., 2016)."""
import flambeau as torch
import flambeau.nn as nn
import flambeau.nn.functional as F


class ConvBlock3d(nn.Module):
    def __init__(self, in_ch, out_ch):
        super().__init__()
        self.net = nn.Sequential(
            nn.Conv3d(in_ch, out_ch, 3, padding=1), nn.GroupNorm(2, out_ch), nn.LeakyReLU(0.01, inplace=True)
        )

    def forward(self, x):
        return self.net(x)


class UNet3d(nn.Module):
    def __init__(self, in_ch=1, out_ch=2, base=4):
        super().__init__()
        self.enc1 = ConvBlock3d(in_ch, base)
        self.enc2 = ConvBlock3d(base, base * 2)
        self.pool = nn.MaxPool3d(2)
        self.up = nn.ConvTranspose3d(base * 2, base, 2, stride=2)
        self.dec = ConvBlock3d(base * 2, base)
        self.drop = nn.Dropout3d(0.2)
        self.out = nn.Conv3d(base, out_ch, 1)

    def forward(self, x):
        e1 = self.enc1(x)
        e2 = self.enc2(self.pool(e1))
        d = self.dec(torch.cat((self.up(e2), e1), dim=1))
        return self.out(self.drop(d))


def make():
    return UNet3d(), (torch.randn(1, 1, 4, 6, 4),), (torch.rand(1, 2, 4, 6, 4).gt(0.5).float(),)


def loss(output, target):
    return F.binary_cross_entropy_with_logits(output, target, pos_weight=torch.tensor(2.0))
