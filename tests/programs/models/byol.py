"""BYOL: a target network follows the online one, its outputs recorded by hooks (Grill et al., 2020)."""
import copy

import flambeau as torch
import flambeau.nn.functional as F
from flambeau import nn


class EMA:
    def __init__(self, beta):
        self.beta = beta

    def update_average(self, old, new):
        if old is None:
            return new
        return old * self.beta + (1 - self.beta) * new


def update_moving_average(ema_updater, ma_model, current_model):
    for current_params, ma_params in zip(current_model.parameters(), ma_model.parameters()):
        old_weight, up_weight = ma_params.data, current_params.data
        with torch.no_grad():
            ma_params.copy_(ema_updater.update_average(old_weight, up_weight))


def loss_fn(x, y):
    x = F.normalize(x, dim=-1, p=2)
    y = F.normalize(y, dim=-1, p=2)
    return 2 - 2 * (x * y).sum(dim=-1)


class NetWrapper(nn.Module):
    def __init__(self, net, projection, layer=-2):
        super().__init__()
        self.net, self.projector, self.layer = net, projection, layer
        self.hidden = {}
        children = [*self.net.children()]
        children[self.layer].register_forward_hook(self._hook)

    def _hook(self, _, input, output):
        self.hidden["representation"] = output.reshape(output.shape[0], -1)

    def forward(self, x):
        self.hidden.clear()
        _ = self.net(x)
        hidden = self.hidden.pop("representation")
        return self.projector(hidden)


class BYOL(nn.Module):
    def __init__(self):
        super().__init__()
        net = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 3))
        self.online_encoder = NetWrapper(net, nn.Linear(8, 4))
        self.online_predictor = nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.ReLU(inplace=True), nn.Linear(6, 4))
        self.target_net, self.target_projector = copy.deepcopy(net), copy.deepcopy(self.online_encoder.projector)
        for p in [*self.target_net.parameters(), *self.target_projector.parameters()]:
            p.requires_grad_(False)

    def forward(self, image_one, image_two):
        predictions = [self.online_predictor(self.online_encoder(x)) for x in (image_one, image_two)]
        with torch.no_grad():
            targets = [self.target_projector(self.target_net[:2](x)).detach_() for x in (image_one, image_two)]
        return predictions, targets


def make():
    return BYOL(), (torch.randn(4, 8), torch.randn(4, 8)), ()


def loss(output):
    (one, two), (target_one, target_two) = output
    return (loss_fn(one, target_two.detach()) + loss_fn(two, target_one.detach())).mean()


def optimizers(model):
    return torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.05, momentum=0.9, weight_decay=1e-4)


def train_step(model, optimizer, inputs, targets):
    optimizer.zero_grad()
    value = loss(model(*inputs), *targets)
    value.backward()
    optimizer.step()
    ema = EMA(0.9)
    update_moving_average(ema, model.target_net, model.online_encoder.net)
    update_moving_average(ema, model.target_projector, model.online_encoder.projector)
    return value
