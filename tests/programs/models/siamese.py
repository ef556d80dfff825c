"""A siamese network with contrastive and triplet losses (Hadsell et al., 2006; Schroff et al., 2015)."""
import flambeau as torch
import flambeau.nn as nn
import flambeau.nn.functional as F


class EmbeddingNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.convnet = nn.Sequential(nn.Conv2d(1, 4, 3), nn.PReLU(), nn.MaxPool2d(2, stride=2))
        self.fc = nn.Sequential(nn.Linear(4 * 3 * 3, 8), nn.PReLU(8), nn.Linear(8, 2))

    def forward(self, x):
        output = self.convnet(x)
        output = output.view(output.size()[0], -1)
        return self.fc(output)

    def get_embedding(self, x):
        return self.forward(x)


class EmbeddingNetL2(EmbeddingNet):
    def forward(self, x):
        output = super(EmbeddingNetL2, self).forward(x)
        output = output / output.pow(2).sum(1, keepdim=True).sqrt()
        return output


class TripletNet(nn.Module):
    def __init__(self, embedding_net):
        super().__init__()
        self.embedding_net = embedding_net

    def forward(self, x1, x2, x3):
        return self.embedding_net(x1), self.embedding_net(x2), self.embedding_net(x3)


class ContrastiveLoss(nn.Module):
    def __init__(self, margin):
        super().__init__()
        self.margin = margin
        self.eps = 1e-9

    def forward(self, output1, output2, target, size_average=True):
        distances = (output2 - output1).pow(2).sum(1)
        losses = 0.5 * (target.float() * distances
                        + (1 + -1 * target).float() * F.relu(self.margin - (distances + self.eps).sqrt()).pow(2))
        return losses.mean() if size_average else losses.sum()


def make():
    images = [torch.randn(3, 1, 8, 8) for _ in range(3)]
    return TripletNet(EmbeddingNetL2()), tuple(images), (torch.tensor([1, 0, 1]),)


def loss(outputs, target):
    anchor, positive, negative = outputs
    triplet = nn.TripletMarginLoss(margin=1.0, p=2, swap=True)(anchor, positive, negative)
    cosine = F.cosine_embedding_loss(anchor, negative, 2 * target - 1, margin=0.1)
    return ContrastiveLoss(1.0)(anchor, positive, target) + triplet + cosine
