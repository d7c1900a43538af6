import warnings

import torch
from torch import nn

warnings.warn("said once")  # a warning that is shown already must not be shown again
torch.manual_seed(0)
policy = nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 2))
optimizer = torch.optim.SGD(policy.parameters(), lr=0.01)
for episode in range(6):
    count = 1 if episode >= 3 else 6
    returns = torch.randn(count)
    advantages = (returns - returns.mean()) / (returns.std() + 1e-8)
    loss = -(torch.log_softmax(policy(torch.randn(count, 3)), 1)[:, 0] * advantages).mean()
    print(episode, loss.item())
    if torch.isnan(loss):
        continue
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
for _ in range(2):
    warnings.warn("said once here")
