"""SimCLR: NT-Xent over two views of a batch (Chen et al., 2020)."""
import flambeau as torch
import flambeau.nn as nn
import flambeau.nn.functional as F


class SimCLR(nn.Module):
    def __init__(self, dim=6):
        super().__init__()
        self.f = nn.Sequential(nn.Conv2d(3, 6, 3, stride=2, bias=False), nn.BatchNorm2d(6), nn.ReLU(),
                               nn.AdaptiveAvgPool2d((1, 1)))
        self.g = nn.Sequential(nn.Linear(6, 8, bias=False), nn.BatchNorm1d(8), nn.ReLU(inplace=True),
                               nn.Linear(8, dim, bias=True))

    def forward(self, x):
        feature = torch.flatten(self.f(x), start_dim=1)
        out = self.g(feature)
        return F.normalize(feature, dim=-1), F.normalize(out, dim=-1)


def info_nce_loss(features, n_views=2, temperature=0.07):
    batch = features.shape[0] // n_views
    labels = torch.cat([torch.arange(batch) for i in range(n_views)], dim=0)
    labels = (labels.unsqueeze(0) == labels.unsqueeze(1)).float()
    features = F.normalize(features, dim=1)
    similarity_matrix = torch.matmul(features, features.T)
    mask = torch.eye(labels.shape[0], dtype=torch.bool)
    similarity_matrix = similarity_matrix.masked_fill(mask, -1e9) / temperature
    positives = (labels - mask.float())
    return -(positives * similarity_matrix.log_softmax(1)).sum(1).mean()


def make():
    return SimCLR(), (torch.randn(4, 3, 8, 8),), (torch.tensor(0.5),)


def loss(output, temperature):
    _, out = output
    out_1, out_2 = out[::2], out[1::2]
    out = torch.cat([out_1, out_2], dim=0)
    sim_matrix = torch.exp(torch.mm(out, out.t().contiguous()) / temperature)
    neg = sim_matrix.sum(dim=-1) - torch.diagonal(sim_matrix)
    pos_sim = torch.exp(torch.sum(out_1 * out_2, dim=-1) / temperature)
    pos_sim = torch.cat([pos_sim, pos_sim], dim=0)
    return (-torch.log(pos_sim / neg)).mean() + 0.1 * info_nce_loss(out)
