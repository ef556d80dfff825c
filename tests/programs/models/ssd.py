"""SSD's multi-box loss: smooth L1 on the positives, hard negatives mined by two sorts (Liu et al., 2015)."""
import flambeau as torch
import flambeau.nn as nn
import flambeau.nn.functional as F
import flambeau.nn.init as init


class L2Norm(nn.Module):
    def __init__(self, n_channels, scale):
        super().__init__()
        self.n_channels = n_channels
        self.gamma = scale or None
        self.eps = 1e-10
        self.weight = nn.Parameter(torch.Tensor(self.n_channels))
        self.reset_parameters()

    def reset_parameters(self):
        init.constant_(self.weight, self.gamma)

    def forward(self, x):
        norm = x.pow(2).sum(dim=1, keepdim=True).sqrt() + self.eps
        x = torch.div(x, norm)
        return self.weight.unsqueeze(0).unsqueeze(2).unsqueeze(3).expand_as(x) * x


class SSD(nn.Module):
    def __init__(self, num_classes=3):
        super().__init__()
        self.num_classes = num_classes
        self.vgg = nn.ModuleList([nn.Conv2d(3, 6, 3, 2, 1), nn.ReLU(inplace=True), nn.MaxPool2d(3, 1, 1)])
        self.L2Norm = L2Norm(6, 20)
        self.extras = nn.Conv2d(6, 8, 3, 2, 1)
        self.loc = nn.ModuleList([nn.Conv2d(n, 2 * 4, 3, padding=1) for n in (6, 8)])
        self.conf = nn.ModuleList([nn.Conv2d(n, 2 * num_classes, 3, padding=1) for n in (6, 8)])

    def forward(self, x):
        sources, loc, conf = list(), list(), list()
        for k in range(len(self.vgg)):
            x = self.vgg[k](x)
        sources.append(self.L2Norm(x))
        sources.append(F.relu(self.extras(x), inplace=True))
        for (x, l, c) in zip(sources, self.loc, self.conf):
            loc.append(l(x).permute(0, 2, 3, 1).contiguous())
            conf.append(c(x).permute(0, 2, 3, 1).contiguous())
        loc = torch.cat([o.view(o.size(0), -1) for o in loc], 1)
        conf = torch.cat([o.view(o.size(0), -1) for o in conf], 1)
        return loc.view(loc.size(0), -1, 4), conf.view(conf.size(0), -1, self.num_classes)


def log_sum_exp(x):
    x_max = x.detach().max()
    return torch.log(torch.sum(torch.exp(x - x_max), 1, keepdim=True)) + x_max


def make():
    priors = 2 * (4 * 4 + 2 * 2)
    conf_t = torch.zeros(2, priors).long()
    conf_t[0, 3], conf_t[0, 17], conf_t[1, 30] = 1, 2, 2
    return SSD(), (torch.randn(2, 3, 8, 8),), (torch.randn(2, priors, 4), conf_t)


def loss(predictions, loc_t, conf_t, negpos_ratio=3):
    loc_data, conf_data = predictions
    num, num_priors = loc_data.size(0), loc_data.size(1)
    pos = conf_t > 0
    pos_idx = pos.unsqueeze(pos.dim()).expand_as(loc_data)
    loss_l = (F.smooth_l1_loss(loc_data, loc_t, reduction="none") * pos_idx).sum()
    batch_conf = conf_data.view(-1, conf_data.size(-1))
    loss_c = log_sum_exp(batch_conf) - batch_conf.gather(1, conf_t.view(-1, 1))
    ranked = loss_c.detach().view(num, -1).masked_fill(pos, 0)
    _, loss_idx = ranked.sort(dim=1, descending=True, stable=True)
    _, idx_rank = loss_idx.sort(1)
    num_pos = pos.long().sum(1, keepdim=True)
    num_neg = torch.clamp(negpos_ratio * num_pos, max=pos.size(1) - 1)
    neg = idx_rank < num_neg.expand_as(idx_rank)
    chosen = (pos | neg).float()
    loss_c = (F.cross_entropy(batch_conf, conf_t.view(-1), reduction="none").view(num, num_priors) * chosen).sum()
    N = num_pos.data.sum()
    return (loss_l + loss_c) / N
