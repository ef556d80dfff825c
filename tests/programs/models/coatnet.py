"""CoAtNet: a stage of convolutions, then attention with relative bias, pooled on its way in (Dai et al., 2021)."""
import flambeau as torch
import flambeau.nn as nn
import flambeau.nn.functional as F


class ConvStage(nn.Module):
    def __init__(self, cin, cout, expand=2):
        super().__init__()
        mid = cout * expand
        self.norm = nn.BatchNorm2d(cin)
        self.conv1 = nn.Conv2d(cin, mid, 1, stride=2, bias=False)
        self.bn1 = nn.BatchNorm2d(mid)
        self.conv2 = nn.Conv2d(mid, mid, 3, padding="same", groups=mid, bias=False)
        self.bn2 = nn.BatchNorm2d(mid)
        self.squeeze = nn.Conv2d(mid, cin // 2, 1)
        self.excite = nn.Conv2d(cin // 2, mid, 1)
        self.conv3 = nn.Conv2d(mid, cout, 1)
        self.pool = nn.MaxPool2d(3, stride=2, padding=1)
        self.proj = nn.Conv2d(cin, cout, 1, bias=False)

    def forward(self, x):
        y = F.gelu(self.bn1(self.conv1(self.norm(x))))
        y = F.gelu(self.bn2(self.conv2(y)))
        y = y * torch.sigmoid(self.excite(F.silu(self.squeeze(F.adaptive_avg_pool2d(y, 1)))))
        return self.proj(self.pool(x)) + self.conv3(y)


class RelativeAttention(nn.Module):
    def __init__(self, dim, size, heads, head_dim):
        super().__init__()
        height, width = size
        self.heads, self.head_dim = heads, head_dim
        self.qkv = nn.Linear(dim, heads * head_dim * 3, bias=False)
        self.table = nn.Parameter(torch.randn((2 * height - 1) * (2 * width - 1), heads) * 0.1)
        rows = torch.arange(height).repeat_interleave(width)
        columns = torch.arange(width).repeat(height)
        row_offsets = rows.unsqueeze(0) - rows.unsqueeze(1) + (height - 1)
        column_offsets = columns.unsqueeze(0) - columns.unsqueeze(1) + (width - 1)
        index = (row_offsets * (2 * width - 1) + column_offsets).flatten().unsqueeze(1)
        self.register_buffer("index", index)
        self.out = nn.Sequential(nn.Linear(heads * head_dim, dim), nn.Dropout(0.1))

    def forward(self, x):
        b, n, _ = x.size()
        q, k, v = self.qkv(x).view(b, n, 3, self.heads, self.head_dim).permute(2, 0, 3, 1, 4)
        bias = self.table.gather(0, self.index.repeat(1, self.heads)).view(n, n, self.heads)
        scores = torch.matmul(q, k.transpose(2, 3)).mul(self.head_dim ** -0.5) + bias.permute(2, 0, 1)[None]
        mixed = torch.matmul(F.softmax(scores, dim=-1, dtype=torch.float32), v)
        return self.out(mixed.transpose(1, 2).flatten(2))


class AttentionStage(nn.Module):
    def __init__(self, cin, cout, size, heads=2, downsample=True):
        super().__init__()
        self.size = size
        self.downsample = downsample
        self.norm1 = nn.LayerNorm(cin)
        self.attention = RelativeAttention(cin, size, heads, head_dim=4)
        self.pool1 = nn.MaxPool2d(2)
        self.pool2 = nn.MaxPool2d(2)
        self.proj = nn.Conv2d(cin, cout, 1, bias=False) if cin != cout else nn.Identity()
        self.widen = nn.Linear(cin, cout) if cin != cout else nn.Identity()
        self.norm2 = nn.LayerNorm(cout)
        self.ff = nn.Sequential(nn.Linear(cout, 2 * cout), nn.GELU(), nn.Dropout(0.1), nn.Linear(2 * cout, cout))

    def forward(self, x):
        shortcut = x
        if self.downsample:
            x, shortcut = self.pool1(x), self.pool2(x)
        b, _, h, w = x.shape
        assert (h, w) == self.size
        tokens = x.flatten(2).transpose(1, 2)
        tokens = self.widen(self.attention(self.norm1(tokens)))
        tokens = self.proj(shortcut).flatten(2).transpose(1, 2) + tokens
        tokens = tokens + self.ff(self.norm2(tokens))
        return tokens.transpose(1, 2).unflatten(2, (h, w))


class CoAtNet(nn.Module):
    def __init__(self, num_classes=5):
        super().__init__()
        self.s0 = nn.Sequential(nn.Conv2d(3, 4, 3, 2, 1, bias=False), nn.BatchNorm2d(4), nn.GELU())
        self.s1 = ConvStage(4, 6)
        self.s2 = nn.Sequential(AttentionStage(6, 8, (2, 3)), AttentionStage(8, 8, (2, 3), downsample=False))
        self.pool = nn.AvgPool2d((2, 3))
        self.fc = nn.Linear(8, num_classes, bias=False)

    def forward(self, x):
        x = self.s2(self.s1(self.s0(x)))
        x = self.pool(x).view(-1, x.shape[1])
        return self.fc(x)


def make():
    return CoAtNet(), (torch.randn(2, 3, 16, 24),), (torch.randint(5, (2,)),)


def loss(output, target):
    return F.cross_entropy(output, target)
