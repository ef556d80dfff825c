"""Pyramid vision transformer: attention over a spatially reduced sequence (Wang et al., 2021)."""
import flambeau as torch
import flambeau.nn as nn
import flambeau.nn.functional as F


class Attention(nn.Module):
    def __init__(self, dim, num_heads=2, sr_ratio=2):
        super().__init__()
        self.num_heads = num_heads
        self.scale = (dim // num_heads) ** -0.5
        self.q = nn.Linear(dim, dim)
        self.kv = nn.Linear(dim, dim * 2)
        self.sr_ratio = sr_ratio
        if sr_ratio > 1:
            self.sr = nn.Conv2d(dim, dim, kernel_size=sr_ratio, stride=sr_ratio)
            self.norm = nn.LayerNorm(dim)

    def forward(self, x, H, W):
        B, N, C = x.shape
        q = self.q(x).reshape(B, N, self.num_heads, C // self.num_heads).permute(0, 2, 1, 3)
        if self.sr_ratio > 1:
            x_ = x.permute(0, 2, 1).reshape(B, C, H, W)
            x_ = self.norm(self.sr(x_).reshape(B, C, -1).permute(0, 2, 1))
        else:
            x_ = x
        k, v = self.kv(x_).reshape(B, -1, 2, self.num_heads, C // self.num_heads).permute(2, 0, 3, 1, 4)
        attn = torch.matmul(q, k.transpose(-2, -1)).mul_(self.scale).softmax(dim=-1)
        return torch.matmul(attn, v).transpose(1, 2).reshape(B, N, C)


class DWConv(nn.Module):
    def __init__(self, dim):
        super().__init__()
        self.dwconv = nn.Conv2d(dim, dim, 3, 1, 1, bias=True, groups=dim)

    def forward(self, x, H, W):
        B, N, C = x.shape
        return self.dwconv(x.transpose(1, 2).view(B, C, H, W)).flatten(2).transpose(1, 2)


class PyramidVisionTransformer(nn.Module):
    def __init__(self, dims=(8, 12), sr_ratios=(2, 1)):
        super().__init__()
        self.num_stages = len(dims)
        for i in range(self.num_stages):
            setattr(self, f"patch_embed{i + 1}", nn.Conv2d(3 if i == 0 else dims[i - 1], dims[i], 3, 2, 1))
            setattr(self, f"norm{i + 1}", nn.LayerNorm(dims[i]))
            setattr(self, f"attn{i + 1}", Attention(dims[i], sr_ratio=sr_ratios[i]))
        self.dw = DWConv(dims[-1])
        self.head = nn.Linear(dims[-1], 3)

    def forward(self, x):
        B = x.shape[0]
        for i in range(self.num_stages):
            x = getattr(self, f"patch_embed{i + 1}")(x)
            _, _, H, W = x.shape
            x = x.flatten(2).transpose(1, 2)
            x = x + getattr(self, f"attn{i + 1}")(getattr(self, f"norm{i + 1}")(x), H, W)
            if i != self.num_stages - 1:
                x = x.reshape(B, H, W, -1).permute(0, 3, 1, 2).contiguous()
        x = x + self.dw(x, H, W)
        return self.head(x.mean(dim=1))


def make():
    return PyramidVisionTransformer(), (torch.randn(2, 3, 8, 8),), (torch.tensor([2, 1]),)


def loss(output, target):
    return F.cross_entropy(output, target)
