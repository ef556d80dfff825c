"""Pyramid vision transformer: keys and values from an image made smaller by a strided convolution (Wang et al., 2021)."""
import math

import flambeau as torch
import flambeau.nn as nn
import flambeau.nn.functional as F


class SpatialReductionAttention(nn.Module):
    def __init__(self, dim, num_heads, sr_ratio):
        super().__init__()
        self.num_heads, self.sr_ratio = num_heads, sr_ratio
        self.q = nn.Linear(dim, dim)
        self.kv = nn.Linear(dim, 2 * dim)
        self.proj = nn.Linear(dim, dim)
        if sr_ratio > 1:
            self.sr = nn.Conv2d(dim, dim, kernel_size=sr_ratio, stride=sr_ratio)
            self.norm = nn.LayerNorm(dim)

    def split(self, tokens):
        return tokens.unflatten(-1, (self.num_heads, -1)).transpose(1, 2)

    def forward(self, x, height, width):
        reduced = x
        if self.sr_ratio > 1:
            image = x.transpose(1, 2).reshape(x.size(0), -1, height, width)
            reduced = self.norm(self.sr(image).flatten(start_dim=2).mT)
        keys, values = self.kv(reduced).tensor_split(2, dim=-1)
        mixed = F.scaled_dot_product_attention(self.split(self.q(x)), self.split(keys), self.split(values))
        return self.proj(mixed.transpose(1, 2).flatten(2))


class Block(nn.Module):
    def __init__(self, dim, num_heads, mlp_ratio, sr_ratio):
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.attn = SpatialReductionAttention(dim, num_heads, sr_ratio)
        self.mlp = nn.ModuleDict({"fc1": nn.Linear(dim, dim * mlp_ratio), "fc2": nn.Linear(dim * mlp_ratio, dim)})

    def forward(self, x, height, width):
        x = x + self.attn(self.norm1(x), height, width)
        return x + self.mlp["fc2"](F.gelu(self.mlp["fc1"](self.norm2(x))))


class PatchEmbed(nn.Module):
    def __init__(self, patch, cin, dim):
        super().__init__()
        self.proj = nn.Conv2d(cin, dim, kernel_size=patch, stride=patch)
        self.norm = nn.LayerNorm(dim)

    def forward(self, x):
        x = self.proj(x)
        height, width = x.shape[2:]
        return self.norm(x.flatten(2).transpose(1, 2)), height, width


class PVT(nn.Module):
    def __init__(self, trained_at=8, dims=(6, 8), heads=(1, 2), patches=(2, 2), sr_ratios=(2, 1), num_classes=3):
        super().__init__()
        self.stages = len(dims)
        cin, side = 3, trained_at
        for i in range(self.stages):
            side = side // patches[i]
            setattr(self, f"patch_embed{i + 1}", PatchEmbed(patches[i], cin, dims[i]))
            setattr(self, f"pos_embed{i + 1}", nn.Parameter(torch.empty(1, side * side, dims[i])))
            setattr(self, f"block{i + 1}", nn.ModuleList([Block(dims[i], heads[i], 2, sr_ratios[i])]))
            nn.init.trunc_normal_(getattr(self, f"pos_embed{i + 1}"), std=0.02)
            cin = dims[i]
        self.norm = nn.LayerNorm(cin)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, cin))
        self.cls_attn = nn.MultiheadAttention(cin, heads[-1], batch_first=True)
        self.head = nn.Linear(cin, num_classes)

    def position(self, table, height, width):
        """The table's positions, interpolated where the image is of another size than it was trained at."""
        side = math.isqrt(table.shape[1])
        if (height, width) == (side, side):
            return table
        image = table.reshape(1, side, side, -1).permute(0, 3, 1, 2)
        image = F.interpolate(image, size=(height, width), mode="bilinear")
        return image.reshape(1, -1, height * width).permute(0, 2, 1)

    def forward(self, x):
        for i in range(1, self.stages + 1):
            x, height, width = getattr(self, f"patch_embed{i}")(x)
            x = x + self.position(getattr(self, f"pos_embed{i}"), height, width)
            for block in getattr(self, f"block{i}"):
                x = block(x, height, width)
            if i < self.stages:
                x = x.reshape(x.shape[0], height, width, -1).permute(0, 3, 1, 2).contiguous()
        x = self.norm(x)
        pooled, _ = self.cls_attn(self.cls_token.expand(x.size(0), -1, -1), x, x, need_weights=False)
        return self.head(pooled.squeeze(1))


def make():
    return PVT(), (torch.randn(2, 3, 8, 12),), (torch.tensor([1, 1]),)


def loss(output, target):
    return F.cross_entropy(output, target)
