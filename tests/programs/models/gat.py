"""Graph attention, dense and with a softmax over each node's edges (Velickovic et al., 2018)."""
import flambeau as torch
import flambeau.nn as nn
import flambeau.nn.functional as F


class GraphAttentionLayer(nn.Module):
    def __init__(self, in_features, out_features, dropout, alpha, concat=True):
        super().__init__()
        self.dropout, self.out_features, self.concat = dropout, out_features, concat
        self.W = nn.Parameter(torch.empty(size=(in_features, out_features)))
        nn.init.xavier_uniform_(self.W.data, gain=1.414)
        self.a = nn.Parameter(torch.empty(size=(2 * out_features, 1)))
        nn.init.xavier_uniform_(self.a.data, gain=1.414)
        self.leakyrelu = nn.LeakyReLU(alpha)

    def forward(self, h, adj):
        Wh = torch.mm(h, self.W)
        e = self._prepare_attentional_mechanism_input(Wh)
        zero_vec = -9e15 * torch.ones_like(e)
        attention = torch.where(adj > 0, e, zero_vec)
        attention = F.softmax(attention, dim=1)
        attention = F.dropout(attention, self.dropout, training=self.training)
        h_prime = torch.matmul(attention, Wh)
        return F.elu(h_prime) if self.concat else h_prime

    def _prepare_attentional_mechanism_input(self, Wh):
        Wh1 = torch.matmul(Wh, self.a[: self.out_features, :])
        Wh2 = torch.matmul(Wh, self.a[self.out_features :, :])
        return self.leakyrelu(Wh1 + Wh2.T)


def edge_softmax(scores, target, num_nodes):
    largest = torch.full((num_nodes,), float("-inf")).scatter_reduce(0, target, scores.detach(), reduce="amax")
    weights = (scores - largest[target]).exp()
    total = torch.zeros(num_nodes).index_add(0, target, weights)
    return weights / (total[target] + 1e-16)


class SparseGAT(nn.Module):
    def __init__(self, in_features, heads, out_features):
        super().__init__()
        self.heads, self.out_features = heads, out_features
        self.proj = nn.Linear(in_features, heads * out_features, bias=False)
        self.scoring_source = nn.Parameter(torch.Tensor(1, heads, out_features))
        self.scoring_target = nn.Parameter(torch.Tensor(1, heads, out_features))
        nn.init.xavier_uniform_(self.scoring_source)
        nn.init.xavier_uniform_(self.scoring_target)

    def forward(self, x, edge_index):
        source, target = edge_index
        h = self.proj(x).view(-1, self.heads, self.out_features)
        scores = (h * self.scoring_source).sum(dim=-1)[source] + (h * self.scoring_target).sum(dim=-1)[target]
        scores = F.leaky_relu(scores, 0.2)
        out = []
        for head in range(self.heads):
            attention = edge_softmax(scores[:, head], target, x.shape[0])
            messages = attention.unsqueeze(-1) * h[source, head]
            out.append(torch.zeros(x.shape[0], self.out_features).scatter_add(
                0, target.unsqueeze(-1).expand_as(messages), messages))
        return torch.stack(out, dim=1).mean(dim=1)


class GAT(nn.Module):
    def __init__(self, nfeat=5, nhid=4, nclass=3, dropout=0.3, alpha=0.2, nheads=2):
        super().__init__()
        self.attentions = [GraphAttentionLayer(nfeat, nhid, dropout, alpha) for _ in range(nheads)]
        for i, attention in enumerate(self.attentions):
            self.add_module("attention_{}".format(i), attention)
        self.out_att = SparseGAT(nhid * nheads, 2, nclass)

    def forward(self, x, adj, edge_index):
        x = torch.cat([att(x, adj) for att in self.attentions], dim=1)
        return F.log_softmax(self.out_att(x, edge_index), dim=1)


def make():
    edge_index = torch.tensor([[0, 1, 1, 2, 3, 0, 2, 3], [1, 0, 2, 1, 0, 0, 2, 3]])
    adj = torch.zeros(4, 4).index_put_((edge_index[0], edge_index[1]), torch.tensor(1.0))
    return GAT(), (torch.randn(4, 5), adj, edge_index), (torch.tensor([0, 1, 2, 2]),)


def loss(output, target):
    return F.nll_loss(output, target)
