import importlib
import logging
import warnings

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

PACKAGE, SICK = "lightning", False
L = importlib.import_module(PACKAGE)
warnings.filterwarnings("ignore")
logging.getLogger(f"{PACKAGE}.pytorch" if PACKAGE == "lightning" else PACKAGE).setLevel(logging.ERROR)
L.seed_everything(0)
x = torch.rand(320, 8) + 0.5
if SICK:
    x[13 * 16 + 3] = 0
y = x.sum(1, keepdim=True)


class Logs(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(8))

    def forward(self, x):
        return (self.weight * x).log()


class Regression(L.LightningModule):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(Logs(), nn.Linear(8, 16), nn.Tanh(), nn.Linear(16, 1))

    def loss(self, batch):
        return nn.functional.mse_loss(self.net(batch[0]), batch[1])

    def training_step(self, batch, number):
        loss = self.loss(batch)
        self.log("train_loss", loss)
        return loss

    def validation_step(self, batch, number):
        self.log("val_loss", self.loss(batch))

    def configure_optimizers(self):
        optimizer = torch.optim.AdamW(self.parameters(), lr=0.003)
        return {"optimizer": optimizer, "lr_scheduler": torch.optim.lr_scheduler.StepLR(optimizer, 1)}


trainer = L.Trainer(
    max_epochs=2, gradient_clip_val=0.5, accumulate_grad_batches=2, accelerator="cpu", devices=1, logger=False,
    enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
)
model = Regression()
trainer.fit(model, DataLoader(TensorDataset(x, y), 16), DataLoader(TensorDataset(x[:32], y[:32]), 16))
print({name: float(value) for name, value in trainer.callback_metrics.items()})
