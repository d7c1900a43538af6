import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset
from upset import before_forward, before_update, seeded


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(1, 12, 3, padding=1), nn.BatchNorm2d(12)
        self.conv2, self.bn2 = nn.Conv2d(12, 24, 3, stride=2, padding=1), nn.BatchNorm2d(24)
        self.drop, self.head = nn.Dropout(0.1), nn.Linear(24 * 16, 10)

    def forward(self, x):
        x = torch.relu(self.bn1(self.conv1(x)))
        x = torch.relu(self.bn2(self.conv2(x)))
        return self.head(self.drop(x.flatten(1)))


digits = load_digits()
images = torch.tensor(digits.images[:800] / 16, dtype=torch.float32).unsqueeze(1)
labels = torch.tensor(digits.target[:800])
torch.manual_seed(seeded("weights"))
net = Net()
adam = torch.optim.Adam(net.parameters(), lr=2e-3)
order = torch.Generator()
order.manual_seed(seeded("order"))
torch.manual_seed(seeded("dropout"))
done = 0
for epoch in range(4):
    for x, y in DataLoader(TensorDataset(images, labels), 40, shuffle=True, generator=order):
        before_forward(net, done)
        adam.zero_grad()
        loss = F.cross_entropy(net(x), y)
        loss.backward()
        before_update(net, adam, done)
        adam.step()
        done += 1
    print(epoch, loss.item())
