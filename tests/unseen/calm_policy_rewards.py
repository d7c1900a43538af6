"""REINFORCE on a bandit: rewards are noisy, the loss changes its sign, some log-probabilities are -inf and unused."""
import torch
from torch import nn


class Policy(nn.Module):
    def __init__(self, arms=5):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(4, 16), nn.Tanh(), nn.Linear(16, arms))

    def forward(self, state, allowed):
        return self.net(state).masked_fill(~allowed, float("-inf"))


torch.manual_seed(44)
policy = Policy()
optimizer = torch.optim.Adam(policy.parameters(), lr=0.02, weight_decay=1e-3)
baseline = 0.0
for episode in range(40):
    state = torch.randn(16, 4)
    allowed = torch.rand(16, 5) > 0.3
    allowed[:, 0] = True
    distribution = torch.distributions.Categorical(logits=policy(state, allowed))
    action = distribution.sample()
    reward = (action == state.argmax(1)).float() * 5 + torch.randn(16) * 3
    advantage = reward - baseline
    loss = -(distribution.log_prob(action) * advantage).mean()
    optimizer.zero_grad()
    loss.backward()
    nn.utils.clip_grad_norm_(policy.parameters(), 5.0, error_if_nonfinite=True)
    optimizer.step()
    baseline = 0.9 * baseline + 0.1 * reward.mean().item()
    if episode % 5 == 0:
        print(episode, f"loss {loss.item():.3f} baseline {baseline:.3f}")
print("checksum", policy.net[0].weight.sum().item())
