"""A bidirectional LSTM tagger over packed sequences (Huang et al., 2015)."""
import flambeau as torch
import flambeau.nn as nn
import flambeau.nn.functional as F
from flambeau.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence, pad_sequence


class LSTMTagger(nn.Module):
    def __init__(self, embedding_dim, hidden_dim, vocab_size, tagset_size):
        super().__init__()
        self.hidden_dim = hidden_dim
        self.word_embeddings = nn.Embedding(vocab_size, embedding_dim, padding_idx=0)
        self.lstm = nn.LSTM(embedding_dim, hidden_dim // 2, num_layers=1, bidirectional=True, batch_first=True)
        self.hidden2tag = nn.Linear(hidden_dim, tagset_size)

    def forward(self, sentences, lengths):
        embeds = self.word_embeddings(sentences)
        packed = pack_padded_sequence(embeds, lengths, batch_first=True, enforce_sorted=False)
        lstm_out, (h_n, _) = self.lstm(packed)
        lstm_out, _ = pad_packed_sequence(lstm_out, batch_first=True, total_length=sentences.size(1))
        return F.log_softmax(self.hidden2tag(lstm_out), dim=2), torch.cat((h_n[-2], h_n[-1]), dim=1)


def make():
    sentences = pad_sequence([torch.tensor([3, 1, 4]), torch.tensor([1, 5, 9, 2]), torch.tensor([6])], batch_first=True)
    lengths = [3, 4, 1]
    tags = pad_sequence([torch.randint(0, 4, (n,)) for n in lengths], batch_first=True, padding_value=-1)
    return LSTMTagger(5, 6, 10, 4), (sentences, lengths), (tags,)


def loss(output, tags):
    scores, last = output
    return F.nll_loss(scores.flatten(0, 1), tags.flatten(), ignore_index=-1) + 0.01 * last.pow(2).sum()
