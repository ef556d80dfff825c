"""CoAtNet: convolution, then attention with a relative bias gathered per head (Dai et al., 2021)."""
import flambeau as torch
import flambeau.nn as nn
import flambeau.nn.functional as F


class SE(nn.Module):
    def __init__(self, inp, oup, expansion=0.25):
        super().__init__()
        self.avg_pool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Sequential(
            nn.Linear(oup, int(inp * expansion), bias=False), nn.GELU(),
            nn.Linear(int(inp * expansion), oup, bias=False), nn.Sigmoid(),
        )

    def forward(self, x):
        b, c, _, _ = x.size()
        y = self.avg_pool(x).view(b, c)
        y = self.fc(y).view(b, c, 1, 1)
        return x * y.expand_as(x)


class Attention(nn.Module):
    def __init__(self, dim, image_size, heads=2):
        super().__init__()
        self.ih, self.iw = image_size
        self.heads = heads
        self.scale = (dim // heads) ** -0.5
        self.relative_bias_table = nn.Parameter(torch.randn((2 * self.ih - 1) * (2 * self.iw - 1), heads) * 0.1)
        coords = torch.meshgrid((torch.arange(self.ih), torch.arange(self.iw)), indexing="ij")
        coords = torch.flatten(torch.stack(coords), 1)
        relative_coords = coords[:, :, None] - coords[:, None, :]
        relative_coords[0] += self.ih - 1
        relative_coords[1] += self.iw - 1
        relative_coords[0] *= 2 * self.iw - 1
        relative_index = relative_coords.permute(1, 2, 0).sum(-1).flatten().unsqueeze(1)
        self.register_buffer("relative_index", relative_index)
        self.to_qkv = nn.Linear(dim, dim * 3, bias=False)

    def forward(self, x):
        b, n, c = x.shape
        q, k, v = [t.view(b, n, self.heads, -1).transpose(1, 2) for t in self.to_qkv(x).chunk(3, dim=-1)]
        dots = torch.matmul(q, k.transpose(-1, -2)) * self.scale
        relative_bias = self.relative_bias_table.gather(0, self.relative_index.repeat(1, self.heads))
        relative_bias = relative_bias.view(n, n, self.heads).permute(2, 0, 1)[None]
        out = torch.matmul(F.softmax(dots + relative_bias, dim=-1), v)
        return out.transpose(1, 2).contiguous().view(b, n, c)


class CoAtNet(nn.Module):
    def __init__(self, image_size=(8, 6), dim=8):
        super().__init__()
        ih, iw = image_size
        self.s0 = nn.Sequential(nn.Conv2d(3, dim, 3, 2, 1, bias=False), nn.BatchNorm2d(dim), nn.GELU())
        self.s1 = SE(dim, dim)
        self.s2 = Attention(dim, (ih // 2, iw // 2))
        self.pool = nn.AvgPool2d((ih // 2, iw // 2), 1)
        self.fc = nn.Linear(dim, 3, bias=False)

    def forward(self, x):
        x = self.s1(self.s0(x))
        b, c, h, w = x.shape
        x = x + self.s2(x.flatten(2).mT).mT.unflatten(2, (h, w))
        return self.fc(self.pool(x).view(-1, x.shape[1]))


def make():
    return CoAtNet(), (torch.randn(2, 3, 8, 6),), (torch.tensor([1, 0]),)


def loss(output, target):
    return F.cross_entropy(output, target)
