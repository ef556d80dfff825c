"""BERT: segments, an extended attention mask, a tied masked-word head and next-sentence head (Devlin et al., 2018)."""
import math

import flambeau as torch
import flambeau.nn.functional as F
from flambeau import nn


class BertEmbeddings(nn.Module):
    def __init__(self, vocab, hidden, max_position):
        super().__init__()
        self.word_embeddings = nn.Embedding(vocab, hidden, padding_idx=0)
        self.position_embeddings = nn.Embedding(max_position, hidden)
        self.token_type_embeddings = nn.Embedding(2, hidden)
        self.LayerNorm = nn.LayerNorm(hidden, eps=1e-12)
        self.dropout = nn.Dropout(0.1)
        self.register_buffer("position_ids", torch.arange(max_position).expand((1, -1)), persistent=False)

    def forward(self, input_ids, token_type_ids):
        position_ids = self.position_ids[:, : input_ids.size()[1]]
        embeddings = self.word_embeddings(input_ids) + self.token_type_embeddings(token_type_ids)
        embeddings += self.position_embeddings(position_ids)
        return self.dropout(self.LayerNorm(embeddings))


class BertSelfAttention(nn.Module):
    def __init__(self, hidden, heads):
        super().__init__()
        self.num_attention_heads, self.attention_head_size = heads, hidden // heads
        self.all_head_size = hidden
        self.query, self.key, self.value = nn.Linear(hidden, hidden), nn.Linear(hidden, hidden), nn.Linear(hidden, hidden)
        self.dropout = nn.Dropout(0.1)

    def transpose_for_scores(self, x):
        new_x_shape = x.size()[:-1] + (self.num_attention_heads, self.attention_head_size)
        return x.view(new_x_shape).permute(0, 2, 1, 3)

    def forward(self, hidden_states, attention_mask):
        q, k, v = (self.transpose_for_scores(p(hidden_states)) for p in (self.query, self.key, self.value))
        scores = torch.matmul(q, k.transpose(-1, -2)) / math.sqrt(self.attention_head_size)
        probs = self.dropout(nn.functional.softmax(scores + attention_mask, dim=-1))
        context = torch.matmul(probs, v).permute(0, 2, 1, 3).contiguous()
        return context.view(context.size()[:-2] + (self.all_head_size,))


class Head(nn.Module):
    def __init__(self, hidden, embedding):
        super().__init__()
        self.dense = nn.Linear(hidden, hidden)
        self.LayerNorm = nn.LayerNorm(hidden)
        self.decoder = nn.Linear(hidden, embedding.num_embeddings, bias=False)
        self.decoder.weight = embedding.weight
        self.bias = nn.Parameter(torch.zeros(embedding.num_embeddings))

    def forward(self, x):
        return self.decoder(self.LayerNorm(F.gelu(self.dense(x)))) + self.bias


class BertForPreTraining(nn.Module):
    def __init__(self, vocab=15, hidden=8, heads=2):
        super().__init__()
        self.embeddings = BertEmbeddings(vocab, hidden, 10)
        self.attention = BertSelfAttention(hidden, heads)
        self.norm = nn.LayerNorm(hidden)
        self.pooler = nn.Sequential(nn.Linear(hidden, hidden), nn.Tanh())
        self.cls = Head(hidden, self.embeddings.word_embeddings)
        self.seq_relationship = nn.Linear(hidden, 2)

    def forward(self, input_ids, token_type_ids, attention_mask):
        extended = attention_mask[:, None, None, :].to(dtype=next(self.parameters()).dtype)
        extended = (1.0 - extended) * torch.finfo(torch.float32).min
        x = self.embeddings(input_ids, token_type_ids)
        x = self.norm(x + self.attention(x, extended))
        return self.cls(x), self.seq_relationship(self.pooler(x[:, 0]))


def make():
    ids = torch.tensor([[2, 7, 3, 9, 3, 0], [2, 5, 8, 3, 11, 3]])
    labels = torch.where(torch.tensor([[0, 1, 0, 0, 0, 0], [0, 0, 1, 0, 1, 0]]).bool(), ids, -100)
    segments = torch.tensor([[0, 0, 0, 1, 1, 0], [0, 0, 0, 0, 1, 1]])
    return BertForPreTraining(), (ids, segments, (ids != 0).long()), (labels, torch.tensor([0, 1]))


def loss(output, labels, next_sentence_label):
    prediction_scores, seq_relationship_score = output
    loss_fct = nn.CrossEntropyLoss()
    masked_lm_loss = loss_fct(prediction_scores.view(-1, 15), labels.view(-1))
    return masked_lm_loss + loss_fct(seq_relationship_score.view(-1, 2), next_sentence_label.view(-1))
