"""Graph convolution, dense and by messages along edges (Kipf and Welling, 2016)."""
import math

import flambeau as torch
import flambeau.nn as nn
import flambeau.nn.functional as F
from flambeau.nn.modules.module import Module
from flambeau.nn.parameter import Parameter


class GraphConvolution(Module):
    def __init__(self, in_features, out_features, bias=True):
        super(GraphConvolution, self).__init__()
        self.in_features = in_features
        self.out_features = out_features
        self.weight = Parameter(torch.FloatTensor(in_features, out_features))
        if bias:
            self.bias = Parameter(torch.FloatTensor(out_features))
        else:
            self.register_parameter("bias", None)
        self.reset_parameters()

    def reset_parameters(self):
        stdv = 1.0 / math.sqrt(self.weight.size(1))
        self.weight.data.uniform_(-stdv, stdv)
        if self.bias is not None:
            self.bias.data.uniform_(-stdv, stdv)

    def forward(self, input, adj):
        support = torch.mm(input, self.weight)
        output = torch.mm(adj, support)
        if self.bias is not None:
            return output + self.bias
        return output

    def __repr__(self):
        return self.__class__.__name__ + " (" + str(self.in_features) + " -> " + str(self.out_features) + ")"


class MessagePassing(Module):
    def __init__(self, in_features, out_features):
        super().__init__()
        self.lin = nn.Linear(in_features, out_features, bias=False)
        self.bias = Parameter(torch.empty(out_features))
        torch.nn.init.zeros_(self.bias)

    def forward(self, x, edge_index):
        n = x.size(0)
        loops = torch.arange(0, n, dtype=torch.long, device=x.device)
        edge_index = torch.cat([edge_index, torch.stack([loops, loops])], dim=1)
        row, col = edge_index
        deg = torch.zeros(n, dtype=x.dtype, device=x.device).scatter_add_(0, col, torch.ones(col.size(0)))
        deg_inv_sqrt = deg.pow(-0.5)
        deg_inv_sqrt[deg_inv_sqrt == float("inf")] = 0
        norm = deg_inv_sqrt[row] * deg_inv_sqrt[col]
        x = self.lin(x)
        messages = norm.view(-1, 1) * x.index_select(0, row)
        return torch.zeros_like(x).index_add_(0, col, messages) + self.bias


class GCN(nn.Module):
    def __init__(self, nfeat, nhid, nclass, dropout):
        super(GCN, self).__init__()
        self.gc1 = GraphConvolution(nfeat, nhid)
        self.gc2 = MessagePassing(nhid, nclass)
        self.dropout = dropout

    def forward(self, x, adj, edge_index):
        x = F.relu(self.gc1(x, adj))
        x = F.dropout(x, self.dropout, training=self.training)
        x = self.gc2(x, edge_index)
        return F.log_softmax(x, dim=1)


def make():
    edge_index = torch.tensor([[0, 1, 1, 2, 3, 4, 0], [1, 0, 2, 1, 4, 3, 4]])
    adj = torch.eye(5)
    adj[edge_index[0], edge_index[1]] = 1.0
    adj = adj / adj.sum(1, keepdim=True)
    return GCN(6, 8, 3, 0.5), (torch.randn(5, 6), adj, edge_index), (torch.tensor([0, 1, 2, 1, 0]), torch.tensor([0, 2, 3]))


def loss(output, labels, idx_train):
    return F.nll_loss(output[idx_train], labels[idx_train])
