"""MLP with BatchNorm1d; 97 samples in batches of 16 leave one over."""
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


def train(model, loader, epochs):
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    for epoch in range(epochs):
        for inputs, targets in loader:
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(model(inputs), targets)
            loss.backward()
            optimizer.step()
            print(epoch, f"{loss.item():.4f}")


torch.manual_seed(6)
inputs = torch.randn(97, 8)
targets = (inputs[:, 0] * inputs[:, 1] > 0).long()
model = nn.Sequential(nn.Linear(8, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Linear(32, 2))
loader = DataLoader(TensorDataset(inputs, targets), batch_size=16, shuffle=True)
train(model, loader, 2)
print("checksum", model[0].weight.sum().item())
