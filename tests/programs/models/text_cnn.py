"""Convolutions of several widths over words, their maxima over time (Kim, 2014)."""
import flambeau as torch
import flambeau.nn as nn
import flambeau.nn.functional as F


class CNN_Text(nn.Module):
    def __init__(self, vocab=20, D=6, C=2, Ci=1, Co=4, Ks=(2, 3, 4), static=False):
        super(CNN_Text, self).__init__()
        self.embed = nn.Embedding(vocab, D)
        self.convs = nn.ModuleList([nn.Conv2d(Ci, Co, (K, D)) for K in Ks])
        self.dropout = nn.Dropout(0.5)
        self.fc1 = nn.Linear(len(Ks) * Co, C)
        if static:
            self.embed.weight.requires_grad = False

    def forward(self, x):
        x = self.embed(x)  # (N, W, D)
        x = x.unsqueeze(1)  # (N, Ci, W, D)
        x = [F.relu(conv(x)).squeeze(3) for conv in self.convs]  # [(N, Co, W), ...]*len(Ks)
        x = [F.max_pool1d(i, i.size(2)).squeeze(2) for i in x]  # [(N, Co), ...]*len(Ks)
        x = torch.cat(x, 1)
        x = self.dropout(x)
        return self.fc1(x)


def make():
    return CNN_Text(), (torch.randint(0, 20, (3, 7)),), (torch.tensor([0, 1, 1]),)


def loss(logit, target):
    return F.cross_entropy(logit, target)


def optimizers(model):
    return torch.optim.Adadelta(model.parameters(), lr=1.0, rho=0.95)


def train_step(model, optimizer, inputs, targets, norm_limit=0.6):
    optimizer.zero_grad()
    value = loss(model(*inputs), *targets)
    value.backward()
    optimizer.step()
    with torch.no_grad():
        norm = model.fc1.weight.norm(dim=1, keepdim=True).clamp(min=norm_limit / 2)
        desired = torch.clamp(norm, max=norm_limit)
        model.fc1.weight.mul_(desired / norm)
    return value
