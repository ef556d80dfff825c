"""A speech network with CTC: convolutions, a GRU, frames to letters (Graves et al., 2006; Amodei et al., 2015)."""
import flambeau as torch
import flambeau.nn as nn
import flambeau.nn.functional as F


class BatchRNN(nn.Module):
    def __init__(self, input_size, hidden_size, batch_norm=True):
        super().__init__()
        self.batch_norm = nn.BatchNorm1d(input_size) if batch_norm else None
        self.rnn = nn.GRU(input_size, hidden_size, bidirectional=True, bias=True)

    def forward(self, x):
        if self.batch_norm is not None:
            t, n = x.size(0), x.size(1)
            x = self.batch_norm(x.view(t * n, -1)).view(t, n, -1)
        x, _ = self.rnn(x)
        return x.view(x.size(0), x.size(1), 2, -1).sum(2).view(x.size(0), x.size(1), -1)


class DeepSpeech(nn.Module):
    def __init__(self, labels="_abc "):
        super().__init__()
        self.conv = nn.Sequential(nn.Conv2d(1, 2, kernel_size=(3, 3), stride=(2, 1), padding=(1, 1)),
                                  nn.Hardtanh(0, 20, inplace=True))
        self.rnn = BatchRNN(8, 4)
        self.fc = nn.Linear(4, len(labels), bias=False)

    def get_seq_lens(self, input_length):
        seq_len = input_length
        for m in self.conv.modules():
            if type(m) == nn.modules.conv.Conv2d:  # noqa: E721
                seq_len = (seq_len + 2 * m.padding[1] - m.dilation[1] * (m.kernel_size[1] - 1) - 1) // m.stride[1] + 1
        return seq_len

    def forward(self, x, lengths):
        output_lengths = self.get_seq_lens(lengths)
        x = self.conv(x)
        sizes = x.size()
        x = x.view(sizes[0], sizes[1] * sizes[2], sizes[3]).transpose(1, 2).transpose(0, 1).contiguous()
        x = self.fc(self.rnn(x))
        return F.log_softmax(x, dim=-1), output_lengths


def make():
    targets = torch.tensor([1, 3, 3, 2, 4])
    return DeepSpeech(), (torch.randn(2, 1, 8, 9), torch.tensor([9, 7])), (targets, torch.tensor([3, 2]))


def loss(output, targets, target_lengths):
    out, output_sizes = output
    return nn.CTCLoss(blank=0, reduction="mean", zero_infinity=True)(out, targets, output_sizes, target_lengths)
