"""WGAN with a gradient penalty, a derivative of a derivative (Gulrajani et al., 2017)."""
import numpy as np

import flambeau as torch
import flambeau.autograd as autograd
import flambeau.nn as nn

img_shape = (1, 4, 4)
lambda_gp = 10


class Generator(nn.Module):
    def __init__(self, latent_dim=5):
        super().__init__()

        def block(in_feat, out_feat, normalize=True):
            layers = [nn.Linear(in_feat, out_feat)]
            if normalize:
                layers.append(nn.BatchNorm1d(out_feat, 0.8))
            layers.append(nn.LeakyReLU(0.2, inplace=True))
            return layers

        self.model = nn.Sequential(
            *block(latent_dim, 8, normalize=False), *block(8, 8), nn.Linear(8, int(np.prod(img_shape))), nn.Tanh()
        )

    def forward(self, z):
        img = self.model(z)
        return img.view(img.shape[0], *img_shape)


class Discriminator(nn.Module):
    def __init__(self):
        super().__init__()
        self.model = nn.Sequential(
            nn.Linear(int(np.prod(img_shape)), 8), nn.Softplus(), nn.Linear(8, 1)
        )

    def forward(self, img):
        return self.model(img.view(img.shape[0], -1))


class WGAN(nn.Module):
    def __init__(self):
        super().__init__()
        self.generator, self.discriminator = Generator(), Discriminator()

    def forward(self, z):
        return self.discriminator(self.generator(z))


def compute_gradient_penalty(D, real_samples, fake_samples, alpha):
    interpolates = (alpha * real_samples + ((1 - alpha) * fake_samples)).requires_grad_(True)
    d_interpolates = D(interpolates)
    fake = torch.ones(real_samples.shape[0], 1, requires_grad=False)
    gradients = autograd.grad(
        outputs=d_interpolates, inputs=interpolates, grad_outputs=fake,
        create_graph=True, retain_graph=True, only_inputs=True,
    )[0]
    gradients = gradients.view(gradients.size(0), -1)
    return ((gradients.norm(2, dim=1) - 1) ** 2).mean()


def make():
    return WGAN(), (torch.randn(3, 5),), (torch.randn(3, *img_shape), torch.rand(3, 1, 1, 1))


def loss(output, real, alpha):
    return -torch.mean(output)


def optimizers(model):
    return (torch.optim.RMSprop(model.generator.parameters(), lr=1e-3),
            torch.optim.Adam(model.discriminator.parameters(), lr=1e-3, betas=(0.5, 0.9)))


def train_step(model, optimizers, inputs, targets):
    (z,), (real_imgs, alpha) = inputs, targets
    generator, discriminator = model.generator, model.discriminator
    optimizer_G, optimizer_D = optimizers

    optimizer_D.zero_grad()
    fake_imgs = generator(z).detach()
    gradient_penalty = compute_gradient_penalty(discriminator, real_imgs.data, fake_imgs.data, alpha)
    d_loss = discriminator(fake_imgs).mean() - discriminator(real_imgs).mean() + lambda_gp * gradient_penalty
    d_loss.backward()
    optimizer_D.step()

    optimizer_G.zero_grad()
    g_loss = -torch.mean(discriminator(generator(z)))
    g_loss.backward()
    optimizer_G.step()
    return d_loss, g_loss
