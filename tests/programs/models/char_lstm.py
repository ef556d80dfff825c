"""A character model: a stacked LSTM whose state goes from batch to batch, weights tied (Zaremba et al., 2014)."""
import flambeau as torch
import flambeau.nn as nn
import flambeau.nn.functional as F


class RNNModel(nn.Module):
    def __init__(self, rnn_type, ntoken, ninp, nhid, nlayers, dropout=0.5, tie_weights=False):
        super(RNNModel, self).__init__()
        self.ntoken = ntoken
        self.drop = nn.Dropout(dropout)
        self.encoder = nn.Embedding(ntoken, ninp)
        if rnn_type in ["LSTM", "GRU"]:
            self.rnn = getattr(nn, rnn_type)(ninp, nhid, nlayers, dropout=dropout)
        else:
            raise ValueError("""An invalid option for `--model` was supplied""")
        self.decoder = nn.Linear(nhid, ntoken)
        if tie_weights:
            if nhid != ninp:
                raise ValueError("When using the tied flag, nhid must be equal to emsize")
            self.decoder.weight = self.encoder.weight
        self.init_weights()
        self.rnn_type = rnn_type
        self.nhid = nhid
        self.nlayers = nlayers

    def init_weights(self):
        initrange = 0.1
        nn.init.uniform_(self.encoder.weight, -initrange, initrange)
        nn.init.zeros_(self.decoder.bias)
        nn.init.uniform_(self.decoder.weight, -initrange, initrange)

    def forward(self, input, hidden):
        emb = self.drop(self.encoder(input))
        output, hidden = self.rnn(emb, hidden)
        output = self.drop(output)
        decoded = self.decoder(output)
        decoded = decoded.view(-1, self.ntoken)
        return F.log_softmax(decoded, dim=1), hidden

    def init_hidden(self, bsz):
        weight = next(self.parameters())
        return weight.new_zeros(self.nlayers, bsz, self.nhid), weight.new_zeros(self.nlayers, bsz, self.nhid)


def repackage_hidden(h):
    if isinstance(h, torch.Tensor):
        return h.detach()
    return tuple(repackage_hidden(v) for v in h)


def make():
    model = RNNModel("LSTM", 12, 6, 6, 2, tie_weights=True)
    return model, (torch.randint(12, (3, 2)), model.init_hidden(2)), (torch.randint(12, (6,)),)


def loss(result, targets):
    output, _ = result
    return nn.NLLLoss()(output, targets)


def optimizers(model):
    return None


def train_step(model, optimizers, inputs, targets, lr=0.5, clip=0.25):
    model.train()
    data, hidden = inputs
    hidden = repackage_hidden(hidden)
    total = 0.0
    for _ in range(2):
        model.zero_grad()
        output, hidden = model(data, hidden)
        value = loss((output, hidden), *targets)
        value.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), clip)
        for p in model.parameters():
            p.data.add_(p.grad, alpha=-lr)
        hidden = repackage_hidden(hidden)
        total = total + value.detach()
    return total, hidden
