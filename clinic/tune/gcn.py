import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F

SEED = 0
LR = 0.02
NODES = 400
CLASSES = 5
FEATURES = 32
EPOCHS = 200


def make_graph(rng):
    labels = rng.integers(0, CLASSES, NODES)
    centers = rng.normal(size=(CLASSES, FEATURES))
    features = centers[labels] + 3.0 * rng.normal(size=(NODES, FEATURES))
    same = labels[:, None] == labels[None, :]
    prob = np.where(same, 0.06, 0.008)
    upper = np.triu(rng.random((NODES, NODES)) < prob, 1)
    src, dst = np.nonzero(upper)
    edges = np.concatenate([np.stack([src, dst]), np.stack([dst, src])], axis=1)
    features = (features - features.mean(0)) / features.std(0)
    return torch.tensor(features, dtype=torch.float32), torch.tensor(edges), torch.tensor(labels)


class GCNLayer(nn.Module):
    def __init__(self, fan_in, fan_out):
        super().__init__()
        self.lin = nn.Linear(fan_in, fan_out, bias=False)
        self.bias = nn.Parameter(torch.zeros(fan_out))

    def forward(self, x, edges, deg):
        h = self.lin(x)
        norm = deg[edges[0]].rsqrt() * deg[edges[1]].rsqrt()
        out = torch.zeros_like(h)
        out.index_add_(0, edges[1], h[edges[0]] * norm[:, None])
        out = out + h / deg[:, None]
        return out + self.bias


class GCN(nn.Module):
    def __init__(self, hidden=48, dropout=0.3):
        super().__init__()
        self.conv1 = GCNLayer(FEATURES, hidden)
        self.conv2 = GCNLayer(hidden, hidden)
        self.head = nn.Linear(hidden, CLASSES)
        self.dropout = dropout

    def forward(self, x, edges, deg):
        x = F.relu(self.conv1(x, edges, deg))
        x = F.dropout(x, self.dropout, self.training)
        x = F.relu(self.conv2(x, edges, deg))
        return self.head(x)


def main():
    torch.manual_seed(SEED)
    rng = np.random.default_rng(SEED)
    features, edges, labels = make_graph(rng)
    deg = torch.ones(NODES).index_add_(0, edges[1], torch.ones(edges.shape[1]))
    order = torch.from_numpy(rng.permutation(NODES))
    train_idx, val_idx = order[:250], order[250:]
    model = GCN()
    opt = torch.optim.Adam(model.parameters(), lr=LR, weight_decay=1e-3)
    for epoch in range(EPOCHS):
        model.train()
        opt.zero_grad()
        logits = model(features, edges, deg)
        loss = F.cross_entropy(logits[train_idx], labels[train_idx])
        loss.backward()
        opt.step()
        if epoch % 25 == 0:
            model.eval()
            with torch.no_grad():
                scores = model(features, edges, deg)
                acc = (scores[val_idx].argmax(-1) == labels[val_idx]).float().mean().item()
            print(f"epoch {epoch:3d}  train {loss.item():.4f}  val acc {acc:.3f}")
    model.eval()
    with torch.no_grad():
        scores = model(features, edges, deg)
        final = F.cross_entropy(scores[val_idx].float(), labels[val_idx]).item()
    print(f"final val loss {final:.4f}")


if __name__ == "__main__":
    main()
