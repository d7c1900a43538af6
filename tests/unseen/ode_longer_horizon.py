"""Neural ODE by Euler steps; the horizon is stretched while the training goes on."""
import torch
import torch.nn as nn


class Field(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = nn.Linear(3, 24)
        self.outer = nn.Linear(24, 3)
        nn.init.orthogonal_(self.outer.weight, gain=1.4)

    def forward(self, state):
        return self.outer(nn.functional.softplus(self.inner(state)))


class Flow(nn.Module):
    def __init__(self):
        super().__init__()
        self.field = Field()

    def forward(self, start, steps, dt=0.6):
        state = start
        for _ in range(steps):
            state = state + dt * self.field(state)
        return state


def target(start, steps):
    angle = 0.05 * steps
    c, s = torch.cos(torch.tensor(angle)), torch.sin(torch.tensor(angle))
    x, y, z = start.unbind(-1)
    return torch.stack([c * x - s * y, s * x + c * y, 0.98**steps * z], -1)


torch.manual_seed(77)
flow = Flow()
opt = torch.optim.SGD(flow.parameters(), lr=1e-3, momentum=0.9)
schedule = [3] * 20 + [60] * 10
for i, steps in enumerate(schedule):
    start = torch.randn(32, 3)
    loss = nn.functional.l1_loss(flow(start, steps), target(start, steps))
    opt.zero_grad(set_to_none=True)
    loss.backward()
    opt.step()
    print(f"{i} steps={steps} loss={loss.item():.6g}")
print("checksum", flow.field.outer.weight.sum().item())
