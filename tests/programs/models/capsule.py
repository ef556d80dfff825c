"""Capsules with dynamic routing, over points that Deep Sets pool (Sabour et al., 2017; Zaheer et al., 2017)."""
import flambeau as torch
import flambeau.nn.functional as F
from flambeau import nn


def softmax(input, dim=1):
    transposed_input = input.transpose(dim, len(input.size()) - 1)
    softmaxed_output = F.softmax(transposed_input.contiguous().view(-1, transposed_input.size(-1)), dim=-1)
    return softmaxed_output.view(*transposed_input.size()).transpose(dim, len(input.size()) - 1)


class CapsuleLayer(nn.Module):
    def __init__(self, num_capsules, num_route_nodes, in_channels, out_channels, num_iterations=3):
        super(CapsuleLayer, self).__init__()
        self.num_iterations = num_iterations
        self.route_weights = nn.Parameter(
            torch.randn(num_capsules, num_route_nodes, in_channels, out_channels) * 0.3)

    def squash(self, tensor, dim=-1):
        squared_norm = (tensor**2).sum(dim=dim, keepdim=True)
        scale = squared_norm / (1 + squared_norm)
        return scale * tensor / torch.sqrt(squared_norm)

    def forward(self, x):
        priors = x[None, :, :, None, :] @ self.route_weights[:, None, :, :, :]
        logits = torch.zeros(*priors.size())
        for i in range(self.num_iterations):
            probs = softmax(logits, dim=2)
            outputs = self.squash((probs * priors).sum(dim=2, keepdim=True))
            if i != self.num_iterations - 1:
                delta_logits = (priors * outputs).sum(dim=-1, keepdim=True)
                logits = logits + delta_logits
        return outputs


class PermEqui(nn.Module):
    def __init__(self, in_dim, out_dim):
        super().__init__()
        self.Gamma, self.Lambda = nn.Linear(in_dim, out_dim), nn.Linear(in_dim, out_dim, bias=False)

    def forward(self, x):
        xm, _ = x.max(1, keepdim=True)
        return torch.tanh(self.Gamma(x) - self.Lambda(xm))


class CapsuleNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.phi = PermEqui(3, 6)
        self.digit_capsules = CapsuleLayer(3, 5, 6, 4)
        self.decoder = nn.Sequential(nn.Linear(12, 6), nn.ReLU(inplace=True), nn.Linear(6, 3), nn.Sigmoid())

    def forward(self, x, y):
        x = self.digit_capsules(self.phi(x)).squeeze(2).squeeze(-2).transpose(0, 1)
        classes = (x**2).sum(dim=-1) ** 0.5
        y = torch.eye(3).index_select(dim=0, index=y)
        return classes, self.decoder((x * y[:, :, None]).reshape(x.size(0), -1)), y


def make():
    points = torch.randn(2, 5, 3)
    return CapsuleNet(), (points, torch.tensor([2, 0])), (points.mean(1).sigmoid(),)


def loss(output, mean):
    classes, reconstructions, labels = output
    left = F.relu(0.9 - classes, inplace=True) ** 2
    right = F.relu(classes - 0.1, inplace=True) ** 2
    margin_loss = (labels * left + 0.5 * (1.0 - labels) * right).sum()
    return (margin_loss + 0.0005 * F.mse_loss(reconstructions, mean, reduction="sum")) / classes.size(0)
