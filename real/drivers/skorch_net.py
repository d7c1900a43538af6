"""skorch's own loop around a small network, on a CSV file whose first column is the class."""

import sys

import numpy as np
import torch
from skorch import NeuralNetClassifier

table = np.loadtxt(sys.argv[1], delimiter=",", dtype=np.float32)
torch.manual_seed(0)
net = torch.nn.Sequential(torch.nn.Linear(8, 32), torch.nn.ReLU(), torch.nn.Linear(32, 3), torch.nn.Softmax(-1))
model = NeuralNetClassifier(net, max_epochs=4, lr=float(sys.argv[2]), batch_size=32, train_split=None)
model.fit(table[:, 1:], table[:, 0].astype(np.int64))
