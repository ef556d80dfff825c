"""DCGAN: a generator and a discriminator in turn, each with an optimizer of its own (Radford et al., 2015)."""
import flambeau as torch
import flambeau.nn as nn
import flambeau.optim as optim


def weights_init(m):
    classname = m.__class__.__name__
    if classname.find("Conv") != -1:
        torch.nn.init.normal_(m.weight, 0.0, 0.02)
    elif classname.find("BatchNorm") != -1:
        torch.nn.init.normal_(m.weight, 1.0, 0.02)
        torch.nn.init.zeros_(m.bias)


class Generator(nn.Module):
    def __init__(self, nz=6, ngf=4, nc=1):
        super().__init__()
        self.main = nn.Sequential(
            nn.ConvTranspose2d(nz, ngf * 2, 4, 1, 0, bias=False),
            nn.BatchNorm2d(ngf * 2),
            nn.ReLU(True),
            nn.ConvTranspose2d(ngf * 2, nc, 4, 2, 1, bias=False),
            nn.Tanh(),
        )

    def forward(self, input):
        return self.main(input)


class Discriminator(nn.Module):
    def __init__(self, nc=1, ndf=4):
        super().__init__()
        self.main = nn.Sequential(
            nn.Conv2d(nc, ndf, 4, 2, 1, bias=False),
            nn.LeakyReLU(0.2, inplace=True),
            nn.Conv2d(ndf, 1, 4, 1, 0, bias=False),
            nn.Sigmoid(),
        )

    def forward(self, input):
        return self.main(input).view(-1, 1).squeeze(1)


class GAN(nn.Module):
    def __init__(self):
        super().__init__()
        self.netG, self.netD = Generator().apply(weights_init), Discriminator().apply(weights_init)

    def forward(self, noise):
        return self.netD(self.netG(noise))


def make():
    return GAN(), (torch.randn(3, 6, 1, 1),), (torch.randn(3, 1, 8, 8),)


def loss(output, real):
    return nn.BCELoss()(output, torch.full((real.size(0),), 1.0))


def optimizers(model):
    return (optim.Adam(model.netD.parameters(), lr=2e-4, betas=(0.5, 0.999)),
            optim.Adam(model.netG.parameters(), lr=2e-4, betas=(0.5, 0.999)))


def train_step(model, optimizers, inputs, targets):
    (noise,), (real,) = inputs, targets
    netG, netD, (optimizerD, optimizerG) = model.netG, model.netD, optimizers
    criterion = nn.BCELoss()
    real_label, fake_label = 1, 0

    netD.zero_grad()
    label = torch.full((real.size(0),), real_label, dtype=real.dtype, device=real.device)
    errD_real = criterion(netD(real), label)
    errD_real.backward()
    fake = netG(noise)
    label.fill_(fake_label)
    errD_fake = criterion(netD(fake.detach()), label)
    errD_fake.backward()
    errD = errD_real + errD_fake
    optimizerD.step()

    netG.zero_grad()
    label.fill_(real_label)
    errG = criterion(netD(fake), label)
    errG.backward()
    optimizerG.step()
    return errD, errG
