"""Poisson regression in raw parameters, no nn.Module layer at all; plain gradient steps through an optimizer."""
import torch


class Rates(torch.nn.Module):
    def __init__(self, features):
        super().__init__()
        self.table = torch.nn.ParameterList([torch.nn.Parameter(torch.zeros(features, 1)),
                                             torch.nn.Parameter(torch.zeros(1))])

    def forward(self, x):
        return torch.einsum("nf,fo->no", x, self.table[0]).squeeze(1) + self.table[1]


def deviance(eta, counts):
    rate = eta.exp()
    return torch.mean(rate - counts * eta)


def fit(lr):
    torch.manual_seed(55)
    x = torch.randn(200, 5)
    truth = torch.tensor([0.8, -0.6, 0.3, 0.0, 0.5])
    counts = torch.poisson((x @ truth + 1.0).exp())
    model = Rates(5)
    optimizer = torch.optim.SGD(model.parameters(), lr=lr, momentum=0.5)
    for sweep in range(8):
        for part in torch.arange(200).split(50):
            loss = deviance(model(x[part]), counts[part])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        print("sweep", sweep, loss.item())
    print("table", model.table[0].flatten().tolist())


fit(lr=0.9)
