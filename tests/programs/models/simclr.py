"""SimCLR: two augmented views of each image, told from all others by the NT-Xent loss (Chen et al., 2020)."""
import flambeau as torch
import flambeau.nn as nn
import flambeau.nn.functional as F


def augment(images):
    """Each image cut and stretched, turned over or not, its colours jittered or gone, on its own."""
    n = images.size(0)
    scale = torch.empty(n).uniform_(0.5, 1.0)
    shift = (torch.rand(n, 2) * 2 - 1) * (1 - scale).unsqueeze(1)
    flip = torch.where(torch.rand(n) < 0.5, -1.0, 1.0)
    theta = images.new_zeros(n, 2, 3)
    theta[:, 0, 0] = scale * flip
    theta[:, 1, 1] = scale
    theta[:, :, 2] = shift
    grid = F.affine_grid(theta, list(images.shape), align_corners=False)
    images = F.grid_sample(images, grid, padding_mode="reflection", align_corners=False)
    contrast = torch.rand(n, 3, 1, 1) * 0.8 + 0.6
    centre = images.mean(dim=(2, 3), keepdim=True)
    images = (images - centre) * contrast + centre
    grey = images.mean(1, keepdim=True).expand_as(images)
    return torch.where(torch.rand(n, 1, 1, 1) < 0.2, grey, images)


class NTXent(nn.Module):
    def __init__(self, temperature=0.5):
        super().__init__()
        self.temperature = temperature

    def forward(self, z_i, z_j):
        n = z_i.shape[0]
        z = F.normalize(torch.vstack([z_i, z_j]), dim=1)
        similarity = z @ z.T / self.temperature
        similarity = similarity.masked_fill(torch.eye(2 * n, dtype=torch.bool), float("-inf"))
        positives = torch.arange(2 * n).roll(n)
        return F.cross_entropy(similarity, positives)


class SimCLR(nn.Module):
    def __init__(self, width=6, projection=4):
        super().__init__()
        self.encoder = nn.Sequential(
            nn.Conv2d(3, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU(),
            nn.Conv2d(width, width, 3, stride=2, bias=False), nn.BatchNorm2d(width), nn.ReLU(),
            nn.AdaptiveAvgPool2d((1, 1)), nn.Flatten(),
        )
        self.projector = nn.Sequential(
            nn.Linear(width, width, bias=False), nn.ReLU(), nn.Linear(width, projection, bias=False)
        )

    def forward(self, x_i, x_j):
        h_i, h_j = self.encoder(x_i), self.encoder(x_j)
        return h_i, h_j, self.projector(h_i), self.projector(h_j)


def make():
    images = torch.rand(4, 3, 8, 8)
    return SimCLR(), (images, images.flip(-1)), ()


def loss(output):
    return NTXent()(output[2], output[3])


def optimizers(model):
    decayed = [p for p in model.parameters() if p.ndim > 1]
    plain = [p for p in model.parameters() if p.ndim <= 1]
    return torch.optim.SGD([{"params": decayed, "weight_decay": 1e-4}, {"params": plain}], lr=0.05, momentum=0.9)


def train_step(model, optimizer, inputs, targets):
    optimizer.zero_grad(set_to_none=True)
    images = inputs[0]
    *_, z_i, z_j = model(augment(images), augment(images))
    value = NTXent(0.2)(z_i, z_j)
    value.backward()
    optimizer.step()
    accuracy = (F.normalize(z_i, dim=1) @ F.normalize(z_j, dim=1).T).argmax(1).eq(torch.arange(len(z_i))).float().mean()
    return value, accuracy
