"""DeiT: a distillation token learns from a convolutional teacher beside the class token (Touvron et al., 2021)."""
import flambeau as torch
import flambeau.nn as nn
import flambeau.nn.functional as F


class DropPath(nn.Module):
    def __init__(self, drop_prob):
        super().__init__()
        self.drop_prob = drop_prob

    def forward(self, x):
        if self.drop_prob == 0.0 or not self.training:
            return x
        keep = 1 - self.drop_prob
        mask = x.new_empty((x.shape[0],) + (1,) * (x.ndim - 1)).bernoulli_(keep)
        return x * mask.div_(keep)


class EncoderBlock(nn.Module):
    def __init__(self, dim, heads, drop_path):
        super().__init__()
        self.norm1 = nn.LayerNorm(dim)
        self.attn = nn.MultiheadAttention(dim, heads, batch_first=True)
        self.norm2 = nn.LayerNorm(dim)
        self.mlp = nn.Sequential(nn.Linear(dim, 2 * dim), nn.GELU(), nn.Linear(2 * dim, dim))
        self.drop_path = DropPath(drop_path)

    def forward(self, x):
        y = self.norm1(x)
        x = x + self.drop_path(self.attn(y, y, y, need_weights=False)[0])
        return x + self.drop_path(self.mlp(self.norm2(x)))


class DistilledVisionTransformer(nn.Module):
    def __init__(self, image=8, patch=4, dim=8, depth=2, heads=2, num_classes=3, drop_path_rate=0.2):
        super().__init__()
        self.patch_embed = nn.Conv2d(3, dim, patch, patch)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, dim))
        self.dist_token = nn.Parameter(torch.zeros(1, 1, dim))
        self.pos_embed = nn.Parameter(torch.zeros(1, (image // patch) ** 2 + 2, dim))
        rates = torch.linspace(0, drop_path_rate, depth).tolist()
        self.blocks = nn.ModuleList(EncoderBlock(dim, heads, rate) for rate in rates)
        self.norm = nn.LayerNorm(dim)
        self.head, self.head_dist = nn.Linear(dim, num_classes), nn.Linear(dim, num_classes)
        for token in (self.cls_token, self.dist_token, self.pos_embed):
            nn.init.normal_(token, std=0.02)

    def forward(self, x):
        x = self.patch_embed(x).flatten(2).transpose(1, 2)
        x = torch.cat((self.cls_token.expand(len(x), -1, -1), self.dist_token.expand(len(x), -1, -1), x), dim=1)
        x = x + self.pos_embed
        for block in self.blocks:
            x = block(x)
        x = self.norm(x)
        by_class, by_teacher = self.head(x[:, 0]), self.head_dist(x[:, 1])
        return (by_class, by_teacher) if self.training else (by_class + by_teacher) / 2


class Distilled(nn.Module):
    """A student, and its teacher, which is never trained."""

    def __init__(self):
        super().__init__()
        self.student = DistilledVisionTransformer()
        self.teacher = nn.Sequential(
            nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(),
            nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3),
        ).requires_grad_(False)

    def train(self, mode=True):
        super().train(mode)
        self.teacher.eval()
        return self

    def forward(self, images):
        with torch.no_grad():
            taught = self.teacher(images)
        return self.student(images), taught


def distillation_loss(kind, outputs, taught, labels, alpha=0.5, tau=3.0):
    by_class, by_teacher = outputs if isinstance(outputs, tuple) else (outputs, outputs)
    base = F.cross_entropy(by_class, labels, label_smoothing=0.1)
    if kind == "soft":
        student, teacher = F.log_softmax(by_teacher / tau, dim=1), F.log_softmax(taught / tau, dim=1)
        distilled = F.kl_div(student, teacher, reduction="sum", log_target=True) * (tau * tau) / by_teacher.numel()
    else:
        distilled = F.cross_entropy(by_teacher, taught.argmax(dim=1))
    return base * (1 - alpha) + distilled * alpha


def make():
    model = Distilled()
    model.train()
    return model, (torch.randn(2, 3, 8, 8),), (torch.tensor([0, 2]),)


def loss(output, labels):
    outputs, taught = output
    return sum(distillation_loss(kind, outputs, taught, labels) for kind in ("soft", "hard"))
