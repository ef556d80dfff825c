"""DeiT: a distillation token learns from a teacher that is not trained (Touvron et al., 2020)."""
import flambeau as torch
import flambeau.nn as nn
import flambeau.nn.functional as F


class DistilledTransformer(nn.Module):
    def __init__(self, dim=8, patch=4, classes=5):
        super().__init__()
        self.patch = nn.Conv2d(3, dim, patch, patch)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, dim))
        self.dist_token = nn.Parameter(torch.zeros(1, 1, dim))
        self.pos_embed = nn.Parameter(torch.empty(1, 4 + 2, dim))
        self.block = nn.TransformerEncoderLayer(dim, 2, 16, dropout=0.1, activation="gelu", batch_first=True,
                                                norm_first=True)
        self.head = nn.Linear(dim, classes)
        self.head_dist = nn.Linear(dim, classes)
        for token in (self.cls_token, self.dist_token, self.pos_embed):
            nn.init.trunc_normal_(token, std=0.02)

    def forward(self, x):
        B = x.shape[0]
        x = self.patch(x).flatten(2).transpose(1, 2)
        x = torch.cat((self.cls_token.expand(B, -1, -1), self.dist_token.expand(B, -1, -1), x), dim=1)
        x = self.block(x + self.pos_embed)
        x, x_dist = self.head(x[:, 0]), self.head_dist(x[:, 1])
        if self.training:
            return x, x_dist
        return (x + x_dist) / 2


class Distillation(nn.Module):
    def __init__(self, student, teacher, tau=3.0):
        super().__init__()
        self.student, self.teacher, self.tau = student, teacher, tau
        for param in self.teacher.parameters():
            param.requires_grad = False
        self.teacher.eval()

    def forward(self, x):
        outputs = self.student(x)
        with torch.no_grad():
            teacher_outputs = self.teacher(x)
        return outputs, teacher_outputs


def make():
    teacher = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveMaxPool2d(1), nn.Flatten(), nn.Linear(4, 5))
    model = Distillation(DistilledTransformer(), teacher)
    return model, (torch.randn(2, 3, 8, 8),), (torch.randint(0, 5, (2,)),)


def loss(output, labels, tau=3.0, alpha=0.5):
    outputs, teacher_outputs = output
    outputs, outputs_kd = outputs if isinstance(outputs, tuple) else (outputs, outputs)
    distillation_loss = F.kl_div(
        F.log_softmax(outputs_kd / tau, dim=1), F.log_softmax(teacher_outputs / tau, dim=1),
        reduction="sum", log_target=True,
    ) * (tau * tau) / outputs_kd.numel()
    return F.cross_entropy(outputs, labels) * (1 - alpha) + distillation_loss * alpha
