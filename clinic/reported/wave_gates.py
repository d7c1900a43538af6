# Next-sample prediction on plucked strings: gated causal convolutions, 32 mu-law classes
import math
import torch
import torch.nn as nn
import torch.nn.functional as F

SEED = 0

Q = 32  # classes
MU = 31.0
T = 80
BATCH = 12
STEPS = 260
LR = 4e-3
CLIP = 1.0
CHANNELS = 16
DILATIONS = [1, 2, 4, 8, 16]
STRINGS = 6  # instruments


def compand(wave):
    return wave.sign() * torch.log1p(MU * wave.abs()) / math.log1p(MU)


def to_codes(wave):
    return ((compand(wave) + 1) / 2 * (Q - 1) + 0.5).long()


def pluck(rng, n):
    string = torch.randint(0, STRINGS, (n,), generator=rng)
    pitch = 0.12 + 0.07 * string + 0.01 * torch.rand(n, generator=rng)
    t = torch.arange(T + 1).float()
    phase = 6.283 * torch.rand(n, 1, generator=rng)
    decay = torch.exp(-t * (0.004 + 0.01 * torch.rand(n, 1, generator=rng)))
    wave = decay * (torch.sin(pitch[:, None] * t + phase) + 0.4 * torch.sin(2.0 * pitch[:, None] * t + 2 * phase))
    wave = wave + 0.02 * torch.randn(n, T + 1, generator=rng)
    peak = wave.abs().amax(1, keepdim=True)
    wave = wave / (peak + 1e-6)
    return wave, string


class Causal(nn.Conv1d):
    def forward(self, x):
        return super().forward(F.pad(x, ((self.kernel_size[0] - 1) * self.dilation[0], 0)))


class Gate(nn.Module):
    def __init__(self, ch, dilation):
        super().__init__()
        self.conv = Causal(ch, 2 * ch, 2, dilation=dilation)
        self.cond = nn.Linear(ch, 2 * ch)
        self.res = nn.Conv1d(ch, ch, 1)
        self.skip = nn.Conv1d(ch, ch, 1)

    def forward(self, x, c):
        a, b = (self.conv(x) + self.cond(c)[:, :, None]).chunk(2, dim=1)
        z = torch.tanh(a) * torch.sigmoid(b)
        return x + self.res(z), self.skip(z)


class WaveGates(nn.Module):
    def __init__(self, ch=CHANNELS):
        super().__init__()
        self.string = nn.Embedding(STRINGS, ch)
        self.front = Causal(1, ch, 2)
        self.gates = nn.ModuleList([Gate(ch, d) for d in DILATIONS])
        self.post1 = nn.Conv1d(ch, 2 * ch, 1)
        self.post2 = nn.Conv1d(2 * ch, Q, 1)

    def forward(self, wave, string):
        c = self.string(string)
        x = self.front(wave[:, None])
        total = 0
        for gate in self.gates:
            x, s = gate(x, c)
            total = total + s
        y = F.relu(total)
        y = F.relu(self.post1(y))
        return self.post2(y)


torch.manual_seed(SEED)
rng = torch.Generator().manual_seed(SEED + 1)
net = WaveGates()
opt = torch.optim.Adam(net.parameters(), lr=LR)
sched = torch.optim.lr_scheduler.LambdaLR(opt, lambda s: min(1.0, (s + 1) / 10))
window = []

for step in range(STEPS):
    wave, string = pluck(rng, BATCH)
    x = compand(wave[:, :-1])
    codes = to_codes(wave[:, 1:])
    logits = net(x, string)
    loss = F.cross_entropy(logits, codes)
    opt.zero_grad()
    loss.backward()
    nn.utils.clip_grad_norm_(net.parameters(), CLIP)
    opt.step()
    sched.step()
    window.append(loss.item())
    if step % 40 == 39:
        print(f"step {step + 1}: nats/sample {sum(window[-20:]) / 20:.3f}")

print(f"final {sum(window[-20:]) / 20:.4f}")
