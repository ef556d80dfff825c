"""MaxViT's block: MBConv, then attention within blocks and across a grid of the same size (Tu et al., 2022)."""
import flambeau as torch
import flambeau.nn as nn
import flambeau.nn.functional as F


class SqueezeExcite(nn.Module):
    def __init__(self, dim, ratio=0.25):
        super().__init__()
        hidden = max(1, int(dim * ratio))
        self.gate = nn.Sequential(
            nn.Linear(dim, hidden, bias=False), nn.SiLU(), nn.Linear(hidden, dim, bias=False), nn.Sigmoid()
        )

    def forward(self, x):
        return x * self.gate(x.mean((2, 3)))[:, :, None, None]


class MBConv(nn.Module):
    def __init__(self, dim_in, dim_out, downsample, expansion=2):
        super().__init__()
        hidden = dim_in * expansion
        stride = 2 if downsample else 1
        self.main = nn.Sequential(
            nn.BatchNorm2d(dim_in),
            nn.Conv2d(dim_in, hidden, 1, bias=False),
            nn.BatchNorm2d(hidden),
            nn.GELU(approximate="tanh"),
            nn.Conv2d(hidden, hidden, 3, stride=stride, padding=1, groups=hidden, bias=False),
            nn.BatchNorm2d(hidden),
            nn.GELU(approximate="tanh"),
            SqueezeExcite(hidden),
            nn.Conv2d(hidden, dim_out, 1),
        )
        shortcut = [nn.AvgPool2d(3, stride=2, padding=1, count_include_pad=False)] if downsample else []
        if dim_in != dim_out:
            shortcut.append(nn.Conv2d(dim_in, dim_out, 1))
        self.shortcut = nn.Sequential(*shortcut)

    def forward(self, x):
        return self.shortcut(x) + self.main(x)


class RelativeAttention(nn.Module):
    """Attention over the p x p places of dim -2, with a learned bias for each offset."""

    def __init__(self, dim, heads, p):
        super().__init__()
        assert dim % heads == 0
        self.heads, self.scale = heads, (dim // heads) ** -0.5
        self.norm = nn.LayerNorm(dim)
        self.to_qkv = nn.Linear(dim, 3 * dim)
        self.to_out = nn.Linear(dim, dim)
        self.bias = nn.Embedding((2 * p - 1) ** 2, heads)
        places = torch.stack(torch.meshgrid(torch.arange(p), torch.arange(p), indexing="ij"), dim=-1).reshape(-1, 2)
        offsets = places[:, None] - places[None] + p - 1
        self.register_buffer("offset_index", offsets[..., 0] * (2 * p - 1) + offsets[..., 1], persistent=False)

    def forward(self, x):
        *lead, n, dim = x.shape
        q, k, v = (t.reshape(*lead, n, self.heads, -1).transpose(-2, -3) for t in self.to_qkv(self.norm(x)).chunk(3, -1))
        scores = torch.einsum("...id,...jd->...ij", q * self.scale, k) + self.bias(self.offset_index).permute(2, 0, 1)
        mixed = torch.einsum("...ij,...jd->...id", scores.softmax(-1), v)
        return self.to_out(mixed.transpose(-2, -3).reshape(*lead, n, dim))


class AxisAttention(nn.Module):
    """Attention within p x p windows: of neighbours (block), or of places spread evenly over the image (grid)."""

    def __init__(self, dim, heads, p, grid):
        super().__init__()
        self.p, self.grid = p, grid
        self.attention = RelativeAttention(dim, heads, p)
        self.mlp = nn.Sequential(nn.LayerNorm(dim), nn.Linear(dim, 2 * dim), nn.GELU(), nn.Linear(2 * dim, dim))

    def forward(self, x):
        b, c, h, w = x.shape
        p, m, n = self.p, h // self.p, w // self.p
        if self.grid:
            windows = x.view(b, c, p, m, p, n).permute(0, 3, 5, 2, 4, 1)
        else:
            windows = x.view(b, c, m, p, n, p).permute(0, 2, 4, 3, 5, 1)
        tokens = windows.reshape(b, m * n, p * p, c)
        tokens = tokens + self.attention(tokens)
        tokens = tokens + self.mlp(tokens)
        windows = tokens.view(b, m, n, p, p, c)
        order = (0, 5, 3, 1, 4, 2) if self.grid else (0, 5, 1, 3, 2, 4)
        return windows.permute(*order).reshape(b, c, h, w)


class MaxViT(nn.Module):
    def __init__(self, dim=6, num_classes=3, p=2):
        super().__init__()
        self.stem = nn.Conv2d(3, dim, 3, stride=2, padding=1)
        self.block = nn.Sequential(
            MBConv(dim, 2 * dim, downsample=True),
            AxisAttention(2 * dim, 2, p, grid=False),
            AxisAttention(2 * dim, 2, p, grid=True),
        )
        self.head = nn.Sequential(
            nn.LayerNorm(2 * dim), nn.Linear(2 * dim, 2 * dim), nn.Tanh(), nn.Linear(2 * dim, num_classes)
        )

    def forward(self, x):
        return self.head(self.block(self.stem(x)).mean((-2, -1)))


def make():
    return MaxViT(), (torch.randn(2, 3, 16, 16),), (torch.tensor([2, 0]),)


def loss(output, target):
    return F.cross_entropy(output, target, label_smoothing=0.1)
