from dataclasses import dataclass

import numpy as np
import torch
from torch import nn
from torch.distributions import Normal

SEED = 0
LR = 2e-3


@dataclass
class Args:
    envs: int = 16
    horizon: int = 32
    iterations: int = 25
    epochs: int = 4
    minibatches: int = 4
    gamma: float = 0.95
    lam: float = 0.9
    clip: float = 0.2
    entropy: float = 1e-3
    value_weight: float = 1.0
    max_norm: float = 0.5


class Cart:
    """A mass on a line with friction, pushed towards a target that stays for an episode."""

    def __init__(self, count, rng):
        self.count, self.rng = count, rng
        self.x = np.zeros(count)
        self.v = np.zeros(count)
        self.target = np.zeros(count)
        self.reset(np.ones(count, dtype=bool))

    def reset(self, which):
        n = int(which.sum())
        self.x[which] = self.rng.uniform(-2, 2, n)
        self.v[which] = 0.0
        self.target[which] = self.rng.uniform(-2, 2, n)

    def look(self):
        return torch.tensor(np.stack([self.x, self.v, self.target, self.target - self.x], 1), dtype=torch.float32)

    def act(self, force):
        force = np.clip(force, -2, 2)
        self.v = 0.8 * self.v + 0.25 * force
        self.x = np.clip(self.x + self.v, -4, 4)
        reward = -np.abs(self.x - self.target) - 0.02 * force**2
        over = self.rng.random(self.count) < 0.04
        self.reset(over)
        return self.look(), torch.tensor(reward, dtype=torch.float32), torch.tensor(over)


class Agent(nn.Module):
    def __init__(self, seen=4, hidden=48):
        super().__init__()
        self.actor = nn.Sequential(
            nn.Linear(seen, hidden), nn.Tanh(), nn.Linear(hidden, hidden), nn.Tanh(), nn.Linear(hidden, 1)
        )
        self.critic = nn.Sequential(
            nn.Linear(seen, hidden), nn.Tanh(), nn.Linear(hidden, hidden), nn.Tanh(), nn.Linear(hidden, 1)
        )
        self.log_std = nn.Parameter(torch.zeros(1))

    def forward(self, obs):
        mean = self.actor(obs).squeeze(-1)
        value = self.critic(obs).squeeze(-1)
        return mean, self.log_std.exp().expand_as(mean), value


@torch.no_grad()
def collect(env, agent, args):
    obs = env.look()
    kept = {name: [] for name in ("obs", "action", "logp", "reward", "over", "value")}
    for _ in range(args.horizon):
        mean, std, value = agent(obs)
        dist = Normal(mean, std)
        action = dist.sample()
        after, reward, over = env.act(action.numpy())
        for name, item in zip(kept, (obs, action, dist.log_prob(action), reward, over, value)):
            kept[name].append(item)
        obs = after
    last = agent(obs)[2]
    return {name: torch.stack(items) for name, items in kept.items()}, last


def gae(batch, last, args):
    advantages = torch.zeros_like(batch["reward"])
    running = torch.zeros_like(last)
    following = last
    for t in reversed(range(args.horizon)):
        alive = 1.0 - batch["over"][t].float()
        delta = 0.1 * batch["reward"][t] + args.gamma * following * alive - batch["value"][t]
        running = delta + args.gamma * args.lam * alive * running
        advantages[t] = running
        following = batch["value"][t]
    return advantages, advantages + batch["value"]


class PPO:
    def __init__(self, agent, args):
        self.agent, self.args = agent, args
        self.optimizer = torch.optim.Adam(agent.parameters(), lr=LR, eps=1e-5)

    def learn(self, batch, advantages, returns):
        flat = {name: items.flatten(0, 1) for name, items in batch.items()}
        advantages, returns = advantages.flatten(), returns.flatten()
        losses = []
        for _ in range(self.args.epochs):
            for rows in torch.randperm(len(advantages)).chunk(self.args.minibatches):
                losses.append(self.update(flat["obs"][rows], flat["action"][rows], flat["logp"][rows], advantages[rows], returns[rows]))
        return np.mean(losses, axis=0)

    def update(self, obs, action, logp, advantage, returns):
        mean, std, value = self.agent(obs)
        dist = Normal(mean, std)
        advantage = (advantage - advantage.mean()) / (advantage.std() + 1e-8)
        ratio = (dist.log_prob(action) - logp).exp()
        clipped = ratio.clamp(1 - self.args.clip, 1 + self.args.clip)
        policy_loss = -torch.min(ratio * advantage, clipped * advantage).mean()
        value_loss = (value - returns).pow(2).mean()
        loss = policy_loss + self.args.value_weight * value_loss - self.args.entropy * dist.entropy().mean()
        self.optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self.agent.parameters(), self.args.max_norm)
        self.optimizer.step()
        return policy_loss.item(), value_loss.item()


if __name__ == "__main__":
    args = Args()
    torch.manual_seed(SEED)
    env = Cart(args.envs, np.random.default_rng(SEED))
    agent = Agent()
    learner = PPO(agent, args)
    costs = []
    for iteration in range(args.iterations):
        batch, last = collect(env, agent, args)
        advantages, returns = gae(batch, last, args)
        policy_loss, value_loss = learner.learn(batch, advantages, returns)
        costs.append(-batch["reward"].mean().item())
        if iteration % 5 == 0:
            print(f"iteration {iteration} cost {costs[-1]:.3f} policy {policy_loss:.4f} value {value_loss:.4f}")
    print(f"final cost {np.mean(costs[-4:]):.4f}")
