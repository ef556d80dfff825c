"""RWKV: a recurrence of weighted averages kept stable by running maxima, and token shift (Peng et al., 2023)."""
import flambeau as torch
import flambeau.nn as nn
import flambeau.nn.functional as F


class TimeMix(nn.Module):
    def __init__(self, n_embd):
        super().__init__()
        self.time_decay = nn.Parameter(torch.linspace(-3, 1, n_embd))
        self.time_first = nn.Parameter(torch.ones(n_embd) * 0.3)
        self.time_mix_k = nn.Parameter(torch.full((1, 1, n_embd), 0.6))
        self.time_shift = nn.ZeroPad2d((0, 0, 1, -1))
        self.key, self.value, self.receptance, self.output = (nn.Linear(n_embd, n_embd, bias=False) for _ in range(4))

    def forward(self, x):
        B, T, C = x.size()
        xx = self.time_shift(x)
        xk = x * self.time_mix_k + xx * (1 - self.time_mix_k)
        k, v, r = self.key(xk), self.value(xk), torch.sigmoid(self.receptance(x))
        w = -torch.exp(self.time_decay)
        aa, bb, pp = torch.zeros(B, C), torch.zeros(B, C), torch.full((B, C), -1e38)
        ys = []
        for t in range(T):
            kt, vt = k[:, t], v[:, t]
            ww = self.time_first + kt
            p = torch.maximum(pp, ww)
            e1, e2 = torch.exp(pp - p), torch.exp(ww - p)
            ys.append((e1 * aa + e2 * vt) / (e1 * bb + e2))
            ww = pp + w
            p = torch.maximum(ww, kt)
            e1, e2 = torch.exp(ww - p), torch.exp(kt - p)
            aa, bb, pp = e1 * aa + e2 * vt, e1 * bb + e2, p
        return self.output(r * torch.stack(ys, dim=1))


class RWKV(nn.Module):
    def __init__(self, vocab=10, n_embd=6):
        super().__init__()
        self.emb = nn.Embedding(vocab, n_embd)
        self.ln, self.ln_out = nn.LayerNorm(n_embd), nn.LayerNorm(n_embd)
        self.att = TimeMix(n_embd)
        self.key, self.value = nn.Linear(n_embd, 12, bias=False), nn.Linear(12, n_embd, bias=False)
        self.head = nn.Linear(n_embd, vocab, bias=False)

    def forward(self, idx):
        x = self.emb(idx)
        x = x + self.att(self.ln(x))
        x = x + self.value(torch.square(torch.relu(self.key(x))))
        return self.head(self.ln_out(x))


def make():
    idx = torch.randint(0, 10, (2, 5))
    return RWKV(), (idx[:, :-1],), (idx[:, 1:],)


def loss(logits, targets):
    return F.cross_entropy(logits.view(-1, logits.size(-1)), targets.reshape(-1))
