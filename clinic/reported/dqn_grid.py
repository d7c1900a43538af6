import copy
import random
from collections import deque

import torch
from torch import nn, optim

SEED = 0
LR = 1e-3
SIZE = 5
GAMMA = 0.9
STEPS = 500
BATCH_SIZE = 64
SYNC_EVERY = 25


class GridWorld:
    """Walk from a random cell to the last row; each move costs one, a pit costs three."""

    moves = [(0, 1), (0, -1), (1, 0), (-1, 0)]

    def __init__(self, rng):
        self.rng = rng
        self.goal = SIZE - 1
        self.pit = (2, 2)

    def reset(self):
        self.cell = (self.rng.randrange(SIZE - 1), self.rng.randrange(SIZE))
        self.t = 0
        return self.observe()

    def observe(self):
        row, col = self.cell
        return [row / SIZE, col / SIZE, float(self.cell == self.pit), (row - col) / SIZE]

    def step(self, action):
        dr, dc = self.moves[action]
        row = min(max(self.cell[0] + dr, 0), SIZE - 1)
        col = min(max(self.cell[1] + dc, 0), SIZE - 1)
        self.cell = (row, col)
        self.t += 1
        reward = -3.0 if self.cell == self.pit else -1.0
        done = row == self.goal
        return self.observe(), reward, done


class QNet(nn.Module):
    def __init__(self, hidden=64):
        super().__init__()
        self.fc1 = nn.Linear(4, hidden)
        self.fc2 = nn.Linear(hidden, hidden)
        self.value = nn.Linear(hidden, 4)

    def forward(self, x):
        x = torch.relu(self.fc1(x))
        x = torch.relu(self.fc2(x))
        return self.value(x)


def bellman_error(net):
    total, n = 0.0, 0
    env = GridWorld(random.Random(1))
    with torch.no_grad():
        for row in range(env.goal):
            for col in range(SIZE):
                for action in range(4):
                    env.cell, env.t = (row, col), 0
                    q = net(torch.tensor([env.observe()]))[0, action].item()
                    after, reward, done = env.step(action)
                    best = net(torch.tensor([after])).max().item()
                    total += (reward + GAMMA * best * (not done) - q) ** 2
                    n += 1
    return total / n


rng = random.Random(SEED)
torch.manual_seed(SEED)
torch.set_num_threads(1)
env = GridWorld(rng)
policy = QNet()
target = copy.deepcopy(policy)
optimizer = optim.Adam(policy.parameters(), lr=LR)
memory = deque(maxlen=5000)
state = env.reset()
running = []

for step in range(STEPS + 400):
    epsilon = max(0.2, 1.0 - step / 1000)
    if rng.random() < epsilon:
        action = rng.randrange(4)
    else:
        with torch.no_grad():
            action = int(policy(torch.tensor([state])).argmax())
    after, reward, done = env.step(action)
    memory.append((state, action, reward, after, done))
    state = env.reset() if done or env.t >= 8 else after
    if step < 400:
        continue

    batch = rng.sample(memory, BATCH_SIZE)
    states, actions, rewards, nexts, dones = zip(*batch)
    states, nexts = torch.tensor(states), torch.tensor(nexts)
    actions = torch.tensor(actions)
    rewards = torch.tensor(rewards)
    alive = 1.0 - torch.tensor(dones, dtype=torch.float32)
    q = policy(states).gather(1, actions[:, None]).squeeze(1)
    with torch.no_grad():
        goal = rewards + GAMMA * alive * target(nexts).max(1).values
    loss = nn.functional.mse_loss(q, goal)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    running.append(loss.item())
    if step % SYNC_EVERY == 0:
        target.load_state_dict(policy.state_dict())
    if step % 100 == 0:
        print("step", step, "td loss", round(sum(running[-50:]) / len(running[-50:]), 4))

print(f"final bellman error {bellman_error(policy):.4f}")
