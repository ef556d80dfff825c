"""A linear-chain CRF: the partition function by a scan of logsumexp, and Viterbi (Lafferty et al., 2001)."""
import flambeau as torch
import flambeau.nn as nn


class CRF(nn.Module):
    def __init__(self, num_tags):
        super().__init__()
        self.num_tags = num_tags
        self.start_transitions = nn.Parameter(torch.empty(num_tags))
        self.end_transitions = nn.Parameter(torch.empty(num_tags))
        self.transitions = nn.Parameter(torch.empty(num_tags, num_tags))
        for p in self.parameters():
            nn.init.uniform_(p, -0.1, 0.1)

    def _compute_score(self, emissions, tags, mask):
        seq_length, batch_size = tags.shape
        mask = mask.float()
        score = self.start_transitions[tags[0]]
        score += emissions[0, torch.arange(batch_size), tags[0]]
        for i in range(1, seq_length):
            score += self.transitions[tags[i - 1], tags[i]] * mask[i]
            score += emissions[i, torch.arange(batch_size), tags[i]] * mask[i]
        seq_ends = mask.long().sum(dim=0) - 1
        last_tags = tags[seq_ends, torch.arange(batch_size)]
        score += self.end_transitions[last_tags]
        return score

    def _compute_normalizer(self, emissions, mask):
        score = self.start_transitions + emissions[0]
        for i in range(1, emissions.size(0)):
            next_score = score.unsqueeze(2) + self.transitions + emissions[i].unsqueeze(1)
            next_score = torch.logsumexp(next_score, dim=1)
            score = torch.where(mask[i].unsqueeze(1), next_score, score)
        score += self.end_transitions
        return torch.logsumexp(score, dim=1)

    def _viterbi(self, emissions):
        score = self.start_transitions + emissions[0]
        history = []
        for i in range(1, emissions.size(0)):
            score, indices = (score.unsqueeze(2) + self.transitions + emissions[i].unsqueeze(1)).max(dim=1)
            history.append(indices)
        best = [(score + self.end_transitions).argmax(dim=1)]
        for indices in reversed(history):
            best.insert(0, indices.gather(1, best[0].unsqueeze(1)).squeeze(1))
        return torch.stack(best)

    def forward(self, emissions, tags, mask):
        return self._compute_score(emissions, tags, mask) - self._compute_normalizer(emissions, mask)


class Tagger(nn.Module):
    def __init__(self):
        super().__init__()
        self.emit = nn.Sequential(nn.Embedding(9, 5), nn.RNN(5, 6, nonlinearity="relu"))
        self.out = nn.Linear(6, 3)
        self.crf = CRF(3)

    def forward(self, words, tags, mask):
        hidden, _ = self.emit(words)
        emissions = self.out(hidden)
        return self.crf(emissions, tags, mask), self.crf._viterbi(emissions.detach())


def make():
    mask = torch.tensor([[1, 1], [1, 1], [1, 0], [1, 0]], dtype=torch.uint8).bool()
    return Tagger(), (torch.randint(0, 9, (4, 2)), torch.randint(0, 3, (4, 2)), mask), ()


def loss(output):
    llh, _ = output
    return -llh.sum()
