import torch
from torch.nn import Parameter, ParameterDict

# A recurrence written with bare parameters; two micro-batches per update.
torch.manual_seed(202)


class Recurrence(torch.nn.Module):
    def __init__(self, n):
        super().__init__()
        self.w = ParameterDict({
            "enter": Parameter(torch.randn(n, 3) * 0.3),
            "loop": Parameter(torch.eye(n) * 1.25),
            "leave": Parameter(torch.randn(1, n) * 0.3),
        })

    def forward(self, series):
        state = series.new_zeros(series.shape[1], self.w["loop"].shape[0])
        for moment in series:
            state = torch.nn.functional.leaky_relu(moment @ self.w["enter"].T + state @ self.w["loop"].T, 0.1)
        return (state @ self.w["leave"].T)[:, 0]


model = Recurrence(12)
updater = torch.optim.SGD([{"params": [model.w["enter"], model.w["leave"]]}, {"params": [model.w["loop"]], "lr": 1e-3}],
                              lr=1e-2)
for update in range(16):
    updater.zero_grad()
    report = []
    for micro in range(2):
        length = 5 if (update, micro) != (11, 1) else 130
        series = torch.randn(length, 10, 3)
        wanted = series[-1, :, 0] + series[-2, :, 1]
        loss = (model(series) - wanted).abs().mean() / 2
        loss.backward()
        report.append(round(loss.item(), 5))
    updater.step()
    print(update, report)
print("checksum", model.w["enter"].sum().item())
