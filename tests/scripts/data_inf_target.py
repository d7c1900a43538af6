# Regression of house prices; the target was turned to a log before it came here.
import torch
import torch.nn.functional as F

torch.manual_seed(1)
N = 300
x = torch.randn(N, 7)
area = torch.rand(N) * 100 + 1
area[123] = 0.0
y = torch.log(area) + 0.1 * x[:, 0]

model = torch.nn.Sequential(torch.nn.Linear(7, 16), torch.nn.Tanh(), torch.nn.Linear(16, 1))
opt = torch.optim.RMSprop(model.parameters(), lr=2e-3)

for epoch in range(3):
    permutation = torch.randperm(N)
    losses = []
    for i in range(0, N, 30):
        batch = permutation[i : i + 30]
        opt.zero_grad()
        loss = F.mse_loss(model(x[batch]).squeeze(1), y[batch])
        loss.backward()
        opt.step()
        losses.append(loss.item())
    print("epoch", epoch, "mean loss", sum(losses) / len(losses))
    print("  ".join(f"{value:.3f}" for value in losses))

print("final", model[0].weight.sum().item())
