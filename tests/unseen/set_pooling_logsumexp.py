import torch
from torch import nn

# Attention pooling over bags of instances; the normaliser is taken by logsumexp.


class Pool(nn.Module):
    def __init__(self, d):
        super().__init__()
        self.score = nn.Sequential(nn.Linear(d, d), nn.Tanh(), nn.Linear(d, 1))

    def forward(self, bag, present):
        s = self.score(bag).squeeze(-1)
        s = torch.where(present, s, torch.tensor(float("-inf")))
        log_weight = s - torch.logsumexp(s, dim=-1, keepdim=True)
        return torch.einsum("bi,bid->bd", log_weight.exp(), bag)


class BagModel(nn.Module):
    def __init__(self):
        super().__init__()
        self.instance = nn.Sequential(nn.Linear(4, 10), nn.ReLU6())
        self.pool = Pool(10)
        self.verdict = nn.Linear(10, 1)

    def forward(self, inputs):
        bag, present = inputs
        return self.verdict(self.pool(self.instance(bag), present)).squeeze(-1)


def draw(step):
    sizes = torch.randint(1, 8, (9,))
    if step == 15:
        sizes[0] = 0
    bag = torch.randn(9, 7, 4)
    present = torch.arange(7) < sizes[:, None]
    return (bag, present), (bag[:, 0, 0] > 0).float()


torch.manual_seed(71)
model = BagModel()
sgd = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
ema = {name: p.detach().clone() for name, p in model.named_parameters()}
for step in range(22):
    inputs, label = draw(step)
    loss = nn.functional.binary_cross_entropy_with_logits(model(inputs), label)
    if loss != loss:
        raise SystemExit(f"step {step}: loss is nan")
    sgd.zero_grad()
    loss.backward()
    sgd.step()
    with torch.no_grad():
        for name, p in model.named_parameters():
            ema[name].lerp_(p, 0.1)
    if step % 4 == 0:
        print(step, f"{loss.item():.4f}", f"{ema['verdict.weight'].sum().item():.4f}")
