import numpy as np
import torch
from torch import nn
from torch.distributions import Categorical

SEED = 0
LR = 3e-3
GAMMA = 0.95
ENVS = 24
HORIZON = 16
UPDATES = 150
ENTROPY = 0.01


class PointWorld:
    def __init__(self, count, rng):
        self.count = count
        self.rng = rng
        self.moves = np.array([[0, 0], [1, 0], [-1, 0], [0, 1], [0, -1]]) * 0.25
        self.reset()

    def reset(self):
        self.position = self.rng.uniform(-1, 1, (self.count, 2))
        self.goal = self.rng.uniform(-1, 1, (self.count, 2))
        return self.observe()

    def observe(self):
        return np.concatenate([self.position, self.goal], axis=1).astype(np.float32)

    def step(self, actions):
        self.position = np.clip(self.position + self.moves[actions], -1.5, 1.5)
        cost = np.linalg.norm(self.position - self.goal, axis=1)
        return self.observe(), -cost.astype(np.float32)


class ActorCritic(nn.Module):
    def __init__(self, observations=4, actions=5, hidden=64):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(observations, hidden), nn.Tanh(), nn.Linear(hidden, hidden), nn.Tanh())
        self.policy = nn.Linear(hidden, actions)
        self.value = nn.Linear(hidden, 1)

    def forward(self, obs):
        h = self.body(obs)
        return self.policy(h), self.value(h).squeeze(-1)


def rollout(env, agent):
    obs = env.reset()
    observations, actions, rewards = [], [], []
    for _ in range(HORIZON):
        state = torch.from_numpy(obs)
        with torch.no_grad():
            logits, _ = agent(state)
        action = Categorical(logits=logits).sample()
        obs, reward = env.step(action.numpy())
        observations.append(state)
        actions.append(action)
        rewards.append(torch.from_numpy(reward))
    return torch.stack(observations), torch.stack(actions), torch.stack(rewards)


def discounted(rewards):
    returns = torch.zeros_like(rewards)
    running = torch.zeros(rewards.shape[1])
    for t in reversed(range(len(rewards))):
        running = rewards[t] + GAMMA * running
        returns[t] = running
    return returns * (1 - GAMMA) * 2


torch.manual_seed(SEED)
env = PointWorld(ENVS, np.random.default_rng(SEED))
agent = ActorCritic()
optimizer = torch.optim.Adam(agent.parameters(), lr=LR)
costs = []
for update in range(UPDATES):
    observations, actions, rewards = rollout(env, agent)
    returns = discounted(rewards)
    logits, values = agent(observations)
    dist = Categorical(logits=logits)
    advantage = returns - values.detach()
    advantage = (advantage - advantage.mean()) / (advantage.std() + 1e-6)
    policy_loss = -(dist.log_prob(actions) * advantage).mean()
    value_loss = (values - returns).pow(2).mean()
    loss = policy_loss + value_loss - ENTROPY * dist.entropy().mean()
    optimizer.zero_grad()
    loss.backward()
    nn.utils.clip_grad_norm_(agent.parameters(), 1.0)
    optimizer.step()
    costs.append(-rewards.mean().item())
    if update % 25 == 0:
        print(f"update {update} cost {costs[-1]:.3f} value loss {value_loss.item():.4f} entropy {dist.entropy().mean().item():.3f}")

print(f"final cost {np.mean(costs[-15:]):.4f}")
