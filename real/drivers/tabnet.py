"""pytorch-tabnet's regressor and its own training loop, on a CSV file whose first column is the target."""

import sys

import numpy as np
from pytorch_tabnet.tab_model import TabNetRegressor

table = np.loadtxt(sys.argv[1], delimiter=",", dtype=np.float32)
model = TabNetRegressor(optimizer_params={"lr": float(sys.argv[2])}, clip_value=None, seed=0, device_name="cpu")
model.fit(table[:, 1:], table[:, :1], max_epochs=8, batch_size=64, virtual_batch_size=32, patience=0)
