"""MaxViT: attention inside blocks, then over a dilated grid (Tu et al., 2022)."""
import flambeau as torch
import flambeau.nn.functional as F
from flambeau import nn


class Residual(nn.Module):
    def __init__(self, fn):
        super().__init__()
        self.fn = fn

    def forward(self, x, **kwargs):
        return self.fn(x, **kwargs) + x


class Attention(nn.Module):
    def __init__(self, dim, dim_head=4, dropout=0.1, window_size=2):
        super().__init__()
        assert (dim % dim_head) == 0, "dimension should be divisible by dimension per head"
        self.heads = dim // dim_head
        self.scale = dim_head**-0.5
        self.norm = nn.LayerNorm(dim)
        self.to_qkv = nn.Linear(dim, dim * 3, bias=False)
        self.attend = nn.Sequential(nn.Softmax(dim=-1), nn.Dropout(dropout))
        self.to_out = nn.Linear(dim, dim, bias=False)
        self.rel_pos_bias = nn.Embedding((2 * window_size - 1) ** 2, self.heads)
        pos = torch.arange(window_size)
        grid = torch.stack(torch.meshgrid(pos, pos, indexing="ij"))
        grid = grid.reshape(2, -1).t()
        rel_pos = grid[:, None] - grid[None]
        rel_pos += window_size - 1
        rel_pos_indices = (rel_pos * torch.tensor([2 * window_size - 1, 1])).sum(dim=-1)
        self.register_buffer("rel_pos_indices", rel_pos_indices, persistent=False)

    def forward(self, x):
        batch, height, width, wh, ww, dim = x.shape
        h = self.heads
        x = self.norm(x)
        x = x.reshape(batch * height * width, wh * ww, dim)
        q, k, v = self.to_qkv(x).chunk(3, dim=-1)
        q, k, v = map(lambda t: t.unflatten(-1, (h, -1)).transpose(1, 2), (q, k, v))
        sim = torch.einsum("bhid,bhjd->bhij", q * self.scale, k)
        sim = sim + self.rel_pos_bias(self.rel_pos_indices).permute(2, 0, 1)
        out = torch.einsum("bhij,bhjd->bhid", self.attend(sim), v)
        out = out.transpose(1, 2).flatten(2)
        return self.to_out(out).view(batch, height, width, wh, ww, dim)


class MaxViTBlock(nn.Module):
    def __init__(self, dim, w=2):
        super().__init__()
        self.w = w
        self.block_attn = Residual(Attention(dim, window_size=w))
        self.grid_attn = Residual(Attention(dim, window_size=w))

    def forward(self, x):
        b, d, height, width = x.shape
        w = self.w
        x = x.view(b, d, height // w, w, width // w, w).permute(0, 2, 4, 3, 5, 1)
        x = self.block_attn(x)
        x = x.permute(0, 5, 1, 3, 2, 4).reshape(b, d, height, width)
        x = x.view(b, d, w, height // w, w, width // w).permute(0, 3, 5, 2, 4, 1)
        x = self.grid_attn(x)
        return x.permute(0, 5, 3, 1, 4, 2).reshape(b, d, height, width)


class MaxViT(nn.Module):
    def __init__(self, dim=8):
        super().__init__()
        self.conv_stem = nn.Conv2d(3, dim, 3, stride=2, padding=1)
        self.block = MaxViTBlock(dim)
        self.mlp_head = nn.Sequential(nn.LayerNorm(dim), nn.Linear(dim, 3))

    def forward(self, x):
        return self.mlp_head(self.block(self.conv_stem(x)).mean((-2, -1)))


def make():
    return MaxViT(), (torch.randn(2, 3, 8, 8),), (torch.tensor([1, 0]),)


def loss(output, target):
    return F.cross_entropy(output, target)
