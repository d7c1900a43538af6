import math

import torch


class Forecaster(torch.nn.Module):
    """Encoder-decoder LSTM, the loss is worked out inside the model."""

    def __init__(self, units=16):
        super().__init__()
        self.encoder = torch.nn.LSTM(1, units, num_layers=2)
        self.decoder = torch.nn.LSTMCell(1, units)
        self.readout = torch.nn.Linear(units, 1)

    def forward(self, past, future):
        _, (h, c) = self.encoder(past)
        state, last, cost = (h[-1], c[-1]), past[-1], 0.0
        for value in future:
            state = self.decoder(last, state)
            last = last + self.readout(state[0])
            cost = cost + (last - value).square().mean()
        return cost / len(future)


def windows(series, past=12, future=4):
    count = len(series) - past - future
    starts = torch.randint(0, count, (20,))
    block = torch.stack([series[s : s + past + future] for s in starts.tolist()], dim=1)[..., None]
    return block[:past], block[past:]


torch.manual_seed(101)
hours = torch.arange(400) / 400 * 60
series = torch.sin(hours) + 0.4 * torch.sin(hours / 1.9 + 1)
net = Forecaster()
rule = torch.optim.SGD(net.parameters(), lr=1.5, momentum=0.95)
best = math.inf
for iteration in range(70):
    cost = net(*windows(series))
    rule.zero_grad()
    cost.backward()
    rule.step()
    best = min(best, cost.item())
    if iteration % 10 == 0 or iteration > 64:
        print("it", iteration, "cost", cost.item(), "best", best)
print("sum", net.readout.weight.sum().item())
