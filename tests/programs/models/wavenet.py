"""WaveNet: causal dilated convolutions, gated, with skips (van den Oord et al., 2016)."""
import flambeau as torch
import flambeau.nn as nn
import flambeau.nn.functional as F


class CausalConv1d(nn.Conv1d):
    def __init__(self, in_channels, out_channels, kernel_size=2, dilation=1, **kwargs):
        super().__init__(in_channels, out_channels, kernel_size, padding=dilation * (kernel_size - 1), dilation=dilation,
                         **kwargs)

    def forward(self, input):
        out = super().forward(input)
        return out[:, :, : -self.padding[0]]


class ResidualBlock(nn.Module):
    def __init__(self, res_channels, skip_channels, dilation):
        super().__init__()
        self.dilated = CausalConv1d(res_channels, res_channels, dilation=dilation, bias=False)
        self.conv_res = nn.Conv1d(res_channels, res_channels, 1)
        self.conv_skip = nn.Conv1d(res_channels, skip_channels, 1)
        self.gate_tanh = nn.Tanh()
        self.gate_sigmoid = nn.Sigmoid()

    def forward(self, x, skip_size):
        output = self.dilated(x)
        gated = self.gate_tanh(output) * self.gate_sigmoid(output)
        output = self.conv_res(gated)
        output += x[:, :, -output.size(2):]
        skip = self.conv_skip(gated)
        return output, skip[:, :, -skip_size:]


class WaveNet(nn.Module):
    def __init__(self, layer_size=2, stack_size=1, in_channels=8, res_channels=6):
        super().__init__()
        self.receptive_fields = sum(2**i for i in range(layer_size)) * stack_size
        self.causal = CausalConv1d(in_channels, res_channels)
        self.res_blocks = nn.ModuleList(
            ResidualBlock(res_channels, in_channels, dilation=2**i) for _ in range(stack_size) for i in range(layer_size))
        self.end = nn.Sequential(nn.ReLU(), nn.Conv1d(in_channels, in_channels, 1))

    def calc_output_size(self, x):
        output_size = int(x.size(2)) - self.receptive_fields
        if output_size < 1:
            raise ValueError(f"input of {x.size(2)} is shorter than the receptive field {self.receptive_fields}")
        return output_size

    def forward(self, x):
        x = F.one_hot(x, 8).transpose(1, 2).float()
        output_size = self.calc_output_size(x)
        output = self.causal(x)
        skip_connections = []
        for block in self.res_blocks:
            output, skip = block(output, output_size)
            skip_connections.append(skip)
        return self.end(torch.sum(torch.stack(skip_connections), dim=0)).transpose(1, 2).contiguous()


def make():
    audio = torch.randint(0, 8, (2, 12))
    return WaveNet(), (audio[:, :-1],), (audio[:, -8:],)


def loss(output, target):
    return F.cross_entropy(output.view(-1, 8), target.reshape(-1))
