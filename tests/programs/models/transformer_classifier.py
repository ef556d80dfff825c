"""A transformer encoder that classifies padded sequences, with sine positions (Vaswani et al., 2017)."""
import math

import flambeau as torch
from flambeau import Tensor, nn


class PositionalEncoding(nn.Module):
    def __init__(self, d_model: int, dropout: float = 0.1, max_len: int = 50):
        super().__init__()
        self.dropout = nn.Dropout(p=dropout)
        position = torch.arange(max_len).unsqueeze(1)
        div_term = torch.exp(torch.arange(0, d_model, 2) * (-math.log(10000.0) / d_model))
        pe = torch.zeros(max_len, 1, d_model)
        pe[:, 0, 0::2] = torch.sin(position * div_term)
        pe[:, 0, 1::2] = torch.cos(position * div_term)
        self.register_buffer("pe", pe)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.pe[: x.size(0)]
        return self.dropout(x)


class TransformerModel(nn.Module):
    def __init__(self, ntoken: int, d_model: int, nhead: int, d_hid: int, nlayers: int, dropout: float = 0.1):
        super().__init__()
        self.model_type = "Transformer"
        self.pos_encoder = PositionalEncoding(d_model, dropout)
        encoder_layers = nn.TransformerEncoderLayer(d_model, nhead, d_hid, dropout)
        self.transformer_encoder = nn.TransformerEncoder(encoder_layers, nlayers, enable_nested_tensor=False)
        self.embedding = nn.Embedding(ntoken, d_model)
        self.d_model = d_model
        self.linear = nn.Linear(d_model, 3)

    def forward(self, src: Tensor) -> Tensor:
        padding = (src == 0).transpose(0, 1)
        x = self.embedding(src) * math.sqrt(self.d_model)
        x = self.pos_encoder(x)
        x = self.transformer_encoder(x, src_key_padding_mask=padding)
        kept = (~padding).t().unsqueeze(-1).float()
        return self.linear((x * kept).sum(0) / kept.sum(0).clamp_min(1.0))


def make():
    tokens = torch.tensor([[3, 1, 4, 1, 5], [9, 2, 6, 0, 0]]).t()
    return TransformerModel(10, 8, 2, 12, 2), (tokens,), (torch.tensor([0, 2]),)


def loss(output, target):
    return nn.CrossEntropyLoss()(output, target)
