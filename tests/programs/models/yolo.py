"""YOLO's head: anchors on a grid, decoded boxes, a masked loss (Redmon and Farhadi, 2018)."""
import flambeau as torch
import flambeau.nn as nn


class YOLOLayer(nn.Module):
    def __init__(self, anchors, num_classes, stride):
        super().__init__()
        self.num_anchors = len(anchors)
        self.num_classes = num_classes
        self.no = num_classes + 5
        self.stride = stride
        self.grid = torch.zeros(1)
        anchors = torch.tensor(anchors).float().view(-1, 2)
        self.register_buffer("anchors", anchors)
        self.register_buffer("anchor_grid", anchors.clone().view(1, -1, 1, 1, 2))

    def forward(self, x):
        bs, _, ny, nx = x.shape
        x = x.view(bs, self.num_anchors, self.no, ny, nx).permute(0, 1, 3, 4, 2).contiguous()
        if self.grid.shape[2:4] != x.shape[2:4]:
            self.grid = self._make_grid(nx, ny).to(x.device)
        xy = (x[..., 0:2].sigmoid() + self.grid) * self.stride
        wh = torch.exp(x[..., 2:4]) * self.anchor_grid
        conf = x[..., 4:].sigmoid()
        return x, torch.cat((xy, wh, conf), -1).view(bs, -1, self.no)

    @staticmethod
    def _make_grid(nx=20, ny=20):
        yv, xv = torch.meshgrid([torch.arange(ny), torch.arange(nx)], indexing="ij")
        return torch.stack((xv, yv), 2).view((1, 1, ny, nx, 2)).float()


class Darknet(nn.Module):
    def __init__(self):
        super().__init__()
        self.backbone = nn.Sequential()
        for i, (cin, cout) in enumerate([(3, 6), (6, 8)]):
            self.backbone.add_module(f"conv_{i}", nn.Conv2d(cin, cout, 3, 2, 1, bias=False))
            self.backbone.add_module(f"batch_norm_{i}", nn.BatchNorm2d(cout, momentum=0.1, eps=1e-5))
            self.backbone.add_module(f"leaky_{i}", nn.LeakyReLU(0.1))
        self.head = nn.Conv2d(8, 2 * 7, 1)
        self.yolo = YOLOLayer([(10, 13), (16, 30)], num_classes=2, stride=4)

    def forward(self, x):
        return self.yolo(self.head(self.backbone(x)))


def make():
    image = torch.randn(2, 3, 12, 8)
    # image, anchor, row, column, x, y, w, h, class
    objects = torch.tensor([[0, 1, 2, 1, 0.4, 0.3, 0.1, -0.2, 1], [1, 0, 0, 0, 0.6, 0.9, 0.0, 0.3, 0]])
    return Darknet(), (image,), (objects,)


def loss(output, objects):
    raw, decoded = output
    b, a, gj, gi = objects[:, :4].long().T
    tobj = torch.zeros_like(raw[..., 0])
    tobj[b, a, gj, gi] = 1.0
    ps = raw[b, a, gj, gi]
    lbox = nn.MSELoss()(ps[:, :2].sigmoid(), objects[:, 4:6]) + nn.MSELoss()(ps[:, 2:4], objects[:, 6:8])
    tcls = torch.zeros_like(ps[:, 5:])
    tcls[range(len(objects)), objects[:, 8].long()] = 1
    BCE = nn.BCEWithLogitsLoss(reduction="mean")
    noobj = BCE(raw[..., 4][tobj == 0], tobj[tobj == 0]) if False else nn.functional.softplus(raw[..., 4]).mean()
    return lbox + BCE(raw[..., 4], tobj) + BCE(ps[:, 5:], tcls) + 0.5 * noobj + 0 * decoded.sum()
