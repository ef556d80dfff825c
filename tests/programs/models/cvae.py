"""A conditional VAE: encoder, decoder and a learned prior see the label (Sohn et al., 2015)."""
import flambeau as torch
import flambeau.nn as nn
import flambeau.nn.functional as F


class Gaussian(nn.Module):
    def __init__(self, inputs, latent):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(inputs, 10), nn.ELU(), nn.Linear(10, 2 * latent))

    def forward(self, *parts):
        mean, log_var = self.net(torch.cat(parts, dim=-1)).split([3, 3], dim=-1)
        return mean, log_var.clamp(min=-6.0, max=6.0)


class CVAE(nn.Module):
    def __init__(self, classes=4, latent=3):
        super().__init__()
        self.classes = classes
        self.prior = Gaussian(classes, latent)
        self.posterior = Gaussian(16 + classes, latent)
        self.decoder = nn.Sequential(
            nn.Linear(latent + classes, 18),
            nn.ELU(),
            nn.Unflatten(1, (2, 3, 3)),
            nn.ConvTranspose2d(2, 3, 2, stride=1),
            nn.ELU(),
            nn.Conv2d(3, 1, 3, padding=1),
        )

    def condition(self, labels):
        return F.one_hot(labels, num_classes=self.classes).to(torch.get_default_dtype())

    def forward(self, images, labels):
        y = self.condition(labels)
        mean, log_var = self.posterior(images.flatten(1), y)
        z = mean
        if self.training:
            z = z + torch.randn_like(mean) * log_var.mul(0.5).exp_()
        logits = self.decoder(torch.cat([z, y], dim=1))
        return logits, (mean, log_var), self.prior(y)

    @torch.no_grad()
    def sample(self, labels):
        y = self.condition(labels)
        mean, log_var = self.prior(y)
        return torch.sigmoid(self.decoder(torch.cat([torch.normal(mean, (log_var / 2).exp()), y], dim=1)))


def gaussian_kl(posterior, prior):
    (m1, v1), (m2, v2) = posterior, prior
    return 0.5 * (v2 - v1 + (v1.exp() + (m1 - m2) ** 2) / v2.exp() - 1).sum(dim=1)


def make():
    images, labels = torch.rand(3, 1, 4, 4), torch.tensor([3, 0, 1])
    return CVAE(), (images, labels), (images,)


def loss(output, images, beta=0.7):
    logits, posterior, prior = output
    reconstruction = F.binary_cross_entropy_with_logits(logits, images, reduction="none").sum(dim=(1, 2, 3))
    return (reconstruction + beta * gaussian_kl(posterior, prior)).mean()


def optimizers(model):
    return torch.optim.Adam(model.parameters(), lr=1e-2)


def train_step(model, optimizer, inputs, targets):
    optimizer.zero_grad()
    value = loss(model(*inputs), *targets)
    value.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    return value, model.sample(inputs[1]).mean()
