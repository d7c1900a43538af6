"""Contrastive retrieval with cosine similarity by hand; a document of unknown words has the zero vector."""
import torch
from torch import nn
from torch.utils.data import DataLoader


def cosine(a, b):
    return (a @ b.T) / (a.norm(dim=1)[:, None] * b.norm(dim=1)[None, :])


class DualEncoder(nn.Module):
    def __init__(self, vocabulary):
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, 16, padding_idx=0)
        self.log_scale = nn.Parameter(torch.tensor(1.0))

    def encode(self, tokens):
        return self.embedding(tokens).sum(1)

    def forward(self, query, document):
        similarity = cosine(self.encode(query), self.encode(document)) * self.log_scale.exp()
        target = torch.arange(len(query))
        return (nn.functional.cross_entropy(similarity, target) + nn.functional.cross_entropy(similarity.T, target)) / 2


def dataset(n=70):
    rows = []
    for i in range(n):
        document = torch.randint(1, 60, (6,))
        query = document[torch.randperm(6)[:3]]
        if i == 47:
            document = torch.zeros(6, dtype=torch.long)
        rows.append((query, document))
    return rows


torch.manual_seed(27)
model = DualEncoder(60)
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2, weight_decay=1e-4)
for query, document in DataLoader(dataset(), batch_size=10):
    loss = model(query, document)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    print(loss.item())
print("checksum", model.embedding.weight.sum().item())
