import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F

SEED = 0
LR = 8e-3
NODES = 240
COMMUNITIES = 4
FEATURES = 16
STEPS = 160


def build_graph(seed):
    rng = np.random.RandomState(seed)
    labels = rng.randint(0, COMMUNITIES, NODES)
    same = labels[:, None] == labels[None, :]
    prob = np.where(same, 0.06, 0.008)
    upper = np.triu(rng.rand(NODES, NODES) < prob, 1)
    src, dst = np.nonzero(upper | upper.T)
    centers = rng.randn(COMMUNITIES, FEATURES)
    feats = 0.5 * centers[labels] + rng.randn(NODES, FEATURES)
    edge_index = torch.tensor(np.stack([src, dst]), dtype=torch.long)
    return torch.tensor(feats, dtype=torch.float32), torch.tensor(labels), edge_index, rng


def add_self_loops(edge_index, num_nodes):
    loops = torch.arange(num_nodes).repeat(2, 1)
    return torch.cat([edge_index, loops], dim=1)


def edge_softmax(scores, dst, num_nodes):
    index = dst.unsqueeze(-1).expand_as(scores)
    peak = torch.full((num_nodes, scores.size(1)), float("-inf"), dtype=scores.dtype)
    peak = peak.scatter_reduce(0, index, scores.detach(), reduce="amax")
    weight = torch.exp(scores - peak[dst])
    total = torch.zeros(num_nodes, scores.size(1), dtype=scores.dtype).index_add(0, dst, weight)
    return weight / total[dst]


class GraphAttention(nn.Module):
    def __init__(self, in_dim, out_dim, heads):
        super().__init__()
        self.heads = heads
        self.out_dim = out_dim
        self.proj = nn.Linear(in_dim, heads * out_dim, bias=False)
        self.att_src = nn.Parameter(torch.empty(heads, out_dim))
        self.att_dst = nn.Parameter(torch.empty(heads, out_dim))
        self.bias = nn.Parameter(torch.zeros(heads * out_dim))
        nn.init.xavier_uniform_(self.proj.weight)
        nn.init.xavier_uniform_(self.att_src)
        nn.init.xavier_uniform_(self.att_dst)

    def forward(self, x, edge_index):
        src, dst = edge_index
        n = x.size(0)
        h = self.proj(x).view(n, self.heads, self.out_dim)
        score = (h * self.att_src).sum(-1)[src] + (h * self.att_dst).sum(-1)[dst]
        alpha = edge_softmax(F.leaky_relu(score, 0.2), dst, n)
        message = h[src] * alpha.unsqueeze(-1)
        out = torch.zeros_like(h).index_add(0, dst, message)
        return out.reshape(n, -1) + self.bias


class GAT(nn.Module):
    def __init__(self, in_dim, hidden, classes, heads=4):
        super().__init__()
        self.conv1 = GraphAttention(in_dim, hidden, heads)
        self.conv2 = GraphAttention(heads * hidden, hidden, heads)
        self.out = nn.Linear(heads * hidden, classes)
        self.dropout = nn.Dropout(0.2)

    def forward(self, x, edge_index):
        x = F.elu(self.conv1(x, edge_index))
        x = self.dropout(x)
        x = F.elu(self.conv2(x, edge_index))
        return self.out(self.dropout(x))


torch.manual_seed(SEED)
features, labels, edge_index, rng = build_graph(SEED + 100)
edge_index = add_self_loops(edge_index, NODES)
order = torch.from_numpy(rng.permutation(NODES))
train_idx, val_idx = order[:160], order[160:]

model = GAT(FEATURES, 8, COMMUNITIES)
optimizer = torch.optim.Adam(model.parameters(), lr=LR, weight_decay=5e-4)

for step in range(STEPS):
    model.train()
    optimizer.zero_grad()
    logits = model(features, edge_index)
    loss = F.cross_entropy(logits[train_idx], labels[train_idx])
    loss.backward()
    optimizer.step()
    if step % 20 == 0:
        model.eval()
        with torch.no_grad():
            pred = model(features, edge_index).argmax(-1)
        acc = (pred[val_idx] == labels[val_idx]).float().mean().item()
        print(f"step {step} train loss {loss.item():.4f} val acc {acc:.3f}")

model.eval()
with torch.no_grad():
    logits = model(features, edge_index)
    val_loss = F.cross_entropy(logits[val_idx], labels[val_idx]).item()
print(f"final val loss {val_loss:.4f}")
